//! A replica inside an application: documents in memory, edited at memory speed, online or offline.
//!
//! ```
//! use herdbook_model::json;
//! use herdbook_replica::Replica;
//! use serde_json::json;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let schema = r#"{"version": 1, "collections": {"cities": {"fields": [
//!     {"name": "name", "type": "string"},
//!     {"name": "population", "type": "int"}]}}}"#;
//! let replica = Replica::builder(folder).schema(json::schema_from_json(schema)?).open()?;
//!
//! replica.put("cities", "oslo", &json!({"name": "Oslo", "population": 709_037}))?;
//! replica.update("cities", "oslo", &json!({"population": 717_710}))?;
//! let oslo = replica.get("cities", "oslo")?.expect("it was put");
//! assert_eq!(json::view_to_json(&oslo)["population"], 717_710);
//!
//! replica.flush()?; // from here on it survives a power cut
//! replica.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! With [`Builder::schema`] the application founds a repository of its own and is alone; no runtime is started. With [`Builder::join`] it is
//! a replica like every other: commits go out and come in by themselves, on threads of its own. Where nobody is reached it goes on alone;
//! what it commits is kept in its folder and goes out later.
//!
//! What an edit survives: as soon as the call returns, every read of this replica shows it. Within the pause of [`Builder::capture`] it is
//! committed; then it survives the end of the process. After [`Replica::flush`] it survives a power cut. While an edit waits for its commit,
//! reads of its document show no newer edit of a peer.

mod blobs;
mod builder;
mod capture;
mod erasure;
mod founding;
mod online;
mod past;
mod pending;
mod watch;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, sync::mpsc};

use herdbook_model::{
    document::View,
    id::{RepositoryId, StateName, StateRoot},
    json,
    schema::Collection,
    value::{Key, Value},
    vector::{Range, VersionVector},
};
use herdbook_proto::cluster::Peer;
use serde_json::Value as Json;

pub use blobs::UploadError;
pub use builder::{Builder, CAPTURE, Error};
pub use past::{ApplyError, MergeOptions};
pub use watch::Event;

use self::{
    capture::{Capture, Core},
    online::Online,
};
use crate::{
    error::Error as RepositoryError,
    repository::{Committed, DocumentChange, DocumentEdit, FieldChange, LogEntry, Repository},
};

/// The fields of a document, by name.
pub type Fields = BTreeMap<Arc<str>, Value>;

/// An open replica. Shared between threads by reference or in an [`Arc`]; dropping it closes it.
///
/// The fields are dropped in this order: a last commit, then the node, which waits until the store is closed.
pub struct Replica {
    capture: Capture,
    core: Arc<Core>,
    online: Option<Online>,
    /// The folder, if the repository was founded there.
    founded: Option<PathBuf>,
}

/// How a replica stands to the others.
#[derive(Debug, Clone)]
pub struct Status {
    /// Commits here that the authority has not accepted, as far as is known here; 0 where this replica is its own authority.
    pub unaccepted: u64,
    /// The members of the repository; none where nobody was joined or the replica was opened without [`Builder::join`].
    pub peers: Vec<Peer>,
}

/// A field by name, and what it is to hold; `None`: nothing.
type Named = (Arc<str>, Option<Value>);

impl Replica {
    /// Returns settings to open the replica in `folder` with, which is made if absent.
    pub fn builder(folder: impl Into<PathBuf>) -> Builder {
        Builder::new(folder.into())
    }

    fn run(core: Arc<Core>, online: Option<Online>, founded: Option<PathBuf>) -> Result<Self, Error> {
        Ok(Self { capture: Capture::start(core.clone())?, core, online, founded })
    }

    /// Returns a document, `None` if there is none. Cost: a look into memory, at most the reads of one path of a tree.
    ///
    /// # Errors
    /// [`RepositoryError::Schema`] for an unknown collection, [`RepositoryError::BadKey`], [`RepositoryError::State`].
    pub fn get(&self, collection: &str, key: &str) -> Result<Option<View>, RepositoryError> {
        self.core.get(collection, &Key::new(key)?)
    }

    /// Returns at most `limit` documents in key order: those whose keys start with `prefix` and come after `after`.
    ///
    /// # Errors
    /// As [`Replica::get`].
    pub fn list(&self, collection: &str, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, View)>, RepositoryError> {
        self.core.list(collection, prefix, after, limit)
    }

    /// Makes a document hold exactly these fields, a JSON object, whether it existed or not.
    ///
    /// # Errors
    /// What does not fit the schema, and where; then nothing was done. Where [`Builder::capture`] is zero also the store's.
    pub fn put(&self, collection: &str, key: &str, fields: &Json) -> Result<(), RepositoryError> {
        let change = self.fields(collection, fields).map(|fields| DocumentChange::Put(present(fields)))?;
        self.make(collection, Key::new(key)?, change)
    }

    /// Makes a document, which must not exist.
    ///
    /// # Errors
    /// As [`Replica::put`], and [`RepositoryError::Exists`].
    pub fn create(&self, collection: &str, key: &str, fields: &Json) -> Result<(), RepositoryError> {
        let change = self.fields(collection, fields).map(|fields| DocumentChange::Create(present(fields)))?;
        self.make(collection, Key::new(key)?, change)
    }

    /// Changes some fields of a document, which must exist; `null` makes a field absent. A field in conflict is resolved by this.
    ///
    /// # Errors
    /// As [`Replica::put`], and [`RepositoryError::UnknownDocument`].
    pub fn update(&self, collection: &str, key: &str, changes: &Json) -> Result<(), RepositoryError> {
        let change = |(name, value): (_, Option<Value>)| (name, value.map_or(FieldChange::Clear, FieldChange::Set));
        let changes = self.fields(collection, changes)?.into_iter().map(change).collect();
        self.make(collection, Key::new(key)?, DocumentChange::Update(changes))
    }

    /// Deletes a document, which must exist.
    ///
    /// # Errors
    /// [`RepositoryError::UnknownDocument`] and those of [`Replica::get`].
    pub fn delete(&self, collection: &str, key: &str) -> Result<(), RepositoryError> {
        self.make(collection, Key::new(key)?, DocumentChange::Delete)
    }

    /// Changes a document by a function of its fields; where there is none, of no fields, and it is made.
    ///
    /// What the function changed is edited, field by field, element by element. It is called again where the document changed meanwhile.
    ///
    /// # Errors
    /// As [`Replica::put`].
    pub fn edit(&self, collection: &str, key: &str, mut change: impl FnMut(&mut Fields)) -> Result<(), RepositoryError> {
        let key = Key::new(key)?;
        loop {
            let seen = self.core.get(collection, &key)?;
            let mut after = seen.clone().unwrap_or_default();
            change(&mut after.fields);
            let change = match &seen {
                Some(before) => match capture::difference(before, &after) {
                    nothing if nothing.is_empty() => return Ok(()),
                    changes => DocumentChange::Update(changes),
                },
                None => DocumentChange::Create(after.fields.into_iter().collect()),
            };
            let edit = DocumentEdit { collection: collection.to_owned(), key: key.clone(), change };
            if self.core.gather(edit, Some(&seen))? {
                self.capture.edited();
                return Ok(());
            }
        }
    }

    /// Commits edits that stand together, all or none, at once and with a message. What was edited before is committed before.
    ///
    /// # Errors
    /// Why it could not be done; then nothing was.
    pub fn commit(&self, edits: Vec<DocumentEdit>, message: &str) -> Result<Committed, RepositoryError> {
        let committed = self.core.commit(edits, message)?;
        self.capture.edited();
        Ok(committed)
    }

    /// Returns the documents in conflict, as collection, key and what a reader sees: [`View::conflicts`] holds the siblings. An update of
    /// the field resolves it. Commits what waits before.
    ///
    /// # Errors
    /// [`RepositoryError::State`], and the store's.
    pub fn conflicts(&self) -> Result<Vec<(Arc<str>, Key, View)>, RepositoryError> {
        self.core.capture()?;
        let (repository, view) = (self.repository(), self.repository().view());
        let state = view.state(self.core.branch())?;
        let mut found = Vec::new();
        for collection in &state.schema().collections {
            for key in repository.conflicts(state, collection)? {
                let document = repository.get(state, collection.id, &key)?;
                let shown = document.map_or(Ok(None), |document| repository.view_of(state, collection, &document))?;
                found.extend(shown.map(|shown| (collection.name.clone(), key, shown)));
            }
        }
        Ok(found)
    }

    /// Returns the newest commits, at most `limit`, from the newest back. Commits what waits before.
    ///
    /// # Errors
    /// The store's.
    pub fn log(&self, limit: usize) -> Result<Vec<LogEntry>, RepositoryError> {
        self.core.capture()?;
        let view = self.repository().view();
        self.repository().log(view.state(self.core.branch())?.branch(), None, limit)
    }

    /// Returns the newest commits that touched a document, at most `limit`, from the newest back. Commits what waits before.
    ///
    /// # Errors
    /// As [`Replica::get`], and the store's.
    pub fn log_of(&self, collection: &str, key: &str, limit: usize) -> Result<Vec<LogEntry>, RepositoryError> {
        self.core.capture()?;
        let view = self.repository().view();
        let state = view.state(self.core.branch())?;
        let collection = state.schema().collection(collection)?.id;
        self.repository().log_of_document(state.branch(), collection, &Key::new(key)?, None, limit)
    }

    /// Returns the name of the state: equal on two replicas that know the same commits. Commits what waits before.
    ///
    /// # Errors
    /// [`RepositoryError::NoSchema`], and the store's.
    pub fn state(&self) -> Result<StateName, RepositoryError> {
        self.core.capture()?;
        Ok(self.repository().view().state(self.core.branch())?.name())
    }

    /// Returns the root of the state: equal where the documents are. Commits what waits before. Cost: folding what lies above the trees.
    ///
    /// # Errors
    /// As [`Replica::state`].
    pub fn root(&self) -> Result<StateRoot, RepositoryError> {
        self.core.capture()?;
        self.repository().root(self.repository().view().state(self.core.branch())?)
    }

    /// Returns a channel that tells what becomes visible from here on, own commits included, until the replica is closed.
    ///
    /// # Errors
    /// [`RepositoryError::NoSchema`], [`Error::Thread`].
    pub fn watch(&self) -> Result<mpsc::Receiver<Event>, Error> {
        let branch = self.repository().view().state(self.core.branch())?.branch().clone();
        watch::watch(self.repository(), branch)
    }

    /// Returns when everything edited so far is committed and survives a power cut.
    ///
    /// # Errors
    /// The store's, and then nothing new is promised; or why an edit, checked when it was made, could not be committed after all. Each such
    /// edit is told once, and no longer shown.
    pub fn flush(&self) -> Result<(), RepositoryError> {
        self.core.flush()
    }

    /// Returns how the replica stands to the others.
    ///
    /// # Errors
    /// [`RepositoryError::Stopped`] where the node does not answer, and those of reading.
    pub fn status(&self) -> Result<Status, RepositoryError> {
        let Some(online) = &self.online else { return Ok(Status { unaccepted: self.unaccepted()?, peers: Vec::new() }) };
        Ok(Status { unaccepted: self.unaccepted()?, peers: online.peers()? })
    }

    /// Takes the replica off the network or back. Of no effect where nobody was joined.
    ///
    /// # Errors
    /// [`RepositoryError::Stopped`] where the node does not answer.
    pub fn set_online(&self, is_online: bool) -> Result<(), RepositoryError> {
        self.online.as_ref().map_or(Ok(()), |online| online.set_online(is_online))
    }

    /// Returns the repository's id.
    pub fn id(&self) -> RepositoryId {
        self.repository().id()
    }

    /// Returns the repository below, for what is not said here. It must be let go before the replica is closed.
    pub fn repository(&self) -> &Repository {
        &self.core.repository
    }

    /// Commits what waits, makes it durable, and closes the store. Dropping a replica does the same but tells nothing.
    ///
    /// # Errors
    /// As [`Replica::flush`]; it is closed all the same.
    pub fn close(self) -> Result<(), RepositoryError> {
        self.flush()
    }

    fn make(&self, collection: &str, key: Key, change: DocumentChange) -> Result<(), RepositoryError> {
        self.core.gather(DocumentEdit { collection: collection.to_owned(), key, change }, None)?;
        self.capture.edited();
        Ok(())
    }

    fn fields(&self, collection: &str, fields: &Json) -> Result<Vec<Named>, RepositoryError> {
        let view = self.repository().view();
        let collection = view.state(self.core.branch())?.schema().collection(collection)?;
        let named = |collection: &Collection, (id, value)| Ok((collection.by_id(id)?.name.clone(), value));
        json::fields_from_json(collection, fields)?.into_iter().map(|field| named(collection, field)).collect()
    }

    fn unaccepted(&self) -> Result<u64, RepositoryError> {
        let (repository, view) = (self.repository(), self.repository().view());
        let own = view.log.members().get(&repository.replica());
        if own.is_some_and(|member| member.role == herdbook_model::authority::Role::Coordinator) {
            return Ok(0);
        }
        let state = view.state(self.core.branch())?;
        let mut accepted = VersionVector::default();
        for head in view.log.branch(state.branch()).iter().flat_map(|branch| &branch.heads) {
            if let Some(meta) = repository.meta(head)? {
                accepted.merge(&meta.vector);
            }
        }
        Ok(accepted.missing_from(state.frontier().vector()).iter().map(Range::len).sum())
    }
}

fn present(fields: Vec<(Arc<str>, Option<Value>)>) -> Vec<(Arc<str>, Value)> {
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
