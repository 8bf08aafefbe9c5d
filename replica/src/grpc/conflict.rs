//! Conflicts: which documents have one, what a document holds, and deciding.

use std::collections::HashMap;

use herdbook_model::{
    authority::RequestRef,
    document::{Field, Sibling, Stamp},
    id::{ChainId, RequestKey},
    schema::{Collection, CollectionId},
    state::State,
    value::{Key, Value},
    vector::VersionVector,
};
use herdbook_proto::{
    Fault, Malformed,
    ack::Ack,
    document::Name,
    history::{Choice, Conflicts, Inspect, Inspected, Kept, KeptValue, NewestEdit, Origin, Resolve},
    limits, v1,
};
use prost::Message as _;
use tokio::time::Instant;

use super::{
    failure::Error,
    host::{Host, blocking},
    log::lineage,
    names,
    read::{key_of, question, read, resume},
    states::{States, token},
};
use crate::{
    error::Error as RepositoryError,
    keys,
    repository::{Ask, DocumentChange, DocumentEdit, FieldChange, Repository, Wanted},
};

/// Commits of a branch among which the newest edits of a document are looked for.
const TOUCHED: usize = 256;

/// Bytes at which the newest edits are cut: the rest of the answer may take as much again.
const NEWEST_BYTES: usize = 512 << 10;

impl Host {
    pub(super) async fn conflicts(&self, conflicts: Conflicts) -> Result<v1::ListConflictsResponse, Error> {
        self.check(conflicts.place.repository)?;
        let (repository, states) = (self.repository().clone(), self.states.clone());
        blocking(move || page(&repository, &states, &conflicts)).await
    }

    pub(super) async fn inspect(&self, inspect: Inspect) -> Result<Inspected, Error> {
        let Inspect { place, name } = inspect;
        let state = self.state(place).await?;
        let repository = self.repository().clone();
        blocking(move || inspected(&repository, &state, &name)).await
    }

    pub(super) async fn resolve(&self, resolve: Resolve, until: Option<Instant>) -> Result<Ack, Error> {
        let Resolve { repository, branch, name, field, choice, request, message, wait } = resolve;
        let state = self.newest(repository, branch).await?;
        self.check_writable()?;
        let key = request.map_or_else(|| keys::random().map(RequestKey), Ok)?;
        // What is resolved is in conflict no more: a repeated request must be known before it is looked at.
        if request.is_some()
            && let Some(ack) = self.repeated(key, wait, until).await?
        {
            return Ok(ack);
        }
        let (change, version) = decide(self.repository(), &state, &name, &field, choice)?;
        let message = if message.is_empty() { resolution(&name, &field) } else { message };
        let Name { collection, key: document } = name;
        let wanted = version.map(|version| Wanted {
            collection: collection.to_string(),
            key: document.clone(),
            must: herdbook_model::request::Must::BeAt(version),
            // It takes away the siblings that were seen; one that others write meanwhile stands beside.
            only_here: true,
        });
        let edit =
            DocumentEdit { collection: collection.to_string(), key: document, change: DocumentChange::Update(vec![(field, change)]) };
        let branch = Some(state.branch().clone());
        let ask = Ask { branch, key, principal: String::new(), wanted: wanted.into_iter().collect(), edits: vec![edit], message };
        self.write(ask, wait, until).await
    }
}

/// Returns the message of a resolution that got none; keys may be longer than a message.
fn resolution(name: &Name, field: &str) -> String {
    let mut message = format!("resolve {field} of {name}");
    let end = (0..=message.len().min(limits::COMMIT_MESSAGE)).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    message.truncate(end);
    message
}

/// Returns what the field becomes, and the version it was decided on.
fn decide(
    repository: &Repository,
    state: &State,
    name: &Name,
    field: &str,
    choice: Choice,
) -> Result<(FieldChange, Option<herdbook_model::id::Leaf>), Error> {
    let absent = || RepositoryError::UnknownDocument { collection: name.collection.to_string(), key: name.key.to_string() };
    state.schema().collection(&name.collection)?.field(field)?;
    let document = read(repository, state, name)?.ok_or_else(absent)?;
    let version = match &choice {
        Choice::Value { version, .. } | Choice::Clear { version } => *version,
        Choice::Sibling { version, .. } => Some(*version),
    };
    if version.is_some_and(|version| version != document.version) {
        return Err(Error::Changed { document: name.to_string(), found: document.version.to_string() });
    }
    let Some(conflict) = document.conflicts.iter().find(|conflict| &*conflict.field == field) else {
        let (collection, key) = (name.collection.to_string(), name.key.to_string());
        return Err(RepositoryError::NoConflict { collection, key, field: field.to_owned() }.into());
    };
    let write = |value: Option<Value>| value.map_or(FieldChange::Clear, FieldChange::Set);
    let change = match choice {
        Choice::Value { value, .. } => write(Some(value)),
        Choice::Clear { .. } => FieldChange::Clear,
        Choice::Sibling { place, .. } => {
            let sibling = usize::try_from(place).ok().and_then(|place| conflict.siblings.get(place));
            write(sibling.ok_or(Error::NoSibling { place, siblings: conflict.siblings.len() })?.value.clone())
        }
    };
    Ok((change, version))
}

fn page(repository: &Repository, states: &States, conflicts: &Conflicts) -> Result<v1::ListConflictsResponse, Error> {
    let question = question(&[b"conflicts", conflicts.collection.as_deref().unwrap_or_default().as_bytes()]);
    let (state, after) = if conflicts.page_token.is_empty() {
        (states.at(&conflicts.place.at)?, None)
    } else {
        let (state, after) = resume(states, &conflicts.page_token, question)?;
        (state, Some(place_of(&after)?))
    };
    let only = conflicts.collection.as_deref().map(|name| state.schema().collection(name).map(|collection| collection.id)).transpose()?;
    let mut page = v1::ListConflictsResponse { state: bytes::Bytes::copy_from_slice(states.tell(&state).as_bytes()), ..Default::default() };
    let (mut bytes, mut last) = (0, None);
    for collection in state.schema().collections.iter().filter(|collection| only.is_none_or(|only| only == collection.id)) {
        for key in repository.conflicts(&state, collection)? {
            if after.as_ref().is_some_and(|after| (collection.id, &key) <= (after.0, &after.1)) {
                continue;
            }
            if let Some(last) = &last
                && (page.documents.len() >= conflicts.page_size as usize || bytes >= limits::PAGE_BYTES)
            {
                page.next_page_token = token(&state, place(question, last))?;
                return Ok(page);
            }
            let Some(document) = repository.get(&state, collection.id, &key)? else { continue };
            if let Some(document) = names::document(repository, &state, collection, &key, &document)? {
                let document = v1::Document::from(document);
                bytes += document.encoded_len();
                page.documents.push(document);
            }
            last = Some((collection.id, key));
        }
    }
    Ok(page)
}

fn place(question: [u8; 4], (collection, key): &(CollectionId, Key)) -> Vec<u8> {
    [question.as_slice(), &collection.0.to_be_bytes(), key.as_bytes()].concat()
}

pub(super) fn place_of(bytes: &[u8]) -> Result<(CollectionId, Key), Error> {
    let (collection, key) = bytes.split_first_chunk().ok_or_else(|| Malformed::new("page_token", Fault::BadToken))?;
    Ok((CollectionId(u16::from_be_bytes(*collection)), key_of(key)?))
}

fn inspected(repository: &Repository, state: &State, name: &Name) -> Result<Inspected, Error> {
    let collection = state.schema().collection(&name.collection)?;
    let absent = || RepositoryError::UnknownDocument { collection: name.collection.to_string(), key: name.key.to_string() };
    let document = state.document(repository.nodes(), collection.id, &name.key).map_err(RepositoryError::from)?.ok_or_else(absent)?;
    let shown = names::document(repository, state, collection, &name.key, &document)?;
    let mut origins = Origins { repository, known: HashMap::new() };
    let alive = document.alive().iter().map(|stamp| origins.of(stamp)).collect::<Result<Vec<_>, _>>()?;
    let mut fields = Vec::new();
    for (id, field) in document.fields() {
        if let Some(definition) = collection.get(*id) {
            let mut values = Vec::new();
            kept(&mut origins, field, "", document.exists(), &mut values)?;
            let field_name = definition.name.clone();
            fields.push(Kept { field: field_name, policy: definition.policy, values });
        }
    }
    fields.sort_by(|a, b| a.field.cmp(&b.field));
    let newest = newest(repository, state, collection, &name.key)?;
    Ok(Inspected { document: shown, alive, fields, newest, deletes: collection.deletes })
}

/// Returns the edits of a document that no other edit of it has seen, oldest first, of the newest [`TOUCHED`] commits of each branch that touched
/// it. The newest stay where they are long. What was voided, lost or erased, or lies before a horizon, is left out, and so has seen nothing.
fn newest(repository: &Repository, state: &State, collection: &Collection, key: &Key) -> Result<Vec<NewestEdit>, Error> {
    let view = repository.view();
    let mut touched = Vec::new();
    for branch in lineage(&view, state.branch()) {
        touched.extend(repository.log_of_document(&branch, collection.id, key, None, TOUCHED)?);
    }
    touched.sort_unstable_by_key(|entry| std::cmp::Reverse((entry.commit.header().time, entry.commit.id())));
    // From the newest back, so whoever has seen an edit comes before it.
    let (mut seen, mut newest, mut bytes) = (VersionVector::default(), Vec::new(), 0);
    for entry in touched {
        let id = entry.commit.id();
        let Some(meta) = repository.meta(&id)? else { continue };
        let is_in = state.frontier().vector().contains(&meta.chain, meta.counter);
        if !is_in || seen.contains(&meta.chain, meta.counter) {
            continue;
        }
        let requests = match repository.requests(&id) {
            Err(RepositoryError::BeforeHorizon { .. }) => continue,
            requests => requests?,
        };
        // Of several requests of a commit the last has seen the others.
        for at in entry.requests.into_iter().rev() {
            if view.skips(&RequestRef { commit: id, request: at }) {
                continue;
            }
            let Some(Some(request)) = requests.get(at as usize) else { continue };
            let body = names::body(state.schema(), request);
            let Some(edit) = body.edits.into_iter().rfind(|edit| edit.name.collection == collection.name && edit.name.key == *key) else {
                continue;
            };
            let session = entry.commit.header().session;
            let origin = Origin { commit: id, time: entry.commit.header().time, session, replica: entry.replica };
            bytes += v1::Edit::from(edit.clone()).encoded_len();
            if bytes > NEWEST_BYTES {
                newest.reverse();
                return Ok(newest);
            }
            newest.push(NewestEdit { origin, edit });
            seen.merge(&meta.vector);
            break;
        }
    }
    newest.reverse();
    Ok(newest)
}

/// Where edits come from, each commit looked up once.
struct Origins<'a> {
    repository: &'a Repository,
    known: HashMap<(ChainId, u64), Origin>,
}

impl Origins<'_> {
    fn of(&mut self, stamp: &Stamp) -> Result<Origin, RepositoryError> {
        let place = (stamp.dot.chain, stamp.dot.counter);
        if let Some(origin) = self.known.get(&place) {
            return Ok(*origin);
        }
        let origin = names::origin(self.repository, stamp)?;
        self.known.insert(place, origin);
        Ok(origin)
    }
}

/// Lists what is kept of a field, or of the entry `path` in it. Characters of a text are not listed one by one.
fn kept(origins: &mut Origins<'_>, field: &Field, path: &str, exists: bool, values: &mut Vec<KeptValue>) -> Result<(), RepositoryError> {
    match field {
        Field::Register(siblings) => {
            for sibling in siblings {
                let shown = exists && is_last(siblings, sibling);
                values.push(value(sibling.value.clone(), path, origins.of(&sibling.stamp)?, shown));
            }
        }
        Field::Set(elements) => {
            for (element, stamps) in elements {
                for stamp in stamps {
                    values.push(value(Some(element.clone()), path, origins.of(stamp)?, exists));
                }
            }
        }
        Field::Map(entries) => {
            for (entry, field) in entries {
                let path = if path.is_empty() { entry.to_string() } else { format!("{path}/{entry}") };
                kept(origins, field, &path, exists, values)?;
            }
        }
        Field::Counter(counter) => {
            if let Some(reset) = &counter.reset {
                values.push(value(Some(Value::from(counter.sum)), path, origins.of(reset)?, exists));
            }
        }
        Field::Text(_) => {}
        Field::List(list) => {
            for (_, item) in list.items() {
                for sibling in &item.value {
                    let shown = exists && is_last(&item.value, sibling);
                    values.push(value(sibling.value.clone(), path, origins.of(&sibling.stamp)?, shown));
                }
            }
        }
        Field::Several(parts) => {
            for part in parts {
                kept(origins, part, path, exists, values)?;
            }
        }
    }
    Ok(())
}

fn is_last<T>(siblings: &[Sibling<T>], sibling: &Sibling<T>) -> bool {
    siblings.last().is_some_and(|last| last.stamp == sibling.stamp)
}

fn value(value: Option<Value>, entry: &str, origin: Origin, shown: bool) -> KeptValue {
    KeptValue { value, entry: entry.to_owned(), origin, shown }
}
