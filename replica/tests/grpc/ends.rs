//! How nodes end: what they wrote is on the disk and their store is closed when the stop returns, whatever callers do.

use herdbook_model::value::Key;
use herdbook_proto::{
    client::Client,
    cluster::CreateToken,
    read::{Start, Watch},
    status::Kind,
};
use herdbook_replica::repository::{Ask, DocumentChange, DocumentEdit};
use herdbook_store::{Direction, Durability, KeyRange, RocksStore, Store as _, Table};

use crate::{
    herd::{Herd, eventually},
    server::{commit_at, run, text},
};

fn count_of(store: &RocksStore, table: Table) -> usize {
    store.records().scan(table, KeyRange::all(), Direction::Forward).count()
}

fn large(number: u32) -> Ask {
    let edits = (0..64).map(|at| DocumentEdit {
        collection: "cities".to_owned(),
        key: Key::new(format!("city-{number}-{at}")).expect("a short key"),
        change: DocumentChange::Put(vec![("name".into(), text(&"x".repeat(4000)))]),
    });
    Ask {
        branch: None,
        key: crate::server::request_key(),
        principal: String::new(),
        wanted: Vec::new(),
        edits: edits.collect(),
        message: String::new(),
    }
}

#[test]
fn a_node_closes_its_store_though_a_watcher_reads_nothing() {
    run(async {
        let herd = Herd::found();
        let alice = herd.start("alice", &[]).await;
        let client = Client::connect(&[alice.address()]).await.expect("it answers");
        let watch = Watch { repository: None, branch: None, collection: None, prefix: String::new(), start: Start::Now };
        let mut unread = client.watch(watch).await.expect("it watches");
        // More than the connection and the queue of the watch take: the watch stands.
        for number in 0..160 {
            alice.repository().commit_one(large(number), Durability::Process).expect("it commits");
        }
        alice.node.stop().await;
        // Opened anew: nobody holds the folder, and nothing is missing.
        let store = herd.open_store("alice");
        assert_eq!(count_of(&store, Table::Edits), 160);
        // Who reads on at last learns that it is worth another try.
        let broken = loop {
            match unread.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the watch was broken off"),
                Err(failed) => break failed,
            }
        };
        assert_eq!(broken.kind, Kind::Unavailable, "{broken:?}");
    });
}

#[test]
fn nodes_that_talk_close_their_stores_with_all_they_wrote() {
    run(async {
        let herd = Herd::found();
        let alice = herd.start("alice", &[]).await;
        let bob = herd.start("bob", &[alice.address()]).await;
        let put = |name: &str| DocumentChange::Put(vec![("name".into(), text(name))]);
        let committed = commit_at(alice.repository(), "oslo", put("Oslo"));
        let holds = |repository: &herdbook_replica::Repository| repository.view().vector().contains(&committed.chain, committed.counter);
        eventually("bob holds it", || holds(bob.repository())).await;
        alice.node.stop().await;
        bob.node.stop().await;
        for name in ["alice", "bob"] {
            let store = herd.open_store(name);
            assert_eq!(count_of(&store, Table::Edits), 1, "{name}");
        }
    });
}

#[test]
fn what_a_node_refuses_is_told_to_programs_too() {
    run(async {
        let herd = Herd::found();
        let alice = herd.start("alice", &[]).await;
        let client = Client::connect(&[alice.address()]).await.expect("it answers");
        let create = CreateToken { role: herdbook_model::authority::Role::Replica, lifetime: CreateToken::LIFETIME };
        let failed = client.create_token(create).await.expect_err("it holds no authority");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Precondition, "NO_AUTHORITY"));
        client.set_online(false).await.expect("it goes");
        let Err(failed) = client.exchange(futures::stream::pending()).await else { panic!("it is off the network") };
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unavailable, "OFFLINE"));
        alice.node.stop().await;
    });
}
