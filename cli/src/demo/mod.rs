//! `herdbook demo`: a cluster of processes on loopback that imports, merges, loses its server, comes back and migrates, and checks each of
//! these. It ends with a failure if any of it is not so.
//!
//! One file a scene; `cluster` starts and kills the processes, `ledger` keeps what was acknowledged, outside of all nodes, `verify` is the
//! proof after a loss.

mod apart;
mod cluster;
mod figures;
mod holdings;
mod import;
mod keep;
mod ledger;
mod loss;
mod merge;
mod rollout;
mod verify;
mod walk;
mod written;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;

use self::{cluster::Cluster, figures::Figures};
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

Starts one coordinator and three replicas as processes of their own on loopback. Takes about 20 seconds. Run it
from the checkout, where the cities are, or say with --cities and --schema where they are.")]
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

/// Runs the demo.
pub(crate) async fn demo(args: DemoArgs) -> Result<(), Error> {
    readable("--cities", &args.cities)?;
    readable("--schema", &args.schema)?;
    let folder = tempfile::Builder::new().prefix("herdbook-demo-").tempdir().map_err(|source| file("a temporary folder", source))?;
    let mut cluster = Cluster::new(folder.path(), &args.schema)?;
    let outcome = scenes(&mut cluster, &args).await;
    let figures = match outcome {
        Ok(figures) => figures,
        Err(error) => {
            cluster.tell_logs();
            return Err(error);
        }
    };
    figures::tell(&figures);
    if args.keep {
        let kept = folder.keep();
        keep::keep(&mut cluster, &kept);
    } else {
        cluster.stop().await;
    }
    Ok(())
}

async fn scenes(cluster: &mut Cluster, args: &DemoArgs) -> Result<Vec<Figures>, Error> {
    cluster.start().await?;
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
    let before = store_bytes(cluster).await?;
    let began = Instant::now();
    play(cluster).await?;
    let time = began.elapsed();
    Ok(Figures { scene: name, tally: cluster.ledger.tally(), bytes: store_bytes(cluster).await? - before, time })
}

async fn store_bytes(cluster: &mut Cluster) -> Result<i128, Error> {
    Ok(cluster.client(1).await?.status().await?.store_bytes.into())
}

/// Insists that a file which the demo needs is there, before anything is started.
fn readable(argument: &str, path: &Path) -> Result<(), Error> {
    let opened = std::fs::File::open(path).map(drop);
    let hint = format!("run the demo from the checkout, or say with {argument} where the file is");
    opened.map_err(|error| Error::argument(argument, format!("cannot read {}: {error}; {hint}", path.display())))
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
