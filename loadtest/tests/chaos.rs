//! Chaos against real processes: members that keep their word pass, and a run that told nothing fails.
//!
//! Starts the binary that `HERDBOOK_BIN` names, or the one of the same build. `HERDBOOK_TEST_SEED` chooses another schedule.

use std::path::PathBuf;

use herdbook_loadtest::{
    chaos::{self, Means, Outcome, Plan, Settings, fault::Fault, schedule},
    cluster::BINARY,
    ledger::Finding,
};

fn binary() -> PathBuf {
    let named = std::env::var_os(BINARY).map(PathBuf::from);
    // Tests lie in the folder `deps` of their build.
    let built = || std::env::current_exe().ok()?.parent()?.parent().map(|folder| folder.join("herdbook"));
    let binary = named.or_else(built).expect("a test has a path");
    assert!(binary.is_file(), "build the herdbook binary first (`make build`): there is none at {}", binary.display());
    binary
}

fn plan(millis: u64, faults: Vec<Fault>) -> Plan {
    Plan { seed: 7, millis, replicas: 2, clients: 9, pause_millis: 20, least: 30, faults }
}

async fn run(plan: &Plan) -> Outcome {
    let settings = Settings { binary: binary(), upgrade: None, folder: None, keep: false };
    let means = Means::here(None).expect("folders can be made");
    chaos::run(plan, &settings, &means).await.expect("it comes to an outcome")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_its_word_under_every_fault_that_can_be_made_here() {
    let seed = std::env::var("HERDBOOK_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let means = Means::here(None).expect("folders can be made");
    let plan = plan(25_000, schedule::of_seed(seed, 25_000, 2, &means.kinds));
    let outcome = run(&plan).await;
    assert_eq!(outcome.findings, [], "{}", outcome.verdict(&plan));
    assert_eq!(outcome.fired.len(), plan.faults.len());
    assert!(outcome.reads > 30 && outcome.read_at_end > 0 && !outcome.seconds.is_empty() && !outcome.nodes.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_cannot_take_place_and_too_little_traffic_fail_the_run() {
    let faults = vec!["500ms kill replica-9 100ms".parse().expect("well formed")];
    let plan = Plan { least: 1_000_000, ..plan(1000, faults) };
    let outcome = run(&plan).await;
    let kinds = outcome.findings.iter().map(|finding| match finding {
        Finding::NeverFired { .. } => "never fired",
        Finding::TooLittle { .. } => "too little",
        _ => "other",
    });
    assert_eq!(kinds.collect::<Vec<_>>(), ["never fired", "too little"], "{}", outcome.verdict(&plan));
}
