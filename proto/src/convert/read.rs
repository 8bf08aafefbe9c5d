//! Reads of documents and what they return; watches and their steps.

use super::{
    Result, all,
    document::{collection, place, repository},
    each, id, ids, inner, key, limited, name, optional_branch, optional_id, optional_text, raw, required, text, text_or_empty, token,
};
use crate::{
    Malformed,
    document::{Name, Place},
    limits,
    read::{Batch, BatchGet, Count, Counted, Event, EventChange, Found, Get, Got, List, Page, Start, Step, Watch},
    v1,
};

impl TryFrom<v1::GetRequest> for Get {
    type Error = Malformed;

    fn try_from(message: v1::GetRequest) -> Result<Self> {
        let v1::GetRequest { repository, at, collection, key } = message;
        Ok(Self { place: place(&repository, at)?, name: name(collection, key)? })
    }
}

impl From<Get> for v1::GetRequest {
    fn from(Get { place: Place { repository: id, at }, name: Name { collection, key } }: Get) -> Self {
        Self { repository: repository(id), at: Some(at.into()), collection: collection.to_string(), key: key.to_string() }
    }
}

impl TryFrom<v1::GetResponse> for Got {
    type Error = Malformed;

    fn try_from(message: v1::GetResponse) -> Result<Self> {
        let v1::GetResponse { document, state } = message;
        Ok(Self { document: inner("document", document)?, state: id("state", &state)? })
    }
}

impl From<Got> for v1::GetResponse {
    fn from(Got { document, state }: Got) -> Self {
        Self { document: Some(document.into()), state: raw(state.as_bytes()) }
    }
}

impl TryFrom<v1::GetStreamResponse> for Found {
    type Error = Malformed;

    fn try_from(message: v1::GetStreamResponse) -> Result<Self> {
        use v1::get_stream_response::Outcome;
        let v1::GetStreamResponse { index, outcome } = message;
        let result = match required("outcome", outcome)? {
            Outcome::Got(got) => Ok(inner("got", Some(got))?),
            Outcome::Failure(failure) => Err(failure.into()),
        };
        Ok(Self { index, result })
    }
}

impl From<Found> for v1::GetStreamResponse {
    fn from(Found { index, result }: Found) -> Self {
        use v1::get_stream_response::Outcome;
        let outcome = match result {
            Ok(got) => Outcome::Got(got.into()),
            Err(failed) => Outcome::Failure(failed.into()),
        };
        Self { index, outcome: Some(outcome) }
    }
}

impl TryFrom<v1::BatchGetRequest> for BatchGet {
    type Error = Malformed;

    fn try_from(message: v1::BatchGetRequest) -> Result<Self> {
        let v1::BatchGetRequest { repository, at, names } = message;
        limited("names", names.len(), limits::BATCH)?;
        Ok(Self { place: place(&repository, at)?, names: each("names", names)? })
    }
}

impl From<BatchGet> for v1::BatchGetRequest {
    fn from(BatchGet { place: Place { repository: id, at }, names }: BatchGet) -> Self {
        Self { repository: repository(id), at: Some(at.into()), names: all(names) }
    }
}

impl TryFrom<v1::BatchGetResponse> for Batch {
    type Error = Malformed;

    fn try_from(message: v1::BatchGetResponse) -> Result<Self> {
        let v1::BatchGetResponse { documents, missing, left_out, state } = message;
        Ok(Self {
            documents: each("documents", documents)?,
            missing: each("missing", missing)?,
            left_out: each("left_out", left_out)?,
            state: id("state", &state)?,
        })
    }
}

impl From<Batch> for v1::BatchGetResponse {
    fn from(Batch { documents, missing, left_out, state }: Batch) -> Self {
        Self { documents: all(documents), missing: all(missing), left_out: all(left_out), state: raw(state.as_bytes()) }
    }
}

/// Reads the size of a page: 0 is the default, and what is above the limit is cut to it.
pub(super) fn page_size(asked: u32) -> u32 {
    match asked {
        0 => limits::PAGE_DEFAULT,
        asked => asked.min(limits::PAGE),
    }
}

impl TryFrom<v1::ListRequest> for List {
    type Error = Malformed;

    fn try_from(message: v1::ListRequest) -> Result<Self> {
        let v1::ListRequest { repository, at, collection, prefix, page_size: size, page_token, keys_only } = message;
        limited("prefix", prefix.len(), limits::KEY)?;
        Ok(Self {
            place: place(&repository, at)?,
            collection: text("collection", collection)?,
            prefix,
            page_size: page_size(size),
            page_token: token("page_token", page_token)?,
            keys_only,
        })
    }
}

impl From<List> for v1::ListRequest {
    fn from(List { place: Place { repository: id, at }, collection, prefix, page_size, page_token, keys_only }: List) -> Self {
        let (repository, at) = (repository(id), Some(at.into()));
        Self { repository, at, collection: collection.to_string(), prefix, page_size, page_token, keys_only }
    }
}

impl TryFrom<v1::ListResponse> for Page {
    type Error = Malformed;

    fn try_from(message: v1::ListResponse) -> Result<Self> {
        let v1::ListResponse { documents, keys, next_page_token, state } = message;
        let keys = keys.into_iter().enumerate().map(|(at, text)| key(&format!("keys[{at}]"), text)).collect::<Result<_>>()?;
        Ok(Self {
            documents: each("documents", documents)?,
            keys,
            next: token("next_page_token", next_page_token)?,
            state: id("state", &state)?,
        })
    }
}

impl From<Page> for v1::ListResponse {
    fn from(Page { documents, keys, next, state }: Page) -> Self {
        let keys = keys.iter().map(ToString::to_string).collect();
        Self { documents: all(documents), keys, next_page_token: next, state: raw(state.as_bytes()) }
    }
}

impl TryFrom<v1::CountRequest> for Count {
    type Error = Malformed;

    fn try_from(message: v1::CountRequest) -> Result<Self> {
        let v1::CountRequest { repository, at, collection, prefix } = message;
        limited("prefix", prefix.len(), limits::KEY)?;
        Ok(Self { place: place(&repository, at)?, collection: text("collection", collection)?, prefix })
    }
}

impl From<Count> for v1::CountRequest {
    fn from(Count { place: Place { repository: id, at }, collection, prefix }: Count) -> Self {
        Self { repository: repository(id), at: Some(at.into()), collection: collection.to_string(), prefix }
    }
}

impl TryFrom<v1::CountResponse> for Counted {
    type Error = Malformed;

    fn try_from(message: v1::CountResponse) -> Result<Self> {
        let v1::CountResponse { documents, state } = message;
        Ok(Self { documents, state: id("state", &state)? })
    }
}

impl From<Counted> for v1::CountResponse {
    fn from(Counted { documents, state }: Counted) -> Self {
        Self { documents, state: raw(state.as_bytes()) }
    }
}

impl TryFrom<v1::WatchRequest> for Watch {
    type Error = Malformed;

    fn try_from(message: v1::WatchRequest) -> Result<Self> {
        use v1::watch_request::Start as Choice;
        let v1::WatchRequest { repository, branch, collection, prefix, start } = message;
        limited("prefix", prefix.len(), limits::KEY)?;
        let start = match required("start", start)? {
            Choice::Now(v1::Now {}) => Start::Now,
            Choice::ResumeToken(bytes) if bytes.is_empty() => return Err(Malformed::missing("resume_token")),
            Choice::ResumeToken(bytes) => Start::Token(token("resume_token", bytes)?),
            Choice::State(state) => Start::State(id("state", &state)?),
        };
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            branch: optional_branch("branch", branch)?,
            collection: optional_text(collection),
            prefix,
            start,
        })
    }
}

impl From<Watch> for v1::WatchRequest {
    fn from(Watch { repository: id, branch, collection: name, prefix, start }: Watch) -> Self {
        use v1::watch_request::Start as Choice;
        let start = match start {
            Start::Now => Choice::Now(v1::Now {}),
            Start::Token(token) => Choice::ResumeToken(token),
            Start::State(state) => Choice::State(raw(state.as_bytes())),
        };
        Self {
            repository: repository(id),
            branch: text_or_empty(branch.as_ref()),
            collection: collection(name),
            prefix,
            start: Some(start),
        }
    }
}

impl TryFrom<v1::WatchResponse> for Step {
    type Error = Malformed;

    fn try_from(message: v1::WatchResponse) -> Result<Self> {
        let v1::WatchResponse { events, resume_token, state } = message;
        Ok(Self { events: each("events", events)?, resume_token: token("resume_token", resume_token)?, state: id("state", &state)? })
    }
}

impl From<Step> for v1::WatchResponse {
    fn from(Step { events, resume_token, state }: Step) -> Self {
        Self { events: all(events), resume_token, state: raw(state.as_bytes()) }
    }
}

impl TryFrom<v1::Event> for Event {
    type Error = Malformed;

    fn try_from(message: v1::Event) -> Result<Self> {
        use v1::event::Change as Choice;
        let v1::Event { change, commits, voided } = message;
        let change = match required("change", change)? {
            Choice::Put(document) => EventChange::Put(inner("put", Some(document))?),
            Choice::Delete(name) => EventChange::Delete(inner("delete", Some(name))?),
        };
        Ok(Self { change, commits: ids("commits", &commits)?, voided: each("voided", voided)? })
    }
}

impl From<Event> for v1::Event {
    fn from(Event { change, commits, voided }: Event) -> Self {
        use v1::event::Change as Choice;
        let change = match change {
            EventChange::Put(document) => Choice::Put(document.into()),
            EventChange::Delete(name) => Choice::Delete(name.into()),
        };
        Self { change: Some(change), commits: commits.iter().map(|commit| raw(commit.as_bytes())).collect(), voided: all(voided) }
    }
}
