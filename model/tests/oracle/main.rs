//! Replay against the oracle on random histories: every replica, at every set of commits, in whatever order they came, holds exactly the
//! values of the definition, and whoever knows the same commits holds the same bytes.
//!
//! `HERDBOOK_ORACLE=n` runs n times as many histories. A failure names its seed and its shortest failing length; add it to `SEEDS`.

mod causal;
mod history;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use causal::{Coverage, Oracle};
use herdbook_model::{
    authority::RequestRef,
    document::View,
    schema::{Collection, CollectionId, Schema},
    testutil::{Delivery, Replica, VANISHED, schema, workload::Rng},
    value::Key,
};
use history::History;

/// Seed and length of the shortest histories that a planted fault of replay made fail: a create that forgets nothing, a delete or remove that
/// takes what it did not see, edits of one commit that do not see each other, a strict clear that leaves no sibling, last-writer without
/// its losers, a stale list of conflicts, a put that keeps what it saw.
const SEEDS: [(u64, u64); 9] =
    [(10_003, 5), (10_001, 7), (10_020, 8), (10_001, 3), (10_002, 3), (10_012, 11), (10_774, 13), (10_035, 1), (20_001, 82)];

#[test]
fn replay_gives_the_values_of_the_definition_in_short_histories() {
    run(6_000, 10_000, |rng| 1 + rng.below(13));
}

#[test]
fn replay_gives_the_values_of_the_definition_in_long_histories() {
    let seen = run(500, 20_000, |rng| 78 + rng.below(5));
    let counts = [
        seen.deleted,
        seen.delete_against_edit,
        seen.delete_against_delete,
        seen.create_after_delete,
        seen.update_after_delete,
        seen.create_against_create,
        seen.conflicts,
        seen.clears_in_conflict,
        seen.equal_siblings,
        seen.skipped_requests,
        seen.merges,
        seen.late_arrivals,
    ];
    assert!(counts.iter().all(|count| *count > 10), "the histories were too tame: {seen:?}");
}

#[test]
fn histories_that_once_failed_hold() {
    for (seed, steps) in SEEDS {
        check(seed, steps, &mut Coverage::default()).unwrap_or_else(|fault| panic!("seed {seed}, {steps} steps: {fault}"));
    }
}

fn run(count: u64, first: u64, steps: impl Fn(&mut Rng) -> u64) -> Coverage {
    let times = std::env::var("HERDBOOK_ORACLE").map_or(1, |times| times.parse().expect("HERDBOOK_ORACLE is a number"));
    let mut seen = Coverage::default();
    for seed in first..first + count * times {
        let steps = steps(&mut Rng::new(seed));
        if let Err(fault) = check(seed, steps, &mut seen) {
            let shortest = (1..=steps).find(|steps| check(seed, *steps, &mut Coverage::default()).is_err());
            panic!("seed {seed}, {steps} steps, shortest {shortest:?}: {fault}");
        }
    }
    seen
}

/// Checks one history: each replica against the oracle of what it knows, then all of them, and newcomers, on everything.
fn check(seed: u64, steps: u64, seen: &mut Coverage) -> Result<(), String> {
    let schema = Arc::new(schema());
    let History { mut herd, commits, skipped } = History::of(seed, steps);
    for (at, replica) in herd.replicas.iter().enumerate() {
        against_oracle(replica, &schema, &skipped, None).map_err(|fault| format!("replica {at} apart: {fault}"))?;
    }
    herd.converge();
    let mut newcomers: Vec<_> = ["early", "late"].into_iter().map(|name| Replica::new(name, schema.clone())).collect();
    let mut order: Vec<&Delivery> = commits.iter().collect();
    for newcomer in &mut newcomers {
        skipped.iter().for_each(|request| newcomer.skip(*request));
        Rng::new(seed ^ 0xf00d).shuffle(&mut order);
        for delivery in &order {
            newcomer.receive(delivery).map_err(|refusal| format!("a newcomer refused: {refusal}"))?;
            seen.late_arrivals += usize::from(newcomer.waiting() > 0);
        }
        order.reverse();
    }
    seen.commits += commits.len();
    seen.merges += commits.iter().filter(|delivery| delivery.commit.header().parents.len() > 1).count();
    seen.skipped_requests += skipped.len();
    against_oracle(&newcomers[0], &schema, &skipped, Some(seen)).map_err(|fault| format!("all commits: {fault}"))?;
    all_alike(herd.replicas.into_iter().chain(newcomers), &schema)
}

fn against_oracle(replica: &Replica, schema: &Schema, skipped: &BTreeSet<RequestRef>, seen: Option<&mut Coverage>) -> Result<(), String> {
    let mut oracle = Oracle::default();
    for delivery in replica.deliveries() {
        oracle.add(delivery, |request| skipped.contains(&RequestRef { commit: delivery.commit.id(), request }));
    }
    let mut living = BTreeMap::new();
    for (collection, key) in oracle.keys() {
        let (expected, found) = (oracle.view(*collection, key, schema), read(replica, schema, *collection, key));
        if expected != found {
            return Err(format!("{collection:?} {key}: the definition says\n{expected:#?}\nreplay says\n{found:#?}"));
        }
        let document = replica.state().document(replica.nodes(), *collection, key).expect("nodes in memory are whole");
        let kept: BTreeSet<_> = document.iter().flat_map(|document| document.stamps()).collect();
        if kept != oracle.stamps(*collection, key, schema) {
            return Err(format!("{collection:?} {key}: it keeps {kept:?}"));
        }
        if let Some(expected) = expected {
            living.insert((*collection, key.clone()), !expected.conflicts.is_empty());
        }
    }
    for Collection { id, .. } in &schema.collections {
        let expected: Vec<_> = living.keys().filter(|(of, _)| of == id).map(|(_, key)| key.clone()).collect();
        let scan = replica.state().scan(replica.nodes(), *id, "", None).expect("nodes in memory are whole");
        let found: Vec<_> = scan.map(|entry| entry.expect("nodes in memory are whole").0).collect();
        if expected != found || replica.state().count(*id) != expected.len() as u64 {
            return Err(format!("{id:?}: a scan finds {found:?} and counts {}, there are {expected:?}", replica.state().count(*id)));
        }
        let expected: Vec<_> =
            living.iter().filter(|((of, _), conflict)| of == id && **conflict).map(|((_, key), _)| key.clone()).collect();
        let found = replica.state().conflicts(replica.nodes(), *id).expect("nodes in memory are whole");
        if !expected.iter().eq(&found) || replica.state().count_conflicts(*id) != expected.len() as u64 {
            return Err(format!("{id:?}: {found:?} are said to be in conflict, {expected:?} are"));
        }
    }
    if let Some(seen) = seen {
        oracle.count(schema, seen);
    }
    Ok(())
}

fn read(replica: &Replica, schema: &Schema, collection: CollectionId, key: &Key) -> Option<View> {
    let document = replica.state().document(replica.nodes(), collection, key).expect("nodes in memory are whole");
    if collection == VANISHED {
        assert_eq!(document, None, "a collection that the schema lacks");
    }
    document?.view(schema.by_id(collection).ok()?)
}

/// Insists on equal frontiers, documents and roots, of states that grew and of states replayed from nothing.
fn all_alike(replicas: impl Iterator<Item = Replica>, schema: &Arc<Schema>) -> Result<(), String> {
    let mut known = None;
    for (at, mut replica) in replicas.enumerate() {
        let (replayed, _) = replica.replayed(schema.clone());
        replica.fold();
        let state = replica.state();
        let found = (state.name(), state.root());
        if (replayed.name(), replayed.root()) != found || replayed.trees() != state.trees() {
            return Err(format!("replica {at}: its state grew to {found:?}, replayed from nothing it is {:?}", replayed.root()));
        }
        if *known.get_or_insert(found) != found {
            return Err(format!("replica {at} has {found:?}, the others {known:?}"));
        }
    }
    Ok(())
}
