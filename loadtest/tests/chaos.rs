//! Chaos against real processes: members that keep their word pass, and a run that told nothing fails.
//!
//! Starts the binary that `HERDBOOK_BIN` names, or the one of the same build. `HERDBOOK_TEST_SEED` chooses another schedule.
//!
//! The checker is worth nothing if it finds nothing. With a binary that has a planted bug the same body must fail:
//!
//! ```sh
//! cargo build -p herdbook --features herdbook-store/plant-skip-fsync
//! cargo nextest run -p herdbook-loadtest --test chaos --features plant-skip-fsync power
//! ```

use std::path::PathBuf;

use herdbook_loadtest::{
    chaos::{self, Keep, Means, Outcome, Plan, Settings, fault::Fault},
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
    let settings = Settings { binary: binary(), upgrade: None, folder: None, keep: Keep::Never };
    let means = Means::here(None).expect("folders can be made");
    chaos::run(plan, &settings, &means).await.expect("it comes to an outcome")
}

#[cfg(not(feature = "plant-skip-fsync"))]
async fn keeps_its_word(seed: u64) {
    let means = Means::here(None).expect("folders can be made");
    let plan = Plan { seed, ..plan(60_000, chaos::schedule::of_seed(seed, 60_000, 2, &means.kinds)) };
    let outcome = run(&plan).await;
    assert_eq!(outcome.findings, [], "{}", outcome.verdict(&plan));
    assert_eq!(outcome.fired.len(), plan.faults.len());
    assert!(outcome.reads > 30 && outcome.read_at_end > 0 && !outcome.seconds.is_empty() && !outcome.nodes.is_empty());
}

#[cfg(not(feature = "plant-skip-fsync"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_its_word_under_the_faults_of_a_fixed_seed() {
    let seed = std::env::var("HERDBOOK_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    keeps_its_word(seed).await;
}

#[cfg(not(feature = "plant-skip-fsync"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_keeps_its_word_under_the_faults_of_a_fresh_seed() {
    let fresh = herdbook_loadtest::node::RequestKeys::new().expect("random").run();
    // A failure tells the seed, which tells the schedule again.
    keeps_its_word(u64::from_str_radix(&fresh[..8], 16).expect("hex digits")).await;
}

/// Where members can have no networks of their own the test says so and passes.
#[cfg(not(feature = "plant-skip-fsync"))]
#[tokio::test(flavor = "multi_thread")]
async fn members_whose_packets_vanish_keep_their_word_and_come_together_again() {
    let means = Means::here(None).expect("folders can be made");
    if !means.has_wires() {
        return eprintln!("nothing to test: {:?}", means.absent);
    }
    let faults = ["1s sever replica-1 2s", "4s sever coordinator 6s", "11s reorder replica-2 1s", "14s kill replica-1 1s"];
    let plan = plan(16_000, faults.map(|fault| fault.parse().expect("well formed")).into());
    let outcome = run(&plan).await;
    assert_eq!((&outcome.findings[..], outcome.fired.len()), (&[][..], 4), "{}", outcome.verdict(&plan));
    assert!(outcome.fired[0].evidence.ends_with("packets were dropped"), "{}", outcome.fired[0].evidence);
}

/// Cuts the power of each member under load, twice; none if there are no disks to do it with.
async fn cut_power() -> Option<Outcome> {
    if !Means::here(None).expect("folders can be made").has_disks() {
        eprintln!("no root or no loop devices: nothing to test");
        return None;
    }
    let faults = ["1s power replica-1 1s", "6s power replica-2 1s", "11s power coordinator 1s", "16s power replica-1 1s"];
    let faults = faults.map(|fault| fault.parse().expect("well formed")).into();
    Some(run(&plan(20_000, faults)).await)
}

#[cfg(not(feature = "plant-skip-fsync"))]
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_take_nothing_that_was_acknowledged_as_durable() {
    if let Some(outcome) = cut_power().await {
        assert_eq!((outcome.findings, outcome.fired.len()), (Vec::new(), 4));
        assert!(outcome.fired.iter().any(|fired| fired.evidence.contains("was lost")), "a cut that takes nothing shows nothing");
    }
}

#[cfg(feature = "plant-skip-fsync")]
#[tokio::test(flavor = "multi_thread")]
async fn power_cuts_of_a_store_that_never_syncs_are_found() {
    if let Some(outcome) = cut_power().await {
        let is_loss = |finding: &Finding| {
            matches!(finding, Finding::Lost { .. } | Finding::NotRead { .. } | Finding::MissingCommit { .. } | Finding::Stuck { .. })
        };
        assert!(outcome.findings.iter().any(is_loss), "{:?}", outcome.findings);
    }
}

#[cfg(not(feature = "plant-skip-fsync"))]
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
