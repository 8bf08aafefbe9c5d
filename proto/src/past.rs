//! Questions about single documents and stretches of history: blame and playback.

use std::sync::Arc;

use herdbook_model::{
    id::{CommitId, RepositoryId, SessionId},
    value::Value,
};

use crate::{
    document::{At, Name, Place},
    history::{Difference, Summary},
};

/// Asks which commits a document is owed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// Where to read.
    pub place: Place,
    /// Which document.
    pub name: Name,
    /// Only this field.
    pub field: Option<Arc<str>>,
}

/// Which commits a document is owed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blamed {
    /// Its parts, by field in the order of the schema.
    pub parts: Vec<Part>,
    /// The commits that they name, each once, newest first.
    pub commits: Vec<Summary>,
}

/// A part of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of its field.
    pub field: Arc<str>,
    /// Keys of entries, positions of items, or where a stretch of a text begins.
    pub path: Vec<Arc<str>>,
    /// What stands there; none: a clear, beside a sibling.
    pub value: Option<Value>,
    /// The commit that wrote it; none: not here.
    pub commit: Option<CommitId>,
    /// Place of the request in the commit.
    pub request: u32,
    /// Whether a plain read shows it.
    pub shown: bool,
}

/// Asks for what lies between two states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playback {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The earlier state.
    pub from: At,
    /// The later state.
    pub to: At,
    /// Only what documents of this collection went through.
    pub collection: Option<Arc<str>>,
    /// What keys begin with.
    pub prefix: String,
    /// Only commits of this session.
    pub session: Option<SessionId>,
}

/// A commit, played back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Played {
    /// The commit.
    pub commit: Summary,
    /// What it changed for a reader.
    pub differences: Vec<Difference>,
    /// How many differences did not fit.
    pub left_out: u64,
    /// How many commits were played so far.
    pub played: u64,
}
