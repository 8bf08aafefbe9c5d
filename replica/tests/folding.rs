//! A repository that folds beside its writer says the same as one that never did, whenever it is closed.

mod alone;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use herdbook_model::{
    id::RequestKey,
    value::{Key, Scalar, Value},
};
use herdbook_replica::repository::{Ask, DocumentChange, Settings};
use herdbook_store::Durability;

use alone::{FOLD, ask, found, open, open_folding, open_with, put, scores};

#[test]
fn what_is_folded_beside_the_writer_is_what_was_committed() {
    let folder = tempfile::tempdir().expect("folder");
    let mut repository = found(folder.path());
    let (mut expected, mut folds) = (BTreeMap::new(), 0);
    for number in 0..2_000_u64 {
        let name = format!("item-{:03}", number.wrapping_mul(0x9e37_79b9) % 211);
        let key = Key::new(name.as_str()).expect("short");
        let change = if number % 7 == 3 && expected.remove(&name).is_some() {
            DocumentChange::Delete
        } else {
            expected.insert(name, number as i64);
            DocumentChange::Put(vec![("score".into(), Value::Scalar(Scalar::Int(number as i64)))])
        };
        let before = repository.view().state(None).expect("one branch").trees().clone();
        repository.commit_one(ask(number, key, change), Durability::Process).expect("it commits");
        folds += u32::from(*repository.view().state(None).expect("one branch").trees() != before);
        if number % 331 == 330 {
            // Closed with a fold under way, mostly: it must not hold the store.
            drop(repository);
            repository = open(folder.path(), None);
            assert_eq!(scores(&repository), expected, "after {number} and a restart");
        }
    }
    assert_eq!(scores(&repository), expected);
    assert!(folds >= 20, "trees were taken over {folds} times");
    repository.materialise().expect("it folds");
    assert_eq!(scores(&repository), expected);
    let report = repository.fsck(|_| ()).expect("it reads");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// The fault: the last owner of a repository was a callback on the store's thread, which then waited for a fold that waited for this thread.
#[test]
fn a_repository_that_is_dropped_while_it_commits_and_folds_is_closed() {
    let folder = tempfile::tempdir().expect("folder");
    drop(found(folder.path()));
    for round in 0..40_u64 {
        let repository = open(folder.path(), None);
        let asks = (0..FOLD + 5)
            .map(|at| Ask { key: RequestKey(u128::from(round * 1000 + at).to_be_bytes()), ..put(round, &format!("item-{at}")) });
        repository.commit(asks.collect(), Durability::Durable, |_, _| ());
    }
    let repository = open(folder.path(), None);
    assert_eq!(scores(&repository).into_values().collect::<std::collections::BTreeSet<_>>(), [39].into());
}

/// In a large tree each edit changes a leaf of its own: what a fold writes at once is bounded, not only the edits it gathers.
#[test]
fn a_large_tree_is_folded_after_fewer_edits_than_a_small_one() {
    let gathered = |documents: u64| {
        let folder = tempfile::tempdir().expect("folder");
        drop(found(folder.path()));
        // Sixteen leaves.
        let repository = open_with(folder.path(), None, Settings { fold_edits: 1 << 20, fold_nodes: 64 << 10, ..Settings::default() });
        let name = |at: u64| format!("item-{:05}", at.wrapping_mul(0x9e37_79b9) % documents);
        let asks = (0..documents).map(|at| Ask { key: RequestKey(u128::from(at).to_be_bytes()), ..put(1, &format!("item-{at:05}")) });
        let (done, written) = std::sync::mpsc::channel();
        repository.commit(asks.collect(), Durability::Durable, move |outcome, _| done.send(outcome.is_ok()).expect("it is waited for"));
        assert_eq!(written.recv(), Ok(true));
        repository.materialise().expect("it folds");
        let trees = || repository.view().state(None).expect("one branch").trees().clone();
        let before = trees();
        (1..=400).find(|number| {
            repository.commit_one(put(documents + number, &name(*number)), Durability::Process).expect("it commits");
            std::thread::sleep(Duration::from_millis(1));
            trees() != before
        })
    };
    let large = gathered(8_000).expect("it was folded");
    assert!((16..200).contains(&large), "{large} edits");
    assert_eq!(gathered(200), None, "all of it has fewer than sixteen leaves");
}

/// The fault: whoever looked last at what lay above the trees freed it, up to a hundred thousand documents, in the middle of an exchange.
#[test]
fn what_a_fold_lets_go_of_is_freed_by_nobody_who_read_it() {
    let folder = tempfile::tempdir().expect("folder");
    drop(found(folder.path()));
    let repository = open_folding(folder.path(), None, 1 << 20);
    let asks = (0..6_000_u64).map(|at| Ask { key: RequestKey(u128::from(at).to_be_bytes()), ..put(1, &format!("item-{at:05}")) });
    let (done, written) = std::sync::mpsc::channel();
    repository.commit(asks.collect(), Durability::Durable, move |outcome, _| done.send(outcome.is_ok()).expect("it is waited for"));
    assert_eq!(written.recv(), Ok(true));
    let reading = repository.view();
    assert_eq!(reading.state(None).expect("one branch").pending(), 6_000);
    repository.materialise().expect("it folds");
    assert_eq!(repository.view().state(None).expect("one branch").pending(), 0);
    assert!(Arc::strong_count(&reading) > 1, "the reader is the last that holds it");
    let left = Arc::downgrade(&reading);
    drop(reading);
    let begun = Instant::now();
    while left.strong_count() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is never freed");
        std::thread::sleep(Duration::from_millis(1));
    }
}
