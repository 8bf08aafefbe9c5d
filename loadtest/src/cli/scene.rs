//! `loadtest run chat`, `pages`, `storm`, `revert`, `rollout`, `import`: named workloads, each with a check of its own.

use clap::Args;

use super::{
    Verdict,
    target::{Own, Target},
};
use crate::{
    Error,
    report::{Report, scene_text},
    scenes::{Plan, Scene, Stage, play},
};

#[derive(Debug, Clone, Args)]
pub(super) struct SceneArgs {
    #[command(flatten)]
    target: Target,
    /// Clients, spread over the servers
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=4096))]
    clients: u16,
    /// Seconds that they work
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Fewest acknowledged writes from which the result counts
    #[arg(long, value_name = "N", default_value_t = 100)]
    least: u64,
}

#[derive(Debug, Clone, Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    target: Target,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=16))]
    clients: u16,
    /// Documents
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    documents: u64,
}

pub(super) async fn run(scene: Scene, args: SceneArgs, as_json: bool) -> Result<Verdict, Error> {
    let SceneArgs { target, clients, seconds, least } = args;
    let plan = Plan { scene, clients: clients.into(), millis: seconds * 1000, documents: 0, least, seed: target.seed };
    put_on(&target, plan, as_json).await
}

pub(super) async fn import(args: ImportArgs, as_json: bool) -> Result<Verdict, Error> {
    let ImportArgs { target, clients, documents } = args;
    let plan = Plan { scene: Scene::Import, clients: clients.into(), millis: 0, documents, least: 1, seed: target.seed };
    put_on(&target, plan, as_json).await
}

async fn put_on(target: &Target, plan: Plan, as_json: bool) -> Result<Verdict, Error> {
    let servers = target.open(true).await?;
    let stage = Stage { nodes: servers.nodes.clone(), ends: servers.ends() };
    let played = play(&stage, &plan).await;
    servers.close().await;
    let played = played?;
    let verdict = Verdict::of(played.findings.is_empty() && played.failures.total() == 0);
    let (acknowledged, failed, found) = (played.acknowledged, played.failures.total(), played.findings.len());
    let line = format!("{}: {acknowledged} writes acknowledged, {failed} failed, {found} findings", plan.scene);
    let text = format!("{} {line}\n{}", verdict.word(), scene_text(&played));
    let times: Vec<_> = played.times.iter().map(|(name, percentiles)| (name.as_str(), *percentiles)).collect();
    let (title, own): (_, &Own) = (format!("Herdbook: {}", plan.scene), &target.own);
    let report = Report::new(&plan.scene.to_string(), plan, played.clone());
    super::page(own, &title, verdict, &line, &report, &times)?;
    super::finish(own, &report, &text, as_json)?;
    Ok(verdict)
}
