//! `loadtest run chaos`: faults under load, and the verdict.

use std::path::PathBuf;

use clap::Args;

use super::{Verdict, target::Own};
use crate::{
    Error,
    chaos::{
        self, Keep, Means, Outcome, Plan, Settings,
        fault::{Fault, Kind},
        schedule,
    },
    cluster,
    html::{Page, chart::Shade},
    report::{Report, chaos_text},
};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  herdbook loadtest run chaos --seconds 60                          a fresh seed, which is told
  herdbook loadtest run chaos --seconds 60 --seed 7 --html run.html
  herdbook loadtest run chaos --only kill --only power --seconds 20
  herdbook loadtest run chaos --fault '3s kill replica-1 2s' --fault '8s partition coordinator 4s' --seconds 15
  herdbook loadtest run chaos --hours 8 --keep-failed

A seed tells which clients do what and which faults come when; what they meet is the machine's. Kinds of fault that cannot be made here are
left out and told. `alter`, `omit`, `reorder` and `backdate` put somebody between two members who lies to them; a restart of all members one after
another goes to the same program unless --upgrade names another. In a checkout scripts/plants.sh proves that bugs are found, one by one:
nothing synced (power), requests not held against their hash (alter), parents not checked (omit), no quarantine (reorder), entries of any epoch
taken (backdate); scripts/chaos.sh HOURS goes on for hours with ever new seeds. It ends with exit code 1 if a member broke its word, did not come back, or made no progress, if a fault did not take place,
or if there was too little traffic to tell.")]
pub(super) struct ChaosArgs {
    /// Seed of clients, faults and links; left out: a fresh one
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Seconds in which members fail
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: u64,
    /// Hours in which they do, instead
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u64).range(1..=168))]
    hours: Option<u64>,
    /// Replicas beside the coordinator
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    replicas: u16,
    /// Clients that write, spread over the members
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// Longest pause of a client between operations, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 40, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    pause: u64,
    /// Fewest acknowledged writes from which the result counts; left out: 20 a second
    #[arg(long, value_name = "N")]
    least: Option<u64>,
    /// A fault, as '5s kill replica-1 2s'; may be repeated. Left out: those of the seed
    #[arg(long, value_name = "FAULT")]
    fault: Vec<Fault>,
    /// Only faults of this kind; may be repeated
    #[arg(long, value_enum, value_name = "KIND", conflicts_with = "fault")]
    only: Vec<Kind>,
    /// Program that a rolling restart goes to; left out: the same
    #[arg(long, value_name = "PATH")]
    upgrade: Option<PathBuf>,
    /// Leave data and logs behind, and tell where
    #[arg(long)]
    keep: bool,
    /// Leave them behind if something was found
    #[arg(long, conflicts_with = "keep")]
    keep_failed: bool,
    #[command(flatten)]
    own: Own,
}

pub(super) async fn run(args: ChaosArgs, as_json: bool) -> Result<Verdict, Error> {
    let seed = match args.seed {
        Some(seed) => seed,
        None => {
            let mut fresh = [0; 4];
            getrandom::fill(&mut fresh)?;
            u64::from(u32::from_be_bytes(fresh))
        }
    };
    eprintln!("chaos: seed {seed}");
    let mut means = Means::here(args.own.folder.as_deref())?;
    if !args.only.is_empty() {
        means.only(&args.only);
    }
    let millis = args.hours.map_or(args.seconds, |hours| hours * 3600) * 1000;
    let replicas = usize::from(args.replicas);
    let faults = if args.fault.is_empty() { schedule::of_seed(seed, millis, replicas, &means.kinds) } else { args.fault };
    let plan = Plan {
        seed,
        millis,
        replicas,
        clients: usize::from(args.clients),
        pause_millis: args.pause,
        least: args.least.unwrap_or(millis / 50),
        faults,
    };
    let binary = cluster::binary(args.own.binary.clone())?;
    let keep = match (args.keep, args.keep_failed) {
        (true, _) => Keep::Always,
        (false, true) => Keep::Failed,
        (false, false) => Keep::Never,
    };
    let settings = Settings { binary, upgrade: args.upgrade, folder: args.own.folder.clone(), keep };
    let outcome = chaos::run(&plan, &settings, &means).await?;
    tell(&args.own, plan, outcome, as_json)
}

fn tell(own: &Own, plan: Plan, outcome: Outcome, as_json: bool) -> Result<Verdict, Error> {
    let verdict = Verdict::of(outcome.findings.is_empty());
    let line = outcome.verdict(&plan);
    let text = format!("{line}\n{}", chaos_text(&outcome));
    let report = Report::new("chaos", plan, outcome);
    if let Some(path) = &own.html {
        page(&report, verdict == Verdict::Well, &line).save(path)?;
    }
    super::finish(own, &report, &text, as_json)?;
    Ok(verdict)
}

fn page(report: &Report<Plan, Outcome>, is_well: bool, line: &str) -> Page {
    let Outcome { fired, findings, seconds, nodes, absent, .. } = &report.result;
    let mut page = Page::new("Herdbook under faults", is_well, line);
    page.table("Findings", &["finding"], findings.iter().map(|finding| vec![finding.to_string()]).collect());
    let began = |millis: u64| format!("{:.1}", millis as f64 / 1000.0);
    let rows = fired
        .iter()
        .map(|fired| vec![fired.fault.to_string(), began(fired.began_millis), began(fired.ended_millis), fired.evidence.clone()]);
    page.table("Faults", &["fault", "began s", "well again s", "what was seen"], rows.collect());
    let shades: Vec<_> = fired
        .iter()
        .map(|fired| Shade {
            from: fired.began_millis as f64 / 1000.0,
            to: fired.ended_millis as f64 / 1000.0,
            name: fired.fault.to_string(),
        })
        .collect();
    page.seconds(seconds, &shades);
    page.nodes(nodes, &shades);
    page.table("What could not be done here", &["what and why"], absent.iter().map(|absent| vec![absent.clone()]).collect());
    page.facts(&report.host, &serde_json::json!(report.plan));
    page
}
