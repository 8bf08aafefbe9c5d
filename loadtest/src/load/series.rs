//! What clients did, gathered while they do it: totals by kind of operation, and a point a second.
//!
//! Clients share a few tallies, so that ten thousand of them need no ten thousand histograms.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::mix::Kind;
use crate::{
    connection::{Failure, Failures},
    percentiles::{Durations, Percentiles, Point},
};

/// How many tallies there are: enough that two threads seldom meet.
const SHARDS: usize = 16;

/// A second of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Second {
    /// When it ended: milliseconds since the run began, warm-up included.
    pub at_millis: u64,
    /// Operations that ended well.
    pub operations: u64,
    /// Operations that failed.
    pub failures: u64,
    /// Half took at most this.
    pub p50_micros: u64,
    /// 99 % took at most this.
    pub p99_micros: u64,
    /// The longest.
    pub max_micros: u64,
}

/// Operations of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operations {
    /// Operations that ended well within the measured time, a second.
    pub per_second: f64,
    /// How long they took, from their intended start in an open loop; those included that were under way when the time was over.
    #[serde(flatten)]
    pub percentiles: Percentiles,
    /// How long they took from the moment they really began; only where that differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Percentiles>,
    /// The durations, quantile by quantile.
    pub curve: Vec<Point>,
}

/// An operation that ended well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) kind: Kind,
    /// When it was meant to begin.
    pub(crate) intended: Instant,
    /// When it began.
    pub(crate) begun: Instant,
    /// When it ended.
    pub(crate) ended: Instant,
    /// Whether it counts towards the result: it ended after the warm-up.
    pub(crate) is_measured: bool,
    /// Whether it ended before the time was over.
    pub(crate) is_within: bool,
}

#[derive(Default)]
struct Totals {
    within: u64,
    response: Durations,
    service: Durations,
}

#[derive(Default)]
struct Shard {
    totals: BTreeMap<Kind, Totals>,
    failures: Failures,
    second: Durations,
    failed_in_second: u64,
}

/// The tallies of a run.
pub(crate) struct Tallies {
    shards: Vec<Mutex<Shard>>,
}

impl Tallies {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Counts what client `client` did.
    pub(crate) fn end(&self, client: u64, Ended { kind, intended, begun, ended, is_measured, is_within }: Ended) {
        let mut shard = self.shard(client);
        shard.second.record(ended - intended);
        if is_measured {
            let totals = shard.totals.entry(kind).or_default();
            totals.response.record(ended - intended);
            totals.service.record(ended - begun);
            totals.within += u64::from(is_within);
        }
    }

    /// Counts an operation that was meant to begin and did not, since the run was over: it took `waited` at least.
    pub(crate) fn unserved(&self, client: u64, kind: Kind, waited: Duration) {
        self.shard(client).totals.entry(kind).or_default().response.record(waited);
    }

    /// Counts what failed for client `client`.
    pub(crate) fn fail(&self, client: u64, failure: Failure) {
        let mut shard = self.shard(client);
        shard.failures.count(failure);
        shard.failed_in_second += 1;
    }

    /// Returns what was counted since the last call, as the second that ends now.
    pub(crate) fn second(&self, since: Duration) -> Second {
        let (mut durations, mut failures) = (Durations::default(), 0);
        for client in 0..SHARDS as u64 {
            let mut shard = self.shard(client);
            durations.add(&shard.second);
            shard.second.clear();
            failures += std::mem::take(&mut shard.failed_in_second);
        }
        let Percentiles { count, p50_micros, p99_micros, max_micros, .. } = durations.percentiles();
        let at_millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Second { at_millis, operations: count, failures, p50_micros, p99_micros, max_micros }
    }

    /// Returns the totals over `seconds`, and what failed.
    pub(crate) fn totals(&self, seconds: f64, is_open: bool) -> (BTreeMap<Kind, Operations>, Failures) {
        let (mut sums, mut failures) = (BTreeMap::<Kind, Totals>::new(), Failures::default());
        for client in 0..SHARDS as u64 {
            let shard = std::mem::take(&mut *self.shard(client));
            for (kind, totals) in shard.totals {
                let sum = sums.entry(kind).or_default();
                sum.within += totals.within;
                sum.response.add(&totals.response);
                sum.service.add(&totals.service);
            }
            failures.add(shard.failures);
        }
        let operations = |Totals { within, response, service }: Totals| Operations {
            per_second: within as f64 / seconds,
            percentiles: response.percentiles(),
            service: is_open.then(|| service.percentiles()),
            curve: response.curve(),
        };
        (sums.into_iter().map(|(kind, totals)| (kind, operations(totals))).collect(), failures)
    }

    fn shard(&self, client: u64) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(client % SHARDS as u64).expect("below the number of shards");
        self.shards[at].lock().expect("nobody panics with it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_tells_what_was_counted_since_the_one_before() {
        let (tallies, begun) = (Tallies::new(), Instant::now());
        let ended = Ended {
            kind: Kind::Read,
            intended: begun,
            begun: begun + Duration::from_millis(3),
            ended: begun + Duration::from_millis(5),
            is_measured: true,
            is_within: true,
        };
        tallies.end(1, ended);
        tallies.end(2, ended);
        tallies.fail(3, Failure::missing(1));
        let second = tallies.second(Duration::from_secs(1));
        assert_eq!((second.at_millis, second.operations, second.failures), (1000, 2, 1));
        assert!((4_995..=5_005).contains(&second.p50_micros), "{second:?}");
        assert_eq!(tallies.second(Duration::from_secs(2)).operations, 0);
    }

    #[test]
    fn what_a_client_waited_for_its_turn_is_in_the_response_and_not_in_the_service() {
        let (tallies, begun) = (Tallies::new(), Instant::now());
        let ended = begun + Duration::from_millis(5);
        let late = Ended {
            kind: Kind::Update,
            intended: begun,
            begun: begun + Duration::from_millis(4),
            ended,
            is_measured: true,
            is_within: false,
        };
        tallies.end(1, late);
        let (operations, _) = tallies.totals(1.0, true);
        let update = &operations[&Kind::Update];
        let service = update.service.expect("told of an open loop");
        assert!((4_990..=5_010).contains(&update.percentiles.max_micros) && (990..=1_010).contains(&service.max_micros), "{update:?}");
        assert!(update.per_second.abs() < f64::EPSILON, "it ended when the time was over");
    }
}
