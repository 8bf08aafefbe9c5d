//! Edits that are made but not committed yet, and what readers see of them.
//!
//! Law: what is shown for a document is what the branch shows once the edits are committed, if no peer's commit comes between.

use std::{collections::BTreeMap, mem, sync::Arc};

use herdbook_model::{
    document::View,
    request::MAX_LEN,
    schema::{Collection, Field},
    value::{Key, Scalar, Value},
};

use crate::{
    error::Error,
    repository::{Ask, DocumentChange, FieldChange},
};

/// Edits at which they are committed without waiting any longer.
const MOST: usize = 1024;

/// Bytes of values at which edits are committed without waiting any longer; well below what the store takes at once.
const MOST_BYTES: usize = 4 << 20;

/// What waits for the next commit.
#[derive(Debug, Default)]
pub(super) struct Pending {
    asks: Vec<Ask>,
    bytes: usize,
    shown: BTreeMap<String, BTreeMap<Key, Shown>>,
    /// Rises with each edit.
    edits: u64,
}

/// A document as edits that wait leave it.
#[derive(Debug)]
struct Shown {
    /// What a reader sees; `None` if it is deleted.
    view: Option<View>,
    /// The last edit of it.
    edit: u64,
}

impl Pending {
    /// Returns what edits that wait leave of a document, `None` if none of them touches it.
    pub(super) fn get(&self, collection: &str, key: &Key) -> Option<Option<&View>> {
        Some(self.shown.get(collection)?.get(key)?.view.as_ref())
    }

    /// Returns what edits that wait leave of documents whose keys start with `prefix` and come after `after`.
    pub(super) fn scan(&self, collection: &str, prefix: &str, after: Option<&Key>) -> BTreeMap<Key, Option<View>> {
        let all = self.shown.get(collection).into_iter().flatten();
        let meant = all.filter(|(key, _)| key.as_str().starts_with(prefix) && after.is_none_or(|after| *key > after));
        meant.map(|(key, shown)| (key.clone(), shown.view.clone())).collect()
    }

    /// Takes an ask of one edit, after which a reader sees `view`. Returns whether it is time to commit.
    pub(super) fn push(&mut self, ask: Ask, view: Option<View>) -> bool {
        self.edits += 1;
        for edit in &ask.edits {
            let shown = Shown { view: view.clone(), edit: self.edits };
            self.shown.entry(edit.collection.clone()).or_default().insert(edit.key.clone(), shown);
            self.bytes += weight(&edit.change);
        }
        self.asks.push(ask);
        self.asks.len() >= MOST || self.bytes >= MOST_BYTES
    }

    /// Takes the asks that wait, and which edit is the last of them. Readers go on seeing them until they are [settled](Self::settle).
    pub(super) fn take(&mut self) -> (Vec<Ask>, u64) {
        self.bytes = 0;
        (mem::take(&mut self.asks), self.edits)
    }

    /// Puts asks back that the store did not take, before those that came since.
    pub(super) fn put_back(&mut self, mut asks: Vec<Ask>) {
        self.bytes += asks.iter().flat_map(|ask| &ask.edits).map(|edit| weight(&edit.change)).sum::<usize>();
        asks.append(&mut self.asks);
        self.asks = asks;
    }

    /// Forgets what edits up to `edit` show: the branch shows it now.
    pub(super) fn settle(&mut self, edit: u64) {
        for documents in self.shown.values_mut() {
            documents.retain(|_, shown| shown.edit > edit);
        }
    }
}

/// Returns about how many bytes a change takes, for bounds on memory.
fn weight(change: &DocumentChange) -> usize {
    /// Of a value without its text.
    const EACH: usize = 16;
    let scalar = |scalar: &Scalar| if let Scalar::String(text) = scalar { EACH + text.len() } else { EACH };
    let value = |value: &Value| match value {
        Value::Scalar(one) => scalar(one),
        Value::Set(elements) => elements.iter().map(scalar).sum(),
        Value::Map(entries) => entries.iter().map(|(key, entry)| key.len() + scalar(entry)).sum(),
    };
    match change {
        DocumentChange::Put(fields) | DocumentChange::Create(fields) => fields.iter().map(|(_, field)| value(field)).sum(),
        DocumentChange::Update(fields) => {
            let field = |change: &FieldChange| match change {
                FieldChange::Set(to) => value(to),
                FieldChange::Clear => EACH,
                FieldChange::Elements { add, remove } => add.iter().chain(remove).map(scalar).sum(),
                FieldChange::Entries { put, remove } => {
                    put.iter().map(|(key, entry)| key.len() + scalar(entry)).sum::<usize>()
                        + remove.iter().map(|key| key.len()).sum::<usize>()
                }
            };
            fields.iter().map(|(_, change)| field(change)).sum()
        }
        DocumentChange::Delete => EACH,
    }
}

/// Returns what a reader sees of a document after a change, `None` if it is gone.
///
/// # Errors
/// What the repository answers to the change: a field or type that is not in the schema, a document that should or should not be there, a
/// size.
pub(super) fn changed(collection: &Collection, key: &Key, change: &DocumentChange, now: Option<&View>) -> Result<Option<View>, Error> {
    let bytes = weight(change);
    if bytes > MAX_LEN {
        return Err(Error::TooLarge { what: "the request", actual: bytes, limit: MAX_LEN });
    }
    let document = || (collection.name.to_string(), key.to_string());
    match (change, now) {
        (DocumentChange::Create(_), Some(_)) => {
            let (collection, key) = document();
            Err(Error::Exists { collection, key })
        }
        (DocumentChange::Update(_) | DocumentChange::Delete, None) => {
            let (collection, key) = document();
            Err(Error::UnknownDocument { collection, key })
        }
        (DocumentChange::Delete, Some(_)) => Ok(None),
        (DocumentChange::Put(fields) | DocumentChange::Create(fields), _) => whole(collection, fields).map(Some),
        (DocumentChange::Update(fields), Some(now)) => {
            let mut view = now.clone();
            for (name, change) in fields {
                let field = collection.field(name)?;
                let value = field_changed(field, change, view.fields.get(name))?;
                show(&mut view, field, value);
                view.conflicts.retain(|conflict| conflict.field != *name);
            }
            Ok(Some(view))
        }
    }
}

fn whole(collection: &Collection, fields: &[(Arc<str>, Value)]) -> Result<View, Error> {
    let mut view = View::default();
    for field in &collection.fields {
        show(&mut view, field, None);
    }
    for (name, value) in fields {
        let field = collection.field(name)?;
        field.check(value)?;
        show(&mut view, field, Some(value.clone()));
    }
    Ok(view)
}

/// Sets what is shown of a field: the default where there is no value.
fn show(view: &mut View, field: &Field, value: Option<Value>) {
    let is_empty = |value: &Value| matches!(value, Value::Set(set) if set.is_empty()) || matches!(value, Value::Map(map) if map.is_empty());
    match value.filter(|value| !is_empty(value)).or_else(|| field.default.clone().map(Value::Scalar)) {
        Some(value) => view.fields.insert(field.name.clone(), value),
        None => view.fields.remove(&field.name),
    };
}

fn field_changed(field: &Field, change: &FieldChange, now: Option<&Value>) -> Result<Option<Value>, Error> {
    Ok(match change {
        FieldChange::Clear => None,
        FieldChange::Set(value) => {
            field.check(value)?;
            Some(value.clone())
        }
        FieldChange::Elements { add, remove } => {
            add.iter().chain(remove).try_for_each(|element| field.check_element(element))?;
            let mut elements = if let Some(Value::Set(elements)) = now { elements.clone() } else { Default::default() };
            elements.retain(|element| !remove.contains(element));
            elements.extend(add.iter().cloned());
            let elements = Value::Set(elements);
            field.check(&elements)?;
            Some(elements)
        }
        FieldChange::Entries { put, remove } => {
            put.iter().try_for_each(|(_, entry)| field.check_element(entry))?;
            let mut entries = if let Some(Value::Map(entries)) = now { entries.clone() } else { Default::default() };
            entries.retain(|key, _| !remove.contains(key));
            entries.extend(put.iter().cloned());
            let entries = Value::Map(entries);
            field.check(&entries)?;
            Some(entries)
        }
    })
}
