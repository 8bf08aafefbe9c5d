//! `loadtest run`: operations of a mix, in a closed or an open loop, or in search of the highest rate.

use std::{path::PathBuf, time::Instant};

use clap::{Args, Subcommand, ValueEnum};
use herdbook_proto::ack::{Level, Wait};
use serde::Serialize;

use super::{
    Verdict, chaos, scene,
    target::{Own, Servers, Target},
};
use crate::{
    Error, check,
    html::Page,
    live::Live,
    load::{
        self, Arrival, Measured, Mix, Plan,
        arrival::{Rates, Stretch},
        keys::Keys,
        mix::Ycsb,
        search::{self, Objective, Step},
    },
    node::{NodeConnection, connect_many},
    report::{Report, run_table, search_table},
    sampler::{Sample, Sampler},
    scenes::Scene,
    workload::{Content, N, Sizes},
};

/// How many clients share a connection unless told otherwise.
const CLIENTS_PER_CONNECTION: usize = 16;

/// Most connections unless told otherwise: with thousands of clients, more would only measure handshakes.
const CONNECTIONS: usize = 64;

/// How long nodes may take to come to the same state after the documents were written.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(120);

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct RunArgs {
    #[command(subcommand)]
    workload: Option<Workload>,
    #[command(flatten)]
    load: LoadArgs,
}

#[derive(Debug, Clone, Subcommand)]
enum Workload {
    /// Make faults in a cluster of its own under load, and check that it keeps its word
    Chaos(chaos::ChaosArgs),
    /// Append messages to rooms that everybody watches; each must be told to all, once and in order
    Chat(scene::SceneArgs),
    /// Edit a few texts, everybody at once; no insertion may be lost or doubled, and all members must show the same
    Pages(scene::SceneArgs),
    /// Cut off all servers that clients are at, edit, and bring them back at once; nothing may be lost
    Storm(scene::SceneArgs),
    /// Take back what one session did while others write
    Revert(scene::SceneArgs),
    /// Start the next version of the schema while everybody writes, and promote it; it takes a new version of the cluster's schema
    Rollout(scene::SceneArgs),
    /// Write many documents in large requests
    Import(scene::ImportArgs),
}

#[derive(Debug, Clone, Args)]
struct LoadArgs {
    #[command(flatten)]
    target: Target,
    /// Clients; of an open loop: operations that may be under way at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    clients: u16,
    /// Connections; left out: one for every 16 clients up to 64, and at least one for each server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Option<u16>,
    /// Make each write or read of a document a call of its own, instead of a message of a stream that all on a connection share
    #[arg(long)]
    calls: bool,
    /// Open loop: operations a second; 1000,2000 one after another, 1000..5000 rising. Left out: closed loop
    #[arg(long, value_name = "RATE")]
    rate: Option<Rates>,
    /// Search for the highest rate at which this holds, as p99<20ms, beginning at --rate
    #[arg(long, value_name = "OBJECTIVE", requires = "rate")]
    objective: Option<Objective>,
    /// Most rates that the search tries
    #[arg(long, value_name = "N", default_value_t = 12, requires = "objective")]
    steps: u8,
    /// Seconds that are measured; of a search: at each rate
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Seconds before that
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warm_up: u64,
    /// Documents that are there before the run and that it works on
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=N))]
    documents: u64,
    /// Reads in a hundred operations, the rest updates
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,
    /// One of YCSB's workloads instead
    #[arg(long, value_enum, ignore_case = true, conflicts_with_all = ["reads", "mix"])]
    ycsb: Option<Ycsb>,
    /// A mix of operations from a YAML file instead
    #[arg(long, value_name = "FILE", conflicts_with = "reads")]
    mix: Option<PathBuf>,
    /// How documents are chosen; left out: as the mix says, or uniformly
    #[arg(long, value_enum)]
    keys: Option<Keys>,
    /// Write one text of so many bytes, or as 100..4096, instead of records of eight fields
    #[arg(long, value_name = "BYTES")]
    payload: Option<Sizes>,
    /// How safely the answering server must hold a commit
    #[arg(long, value_enum, default_value_t = Held::Durable)]
    level: Held,
    /// Also wait until the authority has accepted it
    #[arg(long)]
    accepted: bool,
    /// Also wait until so many servers hold it durably
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    copies: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Held {
    Memory,
    Process,
    Durable,
}

#[derive(Debug, Clone, Serialize)]
struct Asked {
    nodes: Vec<String>,
    connections: usize,
    calls: bool,
    content: String,
    level: String,
    accepted: bool,
    copies: u32,
    #[serde(flatten)]
    plan: Plan,
}

/// What came of a run, and how the nodes fared.
#[derive(Debug, Serialize)]
struct Ran {
    #[serde(flatten)]
    measured: Measured,
    nodes: Vec<Sample>,
}

/// What came of a search.
#[derive(Debug, Serialize)]
struct Searched {
    objective: Objective,
    /// The highest rate at which it held.
    highest: Option<f64>,
    steps: Vec<Step>,
}

pub(super) async fn run(args: RunArgs, as_json: bool) -> Result<Verdict, Error> {
    match args.workload {
        Some(Workload::Chaos(args)) => chaos::run(args, as_json).await,
        Some(Workload::Chat(args)) => scene::run(Scene::Chat, args, as_json).await,
        Some(Workload::Pages(args)) => scene::run(Scene::Pages, args, as_json).await,
        Some(Workload::Storm(args)) => scene::run(Scene::Storm, args, as_json).await,
        Some(Workload::Revert(args)) => scene::run(Scene::Revert, args, as_json).await,
        Some(Workload::Rollout(args)) => scene::run(Scene::Rollout, args, as_json).await,
        Some(Workload::Import(args)) => scene::import(args, as_json).await,
        None => measure(args.load, as_json).await,
    }
}

async fn measure(args: LoadArgs, as_json: bool) -> Result<Verdict, Error> {
    let mut mix = match (args.ycsb, &args.mix) {
        (Some(workload), _) => Mix::ycsb(workload),
        (None, Some(path)) => Mix::open(path)?,
        (None, None) => Mix::reads(args.reads),
    };
    mix.keys = args.keys.unwrap_or(mix.keys);
    let servers = args.target.open(true).await?;
    let content = args.payload.map_or(Content::Record, Content::Payload);
    let local = match args.level {
        Held::Memory => Level::Memory,
        Held::Process => Level::Process,
        Held::Durable => Level::Durable,
    };
    let wait = Wait { local, accepted: args.accepted, copies: args.copies, timeout: None };
    let (clients, ends) = (usize::from(args.clients), servers.ends());
    let count = clients.div_ceil(CLIENTS_PER_CONNECTION).clamp(ends.len(), CONNECTIONS.max(ends.len()));
    let count = args.connections.map_or(count, usize::from);
    let mut connections = connect_many(&ends, count, content, wait).await?;
    if args.calls {
        connections = connections.into_iter().map(NodeConnection::with_calls).collect();
    }
    let seconds = args.seconds as f64;
    let plan = Plan {
        clients,
        arrival: args.rate.as_ref().map_or(Arrival::Closed, |rates| Arrival::Open(rates.over(seconds))),
        warm_up_millis: args.warm_up * 1000,
        measured_millis: args.seconds * 1000,
        documents: args.documents,
        mix,
        seed: args.target.seed,
    };
    load::fill(&connections, plan.documents).await?;
    check::settle(&servers.nodes, SETTLE).await?;
    let asked = Asked {
        nodes: ends,
        connections: count,
        calls: args.calls,
        content: args.payload.map_or_else(|| "records".to_owned(), |sizes| sizes.to_string()),
        level: format!("{local:?}").to_lowercase(),
        accepted: args.accepted,
        copies: args.copies,
        plan,
    };
    match (args.objective, &args.rate) {
        (Some(objective), Some(rates)) => {
            let found = search(&connections, &asked.plan, objective, rates.first(), usize::from(args.steps)).await?;
            servers.close().await;
            tell_search(&args.target.own, asked, found, as_json)
        }
        _ => {
            let ran = observe(&servers, &connections, &asked.plan).await?;
            servers.close().await;
            tell(&args.target.own, asked, ran, as_json)
        }
    }
}

async fn observe(servers: &Servers, connections: &[NodeConnection], plan: &Plan) -> Result<Ran, Error> {
    let (sampler, live) = (Sampler::start(servers.subjects(), Instant::now()), Live::here());
    let measured = load::run(connections, plan, |second| live.show(second, &sampler.newest(), "")).await;
    let nodes = sampler.stop();
    Ok(Ran { measured: measured?, nodes })
}

async fn search(connections: &[NodeConnection], plan: &Plan, objective: Objective, first: f64, steps: usize) -> Result<Searched, Error> {
    let live = Live::here();
    let tried = search::search(&objective, first, steps, |rate| {
        let stretch = Stretch::even(rate, plan.measured_millis as f64 / 1000.0);
        let (plan, live) = (Plan { arrival: Arrival::Open(vec![stretch]), ..plan.clone() }, &live);
        async move { load::run(connections, &plan, |second| live.show(second, &[], &format!("{rate:.0}/s"))).await }
    });
    let steps = tried.await?;
    Ok(Searched { objective, highest: search::highest(&steps).map(|step| step.rate), steps })
}

fn tell(own: &Own, asked: Asked, ran: Ran, as_json: bool) -> Result<Verdict, Error> {
    let verdict = Verdict::of(ran.measured.failures.total() == 0);
    let line = format!(
        "{} {:.0} operations a second, {} failed, {} never begun",
        verdict.word(),
        ran.measured.per_second(),
        ran.measured.failures.total(),
        ran.measured.unserved
    );
    let text = format!("{line}\n{}", run_table(&ran.measured));
    let report = Report::new("run", asked, ran);
    if let Some(path) = &own.html {
        let mut page = Page::new("Herdbook under load", verdict == Verdict::Well, &line);
        page.facts(&report.host, &serde_json::json!(report.plan));
        page.operations(report.result.measured.operations.iter());
        page.seconds(&report.result.measured.seconds, &[]);
        page.nodes(&report.result.nodes, &[]);
        page.save(path)?;
    }
    super::finish(own, &report, &text, as_json)?;
    Ok(verdict)
}

fn tell_search(own: &Own, asked: Asked, found: Searched, as_json: bool) -> Result<Verdict, Error> {
    let verdict = Verdict::of(found.highest.is_some());
    let line = found
        .highest
        .map_or_else(|| "the objective was missed at every rate tried".to_owned(), |rate| format!("highest rate: {rate:.0}/s"));
    let text = format!("{} {line}\n{}", verdict.word(), search_table(&found.steps));
    let report = Report::new("search", asked, found);
    if let Some(path) = &own.html {
        let mut page = Page::new("Highest rate within an objective", verdict == Verdict::Well, &line);
        page.facts(&report.host, &serde_json::json!(report.plan));
        if let Some(step) = search::highest(&report.result.steps) {
            page.operations(step.measured.operations.iter());
            page.seconds(&step.measured.seconds, &[]);
        }
        page.save(path)?;
    }
    super::finish(own, &report, &text, as_json)?;
    Ok(verdict)
}
