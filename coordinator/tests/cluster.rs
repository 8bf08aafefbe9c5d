//! A coordinator and its replicas over real connections and stores: convergence, acceptance, loss of the server's data.

use std::{future::Future, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use herdbook_coordinator::{Settings, start};
use herdbook_model::{
    id::RequestKey,
    json,
    value::{Key, Scalar, Value},
};
use herdbook_proto::{client::Client, cluster::CreateToken};
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

fn run(test: impl Future<Output = ()>) {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    actix_rt::System::with_tokio_rt(runtime).block_on(test);
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().expect("address")
}

fn settings(folder: &Path, name: &str) -> node::Settings {
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
    }
}

async fn coordinator(folder: &Path, listen: SocketAddr) -> Node {
    let settings = Settings {
        node: node::Settings { listen, ..settings(folder, "coordinator") },
        keys: folder.join("keys"),
        schema: Some(json::schema_from_json(SCHEMA).expect("schema")),
        repository_name: "cities".to_owned(),
        join_token: None,
        restore_quorum: 0,
    };
    start(settings).await.expect("the coordinator starts")
}

async fn replica(folder: &Path, name: &str, coordinator: SocketAddr) -> Node {
    let address = format!("http://{coordinator}");
    let client = Client::connect(&[&address]).await.expect("the coordinator answers");
    let create = CreateToken { role: herdbook_model::authority::Role::Replica, lifetime: CreateToken::LIFETIME };
    let token = client.create_token(create).await.expect("a token").token;
    let settings = node::Settings { coordinator: Some(address), token: Some(token), ..settings(folder, name) };
    node::start(settings).await.expect("the replica joins")
}

fn put(number: u8, key: &str, fields: &[(&str, Value)]) -> Ask {
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

fn text(text: &str) -> Value {
    Value::Scalar(Scalar::from(text))
}

async fn commit(node: &Node, ask: Ask) -> Committed {
    node.writer().commit(ask, Durability::Durable).await.expect("committed").committed
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {what}");
}

fn name_on(node: &Node) -> Option<herdbook_model::id::StateName> {
    let view = node.repository().view();
    view.state(None).ok().map(herdbook_model::state::State::name)
}

fn root_on(node: &Node) -> herdbook_model::id::StateRoot {
    let view = node.repository().view();
    node.repository().root(view.state(None).expect("a branch")).expect("a root")
}

fn all_equal(nodes: &[&Node]) -> bool {
    let first = name_on(nodes[0]);
    first.is_some() && nodes.iter().all(|node| name_on(node) == first)
}

#[test]
fn commits_reach_every_node_and_are_accepted() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let alice = replica(folder.path(), "alice", server.listen()).await;
        let bob = replica(folder.path(), "bob", server.listen()).await;
        eventually("both know the branch", || name_on(&alice).is_some() && name_on(&bob).is_some()).await;
        let committed = commit(&alice, put(1, "oslo", &[("name", text("Oslo")), ("zone", text("A"))])).await;
        commit(&bob, put(2, "rome", &[("name", text("Rome"))])).await;
        eventually("all hold the same", || {
            let view = server.repository().view();
            let state = view.state(None).expect("a branch");
            all_equal(&[&server, &alice, &bob]) && state.frontier().vector().commits() == 2
        })
        .await;
        assert_eq!(root_on(&alice), root_on(&bob));
        assert_eq!(root_on(&alice), root_on(&server));
        eventually("the authority accepts", || {
            let view = bob.repository().view();
            let heads = view.log.branch(&committed.branch).expect("branch").heads.clone();
            heads.iter().any(|head| {
                bob.repository().meta(head).expect("read").is_some_and(|meta| meta.vector.contains(&committed.chain, committed.counter))
            })
        })
        .await;
        for node in [alice, bob, server] {
            node.stop().await;
        }
    });
}

#[test]
fn a_server_that_lost_its_data_comes_back_from_its_replicas() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let address = server.listen();
        let alice = replica(folder.path(), "alice", address).await;
        let bob = replica(folder.path(), "bob", address).await;
        eventually("both know the branch", || name_on(&alice).is_some() && name_on(&bob).is_some()).await;
        for number in 0..20 {
            commit(&alice, put(number, &format!("a{number}"), &[("name", text("x"))])).await;
        }
        eventually("all hold the same", || all_equal(&[&server, &alice, &bob])).await;
        let before = server.repository().view().log.newest().expect("entries");
        server.stop().await;
        std::fs::remove_dir_all(folder.path().join("coordinator")).expect("the data is gone");
        // Replicas go on alone, and among themselves.
        commit(&bob, put(99, "lonely", &[("name", text("offline"))])).await;
        eventually("replicas converge without the server", || all_equal(&[&alice, &bob])).await;
        let server = coordinator(folder.path(), address).await;
        eventually("the server is whole again", || {
            let newest = server.repository().view().log.newest();
            newest.is_some_and(|newest| newest.epoch > before.epoch) && all_equal(&[&server, &alice, &bob])
        })
        .await;
        assert_eq!(root_on(&server), root_on(&alice));
        assert!(server.repository().view().log.lost().is_empty(), "nothing was lost");
        commit(&alice, put(100, "after", &[("name", text("accepted"))])).await;
        eventually("it goes on", || all_equal(&[&server, &alice, &bob])).await;
        for node in [alice, bob, server] {
            node.stop().await;
        }
    });
}
