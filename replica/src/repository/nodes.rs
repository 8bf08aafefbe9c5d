//! Nodes of trees, read from the store through a cache bounded in bytes.

use std::{num::NonZeroUsize, sync::Arc};

use herdbook_model::{
    chunk::Verified,
    id::ChunkId,
    state::State,
    tree::{Error, Node, Nodes},
};
use herdbook_store::Store;
use lru::LruCache;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};

use super::pins::Pins;

/// Mean bytes of a node in memory: 4 KiB of content and what is kept beside it.
const NODE_BYTES: usize = 5 << 10;

/// Parts of the cache, each behind a lock of its own, so that readers seldom meet.
const PARTS: usize = 16;

/// The shared cache of nodes.
pub(crate) struct NodeCache {
    store: Arc<dyn Store>,
    parts: Vec<Mutex<LruCache<ChunkId, Arc<Node>>>>,
    pins: Pins,
    /// Shared by those who store chunks of trees that are noted already.
    storing: RwLock<()>,
}

impl NodeCache {
    /// Returns a cache of about `bytes` in front of `store`.
    pub(crate) fn new(store: Arc<dyn Store>, bytes: usize) -> Self {
        let each = NonZeroUsize::new(bytes / NODE_BYTES / PARTS).unwrap_or(NonZeroUsize::MIN);
        let parts = (0..PARTS).map(|_| Mutex::new(LruCache::new(each))).collect();
        Self { store, parts, pins: Pins::default(), storing: RwLock::default() }
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
                self.part(&chunk.id()).lock().put(chunk.id(), Arc::new(node));
            }
        }
        Ok(())
    }

    fn part(&self, id: &ChunkId) -> &Mutex<LruCache<ChunkId, Arc<Node>>> {
        &self.parts[usize::from(id.0[0]) % PARTS]
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
        if let Some(node) = self.part(id).lock().get(id) {
            return Ok(node.clone());
        }
        let chunk = self.chunk(id)?;
        let node = Node::decode(chunk).map(Arc::new)?;
        self.part(id).lock().put(*id, node.clone());
        Ok(node)
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, Error> {
        self.chunk(id)
    }
}
