//! etcd's key-value service, as much of it as the work needs: the messages by their field numbers in etcd's `rpc.proto`, and calls.
//!
//! Written out by hand, since a generated client needs protoc; connections are set up and calls have deadlines as Herdbook's, so that the two
//! differ in the server only.

use std::ops::Range;

use bytes::Bytes;
use herdbook_loadtest::{
    Connection,
    connection::Failure,
    workload::{Payloads, Sizes, key},
};
use prost::Message;
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

/// Most operations of a transaction that etcd takes by default.
const TRANSACTION: u64 = 128;

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    /// Reads what this member has, as a replica of Herdbook does.
    #[prost(bool, tag = "7")]
    serializable: bool,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct TransactionRequest {
    #[prost(message, repeated, tag = "2")]
    success: Vec<Operation>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(message, optional, tag = "2")]
    put: Option<PutRequest>,
}

/// An answer of which nothing is read.
#[derive(Clone, PartialEq, Message)]
struct Done {}

/// A connection to etcd, and what is written over it.
#[derive(Debug, Clone)]
pub(crate) struct KvConnection {
    channel: Channel,
    payloads: Payloads,
}

impl KvConnection {
    /// Returns the connection, for values of `len` bytes.
    pub(crate) fn new(channel: Channel, len: usize) -> Self {
        Self { channel, payloads: Payloads::new(Sizes::exactly(len)) }
    }

    /// Whether the server answers.
    pub(crate) async fn answers(&self) -> bool {
        let range = RangeRequest { key: Bytes::from_static(b"ready"), serializable: false };
        self.call::<_, RangeResponse>("/etcdserverpb.KV/Range", range).await.is_ok()
    }

    fn put(&self, i: u64, revision: u64) -> PutRequest {
        PutRequest { key: key(i).into(), value: self.payloads.text(i, revision).into() }
    }

    async fn call<Q: Message + 'static, A: Message + Default + 'static>(&self, path: &'static str, request: Q) -> Result<A, Failure> {
        let mut service = Grpc::new(self.channel.clone());
        service.ready().await.map_err(|error| failure(&Status::unavailable(error.to_string())))?;
        let codec = ProstCodec::<Q, A>::default();
        let mut request = Request::new(request);
        // As Herdbook's client does: both servers watch the same clocks.
        request.set_timeout(herdbook_proto::client::DEADLINE);
        let answer = service.unary(request, PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| failure(&status))
    }
}

impl Connection for KvConnection {
    async fn fill(&self, range: Range<u64>) -> Result<(), Failure> {
        let mut start = range.start;
        while start < range.end {
            let end = (start + TRANSACTION).min(range.end);
            let success = (start..end).map(|i| Operation { put: Some(self.put(i, 0)) }).collect();
            self.call::<_, Done>("/etcdserverpb.KV/Txn", TransactionRequest { success }).await?;
            start = end;
        }
        Ok(())
    }

    async fn write(&self, i: u64, revision: u64) -> Result<(), Failure> {
        self.call::<_, Done>("/etcdserverpb.KV/Put", self.put(i, revision)).await.map(drop)
    }

    async fn read(&self, i: u64) -> Result<(), Failure> {
        let range = RangeRequest { key: key(i).into(), serializable: true };
        let answer: RangeResponse = self.call("/etcdserverpb.KV/Range", range).await?;
        match answer.kvs.first() {
            None => Err(Failure::missing(i)),
            Some(found) if self.payloads.has(i, &found.value) => Ok(()),
            Some(_) => Err(Failure::wrong(i)),
        }
    }
}

fn failure(status: &Status) -> Failure {
    Failure { reason: format!("{:?}", status.code()), message: status.message().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_bytes_that_etcd_expects() {
        let put = PutRequest { key: Bytes::from_static(b"k"), value: Bytes::from_static(b"v") };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x01v");
        let transaction = TransactionRequest { success: vec![Operation { put: Some(put) }] };
        assert_eq!(transaction.encode_to_vec(), b"\x12\x08\x12\x06\x0a\x01k\x12\x01v");
        let range = RangeRequest { key: Bytes::from_static(b"k"), serializable: true };
        assert_eq!(range.encode_to_vec(), b"\x0a\x01k\x38\x01");
    }

    #[test]
    fn values_are_read_from_among_the_fields_that_are_not_needed() {
        // header = 1, kvs = 2 { key = 1, version = 4, value = 5 }, count = 4.
        let wire = b"\x0a\x02\x08\x01\x12\x08\x0a\x01k\x20\x07\x2a\x01v\x20\x01";
        let answer = RangeResponse::decode(&wire[..]).expect("well formed");
        assert_eq!(answer.kvs, [KeyValue { value: Bytes::from_static(b"v") }]);
    }
}
