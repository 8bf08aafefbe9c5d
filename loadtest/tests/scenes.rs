//! The named workloads against a real cluster: a sound one passes each, and each did what it is about.
//!
//! Starts the binary that `HERDBOOK_BIN` names, or the one of the same build.

use std::path::PathBuf;

use herdbook_loadtest::{
    cluster::{BINARY, Cluster, Settings},
    ledger::Finding,
    scenes::{Plan, Played, Scene, Stage, play},
};

fn binary() -> PathBuf {
    let named = std::env::var_os(BINARY).map(PathBuf::from);
    // Tests lie in the folder `deps` of their build.
    let built = || std::env::current_exe().ok()?.parent()?.parent().map(|folder| folder.join("herdbook"));
    let binary = named.or_else(built).expect("a test has a path");
    assert!(binary.is_file(), "build the herdbook binary first (`make build`): there is none at {}", binary.display());
    binary
}

async fn played(scene: Scene, replicas: usize, least: u64) -> Played {
    let settings = Settings { binary: binary(), replicas, is_meshed: true, folder: None };
    let cluster = Cluster::start(&settings).await.expect("the cluster starts");
    let stage = Stage { nodes: cluster.nodes(), ends: cluster.replicas() };
    let plan = Plan { scene, clients: 6, millis: 1500, documents: 3000, least, seed: 7 };
    let played = play(&stage, &plan).await.expect("it comes to an end");
    cluster.stop().await;
    played
}

async fn passes(scene: Scene) -> Played {
    let played = played(scene, 2, 20).await;
    assert_eq!((&played.findings[..], played.failures.total()), (&[][..], 0), "{played:?}");
    played
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_is_told_to_everybody_in_the_room() {
    let played = passes(Scene::Chat).await;
    // Rooms have up to four members, at least two here.
    assert!(played.times["seen in the room"].count >= 2 * played.acknowledged, "{played:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_all_edit_has_the_letters_of_all() {
    let played = passes(Scene::Pages).await;
    assert!(played.figures["letters in all texts"] >= 3.0 * played.acknowledged as f64, "{played:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_were_edited_offline_lose_nothing_when_they_come_back() {
    let played = passes(Scene::Storm).await;
    assert!(played.figures["servers that came back"] >= 2.0 && played.figures["edits while cut off"] >= 20.0, "{played:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_did_is_taken_back_while_others_write() {
    let played = passes(Scene::Revert).await;
    assert!(played.figures["commits taken back"] >= 1.0, "{played:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_is_rolled_out_while_everybody_writes() {
    passes(Scene::Rollout).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_documents_are_everywhere() {
    assert_eq!(passes(Scene::Import).await.acknowledged, 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scene_in_which_nothing_could_happen_fails() {
    let played = played(Scene::Storm, 1, 1_000_000).await;
    let kinds: Vec<_> = played
        .findings
        .iter()
        .map(|finding| match finding {
            Finding::NeverFired { .. } => "never fired",
            Finding::TooLittle { .. } => "too little",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["never fired", "too little"], "{played:?}");
}
