//! The prolly tree: an ordered map from key to value, stored as chunks, whose root depends on its content alone.
//!
//! Law: `a.entries() = b.entries() ⇔ a = b`, whatever edits led there. Pure: nodes come through [`Nodes`], new chunks are returned.
//! [`node`] fixes the bytes of a node, [`splitter`] where one ends, [`batch`] changes a tree, [`diff`] compares two.

pub mod batch;
mod builder;
pub mod cursor;
pub mod diff;
mod error;
mod fresh;
mod keys;
mod memory;
pub mod node;
mod pair;
mod parts;
mod path;
pub mod reach;
mod slot;
pub mod splitter;
mod value;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

pub use self::{
    batch::Applied,
    cursor::{Cursor, Entries},
    diff::{Change, Diff, diff},
    error::{Error, Fault},
    fresh::Fresh,
    keys::Keys,
    memory::MemoryNodes,
    node::Node,
    reach::{AddedChunks, Reachable, added_chunks, audit, named, reachable},
    slot::{Child, INLINE_MAX, Slot, VALUE_MAX},
    value::Value,
};
use crate::{
    chunk::{Kind, Verified},
    codec::{self, Decode, Encode, Reader, Writer},
    id::ChunkId,
};

/// Longest key, in bytes; the shortest has one.
pub const KEY_MAX: usize = 1024;

/// Highest level of a root; a leaf is level 0. Reached at no honest size: even keys of 1 KiB branch fourfold.
pub const LEVEL_MAX: u8 = 15;

/// Where the nodes of a tree come from: a store, a cache, the memory.
pub trait Nodes {
    /// Returns a node.
    ///
    /// # Errors
    /// [`Error::Missing`] if it is not there, [`Error::Unavailable`] if that cannot be known now, [`Error::Corrupt`] if it is no node.
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, Error>;

    /// Returns a chunk of a value that does not lie in its leaf: the value, a part of it, or a list of parts.
    ///
    /// # Errors
    /// As [`Nodes::node`].
    fn value(&self, id: &ChunkId) -> Result<Verified, Error>;
}

impl<N: Nodes + ?Sized> Nodes for &N {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, Error> {
        (**self).node(id)
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, Error> {
        (**self).value(id)
    }
}

impl<N: Nodes + ?Sized> Nodes for Arc<N> {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, Error> {
        (**self).node(id)
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, Error> {
        (**self).value(id)
    }
}

/// A tree: its root and what lies below it.
///
/// Bytes: root (32 raw), level (1), count (varint), bytes (varint). A count of 0 is [`Tree::empty`] and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tree {
    root: ChunkId,
    level: u8,
    count: u64,
    bytes: u64,
}

impl Tree {
    /// Returns the tree without entries. Its one chunk, [`Tree::empty_chunk`], is known to everyone and asked of no one.
    pub fn empty() -> Self {
        Self { root: empty_node().id(), level: 0, count: 0, bytes: 0 }
    }

    /// Returns the leaf without entries.
    pub fn empty_chunk() -> &'static Verified {
        empty_node().chunk()
    }

    pub(crate) const fn of(child: Child, level: u8) -> Self {
        Self { root: child.id, level, count: child.count, bytes: child.bytes }
    }

    /// Returns the id of the root node.
    pub const fn root(&self) -> ChunkId {
        self.root
    }

    /// Returns the level of the root node: 0 if it is a leaf.
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// Returns how many entries there are.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns how many bytes all keys and values have together.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there are no entries.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the value under `key`.
    ///
    /// Cost: one node a level, searched in place; a value above [`INLINE_MAX`] its chunks, one up to [`VALUE_MAX`].
    ///
    /// # Errors
    /// Those of [`Nodes`].
    pub fn get<N: Nodes + ?Sized>(&self, nodes: &N, key: &[u8]) -> Result<Option<Value>, Error> {
        let mut node = self.open(nodes)?;
        loop {
            match node.search(key) {
                Ok(index) if node.is_leaf() => return Value::load(nodes, &node, index).map(Some),
                Ok(index) | Err(index) if !node.is_leaf() && index < node.len() => node = node.descend(nodes, index)?,
                _ => return Ok(None),
            }
        }
    }

    /// Returns the entries whose key lies in `keys`, in key order.
    ///
    /// # Errors
    /// Those of [`Nodes`]; later ones come from the iterator.
    pub fn range<'n, N: Nodes + ?Sized>(&self, nodes: &'n N, keys: &Keys) -> Result<Entries<'n, N>, Error> {
        Entries::new(nodes, self, keys)
    }

    /// Returns the entry before which exactly `offset` others lie. Cost: one node a level.
    ///
    /// # Errors
    /// Those of [`Nodes`].
    pub fn nth<N: Nodes + ?Sized>(&self, nodes: &N, offset: u64) -> Result<Option<(Vec<u8>, Value)>, Error> {
        Cursor::nth(nodes, self, offset)?.entry()
    }

    /// Returns how many keys are smaller than `key`. Cost: one node a level.
    ///
    /// # Errors
    /// Those of [`Nodes`].
    pub fn rank<N: Nodes + ?Sized>(&self, nodes: &N, key: &[u8]) -> Result<u64, Error> {
        let mut node = self.open(nodes)?;
        let mut before = 0u64;
        loop {
            let (Ok(index) | Err(index)) = node.search(key);
            before = before.saturating_add((0..index).fold(0, |sum, i| node.entry_totals(i).count.saturating_add(sum)));
            if node.is_leaf() || index == node.len() {
                return Ok(before);
            }
            node = node.descend(nodes, index)?;
        }
    }

    /// Returns how many entries have their key in `keys`. Cost: two nodes a level.
    ///
    /// # Errors
    /// Those of [`Nodes`].
    pub fn count_in<N: Nodes + ?Sized>(&self, nodes: &N, keys: &Keys) -> Result<u64, Error> {
        let end = keys.to().map_or(Ok(self.count), |to| self.rank(nodes, to))?;
        Ok(end.saturating_sub(self.rank(nodes, keys.from())?))
    }

    /// Returns the root node, checked against what this tree says of it.
    pub(crate) fn open<N: Nodes + ?Sized>(&self, nodes: &N) -> Result<Arc<Node>, Error> {
        if *self == Self::empty() {
            return Ok(empty_node().clone());
        }
        let node = nodes.node(&self.root)?;
        let child = Child { id: self.root, count: self.count, bytes: self.bytes };
        node.check(&child, self.level)?;
        if node.len() < if node.is_leaf() { 1 } else { 2 } {
            return Err(Error::Corrupt { id: self.root, source: Fault::TallRoot { entries: node.len() } });
        }
        Ok(node)
    }
}

impl Encode for Tree {
    fn encode(&self, out: &mut Writer) {
        self.root.encode(out);
        out.byte(self.level);
        out.uint(self.count);
        out.uint(self.bytes);
    }
}

impl Decode for Tree {
    fn decode(input: &mut Reader<'_>) -> Result<Self, codec::Error> {
        let tree = Self { root: ChunkId::decode(input)?, level: input.byte()?, count: input.uint()?, bytes: input.uint()? };
        if tree.level > LEVEL_MAX {
            return Err(codec::Error::Limit { what: "level of a tree", actual: tree.level.into(), limit: LEVEL_MAX.into() });
        }
        let is_empty = tree.count == 0 || tree.root == Self::empty().root;
        if is_empty && tree != Self::empty() {
            return Err(codec::Error::Malformed { what: "tree without entries" });
        }
        Ok(tree)
    }
}

fn empty_node() -> &'static Arc<Node> {
    static EMPTY: OnceLock<Arc<Node>> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let chunk = Verified::new(Kind::Leaf, &[0; node::HEADER_LEN]).expect("a header is short");
        Arc::new(Node::decode(chunk).expect("a leaf without entries is a node"))
    })
}
