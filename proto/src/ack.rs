//! What to wait for, and what is true of a commit when it is acknowledged: three independent parts, none implied by another.

use std::time::Duration;

use herdbook_model::{
    authority::Position,
    id::{BranchName, CommitId, ReplicaId, StateName},
};

/// How safely one replica holds a commit. Rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// In memory: lost if the process ends.
    Memory,
    /// Handed to the operating system: survives the end of the process, not that of the machine.
    Process,
    /// On the disk, synced: survives a power cut.
    Durable,
}

/// On what a request's preconditions were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// On the state of the replica that answered.
    Local,
    /// On the accepted state, by the authority.
    Accepted,
}

/// What to wait for before a request is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// How safely the answering replica must hold it.
    pub local: Level,
    /// Whether the authority must have accepted it.
    pub accepted: bool,
    /// How many replicas must hold it durably, the answering one included if it does.
    pub copies: u32,
    /// Longest wait; none: as long as the call's deadline allows.
    pub timeout: Option<Duration>,
}

impl Wait {
    /// Until the answering replica holds it durably: what a request waits for that says nothing.
    pub const DURABLE: Self = Self { local: Level::Durable, accepted: false, copies: 0, timeout: None };
}

/// What is true of a request when it is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The commit it went into.
    pub commit: CommitId,
    /// Its place in it, from 0.
    pub request: u32,
    /// The branch.
    pub branch: BranchName,
    /// The first state here that has the commit.
    pub state: StateName,
    /// How safely the answering replica holds it.
    pub local: Level,
    /// The entry that accepted it, if one is known.
    pub accepted: Option<Position>,
    /// Replicas known to hold it durably, sorted.
    pub copies: Vec<ReplicaId>,
    /// On what its preconditions were checked.
    pub condition: Condition,
    /// Whether it was known by its idempotency key, so that nothing was written now.
    pub repeated: bool,
}
