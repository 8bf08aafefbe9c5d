//! The typed client against a server on loopback that answers from what it is asked.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use herdbook_model::{
    id::{BranchName, CommitId, Leaf, RequestKey, StateName},
    value::{Key, Scalar, Value},
};
use herdbook_proto::{
    Malformed,
    ack::{Ack, Condition, Level, Wait},
    client::{Client, DOCUMENT_NOT_FOUND},
    document::{Document, Name, Place},
    edit::{Edit, Operation, Write},
    limits,
    read::{Batch, BatchGet, Count, Counted, Event, EventChange, Get, Got, List, Page, Start, Step, Watch},
    status::{Failed, Failure, Kind},
    transport, v1,
};
use herdbook_sync::message::{Message, Refusal};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Why the server refuses.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there is no document `{name}`")]
    NotFound { name: Name },
    #[error("the collection `{collection}` does not exist")]
    NoCollection { collection: String },
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        Kind::NotFound
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => DOCUMENT_NOT_FOUND,
            Self::NoCollection { .. } => "UNKNOWN_COLLECTION",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::NotFound { name } => vec![("key", name.key.to_string())],
            Self::NoCollection { collection } => vec![("collection", collection.clone())],
        }
    }

    fn hint(&self) -> Option<String> {
        matches!(self, Self::NoCollection { .. }).then(|| "known: cities".to_owned())
    }
}

struct Echo;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

const STATE: StateName = StateName([3; 32]);

fn document(name: Name) -> Document {
    let fields = [("key".into(), Value::Scalar(Scalar::from(name.key.as_str())))].into();
    Document { name, fields, version: Leaf([4; 32]), conflicts: Vec::new(), deletes: Vec::new() }
}

fn find(name: Name) -> Result<Document, Error> {
    match (&*name.collection, name.key.as_str()) {
        ("cities", "nowhere") => Err(Error::NotFound { name }),
        ("cities", _) => Ok(document(name)),
        (collection, _) => Err(Error::NoCollection { collection: collection.to_owned() }),
    }
}

fn acknowledge(write: Write) -> Result<Ack, Malformed> {
    let Some(RequestKey(key)) = write.request else { return Err(Malformed::missing("request_id")) };
    Ok(Ack {
        commit: CommitId([key[0]; 32]),
        request: u32::try_from(write.edits.len()).expect("a test's edits are few"),
        branch: write.branch.unwrap_or_else(|| BranchName::new("main@1").expect("well formed")),
        state: STATE,
        local: write.wait.local,
        accepted: None,
        copies: Vec::new(),
        condition: Condition::Local,
        repeated: false,
    })
}

#[tonic::async_trait]
impl v1::document_service_server::DocumentService for Echo {
    async fn commit(&self, request: Request<v1::CommitRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        let write = Write::try_from(request.into_inner())?;
        if write.message == "sleep" {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        Ok(Response::new(v1::CommitResponse { ack: Some(acknowledge(write)?.into()) }))
    }

    type CommitStreamStream = Answers<v1::CommitStreamResponse>;

    async fn commit_stream(
        &self,
        request: Request<Streaming<v1::CommitStreamRequest>>,
    ) -> Result<Response<Self::CommitStreamStream>, Status> {
        let mut index = 0;
        let answers = request.into_inner().map(move |message| {
            let write = message?.commit.ok_or_else(|| Malformed::missing("commit"))?;
            let result = Write::try_from(write).and_then(acknowledge).map_err(|error| Failed::from(error.to_status()));
            let outcome = herdbook_proto::edit::Outcome { index, result };
            index += 1;
            Ok(outcome.into())
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let Get { place: _, name } = request.into_inner().try_into()?;
        let document = find(name).map_err(|error| error.to_status())?;
        Ok(Response::new(Got { document, state: STATE }.into()))
    }

    async fn batch_get(&self, request: Request<v1::BatchGetRequest>) -> Result<Response<v1::BatchGetResponse>, Status> {
        let BatchGet { place: _, names } = request.into_inner().try_into()?;
        let mut batch = Batch { documents: Vec::new(), missing: Vec::new(), left_out: Vec::new(), state: STATE };
        for name in names {
            match find(name) {
                Ok(document) => batch.documents.push(document),
                Err(Error::NotFound { name }) => batch.missing.push(name),
                Err(error) => return Err(error.to_status()),
            }
        }
        Ok(Response::new(batch.into()))
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let list = List::try_from(request.into_inner())?;
        // A single value fills the message beyond its limit.
        let huge = "x".repeat(if list.prefix == "huge" { limits::MESSAGE } else { 1 });
        let mut document = document(Name { collection: list.collection, key: Key::new("a").expect("short") });
        document.fields.insert("text".into(), Value::Scalar(Scalar::from(huge.as_str())));
        let next = if list.page_token.is_empty() { vec![1] } else { Vec::new() };
        Ok(Response::new(Page { documents: vec![document], keys: Vec::new(), next: next.into(), state: STATE }.into()))
    }

    async fn count(&self, request: Request<v1::CountRequest>) -> Result<Response<v1::CountResponse>, Status> {
        let Count { place: _, collection: _, prefix } = request.into_inner().try_into()?;
        Ok(Response::new(Counted { documents: prefix.len() as u64, state: STATE }.into()))
    }

    type WatchStream = Answers<v1::WatchResponse>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watch = Watch::try_from(request.into_inner())?;
        let name = |key: &str| Name { collection: "cities".into(), key: Key::new(key).expect("short") };
        let step = |change| Step {
            events: vec![Event { change, commits: vec![CommitId([1; 32])], voided: Vec::new() }],
            resume_token: vec![7].into(),
            state: STATE,
        };
        let steps = [EventChange::Put(document(name(&watch.prefix))), EventChange::Delete(name("b"))].map(|change| Ok(step(change).into()));
        let gone = Err(Status::resource_exhausted("the watch fell behind"));
        Ok(Response::new(Box::pin(tokio_stream::iter(steps.into_iter().chain([gone])))))
    }
}

#[tonic::async_trait]
impl v1::sync_service_server::SyncService for Echo {
    type ExchangeStream = Answers<v1::ExchangeResponse>;

    async fn exchange(&self, request: Request<Streaming<v1::ExchangeRequest>>) -> Result<Response<Self::ExchangeStream>, Status> {
        let answers = request.into_inner().map(|message| {
            let frame = v1::Frame::try_from(Message::try_from(message?)?)?;
            Ok(v1::ExchangeResponse { frame: Some(frame) })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

async fn serve() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let documents = v1::document_service_server::DocumentServiceServer::new(Echo);
    let sync = v1::sync_service_server::SyncServiceServer::new(Echo);
    tokio::spawn(transport::server().add_service(documents).add_service(sync).serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

async fn client() -> Client {
    Client::connect(&[serve().await.to_string()]).await.expect("it serves")
}

fn name(collection: &str, key: &str) -> Name {
    Name { collection: collection.into(), key: Key::new(key).expect("short") }
}

fn write(key: u8) -> Write {
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
