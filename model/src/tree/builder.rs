//! Entries in key order become nodes of one level.

use super::{
    Child, Error, Node,
    node::{HEADER_LEN, common},
    slot::Totals,
    splitter,
};
use crate::{
    chunk::{Kind, Verified},
    codec::Writer,
};

/// A node that was made: its last key, how its parent names it, its chunk.
pub(super) struct Made {
    pub(super) last: Vec<u8>,
    pub(super) child: Child,
    pub(super) chunk: Verified,
}

impl Made {
    fn new(level: u8, last: Vec<u8>, totals: Totals, payload: &[u8]) -> Self {
        let kind = if level == 0 { Kind::Leaf } else { Kind::Inner };
        let chunk = Verified::new(kind, payload).expect("a node is shorter than a chunk may be");
        let child = Child { id: chunk.id(), count: totals.count, bytes: totals.bytes };
        Self { last, child, chunk }
    }

    /// Returns `node` with some of its slots, by index, replaced by ones of the same weight; `write` appends one and returns its sums.
    ///
    /// Cost: one copy and one hash of the node; no key is looked at.
    pub(super) fn patched<S>(
        node: &Node,
        patches: &[(usize, S)],
        mut write: impl FnMut(&S, &mut Writer) -> Result<Totals, Error>,
    ) -> Result<Self, Error> {
        let (head, suffixes) = node.keys_parts();
        let (mut ends, mut slots) = (Vec::with_capacity(2 * node.len()), Writer::with_capacity(node.chunk().payload().len()));
        let (mut totals, mut patches) = (Totals::default(), patches.iter().peekable());
        for index in 0..node.len() {
            if let Some((_, slot)) = patches.next_if(|patch| patch.0 == index) {
                totals.add(write(slot, &mut slots)?);
            } else {
                slots.raw(node.slot_bytes(index));
                totals.add(node.entry_totals(index));
            }
            ends.extend_from_slice(&offset(slots.len()));
        }
        let payload = [head, &ends, suffixes, slots.as_bytes()].concat();
        Ok(Self::new(node.level(), node.key(node.len() - 1), totals, &payload))
    }
}

/// The node that is being filled.
pub(super) struct Builder {
    level: u8,
    keys: Vec<u8>,
    key_ends: Vec<usize>,
    slots: Writer,
    slot_ends: Vec<usize>,
    /// Weight of the entries so far.
    filled: u64,
    totals: Totals,
}

impl Builder {
    pub(super) fn new(level: u8) -> Self {
        let mut builder = Self {
            level,
            keys: Vec::new(),
            key_ends: Vec::new(),
            slots: Writer::default(),
            slot_ends: Vec::new(),
            filled: 0,
            totals: Totals::default(),
        };
        builder.clear();
        builder
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.key_ends.is_empty()
    }

    /// Adds an entry of a node as it is; says whether the node ends after it.
    pub(super) fn keep(&mut self, node: &Node, index: usize) -> bool {
        let start = self.keep_untested(node, index);
        self.is_full(start)
    }

    /// Adds an entry of a node as it is, for which the splitter's answer is known. Returns the weight before it.
    pub(super) fn keep_untested(&mut self, node: &Node, index: usize) -> u64 {
        self.keys.extend_from_slice(node.prefix());
        self.keys.extend_from_slice(node.suffix(index));
        self.slots.raw(node.slot_bytes(index));
        self.end_entry(node.weight(index), node.entry_totals(index))
    }

    /// Adds an entry; `write` appends its slot and returns its sums. Says whether the node ends after it.
    pub(super) fn push(
        &mut self,
        key: &[u8],
        weight: u64,
        write: impl FnOnce(&mut Writer) -> Result<Totals, Error>,
    ) -> Result<bool, Error> {
        self.keys.extend_from_slice(key);
        let totals = write(&mut self.slots)?;
        let start = self.end_entry(weight, totals);
        Ok(self.is_full(start))
    }

    fn end_entry(&mut self, weight: u64, totals: Totals) -> u64 {
        let start = self.filled;
        self.key_ends.push(self.keys.len());
        self.slot_ends.push(self.slots.len());
        self.filled += weight;
        self.totals.add(totals);
        start
    }

    fn is_full(&self, start: u64) -> bool {
        splitter::is_boundary(self.level, self.key(self.key_ends.len() - 1), start, self.filled)
    }

    fn key(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.key_ends[index - 1] };
        &self.keys[start..self.key_ends[index]]
    }

    /// Returns the node of the entries so far and starts the next. There must be at least one.
    pub(super) fn finish(&mut self) -> Made {
        let count = self.key_ends.len();
        let last = self.key(count - 1);
        let prefix = if count == 1 { last.len() } else { common(self.key(0), last) };
        let capacity = HEADER_LEN + prefix + 4 * count + self.keys.len() - count * prefix + self.slots.len();
        let mut payload = Vec::with_capacity(capacity);
        payload.push(self.level);
        payload.extend_from_slice(&offset(count));
        payload.extend_from_slice(&offset(prefix));
        payload.extend_from_slice(&last[..prefix]);
        for (index, end) in self.key_ends.iter().enumerate() {
            payload.extend_from_slice(&offset(end - (index + 1) * prefix));
        }
        for end in &self.slot_ends {
            payload.extend_from_slice(&offset(*end));
        }
        for index in 0..count {
            payload.extend_from_slice(&self.key(index)[prefix..]);
        }
        payload.extend_from_slice(self.slots.as_bytes());
        let made = Made::new(self.level, last.to_vec(), self.totals, &payload);
        self.clear();
        made
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.key_ends.clear();
        self.slots = Writer::with_capacity(2 * usize::try_from(splitter::TARGET).expect("small"));
        self.slot_ends.clear();
        self.filled = 0;
        self.totals = Totals::default();
    }
}

/// Returns a number within a node as it is written. A node holds at most 12 KiB, so two bytes do.
fn offset(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("a node is shorter than 64 KiB").to_le_bytes()
}
