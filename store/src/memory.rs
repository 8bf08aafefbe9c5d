//! A store in memory: for tests, and for what need not outlive the process. It is the plainest reading of the traits' laws.

use std::{ops::Bound, sync::Arc};

use herdbook_model::{chunk::Verified, id::ChunkId};
use imbl::{HashMap, OrdMap};
use parking_lot::RwLock;

use crate::{
    Batch, ChunkStore, Collect, Direction, Done, Durability, Error, KeyRange, Marks, Operation, Receipt, Reclaim, Record, Records, Ref,
    RefStore, Room, Scan, Sequence, Swept, Table,
};

/// Keeps everything in memory. Its receipts say so: [`Durability::Memory`], whatever was asked.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: RwLock<State>,
}

/// Persistent maps: a scan takes a copy in constant time.
#[derive(Debug, Default, Clone)]
struct State {
    chunks: HashMap<ChunkId, Verified>,
    tables: HashMap<Table, OrdMap<Vec<u8>, Vec<u8>>>,
    sequence: Sequence,
    /// Of the collection that is under way.
    marks: Option<Arc<Marks>>,
}

impl State {
    fn get(&self, table: Table, key: &[u8]) -> Option<&Vec<u8>> {
        self.tables.get(&table)?.get(key)
    }

    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Put { table, key, value } => {
                self.tables.entry(table).or_default().insert(key, value);
            }
            Operation::Delete { table, key } => {
                self.tables.entry(table).or_default().remove(&key);
            }
            Operation::PutChunk(chunk) => {
                if let Some(marks) = &self.marks {
                    marks.insert(&chunk.id());
                }
                self.chunks.insert(chunk.id(), chunk);
            }
            Operation::SweepChunk(id) => {
                if self.marks.as_ref().is_some_and(|marks| !marks.contains(&id)) {
                    self.chunks.remove(&id);
                }
            }
        }
        self.sequence.0 += 1;
    }
}

impl MemoryStore {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns every chunk, in no order that means anything: for who checks what is there.
    pub fn all_chunks(&self) -> Vec<Verified> {
        self.state.read().chunks.values().cloned().collect()
    }
}

impl ChunkStore for MemoryStore {
    fn get(&self, id: ChunkId) -> Result<Option<Verified>, Error> {
        Ok(self.state.read().chunks.get(&id).cloned())
    }

    fn get_many(&self, ids: &[ChunkId]) -> Result<Vec<Option<Verified>>, Error> {
        let state = self.state.read();
        Ok(ids.iter().map(|id| state.chunks.get(id).cloned()).collect())
    }

    fn absent(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Error> {
        let state = self.state.read();
        Ok(ids.iter().filter(|id| !state.chunks.contains_key(*id)).copied().collect())
    }

    fn put_many(&self, chunks: &[Verified]) -> Result<(), Error> {
        let mut state = self.state.write();
        for chunk in chunks {
            state.apply(Operation::PutChunk(chunk.clone()));
        }
        Ok(())
    }

    fn ingest(&self, chunks: &mut dyn Iterator<Item = Verified>) -> Result<u64, Error> {
        let mut count = 0;
        for chunk in chunks {
            self.state.write().apply(Operation::PutChunk(chunk));
            count += 1;
        }
        Ok(count)
    }
}

impl RefStore for MemoryStore {
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

impl Records for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.state.read().get(table, key).cloned())
    }

    fn scan(&self, table: Table, range: KeyRange, direction: Direction) -> Scan<'_> {
        let records = self.state.read().tables.get(&table).cloned().unwrap_or_default();
        Box::new(Snapshot { records, range, direction })
    }

    fn write(&self, batch: Batch, _: Durability) -> Result<Receipt, Error> {
        let mut state = self.state.write();
        let (conditions, operations) = batch.into_parts();
        for condition in conditions {
            let actual = state.get(Table::Refs, condition.name.as_bytes());
            if actual != condition.expected.as_ref() {
                return Err(Error::Conflict { name: condition.name, actual: actual.cloned() });
            }
        }
        for operation in operations {
            state.apply(operation);
        }
        Ok(Receipt { sequence: state.sequence, durability: Durability::Memory })
    }

    fn submit(&self, batch: Batch, durability: Durability, done: Done) -> Result<(), Error> {
        done(self.write(batch, durability));
        Ok(())
    }
}

impl Collect for MemoryStore {
    fn begin(&self, marks: Arc<Marks>) -> Result<(), Error> {
        let mut state = self.state.write();
        if state.marks.is_some() {
            return Err(Error::Collecting);
        }
        state.marks = Some(marks);
        Ok(())
    }

    /// As told; cost: a look at every chunk.
    fn sweep(&self, after: Option<ChunkId>, limit: usize, removes: bool) -> Result<Swept, Error> {
        let mut state = self.state.write();
        let marks = state.marks.clone().ok_or(Error::NotCollecting)?;
        let mut ids: Vec<_> = state.chunks.keys().filter(|id| after.is_none_or(|after| **id > after)).copied().collect();
        ids.sort_unstable();
        ids.truncate(limit);
        let mut swept = Swept { last: ids.last().copied(), seen: ids.len() as u64, ..Swept::default() };
        for id in ids.into_iter().filter(|id| !marks.contains(id)) {
            swept.unmarked += 1;
            swept.bytes += state.chunks.get(&id).map_or(0, |chunk| chunk.bytes().len() as u64);
            if removes {
                state.apply(Operation::SweepChunk(id));
            }
        }
        Ok(swept)
    }

    fn end(&self) {
        self.state.write().marks = None;
    }

    fn reclaim(&self, _: &mut Reclaim) -> Result<bool, Error> {
        Ok(false)
    }

    fn room(&self) -> Result<Room, Error> {
        let state = self.state.read();
        let bytes = state.chunks.values().map(|chunk| chunk.bytes().len() as u64).sum();
        Ok(Room { chunks: state.chunks.len() as u64, bytes })
    }
}

/// A scan over the state of one moment: narrows its range by each record it gives.
struct Snapshot {
    records: OrdMap<Vec<u8>, Vec<u8>>,
    range: KeyRange,
    direction: Direction,
}

impl Iterator for Snapshot {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        // A range that ends before it starts makes the map panic.
        let (from, to) = self.range.clone().into_half_open();
        if let (Some(from), Some(to)) = (&from, &to)
            && from >= to
        {
            return None;
        }
        let bounds = (from.map_or(Bound::Unbounded, Bound::Included), to.map_or(Bound::Unbounded, Bound::Excluded));
        let mut records = self.records.range(bounds);
        let (key, value) = match self.direction {
            Direction::Forward => records.next()?,
            Direction::Backward => records.next_back()?,
        };
        let record = Record { key: key.clone(), value: value.clone() };
        match self.direction {
            Direction::Forward => self.range.from = Bound::Excluded(record.key.clone()),
            Direction::Backward => self.range.to = Bound::Excluded(record.key.clone()),
        }
        Some(Ok(record))
    }
}
