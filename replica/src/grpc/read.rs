//! Reads of documents: one, several, a page, a count. All that one answer tells is of one state.

use bytes::Bytes;
use herdbook_model::{id::Domain, schema::Collection, state::State, value::Key};
use herdbook_proto::{
    Fault, Malformed,
    document::{Document, Name},
    limits,
    read::{Batch, BatchGet, Count, Counted, Get, Got, List},
    token::Token,
    v1,
};
use prost::Message as _;

use super::{
    failure::Error,
    host::{Host, blocking},
    names,
    states::{States, token},
};
use crate::{error::Error as RepositoryError, repository::Repository};

/// Reads up to so many documents are answered on the thread of the call.
const INLINE: usize = 16;

impl Host {
    pub(super) async fn get(&self, get: Get) -> Result<Got, Error> {
        let Get { place, name } = get;
        let state = self.state(place).await?;
        let document = read(self.repository(), &state, &name)?;
        self.metrics.read(1);
        let Some(document) = document else {
            return Err(RepositoryError::UnknownDocument { collection: name.collection.to_string(), key: name.key.to_string() }.into());
        };
        Ok(Got { document, state: self.states.tell(&state) })
    }

    pub(super) async fn batch_get(&self, batch: BatchGet) -> Result<v1::BatchGetResponse, Error> {
        let BatchGet { place, names } = batch;
        let state = self.state(place).await?;
        self.metrics.read(names.len());
        let (repository, states) = (self.repository().clone(), self.states.clone());
        if names.len() <= INLINE {
            return read_all(&repository, &states, &state, names);
        }
        blocking(move || read_all(&repository, &states, &state, names)).await
    }

    pub(super) async fn list(&self, list: List) -> Result<v1::ListResponse, Error> {
        self.check(list.place.repository)?;
        let question = question(&[b"list", list.collection.as_bytes(), &[0], list.prefix.as_bytes()]);
        let (repository, states) = (self.repository().clone(), self.states.clone());
        let page = blocking(move || {
            let (state, after) = if list.page_token.is_empty() {
                (states.at(&list.place.at)?, None)
            } else {
                let (state, after) = resume(&states, &list.page_token, question)?;
                (state, Some(key_of(&after)?))
            };
            page(&repository, &states, &state, &list, after.as_ref(), question)
        });
        let page = page.await?;
        self.metrics.read(page.documents.len() + page.keys.len());
        Ok(page)
    }

    pub(super) async fn count(&self, count: Count) -> Result<Counted, Error> {
        let Count { place, collection, prefix } = count;
        let state = self.state(place).await?;
        let id = state.schema().collection(&collection)?.id;
        let name = self.states.tell(&state);
        if prefix.is_empty() {
            return Ok(Counted { documents: state.count(id), state: name });
        }
        let repository = self.repository().clone();
        let documents = blocking(move || Ok(repository.count(&state, id, &prefix)?));
        Ok(Counted { documents: documents.await?, state: name })
    }
}

/// Returns a document of a state, `None` if there is none.
pub(super) fn read(repository: &Repository, state: &State, name: &Name) -> Result<Option<Document>, Error> {
    let collection = state.schema().collection(&name.collection)?;
    let Some(document) = repository.get(state, collection.id, &name.key)? else { return Ok(None) };
    Ok(names::document(repository, state, collection, &name.key, &document)?)
}

fn read_all(repository: &Repository, states: &States, state: &State, names: Vec<Name>) -> Result<v1::BatchGetResponse, Error> {
    let mut batch = Batch { documents: Vec::new(), missing: Vec::new(), left_out: Vec::new(), state: states.tell(state) };
    let (mut documents, mut bytes) = (Vec::new(), 0);
    for name in names {
        if bytes >= limits::PAGE_BYTES {
            // Whether it exists is told all the same.
            let collection = state.schema().collection(&name.collection)?.id;
            let exists = repository.get(state, collection, &name.key)?.is_some();
            let list = if exists { &mut batch.left_out } else { &mut batch.missing };
            list.push(name);
            continue;
        }
        match read(repository, state, &name)? {
            Some(document) => {
                let document = v1::Document::from(document);
                bytes += document.encoded_len();
                documents.push(document);
            }
            None => batch.missing.push(name),
        }
    }
    Ok(v1::BatchGetResponse { documents, ..batch.into() })
}

fn page(
    repository: &Repository,
    states: &States,
    state: &State,
    list: &List,
    after: Option<&Key>,
    question: [u8; 4],
) -> Result<v1::ListResponse, Error> {
    let collection = state.schema().collection(&list.collection)?;
    let mut page = v1::ListResponse { state: Bytes::copy_from_slice(states.tell(state).as_bytes()), ..Default::default() };
    let (mut taken, mut bytes, mut last) = (0, 0, None);
    for entry in repository.scan(state, collection.id, &list.prefix, after)? {
        let (key, document) = entry.map_err(RepositoryError::from)?;
        if let Some(last) = &last
            && (taken >= list.page_size || bytes >= limits::PAGE_BYTES)
        {
            page.next_page_token = token(state, place(question, last))?;
            break;
        }
        if list.keys_only {
            bytes += key.as_bytes().len() + 4;
            page.keys.push(key.to_string());
        } else if let Some(document) = shown(repository, state, collection, &key, &document)? {
            bytes += document.encoded_len();
            page.documents.push(document);
        }
        taken += 1;
        last = Some(key);
    }
    Ok(page)
}

fn shown(
    repository: &Repository,
    state: &State,
    collection: &Collection,
    key: &Key,
    document: &herdbook_model::document::Document,
) -> Result<Option<v1::Document>, Error> {
    Ok(names::document(repository, state, collection, key, document)?.map(Into::into))
}

/// Returns what tells the tokens of one question from those of others.
pub(super) fn question(parts: &[&[u8]]) -> [u8; 4] {
    let hash = Domain::Digest.hash(parts);
    [hash[0], hash[1], hash[2], hash[3]]
}

/// Returns a place in the answers to a question as a token holds it.
pub(super) fn place(question: [u8; 4], key: &Key) -> Vec<u8> {
    [question.as_slice(), key.as_bytes()].concat()
}

/// Reads a page token: its state, and where in the answers to the question the page before ended.
pub(super) fn resume(states: &States, bytes: &[u8], question: [u8; 4]) -> Result<(State, Vec<u8>), Error> {
    let Token { anchor, after } = Token::from_wire("page_token", bytes)?;
    match after.split_first_chunk::<4>() {
        Some((of, rest)) if *of == question => Ok((states.anchored("page token", &anchor)?, rest.to_vec())),
        _ => Err(Error::OtherQuestion { what: "page token" }),
    }
}

pub(super) fn key_of(bytes: &[u8]) -> Result<Key, Error> {
    let key = std::str::from_utf8(bytes).ok().and_then(|text| Key::new(text).ok());
    key.ok_or_else(|| Malformed::new("page_token", Fault::BadToken).into())
}
