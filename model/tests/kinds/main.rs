//! Replay of every type and policy against the definition on random histories, with documents that mix them all under concurrent deletes:
//! every replica, at every set of commits, in whatever order they came, holds exactly the values of the definition, and whoever knows the same
//! commits holds the same bytes.
//!
//! `HERDBOOK_ORACLE=n` runs n times as many histories. A failure names its seed and its shortest failing length.

mod columns;
mod definition;
mod history;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use definition::Definition;
use herdbook_model::{
    authority::RequestRef,
    codec::{Decode as _, Encode as _},
    document::{Document, Dot, View},
    edit::Edit,
    graph::Graph as _,
    id::CommitId,
    revert::revert,
    schema::{CollectionId, Schema},
    testutil::{Delivery, Replica, workload::Rng},
    time::Time,
    vector::VersionVector,
};
use history::{History, schema};

/// How often each thing was seen, so that a test can insist that the hard things happened.
type Seen = BTreeMap<&'static str, usize>;

#[test]
fn every_type_reads_as_defined_in_short_histories() {
    run(1_500, 10_000, |rng| 1 + rng.below(13));
}

#[test]
fn every_type_reads_as_defined_in_long_histories() {
    let seen = run(150, 20_000, |rng| 50 + rng.below(20));
    for what in ["deleted", "disputed deletes", "nested conflicts", "conflicts", "texts", "lists of several", "counters", "late arrivals"] {
        assert!(seen.get(what).is_some_and(|count| *count > 10), "the histories were too tame: {seen:?}");
    }
}

fn times() -> u64 {
    std::env::var("HERDBOOK_ORACLE").map_or(1, |times| times.parse().expect("HERDBOOK_ORACLE is a number"))
}

fn run(count: u64, first: u64, steps: impl Fn(&mut Rng) -> u64) -> Seen {
    let mut seen = Seen::new();
    for seed in first..first + count * times() {
        let steps = steps(&mut Rng::new(seed));
        if let Err(fault) = check(seed, steps, &mut seen) {
            let shortest = (1..=steps).find(|steps| check(seed, *steps, &mut Seen::new()).is_err());
            panic!("seed {seed}, {steps} steps, shortest {shortest:?}: {fault}");
        }
    }
    seen
}

/// Checks one history: each replica against the definition of what it knows, then all of them, and newcomers, on everything.
fn check(seed: u64, steps: u64, seen: &mut Seen) -> Result<(), String> {
    let schema = Arc::new(schema());
    let History { mut herd, commits, skipped } = History::of(seed, steps);
    for (at, replica) in herd.replicas.iter().enumerate() {
        as_defined(replica, &schema, &skipped, &mut Seen::new()).map_err(|fault| format!("replica {at} apart: {fault}"))?;
    }
    herd.converge();
    let mut newcomers: Vec<_> = ["early", "late"].into_iter().map(|name| Replica::new(name, schema.clone())).collect();
    let mut order: Vec<&Delivery> = commits.iter().collect();
    for newcomer in &mut newcomers {
        skipped.iter().for_each(|request| newcomer.skip(*request));
        Rng::new(seed ^ 0xf00d).shuffle(&mut order);
        for delivery in &order {
            newcomer.receive(delivery).map_err(|refusal| format!("a newcomer refused: {refusal}"))?;
            *seen.entry("late arrivals").or_default() += usize::from(newcomer.waiting() > 0);
        }
        order.reverse();
    }
    as_defined(&newcomers[0], &schema, &skipped, seen).map_err(|fault| format!("all commits: {fault}"))?;
    all_alike(herd.replicas.into_iter().chain(newcomers), &schema)
}

fn as_defined(replica: &Replica, schema: &Schema, skipped: &BTreeSet<RequestRef>, seen: &mut Seen) -> Result<(), String> {
    let mut definition = Definition::default();
    for delivery in replica.deliveries() {
        definition.add(delivery, |request| skipped.contains(&RequestRef { commit: delivery.commit.id(), request }));
    }
    for (collection, key) in definition.keys() {
        let expected = definition.view(*collection, key, schema);
        let document = replica.state().document(replica.nodes(), *collection, key).expect("nodes in memory are whole");
        let of = schema.by_id(*collection).expect("there");
        let found = document.as_ref().and_then(|document| document.view(of));
        if expected != found {
            return Err(format!("{collection:?} {key}: {}", difference(expected.as_ref(), found.as_ref())));
        }
        if let Some(document) = document {
            let bytes = document.to_bytes();
            if Document::from_bytes(&bytes).as_ref() != Ok(&*document) {
                return Err(format!("{collection:?} {key}: {document:?} does not read back: {:?}", Document::from_bytes(&bytes)));
            }
            let listed = expected.as_ref().is_some_and(|view| !view.conflicts.is_empty() || !view.deletes.is_empty());
            if document.has_conflict(of) != listed {
                return Err(format!("{collection:?} {key}: it says of itself that it is {}in conflict", if listed { "not " } else { "" }));
            }
        }
        let mut count = |what, holds: bool| *seen.entry(what).or_default() += usize::from(holds);
        let field = |name: &str| expected.as_ref().and_then(|view| view.fields.get(name));
        count("deleted", expected.is_none());
        count("texts", definition::text(field("body")).len() > 4);
        count("lists of several", matches!(field("items"), Some(herdbook_model::value::Value::List(items)) if items.len() > 2));
        count("counters", field("hits").is_some_and(|hits| *hits != 0.into()));
        if let Some(view) = &expected {
            count("disputed deletes", !view.deletes.is_empty());
            count("conflicts", !view.conflicts.is_empty());
            count("nested conflicts", view.conflicts.iter().any(|conflict| !conflict.path.is_empty()));
        }
    }
    Ok(())
}

/// Says in what two views differ.
fn difference(expected: Option<&View>, found: Option<&View>) -> String {
    let (Some(expected), Some(found)) = (expected, found) else {
        return format!("the definition says it is {}there", if expected.is_some() { "" } else { "not " });
    };
    let names: BTreeSet<_> = expected.fields.keys().chain(found.fields.keys()).collect();
    let differ = names.into_iter().filter(|name| expected.fields.get(*name) != found.fields.get(*name));
    let mut lines: Vec<_> =
        differ.map(|name| format!("{name} is {:?}, read {:?}", expected.fields.get(name), found.fields.get(name))).collect();
    if expected.conflicts != found.conflicts || expected.deletes != found.deletes {
        lines.push(format!(
            "in conflict are {:?} {:?}, found {:?} {:?}",
            expected.conflicts, expected.deletes, found.conflicts, found.deletes
        ));
    }
    lines.join("\n")
}

/// Insists on equal documents and roots, of states that grew and of states replayed from nothing.
fn all_alike(replicas: impl Iterator<Item = Replica>, schema: &Arc<Schema>) -> Result<(), String> {
    let mut known = None;
    for (at, mut replica) in replicas.enumerate() {
        let (replayed, _) = replica.replayed(schema.clone());
        replica.fold();
        let found = (replica.state().name(), replica.state().root());
        if (replayed.name(), replayed.root()) != found {
            return Err(format!("replica {at}: its state grew to {found:?}, replayed from nothing it is {:?}", replayed.root()));
        }
        if *known.get_or_insert(found) != found {
            return Err(format!("replica {at} has {found:?}, the others {known:?}"));
        }
    }
    Ok(())
}

/// The edits that take back a commit, as the replica's parents and its state have it.
fn taken_back(replica: &Replica, id: &CommitId, schema: &Arc<Schema>) -> Vec<(CollectionId, Edit)> {
    let delivery = replica.delivery(id);
    let mut below = VersionVector::default();
    for parent in &delivery.commit.header().parents {
        let Ok(Some(meta)) = replica.graph().meta(parent) else { panic!("parents are in the graph") };
        below.merge(&meta.vector);
    }
    let (then, nodes) = replica.replayed_to(schema.clone(), &below);
    let (chain, counter) = (delivery.commit.chain(), delivery.commit.header().counter);
    let mut edits = Vec::new();
    for (collection, edit) in delivery.requests.iter().flatten().flat_map(|request| request.edits()) {
        let definition = schema.by_id(collection).expect("there");
        let before = then.document(&nodes, collection, &edit.key).expect("whole");
        let now = replica.state().document(replica.nodes(), collection, &edit.key).expect("whole");
        let is_own = |dot: &Dot| dot.chain == chain && dot.counter == counter;
        edits.extend(revert(edit, before.as_deref(), now.as_deref(), definition, is_own).map(|edit| (collection, edit)));
    }
    edits
}

#[test]
fn a_revert_that_is_reverted_restores_what_was_read() {
    let schema = Arc::new(schema());
    let (mut changed, mut tried) = (0, 0);
    // The first once brought back a list but not the clear that hid what others had in it.
    for seed in [31_330].into_iter().chain(30_000..30_000 + 400 * times()) {
        let History { mut herd, commits, skipped } = History::of(seed, 20);
        herd.converge();
        let mut rng = Rng::new(seed);
        // Of a commit of one edit: several edits of one document are taken back as one elsewhere.
        let single = |delivery: &&Delivery| {
            let request = RequestRef { commit: delivery.commit.id(), request: 0 };
            delivery.requests.iter().flatten().flat_map(|request| request.edits()).count() == 1 && !skipped.contains(&request)
        };
        let single: Vec<_> = commits.iter().filter(single).collect();
        let Some(what) = single.get(rng.index(single.len().max(1))) else { continue };
        let replica = &mut herd.replicas[0];
        let names = || schema.collections.iter().flat_map(|of| ["alma", "bella"].map(|name| (of.id, name)));
        let read = |replica: &Replica| names().map(|(of, name)| replica.view(of, name).map(|view| view.fields)).collect::<Vec<_>>();
        let before = read(replica);
        let edits = taken_back(replica, &what.commit.id(), &schema);
        for (collection, edit) in &edits {
            edit.check(schema.by_id(*collection).expect("there")).expect("a revert fits the schema");
        }
        let back = replica.commit(Time::ZERO, edits).commit.id();
        tried += 1;
        changed += usize::from(read(replica) != before);
        let again = taken_back(replica, &back, &schema);
        replica.commit(Time::ZERO, again);
        assert_eq!(read(replica), before, "seed {seed}");
    }
    assert!(changed > 30, "only {changed} of {tried} reverts took anything back");
}
