//! Nodes of trees, read from the store through a cache bounded in bytes.

use std::sync::Arc;

use herdbook_model::{
    chunk::Verified,
    id::ChunkId,
    state::State,
    tree::{Error, Node, Nodes},
};
use herdbook_store::Store;
use parking_lot::{RwLock, RwLockWriteGuard};
use quick_cache::{
    OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::pins::Pins;

/// Mean bytes of a node in memory: 4 KiB of content and what is kept beside it.
const NODE_BYTES: usize = 5 << 10;

/// Share of what was read again. The rest is for what is new, so that a fold finds what the one before it made.
const HOT: f64 = 0.75;

/// Bytes that are kept beside a node's content.
const BESIDE: u64 = 256;

/// What a node takes of the cache.
#[derive(Clone)]
struct Bytes;

impl Weighter<ChunkId, Arc<Node>> for Bytes {
    fn weight(&self, _: &ChunkId, node: &Arc<Node>) -> u64 {
        node.chunk().payload().len() as u64 + BESIDE
    }
}

/// The shared cache of nodes.
pub(crate) struct NodeCache {
    store: Arc<dyn Store>,
    /// Reading one leaves a mark and moves nothing, so readers do not meet; a scan does not push out what is read again and again.
    nodes: Cache<ChunkId, Arc<Node>, Bytes, foldhash::fast::RandomState>,
    pins: Pins,
    /// Shared by those who store chunks of trees that are noted already.
    storing: RwLock<()>,
}

impl NodeCache {
    /// Returns a cache of about `bytes` in front of `store`; with fewer than a node has it keeps none.
    pub(crate) fn new(store: Arc<dyn Store>, bytes: usize) -> Self {
        let hasher = foldhash::fast::RandomState::default();
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(bytes / NODE_BYTES).weight_capacity(bytes as u64).hot_allocation(HOT);
        let options = options.build().expect("both capacities are set");
        let nodes = Cache::with_options(options, Bytes, hasher, DefaultLifecycle::default());
        Self { store, nodes, pins: Pins::default(), storing: RwLock::default() }
    }

    /// Returns who may hold trees.
    pub(crate) const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// Folds `state` and stores its chunks.
    pub(crate) fn fold(&self, state: &mut State) -> Result<(), crate::error::Error> {
        // What the trees before share with those after is pinned by nobody else in between.
        let before = state.shared_trees().clone();
        let added = state.fold(self)?;
        self.keep(state, &added)?;
        drop(before);
        Ok(())
    }

    /// Keeps everybody from storing while what is returned is held, or returns `None` where somebody does so now. Then all chunks of trees that are
    /// noted are stored.
    pub(crate) fn try_still(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        self.storing.try_write()
    }

    /// Stores the chunks just made of the trees of `state` and keeps them, so that what was folded last is warm.
    pub(crate) fn keep(&self, state: &State, chunks: &[Verified]) -> Result<(), herdbook_store::Error> {
        let _storing = self.storing.read();
        self.pins.note(state);
        self.store.chunks().put_many(chunks)?;
        for chunk in chunks {
            if let Ok(node) = Node::decode(chunk.clone()) {
                self.nodes.insert(chunk.id(), Arc::new(node));
            }
        }
        Ok(())
    }

    fn chunk(&self, id: &ChunkId) -> Result<Verified, Error> {
        match self.store.chunks().get(*id) {
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) => Err(Error::Missing { id: *id }),
            Err(error) => Err(Error::Unavailable { source: Box::new(error) }),
        }
    }
}

impl Nodes for NodeCache {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, Error> {
        if let Some(node) = self.nodes.get(id) {
            return Ok(node);
        }
        let chunk = self.chunk(id)?;
        let node = Node::decode(chunk).map(Arc::new)?;
        self.nodes.insert(*id, node.clone());
        Ok(node)
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, Error> {
        self.chunk(id)
    }
}
