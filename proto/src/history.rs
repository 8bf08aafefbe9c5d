//! Questions about how a state came to be, and requests that take back or decide.

use std::sync::Arc;

use bytes::Bytes;
use herdbook_model::{
    authority::{Position, Void},
    id::{BranchName, CommitId, Leaf, ReplicaId, RepositoryId, RequestKey, SchemaId, SessionId, StateName},
    schema::{Deletes, Policy},
    time::Time,
    value::{Key, Value},
};

use crate::{
    ack::{Ack, Wait},
    document::{At, Document, Name, Place},
    edit::{Edit, Precondition},
};

/// Asks for commits, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Whose commits: those of this state.
    pub place: Place,
    /// Only commits that touched this collection.
    pub collection: Option<Arc<str>>,
    /// Only commits that touched this document of the collection.
    pub key: Option<Key>,
    /// Only commits of this session.
    pub session: Option<SessionId>,
    /// Only commits of sessions of this replica.
    pub replica: Option<ReplicaId>,
    /// Only commits of this time or later, in milliseconds since 1970; 0: all.
    pub since_millis: u64,
    /// Only commits up to the end of this millisecond since 1970.
    pub until_millis: Option<u64>,
    /// Most commits in the page.
    pub page_size: u32,
    /// Where the page before ended; empty: the first page.
    pub page_token: Bytes,
}

impl Log {
    /// Returns a question for all commits of the state at `place`, in pages of the usual size.
    pub const fn of(place: Place) -> Self {
        Self {
            place,
            collection: None,
            key: None,
            session: None,
            replica: None,
            since_millis: 0,
            until_millis: None,
            page_size: crate::limits::PAGE_DEFAULT,
            page_token: Bytes::new(),
        }
    }
}

/// A page of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commits {
    /// Commits, newest first.
    pub commits: Vec<Summary>,
    /// Token of the next page; empty: this was the last.
    pub next: Bytes,
}

/// A commit without its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub id: CommitId,
    /// Its branch.
    pub branch: BranchName,
    /// The schema of its branch.
    pub schema: SchemaId,
    /// Commits it follows.
    pub parents: Vec<CommitId>,
    /// The session that signed it.
    pub session: SessionId,
    /// The replica whose session that is, if known.
    pub replica: Option<ReplicaId>,
    /// Its place on its chain, from 1.
    pub counter: u64,
    /// When it was made.
    pub time: Time,
    /// What its author says about it.
    pub message: String,
    /// How many requests it has.
    pub requests: u32,
    /// The entry that accepted it, if one is known.
    pub accepted: Option<Position>,
    /// Which of its requests were voided.
    pub voided: Vec<Void>,
}

/// Asks for one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Show {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The commit.
    pub commit: CommitId,
}

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its header.
    pub commit: Summary,
    /// What was asked for, in order.
    pub requests: Vec<ShownRequest>,
    /// How many requests were left out at the end.
    pub left_out: u32,
}

/// A request of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRequest {
    /// Its place in the commit, from 0.
    pub place: u32,
    /// What became of it.
    pub fate: Fate,
    /// Its body, if it is here.
    pub body: Option<Body>,
    /// The documents that a request without body touched, `collection/key`, as far as the index remembers.
    pub documents: Vec<String>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// States show it.
    Stands,
    /// The authority refused it.
    Voided {
        /// Why.
        reason: String,
    },
    /// Nobody had it when the authority was restored.
    Lost,
    /// Its body is not here.
    Absent,
}

/// What a request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Its idempotency key.
    pub key: RequestKey,
    /// Who asked; empty: the replica itself.
    pub principal: String,
    /// What had to hold.
    pub preconditions: Vec<Precondition>,
    /// Its edits by collection, in order.
    pub edits: Vec<Edit>,
}

/// Asks how two states differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The earlier state.
    pub from: At,
    /// The later state.
    pub to: At,
    /// Only this collection.
    pub collection: Option<Arc<str>>,
    /// What keys begin with.
    pub prefix: String,
}

/// How a document differs between two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: Name,
    /// What there is on which side.
    pub sides: Sides,
}

/// Where a document that differs exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sides {
    /// In the later state only.
    Added(Document),
    /// In the earlier state only.
    Removed(Document),
    /// In both.
    Changed {
        /// In the earlier state.
        before: Document,
        /// In the later state.
        after: Document,
    },
}

/// Asks to take back what commits did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The branch; none: the promoted one.
    pub branch: Option<BranchName>,
    /// The commits; none: all that the rest leaves.
    pub commits: Vec<CommitId>,
    /// Only commits of this session.
    pub session: Option<SessionId>,
    /// Only commits that this state lacks.
    pub since: Option<At>,
    /// Only commits that this state has.
    pub until: Option<At>,
    /// Only edits of documents of this collection.
    pub collection: Option<Arc<str>>,
    /// Only edits of the document of this key in the collection.
    pub key: Option<Key>,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
    /// Idempotency key; none: the server makes one.
    pub request: Option<RequestKey>,
    /// What the author says about it; empty: the server names the commits.
    pub message: String,
    /// What to wait for.
    pub wait: Wait,
}

impl Revert {
    /// Returns a revert of commits of the promoted branch, durable where it is made.
    pub const fn of(commits: Vec<CommitId>) -> Self {
        Self {
            repository: None,
            branch: None,
            commits,
            session: None,
            since: None,
            until: None,
            collection: None,
            key: None,
            dry_run: false,
            request: None,
            message: String::new(),
            wait: Wait::DURABLE,
        }
    }
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// Acknowledgement of the commit that takes it back; none: nothing was left to take back.
    pub ack: Option<Ack>,
    /// How many documents' edits were taken back, or would be.
    pub edits: u64,
    /// What stays as it is; the first of them.
    pub skipped: Vec<Skipped>,
    /// The commits that take it back, in order.
    pub commits: Vec<CommitId>,
    /// The documents of which edits were taken back; the first of them.
    pub documents: Vec<Name>,
    /// How many stay as they are, those not listed included.
    pub left: u64,
}

/// An edit that a revert leaves as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The document.
    pub name: Name,
    /// The field; none: the document as a whole.
    pub field: Option<Arc<str>>,
    /// Why, for people.
    pub reason: String,
}

/// Asks for documents in conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicts {
    /// Where to read.
    pub place: Place,
    /// Only this collection.
    pub collection: Option<Arc<str>>,
    /// Most documents in the page.
    pub page_size: u32,
    /// Where the page before ended; empty: the first page.
    pub page_token: Bytes,
}

/// A page of documents in conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflicted {
    /// Documents with their conflicts, by collection and key.
    pub documents: Vec<Document>,
    /// Token of the next page; empty: this was the last.
    pub next: Bytes,
    /// The state they were read from.
    pub state: StateName,
}

/// Asks what a document holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspect {
    /// Where to read.
    pub place: Place,
    /// Which document.
    pub name: Name,
}

/// What a document holds: which concurrent edits, and by which rule each field is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// The document as it is read; none: it is deleted.
    pub document: Option<Document>,
    /// The edits that keep it alive, oldest first.
    pub alive: Vec<Origin>,
    /// What is kept of each field.
    pub fields: Vec<Kept>,
    /// The newest edits of the document, oldest first: those that no other edit of it has seen. More than one were made apart from each other.
    pub newest: Vec<NewestEdit>,
    /// What comes of a delete against an edit made apart.
    pub deletes: Deletes,
}

/// An edit that no other edit of its document has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestEdit {
    /// Where it comes from.
    pub origin: Origin,
    /// What it did.
    pub edit: Edit,
}

/// Where something comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The commit.
    pub commit: CommitId,
    /// Its time.
    pub time: Time,
    /// The session that signed it.
    pub session: SessionId,
    /// The replica whose session that is, if known.
    pub replica: Option<ReplicaId>,
}

/// What is kept of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Name of the field.
    pub field: Arc<str>,
    /// The rule by which it merges.
    pub policy: Policy,
    /// What was written and not yet overwritten by an edit that saw it.
    pub values: Vec<KeptValue>,
}

/// Something that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptValue {
    /// The value, or the element of the set; none: the edit cleared the field.
    pub value: Option<Value>,
    /// Key of the map's entry; empty for other fields.
    pub entry: String,
    /// Who wrote it.
    pub origin: Origin,
    /// Whether a plain read shows it.
    pub shown: bool,
}

/// Asks to resolve the conflict of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The branch; none: the promoted one.
    pub branch: Option<BranchName>,
    /// The document.
    pub name: Name,
    /// The field.
    pub field: Arc<str>,
    /// What it becomes.
    pub choice: Choice,
    /// Idempotency key; none: the server makes one.
    pub request: Option<RequestKey>,
    /// What the author says about it; empty: the server names document and field.
    pub message: String,
    /// What to wait for.
    pub wait: Wait,
}

/// How a conflict is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The field becomes this.
    Value {
        /// The value.
        value: Value,
        /// The document's version that the caller decided on; none: whatever the server sees.
        version: Option<Leaf>,
    },
    /// The field becomes absent.
    Clear {
        /// The document's version that the caller decided on; none: whatever the server sees.
        version: Option<Leaf>,
    },
    /// The field becomes one of its siblings.
    Sibling {
        /// Its place, from 0, in the order of [`Conflict::siblings`](crate::document::Conflict::siblings).
        place: u32,
        /// The document's version that has these siblings.
        version: Leaf,
    },
}
