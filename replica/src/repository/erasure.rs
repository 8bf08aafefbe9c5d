//! Values that can be erased: each lies in a part of its own, which a request of its own writes, and documents hold the part's name.
//!
//! Law: the value is in no document, no other request, no name and no hash that stays. So with its request's edits and its part it is gone,
//! while trees, signatures and replay are as they were: replay passes over the request, as over one that was refused.

use std::collections::{BTreeSet, HashSet};

use herdbook_model::{
    authority::{Entry, Kind as EntryKind, REASON_ERASED, RequestRef},
    blob::{self, Blob, Held, Part},
    document,
    edit::{Change, Edit},
    id::{BranchName, PartId},
    schema::{BLOBS, BLOBS_NAME, Collection, CollectionId, DATA, Field, FieldId, ScalarType},
    state::State,
    value::{Key, Scalar, Value},
};
use herdbook_store::{Batch, Direction, Table};

use super::{
    Ask, DocumentChange, DocumentEdit, FieldChange, Repository, Shared, View,
    blobs::{UPKEEP, ask, micros, write},
    layout,
};
use crate::{error::Error, keys};

/// Most values of one request: each takes a request of its own in the same commit.
const VALUES: usize = 1000;

/// Most bytes of the erasable values of one request.
const VALUE_BYTES: usize = 256 << 10;

/// Values whose parts one request takes out of a state.
const PURGED: usize = 1000;

/// An ask whose erasable values were put apart.
pub(super) struct Apart {
    /// The ask, with names in place of them.
    pub(super) ask: Ask,
    /// What writes them, each by itself.
    pub(super) values: Vec<Ask>,
    /// Their names.
    pub(super) names: HashSet<PartId>,
    /// Bytes of their parts.
    bytes: usize,
}

/// What erasing values of a document takes.
#[derive(Debug, Clone, Default)]
pub struct Erasing {
    /// Values it ever had, as far as is known here.
    pub values: u64,
    /// Requests that wrote them, and whose edits are there.
    pub requests: Vec<RequestRef>,
    /// What takes their parts out of the newest states, by branch.
    pub asks: Vec<Ask>,
    /// Horizons there are, and requests that are not to be voided: what lies in the state at a horizon stays until that moves on, and what was written there
    /// and overwritten is not found.
    pub past: u64,
}

impl Shared {
    /// Puts erasable values of `ask` apart; `None` if it has none.
    pub(super) fn set_apart(&self, state: &State, ask: &Ask) -> Result<Option<Apart>, Error> {
        let schema = state.schema();
        let has_some =
            |edit: &DocumentEdit| schema.collection(&edit.collection).is_ok_and(|collection| collection.erasable().next().is_some());
        if schema.blobs().is_none() || !ask.edits.iter().any(has_some) {
            return Ok(None);
        }
        let mut apart = Apart { ask: ask.clone(), values: Vec::new(), names: HashSet::new(), bytes: 0 };
        for at in 0..apart.ask.edits.len() {
            let DocumentEdit { collection, key, mut change } = apart.ask.edits[at].clone();
            let Ok(collection) = schema.collection(&collection) else { continue };
            let mut values: Vec<_> = match &mut change {
                DocumentChange::Put(fields) | DocumentChange::Create(fields) => {
                    fields.iter_mut().map(|(name, value)| (&**name, value)).collect()
                }
                DocumentChange::Update(changes) => changes
                    .iter_mut()
                    .filter_map(|(name, change)| match change {
                        FieldChange::Set(value) => Some((&**name, value)),
                        _ => None,
                    })
                    .collect(),
                DocumentChange::Delete | DocumentChange::Exact(_) => continue,
            };
            for (name, value) in &mut values {
                if let Some((field, ty)) = collection.erasable().find(|(field, _)| &*field.name == *name) {
                    self.name_value(state, (collection, field, ty), &key, value, &mut apart)?;
                }
            }
            drop(values);
            apart.ask.edits[at].change = change;
        }
        if apart.values.len() > VALUES {
            return Err(Error::TooLarge { what: "the request's number of erasable values", actual: apart.values.len(), limit: VALUES });
        }
        // They go into one commit with it, which has to fit a message between members.
        if apart.bytes > VALUE_BYTES {
            return Err(Error::TooLarge { what: "the request's erasable values", actual: apart.bytes, limit: VALUE_BYTES });
        }
        Ok(Some(apart))
    }

    /// Gives `value` the name of its part: that which the field holds, where it is the same, else a new one.
    fn name_value(
        &self,
        state: &State,
        (collection, field, ty): (&Collection, &Field, ScalarType),
        key: &Key,
        value: &mut Value,
        apart: &mut Apart,
    ) -> Result<(), Error> {
        // What is of another type is refused when it is held against the schema.
        let Value::Scalar(scalar) = &*value else { return Ok(()) };
        let now = state.get(&self.nodes, collection.id, key)?;
        let held = now.as_ref().and_then(|now| now.field(field.id)?.shown_scalar().cloned());
        // A name from outside may be another's, to be read or erased with this document.
        if matches!(scalar, Scalar::Blob(_)) && held.as_ref() != Some(scalar) {
            return Err(Error::NotAValue { field: field.name.to_string() });
        }
        if ScalarType::of(scalar) != Some(ty) {
            return Ok(());
        }
        if let Some(held) = held
            && self.revealed(state, &held)?.as_ref() == Some(scalar)
        {
            *value = Value::Scalar(held);
            return Ok(());
        }
        let part = Part::of_value(&keys::random()?, scalar);
        if part.bytes.len() > VALUE_BYTES {
            return Err(Error::TooLarge { what: "an erasable value", actual: part.bytes.len(), limit: VALUE_BYTES });
        }
        *value = Value::Scalar(Scalar::Blob(blob::name_of_value(part.id)));
        apart.names.insert(part.id);
        apart.bytes += part.bytes.len();
        apart.values.push(ask(apart.ask.branch.clone(), vec![write(blob::key_of(&part.id), part.bytes, micros(self.clock.now()))])?);
        Ok(())
    }

    /// Returns the value that `named` is the name of, `None` if it was erased or is none.
    fn revealed(&self, state: &State, named: &Scalar) -> Result<Option<Scalar>, Error> {
        let Scalar::Blob(Blob { root, .. }) = named else { return Ok(None) };
        let Some(bytes) = self.part(state, root)? else { return Ok(None) };
        match blob::read(&bytes) {
            Ok(Held::Value(value)) if blob::id_of(&bytes) == *root => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// Takes the edits of requests that `entry` erases out of the tables, those that are here.
    pub(super) fn forget_erased(&self, entry: &Entry, batch: &mut Batch) -> Result<(), Error> {
        let EntryKind::Head { voids, .. } = &entry.kind else { return Ok(()) };
        for void in voids.iter().filter(|void| void.reason == REASON_ERASED) {
            let RequestRef { commit, request } = void.request;
            if let Some(stored) = self.commits.stored(&commit)? {
                self.unstore_request(&commit, request, stored.commit.header().time, batch)?;
            }
            // Trees may have come without the edits. A collection under way does not unmark what came after it began.
            batch.put(Table::Refs, layout::ERASED, entry.id().as_bytes().to_vec());
            // States read before have the value.
            self.past.lock().clear();
        }
        Ok(())
    }
}

impl Repository {
    /// Returns what a reader of `state` sees of a document, erasable values among it; what was erased is absent. `None` if it is deleted.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn view_of(&self, state: &State, collection: &Collection, document: &document::Document) -> Result<Option<document::View>, Error> {
        let Some(mut view) = document.view(collection) else { return Ok(None) };
        for (field, _) in collection.erasable() {
            let reveal = |value: &Value| match value {
                Value::Scalar(named) => Ok::<_, Error>(self.0.revealed(state, named)?.map(Value::Scalar)),
                _ => Ok(None),
            };
            if let Some(value) = view.fields.remove(&field.name)
                && let Some(value) = reveal(&value)?
            {
                view.fields.insert(field.name.clone(), value);
            }
            for conflict in view.conflicts.iter_mut().filter(|conflict| conflict.field == field.name) {
                for sibling in &mut conflict.siblings {
                    sibling.value = sibling.value.as_ref().map(reveal).transpose()?.flatten();
                }
            }
        }
        Ok(Some(view))
    }

    /// Returns what it takes to erase every value that a document ever had in its erasable fields, or in `field` alone.
    ///
    /// Cost: the document's history, as far as it is kept.
    ///
    /// # Errors
    /// [`Error::Schema`]; [`Error::NotErasable`] if the field, or no field of the collection, can be erased; those of reading.
    pub fn erasing(
        &self,
        view: &View,
        branch: Option<&BranchName>,
        collection: &str,
        key: &Key,
        field: Option<&str>,
    ) -> Result<Erasing, Error> {
        let collection = view.state(branch)?.schema().collection(collection)?;
        let fields: Vec<FieldId> = match field {
            Some(name) => {
                let wanted = collection.field(name)?.id;
                collection.erasable().map(|(field, _)| field.id).filter(|field| *field == wanted).collect()
            }
            None => collection.erasable().map(|(field, _)| field.id).collect(),
        };
        if fields.is_empty() {
            let what = field.map_or_else(|| format!("no field of `{}`", collection.name), |field| format!("field `{field}`"));
            return Err(Error::NotErasable { what });
        }
        let (mut names, mut erasing) = (BTreeSet::new(), Erasing::default());
        for state in view.branches.values() {
            if let Some(document) = state.document(&self.0.nodes, collection.id, key)? {
                fields
                    .iter()
                    .filter_map(|field| document.field(*field))
                    .for_each(|field| field.blobs(&mut |blob| _ = names.insert(blob.root)));
            }
        }
        for (_, edit) in self.kept_edits(collection.id, key, &mut erasing.past)? {
            for change in edit.operation.fields().iter().filter(|edit| fields.contains(&edit.field)) {
                blob::written_by(&change.change, &mut |blob| _ = names.insert(blob.root));
            }
        }
        // Edits that went before a horizon name nothing any more, and what they wrote is in the state at the horizon.
        erasing.past += view.log.horizons().len() as u64;
        let mut requests = BTreeSet::new();
        for name in std::mem::take(&mut names) {
            let (key, mut is_value) = (blob::key_of(&name), false);
            for state in view.branches.values() {
                is_value |= self.0.part(state, &name)?.is_some_and(|bytes| holds_value(&bytes, &name));
            }
            for (at, edit) in self.kept_edits(BLOBS, &key, &mut erasing.past)? {
                // Others say when it was used, or hid it. None but a value's own request is voided: others' parts would go with it.
                if !writes_value(&edit, &name) {
                    continue;
                }
                is_value = true;
                let is_alone = self.0.commits.request(&at.commit, at.request)?.is_some_and(|request| request.len() == 1);
                if is_alone && !self.0.is_past(view, &at.commit)? {
                    requests.insert(at);
                } else {
                    erasing.past += 1;
                }
            }
            if is_value {
                names.insert(name);
            }
        }
        erasing.values = names.len() as u64;
        erasing.requests = requests.into_iter().collect();
        for state in view.branches.values() {
            let mut edits = Vec::new();
            let is_open = view.log.branch(state.branch()).is_some_and(|branch| branch.status == herdbook_model::authority::Status::Open);
            for name in names.iter().filter(|_| is_open) {
                if edits.len() >= PURGED {
                    let ask = ask(Some(state.branch().clone()), std::mem::take(&mut edits))?;
                    erasing.asks.push(Ask { principal: UPKEEP.to_owned(), ..ask });
                }
                let key = blob::key_of(name);
                let Some(part) = state.document(&self.0.nodes, BLOBS, &key)? else { continue };
                let alive = part.exists().then_some(DocumentChange::Delete);
                // A create takes away all that was seen of an earlier document, so a delete after it leaves nothing.
                let changes = alive.into_iter().chain([DocumentChange::Create(Vec::new()), DocumentChange::Delete]);
                edits.extend(changes.map(|change| DocumentEdit { collection: BLOBS_NAME.to_owned(), key: key.clone(), change }));
            }
            if !edits.is_empty() {
                let ask = ask(Some(state.branch().clone()), edits)?;
                erasing.asks.push(Ask { principal: UPKEEP.to_owned(), ..ask });
            }
        }
        Ok(erasing)
    }

    /// Returns every edit of a document that is kept, with its request; counts in `past` those that are not.
    fn kept_edits(&self, collection: CollectionId, key: &Key, past: &mut u64) -> Result<Vec<(RequestRef, Edit)>, Error> {
        let mut edits = Vec::new();
        self.edits_of(collection, key, Direction::Forward, |commit, _, request| {
            match self.0.commits.request(&commit, request)? {
                Some(kept) => {
                    let own = kept.edits().filter(|(of, edit)| *of == collection && edit.key == *key);
                    edits.extend(own.map(|(_, edit)| (RequestRef { commit, request }, edit.clone())));
                }
                None => *past += 1,
            }
            Ok(true)
        })?;
        Ok(edits)
    }
}

/// Whether these are the bytes of a value's part of that name.
fn holds_value(bytes: &[u8], name: &PartId) -> bool {
    matches!(blob::read(bytes), Ok(Held::Value(_))) && blob::id_of(bytes) == *name
}

/// Whether an edit writes the part of that name, and it is a value's.
fn writes_value(edit: &Edit, name: &PartId) -> bool {
    edit.operation.fields().iter().any(|field| match &field.change {
        Change::Set(Value::Scalar(Scalar::Bytes(bytes))) if field.field == DATA => holds_value(bytes, name),
        _ => false,
    })
}
