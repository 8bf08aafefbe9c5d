//! Garbage collection of chunks (mark, sweep), while writing goes on. Laws:
//!
//! - what is marked stays; what is stored while a collection is under way is marked by the write itself, before anyone can read it.
//! - a sweep looks at the marks again in the very write that removes: nothing can be stored between the look and the removal.
//!
//! Whoever drives a collection knows what is needed and marks that ([`Marks`]); the store removes the rest, a small batch at a time, and
//! gives the room back part by part. A collection that ends early, also by a crash, has removed less and harms nobody.

mod marks;

use std::sync::Arc;

use herdbook_model::id::ChunkId;

pub use marks::Marks;

use crate::Error;

/// Removes chunks that nothing needs.
pub trait Collect: Send + Sync {
    /// Begins a collection: from here on every chunk that is stored is marked.
    ///
    /// # Errors
    /// [`Error::Collecting`] while another is under way.
    fn begin(&self, marks: Arc<Marks>) -> Result<(), Error>;

    /// Looks at the next chunks after `after`, in order of their ids, at most `limit`. With `removes` those without a mark are gone on return.
    ///
    /// Cost: reads the chunks; one write of some 50 bytes for each that is removed. Writers wait for that write alone.
    ///
    /// # Errors
    /// [`Error::NotCollecting`] if none was begun; as [`Records::write`](crate::Records::write).
    fn sweep(&self, after: Option<ChunkId>, limit: usize, removes: bool) -> Result<Swept, Error>;

    /// Ends the collection that is under way, if any.
    fn end(&self);

    /// Gives room of chunks and edits that were removed back to the system: one part of it, so that what lies there twice meanwhile stays a small share. Returns
    /// whether there may be more.
    ///
    /// # Errors
    /// Engine errors.
    fn reclaim(&self, progress: &mut Reclaim) -> Result<bool, Error>;

    /// Returns what the chunks take.
    ///
    /// # Errors
    /// Engine errors.
    fn room(&self) -> Result<Room, Error>;
}

/// What a step of a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// The last chunk looked at; `None` where there was none any more.
    pub last: Option<ChunkId>,
    /// Chunks looked at.
    pub seen: u64,
    /// Those without a mark.
    pub unmarked: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
}

/// How far the giving back of room has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaim {
    /// Parts of chunks done.
    pub(crate) chunks: u32,
    /// Stretches of edits done; `None` where none were removed.
    pub(crate) edits: Option<u8>,
    /// Parts of long edits done.
    pub(crate) long_edits: u32,
    /// Whether every file is written anew.
    pub(crate) all: bool,
    /// Parts of each to be done at least.
    pub(crate) least_chunks: u32,
    pub(crate) least_long_edits: u32,
}

impl Reclaim {
    /// Returns how a giving back begins; `edits` says whether edits were removed as well, `all` whether every file with values is written anew, however
    /// little of it is garbage, so that nothing of what was removed is left.
    pub fn new(edits: bool, all: bool) -> Self {
        Self { edits: edits.then_some(0), all, ..Self::default() }
    }
}

/// What chunks take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// About how many there are.
    pub chunks: u64,
    /// Bytes of all files of the store, chunks or not; in memory those of the chunks.
    pub bytes: u64,
}
