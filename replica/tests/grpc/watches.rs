//! Watches: every step is told, in order, once; a watch that was left is taken up where it was.

use std::time::Duration;

use herdbook_model::{
    authority::{RequestRef, Void},
    value::{Scalar, Value},
};
use herdbook_proto::{
    client::Answers,
    document::{Document, Name},
    edit::{Edit, Operation},
    read::{Event, EventChange, Start, Step, Watch},
    status::{Failed, Kind},
    v1,
};
use herdbook_replica::repository::{Ask, DocumentChange, DocumentEdit};
use herdbook_store::Durability;

use crate::server::{Server, city, create, delete, int, key, put, request_key, run, set_at, text, update, write};

type Steps = Answers<v1::WatchResponse, Step>;

fn watch(start: Start) -> Watch {
    Watch { repository: None, branch: None, collection: None, prefix: String::new(), start }
}

/// Opens a watch and takes its first answer, which tells where it begins.
async fn open(server: &Server, watch: Watch) -> (Steps, Step) {
    let mut steps = server.client.watch(watch).await.expect("it opens");
    let first = next(&mut steps).await.expect("the first answer");
    assert!(first.events.is_empty() && !first.resume_token.is_empty());
    (steps, first)
}

async fn next(steps: &mut Steps) -> Result<Step, Failed> {
    let answer = tokio::time::timeout(Duration::from_secs(20), steps.next()).await.expect("an answer in time");
    answer.map(|step| step.expect("the watch goes on"))
}

/// Takes answers until a step ends; returns its events, and the last answer.
async fn step(steps: &mut Steps) -> (Vec<Event>, Step) {
    let mut events = Vec::new();
    loop {
        let answer = next(steps).await.expect("an answer");
        events.extend(answer.events.clone());
        if !answer.resume_token.is_empty() {
            return (events, answer);
        }
    }
}

fn put_of(event: &Event) -> &Document {
    match &event.change {
        EventChange::Put(document) => document,
        EventChange::Delete(name) => panic!("{name} was deleted"),
    }
}

fn name_of(event: &Event) -> &Name {
    match &event.change {
        EventChange::Put(document) => &document.name,
        EventChange::Delete(name) => name,
    }
}

#[test]
fn each_step_tells_what_documents_are_now_and_who_changed_them() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("aachen", [("population", int(1))])]).await;
        let (mut steps, first) = open(&server, watch(Start::Now)).await;
        let commit = server.commit(vec![update("aachen", [("population", int(2))]), create("bonn", [])]).await;
        let (events, last) = step(&mut steps).await;
        assert_eq!(events.iter().map(name_of).collect::<Vec<_>>(), [&city("aachen"), &city("bonn")]);
        assert_eq!(put_of(&events[0]).fields["population"], int(2));
        assert!(events.iter().all(|event| event.commits == [commit] && event.voided.is_empty()));
        assert!(last.state != first.state);
        let commit = server.commit(vec![delete("bonn")]).await;
        let (events, _) = step(&mut steps).await;
        assert_eq!(events, [Event { change: EventChange::Delete(city("bonn")), commits: vec![commit], voided: Vec::new() }]);
    });
}

#[test]
fn a_watch_tells_only_what_was_asked_for() {
    run(async {
        let server = Server::start().await;
        let filtered = Watch { collection: Some("cities".into()), prefix: "b".to_owned(), ..watch(Start::Now) };
        let (mut steps, _) = open(&server, filtered).await;
        let river = Edit { name: Name { collection: "rivers".into(), key: key("b") }, operation: Operation::Create(Vec::new()) };
        server.commit(vec![create("aachen", []), create("bonn", []), river]).await;
        let (events, _) = step(&mut steps).await;
        assert_eq!(events.iter().map(name_of).collect::<Vec<_>>(), [&city("bonn")]);
    });
}

#[test]
fn a_watch_that_is_resumed_misses_nothing_and_repeats_nothing() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("kept", []), create("gone", [])]).await;
        let (mut steps, _) = open(&server, watch(Start::Now)).await;
        server.commit(vec![create("seen", [])]).await;
        let (_, left) = step(&mut steps).await;
        drop(steps);
        let changed = server.commit(vec![update("kept", [("name", text("Kept"))])]).await;
        server.commit(vec![delete("gone"), create("made", [])]).await;
        server.commit(vec![create("passing", [])]).await;
        server.commit(vec![delete("passing")]).await;
        server.exchange();
        // By its token at the other replica, and by the name of its state at this one.
        let bob = server.serve_bob().await;
        let mut at_bob = bob.watch(watch(Start::Token(left.resume_token.clone()))).await.expect("it opens");
        assert_eq!(next(&mut at_bob).await.expect("the first answer").state, left.state);
        let (mut here, _) = open(&server, watch(Start::State(left.state))).await;
        for steps in [&mut at_bob, &mut here] {
            let (events, _) = step(steps).await;
            assert_eq!(events.iter().map(name_of).collect::<Vec<_>>(), [&city("gone"), &city("kept"), &city("made")]);
            assert_eq!(events[0].change, EventChange::Delete(city("gone")));
            assert_eq!(events[1].commits, [changed]);
        }
        let commit = server.commit(vec![put("next", [])]).await;
        let (events, _) = step(&mut here).await;
        assert_eq!((events.len(), &events[0].commits), (1, &vec![commit]));
    });
}

#[test]
fn a_watch_tells_what_comes_from_other_replicas() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [("population", int(1))])]).await;
        server.exchange();
        let (mut steps, _) = open(&server, watch(Start::Now)).await;
        let one = set_at(&server.bob, "bonn", "population", int(2));
        let two = set_at(&server.bob, "bonn", "name", text("Bonn"));
        server.exchange();
        let (events, _) = step(&mut steps).await;
        assert_eq!(events.len(), 1);
        assert_eq!((&put_of(&events[0]).fields["population"], &put_of(&events[0]).fields["name"]), (&int(2), &text("Bonn")));
        let mut commits = vec![one.commit, two.commit];
        commits.sort();
        assert_eq!(events[0].commits, commits);
    });
}

#[test]
fn a_watch_tells_what_a_void_took_away_and_why() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [("population", int(1))])]).await;
        let refused = server.commit(vec![update("bonn", [("population", int(-1))]), create("atlantis", [])]).await;
        let (mut steps, before) = open(&server, watch(Start::Now)).await;
        let void = Void { request: RequestRef { commit: refused, request: 0 }, reason: "no negative population".to_owned() };
        server.authority.accept(server.repository(), vec![void.clone()]);
        let (events, _) = step(&mut steps).await;
        assert_eq!(events.iter().map(name_of).collect::<Vec<_>>(), [&city("atlantis"), &city("bonn")]);
        assert_eq!(events[0].change, EventChange::Delete(city("atlantis")));
        assert_eq!(put_of(&events[1]).fields["population"], int(1));
        assert!(events.iter().all(|event| event.voided == [void.clone()]));
        // The position before the void can still be told apart from the one after it.
        let (mut resumed, _) = open(&server, watch(Start::Token(before.resume_token))).await;
        assert_eq!(step(&mut resumed).await.0, events);
    });
}

#[test]
fn a_large_step_comes_in_parts_and_ends_with_a_token() {
    run(async {
        let server = Server::start().await;
        let (mut steps, _) = open(&server, watch(Start::Now)).await;
        let long = "x".repeat(1000);
        server.commit((0..2000).map(|at| create(&format!("city-{at:04}"), [("name", text(&long))])).collect()).await;
        let first = next(&mut steps).await.expect("an answer");
        assert!(first.resume_token.is_empty() && !first.events.is_empty());
        let (rest, _) = step(&mut steps).await;
        let keys: Vec<_> = first.events.iter().chain(&rest).map(|event| name_of(event).key.to_string()).collect();
        assert_eq!(keys, (0..2000).map(|at| format!("city-{at:04}")).collect::<Vec<_>>());
    });
}

#[test]
fn a_slow_receiver_is_told_and_goes_on_from_its_last_token() {
    run(async {
        let server = Server::start().await;
        let (mut steps, first) = open(&server, watch(Start::Now)).await;
        let long = "x".repeat(4000);
        let writer = server.handle.clone();
        for at in 0..6000 {
            let change = DocumentChange::Put(vec![("name".into(), text(&long)), ("population".into(), int(at))]);
            let edit = DocumentEdit { collection: "cities".to_owned(), key: key("bonn"), change };
            let ask = Ask {
                branch: None,
                key: request_key(),
                principal: String::new(),
                wanted: Vec::new(),
                edits: vec![edit],
                message: String::new(),
            };
            writer.commit(ask, Durability::Memory).await.expect("it commits");
        }
        let (mut token, mut seen) = (first.resume_token, -1);
        let failed = loop {
            match next(&mut steps).await {
                Ok(step) => {
                    for event in &step.events {
                        let Value::Scalar(Scalar::Int(population)) = put_of(event).fields["population"] else { panic!("an int") };
                        assert_eq!(population, seen + 1, "a step was left out");
                        seen = population;
                    }
                    token = step.resume_token;
                }
                Err(failed) => break failed,
            }
        };
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Exhausted, "SLOW_RECEIVER"));
        assert!(seen < 5999);
        let (mut resumed, _) = open(&server, watch(Start::Token(token))).await;
        let (events, _) = step(&mut resumed).await;
        assert_eq!(put_of(&events[0]).fields["population"], int(5999));
    });
}

#[test]
fn a_watch_ends_when_the_replica_goes_down() {
    run(async {
        let server = Server::start().await;
        let (mut steps, _) = open(&server, watch(Start::Now)).await;
        server.handle.stop();
        let failed = next(&mut steps).await.expect_err("it ends");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unavailable, "STOPPING"));
    });
}

#[test]
fn a_page_token_is_no_place_to_resume_a_watch() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![put("a", []), put("b", [])]).await;
        let page = server.client.list(crate::server::list("", 1)).await.expect("a page");
        let failed = server.client.watch(watch(Start::Token(page.next))).await.expect_err("it is of a list");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Invalid, "TOKEN_OF_ANOTHER_REQUEST"));
        server.client.commit(write(vec![put("c", [])])).await.expect("the server goes on");
    });
}
