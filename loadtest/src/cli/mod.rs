//! The arguments of `herdbook loadtest`, and what they run.

mod chaos;
mod compare;
mod model;
mod run;
mod scene;
mod target;

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use serde_json::json;

use crate::{
    Error,
    check::{self, Checked},
    cluster::Cluster,
    fanout,
    html::Page,
    latency,
    percentiles::Percentiles,
    report::{Report, check_text, fanout_table, latency_table},
    workload::DOCS_SCHEMA,
};
use target::{Own, Target};

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
    /// Measure how many operations clients get done, and how long each takes
    #[command(after_help = "\
Examples:
  herdbook loadtest run --clients 64 --seconds 10                       closed loop: each client waits for its answer
  herdbook loadtest run --rate 5000 --ycsb a --html report.html         open loop, latency from the intended start
  herdbook loadtest run --rate 1000 --objective 'p99<20ms'              the highest rate at which that holds
  herdbook loadtest run --target http://127.0.0.1:7710 --mix mine.yaml --payload 100..4096
  herdbook loadtest run storm --replicas 4 --seconds 20                 replicas edited offline come back at once
  herdbook loadtest run chaos --seconds 60 --seed 7                     with faults, and a checker

A mix is YAML: weights `read`, `update`, `insert`, `scan`, `modify`, `batch`; `scan_length`, `batch_size`; `keys: uniform`, `zipfian` or
`latest`. It ends with exit code 1 if an operation failed, or no rate met the objective. A read that finds another document than was written
counts as failed; where clients of several servers write one record at once its fields merge, so there `check` tells more.")]
    Run(Box<run::RunArgs>),
    /// Compare two reports of `run`, or Herdbook with what users would pick instead
    #[command(after_help = "\
Examples:
  herdbook loadtest compare before.json after.json
  herdbook loadtest compare a.json,b.json c.json,d.json       several runs a side, with commas between
  herdbook loadtest compare --list
  herdbook loadtest compare commit-single-64 --rounds 5
  herdbook loadtest compare --all --json > rows.json

Names are rows of the table of goals; the second binary, herdbook-peers, runs them and must lie beside this one.")]
    Compare(compare::CompareArgs),
    /// Measure how long commits of one writer take to many watchers
    #[command(after_help = "\
Examples:
  herdbook loadtest fanout --watchers 1000 --commits 500 --rate 50
  herdbook loadtest fanout --target http://127.0.0.1:7710 --watchers 200

It ends with exit code 1 if a watcher was not told of a commit within ten seconds of the last, or was told twice.")]
    Fanout(FanoutArgs),
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
    /// Forecast what larger clusters need, from costs measured here, and hold it against real runs
    #[command(after_help = "\
Examples:
  herdbook loadtest model
  herdbook loadtest model --hourly 36 --at-replica 500 --cores 8 --json

Costs of one signature, one commit, one frame, one sync and one request are measured here; from them it is forecast in virtual time what 10 and
100 clients get, beside real runs of as many, and what 10 to 100,000 clients need of processor, bytes, memory and messages, up to the first
resource that is used up. It ends with exit code 1 if a forecast is off by more than a quarter. Machines of the protocol are not run in it: it
knows their rules and nothing of locks and caches.")]
    Model(model::ModelArgs),
    /// Print the schema that the workloads need, as JSON
    #[command(after_help = "\
Example:
  herdbook loadtest schema > load.json && herdbook dev --schema load.json")]
    Schema,
}

#[derive(Debug, Clone, ClapArgs)]
struct FanoutArgs {
    #[command(flatten)]
    target: Target,
    /// Watchers, spread over the servers
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    watchers: u32,
    /// Commits
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    commits: u64,
    /// Commits a second
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
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

    /// Returns the first word of what a run tells.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Well => "PASS",
            Self::Faulty => "FAIL",
        }
    }

    const fn of(is_well: bool) -> Self {
        if is_well { Self::Well } else { Self::Faulty }
    }
}

/// Runs what the arguments say and prints the report to standard output: as JSON, or as tables for people.
///
/// # Errors
/// [`Error`] if it came to no result.
pub async fn run(args: Args, as_json: bool) -> Result<Verdict, Error> {
    match args.command {
        Command::Run(args) => run::run(*args, as_json).await,
        Command::Compare(args) => compare::run(args, as_json).await,
        Command::Fanout(args) => fan_out(args, as_json).await,
        Command::Latency(args) => time(args, as_json).await,
        Command::Check(args) => check_word(args, as_json).await,
        Command::Model(args) => model::run(args, as_json).await,
        Command::Schema => {
            print!("{DOCS_SCHEMA}");
            Ok(Verdict::Well)
        }
    }
}

async fn fan_out(args: FanoutArgs, as_json: bool) -> Result<Verdict, Error> {
    let servers = args.target.open(true).await?;
    let plan = fanout::Plan { watchers: args.watchers as usize, commits: args.commits, rate: f64::from(args.rate) };
    let ends = servers.ends();
    let fanned = fanout::measure(&ends[0], &ends, &plan).await?;
    servers.close().await;
    let (text, verdict) = (fanout_table(&fanned), Verdict::of(fanned.unseen == 0 && fanned.repeated == 0));
    let line = format!("{} events, {} not seen, {} seen again", fanned.events, fanned.unseen, fanned.repeated);
    let rows = vec![("seen by a watcher", fanned.visible)];
    let report = Report::new("fanout", plan, fanned);
    page(&args.target.own, "Commits on their way to watchers", verdict, &line, &report, &rows)?;
    finish(&args.target.own, &report, &format!("{} {line}\n{text}", verdict.word()), as_json)?;
    Ok(verdict)
}

async fn time(args: LatencyArgs, as_json: bool) -> Result<Verdict, Error> {
    let servers = args.target.open(false).await?;
    let ends =
        servers.cluster.as_ref().map(Cluster::replicas).filter(|replicas| replicas.len() > 1).unwrap_or_else(|| servers.nodes.clone());
    let [writer, watcher, ..] = &ends[..] else {
        return Err(Error::TooFewNodes { actual: ends.len() });
    };
    let plan = latency::Plan { commits: args.commits, pause_millis: args.pause, seed: args.target.seed };
    let latency = latency::measure(writer, watcher, &plan).await?;
    let (text, verdict) = (latency_table(&latency), Verdict::of(latency.unseen == 0));
    servers.close().await;
    let line = format!("{} commits seen, {} not seen", latency.visible.count, latency.unseen);
    let rows = vec![("acknowledged", latency.acknowledged), ("seen at the other", latency.visible)];
    let report = Report::new("latency", plan, latency);
    page(&args.target.own, "Commits on their way to another member", verdict, &line, &report, &rows)?;
    finish(&args.target.own, &report, &format!("{} {line}\n{text}", verdict.word()), as_json)?;
    Ok(verdict)
}

async fn check_word(args: CheckArgs, as_json: bool) -> Result<Verdict, Error> {
    let servers = args.target.open(true).await?;
    let plan = check::Plan {
        clients: usize::from(args.clients),
        millis: args.seconds * 1000,
        least: args.least,
        settle_millis: args.settle * 1000,
        seed: args.target.seed,
    };
    let checked = check::check(&servers.nodes, &plan).await?;
    let (text, verdict) = (check_text(&checked), Verdict::of(checked.findings.is_empty() && checked.failures.total() == 0));
    servers.close().await;
    let Checked { acknowledged, findings, failures, .. } = &checked;
    let line = format!("{acknowledged} writes acknowledged, {} failed, {} findings", failures.total(), findings.len());
    let report = Report::new("check", plan, checked);
    page(&args.target.own, "What was acknowledged, and what members hold", verdict, &line, &report, &[])?;
    finish(&args.target.own, &report, &format!("{} {line}\n{text}", verdict.word()), as_json)?;
    Ok(verdict)
}

/// Writes a page with percentiles and what was asked for and found, if one was asked for.
fn page<P: Serialize, R: Serialize>(
    own: &Own,
    title: &str,
    verdict: Verdict,
    line: &str,
    report: &Report<P, R>,
    rows: &[(&str, Percentiles)],
) -> Result<(), Error> {
    let Some(path) = &own.html else { return Ok(()) };
    let mut page = Page::new(title, verdict == Verdict::Well, &format!("{} {line}", verdict.word()));
    page.percentiles(rows);
    page.facts(&report.host, &json!(report.plan));
    let result = json!(report.result);
    let found = result["findings"].as_array().into_iter().flatten().map(|finding| vec![finding.to_string()]);
    page.table("Findings", &["finding"], found.collect());
    page.save(path)
}

/// Writes the report where it was asked for, and prints it.
fn finish<P: Serialize, R: Serialize>(own: &Own, report: &Report<P, R>, text: &str, as_json: bool) -> Result<(), Error> {
    if let Some(path) = &own.report {
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

    /// The fault: only `run` wrote its page.
    #[test]
    fn every_workload_writes_its_page() {
        let folder = tempfile::tempdir().expect("made");
        let path = folder.path().join("page.html");
        let own = Own { binary: None, folder: None, report: None, html: Some(path.clone()) };
        let result = json!({ "findings": [{ "finding": "lost" }] });
        let report = Report::new("check", json!({ "clients": 7 }), result);
        let mut durations = crate::percentiles::Durations::default();
        durations.record(std::time::Duration::from_micros(1_234));
        page(&own, "Title", Verdict::Faulty, "one finding", &report, &[("acknowledged", durations.percentiles())]).expect("written");
        let html = std::fs::read_to_string(&path).expect("there");
        for part in ["Title", "FAIL one finding", "acknowledged", "1.234", "clients", "lost"] {
            assert!(html.contains(part), "{part}");
        }
    }

    #[test]
    fn only_a_faulty_run_has_an_exit_code() {
        assert_eq!([true, false].map(|is_well| Verdict::of(is_well).exit_code()), [0, 1]);
    }
}
