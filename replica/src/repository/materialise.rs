//! Materialised states: folding the overlay into trees, and the record from which a restart goes on.

use std::collections::BTreeMap;

use herdbook_model::{
    codec::{self, Decode as _, Encode as _, Reader, Writer},
    graph::{Frontier, Graph as _},
    id::{BranchName, CommitId, Judgement, SchemaId, StateRoot},
    schema::CollectionId,
    state::{State, Trees},
    tree::Tree,
};
use herdbook_store::{Batch, Durability, Table};

use super::{Repository, Shared, layout};
use crate::error::Error;

/// The trees of a state, on disk, with what names it.
pub(super) struct Record {
    schema: SchemaId,
    heads: Vec<CommitId>,
    judgement: Judgement,
    pub(super) trees: BTreeMap<CollectionId, Trees>,
}

pub(super) fn encode(state: &State) -> Vec<u8> {
    let mut out = Writer::default();
    state.schema().id().encode(&mut out);
    out.list(state.frontier().ids().iter());
    state.judgement().encode(&mut out);
    out.count(state.trees().len());
    for (id, trees) in state.trees() {
        out.uint(id.0.into());
        trees.documents.encode(&mut out);
        trees.deleted.encode(&mut out);
        trees.conflicts.encode(&mut out);
    }
    out.into_bytes()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Record, codec::Error> {
    let mut input = Reader::new(bytes);
    let (schema, heads, judgement) = (SchemaId::decode(&mut input)?, input.list(32)?, Judgement::decode(&mut input)?);
    let mut trees = BTreeMap::new();
    for _ in 0..input.count(1)? {
        let id = u16::try_from(input.uint()?).map_err(|_| codec::Error::Malformed { what: "collection number" })?;
        if trees.last_key_value().is_some_and(|(last, _)| *last >= CollectionId(id)) {
            return Err(codec::Error::Order { what: "collections" });
        }
        let (documents, deleted) = (Tree::decode(&mut input)?, Tree::decode(&mut input)?);
        trees.insert(CollectionId(id), Trees { documents, deleted, conflicts: Tree::decode(&mut input)? });
    }
    input.end()?;
    Ok(Record { schema, heads, judgement, trees })
}

impl Shared {
    /// Folds the state, and adds the record of it to the batch. Chunks go to the store at once, before the record that names them.
    pub(super) fn fold(&self, state: &mut State, batch: &mut Batch) -> Result<(), Error> {
        self.nodes.fold(state)?;
        batch.put(Table::Refs, layout::materialised(state.branch()).into_bytes(), encode(state));
        Ok(())
    }

    /// Returns the materialised state of `branch` if it is of this schema and all it stands on is here.
    pub(super) fn load_materialised(
        &self,
        branch: &BranchName,
        schema: &std::sync::Arc<herdbook_model::schema::Schema>,
    ) -> Result<Option<State>, Error> {
        // In one with the noting: a collection sees either the record or who holds what it named.
        let mut notes = self.nodes.pins().notes();
        let Some(bytes) = self.store.refs().get(&layout::materialised(branch))? else { return Ok(None) };
        let record = decode(&bytes).map_err(|source| Error::Record { what: "materialised state", source })?;
        if record.schema != schema.id() {
            return Ok(None);
        }
        let mut frontier = Frontier::default();
        for head in &record.heads {
            let Some(meta) = self.commits.meta(head)? else { return Ok(None) };
            frontier.advance(*head, &meta);
        }
        let state = State::materialised(branch.clone(), schema.clone(), frontier, record.judgement, record.trees);
        notes.note(state.shared_trees());
        Ok(Some(state))
    }
}

impl Repository {
    /// Folds every branch, writes the nodes, and waits until that is in the store. Done when idle, when a root is asked for, and before a
    /// clean end.
    ///
    /// # Errors
    /// [`Error`]; states stay as they were.
    pub fn materialise(&self) -> Result<(), Error> {
        let shared = &self.0;
        let mut writer = shared.writer.lock();
        let mut batch = Batch::new();
        let mut view = writer.view.clone();
        for state in view.branches.values_mut() {
            shared.take_folded(&mut writer, state, &mut batch)?;
            if !state.is_folded() {
                shared.fold(state, &mut batch)?;
            }
        }
        // Of branches that are no more, or of what came to nothing.
        writer.folding.clear();
        if batch.is_empty() {
            return Ok(());
        }
        // Everything handed over before is in the store after this, so what is published last is this view.
        shared.store.records().write(batch, Durability::Process)?;
        writer.view = view.clone();
        shared.publish(view, Vec::new());
        Ok(())
    }

    /// Returns the root of `state`: at once if it is folded, else by folding a copy (nothing is written).
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn root(&self, state: &State) -> Result<StateRoot, Error> {
        if let Some(root) = state.root() {
            return Ok(root);
        }
        let mut copy = state.clone();
        copy.fold(&self.0.nodes)?;
        Ok(copy.root().expect("a folded state has a root"))
    }
}
