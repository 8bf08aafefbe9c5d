//! A request that is voided or lost is as if it had never been made, and the edits of all others keep their names.

use std::sync::Arc;

use herdbook_model::{
    authority::RequestRef,
    request::Request,
    testutil::{ANIMALS, Delivery, Replica, animal, elements, key, put, request, schema, set, update, workload::Rng},
    time::Time,
};

use crate::history::History;

/// The same commit as far as replay can tell, without the edits of the requests that `skips` names.
fn without(delivery: &Delivery, skips: impl Fn(u32) -> bool) -> Delivery {
    let empty = |request: &Request| Arc::new(Request { groups: Vec::new(), ..request.clone() });
    let emptied = |(at, request): (u32, &Option<Arc<Request>>)| match request {
        Some(request) if skips(at) => Some(empty(request)),
        request => request.clone(),
    };
    Delivery { commit: delivery.commit.clone(), requests: (0..).zip(&delivery.requests).map(emptied).collect() }
}

#[test]
fn skipped_requests_are_as_if_never_made_and_move_no_dot() {
    for seed in 0..150 {
        let History { commits, .. } = History::of(seed, 50);
        let mut rng = Rng::new(seed);
        let refs = |delivery: &Delivery| {
            let commit = delivery.commit.id();
            (0..delivery.commit.header().request_count).map(move |request| RequestRef { commit, request }).collect::<Vec<_>>()
        };
        let skipped: Vec<_> = commits.iter().flat_map(refs).filter(|_| rng.below(3) == 0).collect();
        let [mut voided, mut lost, mut never] = ["voided", "lost", "never"].map(|name| Replica::new(name, Arc::new(schema())));
        for request in &skipped {
            voided.skip(*request);
            lost.skip(*request);
        }
        for delivery in &commits {
            let skips = |request| skipped.contains(&RequestRef { commit: delivery.commit.id(), request });
            let mut absent = delivery.clone();
            for (at, request) in (0..).zip(&mut absent.requests) {
                if skips(at) {
                    *request = None;
                }
            }
            for (replica, delivery) in [(&mut voided, delivery), (&mut lost, &absent), (&mut never, &without(delivery, skips))] {
                replica.receive(delivery).expect("commits of a herd fit each other");
            }
        }
        [&mut voided, &mut lost, &mut never].into_iter().for_each(Replica::fold);
        assert_eq!(voided.state().root(), never.state().root(), "seed {seed}");
        assert_eq!(lost.state().root(), never.state().root(), "seed {seed}");
    }
}

#[test]
fn what_a_skipped_request_took_away_stands_again() {
    let mut alice = Replica::new("alice", Arc::new(schema()));
    let tags = |add: &[&'static str], remove: &[&'static str]| elements(animal::TAGS, add.to_vec(), remove.to_vec());
    alice.commit(
        Time::from_millis(1),
        [(ANIMALS, update("alma", [set(animal::NAME, "Alma"), tags(&["wild"], &[]), put(animal::YIELDS, "may", 7)]))],
    );
    let bad = request(1, [(ANIMALS, update("alma", [set(animal::NAME, "Olga"), tags(&[], &["wild"]), put(animal::YIELDS, "may", 0)]))]);
    let good = request(2, [(ANIMALS, update("alma", [tags(&["tame"], &[])]))]);
    let delivery = alice.sign(alice.header(Time::from_millis(2)), vec![bad, good]);
    let mut bob = Replica::new("bob", Arc::new(schema()));
    bob.skip(RequestRef { commit: delivery.commit.id(), request: 0 });
    alice.deliveries().chain([&delivery]).for_each(|delivery| bob.receive(delivery).expect("fits"));
    let document = bob.state().get(bob.nodes(), ANIMALS, &key("alma")).expect("whole").expect("alive");
    let view = document.view(schema().by_id(ANIMALS).expect("there")).expect("alive");
    let text = herdbook_model::json::view_to_json(&view);
    assert_eq!(text["name"], "Alma");
    assert_eq!(text["tags"], serde_json::json!(["tame", "wild"]));
    assert_eq!(text["yields"], serde_json::json!({"may": 7}));
}
