//! A store on disk, kept by the embedded engine RocksDB, which no other module of the project names.
//!
//! Reads go straight to the engine; writes go through one [`writer`] thread. Opening compares what the engine found with the
//! [`marker`] of what was acknowledged: a store that holds less refuses to open, or says so if opened for repair.

mod checkpoint;
mod collect;
mod engine;
mod folder;
mod ingest;
pub(crate) mod marker;
mod options;
mod settings;
mod statistics;
mod writer;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use herdbook_model::{chunk::Verified, id::ChunkId};
use parking_lot::{Mutex, RwLock};
use rocksdb::Env;

pub use folder::FORMAT;
pub use settings::Settings;
pub use statistics::{Memory, Statistics, Usage};
pub use writer::Writes;

use crate::{
    Batch, ChunkStore, Damage, Direction, Done, Durability, Error, KeyRange, Place, Receipt, Records, Ref, RefStore, Scan, Sequence, Table,
};
use engine::{Db, Engine};
use folder::Folder;
use marker::{Marker, Reading};
use options::Setup;
use writer::Writer;

/// A log that closing leaves as it is, in bytes: read in some 50 ms.
const SHORT_LOG: u64 = 4 << 20;

/// A store in a folder on this machine.
///
/// Dropping it writes what still waits, moves a long log to data files, then closes the engine and unlocks the folder. Where a callback drops it,
/// what waits is written and the folder unlocked on the store's own thread after the callback returned; until then, the folder reads as
/// [`Error::Locked`], and the process must not end.
pub struct RocksStore {
    // Dropped in this order: the writer ends before the engine closes.
    writer: Writer,
    engine: Arc<Engine>,
    setup: Setup,
    recovery: Recovery,
    ingesting: Mutex<()>,
}

impl Drop for RocksStore {
    /// Leaves a short log, so that the next opening has little to read. After a crash it reads what there is.
    fn drop(&mut self) {
        self.writer.end();
        let log = self.engine.folder.file_sizes(&["log"]).map_or(0, |sizes| sizes.iter().sum());
        if log > SHORT_LOG && self.writer.failure().is_none() {
            // What cannot be flushed stays in the log, and the next opening says what is wrong.
            let _ = self.flush();
        }
    }
}

/// What opening a store found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Everything that was written, except a last write that a crash tore.
    Whole,
    /// Everything that was acknowledged as durable. What came after it had a gap, as a power cut leaves, and was cut off there.
    Cut {
        /// The last write that is there.
        found: Sequence,
    },
    /// Less than was acknowledged; opened for repair. What is missing must be fetched from peers.
    Lost {
        /// The last acknowledged write, if known.
        expected: Option<Sequence>,
        /// The last write that is there.
        found: Sequence,
    },
}

impl RocksStore {
    /// Opens the store in `folder`, making one there if there is none and the settings allow it.
    ///
    /// Cost: replays the log, at most twice `write_buffer_bytes`; independent of the size of the data.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NewerFormat`], [`Error::Foreign`], [`Error::Absent`], [`Error::NoParent`], [`Error::Full`];
    /// [`Error::Damaged`] if it holds less than was acknowledged or its files cannot be read.
    pub fn open(folder: impl AsRef<Path>, settings: &Settings) -> Result<Self, Error> {
        Self::open_in(folder, settings, None)
    }

    /// As [`open`](Self::open), with the engine's files behind `env`: for tests that cut the power.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_in(folder: impl AsRef<Path>, settings: &Settings, env: Option<Env>) -> Result<Self, Error> {
        let folder = Folder::open(folder.as_ref(), settings.create)?;
        let setup = Setup::new(settings, env);
        let reading = Marker::read(&folder.marker())?;
        let fresh = is_fresh(&folder, reading)?;

        let (db, is_cut) = open_engine(&folder, &setup, fresh, reading, settings.repair)?;
        let found = Sequence(db.latest_sequence_number());
        let recovery = match reading {
            Reading::At(expected) if expected <= found && is_cut => Recovery::Cut { found },
            Reading::At(expected) if expected <= found => Recovery::Whole,
            // The process ended between making the engine's files and the marker.
            Reading::Absent if found == Sequence::default() => Recovery::Whole,
            Reading::At(expected) => Recovery::Lost { expected: Some(expected), found },
            Reading::Absent | Reading::Unreadable => Recovery::Lost { expected: None, found },
        };
        if let (Recovery::Lost { expected, found }, false) = (recovery, settings.repair) {
            let damage = expected.map_or(Damage::Marker, |expected| Damage::Behind { expected, found });
            return Err(Error::Damaged { folder: folder.path().to_owned(), damage });
        }
        let marker = match (recovery, reading) {
            (Recovery::Whole, Reading::At(_)) => Marker::resume(&folder.marker())?,
            // A new marker; after a cut or repair the old one means nothing.
            _ => {
                let marker = Marker::create(&folder.marker(), found)?;
                folder::sync_folder(folder.path())?;
                marker
            }
        };
        let engine = Arc::new(Engine { db, folder, marks: RwLock::default() });
        let writer = Writer::start(engine.clone(), marker, settings)?;
        Ok(Self { writer, engine, setup, recovery, ingesting: Mutex::new(()) })
    }

    /// Returns what opening found.
    pub const fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        self.engine.folder.path()
    }

    /// Moves everything from the log to data files; on return it is on the disk.
    ///
    /// # Errors
    /// [`Error::Full`], engine errors.
    pub fn flush(&self) -> Result<(), Error> {
        let places = std::iter::once(Place::Chunks).chain(Table::ALL.map(Place::Table));
        let families: Vec<_> = places.map(|place| self.engine.family(place)).collect();
        let mut options = rocksdb::FlushOptions::default();
        options.set_wait(true);
        self.engine.db.flush_cfs_opt(&families, &options).map_err(|error| self.engine.engine_error("flush", error))
    }
}

/// Whether nothing was ever written in `folder`, so the engine may start with nothing.
fn is_fresh(folder: &Folder, reading: Reading) -> Result<bool, Error> {
    if folder.has_data() {
        return Ok(false);
    }
    let damaged = |damage| Err(Error::Damaged { folder: folder.path().to_owned(), damage });
    match reading {
        Reading::At(expected) => damaged(Damage::Gone { expected }),
        Reading::Unreadable => damaged(Damage::Marker),
        // The engine would take what is there for rubbish and remove it.
        Reading::Absent if !folder.file_sizes(&["sst", "log", "blob"])?.is_empty() => damaged(Damage::Marker),
        Reading::Absent => Ok(true),
    }
}

/// Opens the engine strictly; where that is refused, with what comes before the damage, if all that was acknowledged does or
/// `repair` is set. Returns whether something was cut off.
fn open_engine(folder: &Folder, setup: &Setup, fresh: bool, reading: Reading, repair: bool) -> Result<(Db, bool), Error> {
    let has_log = !folder.file_sizes(&["log"])?.is_empty();
    let open = |recovery| Db::open_cf_descriptors(&setup.database(recovery, fresh, has_log), folder.db(), setup.families());
    let refusal = match open(options::Recovery::Strict) {
        Ok(db) => return Ok((db, false)),
        Err(error) => error,
    };
    let path = folder.path().to_owned();
    if engine::is_full(&refusal) {
        return Err(Error::Full { folder: path, source: Arc::new(refusal) });
    }
    if !engine::is_damage(&refusal) {
        return Err(Error::Engine { action: "open", folder: path, source: Arc::new(refusal) });
    }
    // Looks without touching: what a repair could still find must not be lost by the attempt.
    let families: Vec<_> = setup.families().collect();
    let look = Db::open_cf_descriptors_read_only(&setup.database(options::Recovery::Look, false, has_log), folder.db(), families, false);
    let found = look.map(|db| Sequence(db.latest_sequence_number()));
    let damage = match (found, reading) {
        (Err(error), _) => Damage::Unreadable { source: Arc::new(error) },
        (Ok(found), Reading::At(expected)) if found < expected => Damage::Behind { expected, found },
        (Ok(_), Reading::Absent | Reading::Unreadable) => Damage::Marker,
        (Ok(_), Reading::At(_)) => {
            let opened = open(options::Recovery::Prefix).map(|db| (db, true));
            return opened.map_err(|error| unreadable(folder, error));
        }
    };
    if repair && !matches!(damage, Damage::Unreadable { .. }) {
        return open(options::Recovery::Prefix).map(|db| (db, true)).map_err(|error| unreadable(folder, error));
    }
    Err(Error::Damaged { folder: path, damage })
}

fn unreadable(folder: &Folder, error: rocksdb::Error) -> Error {
    Error::Damaged { folder: folder.path().to_owned(), damage: Damage::Unreadable { source: Arc::new(error) } }
}

impl RocksStore {
    /// Waits while the engine's memory for chunks is half full and what filled it before is still on its way to the disk: were it to fill now, every write
    /// would wait for the disk, and chunks come in great numbers that hardly anybody waits for.
    fn leave_room(&self, begun: Instant) -> Result<(), Error> {
        /// Longest wait since `begun`; then all wait.
        const PATIENCE: Duration = Duration::from_secs(2);
        const PAUSE: Duration = Duration::from_millis(2);
        let half = self.setup.write_buffer() / 2;
        while self.number(Place::Chunks, "rocksdb.num-immutable-mem-table")? > 0
            && self.number(Place::Chunks, "rocksdb.cur-size-active-mem-table")? > half
            && begun.elapsed() < PATIENCE
        {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

impl ChunkStore for RocksStore {
    fn get(&self, id: ChunkId) -> Result<Option<Verified>, Error> {
        let bytes = self.engine.get(Place::Chunks, id.as_bytes())?;
        bytes.map(|bytes| verify(id, &bytes)).transpose()
    }

    fn get_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<Verified>>, Error> {
        let keys: Vec<_> = ids.iter().map(|id| id.0).collect();
        let found = self.engine.get_many(Place::Chunks, &keys)?;
        ids.iter().zip(found).map(|(id, bytes)| bytes.map(|bytes| verify(*id, &bytes)).transpose()).collect()
    }

    fn absent(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Error> {
        let mut absent = Vec::new();
        for id in ids {
            if !self.engine.has(Place::Chunks, id.as_bytes())? {
                absent.push(*id);
            }
        }
        Ok(absent)
    }

    fn put_many(&self, chunks: &[Verified]) -> Result<(), Error> {
        /// Bytes of one batch: written within some milliseconds, for which others wait.
        const STEP: usize = 512 << 10;
        let (begun, mut batch) = (Instant::now(), Batch::new());
        for chunk in chunks {
            batch.put_chunk(chunk.clone());
            if batch.byte_len() >= STEP {
                self.leave_room(begun)?;
                self.write(std::mem::take(&mut batch), Durability::Process)?;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.write(batch, Durability::Process).map(drop) }
    }

    fn ingest(&self, chunks: &mut dyn Iterator<Item = Verified>) -> Result<u64, Error> {
        self.ingest_files(chunks)
    }
}

fn verify(id: ChunkId, bytes: &[u8]) -> Result<Verified, Error> {
    Verified::verify(id, bytes).map_err(|source| Error::Corrupt { id, source })
}

impl RefStore for RocksStore {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Records::get(self, Table::Refs, name.as_bytes())
    }

    fn compare_and_set(&self, name: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<(), Error> {
        let mut batch = Batch::new();
        batch.compare_and_set(name, expected, new);
        self.write(batch, Durability::Durable).map(drop)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Ref>, Error> {
        self.scan(Table::Refs, KeyRange::prefix(prefix.as_bytes()), Direction::Forward).map(|record| Ref::try_from(record?)).collect()
    }
}

impl Records for RocksStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.engine.get(Place::Table(table), key)?.map(|value| value.to_vec()))
    }

    fn scan(&self, table: Table, range: KeyRange, direction: Direction) -> Scan<'_> {
        Box::new(self.engine.scan(Place::Table(table), range, direction))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<Receipt, Error> {
        self.writer.write(batch, durability, self.engine.folder.path())
    }

    fn submit(&self, batch: Batch, durability: Durability, done: Done) -> Result<(), Error> {
        self.writer.submit(batch, durability, done, self.engine.folder.path())
    }
}

/// Rewrites one record of the closed store in `folder`, chunks included, past every check; returns whether it is there.
pub(crate) fn rewrite(folder: &Path, place: Place, key: &[u8], change: impl FnOnce(&mut [u8])) -> Result<bool, Error> {
    let store = RocksStore::open(folder, &Settings { create: false, ..Settings::default() })?;
    let Some(value) = store.engine.get(place, key)? else { return Ok(false) };
    let mut value = value.to_vec();
    change(&mut value);
    let mut batch = rocksdb::WriteBatch::default();
    batch.put_cf(store.engine.family(place), key, &value);
    store.engine.write(batch, true)?;
    store.flush()?;
    Ok(true)
}
