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
    document::{Document, Dot, Field, Sibling, Stamp, is_in_conflict, read},
    edit::{Change, Edit, FieldEdit, Operation},
    replace,
    schema::{Collection, FieldId, FieldType, Policy},
    value::Value,
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
    revert_all(edit, &BTreeSet::new(), before, now, collection, is_own)
}

/// As [`revert`], for several edits of one document told as one: `cleared` are the fields that one of them cleared, whatever `edit` says of them.
pub fn revert_all(
    edit: &Edit,
    cleared: &BTreeSet<FieldId>,
    before: Option<&Document>,
    now: Option<&Document>,
    collection: &Collection,
    is_own: impl Fn(&Dot) -> bool,
) -> Option<Edit> {
    // Hidden fields of a document that was deleted then are no values that somebody read.
    let before = before.filter(|document| document.exists());
    let living = now.filter(|document| document.exists());
    let operation = match (&edit.operation, before, living) {
        (Operation::Delete, Some(before), None) if !is_changed(before, now, &is_own) => Operation::Create(all_of(before, now, collection)),
        (Operation::Delete, ..) | (_, _, None) => return None,
        // Brought to life by it and touched by nobody since: it goes.
        (_, None, Some(now)) if now.alive().iter().all(|stamp| is_own(&stamp.dot)) => Operation::Delete,
        (operation, before, Some(now)) => {
            let revert_field = |id| {
                let field = collection.get(id)?;
                let change = operation.fields().iter().find(|edit| edit.field == id).map(|edit| &edit.change);
                let took = matches!(operation, Operation::Create(_)) || matches!(change, Some(Change::Clear)) || cleared.contains(&id);
                let place = Place { ty: &field.ty, policy: field.policy.of_registers(), is_own: &is_own };
                let change = place.revert(change, took, before.and_then(|document| document.field(id)), now.field(id));
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

/// Returns what writes the fields of a deleted document again. Counters kept counting while it was hidden.
fn all_of(before: &Document, now: Option<&Document>, collection: &Collection) -> Vec<FieldEdit> {
    let write = |field: &crate::schema::Field| {
        let value = before.field(field.id).and_then(|kept| read(kept, field.policy))?;
        let change = replace::create(field, now.and_then(|now| now.field(field.id)), Some(&value))?;
        Some(FieldEdit { field: field.id, change })
    };
    collection.fields.iter().filter_map(write).collect()
}

/// A field, or an entry of a map, in which an edit is taken back.
struct Place<'a> {
    ty: &'a FieldType,
    policy: Policy,
    is_own: &'a dyn Fn(&Dot) -> bool,
}

impl Place<'_> {
    /// Returns what takes `change` back; `took`: whether the edit took away all that was seen there.
    fn revert(&self, change: Option<&Change>, took: bool, before: Option<&Field>, now: Option<&Field>) -> Option<Change> {
        match (self.ty, before, now) {
            (FieldType::Counter, ..) => self.revert_counter(change, before, now),
            (_, Some(Field::Several(_)), _) | (_, _, Some(Field::Several(_))) | (FieldType::Union(_), ..) => self.revert_whole(before, now),
            (FieldType::Text, before, Some(Field::Text(now))) => {
                let before = if let Some(Field::Text(before)) = before { Some(before) } else { None };
                let edit = if let Some(Change::Text(edit)) = change { Some(edit) } else { None };
                let undo = now.undo(before, edit, took, self.is_own);
                (!undo.is_empty()).then_some(Change::Text(undo))
            }
            (FieldType::List(_), before, Some(Field::List(now))) => {
                let before = if let Some(Field::List(before)) = before { Some(before) } else { None };
                let edit = if let Some(Change::List(edit)) = change { Some(&**edit) } else { None };
                let undo = now.undo(before, edit, took, self.policy, self.is_own);
                (!undo.is_empty()).then(|| Change::List(undo.into()))
            }
            (FieldType::Set(_), ..) => self.revert_set(change, took, before, now),
            (FieldType::Map(of), ..) => self.revert_map(of, change, took, before, now),
            _ => self.revert_register(change, before, now),
        }
    }

    /// Takes back what holds values of several kinds: if what is read is the commit's own, or it left nothing, what was read before comes back.
    fn revert_whole(&self, before: Option<&Field>, now: Option<&Field>) -> Option<Change> {
        let is_own = |stamp: Stamp| (self.is_own)(&stamp.dot);
        let stands = now.is_none_or(|now| now.stamps().max().is_none_or(is_own));
        let field = crate::schema::Field::new(FieldId(0), "", self.ty.clone(), self.policy);
        let value = before.and_then(|before| read(before, self.policy));
        stands.then(|| replace::replace(&field, now, value.as_ref())).flatten()
    }

    fn revert_counter(&self, change: Option<&Change>, before: Option<&Field>, now: Option<&Field>) -> Option<Change> {
        let counter = |field: Option<&Field>| if let Some(Field::Counter(counter)) = field { *counter } else { Default::default() };
        let (before, now) = (counter(before), counter(now));
        let (reset, added) = match change? {
            Change::Count { reset, add } => (*reset, *add),
            Change::Clear => (true, 0),
            _ => return None,
        };
        // What a later reset of others took away does not count any more.
        let counts = if reset { now.reset.is_some_and(|reset| (self.is_own)(&reset.dot)) } else { now.reset == before.reset };
        let back = if reset { before.sum.wrapping_sub(added) } else { added.wrapping_neg() };
        (counts && back != 0).then_some(Change::Count { reset: false, add: back })
    }

    fn revert_register(&self, change: Option<&Change>, before: Option<&Field>, now: Option<&Field>) -> Option<Change> {
        let (before, now) = (siblings(before), siblings(now));
        let is_own = |sibling: &Sibling<_>| (self.is_own)(&sibling.stamp.dot);
        let shown = |siblings: &[Sibling<Option<Value>>]| {
            let register = Field::Register(siblings.to_vec());
            if siblings.is_empty() { None } else { read(&register, self.policy) }
        };
        // A clear that only says below what nothing counts is no value that somebody wrote.
        let is_value = |sibling: &&Sibling<Option<Value>>| sibling.value.is_some() || self.policy.keeps_siblings();
        let others: Vec<_> = now.iter().filter(|sibling| !is_own(sibling)).filter(is_value).cloned().collect();
        let value = if now.is_empty() && matches!(change, None | Some(Change::Clear)) {
            shown(before)
        } else if self.policy.keeps_siblings() && others.len() < now.len() {
            match others.first() {
                None => shown(before),
                // One write cannot stand for several values: a conflict among others stays whole, for somebody to resolve.
                Some(_) if is_in_conflict(&Field::Register(others.clone()), self.policy) => return None,
                Some(first) => first.value.clone(),
            }
        } else if shown(now) != shown(&others) || now.last().is_some_and(is_own) {
            let is_read = match self.policy {
                // Of the commit's own is what is read only if nobody else wrote as much.
                Policy::Max | Policy::Min => shown(now) != shown(&others),
                _ => true,
            };
            if !is_read {
                return None;
            }
            if others.is_empty() { shown(before) } else { shown(&others) }
        } else {
            return None;
        };
        let write = if matches!(self.policy, Policy::Max | Policy::Min) { Change::Replace } else { Change::Set };
        if value.is_none() && now.is_empty() {
            return None;
        }
        // What is read is what is to be read, and nothing stands against it: others wrote the same.
        if value == shown(now) && !is_in_conflict(&Field::Register(now.to_vec()), self.policy) {
            return None;
        }
        Some(value.map_or(Change::Clear, write))
    }

    fn revert_set(&self, change: Option<&Change>, took: bool, before: Option<&Field>, now: Option<&Field>) -> Option<Change> {
        let (before, now) = (elements(before), elements(now));
        let (added, removed): (&[Value], &[Value]) =
            if let Some(Change::Elements { add, remove }) = change { (add, remove) } else { (&[], &[]) };
        let own_alone = |element: &&Value| now.get(*element).is_some_and(|adds| adds.iter().all(|stamp| (self.is_own)(&stamp.dot)));
        let remove: Vec<_> = added.iter().filter(|element| !before.contains_key(*element)).filter(own_alone).cloned().collect();
        let taken = |element: &&Value| (took && added.binary_search(element).is_err()) || removed.binary_search(element).is_ok();
        let add: Vec<_> = before.keys().filter(taken).filter(|element| !now.contains_key(*element)).cloned().collect();
        (!add.is_empty() || !remove.is_empty()).then_some(Change::Elements { add, remove })
    }

    fn revert_map(
        &self,
        of: &FieldType,
        change: Option<&Change>,
        took: bool,
        before: Option<&Field>,
        now: Option<&Field>,
    ) -> Option<Change> {
        let (before, now) = (entries(before), entries(now));
        let mut changed = BTreeMap::<&Arc<str>, Option<Change>>::new();
        if took {
            changed.extend(before.keys().map(|key| (key, None)));
        }
        match change {
            Some(Change::Entries { put, remove }) => {
                changed.extend(remove.iter().map(|key| (key, Some(Change::Clear))));
                changed.extend(put.iter().map(|(key, value)| (key, Some(Change::Set(value.clone())))));
            }
            Some(Change::Within(changes)) => changed.extend(changes.iter().map(|(key, change)| (key, Some(change.clone())))),
            _ => {}
        }
        let place = Place { ty: of, ..*self };
        let back = changed.into_iter().filter_map(|(key, change)| {
            let took = took || matches!(change, Some(Change::Clear));
            let change = place.revert(change.as_ref(), took, before.get(key), now.get(key))?;
            Some((key.clone(), change))
        });
        let back: Vec<_> = back.collect();
        let is_short = back.iter().all(|(_, change)| matches!(change, Change::Set(_) | Change::Clear));
        (!back.is_empty()).then(|| if of.is_register() && is_short { replace::entries(back) } else { Change::Within(back) })
    }
}

fn siblings(field: Option<&Field>) -> &[Sibling<Option<Value>>] {
    if let Some(Field::Register(siblings)) = field { siblings } else { &[] }
}

fn elements(field: Option<&Field>) -> &BTreeMap<Value, Vec<Stamp>> {
    static NONE: BTreeMap<Value, Vec<Stamp>> = BTreeMap::new();
    if let Some(Field::Set(elements)) = field { elements } else { &NONE }
}

fn entries(field: Option<&Field>) -> &BTreeMap<Arc<str>, Field> {
    static NONE: BTreeMap<Arc<str>, Field> = BTreeMap::new();
    if let Some(Field::Map(entries)) = field { entries } else { &NONE }
}
