//! From what a caller asks to the operations that go into a commit: names become numbers, whole values become differences.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdbook_model::{
    document::{Document, Field as Kept, List, Text},
    edit::{Change, Edit, FieldEdit, Operation},
    replace,
    request::Must,
    schema::{Collection, Field, FieldId, FieldType, Policy},
    value::{Key, Value},
};

use super::ask::{DocumentChange, FieldChange, version};
use crate::error::Error;

/// Returns the edit that does `change` to the document as it is `now`.
///
/// A put of what is there already still touches the document, so that it outlives a concurrent delete.
pub(super) fn edit(collection: &Collection, key: &Key, change: &DocumentChange, now: Option<&Document>) -> Result<Edit, Error> {
    let is_there = now.is_some_and(Document::exists);
    let absent = || Error::UnknownDocument { collection: collection.name.to_string(), key: key.to_string() };
    let exists = || Error::Exists { collection: collection.name.to_string(), key: key.to_string() };
    // What is made here of values that were checked fits; what comes as changes is checked as such.
    let is_made_here = matches!(change, DocumentChange::Create(_) | DocumentChange::Put(_) | DocumentChange::Delete);
    let operation = match (change, is_there) {
        (DocumentChange::Create(_) | DocumentChange::Exact(Operation::Create(_)), true) => return Err(exists()),
        (DocumentChange::Exact(operation @ Operation::Create(_)), false) => operation.clone(),
        (DocumentChange::Create(fields) | DocumentChange::Put(fields), false) => Operation::Create(whole(collection, fields, now)?),
        (DocumentChange::Put(fields), true) => Operation::Update(replaced(collection, fields, now)?),
        (DocumentChange::Update(fields), true) => {
            let mut edits = Vec::with_capacity(fields.len());
            for (name, change) in fields {
                let field = collection.field(name)?;
                let change = field_change(field, change, now.and_then(|now| now.field(field.id)))?;
                edits.extend(change.map(|change| FieldEdit { field: field.id, change }));
            }
            edits.sort_by_key(|edit| edit.field);
            if let Some(twice) = edits.windows(2).find(|pair| pair[0].field == pair[1].field) {
                return Err(herdbook_model::schema::Error::BadName { name: collection.by_id(twice[0].field)?.name.to_string() }.into());
            }
            Operation::Update(edits)
        }
        (DocumentChange::Delete, true) => Operation::Delete,
        (DocumentChange::Exact(operation), true) => operation.clone(),
        (DocumentChange::Update(_) | DocumentChange::Delete | DocumentChange::Exact(_), false) => return Err(absent()),
    };
    let edit = Edit { key: key.clone(), operation };
    if is_made_here {
        debug_assert_eq!(edit.check(collection), Ok(()));
    } else {
        edit.check(collection)?;
    }
    Ok(edit)
}

/// The edits that write `fields` into a new document; what is still kept of an older one is taken away or reset.
fn whole(collection: &Collection, fields: &[(Arc<str>, Value)], now: Option<&Document>) -> Result<Vec<FieldEdit>, Error> {
    let wanted = checked(collection, fields)?;
    let edit = |field: &Field| {
        let change = replace::create(field, now.and_then(|now| now.field(field.id)), value_of(&wanted, field.id))?;
        Some(FieldEdit { field: field.id, change })
    };
    let mut edits = Vec::with_capacity(wanted.len());
    edits.extend(collection.fields.iter().filter_map(edit));
    Ok(edits)
}

/// The edits after which the document shows exactly `fields`: what is equal already is not written again, unless it is in conflict.
fn replaced(collection: &Collection, fields: &[(Arc<str>, Value)], now: Option<&Document>) -> Result<Vec<FieldEdit>, Error> {
    let wanted = checked(collection, fields)?;
    let edit = |field: &Field| {
        let kept = now.and_then(|now| now.field(field.id));
        let wanted = value_of(&wanted, field.id);
        // What is shown may be the default alone, and need not be written.
        let is_default =
            kept.is_none() && matches!((wanted, &field.default), (Some(Value::Scalar(wanted)), Some(default)) if wanted == default);
        let change = if is_default { None } else { replace::replace(field, kept, wanted) }?;
        Some(FieldEdit { field: field.id, change })
    };
    Ok(collection.fields.iter().filter_map(edit).collect())
}

/// Values by their fields' numbers, in order.
type Values<'v> = Vec<(FieldId, &'v Value)>;

fn checked<'v>(collection: &Collection, fields: &'v [(Arc<str>, Value)]) -> Result<Values<'v>, Error> {
    let mut wanted = Values::with_capacity(fields.len());
    for (at, (name, value)) in fields.iter().enumerate() {
        // Who writes whole documents mostly names their fields in the schema's order.
        let in_order = collection.fields.get(at).filter(|field| field.name == *name);
        let field = in_order.map_or_else(|| collection.field(name), Ok)?;
        field.check(value)?;
        match wanted.binary_search_by_key(&field.id, |(id, _)| *id) {
            Ok(at) => wanted[at].1 = value,
            Err(at) => wanted.insert(at, (field.id, value)),
        }
    }
    Ok(wanted)
}

fn value_of<'v>(values: &Values<'v>, field: FieldId) -> Option<&'v Value> {
    values.binary_search_by_key(&field, |(id, _)| *id).ok().map(|at| values[at].1)
}

/// Returns the change of a field, or of an entry, of which `kept` is kept; `None` if nothing changes.
fn field_change(field: &Field, change: &FieldChange, kept: Option<&Kept>) -> Result<Option<Change>, Error> {
    let beyond = || Error::Beyond { field: field.name.to_string() };
    let part = |is_meant: fn(&Kept) -> bool| kept.and_then(|kept| kept.parts().iter().find(|part| is_meant(part)));
    Ok(match change {
        // Counters inside are reset one by one.
        FieldChange::Clear => replace::replace(field, kept, None).or(Some(Change::Clear)),
        FieldChange::Set(value) => {
            field.check(value)?;
            let wanted = (!value.is_empty()).then_some(value);
            let is_ranked = matches!(field.policy, Policy::Max | Policy::Min);
            let is_register = field.ty.alternative(value).is_some_and(FieldType::is_register);
            // A write of what is there already still is one: its stamp is the newest.
            let again = || (is_register && !is_ranked).then(|| Change::Set(value.clone()));
            replace::replace(field, kept, wanted).or_else(again).or_else(|| wanted.is_none().then_some(Change::Clear))
        }
        FieldChange::Elements { add, remove } => {
            let add: BTreeSet<_> = add.iter().cloned().collect();
            let remove = remove.iter().filter(|element| !add.contains(element)).cloned().collect::<BTreeSet<_>>();
            let change = Change::Elements { add: add.into_iter().collect(), remove: remove.into_iter().collect() };
            (change != Change::Elements { add: Vec::new(), remove: Vec::new() }).then_some(change)
        }
        FieldChange::Entries { put, remove } => {
            let put: BTreeMap<_, _> = put.iter().cloned().collect();
            let remove = remove.iter().filter(|key| !put.contains_key(*key)).cloned().collect::<BTreeSet<_>>();
            let of = field.ty.inner();
            if of.is_some_and(FieldType::is_register) {
                let change = Change::Entries { put: put.into_iter().collect(), remove: remove.into_iter().collect() };
                return Ok((change != Change::Entries { put: Vec::new(), remove: Vec::new() }).then_some(change));
            }
            let puts = put.into_iter().map(|(key, value)| (key, FieldChange::Set(value)));
            let changes: Vec<_> = puts.chain(remove.into_iter().map(|key| (key, FieldChange::Clear))).collect();
            within(field, &changes, kept)?
        }
        FieldChange::Count { reset, add } => (*reset || *add != 0).then_some(Change::Count { reset: *reset, add: *add }),
        FieldChange::Text(splices) => {
            let none = Text::default();
            let text = if let Some(Kept::Text(text)) = part(|part| matches!(part, Kept::Text(_))) { text } else { &none };
            let edit = text.splice(splices).ok_or_else(beyond)?;
            (!edit.is_empty()).then_some(Change::Text(edit))
        }
        FieldChange::List(splices) => {
            let none = List::default();
            let list = if let Some(Kept::List(list)) = part(|part| matches!(part, Kept::List(_))) { list } else { &none };
            let edit = list.splice(splices).ok_or_else(beyond)?;
            (!edit.is_empty()).then(|| Change::List(edit.into()))
        }
        FieldChange::Within(changes) => within(field, changes, kept)?,
    })
}

fn within(field: &Field, changes: &[(Arc<str>, FieldChange)], kept: Option<&Kept>) -> Result<Option<Change>, Error> {
    let wrong = || herdbook_model::schema::Error::WrongOperation {
        field: field.name.to_string(),
        ty: field.ty.to_string(),
        operation: "a change of entries",
    };
    let of = field.ty.map_entries().ok_or_else(wrong)?;
    let none = BTreeMap::new();
    let entries =
        kept.and_then(|kept| kept.parts().iter().find_map(|part| if let Kept::Map(entries) = part { Some(entries) } else { None }));
    let entries = entries.unwrap_or(&none);
    let entry = Field { ty: of.clone(), policy: field.policy.of_registers(), default: None, ..field.clone() };
    let mut edits = BTreeMap::new();
    for (key, change) in changes {
        if let Some(change) = field_change(&entry, change, entries.get(key))? {
            edits.insert(key.clone(), change);
        }
    }
    Ok((!edits.is_empty()).then(|| Change::Within(edits.into_iter().collect())))
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
