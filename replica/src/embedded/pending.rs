//! Edits that are made but not committed yet, and what readers see of them.
//!
//! Law: what is shown for a document is what the branch shows once the edits are committed, if no peer's commit comes between.

use std::{collections::BTreeMap, mem, sync::Arc};

use herdbook_model::{
    codec::Encode as _,
    document::{ListSplice, TextSplice, View},
    edit::Edit,
    request::MAX_LEN,
    schema::{Collection, Error as model, Field, FieldType, Policy},
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

/// About how many bytes a value without its text takes.
const EACH: usize = 16;

fn value_weight(value: &Value) -> usize {
    match value {
        Value::Scalar(Scalar::String(text)) => EACH + text.len(),
        Value::Scalar(Scalar::Bytes(bytes)) => EACH + bytes.len(),
        Value::Scalar(_) => EACH,
        Value::Set(elements) => EACH + elements.iter().map(value_weight).sum::<usize>(),
        Value::Map(entries) => EACH + entries.iter().map(|(key, entry)| key.len() + value_weight(entry)).sum::<usize>(),
        Value::List(items) => EACH + items.iter().map(value_weight).sum::<usize>(),
    }
}

fn field_weight(change: &FieldChange) -> usize {
    match change {
        FieldChange::Set(to) => value_weight(to),
        FieldChange::Clear | FieldChange::Count { .. } => EACH,
        FieldChange::Elements { add, remove } => add.iter().chain(remove).map(value_weight).sum(),
        FieldChange::Entries { put, remove } => {
            put.iter().map(|(key, entry)| key.len() + value_weight(entry)).sum::<usize>()
                + remove.iter().map(|key| key.len()).sum::<usize>()
        }
        FieldChange::Text(splices) => splices.iter().map(|splice| 4 * EACH + splice.inserted.len()).sum(),
        FieldChange::List(splices) => {
            splices.iter().map(|splice| 4 * EACH + items_of(splice).iter().map(value_weight).sum::<usize>()).sum()
        }
        FieldChange::Within(changes) => changes.iter().map(|(key, change)| key.len() + field_weight(change)).sum(),
    }
}

fn items_of(splice: &ListSplice) -> &[Value] {
    match splice {
        ListSplice::Splice { inserted, .. } => inserted,
        ListSplice::Set { value, .. } => std::slice::from_ref(value),
        ListSplice::Move { .. } => &[],
    }
}

/// Returns about how many bytes a change takes, for bounds on memory.
fn weight(change: &DocumentChange) -> usize {
    match change {
        DocumentChange::Put(fields) | DocumentChange::Create(fields) => fields.iter().map(|(_, field)| value_weight(field)).sum(),
        DocumentChange::Update(fields) => fields.iter().map(|(_, change)| field_weight(change)).sum(),
        DocumentChange::Exact(operation) => Edit { key: Key::new("k").expect("short"), operation: operation.clone() }.to_bytes().len(),
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
        // Only reverts are as exact as that, and they are not made here.
        (DocumentChange::Exact(_), now) => Ok(now.cloned()),
        (DocumentChange::Put(fields) | DocumentChange::Create(fields), _) => whole(collection, fields).map(Some),
        (DocumentChange::Update(fields), Some(now)) => {
            let mut view = now.clone();
            for (name, change) in fields {
                let field = collection.field(name)?;
                let value = field_changed(field, &field.ty, change, view.fields.get(name))?;
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
        field.check_given(value)?;
        show(&mut view, field, Some(value.clone()));
    }
    Ok(view)
}

/// Sets what is shown of a field: the default where there is no value.
fn show(view: &mut View, field: &Field, value: Option<Value>) {
    let uncounted = || (field.ty == FieldType::Counter).then_some(Value::from(0));
    let is_value = |value: &Value| !(value.is_empty() || field.ty == FieldType::Text && *value == Value::from(""));
    match value.filter(is_value).or_else(|| field.default.clone().map(Value::Scalar)).or_else(uncounted) {
        Some(value) => view.fields.insert(field.name.clone(), value),
        None => view.fields.remove(&field.name),
    };
}

/// Returns what a field of type `ty`, or an entry of that type in it, shows after a change.
fn field_changed(field: &Field, ty: &FieldType, change: &FieldChange, now: Option<&Value>) -> Result<Option<Value>, Error> {
    let entry = || Field { ty: ty.clone(), ..field.clone() };
    let beyond = || Error::Beyond { field: field.name.to_string() };
    Ok(match change {
        FieldChange::Clear => None,
        FieldChange::Set(value) => {
            entry().check_given(value)?;
            let beaten = match (now, field.policy.of_registers()) {
                (Some(now), Policy::Max) if ty.is_register() => value < now,
                (Some(now), Policy::Min) if ty.is_register() => value > now,
                _ => false,
            };
            Some(if beaten { now.cloned() } else { None }.unwrap_or_else(|| value.clone()))
        }
        FieldChange::Elements { add, remove } => {
            add.iter().chain(remove).try_for_each(|element| entry().check_element(element))?;
            let mut elements = if let Some(Value::Set(elements)) = now { elements.clone() } else { Default::default() };
            elements.retain(|element| !remove.contains(element));
            elements.extend(add.iter().cloned());
            let elements = Value::Set(elements);
            entry().check(&elements)?;
            Some(elements)
        }
        FieldChange::Entries { put, remove } => {
            put.iter().try_for_each(|(_, value)| entry().check_element(value))?;
            let mut entries = if let Some(Value::Map(entries)) = now { entries.clone() } else { Default::default() };
            entries.retain(|key, _| !remove.contains(key));
            entries.extend(put.iter().cloned());
            let entries = Value::Map(entries);
            entry().check(&entries)?;
            Some(entries)
        }
        FieldChange::Count { reset, add } => {
            let sum = if let (false, Some(Value::Scalar(Scalar::Int(sum)))) = (reset, now) { *sum } else { 0 };
            Some(Value::from(sum.wrapping_add(*add)))
        }
        FieldChange::Text(splices) => {
            let now = if let Some(Value::Scalar(Scalar::String(text))) = now { text } else { "" };
            Some(Value::from(spliced_text(now, splices).ok_or_else(beyond)?.as_str()))
        }
        FieldChange::List(splices) => {
            splices.iter().flat_map(items_of).try_for_each(|item| entry().check_element(item))?;
            let now = if let Some(Value::List(items)) = now { items.as_slice() } else { &[] };
            Some(Value::List(spliced_list(now, splices).ok_or_else(beyond)?))
        }
        FieldChange::Within(changes) => {
            let wrong = || model::WrongOperation { field: field.name.to_string(), ty: ty.to_string(), operation: "a change of entries" };
            let of = ty.map_entries().ok_or_else(wrong)?;
            let mut entries = if let Some(Value::Map(entries)) = now { entries.clone() } else { Default::default() };
            for (key, change) in changes {
                let is_there = |value: &Value| !(value.is_empty() || *of == FieldType::Counter && *value == Value::from(0));
                match field_changed(field, of, change, entries.get(key))?.filter(is_there) {
                    Some(value) => _ = entries.insert(key.clone(), value),
                    None => _ = entries.remove(key),
                }
            }
            Some(Value::Map(entries))
        }
    })
}

fn spliced_text(now: &str, splices: &[TextSplice]) -> Option<String> {
    let mut letters: Vec<char> = now.chars().collect();
    let in_order = splices.windows(2).all(|pair| pair[0].at.saturating_add(pair[0].removed) < pair[1].at);
    for TextSplice { at, removed, inserted } in splices.iter().rev() {
        let (at, end) = (usize::try_from(*at).ok()?, usize::try_from(at.checked_add(*removed)?).ok()?);
        if end > letters.len() {
            return None;
        }
        letters.splice(at..end, inserted.chars());
    }
    in_order.then(|| letters.into_iter().collect())
}

/// All positions are those of the list before: what is inserted and moved gathers in the gaps between its items.
fn spliced_list(now: &[Value], splices: &[ListSplice]) -> Option<Vec<Value>> {
    let mut items: Vec<_> = now.iter().cloned().map(Some).collect();
    let mut gaps = vec![Vec::new(); now.len() + 1];
    let mut moved = vec![Vec::new(); now.len() + 1];
    let place = |at: u64| usize::try_from(at).ok();
    for splice in splices {
        if let ListSplice::Set { at, value } = splice {
            *items.get_mut(place(*at)?)? = Some(value.clone());
        }
    }
    for splice in splices {
        match splice {
            ListSplice::Splice { at, removed, inserted } => {
                items.get_mut(place(*at)?..place(at.checked_add(*removed)?)?)?.fill(None);
                gaps.get_mut(place(*at)?)?.extend(inserted.iter().cloned().map(Some));
            }
            ListSplice::Move { from, to } if from != to => {
                let gap = place(if to > from { to.checked_add(1)? } else { *to })?;
                let item = items.get_mut(place(*from)?)?.take();
                moved.get_mut(gap)?.push(item);
            }
            ListSplice::Move { from, .. } => _ = items.get(place(*from)?)?,
            ListSplice::Set { .. } => {}
        }
    }
    items.push(None);
    let all = gaps.into_iter().zip(moved).zip(items).flat_map(|((gap, moved), item)| gap.into_iter().chain(moved).chain([item]));
    Some(all.flatten().collect())
}
