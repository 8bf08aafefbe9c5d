//! One repository on one replica: its store, its head log, and the state of each branch.
//!
//! Readers take the published [`View`], an immutable snapshot, and wait for nobody. Writers pass one lock; what they made becomes the
//! published view when the store has it, in the order in which it was made; what comes from others does before it is durable (`published`).
//! Nothing here is asynchronous.

mod ask;
mod audit;
mod base;
mod blame;
mod blobs;
mod collect;
mod compare;
mod conditions;
mod entries;
mod erasure;
mod folding;
mod fork;
mod fsck;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod growth;
mod history;
mod horizon;
pub(crate) mod layout;
mod materialise;
mod merge;
mod metas;
mod named;
mod nodes;
mod numbers;
mod open;
mod past;
mod pins;
mod plan;
mod playback;
mod published;
mod receive;
mod release;
mod revert;
mod tables;
mod write;

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::{
    authority::{Genesis, Log, RequestRef},
    document::Document,
    id::{BranchName, CommitId, Domain, Judgement, ReplicaId, RepositoryId, SessionId},
    schema::{Collection, CollectionId},
    state::{Scan, State},
    tree::Nodes,
    value::Key,
    vector::VersionVector,
};
use herdbook_store::Store;
use parking_lot::Mutex;
use tokio::sync::broadcast;

pub use ask::{Ask, Committed, DocumentChange, DocumentEdit, FieldChange, Wanted, version};
pub use audit::{Audit, Epoch, audit};
pub use base::Base;
pub use blame::Blamed;
pub use blobs::{BlobReader, Sweep, Swept, Upload, Uploaded};
pub(crate) use collect::Fetching;
pub use collect::{Collected, Collecting, Stage};
pub use compare::{Comparison, Reached, Scope};
pub use erasure::Erasing;
pub use fork::Forked;
pub use fsck::{Finding, Report};
pub use horizon::{Covered, Pruned};
pub use merge::{Merge, Merged, Rule};
pub use named::StateParts;
pub use open::{FOLD_EDITS, Identity, Settings};
pub use past::{LogEntry, Moment};
pub use playback::{Playback, Step};
pub use receive::{Outcome, Received};
pub use revert::{Revert, Reverted, Selection};
pub use write::Answers;

use self::{history::Commits, nodes::NodeCache, write::Writer};
use crate::{clock::Clock, error::Error};

/// How many changes a slow subscriber may fall behind before it has to begin again.
const CHANGES: usize = 4096;

/// What a reader sees: one moment of all branches and the head log.
#[derive(Debug, Clone)]
pub struct View {
    /// The verified head log.
    pub log: Arc<Log>,
    /// The state of each branch.
    pub branches: BTreeMap<BranchName, State>,
    /// Requests whose edits are lost here and that the head log does not list, with the documents they touched.
    pub lost: Arc<BTreeMap<RequestRef, Vec<String>>>,
    /// Bases whose history is not all here, by branch.
    pub(crate) ahead: Arc<BTreeMap<BranchName, base::Ahead>>,
}

impl View {
    /// Returns the state of `branch`; of the promoted branch if none is named.
    ///
    /// # Errors
    /// [`Error::UnknownBranch`], [`Error::NoSchema`].
    pub fn state(&self, branch: Option<&BranchName>) -> Result<&State, Error> {
        let Some(name) = branch.or(self.log.promoted()) else { return Err(Error::NoSchema) };
        self.branches.get(name).ok_or_else(|| self.unknown(name.as_str()))
    }

    /// Returns the state of the branch that a text names: a branch, or the promoted one if the text is empty.
    ///
    /// # Errors
    /// As [`View::state`].
    pub fn state_named(&self, branch: &str) -> Result<&State, Error> {
        if branch.is_empty() {
            return self.state(None);
        }
        let name = BranchName::new(branch)?;
        self.state(Some(&name))
    }

    fn unknown(&self, name: &str) -> Error {
        let known: Vec<_> = self.branches.keys().map(|name| format!("`{name}`")).collect();
        Error::UnknownBranch { name: name.to_owned(), known: if known.is_empty() { "none yet".to_owned() } else { known.join(", ") } }
    }

    /// Whether replay skips a request, here and now.
    pub fn skips(&self, request: &RequestRef) -> bool {
        self.log.skips(request) || self.lost.contains_key(request)
    }

    /// Returns what states of this view were judged by: the head log's judgement, and what is lost here beyond it.
    pub fn judgement(&self) -> Judgement {
        if self.lost.is_empty() {
            return self.log.judgement();
        }
        let mut parts = self.log.judgement().as_bytes().to_vec();
        for request in self.lost.keys() {
            parts.extend_from_slice(request.commit.as_bytes());
            parts.extend_from_slice(&request.request.to_be_bytes());
        }
        Judgement(Domain::Judgement.hash(&[&parts]))
    }

    /// Returns every commit that any branch stands on.
    pub fn vector(&self) -> VersionVector {
        let mut vector = VersionVector::default();
        for state in self.branches.values() {
            vector.merge(state.frontier().vector());
        }
        vector
    }

    /// Returns a hash over the frontiers of all branches: equal on two replicas that know the same commits.
    pub fn digest(&self) -> [u8; 32] {
        let mut parts = Vec::with_capacity(64);
        for (branch, state) in &self.branches {
            parts.extend_from_slice(state.frontier().name(branch).as_bytes());
        }
        Domain::Digest.hash(&[&parts])
    }
}

/// Something became visible.
#[derive(Debug, Clone)]
pub enum Change {
    /// Commits entered a branch.
    Commits {
        /// The branch.
        branch: BranchName,
        /// Which, in causal order.
        commits: Arc<[CommitId]>,
        /// The documents they touched.
        touched: Arc<[(CollectionId, Key)]>,
        /// The state with them.
        state: State,
        /// Whether they were made here.
        own: bool,
    },
    /// Commits of others, which were published before, are durable here now.
    Durable {
        /// Which, in causal order.
        commits: Arc<[CommitId]>,
    },
    /// The head log grew.
    Entries,
    /// Proof of a forked chain was kept.
    Forked,
    /// Commits that stand on the refused side of a fork were dropped. `own`: some of this session, which can make no more.
    Dropped {
        /// Whether the session is over.
        own: bool,
    },
    /// A branch's state was replayed anew: voids or losses took something away, or a migration brought commits in.
    Rebuilt {
        /// The branch.
        branch: BranchName,
        /// The state before.
        before: State,
        /// The state after.
        after: State,
    },
}

/// A repository. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Repository(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) id: RepositoryId,
    pub(crate) genesis: Genesis,
    pub(crate) replica: ReplicaId,
    pub(crate) session: SessionId,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) commits: Commits,
    pub(crate) nodes: Arc<NodeCache>,
    pub(crate) collector: collect::Collector,
    pub(crate) published: Arc<published::Published>,
    pub(crate) writer: Mutex<Writer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: Settings,
    pub(crate) past: Mutex<lru::LruCache<herdbook_model::id::StateName, State>>,
    pub(crate) conditional: conditions::Conditional,
}

impl Repository {
    /// Returns its id.
    pub fn id(&self) -> RepositoryId {
        self.0.id
    }

    /// Returns its genesis record.
    pub fn genesis(&self) -> &Genesis {
        &self.0.genesis
    }

    /// Returns the replica it lives on.
    pub fn replica(&self) -> ReplicaId {
        self.0.replica
    }

    /// Returns the session that signs here.
    pub fn session(&self) -> SessionId {
        self.0.session
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Returns where the nodes of its trees come from.
    pub fn nodes(&self) -> &(impl Nodes + use<>) {
        &self.0.nodes
    }

    /// Returns what is published now.
    pub fn view(&self) -> Arc<View> {
        self.0.published.view()
    }

    /// Returns what peers may be told is held here: what is published, but for commits of others that are not durable here yet.
    pub fn held(&self) -> Arc<View> {
        self.0.published.held()
    }

    /// Returns what becomes visible from here on. One that falls too far behind learns so and begins again from a view.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.published.subscribe()
    }

    /// Returns the living document under `key` in `state`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn get(&self, state: &State, collection: CollectionId, key: &Key) -> Result<Option<Arc<Document>>, Error> {
        Ok(state.get(&self.0.nodes, collection, key)?)
    }

    /// Returns living documents of `state` in key order: those whose keys start with `prefix` and come after `after`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn scan(
        &self,
        state: &State,
        collection: CollectionId,
        prefix: &str,
        after: Option<&Key>,
    ) -> Result<Scan<'_, impl Nodes + use<>>, Error> {
        Ok(state.scan(&self.0.nodes, collection, prefix, after)?)
    }

    /// Returns the keys of documents of `collection` that are in conflict in `state`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn conflicts(&self, state: &State, collection: &Collection) -> Result<Vec<Key>, Error> {
        Ok(state.conflicts(&self.0.nodes, collection.id)?.into())
    }

    /// Returns the time now by the clock this repository was given.
    pub fn now(&self) -> herdbook_model::time::Time {
        self.0.clock.now()
    }
}

impl herdbook_model::graph::Graph for Repository {
    type Error = Error;

    fn meta(&self, commit: &CommitId) -> Result<Option<herdbook_model::graph::Meta>, Error> {
        self.0.commits.meta(commit)
    }

    fn at(&self, chain: &herdbook_model::id::ChainId, counter: u64) -> Result<Option<CommitId>, Error> {
        self.0.commits.at(chain, counter)
    }
}

impl Shared {
    /// As [`Published::publish`](published::Published::publish).
    pub(crate) fn publish(&self, view: View, changes: Vec<Change>) {
        self.published.publish(view, changes);
    }
}
