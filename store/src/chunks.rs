//! Chunks: immutable bytes named by their hash. Laws:
//!
//! - put then get gives the same chunk; to put a chunk twice is to put it once.
//! - what get returns was hash-checked on this read: bytes that rotted are [`Error::Corrupt`], never a chunk.

use herdbook_model::{chunk::Verified, id::ChunkId};

use crate::Error;

/// Keeps chunks. Refs, which change, are in [`RefStore`](crate::RefStore).
pub trait ChunkStore: Send + Sync {
    /// Returns the chunk, or `None` if it is not stored here.
    ///
    /// Cost: one point look-up and one hash.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the stored bytes are not the chunk; engine errors.
    fn get(&self, id: ChunkId) -> Result<Option<Verified>, Error>;

    /// Returns the chunks, in the order of `ids`, `None` where one is not stored here.
    ///
    /// Cost: as [`get`](Self::get) for each, with the look-ups batched; all are in memory at once.
    ///
    /// # Errors
    /// The first error of any.
    fn get_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<Verified>>, Error>;

    /// Returns the ids in `ids` that this store lacks, in the order given.
    ///
    /// Cost: a filter probe for each id that is absent, a point look-up without a hash for each that is there.
    ///
    /// # Errors
    /// Engine errors; never for a missing chunk. A corrupt chunk counts as present.
    fn absent(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Error>;

    /// Stores chunks, replacing the bytes of those that are there (which heals a corrupt one).
    ///
    /// They survive the end of the process; a later batch that is [durable](crate::Durability::Durable) makes them durable too.
    ///
    /// # Errors
    /// As [`Records::write`](crate::Records::write).
    fn put_many(&self, chunks: &[Verified]) -> Result<(), Error>;

    /// Stores many chunks by the cheapest path there is, durably, and returns how many came.
    ///
    /// For imports and clones. Bounded memory. Not atomic: after an error some may be stored, which harms nobody.
    ///
    /// # Errors
    /// As [`Records::write`](crate::Records::write).
    fn ingest(&self, chunks: &mut dyn Iterator<Item = Verified>) -> Result<u64, Error>;
}
