//! The forecast: what one thing costs is measured here and now ([`Costs`]), and what waiting no cost explains is fitted to a run of 24 clients; from that, in virtual time, what 10 and 100 clients get of a server
//! ([`simulation`]), beside a real run of as many; and what a cluster of up to 100,000 clients needs ([`growth`]).
//!
//! It knows nothing of locks, queues and caches that are not in its rules: where the real run differs, the forecast says by how much.

mod costs;
pub mod growth;
pub mod simulation;
mod spent;

use std::{collections::BTreeMap, time::Duration};

use herdbook_proto::ack::Wait;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    cluster::Cluster,
    load::{self, Arrival, Mix},
    node::{connect, connect_many},
    workload::Content,
};
pub use costs::{Costs, Share};
use growth::{Machine, Size, Usage};
use simulation::Forecast;
use spent::Spent;

/// Clients that the forecast is held against.
pub const REAL: [usize; 2] = [10, 100];

/// Clients that costs are measured with: one, whose every request is a commit, and many, whose requests share commits.
const COSTS: [usize; 2] = [1, 64];

/// Clients from whose rate it is taken how long requests wait for what is no cost.
const WAITING: usize = 24;

/// Runs of each number of clients.
const ROUNDS: usize = 3;

/// Clients of the table.
const SIZES: [f64; 5] = [10.0, 100.0, 1e3, 1e4, 1e5];

/// How far a forecast may be off, as a part.
pub const CLOSE: f64 = 0.25;

/// Documents that requests are on.
const DOCUMENTS: u64 = 1000;

/// What is forecast.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How long each real run takes, in milliseconds.
    pub millis: u64,
    /// What a machine has.
    pub machine: Machine,
    /// How the cluster is used.
    pub usage: Usage,
}

/// A forecast beside the real run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// What was forecast.
    pub forecast: Forecast,
    /// Requests a second of the real run.
    pub real: f64,
}

impl Held {
    /// Returns by which part the forecast is too high; negative: too low.
    pub fn off(&self) -> f64 {
        self.forecast.per_second / self.real - 1.0
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Modelled {
    /// What one thing costs.
    pub costs: Costs,
    /// Forecasts that a real run stands beside.
    pub held: Vec<Held>,
    /// What clusters need.
    pub sizes: Vec<Size>,
    /// The cluster in which a resource is just used up.
    pub wall: Size,
}

impl Modelled {
    /// Whether every forecast is close to its real run.
    pub fn is_close(&self) -> bool {
        self.held.iter().all(|held| held.off().abs() <= CLOSE)
    }
}

/// What a closed loop of clients got, and what it took.
struct Run {
    per_second: f64,
    /// Processor time for each request.
    spent: Spent,
    /// Requests of a commit.
    batch: f64,
}

/// Measures, forecasts, and compares with real runs at a coordinator alone.
///
/// # Errors
/// Those of the runs.
pub async fn model(cluster: &Cluster, plan: &Plan) -> Result<Modelled, Error> {
    let mut costs = costs::measure(cluster.folder())?;
    let mut runs = Runs::new();
    // In turns: a store grows with every run and a machine has moments, and no size is to have all of either.
    for _ in 0..ROUNDS {
        for clients in COSTS.into_iter().chain([WAITING]).chain(REAL) {
            runs.entry(clients).or_default().push(run_once(cluster, plan, clients).await?);
        }
    }
    let [alone, shared] = COSTS.map(|clients| middle(&mut runs, clients));
    let share = |of: fn(&Spent) -> f64| Share::of((of(&alone.spent), alone.batch), (of(&shared.spent), shared.batch));
    (costs.network, costs.maker, costs.writer) = (share(|spent| spent.shared), share(|spent| spent.maker), share(|spent| spent.writer));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    costs.wait = simulation::wait(&costs, cores, WAITING, middle(&mut runs, WAITING).per_second);
    let held =
        REAL.map(|clients| Held { forecast: simulation::forecast(&costs, cores, clients), real: middle(&mut runs, clients).per_second });
    let sizes = SIZES.map(|clients| growth::size(&costs, &plan.machine, &plan.usage, clients)).into();
    let wall = growth::first_wall(&costs, &plan.machine, &plan.usage);
    Ok(Modelled { costs, held: held.into(), sizes, wall })
}

/// The real runs, by number of clients.
type Runs = BTreeMap<usize, Vec<Run>>;

/// Takes the middle one of the runs of so many clients.
fn middle(runs: &mut Runs, clients: usize) -> Run {
    let mut runs = runs.remove(&clients).expect("each size was run");
    runs.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    runs.swap_remove(runs.len() / 2)
}

async fn run_once(cluster: &Cluster, plan: &Plan, clients: usize) -> Result<Run, Error> {
    let address = cluster.coordinator();
    let connections = connect_many(std::slice::from_ref(&address), clients.div_ceil(16), Content::Record, Wait::DURABLE).await?;
    load::fill(&connections, DOCUMENTS).await?;
    let warm = load::Plan {
        clients,
        arrival: Arrival::Closed,
        warm_up_millis: 0,
        measured_millis: plan.millis / 4,
        documents: DOCUMENTS,
        mix: Mix::reads(0),
        seed: 0,
    };
    load::run(&connections, &warm, |_| ()).await?;
    let server = cluster.subjects().first().map_or(0, |subject| subject.process.load(std::sync::atomic::Ordering::Relaxed));
    let (commits, spent) = (commits(&address).await?, Spent::so_far(server));
    let measured = load::run(&connections, &load::Plan { measured_millis: plan.millis, ..warm }, |_| ()).await?;
    let requests = (measured.per_second() * Duration::from_millis(plan.millis).as_secs_f64()).max(1.0);
    let spent = Spent::so_far(server).since(spent, requests);
    let commits = commits_since(&address, commits).await?;
    Ok(Run { per_second: measured.per_second(), spent, batch: (requests / commits.max(1) as f64).max(1.0) })
}

async fn commits(address: &str) -> Result<u64, Error> {
    let status = connect(address).await?.status().await.map_err(|failed| Error::call(address, failed))?;
    Ok(status.branches.iter().map(|head| head.commits).sum())
}

async fn commits_since(address: &str, before: u64) -> Result<u64, Error> {
    Ok(commits(address).await?.saturating_sub(before))
}
