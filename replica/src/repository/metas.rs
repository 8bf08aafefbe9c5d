//! What ancestor questions need of commits, kept in memory and bounded in bytes.

use herdbook_model::{graph::Meta, id::CommitId};
use lru::LruCache;

/// Bytes kept, about.
const BYTES: usize = 24 << 20;

/// The newest that are kept whatever they weigh: what was handed to the store and may not be visible there yet is among them.
const LEAST: usize = 8 << 10;

/// The most that are kept, however small.
const MOST: usize = 64 << 10;

/// Bytes of one without its vector.
const ENTRY: usize = 192;

/// Bytes of a vector's parts that are made anew for a chain that grows.
const CHAIN: usize = 352;

/// A commit in memory.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) meta: Meta,
    /// Records from its own down to one that stands alone.
    pub(crate) steps: u8,
    /// Chains in which its vector differs from the one it was made of.
    pub(crate) grown: usize,
}

impl Kept {
    /// Returns what it holds that no other does, about.
    const fn bytes(&self) -> usize {
        ENTRY + CHAIN * self.grown
    }
}

/// The commits asked for last.
pub(crate) struct Metas {
    kept: LruCache<CommitId, Kept>,
    bytes: usize,
    /// Bytes at which the oldest go.
    limit: usize,
    /// The newest that stay whatever they weigh.
    least: usize,
}

impl Default for Metas {
    fn default() -> Self {
        Self::bounded(BYTES, LEAST)
    }
}

impl Metas {
    pub(crate) fn bounded(limit: usize, least: usize) -> Self {
        Self { kept: LruCache::unbounded(), bytes: 0, limit, least }
    }

    pub(crate) fn get(&mut self, id: &CommitId) -> Option<&Kept> {
        self.kept.get(id)
    }

    pub(crate) fn put(&mut self, id: CommitId, kept: Kept) {
        self.bytes += kept.bytes();
        if let Some(before) = self.kept.put(id, kept) {
            self.bytes -= before.bytes();
        }
        while self.kept.len() > MOST || self.bytes > self.limit && self.kept.len() > self.least {
            let Some((_, oldest)) = self.kept.pop_lru() else { break };
            self.bytes -= oldest.bytes();
        }
    }

    pub(crate) fn forget(&mut self, id: &CommitId) {
        if let Some(forgotten) = self.kept.pop(id) {
            self.bytes -= forgotten.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use herdbook_model::{id::ChainId, time::Time, vector::VersionVector};

    use super::*;

    #[test]
    fn the_oldest_go_by_their_bytes_and_the_newest_stay() {
        let kept = |grown| Kept {
            meta: Meta { chain: ChainId([0; 16]), counter: 1, time: Time::default(), vector: VersionVector::default() },
            steps: 0,
            grown,
        };
        let mut metas = Metas::bounded(20 * (ENTRY + CHAIN), 4);
        for number in 0..100u8 {
            metas.put(CommitId([number; 32]), kept(1));
        }
        assert_eq!((metas.kept.len(), metas.bytes), (20, 20 * (ENTRY + CHAIN)));
        for number in 100..104 {
            metas.put(CommitId([number; 32]), kept(1_000));
        }
        assert_eq!(metas.kept.len(), 4);
        assert!((100..104).all(|number| metas.get(&CommitId([number; 32])).is_some()));
        (100..104).for_each(|number| metas.forget(&CommitId([number; 32])));
        assert_eq!(metas.bytes, 0);
    }
}
