//! `herdbook demo`: a cluster of processes on loopback that imports, merges, loses its server, comes back and migrates, and checks each of
//! these. It ends with a failure if any of it is not so.
//!
//! One file a scene; `cluster` starts and kills the processes, `ledger` keeps what was acknowledged, outside of all nodes.

mod cluster;
mod import;
mod ledger;
mod loss;
mod merge;
mod rollout;
mod verify;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;

use self::cluster::Cluster;
use crate::errors::Error;
pub(crate) use verify::{VerifyArgs, verify};

/// How long anything may take to become so.
const PATIENCE: Duration = Duration::from_secs(90);

/// How the demo is run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook demo                 everything is in a temporary folder and gone afterwards
  herdbook demo --keep          the cluster stays up; what to try next is printed

Starts one coordinator and three replicas as processes of their own on loopback. Takes about two minutes.")]
pub(crate) struct DemoArgs {
    /// Leave the cluster up at the end
    #[arg(long)]
    keep: bool,
    /// The cities to import, JSON lines, gzip
    #[arg(long, value_name = "FILE", default_value = "data/cities15000.jsonl.gz")]
    cities: PathBuf,
    /// Their schema
    #[arg(long, value_name = "FILE", default_value = "data/cities.schema.json")]
    schema: PathBuf,
}

/// Figures of one scene.
pub(crate) struct Figures {
    scene: &'static str,
    documents: u64,
    commits: u64,
    bytes: u64,
    time: Duration,
}

/// Runs the demo.
pub(crate) async fn demo(args: DemoArgs) -> Result<(), Error> {
    let folder = tempfile::Builder::new().prefix("herdbook-demo-").tempdir().map_err(|source| file("a temporary folder", source))?;
    let mut cluster = Cluster::start(folder.path(), &args.schema).await?;
    let outcome = scenes(&mut cluster, &args).await;
    let figures = match outcome {
        Ok(figures) => figures,
        Err(error) => {
            cluster.tell_logs();
            return Err(error);
        }
    };
    summary(&figures);
    if args.keep {
        let kept = folder.keep();
        cluster.keep(&kept);
    } else {
        cluster.stop().await;
    }
    Ok(())
}

async fn scenes(cluster: &mut Cluster, args: &DemoArgs) -> Result<Vec<Figures>, Error> {
    Ok(vec![
        scene(cluster, "import", "import 34,006 cities through replica 1", async |cluster| import::run(cluster, &args.cities).await)
            .await?,
        scene(cluster, "merge", "edit on two replicas that are cut off, and bring them back", merge::run).await?,
        scene(cluster, "loss", "kill the coordinator, delete its data, restore it from the replicas", loss::everything).await?,
        scene(cluster, "damage", "the same, with one commit that only a damaged replica has", loss::damaged).await?,
        scene(cluster, "rollout", "run schema version 2 beside version 1, then abandon it", rollout::run).await?,
    ])
}

async fn scene(
    cluster: &mut Cluster,
    name: &'static str,
    title: &str,
    play: impl AsyncFnOnce(&mut Cluster) -> Result<(), Error>,
) -> Result<Figures, Error> {
    println!("\n== {title}");
    let began = Instant::now();
    play(cluster).await?;
    let status = cluster.client(1).await?.status().await?;
    let documents = status.branches.iter().map(|head| head.documents).max().unwrap_or(0);
    let commits = status.branches.iter().map(|head| head.commits).max().unwrap_or(0);
    Ok(Figures { scene: name, documents, commits, bytes: status.store_bytes, time: began.elapsed() })
}

fn summary(figures: &[Figures]) {
    println!("\n== done: everything above was checked and is so");
    println!("{:<10} {:>10} {:>9} {:>14} {:>9}", "scene", "documents", "commits", "bytes (one)", "seconds");
    for Figures { scene, documents, commits, bytes, time } in figures {
        println!("{scene:<10} {documents:>10} {commits:>9} {bytes:>14} {:>9.1}", time.as_secs_f64());
    }
}

/// Returns the error of a failed system call on `path`.
fn file(path: impl Into<PathBuf>, source: std::io::Error) -> Error {
    Error::file("use", path, source)
}

/// Says one thing that holds.
fn say(text: impl std::fmt::Display) {
    println!("   {text}");
}

/// Insists on something.
fn insist(holds: bool, what: impl FnOnce() -> String) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Demo { what: what() }) }
}
