//! Who is in the cluster, what each member holds, and what the authority is asked to decide.

use std::{sync::Arc, time::Duration};

use herdbook_model::{
    SigningKey,
    authority::{Entry, Genesis, Lost, Position, Role, Status as BranchStatus, is_signed, sign},
    codec::Writer,
    id::{BranchName, CommitId, Domain, FrontierName, Judgement, ReplicaId, RepositoryId, SchemaId, SessionId, StateName, StateRoot},
    time::Time,
};

use crate::document::Name;

/// Asks to become a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The one-time token.
    pub token: String,
    /// The replica's public key.
    pub replica: ReplicaId,
    /// What people call it.
    pub name: String,
    /// Where others reach it; empty: nowhere.
    pub address: String,
    /// Its signature over all of that.
    pub signature: [u8; 64],
}

impl Join {
    /// Returns the request of the replica that holds `key`.
    pub fn sign(token: String, name: String, address: String, key: &SigningKey) -> Self {
        let replica = ReplicaId(key.verifying_key().to_bytes());
        let mut join = Self { token, replica, name, address, signature: [0; 64] };
        join.signature = sign(key, &join.challenge());
        join
    }

    /// Whether the sender holds the key of the replica it names.
    pub fn is_signed(&self) -> bool {
        is_signed(self.replica.as_bytes(), &self.challenge(), &self.signature)
    }

    fn challenge(&self) -> [u8; 32] {
        let mut out = Writer::default();
        ["join", &self.token, &self.name, &self.address].into_iter().for_each(|text| out.text(text));
        out.raw(self.replica.as_bytes());
        Domain::Possession.hash(&[out.as_bytes()])
    }
}

/// What a new member needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The genesis record; its hash is the repository's name.
    pub genesis: Genesis,
    /// The entry that opened the epoch in which the replica was enrolled.
    pub epoch: Entry,
    /// The entry that enrolled it.
    pub enrolment: Entry,
    /// Head-log entries from the first on, as many as fit.
    pub entries: Vec<Entry>,
    /// The members.
    pub peers: Vec<Peer>,
}

/// The newest state of a branch, as one member knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The branch.
    pub branch: BranchName,
    /// Its frontier, sorted.
    pub heads: Vec<CommitId>,
    /// Name of the frontier.
    pub frontier: FrontierName,
    /// What the state takes into account.
    pub judgement: Judgement,
    /// Name of the state.
    pub state: StateName,
    /// Root of the state, if it was computed.
    pub root: Option<StateRoot>,
    /// Heads of the accepted frontier, sorted.
    pub accepted_heads: Vec<CommitId>,
    /// The entry that accepted them.
    pub accepted: Option<Position>,
    /// Commits that this member has of the branch.
    pub commits: u64,
    /// Documents that exist.
    pub documents: u64,
    /// Documents in conflict.
    pub conflicts: u64,
}

/// A member, as another knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its public key.
    pub replica: ReplicaId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where it is reached; empty: not known.
    pub address: String,
    /// Whether an exchange with it is open.
    pub connected: bool,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Time since it was last heard; none: never.
    pub silent: Option<Duration>,
    /// Whether it said last that it holds what the answering member holds now.
    pub level: bool,
}

/// What a member is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It opens its store or fetches its first copy.
    Starting,
    /// It serves.
    Serving,
    /// It holds authority but lost its data, and restores it: reads only.
    Recovering,
    /// It saw proof of a fork: reads only.
    Frozen,
}

/// Everything about a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The repository.
    pub repository: RepositoryId,
    /// What people call the repository.
    pub repository_name: String,
    /// The member's public key.
    pub replica: ReplicaId,
    /// What people call the member.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The session that signs its commits now.
    pub session: SessionId,
    /// What it is doing.
    pub phase: Phase,
    /// Whether it takes part in exchanges.
    pub online: bool,
    /// The newest head-log entry it has.
    pub log: Option<Position>,
    /// The branch that callers get who name none.
    pub promoted: Option<BranchName>,
    /// The newest state of each branch, by branch.
    pub branches: Vec<Head>,
    /// Commits of its own that nobody is known to hold yet.
    pub outbox: u64,
    /// Commits that wait for their parents, or for the clock.
    pub quarantine: u64,
    /// Requests that were lost. Documents are `collection/key`.
    pub lost: Vec<Lost>,
    /// How far a restore has come; none: none is going on.
    pub recovery: Option<Recovery>,
    /// Bytes that the store takes on the disk.
    pub store_bytes: u64,
}

/// How far a restore has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Members that reported, sorted.
    pub reporters: Vec<ReplicaId>,
    /// How many must report before the coordinator opens by itself.
    pub needed: u32,
    /// How many members the longest valid log has.
    pub members: u32,
    /// Commits that are named by what was seen but have not come yet.
    pub missing_commits: u64,
}

/// Asks for a one-time token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateToken {
    /// What the new member may do.
    pub role: Role,
    /// How long the token is valid.
    pub lifetime: Duration,
}

impl CreateToken {
    /// How long a token is valid whose lifetime was left open.
    pub const LIFETIME: Duration = Duration::from_secs(3600);
}

/// A one-time token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The text to hand over.
    pub token: String,
    /// When it ends: milliseconds since 1970.
    pub expires_millis: u64,
}

/// Asks for a new schema branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartSchema {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// Name of the new branch; none: `main@` and the version of its schema.
    pub branch: Option<BranchName>,
    /// The branch it is migrated from; none: the promoted one for steps, none at all for a schema.
    pub from: Option<BranchName>,
    /// Its schema.
    pub definition: Definition,
    /// Only tell what would happen.
    pub dry_run: bool,
}

/// How a new branch gets its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// Steps from another branch's schema, as JSON (`model::json::steps_from_json`).
    Steps(String),
    /// A whole schema, as JSON (`model::json::schema_from_json`).
    Schema(String),
}

/// A new schema branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The branch.
    pub branch: Branch,
    /// Its schema, as JSON.
    pub schema_json: String,
    /// The entry that began it; none after a dry run.
    pub position: Option<Position>,
}

/// Asks for a branch that goes its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartBranch {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// Name of the new branch.
    pub branch: BranchName,
    /// The branch it begins from; none: the promoted one.
    pub from: Option<BranchName>,
    /// The accepted commit it begins at; none: all that is accepted.
    pub commit: Option<CommitId>,
}

/// A branch that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchStarted {
    /// The branch.
    pub branch: Branch,
    /// The entry that began it.
    pub position: Position,
}

/// Names a branch that something is to happen to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnBranch {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The branch.
    pub branch: BranchName,
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its name.
    pub name: BranchName,
    /// Its schema.
    pub schema: SchemaId,
    /// Version of its schema.
    pub version: u32,
    /// The branch it is migrated from, or began at.
    pub from: Option<BranchName>,
    /// Whether it takes commits.
    pub status: BranchStatus,
    /// Whether callers get it who name none.
    pub promoted: bool,
    /// Whether it began at `from` and goes its own way.
    pub apart: bool,
}

/// A branch with its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchSchema {
    /// The branch.
    pub branch: Branch,
    /// Its schema, as JSON.
    pub json: String,
}

/// What a restore came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reopened {
    /// The entry that closed it.
    pub position: Position,
    /// Members that had reported, sorted.
    pub reporters: Vec<ReplicaId>,
    /// Requests nobody has, sorted. Documents are `collection/key`.
    pub lost: Vec<Lost>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_holds_for_what_was_signed_only() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let join = Join::sign("token".to_owned(), "alice".to_owned(), "http://alice:7600".to_owned(), &key);
        assert!(join.is_signed());
        let other = ReplicaId(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes());
        for changed in [
            Join { token: "other".to_owned(), ..join.clone() },
            Join { name: "bob".to_owned(), ..join.clone() },
            Join { address: String::new(), ..join.clone() },
            Join { name: "alicehttp://alice:7600".to_owned(), address: String::new(), ..join.clone() },
            Join { replica: other, ..join },
        ] {
            assert!(!changed.is_signed(), "{changed:?}");
        }
    }
}

/// What a collection of garbage did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Chunks looked at.
    pub chunks: u64,
    /// Those that no state needs.
    pub removed: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
    /// Commits before a horizon whose edits went.
    pub commits: u64,
    /// Bytes of those edits.
    pub edit_bytes: u64,
    /// Sets of trees that somebody held meanwhile.
    pub pinned: u64,
    /// Bytes of the store's files before.
    pub disk_before: u64,
    /// Bytes of the store's files after.
    pub disk_after: u64,
    /// How long it took.
    pub took: Duration,
}

/// A wish for horizons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetHorizon {
    /// The branch; none: every branch that has commits by then.
    pub branch: Option<BranchName>,
    /// Accepted commits up to here are covered.
    pub before: Time,
    /// Whether it is only told what would be covered.
    pub dry_run: bool,
}

/// What a horizon covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    /// The branch.
    pub branch: BranchName,
    /// Heads of the state that stands for what is covered.
    pub heads: Vec<CommitId>,
    /// That state's root.
    pub root: StateRoot,
    /// Commits that are covered, with those of an earlier horizon.
    pub commits: u64,
    /// Time of the newest of them.
    pub time: Time,
    /// Documents of that state.
    pub documents: u64,
    /// The entry that set it; none after a dry run.
    pub position: Option<Position>,
}

/// A wish to erase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erase {
    /// The branch whose schema tells what can be erased; none: the promoted one.
    pub branch: Option<BranchName>,
    /// The document.
    pub name: Name,
    /// The field; none: every one that can be erased.
    pub field: Option<Arc<str>>,
    /// Whether it is only told what would go.
    pub dry_run: bool,
}

/// What an erasure did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// Values that the document ever had there, as far as is known.
    pub values: u64,
    /// Requests whose edits nobody keeps any more.
    pub requests: u64,
    /// Values of them that stay for now: in the state at a horizon until that is set anew, or beside other edits of one request.
    pub past: u64,
    /// The last entry that says so; none: there was nothing, or it was a dry run.
    pub position: Option<Position>,
}
