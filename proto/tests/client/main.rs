//! The typed client against a server on loopback that answers from what it is asked.

mod echo;
mod pipeline;

use std::time::Duration;

use herdbook_model::{
    id::{BranchName, CommitId, RequestKey},
    value::Key,
};
use herdbook_proto::{
    ack::{Level, Wait},
    client::Client,
    document::{Name, Place},
    edit::{Edit, Operation, Write},
    read::{BatchGet, Count, EventChange, Get, List, Start, Watch},
    status::Kind,
    v1,
};
use herdbook_sync::message::{Message, Refusal};

use self::echo::{document, serve};

pub(crate) async fn client() -> Client {
    Client::connect(&[serve().await.to_string()]).await.expect("it serves")
}

pub(crate) fn name(collection: &str, key: &str) -> Name {
    Name { collection: collection.into(), key: Key::new(key).expect("short") }
}

pub(crate) fn write(key: u8) -> Write {
    Write::new(RequestKey([key; 16]), vec![Edit { name: name("cities", "berlin"), operation: Operation::Delete }])
}

#[tokio::test]
async fn a_write_is_acknowledged() {
    let branch = BranchName::new("main@2").expect("well formed");
    let wait = Wait { local: Level::Process, ..Wait::DURABLE };
    let ack = client().await.commit(Write { branch: Some(branch.clone()), wait, ..write(5) }).await.expect("well formed");
    assert_eq!((ack.commit, ack.branch, ack.local, ack.request), (CommitId([5; 32]), branch, Level::Process, 1));
}

#[tokio::test]
async fn a_missing_document_is_none_and_a_missing_collection_is_a_failure_with_a_hint() {
    let client = client().await;
    let get = |collection, key| client.get(Get { place: Place::NEWEST, name: name(collection, key) });
    assert_eq!(get("cities", "nowhere").await, Ok(None));
    assert_eq!(get("cities", "berlin").await, Ok(Some(document(name("cities", "berlin")))));
    let failed = get("towns", "berlin").await.expect_err("no such collection");
    assert_eq!(
        (failed.kind, failed.reason.as_str(), failed.hint.as_deref()),
        (Kind::NotFound, "UNKNOWN_COLLECTION", Some("known: cities"))
    );
    assert_eq!(failed.metadata["collection"], "towns");
}

#[tokio::test]
async fn a_failure_with_texts_of_any_length_arrives() {
    let endless = "ö".repeat(500_000);
    let failed = client().await.get(Get { place: Place::NEWEST, name: name(&endless, "berlin") }).await.expect_err("no such collection");
    assert_eq!((failed.kind, failed.reason.as_str()), (Kind::NotFound, "UNKNOWN_COLLECTION"));
    assert!(failed.message.starts_with("the collection `ö") && failed.metadata["collection"].ends_with('…'));
}

#[tokio::test]
async fn a_batch_tells_what_is_missing() {
    let names = vec![name("cities", "a"), name("cities", "nowhere"), name("cities", "b")];
    let batch = client().await.batch_get(BatchGet { place: Place::NEWEST, names }).await.expect("well formed");
    assert_eq!((batch.documents.len(), batch.missing), (2, vec![name("cities", "nowhere")]));
}

#[tokio::test]
async fn pages_follow_their_tokens() {
    let client = client().await;
    let mut list = List {
        place: Place::NEWEST,
        collection: "cities".into(),
        prefix: String::new(),
        page_size: 10,
        page_token: bytes::Bytes::new(),
        keys_only: false,
    };
    let first = client.list(list.clone()).await.expect("well formed");
    assert!(!first.next.is_empty());
    list.page_token = first.next;
    assert!(client.list(list).await.expect("well formed").next.is_empty());
}

#[tokio::test]
async fn an_answer_above_the_message_limit_is_refused_and_the_connection_lives_on() {
    let client = client().await;
    let list = List {
        place: Place::NEWEST,
        collection: "cities".into(),
        prefix: "huge".to_owned(),
        page_size: 10,
        page_token: bytes::Bytes::new(),
        keys_only: false,
    };
    assert_eq!(client.list(list).await.expect_err("too long").kind, Kind::OutOfRange);
    let count = Count { place: Place::NEWEST, collection: "cities".into(), prefix: "be".to_owned() };
    assert_eq!(client.count(count).await.expect("well formed").documents, 2);
}

#[tokio::test]
async fn a_stream_of_writes_goes_on_after_one_that_fails() {
    let writes = [write(1), Write { request: None, ..write(2) }, write(3)];
    let mut outcomes = client().await.commit_stream(tokio_stream::iter(writes)).await.expect("it opens");
    let mut results = Vec::new();
    while let Some(outcome) = outcomes.next().await.expect("it does not break") {
        results
            .push((outcome.index, outcome.result.map(|ack| ack.commit).map_err(|failed| (failed.kind, failed.metadata["field"].clone()))));
    }
    let malformed = Err((Kind::Invalid, "request_id".to_owned()));
    assert_eq!(results, [(0, Ok(CommitId([1; 32]))), (1, malformed), (2, Ok(CommitId([3; 32])))]);
}

#[tokio::test]
async fn a_watch_tells_what_changes_and_why_it_ends() {
    let watch = Watch { repository: None, branch: None, collection: None, prefix: "ber".to_owned(), start: Start::Now };
    let mut steps = client().await.watch(watch).await.expect("it opens");
    let put = steps.next().await.expect("it does not break").expect("a first step");
    assert_eq!(put.events[0].change, EventChange::Put(document(name("cities", "ber"))));
    let delete = steps.next().await.expect("it does not break").expect("a second step");
    assert_eq!(delete.events[0].change, EventChange::Delete(name("cities", "b")));
    assert_eq!(steps.next().await.expect_err("it fell behind").kind, Kind::Exhausted);
}

#[tokio::test]
async fn a_call_without_answer_ends_at_its_deadline() {
    let client = client().await.with_deadline(Duration::from_millis(50));
    let failed = client.commit(Write { message: "sleep".to_owned(), ..write(1) }).await.expect_err("it sleeps");
    assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unknown, "NO_ANSWER"));
}

#[tokio::test]
async fn the_first_server_that_answers_is_taken() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
    let client = Client::connect(&[free.to_string(), serve().await.to_string()]).await.expect("the second one serves");
    assert!(client.commit(write(1)).await.is_ok());
}

#[tokio::test]
async fn an_exchange_carries_messages_both_ways_until_a_frame_means_nothing() {
    let messages = [Message::WantStates, Message::Credit { bytes: 9 }, Message::Refuse(Refusal::Busy)];
    let frames = messages.clone().map(|message| v1::Frame::try_from(message).expect("short"));
    let frames = frames.into_iter().chain([v1::Frame { message: None }]);
    let mut answers = client().await.exchange(tokio_stream::iter(frames)).await.expect("it opens");
    for message in messages {
        assert_eq!(answers.next().await, Ok(Some(message)));
    }
    let failed = answers.next().await.expect_err("a frame without message");
    assert_eq!((failed.kind, failed.metadata["field"].as_str()), (Kind::Invalid, "frame.message"));
}
