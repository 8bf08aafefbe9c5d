//! Garbage of running members: collected when asked for, and in nobody's way who fetches a state.

use std::sync::Arc;

use herdbook_model::id::StateRoot;
use herdbook_proto::client::Client;
use herdbook_replica::{Repository, repository::DocumentChange};
use herdbook_store::Store as _;

use crate::{
    herd::{Herd, eventually},
    server::{commit_at, run, text},
};

fn write(repository: &Repository, range: std::ops::Range<u32>, what: &str) {
    for number in range {
        let name = format!("{what} {number} {}", "x".repeat(300));
        commit_at(repository, &format!("city-{number}"), DocumentChange::Put(vec![("name".into(), text(&name))]));
    }
}

fn root_of(repository: &Repository) -> StateRoot {
    repository.root(repository.view().state(None).expect("the branch is there")).expect("it folds")
}

fn is_sound(repository: &Repository) {
    let report = repository.fsck(|_| ()).expect("it reads");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn a_running_member_collects_when_it_is_asked() {
    run(async {
        let herd = Herd::found();
        let alice = herd.start("alice", &[]).await;
        for round in 0..4 {
            write(alice.repository(), 0..200, &format!("round {round}"));
            alice.repository().materialise().expect("it folds");
        }
        let client = Client::connect(&[alice.address()]).await.expect("it serves");
        let dry = client.collect_garbage(true).await.expect("it counts");
        assert!(dry.removed > 0 && dry.removed < dry.chunks, "{dry:?}");
        let collected = client.collect_garbage(false).await.expect("it collects");
        assert_eq!((collected.chunks, collected.bytes > 0), (dry.chunks, true), "a dry run removes nothing");
        is_sound(alice.repository());
        alice.node.stop().await;
    });
}

/// The fault it would be: what is in the store counted as whole below, which holds no longer where garbage was collected.
#[test]
fn a_newcomer_with_a_root_and_nothing_below_it_fetches_what_is_below() {
    run(async {
        let herd = Herd::found();
        let alice = herd.start("alice", &[]).await;
        write(alice.repository(), 0..600, "city");
        herd.authority.accept_with_root(alice.repository());
        {
            let store = Arc::new(herd.open_store("bob"));
            let bob = herd.open("bob", store.clone());
            let bases = alice.repository().bases().expect("readable");
            for trees in bases.iter().flat_map(|base| base.trees.values()) {
                let root = alice.repository().store().chunks().get(trees.documents.root()).expect("readable").expect("it is there");
                store.chunks().put_many(&[root]).expect("it is taken");
            }
            store.refs().compare_and_set("collected", None, Some(&[0, 0])).expect("it is noted");
            drop(bob);
        }
        let bob = herd.start("bob", &[alice.address()]).await;
        let name = |repository: &Repository| repository.view().state(None).expect("there").name();
        eventually("bob holds all", || name(bob.repository()) == name(alice.repository())).await;
        assert_eq!(root_of(bob.repository()), root_of(alice.repository()));
        is_sound(bob.repository());
        alice.node.stop().await;
        bob.node.stop().await;
    });
}
