//! Replicas inside applications, joined to a coordinator: they edit offline, merge by themselves, and outlive the network.

use std::{
    io::Read as _,
    net::SocketAddr,
    path::Path,
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use herdbook_coordinator::{Settings, start};
use herdbook_model::{
    json,
    value::{Scalar, Value},
};
use herdbook_replica::{Replica, embedded, node};
use serde_json::json;
use tokio::sync::oneshot;

const TOKEN: &str = "a-token-for-the-tests-of-embedding";

const SCHEMA: &str = r#"{"version": 1, "collections": {"cities": {"fields": [
    {"name": "name", "type": "string"}, {"name": "population", "type": "int"}, {"name": "names", "type": "set<string>"},
    {"name": "zone", "type": "string", "policy": "strict"}, {"name": "photo", "type": "blob"}]}}}"#;

/// A coordinator on a thread of its own, since the replicas under test are called as an application calls them: without a runtime.
struct Coordinator {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Coordinator {
    fn start(folder: &Path, listen: SocketAddr) -> Self {
        let (told, hears) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let settings = Settings {
            node: node::Settings {
                data: folder.join("coordinator"),
                listen,
                http: None,
                name: "coordinator".to_owned(),
                advertise: None,
                coordinator: None,
                token: None,
                peers: Vec::new(),
                cache_bytes: None,
                collect_at: None,
                fold_edits: None,
            },
            keys: folder.join("keys"),
            schema: Some(json::schema_from_json(SCHEMA).expect("schema")),
            repository_name: "cities".to_owned(),
            join_token: Some(TOKEN.to_owned()),
            restore_quorum: 0,
        };
        let thread = std::thread::spawn(move || {
            let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
            actix_rt::System::with_tokio_rt(runtime).block_on(async move {
                let node = start(settings).await.expect("the coordinator starts");
                told.send(node.listen()).expect("the test waits");
                let _ = stopped.await;
                node.stop().await;
            });
        });
        let address = hears.recv_timeout(Duration::from_secs(30)).expect("it listens");
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns a loopback address that no other process of this run of tests binds: a coordinator that is started again finds its port free.
fn loopback() -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 1 + high % 250, low, 1], 0))
}

fn join(folder: &Path, name: &str, coordinator: SocketAddr) -> Replica {
    let builder = Replica::builder(folder.join(name)).name(name).join(format!("http://{coordinator}"), TOKEN);
    builder.capture(Duration::from_millis(20)).open().expect("it joins")
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn field(replica: &Replica, key: &str, name: &str) -> Option<Value> {
    replica.get("cities", key).expect("read")?.fields.get(name).cloned()
}

fn int(value: i64) -> Option<Value> {
    Some(Value::Scalar(Scalar::Int(value)))
}

#[test]
fn what_one_application_edits_the_other_shows_and_the_authority_accepts() {
    let folder = tempfile::tempdir().expect("folder");
    let coordinator = Coordinator::start(folder.path(), loopback());
    let [alice, bob] = ["alice", "bob"].map(|name| join(folder.path(), name, coordinator.address));
    assert_eq!(alice.id(), bob.id());
    alice.put("cities", "oslo", &json!({"name": "Oslo", "population": 1})).expect("put");
    eventually("bob shows what alice put", || field(&bob, "oslo", "population") == int(1));
    bob.update("cities", "oslo", &json!({"population": 2})).expect("update");
    eventually("alice shows what bob wrote", || field(&alice, "oslo", "population") == int(2));
    eventually("all is accepted", || [&alice, &bob].iter().all(|replica| replica.status().expect("status").unaccepted == 0));
    assert!(!bob.status().expect("status").peers.is_empty(), "it knows the others");
}

#[test]
fn edits_made_apart_merge_by_themselves_when_both_are_back() {
    let folder = tempfile::tempdir().expect("folder");
    let coordinator = Coordinator::start(folder.path(), loopback());
    let [alice, bob] = ["alice", "bob"].map(|name| join(folder.path(), name, coordinator.address));
    alice.put("cities", "oslo", &json!({"name": "Oslo", "names": ["Kristiania"], "zone": "UTC"})).expect("put");
    eventually("bob has it", || field(&bob, "oslo", "name").is_some());
    for replica in [&alice, &bob] {
        replica.set_online(false).expect("offline");
    }
    alice.edit("cities", "oslo", |fields| add_name(fields, "Christiania")).expect("edit");
    alice.update("cities", "oslo", &json!({"population": 700_000, "zone": "CET"})).expect("update");
    bob.edit("cities", "oslo", |fields| add_name(fields, "Ánslo")).expect("edit");
    bob.update("cities", "oslo", &json!({"zone": "CEST"})).expect("update");
    assert!(alice.status().expect("offline is no error").unaccepted > 0);
    assert_eq!(field(&bob, "oslo", "population"), None, "apart is apart");
    for replica in [&alice, &bob] {
        replica.set_online(true).expect("online");
    }
    eventually("both stand at one state", || alice.state().expect("state") == bob.state().expect("state"));
    assert_eq!(alice.root().expect("root"), bob.root().expect("root"));
    assert_eq!(field(&bob, "oslo", "population"), int(700_000));
    let names = ["Christiania", "Kristiania", "Ánslo"].into_iter().map(|name| Value::Scalar(Scalar::from(name))).collect();
    assert_eq!(field(&alice, "oslo", "names"), Some(Value::Set(names)));
    let conflicts = alice.conflicts().expect("conflicts");
    assert_eq!(conflicts.len(), 1, "two values of a strict field stay beside each other");
    bob.update("cities", "oslo", &json!({"zone": "CET"})).expect("resolve");
    eventually("the conflict is resolved everywhere", || alice.conflicts().expect("conflicts").is_empty());
}

#[test]
fn a_replica_opens_reads_and_writes_without_its_coordinator_and_delivers_later() {
    let folder = tempfile::tempdir().expect("folder");
    let coordinator = Coordinator::start(folder.path(), loopback());
    let address = coordinator.address;
    let alice = join(folder.path(), "alice", address);
    alice.put("cities", "oslo", &json!({"population": 1})).expect("put");
    eventually("it is accepted", || alice.status().expect("status").unaccepted == 0);
    alice.close().expect("close");
    drop(coordinator);

    let alice = join(folder.path(), "alice", address);
    assert_eq!(field(&alice, "oslo", "population"), int(1), "nobody is needed to open it");
    alice.update("cities", "oslo", &json!({"population": 2})).expect("update");
    alice.close().expect("close");
    let alice = Replica::builder(folder.path().join("alice")).open().expect("it opens without the network, too");
    assert_eq!(field(&alice, "oslo", "population"), int(2), "an outbox survives restarts");
    alice.update("cities", "oslo", &json!({"population": 3})).expect("update");
    alice.close().expect("close");

    let _coordinator = Coordinator::start(folder.path(), address);
    let [alice, bob] = ["alice", "bob"].map(|name| join(folder.path(), name, address));
    eventually("what waited is delivered", || field(&bob, "oslo", "population") == int(3));
    eventually("and accepted", || alice.status().expect("status").unaccepted == 0);
}

#[test]
fn a_wrong_token_and_a_repository_of_ones_own_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("folder");
    let coordinator = Coordinator::start(folder.path(), loopback());
    let address = format!("http://{}", coordinator.address);
    let refused = Replica::builder(folder.path().join("eve")).join(&address, "no token of theirs").open();
    assert!(matches!(refused, Err(embedded::Error::Node(_))), "{:?}", refused.err());
    let own = folder.path().join("own");
    let schema = json::schema_from_json(SCHEMA).expect("schema");
    Replica::builder(&own).schema(schema).open().expect("it founds").close().expect("close");
    let refused = Replica::builder(&own).join(&address, TOKEN).open();
    assert!(matches!(refused, Err(embedded::Error::FoundedHere { .. })), "{:?}", refused.err());
}

fn add_name(fields: &mut embedded::Fields, name: &str) {
    let names = fields.entry("names".into()).or_insert_with(|| Value::Set(Default::default()));
    if let Value::Set(names) = names {
        names.insert(Value::Scalar(Scalar::from(name)));
    }
}

/// One hid parts, another used them, without knowing of each other: they stay, and so does what refers to them.
#[test]
fn a_blob_that_one_sweeps_while_another_uses_it_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let coordinator = Coordinator::start(folder.path(), loopback());
    let [alice, bob] = ["alice", "bob"].map(|name| join(folder.path(), name, coordinator.address));
    let photo: Vec<u8> = (0u32..100_000).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let first = alice.upload(&photo[..]).expect("uploaded");
    eventually("bob has it", || alice.state().expect("state") == bob.state().expect("state"));
    for replica in [&alice, &bob] {
        replica.set_online(false).expect("offline");
    }
    assert_eq!(alice.sweep(0).expect("swept").hidden, first.parts);
    let again = bob.upload(&photo[..]).expect("uploaded");
    assert_eq!((again.blob, again.added), (first.blob, 0));
    bob.put("cities", "oslo", &json!({"photo": again.blob.to_string()})).expect("put");
    for replica in [&alice, &bob] {
        replica.set_online(true).expect("online");
    }
    eventually("both stand at one state", || alice.state().expect("state") == bob.state().expect("state"));
    for replica in [&alice, &bob] {
        let mut read = Vec::new();
        let known = replica.blob(first.blob).expect("a schema").read_to_end(&mut read);
        assert!(known.is_ok() && read == photo, "{known:?}");
    }
}
