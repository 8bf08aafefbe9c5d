//! Between names and numbers: asks made of writes; documents, requests and edits as callers see them.

use std::sync::Arc;

use herdbook_model::{
    document::{self as model, Dot, Stamp},
    edit as numbered,
    id::{CommitId, ReplicaId, SessionId},
    request::Request,
    schema::{Collection, FieldId, Schema},
    state::State,
    value::{Key, Value},
};
use herdbook_proto::{
    ack::{Level, Wait},
    document::{Conflict, Document, Name, Sibling},
    edit::{Change, Edit, ListChange, ListSplice, Operation, Precondition, TextSplice, Write},
    history::Body,
};
use herdbook_store::Durability;

use crate::{
    error::Error,
    keys,
    repository::{Ask, DocumentChange, DocumentEdit, FieldChange, Repository, Wanted, version},
};

/// Returns what a write asks of the repository, and what to wait for.
///
/// # Errors
/// [`keys::Error::NoRandom`] if it needs an idempotency key and there is none to be had.
pub(super) fn ask(write: Write) -> Result<(Ask, Wait), keys::Error> {
    let Write { repository: _, branch, request, message, edits, preconditions, wait } = write;
    let key = request.map_or_else(|| keys::random().map(herdbook_model::id::RequestKey), Ok)?;
    let edits = edits.into_iter().map(document_edit).collect();
    let wanted = preconditions.into_iter().map(wanted).collect();
    Ok((Ask { branch, key, principal: String::new(), wanted, edits, message }, wait))
}

fn wanted(precondition: Precondition) -> Wanted {
    let Precondition { name: Name { collection, key }, must } = precondition;
    Wanted { collection: collection.to_string(), key, must, only_here: false }
}

fn document_edit(edit: Edit) -> DocumentEdit {
    let Edit { name: Name { collection, key }, operation } = edit;
    let change = match operation {
        Operation::Create(fields) => DocumentChange::Create(fields),
        Operation::Put(fields) => DocumentChange::Put(fields),
        Operation::Update(changes) => {
            DocumentChange::Update(changes.into_iter().map(|(name, change)| (name, field_change(change))).collect())
        }
        Operation::Delete => DocumentChange::Delete,
    };
    DocumentEdit { collection: collection.to_string(), key, change }
}

fn field_change(change: Change) -> FieldChange {
    match change {
        Change::Set(value) => FieldChange::Set(value),
        Change::Clear => FieldChange::Clear,
        Change::Elements { add, remove } => FieldChange::Elements { add, remove },
        Change::Entries { put, remove } => FieldChange::Entries { put, remove },
        Change::Count { reset, add } => FieldChange::Count { reset, add },
        Change::Text(splices) => FieldChange::Text(
            splices
                .into_iter()
                .map(|TextSplice { at, removed, inserted }| model::TextSplice { at: at.expect(PLACED), removed, inserted })
                .collect(),
        ),
        Change::List(splices) => FieldChange::List(splices.into_iter().map(list_splice).collect()),
        Change::Within(changes) => FieldChange::Within(changes.into_iter().map(|(key, change)| (key, field_change(change))).collect()),
    }
}

const PLACED: &str = "a write whose splices do not say where is refused when it is read";

fn list_splice(ListSplice { at, change }: ListSplice) -> model::ListSplice {
    let at = at.expect(PLACED);
    match change {
        ListChange::Items { removed, inserted } => model::ListSplice::Splice { at, removed, inserted },
        ListChange::Set(value) => model::ListSplice::Set { at, value },
        ListChange::MoveTo(to) => model::ListSplice::Move { from: at, to },
    }
}

/// Returns the durability that a level asks for.
pub(super) const fn durability(level: Level) -> Durability {
    match level {
        Level::Memory => Durability::Memory,
        Level::Process => Durability::Process,
        Level::Durable => Durability::Durable,
    }
}

/// Returns the level that a durability reaches.
pub(super) const fn level(durability: Durability) -> Level {
    match durability {
        Durability::Memory => Level::Memory,
        Durability::Process => Level::Process,
        Durability::Durable => Level::Durable,
    }
}

/// Returns a document of `state` as a reader sees it, `None` if it is deleted. Cost: look-ups in the store for a conflict, and for what can be erased.
///
/// # Errors
/// [`Error::Store`], [`Error::Record`]; [`Error::Hole`] if a commit that wrote a sibling is not here.
pub(super) fn document(
    repository: &Repository,
    state: &State,
    collection: &Collection,
    key: &Key,
    document: &model::Document,
) -> Result<Option<Document>, Error> {
    let Some(view) = repository.view_of(state, collection, document)? else { return Ok(None) };
    let sibling = |sibling: model::ConflictSibling| {
        let (commit, session) = author(repository, &sibling.stamp.dot)?;
        Ok(Sibling { value: sibling.value, commit, time: sibling.stamp.time, session })
    };
    let conflict = |model::Conflict { field, path, siblings }| {
        Ok(Conflict { field, path, siblings: siblings.into_iter().map(sibling).collect::<Result<_, Error>>()? })
    };
    Ok(Some(Document {
        name: name(collection, key),
        fields: view.fields,
        version: version(document),
        conflicts: view.conflicts.into_iter().map(conflict).collect::<Result<_, Error>>()?,
        deletes: view
            .deletes
            .into_iter()
            .map(|stamp| sibling(model::ConflictSibling { stamp, value: None }))
            .collect::<Result<_, Error>>()?,
    }))
}

/// Returns a document's name.
pub(super) fn name(collection: &Collection, key: &Key) -> Name {
    Name { collection: collection.name.clone(), key: key.clone() }
}

/// Returns the commit that an edit belongs to, and who signed it.
pub(super) fn author(repository: &Repository, dot: &Dot) -> Result<(CommitId, SessionId), Error> {
    let hole = || Error::Hole { what: format!("commit {} of chain {} is not stored", dot.counter, dot.chain) };
    let commit = repository.at(&dot.chain, dot.counter)?.ok_or_else(hole)?;
    let signed = repository.signed(&commit)?.ok_or_else(hole)?;
    Ok((commit, signed.header().session))
}

/// Returns the replica whose session it is, if its certificate is here.
pub(super) fn replica(repository: &Repository, session: &SessionId) -> Result<Option<ReplicaId>, Error> {
    if *session == repository.session() {
        return Ok(Some(repository.replica()));
    }
    Ok(repository.certificate(session)?.map(|certificate| certificate.replica))
}

/// Returns where an edit comes from.
pub(super) fn origin(repository: &Repository, stamp: &Stamp) -> Result<herdbook_proto::history::Origin, Error> {
    let (commit, session) = author(repository, &stamp.dot)?;
    Ok(herdbook_proto::history::Origin { commit, time: stamp.time, session, replica: replica(repository, &session)? })
}

/// Returns a stored request under the names of a schema.
pub(super) fn body(schema: &Schema, request: &Request) -> Body {
    let named = |id, key: &Key| Name { collection: collection_name(schema, id), key: key.clone() };
    let preconditions = request.preconditions.iter();
    let preconditions = preconditions.map(|wanted| Precondition { name: named(wanted.collection, &wanted.key), must: wanted.must });
    let edits = request.edits().map(|(id, edit)| {
        let collection = schema.by_id(id).ok();
        Edit { name: named(id, &edit.key), operation: operation(collection, &edit.operation) }
    });
    Body { key: request.key, principal: request.principal.name.clone(), preconditions: preconditions.collect(), edits: edits.collect() }
}

/// What a migration dropped has no name any more; its number is shown.
fn collection_name(schema: &Schema, id: herdbook_model::schema::CollectionId) -> Arc<str> {
    schema.by_id(id).map_or_else(|_| format!("#{}", id.0).into(), |collection| collection.name.clone())
}

fn field_name(collection: Option<&Collection>, id: FieldId) -> Arc<str> {
    let field = collection.and_then(|collection| collection.get(id));
    field.map_or_else(|| format!("#{}", id.0).into(), |field| field.name.clone())
}

fn operation(collection: Option<&Collection>, operation: &numbered::Operation) -> Operation {
    match operation {
        numbered::Operation::Create(fields) => {
            let fields = fields.iter().filter_map(|edit| Some((field_name(collection, edit.field), written(&edit.change)?)));
            Operation::Create(sorted(fields))
        }
        numbered::Operation::Update(fields) => {
            Operation::Update(sorted(fields.iter().map(|edit| (field_name(collection, edit.field), shown(&edit.change)))))
        }
        numbered::Operation::Delete => Operation::Delete,
    }
}

/// Returns the value that a change wrote into a new document.
fn written(change: &numbered::Change) -> Option<Value> {
    Some(match change {
        numbered::Change::Set(value) | numbered::Change::Replace(value) => value.clone(),
        numbered::Change::Clear => return None,
        numbered::Change::Elements { add, .. } => Value::Set(add.iter().cloned().collect()),
        numbered::Change::Entries { put, .. } => Value::Map(put.iter().cloned().collect()),
        numbered::Change::Within(changes) => {
            Value::Map(changes.iter().filter_map(|(key, change)| Some((key.clone(), written(change)?))).collect())
        }
        numbered::Change::Count { add, .. } => Value::from(*add),
        numbered::Change::Text(edit) => Value::from(edit.inserts.iter().map(|(_, text)| &**text).collect::<String>().as_str()),
        numbered::Change::List(edit) => Value::List(edit.inserts.iter().flat_map(|(_, values)| values).cloned().collect()),
    })
}

/// Returns a stored change as callers say it. Splices of a text or list name elements by id, so their positions are left out.
fn shown(change: &numbered::Change) -> Change {
    match change {
        numbered::Change::Set(value) | numbered::Change::Replace(value) => Change::Set(value.clone()),
        numbered::Change::Clear => Change::Clear,
        numbered::Change::Elements { add, remove } => Change::Elements { add: add.clone(), remove: remove.clone() },
        numbered::Change::Entries { put, remove } => Change::Entries { put: put.clone(), remove: remove.clone() },
        numbered::Change::Within(changes) => Change::Within(changes.iter().map(|(key, change)| (key.clone(), shown(change))).collect()),
        numbered::Change::Count { reset, add } => Change::Count { reset: *reset, add: *add },
        numbered::Change::Text(edit) => {
            let deleted = edit.deletes.iter().map(|span| TextSplice { at: None, removed: span.len.into(), inserted: "".into() });
            let inserted = edit.inserts.iter().map(|(_, text)| TextSplice { at: None, removed: 0, inserted: text.clone() });
            Change::Text(deleted.chain(inserted).collect())
        }
        numbered::Change::List(edit) => {
            let items = |removed, inserted| ListChange::Items { removed, inserted };
            let deleted = edit.deletes.iter().map(|span| items(span.len.into(), Vec::new()));
            let inserted = edit.inserts.iter().map(|(_, values)| items(0, values.clone()));
            let set = edit.sets.iter().map(|(_, value)| ListChange::Set(value.clone()));
            Change::List(deleted.chain(inserted).chain(set).map(|change| ListSplice { at: None, change }).collect())
        }
    }
}

fn sorted<T>(fields: impl Iterator<Item = (Arc<str>, T)>) -> Vec<(Arc<str>, T)> {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields
}
