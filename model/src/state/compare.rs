//! What differs between two states of one repository. Cost follows the difference.

use std::{collections::BTreeMap, sync::Arc};

use super::{Error, State, Trees, decode, made_above};
use crate::{
    document::Document,
    schema::CollectionId,
    tree::{self, Keys, Nodes},
    value::Key,
};

/// One document that differs. At least one side is there; deleted documents do not count as there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its collection.
    pub collection: CollectionId,
    /// Its key.
    pub key: Key,
    /// As the older state has it.
    pub old: Option<Arc<Document>>,
    /// As the newer state has it.
    pub new: Option<Arc<Document>>,
}

/// Returns the documents of `collection` with `prefix` that differ between two states, in key order, at most `limit`.
///
/// # Errors
/// [`Error`].
pub fn compare<N: Nodes + ?Sized>(
    nodes: &N,
    old: &State,
    new: &State,
    collection: CollectionId,
    prefix: &str,
    limit: usize,
) -> Result<Vec<Change>, Error> {
    let tree_error = |source| Error::Tree { collection, source };
    let (mut old, mut new) = (old.clone(), new.clone());
    let mut made = old.fold(nodes)?;
    made.extend(new.fold(nodes)?);
    let fresh = made_above(nodes, &made)?;
    let documents = |trees: &BTreeMap<CollectionId, Trees>| trees.get(&collection).copied().unwrap_or_else(Trees::empty).documents;
    let (old, new) = (documents(old.trees()), documents(new.trees()));
    let mut changes = Vec::new();
    for change in tree::diff(&fresh, &old, &fresh, &new, &Keys::prefix(prefix.as_bytes())).map_err(tree_error)?.take(limit) {
        let change = change.map_err(tree_error)?;
        let text = String::from_utf8_lossy(&change.key).into_owned();
        let read = |bytes: Option<tree::Value>| bytes.map(|bytes| decode(collection, &text, &bytes)).transpose();
        let (old, new) = (read(change.old)?, read(change.new)?);
        let malformed = |_| Error::Document { collection, key: text.clone(), source: crate::codec::Error::Malformed { what: "key" } };
        let key = Key::new(text.as_str()).map_err(malformed)?;
        changes.push(Change { collection, key, old, new });
    }
    Ok(changes)
}
