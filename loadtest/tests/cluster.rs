//! The harness against a real cluster: it measures, and it finds what was taken away or added behind the ledger's back.
//!
//! Starts the binary that `HERDBOOK_BIN` names, or the one of the same build.

use std::{path::PathBuf, time::Duration};

use herdbook_loadtest::{
    check,
    cluster::{BINARY, Cluster, Settings},
    fanout, latency,
    ledger::{Finding, Held},
    load::{self, Arrival, Kind, Mix, Plan},
    node::{RequestKeys, connect, connect_many, name},
    workload::{Content, DOCUMENTS, Sizes, record},
};
use herdbook_model::id::CommitId;
use herdbook_proto::{
    ack::Wait,
    edit::{Edit, Operation, Write},
};

const PATIENCE: Duration = Duration::from_secs(60);

fn binary() -> PathBuf {
    let named = std::env::var_os(BINARY).map(PathBuf::from);
    // Tests lie in the folder `deps` of their build.
    let built = || std::env::current_exe().ok()?.parent()?.parent().map(|folder| folder.join("herdbook"));
    let binary = named.or_else(built).expect("a test has a path");
    assert!(binary.is_file(), "build the herdbook binary first (`make build`): there is none at {}", binary.display());
    binary
}

async fn cluster(replicas: usize) -> Cluster {
    let settings = Settings { binary: binary(), replicas, is_meshed: false, folder: None };
    Cluster::start(&settings).await.expect("the cluster starts")
}

fn plan() -> check::Plan {
    check::Plan { clients: 6, millis: 4000, least: 20, settle_millis: 60_000, seed: 7 }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_keeps_its_word_is_found_to_keep_it() {
    let cluster = cluster(2).await;
    let checked = check::check(&cluster.nodes(), &plan()).await.expect("it comes to a result");
    assert_eq!((&checked.findings[..], checked.failures.total(), checked.uncertain), (&[][..], 0, 0));
    assert!(checked.acknowledged >= 20 && checked.read > 0, "{checked:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_away_or_added_behind_the_ledger_is_found_at_every_node() {
    let cluster = cluster(1).await;
    let nodes = cluster.nodes();
    let mut written = check::write(&nodes, &plan()).await.expect("enough is written");
    let client = connect(&nodes[0]).await.expect("it answers");
    let requests = RequestKeys::new().expect("random");
    let key = |number: u64| format!("{}{number:016x}", written.prefix);
    let commit = |key: &str, operation| {
        let edit = Edit { name: name(DOCUMENTS, key), operation };
        client.commit(Write { wait: Wait::DURABLE, ..Write::new(requests.draw(), vec![edit]) })
    };
    // Numbers that no client uses.
    let [gone, stale, extra, altered] = [1 << 40 | 1, 1 << 40 | 2, 1 << 40 | 3, 1 << 40 | 4];
    let put = |number, revision| Operation::Put(record(number, revision));
    let never = CommitId([0xee; 32]);
    written.ledger.acknowledge(&key(gone), Held::Revision(0), never);
    let ack = commit(&key(stale), put(stale, 0)).await.expect("written");
    written.ledger.acknowledge(&key(stale), Held::Revision(1), ack.commit);
    commit(&key(extra), put(extra, 0)).await.expect("written");
    let ack = commit(&key(altered), put(altered + 1, 0)).await.expect("written");
    written.ledger.acknowledge(&key(altered), Held::Revision(0), ack.commit);
    let keys = [gone, stale, extra, altered].map(key);

    let checked = check::compare(&nodes, written, PATIENCE).await.expect("it comes to a result");
    let [gone, stale, extra, altered] = keys;
    let mut expected = Vec::new();
    for node in nodes {
        let lost = |key: &String, acknowledged, found| Finding::Lost { node: node.clone(), key: key.clone(), acknowledged, found };
        expected.push(lost(&gone, Held::Revision(0), Held::Absent));
        expected.push(lost(&stale, Held::Revision(1), Held::Revision(0)));
        expected.push(Finding::Altered { node: node.clone(), key: altered.clone() });
        expected.push(Finding::Extra { node: node.clone(), key: extra.clone(), found: Held::Revision(0) });
        expected.push(Finding::MissingCommit { node: node.clone(), commit: never.to_string() });
    }
    assert_eq!(checked.findings, expected);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_two_clusters_do_not_come_to_the_same_state() {
    let (alice, bob) = (cluster(0).await, cluster(0).await);
    check::write(&[alice.coordinator()], &plan()).await.expect("enough is written");
    let error = check::settle(&[alice.coordinator(), bob.coordinator()], Duration::from_secs(1)).await.expect_err("they never met");
    assert!(matches!(error, herdbook_loadtest::Error::NotLevel { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_commit_and_read_and_what_they_read_is_what_was_written() {
    let cluster = cluster(1).await;
    for content in [Content::Record, Content::Payload(Sizes::exactly(1024))] {
        let connections = connect_many(&cluster.replicas(), 2, content, Wait::DURABLE).await.expect("it answers");
        load::fill(&connections, 300).await.expect("written");
        let mix = Mix { read: 4, update: 4, insert: 1, scan: 1, modify: 1, batch: 1, batch_size: Some(10), ..Mix::default() };
        let plan = Plan { clients: 4, arrival: Arrival::Closed, warm_up_millis: 0, measured_millis: 4000, documents: 300, mix, seed: 0 };
        let measured = load::run(&connections, &plan, |_| ()).await.expect("it comes to a result");
        assert_eq!(measured.failures.total(), 0, "{:?}", measured.failures);
        let kinds: Vec<_> = measured.operations.keys().copied().collect();
        assert_eq!(kinds, Kind::ALL, "each kind was done");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_one_replica_are_seen_at_another() {
    let cluster = cluster(2).await;
    let replicas = cluster.replicas();
    let plan = latency::Plan { commits: 20, pause_millis: 5, seed: 0 };
    let latency = latency::measure(&replicas[0], &replicas[1], &plan).await.expect("it comes to a result");
    assert_eq!((latency.acknowledged.count, latency.visible.count, latency.unseen), (20, 20, 0));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_is_told_of_every_commit_once() {
    let cluster = cluster(2).await;
    let plan = fanout::Plan { watchers: 60, commits: 20, rate: 20.0 };
    let fanned = fanout::measure(&cluster.replicas()[0], &cluster.nodes(), &plan).await.expect("it comes to a result");
    assert_eq!((fanned.events, fanned.unseen, fanned.repeated), (1200, 0, 0));
    cluster.stop().await;
}

/// The fault: the coordinator told where it listens, so that members found a way around the link whose bytes were counted.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_meshed_is_found_only_where_others_were_told() {
    let cluster = cluster(1).await;
    for node in cluster.nodes() {
        let peers = connect(&node).await.expect("it answers").peers().await.expect("it tells");
        assert!(!peers.is_empty() && peers.iter().all(|peer| peer.address.is_empty()), "{peers:?}");
    }
    cluster.stop().await;
}
