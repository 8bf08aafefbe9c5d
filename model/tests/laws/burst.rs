//! Shapes of graphs: bursts, ladders, many parents, long chains, more heads than parents. Nothing recurses and nothing needs a merge commit.

use std::{collections::BTreeSet, sync::Arc, thread};

use herdbook_model::{
    commit::{Commit, MAX_PARENTS},
    graph::{self, Frontier, Graph as _, MemoryGraph, Refusal},
    id::CommitId,
    state::{State, advance},
    testutil::{ANIMALS, Delivery, Herd, Replica, animal, branch, elements, schema, set, update, workload::Rng},
    time::Time,
    vector::VersionVector,
};

#[test]
fn a_burst_of_single_writers_ends_without_any_merge_traffic() {
    for count in [2, 3, 5, 30] {
        let mut herd = Herd::new(count);
        for who in 0..count {
            herd.commit(who, [(ANIMALS, update("alma", [set(animal::OWNER, format!("writer {who}").as_str())]))]);
        }
        herd.converge();
        let names: BTreeSet<_> = herd.replicas.iter().map(|replica| replica.frontier().name(&branch())).collect();
        let commits: BTreeSet<_> =
            herd.replicas.iter().flat_map(|replica| replica.deliveries().map(|delivery| delivery.commit.id())).collect();
        assert_eq!((names.len(), commits.len()), (1, count), "one frontier and no commit beyond the {count}");
        let conflicts = herd.replicas[0].view(ANIMALS, "alma").expect("alive").conflicts;
        assert_eq!(conflicts[0].siblings.len(), count);
    }
}

/// Runs `work` on a stack too small for a recursion as deep as the graph.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().stack_size(256 << 10).spawn(work).expect("a thread").join().expect("the stack was large enough");
}

#[test]
fn a_ladder_of_ten_lanes_and_a_thousand_levels_replays_on_a_small_stack() {
    on_a_small_stack(|| {
        let mut lanes: Vec<_> = (0..10).map(|lane| Replica::new(&format!("lane {lane}"), Arc::new(schema()))).collect();
        let mut all = Replica::new("observer", Arc::new(schema()));
        let mut level: Vec<Delivery> = Vec::new();
        for height in 0..1_000u64 {
            let before = std::mem::take(&mut level);
            for (at, lane) in lanes.iter_mut().enumerate() {
                before.iter().for_each(|delivery| lane.receive(delivery).expect("fits"));
                let tag = elements(animal::TAGS, [["p", "q", "r"][at % 3]], []);
                level.push(lane.commit(Time::from_millis(height), [(ANIMALS, update("alma", [set(animal::EARMARK, at as i64), tag]))]));
            }
            level.iter().for_each(|delivery| all.receive(delivery).expect("fits"));
        }
        assert_eq!(all.deliveries().len(), 10_000);
        assert_eq!(all.deliveries().last().expect("there").commit.header().parents.len(), 10);
        let (replayed, _) = all.replayed(Arc::new(schema()));
        all.fold();
        assert_eq!(replayed.root(), all.state().root());
        assert_eq!(all.view(ANIMALS, "alma").expect("alive").conflicts[0].siblings.len(), 10);
    });
}

#[test]
fn a_chain_of_a_hundred_thousand_commits_enters_backwards_and_replays_on_a_small_stack() {
    on_a_small_stack(|| {
        let mut graph = MemoryGraph::default();
        let mut author = Replica::new("author", Arc::new(schema()));
        let first = author.commit(Time::from_millis(1), [(ANIMALS, update("alma", [set(animal::LEGS, 0)]))]);
        let mut header = author.header(Time::from_millis(2));
        let mut newest = first.commit.id();
        let Ok(Some(meta)) = author.graph().meta(&newest) else { panic!("it was just committed") };
        graph.insert(newest, meta);
        for counter in 2..=100_000 {
            (header.parents, header.previous, header.counter) = (vec![newest], Some(newest), counter);
            header.time = Time::after(header.time, Time::ZERO).expect("far from the end");
            let (commit, _) = Commit::sign(header.clone(), &[], &herdbook_model::testutil::signing_key("author"));
            let Ok(meta) = graph::admit(&graph, &commit);
            newest = commit.id();
            graph.insert(newest, meta.expect("fits"));
        }
        let Ok(frontier) = Frontier::of(&graph, [&newest]);
        let frontier = frontier.expect("its head is in the graph");
        let lacking = herdbook_model::state::lacking(&graph, &VersionVector::default(), frontier.vector()).expect("every commit is here");
        assert_eq!(lacking.len(), 100_000);
        assert!(lacking.windows(2).all(|pair| pair[0].1.counter + 1 == pair[1].1.counter));
    });
}

#[test]
fn commits_that_come_in_backwards_wait_for_their_ancestors() {
    on_a_small_stack(|| {
        let mut author = Replica::new("author", Arc::new(schema()));
        for at in 0..5_000u64 {
            author.commit(Time::from_millis(at), [(ANIMALS, update("alma", [set(animal::LEGS, at.cast_signed())]))]);
        }
        let mut late = Replica::new("late", Arc::new(schema()));
        for delivery in author.deliveries().rev() {
            late.receive(delivery).expect("fits");
        }
        assert_eq!((late.waiting(), late.frontier()), (0, author.frontier()));
    });
}

#[test]
fn sixty_four_parents_are_taken_and_one_that_another_covers_is_refused() {
    let mut herd = Herd::new(MAX_PARENTS + 1);
    for who in 0..MAX_PARENTS {
        herd.commit(who, [(ANIMALS, update("alma", [set(animal::LEGS, who as i64)]))]);
    }
    for from in 0..MAX_PARENTS {
        herd.exchange(from, MAX_PARENTS);
    }
    let hub = &mut herd.replicas[MAX_PARENTS];
    let before = hub.frontier().ids();
    let delivery = hub.commit(Time::ZERO, [(ANIMALS, update("alma", [set(animal::LEGS, 4)]))]);
    assert_eq!((delivery.commit.header().parents.clone(), hub.frontier().ids()), (before.clone(), vec![delivery.commit.id()]));
    let mut header = hub.header(Time::ZERO);
    header.parents.push(before[0]);
    header.parents.sort_unstable();
    let stale = hub.sign(header, Vec::new());
    assert!(matches!(hub.receive(&stale), Err(Refusal::BadLink { rule: "a parent is an ancestor of another", .. })));
}

#[test]
fn with_more_heads_than_parents_a_commit_still_stands_on_its_own_chain() {
    let count = MAX_PARENTS + 8;
    let mut herd = Herd::new(count);
    // Replica 0 wrote first, so its own head is the oldest of all; replica 1 wrote on that of replica 2.
    herd.commit(0, [(ANIMALS, update("alma", [set(animal::LEGS, 0)]))]);
    herd.commit(1, [(ANIMALS, update("alma", [set(animal::LEGS, 1)]))]);
    herd.exchange(1, 2);
    for who in 2..count {
        herd.commit(who, [(ANIMALS, update("alma", [set(animal::LEGS, who as i64)]))]);
    }
    herd.converge();
    for who in [0, 1] {
        let mut apart = herd.clone();
        let delivery = apart.commit(who, [(ANIMALS, update("alma", [set(animal::NAME, "Alma")]))]);
        assert_eq!(delivery.commit.header().parents.len(), MAX_PARENTS);
        for replica in &mut apart.replicas {
            assert_eq!(replica.receive(&delivery), Ok(()));
        }
    }
}

#[test]
fn links_that_break_a_rule_are_refused() {
    let mut herd = Herd::new(3);
    herd.commit(0, [(ANIMALS, update("alma", [set(animal::LEGS, 0)]))]);
    herd.commit(1, [(ANIMALS, update("alma", [set(animal::LEGS, 1)]))]);
    herd.exchange(1, 0);
    let author = herd.replicas[0].clone();
    let good = author.header(herd.now);
    let refused = |change: &dyn Fn(&mut herdbook_model::commit::Header)| {
        let mut header = good.clone();
        change(&mut header);
        author.clone().receive(&author.sign(header, Vec::new())).expect_err("it breaks a rule")
    };
    let rule = |refusal| match refusal {
        Refusal::BadLink { rule, .. } => rule,
        other => panic!("{other}"),
    };
    assert_eq!(rule(refused(&|header| header.time = Time::from_millis(1))), "its time is not above a parent's");
    let (own, mut other) = (good.previous.expect("it committed before"), good.parents.iter().copied());
    let other: CommitId = other.find(|parent| *parent != own).expect("two heads");
    assert_eq!(rule(refused(&|header| header.parents = vec![other])), "`previous` is not among its ancestors");
    assert_eq!(rule(refused(&|header| header.previous = Some(other))), "`previous` is not the commit before it on its chain");
    assert_eq!(rule(refused(&|header| header.counter = 3)), "`previous` is not the commit before it on its chain");
    let fork = refused(&|header| (header.counter, header.previous, header.parents) = (1, None, Vec::new()));
    assert!(matches!(fork, Refusal::Fork { known, .. } if known == own));
    let mut receiver = herd.replicas[2].clone();
    assert_eq!((receiver.receive(&author.sign(good, Vec::new())), receiver.waiting()), (Ok(()), 1));
}

#[test]
fn frontiers_are_the_same_in_whatever_order_commits_come() {
    for seed in 0..100 {
        let crate::history::History { commits, .. } = crate::history::History::of(seed, 60);
        let mut names = BTreeSet::new();
        for order in 0..3 {
            let mut shuffled: Vec<_> = commits.iter().collect();
            Rng::new(seed ^ order).shuffle(&mut shuffled);
            let mut replica = Replica::new("newcomer", Arc::new(schema()));
            shuffled.iter().for_each(|delivery| replica.receive(delivery).expect("fits"));
            names.insert(replica.frontier().name(&branch()));
            let Ok(again) = Frontier::of(replica.graph(), shuffled.iter().map(|delivery| delivery.commit.id()).collect::<Vec<_>>().iter());
            assert_eq!(again.as_ref(), Ok(replica.frontier()));
        }
        assert_eq!(names.len(), 1, "seed {seed}");
    }
}

#[test]
fn a_state_that_cannot_be_completed_says_what_is_missing() {
    let mut herd = Herd::new(1);
    herd.commit(0, [(ANIMALS, update("alma", [set(animal::LEGS, 0)]))]);
    let replica = &herd.replicas[0];
    let mut far = replica.frontier().vector().clone();
    far.raise(replica.chain(), 5);
    let mut state = State::empty(branch(), Arc::new(schema()));
    let fault = advance(&mut state, replica, replica.nodes(), &far, |_| false).expect_err("four commits are missing");
    assert!(fault.to_string().contains("number 2"), "{fault}");
}
