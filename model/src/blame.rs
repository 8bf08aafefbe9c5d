//! Blame: which edit each part of a document is owed to.
//!
//! The stamps that replay keeps say it already, so nothing is looked up and history is not walked. Only a counter keeps no stamp of what was
//! added: its amounts are one sum, and whoever asks for more must look into the history of that document.

use std::sync::Arc;

use crate::{
    document::{Document, Field, Sibling, Stamp, shown},
    schema::{Collection, Policy},
    value::{Step, Value},
};

/// A part of a document and the edit that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of its field.
    pub field: Arc<str>,
    /// Where it is in the field; empty: the field itself. Of a text the position of a stretch's first character.
    pub path: Vec<Step>,
    /// What stands there; none: a clear that stands beside a value.
    pub value: Option<Value>,
    /// The edit that wrote it; none: a counter that nobody reset.
    pub stamp: Option<Stamp>,
    /// Whether a plain read shows it; what does not is a sibling in conflict with what does.
    pub is_shown: bool,
}

/// Returns the parts of a living document, by field in the order of the schema; none for a deleted one.
///
/// What nobody wrote (defaults, absent fields) has no part. Of concurrent values those are listed that the policy keeps in sight.
pub fn blame(document: &Document, collection: &Collection) -> Vec<Part> {
    let mut parts = Vec::new();
    if !document.exists() {
        return parts;
    }
    for field in &collection.fields {
        if let Some(kept) = document.field(field.id) {
            let mut walk = Walk { field: &field.name, policy: field.policy.of_registers(), path: Vec::new(), parts: &mut parts };
            walk.visit(kept);
        }
    }
    parts
}

/// A walk through what is kept of a field.
struct Walk<'a> {
    field: &'a Arc<str>,
    policy: Policy,
    path: Vec<Step>,
    parts: &'a mut Vec<Part>,
}

impl Walk<'_> {
    fn visit(&mut self, kept: &Field) {
        match kept {
            Field::Register(siblings) => self.register(siblings),
            Field::Set(elements) => {
                for (element, adds) in elements {
                    self.at(Step::Element(element.clone()), |walk| walk.push(Some(element.clone()), adds.iter().copied().max(), true));
                }
            }
            Field::Map(entries) => {
                for (key, entry) in entries {
                    self.at(Step::Key(key.clone()), |walk| walk.visit(entry));
                }
            }
            Field::Counter(counter) => self.push(Some(Value::from(counter.sum)), counter.reset, true),
            Field::Text(text) => {
                let mut position = 0;
                for (stretch, stamp) in text.stretches() {
                    let len = stretch.chars().count();
                    self.at(Step::At(position), |walk| walk.push(Some(Value::from(stretch.as_str())), Some(stamp), true));
                    position += len;
                }
            }
            Field::List(list) => {
                for (position, (_, item)) in list.items().into_iter().enumerate() {
                    self.at(Step::At(position), |walk| walk.register(&item.value));
                }
            }
            Field::Several(parts) => parts.iter().for_each(|part| self.visit(part)),
        }
    }

    fn register(&mut self, siblings: &[Sibling<Option<Value>>]) {
        let read = shown(siblings, self.policy).map(|sibling| sibling.stamp);
        for sibling in siblings {
            let is_shown = Some(sibling.stamp) == read;
            // A loser under last-writer, or a clear below which nothing counts, is nothing that a reader meets.
            if (is_shown && sibling.value.is_some()) || (siblings.len() > 1 && self.policy.keeps_siblings()) {
                self.push(sibling.value.clone(), Some(sibling.stamp), is_shown);
            }
        }
    }

    fn at(&mut self, step: Step, visit: impl FnOnce(&mut Self)) {
        self.path.push(step);
        visit(self);
        self.path.pop();
    }

    fn push(&mut self, value: Option<Value>, stamp: Option<Stamp>, is_shown: bool) {
        self.parts.push(Part { field: self.field.clone(), path: self.path.clone(), value, stamp, is_shown });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testutil::{ANIMALS, Herd, animal, create, elements, put, schema, set, update};

    #[test]
    fn each_part_is_owed_to_the_edit_that_wrote_it() {
        let mut herd = Herd::new(2);
        let fields = [set(animal::NAME, "Alma"), elements(animal::TAGS, vec!["wild"], vec![]), put(animal::YIELDS, "may", 7)];
        let first = herd.commit(0, [(ANIMALS, create("alma", fields))]);
        herd.converge();
        let second = herd.commit(
            1,
            [(
                ANIMALS,
                update("alma", [set(animal::OWNER, "bob"), elements(animal::TAGS, vec!["tame"], vec![]), put(animal::YIELDS, "june", 8)]),
            )],
        );
        let third = herd.commit(0, [(ANIMALS, update("alma", [set(animal::OWNER, "ada")]))]);
        herd.converge();
        let document = herd.replicas[0].document(ANIMALS, "alma").expect("there");
        let parts = blame(&document, schema().by_id(ANIMALS).expect("there"));
        let commit_of = |part: &Part| {
            let dot = part.stamp.expect("nothing counts here").dot;
            [&first, &second, &third]
                .into_iter()
                .position(|made| (made.commit.chain(), made.commit.header().counter) == (dot.chain, dot.counter))
        };
        let told: Vec<_> = parts.iter().map(|part| (part.field.to_string(), part.path.len(), commit_of(part), part.is_shown)).collect();
        let expected = [
            ("name", 0, Some(0), true),
            // A conflict: both stand, and one of them is read.
            ("owner", 0, Some(1), false),
            ("owner", 0, Some(2), true),
            ("tags", 1, Some(1), true),
            ("tags", 1, Some(0), true),
            ("yields", 1, Some(1), true),
            ("yields", 1, Some(0), true),
        ];
        let owners: Vec<_> = told.iter().filter(|part| part.0 == "owner").map(|part| part.3).collect();
        assert_eq!(owners.iter().filter(|shown| **shown).count(), 1);
        let plain = |told: &[(String, usize, Option<usize>, bool)]| {
            let mut told: Vec<_> = told.iter().map(|part| (part.0.clone(), part.1, part.2)).collect();
            told.sort();
            told
        };
        let mut wanted: Vec<_> = expected.iter().map(|part| (part.0.to_owned(), part.1, part.2)).collect();
        wanted.sort();
        assert_eq!(plain(&told), wanted);
    }
}
