//! A way from the root of a tree down to one node of a given level, and on to the next.

use std::sync::Arc;

use super::{Error, Node, Nodes, Tree};

/// A node and a place in it.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub(super) node: Arc<Node>,
    pub(super) index: usize,
}

impl Frame {
    fn is_last(&self) -> bool {
        self.index + 1 >= self.node.len()
    }
}

/// Frames from the root, first, to a node on the level of the floor, last. In all but the last the index names the next one.
#[derive(Debug, Clone)]
pub(super) struct Path<'n, N: ?Sized> {
    nodes: &'n N,
    floor: u8,
    frames: Vec<Frame>,
}

impl<'n, N: Nodes + ?Sized> Path<'n, N> {
    /// Starts at the first node on level `floor`, which the tree must have.
    pub(super) fn open(nodes: &'n N, tree: &Tree, floor: u8) -> Result<Self, Error> {
        Self::choose(nodes, tree, floor, |_| 0)
    }

    /// Starts at the node on level `floor` in which `choose` ends, given each node on the way.
    pub(super) fn choose(nodes: &'n N, tree: &Tree, floor: u8, choose: impl FnMut(&Node) -> usize) -> Result<Self, Error> {
        let mut path = Self { nodes, floor, frames: vec![Frame { node: tree.open(nodes)?, index: 0 }] };
        path.descend(choose)?;
        Ok(path)
    }

    pub(super) const fn nodes(&self) -> &'n N {
        self.nodes
    }

    pub(super) fn top(&self) -> &Frame {
        self.frames.last().expect("a path has at least its root")
    }

    pub(super) fn top_mut(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("a path has at least its root")
    }

    /// Whether no node follows on this level.
    pub(super) fn is_last(&self) -> bool {
        self.frames.iter().rev().skip(1).all(Frame::is_last)
    }

    /// Goes forward to the node that holds or would hold `key`: the first whose last key is not smaller, or the last there is.
    pub(super) fn advance_to(&mut self, key: &[u8]) -> Result<(), Error> {
        while let [_, .., top] = &self.frames[..] {
            if top.node.cmp_key(top.node.len() - 1, key).is_ge() {
                break;
            }
            self.frames.pop();
        }
        self.descend(|node| {
            let (Ok(index) | Err(index)) = node.search(key);
            index
        })
    }

    /// Goes to the next node on this level; says whether there was one.
    pub(super) fn advance(&mut self) -> Result<bool, Error> {
        if self.is_last() {
            return Ok(false);
        }
        self.frames.pop();
        while self.frames.last().is_some_and(Frame::is_last) {
            self.frames.pop();
        }
        self.top_mut().index += 1;
        let frame = self.top();
        let node = frame.node.descend(self.nodes, frame.index)?;
        self.frames.push(Frame { node, index: 0 });
        self.descend(|_| 0)?;
        Ok(true)
    }

    /// Goes down from the last frame to the floor. A choice beyond a node's end means its last child.
    fn descend(&mut self, mut choose: impl FnMut(&Node) -> usize) -> Result<(), Error> {
        loop {
            let (nodes, floor) = (self.nodes, self.floor);
            let top = self.top_mut();
            top.index = choose(&top.node);
            if top.node.level() <= floor {
                return Ok(());
            }
            top.index = top.index.min(top.node.len() - 1);
            let node = top.node.descend(nodes, top.index)?;
            self.frames.push(Frame { node, index: 0 });
        }
    }
}
