//! Reading ahead: the documents that a replay is going to change, in one pass over the trees instead of a way down for each.

use std::sync::Arc;

use super::{Error, State, decode};
use crate::{
    document::Document,
    edit::Edit,
    schema::CollectionId,
    tree::{Cursor, Nodes},
    value::Key,
};

/// Fewest edits for which it is done.
const FEWEST: usize = 16;

/// Edits of a replay in order, each with what was read for it: `None` if nothing was, else the document as it was, or that there was none.
/// May be shorter than the edits.
pub(super) type Ahead = Vec<Option<Option<Arc<Document>>>>;

impl State {
    /// Reads the documents of `edits`, which come in the order of their replay. What lies above the trees is at hand and not read; what cannot
    /// be read is left to the replay, which may pass over it.
    pub(super) fn read_ahead<'e, N: Nodes + ?Sized>(&self, nodes: &N, edits: impl Iterator<Item = (CollectionId, &'e Edit)>) -> Ahead {
        if self.trees.is_empty() {
            return Ahead::new();
        }
        let names: Vec<(CollectionId, &Key)> = edits.map(|(collection, edit)| (collection, &edit.key)).collect();
        if names.len() < FEWEST {
            return Ahead::new();
        }
        let is_at_hand = |(collection, key): (CollectionId, &Key)| self.overlay.contains_key(&(collection, key.clone()));
        let mut order: Vec<usize> = (0..names.len()).filter(|at| self.overlay.is_empty() || !is_at_hand(names[*at])).collect();
        // The sort keeps the order of a document's edits: the first of them gets what was read, the others find what it left.
        order.sort_by_key(|at| names[*at]);
        order.dedup_by_key(|at| names[*at]);
        let mut ahead = vec![None; names.len()];
        for run in order.chunk_by(|one, next| names[*one].0 == names[*next].0) {
            // An error ends the run: the way to its first document that cannot be read may be the way to others.
            let _ = self.read_run(nodes, &names, run, &mut ahead);
        }
        ahead
    }

    /// Reads the documents of one collection, named by their places in `names`, in key order.
    fn read_run<N: Nodes + ?Sized>(
        &self,
        nodes: &N,
        names: &[(CollectionId, &Key)],
        run: &[usize],
        ahead: &mut Ahead,
    ) -> Result<(), Error> {
        let (collection, first) = names[run[0]];
        // What a dropped collection had is nobody's business any more.
        let (Some(trees), Ok(_)) = (self.trees.get(&collection), self.schema.by_id(collection)) else { return Ok(()) };
        let tree_error = |source| Error::Tree { collection, source };
        let mut living = Cursor::seek(nodes, &trees.documents, first.as_bytes()).map_err(tree_error)?;
        for at in run {
            let key = names[*at].1;
            let mut bytes = living.find(key.as_bytes()).map_err(tree_error)?;
            if bytes.is_none() && !trees.deleted.is_empty() {
                bytes = trees.deleted.get(nodes, key.as_bytes()).map_err(tree_error)?;
            }
            ahead[*at] = Some(bytes.map(|bytes| decode(collection, key.as_str(), &bytes)).transpose()?);
        }
        Ok(())
    }
}
