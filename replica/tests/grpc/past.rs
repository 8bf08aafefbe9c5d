//! Blame and playback.

use herdbook_model::{id::CommitId, value::Value};
use herdbook_proto::{
    document::{At, Place},
    edit::{Change, Operation},
    history::Sides,
    past::{Blame, Blamed, Playback, Played},
    status::Kind,
};

use crate::server::{Server, city, create, delete, int, put, run, set_at, text, update};

async fn blame(server: &Server, key: &str, at: At, field: Option<&str>) -> Blamed {
    let blame = Blame { place: Place { repository: None, at }, name: city(key), field: field.map(Into::into) };
    server.client.blame(blame).await.expect("it is there")
}

fn told(blamed: &Blamed) -> Vec<(String, Option<Value>, Option<CommitId>)> {
    let path = |part: &herdbook_proto::past::Part| part.path.iter().fold(part.field.to_string(), |path, step| format!("{path}/{step}"));
    blamed.parts.iter().map(|part| (path(part), part.value.clone(), part.commit)).collect()
}

#[test]
fn each_field_is_owed_to_the_commit_that_wrote_it() {
    run(async {
        let server = Server::start().await;
        let made = server.commit(vec![create("bonn", [("name", text("Bonn")), ("population", int(1))])]).await;
        server.exchange();
        let bobs = set_at(&server.bob, "bonn", "population", int(2)).commit;
        server.exchange();
        let more = vec![
            ("names".into(), Change::Elements { add: vec![Value::from("Bonna")], remove: vec![] }),
            ("twins".into(), Change::Entries { put: vec![("oxford".into(), int(1947))], remove: vec![] }),
        ];
        let edit = herdbook_proto::edit::Edit { name: city("bonn"), operation: Operation::Update(more) };
        let last = server.commit(vec![edit]).await;
        let blamed = blame(&server, "bonn", At::NEWEST, None).await;
        let expected = [
            ("name".to_owned(), Some(text("Bonn")), Some(made)),
            ("population".to_owned(), Some(int(2)), Some(bobs)),
            ("names".to_owned(), Some(text("Bonna")), Some(last)),
            ("twins/oxford".to_owned(), Some(int(1947)), Some(last)),
        ];
        assert_eq!(told(&blamed), expected);
        assert_eq!(blamed.commits.iter().map(|commit| commit.id).collect::<Vec<_>>(), [last, bobs, made]);
        assert_eq!(blamed.commits[1].replica, Some(server.bob.replica()));
        let then = blame(&server, "bonn", At::Commit(made), Some("population")).await;
        assert_eq!(told(&then), [("population".to_owned(), Some(int(1)), Some(made))]);
        let absent = Blame { place: Place::NEWEST, name: city("ulm"), field: None };
        assert_eq!(server.client.blame(absent).await.expect_err("there is none").kind, Kind::NotFound);
    });
}

#[test]
fn both_sides_of_a_conflict_are_blamed() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [])]).await;
        server.exchange();
        let bobs = set_at(&server.bob, "bonn", "mayor", text("Bob")).commit;
        let own = server.commit(vec![update("bonn", [("mayor", text("Ada"))])]).await;
        server.exchange();
        let mut parts = blame(&server, "bonn", At::NEWEST, Some("mayor")).await.parts;
        parts.sort_by_key(|part| part.shown);
        let mut commits: Vec<_> = parts.iter().filter_map(|part| part.commit).collect();
        commits.sort_unstable();
        let mut expected = vec![bobs, own];
        expected.sort_unstable();
        assert_eq!(commits, expected);
        assert_eq!(parts.iter().map(|part| part.shown).collect::<Vec<_>>(), [false, true]);
    });
}

async fn play(server: &Server, playback: Playback) -> Vec<Played> {
    let mut answers = server.client.playback(playback).await.expect("it opens");
    let mut played = Vec::new();
    while let Some(step) = answers.next().await.expect("it goes on") {
        played.push(step);
    }
    played
}

#[test]
fn a_playback_shows_each_commit_with_what_it_changed() {
    run(async {
        let server = Server::start().await;
        let first = server.commit(vec![create("bonn", [("population", int(0))])]).await;
        let mut made = Vec::new();
        for at in 1..6 {
            made.push(server.commit(vec![put("bonn", [("population", int(at))]), create(&format!("city-{at}"), [])]).await);
        }
        server.exchange();
        let bobs = set_at(&server.bob, "bonn", "population", int(9)).commit;
        server.exchange();
        let gone = server.commit(vec![delete("city-1")]).await;
        made.extend([bobs, gone]);
        let all =
            Playback { repository: None, from: At::Commit(first), to: At::NEWEST, collection: None, prefix: String::new(), session: None };
        let played = play(&server, all.clone()).await;
        assert_eq!(played.iter().map(|step| step.commit.id).collect::<Vec<_>>(), made);
        let sides = |step: &Played| -> Vec<(String, Option<Value>, Option<Value>)> {
            let population = |document: &herdbook_proto::document::Document| document.fields.get("population").cloned();
            let told = step.differences.iter().map(|difference| {
                let (before, after) = match &difference.sides {
                    Sides::Added(after) => (None, population(after)),
                    Sides::Removed(before) => (population(before), None),
                    Sides::Changed { before, after } => (population(before), population(after)),
                };
                (difference.name.key.to_string(), before, after)
            });
            told.collect()
        };
        assert_eq!(sides(&played[2]), [("bonn".to_owned(), Some(int(2)), Some(int(3))), ("city-3".to_owned(), None, None)]);
        assert_eq!(sides(&played[5]), [("bonn".to_owned(), Some(int(5)), Some(int(9)))]);
        let of_bob = play(&server, Playback { session: Some(server.bob.session()), ..all.clone() }).await;
        assert_eq!(of_bob.iter().map(|step| (step.commit.id, step.played)).collect::<Vec<_>>(), [(bobs, 6)]);
        let of_one = play(&server, Playback { collection: Some("cities".into()), prefix: "city-1".to_owned(), ..all }).await;
        assert_eq!(of_one.iter().map(|step| step.commit.id).collect::<Vec<_>>(), [made[0], gone]);
    });
}

#[test]
fn a_playback_ends_in_the_state_it_leads_to() {
    run(async {
        let server = Server::start().await;
        for at in 0..10 {
            server.commit(vec![put(&format!("city-{}", at % 3), [("population", int(at))])]).await;
            if at % 3 == 0 {
                server.exchange();
            }
            set_at(&server.bob, "city-0", "mayor", text(&format!("mayor {at}")));
        }
        server.exchange();
        let repository = server.repository();
        let view = repository.view();
        let now = view.state(None).expect("the branch is there");
        let nothing = herdbook_model::state::State::empty(now.branch().clone(), now.schema().clone());
        let mut names = Vec::new();
        for step in repository.playback(&nothing, now).expect("it opens") {
            let step = step.expect("it goes on");
            names.push((step.before.name(), step.after.name()));
        }
        assert_eq!(names.len(), 20);
        assert!(names.windows(2).all(|pair| pair[0].1 == pair[1].0), "each state follows from the one before");
        assert_eq!((names[0].0, names[19].1), (nothing.name(), now.name()));
    });
}
