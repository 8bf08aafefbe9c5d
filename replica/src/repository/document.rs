//! The history of one document, by the index of edits.

use std::sync::Arc;

use herdbook_model::{
    authority::RequestRef,
    document::{Context, Document, Stamp},
    graph::{Graph as _, Meta},
    id::CommitId,
    schema::{Collection, CollectionId},
    state::{self, State},
    value::Key,
};
use herdbook_store::{Direction, KeyRange, Table};

use super::{Repository, Shared, layout};
use crate::error::Error;

impl Repository {
    /// Tells `visit` of each request of any branch that edits a document, by time, until it answers false. Cost: the document's history.
    pub(super) fn edits_of(
        &self,
        collection: CollectionId,
        key: &Key,
        direction: Direction,
        visit: impl FnMut(CommitId, &Meta, u32) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        self.0.edits_of(collection, key, direction, visit)
    }
}

impl Shared {
    /// Replays a document of `state` by its own history above the horizon: the requests for which `counts` answers true. It answers `None` to end
    /// there. `missing` is asked about a commit whose edits are not here. Cost: that history.
    pub(super) fn document_of(
        &self,
        state: &State,
        collection: &Collection,
        key: &Key,
        mut counts: impl FnMut(&Meta, &RequestRef) -> Option<bool>,
        mut missing: impl FnMut(&CommitId) -> Result<(), Error>,
    ) -> Result<Option<Document>, Error> {
        let floor = self.floor(state.branch(), state.schema())?;
        let past = floor.as_ref().map(|floor| floor.frontier().vector().clone()).unwrap_or_default();
        let kept = floor.map(|floor| floor.document(&self.nodes, collection.id, key)).transpose()?.flatten();
        let mut document = kept.map_or_else(Document::default, Arc::unwrap_or_clone);
        self.edits_of(collection.id, key, Direction::Forward, |commit, meta, at| {
            if past.contains(&meta.chain, meta.counter) {
                return Ok(true);
            }
            match counts(meta, &RequestRef { commit, request: at }) {
                None => return Ok(false),
                Some(false) => return Ok(true),
                Some(true) => {}
            }
            let Some(request) = self.commits.request(&commit, at)? else {
                missing(&commit)?;
                return Ok(true);
            };
            for (dot, of, edit) in state::dotted(meta, at, &request) {
                if of == collection.id && edit.key == *key {
                    document.apply(edit, &Context { vector: &meta.vector, stamp: Stamp { time: meta.time, dot } }, collection);
                }
            }
            Ok(true)
        })?;
        Ok((!document.is_empty()).then_some(document))
    }

    /// As [`Repository::edits_of`].
    fn edits_of(
        &self,
        collection: CollectionId,
        key: &Key,
        direction: Direction,
        mut visit: impl FnMut(CommitId, &Meta, u32) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let range = KeyRange::prefix(&layout::by_document(collection, key));
        for record in self.store.records().scan(Table::Index, range, direction) {
            let Some(edit) = layout::parse_by_edit(&record?.key) else { continue };
            // A key that holds a zero byte may share the prefix.
            if edit.key != key.as_str() {
                continue;
            }
            let Some(meta) = self.commits.meta(&edit.commit)? else { continue };
            if !visit(edit.commit, &meta, edit.request)? {
                break;
            }
        }
        Ok(())
    }
}
