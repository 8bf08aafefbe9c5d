//! Records: bytes under bytes, ordered by key, in tables. Laws:
//!
//! - a batch is visible whole or not at all, also after a crash.
//! - batches become visible in the order in which they were handed over by one thread.
//! - a scan sees the state of one moment, whatever is written meanwhile.

use std::{fmt, ops::Bound};

use crate::{Batch, Done, Durability, Error, Receipt};

/// A table of records. (Chunks are in [`ChunkStore`](crate::ChunkStore).)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Commits, without their edits.
    Commits,
    /// Requests and edits of commits.
    Edits,
    /// Refs; also reached through [`RefStore`](crate::RefStore).
    Refs,
    /// Head-log entries.
    Entries,
    /// What is still to be sent.
    Outbox,
    /// Derived: what can be made again from the rest.
    Index,
    /// Peers and what is known of them.
    Peers,
    /// What was received but is not yet complete and verified.
    Quarantine,
    /// Sessions and certificates.
    Sessions,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 9] =
        [Self::Commits, Self::Edits, Self::Refs, Self::Entries, Self::Outbox, Self::Index, Self::Peers, Self::Quarantine, Self::Sessions];

    /// Returns its name, as on the disk and in statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Commits => "commits",
            Self::Edits => "edits",
            Self::Refs => "refs",
            Self::Entries => "entries",
            Self::Outbox => "outbox",
            Self::Index => "index",
            Self::Peers => "peers",
            Self::Quarantine => "quarantine",
            Self::Sessions => "sessions",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A record as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From the lowest key up.
    #[default]
    Forward,
    /// From the highest key down.
    Backward,
}

/// The keys from a lower to an upper bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it starts.
    pub from: Bound<Vec<u8>>,
    /// Where it ends.
    pub to: Bound<Vec<u8>>,
}

impl KeyRange {
    /// Returns the range of all keys.
    pub const fn all() -> Self {
        Self { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// Returns the range of keys that start with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let to = successor(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self { from: Bound::Included(prefix.to_vec()), to }
    }

    /// Returns the range of keys from `from` on, `from` included.
    pub fn starting_at(from: &[u8]) -> Self {
        Self { from: Bound::Included(from.to_vec()), to: Bound::Unbounded }
    }

    /// Returns the range of keys from `from`, included, to `to`, excluded.
    pub fn between(from: &[u8], to: &[u8]) -> Self {
        Self { from: Bound::Included(from.to_vec()), to: Bound::Excluded(to.to_vec()) }
    }

    /// Returns this range without the keys up to `key`, `key` included: where a scan that stopped there goes on.
    #[must_use]
    pub fn after(self, key: &[u8]) -> Self {
        Self { from: Bound::Excluded(key.to_vec()), to: self.to }
    }

    /// Returns this range without the keys from `key` on: where a backward scan that stopped there goes on.
    #[must_use]
    pub fn before(self, key: &[u8]) -> Self {
        Self { from: self.from, to: Bound::Excluded(key.to_vec()) }
    }

    /// Returns the lower bound, included, and the upper bound, excluded, where there are any.
    pub(crate) fn into_half_open(self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let next = |mut key: Vec<u8>| {
            key.push(0);
            key
        };
        let from = match self.from {
            Bound::Included(key) => Some(key),
            Bound::Excluded(key) => Some(next(key)),
            Bound::Unbounded => None,
        };
        let to = match self.to {
            Bound::Included(key) => Some(next(key)),
            Bound::Excluded(key) => Some(key),
            Bound::Unbounded => None,
        };
        (from, to)
    }
}

/// Returns the first key that is above every key that starts with `prefix`, or `None` if there is none.
fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut key = prefix[..=last].to_vec();
    key[last] += 1;
    Some(key)
}

/// The records of a scan. After an error it ends.
pub type Scan<'a> = Box<dyn Iterator<Item = Result<Record, Error>> + Send + 'a>;

/// Keeps records.
pub trait Records: Send + Sync {
    /// Returns the value under `key`, or `None` if there is none.
    ///
    /// # Errors
    /// Engine errors.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Returns the records of `range` in key order, or the reverse, as they are now.
    ///
    /// Cost: one seek, then one step a record; memory for one record. The state of that moment is kept until the scan is dropped.
    ///
    /// # Errors
    /// None now; each item may be an engine error.
    fn scan(&self, table: Table, range: KeyRange, direction: Direction) -> Scan<'_>;

    /// Writes a batch and returns when it is as durable as asked. Waits while the queue is full.
    ///
    /// An empty batch that is to be durable makes all earlier ones durable.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a condition does not hold, and nothing of the batch was written; [`Error::TooLarge`];
    /// [`Error::Full`], [`Error::Failed`], after which the outcome of this batch is unknown and every later one fails.
    fn write(&self, batch: Batch, durability: Durability) -> Result<Receipt, Error>;

    /// Hands a batch over and returns at once; `done` is called, once, when [`write`](Self::write) would have returned.
    ///
    /// `done` runs on the thread that writes: it must not block and must not call `write`.
    ///
    /// # Errors
    /// [`Error::Busy`] if the queue is full, [`Error::TooLarge`], [`Error::Failed`]; then the batch was not taken and `done` is
    /// never called.
    fn submit(&self, batch: Batch, durability: Durability, done: Done) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends_before_the_next_prefix() {
        assert_eq!(KeyRange::prefix(b"ab").to, Bound::Excluded(b"ac".to_vec()));
        assert_eq!(KeyRange::prefix(&[1, 0xff]).to, Bound::Excluded(vec![2]));
        assert_eq!(KeyRange::prefix(&[0xff, 0xff]).to, Bound::Unbounded);
        assert_eq!(KeyRange::prefix(b"").to, Bound::Unbounded);
    }

    #[test]
    fn half_open_form_keeps_the_meaning() {
        let range = KeyRange { from: Bound::Excluded(vec![1]), to: Bound::Included(vec![3]) };
        assert_eq!(range.into_half_open(), (Some(vec![1, 0]), Some(vec![3, 0])));
        assert_eq!(KeyRange::all().into_half_open(), (None, None));
    }
}
