//! What users would pick instead, doing the same seeded work on the same machine in the same minutes.
//!
//! A binary of its own, so that nothing of a rival is in the one that ships; `herdbook loadtest compare` starts it. Contenders take turns
//! (A B A B …), each anew, in an empty folder, and alone on the machine then; figures are medians of the rounds.

mod benchmarks;
mod contest;
mod crdts;
mod error;
mod etcd;
mod git;
mod kv;
mod library;
mod ours;
mod redis;
mod rocks;
mod rows;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use herdbook_loadtest::{cluster, report::Host};
use serde_json::json;

use crate::{
    contest::{Held, Peers, Plan, hold, table},
    error::Error,
    rows::{ROWS, Row},
};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Herdbook beside etcd, Redis, automerge, loro, yrs, RocksDB and git, row by row of the table of goals.
///
/// Both sides of a row do the same work on the same documents with the same durability, payload and number of clients; where they cannot, its
/// note says so.
#[derive(Debug, Parser)]
#[command(
    name = "herdbook-peers",
    version,
    after_help = "Examples:
  herdbook-peers --list
  herdbook-peers commit-single-64 read-64 --rounds 5
  herdbook-peers --all --json > rows.json

etcd is looked for in HERDBOOK_ETCD, on the path, and in the Python environment of the tests; redis-server and git on the path. Rows whose
peer is not here have no figure of it; beside a peer that does something else it reads `not comparable`, and is not met. A row that fails says
why, and the rest goes on. With --json: {\"rows\": [{\"name\", \"goal\", \"peer\", \"peer_value\", \"ours\", \"unit\", \"ratio\",
\"met\", \"command\", …}]}, with the samples that each is computed from."
)]
struct Args {
    /// Rows
    #[arg(value_name = "ROW", required_unless_present_any = ["all", "list"])]
    rows: Vec<String>,
    /// All rows
    #[arg(long, conflicts_with = "rows")]
    all: bool,
    /// List the rows, and do nothing
    #[arg(long, conflicts_with_all = ["rows", "all"])]
    list: bool,
    /// Rounds; each contender has its turn in each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Minutes for all rows together; what was not begun by then is left out, and says so
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Keys that are written to a server before it is measured, and worked on then
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    documents: u64,
    /// Seconds in which a server is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds before that
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up: u64,
    /// The herdbook program; left out: HERDBOOK_BIN, or the one beside this
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Folder in which data folders are made
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also write the table into this file, between its marks
    #[arg(long, value_name = "FILE")]
    benchmarks: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("herdbook-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), Error> {
    let (begun, rows) = (Instant::now(), chosen(&args)?);
    if args.list {
        for Row { name, what, goal, unit, .. } in rows {
            println!("{name:<22} {:<22} {what}", goal.text(unit));
        }
        return Ok(());
    }
    let plan = Plan {
        rounds: args.rounds,
        documents: args.documents,
        warm_up_millis: args.warm_up * 1000,
        measured_millis: args.seconds * 1000,
        binary: cluster::binary(args.binary)?,
        folder: args.folder,
        end: begun + Duration::from_secs(args.minutes * 60),
    };
    let (peers, host) = (Peers::find().await?, Host::here());
    if !host.optimised {
        eprintln!("herdbook-peers: this is no release build; what it measures is no figure");
    }
    let mut held: Vec<Held> = Vec::new();
    eprintln!("{} rows in at most {} minutes and one turn", rows.len(), args.minutes);
    for (at, row) in rows.iter().enumerate() {
        eprintln!("{} of {}, after {} s: {}", at + 1, rows.len(), begun.elapsed().as_secs(), row.what);
        held.extend(hold(&plan, &peers, row).await);
        // What was measured outlives what is broken off later.
        if let Some(path) = &args.benchmarks {
            benchmarks::write(path, &host, &held)?;
        }
    }
    if args.json {
        let text = serde_json::to_string_pretty(&json!({ "host": host, "rounds": plan.rounds, "rows": held }));
        println!("{}", text.expect("rows have text keys only"));
    } else {
        print!("{}", table(&held));
    }
    Ok(())
}

fn chosen(args: &Args) -> Result<Vec<&'static Row>, Error> {
    if args.all || args.list {
        return Ok(ROWS.iter().collect());
    }
    let find = |name: &String| ROWS.iter().find(|row| row.name == name).ok_or_else(|| Error::NoRow(name.clone()));
    args.rows.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(args: &[&str]) -> Args {
        Args::try_parse_from(["x"].iter().chain(args)).expect("well formed")
    }

    #[test]
    fn the_arguments_are_well_formed() {
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["x"]).is_err(), "nothing was asked for");
    }

    #[test]
    fn rows_are_chosen_by_name_and_unknown_ones_are_told() {
        assert_eq!(chosen(&parse(&["--all"])).expect("all").len(), ROWS.len());
        let names: Vec<_> = chosen(&parse(&["read-64", "open"])).expect("both").iter().map(|row| row.name).collect();
        assert_eq!(names, ["read-64", "open"]);
        assert!(matches!(chosen(&parse(&["reed"])), Err(Error::NoRow(name)) if name == "reed"));
    }
}
