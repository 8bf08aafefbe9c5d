//! What can go wrong with a tree: its nodes, or what a caller asks of it.

use std::error;

use super::{KEY_MAX, LEVEL_MAX};
use crate::{chunk, codec, id::ChunkId};

/// Why a tree could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A chunk of the tree is not there.
    #[error("chunk {id} is missing")]
    Missing {
        /// Its name.
        id: ChunkId,
    },
    /// Whether the chunk is there cannot be known now.
    #[error("chunks cannot be read now")]
    Unavailable {
        /// What the source of nodes said.
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// A chunk has the right hash and is not what the tree needs there.
    #[error("chunk {id} is not what belongs there")]
    Corrupt {
        /// Its name.
        id: ChunkId,
        /// What is wrong with it.
        source: Fault,
    },
    /// A key has no byte or too many.
    #[error("a key of {actual} bytes; 1 to {KEY_MAX} are allowed")]
    KeyLength {
        /// Its length.
        actual: usize,
    },
    /// A value is longer than memory can hold. Only reading says so: whatever the length, a tree can hold it.
    #[error("a value of {actual} bytes does not fit into memory")]
    ValueTooLong {
        /// Its length.
        actual: u64,
    },
    /// The keys of a batch do not rise strictly.
    #[error("key {key:02x?} does not come after the key before it")]
    Unsorted {
        /// The key that came too late, or twice.
        key: Vec<u8>,
    },
    /// The tree would need more levels than there may be.
    #[error("a tree of this content needs more than {LEVEL_MAX} levels above its leaves")]
    TooTall,
}

/// What is wrong with a chunk of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is no chunk, or of another kind.
    #[error("not the chunk that belongs here")]
    Chunk(#[from] chunk::Error),
    /// Its bytes are not a node.
    #[error("not a canonical node")]
    Node(#[from] codec::Error),
    /// It lies on another level than its parent says.
    #[error("lies on level {actual}, its parent says {expected}")]
    Level {
        /// One below the parent.
        expected: u8,
        /// What the node says.
        actual: u8,
    },
    /// Its last key is not the key of its entry in the parent.
    #[error("its last key is not the one its parent has")]
    LastKey,
    /// Entries or bytes below it are not what its parent says.
    #[error("holds {actual} {what}, its parent says {expected}")]
    Totals {
        /// Which sum.
        what: &'static str,
        /// What the parent says.
        expected: u64,
        /// What the node has.
        actual: u64,
    },
    /// An inner root must have two children or more, a leaf as root one entry or more.
    #[error("a root with {entries} entries")]
    TallRoot {
        /// How many it has.
        entries: usize,
    },
    /// A chunk of a value has another length than its entry implies.
    #[error("holds {actual} bytes of a value, its entry implies {expected}")]
    ValueLength {
        /// What the entry says.
        expected: u64,
        /// What there is.
        actual: u64,
    },
    /// A node ends where the splitter would not end it, or goes on where it would.
    #[error("entry {index} of {entries} is on the wrong side of a boundary")]
    Boundary {
        /// Which entry.
        index: usize,
        /// How many entries the node has.
        entries: usize,
    },
}
