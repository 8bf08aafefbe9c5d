//! Reverting commits: a new commit that takes back what is still visible of them.

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::{
    authority::RequestRef,
    document::Dot,
    edit::{Change, Edit, FieldEdit, Operation},
    graph::Meta,
    id::{BranchName, CommitId, RequestKey},
    request::Request,
    revert,
    schema::Collection,
    state::{State, advance},
};
use herdbook_store::Durability;

use super::{Ask, Committed, DocumentChange, DocumentEdit, Moment, Repository, View};
use crate::error::Error;

/// What a revert did.
#[derive(Debug, Clone)]
pub struct Reverted {
    /// The commit that takes back; `None` if nothing was left to take back.
    pub committed: Option<Committed>,
    /// How many documents' edits it takes back.
    pub edits: u64,
    /// Documents of which nothing was left to take back, `collection/key`: changed since by others, or lost here.
    pub untouched: Vec<String>,
}

/// A commit that is to be taken back.
struct Member {
    id: CommitId,
    meta: Meta,
    requests: Vec<Request>,
}

impl Repository {
    /// Takes back what is still visible of commits of `branch` (the promoted one if none), in one new commit. Later edits of others stay; a
    /// revert can be reverted.
    ///
    /// Several commits are taken back as one: what comes back is what the branch would show had none of them been made.
    ///
    /// # Errors
    /// [`Error::UnknownCommit`] if the branch does not have one of them, and those of a commit.
    pub fn revert(
        &self,
        branch: Option<&BranchName>,
        commits: &[CommitId],
        key: RequestKey,
        message: String,
        durability: Durability,
    ) -> Result<Reverted, Error> {
        let view = self.view();
        let now = view.state(branch)?;
        let members = self.members(now, commits)?;
        let before = self.state_without(&view, now, &members)?;
        let is_own = |dot: &Dot| members.iter().any(|member| dot.chain == member.meta.chain && dot.counter == member.meta.counter);
        let (mut edits, mut untouched) = (Vec::new(), Vec::new());
        for (collection_id, edit) in folded(members.iter().flat_map(|member| &member.requests)) {
            let Ok(collection) = now.schema().by_id(collection_id) else { continue };
            let (then, current) = (self.document(&before, collection, &edit)?, self.document(now, collection, &edit)?);
            match revert::revert(&edit, then.as_deref(), current.as_deref(), collection, is_own) {
                Some(back) => edits.push(as_ask(collection, &back)),
                None => untouched.push(format!("{}/{}", collection.name, edit.key)),
            }
        }
        let count = edits.len() as u64;
        if edits.is_empty() {
            return Ok(Reverted { committed: None, edits: count, untouched });
        }
        let ask = Ask { branch: Some(now.branch().clone()), key, principal: String::new(), wanted: Vec::new(), edits, message };
        Ok(Reverted { committed: Some(self.commit_one(ask, durability)?), edits: count, untouched })
    }

    /// Reads the commits that are to be taken back, in a causal order, each once.
    fn members(&self, now: &State, commits: &[CommitId]) -> Result<Vec<Member>, Error> {
        let mut members = Vec::with_capacity(commits.len());
        for id in commits {
            let unknown = || Error::UnknownCommit { id: id.to_string() };
            let meta = self.meta(id)?.filter(|meta| now.frontier().vector().contains(&meta.chain, meta.counter)).ok_or_else(unknown)?;
            let stored = self.stored(id)?.ok_or_else(unknown)?;
            members.push(Member { id: *id, meta, requests: stored.decode()?.into_iter().map(|(_, request)| request).collect() });
        }
        members.sort_by_key(|member| (member.meta.time, member.id));
        members.dedup_by_key(|member| member.id);
        Ok(members)
    }

    /// Returns what stood there without the commits: for one, the state of its parents; for several, the branch replayed without them, since
    /// the parents of a later one show what an earlier one did.
    fn state_without(&self, view: &View, now: &State, members: &[Member]) -> Result<State, Error> {
        let Some(first) = members.first() else { return Ok(now.clone()) };
        let mut state = self.state_at(view, Some(now.branch()), &Moment::Before(first.id))?;
        if members.len() > 1 {
            let skips = |request: &RequestRef| view.skips(request) || members.iter().any(|member| member.id == request.commit);
            advance(&mut state, &self.0.commits, &self.0.nodes, now.frontier().vector(), skips)?;
        }
        Ok(state)
    }

    fn document(
        &self,
        state: &State,
        collection: &Collection,
        edit: &Edit,
    ) -> Result<Option<Arc<herdbook_model::document::Document>>, Error> {
        Ok(state.document(self.nodes(), collection.id, &edit.key)?)
    }
}

type Slot = (herdbook_model::schema::CollectionId, herdbook_model::value::Key);

/// Several edits of one document count as one that names every field they touched.
fn folded<'r>(requests: impl Iterator<Item = &'r Request>) -> Vec<(herdbook_model::schema::CollectionId, Edit)> {
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
            Some(known) => join(&mut known.change, edit.change),
            None => fields.push(edit),
        }
    }
}

/// Makes of two changes of a field one that names all they touched.
fn join(known: &mut Change, more: Change) {
    match (known, more) {
        (Change::Elements { add, remove }, Change::Elements { add: more_add, remove: more_remove }) => {
            add.extend(more_add);
            remove.extend(more_remove);
        }
        (Change::Entries { put, remove }, Change::Entries { put: more_put, remove: more_remove }) => {
            put.extend(more_put);
            remove.extend(more_remove);
        }
        (Change::Within(known), Change::Within(more)) => {
            for (key, change) in more {
                match known.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, known)) => join(known, change),
                    None => known.push((key, change)),
                }
            }
        }
        (Change::Count { add, .. }, Change::Count { reset: false, add: more }) => *add = add.wrapping_add(more),
        (Change::Text(known), Change::Text(more)) => {
            known.inserts.extend(more.inserts);
            known.deletes.extend(more.deletes);
        }
        (Change::List(known), Change::List(more)) => {
            known.inserts.extend(more.inserts);
            known.moves.extend(more.moves);
            known.sets.extend(more.sets);
            known.deletes.extend(more.deletes);
        }
        (known, change) => *known = change,
    }
}

/// Says an edit as it is: what it takes back is named by ids.
fn as_ask(collection: &Collection, edit: &Edit) -> DocumentEdit {
    let change = DocumentChange::Exact(edit.operation.clone());
    DocumentEdit { collection: collection.name.to_string(), key: edit.key.clone(), change }
}
