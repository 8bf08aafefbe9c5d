//! Laws of states: folding, materialising, migrating, scanning and comparing never change what a state says.

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::{
    authority::RequestRef,
    document::Document,
    id::BranchName,
    migration::{Step, migrate},
    schema::{FieldType, Policy, ScalarType},
    state::{State, advance, compare},
    testutil::{ANIMALS, Herd, Replica, animal, branch, create, delete, key, schema, set, update, workload::Rng},
    time::Time,
    tree::{MemoryNodes, Nodes},
    value::{Key, Scalar},
};

use crate::history::History;

const HISTORIES: std::ops::Range<u64> = 0..100;

fn folded(state: &State, nodes: &MemoryNodes) -> (State, MemoryNodes) {
    let (mut state, mut nodes) = (state.clone(), nodes.clone());
    let made = state.fold(&nodes).expect("nodes in memory are whole");
    nodes.extend(made).expect("what a fold makes is well formed");
    (state, nodes)
}

#[test]
fn folding_sooner_or_later_gives_one_root() {
    for seed in HISTORIES {
        let History { herd, skipped, .. } = History::of(seed, 40);
        let replica = &herd.replicas[0];
        let (mut often, mut nodes) = (State::empty(branch(), Arc::new(schema())), MemoryNodes::default());
        for (id, meta) in replica.in_replay_order(replica.frontier().vector()) {
            let requests = &replica.delivery(&id).requests;
            let skips = |request| skipped.contains(&RequestRef { commit: id, request });
            often.apply(&nodes, id, &meta, requests, skips).expect("nodes in memory are whole");
            let made = often.fold(&nodes).expect("nodes in memory are whole");
            nodes.extend(made).expect("what a fold makes is well formed");
        }
        let (once, _) = replica.replayed(Arc::new(schema()));
        assert_eq!((often.root(), often.trees()), (once.root(), once.trees()), "seed {seed}");
        assert_eq!(once.root(), folded(replica.state(), replica.nodes()).0.root(), "seed {seed}");
    }
}

#[test]
fn what_is_read_ahead_is_what_one_finds_on_the_way() {
    let mut ahead = 0;
    for seed in HISTORIES {
        let History { herd, skipped, .. } = History::of(seed, 80);
        let replica = &herd.replicas[0];
        let order = replica.in_replay_order(replica.frontier().vector());
        // Trees with the first part of the history, of which the rest edits the same few documents, deleted ones too, again and again.
        let (mut state, nodes) = (State::empty(branch(), Arc::new(schema())), MemoryNodes::default());
        let cut = usize::try_from(Rng::new(seed).below(order.len() as u64)).expect("few commits");
        for (id, meta) in &order[..cut] {
            let skips = |request| skipped.contains(&RequestRef { commit: *id, request });
            state.apply(&nodes, *id, meta, &replica.delivery(id).requests, skips).expect("nodes in memory are whole");
        }
        let (mut state, nodes) = folded(&state, &nodes);
        advance(&mut state, replica, &nodes, replica.frontier().vector(), |request| skipped.contains(request)).expect("all is here");
        let (once, _) = replica.replayed(Arc::new(schema()));
        assert_eq!(folded(&state, &nodes).0.root(), once.root(), "seed {seed}");
        ahead += usize::from(cut > 0 && order.len() - cut > 20);
    }
    assert!(ahead > 30, "only {ahead} histories were long enough to be read ahead");
}

#[test]
fn trees_that_were_folded_beside_are_taken_over_by_what_went_on_meanwhile() {
    let mut taken = 0;
    for seed in HISTORIES {
        let History { herd, skipped, .. } = History::of(seed, 60);
        let replica = &herd.replicas[0];
        let mut rng = Rng::new(seed);
        let (mut state, mut nodes) = (State::empty(branch(), Arc::new(schema())), MemoryNodes::default());
        let mut beside: Option<(State, State)> = None;
        for (id, meta) in replica.in_replay_order(replica.frontier().vector()) {
            let skips = |request| skipped.contains(&RequestRef { commit: id, request });
            state.apply(&nodes, id, &meta, &replica.delivery(&id).requests, skips).expect("nodes in memory are whole");
            match (rng.below(4), beside.take()) {
                (0, None) => {
                    let (folded, with) = folded(&state, &nodes);
                    nodes = with;
                    beside = Some((state.clone(), folded));
                }
                (1, Some((before, folded))) => {
                    let (documents, living) = (state.clone(), state.count(ANIMALS));
                    assert!(state.adopt(&before, &folded), "seed {seed}");
                    assert!(!state.adopt(&before, &folded) || before.is_folded(), "it stands on other trees now, seed {seed}");
                    assert!(state.pending() <= documents.pending() && state.count(ANIMALS) == living, "seed {seed}");
                    taken += 1;
                }
                (2, Some((before, folded))) => {
                    // An older moment must not take over what came after it.
                    let mut older = State::empty(branch(), Arc::new(schema()));
                    assert!(!older.adopt(&before, &folded), "seed {seed}");
                    beside = Some((before, folded));
                }
                (_, waiting) => beside = waiting,
            }
        }
        let (replayed, _) = replica.replayed(Arc::new(schema()));
        assert_eq!((state.name(), folded(&state, &nodes).0.root()), (replayed.name(), replayed.root()), "seed {seed}");
    }
    assert!(taken > 100, "it happened: {taken}");
}

#[test]
fn one_edit_of_many_documents_outlives_the_fold_beside_it() {
    let mut herd = Herd::new(1);
    for hundred in 0..20 {
        herd.commit(0, (0..100).map(|at| (ANIMALS, create(&format!("animal-{hundred:02}-{at:02}"), [set(animal::NAME, "plain")]))));
    }
    let replica = &herd.replicas[0];
    let before = replica.state();
    let (folded, nodes) = folded(before, replica.nodes());
    // Each alone: what the two overlays share is then all but the way to one document.
    for at in 0..2000 {
        let name = format!("animal-{:02}-{:02}", at / 100, at % 100);
        let mut edited = replica.clone();
        edited.commit(Time::from_millis(1_800_000_000_000), [(ANIMALS, update(&name, [set(animal::NAME, "changed")]))]);
        let mut state = edited.state().clone();
        assert!(state.adopt(before, &folded));
        let found = state.document(&nodes, ANIMALS, &key(&name)).expect("nodes in memory are whole");
        assert_eq!(found, edited.document(ANIMALS, &name), "{name}");
    }
}

#[test]
fn a_state_opened_from_its_trees_goes_on_like_one_that_was_replayed() {
    for seed in HISTORIES {
        let History { herd, skipped, .. } = History::of(seed, 60);
        let (from, to) = (&herd.replicas[0], &herd.replicas[1]);
        let (mut all, mut behind) = (to.clone(), from.clone());
        from.deliveries().for_each(|delivery| all.receive(delivery).expect("commits of a herd fit each other"));
        behind.fold();
        let half = behind.state();
        let trees = half.trees().clone();
        let mut opened = State::materialised(branch(), Arc::new(schema()), half.frontier().clone(), half.judgement(), trees);
        let target = all.frontier().vector().clone();
        advance(&mut opened, &all, behind.nodes(), &target, |request| skipped.contains(request)).expect("every commit is here");
        let (opened, _) = folded(&opened, behind.nodes());
        let (replayed, _) = all.replayed(Arc::new(schema()));
        assert_eq!((opened.name(), opened.root()), (replayed.name(), replayed.root()), "seed {seed}");
        assert_eq!(opened.count(ANIMALS), replayed.count(ANIMALS), "seed {seed}");
        assert_eq!(opened.count_conflicts(ANIMALS), replayed.count_conflicts(ANIMALS), "seed {seed}");
    }
}

#[test]
fn a_migrated_state_is_the_replay_under_the_new_schema() {
    let add =
        |field: &str, ty, policy, default| Step::Add { collection: "animals".to_owned(), field: field.to_owned(), ty, policy, default };
    let drop = |field: &str| Step::Drop { collection: "animals".to_owned(), field: field.to_owned() };
    let steps = [
        add("colour", FieldType::Scalar(ScalarType::String), Policy::Strict, Some(Scalar::from("brown"))),
        drop("owner"),
        Step::Rename { collection: "animals".to_owned(), from: "legs".to_owned(), to: "feet".to_owned() },
        drop("tags"),
        drop("yields"),
        drop("name"),
    ];
    for taken in 0..=steps.len() {
        let next = Arc::new(migrate(&schema(), &steps[..taken]).expect("steps that can be taken"));
        let next_branch = BranchName::new("main@2").expect("a valid name");
        for seed in HISTORIES.step_by(3) {
            let History { mut herd, .. } = History::of(seed, 50);
            herd.converge();
            let replica = &herd.replicas[0];
            let (migrated, chunks) = replica.state().migrated(replica.nodes(), next_branch.clone(), next.clone()).expect("whole");
            let mut nodes = replica.nodes().clone();
            nodes.extend(chunks).expect("what a migration makes is well formed");
            let (replayed, replayed_nodes) = replica.replayed(next.clone());
            assert_eq!(migrated.root(), replayed.root(), "seed {seed}, {taken} steps");
            assert_eq!(migrated.trees(), replayed.trees(), "seed {seed}, {taken} steps");
            assert_eq!(migrated.count_conflicts(ANIMALS), replayed.count_conflicts(ANIMALS), "seed {seed}, {taken} steps");
            assert_eq!(documents(&migrated, &nodes), documents(&replayed, &replayed_nodes), "seed {seed}, {taken} steps");
        }
    }
}

fn documents<N: Nodes>(state: &State, nodes: &N) -> Vec<(Key, Arc<Document>)> {
    let scan = state.scan(nodes, ANIMALS, "", None).expect("nodes in memory are whole");
    scan.collect::<Result<_, _>>().expect("nodes in memory are whole")
}

/// Keys with shared beginnings, of all lengths, beyond ASCII.
fn keys() -> Vec<String> {
    let long = "k".repeat(Key::MAX - 1);
    let mut keys: Vec<_> = ["\0", "a", "a/", "a/b", "a/b/c", "a0", "ab", "b", "é", "éa", "€", "\u{10ffff}", "k"].map(str::to_owned).into();
    keys.extend([format!("{long}a"), format!("{long}b"), long, format!("{}é", "k".repeat(Key::MAX - 2))]);
    keys.extend((0..60).map(|i| format!("a/{i:02}")));
    keys
}

#[test]
fn scans_counts_conflicts_and_comparisons_agree_with_a_naive_list() {
    let keys = keys();
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let (mut alice, mut bob) = (Replica::new("alice", Arc::new(schema())), Replica::new("bob", Arc::new(schema())));
        for step in 0..60 {
            let document = &keys[rng.index(keys.len())];
            let owner = set(animal::OWNER, ["ada", "bob", "eve"][rng.index(3)]);
            let edit = match rng.below(5) {
                0 => delete(document),
                1 => create(document, [owner]),
                _ => update(document, [owner]),
            };
            let who = if rng.below(2) == 0 { &mut alice } else { &mut bob };
            who.commit(Time::from_millis(step), [(ANIMALS, edit)]);
            if rng.below(10) == 0 {
                who.fold();
            }
        }
        let old = alice.state().clone();
        bob.deliveries().for_each(|delivery| alice.receive(delivery).expect("commits of a herd fit each other"));
        let new = alice.state().clone();
        alice.fold();
        let nodes = alice.nodes();
        for state in [&old, &new, alice.state()] {
            reads_as_naively_found(state, nodes, &keys);
        }
        for (old, new) in [(&old, &new), (&old, alice.state()), (&new, &old)] {
            differs_as_naively_found(old, new, nodes, &keys);
        }
        differs_as_naively_found(&new, alice.state(), nodes, &[]);
    }
}

fn reads_as_naively_found(state: &State, nodes: &MemoryNodes, keys: &[String]) {
    let definition = schema();
    let animals = definition.by_id(ANIMALS).expect("a collection of the schema");
    let get = |text: &String| Some((key(text), state.get(nodes, ANIMALS, &key(text)).expect("nodes in memory are whole")?));
    let naive: BTreeMap<_, _> = keys.iter().filter_map(get).collect();
    assert_eq!(state.count(ANIMALS), naive.len() as u64);
    let in_conflict = naive.iter().filter(|(_, document)| document.has_conflict(animals)).map(|(key, _)| key);
    assert!(state.conflicts(nodes, ANIMALS).expect("nodes in memory are whole").iter().eq(in_conflict));
    let too_long = "k".repeat(Key::MAX + 1);
    for prefix in ["", "a", "a/", "a/1", "é", "\u{10ffff}", "zz", &keys[13], &keys[15], &too_long] {
        for after in std::iter::once(None).chain(keys.iter().map(Some)) {
            let is_in = |key: &Key| key.as_str().starts_with(prefix) && after.is_none_or(|after| key.as_str() > after.as_str());
            let expected: Vec<_> =
                naive.iter().filter(|(key, _)| is_in(key)).map(|(key, document)| (key.clone(), document.clone())).collect();
            let scan = state.scan(nodes, ANIMALS, prefix, after.map(|after| key(after)).as_ref()).expect("nodes in memory are whole");
            let found: Vec<_> = scan.collect::<Result<_, _>>().expect("nodes in memory are whole");
            assert_eq!(found, expected, "prefix of {} bytes, after {after:?}", prefix.len());
        }
    }
}

fn differs_as_naively_found(old: &State, new: &State, nodes: &MemoryNodes, keys: &[String]) {
    for prefix in ["", "a/", "é", "zz"] {
        let mut expected = Vec::new();
        for text in keys.iter().filter(|text| text.starts_with(prefix)) {
            let [before, after] = [old, new].map(|state| state.get(nodes, ANIMALS, &key(text)).expect("nodes in memory are whole"));
            if before != after {
                expected.push((key(text), before, after));
            }
        }
        expected.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let found = compare(nodes, old, new, ANIMALS, prefix, usize::MAX).expect("nodes in memory are whole");
        let found: Vec<_> = found.into_iter().map(|change| (change.key, change.old, change.new)).collect();
        assert_eq!(found, expected, "prefix `{prefix}`");
        let first = compare(nodes, old, new, ANIMALS, prefix, 2).expect("nodes in memory are whole");
        assert_eq!(first.len(), expected.len().min(2));
    }
}
