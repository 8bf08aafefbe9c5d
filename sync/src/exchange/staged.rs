//! Commits on their way into the store: verified and handed out, not yet seen there. The graph with them is the one to check against.

use std::collections::HashMap;

use herdbook_model::{
    authority::SessionCertificate,
    commit::Commit,
    graph::{Graph, Meta},
    id::{ChainId, CommitId, Leaf},
    request::Sealed,
};

/// A commit that was received and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The commit; its signature holds.
    pub commit: Commit,
    /// What the graph keeps of it.
    pub meta: Meta,
    /// Certificate of its session, if it came with this commit; its signature holds.
    pub certificate: Option<SessionCertificate>,
    /// Its requests in order; they match its leaves.
    pub requests: Vec<Received>,
}

/// A request that was received and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The request.
    Present(Sealed),
    /// Nobody who was asked has it.
    Absent {
        /// Its leaf.
        leaf: Leaf,
        /// The documents it touched, `collection/key`, if a peer's index remembers.
        documents: Vec<String>,
    },
}

/// Commits handed out and not yet seen in the store. Bounded by the credit given.
#[derive(Debug, Default)]
pub(super) struct Staged {
    metas: HashMap<CommitId, Meta>,
    places: HashMap<(ChainId, u64), CommitId>,
}

impl Staged {
    pub(super) fn insert(&mut self, id: CommitId, meta: Meta) {
        self.places.insert((meta.chain, meta.counter), id);
        self.metas.insert(id, meta);
    }

    pub(super) fn remove(&mut self, id: &CommitId) {
        if let Some(meta) = self.metas.remove(id) {
            self.places.remove(&(meta.chain, meta.counter));
        }
    }
}

/// The graph of the store with what is staged.
pub(super) struct Overlay<'a, L> {
    pub(super) local: &'a L,
    pub(super) staged: &'a Staged,
}

impl<L: Graph> Graph for Overlay<'_, L> {
    type Error = L::Error;

    fn meta(&self, commit: &CommitId) -> Result<Option<Meta>, L::Error> {
        match self.staged.metas.get(commit) {
            Some(meta) => Ok(Some(meta.clone())),
            None => self.local.meta(commit),
        }
    }

    fn at(&self, chain: &ChainId, counter: u64) -> Result<Option<CommitId>, L::Error> {
        match self.staged.places.get(&(*chain, counter)) {
            Some(id) => Ok(Some(*id)),
            None => self.local.at(chain, counter),
        }
    }
}
