//! Edits and writes by names, as callers know them; the replica turns them into operations on numbered fields.

use std::sync::Arc;

use herdbook_model::{
    id::{BranchName, RepositoryId, RequestKey},
    request::Must,
    value::{Scalar, Value},
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

/// What is done to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It becomes this. Sets and maps change by what differs.
    Set(Value),
    /// It becomes absent.
    Clear,
    /// Elements are added to and removed from a set. Each list is sorted; they have no element in common.
    Elements {
        /// What is added.
        add: Vec<Scalar>,
        /// What is removed.
        remove: Vec<Scalar>,
    },
    /// Entries are put into and removed from a map. Each list is sorted by key; they have no key in common.
    Entries {
        /// What is put.
        put: Vec<(Arc<str>, Scalar)>,
        /// What is removed.
        remove: Vec<Arc<str>>,
    },
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
