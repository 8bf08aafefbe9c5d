//! Load by clients that each wait for an answer before they ask again: how much a store takes, not how it behaves at a given rate.
//!
//! A stall keeps all clients waiting, so it shows in the rate and the maximum and hardly in the percentiles; reports say `closed`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    connection::{Connection, Failure, Failures},
    percentiles::{Durations, Percentiles},
    workload::client_rng,
};

/// How long a client waits after a failure, so that a server that is away is not hammered.
const PAUSE: Duration = Duration::from_millis(20);

/// How many documents one filling call is given at most.
const FILL: u64 = 1000;

/// What the clients do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many clients there are.
    pub clients: usize,
    /// Time before anything is counted, in milliseconds.
    pub warm_up_millis: u64,
    /// Time in which operations are counted, in milliseconds.
    pub measured_millis: u64,
    /// Each operation is on one of so many documents, chosen uniformly.
    pub documents: u64,
    /// How many of a hundred operations are reads.
    pub reads_percent: u8,
    /// Seed of the clients' choices.
    pub seed: u64,
}

/// What clients did in the measured time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// The writes, if the plan has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commits: Option<Operations>,
    /// The reads, if the plan has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reads: Option<Operations>,
    /// What failed.
    pub failures: Failures,
}

/// Operations of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Operations {
    /// Operations that ended well within the measured time, a second.
    pub per_second: f64,
    /// How long they took, those included that were under way when the time was over.
    #[serde(flatten)]
    pub percentiles: Percentiles,
}

#[derive(Default)]
struct Kind {
    within: u64,
    durations: Durations,
}

#[derive(Default)]
struct Tally {
    writes: Kind,
    reads: Kind,
    failures: Failures,
}

/// Writes the plan's documents, so that reads find them.
///
/// # Errors
/// The first failure.
pub async fn fill<C: Connection>(connections: &[C], documents: u64) -> Result<(), Error> {
    let shares = connections.iter().enumerate().map(|(at, connection)| async move {
        let step = FILL * connections.len() as u64;
        let mut start = FILL * at as u64;
        while start < documents {
            connection.fill(start..(start + FILL).min(documents)).await?;
            start += step;
        }
        Ok::<_, Failure>(())
    });
    join_all(shares).await.into_iter().collect::<Result<(), _>>().map_err(Error::Filling)
}

/// Lets the clients work, client `n` on connection `n` modulo their number, and returns what they did.
///
/// Each write takes the next revision of the run, so that it changes its document.
///
/// # Errors
/// [`Error::Silent`] if not one operation succeeded: with the most frequent failure.
pub async fn run<C: Connection>(connections: &[C], plan: &Plan) -> Result<Measured, Error> {
    let revisions = Arc::new(AtomicU64::new(1));
    let start = Instant::now() + Duration::from_millis(plan.warm_up_millis);
    let end = start + Duration::from_millis(plan.measured_millis);
    let clients = connections.iter().cycle().zip(0..plan.clients as u64);
    let clients = clients.map(|(connection, client)| {
        let (connection, plan, revisions) = (connection.clone(), plan.clone(), Arc::clone(&revisions));
        tokio::spawn(async move { work(&connection, client, &plan, &revisions, start, end).await })
    });
    let mut total = Tally::default();
    for tally in join_all(clients).await {
        let Tally { writes, reads, failures } = tally.expect("a client does not panic");
        for (sum, part) in [(&mut total.writes, writes), (&mut total.reads, reads)] {
            sum.within += part.within;
            sum.durations.add(&part.durations);
        }
        total.failures.add(failures);
    }
    let Tally { writes, reads, failures } = total;
    if writes.within + reads.within == 0 {
        return Err(Error::Silent { failures });
    }
    let seconds = (end - start).as_secs_f64();
    let operations = |kind: &Kind| Operations { per_second: kind.within as f64 / seconds, percentiles: kind.durations.percentiles() };
    Ok(Measured {
        commits: (plan.reads_percent < 100).then(|| operations(&writes)),
        reads: (plan.reads_percent > 0).then(|| operations(&reads)),
        failures,
    })
}

async fn work<C: Connection>(connection: &C, client: u64, plan: &Plan, revisions: &AtomicU64, start: Instant, end: Instant) -> Tally {
    let (mut rng, mut tally) = (client_rng(client, plan.seed), Tally::default());
    loop {
        let begun = Instant::now();
        if begun >= end {
            return tally;
        }
        let i = rng.below(plan.documents.max(1));
        let is_read = plan.reads_percent > 0 && rng.below(100) < u64::from(plan.reads_percent);
        let outcome = if is_read { connection.read(i).await } else { connection.write(i, revisions.fetch_add(1, Ordering::Relaxed)).await };
        let ended = Instant::now();
        match outcome {
            Ok(()) if ended >= start => {
                let kind = if is_read { &mut tally.reads } else { &mut tally.writes };
                kind.durations.record(ended - begun);
                kind.within += u64::from(ended < end);
            }
            Ok(()) => {}
            Err(failure) => {
                tally.failures.count(failure);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, ops::Range, sync::Mutex};

    use super::*;

    /// A store that keeps what it was asked; documents from `lost` on cannot be read.
    #[derive(Clone)]
    struct Fake {
        asked: Arc<Mutex<Asked>>,
        lost: u64,
    }

    #[derive(Default)]
    struct Asked {
        filled: BTreeSet<u64>,
        revisions: BTreeSet<u64>,
        writes: u64,
        reads: u64,
    }

    impl Fake {
        fn new(lost: u64) -> Self {
            Self { asked: Arc::default(), lost }
        }
    }

    impl Connection for Fake {
        async fn fill(&self, range: Range<u64>) -> Result<(), Failure> {
            self.asked.lock().expect("not poisoned").filled.extend(range);
            Ok(())
        }

        async fn write(&self, _: u64, revision: u64) -> Result<(), Failure> {
            tokio::task::yield_now().await;
            let mut asked = self.asked.lock().expect("not poisoned");
            asked.writes += 1;
            asked.revisions.insert(revision);
            Ok(())
        }

        async fn read(&self, i: u64) -> Result<(), Failure> {
            tokio::task::yield_now().await;
            self.asked.lock().expect("not poisoned").reads += 1;
            if i < self.lost { Ok(()) } else { Err(Failure::missing(i)) }
        }
    }

    fn plan(reads_percent: u8) -> Plan {
        Plan { clients: 4, warm_up_millis: 0, measured_millis: 50, documents: 100, reads_percent, seed: 0 }
    }

    #[tokio::test]
    async fn every_document_is_filled_in_once() {
        let fake = Fake::new(u64::MAX);
        fill(&[fake.clone(), fake.clone(), fake.clone()], 4_500).await.expect("filled");
        assert_eq!(fake.asked.lock().expect("not poisoned").filled, (0..4_500).collect());
    }

    #[tokio::test]
    async fn each_write_has_a_revision_of_its_own_and_is_counted() {
        let fake = Fake::new(u64::MAX);
        let measured = run(std::slice::from_ref(&fake), &plan(0)).await.expect("writes succeed");
        let asked = fake.asked.lock().expect("not poisoned");
        assert_eq!(asked.revisions.len() as u64, asked.writes);
        assert_eq!(measured.commits.expect("planned").percentiles.count, asked.writes);
        assert!(measured.reads.is_none() && asked.reads == 0);
    }

    #[tokio::test]
    async fn the_warm_up_is_not_counted() {
        let fake = Fake::new(u64::MAX);
        let measured = run(std::slice::from_ref(&fake), &Plan { warm_up_millis: 50, ..plan(0) }).await.expect("writes succeed");
        assert!(measured.commits.expect("planned").percentiles.count < fake.asked.lock().expect("not poisoned").writes);
    }

    #[tokio::test]
    async fn failures_are_told_beside_what_succeeded() {
        let fake = Fake::new(50);
        let measured = run(std::slice::from_ref(&fake), &plan(100)).await.expect("some reads succeed");
        let read = measured.reads.expect("planned").percentiles.count;
        assert!(read > 0 && measured.failures.0["NOT_FOUND"].count > 0);
        assert_eq!(read + measured.failures.total(), fake.asked.lock().expect("not poisoned").reads);
        assert!(measured.commits.is_none());
    }

    #[tokio::test]
    async fn a_store_that_only_fails_gives_no_figures() {
        let error = run(&[Fake::new(0)], &plan(100)).await.expect_err("nothing succeeds");
        assert!(matches!(&error, Error::Silent { failures } if failures.total() > 0), "{error}");
    }
}
