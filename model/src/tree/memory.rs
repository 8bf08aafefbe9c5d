//! Nodes in memory: for embedding, tests and benchmarks.

use std::sync::Arc;

use foldhash::HashMap;

use super::{Error, Node, Nodes};
use crate::{
    chunk::{Kind, Verified},
    id::ChunkId,
};

/// Decoded nodes and values by name. Holds whatever was put in; forgets nothing.
#[derive(Debug, Clone, Default)]
pub struct MemoryNodes {
    nodes: HashMap<ChunkId, Arc<Node>>,
    values: HashMap<ChunkId, Verified>,
}

impl MemoryNodes {
    /// Takes in a chunk of a tree.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is neither of a value nor a well-formed node.
    pub fn insert(&mut self, chunk: Verified) -> Result<(), Error> {
        if matches!(chunk.kind(), Kind::Value | Kind::Parts) {
            self.values.insert(chunk.id(), chunk);
        } else {
            self.nodes.insert(chunk.id(), Arc::new(Node::decode(chunk)?));
        }
        Ok(())
    }

    /// Takes in chunks of a tree.
    ///
    /// # Errors
    /// As [`MemoryNodes::insert`].
    pub fn extend(&mut self, chunks: impl IntoIterator<Item = Verified>) -> Result<(), Error> {
        chunks.into_iter().try_for_each(|chunk| self.insert(chunk))
    }

    /// Returns how many chunks it holds.
    pub fn len(&self) -> usize {
        self.nodes.len() + self.values.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Nodes for MemoryNodes {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, Error> {
        self.nodes.get(id).cloned().ok_or(Error::Missing { id: *id })
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, Error> {
        self.values.get(id).cloned().ok_or(Error::Missing { id: *id })
    }
}
