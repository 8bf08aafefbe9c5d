//! A server that answers from what it is asked.

use std::{net::SocketAddr, pin::Pin, time::Duration};

use herdbook_model::{
    id::{BranchName, CommitId, Leaf, RequestKey, StateName},
    value::{Key, Scalar, Value},
};
use herdbook_proto::{
    Malformed,
    ack::{Ack, Condition},
    client::DOCUMENT_NOT_FOUND,
    document::{Document, Name},
    edit::Write,
    limits,
    read::{Batch, BatchGet, Count, Counted, Event, EventChange, Found, Get, Got, List, Page, Step, Watch},
    status::{Failed, Failure, Kind},
    transport, v1,
};
use herdbook_sync::message::Message;
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

pub(crate) struct Echo;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(crate) const STATE: StateName = StateName([3; 32]);

pub(crate) fn document(name: Name) -> Document {
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
        let answers = request.into_inner().then(move |message| {
            let at = index;
            index += 1;
            async move {
                let write = message?.commit.ok_or_else(|| Malformed::missing("commit"))?;
                match write.message.as_str() {
                    "sleep" => tokio::time::sleep(Duration::from_millis(80)).await,
                    "doze" => tokio::time::sleep(Duration::from_secs(20)).await,
                    "break" => return Err(Status::internal("the server goes down")),
                    _ => {}
                }
                let result = Write::try_from(write).and_then(acknowledge).map_err(|error| Failed::from(error.to_status()));
                Ok(herdbook_proto::edit::Outcome { index: at, result }.into())
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type GetStreamStream = Answers<v1::GetStreamResponse>;

    async fn get_stream(&self, request: Request<Streaming<v1::GetStreamRequest>>) -> Result<Response<Self::GetStreamStream>, Status> {
        let mut index = 0;
        let answers = request.into_inner().map(move |message| {
            let get = message?.get.ok_or_else(|| Malformed::missing("get"))?;
            let Get { place: _, name } = get.try_into()?;
            if &*name.collection == "broken" {
                return Err(Status::internal("the server goes down"));
            }
            let result = find(name).map(|document| Got { document, state: STATE }).map_err(|error| Failed::from(error.to_status()));
            let found = Found { index, result };
            index += 1;
            Ok(found.into())
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

pub(crate) async fn serve() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let documents = v1::document_service_server::DocumentServiceServer::new(Echo);
    let sync = v1::sync_service_server::SyncServiceServer::new(Echo);
    tokio::spawn(transport::server().add_service(documents).add_service(sync).serve_with_incoming(TcpListenerStream::new(listener)));
    address
}
