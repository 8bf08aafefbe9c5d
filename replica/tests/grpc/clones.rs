//! First copies: a state that the authority signed, taken as it lies, and the history that leads to it.

use std::sync::Arc;

use herdbook_model::{
    id::StateRoot,
    tree::{Tree, added_chunks},
    vector::VersionVector,
};
use herdbook_replica::{
    Repository,
    repository::{Base, DocumentChange},
};
use herdbook_store::{MemoryStore, Store};

use crate::{
    herd::{Herd, eventually},
    server::{commit_at, lacking, run, text},
};

fn write(repository: &Repository, range: std::ops::Range<u32>) {
    for number in range {
        let name = format!("City number {number} {}", "x".repeat(300));
        commit_at(repository, &format!("city-{number}"), DocumentChange::Put(vec![("name".into(), text(&name))]));
    }
}

fn root_of(repository: &Repository) -> StateRoot {
    repository.root(repository.view().state(None).expect("the branch is there")).expect("it folds")
}

/// Brings the chunks of a base, as an exchange does.
fn bring(base: &Base, from: &Repository, to: &Repository) {
    for trees in base.trees.values() {
        for tree in [trees.documents, trees.deleted, trees.conflicts] {
            for id in added_chunks(from.nodes(), &Tree::empty(), from.nodes(), &tree).expect("whole") {
                let chunk = from.store().chunks().get(id.expect("whole")).expect("readable").expect("it is there");
                to.store().chunks().put_many(&[chunk]).expect("it is taken");
            }
        }
    }
}

/// Alice with 300 documents that the authority signed and 20 beyond, and the base that she has on offer.
fn alice(herd: &Herd) -> (Repository, Base) {
    let alice = herd.open("alice", Arc::new(MemoryStore::default()));
    write(&alice, 0..300);
    herd.authority.accept_with_root(&alice);
    write(&alice, 300..320);
    let bases = alice.bases().expect("readable");
    let [base] = &bases[..] else { panic!("one branch, one base: {bases:?}") };
    (alice, base.clone())
}

#[test]
fn history_below_a_base_is_stored_and_not_replayed_and_what_is_above_is() {
    let herd = Herd::found();
    let (alice, base) = alice(&herd);
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let bob = herd.open("bob", store.clone());
    bring(&base, &alice, &bob);
    assert_eq!(bob.take_bases(vec![base]).expect("readable"), 1);

    let mut history = lacking(&alice, &VersionVector::default());
    let above = history.split_off(300);
    let last = history.split_off(299);
    bob.receive(history).expect("it is taken");
    let branch = crate::server::branch();
    assert_eq!(bob.view().state(None).expect("there").frontier().ids(), [], "nothing is shown before all is here");
    assert_eq!(bob.view().ahead(&branch).expect("it waits").vector().commits(), 299);

    // It goes on after a restart, and an own commit meanwhile is not lost.
    drop(bob);
    let bob = herd.open("bob", store);
    assert_eq!(bob.view().ahead(&branch).expect("it waits").vector().commits(), 299);
    write(&bob, 1000..1001);
    bob.receive(last).expect("it is taken");
    assert!(bob.view().ahead(&branch).is_none(), "the base is the state now");
    assert_eq!(bob.view().vector().commits(), 301);
    bob.receive(above).expect("it is taken");
    alice.receive(lacking(&bob, &alice.view().vector())).expect("it is taken");
    assert_eq!(alice.view().state(None).expect("there").name(), bob.view().state(None).expect("there").name());
    assert_eq!(root_of(&alice), root_of(&bob));
}

#[test]
fn a_base_that_the_authority_did_not_sign_is_not_taken() {
    let herd = Herd::found();
    let (alice, base) = alice(&herd);
    let bob = herd.open("bob", Arc::new(MemoryStore::default()));
    write(&alice, 320..321);
    alice.materialise().expect("it folds");
    let trees = alice.view().state(None).expect("there").trees().clone();
    let forged = Base { trees: Arc::new(trees), ..base.clone() };
    bring(&forged, &alice, &bob);
    assert_eq!(bob.take_bases(vec![forged]).expect("readable"), 0, "other trees");
    let other = Base { heads: vec![herdbook_model::id::CommitId([7; 32])], ..base };
    assert_eq!(bob.take_bases(vec![other]).expect("readable"), 0, "other heads");
}

#[test]
fn a_newcomer_takes_the_signed_state_over_the_wire_and_the_history_after_it() {
    run(async {
        let herd = Herd::found();
        let alice = herd.start("alice", &[]).await;
        write(alice.repository(), 0..2000);
        herd.authority.accept_with_root(alice.repository());
        write(alice.repository(), 2000..2010);
        let bob = herd.start("bob", &[alice.address()]).await;
        let name = |repository: &Repository| repository.view().state(None).expect("there").name();
        eventually("bob holds all", || name(bob.repository()) == name(alice.repository())).await;
        assert_eq!(root_of(bob.repository()), root_of(alice.repository()));
        let materialised = bob.repository().store().refs().get("materialised/main@1").expect("readable");
        assert!(materialised.is_some(), "the base was taken: no 20,000 edits were replayed that would have been folded");
        assert_eq!(bob.repository().store().refs().get("base/main@1").expect("readable"), None);
        alice.node.stop().await;
        bob.node.stop().await;
    });
}
