//! History: logs, single commits, differences, reverts.

use herdbook_model::{
    authority::{RequestRef, Void},
    id::CommitId,
    state::State,
    value::{Scalar, Value},
};
use herdbook_proto::{
    document::{At, Place},
    edit::{Change, Operation, Write},
    history::{Diff, Difference, Fate, Log, Revert, Sides},
    status::Kind,
};

use crate::server::{Server, city, create, delete, int, key, put, request_key, run, set_at, text, update, write};

fn log() -> Log {
    Log::of(Place::NEWEST)
}

async fn ids(server: &Server, log: Log) -> Vec<CommitId> {
    let (mut ids, mut request) = (Vec::new(), log);
    loop {
        let page = server.client.log(request.clone()).await.expect("a page");
        assert!(page.commits.len() <= request.page_size as usize);
        ids.extend(page.commits.iter().map(|commit| commit.id));
        if page.next.is_empty() {
            return ids;
        }
        request = Log { page_token: page.next, ..request };
    }
}

async fn diff(server: &Server, from: At, to: At) -> Vec<Difference> {
    let diff = Diff { repository: None, from, to, collection: None, prefix: String::new() };
    let mut answers = server.client.diff(diff).await.expect("it opens");
    let mut differences = Vec::new();
    while let Some(more) = answers.next().await.expect("it goes on") {
        differences.extend(more);
    }
    differences
}

fn revert(commits: &[CommitId]) -> Revert {
    Revert { request: Some(request_key()), ..Revert::of(commits.to_vec()) }
}

#[test]
fn a_log_lists_all_commits_newest_first_in_pages() {
    run(async {
        let server = Server::start().await;
        let mut made = Vec::new();
        for at in 0..23 {
            made.push(server.commit(vec![put(&format!("city-{}", at % 5), [("population", int(at))])]).await);
        }
        made.reverse();
        assert_eq!(ids(&server, log()).await, made);
        assert_eq!(ids(&server, Log { page_size: 4, ..log() }).await, made);
        let at = Place { repository: None, at: At::Commit(made[10]) };
        assert_eq!(ids(&server, Log { place: at, page_size: 4, ..log() }).await, made[10..]);
    });
}

#[test]
fn a_log_is_narrowed_to_a_document_a_collection_or_a_session() {
    run(async {
        let server = Server::start().await;
        let one = server.commit(vec![create("bonn", [])]).await;
        server.exchange();
        let two = set_at(&server.bob, "bonn", "population", int(1)).commit;
        server.exchange();
        let river = herdbook_proto::edit::Edit {
            name: herdbook_proto::document::Name { collection: "rivers".into(), key: key("rhine") },
            operation: Operation::Create(Vec::new()),
        };
        let three = server.commit(vec![river]).await;
        let four = server.commit(vec![update("bonn", [("name", text("Bonn"))]), create("ulm", [])]).await;
        let of = |collection: &str| Log { collection: Some(collection.into()), ..log() };
        assert_eq!(ids(&server, Log { key: Some(key("bonn")), page_size: 2, ..of("cities") }).await, [four, two, one]);
        assert_eq!(ids(&server, Log { key: Some(key("ulm")), ..of("cities") }).await, [four]);
        assert_eq!(ids(&server, Log { page_size: 1, ..of("rivers") }).await, [three]);
        let session = server.bob.session();
        assert_eq!(ids(&server, Log { session: Some(session), ..log() }).await, [two]);
        let own = Some(server.repository().session());
        assert_eq!(ids(&server, Log { session: own, page_size: 1, ..log() }).await, [four, three, one]);
        assert_eq!(ids(&server, Log { session: own, key: Some(key("bonn")), ..of("cities") }).await, [four, one]);
    });
}

#[test]
fn a_log_is_narrowed_to_a_member_and_a_time() {
    run(async {
        let server = Server::start().await;
        let (mut own, mut times) = (Vec::new(), Vec::new());
        for at in 0..6 {
            own.push(server.commit(vec![put(&format!("city-{at}"), [("population", int(at))])]).await);
            times.push(server.client.show(own[own.len() - 1]).await.expect("it is there").commit.time.millis());
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
        server.exchange();
        let bobs = set_at(&server.bob, "city-0", "population", int(9)).commit;
        server.exchange();
        own.reverse();
        assert_eq!(ids(&server, Log { replica: Some(server.bob.replica()), ..log() }).await, [bobs]);
        assert_eq!(ids(&server, Log { replica: Some(server.repository().replica()), page_size: 2, ..log() }).await, own);
        let between = |since_millis, until_millis| Log { since_millis, until_millis: Some(until_millis), page_size: 2, ..log() };
        assert_eq!(ids(&server, between(times[1], times[4])).await, own[1..5]);
        assert_eq!(ids(&server, between(times[2], times[2])).await, own[3..4]);
        assert_eq!(ids(&server, between(0, u64::MAX)).await.len(), 7);
        assert_eq!(ids(&server, between(0, times[0] - 1)).await, []);
        let of = Log { collection: Some("cities".into()), key: Some(key("city-0")), ..between(times[0], times[0]) };
        assert_eq!(ids(&server, of).await, own[5..]);
        let cut = Log { since_millis: u64::MAX, ..log() };
        assert_eq!(ids(&server, cut).await, []);
    });
}

#[test]
fn the_state_of_a_time_has_every_commit_up_to_it_and_none_after() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [])]).await;
        server.exchange();
        for at in 0..12 {
            server.commit(vec![put(&format!("city-{at}"), [("population", int(at))])]).await;
            set_at(&server.bob, "bonn", "population", int(at));
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            if at % 5 == 2 {
                server.exchange();
            }
        }
        server.exchange();
        let all = server.client.log(log()).await.expect("a page").commits;
        assert_eq!(all.len(), 25);
        let times =
            all.iter().flat_map(|commit| [commit.time.millis() - 1, commit.time.millis()]).collect::<std::collections::BTreeSet<_>>();
        for millis in times {
            let expected: Vec<_> = all.iter().filter(|commit| commit.time.millis() <= millis).map(|commit| commit.id).collect();
            let place = Place { repository: None, at: At::Time { branch: None, millis } };
            assert_eq!(ids(&server, Log::of(place)).await, expected, "at {millis}");
        }
    });
}

#[test]
fn each_commit_is_shown_with_the_entry_that_accepted_it() {
    run(async {
        let server = Server::start().await;
        let mut expected = Vec::new();
        for at in 0..12 {
            let first = server.commit(vec![put("bonn", [("population", int(at))])]).await;
            let second = server.commit(vec![put("ulm", [("population", int(at))])]).await;
            let entry = server.authority.accept(server.repository(), Vec::new());
            expected.extend([(first, entry.seq), (second, entry.seq)]);
        }
        let open = server.commit(vec![put("late", [])]).await;
        let page = server.client.log(log()).await.expect("a page");
        assert_eq!((page.commits[0].id, page.commits[0].accepted), (open, None));
        let accepted = page.commits[1..].iter().rev().map(|commit| (commit.id, commit.accepted.expect("accepted").seq));
        assert_eq!(accepted.collect::<Vec<_>>(), expected);
    });
}

#[test]
fn a_commit_is_shown_by_names_with_what_became_of_it() {
    run(async {
        let server = Server::start().await;
        let commit = server.commit(vec![create("bonn", [("population", int(1)), ("mayor", text("Katja"))])]).await;
        let add = Change::Elements { add: vec![Value::from("Bonna")], remove: Vec::new() };
        let names = herdbook_proto::edit::Edit { name: city("bonn"), operation: Operation::Update(vec![("names".into(), add)]) };
        let request = Write { message: "more names".to_owned(), ..write(vec![names.clone(), delete("bonn")]) };
        let refused = server.client.commit(request.clone()).await.expect("it commits");
        let reference = RequestRef { commit: refused.commit, request: refused.request };
        server.authority.accept(server.repository(), vec![Void { request: reference, reason: "no deletes".to_owned() }]);

        let shown = server.client.show(commit).await.expect("it is there");
        assert_eq!((&shown.requests[0].fate, shown.left_out), (&Fate::Stands, 0));
        let body = shown.requests[0].body.as_ref().expect("its body is here");
        assert_eq!(body.edits, [create("bonn", [("population", int(1)), ("mayor", text("Katja"))])]);
        assert_eq!(shown.commit.replica, Some(server.repository().replica()));

        let shown = server.client.show(refused.commit).await.expect("it is there");
        assert_eq!((shown.commit.message.as_str(), shown.commit.voided[0].request), ("more names", reference));
        assert_eq!(shown.requests[0].fate, Fate::Voided { reason: "no deletes".to_owned() });
        let body = shown.requests[0].body.as_ref().expect("its body is here");
        assert_eq!((Some(body.key), &body.edits), (request.request, &vec![names, delete("bonn")]));
        assert!(server.get("bonn").await.is_some());
    });
}

#[test]
fn a_diff_tells_what_was_added_removed_and_changed() {
    run(async {
        let server = Server::start().await;
        let old = server.commit(vec![create("same", []), create("gone", []), create("bonn", [("population", int(1))])]).await;
        server.repository().materialise().expect("it folds");
        server.commit(vec![delete("gone"), create("made", [])]).await;
        server.commit(vec![update("bonn", [("population", int(2))]), update("same", [])]).await;
        let differences = diff(&server, At::Commit(old), At::NEWEST).await;
        let [bonn, gone, made] = differences.as_slice() else { panic!("three differ: {differences:?}") };
        let Sides::Changed { before, after } = &bonn.sides else { panic!("bonn changed") };
        assert_eq!((&before.fields["population"], &after.fields["population"]), (&int(1), &int(2)));
        assert!(gone.name == city("gone") && matches!(gone.sides, Sides::Removed(_)));
        assert!(made.name == city("made") && matches!(made.sides, Sides::Added(_)));
        assert_eq!(diff(&server, At::NEWEST, At::NEWEST).await, []);
    });
}

#[test]
fn a_large_diff_is_told_whole() {
    run(async {
        let server = Server::start().await;
        let old = server.commit(vec![put("zero", [])]).await;
        let long = "x".repeat(1000);
        server.commit((0..1500).map(|at| create(&format!("city-{at:04}"), [("name", text(&long))])).collect()).await;
        let differences = diff(&server, At::Commit(old), At::NEWEST).await;
        let keys: Vec<_> = differences.iter().map(|difference| difference.name.key.to_string()).collect();
        assert_eq!(keys, (0..1500).map(|at| format!("city-{at:04}")).collect::<Vec<_>>());
    });
}

#[test]
fn a_revert_takes_back_what_nobody_changed_since_and_can_be_reverted() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [("population", int(1))]), create("ulm", [("population", int(1))])]).await;
        let both = vec![update("bonn", [("population", int(2))]), update("ulm", [("population", int(2))]), create("made", [])];
        let bad = server.commit(both).await;
        server.commit(vec![update("ulm", [("population", int(3))])]).await;
        let request = revert(&[bad]);
        let reverted = server.client.revert(request.clone()).await.expect("it reverts");
        assert_eq!((reverted.edits, reverted.skipped.len()), (2, 1));
        assert_eq!(reverted.skipped[0].name, city("ulm"));
        let population = async |key| server.get(key).await.map(|document| document.fields["population"].clone());
        assert_eq!((population("bonn").await, population("ulm").await, server.get("made").await), (Some(int(1)), Some(int(3)), None));
        let ack = reverted.ack.expect("something was taken back");
        let again = server.client.revert(request).await.expect("it is known");
        assert_eq!(again.ack.map(|ack| (ack.commit, ack.repeated)), Some((ack.commit, true)));
        server.client.revert(revert(&[ack.commit])).await.expect("it reverts");
        assert_eq!((population("bonn").await, population("ulm").await), (Some(int(2)), Some(int(3))));
        assert!(server.get("made").await.is_some());
    });
}

#[test]
fn several_commits_are_reverted_as_one() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [("population", int(1))]), create("ulm", [("population", int(1))])]).await;
        let first = server.commit(vec![update("bonn", [("population", int(2))]), update("ulm", [("population", int(2))])]).await;
        server.commit(vec![update("ulm", [("population", int(10))])]).await;
        let second = server.commit(vec![update("bonn", [("population", int(3))]), update("ulm", [("population", int(3))])]).await;
        let reverted = server.client.revert(revert(&[second, first])).await.expect("it reverts");
        assert_eq!(reverted.edits, 2);
        let population = async |key| server.get(key).await.map(|document| document.fields["population"].clone());
        // What they would be had neither commit been made.
        assert_eq!((population("bonn").await, population("ulm").await), (Some(int(1)), Some(int(10))));
    });
}

#[test]
fn a_revert_that_has_nothing_to_take_back_writes_nothing() {
    run(async {
        let server = Server::start().await;
        let commit = server.commit(vec![create("bonn", [("population", int(1))])]).await;
        server.commit(vec![update("bonn", [("population", int(2))]), delete("bonn")]).await;
        let before = server.digest();
        let reverted = server.client.revert(revert(&[commit])).await.expect("an answer");
        assert_eq!((reverted.ack, reverted.edits), (None, 0));
        assert_eq!(server.digest(), before);
        let failed = server.client.revert(revert(&[CommitId([9; 32])])).await.expect_err("no such commit");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::NotFound, "COMMIT_NOT_FOUND"));
    });
}

#[test]
fn a_node_that_folded_tells_the_same_history() {
    run(async {
        let server = Server::start().await;
        let first = server.commit(vec![create("bonn", [("population", int(1))])]).await;
        for at in 2..10 {
            server.commit(vec![update("bonn", [("population", int(at))])]).await;
        }
        let before = diff(&server, At::Commit(first), At::NEWEST).await;
        server.repository().materialise().expect("it folds");
        assert!(server.repository().view().branches.values().all(State::is_folded));
        assert_eq!(diff(&server, At::Commit(first), At::NEWEST).await, before);
        assert_eq!(
            server.get_at("bonn", At::Commit(first)).await.expect("it was there").fields["population"],
            Value::Scalar(Scalar::Int(1))
        );
    });
}
