//! The map below a version vector: a trie over chain ids, whose parts are shared between vectors.
//!
//! Laws: the shape follows from the entries alone, so equal parts of two vectors lie in the same place. What two vectors share by pointer is
//! passed over by every operation on both, so such an operation costs what differs, times the depth. A trie is never changed where another
//! vector sees it.

use std::{cmp::Ordering, sync::Arc};

use super::Range;
use crate::id::ChainId;

/// Most entries of a leaf: few enough to be copied for one that rises, and enough that the usual herd needs no more than one leaf.
const LEAF: usize = 32;

/// Nibbles of a chain id: how deep a trie can be.
const DEPTH: usize = 2 * ChainId::LEN;

/// One chain and its highest counter, never 0.
pub(super) type Item = (ChainId, u64);

/// A part of a trie: all entries whose chain ids begin with the same nibbles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// At most [`LEAF`] entries, by rising chain.
    Leaf(Vec<Item>),
    /// More than that.
    Inner(Inner),
}

/// Parts by their next nibble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inner {
    chains: usize,
    commits: u64,
    /// A bit for each nibble that occurs.
    present: u16,
    /// A part for each bit, in order.
    parts: Vec<Arc<Node>>,
}

impl Default for Node {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

fn nibble(chain: &ChainId, depth: usize) -> u32 {
    let byte = chain.as_bytes()[depth / 2];
    u32::from(if depth.is_multiple_of(2) { byte >> 4 } else { byte & 0xf })
}

impl Inner {
    fn of(present: u16, parts: Vec<Arc<Node>>) -> Self {
        let chains = parts.iter().map(|part| part.chains()).sum();
        let commits = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.commits()));
        Self { chains, commits, present, parts }
    }

    /// Returns where the part of a nibble lies, or would.
    const fn place(&self, nibble: u32) -> Result<usize, usize> {
        let at = (self.present & ((1 << nibble) - 1)).count_ones() as usize;
        if self.present & 1 << nibble == 0 { Err(at) } else { Ok(at) }
    }

    fn part(&self, nibble: u32) -> Option<&Arc<Node>> {
        self.place(nibble).ok().map(|at| &self.parts[at])
    }

    /// Returns the nibbles that occur here, each with its part.
    fn parts(&self) -> impl Iterator<Item = (u32, &Arc<Node>)> {
        (0..16).filter(|nibble| self.present & 1 << nibble != 0).zip(&self.parts)
    }
}

impl Node {
    /// Returns the part of `entries`, which rise by chain and whose first `depth` nibbles are the same.
    pub(super) fn build(entries: Vec<Item>, depth: usize) -> Self {
        if entries.len() <= LEAF || depth == DEPTH {
            return Self::Leaf(entries);
        }
        let (mut present, mut parts) = (0, Vec::new());
        for of_nibble in entries.chunk_by(|(one, _), (other, _)| nibble(one, depth) == nibble(other, depth)) {
            present |= 1 << nibble(&of_nibble[0].0, depth);
            parts.push(Arc::new(Self::build(of_nibble.to_vec(), depth + 1)));
        }
        Self::Inner(Inner::of(present, parts))
    }

    pub(super) const fn chains(&self) -> usize {
        match self {
            Self::Leaf(entries) => entries.len(),
            Self::Inner(inner) => inner.chains,
        }
    }

    /// Returns the sum of all counters, at most `u64::MAX`.
    pub(super) fn commits(&self) -> u64 {
        match self {
            Self::Leaf(entries) => entries.iter().fold(0, |sum, (_, counter)| sum.saturating_add(*counter)),
            Self::Inner(inner) => inner.commits,
        }
    }

    pub(super) fn get(&self, chain: &ChainId, mut depth: usize) -> u64 {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(entries) => return entries.binary_search_by_key(chain, |(chain, _)| *chain).map_or(0, |at| entries[at].1),
                Self::Inner(inner) => match inner.part(nibble(chain, depth)) {
                    Some(part) => node = part,
                    None => return 0,
                },
            }
            depth += 1;
        }
    }

    /// Raises a counter that is lower, in place where no other vector sees it. Returns by how much, and whether the chain is new.
    pub(super) fn raise(self: &mut Arc<Self>, (chain, counter): Item, depth: usize) -> (u64, bool) {
        let risen = match Arc::make_mut(self) {
            Self::Leaf(entries) => match entries.binary_search_by_key(&chain, |(chain, _)| *chain) {
                Ok(at) => (counter - std::mem::replace(&mut entries[at].1, counter), false),
                Err(at) => {
                    entries.insert(at, (chain, counter));
                    (counter, true)
                }
            },
            Self::Inner(inner) => {
                let nibble = nibble(&chain, depth);
                let at = inner.place(nibble).unwrap_or_else(|at| {
                    inner.present |= 1 << nibble;
                    inner.parts.insert(at, Arc::default());
                    at
                });
                let (by, is_new) = inner.parts[at].raise((chain, counter), depth + 1);
                inner.commits = inner.commits.saturating_add(by);
                inner.chains += usize::from(is_new);
                (by, is_new)
            }
        };
        if let Self::Leaf(entries) = &**self
            && entries.len() > LEAF
        {
            *self = Arc::new(Self::build(entries.clone(), depth));
        }
        risen
    }

    /// Returns the union: `one` or `other` itself where that is it.
    pub(super) fn union(one: &Arc<Self>, other: &Arc<Self>, depth: usize) -> Arc<Self> {
        if Arc::ptr_eq(one, other) {
            return one.clone();
        }
        match (&**one, &**other) {
            (Self::Leaf(ours), Self::Leaf(theirs)) => {
                // Mostly one side covers the other, and then nothing is made.
                if all_below(ours, theirs) {
                    other.clone()
                } else if all_below(theirs, ours) {
                    one.clone()
                } else {
                    Arc::new(Self::build(merged(ours, theirs), depth))
                }
            }
            (Self::Leaf(few), Self::Inner(_)) => raised(other, few, depth),
            (Self::Inner(_), Self::Leaf(few)) => raised(one, few, depth),
            (Self::Inner(ours), Self::Inner(theirs)) => {
                let present = ours.present | theirs.present;
                let mut parts = Vec::with_capacity(present.count_ones() as usize);
                let (mut is_one, mut is_other) = (true, true);
                for nibble in (0..16).filter(|nibble| present & 1 << nibble != 0) {
                    let (our, their) = (ours.part(nibble), theirs.part(nibble));
                    let part = match (our, their) {
                        (Some(our), Some(their)) => Self::union(our, their, depth + 1),
                        (Some(part), None) | (None, Some(part)) => part.clone(),
                        (None, None) => continue,
                    };
                    is_one &= our.is_some_and(|our| Arc::ptr_eq(our, &part));
                    is_other &= their.is_some_and(|their| Arc::ptr_eq(their, &part));
                    parts.push(part);
                }
                if is_other {
                    other.clone()
                } else if is_one {
                    one.clone()
                } else {
                    Arc::new(Self::Inner(Inner::of(present, parts)))
                }
            }
        }
    }

    /// Adds the ranges that `other` has and `one` lacks, by rising chain, until `take` answers false; whether it never did.
    pub(super) fn missing(one: &Self, other: &Self, depth: usize, take: &mut impl FnMut(Range) -> bool) -> bool {
        if std::ptr::eq(one, other) {
            return true;
        }
        match (one, other) {
            (_, Self::Leaf(theirs)) => theirs.iter().all(|&(chain, last)| {
                let held = one.get(&chain, depth);
                held >= last || take(Range { chain, first: held + 1, last })
            }),
            (Self::Leaf(_), Self::Inner(theirs)) => theirs.parts.iter().all(|part| Self::missing(one, part, depth, take)),
            (Self::Inner(ours), Self::Inner(theirs)) => theirs.parts().all(|(nibble, theirs)| match ours.part(nibble) {
                Some(ours) => Self::missing(ours, theirs, depth + 1, take),
                None => Self::missing(&Self::default(), theirs, depth + 1, take),
            }),
        }
    }
}

/// Whether no entry of `ours` is above its like in `theirs`; both rise by chain.
fn all_below(ours: &[Item], theirs: &[Item]) -> bool {
    let mut theirs = theirs.iter();
    ours.len() <= theirs.len()
        && ours
            .iter()
            .all(|(chain, counter)| theirs.find(|(other, _)| other >= chain).is_some_and(|their| their.0 == *chain && their.1 >= *counter))
}

/// Returns the union of two lists that rise by chain.
fn merged(ours: &[Item], theirs: &[Item]) -> Vec<Item> {
    let mut union = Vec::with_capacity(ours.len() + theirs.len());
    let (mut ours, mut theirs) = (ours.iter().copied().peekable(), theirs.iter().copied().peekable());
    while let (Some(&our), Some(&their)) = (ours.peek(), theirs.peek()) {
        union.push(match our.0.cmp(&their.0) {
            Ordering::Less => our,
            Ordering::Greater => their,
            Ordering::Equal => our.max(their),
        });
        if our.0 <= their.0 {
            ours.next();
        }
        if our.0 >= their.0 {
            theirs.next();
        }
    }
    union.extend(ours);
    union.extend(theirs);
    union
}

fn raised(node: &Arc<Node>, entries: &[Item], depth: usize) -> Arc<Node> {
    let mut node = node.clone();
    for &(chain, counter) in entries {
        if node.get(&chain, depth) < counter {
            node.raise((chain, counter), depth);
        }
    }
    node
}

/// Entries of a trie, by rising chain.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    leaf: std::slice::Iter<'a, Item>,
    above: Vec<std::slice::Iter<'a, Arc<Node>>>,
    left: usize,
}

impl<'a> Iter<'a> {
    pub(super) fn new(node: &'a Arc<Node>) -> Self {
        let root = std::slice::from_ref(node).iter();
        Self { leaf: [].iter(), above: vec![root], left: node.chains() }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Item;

    fn next(&mut self) -> Option<&'a Item> {
        loop {
            if let Some(entry) = self.leaf.next() {
                self.left -= 1;
                return Some(entry);
            }
            match self.above.last_mut()?.next().map(|node| &**node) {
                None => _ = self.above.pop(),
                Some(Node::Leaf(entries)) => self.leaf = entries.iter(),
                Some(Node::Inner(inner)) => self.above.push(inner.parts.iter()),
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}
