//! Values that can be erased: each lies in a part of its own, which a request of its own writes, and documents hold the part's name.
//!
//! Law: the value is in no document, no other request, no name and no hash that stays. So with its request's edits and its part it is gone,
//! while trees, signatures and replay are as they were: replay passes over the request, as over one that was refused.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use herdbook_model::{
    authority::{Entry, Kind as EntryKind, REASON_ERASED, RequestRef},
    blob::{self, Blob, Held, Owner, Part},
    document,
    edit::{Change, Edit, Operation},
    id::{BranchName, PartId},
    request::Request,
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
    /// Values of them that stay for now: in the state at a horizon until that moves on, or beside other edits of one request.
    pub past: u64,
}

impl Apart {
    /// Adds what writes a part.
    fn write(&mut self, id: PartId, bytes: Arc<[u8]>, now: i64) -> Result<(), Error> {
        self.names.insert(id);
        self.bytes += bytes.len();
        self.values.push(ask(self.ask.branch.clone(), vec![write(blob::key_of(&id), bytes, now)])?);
        Ok(())
    }
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
                DocumentChange::Exact(operation) => {
                    self.bring_back(state, collection, operation, &mut apart)?;
                    Vec::new()
                }
                DocumentChange::Delete => continue,
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

    /// Lets an operation that brings back what was there before, a revert's or a merge's, clear values that were erased meanwhile, and writes those anew
    /// that a sweep has hidden.
    fn bring_back(&self, state: &State, collection: &Collection, operation: &mut Operation, apart: &mut Apart) -> Result<(), Error> {
        let (fields, creates) = match operation {
            Operation::Create(fields) => (fields, true),
            Operation::Update(fields) => (fields, false),
            Operation::Delete => return Ok(()),
        };
        let mut gone = Vec::new();
        for edit in fields.iter().filter(|edit| collection.erasable().any(|(field, _)| field.id == edit.field)) {
            let Change::Set(Value::Scalar(Scalar::Blob(blob))) = &edit.change else { continue };
            match self.part(state, &blob.root)?.filter(|bytes| owner_of(bytes, &blob.root).is_some()) {
                None => gone.push(edit.field),
                Some(_) if self.check_reference(state, blob).is_ok() => {}
                Some(bytes) => apart.write(blob.root, bytes, micros(self.clock.now()))?,
            }
        }
        fields.retain(|edit| !creates || !gone.contains(&edit.field));
        fields.iter_mut().filter(|edit| gone.contains(&edit.field)).for_each(|edit| edit.change = Change::Clear);
        Ok(())
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
        let owner = Owner { collection: collection.id, key: key.clone(), field: field.id };
        let part = Part::of_value(&keys::random()?, &owner, scalar);
        if part.bytes.len() > VALUE_BYTES {
            return Err(Error::TooLarge { what: "an erasable value", actual: part.bytes.len(), limit: VALUE_BYTES });
        }
        *value = Value::Scalar(Scalar::Blob(blob::name_of_value(part.id)));
        apart.write(part.id, part.bytes, micros(self.clock.now()))
    }

    /// Returns the value that `named` is the name of, `None` if it was erased or is none.
    fn revealed(&self, state: &State, named: &Scalar) -> Result<Option<Scalar>, Error> {
        let Scalar::Blob(Blob { root, .. }) = named else { return Ok(None) };
        let Some(bytes) = self.part(state, root)? else { return Ok(None) };
        match blob::read(&bytes) {
            Ok(Held::Value { value, .. }) if blob::id_of(&bytes) == *root => Ok(Some(value)),
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
            self.collector.erased(&self.nodes.pins().notes().held());
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
    /// Cost: the document's history, as far as it is kept. Where there is a horizon, or edits are lost here, a pass over all parts, those of blobs
    /// too, since a part alone tells whose it is.
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
        for (_, edit) in self.kept_edits(collection.id, key)? {
            for change in edit.operation.fields().iter().filter(|edit| fields.contains(&edit.field)) {
                blob::written_by(&change.change, &mut |blob| _ = names.insert(blob.root));
            }
        }
        let is_own = |owner: &Owner| owner.collection == collection.id && owner.key == *key && fields.contains(&owner.field);
        let mut floors = Vec::new();
        for branch in view.log.horizons().keys() {
            let schema = view.log.branch(branch).map(|said| said.schema.clone());
            floors.extend(schema.map(|schema| self.0.floor(branch, &schema)).transpose()?.flatten());
        }
        if !view.log.horizons().is_empty() || !view.lost.is_empty() {
            // Edits that went, or are lost, name nothing any more, but what they wrote tells itself whose it is.
            for state in view.branches.values().chain(&floors) {
                self.values_of(state, is_own, &mut names)?;
            }
        }
        let mut requests = BTreeSet::new();
        for name in std::mem::take(&mut names) {
            let (key, mut is_value, mut stays) = (blob::key_of(&name), false, false);
            let is_such = |bytes: &[u8]| owner_of(bytes, &name).as_ref().is_some_and(is_own);
            for state in view.branches.values() {
                is_value |= self.0.part(state, &name)?.is_some_and(|bytes| is_such(&bytes));
            }
            for floor in &floors {
                stays |= self.0.part(floor, &name)?.is_some_and(|bytes| is_such(&bytes));
            }
            for (at, edit) in self.kept_edits(BLOBS, &key)? {
                // Others say when it was used, or hid it. None but a value's own request is voided: others' parts would go with it.
                if !writes_part(&edit, is_such) {
                    continue;
                }
                is_value = true;
                // What a horizon covers goes with the next collection.
                if self.0.is_past(view, &at.commit)? {
                    continue;
                }
                if self.0.commits.request(&at.commit, at.request)?.is_some_and(|request| request.len() == 1) {
                    requests.insert(at);
                } else {
                    stays = true;
                }
            }
            if is_value || stays {
                names.insert(name);
                erasing.past += u64::from(stays);
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

    /// Adds the names of values whose owner is meant, hidden ones too. Cost: a pass over all parts.
    fn values_of(&self, state: &State, is_own: impl Fn(&Owner) -> bool, names: &mut BTreeSet<PartId>) -> Result<(), Error> {
        for entry in self.scan(state, BLOBS, "", None)?.chain(state.scan_deleted(&self.0.nodes, BLOBS)?) {
            let (key, document) = entry?;
            let Some(name) = PartId::from_hex(key.as_str()) else { continue };
            let owner = blob::bytes_of(&document, &name).and_then(|bytes| owner_of(&bytes, &name));
            if owner.as_ref().is_some_and(&is_own) {
                names.insert(name);
            }
        }
        Ok(())
    }

    /// Returns every edit of a document that is kept, with its request.
    fn kept_edits(&self, collection: CollectionId, key: &Key) -> Result<Vec<(RequestRef, Edit)>, Error> {
        let mut edits = Vec::new();
        self.edits_of(collection, key, Direction::Forward, |commit, _, request| {
            if let Some(kept) = self.0.commits.request(&commit, request)? {
                let own = kept.edits().filter(|(of, edit)| *of == collection && edit.key == *key);
                edits.extend(own.map(|(_, edit)| (RequestRef { commit, request }, edit.clone())));
            }
            Ok(true)
        })?;
        Ok(edits)
    }
}

/// Returns whose value a part holds, `None` if it holds none or these are not the bytes of that name.
fn owner_of(bytes: &[u8], name: &PartId) -> Option<Owner> {
    match blob::read(bytes) {
        Ok(Held::Value { owner, .. }) if blob::id_of(bytes) == *name => Some(owner),
        _ => None,
    }
}

/// Whether a request writes a value that can be erased, and so nothing else but its like.
pub(super) fn writes_values(request: &Request) -> bool {
    request
        .edits()
        .any(|(collection, edit)| collection == BLOBS && writes_part(edit, |bytes| matches!(blob::read(bytes), Ok(Held::Value { .. }))))
}

/// Whether an edit writes a part that is such.
fn writes_part(edit: &Edit, is_such: impl Fn(&[u8]) -> bool) -> bool {
    edit.operation.fields().iter().any(|field| match &field.change {
        Change::Set(Value::Scalar(Scalar::Bytes(bytes))) if field.field == DATA => is_such(bytes),
        _ => false,
    })
}
