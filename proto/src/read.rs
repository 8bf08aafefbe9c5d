//! Reads of documents, and what they return.

use std::sync::Arc;

use bytes::Bytes;
use herdbook_model::{
    authority::Void,
    id::{BranchName, CommitId, RepositoryId, StateName},
    value::Key,
};

use crate::{
    document::{Document, Name, Place},
    status::Failed,
};

/// Asks for one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Where to read.
    pub place: Place,
    /// Which document.
    pub name: Name,
}

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The document.
    pub document: Document,
    /// The state it was read from.
    pub state: StateName,
}

/// How one question of a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Which question of the stream, from 0.
    pub index: u64,
    /// The document, or why it was not read; [`Kind::NotFound`](crate::status::Kind::NotFound) if there is none.
    pub result: Result<Got, Failed>,
}

/// Asks for documents of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchGet {
    /// Where to read.
    pub place: Place,
    /// Which documents.
    pub names: Vec<Name>,
}

/// Documents of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Those that exist, in the order asked for.
    pub documents: Vec<Document>,
    /// Those that do not exist.
    pub missing: Vec<Name>,
    /// Those that exist and no longer fit in the answer.
    pub left_out: Vec<Name>,
    /// The state they were read from.
    pub state: StateName,
}

/// Asks for a page of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Where to read; a token's own state goes first.
    pub place: Place,
    /// The collection.
    pub collection: Arc<str>,
    /// What keys begin with.
    pub prefix: String,
    /// Most documents in the page.
    pub page_size: u32,
    /// Where the page before ended; empty: the first page.
    pub page_token: Bytes,
    /// Whether keys alone are wanted.
    pub keys_only: bool,
}

/// A page of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Documents by key; none if keys alone were wanted.
    pub documents: Vec<Document>,
    /// Keys in order; only if keys alone were wanted.
    pub keys: Vec<Key>,
    /// Token of the next page; empty: this was the last.
    pub next: Bytes,
    /// The state they were read from.
    pub state: StateName,
}

/// Asks how many documents there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    /// Where to count.
    pub place: Place,
    /// The collection.
    pub collection: Arc<str>,
    /// What keys begin with.
    pub prefix: String,
}

/// How many documents there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Documents.
    pub documents: u64,
    /// The state they were counted in.
    pub state: StateName,
}

/// Asks for what changes on a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The branch; none: the promoted one.
    pub branch: Option<BranchName>,
    /// The collection; none: all.
    pub collection: Option<Arc<str>>,
    /// What keys begin with.
    pub prefix: String,
    /// After which state it begins.
    pub start: Start,
}

/// After which state a watch begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The newest one.
    Now,
    /// Where an earlier watch was left.
    Token(Bytes),
    /// The one of this name.
    State(StateName),
}

/// What changed from one state to a later one, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What changed, by collection and key; none: only a sign of life.
    pub events: Vec<Event>,
    /// Resumes the watch after this step; empty: more of the same step follows.
    pub resume_token: Bytes,
    /// The later state.
    pub state: StateName,
}

/// A document that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// How.
    pub change: EventChange,
    /// Commits of this step that touched it.
    pub commits: Vec<CommitId>,
    /// Requests voided in this step that had touched it.
    pub voided: Vec<Void>,
}

/// How a document changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventChange {
    /// It is now this.
    Put(Document),
    /// It no longer exists.
    Delete(Name),
}
