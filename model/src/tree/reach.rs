//! Which chunks a tree is made of, and which of them another tree lacks.

use std::sync::Arc;

use super::{
    Error, Fault, Keys, Node, Nodes, Slot, Tree,
    pair::{Pair, Step},
    parts::{self, Part, Walk},
    path::{Frame, Path},
    splitter,
};
use crate::{
    chunk::{Kind, Verified},
    id::ChunkId,
};

/// The chunks of a tree, each before those it names. Ends after an error.
#[derive(Debug)]
pub struct Reachable<'n, N: ?Sized> {
    nodes: &'n N,
    root: Option<Tree>,
    frames: Vec<Frame>,
    /// What is to come of the far value of the entry before.
    value: Walk,
}

/// Returns the ids of all chunks of `tree`: nodes and chunks of far values. The empty tree has none that need to be kept.
///
/// A chunk is named as often as it occurs. Memory: one node a level; nodes are read as the iterator comes to their children, so
/// leaves are read for the far values they name, and lists for their parts.
pub fn reachable<'n, N: Nodes + ?Sized>(nodes: &'n N, tree: &Tree) -> Reachable<'n, N> {
    let root = if tree.is_empty() { None } else { Some(*tree) };
    Reachable { nodes, root, frames: Vec::new(), value: Walk::default() }
}

impl<N: Nodes + ?Sized> Reachable<'_, N> {
    fn step(&mut self) -> Result<Option<ChunkId>, Error> {
        if let Some(tree) = self.root.take() {
            self.frames.push(Frame { node: tree.open(self.nodes)?, index: 0 });
            return Ok(Some(tree.root()));
        }
        if let Some(part) = self.value.next(self.nodes)? {
            return Ok(Some(part.id));
        }
        while let Some(Frame { node, index }) = self.frames.last_mut() {
            let at = *index;
            *index += 1;
            if at == node.len() {
                self.frames.pop();
            } else if !node.is_leaf() {
                let child = node.descend(self.nodes, at)?;
                let id = child.id();
                self.frames.push(Frame { node: child, index: 0 });
                return Ok(Some(id));
            } else if let Slot::Far { id, len } = node.slot(at) {
                self.value = Walk::over(Part { id, len });
                return Ok(self.value.next(self.nodes)?.map(|part| part.id));
            }
        }
        Ok(None)
    }
}

impl<N: Nodes + ?Sized> Iterator for Reachable<'_, N> {
    type Item = Result<ChunkId, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.frames.clear();
            self.value = Walk::default();
        }
        step.transpose()
    }
}

/// The chunks of one tree that another lacks, each before those it names. Ends after an error.
#[derive(Debug)]
pub struct AddedChunks<'n, L: ?Sized, R: ?Sized> {
    pair: Option<Pair<'n, L, R>>,
    /// What is to come of the far value that differed last.
    value: Walk,
}

/// Returns the ids of the chunks of `new` that who has `old` may lack: exactly the nodes that `old` has not, and the chunks of
/// far values of keys whose value differs. Lazy; the cost follows the difference.
///
/// # Errors
/// Those of [`Nodes`]; later ones come from the iterator.
pub fn added_chunks<'n, L: Nodes + ?Sized, R: Nodes + ?Sized>(
    old_nodes: &'n L,
    old: &Tree,
    new_nodes: &'n R,
    new: &Tree,
) -> Result<AddedChunks<'n, L, R>, Error> {
    let pair = Pair::open(old_nodes, old, new_nodes, new, &Keys::all())?;
    Ok(AddedChunks { pair: Some(pair), value: Walk::default() })
}

impl<L: Nodes + ?Sized, R: Nodes + ?Sized> AddedChunks<'_, L, R> {
    fn step(&mut self) -> Result<Option<ChunkId>, Error> {
        let Some(pair) = &mut self.pair else {
            return Ok(None);
        };
        loop {
            if let Some(part) = self.value.next(pair.new.nodes())? {
                return Ok(Some(part.id));
            }
            let step = pair.step()?;
            let far = match step {
                None => return Ok(None),
                Some(Step::Entered(id)) => return Ok(Some(id)),
                Some(Step::Old) => None,
                Some(Step::New | Step::Both) => match pair.new.slot() {
                    Slot::Far { id, len } => Some(Part { id, len }),
                    Slot::Near(_) => None,
                },
            };
            if matches!(step, Some(Step::Old | Step::Both)) {
                pair.old.advance();
            }
            if matches!(step, Some(Step::New | Step::Both)) {
                pair.new.advance();
            }
            if let Some(part) = far {
                self.value = Walk::over(part);
            }
        }
    }
}

impl<L: Nodes + ?Sized, R: Nodes + ?Sized> Iterator for AddedChunks<'_, L, R> {
    type Item = Result<ChunkId, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.pair = None;
        }
        step.transpose()
    }
}

/// Reads a whole tree and checks that it is the one tree of its content: each node decodes, is what its parent says, and ends where
/// the splitter ends it; each far value is there, in parts where it must be.
///
/// # Errors
/// [`Error::Corrupt`] with [`Fault::Boundary`] for a misplaced end; otherwise those of [`Nodes`].
pub fn audit<N: Nodes + ?Sized>(nodes: &N, tree: &Tree) -> Result<(), Error> {
    for level in 0..=tree.level() {
        let mut path = Path::open(nodes, tree, level)?;
        loop {
            let node: &Arc<Node> = &path.top().node;
            audit_node(node, path.is_last())?;
            for index in (0..node.len()).filter(|_| node.is_leaf()) {
                if let Slot::Far { id, len } = node.slot(index) {
                    Part { id, len }.audit(nodes)?;
                }
            }
            if !path.advance()? {
                break;
            }
        }
    }
    Ok(())
}

/// Returns the ids that a chunk of a tree names, in key order: the children of an inner node, the far values of a leaf, the parts in a
/// list; a value names none.
///
/// # Errors
/// [`Error::Corrupt`] if the chunk is not of a tree.
pub fn named(chunk: &Verified) -> Result<Vec<ChunkId>, Error> {
    match chunk.kind() {
        Kind::Value => Ok(Vec::new()),
        Kind::Parts => parts::names(chunk).map_err(|source| Error::Corrupt { id: chunk.id(), source }),
        _ => {
            let node = Node::decode(chunk.clone())?;
            let name = |at| match node.is_leaf().then(|| node.slot(at)) {
                None => Some(node.child(at).id),
                Some(Slot::Far { id, .. }) => Some(id),
                Some(Slot::Near(_)) => None,
            };
            Ok((0..node.len()).filter_map(name).collect())
        }
    }
}

fn audit_node(node: &Node, is_last: bool) -> Result<(), Error> {
    let (mut start, entries) = (0, node.len());
    for index in 0..entries {
        let end = start + node.weight(index);
        let ends_here = index + 1 == entries;
        let is_boundary = splitter::is_boundary(node.level(), &node.key(index), start, end);
        if is_boundary != ends_here && !(ends_here && is_last) {
            return Err(Error::Corrupt { id: node.id(), source: Fault::Boundary { index, entries } });
        }
        start = end;
    }
    Ok(())
}
