//! Conflicts: kept until somebody decides, who saw what is there.

use herdbook_model::{
    schema::{Deletes, Policy},
    value::Value,
};
use herdbook_proto::{
    ack::Wait,
    document::{Conflict, Place},
    edit::{Change, Operation},
    history::{Choice, Conflicts, Inspect, Resolve},
    status::Kind,
};

use crate::server::{Server, city, create, delete, int, no_version, request_key, run, set_at, text, update};

fn resolve(key: &str, choice: Choice) -> Resolve {
    Resolve {
        repository: None,
        branch: None,
        name: city(key),
        field: "mayor".into(),
        choice,
        request: Some(request_key()),
        message: String::new(),
        wait: Wait::DURABLE,
    }
}

/// Both replicas name another mayor at the same time. Returns the conflict.
async fn disagree(server: &Server, key: &str) -> Conflict {
    server.commit(vec![create(key, [("mayor", text("nobody"))])]).await;
    server.exchange();
    server.commit(vec![update(key, [("mayor", text("alice"))])]).await;
    set_at(&server.bob, key, "mayor", text("bob"));
    server.exchange();
    let document = server.get(key).await.expect("it is there");
    assert_eq!(document.conflicts.len(), 1);
    document.conflicts[0].clone()
}

async fn listed(server: &Server, page_size: u32) -> Vec<String> {
    let (mut keys, mut page_token) = (Vec::new(), bytes::Bytes::new());
    loop {
        let page =
            server.client.conflicts(Conflicts { place: Place::NEWEST, collection: None, page_size, page_token }).await.expect("a page");
        keys.extend(page.documents.iter().map(|document| document.name.key.to_string()));
        if page.next.is_empty() {
            return keys;
        }
        page_token = page.next;
    }
}

#[test]
fn a_conflict_is_kept_with_who_wrote_what_until_it_is_resolved() {
    run(async {
        let server = Server::start().await;
        let conflict = disagree(&server, "bonn").await;
        assert_eq!(&*conflict.field, "mayor");
        let mut values: Vec<_> = conflict.siblings.iter().map(|sibling| sibling.value.clone()).collect();
        values.sort();
        assert_eq!(values, [Some(Value::from("alice")), Some(Value::from("bob"))]);
        let mut sessions: Vec<_> = conflict.siblings.iter().map(|sibling| sibling.session).collect();
        sessions.sort();
        let mut expected = [server.repository().session(), server.bob.session()];
        expected.sort();
        assert_eq!(sessions, expected);
        assert_eq!(listed(&server, 10).await, ["bonn"]);

        let version = server.get("bonn").await.expect("it is there").version;
        let place = conflict.siblings.iter().position(|sibling| sibling.value == Some(Value::from("alice"))).expect("alice is one");
        let choice = Choice::Sibling { place: u32::try_from(place).expect("few"), version };
        let request = resolve("bonn", choice);
        let ack = server.client.resolve(request.clone()).await.expect("it is resolved");
        let document = server.get("bonn").await.expect("it is there");
        assert_eq!((&document.fields["mayor"], document.conflicts.len()), (&text("alice"), 0));
        assert_eq!(listed(&server, 10).await, Vec::<String>::new());
        let again = server.client.resolve(request).await.expect("it is known");
        assert_eq!((again.commit, again.repeated), (ack.commit, true));
        // The other replica follows, since the commit saw both.
        server.exchange();
        let bob = server.serve_bob().await;
        let there = bob.get(herdbook_proto::read::Get { place: Place::NEWEST, name: city("bonn") }).await.expect("it reads");
        assert_eq!(there, Some(document));
    });
}

#[test]
fn a_conflict_is_resolved_by_a_value_or_by_nothing() {
    run(async {
        let server = Server::start().await;
        disagree(&server, "bonn").await;
        disagree(&server, "ulm").await;
        let value = Choice::Value { value: Value::from("carol"), version: None };
        server.client.resolve(resolve("bonn", value)).await.expect("it is resolved");
        server.client.resolve(resolve("ulm", Choice::Clear { version: None })).await.expect("it is resolved");
        let (bonn, ulm) = (server.get("bonn").await.expect("there"), server.get("ulm").await.expect("there"));
        assert_eq!((bonn.fields.get("mayor"), bonn.conflicts.len()), (Some(&text("carol")), 0));
        assert_eq!((ulm.fields.get("mayor"), ulm.conflicts.len()), (None, 0));
    });
}

#[test]
fn a_decision_on_another_version_is_refused() {
    run(async {
        let server = Server::start().await;
        disagree(&server, "bonn").await;
        let before = server.digest();
        for choice in [
            Choice::Sibling { place: 0, version: no_version() },
            Choice::Clear { version: Some(no_version()) },
            Choice::Value { value: Value::from("carol"), version: Some(no_version()) },
        ] {
            let failed = server.client.resolve(resolve("bonn", choice)).await.expect_err("it has changed");
            assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Precondition, "PRECONDITION_FAILED"));
        }
        let version = server.get("bonn").await.expect("there").version;
        let failed = server.client.resolve(resolve("bonn", Choice::Sibling { place: 2, version })).await.expect_err("two siblings");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Invalid, "NO_SIBLING"));
        assert_eq!(server.digest(), before);
    });
}

#[test]
fn what_is_not_in_conflict_cannot_be_resolved() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [("mayor", text("alice"))])]).await;
        let failed = server.client.resolve(resolve("bonn", Choice::Clear { version: None })).await.expect_err("no conflict");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::NotFound, "NO_CONFLICT"));
        let failed = server.client.resolve(resolve("ulm", Choice::Clear { version: None })).await.expect_err("no document");
        assert_eq!(failed.reason, "DOCUMENT_NOT_FOUND");
        let unknown = Resolve { field: "king".into(), ..resolve("bonn", Choice::Clear { version: None }) };
        let failed = server.client.resolve(unknown).await.expect_err("no field");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Invalid, "FIELD_NOT_FOUND"));
    });
}

#[test]
fn conflicts_are_listed_in_pages() {
    run(async {
        let server = Server::start().await;
        let keys: Vec<_> = (0..7).map(|at| format!("city-{at}")).collect();
        for key in &keys {
            disagree(&server, key).await;
        }
        server.commit(vec![create("calm", [("mayor", text("alice"))])]).await;
        assert_eq!(listed(&server, 3).await, keys);
        assert_eq!(listed(&server, 7).await, keys);
    });
}

#[test]
fn a_document_is_inspected_with_the_rule_of_each_field() {
    run(async {
        let server = Server::start().await;
        disagree(&server, "bonn").await;
        let inspect = Inspect { place: Place::NEWEST, name: city("bonn") };
        let apart = server.client.inspect(inspect.clone()).await.expect("it is there");
        assert_eq!((apart.newest.len(), apart.deletes), (2, Deletes::EditWins));
        assert!(apart.newest.is_sorted_by_key(|newest| newest.origin.time), "oldest first");
        server.commit(vec![update("bonn", [("population", int(1))])]).await;
        let inspected = server.client.inspect(inspect.clone()).await.expect("it is there");
        assert!(inspected.document.is_some());
        let [mayor, population] = inspected.fields.as_slice() else { panic!("two fields: {:?}", inspected.fields) };
        assert_eq!((&*mayor.field, mayor.policy, mayor.values.len()), ("mayor", Policy::Strict, 2));
        assert_eq!(mayor.values.iter().map(|value| value.shown).collect::<Vec<_>>(), [false, true]);
        assert_eq!((&*population.field, population.policy), ("population", Policy::LastWriter));
        assert_eq!(population.values[0].origin.replica, Some(server.repository().replica()));
        assert_eq!(inspected.alive.len(), 1);
        // It has seen both sides.
        let [newest] = inspected.newest.as_slice() else { panic!("one edit: {:?}", inspected.newest) };
        assert_eq!(newest.edit.operation, Operation::Update(vec![("population".into(), Change::Set(int(1)))]));
        // What is kept of a deleted one can still be seen.
        server.commit(vec![delete("bonn")]).await;
        let inspected = server.client.inspect(inspect).await.expect("something is kept");
        assert!(inspected.document.is_none() && inspected.alive.is_empty());
        assert!(inspected.fields.iter().flat_map(|field| &field.values).all(|value| !value.shown));
        let failed = server.client.inspect(Inspect { place: Place::NEWEST, name: city("ulm") }).await.expect_err("never there");
        assert_eq!(failed.reason, "DOCUMENT_NOT_FOUND");
    });
}
