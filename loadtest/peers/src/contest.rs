//! Contests: the contenders of a row take turns, A B A B …, each anew and alone on the machine; figures are medians of the rounds.

use std::{
    future::Future,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use herdbook_loadtest::{
    Connection,
    cluster::{Cluster, Settings, temporary_folder},
    latency,
    load::{self, Arrival, Measured, Mix},
    node::{NodeConnection, connect_many},
    percentiles::median,
    report::{plain_table, right},
    workload::{Content, Sizes},
};
use herdbook_proto::ack::Wait;
use serde::{Deserialize, Serialize};

use crate::{
    crdts::{Automerge, Loro, Yrs},
    error::Error,
    etcd::Etcd,
    git::Git,
    library::Library,
    ours::{Herdbook, Own},
    redis::Redis,
    rocks::Rocks,
    rows::{Figure, Load, Operation, Row, Work, number},
};

/// Longest turn: what takes longer hangs. What runs in this process is not ended by it, but has limits of its own.
const TURN: Duration = Duration::from_secs(300);

/// How many clients share a connection.
const CLIENTS_PER_CONNECTION: usize = 16;

/// Commits whose way to another replica is timed.
const VISIBLE: u64 = 300;

/// How contests are held.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How often each contender has its turn.
    pub(crate) rounds: u32,
    /// Keys that servers work on.
    pub(crate) documents: u64,
    /// Time before anything is counted at a server, in milliseconds.
    pub(crate) warm_up_millis: u64,
    /// Time in which operations are counted there, in milliseconds.
    pub(crate) measured_millis: u64,
    /// The herdbook program.
    pub(crate) binary: PathBuf,
    /// Where data folders are made.
    pub(crate) folder: Option<PathBuf>,
    /// When the time for all rows is over; what was not begun by then is left out.
    pub(crate) end: Instant,
}

/// What came of a row with one peer, or with none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The row's name; where it has several peers, with the peer's behind it.
    pub(crate) name: String,
    /// What is asked for.
    pub(crate) goal: String,
    /// The peer and its version; none: nobody else can do it, or not here.
    pub(crate) peer: Option<String>,
    /// Median of the peer's samples.
    pub(crate) peer_value: Option<f64>,
    /// Median of ours; none: it is not built or not measured.
    pub(crate) ours: Option<f64>,
    /// In which unit.
    pub(crate) unit: String,
    /// Ours over the peer's.
    pub(crate) ratio: Option<f64>,
    /// Whether both sides did the same, as durably; where they did not the row counts as unmet.
    pub(crate) comparable: bool,
    /// Whether the goal is met.
    pub(crate) met: bool,
    /// What does it again.
    pub(crate) command: String,
    /// What is measured.
    pub(crate) what: String,
    /// What a reader has to know beside it.
    pub(crate) note: String,
    /// The peer's samples, in order.
    pub(crate) peer_samples: Vec<f64>,
    /// Ours, in order.
    pub(crate) our_samples: Vec<f64>,
}

/// The other systems that are here.
pub(crate) struct Peers {
    etcd: Option<Etcd>,
    redis: Option<Redis>,
    git: Option<Git>,
}

/// One that takes part in a contest.
enum Contender<'a> {
    Etcd(&'a Etcd),
    Redis(&'a Redis),
    Library(Box<dyn Library>),
}

impl Peers {
    /// Finds them.
    ///
    /// # Errors
    /// Those of [`Etcd::find`].
    pub(crate) async fn find() -> Result<Self, Error> {
        Ok(Self { etcd: Etcd::find().await?, redis: Redis::find().await, git: Git::find() })
    }

    fn contender(&self, name: &str) -> Option<Contender<'_>> {
        Some(match name {
            "etcd" => Contender::Etcd(self.etcd.as_ref()?),
            "redis" => Contender::Redis(self.redis.as_ref()?),
            "git" => Contender::Library(Box::new(self.git.clone()?)),
            "automerge" => Contender::Library(Box::new(Automerge)),
            "loro" => Contender::Library(Box::new(Loro)),
            "yrs" => Contender::Library(Box::new(Yrs)),
            "rocksdb" => Contender::Library(Box::new(Rocks)),
            _ => return None,
        })
    }
}

impl Contender<'_> {
    fn version(&self) -> String {
        match self {
            Self::Etcd(etcd) => etcd.version().to_owned(),
            Self::Redis(redis) => redis.version().to_owned(),
            Self::Library(library) => library.version(),
        }
    }

    async fn sample(&self, plan: &Plan, work: Work) -> Result<Option<f64>, Error> {
        match (self, work) {
            (Self::Etcd(etcd), Work::Server(load)) => {
                let running = etcd.start(plan.folder.as_deref()).await?;
                let connections = running.connect(load.clients.div_ceil(CLIENTS_PER_CONNECTION), load.payload).await?;
                let sample = turn(plan, load, &connections).await?;
                running.stop().await;
                Ok(Some(sample))
            }
            (Self::Redis(redis), Work::Server(load)) => {
                let running = redis.start(plan.folder.as_deref()).await?;
                let connections = running.connect(load.clients, load.payload).await?;
                // It syncs each write whatever comes with it, so a batch is as many writes.
                let load = if load.operation == Operation::Batch { Load { operation: Operation::Write, ..load } } else { load };
                let sample = turn(plan, load, &connections).await?;
                running.stop().await;
                Ok(Some(sample))
            }
            (Self::Library(library), Work::Library(task)) => in_folder(plan, |folder| library.sample(task, folder)),
            (Self::Library(_), Work::Own(Own::Restore, _)) => in_folder(plan, |folder| Rocks::copy(folder).map(Some)),
            _ => Ok(None),
        }
    }
}

/// Holds the contest of a row: one result for each peer, or one alone. Who fails has no further turn, and the row's note says why.
pub(crate) async fn hold(plan: &Plan, peers: &Peers, row: &Row) -> Vec<Held> {
    let contenders: Vec<_> = row.peers.iter().map(|name| (*name, peers.contender(name))).collect();
    let mut theirs: Vec<_> = contenders.iter().map(|_| Turns::default()).collect();
    let mut ours = Turns::default();
    let rounds = row.rounds(plan.rounds);
    for round in 0..rounds {
        for ((name, contender), turns) in contenders.iter().zip(&mut theirs) {
            if let Some(contender) = contender.as_ref().filter(|_| turns.failed.is_none()) {
                eprintln!("{}: round {} of {rounds}: {name}", row.name, round + 1);
                turns.add(in_time(plan, contender.sample(plan, row.work)).await);
            }
        }
        if ours.failed.is_none() {
            eprintln!("{}: round {} of {rounds}: herdbook", row.name, round + 1);
            ours.add(in_time(plan, our_sample(plan, row.work)).await);
        }
    }
    if contenders.is_empty() {
        return vec![held(row, None, &Turns::default(), &ours)];
    }
    let results = contenders.iter().zip(&theirs);
    results
        .map(|((name, contender), turns)| {
            let version = contender.as_ref().map(Contender::version);
            held(row, Some((name, version)), turns, &ours)
        })
        .collect()
}

/// Takes a turn, if there is time left; one that waits in vain is given up.
async fn in_time(plan: &Plan, turn: impl Future<Output = Result<Option<f64>, Error>>) -> Result<Option<f64>, Error> {
    if Instant::now() >= plan.end {
        return Err(Error::TimeOver);
    }
    tokio::time::timeout(TURN, turn).await.unwrap_or(Err(Error::Hung { seconds: TURN.as_secs() }))
}

/// A contender's turns.
#[derive(Debug, Clone, Default)]
struct Turns {
    samples: Vec<f64>,
    failed: Option<String>,
}

impl Turns {
    fn add(&mut self, sample: Result<Option<f64>, Error>) {
        match sample {
            Ok(sample) => self.samples.extend(sample),
            // Medians of the rounds before would hide it.
            Err(error) => *self = Self { samples: Vec::new(), failed: Some(error.to_string()) },
        }
    }
}

/// Returns a row's result. Whether its goal is met is told by the samples beside it alone.
fn held(row: &Row, peer: Option<(&str, Option<String>)>, theirs: &Turns, ours: &Turns) -> Held {
    let (value, peer_value) = (median(ours.samples.clone()), median(theirs.samples.clone()));
    let ratio = value.zip(peer_value).filter(|(_, peer)| *peer > 0.0).map(|(ours, peer)| ours / peer);
    let name = match &peer {
        Some((peer, _)) if row.peers.len() > 1 => format!("{}/{peer}", row.name),
        _ => row.name.to_owned(),
    };
    let absent = peer.as_ref().filter(|(_, version)| version.is_none()).map(|(peer, _)| format!("{peer} is not here"));
    let is_unlike = peer.as_ref().is_some_and(|(name, _)| row.unlike.contains(name));
    let unlike = is_unlike.then(|| "not comparable".to_owned());
    let failed = [theirs, ours].map(|turns| turns.failed.as_ref().map(|why| format!("failed: {why}")));
    let notes = [unlike, Some(row.note.to_owned()).filter(|note| !note.is_empty()), absent].into_iter().chain(failed);
    Held {
        name,
        goal: row.goal.text(row.unit),
        peer: peer.and_then(|(_, version)| version),
        peer_value,
        ours: value,
        unit: row.unit.to_owned(),
        ratio,
        comparable: !is_unlike,
        met: !is_unlike && value.is_some_and(|value| row.goal.is_met(value, peer_value)),
        command: format!("herdbook loadtest compare {}", row.name),
        what: row.what.to_owned(),
        note: notes.flatten().collect::<Vec<_>>().join("; "),
        peer_samples: theirs.samples.clone(),
        our_samples: ours.samples.clone(),
    }
}

async fn our_sample(plan: &Plan, work: Work) -> Result<Option<f64>, Error> {
    let herdbook = Herdbook { binary: plan.binary.clone() };
    match work {
        Work::Server(load) => {
            let cluster = Cluster::start(&plan.cluster(0)).await?;
            let (servers, content) = ([cluster.coordinator()], Content::Payload(Sizes::exactly(load.payload)));
            let mut connections = connect_many(&servers, load.clients.div_ceil(CLIENTS_PER_CONNECTION), content, Wait::DURABLE).await?;
            if matches!(load.operation, Operation::Call | Operation::ReadCall) {
                connections = connections.into_iter().map(NodeConnection::with_calls).collect();
            }
            let sample = turn(plan, load, &connections).await?;
            cluster.stop().await;
            Ok(Some(sample))
        }
        Work::Visible(percentile) => {
            let cluster = Cluster::start(&Settings { is_meshed: false, ..plan.cluster(2) }).await?;
            let replicas = cluster.replicas();
            let commits = latency::Plan { commits: VISIBLE, pause_millis: 20, seed: 0 };
            let latency = latency::measure(&replicas[0], &replicas[1], &commits).await?;
            cluster.stop().await;
            let micros = if percentile == 50 { latency.visible.p50_micros } else { latency.visible.p99_micros };
            Ok((latency.unseen == 0).then_some(micros as f64 / 1000.0))
        }
        Work::Library(task) => in_folder(plan, |folder| herdbook.sample(task, folder)),
        Work::Own(own, documents) => in_folder(plan, |folder| herdbook.measure(own, documents, folder)),
        Work::ReadsAfterWrites => reads_after_writes(plan).await.map(Some),
    }
}

/// Does something that blocks, in a folder of its own.
fn in_folder<T>(plan: &Plan, act: impl FnOnce(&Path) -> Result<T, Error>) -> Result<T, Error> {
    let folder = temporary_folder(plan.folder.as_deref())?;
    tokio::task::block_in_place(|| act(folder.path()))
}

/// Returns how many reads a second a server answers after a load of writes, over those before it.
async fn reads_after_writes(plan: &Plan) -> Result<f64, Error> {
    let load = |operation| Load { clients: 64, payload: 100, operation, figure: Figure::Rate };
    let cluster = Cluster::start(&plan.cluster(0)).await?;
    let (servers, content) = ([cluster.coordinator()], Content::Payload(Sizes::exactly(100)));
    let connections = connect_many(&servers, 64 / CLIENTS_PER_CONNECTION, content, Wait::DURABLE).await?;
    let mut rates = Vec::new();
    for operation in [Operation::Read, Operation::Write, Operation::Read] {
        rates.push(turn(plan, load(operation), &connections).await?);
    }
    cluster.stop().await;
    Ok(rates[2] / rates[0])
}

async fn turn<C: Connection>(plan: &Plan, load: Load, connections: &[C]) -> Result<f64, Error> {
    load::fill(connections, plan.documents).await?;
    let measured = load::run(connections, &plan.load(load), |_| ()).await?;
    if measured.failures.total() > 0 {
        let first = measured.failures.0.values().next().map_or_else(String::new, |counted| counted.first.clone());
        return Err(Error::Failed { count: measured.failures.total(), first });
    }
    Ok(figure(&measured, load))
}

fn figure(measured: &Measured, load: Load) -> f64 {
    let documents = if load.operation == Operation::Batch { f64::from(Mix::BATCH) } else { 1.0 };
    match load.figure {
        Figure::Rate => measured.per_second() * documents,
        Figure::P99 => measured.operations.values().map(|operations| operations.percentiles.p99_micros as f64 / 1000.0).fold(0.0, f64::max),
    }
}

impl Plan {
    fn cluster(&self, replicas: usize) -> Settings {
        Settings { binary: self.binary.clone(), replicas, is_meshed: true, folder: self.folder.clone() }
    }

    fn load(&self, load: Load) -> load::Plan {
        let mix = match load.operation {
            Operation::Write | Operation::Call => Mix::reads(0),
            Operation::Read | Operation::ReadCall => Mix::reads(100),
            Operation::Batch => Mix { batch: 1, ..Mix::default() },
        };
        load::Plan {
            clients: load.clients,
            arrival: Arrival::Closed,
            warm_up_millis: self.warm_up_millis,
            measured_millis: self.measured_millis,
            documents: self.documents,
            mix,
            seed: 0,
        }
    }
}

/// Returns the table for people.
pub(crate) fn table(rows: &[Held]) -> String {
    let mut table = plain_table();
    table.set_header(["row", "goal", "peer", "theirs", "ours", "", "ratio", "met"]);
    let tell = |value: Option<f64>, samples: &[f64]| {
        let (least, most) = samples.iter().fold((f64::MAX, f64::MIN), |(least, most), sample| (least.min(*sample), most.max(*sample)));
        value.map_or_else(|| "-".to_owned(), |value| format!("{} ({}..{})", number(value), number(least), number(most)))
    };
    for row in rows {
        table.add_row([
            row.name.as_str().into(),
            row.goal.as_str().into(),
            row.peer.as_deref().unwrap_or("-").into(),
            right(tell(row.peer_value, &row.peer_samples)),
            right(tell(row.ours, &row.our_samples)),
            row.unit.as_str().into(),
            right(match row.ratio {
                _ if !row.comparable => "not comparable".to_owned(),
                None => "-".to_owned(),
                Some(ratio) => format!("{ratio:.2}"),
            }),
            if row.met { "yes" } else { "no" }.into(),
        ]);
    }
    let notes = rows.iter().filter(|row| !row.note.is_empty()).map(|row| format!("{}: {}\n", row.name, row.note)).collect::<String>();
    format!("{table}\n{notes}Clients and servers share the machine; medians, and least and most of the rounds.\n")
}

#[cfg(test)]
mod tests {
    use herdbook_loadtest::load::Kind;

    use super::*;
    use crate::rows::ROWS;

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).expect("it is a row")
    }

    fn turns(samples: &[f64]) -> Turns {
        Turns { samples: samples.to_vec(), failed: None }
    }

    #[test]
    fn who_fails_once_has_no_figure() {
        let mut ours = turns(&[1e9]);
        ours.add(Err(Error::Failed { count: 3, first: "wrong".to_owned() }));
        let failed = held(row("idle-link"), None, &turns(&[]), &ours);
        assert_eq!((failed.ours, failed.met), (None, false));
        assert!(failed.note.contains("3 operations failed; first: wrong"), "{}", failed.note);
    }

    #[test]
    fn whether_a_goal_is_met_follows_from_the_medians_of_the_samples() {
        let of = |ours: &[f64]| {
            held(row("commit-single-64"), Some(("etcd", Some("etcd 3.5".to_owned()))), &turns(&[10.0, 30.0, 20.0]), &turns(ours))
        };
        let met = of(&[39.0, 41.0, 90.0]);
        assert_eq!((met.peer_value, met.ours, met.ratio, met.met), (Some(20.0), Some(41.0), Some(2.05), true));
        assert_eq!((met.our_samples.len(), met.name.as_str()), (3, "commit-single-64"));
        assert!(!of(&[39.0, 38.0, 90.0]).met);
    }

    #[test]
    fn a_row_whose_peer_is_not_here_or_that_nobody_measured_is_not_met_by_it() {
        let alone = held(row("commit-single-64"), Some(("etcd", None)), &turns(&[]), &turns(&[1e9]));
        assert_eq!((alone.peer, alone.peer_value, alone.met), (None, None, false));
        assert!(alone.note.contains("etcd is not here"));
        let absent = held(row("missing-10"), None, &turns(&[]), &turns(&[]));
        assert_eq!((absent.ours, absent.met), (None, false));
        assert!(held(row("idle-link"), None, &turns(&[]), &turns(&[150.0])).met, "met by the goal alone");
    }

    #[test]
    fn beside_one_who_does_something_else_nothing_is_met() {
        let of = |peer| held(row("embedded-read"), Some((peer, Some(peer.to_owned()))), &turns(&[1.0]), &turns(&[1e9]));
        let (alike, unlike) = (of("rocksdb"), of("yrs"));
        assert!(alike.met && alike.comparable);
        assert!(!unlike.met && !unlike.comparable && unlike.note.starts_with("not comparable"), "{}", unlike.note);
    }

    #[tokio::test]
    async fn what_is_not_begun_in_time_is_left_out_and_told() {
        let plan = Plan {
            rounds: 3,
            documents: 1,
            warm_up_millis: 0,
            measured_millis: 1,
            binary: PathBuf::new(),
            folder: None,
            end: Instant::now(),
        };
        let peers = Peers { etcd: None, redis: None, git: None };
        let held = hold(&plan, &peers, row("open")).await;
        assert_eq!((held.len(), held[0].ours, held[0].met), (1, None, false));
        assert!(held[0].note.contains("the time for all rows was over"), "{}", held[0].note);
    }

    #[test]
    fn a_row_with_several_peers_is_named_with_each() {
        assert_eq!(held(row("merge-1100"), Some(("yrs", Some("yrs".to_owned()))), &turns(&[4.0]), &turns(&[2.0])).name, "merge-1100/yrs");
    }

    #[test]
    fn every_peer_of_a_row_is_known() {
        let peers = Peers { etcd: None, redis: None, git: None };
        let processes = ["etcd", "redis", "git"];
        let known = |name: &&&str| processes.contains(*name) || peers.contender(name).is_some();
        assert!(ROWS.iter().flat_map(|row| row.peers).all(|name| known(&name)));
    }

    #[test]
    fn a_batch_counts_its_documents() {
        let json = r#"{"operations":{"batch":{"per_second":7.0,"count":1,"mean_micros":1.0,"p50_micros":1,"p90_micros":1,"p95_micros":1,"p99_micros":2500,"p999_micros":1,"max_micros":1,"curve":[]}},"seconds":[],"failures":{},"unserved":0}"#;
        let measured: Measured = serde_json::from_str(json).expect("well formed");
        assert!(measured.operations.contains_key(&Kind::Batch));
        let load = |figure| Load { clients: 1, payload: 100, operation: Operation::Batch, figure };
        assert!((figure(&measured, load(Figure::Rate)) - 700.0).abs() < 1e-9);
        assert!((figure(&measured, load(Figure::P99)) - 2.5).abs() < 1e-9);
    }
}
