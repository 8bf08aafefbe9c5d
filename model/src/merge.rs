//! Merging two branches by the word of one: `ours` and `theirs` are options of a commit that somebody signs, not rules of replay.
//!
//! Replay merges what it can; what is in conflict then is decided by what one side reads there. Nothing else of either side changes.

use std::sync::Arc;

use crate::{
    document::Document,
    edit::{FieldEdit, Operation},
    replace::replace,
    schema::{Collection, Field},
    value::Value,
};

/// Returns the operation that decides all conflicts of `merged`, a document of the merged state, as `side` has them, the document in the state of
/// one of the branches; `None` if there is none.
pub fn decide(collection: &Collection, merged: &Document, side: Option<&Document>) -> Option<Operation> {
    let view = merged.view(collection)?;
    let theirs = side.and_then(|side| side.view(collection));
    if !view.deletes.is_empty() && theirs.is_none() {
        return Some(Operation::Delete);
    }
    let decided = |field: &Field| {
        let paths = view.conflicts.iter().filter(|conflict| conflict.field == field.name).map(|conflict| conflict.path.as_slice());
        let paths: Vec<_> = paths.collect();
        if paths.is_empty() {
            return None;
        }
        let side = theirs.as_ref().and_then(|view| view.fields.get(&field.name));
        let mut wanted = view.fields.get(&field.name).cloned();
        for path in paths {
            wanted = with(wanted, path, at(side, path).cloned());
        }
        let change = replace(field, merged.field(field.id), wanted.as_ref())?;
        Some(FieldEdit { field: field.id, change })
    };
    let fields: Vec<_> = collection.fields.iter().filter_map(decided).collect();
    (!fields.is_empty() || !view.deletes.is_empty()).then_some(Operation::Update(fields))
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
        for (side, owner) in sides.iter().zip(["bob", "eve"]) {
            let operation = decide(animals, &merged, Some(side)).expect("there is a conflict");
            let mut decided = herd.clone();
            decided.commit(0, [(ANIMALS, crate::edit::Edit { key: crate::testutil::key("alma"), operation })]);
            let view = decided.replicas[0].view(ANIMALS, "alma").expect("there");
            assert_eq!((view.fields["owner"].clone(), view.fields["name"].clone()), (owner.into(), "Olga".into()));
            assert!(view.conflicts.is_empty());
        }
    }
}
