//! What a store takes on the disk and in memory.

use super::{RocksStore, Writes};
use crate::{Error, Place, Table};

/// What a store takes on the disk and in memory, and what its writer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// Chunks, then each table.
    pub places: Vec<Usage>,
    /// The log: writes that are not yet in files, in bytes.
    pub log_bytes: u64,
    /// Memory in use.
    pub memory: Memory,
    /// What the writer did since the store was opened.
    pub writes: Writes,
}

/// What a place takes on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Which.
    pub place: Place,
    /// Its files, in bytes, compressed; without what is in the log only.
    pub file_bytes: u64,
    /// About how many records it has.
    pub records: u64,
}

/// What a store takes in memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Cached blocks, filters and indexes; the write buffers are counted in it.
    pub cache: u64,
    /// Writes that are not yet in files.
    pub write_buffers: u64,
    /// What open files need beside the cache.
    pub files: u64,
}

impl RocksStore {
    /// Returns what the store takes.
    ///
    /// Cost: some counters of the engine for each table, and one listing of the folder.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be listed; engine errors.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        let places = std::iter::once(Place::Chunks).chain(Table::ALL.map(Place::Table));
        let mut usages = Vec::with_capacity(Table::ALL.len() + 1);
        let mut files = 0;
        for place in places {
            let number = |property: &str| self.number(place, property);
            let file_bytes = number("rocksdb.total-sst-files-size")? + number("rocksdb.total-blob-file-size")?;
            usages.push(Usage { place, file_bytes, records: number("rocksdb.estimate-num-keys")? });
            files += number("rocksdb.estimate-table-readers-mem")?;
        }
        let memory = Memory { cache: self.setup.cache.get_usage() as u64, write_buffers: self.setup.buffers.get_usage() as u64, files };
        let log_bytes = self.engine.folder.file_sizes(&["log"])?.iter().sum();
        Ok(Statistics { places: usages, log_bytes, memory, writes: self.writer.writes() })
    }

    pub(super) fn number(&self, place: Place, property: &str) -> Result<u64, Error> {
        let value = self.engine.db.property_int_value_cf(self.engine.family(place), property);
        Ok(value.map_err(|error| self.engine.engine_error("count in", error))?.unwrap_or(0))
    }
}
