//! What all services of one repository share: who writes, who knows of copies and acceptance, and how long a caller waits.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use herdbook_model::{
    authority::{Position, RequestRef},
    id::{ReplicaId, RepositoryId},
    state::State,
};
use herdbook_proto::{
    ack::{Ack, Condition, Wait},
    cluster::Phase,
    document::{At, Place},
};
use herdbook_store::Durability;
use tokio::{
    sync::{Semaphore, broadcast::error::RecvError, watch},
    time::Instant,
};
use tonic::metadata::MetadataMap;

use super::{failure::Error, names, states::States};
use crate::{
    actor::{Acknowledged, RepositoryHandle},
    metrics::Metrics,
    node::Phases,
    peers::Peers,
    repository::{Ask, Change, Committed, Repository},
};

/// Watches served at once: each holds a snapshot and a queue.
pub(super) const WATCHES: usize = 4096;

/// What is kept back of a caller's deadline, so that the answer arrives before it: an eighth, but no less and no more than this.
const MARGIN: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_millis(250);

/// What the services share.
pub(super) struct Host {
    pub(super) states: States,
    pub(super) metrics: Metrics,
    pub(super) watches: Arc<Semaphore>,
    handle: RepositoryHandle,
    peers: Arc<Peers>,
    phases: Arc<Phases>,
    entries: watch::Receiver<u64>,
}

impl Host {
    /// Starts to follow the head log. Needs a running executor.
    pub(super) fn start(handle: RepositoryHandle, peers: Arc<Peers>, phases: Arc<Phases>, metrics: Metrics) -> Arc<Self> {
        let entries = follow(&handle);
        let states = States::new(handle.repository().clone());
        Arc::new(Self { states, metrics, watches: Arc::new(Semaphore::new(WATCHES)), handle, peers, phases, entries })
    }

    pub(super) const fn repository(&self) -> &Repository {
        self.handle.repository()
    }

    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.handle.ended()
    }

    /// Insists that the repository named is the one held here.
    pub(super) fn check(&self, asked: Option<RepositoryId>) -> Result<(), Error> {
        let held = self.repository().id();
        match asked {
            Some(asked) if asked != held => Err(Error::OtherRepository { asked, held }),
            _ => Ok(()),
        }
    }

    /// Insists that writes are taken.
    pub(super) fn check_writable(&self) -> Result<(), Error> {
        match self.phases.get() {
            Phase::Serving => Ok(()),
            phase => Err(Error::ReadOnly { phase }),
        }
    }

    /// Returns the state to read from: the newest at once, others on a thread that may wait for the disk.
    pub(super) async fn state(&self, place: Place) -> Result<State, Error> {
        self.check(place.repository)?;
        match place.at {
            At::Branch(branch) => self.states.newest(branch.as_ref()),
            at => {
                let states = self.states.clone();
                blocking(move || states.at(&at)).await
            }
        }
    }

    /// Commits, and waits as long as the caller does for what it asks.
    pub(super) async fn write(&self, ask: Ask, wait: Wait, until: Option<Instant>) -> Result<Ack, Error> {
        self.check_writable()?;
        let (key, edits) = (ask.key, ask.edits.len());
        let answer = within(until, self.handle.commit(ask, names::durability(wait.local))).await;
        let Some(answer) = answer else { return Err(Error::OutcomeUnknown { key, ack: None }) };
        let Acknowledged { committed, durability } = answer?;
        if !committed.repeated {
            self.metrics.committed(edits);
        }
        self.acknowledge(committed, durability, wait, until).await.map_err(|error| error.under(key))
    }

    /// Waits until what was asked for is true of a commit, and says what is.
    pub(super) async fn acknowledge(
        &self,
        committed: Committed,
        durability: Durability,
        wait: Wait,
        until: Option<Instant>,
    ) -> Result<Ack, Error> {
        // A commit just made is known to nobody else.
        if !wait.accepted && !committed.repeated && wait.copies <= u32::from(durability == Durability::Durable) {
            let copies = if durability == Durability::Durable { vec![self.repository().replica()] } else { Vec::new() };
            return Ok(ack(committed, durability, None, copies));
        }
        let (mut entries, mut copied) = (self.entries.clone(), self.peers.changes());
        loop {
            entries.borrow_and_update();
            copied.borrow_and_update();
            let accepted = self.accepted(&committed)?;
            let copies = self.copies(&committed, durability);
            if (accepted.is_some() || !wait.accepted) && copies.len() as u64 >= u64::from(wait.copies) {
                return Ok(ack(committed, durability, accepted, copies));
            }
            let changed = async {
                tokio::select! {
                    changed = entries.changed(), if wait.accepted => changed.is_ok(),
                    changed = copied.changed() => changed.is_ok(),
                }
            };
            match within(until, changed).await {
                Some(true) => {}
                Some(false) => return Err(Error::Stopping),
                None => {
                    let ack = ack(committed, durability, accepted, copies);
                    return Err(Error::OutcomeUnknown { key: herdbook_model::id::RequestKey([0; 16]), ack: Some(Box::new(ack)) });
                }
            }
        }
    }

    /// Returns the entry that accepted the commit, if one did and it did not refuse the request.
    fn accepted(&self, committed: &Committed) -> Result<Option<Position>, Error> {
        let view = self.repository().view();
        let request = RequestRef { commit: committed.commit, request: committed.request };
        if view.log.voided().contains(&request) {
            return Err(Error::Voided { request });
        }
        let Some(meta) = self.repository().meta(&committed.commit)? else { return Ok(None) };
        Ok(self.repository().accepted(&view, &committed.branch, &meta)?)
    }

    /// Returns who holds the commit durably, sorted.
    fn copies(&self, committed: &Committed, durability: Durability) -> Vec<ReplicaId> {
        let mut copies = self.peers.holders(&committed.chain, committed.counter);
        if durability == Durability::Durable {
            copies.push(self.repository().replica());
        }
        copies.sort_unstable();
        copies.dedup();
        copies
    }
}

fn ack(committed: Committed, durability: Durability, accepted: Option<Position>, copies: Vec<ReplicaId>) -> Ack {
    let Committed { commit, request, branch, state, repeated, .. } = committed;
    // The authority looked at the preconditions again, in the order of acceptance.
    let condition = if accepted.is_some() { Condition::Accepted } else { Condition::Local };
    Ack { commit, request, branch, state, local: names::level(durability), accepted, copies, condition, repeated }
}

/// Returns a counter that rises when the head log grows.
fn follow(handle: &RepositoryHandle) -> watch::Receiver<u64> {
    let (grown, entries) = watch::channel(0);
    let (mut changes, mut ended) = (handle.repository().changes(), handle.ended());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                change = changes.recv() => match change {
                    // Who falls behind may have missed one.
                    Ok(Change::Entries) | Err(RecvError::Lagged(_)) => grown.send_modify(|count| *count += 1),
                    Ok(_) => {}
                    Err(RecvError::Closed) => break,
                },
                _ = ended.wait_for(|ended| *ended) => break,
            }
        }
    });
    entries
}

/// Returns when the caller stops waiting: at the call's deadline or after the wait it asked for, whichever is first.
pub(super) fn until(metadata: &MetadataMap, wait: Option<Duration>) -> Option<Instant> {
    let deadline = metadata
        .get("grpc-timeout")
        .and_then(|text| parse_timeout(text.to_str().ok()?))
        .map(|left| left.saturating_sub((left / 8).clamp(*MARGIN.start(), *MARGIN.end())));
    let left = match (deadline, wait) {
        (Some(deadline), Some(wait)) => deadline.min(wait),
        (deadline, wait) => deadline.or(wait)?,
    };
    Instant::now().checked_add(left)
}

/// Reads a deadline as gRPC writes it: at most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value = if digits.len() <= 8 { digits.parse::<u64>().ok()? } else { return None };
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Waits for `work` until a moment, if there is one; `None` if it passes first.
async fn within<T>(until: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match until {
        Some(until) => tokio::time::timeout_at(until, work).await.ok(),
        None => Some(work.await),
    }
}

/// Does what may wait for the disk, or compute for long, on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("30S"), Some(Duration::from_secs(30)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse_timeout("1500m"), Some(Duration::from_millis(1500)));
        for bad in ["", "S", "30", "999999999S", "-1S", "3é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }
}
