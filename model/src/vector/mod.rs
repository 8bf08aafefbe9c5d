//! Version vectors: sets of commits closed under ancestors.
//!
//! Because each session's commits form a chain, such a set is a map chain → highest counter. Union is the maximum, intersection the
//! minimum, what is missing a list of ranges, and an ancestor test one look-up. Vectors share what they have in common (`trie`), so that a
//! clone costs a pointer, and union, comparison and what is missing cost what differs and not how many sessions there ever were.

mod trie;

use std::sync::Arc;

pub use self::trie::Iter;
use self::trie::Node;
use crate::{
    codec::{Decode, Encode, Error, Reader, Writer},
    id::ChainId,
};

/// A set of commits closed under ancestors: the highest counter of each chain. A counter of zero does not occur. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VersionVector(Arc<Node>);

/// The commits of one chain with counters in `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The chain.
    pub chain: ChainId,
    /// Lowest counter.
    pub first: u64,
    /// Highest counter.
    pub last: u64,
}

impl Range {
    /// Returns how many commits it names.
    pub const fn len(&self) -> u64 {
        self.last.saturating_add(1).saturating_sub(self.first)
    }

    /// Whether it names none; never true of a range made by [`VersionVector::missing_from`].
    pub const fn is_empty(&self) -> bool {
        self.last < self.first
    }
}

impl VersionVector {
    /// Returns the highest counter of `chain`, 0 if none.
    pub fn get(&self, chain: &ChainId) -> u64 {
        self.0.get(chain, 0)
    }

    /// Whether the commit `counter` of `chain` is in the set.
    pub fn contains(&self, chain: &ChainId, counter: u64) -> bool {
        self.get(chain) >= counter
    }

    /// Raises the counter of `chain` to at least `counter`. Cost: the depth of the trie.
    pub fn raise(&mut self, chain: ChainId, counter: u64) {
        if self.get(&chain) < counter {
            self.0.raise((chain, counter), 0);
        }
    }

    /// Union: the maximum of each counter. Cost: what differs; where one side covers the other, both are one afterwards.
    pub fn merge(&mut self, other: &Self) {
        self.0 = Node::union(&self.0, &other.0, 0);
    }

    /// Whether every commit of `other` is in this set. Cost: what differs, up to the first that is not.
    pub fn covers(&self, other: &Self) -> bool {
        Node::missing(&self.0, &other.0, 0, &mut |_| false)
    }

    /// Whether every commit of `other` is in this set, but for the one at `counter` of `chain`. So a commit's ancestors are looked for, given
    /// its vector.
    pub fn covers_below(&self, other: &Self, chain: &ChainId, counter: u64) -> bool {
        let is_own = |range: Range| range.first == counter && range.last == counter && range.chain == *chain;
        Node::missing(&self.0, &other.0, 0, &mut |range| is_own(range))
    }

    /// Returns the ranges that `other` has and this set lacks, by chain. Cost: what differs.
    pub fn missing_from(&self, other: &Self) -> Vec<Range> {
        let mut ranges = Vec::new();
        Node::missing(&self.0, &other.0, 0, &mut |range| {
            ranges.push(range);
            true
        });
        ranges
    }

    /// Returns chains and counters, by chain.
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(&self.0)
    }

    /// Returns how many chains there are.
    pub fn len(&self) -> usize {
        self.0.chains()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many commits the set has, at most `u64::MAX`.
    pub fn commits(&self) -> u64 {
        self.0.commits()
    }
}

impl FromIterator<(ChainId, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ChainId, u64)>>(iter: I) -> Self {
        let mut entries: Vec<_> = iter.into_iter().filter(|(_, counter)| *counter > 0).collect();
        // The highest counter of a chain comes first, and the others go.
        entries.sort_unstable_by_key(|&(chain, counter)| (chain, std::cmp::Reverse(counter)));
        entries.dedup_by_key(|(chain, _)| *chain);
        Self(Arc::new(Node::build(entries, 0)))
    }
}

impl Encode for VersionVector {
    fn encode(&self, out: &mut Writer) {
        out.count(self.len());
        for (chain, counter) in self.iter() {
            chain.encode(out);
            out.uint(*counter);
        }
    }
}

impl Decode for VersionVector {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        let count = input.count(ChainId::LEN + 1)?;
        let mut entries = Vec::<(ChainId, u64)>::with_capacity(count);
        for _ in 0..count {
            let (chain, counter) = (ChainId::decode(input)?, input.uint()?);
            if counter == 0 || entries.last().is_some_and(|(before, _)| *before >= chain) {
                return Err(Error::Order { what: "version vector" });
            }
            entries.push((chain, counter));
        }
        Ok(Self(Arc::new(Node::build(entries, 0))))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A vector as its definition has it.
    type Plain = BTreeMap<ChainId, u64>;

    /// Chains of which many begin alike, so that tries of a few entries are deep.
    fn chains() -> impl Strategy<Value = ChainId> {
        (0u8..40, 0u8..3, 0u8..4).prop_map(|(first, second, last)| {
            let mut chain = [0; 16];
            (chain[0], chain[1], chain[15]) = (first / 8 * 0x31, second, first * 4 + last);
            ChainId(chain)
        })
    }

    fn plain() -> impl Strategy<Value = Plain> {
        prop_oneof![
            proptest::collection::btree_map(chains(), 1u64..9, 0..6),
            proptest::collection::btree_map(chains(), 1u64..9, 0..80),
            proptest::collection::btree_map(any::<[u8; 16]>().prop_map(ChainId), 1u64..=u64::MAX, 0..60),
        ]
    }

    fn vector(plain: &Plain) -> VersionVector {
        plain.iter().map(|(chain, counter)| (*chain, *counter)).collect()
    }

    fn union(one: &Plain, other: &Plain) -> Plain {
        let mut union = one.clone();
        for (chain, counter) in other {
            let held = union.entry(*chain).or_default();
            *held = (*held).max(*counter);
        }
        union
    }

    /// What is missing, by the definition.
    fn missing(one: &Plain, other: &Plain) -> Vec<Range> {
        let range = |(chain, last): (&ChainId, &u64)| {
            let held = one.get(chain).copied().unwrap_or_default();
            (held < *last).then(|| Range { chain: *chain, first: held + 1, last: *last })
        };
        other.iter().filter_map(range).collect()
    }

    proptest! {
        #[test]
        fn prop_every_question_is_answered_as_by_a_plain_map(one in plain(), other in plain(), more in plain()) {
            // The second vector shares parts with the first, as vectors of one graph do.
            let (first, plain_second) = (vector(&one), union(&union(&one, &other), &more));
            let mut second = first.clone();
            second.merge(&vector(&other));
            more.iter().for_each(|(chain, counter)| second.raise(*chain, *counter));
            for (held, of) in [(&first, &one), (&second, &plain_second)] {
                prop_assert_eq!(held.iter().copied().collect::<Vec<_>>(), of.iter().map(|(chain, counter)| (*chain, *counter)).collect::<Vec<_>>());
                prop_assert_eq!((held.len(), held.iter().len(), held.is_empty()), (of.len(), of.len(), of.is_empty()));
                prop_assert_eq!(held.commits(), of.values().fold(0u64, |sum, counter| sum.saturating_add(*counter)));
                for chain in plain_second.keys().chain(other.keys()) {
                    prop_assert_eq!(held.get(chain), of.get(chain).copied().unwrap_or_default());
                }
            }
            for (held, of) in [(&first, &one), (&second, &plain_second)] {
                for (asked, wanted) in [(&first, &one), (&second, &plain_second), (&vector(&other), &other)] {
                    prop_assert_eq!(held.missing_from(asked), missing(of, wanted));
                    prop_assert_eq!(held.covers(asked), missing(of, wanted).is_empty());
                }
            }
        }

        #[test]
        fn prop_equal_sets_are_equal_in_whatever_order_they_were_made(one in plain(), other in plain()) {
            let (mut forward, mut backward) = (vector(&one), vector(&other));
            forward.merge(&vector(&other));
            backward.merge(&vector(&one));
            let at_once = vector(&union(&one, &other));
            prop_assert_eq!(&forward, &at_once);
            prop_assert_eq!(&backward, &at_once);
            prop_assert_eq!(VersionVector::from_bytes(&at_once.to_bytes()), Ok(forward));
        }

        #[test]
        fn prop_what_is_made_from_a_vector_leaves_it_as_it_was(one in plain(), other in plain()) {
            let first = vector(&one);
            let mut second = first.clone();
            other.iter().for_each(|(chain, counter)| second.raise(*chain, *counter));
            second.merge(&vector(&other));
            prop_assert_eq!(first, vector(&one));
        }

        #[test]
        fn prop_a_commit_stands_on_what_holds_all_but_itself(one in plain(), chain in chains(), by in 1u64..3) {
            let held = vector(&one);
            let mut own = held.clone();
            let next = held.get(&chain).saturating_add(by);
            own.raise(chain, next);
            prop_assert_eq!(held.covers_below(&own, &chain, next), by == 1 || held.get(&chain) == next);
            prop_assert!(own.covers_below(&own, &chain, next));
        }
    }

    #[test]
    fn a_counter_that_can_rise_no_more_is_answered() {
        let [below, most]: [VersionVector; 2] = [7, u64::MAX].map(|counter| [(ChainId([1; 16]), counter)].into_iter().collect());
        assert_eq!(most.missing_from(&below), []);
        assert_eq!(most.missing_from(&most.iter().copied().collect()), []);
        let [range] = below.missing_from(&most)[..] else { panic!("one chain, one range") };
        assert_eq!((range.first, range.last, range.is_empty()), (8, u64::MAX, false));
        assert!(range.len() > 1 << 63);
    }

    #[test]
    fn a_union_with_what_is_covered_makes_nothing_new() {
        let mut small: VersionVector = (0..200u8).map(|number| (ChainId([number; 16]), 1)).collect();
        let mut large = small.clone();
        large.raise(ChainId([7; 16]), 5);
        let before = Arc::as_ptr(&large.0);
        large.merge(&small);
        small.merge(&large);
        assert!(Arc::as_ptr(&large.0) == before && Arc::ptr_eq(&small.0, &large.0));
    }
}
