//! The graph and its commits, read from the store through a cache of what ancestor questions need.
//!
//! Law: a vector read back is the one its commit's parents give, whatever the cache holds. It is stored as it grows from one parent's (`growth`),
//! so whoever takes a commit out of the store takes out those that stand on it, too.

use std::{collections::HashMap, sync::Arc};

use herdbook_model::{
    codec::{self, Decode as _, Writer},
    commit::Commit,
    graph::{Graph, Meta},
    id::{BranchName, ChainId, CommitId, Leaf},
    request::{self, Request},
    state::History,
    vector::{Range, VersionVector},
};
use herdbook_store::{Batch, Direction, KeyRange, Store, Table};
use parking_lot::Mutex;

use super::{
    growth::{self, From, Grown, Growth, STEPS},
    layout::{self, StoredCommit},
    metas::{Kept, Metas},
    numbers::Numbers,
};
use crate::error::Error;

/// Chains from which on vectors that stand alone are told above a checkpoint, so that sessions which ended cost them nothing.
const FOLDED: usize = 256;

/// History as this node's store has it.
pub(crate) struct Commits {
    store: Arc<dyn Store>,
    metas: Mutex<Metas>,
    numbers: Mutex<Numbers>,
    checkpoints: Mutex<Checkpoints>,
}

/// Vectors that others are told above.
#[derive(Default)]
struct Checkpoints {
    /// The newest of each branch, as far as this run made one.
    newest: HashMap<BranchName, Checkpoint>,
    /// The one read last, with its number.
    read: Option<(u32, VersionVector)>,
    next: u32,
}

struct Checkpoint {
    number: u32,
    vector: VersionVector,
    /// Whether it is known to be stored.
    is_stored: bool,
    /// Chains that were told above it so far.
    told: usize,
}

impl Commits {
    /// Reads what is kept of the history in memory. Cost: one record a chain.
    pub(crate) fn open(store: Arc<dyn Store>) -> Result<Self, Error> {
        let numbers = Numbers::load(store.as_ref())?;
        let last = store.records().scan(Table::Index, KeyRange::prefix(layout::CHECKPOINT), Direction::Backward).next().transpose()?;
        let next = last.and_then(|record| layout::parse_number(&record.key)).map_or(0, |number| number.saturating_add(1));
        let checkpoints = Checkpoints { next, ..Checkpoints::default() };
        Ok(Self { store, metas: Mutex::default(), numbers: Mutex::new(numbers), checkpoints: Mutex::new(checkpoints) })
    }

    /// Adds a commit to a batch, and notes it, since it may not be visible in the store yet when it is asked for.
    pub(crate) fn put(&self, batch: &mut Batch, meta: &Meta, leaves: &[Leaf], commit: &Commit) -> Result<(), Error> {
        let id = commit.id();
        let growth = self.growth(meta, commit, batch)?;
        batch.put(Table::Commits, id.as_bytes().to_vec(), layout::encode_commit(&growth, leaves, commit));
        let kept = Kept { meta: meta.clone(), steps: growth.from.steps(), grown: growth.grown.len() + 1 };
        self.metas.lock().put(id, kept);
        Ok(())
    }

    /// Returns how the vector of a commit is stored: as it grows from the parent that knows most, or alone where that is as many records
    /// away from one that stands alone as may be.
    fn growth(&self, meta: &Meta, commit: &Commit, batch: &mut Batch) -> Result<Growth, Error> {
        let mut base: Option<(u8, Kept)> = None;
        for (place, parent) in (0u8..).zip(&commit.header().parents) {
            if let Some(kept) = self.kept(parent)?
                && base.as_ref().is_none_or(|(_, most)| most.meta.vector.commits() < kept.meta.vector.commits())
            {
                base = Some((place, kept));
            }
        }
        match base {
            Some((place, kept)) if kept.steps < STEPS => {
                let from = From::Parent { place, steps: kept.steps + 1 };
                Ok(Growth { from, grown: self.grown(&kept.meta.vector, meta, batch)? })
            }
            _ => self.alone(meta, &commit.header().branch, batch),
        }
    }

    /// Returns a vector that grows from no parent's.
    ///
    /// A checkpoint is made when as much was told above the last one as it takes itself. So both together cost no more than twice the less.
    fn alone(&self, meta: &Meta, branch: &BranchName, batch: &mut Batch) -> Result<Growth, Error> {
        if meta.vector.len() < FOLDED {
            return Ok(Growth { from: From::Nothing, grown: self.grown(&VersionVector::default(), meta, batch)? });
        }
        let mut checkpoints = self.checkpoints.lock();
        let Checkpoints { newest, next, .. } = &mut *checkpoints;
        let fits = |held: &Checkpoint| held.told < meta.vector.len() && meta.vector.covers(&held.vector);
        if !newest.get(branch).is_some_and(fits) {
            newest.insert(branch.clone(), Checkpoint { number: *next, vector: meta.vector.clone(), is_stored: false, told: 0 });
            *next = next.saturating_add(1);
        }
        let checkpoint = newest.get_mut(branch).expect("it was there or was made");
        if !checkpoint.is_stored {
            // As with the numbers of chains: written again until it is read back, whatever becomes of the batches.
            let key = layout::checkpoint_vector(checkpoint.number);
            checkpoint.is_stored = self.store.records().get(Table::Index, &key)?.is_some();
            if !checkpoint.is_stored {
                let mut out = Writer::default();
                let ranges = VersionVector::default().missing_from(&checkpoint.vector);
                growth::encode_grown(&self.numbered(ranges, batch)?, &mut out);
                batch.put(Table::Index, key, out.into_bytes());
            }
        }
        let grown = self.grown(&checkpoint.vector, meta, batch)?;
        checkpoint.told += grown.len();
        Ok(Growth { from: From::Checkpoint(checkpoint.number), grown })
    }

    /// Returns what a commit's vector has beyond `base`, but for its own place.
    fn grown(&self, base: &VersionVector, meta: &Meta, batch: &mut Batch) -> Result<Grown, Error> {
        let ranges = base.missing_from(&meta.vector).into_iter().filter(|range| range.chain != meta.chain);
        self.numbered(ranges, batch)
    }

    fn numbered(&self, ranges: impl IntoIterator<Item = Range>, batch: &mut Batch) -> Result<Grown, Error> {
        let mut numbers = self.numbers.lock();
        let number = |range: Range| Ok((numbers.number(&range.chain, self.store.as_ref(), batch)?, range.len()));
        let mut grown = ranges.into_iter().map(number).collect::<Result<Grown, Error>>()?;
        grown.sort_unstable();
        Ok(grown)
    }

    /// Returns `base` with the chains of `grown` raised.
    fn raised(&self, base: &VersionVector, grown: &Grown) -> Result<VersionVector, Error> {
        let bad = |what| Error::Record { what: "version vector", source: codec::Error::Malformed { what } };
        let numbers = self.numbers.lock();
        let raise = |&(number, by): &(u32, u64)| {
            let chain = numbers.chain(number).ok_or_else(|| bad("number of a chain"))?;
            Ok((chain, base.get(&chain).checked_add(by).ok_or_else(|| bad("growth of a chain"))?))
        };
        let raised = grown.iter().map(raise).collect::<Result<VersionVector, Error>>()?;
        let mut vector = base.clone();
        vector.merge(&raised);
        Ok(vector)
    }

    /// Returns the vector of a checkpoint.
    fn checkpoint(&self, number: u32) -> Result<VersionVector, Error> {
        let mut checkpoints = self.checkpoints.lock();
        if let Some((_, vector)) = checkpoints.read.as_ref().filter(|(read, _)| *read == number) {
            return Ok(vector.clone());
        }
        if let Some(made) = checkpoints.newest.values().find(|made| made.number == number) {
            return Ok(made.vector.clone());
        }
        let bytes = self.store.records().get(Table::Index, &layout::checkpoint_vector(number))?;
        let bytes = bytes.ok_or_else(|| Error::Hole { what: format!("checkpoint {number} of version vectors is not stored") })?;
        let grown = layout::decode_checkpoint(&bytes)?;
        let vector = self.raised(&VersionVector::default(), &grown)?;
        checkpoints.read = Some((number, vector.clone()));
        Ok(vector)
    }

    /// Returns what is known of a commit, from memory if it is there.
    fn kept(&self, commit: &CommitId) -> Result<Option<Kept>, Error> {
        if let Some(kept) = self.metas.lock().get(commit) {
            return Ok(Some(kept.clone()));
        }
        self.read(commit)
    }

    /// Reads a commit's vector: down to one that is at hand or stands alone, and up again. What was made on the way stays in memory.
    ///
    /// Cost: at most one record for each of [`STEPS`], and one.
    fn read(&self, commit: &CommitId) -> Result<Option<Kept>, Error> {
        let mut above = Vec::new();
        let mut at = *commit;
        let mut base = loop {
            if let Some(kept) = self.metas.lock().get(&at) {
                break kept.meta.vector.clone();
            }
            let Some(stored) = self.stored(&at)? else {
                let hole = |_: &_| Error::Hole { what: format!("commit {at}, from which the vector of {commit} grows, is not stored") };
                return above.last().map(hole).map_or(Ok(None), Err);
            };
            let header = stored.commit.header();
            let next = match stored.growth.from {
                From::Nothing => Err(VersionVector::default()),
                From::Checkpoint(number) => Err(self.checkpoint(number)?),
                From::Parent { place, .. } if above.len() <= usize::from(STEPS) => {
                    let malformed = Error::Record { what: "commit", source: codec::Error::Malformed { what: "base of its vector" } };
                    Ok(*header.parents.get(usize::from(place)).ok_or(malformed)?)
                }
                From::Parent { .. } => {
                    return Err(Error::Record { what: "commit", source: codec::Error::Malformed { what: "base of its vector" } });
                }
            };
            above.push(stored);
            match next {
                Ok(parent) => at = parent,
                Err(vector) => break vector,
            }
        };
        let mut last = None;
        for StoredCommit { growth, commit, .. } in above.into_iter().rev() {
            let (chain, header) = (commit.chain(), commit.header());
            let mut vector = self.raised(&base, &growth.grown)?;
            vector.raise(chain, header.counter);
            base = vector.clone();
            let meta = Meta { chain, counter: header.counter, time: header.time, vector };
            let grown = match growth.from {
                From::Nothing => meta.vector.len(),
                _ => growth.grown.len() + 1,
            };
            let kept = Kept { meta, steps: growth.from.steps(), grown };
            self.metas.lock().put(commit.id(), kept.clone());
            last = Some(kept);
        }
        Ok(last)
    }

    /// Whether a commit is here. Cost: its record, and not what its vector grows from.
    pub(crate) fn holds(&self, commit: &CommitId) -> Result<bool, Error> {
        let is_kept = self.metas.lock().get(commit).is_some();
        Ok(is_kept || self.store.records().get(Table::Commits, commit.as_bytes())?.is_some())
    }

    /// Forgets commits that may not be stored after all.
    pub(crate) fn forget(&self, ids: &[CommitId]) {
        let mut metas = self.metas.lock();
        ids.iter().for_each(|id| metas.forget(id));
    }

    /// Returns a commit as stored, or `None` if it is not here.
    pub(crate) fn stored(&self, id: &CommitId) -> Result<Option<StoredCommit>, Error> {
        let bytes = self.store.records().get(Table::Commits, id.as_bytes())?;
        bytes.map(|bytes| layout::decode_commit(&bytes)).transpose()
    }

    /// Returns one request, `None` if it is not here.
    pub(crate) fn request(&self, commit: &CommitId, at: u32) -> Result<Option<Request>, Error> {
        let Some(bytes) = self.store.records().get(Table::Edits, &layout::edits(commit, at))? else { return Ok(None) };
        Request::from_bytes(&bytes).map(Some).map_err(|source| Error::Record { what: "request", source })
    }

    /// Returns the bytes of one request, `None` if they are not here or do not match their leaf.
    pub(crate) fn request_bytes(&self, commit: &CommitId, at: u32, stored: &StoredCommit) -> Result<Option<Vec<u8>>, Error> {
        let Some(bytes) = self.store.records().get(Table::Edits, &layout::edits(commit, at))? else { return Ok(None) };
        let leaf = stored.leaves.get(at as usize);
        let matches = request::leaf_of(&bytes).is_ok_and(|found| Some(&found) == leaf);
        Ok(matches.then_some(bytes))
    }
}

impl Graph for Commits {
    type Error = Error;

    fn meta(&self, commit: &CommitId) -> Result<Option<Meta>, Error> {
        Ok(self.kept(commit)?.map(|kept| kept.meta))
    }

    fn at(&self, chain: &ChainId, counter: u64) -> Result<Option<CommitId>, Error> {
        let bytes = self.store.records().get(Table::Index, &layout::place(chain, counter))?;
        Ok(bytes.and_then(|bytes| CommitId::try_from(bytes.as_slice()).ok()))
    }
}

impl History for Commits {
    fn requests(&self, commit: &CommitId) -> Result<Vec<Option<Arc<Request>>>, Error> {
        let stored = self.stored(commit)?.ok_or_else(|| Error::UnknownCommit { id: commit.to_string() })?;
        let read = |at| {
            let bytes = self.request_bytes(commit, at, &stored)?;
            let decode =
                |bytes: Vec<u8>| Request::from_bytes(&bytes).map(Arc::new).map_err(|source| Error::Record { what: "request", source });
            bytes.map(decode).transpose()
        };
        (0..stored.commit.header().request_count).map(read).collect()
    }
}

#[cfg(test)]
mod tests;
