//! Reads: an answer is of one state, and a state that was named can be read again.

use std::time::Duration;

use herdbook_model::id::{Judgement, StateName};
use herdbook_proto::{
    document::{At, Place},
    read::{BatchGet, Count, List},
    status::Kind,
    token::Token,
};

use crate::server::{Server, city, create, delete, int, list, put, run, set_at, text, update, write};

async fn cities(server: &Server, count: usize) {
    let edits = (0..count).map(|at| create(&format!("city-{at:04}"), [("population", int(0))])).collect();
    server.commit(edits).await;
}

#[test]
fn pages_show_one_state_while_others_write() {
    run(async {
        let server = Server::start().await;
        cities(&server, 250).await;
        let (mut keys, mut request) = (Vec::new(), list("city-", 60));
        let mut state = None;
        loop {
            let page = server.client.list(request.clone()).await.expect("a page");
            assert!(page.documents.len() <= 60);
            assert_eq!(*state.get_or_insert(page.state), page.state);
            for document in &page.documents {
                assert_eq!(document.fields["population"], int(0), "{}", document.name);
                keys.push(document.name.key.to_string());
            }
            if page.next.is_empty() {
                break;
            }
            // Changed, deleted, added: behind and before where the page ended.
            let at = keys.len();
            let edits = vec![
                update(&format!("city-{:04}", at + 20), [("population", int(7))]),
                delete(&format!("city-{:04}", at + 21)),
                create(&format!("city-{:04}a", at + 22), [("population", int(7))]),
                create(&format!("city-{:04}a", at - 2), [("population", int(7))]),
            ];
            if at + 22 < 250 {
                server.commit(edits).await;
            }
            request = List { page_token: page.next, ..request };
        }
        assert_eq!(keys, (0..250).map(|at| format!("city-{at:04}")).collect::<Vec<_>>());
        assert_eq!(server.count("city-").await, 253);
    });
}

#[test]
fn keys_alone_and_prefixes_are_listed_and_counted() {
    run(async {
        let server = Server::start().await;
        server.commit(["a", "ab", "abc", "b"].into_iter().map(|key| put(key, [])).collect()).await;
        let page = server.client.list(List { keys_only: true, ..list("ab", 0) }).await.expect("a page");
        assert_eq!(page.keys.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ab", "abc"]);
        assert!(page.documents.is_empty() && page.next.is_empty());
        assert_eq!((server.count("").await, server.count("a").await, server.count("ab").await, server.count("x").await), (4, 3, 2, 0));
        // The same once it is in the trees.
        server.repository().materialise().expect("it folds");
        server.commit(vec![delete("ab"), put("aa", []), put("ac", [])]).await;
        assert_eq!((server.count("").await, server.count("a").await, server.count("ab").await), (5, 4, 1));
    });
}

#[test]
fn a_page_ends_at_its_bytes_and_goes_on() {
    run(async {
        let server = Server::start().await;
        let long = "x".repeat(300_000);
        for at in 0..12 {
            server.commit(vec![put(&format!("city-{at:02}"), [("name", text(&long))])]).await;
        }
        let first = server.client.list(list("", 1000)).await.expect("a page");
        assert!(first.documents.len() < 12 && !first.next.is_empty());
        let rest = server.client.list(List { page_token: first.next, ..list("", 1000) }).await.expect("a page");
        assert_eq!(first.documents.len() + rest.documents.len(), 12);
        let names = (0..13).map(|at| city(&format!("city-{at:02}"))).collect();
        let batch = server.client.batch_get(BatchGet { place: Place::NEWEST, names }).await.expect("an answer");
        assert_eq!(batch.documents.len() + batch.left_out.len(), 12);
        assert!(!batch.left_out.is_empty());
        assert_eq!(batch.missing, [city("city-12")]);
    });
}

#[test]
fn any_replica_that_has_the_commits_goes_on_with_a_token() {
    run(async {
        let server = Server::start().await;
        cities(&server, 30).await;
        let first = server.client.list(list("", 20)).await.expect("a page");
        let bob = server.serve_bob().await;
        let next = List { page_token: first.next, ..list("", 20) };
        let failed = bob.list(next.clone()).await.expect_err("bob has nothing yet");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unavailable, "NOT_HERE_YET"));
        server.commit(vec![put("later", [])]).await;
        server.exchange();
        let second = bob.list(next).await.expect("bob has it now");
        assert_eq!((second.documents.len(), second.state), (10, first.state));
    });
}

#[test]
fn a_state_is_read_by_name_commit_and_time() {
    run(async {
        let server = Server::start().await;
        let first = server.client.commit(write(vec![create("berlin", [("population", int(1))])])).await.expect("it commits");
        let time = server.client.show(first.commit).await.expect("it is there").commit.time.millis();
        tokio::time::sleep(Duration::from_millis(5)).await;
        for population in 2..40 {
            server.commit(vec![update("berlin", [("population", int(population))])]).await;
        }
        let population = async |at| server.get_at("berlin", at).await.map(|document| document.fields["population"].clone());
        assert_eq!(population(At::Commit(first.commit)).await, Some(int(1)));
        assert_eq!(population(At::State(first.state)).await, Some(int(1)));
        assert_eq!(population(At::Time { branch: None, millis: time }).await, Some(int(1)));
        assert_eq!(population(At::Time { branch: None, millis: time - 1 }).await, None);
        assert_eq!(population(At::Time { branch: None, millis: u64::MAX }).await, Some(int(39)));
        assert_eq!(population(At::NEWEST).await, Some(int(39)));
    });
}

#[test]
fn a_state_with_several_heads_is_read_again_by_its_name() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("berlin", [("population", int(1))])]).await;
        server.exchange();
        server.commit(vec![update("berlin", [("name", text("Berlin"))])]).await;
        set_at(&server.bob, "berlin", "population", int(2));
        server.exchange();
        let page = server.client.list(list("", 0)).await.expect("a page");
        server.commit(vec![update("berlin", [("population", int(3))])]).await;
        let then = server.get_at("berlin", At::State(page.state)).await.expect("it was there");
        assert_eq!(then, page.documents[0]);
    });
}

#[test]
fn states_of_unknown_names_and_tokens_of_other_judgements_are_out_of_range() {
    run(async {
        let server = Server::start().await;
        cities(&server, 5).await;
        let at = At::State(StateName([7; 32]));
        let count = Count { place: Place { repository: None, at }, collection: "cities".into(), prefix: String::new() };
        let failed = server.client.count(count).await.expect_err("nobody knows it");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::OutOfRange, "STALE_STATE"));
        let page = server.client.list(list("", 2)).await.expect("a page");
        let mut token = Token::from_wire("page_token", &page.next).expect("a token");
        token.anchor.judgement = Judgement([7; 32]);
        let wire = token.to_wire().expect("it fits");
        let failed = server.client.list(List { page_token: wire, ..list("", 2) }).await.expect_err("no such judgement");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::OutOfRange, "STALE_STATE"));
    });
}

#[test]
fn a_token_fits_only_the_question_it_was_given_for() {
    run(async {
        let server = Server::start().await;
        cities(&server, 5).await;
        let page = server.client.list(list("", 2)).await.expect("a page");
        let failed = server.client.list(List { page_token: page.next.clone(), ..list("city", 2) }).await.expect_err("another prefix");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Invalid, "TOKEN_OF_ANOTHER_REQUEST"));
        let mut mangled = page.next.to_vec();
        mangled[10] ^= 1;
        let failed = server.client.list(List { page_token: mangled.into(), ..list("", 2) }).await.expect_err("not a token");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Invalid, "MALFORMED"));
        assert_eq!(failed.metadata["field"], "page_token");
    });
}
