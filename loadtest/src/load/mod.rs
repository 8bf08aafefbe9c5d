//! Load: clients that do the operations of a [`Mix`], each when its [`Arrival`] says so.
//!
//! In a closed loop a stall keeps all clients waiting, so it shows in the rate and the maximum and hardly in the percentiles; in an open loop
//! each operation that should have begun meanwhile is late, and counted so. [`search`] finds the highest rate that meets an objective.

pub mod arrival;
pub mod keys;
pub mod mix;
pub mod search;
pub(crate) mod series;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use arrival::Arrival;
pub use mix::{Kind, Mix};
pub use series::{Operations, Second};

use crate::{
    Error,
    connection::{Connection, Failure, Failures},
    workload::{Rng, client_rng},
};
use arrival::{Starts, Stretch};
use keys::Chooser;
use series::{Ended, Tallies};

/// How long a client waits after a failure, so that a server that is away is not hammered.
const PAUSE: Duration = Duration::from_millis(20);

/// How many documents one filling call is given at most.
const FILL: u64 = 1000;

/// How many connections fill at once: more only wait for each other.
const FILLERS: usize = 16;

/// What the clients do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How many clients there are. In an open loop: how many operations may be under way at once.
    pub clients: usize,
    /// When operations begin.
    pub arrival: Arrival,
    /// Time before anything is counted, in milliseconds; an open loop goes at its first rate.
    pub warm_up_millis: u64,
    /// Time in which operations are counted, in milliseconds.
    pub measured_millis: u64,
    /// Documents that are there before the run.
    pub documents: u64,
    /// What is done.
    pub mix: Mix,
    /// Seed of the clients' choices.
    pub seed: u64,
}

/// What clients did in the measured time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// By kind of operation.
    pub operations: BTreeMap<Kind, Operations>,
    /// Second by second, the warm-up included.
    pub seconds: Vec<Second>,
    /// What failed, the warm-up included.
    pub failures: Failures,
    /// Operations of an open loop that were meant to begin within the measured time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offered: Option<u64>,
    /// Those of them that never began, since the clients were still busy with earlier ones at the end. They count as having taken until then.
    pub unserved: u64,
}

impl Measured {
    /// Returns the operations a second, of all kinds.
    pub fn per_second(&self) -> f64 {
        self.operations.values().map(|operations| operations.per_second).sum()
    }
}

/// Writes the plan's documents, so that reads find them.
///
/// # Errors
/// The first failure.
pub async fn fill<C: Connection>(connections: &[C], documents: u64) -> Result<(), Error> {
    let fillers = &connections[..connections.len().min(FILLERS)];
    let shares = fillers.iter().enumerate().map(|(at, connection)| async move {
        let step = FILL * fillers.len() as u64;
        let mut start = FILL * at as u64;
        while start < documents {
            connection.fill(start..(start + FILL).min(documents)).await?;
            start += step;
        }
        Ok::<_, Failure>(())
    });
    join_all(shares).await.into_iter().collect::<Result<(), _>>().map_err(Error::Filling)
}

/// Lets the clients work, client `n` on connection `n` modulo their number, and returns what they did. Each second is told as it ends.
///
/// Each write takes the next revision of the run, so that it changes its document.
///
/// # Errors
/// [`Error::Silent`] if not one operation succeeded: with the most frequent failure.
pub async fn run<C: Connection>(connections: &[C], plan: &Plan, mut tell: impl FnMut(&Second)) -> Result<Measured, Error> {
    let begun = Instant::now();
    let start = begun + Duration::from_millis(plan.warm_up_millis);
    let end = start + Duration::from_millis(plan.measured_millis);
    let sites = connections.iter().map(Connection::site).max().unwrap_or(0) + 1;
    let documents = (0..sites).map(|site| Documents::new(plan.documents, site as u64, sites as u64));
    let work = Arc::new(Work {
        plan: plan.clone(),
        chooser: Chooser::new(plan.mix.keys, plan.documents),
        tallies: Tallies::new(),
        revisions: AtomicU64::new(1),
        documents: documents.collect(),
        unserved: AtomicU64::new(0),
        start,
        end,
    });
    let (turns, offered) = match &plan.arrival {
        Arrival::Closed => ((0..plan.clients).map(|_| None).collect::<Vec<_>>(), None),
        Arrival::Open(stretches) => {
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..plan.clients).map(|_| mpsc::unbounded_channel()).unzip();
            let offered = Starts::new(stretches).count() as u64;
            pace(begun, plan.warm_up_millis, stretches.clone(), senders);
            (receivers.into_iter().map(Some).collect(), Some(offered))
        }
    };
    let clients = connections.iter().cycle().zip(0..).zip(turns);
    let clients = clients.map(|((connection, client), turns)| {
        let client = Client { connection: connection.clone(), number: client, rng: client_rng(client, plan.seed), work: Arc::clone(&work) };
        tokio::spawn(async move {
            match turns {
                None => client.closed().await,
                Some(turns) => client.open(turns).await,
            }
        })
    });
    let (mut clients, mut seconds) = (std::pin::pin!(join_all(clients)), Vec::new());
    let mut ticks = tokio::time::interval_at((begun + Duration::from_secs(1)).into(), Duration::from_secs(1));
    loop {
        tokio::select! {
            ended = &mut clients => {
                ended.into_iter().for_each(|ended| ended.expect("a client does not panic"));
                break;
            }
            _ = ticks.tick() => {
                let second = work.tallies.second(begun.elapsed());
                tell(&second);
                seconds.push(second);
            }
        }
    }
    let (operations, failures) = work.tallies.totals((end - start).as_secs_f64(), offered.is_some());
    let measured = Measured { operations, seconds, failures, offered, unserved: work.unserved.load(Ordering::Relaxed) };
    if measured.operations.values().all(|operations| operations.percentiles.count == 0) {
        return Err(Error::Silent { failures: measured.failures });
    }
    Ok(measured)
}

/// Tells the clients of an open loop in turn when their next operation is meant to begin. A thread of its own: the runtime's timers go by
/// the millisecond, which is more than many an operation takes.
fn pace(begun: Instant, warm_up_millis: u64, stretches: Vec<Stretch>, clients: Vec<mpsc::UnboundedSender<Instant>>) {
    thread::spawn(move || {
        let warm_up = Duration::from_millis(warm_up_millis);
        let first = stretches.first().map_or(0.0, |stretch| stretch.from);
        let warming = Starts::new(&[Stretch::even(first, warm_up.as_secs_f64())]);
        let starts = warming.chain(Starts::new(&stretches).map(|start| warm_up + start));
        for (start, client) in starts.zip((0..clients.len()).cycle()) {
            let intended = begun + start;
            thread::sleep(intended.saturating_duration_since(Instant::now()));
            if clients[client].send(intended).is_err() {
                return;
            }
        }
    });
}

/// What all clients share.
struct Work {
    plan: Plan,
    chooser: Chooser,
    tallies: Tallies,
    revisions: AtomicU64,
    /// By site.
    documents: Vec<Documents>,
    unserved: AtomicU64,
    start: Instant,
    end: Instant,
}

/// The documents there are, as one site sees them: those of the beginning, and those inserted there. What another site inserted may not have
/// come yet; what was not acknowledged yet, or comes after such a one, is nobody's to read.
struct Documents {
    /// How many there were at the beginning.
    first: u64,
    site: u64,
    sites: u64,
    inserted: Mutex<Inserted>,
}

struct Inserted {
    next: u64,
    known: u64,
    /// Acknowledged beyond one that is not.
    beyond: BTreeSet<u64>,
}

impl Documents {
    fn new(first: u64, site: u64, sites: u64) -> Self {
        let inserted = Inserted { next: first, known: first, beyond: BTreeSet::new() };
        Self { first, site, sites: sites.max(1), inserted: Mutex::new(inserted) }
    }

    fn lock(&self) -> MutexGuard<'_, Inserted> {
        self.inserted.lock().expect("nobody panics while holding it")
    }

    /// Returns how many are there for certain.
    fn known(&self) -> u64 {
        self.lock().known
    }

    /// Returns the place of a new one.
    fn take(&self) -> u64 {
        let mut inserted = self.lock();
        inserted.next += 1;
        inserted.next - 1
    }

    fn acknowledge(&self, place: u64) {
        let mut inserted = self.lock();
        inserted.beyond.insert(place);
        while inserted.beyond.first() == Some(&inserted.known) {
            inserted.beyond.pop_first();
            inserted.known += 1;
        }
    }

    /// Returns the number of the document at a place: sites insert different ones.
    const fn number(&self, place: u64) -> u64 {
        match place.checked_sub(self.first) {
            None => place,
            Some(beyond) => self.first + beyond * self.sites + self.site,
        }
    }
}

struct Client<C> {
    connection: C,
    number: u64,
    rng: Rng,
    work: Arc<Work>,
}

impl<C: Connection> Client<C> {
    async fn closed(mut self) {
        while Instant::now() < self.work.end {
            let begun = Instant::now();
            self.operate(begun).await;
        }
    }

    async fn open(mut self, mut turns: mpsc::UnboundedReceiver<Instant>) {
        while let Some(intended) = turns.recv().await {
            let now = Instant::now();
            if now < self.work.end {
                self.operate(intended).await;
            } else {
                self.work.unserved.fetch_add(1, Ordering::Relaxed);
                let kind = self.work.plan.mix.choose(&mut self.rng);
                self.work.tallies.unserved(self.number, kind, now - intended);
            }
        }
    }

    async fn operate(&mut self, intended: Instant) {
        let kind = self.work.plan.mix.choose(&mut self.rng);
        let begun = Instant::now();
        let outcome = self.perform(kind).await;
        let ended = Instant::now();
        let (is_measured, is_within) = (ended >= self.work.start, ended < self.work.end);
        match outcome {
            Ok(()) => self.work.tallies.end(self.number, Ended { kind, intended, begun, ended, is_measured, is_within }),
            Err(failure) => {
                self.work.tallies.fail(self.number, failure);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn perform(&mut self, kind: Kind) -> Result<(), Failure> {
        let Work { plan: Plan { mix, .. }, chooser, revisions, documents, .. } = &*self.work;
        let documents = &documents[self.connection.site()];
        let known = documents.known();
        let place = chooser.choose(&mut self.rng, known);
        let i = documents.number(place);
        let revision = || revisions.fetch_add(1, Ordering::Relaxed);
        match kind {
            Kind::Read => self.connection.read(i).await,
            Kind::Update => self.connection.write(i, revision()).await,
            Kind::Insert => {
                let new = documents.take();
                self.connection.write(documents.number(new), revision()).await.map(|()| documents.acknowledge(new))
            }
            Kind::Scan => {
                let most = u64::from(mix.scan_length.unwrap_or(Mix::SCAN));
                self.connection.scan(i, 1 + self.rng.below(most)).await
            }
            Kind::Modify => {
                self.connection.read(i).await?;
                self.connection.write(i, revision()).await
            }
            Kind::Batch => {
                let size = u64::from(mix.batch_size.unwrap_or(Mix::BATCH)).min(known.max(1));
                let batch: Vec<_> = (place..place + size).map(|place| documents.number(place % known.max(1))).collect();
                self.connection.write_many(&batch, revision()).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
