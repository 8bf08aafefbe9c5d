//! Which chunks a tree is made of, and which of them another tree lacks.

use std::sync::Arc;

use super::{
    Error, Fault, Keys, Node, Nodes, Slot, Tree,
    pair::{Pair, Step},
    path::{Frame, Path},
    splitter,
};
use crate::id::ChunkId;

/// The chunks of a tree, each before those it names. Ends after an error.
#[derive(Debug)]
pub struct Reachable<'n, N: ?Sized> {
    nodes: &'n N,
    root: Option<Tree>,
    frames: Vec<Frame>,
}

/// Returns the ids of all chunks of `tree`: nodes and far values. The empty tree has none that need to be kept.
///
/// A chunk is named as often as it occurs. Memory: one node a level; nodes are read as the iterator comes to their children, so
/// leaves are read for the far values they name.
pub const fn reachable<'n, N: Nodes + ?Sized>(nodes: &'n N, tree: &Tree) -> Reachable<'n, N> {
    let root = if tree.is_empty() { None } else { Some(*tree) };
    Reachable { nodes, root, frames: Vec::new() }
}

impl<N: Nodes + ?Sized> Reachable<'_, N> {
    fn step(&mut self) -> Result<Option<ChunkId>, Error> {
        if let Some(tree) = self.root.take() {
            self.frames.push(Frame { node: tree.open(self.nodes)?, index: 0 });
            return Ok(Some(tree.root()));
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
            } else if let Slot::Far { id, .. } = node.slot(at) {
                return Ok(Some(id));
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
        }
        step.transpose()
    }
}

/// The chunks of one tree that another lacks, each before those it names. Ends after an error.
#[derive(Debug)]
pub struct AddedChunks<'n, L: ?Sized, R: ?Sized> {
    pair: Option<Pair<'n, L, R>>,
}

/// Returns the ids of the chunks of `new` that who has `old` may lack: exactly the nodes that `old` has not, and the far values of
/// keys whose value differs. Lazy; the cost follows the difference.
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
    Ok(AddedChunks { pair: Some(pair) })
}

impl<L: Nodes + ?Sized, R: Nodes + ?Sized> AddedChunks<'_, L, R> {
    fn step(&mut self) -> Result<Option<ChunkId>, Error> {
        let Some(pair) = &mut self.pair else {
            return Ok(None);
        };
        loop {
            let step = pair.step()?;
            let far = match step {
                None => return Ok(None),
                Some(Step::Entered(id)) => return Ok(Some(id)),
                Some(Step::Old) => None,
                Some(Step::New | Step::Both) => match pair.new.slot() {
                    Slot::Far { id, .. } => Some(id),
                    Slot::Near(_) => None,
                },
            };
            if matches!(step, Some(Step::Old | Step::Both)) {
                pair.old.advance();
            }
            if matches!(step, Some(Step::New | Step::Both)) {
                pair.new.advance();
            }
            if far.is_some() {
                return Ok(far);
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
/// the splitter ends it; each far value is there.
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
                    super::value::far(nodes, id, len)?;
                }
            }
            if !path.advance()? {
                break;
            }
        }
    }
    Ok(())
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
