//! Sketches of version vectors: what two sides do not have in common is told by cells whose number follows the difference, whatever both hold.
//!
//! Rateless invertible Bloom look-up tables (L. Yang, Y. Gilad, M. Alizadeh, *Practical Rateless Set Reconciliation*, SIGCOMM 2024, sections
//! 4 and 5). Each entry of a vector, a chain with its counter, is a salted *symbol* of 64 bits, and goes into cell *i* with a probability of
//! 1/(1 + i/2), cells being the exclusive or of what went in. The cells of two vectors, one on the other, are those of the entries that
//! only one of them has: of *d* entries, 1.4 to 1.7 *d* cells tell which. A symbol says by itself that it is one: 40 bits name the entry, 24 are
//! a check of them. So a cell is eight bytes.
//!
//! Cells are told in an order of their own: some *probes* from far behind come early, so that a side that cannot tell yet what differs can
//! [estimate](estimate) how many cells it takes.
//!
//! Law: what is [peeled](Sketcher::peel) is what differs, unless two of 2⁴⁰ names of entries met. Who must be sure holds what it made out against
//! a hash of the vector.

use herdbook_model::id::{ChainId, Domain};

/// Cells at the beginning, before the probes.
const PREFIX: usize = 60;

/// The first cell of each group of probes.
const PROBES: [usize; 5] = [128, 512, 2048, 8192, 32_768];

/// Cells of a group of probes.
const GROUP: usize = 28;

/// Cells that are told before anything is known of the difference: the prefix and all probes.
pub const FIRST: usize = PREFIX + PROBES.len() * GROUP;

/// Most cells that are told of one vector.
pub const MAX_CELLS: usize = 1 << 17;

/// Most cells that an estimate looks at.
const ESTIMATED: usize = 4096;

/// Bits of a symbol that check the others.
const CHECK: u32 = 24;

/// Returns when the cell with this index is told, the first being 0.
fn place(index: usize) -> usize {
    if index < PREFIX {
        return index;
    }
    let mut probes = 0;
    for (group, start) in PROBES.into_iter().enumerate() {
        if index < start {
            break;
        }
        if index < start + GROUP {
            return PREFIX + group * GROUP + (index - start);
        }
        probes += GROUP;
    }
    FIRST + index - PREFIX - probes
}

/// The indices of the cells that a symbol goes into, from the first on.
struct Indices {
    index: u64,
    state: u64,
}

impl Iterator for Indices {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let index = self.index;
        let told = usize::try_from(index).ok().filter(|index| *index < 2 * MAX_CELLS)?;
        // Gaps as in section 5 of the paper, ⌈(i + 1.5) (2³² / √(r + 1) − 1)⌉ for a random r, in integers.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let root = mix(self.state).isqrt().max(1);
        let gap = ((2 * index + 3) * ((1 << 32) - root)).div_ceil(2 * root).max(1);
        self.index = index.saturating_add(gap);
        Some(told)
    }
}

/// The places of the cells that a symbol goes into, of those that are among the first `count` told.
fn places(symbol: u64, count: usize) -> impl Iterator<Item = usize> {
    Indices { index: 0, state: symbol }.map(place).filter(move |place| *place < count)
}

/// Mixes the bits of a word (D. Stafford's variant 13 of the finalizer of MurmurHash3, as in SplitMix64).
const fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Makes cells under one salt.
#[derive(Debug, Clone, Copy)]
pub struct Sketcher([u64; 4]);

impl Sketcher {
    /// Returns the one of an exchange, whose nonces nobody knew before it.
    pub fn new(callers: &[u8; 32], listeners: &[u8; 32]) -> Self {
        let salt = Domain::Sketch.hash(&[callers, listeners]);
        let (words, _) = salt.as_chunks::<8>();
        Self(std::array::from_fn(|at| u64::from_le_bytes(words[at])))
    }

    /// Returns the symbol of an entry; never 0.
    pub fn symbol(&self, chain: &ChainId, counter: u64) -> u64 {
        let (halves, _) = chain.0.as_chunks::<8>();
        let [first, second] = [halves[0], halves[1]].map(u64::from_le_bytes);
        let name = mix(mix(mix(first ^ self.0[0]) ^ second ^ self.0[1]) ^ counter ^ self.0[2]) >> CHECK;
        // A name whose symbol would be nothing takes the next one's place.
        let symbol = name << CHECK | self.check(name);
        if symbol == 0 { 1 << CHECK | self.check(1) } else { symbol }
    }

    const fn check(&self, name: u64) -> u64 {
        mix(name ^ self.0[3]) & ((1 << CHECK) - 1)
    }

    const fn is_symbol(&self, cell: u64) -> bool {
        cell != 0 && self.check(cell >> CHECK) == cell & ((1 << CHECK) - 1)
    }

    /// Puts entries into `cells`, which are those told from the one at `first` on; what was put in before comes out again.
    pub fn add<'a>(&self, entries: impl IntoIterator<Item = &'a (ChainId, u64)>, first: usize, cells: &mut [u64]) {
        let end = first + cells.len();
        for (chain, counter) in entries {
            let symbol = self.symbol(chain, *counter);
            for place in places(symbol, end).filter(|place| *place >= first) {
                cells[place - first] ^= symbol;
            }
        }
    }

    /// Returns the symbols in `cells`, which are the first that were told, or `None` if that takes more of them. Cost: follows the cells.
    pub fn peel(&self, cells: &[u64]) -> Option<Vec<u64>> {
        let mut cells = cells.to_vec();
        let mut pure: Vec<usize> = (0..cells.len()).filter(|place| self.is_symbol(cells[*place])).collect();
        let mut found = Vec::new();
        while let Some(at) = pure.pop() {
            let symbol = cells[at];
            // By accident several look like one now and then; but one lies where it belongs.
            if !self.is_symbol(symbol) || places(symbol, cells.len()).all(|place| place != at) {
                continue;
            }
            found.push(symbol);
            if found.len() > cells.len() {
                return None;
            }
            for place in places(symbol, cells.len()) {
                cells[place] ^= symbol;
                if self.is_symbol(cells[place]) {
                    pure.push(place);
                }
            }
        }
        found.sort_unstable();
        let is_whole = cells.iter().all(|cell| *cell == 0) && found.windows(2).all(|pair| pair[0] != pair[1]);
        is_whole.then_some(found)
    }
}

/// Returns how many entries probably differ, given the first cells of the difference: the number under which it is likeliest that those are empty
/// which are.
pub fn estimate(cells: &[u64]) -> usize {
    // More say little more: the later ones are of the probes' kind.
    let count = cells.len().min(ESTIMATED);
    let seen: Vec<_> = (0..2 * MAX_CELLS).map(|index| (index, place(index))).filter(|(_, place)| *place < count).collect();
    let likelihood = |count: f64| {
        let of_cell = |(index, place): &(usize, usize)| {
            #[expect(clippy::cast_precision_loss, reason = "indices are small")]
            let expected = count / (1.0 + *index as f64 / 2.0);
            if cells[*place] == 0 { -expected } else { (-(-expected).exp_m1()).max(f64::MIN_POSITIVE).ln() }
        };
        seen.iter().map(of_cell).sum::<f64>()
    };
    // Steps of a sixteenth of a doubling, up to more entries than cells could tell.
    let counts = (0..17 * 16).map(|step| 2f64.powf(f64::from(step) / 16.0));
    let best = counts.map(|count| (likelihood(count), count)).max_by(|one, other| one.0.total_cmp(&other.0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 2¹⁷")]
    best.map_or(1, |(_, count)| count.ceil() as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SKETCHER: Sketcher = Sketcher([1, 2, 3, 4]);

    fn entries(seed: u64, count: u64) -> Vec<(ChainId, u64)> {
        let word = |at: u64| mix(seed.wrapping_mul(0x1234_5678_9abc_def1) ^ at);
        let chain = |at| ChainId(u128::from(word(2 * at)).wrapping_mul(u128::from(word(2 * at + 1)) | 1).to_le_bytes());
        (0..count).map(|at| (chain(at), 1 + word(at) % 100)).collect()
    }

    fn cells(entries: &[(ChainId, u64)], count: usize) -> Vec<u64> {
        let mut cells = vec![0; count];
        SKETCHER.add(entries, 0, &mut cells);
        cells
    }

    #[test]
    fn every_place_is_told_once() {
        let mut told: Vec<_> = (0..MAX_CELLS + 20_000).map(place).collect();
        told.sort_unstable();
        assert!(told.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(told[..MAX_CELLS].iter().copied().eq(0..MAX_CELLS));
    }

    /// The fault: a root near nothing took the next index, and the gap after it, beyond what a word holds.
    #[test]
    fn a_symbol_whose_gap_is_far_goes_into_no_cell_beyond() {
        for symbol in [0x8ea4_05cd_52dd_0fa0, 0x8692_f695_0ca2_a279] {
            assert!(Indices { index: 0, state: symbol }.all(|index| index < 2 * MAX_CELLS));
        }
    }

    #[test]
    fn cells_of_an_entry_are_what_they_always_were() {
        let sketcher = Sketcher::new(&[1; 32], &[2; 32]);
        let symbol = sketcher.symbol(&ChainId([7; 16]), 300);
        assert_eq!((symbol, places(symbol, FIRST).collect::<Vec<_>>()), (2_860_688_294_511_526_511, vec![0, 2, 13, 19]));
    }

    /// Differences of all sizes take about as many cells as the paper says, and are estimated well enough to ask for them at once.
    #[test]
    fn a_difference_is_told_by_few_cells() {
        for (count, most) in [(1, 4), (10, 40), (100, 190), (1000, 1600), (5000, 7600)] {
            for seed in 0..5 {
                let difference = entries(1000 + seed, count);
                let all = cells(&difference, most + FIRST);
                let found = SKETCHER.peel(&all).unwrap_or_else(|| panic!("{count} entries from {} cells", all.len()));
                assert_eq!(found.len() as u64, count);
                let estimated = estimate(&all[..FIRST]) as f64 / count as f64;
                assert!(count < 50 || (0.5..2.0).contains(&estimated), "{count} were taken for {estimated} times as many");
            }
        }
    }

    proptest! {
        #[test]
        fn prop_cells_of_two_sides_tell_what_only_one_has(
            common in 0u64..300, mine in 0u64..40, theirs in 0u64..40, seed in any::<u64>(), first in 0usize..300,
        ) {
            let (common, mine, theirs) = (entries(seed, common), entries(seed ^ 1, mine), entries(seed ^ 2, theirs));
            let both = [common.clone(), mine.clone()].concat();
            let mut all = cells(&both, 500);
            // Cells may be made in parts.
            let (head, tail) = all.split_at_mut(first);
            for part in [&common, &theirs] {
                SKETCHER.add(part, 0, head);
                SKETCHER.add(part, first, tail);
            }
            let mut expected: Vec<_> = mine.iter().chain(&theirs).map(|(chain, counter)| SKETCHER.symbol(chain, *counter)).collect();
            expected.sort_unstable();
            prop_assert_eq!(SKETCHER.peel(&all), Some(expected));
        }

        #[test]
        fn prop_cells_that_nobody_made_are_no_harm(all in proptest::collection::vec(any::<u64>(), 0..400)) {
            let _ = (SKETCHER.peel(&all), estimate(&all));
        }
    }
}
