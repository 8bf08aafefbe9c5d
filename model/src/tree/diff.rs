//! What changed between two trees.
//!
//! Law: `old.apply(diff(old, new)) = new`. Lazy, in key order; the cost follows the difference.

use super::{Error, Keys, Nodes, Tree, Value, pair::Pair, pair::Step};

/// One key whose value differs. At least one side is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Vec<u8>,
    /// Its value in the old tree.
    pub old: Option<Value>,
    /// Its value in the new tree.
    pub new: Option<Value>,
}

/// The changes between two trees, in key order. Ends after an error.
#[derive(Debug)]
pub struct Diff<'n, L: ?Sized, R: ?Sized> {
    pair: Option<Pair<'n, L, R>>,
}

/// Returns what changed from `old` to `new` in the interval `keys`. Each tree has its own source of nodes; they may be one.
///
/// # Errors
/// Those of [`Nodes`]; later ones come from the iterator.
pub fn diff<'n, L: Nodes + ?Sized, R: Nodes + ?Sized>(
    old_nodes: &'n L,
    old: &Tree,
    new_nodes: &'n R,
    new: &Tree,
    keys: &Keys,
) -> Result<Diff<'n, L, R>, Error> {
    Ok(Diff { pair: Some(Pair::open(old_nodes, old, new_nodes, new, keys)?) })
}

impl<L: Nodes + ?Sized, R: Nodes + ?Sized> Diff<'_, L, R> {
    fn step(&mut self) -> Result<Option<Change>, Error> {
        let Some(pair) = &mut self.pair else {
            return Ok(None);
        };
        let (has_old, has_new) = loop {
            match pair.step()? {
                None => return Ok(None),
                Some(Step::Entered(_)) => {}
                Some(Step::Old) => break (true, false),
                Some(Step::New) => break (false, true),
                Some(Step::Both) => break (true, true),
            }
        };
        let entry = if has_old { pair.old.entry() } else { pair.new.entry() };
        let key = entry.node.key(entry.index);
        let old = has_old.then(|| pair.old.value()).transpose()?;
        let new = has_new.then(|| pair.new.value()).transpose()?;
        if has_old {
            pair.old.advance();
        }
        if has_new {
            pair.new.advance();
        }
        Ok(Some(Change { key, old, new }))
    }
}

impl<L: Nodes + ?Sized, R: Nodes + ?Sized> Iterator for Diff<'_, L, R> {
    type Item = Result<Change, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.pair = None;
        }
        step.transpose()
    }
}
