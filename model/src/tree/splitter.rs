//! Where a node ends. The rule sees the entries from the start of the node on and nothing else, hence history independence.
//!
//! A node ends after the entry that covers its bytes `s..e` if `h32(key, level) · L⁴ < (e⁴ − s⁴) · 2³²`: a Weibull distribution of
//! shape 4 over node sizes, narrow around [`TARGET`], in integers. Sizes are [`weight`]s: full keys and slots, before prefix sharing.
//!
//! The key's hash is FNV-1a (64 bit): three lines in any language, fixed for ever, 1 ns a byte. Whoever chooses keys can choose
//! boundaries, as with any unkeyed hash: grinding a few thousand keys per boundary defeats BLAKE3 as well. What it buys is bounded:
//! no node exceeds [`MAX`], and an inner node has at least two children unless it is the last of its level, so the tree stays
//! logarithmic; only the chooser's own entries lie in small nodes.

use super::{INLINE_MAX, KEY_MAX};

/// Mean size of a node, in bytes.
pub const TARGET: u64 = 4096;

/// Most bytes of entries that a node may have.
pub const MAX: u64 = 3 * TARGET;

/// Bytes that an entry takes beside key and slot: two end offsets.
const OFFSETS: usize = 4;

/// Bytes that count as the slot of an inner entry: 32 of id, 12 of sums. Constant, so that a change below never moves a boundary.
pub(super) const CHILD_WEIGHT: usize = 44;

/// Scale of the Weibull distribution: 1.103 × target, which makes its mean the target.
const SCALE: u128 = 4518;

/// Largest weight of an entry: the longest key beside the longest value that lies in a leaf.
const ENTRY_MAX: u64 = (OFFSETS + KEY_MAX + 1 + INLINE_MAX) as u64;

/// Added per level before the hash is mixed again: 2⁶⁴ divided by the golden ratio.
const LEVEL_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns how many bytes an entry counts for: key, slot and two offsets.
pub(super) const fn weight(key: usize, slot: usize) -> u64 {
    (OFFSETS + key + slot) as u64
}

/// Whether a node on `level` ends after the entry of `key` that covers its bytes `start..end`.
pub fn is_boundary(level: u8, key: &[u8], start: u64, end: u64) -> bool {
    if level > 0 && start == 0 {
        return false;
    }
    if end > MAX - ENTRY_MAX {
        return true;
    }
    let rise = u128::from(end).pow(4) - u128::from(start).pow(4);
    rise >= SCALE.pow(4) || u128::from(h32(key, level)) * SCALE.pow(4) < rise << 32
}

/// Returns 32 bits of the key's hash. All of it is mixed anew per level: with less, the keys that end a leaf end inner nodes too early or too late.
fn h32(key: &[u8], level: u8) -> u32 {
    let fnv = key.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    let mut z = fnv ^ (u64::from(level) + 1).wrapping_mul(LEVEL_STEP);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    u32::try_from((z ^ z >> 31) >> 32).expect("32 bits are left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_hashes() {
        assert_eq!(h32(b"a", 0), 0x832b_e066);
        assert_eq!(h32(b"doc/e8/0000002a", 0), 0x795d_b610);
        assert_eq!(h32(b"doc/e8/0000002a", 1), 0x2f4c_1986);
    }

    #[test]
    fn a_full_node_always_ends_and_stays_within_the_maximum() {
        assert!(is_boundary(0, b"any", MAX - ENTRY_MAX, MAX - ENTRY_MAX + 1));
        assert!(is_boundary(1, b"any", MAX - ENTRY_MAX, MAX - ENTRY_MAX + 1));
    }

    #[test]
    fn an_inner_node_never_ends_after_its_first_entry() {
        assert!((0..100_000u32).all(|i| !is_boundary(1, &i.to_be_bytes(), 0, 1000)));
        assert!((0..100_000u32).any(|i| is_boundary(0, &i.to_be_bytes(), 0, 1000)));
    }

    #[test]
    fn mean_size_is_the_target_on_each_level() {
        for level in 0..4 {
            let (mut nodes, mut total, mut start) = (0, 0, 0);
            for i in 0..200_000u32 {
                total += 60;
                start = if is_boundary(level, &i.to_be_bytes(), start, start + 60) {
                    nodes += 1;
                    0
                } else {
                    start + 60
                };
            }
            let mean = total / nodes;
            assert!((3900..4300).contains(&mean), "level {level}: {mean}");
        }
    }
}
