//! The arguments of `herdbook loadtest`, and what they run.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use herdbook_proto::ack::{Level, Wait};
use serde::Serialize;

use crate::{
    Error, check,
    closed_loop::{self, fill},
    cluster::{self, Cluster},
    latency,
    node::connect_many,
    report::{Report, check_text, latency_table, run_table},
    workload::{Content, DOCS_SCHEMA, N},
};

/// How many clients share a connection unless told otherwise.
const CLIENTS_PER_CONNECTION: usize = 16;

/// How long nodes may take to come to the same state after the documents were written.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(120);

/// Puts load on a cluster: how many commits and reads it takes, how fast commits travel, whether it keeps its word.
///
/// Without --target a cluster is started on loopback with data folders of its own, and removed afterwards.
#[derive(Debug, Clone, ClapArgs)]
#[command(after_help = "Examples:
  herdbook loadtest run --clients 64 --seconds 10
  herdbook loadtest run --target http://127.0.0.1:7710 --reads 90
  herdbook loadtest latency --commits 500
  herdbook loadtest check --replicas 3 --seconds 20

A cluster given with --target needs the collections of `herdbook loadtest schema`. The exit code is 0
if all is well, 1 if something is not as it should be, and otherwise as of every command.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Measure how many commits and reads clients get that each wait for their answer (closed loop)
    #[command(after_help = "\
Examples:
  herdbook loadtest run --clients 64 --seconds 10
  herdbook loadtest run --reads 0 --payload 100 --report commits.json
  herdbook loadtest run --target http://127.0.0.1:7710 --target http://127.0.0.1:7711 --copies 2

It ends with exit code 1 if an operation failed. The figures of each kind of operation are operations a second and percentiles in
milliseconds. A read that finds another document than was written counts as failed; where clients of several servers write one record at
once its fields merge, so there `check` tells more.")]
    Run(RunArgs),
    /// Measure how long a commit at one node takes until a watch at another tells of it
    #[command(after_help = "\
Examples:
  herdbook loadtest latency --commits 500
  herdbook loadtest latency --target http://127.0.0.1:7710 --target http://127.0.0.1:7711

Commits go to the first node and are watched at the second. In a cluster that is started here the two are replicas that reach each other
through the coordinator only. It ends with exit code 1 if a commit was not seen within ten seconds.")]
    Latency(LatencyArgs),
    /// Write, and compare what was acknowledged with what every node holds
    #[command(after_help = "\
Examples:
  herdbook loadtest check --replicas 3 --seconds 20
  herdbook loadtest check --target http://127.0.0.1:7700 --target http://127.0.0.1:7710 --least 100000

Every document and commit that was acknowledged must be at every node, and nothing else of this run. It ends with exit code 1 if it is not
so, and names each document.")]
    Check(CheckArgs),
    /// Print the schema that the workloads need, as JSON
    #[command(after_help = "\
Example:
  herdbook loadtest schema > load.json && herdbook dev --schema load.json")]
    Schema,
}

/// Where load is put.
#[derive(Debug, Clone, ClapArgs)]
struct Target {
    /// Address of a running server; may be repeated. Without one, a cluster is started
    #[arg(long, value_name = "URL")]
    target: Vec<String>,
    /// Replicas of a cluster that is started
    #[arg(long, value_name = "N", default_value_t = 2, conflicts_with = "target")]
    replicas: usize,
    /// Program that a cluster is started from; left out: HERDBOOK_BIN, or this one
    #[arg(long, value_name = "PATH", conflicts_with = "target")]
    binary: Option<PathBuf>,
    /// Folder in which a cluster that is started makes its data folders
    #[arg(long, value_name = "DIR", conflicts_with = "target")]
    folder: Option<PathBuf>,
    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Seed of all choices
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

#[derive(Debug, Clone, ClapArgs)]
struct RunArgs {
    #[command(flatten)]
    target: Target,
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// Connections; left out: one for every 16 clients, and at least one for each server
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: Option<u16>,
    /// Seconds that are measured
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Seconds before that
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warm_up: u64,
    /// Documents that are there before the run and that it works on
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=N))]
    documents: u64,
    /// Reads in a hundred operations
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    reads: u8,
    /// Write one text of so many bytes, at least 16, instead of records of eight fields
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(16..=900_000))]
    payload: Option<u32>,
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

#[derive(Debug, Clone, ClapArgs)]
struct LatencyArgs {
    #[command(flatten)]
    target: Target,
    /// Commits, one at a time
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    commits: u64,
    /// Longest pause before each, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(0..=60_000))]
    pause: u64,
}

#[derive(Debug, Clone, ClapArgs)]
struct CheckArgs {
    #[command(flatten)]
    target: Target,
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// Seconds that they write
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Fewest acknowledged writes from which the result counts
    #[arg(long, value_name = "N", default_value_t = 1000)]
    least: u64,
    /// Seconds that the nodes may take to come to the same state
    #[arg(long, value_name = "N", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3600))]
    settle: u64,
}

/// How a run ended that came to a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Everything was as it should be.
    Well,
    /// Operations failed, or nodes broke their word; the report says which.
    Faulty,
}

impl Verdict {
    /// Returns the exit code that stands for it.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Faulty => 1,
        }
    }

    const fn of(is_well: bool) -> Self {
        if is_well { Self::Well } else { Self::Faulty }
    }
}

#[derive(Debug, Serialize)]
struct RunPlan {
    nodes: Vec<String>,
    connections: usize,
    content: String,
    level: String,
    accepted: bool,
    copies: u32,
    model: &'static str,
    #[serde(flatten)]
    clients: closed_loop::Plan,
}

/// Runs what the arguments say and prints the report to standard output: as JSON, or as tables for people.
///
/// # Errors
/// [`Error`] if it came to no result.
pub async fn run(args: Args, as_json: bool) -> Result<Verdict, Error> {
    match args.command {
        Command::Run(args) => measure(args, as_json).await,
        Command::Latency(args) => time(args, as_json).await,
        Command::Check(args) => compare(args, as_json).await,
        Command::Schema => {
            print!("{DOCS_SCHEMA}");
            Ok(Verdict::Well)
        }
    }
}

async fn measure(args: RunArgs, as_json: bool) -> Result<Verdict, Error> {
    let (cluster, nodes) = open(&args.target, true).await?;
    // A cluster of its own is worked on at its replicas, as its users would.
    let servers = cluster.as_ref().map(Cluster::replicas).filter(|replicas| !replicas.is_empty()).unwrap_or_else(|| nodes.clone());
    let content = args.payload.map_or(Content::Record, |len| Content::Payload(len as usize));
    let local = match args.level {
        Held::Memory => Level::Memory,
        Held::Process => Level::Process,
        Held::Durable => Level::Durable,
    };
    let wait = Wait { local, accepted: args.accepted, copies: args.copies, timeout: None };
    let clients = usize::from(args.clients);
    let count = args.connections.map_or_else(|| clients.div_ceil(CLIENTS_PER_CONNECTION).max(servers.len()), usize::from);
    let connections = connect_many(&servers, count, content, wait).await?;
    let plan = closed_loop::Plan {
        clients,
        warm_up_millis: args.warm_up * 1000,
        measured_millis: args.seconds * 1000,
        documents: args.documents,
        reads_percent: args.reads,
        seed: args.target.seed,
    };
    fill(&connections, plan.documents).await?;
    check::settle(&nodes, SETTLE).await?;
    let measured = closed_loop::run(&connections, &plan).await?;
    let verdict = Verdict::of(measured.failures.total() == 0);
    let plan = RunPlan {
        nodes: servers,
        connections: count,
        content: args.payload.map_or_else(|| "records".to_owned(), |len| format!("{len} bytes")),
        level: format!("{local:?}").to_lowercase(),
        accepted: args.accepted,
        copies: args.copies,
        model: "closed",
        clients: plan,
    };
    let text = run_table(&measured);
    finish(cluster, &args.target, &Report::new("run", plan, measured), &text, as_json).await?;
    Ok(verdict)
}

async fn time(args: LatencyArgs, as_json: bool) -> Result<Verdict, Error> {
    let (cluster, nodes) = open(&args.target, false).await?;
    let ends = cluster.as_ref().map(Cluster::replicas).filter(|replicas| replicas.len() > 1).unwrap_or(nodes);
    let [writer, watcher, ..] = &ends[..] else {
        return Err(Error::TooFewNodes { actual: ends.len() });
    };
    let plan = latency::Plan { commits: args.commits, pause_millis: args.pause, seed: args.target.seed };
    let latency = latency::measure(writer, watcher, &plan).await?;
    let (text, verdict) = (latency_table(&latency), Verdict::of(latency.unseen == 0));
    finish(cluster, &args.target, &Report::new("latency", plan, latency), &text, as_json).await?;
    Ok(verdict)
}

async fn compare(args: CheckArgs, as_json: bool) -> Result<Verdict, Error> {
    let (cluster, nodes) = open(&args.target, true).await?;
    let plan = check::Plan {
        clients: usize::from(args.clients),
        millis: args.seconds * 1000,
        least: args.least,
        settle_millis: args.settle * 1000,
        seed: args.target.seed,
    };
    let checked = check::check(&nodes, &plan).await?;
    let (text, verdict) = (check_text(&checked), Verdict::of(checked.findings.is_empty() && checked.failures.total() == 0));
    finish(cluster, &args.target, &Report::new("check", plan, checked), &text, as_json).await?;
    Ok(verdict)
}

/// Returns the servers given, or starts a cluster and returns its members.
async fn open(target: &Target, is_meshed: bool) -> Result<(Option<Cluster>, Vec<String>), Error> {
    if !target.target.is_empty() {
        return Ok((None, target.target.clone()));
    }
    let binary = cluster::binary(target.binary.clone())?;
    let cluster =
        Cluster::start(&cluster::Settings { binary, replicas: target.replicas, is_meshed, folder: target.folder.clone() }).await?;
    let nodes = cluster.nodes();
    Ok((Some(cluster), nodes))
}

async fn finish<P: Serialize + Sync, R: Serialize + Sync>(
    cluster: Option<Cluster>,
    target: &Target,
    report: &Report<P, R>,
    text: &str,
    as_json: bool,
) -> Result<(), Error> {
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
    if let Some(path) = &target.report {
        report.save(path)?;
    }
    if as_json {
        println!("{}", report.json());
    } else {
        print!("{text}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Mounted {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_arguments_are_well_formed() {
        Mounted::command().debug_assert();
    }

    #[test]
    fn a_given_cluster_takes_no_settings_of_one_that_is_started() {
        for args in [
            &["x", "run", "--target", "http://a:1", "--replicas", "3"][..],
            &["x", "run", "--clients", "0"],
            &["x", "run", "--reads", "101"],
        ] {
            assert!(Mounted::try_parse_from(args).is_err(), "{args:?}");
        }
        let parsed = Mounted::try_parse_from(["x", "check", "--target", "http://a:1", "--target", "http://b:1"]).expect("well formed");
        assert!(matches!(parsed.args.command, Command::Check(CheckArgs { target, .. }) if target.target.len() == 2));
    }

    #[tokio::test]
    async fn latency_takes_two_nodes() {
        let parsed = Mounted::try_parse_from(["x", "latency", "--target", "http://127.0.0.1:1"]).expect("well formed");
        assert!(matches!(run(parsed.args, false).await, Err(Error::TooFewNodes { actual: 1 })));
    }

    #[test]
    fn only_a_faulty_run_has_an_exit_code() {
        assert_eq!([true, false].map(|is_well| Verdict::of(is_well).exit_code()), [0, 1]);
    }
}
