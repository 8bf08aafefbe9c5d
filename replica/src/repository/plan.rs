//! From what a caller asks to the operations that go into a commit: names become numbers, whole values become differences.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdbook_model::{
    document::{Document, View as DocumentView},
    edit::{Change, Edit, FieldEdit, Operation},
    request::Must,
    revert,
    schema::{Collection, Field},
    value::{Key, Scalar, Value},
};

use super::ask::{DocumentChange, FieldChange, version};
use crate::error::Error;

/// Returns the edit that does `change` to the document as it is `now`.
///
/// A put of what is there already still touches the document, so that it outlives a concurrent delete.
pub(super) fn edit(collection: &Collection, key: &Key, change: &DocumentChange, now: Option<&Document>) -> Result<Edit, Error> {
    let view = now.and_then(|document| document.view(collection));
    let absent = || Error::UnknownDocument { collection: collection.name.to_string(), key: key.to_string() };
    let operation = match (change, view) {
        (DocumentChange::Create(_), Some(_)) => {
            return Err(Error::Exists { collection: collection.name.to_string(), key: key.to_string() });
        }
        (DocumentChange::Create(fields) | DocumentChange::Put(fields), None) => Operation::Create(whole(collection, fields)?),
        (DocumentChange::Put(fields), Some(view)) => Operation::Update(replace(collection, fields, &view, now)?),
        (DocumentChange::Update(fields), Some(view)) => {
            let mut edits = Vec::with_capacity(fields.len());
            for (name, change) in fields {
                let field = collection.field(name)?;
                edits.extend(field_edit(field, change, &view)?);
            }
            edits.sort_by_key(|edit| edit.field);
            if let Some(twice) = edits.windows(2).find(|pair| pair[0].field == pair[1].field) {
                return Err(herdbook_model::schema::Error::BadName { name: collection.by_id(twice[0].field)?.name.to_string() }.into());
            }
            Operation::Update(edits)
        }
        (DocumentChange::Delete, Some(_)) => Operation::Delete,
        (DocumentChange::Update(_) | DocumentChange::Delete, None) => return Err(absent()),
    };
    let edit = Edit { key: key.clone(), operation };
    edit.check(collection)?;
    Ok(edit)
}

fn whole(collection: &Collection, fields: &[(Arc<str>, Value)]) -> Result<Vec<FieldEdit>, Error> {
    let mut edits = BTreeMap::new();
    for (name, value) in fields {
        let field = collection.field(name)?;
        field.check(value)?;
        if !is_empty(value) {
            edits.insert(field.id, revert::write(value));
        }
    }
    Ok(edits.into_iter().map(|(field, change)| FieldEdit { field, change }).collect())
}

/// The edits after which the document shows exactly `fields`: what is equal already is not written again, unless it is in conflict.
fn replace(
    collection: &Collection,
    fields: &[(Arc<str>, Value)],
    view: &DocumentView,
    now: Option<&Document>,
) -> Result<Vec<FieldEdit>, Error> {
    let mut wanted = BTreeMap::new();
    for (name, value) in fields {
        let field = collection.field(name)?;
        field.check(value)?;
        wanted.insert(field.id, value);
    }
    let mut edits = Vec::new();
    for field in &collection.fields {
        let in_conflict = view.conflicts.iter().any(|conflict| conflict.field == field.name);
        match (wanted.get(&field.id), view.fields.get(&field.name)) {
            (Some(value), Some(shown)) if *value == shown && !in_conflict => {}
            (Some(value), _) if !is_empty(value) => edits.extend(field_edit(field, &FieldChange::Set((*value).clone()), view)?),
            // What is shown may be the default alone, and there is nothing to clear.
            (_, Some(_)) if now.is_some_and(|now| now.field(field.id).is_some()) => {
                edits.push(FieldEdit { field: field.id, change: Change::Clear });
            }
            _ => {}
        }
    }
    Ok(edits)
}

fn field_edit(field: &Field, change: &FieldChange, view: &DocumentView) -> Result<Option<FieldEdit>, Error> {
    let shown = view.fields.get(&field.name);
    let change = match change {
        FieldChange::Clear => Change::Clear,
        FieldChange::Set(value) => {
            field.check(value)?;
            match (value, shown) {
                (value, _) if is_empty(value) => Change::Clear,
                (Value::Set(wanted), Some(Value::Set(shown))) => Change::Elements {
                    add: wanted.difference(shown).cloned().collect(),
                    remove: shown.difference(wanted).cloned().collect(),
                },
                (Value::Map(wanted), Some(Value::Map(shown))) => Change::Entries {
                    put: wanted.iter().filter(|(key, value)| shown.get(*key) != Some(value)).map(own).collect(),
                    remove: shown.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect(),
                },
                (value, _) => revert::write(value),
            }
        }
        FieldChange::Elements { add, remove } => {
            let add: BTreeSet<_> = add.iter().cloned().collect();
            let remove = remove.iter().filter(|element| !add.contains(element)).cloned().collect::<BTreeSet<_>>();
            Change::Elements { add: add.into_iter().collect(), remove: remove.into_iter().collect() }
        }
        FieldChange::Entries { put, remove } => {
            let put: BTreeMap<_, _> = put.iter().cloned().collect();
            let remove = remove.iter().filter(|key| !put.contains_key(*key)).cloned().collect::<BTreeSet<_>>();
            Change::Entries { put: put.into_iter().collect(), remove: remove.into_iter().collect() }
        }
    };
    let nothing = match &change {
        Change::Elements { add, remove } => add.is_empty() && remove.is_empty(),
        Change::Entries { put, remove } => put.is_empty() && remove.is_empty(),
        Change::Set(_) | Change::Clear => false,
    };
    Ok((!nothing).then_some(FieldEdit { field: field.id, change }))
}

fn own((key, value): (&Arc<str>, &Scalar)) -> (Arc<str>, Scalar) {
    (key.clone(), value.clone())
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Scalar(_) => false,
        Value::Set(elements) => elements.is_empty(),
        Value::Map(entries) => entries.is_empty(),
    }
}

/// Checks a precondition against the document as it is.
pub(super) fn check(collection: &Collection, key: &Key, must: &Must, now: Option<&Document>) -> Result<(), Error> {
    let now = now.filter(|document| document.exists());
    let found = now.map(version);
    let holds = match must {
        Must::Exist => found.is_some(),
        Must::BeAbsent => found.is_none(),
        Must::BeAt(version) => found.as_ref() == Some(version),
    };
    if holds {
        return Ok(());
    }
    let wanted = match must {
        Must::Exist => "a document".to_owned(),
        Must::BeAbsent => "no document".to_owned(),
        Must::BeAt(version) => format!("version {version}"),
    };
    let found = found.map_or_else(|| "no document".to_owned(), |version| format!("version {version}"));
    Err(Error::Precondition { collection: collection.name.to_string(), key: key.to_string(), wanted, found })
}
