//! Blame: which commit each part of a document is owed to.
//!
//! The document's own stamps say it. For counters, which keep none, the document's history is read from the newest edit back until one counted.

use std::sync::Arc;

use herdbook_model::{
    authority::RequestRef,
    blame::{self, Part},
    document::Dot,
    edit::{Change, Operation},
    id::CommitId,
    schema::{Collection, FieldType},
    state::State,
    value::{Key, Step},
};
use herdbook_store::Direction;

use super::{Repository, View};
use crate::error::Error;

/// A part of a document with the commit it is owed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blamed {
    /// The part.
    pub part: Part,
    /// The commit that wrote it, and its request's place there; of a counter the newest that added to it. None if it is not here.
    pub by: Option<(CommitId, u32)>,
}

impl Repository {
    /// Returns the parts of a document and the commits they are owed to; of one field only, if named.
    ///
    /// Cost: a look-up for each part; for a counter also the document's history back to the newest edit that counted.
    ///
    /// # Errors
    /// [`Error::UnknownDocument`], [`Error::Schema`] for an unknown collection or field, those of reading.
    pub fn blame(&self, view: &View, state: &State, collection: &str, key: &Key, field: Option<&str>) -> Result<Vec<Blamed>, Error> {
        let collection = state.schema().collection(collection)?;
        let only = field.map(|name| collection.field(name)).transpose()?;
        let absent = || Error::UnknownDocument { collection: collection.name.to_string(), key: key.to_string() };
        let document = self.get(state, collection.id, key)?.ok_or_else(absent)?;
        let mut blamed = Vec::new();
        for part in blame::blame(&document, collection) {
            if only.is_some_and(|only| only.name != part.field) {
                continue;
            }
            let by = if is_counter(collection, &part) {
                self.last_to_count(view, state, collection, key, &part)?
            } else {
                part.stamp.map(|stamp| self.commit_of(&stamp.dot)).transpose()?.flatten()
            };
            blamed.push(Blamed { part, by });
        }
        Ok(blamed)
    }

    fn commit_of(&self, dot: &Dot) -> Result<Option<(CommitId, u32)>, Error> {
        Ok(self.at(&dot.chain, dot.counter)?.map(|id| (id, dot.request())))
    }

    /// Returns the newest request that changed a counter.
    fn last_to_count(
        &self,
        view: &View,
        state: &State,
        collection: &Collection,
        key: &Key,
        part: &Part,
    ) -> Result<Option<(CommitId, u32)>, Error> {
        let field = collection.field(&part.field)?.id;
        let mut found = None;
        self.edits_of(collection.id, key, Direction::Backward, |commit, meta, at| {
            let is_in = state.frontier().vector().contains(&meta.chain, meta.counter);
            if !is_in || view.skips(&RequestRef { commit, request: at }) {
                return Ok(true);
            }
            let Some(request) = self.0.commits.request(&commit, at)? else {
                self.fails_past(&commit)?;
                return Ok(true);
            };
            let counted =
                request.edits().any(|(of, edit)| of == collection.id && edit.key == *key && counts(&edit.operation, field, &part.path));
            if counted {
                found = Some((commit, at));
            }
            Ok(!counted)
        })?;
        Ok(found)
    }
}

/// Whether a part is a counter, by its place in the schema.
fn is_counter(collection: &Collection, part: &Part) -> bool {
    let mut ty = collection.field(&part.field).ok().map(|field| &field.ty);
    for _ in &part.path {
        ty = ty.and_then(FieldType::inner);
    }
    ty == Some(&FieldType::Counter)
}

/// Whether an operation changes the counter at `path` of a field.
fn counts(operation: &Operation, field: herdbook_model::schema::FieldId, path: &[Step]) -> bool {
    let mut change = operation.fields().iter().find(|edit| edit.field == field).map(|edit| &edit.change);
    for step in path {
        change = match (change, step) {
            (Some(Change::Within(changes)), Step::Key(key)) => {
                changes.iter().find(|(of, _)| Arc::ptr_eq(of, key) || of == key).map(|(_, change)| change)
            }
            (Some(Change::Clear), _) => return true,
            _ => None,
        };
    }
    change.is_some()
}
