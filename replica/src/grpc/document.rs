//! DocumentService: writes, reads, and what changes.

use std::{pin::Pin, sync::Arc};

use futures::{Stream, StreamExt as _};
use herdbook_proto::{
    Malformed,
    ack::{Ack, Wait},
    edit::{Outcome, Write},
    limits,
    read::{BatchGet, Count, Found, Get, List, Watch},
    status::Failed,
    v1::{self, document_service_server::DocumentService},
};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{
    failure::Error,
    host::{Host, until},
    names,
    unread::unread,
    watch,
};
use crate::metrics::Method;

/// Writes of one stream that wait for their answers at once.
const WRITES: usize = 256;

/// Reads of one stream whose answers are held at once: each may be as long as a message. Those of the newest state wait for nothing.
const READS: usize = 8;

/// Answers for the documents of one repository.
pub(super) struct Documents {
    pub(super) host: Arc<Host>,
}

/// What a call streams.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Host {
    async fn commit(&self, write: Write, deadline: Option<Instant>) -> Result<Ack, Error> {
        self.check(write.repository)?;
        let (ask, wait) = names::ask(write)?;
        self.write(ask, wait, deadline).await
    }
}

#[tonic::async_trait]
impl DocumentService for Documents {
    type CommitStreamStream = Answers<v1::CommitStreamResponse>;
    type GetStreamStream = Answers<v1::GetStreamResponse>;
    type WatchStream = Answers<v1::WatchResponse>;

    async fn commit(&self, request: Request<v1::CommitRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        let call = self.host.metrics.begin(Method::Commit);
        let timeout = request.get_ref().wait.as_ref().and_then(|wait| wait.timeout_millis).map(std::time::Duration::from_millis);
        let until = until(request.metadata(), timeout);
        let answer = async {
            let write = Write::try_from(request.into_inner())?;
            self.host.commit(write, until).await
        };
        call.end(answer.await).map(|ack| Response::new(v1::CommitResponse { ack: Some(ack.into()) }))
    }

    async fn commit_stream(
        &self,
        request: Request<Streaming<v1::CommitStreamRequest>>,
    ) -> Result<Response<Self::CommitStreamStream>, Status> {
        let host = self.host.clone();
        let writes = until_the_end(&host, request).enumerate();
        // Asks reach the writer in the order of the stream: each future hands its own over when it is first polled.
        let answers = writes.map(move |(index, message)| {
            let host = host.clone();
            async move {
                let v1::CommitStreamRequest { commit } = message?;
                let call = host.metrics.begin(Method::CommitStream);
                let answer = async {
                    let commit = commit.ok_or_else(|| Malformed::missing("commit"))?;
                    let write = Write::try_from(commit).map_err(|error| error.within("commit"))?;
                    let until = write.wait.timeout.and_then(|left| Instant::now().checked_add(left));
                    host.commit(write, until).await
                };
                let result = call.end(answer.await).map_err(Failed::from);
                Ok(Outcome { index: index as u64, result }.into())
            }
        });
        Ok(Response::new(Box::pin(answers.buffered(WRITES))))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let call = self.host.metrics.begin(Method::Get);
        let answer = async { self.host.get(Get::try_from(request.into_inner())?).await };
        call.end(answer.await).map(|got| Response::new(got.into()))
    }

    async fn get_stream(&self, request: Request<Streaming<v1::GetStreamRequest>>) -> Result<Response<Self::GetStreamStream>, Status> {
        let host = self.host.clone();
        let answers = until_the_end(&host, request).enumerate().map(move |(index, message)| {
            let host = host.clone();
            async move {
                let v1::GetStreamRequest { get } = message?;
                let call = host.metrics.begin(Method::GetStream);
                let answer = async {
                    let get = get.ok_or_else(|| Malformed::missing("get"))?;
                    host.get(Get::try_from(get).map_err(|error| error.within("get"))?).await
                };
                // Answers that are there at once would be made one after another for as long as the caller takes them: others have their turn.
                tokio::task::coop::consume_budget().await;
                let result = call.end(answer.await).map_err(Failed::from);
                Ok(fitting(Found { index: index as u64, result }))
            }
        });
        Ok(Response::new(Box::pin(answers.buffered(READS))))
    }

    async fn batch_get(&self, request: Request<v1::BatchGetRequest>) -> Result<Response<v1::BatchGetResponse>, Status> {
        let call = self.host.metrics.begin(Method::BatchGet);
        let answer = async { self.host.batch_get(BatchGet::try_from(request.into_inner())?).await };
        call.end(answer.await).map(Response::new)
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let call = self.host.metrics.begin(Method::List);
        let answer = async { self.host.list(List::try_from(request.into_inner())?).await };
        call.end(answer.await).map(Response::new)
    }

    async fn count(&self, request: Request<v1::CountRequest>) -> Result<Response<v1::CountResponse>, Status> {
        let call = self.host.metrics.begin(Method::Count);
        let answer = async { self.host.count(Count::try_from(request.into_inner())?).await };
        call.end(answer.await).map(|counted| Response::new(counted.into()))
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let call = self.host.metrics.begin(Method::Watch);
        let answer = async { watch::open(self.host.clone(), Watch::try_from(request.into_inner())?).await };
        call.end(answer.await).map(Response::new)
    }
}

/// Returns an answer as it travels. A document longer than a message may be fails alone: the transport would end the stream.
fn fitting(found: Found) -> v1::GetStreamResponse {
    let index = found.index;
    let message = v1::GetStreamResponse::from(found);
    let len = message.encoded_len();
    if len <= limits::MESSAGE {
        return message;
    }
    let status = Status::out_of_range(format!("the document has {len} bytes, more than the {} of a message", limits::MESSAGE));
    Found { index, result: Err(status.into()) }.into()
}

/// Returns what a caller sends. It may keep its stream open for ever: that ends with the replica, after the answers that are owed.
pub(super) fn until_the_end<M: Send + 'static>(
    host: &Host,
    request: Request<Streaming<M>>,
) -> impl Stream<Item = Result<M, Status>> + Send + use<M> {
    let mut ended = host.ended();
    let told = |message: Result<M, Status>| message.map_err(|status| unread(&status).map_or(status, Status::from));
    request.into_inner().map(told).take_until(Box::pin(async move { _ = ended.wait_for(|ended| *ended).await }))
}

/// Returns the wait of a write that a service makes for a caller, and when the caller gives up.
pub(super) fn patience<M>(request: &Request<M>, wait: Wait) -> Option<Instant> {
    until(request.metadata(), wait.timeout)
}

#[cfg(test)]
mod tests {
    use herdbook_model::{
        id::{Leaf, StateName},
        value::{Key, Scalar, Value},
    };
    use herdbook_proto::{
        document::{Document, Name},
        read::Got,
        status::Kind,
    };

    use super::*;

    fn found(len: usize) -> Found {
        let name = Name { collection: "notes".into(), key: Key::new("a").expect("short") };
        let fields = [("text".into(), Value::Scalar(Scalar::from("x".repeat(len).as_str())))].into();
        let document = Document { name, fields, version: Leaf([1; 32]), conflicts: Vec::new(), deletes: Vec::new() };
        Found { index: 7, result: Ok(Got { document, state: StateName([2; 32]) }) }
    }

    #[test]
    fn a_document_longer_than_a_message_fails_alone() {
        let short = found(1000);
        assert_eq!(Found::try_from(fitting(short.clone())), Ok(short));
        // As merged texts can be, though no single write is.
        let long = Found::try_from(fitting(found(limits::MESSAGE))).expect("it means something");
        assert_eq!((long.index, long.result.expect_err("it does not fit").kind), (7, Kind::OutOfRange));
    }
}
