//! The documents of a branch at one node, held against those of another node and against what was written.
//!
//! A document that one line of the ledger names alone must be what that line says. Of one that several name only the merge can tell what
//! it is: it must be the same everywhere.

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::{
    id::{BranchName, Leaf},
    json::schema_from_json,
};
use herdbook_proto::{
    client::Client,
    document::{At, Document, Place},
    limits,
    read::List,
};

use super::{insist, written::Written};
use crate::{errors::Error, forms};

/// Document → its version.
pub(super) type Holdings = BTreeMap<String, Leaf>;

/// Reads the documents of a branch, page by page, and shows each to `look`.
pub(super) async fn read(
    client: &Client,
    branch: &BranchName,
    mut look: impl FnMut(&Document) -> Result<(), Error>,
) -> Result<Holdings, Error> {
    let schema = client.schema(Some(branch)).await?.json;
    let schema = schema_from_json(&schema).map_err(|error| Error::Demo { what: error.to_string() })?;
    let mut holdings = Holdings::new();
    for collection in &schema.collections {
        let mut list = List {
            place: Place { repository: None, at: At::Branch(Some(branch.clone())) },
            collection: Arc::clone(&collection.name),
            prefix: String::new(),
            page_size: limits::PAGE,
            page_token: bytes::Bytes::new(),
            keys_only: false,
        };
        loop {
            let page = client.list(list.clone()).await?;
            for document in &page.documents {
                look(document)?;
                holdings.insert(document.name.to_string(), document.version);
            }
            if page.next.is_empty() {
                break;
            }
            list.page_token = page.next;
        }
    }
    Ok(holdings)
}

/// Returns a document in which two nodes differ, and how; `None` if there is none.
pub(super) fn difference(here: &Holdings, there: &Holdings) -> Option<String> {
    let missing = there.iter().find(|(name, version)| here.get(*name) != Some(version));
    let surplus = here.iter().find(|(name, _)| !there.contains_key(*name));
    let (name, _) = missing.or(surplus)?;
    let shown = |holdings: &Holdings| holdings.get(name).map_or_else(|| "absent".to_owned(), |version| format!("at version {version:?}"));
    Some(format!("{name} is {} here, {} there", shown(here), shown(there)))
}

/// The documents of a branch that one acknowledged request alone named, with what it said of them.
#[derive(Debug)]
pub(super) struct Sole<'w>(BTreeMap<&'w str, &'w Written>);

impl<'w> Sole<'w> {
    /// Returns those of `branch` among all (branch, document, what was said of it).
    pub(super) fn of(branch: &str, said: impl IntoIterator<Item = (&'w str, &'w str, &'w Written)>) -> Self {
        let mut by_document: BTreeMap<&str, Option<(&str, &Written)>> = BTreeMap::new();
        for (branch, document, written) in said {
            // A branch may show what was written to another one, so that a document which two name is of neither.
            by_document.entry(document).and_modify(|sole| *sole = None).or_insert(Some((branch, written)));
        }
        let sole = by_document.into_iter().filter_map(|(document, sole)| Some((document, sole?)));
        Self(sole.filter(|(_, (of, _))| *of == branch).map(|(document, (_, written))| (document, written)).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Insists that a document that is there is as it was written, if one request alone named it.
    pub(super) fn check(&self, document: &Document) -> Result<(), Error> {
        let name = document.name.to_string();
        let Some(written) = self.0.get(&*name) else { return Ok(()) };
        insist(written.is_shown_by(&forms::fields(document)), || format!("{name} holds {:?}, not {written:?}", forms::fields(document)))
    }

    /// Insists that none is missing but what was deleted.
    pub(super) fn check_missing(&self, holdings: &Holdings) -> Result<(), Error> {
        let missing = self.0.iter().find(|(name, written)| **written != &Written::Deleted && !holdings.contains_key(**name));
        insist(missing.is_none(), || format!("a document was written and is not there: {missing:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_two_requests_name_is_of_neither() {
        let (whole, deleted) = (Written::Whole(serde_json::Map::new()), Written::Deleted);
        let said = [("main@1", "cities/1", &whole), ("main@1", "cities/2", &whole), ("main@1", "cities/2", &deleted)];
        let others = [("main@2", "cities/3", &whole), ("main@1", "cities/4", &whole), ("main@2", "cities/4", &whole)];
        let sole = Sole::of("main@1", said.into_iter().chain(others));
        assert_eq!(sole.0, BTreeMap::from([("cities/1", &whole)]));
    }

    #[test]
    fn what_is_missing_must_have_been_deleted() {
        let (whole, deleted) = (Written::Whole(serde_json::Map::new()), Written::Deleted);
        let sole = Sole::of("main@1", [("main@1", "cities/1", &whole), ("main@1", "cities/2", &deleted)]);
        assert!(sole.check_missing(&Holdings::from([("cities/1".to_owned(), Leaf([1; 32]))])).is_ok());
        assert!(sole.check_missing(&Holdings::new()).is_err());
    }

    #[test]
    fn nodes_differ_where_a_document_or_its_version_does() {
        let holdings = |documents: &[(&str, u8)]| -> Holdings {
            documents.iter().map(|(name, version)| ((*name).to_owned(), Leaf([*version; 32]))).collect()
        };
        let here = holdings(&[("cities/1", 1), ("cities/2", 2)]);
        assert_eq!(difference(&here, &here), None);
        for there in [holdings(&[("cities/1", 1)]), holdings(&[("cities/1", 1), ("cities/2", 3)])] {
            assert!(difference(&here, &there).is_some_and(|told| told.starts_with("cities/2")));
            assert!(difference(&there, &here).is_some_and(|told| told.starts_with("cities/2")));
        }
    }
}
