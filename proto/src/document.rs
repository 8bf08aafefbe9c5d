//! Documents as readers see them, and the states they are read from.

use std::{collections::BTreeMap, fmt, sync::Arc};

use herdbook_model::{
    id::{BranchName, CommitId, Leaf, RepositoryId, SessionId, StateName},
    time::Time,
    value::{Key, Value},
};

/// Names a document within a repository.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Its collection; not empty.
    pub collection: Arc<str>,
    /// Its key.
    pub key: Key,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.collection, self.key)
    }
}

/// A document as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name.
    pub name: Name,
    /// Name of field → value; absent fields without default do not occur.
    pub fields: BTreeMap<Arc<str>, Value>,
    /// Hash of what is stored of it: what a precondition compares.
    pub version: Leaf,
    /// Fields in conflict.
    pub conflicts: Vec<Conflict>,
    /// Deletes that edits stand against, where that is a conflict; without value.
    pub deletes: Vec<Sibling>,
}

/// A stored conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Name of the field.
    pub field: Arc<str>,
    /// Keys of entries, or positions of items, that lead to it inside the field; empty: the field itself.
    pub path: Vec<Arc<str>>,
    /// Its siblings, oldest first; a plain read shows the last.
    pub siblings: Vec<Sibling>,
}

/// One of several concurrent values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling {
    /// The value; none: the edit cleared the field.
    pub value: Option<Value>,
    /// The commit that wrote it.
    pub commit: CommitId,
    /// Time of that commit.
    pub time: Time,
    /// The session that signed it.
    pub session: SessionId,
}

/// A state to read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// The newest state of a branch; none: of the promoted one.
    Branch(Option<BranchName>),
    /// The state of a commit and its ancestors.
    Commit(CommitId),
    /// The state of a branch at a time: its commits up to and including that millisecond.
    Time {
        /// The branch; none: the promoted one.
        branch: Option<BranchName>,
        /// Milliseconds since 1970.
        millis: u64,
    },
    /// The state of a name that an earlier answer gave.
    State(StateName),
}

impl At {
    /// The newest state of the promoted branch.
    pub const NEWEST: Self = Self::Branch(None);
}

/// Where to read: a state of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The state.
    pub at: At,
}

impl Place {
    /// The newest state of the promoted branch of the one repository that the server holds.
    pub const NEWEST: Self = Self { repository: None, at: At::NEWEST };
}
