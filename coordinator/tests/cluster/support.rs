//! What the tests share: nodes on loopback, each in a folder of the test's, and edits to give them.

use std::{future::Future, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use herdbook_coordinator::{Settings, start};
use herdbook_model::{
    id::{RequestKey, StateName, StateRoot},
    json,
    state::State,
    value::{Key, Scalar, Value},
};
use herdbook_proto::{
    client::Client,
    cluster::{CreateToken, Phase},
};
use herdbook_replica::{
    node::{self, Node},
    repository::{Ask, Committed, DocumentChange, DocumentEdit},
};
use herdbook_store::Durability;

const SCHEMA: &str = r#"{"version": 1, "collections": {"cities": {"fields": [
    {"name": "name", "type": "string"},
    {"name": "population", "type": "int"},
    {"name": "zone", "type": "string", "policy": "strict"},
    {"name": "names", "type": "set<string>"}]}}}"#;

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    actix_rt::System::with_tokio_rt(runtime).block_on(test);
}

/// Returns a loopback address that no other process of this run of tests binds: a coordinator that is started again finds its port free.
pub(crate) fn loopback() -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    SocketAddr::from(([127, 1 + high % 250, low, 1], 0))
}

pub(crate) fn settings(folder: &Path, name: &str) -> node::Settings {
    node::Settings {
        data: folder.join(name),
        listen: loopback(),
        http: None,
        name: name.to_owned(),
        advertise: None,
        coordinator: None,
        token: None,
        peers: Vec::new(),
        cache_bytes: None,
        collect_at: None,
        fold_edits: None,
    }
}

pub(crate) fn coordinator_settings(folder: &Path, listen: SocketAddr) -> Settings {
    Settings {
        node: node::Settings { listen, ..settings(folder, "coordinator") },
        keys: folder.join("keys"),
        schema: Some(json::schema_from_json(SCHEMA).expect("schema")),
        repository_name: "cities".to_owned(),
        join_token: None,
        restore_quorum: 0,
    }
}

pub(crate) async fn coordinator(folder: &Path, listen: SocketAddr) -> Node {
    start(coordinator_settings(folder, listen)).await.expect("the coordinator starts")
}

pub(crate) async fn client(node: SocketAddr) -> Client {
    Client::connect(&[&format!("http://{node}")]).await.expect("the node answers")
}

pub(crate) async fn token(coordinator: SocketAddr) -> String {
    let create = CreateToken { role: herdbook_model::authority::Role::Replica, lifetime: CreateToken::LIFETIME };
    client(coordinator).await.create_token(create).await.expect("a token").token
}

pub(crate) async fn phase(node: &Node) -> Phase {
    client(node.listen()).await.status().await.expect("the node answers").phase
}

/// Starts the replica of a folder again, or a new one that joins.
pub(crate) async fn replica(folder: &Path, name: &str, coordinator: SocketAddr) -> Node {
    let is_member = folder.join(name).join("store").exists();
    let token = if is_member { None } else { Some(token(coordinator).await) };
    let settings = node::Settings { coordinator: Some(format!("http://{coordinator}")), token, ..settings(folder, name) };
    node::start(settings).await.expect("the replica starts")
}

pub(crate) fn put(number: u8, key: &str, fields: &[(&str, Value)]) -> Ask {
    let fields = fields.iter().map(|(name, value)| (Arc::from(*name), value.clone())).collect();
    Ask {
        branch: None,
        key: RequestKey([number; 16]),
        principal: String::new(),
        wanted: Vec::new(),
        edits: vec![DocumentEdit {
            collection: "cities".to_owned(),
            key: Key::new(key).expect("short"),
            change: DocumentChange::Put(fields),
        }],
        message: String::new(),
    }
}

pub(crate) fn text(text: &str) -> Value {
    Value::Scalar(Scalar::from(text))
}

pub(crate) async fn commit(node: &Node, ask: Ask) -> Committed {
    node.writer().commit(ask, Durability::Durable).await.expect("committed").committed
}

/// Waits until the node serves.
pub(crate) async fn serves(node: &Node) {
    for _ in 0..600 {
        if phase(node).await == Phase::Serving {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it does not serve within 30 s");
}

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}");
}

pub(crate) fn name_on(node: &Node) -> Option<StateName> {
    let view = node.repository().view();
    view.state(None).ok().map(State::name)
}

pub(crate) fn root_on(node: &Node) -> StateRoot {
    let view = node.repository().view();
    node.repository().root(view.state(None).expect("a branch")).expect("a root")
}

pub(crate) fn all_equal(nodes: &[&Node]) -> bool {
    let first = name_on(nodes[0]);
    first.is_some() && nodes.iter().all(|node| name_on(node) == first)
}

/// Whether the authority accepted everything the node holds.
pub(crate) fn is_accepted(node: &Node) -> bool {
    let view = node.repository().view();
    let state = view.state(None).expect("a branch");
    view.log.branch(state.branch()).is_some_and(|branch| branch.heads == state.frontier().ids())
}

pub(crate) async fn stop(nodes: impl IntoIterator<Item = Node>) {
    for node in nodes {
        node.stop().await;
    }
}

/// Copies a folder and all in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the folder is writable");
    for entry in std::fs::read_dir(from).expect("the folder is there") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("the folder is writable");
        }
    }
}
