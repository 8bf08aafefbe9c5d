//! Explicit merges of one branch into another of the same schema.

use herdbook_model::{
    authority::{Kind as EntryKind, SchemaAction},
    id::{BranchName, CommitId},
    merge::Side,
    value::Value,
};
use herdbook_proto::{
    document::{At, Place},
    edit::{Edit, Write},
    history::Log,
    merge::{Merge, Merged, Rule},
    read::Get,
    status::Kind,
};

use crate::server::{Server, branch, city, create, delete, int, request_key, run, text, update, write};

fn trial() -> BranchName {
    BranchName::new("trial").expect("a valid name")
}

/// Begins a branch at what the server has of the first one.
fn begin(server: &Server) {
    let heads = server.repository().view().state(None).expect("the branch is there").frontier().ids();
    let entry = server.authority.sign(EntryKind::Schema { branch: trial(), action: SchemaAction::Branch { from: branch(), heads } });
    server.exchange();
    for repository in [server.repository(), &server.bob] {
        repository.extend(std::slice::from_ref(&entry)).expect("the entry extends the log");
    }
}

async fn on(server: &Server, branch: BranchName, edits: Vec<Edit>) -> CommitId {
    server.client.commit(Write { branch: Some(branch), ..write(edits) }).await.expect("it commits").commit
}

async fn read(server: &Server, branch: BranchName, key: &str, field: &str) -> Option<Value> {
    let place = Place { repository: None, at: At::Branch(Some(branch)) };
    let document = server.client.get(Get { place, name: city(key) }).await.expect("it reads");
    document.and_then(|document| document.fields.get(field).cloned())
}

fn merge() -> Merge {
    Merge {
        repository: None,
        branch: None,
        from: At::Branch(Some(trial())),
        side: None,
        rules: Vec::new(),
        dry_run: false,
        request: Some(request_key()),
        message: String::new(),
        wait: herdbook_proto::ack::Wait::DURABLE,
    }
}

async fn merged(server: &Server, merge: Merge) -> Merged {
    server.client.merge(merge).await.expect("it merges")
}

/// Two branches that both wrote name, mayor and population of a city, and each one city of its own.
async fn diverged() -> Server {
    let server = Server::start().await;
    server.commit(vec![create("bonn", [("name", text("Bonn")), ("mayor", text("Ada"))])]).await;
    begin(&server);
    on(&server, trial(), vec![update("bonn", [("mayor", text("Theirs")), ("name", text("Theirs"))]), create("theirs", [])]).await;
    on(&server, branch(), vec![update("bonn", [("mayor", text("Ours")), ("name", text("Ours"))]), create("ours", [])]).await;
    server
}

#[test]
fn a_branch_goes_its_own_way_until_it_is_merged() {
    run(async {
        let server = diverged().await;
        assert_eq!(read(&server, trial(), "bonn", "mayor").await, Some(text("Theirs")));
        assert_eq!(read(&server, branch(), "bonn", "mayor").await, Some(text("Ours")));
        assert!(server.get("theirs").await.is_none());
        let done = merged(&server, merge()).await;
        assert_eq!((done.commits, done.decided, done.conflicts), (1, 0, 1));
        assert!(server.get("theirs").await.is_some());
        let bonn = server.get("bonn").await.expect("it is there");
        assert_eq!(bonn.conflicts.len(), 1, "strict values that nobody decided are a stored conflict");
        assert_eq!(done.conflicted, [bonn]);
        // One way: the branch that was taken in is as it was.
        assert_eq!(read(&server, trial(), "bonn", "mayor").await, Some(text("Theirs")));
        let commit = done.ack.expect("it committed").commit;
        let shown = server.client.show(commit).await.expect("it is there").commit;
        assert_eq!((shown.parents.len(), shown.message.as_str()), (2, "merge trial into main@1"));
        let log = server.client.log(Log::of(Place::NEWEST)).await.expect("a log");
        assert_eq!(log.commits.len(), 4, "the log of a branch has what it took in");
        let again = merged(&server, merge()).await;
        assert_eq!((again.ack, again.commits), (None, 0));
        // Both go on, and are merged again.
        on(&server, trial(), vec![update("theirs", [("population", int(5))])]).await;
        assert_eq!(merged(&server, merge()).await.commits, 1);
        assert_eq!(read(&server, branch(), "theirs", "population").await, Some(int(5)));
        // The other way it is a merge like any other.
        let back = Merge { branch: Some(trial()), from: At::Branch(Some(branch())), ..merge() };
        merged(&server, back).await;
        assert!(read(&server, trial(), "ours", "population").await.is_none());
        assert!(
            server
                .client
                .get(Get { place: Place { repository: None, at: At::Branch(Some(trial())) }, name: city("ours") })
                .await
                .expect("it reads")
                .is_some()
        );
    });
}

#[test]
fn a_side_decides_what_both_wrote_and_nothing_else() {
    run(async {
        for (side, expected) in [(Side::Ours, "Ours"), (Side::Theirs, "Theirs")] {
            let server = diverged().await;
            on(&server, trial(), vec![update("theirs", [("name", text("new"))])]).await;
            let done = merged(&server, Merge { side: Some(side), ..merge() }).await;
            assert_eq!((done.decided, done.conflicts), (1, 0));
            assert_eq!(read(&server, branch(), "bonn", "mayor").await, Some(text(expected)));
            assert_eq!(read(&server, branch(), "bonn", "name").await, Some(text(expected)));
            assert_eq!(read(&server, branch(), "theirs", "name").await, Some(text("new")));
            assert!(server.get("ours").await.is_some());
        }
    });
}

#[test]
fn rules_say_who_decides_where() {
    run(async {
        let server = diverged().await;
        let rule = |field: &str, side| Rule { collection: Some("cities".into()), prefix: "bo".to_owned(), field: Some(field.into()), side };
        let elsewhere = Rule { collection: Some("rivers".into()), prefix: String::new(), field: None, side: Some(Side::Theirs) };
        let rules = vec![elsewhere, rule("name", Some(Side::Theirs)), rule("mayor", None)];
        let done = merged(&server, Merge { side: Some(Side::Ours), rules, ..merge() }).await;
        assert_eq!((done.decided, done.conflicts), (1, 1));
        assert_eq!(read(&server, branch(), "bonn", "name").await, Some(text("Theirs")));
        assert_eq!(server.get("bonn").await.expect("it is there").conflicts.len(), 1, "whom the rule leaves out stays in conflict");
    });
}

#[test]
fn a_conflict_of_one_branch_alone_is_not_for_a_merge_to_decide() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [])]).await;
        begin(&server);
        server.exchange();
        crate::server::set_at(&server.bob, "bonn", "mayor", text("Bob"));
        server.commit(vec![update("bonn", [("mayor", text("Ada"))])]).await;
        server.exchange();
        on(&server, trial(), vec![update("bonn", [("population", int(3))])]).await;
        let done = merged(&server, Merge { side: Some(Side::Theirs), ..merge() }).await;
        assert_eq!((done.decided, done.conflicts), (0, 1));
        assert_eq!(server.get("bonn").await.expect("it is there").conflicts.len(), 1);
    });
}

#[test]
fn a_dry_run_tells_and_writes_nothing_and_a_repeated_merge_is_one() {
    run(async {
        let server = diverged().await;
        let before = server.digest();
        let told = merged(&server, Merge { dry_run: true, ..merge() }).await;
        assert_eq!((told.ack.as_ref(), told.commits, told.conflicts, told.conflicted.len()), (None, 1, 1, 1));
        let told = merged(&server, Merge { dry_run: true, side: Some(Side::Theirs), ..merge() }).await;
        assert_eq!((told.decided, told.conflicts), (1, 0));
        assert_eq!(server.digest(), before);
        let request = merge();
        let done = merged(&server, request.clone()).await.ack.expect("it commits");
        let again = merged(&server, request).await.ack.expect("it is known");
        assert_eq!((again.commit, again.repeated), (done.commit, true));
    });
}

#[test]
fn a_merge_reaches_other_members_and_their_subscribers() {
    run(async {
        let server = diverged().await;
        server.exchange();
        let mut watch = herdbook_replica::subscription::Subscription::open(&server.bob, Some(&branch())).expect("the branch is there");
        merged(&server, Merge { side: Some(Side::Theirs), ..merge() }).await;
        server.exchange();
        let step = tokio::time::timeout(std::time::Duration::from_secs(20), watch.next()).await.expect("it comes").expect("it goes on");
        assert!(
            matches!(step.cause, herdbook_replica::subscription::Cause::Replay),
            "all that came in is told, not the commit's own edits alone"
        );
        let state = |repository: &herdbook_replica::Repository| repository.view().state(None).expect("the branch is there").name();
        assert_eq!(state(&server.bob), state(server.repository()));
        for repository in [&server.bob, server.repository()] {
            repository.materialise().expect("it folds");
        }
        let root = |repository: &herdbook_replica::Repository| repository.view().state(None).expect("the branch is there").root();
        assert_eq!(root(&server.bob), root(server.repository()));
        assert!(root(&server.bob).is_some());
    });
}

#[test]
fn a_delete_on_one_side_and_an_edit_on_the_other_keep_the_document() {
    run(async {
        let server = diverged().await;
        on(&server, trial(), vec![delete("bonn")]).await;
        merged(&server, Merge { side: Some(Side::Ours), ..merge() }).await;
        assert_eq!(read(&server, branch(), "bonn", "name").await, Some(text("Ours")));
    });
}

#[test]
fn branches_of_two_schemas_are_not_merged() {
    run(async {
        let server = diverged().await;
        let view = server.repository().view();
        let mut schema = (**view.state(None).expect("the branch is there").schema()).clone();
        schema.version = 2;
        let newer = BranchName::new("main@2").expect("a valid name");
        let entry = server
            .authority
            .sign(EntryKind::Schema { branch: newer.clone(), action: SchemaAction::Start { from: Some(branch()), schema } });
        for repository in [server.repository(), &server.bob] {
            repository.extend(std::slice::from_ref(&entry)).expect("the entry extends the log");
        }
        on(&server, newer.clone(), vec![create("new", [])]).await;
        let refused = server.client.merge(Merge { from: At::Branch(Some(newer)), ..merge() }).await.expect_err("nothing flows back");
        assert_eq!((refused.kind, refused.reason.as_str()), (Kind::Invalid, "OTHER_SCHEMA"));
        assert!(server.get("new").await.is_none());
    });
}
