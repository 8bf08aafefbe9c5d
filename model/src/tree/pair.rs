//! Two trees walked in step. Subtrees that both have are skipped by their hash, wherever they lie.
//!
//! On each side stands one item: an entry, a subtree, or the whole tree. Equal subtrees are stepped over; an item that lies wholly
//! before the other side's is on its side alone; of two that overlap the taller is entered. So a node is entered only if the other
//! tree does not have it, and the cost follows the difference.

use std::{cmp::Ordering, sync::Arc};

use super::{Error, Keys, Node, Nodes, Slot, Tree, Value, path::Frame};
use crate::id::ChunkId;

/// What the walk came upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The entry of the old side is not in the new tree.
    Old,
    /// The entry of the new side is not in the old tree.
    New,
    /// Both sides have the key, with different values.
    Both,
    /// A node of the new tree was entered; the old tree does not have it.
    Entered(ChunkId),
}

/// The walk.
#[derive(Debug)]
pub(super) struct Pair<'n, L: ?Sized, R: ?Sized> {
    pub(super) old: Side<'n, L>,
    pub(super) new: Side<'n, R>,
}

impl<'n, L: Nodes + ?Sized, R: Nodes + ?Sized> Pair<'n, L, R> {
    pub(super) fn open(old_nodes: &'n L, old: &Tree, new_nodes: &'n R, new: &Tree, keys: &Keys) -> Result<Self, Error> {
        let mut pair = Self { old: Side::empty(old_nodes, keys), new: Side::empty(new_nodes, keys) };
        if old != new {
            pair.old.root = Side::root(old_nodes, old)?;
            pair.new.root = Side::root(new_nodes, new)?;
        }
        Ok(pair)
    }

    /// Goes on to the next difference. An entry reported stays in place until the caller advances its side.
    pub(super) fn step(&mut self) -> Result<Option<Step>, Error> {
        loop {
            self.skip_equal();
            let (old, new) = match (self.old.item(), self.new.item()) {
                (None, None) => return Ok(None),
                (Some(Item { height: 0, .. }), None) => return Ok(Some(Step::Old)),
                (None, Some(Item { height: 0, .. })) => return Ok(Some(Step::New)),
                (Some(_), None) => {
                    self.old.enter()?;
                    continue;
                }
                (None, Some(_)) => return self.new.enter().map(|id| Some(Step::Entered(id))),
                (Some(old), Some(new)) => (old, new),
            };
            if old.height > 0 && new.height > 0 && old.id() == new.id() {
                self.old.advance();
                self.new.advance();
                continue;
            }
            let (old_height, new_height) = (old.height, new.height);
            let order = old.node.cmp_entry(old.index, &new.node, new.index);
            let is_alone = match order {
                Ordering::Equal => false,
                Ordering::Less => self.new.starts_after(&old)?,
                Ordering::Greater => self.old.starts_after(&new)?,
            };
            if order.is_eq() && old_height == 0 && new_height == 0 {
                if old.node.slot_bytes(old.index) != new.node.slot_bytes(new.index) {
                    return Ok(Some(Step::Both));
                }
                self.old.advance();
                self.new.advance();
                continue;
            }
            let enters_old = if is_alone { order.is_lt() } else { old_height >= new_height };
            let enters_new = if is_alone { order.is_gt() } else { new_height >= old_height };
            if is_alone && enters_old && old_height == 0 {
                return Ok(Some(Step::Old));
            }
            if is_alone && enters_new && new_height == 0 {
                return Ok(Some(Step::New));
            }
            if enters_old {
                self.old.enter()?;
            }
            if enters_new {
                return self.new.enter().map(|id| Some(Step::Entered(id)));
            }
        }
    }

    /// Steps over what is equal within two nodes of one level, up to the last entry of either. Most of two nodes that differ is equal.
    fn skip_equal(&mut self) {
        let (Some(old), Some(new)) = (self.old.frames.last_mut(), self.new.frames.last_mut()) else {
            return;
        };
        if old.node.level() != new.node.level() {
            return;
        }
        // One child has one last key; one value may stand under several keys.
        let is_leaf = old.node.is_leaf();
        while old.index + 1 < old.node.len()
            && new.index + 1 < new.node.len()
            && old.node.slot_bytes(old.index) == new.node.slot_bytes(new.index)
            && (!is_leaf || old.node.cmp_entry(old.index, &new.node, new.index).is_eq())
        {
            old.index += 1;
            new.index += 1;
            self.old.first = None;
            self.new.first = None;
        }
    }
}

/// Where one side stands.
#[derive(Debug)]
pub(super) struct Side<'n, N: ?Sized> {
    nodes: &'n N,
    keys: Keys,
    /// The whole tree, before it is entered or skipped.
    root: Option<Arc<Node>>,
    frames: Vec<Frame>,
    /// The leaf with the first entry of the item here, once it was looked for.
    first: Option<Arc<Node>>,
}

/// What stands on one side: entry `index` of `node`, which is the item or names its last key.
struct Item {
    node: Arc<Node>,
    index: usize,
    /// 0 for an entry, else one more than the level of the subtree's root.
    height: u8,
    is_root: bool,
}

impl Item {
    fn id(&self) -> ChunkId {
        if self.is_root { self.node.id() } else { self.node.child(self.index).id }
    }
}

impl<'n, N: Nodes + ?Sized> Side<'n, N> {
    fn empty(nodes: &'n N, keys: &Keys) -> Self {
        Self { nodes, keys: keys.clone(), root: None, frames: Vec::new(), first: None }
    }

    fn root(nodes: &N, tree: &Tree) -> Result<Option<Arc<Node>>, Error> {
        if tree.is_empty() { Ok(None) } else { tree.open(nodes).map(Some) }
    }

    /// Returns the item here, or `None` at the end of the tree or of the interval.
    fn item(&self) -> Option<Item> {
        if let Some(node) = &self.root {
            return Some(Item { node: node.clone(), index: node.len() - 1, height: node.level() + 1, is_root: true });
        }
        let Frame { node, index } = self.frames.last()?;
        let is_beyond = self.keys.to().is_some_and(|to| match self.before() {
            _ if node.is_leaf() => node.cmp_key(*index, to).is_ge(),
            Some((node, index)) => node.cmp_key(index, to).is_ge(),
            None => false,
        });
        (!is_beyond).then(|| Item { node: node.clone(), index: *index, height: node.level(), is_root: false })
    }

    /// Returns the entry here, which [`Pair::step`] reported.
    pub(super) fn entry(&self) -> &Frame {
        self.frames.last().expect("an entry was reported on this side")
    }

    /// Returns where its nodes come from.
    pub(super) const fn nodes(&self) -> &'n N {
        self.nodes
    }

    /// Returns where the value of the entry here lies.
    pub(super) fn slot(&self) -> Slot<'_> {
        let Frame { node, index } = self.entry();
        node.slot(*index)
    }

    /// Returns the value of the entry here.
    pub(super) fn value(&self) -> Result<Value, Error> {
        let Frame { node, index } = self.entry();
        Value::load(self.nodes, node, *index)
    }

    /// Goes past the item here.
    pub(super) fn advance(&mut self) {
        self.first = None;
        self.root = None;
        while let Some(top) = self.frames.last_mut() {
            top.index += 1;
            if top.index < top.node.len() {
                break;
            }
            self.frames.pop();
        }
    }

    /// Enters the subtree here, at the start of the interval; returns the node entered.
    fn enter(&mut self) -> Result<ChunkId, Error> {
        let node = match (self.root.take(), self.frames.last()) {
            (Some(root), _) => root,
            (None, Some(Frame { node, index })) => node.descend(self.nodes, *index)?,
            (None, None) => unreachable!("only an item is entered"),
        };
        self.first = None;
        let (id, len) = (node.id(), node.len());
        let (Ok(index) | Err(index)) = node.search(self.keys.from());
        self.frames.push(Frame { node, index });
        if index == len {
            self.frames.pop();
            self.advance();
        }
        Ok(id)
    }

    /// Whether the whole item here comes after the last key of `other`.
    fn starts_after(&mut self, other: &Item) -> Result<bool, Error> {
        let Some(item) = self.item() else {
            return Ok(true);
        };
        // Cheap answers first: an entry is its own start, and all of a subtree comes after the key before it.
        if item.height == 0 {
            return Ok(item.node.cmp_entry(item.index, &other.node, other.index).is_gt());
        }
        if self.before().is_some_and(|(node, index)| node.cmp_entry(index, &other.node, other.index).is_ge()) {
            return Ok(true);
        }
        if self.first.is_none() {
            let mut node = if item.is_root { item.node } else { item.node.descend(self.nodes, item.index)? };
            while !node.is_leaf() {
                node = node.descend(self.nodes, 0)?;
            }
            self.first = Some(node);
        }
        let first = self.first.as_ref().expect("it was just looked for");
        Ok(first.cmp_entry(0, &other.node, other.index).is_gt())
    }

    /// Returns the last key before the item here, as an entry of a node on the way.
    fn before(&self) -> Option<(&Node, usize)> {
        self.frames.iter().rev().find(|frame| frame.index > 0).map(|frame| (&*frame.node, frame.index - 1))
    }
}
