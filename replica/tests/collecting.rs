//! Garbage goes and nothing else does, whoever writes, folds or reads meanwhile.

mod alone;

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use herdbook_model::value::{Key, Scalar, Value};
use herdbook_replica::{
    Repository,
    repository::{Collected, Collecting, DocumentChange, Stage},
};
use herdbook_store::Durability;

use alone::{ask, found, open, open_folding, put, scores, scores_in};

/// Commits so many edits of 400 documents, mostly of the same ones again, and returns what they then hold.
fn fill(repository: &Repository, numbers: std::ops::Range<u64>, expected: &mut BTreeMap<String, i64>) {
    for number in numbers {
        let name = format!("item-{:03}-{}", number.wrapping_mul(0x9e37_79b9) % 400, "k".repeat(120));
        if number % 11 == 5 && expected.remove(&name).is_some() {
            let delete = ask(number, Key::new(name.as_str()).expect("short"), DocumentChange::Delete);
            repository.commit_one(delete, Durability::Process).expect("it commits");
        } else {
            repository.commit_one(put(number, &name), Durability::Process).expect("it commits");
            expected.insert(name, number.cast_signed());
        }
    }
}

fn collect(repository: &Repository) -> Collected {
    repository.collect(Collecting::default(), |_| ()).expect("it collects")
}

fn is_sound(repository: &Repository) {
    repository.materialise().expect("it folds");
    let report = repository.fsck(|_| ()).expect("it reads");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn garbage_goes_and_what_states_are_made_of_stays() {
    let folder = tempfile::tempdir().expect("folder");
    let (mut repository, mut expected) = (found(folder.path()), BTreeMap::new());
    fill(&repository, 0..1_500, &mut expected);
    repository.materialise().expect("it folds");

    let dry = repository.collect(Collecting { dry_run: true, ..Collecting::default() }, |_| ()).expect("it counts");
    assert!(dry.removed * 2 > dry.chunks, "{dry:?}");
    let mut stages = Vec::new();
    let collected = repository.collect(Collecting::default(), |stage| stages.push(stage)).expect("it collects");
    assert_eq!(collected.chunks, dry.chunks, "a dry run removes nothing");
    assert!(collected.removed.abs_diff(dry.removed) < dry.removed / 10, "as foretold: {collected:?} {dry:?}");
    assert!(
        stages.iter().any(|stage| matches!(stage, Stage::Sweeping(..))) && stages.iter().any(|stage| matches!(stage, Stage::Reclaiming(_)))
    );
    assert_eq!(scores(&repository), expected);
    is_sound(&repository);
    assert!(repository.garbage().expect("a guess") < 0.3);

    let again = collect(&repository);
    assert!(again.removed * 10 < collected.removed, "{again:?} after {collected:?}");
    drop(repository);
    repository = open(folder.path(), None);
    assert_eq!(scores(&repository), expected);
    fill(&repository, 10_000..10_200, &mut expected);
    assert_eq!(scores(&repository), expected);
    is_sound(&repository);
}

#[test]
fn commits_and_folds_during_collections_lose_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let (repository, mut expected) = (found(folder.path()), BTreeMap::new());
    fill(&repository, 0..300, &mut expected);
    let (done, mut collections) = (AtomicBool::new(false), 0);
    thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let (mut collections, mut removed) = (0, 0);
            while !done.load(Ordering::Acquire) || collections == 0 {
                removed += collect(&repository).removed;
                collections += 1;
            }
            (collections, removed)
        });
        let mut number = 300;
        // The same few values again and again: trees that were garbage come back.
        while number < 3_000 {
            fill(&repository, number..number + 60, &mut expected);
            fill(&repository, number + 100_000..number + 100_010, &mut expected);
            if number.is_multiple_of(180) {
                repository.materialise().expect("it folds");
            }
            assert_eq!(scores(&repository), expected, "after {number}");
            number += 60;
        }
        done.store(true, Ordering::Release);
        let (count, removed) = collector.join().expect("it collects");
        assert!(removed > 0);
        collections += count;
    });
    assert!(collections >= 1);
    is_sound(&repository);
    drop(repository);
    let repository = open(folder.path(), None);
    assert_eq!(scores(&repository), expected);
    is_sound(&repository);
}

/// The fault: a collection that began while a fold was being stored took away the part that had come before it.
#[test]
fn what_a_fold_stores_in_parts_stays() {
    /// Edits whose leaves take several of the parts in which the store writes chunks.
    const EDITS: u64 = 4_000;
    let folder = tempfile::tempdir().expect("folder");
    drop(found(folder.path()));
    // More than one call brings and less than two: it folds beside the writer.
    let (repository, done) = (open_folding(folder.path(), None, EDITS - 1_000), AtomicBool::new(false));
    let name = |at: u64| Key::new(format!("item-{at:05}-{}", "k".repeat(900))).expect("short");
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                collect(&repository);
            }
        });
        for round in 0..16 {
            let score = |_| DocumentChange::Put(vec![("score".into(), Value::Scalar(Scalar::Int(round)))]);
            let asks = (0..EDITS).map(|at| ask(round.cast_unsigned() * EDITS + at, name(at), score(at))).collect();
            let (tell, told) = std::sync::mpsc::channel();
            repository.commit(asks, Durability::Process, move |receipt, _| tell.send(receipt).expect("somebody waits"));
            told.recv().expect("an answer").expect("it is stored");
            // The fold has the time to store, with the writer free.
            thread::sleep(std::time::Duration::from_millis(100));
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(scores(&repository).into_values().collect::<Vec<_>>(), [15; EDITS as usize]);
    is_sound(&repository);
}

/// The planted bug `skip-pins` must be found by this one.
#[test]
fn what_a_reader_holds_stays_until_it_lets_go() {
    let folder = tempfile::tempdir().expect("folder");
    let (repository, mut expected) = (found(folder.path()), BTreeMap::new());
    fill(&repository, 0..600, &mut expected);
    repository.materialise().expect("it folds");
    let held = repository.view().state(None).expect("one branch").clone();
    let then = expected.clone();
    fill(&repository, 600..2_000, &mut expected);
    repository.materialise().expect("it folds");

    assert!(collect(&repository).removed > 0);
    assert_eq!(scores_in(&repository, &held), then, "the reader goes on");
    drop(held);
    assert!(collect(&repository).removed > 0, "nobody reads it any more");
    assert_eq!(scores(&repository), expected);
    is_sound(&repository);
}

#[test]
fn an_old_state_is_found_again_after_a_collection() {
    let folder = tempfile::tempdir().expect("folder");
    let (repository, mut expected) = (found(folder.path()), BTreeMap::new());
    fill(&repository, 0..200, &mut expected);
    let (then, at) = (expected.clone(), repository.view().state(None).expect("one branch").frontier().ids()[0]);
    fill(&repository, 200..900, &mut expected);
    repository.materialise().expect("it folds");
    collect(&repository);
    let moment = herdbook_replica::repository::Moment::Commit(at);
    let state = repository.state_at(&repository.view(), None, &moment).expect("it replays");
    assert_eq!(scores_in(&repository, &state), then);
}
