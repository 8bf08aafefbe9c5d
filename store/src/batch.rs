//! A batch: what becomes visible, and durable, together.

use std::fmt;

use herdbook_model::{chunk::Verified, id::ChunkId};

use crate::{Error, Table};

/// What a write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Nothing: it is in this process alone. What a memory store reaches, whatever was asked.
    Memory,
    /// The end of the process, however sudden: it is in the log, in the system's cache.
    Process,
    /// A power cut: log and marker are on the disk.
    Durable,
}

/// Position of a write in the order of all writes of one store; rises with every record written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(pub u64);

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a store says about a batch it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Everything up to here, this batch included, is as durable as `durability` says.
    pub sequence: Sequence,
    /// The durability reached: at least what was asked, except in memory.
    pub durability: Durability,
}

/// What is called with the outcome of a submitted batch.
pub type Done = Box<dyn FnOnce(Result<Receipt, Error>) + Send>;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets a record.
    Put {
        /// Where.
        table: Table,
        /// Its key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
    },
    /// Removes a record, if it is there.
    Delete {
        /// Where.
        table: Table,
        /// Its key.
        key: Vec<u8>,
    },
    /// Stores a chunk.
    PutChunk(Verified),
    /// Removes a chunk, if the collection that is under way has no mark for it when this is written.
    SweepChunk(ChunkId),
}

/// What a ref must be for a batch to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The ref.
    pub name: String,
    /// Its value, or that it must not exist.
    pub expected: Option<Vec<u8>>,
}

/// Changes that become visible together, in the order given, if every condition holds in the state before them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    conditions: Vec<Condition>,
    operations: Vec<Operation>,
    len: usize,
}

impl Batch {
    /// What a record costs in the log beside its key and value, in bytes; an upper bound.
    const OVERHEAD: usize = 16;

    /// Returns a batch of no changes.
    pub const fn new() -> Self {
        Self { conditions: Vec::new(), operations: Vec::new(), len: 0 }
    }

    /// Makes room for as many more changes.
    pub fn reserve(&mut self, changes: usize) {
        self.operations.reserve(changes);
    }

    /// Sets the record under `key`.
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        let (key, value) = (key.into(), value.into());
        self.len += key.len() + value.len() + Self::OVERHEAD;
        self.operations.push(Operation::Put { table, key, value });
        self
    }

    /// Removes the record under `key`, if there is one.
    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) -> &mut Self {
        let key = key.into();
        self.len += key.len() + Self::OVERHEAD;
        self.operations.push(Operation::Delete { table, key });
        self
    }

    /// Stores a chunk.
    pub fn put_chunk(&mut self, chunk: Verified) -> &mut Self {
        self.len += chunk.bytes().len() + Self::OVERHEAD + 32;
        self.operations.push(Operation::PutChunk(chunk));
        self
    }

    /// Removes a chunk, unless it is marked by then.
    pub(crate) fn sweep_chunk(&mut self, id: ChunkId) -> &mut Self {
        self.len += Self::OVERHEAD + 32;
        self.operations.push(Operation::SweepChunk(id));
        self
    }

    /// Demands that a ref is `expected`, where `None` is absence, before this batch.
    pub fn expect_ref(&mut self, name: &str, expected: Option<&[u8]>) -> &mut Self {
        self.len += name.len() + expected.map_or(0, <[u8]>::len) + Self::OVERHEAD;
        self.conditions.push(Condition { name: name.to_owned(), expected: expected.map(<[u8]>::to_vec) });
        self
    }

    /// Replaces a ref by `new` if it is `expected` before this batch; otherwise nothing of the batch is written.
    pub fn compare_and_set(&mut self, name: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> &mut Self {
        self.expect_ref(name, expected);
        match new {
            Some(value) => self.put(Table::Refs, name, value),
            None => self.delete(Table::Refs, name),
        }
    }

    /// Appends the changes and conditions of `other`; its conditions then look at the state before this batch.
    pub fn append(&mut self, other: Self) -> &mut Self {
        if self.is_empty() {
            *self = other;
            return self;
        }
        let Self { conditions, operations, len } = other;
        self.conditions.extend(conditions);
        self.operations.extend(operations);
        self.len += len;
        self
    }

    /// Returns what must hold.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Returns the changes.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Returns the conditions and the changes.
    pub fn into_parts(self) -> (Vec<Condition>, Vec<Operation>) {
        (self.conditions, self.operations)
    }

    /// Returns about how many bytes it takes in the log.
    pub const fn byte_len(&self) -> usize {
        self.len
    }

    /// Whether it changes and demands nothing.
    pub const fn is_empty(&self) -> bool {
        self.conditions.is_empty() && self.operations.is_empty()
    }
}
