//! Merges of one branch into another, as somebody asks for them.

use std::sync::Arc;

use herdbook_model::{
    id::{BranchName, RepositoryId, RequestKey},
    merge::Side,
};

use crate::{
    ack::{Ack, Wait},
    document::{At, Document},
};

/// Asks to merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The branch that takes in; none: the promoted one.
    pub branch: Option<BranchName>,
    /// The state that is taken in.
    pub from: At,
    /// Who decides where both wrote and no rule says otherwise; none: policies alone.
    pub side: Option<Side>,
    /// Exceptions; the first that fits counts.
    pub rules: Vec<Rule>,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
    /// Idempotency key; none: the server makes one.
    pub request: Option<RequestKey>,
    /// What the author says about it; empty: the server names the branches.
    pub message: String,
    /// What to wait for.
    pub wait: Wait,
}

/// Who decides at some places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// In documents of this collection; none: of all.
    pub collection: Option<Arc<str>>,
    /// In documents whose keys begin so.
    pub prefix: String,
    /// In this field; none: in all, and whether a document is deleted.
    pub field: Option<Arc<str>>,
    /// Who decides; none: nobody.
    pub side: Option<Side>,
}

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Acknowledgement of the commit; none: there was nothing to take in, or it was a dry run.
    pub ack: Option<Ack>,
    /// How many commits it takes in.
    pub commits: u64,
    /// How many documents a side decided something of.
    pub decided: u64,
    /// How many documents that the commits touch are in conflict afterwards.
    pub conflicts: u64,
    /// Some of those documents.
    pub conflicted: Vec<Document>,
}
