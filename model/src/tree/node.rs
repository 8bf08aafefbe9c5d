//! A node of the tree: bytes that are checked once and then searched in place.
//!
//! Payload of a chunk of kind `Leaf` or `Inner`, numbers little endian:
//!
//! ```text
//! offset           bytes  what
//! 0                1      level: 0 in a leaf, 1 to 15 in an inner node
//! 1                2      n, the number of entries: 0 only in the leaf of the empty tree
//! 3                2      p, the length of the prefix that all keys share: the longest there is, for one entry the whole key
//! 5                p      the shared prefix
//! 5 + p            2 n    for each entry the end of its key suffix, from the start of the suffixes; never falling
//! 5 + p + 2 n      2 n    for each entry the end of its slot, from the start of the slots; rising
//! 5 + p + 4 n      k      the key suffixes, one after another; k is the last end
//! 5 + p + 4 n + k  v      the slots, one after another; v is the last end. Nothing follows.
//! ```
//!
//! A key is prefix and suffix, 1 to 1,024 bytes; keys rise strictly. The slot in a leaf is a [`Slot`], in an inner node a [`Child`]
//! whose last key is the key beside it, with at least one entry. The entries weigh at most [`splitter::MAX`] together.

use std::{cmp::Ordering, fmt, sync::Arc};

use super::{
    Child, Error, Fault, KEY_MAX, LEVEL_MAX, Nodes, Slot,
    slot::Totals,
    splitter::{self, CHILD_WEIGHT},
};
use crate::{
    chunk::{self, Kind, Verified},
    codec::{self, Decode as _, Reader},
    id::ChunkId,
};

/// Bytes before the shared prefix.
pub(super) const HEADER_LEN: usize = 5;

/// A well-formed node around its chunk.
pub struct Node {
    chunk: Verified,
    level: u8,
    len: usize,
    /// Where the shared prefix ends and the offsets begin, in the payload.
    offsets: usize,
    /// Where the slots begin, in the payload.
    slots: usize,
    totals: Totals,
}

impl Node {
    /// Reads a node. Cost: one pass over its entries, no copy.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the chunk is no canonical node; never panics, whatever the bytes.
    pub fn decode(chunk: Verified) -> Result<Self, Error> {
        let id = chunk.id();
        Self::parse(chunk).map_err(|source| Error::Corrupt { id, source })
    }

    fn parse(chunk: Verified) -> Result<Self, Fault> {
        let mut input = Reader::new(chunk.payload());
        let level = input.byte()?;
        match (chunk.kind(), level) {
            (Kind::Leaf, 0) | (Kind::Inner, 1..=LEVEL_MAX) => {}
            (Kind::Leaf | Kind::Inner, _) => return Err(codec::Error::Malformed { what: "level of a node" }.into()),
            (found, _) => return Err(chunk::Error::WrongKind { expected: Kind::Leaf, found }.into()),
        }
        let len = usize::from(u16::from_le_bytes(input.array()?));
        let prefix = usize::from(u16::from_le_bytes(input.array()?));
        input.raw(prefix)?;
        let key_ends = input.raw(2 * len)?;
        let slot_ends = input.raw(2 * len)?;
        let suffixes = key_ends.last_chunk().map_or(0, |end| usize::from(u16::from_le_bytes(*end)));
        input.raw(suffixes)?;
        let slots = slot_ends.last_chunk().map_or(0, |end| usize::from(u16::from_le_bytes(*end)));
        input.raw(slots)?;
        input.end()?;
        if len == 0 && (level > 0 || prefix > 0) {
            return Err(codec::Error::Malformed { what: "node without entries" }.into());
        }
        let offsets = HEADER_LEN + prefix;
        let slots = offsets + 4 * len + suffixes;
        let mut node = Self { chunk, level, len, offsets, slots, totals: Totals::default() };
        node.totals = node.check_entries()?;
        Ok(node)
    }

    /// Checks order, lengths, limits and slots of all entries; returns their sums.
    fn check_entries(&self) -> Result<Totals, codec::Error> {
        let rises = |at: usize| (1..self.len).all(|index| self.end(at, index - 1) <= self.end(at, index));
        if !rises(self.offsets) || !rises(self.offsets + 2 * self.len) {
            return Err(codec::Error::Order { what: "offsets of a node" });
        }
        let shared = if self.len == 1 { self.suffix(0).len() } else { common(self.suffix(0), self.suffix(self.len.max(1) - 1)) };
        if self.len > 0 && shared > 0 {
            return Err(codec::Error::Malformed { what: "prefix of a node" });
        }
        let (mut totals, mut weight) = (Totals::default(), 0);
        for index in 0..self.len {
            let key = self.key_len(index);
            if key == 0 || key > KEY_MAX {
                return Err(codec::Error::Limit { what: "key", actual: key as u64, limit: KEY_MAX as u64 });
            }
            if index > 0 && self.suffix(index - 1) >= self.suffix(index) {
                return Err(codec::Error::Order { what: "keys of a node" });
            }
            let entry = if self.is_leaf() {
                let slot = Slot::parse(self.slot_bytes(index))?;
                let Some(bytes) = slot.value_len().checked_add(key as u64) else {
                    return Err(codec::Error::Malformed { what: "sums of a node" });
                };
                Totals { count: 1, bytes }
            } else {
                let child = Child::from_bytes(self.slot_bytes(index))?;
                if child.count == 0 {
                    return Err(codec::Error::Malformed { what: "child without entries" });
                }
                Totals { count: child.count, bytes: child.bytes }
            };
            let (Some(count), Some(bytes)) = (totals.count.checked_add(entry.count), totals.bytes.checked_add(entry.bytes)) else {
                return Err(codec::Error::Malformed { what: "sums of a node" });
            };
            totals = Totals { count, bytes };
            weight += self.weight(index);
        }
        if weight > splitter::MAX {
            return Err(codec::Error::Limit { what: "node", actual: weight, limit: splitter::MAX });
        }
        Ok(totals)
    }

    /// Returns its chunk.
    pub const fn chunk(&self) -> &Verified {
        &self.chunk
    }

    /// Returns its name.
    pub const fn id(&self) -> ChunkId {
        self.chunk.id()
    }

    /// Returns its level: 0 for a leaf.
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// Whether it is a leaf.
    pub const fn is_leaf(&self) -> bool {
        self.level == 0
    }

    /// Returns how many entries it has.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it is the leaf of the empty tree.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns how many entries and bytes lie below it.
    pub const fn totals(&self) -> Totals {
        self.totals
    }

    /// Returns the key of entry `index`, copied together.
    pub fn key(&self, index: usize) -> Vec<u8> {
        [self.prefix(), self.suffix(index)].concat()
    }

    /// Returns where `key` is, or where it would be.
    ///
    /// # Errors
    /// The index of the first larger key, if `key` is not there.
    pub fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let Some(suffix) = key.strip_prefix(self.prefix()) else {
            return Err(if key < self.prefix() { 0 } else { self.len });
        };
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = low.midpoint(high);
            match self.suffix(middle).cmp(suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Compares key `index` with `key`.
    pub(super) fn cmp_key(&self, index: usize, key: &[u8]) -> Ordering {
        match key.strip_prefix(self.prefix()) {
            Some(suffix) => self.suffix(index).cmp(suffix),
            None => self.prefix().cmp(key),
        }
    }

    /// Compares key `index` with a key of another node, without copying either.
    pub(super) fn cmp_entry(&self, index: usize, other: &Self, at: usize) -> Ordering {
        let (ours, theirs) = (self.prefix(), other.prefix());
        if ours == theirs {
            return self.suffix(index).cmp(other.suffix(at));
        }
        cmp_joined((ours, self.suffix(index)), (theirs, other.suffix(at)))
    }

    /// Returns where the value of entry `index` of a leaf lies.
    pub fn slot(&self, index: usize) -> Slot<'_> {
        Slot::parse(self.slot_bytes(index)).expect("slots were checked when the node was decoded")
    }

    /// Returns child `index` of an inner node.
    pub fn child(&self, index: usize) -> Child {
        Child::from_bytes(self.slot_bytes(index)).expect("slots were checked when the node was decoded")
    }

    /// Returns how many entries and bytes lie at or below entry `index`.
    pub(super) fn entry_totals(&self, index: usize) -> Totals {
        if self.is_leaf() {
            Totals { count: 1, bytes: self.key_len(index) as u64 + self.slot(index).value_len() }
        } else {
            let child = self.child(index);
            Totals { count: child.count, bytes: child.bytes }
        }
    }

    /// Returns what entry `index` counts for in the splitter.
    pub(super) fn weight(&self, index: usize) -> u64 {
        splitter::weight(self.key_len(index), if self.is_leaf() { self.slot_bytes(index).len() } else { CHILD_WEIGHT })
    }

    /// Returns node `index` below this one, checked against what this one says of it.
    pub(super) fn descend<N: Nodes + ?Sized>(&self, nodes: &N, index: usize) -> Result<Arc<Self>, Error> {
        let child = self.child(index);
        let node = nodes.node(&child.id)?;
        node.check(&child, self.level - 1)?;
        if node.cmp_entry(node.len - 1, self, index).is_ne() {
            return Err(Error::Corrupt { id: child.id, source: Fault::LastKey });
        }
        Ok(node)
    }

    /// Checks level and sums against what a parent says.
    pub(super) fn check(&self, child: &Child, level: u8) -> Result<(), Error> {
        let corrupt = |source| Error::Corrupt { id: child.id, source };
        if self.level != level {
            return Err(corrupt(Fault::Level { expected: level, actual: self.level }));
        }
        child.check(self.totals).map_err(corrupt)
    }

    /// Returns what all keys share.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.chunk.payload()[HEADER_LEN..self.offsets]
    }

    /// Returns what key `index` has beyond the prefix.
    pub(super) fn suffix(&self, index: usize) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        let area = &self.chunk.payload()[self.offsets + 4 * self.len..self.slots];
        &area[self.start(self.offsets, index)..self.end(self.offsets, index)]
    }

    /// Returns slot `index` as it is written.
    pub(super) fn slot_bytes(&self, index: usize) -> &[u8] {
        let (area, ends) = (&self.chunk.payload()[self.slots..], self.offsets + 2 * self.len);
        &area[self.start(ends, index)..self.end(ends, index)]
    }

    /// Returns everything before the ends of the slots, and the suffixes: what stays when only slots change.
    pub(super) fn keys_parts(&self) -> (&[u8], &[u8]) {
        let payload = self.chunk.payload();
        (&payload[..self.offsets + 2 * self.len], &payload[self.offsets + 4 * self.len..self.slots])
    }

    fn key_len(&self, index: usize) -> usize {
        self.offsets - HEADER_LEN + self.suffix(index).len()
    }

    fn start(&self, ends: usize, index: usize) -> usize {
        if index == 0 { 0 } else { self.end(ends, index - 1) }
    }

    fn end(&self, ends: usize, index: usize) -> usize {
        let payload = self.chunk.payload();
        usize::from(u16::from_le_bytes([payload[ends + 2 * index], payload[ends + 2 * index + 1]]))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({:?}, level {}, {} entries)", self.id(), self.level, self.len)
    }
}

/// Compares two keys, each in two pieces.
fn cmp_joined(one: (&[u8], &[u8]), other: (&[u8], &[u8])) -> Ordering {
    if one.0.len() < other.0.len() {
        return cmp_joined(other, one).reverse();
    }
    let (start, rest) = one.0.split_at(other.0.len());
    start.cmp(other.0).then_with(|| {
        let (beside, beyond) = other.1.split_at(rest.len().min(other.1.len()));
        rest.cmp(beside).then_with(|| one.1.cmp(beyond))
    })
}

/// Returns how many bytes two keys share at their start.
pub(super) fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}
