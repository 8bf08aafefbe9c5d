//! Head logs as members tell them: equal ones kept once, different ones side by side, each verified entry by entry.

use std::collections::BTreeMap;

use herdbook_model::{
    authority::{Entry, Log},
    id::{ReplicaId, RepositoryId},
};

use crate::evidence::Evidence;

/// A log that at least one member told.
#[derive(Debug)]
struct Told {
    log: Log,
    entries: Vec<Entry>,
}

/// How far a member has told its log.
#[derive(Debug, Clone, Copy, Default)]
struct Reader {
    log: usize,
    next: u64,
    /// An entry did not hold; what follows it is not looked at.
    is_ended: bool,
}

/// The logs that members told. There are at most as many as members.
#[derive(Debug)]
pub(super) struct Logs {
    repository: RepositoryId,
    root: [u8; 32],
    told: Vec<Told>,
    readers: BTreeMap<ReplicaId, Reader>,
}

impl Logs {
    pub(super) const fn new(repository: RepositoryId, root: [u8; 32]) -> Self {
        Self { repository, root, told: Vec::new(), readers: BTreeMap::new() }
    }

    /// Takes the next entries of a member's log. Returns proof if one contradicts another member's within an epoch.
    pub(super) fn tell(&mut self, from: ReplicaId, entries: &[Entry]) -> Option<Evidence> {
        if self.told.is_empty() {
            self.told.push(Told { log: Log::new(self.repository, self.root), entries: Vec::new() });
        }
        let mut reader = self.readers.get(&from).copied().unwrap_or_default();
        let mut fork = None;
        for entry in entries {
            if reader.is_ended || entry.seq != reader.next {
                // A member that reports again begins anew; anything else is out of order and ends its report.
                reader = Reader { is_ended: reader.is_ended || entry.seq != 0, ..Reader::default() };
                if reader.is_ended {
                    break;
                }
            }
            match self.place(reader.log, entry) {
                Some((log, found)) => {
                    reader.log = log;
                    reader.next = entry.seq + 1;
                    fork = fork.or(found);
                }
                None => reader.is_ended = true,
            }
        }
        self.readers.insert(from, reader);
        fork
    }

    /// Returns the log that `entry` belongs to, given that the entries before it lie in log `at`; `None` if it does not hold.
    fn place(&mut self, at: usize, entry: &Entry) -> Option<(usize, Option<Evidence>)> {
        let id = entry.id();
        let is_there = |told: &Told| told.log.entry_at(entry.seq).is_some_and(|known| known.id == id);
        // Entries name the one before, so one equal entry means equal logs up to it.
        if let Some(known) = self.told.iter().position(is_there) {
            return Some((known, None));
        }
        let Some(known) = self.told[at].log.entry_at(entry.seq) else {
            self.told[at].log.extend(entry).ok()?;
            self.told[at].entries.push(entry.clone());
            return Some((at, None));
        };
        let common = usize::try_from(entry.seq).ok()?;
        let mut other = Told { log: Log::new(self.repository, self.root), entries: self.told[at].entries[..common].to_vec() };
        other.entries.iter().try_for_each(|entry| other.log.extend(entry).map(drop)).ok()?;
        other.log.extend(entry).ok()?;
        other.entries.push(entry.clone());
        self.told.push(other);
        let fork = (known.epoch == entry.epoch).then(|| Evidence::LogFork { known, other: Box::new(entry.clone()) });
        Some((self.told.len() - 1, fork))
    }

    /// Returns the longest log by (epoch, place), with its entries; `None` if no entry held.
    pub(super) fn best(&self) -> Option<(&Log, &[Entry])> {
        let longest = self.told.iter().filter(|told| !told.entries.is_empty());
        let longest = longest.max_by_key(|told| told.log.newest().map(|newest| (newest.epoch, newest.seq, newest.id)));
        longest.map(|told| (&told.log, told.entries.as_slice()))
    }
}
