//! The storage engine as the rest of the store sees it: places instead of column families, our errors instead of its own.

use std::sync::Arc;

use parking_lot::RwLock;

use rocksdb::{
    ColumnFamily, DBPinnableSlice, DBRawIteratorWithThreadMode, DBWithThreadMode, ErrorKind, ReadOptions, SingleThreaded, WriteBatch,
    WriteOptions,
};

use super::{folder::Folder, options::family};
use crate::{Direction, Error, KeyRange, Marks, Operation, Place, Record, Sequence};

pub(super) type Db = DBWithThreadMode<SingleThreaded>;

/// An open engine.
pub(super) struct Engine {
    // Dropped in this order: who can lock the folder finds the engine closed, on whichever thread that happens.
    pub(super) db: Db,
    pub(super) folder: Folder,
    /// Of the collection that is under way. Looked at by whoever has the pen, and set with the pen in hand.
    pub(super) marks: RwLock<Option<Arc<Marks>>>,
}

impl Engine {
    pub(super) fn family(&self, place: Place) -> &ColumnFamily {
        self.db.cf_handle(family(place)).expect("every family is made on opening")
    }

    /// Returns the value under `key` where the engine keeps it.
    pub(super) fn get(&self, place: Place, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, Error> {
        self.db.get_pinned_cf(self.family(place), key).map_err(|error| self.error("read", place, error))
    }

    /// Returns the values under `keys`, in that order.
    pub(super) fn get_many(&self, place: Place, keys: &[[u8; 32]]) -> Result<Vec<Option<DBPinnableSlice<'_>>>, Error> {
        let values = self.db.batched_multi_get_cf::<[u8; 32], _>(self.family(place), keys, false);
        values.into_iter().map(|value| value.map_err(|error| self.error("read", place, error))).collect()
    }

    /// Whether there is a value under `key`.
    pub(super) fn has(&self, place: Place, key: &[u8]) -> Result<bool, Error> {
        Ok(self.db.key_may_exist_cf(self.family(place), key) && self.get(place, key)?.is_some())
    }

    /// Returns the records of `range` as they are now.
    pub(super) fn scan(&self, place: Place, range: KeyRange, direction: Direction) -> Cursor<'_> {
        let (from, to) = range.into_half_open();
        let empty = matches!((&from, &to), (Some(from), Some(to)) if from >= to);
        let mut options = ReadOptions::default();
        if let Some(from) = from {
            options.set_iterate_lower_bound(from);
        }
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut rows = self.db.raw_iterator_cf_opt(self.family(place), options);
        if !empty {
            match direction {
                Direction::Forward => rows.seek_to_first(),
                Direction::Backward => rows.seek_to_last(),
            }
        }
        Cursor { engine: self, place, rows, direction, ended: empty }
    }

    /// Writes `batch`; with `sync` it is on the disk on return, together with all before it.
    pub(super) fn write(&self, batch: WriteBatch, sync: bool) -> Result<Sequence, Error> {
        let outcome = if batch.is_empty() {
            // The engine does not sync for an empty batch.
            if sync { self.db.flush_wal(true) } else { Ok(()) }
        } else {
            let mut options = WriteOptions::default();
            options.set_sync(sync);
            self.db.write_opt(batch, &options)
        };
        outcome.map_err(|error| self.engine_error("write to", error))?;
        Ok(self.latest())
    }

    /// Adds an operation to an engine's batch, which nothing comes between and its being written.
    pub(super) fn stage(&self, batch: &mut WriteBatch, operation: &Operation, marks: Option<&Marks>) {
        match operation {
            Operation::Put { table, key, value } => batch.put_cf(self.family(Place::Table(*table)), key, value),
            Operation::Delete { table, key } => batch.delete_cf(self.family(Place::Table(*table)), key),
            Operation::PutChunk(chunk) => {
                if let Some(marks) = marks {
                    marks.insert(&chunk.id());
                }
                batch.put_cf(self.family(Place::Chunks), chunk.id().as_bytes(), chunk.bytes());
            }
            Operation::SweepChunk(id) => {
                if marks.is_some_and(|marks| !marks.contains(id)) {
                    batch.delete_cf(self.family(Place::Chunks), id.as_bytes());
                }
            }
        }
    }

    /// Says which share of the oldest files with values is written anew when files of keys are merged.
    pub(super) fn set_blob_part(&self, place: Place, share: f64) -> Result<(), Error> {
        let value = share.to_string();
        let set = self.db.set_options_cf(self.family(place), &[("blob_garbage_collection_age_cutoff", value.as_str())]);
        set.map_err(|error| self.engine_error("set up", error))
    }

    /// Returns the position of the last write.
    pub(super) fn latest(&self) -> Sequence {
        Sequence(self.db.latest_sequence_number())
    }

    /// Returns our form of an error that came up in reading `place`.
    pub(super) fn error(&self, action: &'static str, place: Place, error: rocksdb::Error) -> Error {
        if error.kind() == ErrorKind::Corruption {
            return Error::CorruptFile { folder: self.folder.path().to_owned(), place, source: Arc::new(error) };
        }
        self.engine_error(action, error)
    }

    /// Returns our form of an error.
    pub(super) fn engine_error(&self, action: &'static str, error: rocksdb::Error) -> Error {
        let folder = self.folder.path().to_owned();
        if is_full(&error) {
            return Error::Full { folder, source: Arc::new(error) };
        }
        Error::Engine { action, folder, source: Arc::new(error) }
    }
}

/// Whether the engine found no room on the disk: it passes on the system's words only.
pub(super) fn is_full(error: &rocksdb::Error) -> bool {
    error.as_ref().contains("No space left on device") || error.as_ref().contains("Disk quota exceeded")
}

/// Whether the engine found its files other than it left them, on opening. A damaged pointer to a file shows as one that is missing.
pub(super) fn is_damage(error: &rocksdb::Error) -> bool {
    match error.kind() {
        ErrorKind::Corruption | ErrorKind::NotFound | ErrorKind::NotSupported => true,
        ErrorKind::IOError => error.as_ref().contains("No such file"),
        _ => false,
    }
}

/// A scan.
pub(super) struct Cursor<'a> {
    engine: &'a Engine,
    place: Place,
    rows: DBRawIteratorWithThreadMode<'a, Db>,
    direction: Direction,
    ended: bool,
}

impl Iterator for Cursor<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let Some((key, value)) = self.rows.item() else {
            self.ended = true;
            let status = self.rows.status();
            return status.err().map(|error| Err(self.engine.error("read", self.place, error)));
        };
        let record = Record { key: key.to_vec(), value: value.to_vec() };
        match self.direction {
            Direction::Forward => self.rows.next(),
            Direction::Backward => self.rows.prev(),
        }
        Some(Ok(record))
    }
}
