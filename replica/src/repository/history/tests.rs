//! Vectors are stored as they grow from others; read back, they must be those that the parents give, whatever is in memory.

use herdbook_model::{
    commit::Commit,
    graph::{Graph as _, MemoryGraph},
    id::{BranchName, CommitId, RepositoryId, SchemaId},
    testutil::{Crowd, workload::Rng},
};
use herdbook_store::{Durability, MemoryStore};
use proptest::prelude::*;

use super::*;

fn meta(graph: &MemoryGraph, id: &CommitId) -> Meta {
    let Ok(meta) = graph.meta(id);
    meta.expect("it was committed")
}

fn crowd(sessions: usize, lag: usize, seed: u64) -> Crowd {
    Crowd::new(sessions, lag, seed).at(RepositoryId([1; 32]), BranchName::new("main@1").expect("valid"), SchemaId([2; 32]))
}

/// Stores what `crowd` commits next, `count` commits in batches of `batch`.
fn store(crowd: &mut Crowd, commits: &Commits, count: usize, batch: usize) -> Vec<Commit> {
    let made: Vec<_> = (0..count).map(|_| crowd.commit(&[])).collect();
    for some in made.chunks(batch) {
        let mut batch = Batch::new();
        for (commit, leaves) in some {
            commits.put(&mut batch, &meta(crowd.graph(), &commit.id()), leaves, commit).expect("it has a place");
        }
        commits.store.records().write(batch, Durability::Process).expect("there is room");
    }
    made.into_iter().map(|(commit, _)| commit).collect()
}

fn bytes(commits: &Commits, table: Table) -> usize {
    let records = commits.store.records().scan(table, KeyRange::all(), Direction::Forward);
    records.map(|record| record.expect("readable").value.len()).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn prop_a_vector_read_back_is_the_one_its_parents_give(
        sessions in 1usize..40, lag in 0usize..12, batch in 1usize..30, seed: u64, forgets in proptest::collection::vec(0usize..3, 4)
    ) {
        let mut crowd = crowd(sessions, lag, seed);
        let records: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let open = || Commits { metas: Mutex::new(Metas::bounded(0, 64)), ..Commits::open(records.clone()).expect("readable") };
        let mut commits = open();
        let (mut all, mut random) = (Vec::new(), Rng::new(seed));
        for forget in forgets {
            all.extend(store(&mut crowd, &commits, 60, batch));
            match forget {
                0 => *commits.metas.lock() = Metas::bounded(0, 64),
                1 => commits = open(),
                _ => (0..30).for_each(|_| commits.forget(&[all[random.index(all.len())].id()])),
            }
        }
        random.shuffle(&mut all);
        for commit in &all {
            if random.below(4) == 0 {
                *commits.metas.lock() = Metas::bounded(0, 64);
            }
            prop_assert_eq!(commits.meta(&commit.id()).expect("readable"), Some(meta(crowd.graph(), &commit.id())));
        }
    }
}

#[test]
fn a_checkpoint_carries_the_sessions_that_ended() {
    let mut crowd = crowd(2 * FOLDED, 4, 7);
    let records: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let commits = Commits::open(records.clone()).expect("readable");
    let all = store(&mut crowd, &commits, 6_000, 10);
    let from = |commit: &Commit| commits.stored(&commit.id()).expect("readable").expect("stored").growth.from;
    assert!(all.iter().any(|commit| matches!(from(commit), From::Checkpoint(_))), "none stands on a checkpoint");
    assert!(all.iter().all(|commit| from(commit).steps() <= STEPS));
    let reopened = Commits::open(records).expect("readable");
    for commit in all.iter().rev().step_by(7) {
        assert_eq!(reopened.meta(&commit.id()).expect("readable"), Some(meta(crowd.graph(), &commit.id())));
    }
}

#[test]
fn numbers_survive_batches_that_are_thrown_away() {
    let mut crowd = crowd(2 * FOLDED, 4, 8);
    let records: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let commits = Commits::open(records.clone()).expect("readable");
    let made: Vec<_> = (0..4_000).map(|_| crowd.commit(&[])).collect();
    for (at, (commit, leaves)) in made.iter().enumerate() {
        let meta = meta(crowd.graph(), &commit.id());
        // The first attempt of many is thrown away: numbers and checkpoints that it made are in memory and nowhere else.
        if at % 3 == 0 {
            commits.put(&mut Batch::new(), &meta, leaves, commit).expect("it has a place");
            commits.forget(&[commit.id()]);
        }
        let mut batch = Batch::new();
        commits.put(&mut batch, &meta, leaves, commit).expect("it has a place");
        records.records().write(batch, Durability::Process).expect("there is room");
    }
    let reopened = Commits::open(records).expect("readable");
    for (commit, _) in &made {
        assert_eq!(reopened.meta(&commit.id()).expect("readable"), Some(meta(crowd.graph(), &commit.id())));
    }
}

#[test]
fn what_a_commit_takes_does_not_follow_the_number_of_sessions() {
    const COMMITS: usize = 4_000;
    let [few, many] = [20, 2_000].map(|sessions| {
        let mut crowd = crowd(sessions, 3, 9);
        let commits = Commits::open(Arc::new(MemoryStore::new())).expect("readable");
        let all = store(&mut crowd, &commits, COMMITS, 50);
        let headers: usize = all.iter().map(|commit| herdbook_model::codec::Encode::to_bytes(commit).len()).sum();
        let chains = 16 * sessions;
        (bytes(&commits, Table::Commits) + bytes(&commits, Table::Index) - headers - chains) / COMMITS
    });
    assert!(few <= 12, "{few} bytes a commit with 20 sessions");
    assert!(many <= few + 120, "{many} bytes a commit with 2,000 sessions, {few} with 20");
}

#[test]
fn a_record_that_names_what_is_not_there_is_an_error_and_no_vector() {
    let mut crowd = crowd(3, 0, 10);
    let records: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let commits = Commits::open(records.clone()).expect("readable");
    let all = store(&mut crowd, &commits, 3, 1);
    let mut batch = Batch::new();
    batch.delete(Table::Commits, all[1].id().as_bytes().to_vec());
    records.records().write(batch, Durability::Process).expect("there is room");
    let reopened = Commits::open(records).expect("readable");
    assert!(matches!(reopened.meta(&all[2].id()), Err(Error::Hole { .. })));
    assert_eq!(reopened.meta(&all[1].id()).expect("readable"), None);
}
