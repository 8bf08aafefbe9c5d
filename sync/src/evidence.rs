//! What an exchange found that an honest peer or author would not have sent. It is kept, never stored as data.

use herdbook_model::{
    authority::{BadCertificate, Entry, Position},
    chunk, codec,
    commit::{self, Commit},
    graph,
    id::{BranchName, ChunkId, CommitId, SessionId, StateRoot},
};

/// Something found out about a peer, a session or the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The peer sent a commit that cannot be. Says nothing about the author unless its signature holds.
    Commit {
        /// The commit.
        commit: CommitId,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A session signed two commits of one place: proof against its author.
    SessionFork {
        /// The commit known here.
        known: CommitId,
        /// The other one.
        other: Box<Commit>,
    },
    /// The authority signed two entries of one place in one epoch: proof against it.
    LogFork {
        /// The entry known here.
        known: Position,
        /// The other one; its signature holds.
        other: Box<Entry>,
    },
    /// The peer sent a chunk that is not what was asked for.
    Chunk {
        /// The name it came under.
        id: ChunkId,
        /// What is wrong with its bytes; `None` if nobody asked for it.
        fault: Option<chunk::Error>,
    },
}

/// What is wrong with a commit that a peer sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is of another repository.
    #[error("it belongs to another repository")]
    OtherRepository,
    /// Its signature, or its requests against its leaves.
    #[error(transparent)]
    Commit(#[from] commit::Error),
    /// A request's bytes are no request.
    #[error("request {request} does not decode")]
    Request {
        /// Which request.
        request: usize,
        /// Why.
        source: codec::Error,
    },
    /// A link of it breaks a rule.
    #[error(transparent)]
    Link(#[from] graph::Refusal),
    /// The certificate of its session does not hold.
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    /// Its session has no certificate, or came with another session's.
    #[error("session {session:?} came without its certificate")]
    NoCertificate {
        /// The session.
        session: SessionId,
    },
}

/// Two nodes computed different roots of one state: a fault in one of them, never in a peer's data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("branch `{branch}`: this node has root {ours:?}, its peer {theirs:?}, of one state")]
pub struct Diverged {
    /// The branch.
    pub branch: BranchName,
    /// This node's root.
    pub ours: StateRoot,
    /// The peer's.
    pub theirs: StateRoot,
}
