//! Opening a repository: what the store holds becomes the first view.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc};

use herdbook_model::{
    SigningKey,
    authority::{Entry, Genesis, Log, SessionCertificate},
    codec::{Decode as _, Encode as _},
    id::{ReplicaId, SessionId},
    schema::BLOBS,
    state::State,
    tree::splitter,
};
use herdbook_store::{Batch, Direction, Durability, KeyRange, Store, Table};
use parking_lot::Mutex;

use super::{
    Repository, Shared, View, collect::Collector, conditions::Conditional, history::Commits, layout, nodes::NodeCache,
    published::Published, write::Writer,
};
use crate::{clock::Clock, error::Error, keys};

/// Edits above the trees at which they are folded in, where nothing else was said: measured, see `BENCHMARKS.md`.
pub const FOLD_EDITS: u64 = 50_000;

/// Bytes of nodes at which a fold is due, where nothing else was said: measured as well.
const FOLD_NODES: u64 = 32 << 20;

/// Mean bytes of a leaf.
const LEAF: u64 = splitter::TARGET;

/// How much a repository may keep in memory and do at once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes for nodes of trees.
    pub node_cache: usize,
    /// Edits above the trees at which they are folded in.
    pub fold_edits: u64,
    /// Bytes of texts and bytes above the trees at which they are folded in, however few the edits.
    pub fold_bytes: u64,
    /// Bytes of nodes that folding would write, by a guess, at which it is done: many at once keep the disk from commits. In a large tree each
    /// edit changes a leaf of its own.
    pub fold_nodes: u64,
    /// Old states kept for readers of history.
    pub past_states: usize,
}

impl Settings {
    /// Whether so much lies above the trees of `state` that it is to be folded in.
    pub(super) fn is_due(&self, state: &State) -> bool {
        self.is_over(state, 1) || state.pending() * LEAF >= self.fold_nodes && leaves_changed(state) * LEAF >= self.fold_nodes
    }

    /// Whether as much as is gathered at most, times `times`, lies above the trees of `state`.
    pub(super) fn is_over(&self, state: &State, times: u64) -> bool {
        state.pending() >= times * self.fold_edits || state.weight() >= times * self.fold_bytes
    }
}

/// Returns how many leaves change if edits at random places are folded in.
fn leaves_changed(state: &State) -> u64 {
    // Blobs' content lies beside the leaves, and is weighed by its bytes.
    let trees = state.trees().iter().filter(|(collection, _)| **collection != BLOBS);
    let leaves = trees.map(|(_, trees)| trees.documents.bytes() / LEAF + 1).sum::<u64>().max(1) as f64;
    // Of n leaves p random edits miss each with a chance of (1 - 1/n) to the power of p.
    (leaves * -(-(state.pending() as f64) / leaves).exp_m1()) as u64
}

impl Default for Settings {
    fn default() -> Self {
        Self { node_cache: 64 << 20, fold_edits: FOLD_EDITS, fold_bytes: 64 << 20, fold_nodes: FOLD_NODES, past_states: 8 }
    }
}

/// Who opens a repository.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The replica's own key.
    pub replica: SigningKey,
    /// Genesis of the repository; may be left out where the store holds it already.
    pub genesis: Option<Genesis>,
}

impl Repository {
    /// Opens what `store` holds, or begins an empty copy of the repository of `identity.genesis` in it. A new session begins: its key is
    /// made here and never stored.
    ///
    /// Cost: the head log, and the commits since the last materialised state; not the data.
    ///
    /// # Errors
    /// [`Error::NotJoined`] for an empty store without genesis, [`Error::OtherRepository`], and those of reading.
    pub fn open(store: Arc<dyn Store>, identity: Identity, clock: Arc<dyn Clock>, settings: Settings) -> Result<Self, Error> {
        let genesis = genesis(store.as_ref(), identity.genesis)?;
        let id = genesis.id();
        let replica = ReplicaId(identity.replica.verifying_key().to_bytes());
        let key = keys::generate()?;
        let session = SessionId(key.verifying_key().to_bytes());
        let certificate = SessionCertificate::sign(id, &key, clock.now(), &identity.replica);
        let view =
            View { log: Arc::new(Log::new(id, genesis.root)), branches: BTreeMap::new(), lost: Arc::default(), ahead: Arc::default() };
        let past = NonZeroUsize::new(settings.past_states).unwrap_or(NonZeroUsize::MIN);
        let shared = Shared {
            id,
            replica,
            session,
            commits: Commits::open(store.clone())?,
            nodes: Arc::new(NodeCache::new(store.clone(), settings.node_cache)),
            collector: Collector::of(store.as_ref())?,
            published: Arc::new(Published::new(view.clone())),
            writer: Mutex::new(Writer::new(key, certificate, view)),
            past: Mutex::new(lru::LruCache::new(past)),
            genesis,
            store,
            clock,
            settings,
            conditional: Conditional::default(),
        };
        let repository = Self(Arc::new(shared));
        repository.load()?;
        Ok(repository)
    }

    fn load(&self) -> Result<(), Error> {
        let mut writer = self.0.writer.lock();
        self.0.reload(&mut writer)
    }
}

impl Shared {
    /// Reads the head log, and brings the state of each branch to what the store holds; publishes that.
    pub(super) fn reload(&self, writer: &mut Writer) -> Result<(), Error> {
        // What was handed over before must be there to be read; and what is read counts as held, so a power cut must not take it away. A process
        // that was killed may have left it in the system's memory.
        self.store.records().write(Batch::new(), Durability::Durable)?;
        let mut log = Log::new(self.id, self.genesis.root);
        for record in self.store.records().scan(Table::Entries, KeyRange::all(), Direction::Forward) {
            let entry = Entry::from_bytes(&record?.value).map_err(|source| Error::Record { what: "head-log entry", source })?;
            log.extend(&entry)?;
        }
        writer.view.log = Arc::new(log);
        writer.view.branches.clear();
        self.load_bases(&mut writer.view)?;
        let mut batch = Batch::new();
        let branches: Vec<_> = writer.view.log.branches().keys().cloned().collect();
        for branch in branches {
            self.settle(writer, &branch, &mut batch)?;
        }
        let newest = writer.view.branches.values().map(|state| state.frontier().newest()).max().unwrap_or_default();
        writer.latest = writer.latest.max(newest);
        tracing::debug!(repository = %self.id, latest = ?writer.latest, "repository read");
        if !batch.is_empty() {
            self.store.records().write(batch, Durability::Process)?;
        }
        self.published.begin_anew(writer.view.clone());
        Ok(())
    }
}

fn genesis(store: &dyn Store, given: Option<Genesis>) -> Result<Genesis, Error> {
    let held = store.refs().get(layout::GENESIS)?;
    let held = held.map(|bytes| Genesis::from_bytes(&bytes).map_err(|source| Error::Record { what: "genesis record", source }));
    match (held.transpose()?, given) {
        (Some(held), Some(given)) if held.id() != given.id() => {
            Err(Error::OtherRepository { expected: given.id().to_string(), found: held.id().to_string() })
        }
        (Some(held), _) => Ok(held),
        (None, Some(given)) => {
            store.refs().compare_and_set(layout::GENESIS, None, Some(&given.to_bytes()))?;
            Ok(given)
        }
        (None, None) => Err(Error::NotJoined),
    }
}
