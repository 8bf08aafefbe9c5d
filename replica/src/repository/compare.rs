//! Two states side by side, read piece by piece: however much differs, one piece is in memory.

use std::{ops::Bound, sync::Arc};

use herdbook_model::{
    chunk::Verified,
    codec::Decode as _,
    document::Document,
    id::ChunkId,
    schema::{BLOBS, CollectionId},
    state::{self, Change, State},
    tree::{self, Keys, MemoryNodes, Node, Nodes, Tree},
    value::Key,
};

use super::{Repository, nodes::NodeCache, pins::Held};
use crate::error::Error;

/// Which documents are meant.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The collection; none: all.
    pub collection: Option<CollectionId>,
    /// What keys begin with.
    pub prefix: String,
}

impl Scope {
    /// Whether a document is among them.
    pub fn has(&self, collection: CollectionId, key: &Key) -> bool {
        self.takes(collection) && key.as_str().starts_with(&self.prefix)
    }

    /// Whether documents of a collection may be. Parts of blobs, which nobody edits as documents, are only where their collection is named.
    fn takes(&self, collection: CollectionId) -> bool {
        self.collection.map_or(collection != BLOBS, |only| only == collection)
    }
}

/// Where a piece ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    collection: CollectionId,
    key: Key,
}

/// Two states to compare.
pub struct Comparison {
    repository: Repository,
    old: State,
    new: State,
    made: MemoryNodes,
    scope: Scope,
    /// Trees on which the two were folded.
    _pinned: [Held; 2],
}

impl Repository {
    /// Sets two states side by side. Cost: folding what lies above their trees, in memory alone.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn comparison(&self, old: &State, new: &State, scope: Scope) -> Result<Comparison, Error> {
        let (mut old, mut new, mut made) = (old.clone(), new.clone(), MemoryNodes::default());
        let pinned = [old.shared_trees().clone(), new.shared_trees().clone()];
        // Equal names, equal documents: nothing needs to be folded to know that.
        if old.name() == new.name() {
            old = new.clone();
        } else {
            let folded = [old.fold(&self.0.nodes)?, new.fold(&self.0.nodes)?];
            for chunks in folded {
                made.extend(chunks).map_err(|source| no_tree(CollectionId(0), source))?;
            }
        }
        Ok(Comparison { repository: self.clone(), old, new, made, scope, _pinned: pinned })
    }

    /// Returns how many documents of a collection have keys that start with `prefix`. Cost: folding what lies above the state's trees, in
    /// memory alone, and two nodes a level.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn count(&self, state: &State, collection: CollectionId, prefix: &str) -> Result<u64, Error> {
        if prefix.is_empty() {
            return Ok(state.count(collection));
        }
        let (mut folded, mut made) = (state.clone(), MemoryNodes::default());
        made.extend(folded.fold(&self.0.nodes)?).map_err(|source| no_tree(collection, source))?;
        let nodes = Both { made: &made, below: &self.0.nodes };
        documents(&folded, collection).count_in(&nodes, &Keys::prefix(prefix.as_bytes())).map_err(|source| no_tree(collection, source))
    }
}

impl Comparison {
    /// Returns documents that differ, by collection and key, after where the piece before ended, until their bytes exceed `bytes`; and where
    /// this piece ended, `None` if it was the last.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn piece(&self, after: Option<&Reached>, bytes: usize) -> Result<(Vec<Change>, Option<Reached>), Error> {
        let (mut changes, mut taken) = (Vec::new(), 0);
        if self.old.name() == self.new.name() {
            return Ok((changes, None));
        }
        let nodes = Both { made: &self.made, below: &self.repository.0.nodes };
        for collection in self.collections() {
            let keys = match after {
                Some(reached) if reached.collection > collection => continue,
                Some(reached) if reached.collection == collection => self.keys_after(&reached.key),
                _ => Keys::prefix(self.scope.prefix.as_bytes()),
            };
            let (old, new) = (documents(&self.old, collection), documents(&self.new, collection));
            for change in tree::diff(&nodes, &old, &nodes, &new, &keys).map_err(|source| no_tree(collection, source))? {
                let change = change.map_err(|source| no_tree(collection, source))?;
                taken += [&change.old, &change.new].into_iter().flatten().map(|value| value.len()).sum::<usize>();
                let change = decode(collection, change)?;
                let reached = Reached { collection, key: change.key.clone() };
                changes.push(change);
                if taken > bytes {
                    return Ok((changes, Some(reached)));
                }
            }
        }
        Ok((changes, None))
    }

    /// Returns the collections of both states that are meant, by number.
    fn collections(&self) -> Vec<CollectionId> {
        let mut ids: Vec<_> = self.old.trees().keys().chain(self.new.trees().keys()).copied().collect();
        ids.retain(|id| self.scope.takes(*id));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn keys_after(&self, key: &Key) -> Keys {
        let prefixed = Keys::prefix(self.scope.prefix.as_bytes());
        Keys::between(Bound::Excluded(key.as_bytes()), prefixed.to().map_or(Bound::Unbounded, Bound::Excluded))
    }
}

/// Nodes made by folding in memory, and behind them the repository's.
struct Both<'a> {
    made: &'a MemoryNodes,
    below: &'a NodeCache,
}

impl Nodes for Both<'_> {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, tree::Error> {
        self.made.node(id).or_else(|_| self.below.node(id))
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, tree::Error> {
        self.made.value(id).or_else(|_| self.below.value(id))
    }
}

fn documents(state: &State, collection: CollectionId) -> Tree {
    state.trees().get(&collection).map_or_else(Tree::empty, |trees| trees.documents)
}

fn no_tree(collection: CollectionId, source: tree::Error) -> Error {
    Error::State(state::Error::Tree { collection, source })
}

fn decode(collection: CollectionId, change: tree::Change) -> Result<Change, Error> {
    let text = String::from_utf8_lossy(&change.key).into_owned();
    let bad = |source| Error::State(state::Error::Document { collection, key: text.clone(), source });
    let key = Key::new(text.as_str()).map_err(|_| bad(herdbook_model::codec::Error::Malformed { what: "key" }))?;
    let read = |bytes: Option<tree::Value>| bytes.map(|bytes| Document::from_bytes(&bytes).map(Arc::new)).transpose().map_err(bad);
    Ok(Change { collection, key, old: read(change.old)?, new: read(change.new)? })
}
