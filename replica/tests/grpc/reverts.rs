//! Reverts of more than single commits: of a session, a stretch, a document, a collection, of everything since a time.

use std::collections::BTreeMap;

use herdbook_model::{
    id::CommitId,
    value::{Key, Value},
};
use herdbook_proto::{
    document::{At, Place},
    edit::{Change, Operation},
    history::{Log, Revert, Reverted},
    read::List,
};
use proptest::prelude::*;

use crate::server::{Server, city, create, delete, int, key, list, put, request_key, run, set_at, text, update};

/// What a reader sees of all cities.
type Seen = BTreeMap<Key, (BTreeMap<String, Value>, usize)>;

async fn seen(server: &Server, at: At) -> Seen {
    let list = List { place: Place { repository: None, at }, ..list("", 1000) };
    let page = server.client.list(list).await.expect("it lists");
    assert!(page.next.is_empty());
    let fields = |document: &herdbook_proto::document::Document| {
        let fields = document.fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        (document.name.key.clone(), (fields, document.conflicts.len()))
    };
    page.documents.iter().map(fields).collect()
}

fn selection() -> Revert {
    Revert { request: Some(request_key()), ..Revert::of(Vec::new()) }
}

async fn revert(server: &Server, revert: Revert) -> Reverted {
    server.client.revert(revert).await.expect("it reverts")
}

async fn population(server: &Server, key: &str) -> Option<Value> {
    server.get(key).await.and_then(|document| document.fields.get("population").cloned())
}

#[test]
fn a_session_is_taken_back_and_what_others_wrote_since_stays() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [("population", int(1))]), create("ulm", [("population", int(1))])]).await;
        server.exchange();
        set_at(&server.bob, "bonn", "population", int(2));
        set_at(&server.bob, "ulm", "population", int(2));
        server.exchange();
        server.commit(vec![update("ulm", [("population", int(3))])]).await;
        let reverted = revert(&server, Revert { session: Some(server.bob.session()), ..selection() }).await;
        assert_eq!((reverted.edits, reverted.left, reverted.documents), (1, 1, vec![city("bonn")]));
        assert_eq!(reverted.skipped[0].name, city("ulm"));
        assert_eq!((population(&server, "bonn").await, population(&server, "ulm").await), (Some(int(1)), Some(int(3))));
    });
}

#[test]
fn a_stretch_of_history_is_taken_back() {
    run(async {
        let server = Server::start().await;
        let mut commits = Vec::new();
        for at in 0..6 {
            commits.push(
                server.commit(vec![put(&format!("city-{at}"), [("population", int(at))]), put("all", [("population", int(at))])]).await,
            );
        }
        let stretch = Revert { since: Some(At::Commit(commits[1])), until: Some(At::Commit(commits[4])), ..selection() };
        let reverted = revert(&server, stretch).await;
        assert_eq!((reverted.edits, reverted.skipped[0].name.clone()), (3, city("all")));
        let left: Vec<_> = seen(&server, At::NEWEST).await.into_keys().map(|key| key.to_string()).collect();
        assert_eq!(left, ["all", "city-0", "city-1", "city-5"]);
        assert_eq!(population(&server, "all").await, Some(int(5)));
    });
}

#[test]
fn a_document_or_collection_goes_back_and_nothing_else() {
    run(async {
        let server = Server::start().await;
        let first = server.commit(vec![put("bonn", [("population", int(1))]), put("ulm", [("population", int(1))])]).await;
        for at in 2..5 {
            let river = herdbook_proto::edit::Edit {
                name: herdbook_proto::document::Name { collection: "rivers".into(), key: key("rhine") },
                operation: Operation::Put(vec![("name".into(), text(&format!("Rhine {at}")))]),
            };
            let both = vec![put("bonn", [("population", int(at))]), put("ulm", [("population", int(at))]), river];
            server.commit(both).await;
        }
        let river = async || {
            let name = herdbook_proto::document::Name { collection: "rivers".into(), key: key("rhine") };
            let get = herdbook_proto::read::Get { place: Place::NEWEST, name };
            server.client.get(get).await.expect("it reads").map(|document| document.fields["name"].clone())
        };
        let since = Some(At::Commit(first));
        let dry = Revert { since: since.clone(), collection: Some("cities".into()), key: Some(key("bonn")), dry_run: true, ..selection() };
        let before = server.digest();
        let told = revert(&server, dry.clone()).await;
        assert_eq!((told.ack.as_ref(), told.documents.clone()), (None, vec![city("bonn")]));
        assert_eq!(server.digest(), before, "a dry run writes nothing");
        revert(&server, Revert { dry_run: false, ..dry }).await;
        assert_eq!((population(&server, "bonn").await, population(&server, "ulm").await), (Some(int(1)), Some(int(4))));
        revert(&server, Revert { since, collection: Some("cities".into()), ..selection() }).await;
        assert_eq!((population(&server, "bonn").await, population(&server, "ulm").await), (Some(int(1)), Some(int(1))));
        assert_eq!(river().await, Some(text("Rhine 4")));
        revert(&server, Revert { collection: Some("rivers".into()), ..selection() }).await;
        assert_eq!(river().await, None, "without a beginning all that was ever done to it is taken back");
    });
}

#[test]
fn a_large_revert_is_made_of_several_commits() {
    run(async {
        let server = Server::start().await;
        let first = server.commit(vec![put("zero", [])]).await;
        let before = seen(&server, At::NEWEST).await;
        let long = "x".repeat(1000);
        for part in 0..4 {
            server.commit((0..700).map(|at| create(&format!("city-{part}-{at:04}"), [("name", text(&long))])).collect()).await;
        }
        let gone: Vec<_> = (0..4).flat_map(|part| (0..700).map(move |at| delete(&format!("city-{part}-{at:04}")))).collect();
        let gone = server.commit(gone).await;
        let request = Revert { request: Some(request_key()), ..Revert::of(vec![gone]) };
        let reverted = revert(&server, request.clone()).await;
        assert_eq!((reverted.edits, reverted.documents.len()), (2800, 1000));
        assert!(reverted.commits.len() > 1, "{:?}", reverted.commits);
        assert_eq!(server.count("city-").await, 2800);
        let again = revert(&server, request).await;
        assert_eq!(again.ack.map(|ack| ack.commit), reverted.commits.last().copied());
        revert(&server, Revert { since: Some(At::Commit(first)), ..selection() }).await;
        assert_eq!(seen(&server, At::NEWEST).await, before);
    });
}

#[test]
fn what_is_back_already_is_not_written_again() {
    run(async {
        let server = Server::start().await;
        let first = server.commit(vec![create("bonn", [("population", int(1)), ("mayor", text("Ada"))])]).await;
        server.commit(vec![update("bonn", [("population", int(2)), ("mayor", text("Bob"))])]).await;
        let back = || Revert { since: Some(At::Commit(first)), ..selection() };
        assert!(revert(&server, back()).await.ack.is_some());
        let before = server.digest();
        let again = revert(&server, back()).await;
        assert_eq!((again.ack, again.edits), (None, 0));
        assert_eq!(server.digest(), before);
        let nothing = server.client.revert(selection()).await.expect_err("everything ever is hardly meant");
        assert_eq!(nothing.kind, herdbook_proto::status::Kind::Invalid);
    });
}

/// The fault: a document that was deleted, made anew and deleted again was taken for one that had not been there before.
#[test]
fn a_document_that_went_and_came_and_went_comes_back() {
    run(async {
        let server = Server::start().await;
        let first = server.commit(vec![create("bonn", [("population", int(1))]), create("ulm", [])]).await;
        let before = seen(&server, At::NEWEST).await;
        for edit in
            [delete("bonn"), create("bonn", [("population", int(2))]), delete("bonn"), delete("ulm"), create("ulm", []), delete("ulm")]
        {
            server.commit(vec![edit]).await;
        }
        for edit in [create("jena", []), delete("jena")] {
            server.commit(vec![edit]).await;
        }
        let reverted = revert(&server, Revert { since: Some(At::Commit(first)), ..selection() }).await;
        assert_eq!((reverted.edits, reverted.skipped.len()), (2, 0));
        assert_eq!(seen(&server, At::NEWEST).await, before);
    });
}

/// The fault: a value that was written again before the document went and came anew was taken for one that others had cleared.
#[test]
fn what_a_document_made_anew_does_not_have_comes_back() {
    run(async {
        let server = Server::start().await;
        let first = server.commit(vec![create("bonn", [("mayor", text("Ada")), ("population", int(1))])]).await;
        let before = seen(&server, At::NEWEST).await;
        let since = [update("bonn", [("mayor", text("Bob"))]), delete("bonn"), create("bonn", [("population", int(2))])];
        for edit in since {
            server.commit(vec![edit]).await;
        }
        revert(&server, Revert { since: Some(At::Commit(first)), ..selection() }).await;
        assert_eq!(seen(&server, At::NEWEST).await, before);
    });
}

/// An edit that one of two members makes.
#[derive(Debug, Clone)]
enum Act {
    Put(u8, i64),
    Mayor(u8, i64),
    Name(u8, bool),
    Twin(u8, u8, i64),
    Delete(u8),
}

fn acts() -> impl Strategy<Value = Vec<(bool, Act)>> {
    let act = prop_oneof![
        (0u8..3, 0i64..5).prop_map(|(at, value)| Act::Put(at, value)),
        (0u8..3, 0i64..5).prop_map(|(at, value)| Act::Mayor(at, value)),
        (0u8..3, any::<bool>()).prop_map(|(at, add)| Act::Name(at, add)),
        (0u8..3, 0u8..2, 0i64..5).prop_map(|(at, twin, value)| Act::Twin(at, twin, value)),
        (0u8..3).prop_map(Act::Delete),
    ];
    proptest::collection::vec((any::<bool>(), act), 1..12)
}

fn edit(act: &Act) -> herdbook_proto::edit::Edit {
    let change = |at: u8, field: &str, change| herdbook_proto::edit::Edit {
        name: city(&format!("c{at}")),
        operation: Operation::Update(vec![(field.into(), change)]),
    };
    match act {
        Act::Put(at, value) => put(&format!("c{at}"), [("population", int(*value))]),
        Act::Mayor(at, value) => change(*at, "mayor", Change::Set(text(&format!("mayor {value}")))),
        Act::Name(at, true) => change(*at, "names", Change::Elements { add: vec![Value::from("n")], remove: vec![] }),
        Act::Name(at, false) => change(*at, "names", Change::Elements { add: vec![], remove: vec![Value::from("n")] }),
        Act::Twin(at, twin, value) => {
            change(*at, "twins", Change::Entries { put: vec![(format!("t{twin}").into(), int(*value))], remove: vec![] })
        }
        Act::Delete(at) => delete(&format!("c{at}")),
    }
}

/// Does what acts say, each at either member; those that do not fit what the member sees are passed over.
async fn perform(server: &Server, bob: &herdbook_proto::client::Client, acts: &[(bool, Act)]) {
    for (at, (alice, act)) in acts.iter().enumerate() {
        let client = if *alice { &server.client } else { bob };
        let _ = client.commit(crate::server::write(vec![edit(act)])).await;
        if at % 4 == 3 {
            server.exchange();
        }
    }
    server.exchange();
}

async fn newest(server: &Server) -> CommitId {
    server.client.log(Log::of(Place::NEWEST)).await.expect("a log").commits[0].id
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// revert(everything since s) shows what s shows; revert of that shows what was there before; both without conflicts of their own.
    #[test]
    fn prop_a_revert_of_a_revert_restores_the_values(before in acts(), since in acts()) {
        run(async move {
            let server = Server::start().await;
            let bob = server.serve_bob().await;
            server.commit(vec![put("c0", [("population", int(0))]), put("c1", [])]).await;
            server.exchange();
            perform(&server, &bob, &before).await;
            // One head, so that the state has a commit's name.
            let marked = At::Commit(server.commit(vec![put("mark", [])]).await);
            server.exchange();
            let old = seen(&server, At::NEWEST).await;
            perform(&server, &bob, &since).await;
            let new = seen(&server, At::NEWEST).await;
            let first = revert(&server, Revert { since: Some(marked), ..selection() }).await;
            let values = |seen: &Seen| seen.iter().map(|(key, (fields, _))| (key.clone(), fields.clone())).collect::<BTreeMap<_, _>>();
            assert_eq!(values(&seen(&server, At::NEWEST).await), values(&old));
            if first.ack.is_some() {
                assert_eq!(first.commits.last(), Some(&newest(&server).await));
                revert(&server, Revert { request: Some(request_key()), ..Revert::of(first.commits) }).await;
                assert_eq!(values(&seen(&server, At::NEWEST).await), values(&new));
            }
        });
    }
}
