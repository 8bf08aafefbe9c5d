//! Changing a tree by a batch of edits. The cost follows the edits, not the tree.
//!
//! Law: `tree.apply(edits) = Tree::build(entries of tree overlaid with edits)`. Level by level: the leaves that edits fall into are
//! read, changed and split anew until a new boundary meets an old one; on the level above the last keys of the old nodes are
//! deleted and those of the new ones put. What lies between is taken by its hash and never read.

use super::{
    Child, Error, INLINE_MAX, KEY_MAX, LEVEL_MAX, Node, Nodes, Slot, Tree,
    builder::{Builder, Made},
    parts::Part,
    path::Path,
    slot::Totals,
    splitter::{self, CHILD_WEIGHT},
};
use crate::{
    chunk::Verified,
    codec::{Encode as _, Writer},
};

/// A changed tree and the chunks it has beyond those of the tree before.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The tree after the edits.
    pub tree: Tree,
    /// Its new chunks: values first, then nodes from the leaves up, the root last. May hold a chunk that exists elsewhere already.
    pub added: Vec<Verified>,
}

impl Tree {
    /// Returns the tree of `entries`, which come in key order.
    ///
    /// # Errors
    /// [`Error::Unsorted`], [`Error::KeyLength`], [`Error::TooTall`].
    pub fn build<K: AsRef<[u8]>, V: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, V)>) -> Result<Applied, Error> {
        let edits = entries.into_iter().map(|(key, value)| (key, Some(value)));
        Self::empty().apply(&super::MemoryNodes::default(), edits)
    }

    /// Returns the tree after `edits`, which come in key order, each key once: `Some` sets its value, `None` removes it.
    ///
    /// Removing what is not there and setting what is there already change nothing. Memory: the new chunks and some nodes.
    ///
    /// # Errors
    /// [`Error::Unsorted`], [`Error::KeyLength`] for the edits, [`Error::TooTall`], and those of [`Nodes`].
    pub fn apply<N, K, V>(&self, nodes: &N, edits: impl IntoIterator<Item = (K, Option<V>)>) -> Result<Applied, Error>
    where
        N: Nodes + ?Sized,
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut added = Vec::new();
        let documents = edits.into_iter().map(|(key, value)| (key, value.map(Document)));
        let mut rewritten = Rewritten::of(nodes, self, 0, documents, &mut added)?;
        if rewritten.removed.is_empty() && rewritten.made.is_empty() {
            return Ok(Applied { tree: *self, added });
        }
        for level in 1..=self.level {
            let edits = rewritten.into_edits(&mut added);
            if edits.is_empty() {
                return Ok(Applied { tree: *self, added: Vec::new() });
            }
            rewritten = Rewritten::of(nodes, self, level, edits, &mut added)?;
        }
        crown(nodes, self, rewritten.made, added)
    }
}

/// Finds the root above `made`, all nodes of one level: the lowest node that has all below it.
fn crown<N: Nodes + ?Sized>(nodes: &N, old: &Tree, mut made: Vec<Made>, mut added: Vec<Verified>) -> Result<Applied, Error> {
    let mut level = old.level;
    while made.len() > 1 {
        if level == LEVEL_MAX {
            return Err(Error::TooTall);
        }
        level += 1;
        let mut builder = Builder::new(level);
        let mut above = Vec::new();
        for Made { last, child, chunk } in made {
            added.push(chunk);
            if builder.push(&last, child.weight(&last), |slots| child.write(&last, slots, &mut added))? {
                above.push(builder.finish());
            }
        }
        if !builder.is_empty() {
            above.push(builder.finish());
        }
        made = above;
    }
    let Some(Made { mut child, chunk, .. }) = made.pop() else {
        return Ok(Applied { tree: Tree::empty(), added: Vec::new() });
    };
    if child.id == old.root {
        return Ok(Applied { tree: *old, added: Vec::new() });
    }
    added.push(chunk);
    while level > 0 {
        let place = added.iter().rposition(|chunk| chunk.id() == child.id);
        let only = match place {
            Some(place) => only_child(&Node::decode(added[place].clone())?),
            None => only_child(&*nodes.node(&child.id)?),
        };
        let Some(only) = only else { break };
        if let Some(place) = place {
            added.remove(place);
        }
        child = only;
        level -= 1;
    }
    Ok(Applied { tree: Tree::of(child, level), added })
}

fn only_child(node: &Node) -> Option<Child> {
    (node.len() == 1 && !node.is_leaf()).then(|| node.child(0))
}

/// What a put brings to an entry of one level.
trait Put {
    /// What the entry counts for in the splitter.
    fn weight(&self, key: &[u8]) -> u64;

    /// Appends the slot, and to `added` what lies outside it; returns the sums of the entry.
    fn write(&self, key: &[u8], slots: &mut Writer, added: &mut Vec<Verified>) -> Result<Totals, Error>;
}

/// A put into a leaf.
struct Document<V>(V);

impl<V: AsRef<[u8]>> Put for Document<V> {
    fn weight(&self, key: &[u8]) -> u64 {
        splitter::weight(key.len(), Slot::len_for(self.0.as_ref().len()))
    }

    fn write(&self, key: &[u8], slots: &mut Writer, added: &mut Vec<Verified>) -> Result<Totals, Error> {
        let value = self.0.as_ref();
        let len = value.len() as u64;
        if value.len() <= INLINE_MAX {
            Slot::Near(value).encode(slots);
        } else {
            let Part { id, len } = Part::split(value, added);
            Slot::Far { id, len }.encode(slots);
        }
        Ok(Totals { count: 1, bytes: key.len() as u64 + len })
    }
}

impl Put for Child {
    fn weight(&self, key: &[u8]) -> u64 {
        splitter::weight(key.len(), CHILD_WEIGHT)
    }

    fn write(&self, _: &[u8], slots: &mut Writer, _: &mut Vec<Verified>) -> Result<Totals, Error> {
        self.encode(slots);
        Ok(Totals { count: self.count, bytes: self.bytes })
    }
}

/// Edits in key order, the next one in view.
struct Edits<I, K, P> {
    rest: I,
    next: Option<(K, Option<P>)>,
}

impl<I: Iterator<Item = (K, Option<P>)>, K: AsRef<[u8]>, P: Put> Edits<I, K, P> {
    fn new(edits: impl IntoIterator<IntoIter = I>) -> Result<Self, Error> {
        let mut edits = Self { rest: edits.into_iter(), next: None };
        edits.take()?;
        Ok(edits)
    }

    fn key(&self) -> Option<&[u8]> {
        self.next.as_ref().map(|(key, _)| key.as_ref())
    }

    /// Takes the next edit and checks the one after it.
    fn take(&mut self) -> Result<Option<(K, Option<P>)>, Error> {
        let next = self.rest.next();
        if let Some((key, _)) = &next {
            let key = key.as_ref();
            if key.is_empty() || key.len() > KEY_MAX {
                return Err(Error::KeyLength { actual: key.len() });
            }
            if self.key().is_some_and(|before| before >= key) {
                return Err(Error::Unsorted { key: key.to_vec() });
            }
        }
        Ok(std::mem::replace(&mut self.next, next))
    }
}

/// One level after its edits: the nodes that went and those that came, each in key order.
#[derive(Default)]
struct Rewritten {
    removed: Vec<(Vec<u8>, Child)>,
    made: Vec<Made>,
}

impl Rewritten {
    /// Carries out `edits` on the nodes of `level`.
    fn of<N: Nodes + ?Sized, K: AsRef<[u8]>, P: Put>(
        nodes: &N,
        tree: &Tree,
        level: u8,
        edits: impl IntoIterator<Item = (K, Option<P>)>,
        added: &mut Vec<Verified>,
    ) -> Result<Self, Error> {
        let mut out = Self::default();
        let mut edits = Edits::new(edits)?;
        let mut path = Path::open(nodes, tree, level)?;
        let mut builder = Builder::new(level);
        let mut same = Vec::new();
        while let Some(key) = edits.key() {
            path.advance_to(key)?;
            // The builder is empty here: a new boundary coincides with the old one before this node.
            loop {
                let (node, is_last) = (&path.top().node, path.is_last());
                out.remove(node);
                same.clear();
                if builder.is_empty() && takes_all(node, is_last, &mut edits, &mut same)? {
                    let made = Made::patched(node, &same, |(key, put): &(K, P), slots| put.write(key.as_ref(), slots, added))?;
                    out.made.push(made);
                    break;
                }
                merge(node, is_last, &same, &mut edits, &mut builder, &mut out.made, added)?;
                if builder.is_empty() {
                    break;
                }
                if is_last {
                    out.made.push(builder.finish());
                    break;
                }
                path.advance()?;
            }
        }
        Ok(out)
    }

    fn remove(&mut self, node: &Node) {
        if !node.is_empty() {
            let Totals { count, bytes } = node.totals();
            self.removed.push((node.key(node.len() - 1), Child { id: node.id(), count, bytes }));
        }
    }

    /// Returns the edits of the level above, and moves the new chunks to `added`. A node that came out as it was is neither.
    fn into_edits(self, added: &mut Vec<Verified>) -> Vec<(Vec<u8>, Option<Child>)> {
        let mut edits = Vec::with_capacity(self.made.len());
        let mut removed = self.removed.into_iter().peekable();
        for Made { last, child, chunk } in self.made {
            while let Some((key, _)) = removed.next_if(|(key, _)| *key < last) {
                edits.push((key, None));
            }
            if removed.next_if(|(key, _)| *key == last).is_none_or(|(_, old)| old.id != child.id) {
                added.push(chunk);
                edits.push((last, Some(child)));
            }
        }
        edits.extend(removed.map(|(key, _)| (key, None)));
        edits
    }
}

/// Takes edits as long as they replace slots of `node` by ones of equal weight, into `same`. Says whether these were all that fall
/// into it: then no boundary moves and the node can be patched.
fn takes_all<I: Iterator<Item = (K, Option<P>)>, K: AsRef<[u8]>, P: Put>(
    node: &Node,
    is_last: bool,
    edits: &mut Edits<I, K, P>,
    same: &mut Vec<(usize, (K, P))>,
) -> Result<bool, Error> {
    while let Some((key, put)) = &edits.next {
        let key = key.as_ref();
        match (node.search(key), put) {
            (Ok(index), Some(put)) if put.weight(key) == node.weight(index) => {
                if let Some((key, Some(put))) = edits.take()? {
                    same.push((index, (key, put)));
                }
            }
            (Err(index), _) if index == node.len() && !is_last => return Ok(true),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Feeds the entries of `node`, changed by `same` and then by the edits that fall into it, to the builder.
fn merge<I: Iterator<Item = (K, Option<P>)>, K: AsRef<[u8]>, P: Put>(
    node: &Node,
    is_last: bool,
    same: &[(usize, (K, P))],
    edits: &mut Edits<I, K, P>,
    builder: &mut Builder,
    made: &mut Vec<Made>,
    added: &mut Vec<Verified>,
) -> Result<(), Error> {
    // As long as nothing changed weight, the old node says where boundaries are: none before its end, one there unless it is last.
    let mut is_shifted = !builder.is_empty();
    let mut same = same.iter().peekable();
    let mut put = |builder: &mut Builder, made: &mut Vec<Made>, key: &[u8], put: &P| {
        if builder.push(key, put.weight(key), |slots| put.write(key, slots, added))? {
            made.push(builder.finish());
        }
        Ok::<(), Error>(())
    };
    for index in 0..node.len() {
        if let Some((_, (key, value))) = same.next_if(|(at, _)| *at == index) {
            put(builder, made, key.as_ref(), value)?;
            continue;
        }
        while edits.key().is_some_and(|key| node.cmp_key(index, key).is_gt()) {
            if let Some((key, Some(value))) = edits.take()? {
                put(builder, made, key.as_ref(), &value)?;
                is_shifted = true;
            }
        }
        if edits.key().is_some_and(|key| node.cmp_key(index, key).is_eq()) {
            if let Some((key, Some(value))) = edits.take()? {
                put(builder, made, key.as_ref(), &value)?;
            }
            is_shifted = true;
        } else if is_shifted || index + 1 == node.len() {
            if builder.keep(node, index) {
                made.push(builder.finish());
            }
        } else {
            builder.keep_untested(node, index);
        }
    }
    while is_last && edits.key().is_some() {
        if let Some((key, Some(value))) = edits.take()? {
            put(builder, made, key.as_ref(), &value)?;
        }
    }
    Ok(())
}
