//! `loadtest model`: a forecast from costs measured here, beside real runs.

use clap::Args;

use super::{Verdict, target::Own};
use crate::{
    Error,
    cluster::{self, Cluster},
    forecast::{
        Plan,
        growth::{Machine, Usage},
        model,
    },
    report::{Report, model_text},
};

#[derive(Debug, Clone, Args)]
pub(super) struct ModelArgs {
    /// Seconds of each real run, of which there are fifteen
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Commits of a client in an hour
    #[arg(long, value_name = "N", default_value_t = 360, value_parser = clap::value_parser!(u32).range(1..=3_600_000))]
    hourly: u32,
    /// Clients of a replica
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    at_replica: u32,
    /// Cores of a machine of the cluster that is forecast
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    cores: u16,
    /// Megabits a second of its link
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    link: u32,
    /// Gigabytes of its memory
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    memory: u32,
    #[command(flatten)]
    own: Own,
}

pub(super) async fn run(args: ModelArgs, as_json: bool) -> Result<Verdict, Error> {
    let machine =
        Machine { cores: args.cores.into(), link_bytes: f64::from(args.link) * 1e6 / 8.0, memory_bytes: f64::from(args.memory) * 1e9 };
    let usage = Usage { per_client: f64::from(args.hourly) / 3600.0, at_replica: args.at_replica.into() };
    let plan = Plan { millis: args.seconds * 1000, machine, usage };
    let binary = cluster::binary(args.own.binary.clone())?;
    let settings = cluster::Settings { binary, replicas: 0, is_meshed: true, folder: args.own.folder.clone() };
    let cluster = Cluster::start(&settings).await?;
    let modelled = model(&cluster, &plan).await;
    cluster.stop().await;
    let modelled = modelled?;
    let verdict = Verdict::of(modelled.is_close());
    let (resource, _) = &modelled.wall.fullest;
    let line = format!("first wall: the {resource}, at {:.0} clients", modelled.wall.clients);
    let text = format!("{} {line}\n{}", verdict.word(), model_text(&modelled));
    let report = Report::new("model", plan, modelled);
    super::page(&args.own, "What a cluster needs as it grows", verdict, &line, &report, &[])?;
    super::finish(&args.own, &report, &text, as_json)?;
    Ok(verdict)
}
