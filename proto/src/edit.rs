//! Edits and writes by names, as callers know them; the replica turns them into operations on numbered fields.

use std::sync::Arc;

use herdbook_model::{
    id::{BranchName, RepositoryId, RequestKey},
    request::Must,
    value::Value,
};

use crate::{
    ack::{Ack, Wait},
    document::Name,
    status::Failed,
};

/// Names of fields and their values, each name once, sorted.
pub type Fields = Vec<(Arc<str>, Value)>;

/// What is done to one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Which document.
    pub name: Name,
    /// What is done.
    pub operation: Operation,
}

/// What is done to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Brings it into being; it must not exist.
    Create(Fields),
    /// Changes fields, each once, sorted by name; it must exist.
    Update(Vec<(Arc<str>, Change)>),
    /// Makes it be exactly this, whether it exists or not.
    Put(Fields),
    /// Deletes it; it must exist.
    Delete,
}

/// What is done to a field, or to an entry of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It becomes this. What merges by its parts changes by what differs.
    Set(Value),
    /// It becomes absent; a counter begins anew.
    Clear,
    /// Elements are added to and removed from a set. Each list is sorted; they have no element in common.
    Elements {
        /// What is added.
        add: Vec<Value>,
        /// What is removed.
        remove: Vec<Value>,
    },
    /// Entries are put into and removed from a map. Each list is sorted by key; they have no key in common.
    Entries {
        /// What is put.
        put: Vec<(Arc<str>, Value)>,
        /// What is removed.
        remove: Vec<Arc<str>>,
    },
    /// A counter counts on.
    Count {
        /// Whether it begins anew before that.
        reset: bool,
        /// What is added.
        add: i64,
    },
    /// Parts of a text are replaced.
    Text(Vec<TextSplice>),
    /// Parts of a list are replaced, or items move.
    List(Vec<ListSplice>),
    /// Entries of a map change inside, each once, sorted by key.
    Within(Vec<(Arc<str>, Self)>),
}

/// Replaces a part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSplice {
    /// Position in Unicode scalar values; none in answers about stored edits, which name characters by id.
    pub at: Option<u64>,
    /// How many are removed.
    pub removed: u64,
    /// What is inserted.
    pub inserted: Arc<str>,
}

/// Changes a part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListSplice {
    /// Position; none in answers about stored edits, which name items by id.
    pub at: Option<u64>,
    /// What happens there.
    pub change: ListChange,
}

/// What happens at a position of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListChange {
    /// Items are replaced by others.
    Items {
        /// How many are removed.
        removed: u64,
        /// What is inserted.
        inserted: Vec<Value>,
    },
    /// The item gets another value.
    Set(Value),
    /// The item moves to where the one at this position stands.
    MoveTo(u64),
}

impl Change {
    /// Whether every splice says where.
    pub(crate) fn has_positions(&self) -> bool {
        match self {
            Self::Text(splices) => splices.iter().all(|splice| splice.at.is_some()),
            Self::List(splices) => splices.iter().all(|splice| splice.at.is_some()),
            Self::Within(changes) => changes.iter().all(|(_, change)| change.has_positions()),
            _ => true,
        }
    }
}

/// What must hold of a document before a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Which document.
    pub name: Name,
    /// What must hold.
    pub must: Must,
}

/// A write: all of its edits, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The branch; none: the promoted one.
    pub branch: Option<BranchName>,
    /// Idempotency key; none: the server makes one, and a retry may write twice.
    pub request: Option<RequestKey>,
    /// What the author says about it.
    pub message: String,
    /// Edits in order.
    pub edits: Vec<Edit>,
    /// What must hold before the first edit.
    pub preconditions: Vec<Precondition>,
    /// What to wait for.
    pub wait: Wait,
}

impl Write {
    /// Returns a write of `edits` to the promoted branch of the one repository that the server holds, durable there.
    pub const fn new(request: RequestKey, edits: Vec<Edit>) -> Self {
        Self {
            repository: None,
            branch: None,
            request: Some(request),
            message: String::new(),
            edits,
            preconditions: Vec::new(),
            wait: Wait::DURABLE,
        }
    }
}

/// How one write of a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which write of the stream, from 0.
    pub index: u64,
    /// What is true of it, or why nothing of it was written.
    pub result: Result<Ack, Failed>,
}
