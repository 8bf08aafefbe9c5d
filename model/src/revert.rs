//! Revert: a new edit that takes back what an earlier one did, as far as nobody has changed it since.
//!
//! Where a value of the earlier edit is still read, what stood there without it comes back under a new dot: a concurrent value of others if
//! there is one, else the value its commit's parents had. Where nothing of it is read any more, nothing happens. So the edits of others
//! stay, earlier, concurrent and later ones, and a revert can itself be reverted.
//!
//! What leaves no dot (a clear under last-writer, a remove, a delete) counts as still standing while nobody wrote there again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    document::{Document, Dot, Field, Sibling, Siblings, Stamp, read},
    edit::{Change, Edit, FieldEdit, Operation},
    schema::{Collection, FieldId, FieldType, Policy},
    value::{Scalar, Value},
};

/// Returns the edit that takes `edit` back, `None` if nothing of it is left to take back.
///
/// `before` is the document as the commit's parents had it, `now` as it is; `is_own` tells the dots of the commit.
pub fn revert(
    edit: &Edit,
    before: Option<&Document>,
    now: Option<&Document>,
    collection: &Collection,
    is_own: impl Fn(&Dot) -> bool,
) -> Option<Edit> {
    // Hidden fields of a document that was deleted then are no values that somebody read.
    let before = before.filter(|document| document.exists());
    let living = now.filter(|document| document.exists());
    let operation = match (&edit.operation, before, living) {
        (Operation::Delete, Some(before), None) if !is_changed(before, now, &is_own) => Operation::Create(all_of(before, collection)),
        (Operation::Delete, ..) | (_, _, None) => return None,
        // Brought to life by it and touched by nobody since: it goes.
        (_, None, Some(now)) if now.alive().iter().all(|stamp| is_own(&stamp.dot)) => Operation::Delete,
        (operation, before, Some(now)) => {
            let revert_field = |id| {
                let field = collection.get(id)?;
                let change = operation.fields().iter().find(|edit| edit.field == id).map(|edit| &edit.change);
                let (before, now) = (before.and_then(|document| document.field(id)), now.field(id));
                let change = match field.ty {
                    FieldType::Scalar(_) => revert_register(change, before, now, field.policy, &is_own),
                    FieldType::Set(_) => revert_set(operation, change, before, now, &is_own),
                    FieldType::Map(_) => revert_map(operation, change, before, now, &is_own),
                };
                change.map(|change| FieldEdit { field: id, change })
            };
            let fields: Vec<_> = touched(operation, before).into_iter().filter_map(revert_field).collect();
            if fields.is_empty() {
                return None;
            }
            Operation::Update(fields)
        }
    };
    Some(Edit { key: edit.key.clone(), operation })
}

/// Whether a deleted document keeps something that was neither there before nor the commit's own: then others wrote and deleted it since.
fn is_changed(before: &Document, now: Option<&Document>, is_own: impl Fn(&Dot) -> bool) -> bool {
    let known: BTreeSet<_> = before.stamps().collect();
    now.is_some_and(|now| now.stamps().any(|stamp| !is_own(&stamp.dot) && !known.contains(&stamp)))
}

/// Fields an operation may have changed: those it names, and for a create those it took away.
fn touched(operation: &Operation, before: Option<&Document>) -> BTreeSet<FieldId> {
    let mut fields: BTreeSet<_> = operation.fields().iter().map(|edit| edit.field).collect();
    if let (Operation::Create(_), Some(before)) = (operation, before) {
        fields.extend(before.fields().iter().map(|(id, _)| *id));
    }
    fields
}

fn all_of(document: &Document, collection: &Collection) -> Vec<FieldEdit> {
    let value = |field: &crate::schema::Field| {
        let value = document.field(field.id).and_then(read)?;
        Some(FieldEdit { field: field.id, change: write(&value) })
    };
    collection.fields.iter().filter_map(value).collect()
}

/// Returns the change that writes `value` into an absent field.
pub fn write(value: &Value) -> Change {
    match value {
        Value::Scalar(scalar) => Change::Set(scalar.clone()),
        Value::Set(elements) => Change::Elements { add: elements.iter().cloned().collect(), remove: Vec::new() },
        Value::Map(entries) => {
            Change::Entries { put: entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect(), remove: Vec::new() }
        }
    }
}

/// Returns what is read among `now` once the commit's own values are gone, if they are what is read now. `Some(None)`: nothing.
fn without_own<T: Clone>(before: &[Sibling<T>], now: &[Sibling<T>], is_own: &impl Fn(&Dot) -> bool) -> Option<Option<T>> {
    if !is_own(&now.last()?.stamp.dot) {
        return None;
    }
    let others = now.iter().rfind(|sibling| !is_own(&sibling.stamp.dot));
    Some(others.or(before.last()).map(|sibling| sibling.value.clone()))
}

fn siblings(field: Option<&Field>) -> &[Sibling<Option<Scalar>>] {
    if let Some(Field::Register(siblings)) = field { siblings } else { &[] }
}

fn elements(field: Option<&Field>) -> &BTreeMap<Scalar, Vec<Stamp>> {
    static NONE: BTreeMap<Scalar, Vec<Stamp>> = BTreeMap::new();
    if let Some(Field::Set(elements)) = field { elements } else { &NONE }
}

fn entries(field: Option<&Field>) -> &BTreeMap<Arc<str>, Siblings<Scalar>> {
    static NONE: BTreeMap<Arc<str>, Siblings<Scalar>> = BTreeMap::new();
    if let Some(Field::Map(entries)) = field { entries } else { &NONE }
}

fn revert_register(
    change: Option<&Change>,
    before: Option<&Field>,
    now: Option<&Field>,
    policy: Policy,
    is_own: &impl Fn(&Dot) -> bool,
) -> Option<Change> {
    let (before, now) = (siblings(before), siblings(now));
    let value = if now.is_empty() && matches!(change, None | Some(Change::Clear)) {
        before.last()?.value.clone()
    } else if policy == Policy::Strict && now.iter().any(|sibling| is_own(&sibling.stamp.dot)) {
        let mut others = now.iter().filter(|sibling| !is_own(&sibling.stamp.dot)).map(|sibling| &sibling.value);
        match others.next() {
            None => before.last().and_then(|sibling| sibling.value.clone()),
            // One write cannot stand for several values: a conflict among others stays whole, for somebody to resolve.
            Some(first) if others.any(|other| other != first) => return None,
            Some(first) => first.clone(),
        }
    } else {
        without_own(before, now, is_own)?.flatten()
    };
    Some(value.map_or(Change::Clear, Change::Set))
}

fn revert_set(
    operation: &Operation,
    change: Option<&Change>,
    before: Option<&Field>,
    now: Option<&Field>,
    is_own: &impl Fn(&Dot) -> bool,
) -> Option<Change> {
    let (before, now) = (elements(before), elements(now));
    let added: &[Scalar] = if let Some(Change::Elements { add, .. }) = change { add } else { &[] };
    let own_alone = |element: &&Scalar| now.get(*element).is_some_and(|adds| adds.iter().all(|stamp| is_own(&stamp.dot)));
    let remove: Vec<_> = added.iter().filter(|element| !before.contains_key(*element)).filter(own_alone).cloned().collect();
    let taken = |element: &&Scalar| match (operation, change) {
        (_, Some(Change::Clear)) => true,
        (Operation::Create(_), _) => added.binary_search(element).is_err(),
        (_, Some(Change::Elements { remove, .. })) => remove.binary_search(element).is_ok(),
        _ => false,
    };
    let add: Vec<_> = before.keys().filter(taken).filter(|element| !now.contains_key(*element)).cloned().collect();
    (!add.is_empty() || !remove.is_empty()).then_some(Change::Elements { add, remove })
}

fn revert_map(
    operation: &Operation,
    change: Option<&Change>,
    before: Option<&Field>,
    now: Option<&Field>,
    is_own: &impl Fn(&Dot) -> bool,
) -> Option<Change> {
    let (before, now) = (entries(before), entries(now));
    let (mut puts, mut removes) = (BTreeMap::new(), Vec::new());
    let put: &[(Arc<str>, Scalar)] = if let Some(Change::Entries { put, .. }) = change { put } else { &[] };
    for (key, _) in put {
        let before = before.get(key).map_or(&[][..], Vec::as_slice);
        let Some(value) = now.get(key).and_then(|now| without_own(before, now, is_own)) else { continue };
        match value {
            Some(value) => _ = puts.insert(key.clone(), value),
            None => removes.push(key.clone()),
        }
    }
    let taken = |key: &Arc<str>| match (operation, change) {
        (_, Some(Change::Clear)) => true,
        (Operation::Create(_), _) => put.binary_search_by_key(&key, |(put, _)| put).is_err(),
        (_, Some(Change::Entries { remove, .. })) => remove.binary_search(key).is_ok(),
        _ => false,
    };
    for (key, siblings) in before.iter().filter(|(key, _)| taken(key) && !now.contains_key(*key)) {
        puts.extend(siblings.last().map(|sibling| (key.clone(), sibling.value.clone())));
    }
    (!puts.is_empty() || !removes.is_empty()).then(|| Change::Entries { put: puts.into_iter().collect(), remove: removes })
}
