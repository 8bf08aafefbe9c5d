//! Reverting a commit: a new commit that takes back what is still visible of it.

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::{
    document::Dot,
    edit::{Change, Edit, FieldEdit, Operation},
    id::{CommitId, RequestKey},
    revert,
    schema::Collection,
    value::Value,
};
use herdbook_store::Durability;

use super::{Ask, Committed, DocumentChange, DocumentEdit, FieldChange, Moment, Repository};
use crate::error::Error;

/// What a revert did.
#[derive(Debug, Clone)]
pub struct Reverted {
    /// The commit that takes back; `None` if nothing was left to take back.
    pub committed: Option<Committed>,
    /// Documents of which nothing was left to take back, `collection/key`: changed since by others, or lost here.
    pub untouched: Vec<String>,
}

impl Repository {
    /// Takes back what is still visible of a commit, in one new commit. Later edits of others stay; a revert can be reverted.
    ///
    /// # Errors
    /// [`Error::UnknownCommit`] and those of a commit.
    pub fn revert(&self, commit: &CommitId, key: RequestKey, message: String, durability: Durability) -> Result<Reverted, Error> {
        let stored = self.stored(commit)?.ok_or_else(|| Error::UnknownCommit { id: commit.to_string() })?;
        let view = self.view();
        let branch = stored.commit.header().branch.clone();
        let now = view.state(Some(&branch))?;
        let before = self.state_at(&view, Some(&branch), &Moment::Before(*commit))?;
        let meta = self.meta(commit)?.ok_or_else(|| Error::UnknownCommit { id: commit.to_string() })?;
        let is_own = |dot: &Dot| dot.chain == meta.chain && dot.counter == meta.counter;
        let (mut edits, mut untouched) = (Vec::new(), Vec::new());
        for (collection_id, edit) in folded(stored.decode()?.into_iter().map(|(_, request)| request)) {
            let Ok(collection) = now.schema().by_id(collection_id) else { continue };
            let (then, current) = (self.document(&before, collection, &edit)?, self.document(now, collection, &edit)?);
            match revert::revert(&edit, then.as_deref(), current.as_deref(), collection, is_own) {
                Some(back) => edits.push(as_ask(collection, &back)),
                None => untouched.push(format!("{}/{}", collection.name, edit.key)),
            }
        }
        if edits.is_empty() {
            return Ok(Reverted { committed: None, untouched });
        }
        let ask = Ask { branch: Some(branch), key, principal: String::new(), wanted: Vec::new(), edits, message };
        Ok(Reverted { committed: Some(self.commit_one(ask, durability)?), untouched })
    }

    fn document(
        &self,
        state: &herdbook_model::state::State,
        collection: &Collection,
        edit: &Edit,
    ) -> Result<Option<Arc<herdbook_model::document::Document>>, Error> {
        Ok(state.document(self.nodes(), collection.id, &edit.key)?)
    }
}

type Slot = (herdbook_model::schema::CollectionId, herdbook_model::value::Key);

/// Several edits of one document in one commit count as one that names every field they touched.
fn folded(requests: impl Iterator<Item = herdbook_model::request::Request>) -> Vec<(herdbook_model::schema::CollectionId, Edit)> {
    let mut edits = BTreeMap::<Slot, Operation>::new();
    for request in requests {
        for (collection, edit) in request.edits() {
            let slot = (collection, edit.key.clone());
            let next = match (edits.remove(&slot), edit.operation.clone()) {
                (Some(Operation::Create(mut fields)), Operation::Update(more)) => {
                    merge(&mut fields, more);
                    Operation::Create(fields)
                }
                (Some(Operation::Update(mut fields)), Operation::Update(more)) => {
                    merge(&mut fields, more);
                    Operation::Update(fields)
                }
                // Created, then deleted again, or deleted, then created: the first one tells what was there before.
                (Some(Operation::Create(_)), Operation::Delete) => continue,
                (_, next) => next,
            };
            edits.insert(slot, next);
        }
    }
    edits.into_iter().map(|((collection, key), operation)| (collection, Edit { key, operation })).collect()
}

fn merge(fields: &mut Vec<FieldEdit>, more: Vec<FieldEdit>) {
    for edit in more {
        match fields.iter_mut().find(|known| known.field == edit.field) {
            Some(known) => match (&mut known.change, edit.change) {
                (Change::Elements { add, remove }, Change::Elements { add: more_add, remove: more_remove }) => {
                    add.extend(more_add);
                    remove.extend(more_remove);
                }
                (Change::Entries { put, remove }, Change::Entries { put: more_put, remove: more_remove }) => {
                    put.extend(more_put);
                    remove.extend(more_remove);
                }
                (known, change) => *known = change,
            },
            None => fields.push(edit),
        }
    }
}

/// Says an edit by names, as callers do.
fn as_ask(collection: &Collection, edit: &Edit) -> DocumentEdit {
    let name = |field: &FieldEdit| collection.get(field.field).map(|field| field.name.clone());
    let change = match &edit.operation {
        Operation::Delete => DocumentChange::Delete,
        Operation::Create(fields) => DocumentChange::Create(
            fields.iter().filter_map(|field| Some((name(field)?, value(&field.change)?))).collect(),
        ),
        Operation::Update(fields) => DocumentChange::Update(
            fields.iter().filter_map(|field| Some((name(field)?, field_change(&field.change)))).collect(),
        ),
    };
    DocumentEdit { collection: collection.name.to_string(), key: edit.key.clone(), change }
}

fn value(change: &Change) -> Option<Value> {
    Some(match change {
        Change::Set(scalar) => Value::Scalar(scalar.clone()),
        Change::Clear => return None,
        Change::Elements { add, .. } => Value::Set(add.iter().cloned().collect()),
        Change::Entries { put, .. } => Value::Map(put.iter().cloned().collect()),
    })
}

fn field_change(change: &Change) -> FieldChange {
    match change {
        Change::Set(scalar) => FieldChange::Set(Value::Scalar(scalar.clone())),
        Change::Clear => FieldChange::Clear,
        Change::Elements { add, remove } => FieldChange::Elements { add: add.clone(), remove: remove.clone() },
        Change::Entries { put, remove } => FieldChange::Entries { put: put.clone(), remove: remove.clone() },
    }
}
