//! Revert: a new edit that takes back what an earlier one did, as far as nobody has changed it since.
//!
//! For each value of the earlier edit that is still visible, the value its commit's parents had comes back under a new dot; else nothing.
//! So later edits of others stay, and a revert can itself be reverted.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    document::{Document, Dot, Field, View},
    edit::{Change, Edit, FieldEdit, Operation},
    schema::{Collection, FieldId},
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
    let before_view = before.and_then(|document| document.view(collection));
    let (existed, exists) = (before_view.is_some(), now.is_some_and(Document::exists));
    let untouched = || now.is_some_and(|now| now.alive().iter().all(|stamp| is_own(&stamp.dot)));
    let operation = match (&edit.operation, existed, exists) {
        // Deleted by it and still gone: the document comes back.
        (Operation::Delete, true, false) => Operation::Create(all_of(&before_view?, collection)),
        // Made by it and touched by nobody since: it goes.
        (Operation::Create(_), false, true) if untouched() => Operation::Delete,
        (Operation::Delete, ..) | (_, _, false) => return None,
        (Operation::Create(_) | Operation::Update(_), _, true) => {
            let fields: Vec<_> = touched(&edit.operation, before)
                .into_iter()
                .filter_map(|field| revert_field(field, &edit.operation, before, now?, &is_own))
                .collect();
            if fields.is_empty() {
                return None;
            }
            Operation::Update(fields)
        }
    };
    Some(Edit { key: edit.key.clone(), operation })
}

/// Fields an operation may have changed: those it names, and for a create those it took away.
fn touched(operation: &Operation, before: Option<&Document>) -> BTreeSet<FieldId> {
    let mut fields: BTreeSet<_> = operation.fields().iter().map(|edit| edit.field).collect();
    if let (Operation::Create(_), Some(before)) = (operation, before) {
        fields.extend(before.fields().iter().map(|(id, _)| *id));
    }
    fields
}

fn all_of(view: &View, collection: &Collection) -> Vec<FieldEdit> {
    let value = |field: &crate::schema::Field| Some(FieldEdit { field: field.id, change: write(view.fields.get(&field.name)?) });
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

fn revert_field(
    id: FieldId,
    operation: &Operation,
    before: Option<&Document>,
    now: &Document,
    is_own: &impl Fn(&Dot) -> bool,
) -> Option<FieldEdit> {
    let change = operation.fields().iter().find(|edit| edit.field == id).map(|edit| &edit.change);
    let (before, now) = (before.and_then(|document| document.field(id)), now.field(id));
    let change = match change {
        Some(Change::Elements { add, remove }) => revert_elements(add, remove, before, now, is_own),
        Some(Change::Entries { put, remove }) => revert_entries(put, remove, before, now, is_own),
        _ => revert_register(before, now, is_own),
    };
    change.map(|change| FieldEdit { field: id, change })
}

fn revert_register(before: Option<&Field>, now: Option<&Field>, is_own: &impl Fn(&Dot) -> bool) -> Option<Change> {
    let still_visible = match now {
        Some(Field::Register(siblings)) => siblings.iter().any(|sibling| is_own(&sibling.stamp.dot)),
        // A clear leaves no dot: it is visible while nobody wrote the field again.
        None => true,
        Some(_) => false,
    };
    if !still_visible {
        return None;
    }
    match before {
        Some(Field::Register(siblings)) => siblings.last()?.value.clone().map_or(Some(Change::Clear), |value| Some(Change::Set(value))),
        _ => now.map(|_| Change::Clear),
    }
}

fn revert_elements(
    add: &[Scalar],
    remove: &[Scalar],
    before: Option<&Field>,
    now: Option<&Field>,
    is_own: &impl Fn(&Dot) -> bool,
) -> Option<Change> {
    let adds = |field: Option<&Field>, element: &Scalar| match field {
        Some(Field::Set(elements)) => elements.get(element).cloned().unwrap_or_default(),
        _ => Vec::new(),
    };
    let take = add.iter().filter(|element| {
        let now = adds(now, element);
        adds(before, element).is_empty() && !now.is_empty() && now.iter().all(|stamp| is_own(&stamp.dot))
    });
    let give = remove.iter().filter(|element| !adds(before, element).is_empty() && adds(now, element).is_empty());
    let (add, remove): (Vec<_>, Vec<_>) = (give.cloned().collect(), take.cloned().collect());
    (!add.is_empty() || !remove.is_empty()).then_some(Change::Elements { add, remove })
}

fn revert_entries(
    put: &[(Arc<str>, Scalar)],
    remove: &[Arc<str>],
    before: Option<&Field>,
    now: Option<&Field>,
    is_own: &impl Fn(&Dot) -> bool,
) -> Option<Change> {
    let entry = |field: Option<&Field>, key: &Arc<str>| match field {
        Some(Field::Map(entries)) => entries.get(key).and_then(|siblings| siblings.last().cloned()),
        _ => None,
    };
    let (mut puts, mut removes) = (Vec::new(), Vec::new());
    for key in put.iter().map(|(key, _)| key).chain(remove) {
        let (before, now) = (entry(before, key), entry(now, key));
        let still_visible = now.as_ref().map_or_else(|| remove.contains(key), |now| is_own(&now.stamp.dot));
        match before {
            Some(before) if still_visible => puts.push((key.clone(), before.value)),
            None if still_visible && now.is_some() => removes.push(key.clone()),
            _ => {}
        }
    }
    puts.sort_unstable();
    removes.sort_unstable();
    (!puts.is_empty() || !removes.is_empty()).then_some(Change::Entries { put: puts, remove: removes })
}
