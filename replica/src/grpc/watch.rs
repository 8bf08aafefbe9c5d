//! Watches: what changes on a branch, step by step, until the caller ends it, falls behind, or the replica goes down.
//!
//! Each answer with a token ends a step; a watch that is resumed there misses nothing. Memory of a watch is bounded: a step is read in
//! pieces, and only so many answers wait for a caller that reads slowly.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use herdbook_model::{
    authority::Void,
    id::CommitId,
    schema::CollectionId,
    state::{Change, State},
    value::Key,
};
use herdbook_proto::{
    document::{At, Name},
    limits,
    read::{Event, EventChange, Start, Watch},
    token::Token,
    v1,
};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{
    document::Answers,
    failure::Error,
    host::{Host, WATCHES, blocking},
    names,
    states::token,
};
use crate::{
    metrics::Watching,
    repository::{Reached, Repository, Scope},
    subscription::{self, Cause, Ended, Step, Subscription},
};

/// How often a quiet watch says that it is there.
const PROGRESS: Duration = Duration::from_secs(10);

/// Answers that may wait for the caller.
const QUEUE: usize = 16;

/// Longest wait for a caller that takes no answer.
const STALL: Duration = Duration::from_secs(60);

/// Documents of a step read at once.
const PIECE: usize = 512;

/// Opens a watch.
pub(super) async fn open(host: Arc<Host>, watch: Watch) -> Result<Answers<v1::WatchResponse>, Error> {
    let Watch { repository, branch, collection, prefix, start } = watch;
    host.check(repository)?;
    let permit = host.watches.clone().try_acquire_owned().map_err(|_| Error::TooManyWatches { limit: WATCHES })?;
    let subscription = Subscription::open(host.repository(), branch.as_ref())?;
    let newest = subscription.state().clone();
    let collection = collection.map(|name| newest.schema().collection(&name).map(|collection| collection.id)).transpose()?;
    let from = from(&host, &newest, start).await?;
    let last_token = token(&from, Vec::new())?;
    let (answers, queue) = mpsc::channel(QUEUE);
    let end = Arc::new(OnceLock::new());
    let mut task = Task {
        scope: Scope { collection, prefix },
        last_token,
        last_state: from.clone(),
        answers,
        _watching: host.metrics.watching(),
        _permit: permit,
        host,
    };
    let told = end.clone();
    tokio::spawn(async move {
        // The reason stands there before the queue ends, which it does when the task is dropped.
        if let Err(Some(error)) = task.run(subscription, from, newest).await {
            let _ = told.set(Status::from(error));
        }
        drop(task);
    });
    let ending = stream::once(async move { end.get().cloned().map(Err) }).filter_map(std::future::ready);
    Ok(Box::pin(ReceiverStream::new(queue).map(Ok).chain(ending)))
}

/// Returns the state after which the watch begins.
async fn from(host: &Host, newest: &State, start: Start) -> Result<State, Error> {
    let states = host.states.clone();
    let from = match start {
        Start::Now => return Ok(newest.clone()),
        Start::Token(bytes) => {
            let Token { anchor, after } = Token::from_wire("resume_token", &bytes)?;
            if !after.is_empty() || anchor.branch != *newest.branch() {
                return Err(Error::OtherQuestion { what: "resume token" });
            }
            blocking(move || states.anchored("resume token", &anchor)).await?
        }
        Start::State(name) => blocking(move || states.at(&At::State(name))).await?,
    };
    if from.branch() == newest.branch() { Ok(from) } else { Err(Error::OtherQuestion { what: "state" }) }
}

/// One watch under way. It ends with `Err(None)` when nobody listens any more.
struct Task {
    host: Arc<Host>,
    scope: Scope,
    answers: mpsc::Sender<v1::WatchResponse>,
    last_token: Bytes,
    last_state: State,
    _watching: Watching,
    _permit: OwnedSemaphorePermit,
}

impl Task {
    async fn run(&mut self, mut subscription: Subscription, from: State, newest: State) -> Result<(), Option<Error>> {
        self.finish(Vec::new()).await?;
        if from.name() != newest.name() {
            self.replay(from, newest).await?;
        }
        let mut ended = self.host.ended();
        let closed = self.answers.clone();
        loop {
            let step = tokio::select! {
                step = subscription.next() => Some(step),
                () = tokio::time::sleep(PROGRESS) => None,
                () = closed.closed() => return Err(None),
                _ = ended.wait_for(|ended| *ended) => return Err(Some(Error::Stopping)),
            };
            match step {
                None => self.finish(Vec::new()).await?,
                Some(Ok(Step { before, after, cause: Cause::Replay })) => self.replay(before, after).await?,
                Some(Ok(Step { after, cause: Cause::Commits { commits, touched }, .. })) => {
                    let (repository, scope) = (self.host.repository().clone(), self.scope.clone());
                    let touched = match *commits {
                        [only] if touched.len() <= PIECE => subscription::touched_by(&scope, only, &touched),
                        [only] => blocking(move || Ok(subscription::touched_by(&scope, only, &touched))).await.map_err(Some)?,
                        _ => blocking(move || Ok(subscription::touched(&repository, &scope, &commits)?)).await.map_err(Some)?,
                    };
                    self.commits(after, touched).await?;
                }
                Some(Err(Ended::Behind)) => return Err(Some(Error::SlowReceiver)),
                Some(Err(Ended::Closed)) => return Err(Some(Error::Stopping)),
            }
        }
    }

    /// Tells of documents that commits touched, as they are after the step.
    async fn commits(&mut self, after: State, touched: subscription::Touched) -> Result<(), Option<Error>> {
        self.last_state = after.clone();
        let mut rest = touched.into_iter();
        let mut events = Vec::new();
        loop {
            let piece: Vec<_> = rest.by_ref().take(PIECE).collect();
            if piece.is_empty() {
                break;
            }
            let repository = self.host.repository().clone();
            let more = if piece.len() == 1 {
                events_of(&repository, &after, piece)
            } else {
                let after = after.clone();
                blocking(move || events_of(&repository, &after, piece)).await
            };
            events = self.queue(events, more.map_err(Some)?).await?;
        }
        self.finish(events).await
    }

    /// Tells of documents that differ between two states, with the voids between them.
    async fn replay(&mut self, before: State, after: State) -> Result<(), Option<Error>> {
        self.last_state = after.clone();
        let (repository, scope) = (self.host.repository().clone(), self.scope.clone());
        let prepared = blocking(move || {
            let voids = if before.judgement() == after.judgement() { Vec::new() } else { repository.voids_since(before.judgement())? };
            let voided = subscription::voided(&repository, &scope, &voids)?;
            let commits = commits_between(&repository, &scope, &before, &after)?;
            let comparison = repository.comparison(&before, &after, scope)?;
            Ok(Arc::new((comparison, voided, commits, after)))
        });
        let prepared = prepared.await.map_err(Some)?;
        let (mut reached, mut events) = (None, Vec::new());
        loop {
            let (prepared, repository) = (prepared.clone(), self.host.repository().clone());
            let piece = blocking(move || {
                let (comparison, voided, commits, after) = &*prepared;
                let (changes, next): (Vec<Change>, Option<Reached>) = comparison.piece(reached.as_ref(), limits::STREAM_BYTES)?;
                let mut events = Vec::with_capacity(changes.len());
                for change in changes {
                    let slot = (change.collection, change.key.clone());
                    let touching = commits.get(&slot).cloned().unwrap_or_default();
                    let voids = voided.get(&slot).cloned().unwrap_or_default();
                    events.extend(event(&repository, after, (change.collection, change.key), change.new.as_deref(), touching, voids)?);
                }
                Ok((events, next))
            });
            let (more, next) = piece.await.map_err(Some)?;
            events = self.queue(events, more).await?;
            match next {
                Some(next) => reached = Some(next),
                None => return self.finish(events).await,
            }
        }
    }

    /// Sends what fills an answer; returns what does not.
    async fn queue(&mut self, mut events: Vec<v1::Event>, more: Vec<v1::Event>) -> Result<Vec<v1::Event>, Option<Error>> {
        let mut bytes: usize = events.iter().map(prost::Message::encoded_len).sum();
        for event in more {
            bytes += event.encoded_len();
            if bytes > limits::STREAM_BYTES && !events.is_empty() {
                let full = std::mem::take(&mut events);
                bytes = event.encoded_len();
                self.send(full, Bytes::new()).await?;
            }
            events.push(event);
        }
        Ok(events)
    }

    /// Ends a step.
    async fn finish(&mut self, events: Vec<v1::Event>) -> Result<(), Option<Error>> {
        // A frontier with too many heads for a token: the one before still resumes, and tells some of it twice.
        if let Ok(token) = token(&self.last_state, Vec::new()) {
            self.last_token = token;
        }
        self.host.states.tell(&self.last_state);
        self.send(events, self.last_token.clone()).await
    }

    async fn send(&self, events: Vec<v1::Event>, resume_token: Bytes) -> Result<(), Option<Error>> {
        self.host.metrics.watched(events.len());
        let state = Bytes::copy_from_slice(self.last_state.name().as_bytes());
        match tokio::time::timeout(STALL, self.answers.send(v1::WatchResponse { events, resume_token, state })).await {
            Ok(sent) => sent.map_err(|_| None),
            Err(_) => Err(Some(Error::SlowReceiver)),
        }
    }
}

type Slot = (CollectionId, Key);

/// Returns which of the commits between two states touched which documents. Empty where the states are not on one line, or where more lies
/// between than is worth telling.
fn commits_between(repository: &Repository, scope: &Scope, before: &State, after: &State) -> Result<subscription::Touched, Error> {
    /// Commits whose requests are read to tell who changed what.
    const MOST: u64 = 1024;
    let ranges = before.frontier().vector().missing_from(after.frontier().vector());
    if ranges.iter().map(herdbook_model::vector::Range::len).sum::<u64>() > MOST {
        return Ok(subscription::Touched::new());
    }
    let mut commits = Vec::new();
    for range in ranges {
        for counter in range.first..=range.last {
            commits.extend(repository.at(&range.chain, counter)?);
        }
    }
    Ok(subscription::touched(repository, scope, &commits)?)
}

fn events_of(repository: &Repository, after: &State, piece: Vec<(Slot, BTreeSet<CommitId>)>) -> Result<Vec<v1::Event>, Error> {
    let mut events = Vec::with_capacity(piece.len());
    for (slot, commits) in piece {
        let document = repository.get(after, slot.0, &slot.1)?;
        events.extend(event(repository, after, slot, document.as_deref(), commits, Vec::new())?);
    }
    Ok(events)
}

/// Returns what a caller is told of a document, `None` for a collection that the schema lost.
fn event(
    repository: &Repository,
    state: &State,
    (collection, key): Slot,
    document: Option<&herdbook_model::document::Document>,
    commits: BTreeSet<CommitId>,
    voided: Vec<Void>,
) -> Result<Option<v1::Event>, Error> {
    let Ok(collection) = state.schema().by_id(collection) else { return Ok(None) };
    let shown = document.map(|document| names::document(repository, state, collection, &key, document)).transpose()?.flatten();
    let change = match shown {
        Some(document) => EventChange::Put(document),
        None => EventChange::Delete(Name { collection: collection.name.clone(), key }),
    };
    Ok(Some(Event { change, commits: commits.into_iter().collect(), voided }.into()))
}
