//! A Herdbook server under load: connections to it, and the calls of the workloads.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use herdbook_model::{
    id::RequestKey,
    value::{Key, Scalar, Value},
};
use herdbook_proto::{
    ack::{Ack, Wait},
    client::Client,
    document::{Document, Name, Place},
    edit::{Edit, Operation, Write},
    pipeline::Pipeline,
    read::{Get, List},
    status::Failed,
};

use crate::{
    Error,
    connection::{Connection, Failure},
    workload::{BODY, Content, Payloads, is_record, key, record},
};

/// Bytes of documents that one filling commit holds at most; far below the limit of a message.
const FILL_BYTES: usize = 1 << 20;

/// Names of requests that no other run uses.
#[derive(Debug)]
pub struct RequestKeys {
    run: [u8; 8],
    next: AtomicU64,
}

impl RequestKeys {
    /// Returns those of a new run.
    ///
    /// # Errors
    /// [`Error::Random`] if the system gives no random numbers.
    pub fn new() -> Result<Self, Error> {
        let mut run = [0; 8];
        getrandom::fill(&mut run)?;
        Ok(Self { run, next: AtomicU64::new(0) })
    }

    /// Returns the next.
    pub fn draw(&self) -> RequestKey {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.run);
        key[8..].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        RequestKey(key)
    }

    /// Returns the name of the run: 16 hex digits.
    pub fn run(&self) -> String {
        self.run.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// How writes and reads of single documents reach a server.
#[derive(Debug, Clone)]
pub enum Way {
    /// Each is a message of a stream that all of them share.
    Pipeline(Pipeline),
    /// Each is a call of its own.
    Calls(Client),
}

impl Way {
    /// Reads.
    ///
    /// # Errors
    /// Those of [`Client::get`].
    pub async fn get(&self, get: Get) -> Result<Option<Document>, Failed> {
        match self {
            Self::Pipeline(pipeline) => pipeline.get(get).await,
            Self::Calls(client) => client.get(get).await,
        }
    }

    /// Writes.
    ///
    /// # Errors
    /// Those of [`Client::commit`].
    pub async fn commit(&self, write: Write) -> Result<Ack, Failed> {
        match self {
            Self::Pipeline(pipeline) => pipeline.commit(write).await,
            Self::Calls(client) => client.commit(write).await,
        }
    }
}

/// A connection to a server, what is written over it, and what a write waits for.
#[derive(Debug, Clone)]
pub struct NodeConnection {
    client: Client,
    way: Way,
    content: Content,
    /// Of payloads only.
    payloads: Option<Payloads>,
    wait: Wait,
    keys: Arc<RequestKeys>,
    site: usize,
}

impl NodeConnection {
    /// Returns the connection to server number `site`. Documents are written and read through one pipeline.
    pub fn new(client: Client, site: usize, content: Content, wait: Wait, keys: Arc<RequestKeys>) -> Self {
        let payloads = if let Content::Payload(sizes) = content { Some(Payloads::new(sizes)) } else { None };
        Self { way: Way::Pipeline(client.pipeline()), client, content, payloads, wait, keys, site }
    }

    /// Makes each write and read a call of its own.
    #[must_use]
    pub fn with_calls(self) -> Self {
        Self { way: Way::Calls(self.client.clone()), ..self }
    }

    fn put(&self, i: u64, revision: u64) -> Edit {
        let fields = match &self.payloads {
            None => record(i, revision),
            Some(payloads) => vec![(BODY.into(), Value::Scalar(payloads.text(i, revision).as_str().into()))],
        };
        Edit { name: name(self.content.collection(), &key(i)), operation: Operation::Put(fields) }
    }

    fn has(&self, i: u64, fields: &BTreeMap<Arc<str>, Value>) -> bool {
        match (&self.payloads, fields.get(BODY)) {
            (None, _) => is_record(i, fields),
            (Some(payloads), Some(Value::Scalar(Scalar::String(text)))) => fields.len() == 1 && payloads.has(i, text.as_bytes()),
            (Some(_), _) => false,
        }
    }

    async fn commit(&self, edits: Vec<Edit>, wait: Wait) -> Result<(), Failure> {
        let ack = self.way.commit(Write { wait, ..Write::new(self.keys.draw(), edits) }).await?;
        if ack.local < wait.local {
            let message = format!("asked for {:?}, acknowledged as {:?}", wait.local, ack.local);
            return Err(Failure { reason: "WEAK_ACKNOWLEDGEMENT".to_owned(), message });
        }
        Ok(())
    }
}

impl Connection for NodeConnection {
    fn site(&self) -> usize {
        self.site
    }

    async fn fill(&self, range: Range<u64>) -> Result<(), Failure> {
        let bytes = if let Content::Payload(sizes) = self.content { sizes.most + 64 } else { 256 };
        let step = (FILL_BYTES / bytes).clamp(1, 1000) as u64;
        let mut start = range.start;
        while start < range.end {
            let end = (start + step).min(range.end);
            self.commit((start..end).map(|i| self.put(i, 0)).collect(), Wait::DURABLE).await?;
            start = end;
        }
        Ok(())
    }

    async fn write(&self, i: u64, revision: u64) -> Result<(), Failure> {
        self.commit(vec![self.put(i, revision)], self.wait).await
    }

    async fn read(&self, i: u64) -> Result<(), Failure> {
        let get = Get { place: Place::NEWEST, name: name(self.content.collection(), &key(i)) };
        let document = self.way.get(get).await?.ok_or_else(|| Failure::missing(i))?;
        if self.has(i, &document.fields) { Ok(()) } else { Err(Failure::wrong(i)) }
    }

    async fn write_many(&self, documents: &[u64], revision: u64) -> Result<(), Failure> {
        self.commit(documents.iter().map(|i| self.put(*i, revision)).collect(), self.wait).await
    }

    async fn scan(&self, i: u64, count: u64) -> Result<(), Failure> {
        let key = key(i);
        let (folder, _) = key.split_at(key.rfind('/').map_or(0, |at| at + 1));
        let list = List {
            place: Place::NEWEST,
            collection: self.content.collection().into(),
            prefix: folder.to_owned(),
            page_size: u32::try_from(count).unwrap_or(u32::MAX),
            page_token: Bytes::new(),
            keys_only: false,
        };
        let page = self.client.list(list).await?;
        let is_sorted = page.documents.is_sorted_by(|a, b| a.name.key < b.name.key);
        if is_sorted && !page.documents.is_empty() && page.documents.len() as u64 <= count { Ok(()) } else { Err(Failure::wrong(i)) }
    }
}

/// Returns the name of a document.
///
/// # Panics
/// If the key is empty or longer than a key may be; those of the workloads are not.
pub fn name(collection: &str, key: &str) -> Name {
    Name { collection: collection.into(), key: Key::new(key).expect("keys of the workloads are short") }
}

/// Returns a client of the server at `address`.
///
/// # Errors
/// [`Error::Call`] if it does not answer.
pub async fn connect(address: &str) -> Result<Client, Error> {
    Client::connect(&[address]).await.map_err(|failed| Error::call(address, failed))
}

/// Returns `count` connections of their own, spread over the servers.
///
/// # Errors
/// [`Error::Call`] if one does not answer.
pub async fn connect_many(addresses: &[String], count: usize, content: Content, wait: Wait) -> Result<Vec<NodeConnection>, Error> {
    let keys = Arc::new(RequestKeys::new()?);
    let mut connections = Vec::with_capacity(count);
    for (site, address) in addresses.iter().enumerate().cycle().take(count) {
        connections.push(NodeConnection::new(connect(address).await?, site, content, wait, Arc::clone(&keys)));
    }
    Ok(connections)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_requests_share_a_name_within_a_run_or_between_runs() {
        let (alice, bob) = (RequestKeys::new().expect("random"), RequestKeys::new().expect("random"));
        let names: BTreeSet<_> = (0..100).flat_map(|_| [alice.draw(), bob.draw()]).collect();
        assert_eq!(names.len(), 200);
        assert_eq!((alice.run().len(), alice.run() == bob.run()), (16, false));
    }
}
