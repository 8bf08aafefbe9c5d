//! Version vectors: sets of commits closed under ancestors.
//!
//! Because each session's commits form a chain, such a set is a map chain → highest counter. Union is the maximum, intersection the
//! minimum, what is missing a list of ranges, and an ancestor test one look-up.

use crate::{
    codec::{Decode, Encode, Error, Reader, Writer},
    id::ChainId,
};

/// A set of commits closed under ancestors: the highest counter of each chain. Sorted by chain; a counter of zero does not occur.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct VersionVector(Vec<(ChainId, u64)>);

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
        self.last + 1 - self.first
    }

    /// Whether it names none; never true of a range made by [`VersionVector::missing_from`].
    pub const fn is_empty(&self) -> bool {
        self.last < self.first
    }
}

impl VersionVector {
    /// Returns the highest counter of `chain`, 0 if none.
    pub fn get(&self, chain: &ChainId) -> u64 {
        self.0.binary_search_by_key(chain, |(chain, _)| *chain).map_or(0, |at| self.0[at].1)
    }

    /// Whether the commit `counter` of `chain` is in the set.
    pub fn contains(&self, chain: &ChainId, counter: u64) -> bool {
        self.get(chain) >= counter
    }

    /// Raises the counter of `chain` to at least `counter`.
    pub fn raise(&mut self, chain: ChainId, counter: u64) {
        match self.0.binary_search_by_key(&chain, |(chain, _)| *chain) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(counter),
            Err(at) if counter > 0 => self.0.insert(at, (chain, counter)),
            Err(_) => {}
        }
    }

    /// Union: the maximum of each counter. Cost: a look-up for each chain of `other`, and one pass over both if it has chains that are new here.
    pub fn merge(&mut self, other: &Self) {
        let mut new = Vec::new();
        for &(chain, counter) in &other.0 {
            match self.0.binary_search_by_key(&chain, |(chain, _)| *chain) {
                Ok(at) => self.0[at].1 = self.0[at].1.max(counter),
                Err(_) => new.push((chain, counter)),
            }
        }
        if !new.is_empty() {
            // Two sorted runs: the sort merges them in one pass, where inserting one by one would move the rest each time.
            self.0.append(&mut new);
            self.0.sort();
        }
    }

    /// Whether every commit of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|(chain, counter)| self.contains(chain, *counter))
    }

    /// Returns the ranges that `other` has and this set lacks, by chain.
    pub fn missing_from(&self, other: &Self) -> Vec<Range> {
        let lacking = |&(chain, last): &(ChainId, u64)| {
            let first = self.get(&chain) + 1;
            (first <= last).then_some(Range { chain, first, last })
        };
        other.0.iter().filter_map(lacking).collect()
    }

    /// Returns chains and counters, by chain.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(ChainId, u64)> {
        self.0.iter()
    }

    /// Returns how many chains there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set is empty.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many commits the set has.
    pub fn commits(&self) -> u64 {
        self.0.iter().map(|(_, counter)| counter).sum()
    }
}

impl FromIterator<(ChainId, u64)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (ChainId, u64)>>(iter: I) -> Self {
        let mut vector = Self::default();
        for (chain, counter) in iter {
            vector.raise(chain, counter);
        }
        vector
    }
}

impl Encode for VersionVector {
    fn encode(&self, out: &mut Writer) {
        out.count(self.0.len());
        for (chain, counter) in &self.0 {
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
        Ok(Self(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vectors() -> impl Strategy<Value = VersionVector> {
        proptest::collection::vec((0u8..6, 0u64..9), 0..6)
            .prop_map(|entries| entries.into_iter().map(|(chain, counter)| (ChainId([chain; 16]), counter)).collect())
    }

    proptest! {
        #[test]
        fn prop_union_covers_both_and_what_is_missing_fills_the_gap(a in vectors(), b in vectors()) {
            let mut union = a.clone();
            union.merge(&b);
            prop_assert!(union.covers(&a) && union.covers(&b));
            let mut filled = a.clone();
            for range in a.missing_from(&b) {
                prop_assert!(!range.is_empty());
                filled.raise(range.chain, range.last);
            }
            prop_assert_eq!(filled, union);
        }

        #[test]
        fn prop_union_is_the_maximum_of_each_counter(a in vectors(), b in vectors()) {
            let mut union = a.clone();
            union.merge(&b);
            let one_by_one: VersionVector = a.iter().chain(b.iter()).copied().collect();
            prop_assert_eq!(&union, &one_by_one);
            prop_assert!(union.iter().is_sorted_by(|(one, _), (other, _)| one < other));
        }

        #[test]
        fn prop_bytes_round_trip(a in vectors()) {
            prop_assert_eq!(VersionVector::from_bytes(&a.to_bytes()), Ok(a));
        }
    }
}
