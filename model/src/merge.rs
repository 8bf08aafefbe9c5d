//! Merging two branches by the word of one: `ours` and `theirs` are options of a commit that somebody signs, not rules of replay.
//!
//! Replay merges what it can. Where both sides wrote concurrently, a side may decide: what it reads there is written again. Nothing else of either
//! side changes, and what nobody decides stands as replay left it, as a conflict where the policy keeps values apart.

use std::sync::Arc;

use crate::{
    document::{Conflict, Document, Stamp},
    edit::{FieldEdit, Operation},
    replace::replace,
    schema::{Collection, Field},
    value::Value,
};

/// A side of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The branch that takes in.
    Ours,
    /// The branch that is taken in.
    Theirs,
}

/// A place in a merged document at which several edits stand that did not see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispute<'a> {
    /// Name of the field; none: whether the document is deleted.
    pub field: Option<&'a Arc<str>>,
    /// Keys of entries or positions of items in the field.
    pub path: &'a [Arc<str>],
    /// The edits.
    pub stamps: &'a [Stamp],
}

/// Returns the operation that decides disputes of `merged`, a document of the merged state, for the side that `choose` names, by what that side reads;
/// `None` if there is nothing to decide. `ours` and `theirs` are the document on either side.
pub fn decide(
    collection: &Collection,
    merged: &Document,
    ours: Option<&Document>,
    theirs: Option<&Document>,
    choose: impl Fn(Dispute<'_>) -> Option<Side>,
) -> Option<Operation> {
    let view = merged.view(collection)?;
    let (ours, theirs) = (ours.and_then(|side| side.view(collection)), theirs.and_then(|side| side.view(collection)));
    let of = |side| match side {
        Side::Ours => ours.as_ref(),
        Side::Theirs => theirs.as_ref(),
    };
    let mut lives = false;
    if !view.deletes.is_empty() {
        let stamps: Vec<_> = view.deletes.iter().chain(merged.alive()).copied().collect();
        match choose(Dispute { field: None, path: &[], stamps: &stamps }).map(of) {
            Some(None) => return Some(Operation::Delete),
            // Any edit that saw the delete ends it.
            Some(Some(_)) => lives = true,
            None => {}
        }
    }
    let disputes = merged.disputes(collection);
    let decided = |field: &Field| {
        let mut wanted = view.fields.get(&field.name).cloned();
        let mut any = false;
        for Conflict { path, siblings, .. } in disputes.iter().filter(|dispute| dispute.field == field.name) {
            let stamps: Vec<_> = siblings.iter().map(|sibling| sibling.stamp).collect();
            if let Some(side) = choose(Dispute { field: Some(&field.name), path, stamps: &stamps }) {
                let read = of(side).and_then(|view| view.fields.get(&field.name));
                wanted = with(wanted, path, at(read, path).cloned());
                any = true;
            }
        }
        let change = any.then(|| replace(field, merged.field(field.id), wanted.as_ref())).flatten()?;
        Some(FieldEdit { field: field.id, change })
    };
    let fields: Vec<_> = collection.fields.iter().filter_map(decided).collect();
    (!fields.is_empty() || lives).then_some(Operation::Update(fields))
}

/// Returns what stands at `path` in `value`.
fn at<'v>(value: Option<&'v Value>, path: &[Arc<str>]) -> Option<&'v Value> {
    let Some((first, rest)) = path.split_first() else { return value };
    match value? {
        Value::Map(entries) => at(entries.get(first), rest),
        Value::List(items) => at(items.get(first.parse::<usize>().ok()?), rest),
        _ => None,
    }
}

/// Returns `value` with `inner` at `path`.
fn with(value: Option<Value>, path: &[Arc<str>], inner: Option<Value>) -> Option<Value> {
    let Some((first, rest)) = path.split_first() else { return inner };
    Some(match value {
        Some(Value::List(mut items)) => {
            if let Some(item) = first.parse::<usize>().ok().and_then(|at| items.get_mut(at))
                && let Some(next) = with(Some(item.clone()), rest, inner)
            {
                *item = next;
            }
            Value::List(items)
        }
        value => {
            let mut entries = if let Some(Value::Map(entries)) = value { entries } else { Default::default() };
            match with(entries.remove(first), rest, inner) {
                Some(next) => _ = entries.insert(first.clone(), next),
                None => _ = entries.remove(first),
            }
            Value::Map(entries)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testutil::{ANIMALS, Herd, animal, create, set, update};

    #[test]
    fn a_conflict_is_decided_by_what_one_side_reads() {
        let mut herd = Herd::new(2);
        herd.commit(0, [(ANIMALS, create("alma", [set(animal::OWNER, "ada"), set(animal::NAME, "Alma")]))]);
        herd.converge();
        herd.commit(0, [(ANIMALS, update("alma", [set(animal::OWNER, "bob")]))]);
        herd.commit(1, [(ANIMALS, update("alma", [set(animal::OWNER, "eve"), set(animal::NAME, "Olga")]))]);
        let sides = [0, 1].map(|who| herd.replicas[who].document(ANIMALS, "alma").expect("there"));
        herd.converge();
        let merged = herd.replicas[0].document(ANIMALS, "alma").expect("there");
        let schema = crate::testutil::schema();
        let animals = schema.by_id(ANIMALS).expect("there");
        assert!(merged.has_conflict(animals));
        let [ours, theirs] = &sides;
        for (side, owner, name) in [(Side::Ours, "bob", "Alma"), (Side::Theirs, "eve", "Olga")] {
            // Only one of both wrote the name: nobody disputes it, whoever decides.
            let operation = decide(animals, &merged, Some(ours), Some(theirs), |_| Some(side)).expect("there is a conflict");
            assert_eq!(operation.fields().iter().map(|edit| edit.field).collect::<Vec<_>>(), [animal::OWNER], "{name}");
            let mut decided = herd.clone();
            decided.commit(0, [(ANIMALS, crate::edit::Edit { key: crate::testutil::key("alma"), operation })]);
            let view = decided.replicas[0].view(ANIMALS, "alma").expect("there");
            assert_eq!((view.fields["owner"].clone(), view.fields["name"].clone()), (owner.into(), "Olga".into()));
            assert!(view.conflicts.is_empty());
        }
        assert_eq!(decide(animals, &merged, Some(ours), Some(theirs), |_| None), None);
    }

    #[test]
    fn a_side_decides_where_both_wrote_although_the_newest_would_be_read() {
        let mut herd = Herd::new(2);
        herd.commit(0, [(ANIMALS, create("alma", [set(animal::NAME, "Alma")]))]);
        herd.converge();
        herd.commit(0, [(ANIMALS, update("alma", [set(animal::NAME, "Ours")]))]);
        herd.commit(1, [(ANIMALS, update("alma", [set(animal::NAME, "Theirs")]))]);
        let sides = [0, 1].map(|who| herd.replicas[who].document(ANIMALS, "alma").expect("there"));
        herd.converge();
        let merged = herd.replicas[0].document(ANIMALS, "alma").expect("there");
        let schema = crate::testutil::schema();
        let animals = schema.by_id(ANIMALS).expect("there");
        let read = |side: Side| {
            let mut decided = herd.clone();
            if let Some(operation) = decide(animals, &merged, Some(&sides[0]), Some(&sides[1]), |_| Some(side)) {
                decided.commit(0, [(ANIMALS, crate::edit::Edit { key: crate::testutil::key("alma"), operation })]);
            }
            decided.replicas[0].view(ANIMALS, "alma").expect("there").fields["name"].clone()
        };
        assert_eq!((read(Side::Ours), read(Side::Theirs)), ("Ours".into(), "Theirs".into()));
    }
}
