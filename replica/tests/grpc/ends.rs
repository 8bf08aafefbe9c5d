//! How nodes end: what they wrote is on the disk and their store is closed when the stop returns, whatever callers do.

use herdbook_model::value::Key;
use herdbook_proto::{
    client::Client,
    read::{Start, Watch},
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
        let unread = client.watch(watch).await.expect("it watches");
        // More than the connection and the queue of the watch take: the watch stands.
        for number in 0..160 {
            alice.repository().commit_one(large(number), Durability::Process).expect("it commits");
        }
        alice.node.stop().await;
        // Opened anew: nobody holds the folder, and nothing is missing.
        let store = herd.open_store("alice");
        assert_eq!(count_of(&store, Table::Edits), 160);
        drop((store, unread));
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
