//! The writer: one thread that writes all that waits as one and syncs once for all of it (group commit).
//!
//! Laws: batches are written, and answered, in the order they were taken in. A batch is acknowledged after its group's log write, after
//! the sync if anyone in the group asked for one, and then after the marker was written. After the first failure nothing is written any more:
//! a failed sync may have thrown the unwritten pages away, and a second that succeeds would say nothing about them.
//!
//! Who waits for a write that needs no sync, while nothing else waits, writes it himself: to wake the thread and be woken by it would take
//! longer than the write.

use std::{
    collections::HashMap,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use herdbook_model::plant::Plant;
use parking_lot::{Condvar, Mutex};
use rocksdb::WriteBatch;

use super::{
    Settings,
    engine::Engine,
    marker::{self, Marker},
};
use crate::{Batch, Condition, Done, Durability, Error, Operation, Place, Receipt, Table};

/// Least share of the queue's bytes that a batch takes, so that empty ones are bounded too.
const LEAST_SHARE: usize = 64;

/// The way to the writer thread. Dropping it writes what waits and ends the thread.
pub(super) struct Writer {
    queue: Option<Sender<Waiting>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    pen: Arc<Mutex<Pen>>,
}

/// A batch in the queue.
struct Waiting {
    batch: Batch,
    share: usize,
    durability: Durability,
    done: Done,
}

/// What the writer thread and its callers both see.
struct Shared {
    /// Why nothing is written any more.
    failure: OnceLock<Error>,
    room: Room,
    /// Batches that were taken in and are not answered yet.
    unanswered: AtomicUsize,
    counters: Counters,
}

/// How often the writer did what.
#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    groups: AtomicU64,
    syncs: AtomicU64,
}

/// How often the writer did what, since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Writes {
    /// Batches that were written.
    pub batches: u64,
    /// Groups of batches that were written as one.
    pub groups: u64,
    /// Groups that were synced.
    pub syncs: u64,
}

impl Writer {
    /// Starts the thread.
    pub(super) fn start(engine: Arc<Engine>, marker: Marker, settings: &Settings) -> Result<Self, Error> {
        let (queue, waiting) = bounded(settings.queue_batches.max(1));
        let room = Room { limit: settings.queue_bytes, used: Mutex::default(), freed: Condvar::new() };
        let unanswered = AtomicUsize::new(0);
        let shared = Arc::new(Shared { failure: OnceLock::new(), room, unanswered, counters: Counters::default() });
        let folder = engine.folder.path().to_owned();
        let group_bytes = settings.group_bytes;
        let pen = Arc::new(Mutex::new(Pen { marker, engine, is_synced: false }));
        let thread = {
            let (shared, pen) = (shared.clone(), pen.clone());
            thread::Builder::new()
                .name("store-writer".to_owned())
                .spawn(move || WriterThread { pen, waiting, group_bytes, shared }.run())
                .map_err(|error| Error::io("start a thread for", folder, error))?
        };
        Ok(Self { queue: Some(queue), thread: Some(thread), shared, pen })
    }

    /// Writes `batch` and returns when it is as durable as asked; waits while the queue is full.
    pub(super) fn write(&self, batch: Batch, durability: Durability, folder: &Path) -> Result<Receipt, Error> {
        let share = self.admit(&batch)?;
        if (durability < Durability::Durable || batch.is_empty())
            && let Some(mut pen) = self.pen.try_lock()
            && self.shared.unanswered.load(Ordering::Acquire) == 0
            && (durability < Durability::Durable || pen.is_synced)
        {
            return pen.write_one(&batch, durability, &self.shared);
        }
        if !self.shared.room.take(share) {
            return Err(self.shared.stopped(folder));
        }
        self.shared.unanswered.fetch_add(1, Ordering::AcqRel);
        let (answer, outcome) = bounded(1);
        let done: Done = Box::new(move |result| {
            // The other end waits below.
            let _ = answer.send(result);
        });
        // If the thread has ended, the answer's other end is dropped with the batch.
        let _ = self.queue().send(Waiting { batch, share, durability, done });
        outcome.recv().unwrap_or_else(|_| Err(self.shared.stopped(folder)))
    }

    /// Hands `batch` over, or refuses if there is no room.
    pub(super) fn submit(&self, batch: Batch, durability: Durability, done: Done, folder: &Path) -> Result<(), Error> {
        let share = self.admit(&batch)?;
        if !self.shared.room.try_take(share) {
            return Err(Error::Busy);
        }
        self.shared.unanswered.fetch_add(1, Ordering::AcqRel);
        self.queue().try_send(Waiting { batch, share, durability, done }).map_err(|refused| {
            self.shared.unanswered.fetch_sub(1, Ordering::AcqRel);
            self.shared.room.give(share);
            match refused {
                TrySendError::Full(_) => Error::Busy,
                TrySendError::Disconnected(_) => self.shared.stopped(folder),
            }
        })
    }

    /// Does `what` while nothing is written.
    pub(super) fn between<T>(&self, what: impl FnOnce() -> T) -> T {
        let _pen = self.pen.lock();
        what()
    }

    /// Returns why nothing is written any more, if so.
    pub(super) fn failure(&self) -> Option<Error> {
        self.shared.failure.get().cloned()
    }

    /// Returns the counters.
    pub(super) fn writes(&self) -> Writes {
        let Counters { batches, groups, syncs } = &self.shared.counters;
        Writes { batches: batches.load(Ordering::Relaxed), groups: groups.load(Ordering::Relaxed), syncs: syncs.load(Ordering::Relaxed) }
    }

    /// Returns the share of the queue that `batch` takes, unless it can never be written.
    fn admit(&self, batch: &Batch) -> Result<usize, Error> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let (actual, limit) = (batch.byte_len(), self.shared.room.limit);
        if actual > limit { Err(Error::TooLarge { actual, limit }) } else { Ok(actual.max(LEAST_SHARE)) }
    }

    fn queue(&self) -> &Sender<Waiting> {
        self.queue.as_ref().expect("taken only by drop")
    }

    /// Writes what waits and ends the thread; a second time does nothing.
    pub(super) fn end(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            // The last owner may be a callback, which runs on that very thread: the thread closes the engine when it ends.
            && thread.thread().id() != thread::current().id()
        {
            // A panic there was already reported, and answered by the failure.
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// Returns the first failure, or that the thread ended by a panic.
    fn stopped(&self, folder: &Path) -> Error {
        let panicked = || Error::Failed { folder: folder.to_owned(), source: Arc::new(WriterEnded) };
        self.failure.get_or_init(panicked).clone()
    }
}

/// The writer thread ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("the writer thread panicked")]
struct WriterEnded;

/// A bound on the bytes that wait.
struct Room {
    limit: usize,
    used: Mutex<Used>,
    freed: Condvar,
}

/// How much of the room is taken.
#[derive(Debug, Default)]
struct Used {
    bytes: usize,
    /// Nobody will make room any more.
    closed: bool,
}

impl Room {
    /// Whether `share` more fits. Alone, anything that was admitted does.
    const fn fits(&self, used: &Used, share: usize) -> bool {
        used.bytes == 0 || used.bytes + share <= self.limit
    }

    /// Waits until `share` fits and takes it; `false` if that will never be.
    fn take(&self, share: usize) -> bool {
        let mut used = self.used.lock();
        while !self.fits(&used, share) && !used.closed {
            self.freed.wait(&mut used);
        }
        used.bytes += share;
        !used.closed
    }

    fn try_take(&self, share: usize) -> bool {
        let mut used = self.used.lock();
        let fits = self.fits(&used, share);
        if fits {
            used.bytes += share;
        }
        fits
    }

    fn give(&self, share: usize) {
        self.used.lock().bytes -= share;
        self.freed.notify_all();
    }

    fn close(&self) {
        self.used.lock().closed = true;
        self.freed.notify_all();
    }
}

/// What writes; who holds it is the only one that does.
struct Pen {
    // Before the engine, which unlocks the folder.
    marker: Marker,
    engine: Arc<Engine>,
    /// Whether all that was written is on the disk: who asks for no more than that waits for no sync.
    is_synced: bool,
}

/// The thread's own.
struct WriterThread {
    pen: Arc<Mutex<Pen>>,
    waiting: Receiver<Waiting>,
    group_bytes: usize,
    shared: Arc<Shared>,
}

impl Drop for WriterThread {
    /// Nobody waits for a thread that ended, also by a panic.
    fn drop(&mut self) {
        self.shared.room.close();
    }
}

impl WriterThread {
    fn run(self) {
        while let Some(first) = self.next() {
            let mut bytes = first.share;
            let mut group = vec![first];
            while bytes < self.group_bytes
                && let Ok(next) = self.waiting.try_recv()
            {
                bytes += next.share;
                group.push(next);
            }
            self.write(group);
            self.shared.room.give(bytes);
        }
    }

    /// Waits for a batch; `None` when there will be none any more. The marker is put on the disk when none comes for a while.
    fn next(&self) -> Option<Waiting> {
        if self.pen.lock().marker.is_behind() {
            match self.waiting.recv_timeout(marker::LAG) {
                Ok(first) => return Some(first),
                Err(_) => self.pen.lock().sync_marker(&self.shared),
            }
        }
        self.waiting.recv().ok()
    }

    /// Writes a group and answers everyone in it.
    fn write(&self, group: Vec<Waiting>) {
        let answered = group.len();
        let batches: Vec<_> = group.iter().map(|waiting| (&waiting.batch, waiting.durability)).collect();
        // Answered with the pen down, but counted until then: nobody's write comes between a batch and its answer.
        let written = self.pen.lock().write(&batches, &self.shared);
        match written {
            Ok((receipt, mut conflicts)) => {
                for (place, waiting) in group.into_iter().enumerate() {
                    answer(waiting.done, conflicts.remove(&place).map_or(Ok(receipt), Err));
                }
            }
            Err(error) => group.into_iter().for_each(|waiting| answer(waiting.done, Err(error.clone()))),
        }
        self.shared.unanswered.fetch_sub(answered, Ordering::AcqRel);
    }
}

impl Pen {
    /// Writes a batch that waits for nobody.
    fn write_one(&mut self, batch: &Batch, durability: Durability, shared: &Shared) -> Result<Receipt, Error> {
        let (receipt, mut conflicts) = self.write(&[(batch, durability)], shared)?;
        conflicts.remove(&0).map_or(Ok(receipt), Err)
    }

    /// Puts the marker on the disk, unless a write failed before. Nobody waits for it: a failure is for those who come.
    fn sync_marker(&mut self, shared: &Shared) {
        if shared.failure.get().is_none()
            && let Err(error) = self.marker.sync()
        {
            shared.failure.get_or_init(|| failed(error, self.engine.folder.path()));
        }
    }

    /// Writes a group, unless a write failed before.
    fn write(&mut self, group: &[(&Batch, Durability)], shared: &Shared) -> Result<(Receipt, HashMap<usize, Error>), Error> {
        if let Some(error) = shared.failure.get() {
            return Err(error.clone());
        }
        self.try_write(group, &shared.counters)
            .map_err(|error| shared.failure.get_or_init(|| failed(error, self.engine.folder.path())).clone())
    }

    /// Writes a group, syncs it and moves the marker. Returns the receipt of those that were written and the errors of those
    /// whose conditions do not hold, by their place in the group.
    fn try_write(&mut self, group: &[(&Batch, Durability)], counters: &Counters) -> Result<(Receipt, HashMap<usize, Error>), Error> {
        let mut staged = WriteBatch::with_capacity_bytes(group.iter().map(|(batch, _)| batch.byte_len()).sum());
        let mut refs = Overlay::default();
        let mut conflicts = HashMap::new();
        let mut wanted = Durability::Process;
        let marks = self.engine.marks.read().clone();
        for (place, (batch, durability)) in group.iter().enumerate() {
            if let Some(conflict) = refs.conflict(&self.engine, batch.conditions())? {
                conflicts.insert(place, conflict);
                continue;
            }
            for operation in batch.operations() {
                self.engine.stage(&mut staged, operation, marks.as_deref());
                refs.apply(operation);
            }
            wanted = wanted.max(*durability);
        }

        let durable = wanted == Durability::Durable && !(self.is_synced && staged.is_empty());
        self.is_synced = durable || (self.is_synced && staged.is_empty());
        let sequence = self.engine.write(staged, durable && !cfg!(feature = "plant-skip-fsync") && !Plant::SkipFsync.is_here())?;
        if durable {
            self.marker.advance(sequence)?;
        } else {
            self.marker.sync_if_due()?;
        }

        counters.batches.fetch_add((group.len() - conflicts.len()) as u64, Ordering::Relaxed);
        counters.groups.fetch_add(1, Ordering::Relaxed);
        counters.syncs.fetch_add(u64::from(durable), Ordering::Relaxed);
        Ok((Receipt { sequence, durability: wanted }, conflicts))
    }
}

/// Refs as the batches of this group that are not yet written leave them.
#[derive(Default)]
struct Overlay(HashMap<Vec<u8>, Option<Vec<u8>>>);

impl Overlay {
    /// Returns the first condition that does not hold.
    fn conflict(&self, engine: &Engine, conditions: &[Condition]) -> Result<Option<Error>, Error> {
        for Condition { name, expected } in conditions {
            let actual = match self.0.get(name.as_bytes()) {
                Some(value) => value.clone(),
                None => engine.get(Place::Table(Table::Refs), name.as_bytes())?.map(|value| value.to_vec()),
            };
            if actual != *expected {
                return Ok(Some(Error::Conflict { name: name.clone(), actual }));
            }
        }
        Ok(None)
    }

    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Put { table: Table::Refs, key, value } => self.0.insert(key.clone(), Some(value.clone())),
            Operation::Delete { table: Table::Refs, key } => self.0.insert(key.clone(), None),
            _ => None,
        };
    }
}

/// Calls `done`. If it panics, which is reported by then, the others are answered all the same.
fn answer(done: Done, result: Result<Receipt, Error>) {
    let _ = panic::catch_unwind(AssertUnwindSafe(|| done(result)));
}

/// Returns what everyone is told from now on.
fn failed(error: Error, folder: &Path) -> Error {
    match error {
        Error::Full { .. } => error,
        error => Error::Failed { folder: folder.to_owned(), source: Arc::new(error) },
    }
}
