//! Faults on demand, for tests and drills: a wrapper that fails as it is told, and damage to a closed store on disk.

use std::{path::Path, sync::Arc, thread, time::Duration};

use herdbook_model::{chunk::Verified, id::ChunkId};
use parking_lot::Mutex;

use crate::{
    Batch, ChunkStore, Collect, Direction, Done, Durability, Error, KeyRange, Marks, Place, Receipt, Reclaim, Record, Records, Ref,
    RefStore, Room, Scan, Swept, Table, rocks,
};

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteFault {
    /// No room; every later write fails too.
    Full,
    /// A failed sync; every later write fails too.
    Failed,
    /// A full queue: nothing was written, the next write may succeed.
    Busy,
}

/// A byte that reads differently from how it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flip {
    place: Place,
    key: Vec<u8>,
    offset: usize,
}

/// A store that fails as a test tells it, and otherwise is the store inside.
#[derive(Debug, Default)]
pub struct Faulty<S> {
    inner: S,
    program: Mutex<Program>,
}

#[derive(Debug, Default)]
struct Program {
    /// Writes that still succeed, and how the next then fails.
    fault: Option<(u64, WriteFault)>,
    delay: Duration,
    flips: Vec<Flip>,
    writes: u64,
}

/// The fault was ordered by a test.
#[derive(Debug, thiserror::Error)]
#[error("a fault that was ordered")]
struct Ordered;

impl<S> Faulty<S> {
    /// Wraps `inner`; without orders it changes nothing.
    pub fn new(inner: S) -> Self {
        Self { inner, program: Mutex::default() }
    }

    /// Returns the store inside.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Lets `successes` more writes succeed, then fails as told.
    pub fn fail_writes_after(&self, successes: u64, fault: WriteFault) {
        self.program.lock().fault = Some((successes, fault));
    }

    /// Makes every write wait for `delay` before it is handed on. A submitted batch waits too.
    pub fn delay_writes(&self, delay: Duration) {
        self.program.lock().delay = delay;
    }

    /// Makes the record read with the byte at `offset` (counted around its end) changed, from now on.
    pub fn flip_record(&self, table: Table, key: &[u8], offset: usize) {
        self.program.lock().flips.push(Flip { place: Place::Table(table), key: key.to_vec(), offset });
    }

    /// Makes the chunk read with the byte at `offset` (counted around its end) changed, from now on.
    pub fn flip_chunk(&self, id: ChunkId, offset: usize) {
        self.program.lock().flips.push(Flip { place: Place::Chunks, key: id.0.to_vec(), offset });
    }

    /// Takes all orders back.
    pub fn mend(&self) {
        let mut program = self.program.lock();
        *program = Program { writes: program.writes, ..Program::default() };
    }

    /// Returns how many writes were tried.
    pub fn writes(&self) -> u64 {
        self.program.lock().writes
    }

    /// Counts a write, waits as ordered, and fails if that is its lot.
    fn attempt(&self) -> Result<(), Error> {
        let delay = {
            let mut program = self.program.lock();
            program.writes += 1;
            program.delay
        };
        thread::sleep(delay);
        let mut program = self.program.lock();
        let Some((successes, fault)) = &mut program.fault else { return Ok(()) };
        if *successes > 0 {
            *successes -= 1;
            return Ok(());
        }
        let folder = Path::new("faulty").to_owned();
        match *fault {
            WriteFault::Full => Err(Error::Full { folder, source: Arc::new(Ordered) }),
            WriteFault::Failed => Err(Error::Failed { folder, source: Arc::new(Ordered) }),
            WriteFault::Busy => {
                program.fault = None;
                Err(Error::Busy)
            }
        }
    }

    /// Changes the bytes of a record as ordered.
    fn read(&self, place: Place, key: &[u8], bytes: &mut [u8]) {
        for flip in self.program.lock().flips.iter().filter(|flip| flip.place == place && flip.key == key) {
            flip_byte(bytes, flip.offset);
        }
    }

    /// Changes the bytes of a chunk as ordered, and checks them as every store does.
    fn read_chunk(&self, chunk: Verified) -> Result<Verified, Error> {
        let id = chunk.id();
        let mut bytes = chunk.bytes().to_vec();
        self.read(Place::Chunks, id.as_bytes(), &mut bytes);
        if bytes[..] == chunk.bytes()[..] {
            return Ok(chunk);
        }
        Verified::verify(id, bytes).map_err(|source| Error::Corrupt { id, source })
    }
}

/// Changes one byte; an empty value has none.
fn flip_byte(bytes: &mut [u8], offset: usize) {
    if !bytes.is_empty() {
        let offset = offset % bytes.len();
        bytes[offset] ^= 0x01;
    }
}

impl<S: ChunkStore> ChunkStore for Faulty<S> {
    fn get(&self, id: ChunkId) -> Result<Option<Verified>, Error> {
        self.inner.get(id)?.map(|chunk| self.read_chunk(chunk)).transpose()
    }

    fn get_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<Verified>>, Error> {
        self.inner.get_many(ids)?.into_iter().map(|chunk| chunk.map(|chunk| self.read_chunk(chunk)).transpose()).collect()
    }

    fn absent(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Error> {
        self.inner.absent(ids)
    }

    fn put_many(&self, chunks: &[Verified]) -> Result<(), Error> {
        self.attempt()?;
        self.inner.put_many(chunks)
    }

    fn ingest(&self, chunks: &mut dyn Iterator<Item = Verified>) -> Result<u64, Error> {
        self.attempt()?;
        self.inner.ingest(chunks)
    }
}

impl<S: Collect> Collect for Faulty<S> {
    fn begin(&self, marks: Arc<Marks>) -> Result<(), Error> {
        self.inner.begin(marks)
    }

    fn sweep(&self, after: Option<ChunkId>, limit: usize, removes: bool) -> Result<Swept, Error> {
        if removes {
            self.attempt()?;
        }
        self.inner.sweep(after, limit, removes)
    }

    fn end(&self) {
        self.inner.end();
    }

    fn reclaim(&self, progress: &mut Reclaim) -> Result<bool, Error> {
        self.inner.reclaim(progress)
    }

    fn room(&self) -> Result<Room, Error> {
        self.inner.room()
    }
}

impl<S: RefStore> RefStore for Faulty<S> {
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut value = self.inner.get(name)?;
        if let Some(value) = &mut value {
            self.read(Place::Table(Table::Refs), name.as_bytes(), value);
        }
        Ok(value)
    }

    fn compare_and_set(&self, name: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<(), Error> {
        self.attempt()?;
        self.inner.compare_and_set(name, expected, new)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Ref>, Error> {
        let mut refs = self.inner.list(prefix)?;
        for found in &mut refs {
            self.read(Place::Table(Table::Refs), found.name.as_bytes(), &mut found.value);
        }
        Ok(refs)
    }
}

impl<S: Records> Records for Faulty<S> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let mut value = self.inner.get(table, key)?;
        if let Some(value) = &mut value {
            self.read(Place::Table(table), key, value);
        }
        Ok(value)
    }

    fn scan(&self, table: Table, range: KeyRange, direction: Direction) -> Scan<'_> {
        Box::new(self.inner.scan(table, range, direction).map(move |record| {
            let mut record: Record = record?;
            self.read(Place::Table(table), &record.key, &mut record.value);
            Ok(record)
        }))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<Receipt, Error> {
        self.attempt()?;
        self.inner.write(batch, durability)
    }

    fn submit(&self, batch: Batch, durability: Durability, done: Done) -> Result<(), Error> {
        match self.attempt() {
            Ok(()) => self.inner.submit(batch, durability, done),
            Err(Error::Busy) => Err(Error::Busy),
            Err(error) => {
                done(Err(error));
                Ok(())
            }
        }
    }
}

/// Changes the byte at `offset` (counted around its end) of a record in the closed store in `folder`, and returns whether that record
/// is there. Every checksum of the engine is right afterwards: only what the record means can tell.
///
/// # Errors
/// As [`RocksStore::open`](crate::RocksStore::open); [`Error::Locked`] while the store is open.
pub fn corrupt_record(folder: &Path, table: Table, key: &[u8], offset: usize) -> Result<bool, Error> {
    rocks::rewrite(folder, Place::Table(table), key, |value| flip_byte(value, offset))
}

/// As [`corrupt_record`], for a chunk.
///
/// # Errors
/// As [`corrupt_record`].
pub fn corrupt_chunk(folder: &Path, id: ChunkId, offset: usize) -> Result<bool, Error> {
    rocks::rewrite(folder, Place::Chunks, id.as_bytes(), |value| flip_byte(value, offset))
}
