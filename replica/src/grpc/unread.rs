//! Calls whose message cannot be read at all: the transport finds that out before a service is asked, and calls it its own failure. What the caller
//! sent is wrong, so that is what it is told.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures::{TryFutureExt as _, future::MapOk};
use herdbook_proto::limits;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

use super::failure::Error;

/// Headers that are a status.
const HEADERS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

type Answer = http::Response<Body>;

/// A service that answers as itself where the transport would answer for it.
#[derive(Debug, Clone)]
pub(crate) struct Told<S>(pub(crate) S);

impl<S: NamedService> NamedService for Told<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Told<S>
where
    S: Service<http::Request<Body>, Response = Answer, Error = Infallible>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = MapOk<S::Future, fn(Answer) -> Answer>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.call(request).map_ok(answer)
    }
}

/// An answer that has no message has its status among its headers.
fn answer(mut answer: Answer) -> Answer {
    if answer.headers().contains_key(HEADERS[0])
        && let Some(error) = Status::from_header_map(answer.headers()).as_ref().and_then(unread)
    {
        let status = Status::from(error);
        for name in HEADERS {
            answer.headers_mut().remove(name);
        }
        // A status that cannot be told stays what the transport said.
        let _ = status.add_header(answer.headers_mut());
    }
    answer
}

/// Returns why a message could not be read, if that is what the transport says.
pub(super) fn unread(status: &Status) -> Option<Error> {
    match status.code() {
        Code::OutOfRange if status.message().contains("message length too large") => {
            Some(Error::MessageTooLarge { limit: limits::MESSAGE })
        }
        Code::Internal if status.message().starts_with("failed to decode Protobuf message") => {
            Some(Error::Undecodable { what: status.message().to_owned() })
        }
        _ => None,
    }
}
