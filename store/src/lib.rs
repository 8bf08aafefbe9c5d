//! Where chunks, commits and refs are kept on this machine.
//!
//! One store holds one repository's data on one replica, in one folder. A folder a repository keeps faults apart (a damaged
//! file stops one repository), makes a backup a copy of one folder, and makes deletion the removal of one.
//!
//! A store is some traits: [`ChunkStore`] (immutable, named by hash), [`RefStore`] (few, named, changed by compare-and-set)
//! and [`Records`] (ordered records in tables, written in atomic batches), with a fourth for those who remove chunks ([`Collect`]); [`Store`] is
//! all of them. [`MemoryStore`] and [`RocksStore`] keep the same laws, which [`conformance`] states as tests. Everything here is synchronous.
//!
//! Law of durability: what a [`Receipt`] calls durable is there after a power cut, or the store refuses to open.

#![forbid(unsafe_code)]

mod batch;
mod chunks;
mod collect;
pub mod conformance;
mod error;
pub mod fault;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod memory;
mod records;
mod refs;
pub mod rocks;

pub use batch::{Batch, Condition, Done, Durability, Operation, Receipt, Sequence};
pub use chunks::ChunkStore;
pub use collect::{Collect, Marks, Reclaim, Room, Swept};
pub use error::{Damage, Error, Kind, Place};
pub use memory::MemoryStore;
pub use records::{Direction, KeyRange, Record, Records, Scan, Table};
pub use refs::{Ref, RefStore};
pub use rocks::{RocksStore, Settings};

/// All of a repository's data on this machine.
///
/// The parts have methods of the same names; the accessors say which is meant: `store.chunks().get(id)`.
pub trait Store: ChunkStore + RefStore + Records + Collect {
    /// Returns the chunks.
    fn chunks(&self) -> &dyn ChunkStore;

    /// Returns the refs.
    fn refs(&self) -> &dyn RefStore;

    /// Returns the records.
    fn records(&self) -> &dyn Records;

    /// Returns what removes chunks.
    fn collect(&self) -> &dyn Collect;
}

impl<S: ChunkStore + RefStore + Records + Collect> Store for S {
    fn chunks(&self) -> &dyn ChunkStore {
        self
    }

    fn refs(&self) -> &dyn RefStore {
        self
    }

    fn records(&self) -> &dyn Records {
        self
    }

    fn collect(&self) -> &dyn Collect {
        self
    }
}
