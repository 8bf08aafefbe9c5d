//! Logs and single commits.
//!
//! The commits of a state are those of its branch and of the branches it is migrated from, each kept by time; a page takes the newest of
//! all that the state stands on.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
};

use herdbook_model::{
    authority::{RequestRef, Void},
    codec::{Decode as _, Encode as _, Reader, Writer},
    commit::{Commit, chain},
    id::{BranchName, CommitId, Judgement, ReplicaId, SessionId},
    request::Request,
    schema::CollectionId,
    state::State,
    time::Time,
    value::Key,
};
use herdbook_proto::{
    Fault, Malformed,
    history::{Fate, Log, Show, Shown, ShownRequest, Summary},
    limits, v1,
};
use prost::Message as _;

use super::{
    failure::Error,
    host::{Host, blocking},
    names,
    read::{question, resume},
    states::{States, end_of, token},
};
use crate::{
    error::Error as RepositoryError,
    repository::{Repository, View},
};

/// Commits looked at for one page of a filtered log: a page may end earlier than full.
const LOOKED_AT: usize = 4096;

/// Bytes at which the requests of a shown commit are cut.
const SHOWN: usize = 3 << 20;

impl Host {
    pub(super) async fn log(&self, log: Log) -> Result<v1::LogResponse, Error> {
        self.check(log.place.repository)?;
        let (repository, states) = (self.repository().clone(), self.states.clone());
        blocking(move || page(&repository, &states, &log)).await
    }

    pub(super) async fn show(&self, show: Show) -> Result<v1::ShowResponse, Error> {
        self.check(show.repository)?;
        let repository = self.repository().clone();
        blocking(move || shown(&repository, &show.commit)).await
    }
}

/// A commit's place in a log: newer ones come first.
type Place = (Time, CommitId);

fn page(repository: &Repository, states: &States, log: &Log) -> Result<v1::LogResponse, Error> {
    let collection = log.collection.as_deref().unwrap_or_default();
    let key = log.key.as_ref().map_or("", Key::as_str);
    let (session, replica) = (log.session.map_or([0; 32], |session| session.0), log.replica.map_or([0; 32], |replica| replica.0));
    let (since, until) = (log.since_millis.to_be_bytes(), log.until_millis.unwrap_or(u64::MAX).to_be_bytes());
    let question = question(&[b"log", collection.as_bytes(), &[0], key.as_bytes(), &[0], &session, &replica, &since, &until]);
    let (state, before) = if log.page_token.is_empty() {
        (states.at(&log.place.at)?, log.until_millis.map(after_millis))
    } else {
        let (state, after) = resume(states, &log.page_token, question)?;
        (state, Some(place_of(&after)?))
    };
    let collection = log.collection.as_deref().map(|name| state.schema().collection(name).map(|collection| collection.id)).transpose()?;
    let authors = Authors { repository, wanted: log.replica, known: RefCell::default() };
    let filter = Filter { collection, key: log.key.as_ref(), session: log.session, authors };
    let view = repository.view();
    let source = Source { repository, branches: lineage(&view, state.branch()), state: &state, filter };
    let size = log.page_size as usize;
    let voids = Voids::new(repository, &view);
    let (mut page, mut bytes, mut last, mut looked_at, mut goes_on) = (v1::LogResponse::default(), 0, before, 0, false);
    'page: loop {
        let batch = source.before(last, size + 1)?;
        let is_last = batch.len() <= size;
        for (place, commit) in batch {
            if page.commits.len() == size || looked_at == LOOKED_AT || bytes >= limits::PAGE_BYTES {
                goes_on = true;
                break 'page;
            }
            if place.0.millis() < log.since_millis {
                break 'page;
            }
            looked_at += 1;
            last = Some(place);
            if source.has(&commit)? {
                let summary = v1::CommitSummary::from(summary(repository, &view, &voids, &commit)?);
                bytes += summary.encoded_len();
                page.commits.push(summary);
            }
        }
        if is_last {
            break;
        }
    }
    if let (Some(place), true) = (last, goes_on) {
        page.next_page_token = token(&state, [question.as_slice(), &after(&place)].concat())?;
    }
    Ok(page)
}

/// Returns a place that comes right after all commits up to the end of a millisecond.
fn after_millis(millis: u64) -> Place {
    (Time::from_raw(end_of(millis).raw() + 1), CommitId([0; 32]))
}

fn after((time, commit): &Place) -> Vec<u8> {
    let mut out = Writer::default();
    time.encode(&mut out);
    commit.encode(&mut out);
    out.into_bytes()
}

pub(super) fn place_of(bytes: &[u8]) -> Result<Place, Error> {
    let mut input = Reader::new(bytes);
    let place = Time::decode(&mut input).and_then(|time| Ok((time, CommitId::decode(&mut input)?)));
    Ok(place.map_err(|_| Malformed::new("page_token", Fault::BadToken))?)
}

/// Returns the branches whose commits a branch may have: itself, those it comes from, and those of the same schema, which may have been merged.
pub(super) fn lineage(view: &View, branch: &BranchName) -> Vec<BranchName> {
    let others = view.log.branches().keys().filter(|other| *other != branch && view.log.may_enter(other, branch));
    std::iter::once(branch).chain(others).cloned().collect()
}

struct Filter<'a> {
    collection: Option<CollectionId>,
    key: Option<&'a Key>,
    session: Option<SessionId>,
    authors: Authors<'a>,
}

/// Whose sessions are meant. Each session's certificate is looked up once a page.
struct Authors<'a> {
    repository: &'a Repository,
    wanted: Option<ReplicaId>,
    known: RefCell<BTreeMap<SessionId, bool>>,
}

impl Authors<'_> {
    fn has(&self, session: &SessionId) -> Result<bool, Error> {
        let Some(wanted) = self.wanted else { return Ok(true) };
        if let Some(has) = self.known.borrow().get(session) {
            return Ok(*has);
        }
        let has = names::replica(self.repository, session)? == Some(wanted);
        self.known.borrow_mut().insert(*session, has);
        Ok(has)
    }
}

/// The commits of a state, newest first.
struct Source<'a> {
    repository: &'a Repository,
    branches: Vec<BranchName>,
    state: &'a State,
    filter: Filter<'a>,
}

impl Source<'_> {
    /// Returns the newest commits before a place, at most `limit`: all that the filter lets through, and perhaps more.
    fn before(&self, before: Option<Place>, limit: usize) -> Result<Vec<(Place, Commit)>, Error> {
        let mut found = Vec::new();
        for branch in &self.branches {
            let commits = match (&self.filter, self.filter.session) {
                (_, Some(session)) => self.of_session(branch, session, before, limit)?,
                (Filter { collection: Some(collection), key: Some(key), .. }, None) => {
                    let entries = self.repository.log_of_document(branch, *collection, key, before, limit)?;
                    entries.into_iter().map(|entry| entry.commit).collect()
                }
                _ => self.repository.log(branch, before, limit)?.into_iter().map(|entry| entry.commit).collect(),
            };
            found.extend(commits.into_iter().map(|commit: Commit| ((commit.header().time, commit.id()), commit)));
        }
        found.sort_unstable_by_key(|(place, _)| std::cmp::Reverse(*place));
        found.truncate(limit);
        Ok(found)
    }

    /// Returns the newest commits of a session on a branch before a place. They stand on one chain, by time.
    fn of_session(&self, branch: &BranchName, session: SessionId, before: Option<Place>, limit: usize) -> Result<Vec<Commit>, Error> {
        let chain = chain(&session, branch);
        let mut counter = self.state.frontier().vector().get(&chain);
        if let Some(before) = before {
            counter = self.last_before(&chain, counter, before)?;
        }
        let mut commits = Vec::new();
        while counter > 0 && commits.len() < limit {
            if let Some(id) = self.repository.at(&chain, counter)? {
                commits.extend(self.repository.signed(&id)?);
            }
            counter -= 1;
        }
        Ok(commits)
    }

    /// Returns the highest counter up to `high` whose commit comes before a place; 0 if none does.
    fn last_before(&self, chain: &herdbook_model::id::ChainId, high: u64, before: Place) -> Result<u64, Error> {
        let (mut low, mut high) = (0, high);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let place = match self.repository.at(chain, middle)? {
                Some(id) => self.repository.meta(&id)?.map(|meta| (meta.time, id)),
                None => None,
            };
            if place.is_some_and(|place| place < before) { low = middle } else { high = middle - 1 }
        }
        Ok(low)
    }

    /// Whether the state stands on the commit and the filter lets it through.
    fn has(&self, commit: &Commit) -> Result<bool, Error> {
        if !self.state.frontier().vector().contains(&commit.chain(), commit.header().counter) {
            return Ok(false);
        }
        let Filter { collection, key, session, ref authors } = self.filter;
        if !authors.has(&commit.header().session)? {
            return Ok(false);
        }
        // Without a session the index of the document was read.
        let is_filtered = collection.is_some() && (key.is_none() || session.is_some());
        if !is_filtered {
            return Ok(true);
        }
        let requests = self.repository.requests(&commit.id())?;
        let mut edits = requests.iter().flatten().flat_map(|request| request.edits());
        Ok(edits.any(|(of, edit)| Some(of) == collection && key.is_none_or(|key| *key == edit.key)))
    }
}

/// Why requests were voided. The head log is read when the first reason is asked for.
struct Voids<'a> {
    repository: &'a Repository,
    view: &'a View,
    reasons: OnceCell<BTreeMap<RequestRef, String>>,
}

impl<'a> Voids<'a> {
    const fn new(repository: &'a Repository, view: &'a View) -> Self {
        Self { repository, view, reasons: OnceCell::new() }
    }

    fn of(&self, commit: CommitId) -> Result<Vec<Void>, Error> {
        let all = RequestRef { commit, request: 0 }..=RequestRef { commit, request: u32::MAX };
        let void = |request: &RequestRef| Ok(Void { request: *request, reason: self.reason(request)?.unwrap_or_default() });
        self.view.log.voided().range(all).map(void).collect()
    }

    /// Returns why a request was voided, `None` if it was not.
    fn reason(&self, request: &RequestRef) -> Result<Option<String>, Error> {
        if !self.view.log.voided().contains(request) {
            return Ok(None);
        }
        if self.reasons.get().is_none() {
            let voids = self.repository.voids_since(Judgement::NONE)?;
            let _ = self.reasons.set(voids.into_iter().map(|void| (void.request, void.reason)).collect());
        }
        Ok(Some(self.reasons.get().and_then(|reasons| reasons.get(request)).cloned().unwrap_or_default()))
    }
}

/// Returns a commit without its requests.
pub(super) fn summarised(repository: &Repository, view: &View, commit: &Commit) -> Result<Summary, Error> {
    summary(repository, view, &Voids::new(repository, view), commit)
}

fn summary(repository: &Repository, view: &View, voids: &Voids<'_>, commit: &Commit) -> Result<Summary, Error> {
    let (id, header) = (commit.id(), commit.header());
    let accepted = match repository.meta(&id)? {
        Some(meta) => repository.accepted(view, &header.branch, &meta)?,
        None => None,
    };
    Ok(Summary {
        id,
        branch: header.branch.clone(),
        schema: header.schema,
        parents: header.parents.clone(),
        session: header.session,
        replica: names::replica(repository, &header.session)?,
        counter: header.counter,
        time: header.time,
        message: header.message.clone(),
        requests: header.request_count,
        accepted,
        voided: voids.of(id)?,
    })
}

fn shown(repository: &Repository, id: &CommitId) -> Result<v1::ShowResponse, Error> {
    let stored = repository.stored(id)?.ok_or_else(|| RepositoryError::UnknownCommit { id: id.to_string() })?;
    let view = repository.view();
    let voids = Voids::new(repository, &view);
    let header = stored.commit.header();
    let branch = view.log.branch(&header.branch);
    let commit = summary(repository, &view, &voids, &stored.commit)?;
    let mut answer = v1::ShowResponse::from(Shown { commit, requests: Vec::new(), left_out: 0 });
    let mut bytes = answer.encoded_len();
    for (place, body) in (0u32..).zip(&stored.requests) {
        let request = RequestRef { commit: *id, request: place };
        let voided = voids.reason(&request)?.map(|reason| Fate::Voided { reason });
        let lost = view.log.lost().contains_key(&request).then_some(Fate::Lost);
        let absent = body.is_err().then_some(Fate::Absent);
        let fate = voided.or(lost).or(absent).unwrap_or(Fate::Stands);
        let (body, documents) = match body {
            Ok(bytes) => {
                let request = Request::from_bytes(bytes).map_err(|source| RepositoryError::Record { what: "request", source })?;
                (branch.map(|branch| names::body(&branch.schema, &request)), Vec::new())
            }
            Err(documents) => (None, documents.clone()),
        };
        let request = v1::ShownRequest::from(ShownRequest { place, fate, body, documents });
        bytes += request.encoded_len();
        if bytes > SHOWN {
            answer.left_out = header.request_count - place;
            break;
        }
        answer.requests.push(request);
    }
    Ok(answer)
}
