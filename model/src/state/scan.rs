//! Documents in key order, living or deleted ones: trees and overlay, merged.

use std::{collections::VecDeque, iter::Peekable, ops::Bound, sync::Arc};

use super::{Error, State, decode};
use crate::{
    document::Document,
    schema::CollectionId,
    tree::{Entries, Keys, Nodes, Tree},
    value::Key,
};

/// A document's key and, where the scan reads documents, the document.
type Entry = (Key, Arc<Document>);

/// Living documents of one collection in key order, read lazily. Ends after an error.
pub struct Scan<'n, N: Nodes + ?Sized> {
    collection: CollectionId,
    /// Whether those that are deleted, and of which something is kept, are taken in place of living ones.
    deleted: bool,
    tree: Option<Peekable<Entries<'n, N>>>,
    overlay: Peekable<std::vec::IntoIter<Entry>>,
}

impl State {
    /// Returns the living documents of `collection` whose keys start with `prefix` and come after `after`.
    ///
    /// Cost: the entries that are taken, and the overlay's entries in the interval at once.
    ///
    /// # Errors
    /// [`Error`] now or from the iterator.
    pub fn scan<'n, N: Nodes + ?Sized>(
        &self,
        nodes: &'n N,
        collection: CollectionId,
        prefix: &str,
        after: Option<&Key>,
    ) -> Result<Scan<'n, N>, Error> {
        self.scan_tree(nodes, collection, false, &interval(prefix, after))
    }

    /// Returns the deleted documents of `collection` of which something is kept, with what that is.
    ///
    /// Cost: as [`State::scan`].
    ///
    /// # Errors
    /// As [`State::scan`].
    pub fn scan_deleted<'n, N: Nodes + ?Sized>(&self, nodes: &'n N, collection: CollectionId) -> Result<Scan<'n, N>, Error> {
        self.scan_tree(nodes, collection, true, &Keys::all())
    }

    fn scan_tree<'n, N: Nodes + ?Sized>(
        &self,
        nodes: &'n N,
        collection: CollectionId,
        deleted: bool,
        keys: &Keys,
    ) -> Result<Scan<'n, N>, Error> {
        let trees = self.trees.get(&collection).map(|trees| if deleted { &trees.deleted } else { &trees.documents });
        let tree = trees.map(|tree| tree.range(nodes, keys).map_err(|source| Error::Tree { collection, source }));
        let overlay = self.changed(collection, keys).map(|(key, document)| (key.clone(), document.clone())).collect::<Vec<_>>();
        Ok(Scan { collection, deleted, tree: tree.transpose()?.map(Iterator::peekable), overlay: overlay.into_iter().peekable() })
    }

    /// Returns the keys of documents in conflict, in key order.
    ///
    /// # Errors
    /// [`Error`].
    pub fn conflicts<N: Nodes + ?Sized>(&self, nodes: &N, collection: CollectionId) -> Result<VecDeque<Key>, Error> {
        let tree_error = |source| Error::Tree { collection, source };
        let tree = self.trees.get(&collection).map_or_else(Tree::empty, |trees| trees.conflicts);
        let mut keys = std::collections::BTreeSet::new();
        for entry in tree.range(nodes, &Keys::all()).map_err(tree_error)? {
            keys.insert(key_of(&entry.map_err(tree_error)?.0, collection)?);
        }
        let Ok(definition) = self.schema.by_id(collection) else { return Ok(VecDeque::new()) };
        for (key, document) in self.changed(collection, &Keys::all()) {
            if document.has_conflict(definition) {
                keys.insert(key.clone());
            } else {
                keys.remove(key);
            }
        }
        Ok(keys.into_iter().collect())
    }

    /// Returns the overlay's documents of `collection` in `keys`.
    pub(super) fn changed(&self, collection: CollectionId, keys: &Keys) -> impl Iterator<Item = (&Key, &Arc<Document>)> {
        // The smallest key of an interval may be longer than a key can be: then the range begins at what of it a key can hold.
        let from = keys.from().to_vec();
        let mut held = &from[..from.len().min(Key::MAX)];
        if let Err(error) = std::str::from_utf8(held) {
            held = &held[..error.valid_up_to()];
        }
        let least = std::str::from_utf8(held).ok().and_then(|least| Key::new(least).ok()).unwrap_or_else(super::first_key);
        let to = keys.to().map(<[u8]>::to_vec);
        self.overlay
            .range((Bound::Included((collection, least)), Bound::Unbounded))
            .skip_while(move |((_, key), _)| key.as_bytes() < from.as_slice())
            .take_while(move |((of, key), _)| *of == collection && to.as_ref().is_none_or(|to| key.as_bytes() < to.as_slice()))
            .map(|((_, key), document)| (key, document))
    }
}

fn interval(prefix: &str, after: Option<&Key>) -> Keys {
    let prefixed = Keys::prefix(prefix.as_bytes());
    match after {
        Some(after) if after.as_bytes() >= prefixed.from() => {
            let to = prefixed.to().map_or(Bound::Unbounded, Bound::Excluded);
            Keys::between(Bound::Excluded(after.as_bytes()), to)
        }
        _ => prefixed,
    }
}

fn key_of(bytes: &[u8], collection: CollectionId) -> Result<Key, Error> {
    let malformed = || Error::Document {
        collection,
        key: String::from_utf8_lossy(bytes).into_owned(),
        source: crate::codec::Error::Malformed { what: "key" },
    };
    Key::new(std::str::from_utf8(bytes).map_err(|_| malformed())?).map_err(|_| malformed())
}

impl<N: Nodes + ?Sized> Scan<'_, N> {
    fn step(&mut self) -> Result<Option<Entry>, Error> {
        loop {
            let tree = self.tree.as_mut().and_then(Peekable::peek);
            let takes_tree = match (tree, self.overlay.peek()) {
                (None, None) => return Ok(None),
                (Some(Err(_)), _) | (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(Ok((key, _))), Some((changed, _))) => {
                    if key.as_slice() == changed.as_bytes() {
                        // The overlay's document replaces the tree's.
                        self.tree.as_mut().and_then(Iterator::next);
                        false
                    } else {
                        key.as_slice() < changed.as_bytes()
                    }
                }
            };
            if takes_tree {
                let collection = self.collection;
                let Some(entry) = self.tree.as_mut().and_then(Iterator::next) else { continue };
                let (key, bytes) = entry.map_err(|source| Error::Tree { collection, source })?;
                let key = key_of(&key, collection)?;
                let document = decode(collection, key.as_str(), &bytes)?;
                return Ok(Some((key, document)));
            }
            if let Some((key, document)) = self.overlay.next()
                && document.exists() != self.deleted
                && !document.is_empty()
            {
                return Ok(Some((key, document)));
            }
        }
    }
}

impl<N: Nodes + ?Sized> Iterator for Scan<'_, N> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.tree = None;
            self.overlay = Vec::new().into_iter().peekable();
        }
        step.transpose()
    }
}
