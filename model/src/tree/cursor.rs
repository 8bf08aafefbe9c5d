//! Reading a tree in key order.

use super::{Error, Keys, Nodes, Tree, Value, path::Path};

/// A place between or on the entries of a tree; moves forward.
#[derive(Debug, Clone)]
pub struct Cursor<'n, N: ?Sized> {
    path: Path<'n, N>,
}

impl<'n, N: Nodes + ?Sized> Cursor<'n, N> {
    /// Starts at the first entry whose key is not smaller than `key`. Cost: one node a level.
    ///
    /// # Errors
    /// Those of [`Nodes`].
    pub fn seek(nodes: &'n N, tree: &Tree, key: &[u8]) -> Result<Self, Error> {
        let path = Path::choose(nodes, tree, 0, |node| {
            let (Ok(index) | Err(index)) = node.search(key);
            index
        })?;
        Ok(Self { path })
    }

    /// Starts at the entry before which exactly `offset` others lie. Cost: one node a level.
    ///
    /// # Errors
    /// Those of [`Nodes`].
    pub fn nth(nodes: &'n N, tree: &Tree, offset: u64) -> Result<Self, Error> {
        let mut left = offset;
        let path = Path::choose(nodes, tree, 0, |node| {
            for index in 0..node.len() {
                let count = node.entry_totals(index).count;
                if left < count {
                    return index;
                }
                left -= count;
            }
            // Beyond the end: the last children are taken, and the end of the last leaf.
            left = u64::MAX;
            node.len()
        })?;
        Ok(Self { path })
    }

    /// Goes forward to the first entry whose key is not smaller than `key`; stays if it is there or beyond.
    ///
    /// # Errors
    /// Those of [`Nodes`].
    pub fn advance_to(&mut self, key: &[u8]) -> Result<(), Error> {
        let top = self.path.top();
        if top.index < top.node.len() && top.node.cmp_key(top.index, key).is_lt() { self.path.advance_to(key) } else { Ok(()) }
    }

    /// Goes forward to where `key` is or would be, and returns the value under it.
    ///
    /// # Errors
    /// Those of [`Nodes`].
    pub fn find(&mut self, key: &[u8]) -> Result<Option<Value>, Error> {
        self.advance_to(key)?;
        let top = self.path.top();
        let is_here = top.index < top.node.len() && top.node.cmp_key(top.index, key).is_eq();
        is_here.then(|| Value::load(self.path.nodes(), &top.node, top.index)).transpose()
    }

    /// Goes to the next entry; stays at the end.
    ///
    /// # Errors
    /// Those of [`Nodes`].
    pub fn advance(&mut self) -> Result<(), Error> {
        let top = self.path.top();
        if top.index + 1 >= top.node.len() && self.path.advance()? {
            return Ok(());
        }
        let top = self.path.top_mut();
        top.index = (top.index + 1).min(top.node.len());
        Ok(())
    }

    /// Returns the key here, or `None` at the end.
    pub fn key(&self) -> Option<Vec<u8>> {
        let top = self.path.top();
        (top.index < top.node.len()).then(|| top.node.key(top.index))
    }

    /// Returns the entry here, or `None` at the end.
    ///
    /// # Errors
    /// Those of [`Nodes::value`].
    pub fn entry(&self) -> Result<Option<(Vec<u8>, Value)>, Error> {
        let Some(key) = self.key() else {
            return Ok(None);
        };
        let top = self.path.top();
        Ok(Some((key, Value::load(self.path.nodes(), &top.node, top.index)?)))
    }

    /// Whether the key here is `to` or comes after it; so it is at the end.
    fn has_reached(&self, to: &[u8]) -> bool {
        let top = self.path.top();
        top.index >= top.node.len() || top.node.cmp_key(top.index, to).is_ge()
    }
}

/// The entries of an interval in key order. Ends after an error.
#[derive(Debug)]
pub struct Entries<'n, N: ?Sized> {
    cursor: Option<Cursor<'n, N>>,
    to: Option<Vec<u8>>,
}

impl<'n, N: Nodes + ?Sized> Entries<'n, N> {
    pub(super) fn new(nodes: &'n N, tree: &Tree, keys: &Keys) -> Result<Self, Error> {
        Ok(Self { cursor: Some(Cursor::seek(nodes, tree, keys.from())?), to: keys.to().map(<[u8]>::to_vec) })
    }

    fn step(&mut self) -> Result<Option<(Vec<u8>, Value)>, Error> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(None);
        };
        if self.to.as_ref().is_some_and(|to| cursor.has_reached(to)) {
            return Ok(None);
        }
        let entry = cursor.entry()?;
        cursor.advance()?;
        Ok(entry)
    }
}

impl<N: Nodes + ?Sized> Iterator for Entries<'_, N> {
    type Item = Result<(Vec<u8>, Value), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.cursor = None;
        }
        step.transpose()
    }
}
