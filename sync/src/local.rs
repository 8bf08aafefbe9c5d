//! What an exchange sees of its node. The exchange only reads: what it received leaves as outputs, and the node stays its own writer.
//!
//! Law: what is shown here survives a crash of this node. An exchange repeats it to peers, who count on it.

use std::sync::Arc;

use herdbook_model::{
    authority::{Entry, Log, SessionCertificate},
    chunk::Verified,
    graph::Graph,
    id::{BranchName, ChainId, ChunkId, CommitId, SessionId},
    tree::Nodes,
    vector::VersionVector,
};

use crate::message::{Enrolment, Offer, Parcel, RootOf};

/// What a node holds, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Hash over the frontiers of all branches; see [`crate::summary::digest`].
    pub digest: [u8; 32],
    /// The set of the commits that it names, whatever their branch.
    pub vector: Arc<VersionVector>,
}

/// A node as its exchanges see it: the graph of its commits, the nodes of its trees, its head log, and the following.
pub trait Local: Graph + Nodes {
    /// Returns the verified head log.
    fn log(&self) -> Arc<Log>;

    /// Returns head-log entries from `first` on, in order: at least one if there is one, then as many as fit into `bytes`.
    ///
    /// # Errors
    /// If they cannot be read.
    fn entries(&self, first: u64, bytes: usize) -> Result<Vec<Entry>, Self::Error>;

    /// Returns this node's own enrolment, `None` before it has one.
    fn enrolment(&self) -> Option<Enrolment>;

    /// Returns what is here now. Digest and vector tell of the same commits: a peer with an equal digest holds all of that vector, and
    /// nothing is said of what came a moment later.
    fn held(&self) -> Held;

    /// Returns the set of all commits here, whatever their branch.
    fn vector(&self) -> Arc<VersionVector> {
        self.held().vector
    }

    /// Returns a commit as it travels, without its session's certificate; `None` if it is not here.
    ///
    /// Cost: one read of the commit and its requests, checked against their leaves: a damaged request comes as absent.
    ///
    /// # Errors
    /// If it cannot be read.
    fn parcel(&self, commit: &CommitId) -> Result<Option<Parcel>, Self::Error>;

    /// Returns the certificate of a session, `None` if it is not here.
    ///
    /// # Errors
    /// If it cannot be read.
    fn certificate(&self, session: &SessionId) -> Result<Option<SessionCertificate>, Self::Error>;

    /// Whether requests of a commit that is here are absent.
    ///
    /// # Errors
    /// If it cannot be read.
    fn lacks_requests(&self, commit: &CommitId) -> Result<bool, Self::Error>;

    /// Whether the edits of a commit of `branch` at this place may be gone everywhere, since a horizon covers it: then it is taken without them.
    ///
    /// # Errors
    /// If it cannot be read.
    fn may_lack(&self, branch: &BranchName, chain: &ChainId, counter: u64) -> Result<bool, Self::Error> {
        let _ = (branch, chain, counter);
        Ok(false)
    }

    /// Whether another exchange of this node asked for the commit and still expects it, so that a mesh sends a body once.
    fn is_coming(&self, chain: &ChainId, counter: u64) -> bool;

    /// Returns the roots that are at hand of the states of the branches' frontiers; computes none.
    ///
    /// # Errors
    /// If they cannot be read.
    fn roots(&self) -> Result<Vec<RootOf>, Self::Error>;

    /// Returns the states that a peer may fetch as they lie; all their chunks are here, and stay until the exchange ends.
    ///
    /// # Errors
    /// If they cannot be read.
    fn offers(&self) -> Result<Vec<Offer>, Self::Error>;

    /// Returns a chunk of a tree, `None` if it is not here.
    ///
    /// # Errors
    /// If it cannot be read.
    fn chunk(&self, id: &ChunkId) -> Result<Option<Verified>, Self::Error>;

    /// Returns which of these chunks are not here with all below them, in the order given. What is not among them stays here until what is
    /// fetched is handed on.
    ///
    /// # Errors
    /// If that cannot be told.
    fn absent(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Self::Error>;
}
