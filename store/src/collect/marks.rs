//! Marks: an approximate set of chunk ids that errs towards keeping.
//!
//! Law: what was inserted is contained. What was not is contained with a small chance, another for each salt, so that garbage which stays
//! in one collection goes in a later one. A Bloom filter in blocks of one cache line: 12 bits a chunk take it for marked by mistake in some 0.6 % of cases,
//! 6 bits in some 6 %.

use std::sync::atomic::{AtomicU64, Ordering};

use herdbook_model::id::ChunkId;

/// Words of a block: 64 bytes.
const BLOCK: usize = 8;

/// Bits set for a chunk, of nine bits of its hash each.
const PROBES: u32 = 7;

/// Bits a chunk gets where memory allows.
const BITS: u64 = 12;

/// A set of chunks that are to stay. Shared: whoever stores chunks adds to it while another walks trees.
#[derive(Debug)]
pub struct Marks {
    words: Box<[AtomicU64]>,
    salt: u64,
}

impl Marks {
    /// Returns marks for about `chunks` in at most `bytes` of memory. `salt` varies what is kept by mistake.
    pub fn new(chunks: u64, bytes: usize, salt: u64) -> Self {
        let wanted = usize::try_from(chunks.saturating_mul(BITS) / 8).unwrap_or(usize::MAX);
        let blocks = (wanted.min(bytes) / (8 * BLOCK)).max(64);
        Self { words: (0..blocks * BLOCK).map(|_| AtomicU64::new(0)).collect(), salt }
    }

    /// Marks a chunk.
    pub fn insert(&self, id: &ChunkId) {
        let (block, bits) = self.place(id);
        for (word, bit) in probes(bits) {
            self.words[block + word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether a chunk is marked, or is taken for marked.
    pub fn contains(&self, id: &ChunkId) -> bool {
        let (block, bits) = self.place(id);
        probes(bits).all(|(word, bit)| self.words[block + word].load(Ordering::Relaxed) & bit != 0)
    }

    /// Returns the bytes it takes.
    pub fn byte_len(&self) -> usize {
        self.words.len() * size_of::<AtomicU64>()
    }

    /// Returns the first word of the block of an id, and the bits that say which of its bits are the id's.
    fn place(&self, id: &ChunkId) -> (usize, u64) {
        let bytes = id.as_bytes();
        let half = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let (first, second) = (mixed(half(0) ^ self.salt), mixed(half(8) ^ self.salt.rotate_left(32)));
        let blocks = (self.words.len() / BLOCK) as u64;
        let block = (u128::from(first) * u128::from(blocks)) >> 64;
        (usize::try_from(block).expect("below the number of blocks") * BLOCK, second)
    }
}

/// Returns words of a block, each with the bit that is set in it.
fn probes(bits: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..PROBES).map(move |probe| {
        let nine = (bits >> (9 * probe)) & 511;
        ((nine >> 6) as usize, 1 << (nine & 63))
    })
}

/// The finaliser of splitmix64: chunk ids are hashes already, but whoever makes chunks can choose them.
const fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ChunkId {
        ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    #[test]
    fn what_is_marked_is_contained_and_little_else_is() {
        let marks = Marks::new(20_000, usize::MAX, 7);
        (0..20_000).for_each(|number| marks.insert(&id(number)));
        assert!((0..20_000).all(|number| marks.contains(&id(number))));
        let mistaken = (20_000..120_000).filter(|number| marks.contains(&id(*number))).count();
        assert!(mistaken < 1_500, "{mistaken} of 100,000 are taken for marked");
    }

    #[test]
    fn another_salt_is_mistaken_about_others() {
        let (one, two) = (Marks::new(5_000, 4_096, 1), Marks::new(5_000, 4_096, 2));
        (0..5_000).for_each(|number| (one.insert(&id(number)), two.insert(&id(number))).0);
        let both = |number: &u64| one.contains(&id(*number)) && two.contains(&id(*number));
        let (by_one, by_both) = ((5_000..25_000).filter(|number| one.contains(&id(*number))).count(), (5_000..25_000).filter(both).count());
        assert!(one.byte_len() <= 4_096 && by_both < by_one, "{by_both} of {by_one}");
    }
}
