//! Garbage of running members: collected when asked for, and in nobody's way who fetches a state.

use std::sync::Arc;

use herdbook_model::{authority::Kind, id::StateRoot};
use herdbook_proto::client::Client;
use herdbook_replica::{
    Repository,
    repository::{Collecting, DocumentChange},
};
use herdbook_store::Store as _;

use crate::{
    herd::{Herd, eventually},
    server::{branch, commit_at, run, text},
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

/// Lets what `alice` has stand for its edits, and takes these away from her.
fn cover(herd: &Herd, alice: &Repository) {
    herd.authority.accept_with_root(alice);
    let covered = alice.coverable(&branch(), alice.now()).expect("it replays").expect("something");
    let kind = Kind::Horizon { branch: branch(), heads: covered.heads, root: alice.root(&covered.state).expect("folded") };
    let entry = herd.authority.sign(kind);
    alice.extend(&[entry]).expect("it extends the log");
    let collected = alice.collect(Collecting::default(), |_| ()).expect("it collects");
    assert_eq!(collected.pruned.commits, covered.commits);
}

#[test]
fn a_newcomer_gets_the_state_at_the_horizon_and_what_came_after() {
    run(async {
        let herd = Herd::found();
        let alice = herd.start("alice", &[]).await;
        write(alice.repository(), 0..300, "city");
        cover(&herd, alice.repository());
        write(alice.repository(), 250..350, "town");
        let bob = herd.start("bob", &[alice.address()]).await;
        let name = |repository: &Repository| repository.view().state(None).expect("there").name();
        eventually("bob holds all", || name(bob.repository()) == name(alice.repository())).await;
        assert_eq!(root_of(bob.repository()), root_of(alice.repository()));
        assert!(bob.repository().view().lost.is_empty(), "nothing is lost: a state stands for it");
        // As soon as the exchange has let go of what it fetched.
        eventually("bob collects", || bob.repository().collect(Collecting::default(), |_| ()).is_ok()).await;
        is_sound(bob.repository());
        is_sound(alice.repository());
        // What bob writes upon it comes to alice, and what she writes comes to him.
        write(bob.repository(), 340..360, "village");
        eventually("alice hears it", || name(bob.repository()) == name(alice.repository())).await;
        assert_eq!(root_of(bob.repository()), root_of(alice.repository()));
        alice.node.stop().await;
        bob.node.stop().await;
    });
}

/// Bob was away while a horizon went past all he has; he wrote meanwhile.
#[test]
fn a_member_that_the_horizon_passed_fetches_the_state_and_keeps_what_it_wrote() {
    run(async {
        let herd = Herd::found();
        let alice = herd.start("alice", &[]).await;
        write(alice.repository(), 0..100, "city");
        let name = |repository: &Repository| repository.view().state(None).expect("there").name();
        let bob = herd.start("bob", &[alice.address()]).await;
        eventually("bob holds all", || name(bob.repository()) == name(alice.repository())).await;
        bob.node.stop().await;

        write(alice.repository(), 50..200, "town");
        {
            let bob = herd.open("bob", Arc::new(herd.open_store("bob")));
            write(&bob, 400..410, "alone");
            write(&bob, 60..70, "alone");
        }
        cover(&herd, alice.repository());
        write(alice.repository(), 200..210, "late");

        let bob = herd.start("bob", &[alice.address()]).await;
        eventually("they hold the same", || name(bob.repository()) == name(alice.repository())).await;
        assert_eq!(root_of(bob.repository()), root_of(alice.repository()));
        assert_eq!(bob.repository().view().vector().commits(), 100 + 150 + 20 + 10);
        assert!(bob.repository().view().lost.is_empty() && alice.repository().view().lost.is_empty());
        is_sound(alice.repository());
        // As soon as the exchange has let go of what it fetched.
        eventually("bob collects", || bob.repository().collect(Collecting::default(), |_| ()).is_ok()).await;
        is_sound(bob.repository());
        alice.node.stop().await;
        bob.node.stop().await;
    });
}
