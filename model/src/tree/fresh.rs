//! Chunks just made, above the source they will be written to: so that one batch can be built upon before it is stored.

use std::sync::Arc;

use super::{Error, MemoryNodes, Node, Nodes};
use crate::{chunk::Verified, id::ChunkId};

/// Nodes of chunks in memory, and behind them another source.
#[derive(Debug)]
pub struct Fresh<'n, N: ?Sized> {
    made: MemoryNodes,
    below: &'n N,
}

impl<'n, N: Nodes + ?Sized> Fresh<'n, N> {
    /// Returns `chunks` in front of `below`.
    ///
    /// # Errors
    /// As [`Fresh::extend`].
    pub fn new(below: &'n N, chunks: &[Verified]) -> Result<Self, Error> {
        let mut fresh = Self { made: MemoryNodes::default(), below };
        fresh.extend(chunks)?;
        Ok(fresh)
    }

    /// Adds more chunks.
    ///
    /// # Errors
    /// [`Error::Corrupt`] at the first that is not of a tree.
    pub fn extend(&mut self, chunks: &[Verified]) -> Result<(), Error> {
        self.made.extend(chunks.iter().cloned())
    }
}

impl<N: Nodes + ?Sized> Nodes for Fresh<'_, N> {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, Error> {
        match self.made.node(id) {
            Err(Error::Missing { .. }) => self.below.node(id),
            found => found,
        }
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, Error> {
        match self.made.value(id) {
            Err(Error::Missing { .. }) => self.below.value(id),
            found => found,
        }
    }
}
