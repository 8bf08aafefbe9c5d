//! Herdbook as a library in this process, and over a link whose bytes are counted.
//!
//! What it does is signed, versioned and, where it is not said to be in memory, on the disk; replicas meet over gRPC as they always do.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use herdbook_loadtest::{
    chaos::switch::Link,
    cluster::{Cluster, Settings},
    load,
    node::{RequestKeys, connect, connect_many, name},
    workload::{Content, DOCS_SCHEMA, DOCUMENTS, N, key, perm, record},
};
use herdbook_model::{
    authority::Role,
    json::schema_from_json,
    state::{advance, compare},
    testutil::{self, request, update, workload},
    time::Time,
    value::Key,
};
use herdbook_proto::{
    ack::Wait,
    client::Client,
    cluster::CreateToken,
    edit::{Edit, Operation, Write},
};
use herdbook_replica::{
    Replica,
    repository::{DocumentChange, DocumentEdit},
};
use tokio::runtime::Handle;

use crate::{
    error::Error,
    library::{Library, OWN, SHARED, SINGLES, SYNCED, Task, millis, rate},
};

/// How many documents a request may create in memory, where only the number of its edits is limited.
const REQUEST: u64 = 50_000;

/// How many documents a request to a replica may put: its bytes are limited too.
const PUTS: usize = 30_000;

/// How long two members may take to come to the same state.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_micros(500);

/// How long a link is idle before its bytes are counted, and how long they are.
const IDLE: Duration = Duration::from_secs(10);

/// Herdbook.
#[derive(Debug, Clone)]
pub(crate) struct Herdbook {
    /// The program that the other member is started from.
    pub(crate) binary: PathBuf,
}

impl Herdbook {
    /// Returns bytes that an idle link between two members carries in ten seconds, with all documents held by both.
    ///
    /// # Errors
    /// Those of the cluster.
    pub(crate) fn idle(&self, folder: &Path) -> Result<f64, Error> {
        let pair = Pair::start(&self.binary, folder)?;
        std::thread::sleep(IDLE);
        let before = pair.link.count().bytes;
        std::thread::sleep(IDLE);
        let bytes = pair.link.count().bytes - before;
        pair.stop()?;
        Ok(bytes as f64)
    }

    /// Returns how long 100 commits of one edit each take from the first byte until they can be read, in milliseconds.
    ///
    /// # Errors
    /// Those of the cluster.
    pub(crate) fn fetch_time(&self, folder: &Path) -> Result<f64, Error> {
        self.fetch(folder).map(|(_, millis)| millis)
    }

    /// Returns how long all documents take to be there again after the store was closed, in milliseconds.
    ///
    /// # Errors
    /// Those of the replica.
    pub(crate) fn open_time(folder: &Path) -> Result<f64, Error> {
        durable(folder)?.close().map_err(failed)?;
        let begun = Instant::now();
        let replica = open(folder)?;
        let found = replica.get(DOCUMENTS, &key(0)).map_err(failed)?;
        let millis = begun.elapsed().as_secs_f64() * 1000.0;
        found.ok_or_else(|| failed("a document is not there"))?;
        Ok(millis)
    }

    fn sync(&self, folder: &Path) -> Result<f64, Error> {
        let pair = Pair::start(&self.binary, folder)?;
        pair.part()?;
        commit(&pair.replica, edits(SYNCED..2 * SYNCED, 1))?;
        pair.write((0..SYNCED).map(|j| put(perm(j), 1)).collect())?;
        let before = pair.link.count().bytes;
        pair.meet()?;
        let bytes = pair.link.count().bytes - before;
        pair.stop()?;
        Ok(bytes as f64)
    }

    fn fetch(&self, folder: &Path) -> Result<(f64, f64), Error> {
        let pair = Pair::start(&self.binary, folder)?;
        pair.part()?;
        for j in 0..SYNCED {
            pair.write(vec![put(perm(j), 3)])?;
        }
        let before = pair.link.count().bytes;
        pair.replica.set_online(true).map_err(failed)?;
        while pair.link.count().bytes == before {
            std::thread::sleep(LOOK);
        }
        let begun = Instant::now();
        pair.level()?;
        let millis = begun.elapsed().as_secs_f64() * 1000.0;
        let bytes = pair.link.count().bytes - before;
        pair.stop()?;
        Ok((bytes as f64, millis))
    }

    /// Returns bytes and milliseconds.
    fn clone_all(&self, folder: &Path) -> Result<(f64, f64), Error> {
        let pair = Pair::start(&self.binary, folder)?;
        let (bytes, millis) = pair.cloned;
        pair.stop()?;
        Ok((bytes, millis))
    }
}

impl Library for Herdbook {
    fn version(&self) -> String {
        concat!("herdbook ", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn sample(&self, task: Task, folder: &Path) -> Result<Option<f64>, Error> {
        match task {
            Task::Commit => {
                let replica = durable(folder)?;
                rate(|j| commit(&replica, edits(j % N..j % N + 1, 3 + j / N)))
            }
            Task::Read => {
                let replica = durable(folder)?;
                rate(|j| match replica.get(DOCUMENTS, &key(perm(j % N))) {
                    Ok(Some(_)) => Ok(()),
                    Ok(None) => Err(failed("a document is not there")),
                    Err(error) => Err(failed(error)),
                })
            }
            Task::Build => millis(|| Ok(base())),
            Task::BuildDurable => {
                let documents: Vec<_> = (0..N).map(|i| edit(i, 0)).collect();
                millis(|| {
                    let replica = open(folder)?;
                    build(&replica, documents)?;
                    Ok(replica)
                })
            }
            Task::Merge => merge(false),
            Task::Diff => diff(),
            Task::Sync => self.sync(folder).map(Some),
            Task::Fetch => self.fetch(folder).map(|(bytes, _)| Some(bytes)),
            Task::Clone => self.clone_all(folder).map(|(bytes, _)| Some(bytes)),
            Task::CloneTime => self.clone_all(folder).map(|(_, millis)| Some(millis)),
            Task::Disk => {
                let replica = durable(folder)?;
                for j in 0..SINGLES {
                    commit(&replica, edits(j..j + 1, 3))?;
                }
                replica.close().map_err(failed)?;
                bytes_of(folder).map(Some)
            }
        }
    }
}

/// Returns how long two sides of a merge take until the state can be read, or with `is_root`: until it has a root.
pub(crate) fn merge(is_root: bool) -> Result<Option<f64>, Error> {
    let base = base();
    let side = |name: &str, own: std::ops::Range<u64>, revision| {
        let mut side = testutil::Replica::new(name, Arc::new(workload::schema()));
        base.deliveries().for_each(|delivery| side.receive(delivery).expect("a base is sound"));
        side.fold();
        let edit = |j| (workload::DOCUMENTS, update(&key(perm(j)), workload::Record::of(perm(j), revision).fields()));
        side.commit(Time::from_millis(2), own.chain(2 * OWN..2 * OWN + SHARED).map(edit));
        side
    };
    let (mut alice, bob) = (side("alice", 0..OWN, 1), side("bob", OWN..2 * OWN, 2));
    // As in a replica, alice's own edits are in her state; what comes is bob's.
    let mut state = alice.state().clone();
    bob.deliveries().for_each(|delivery| alice.receive(delivery).expect("an edit of a sound base is sound"));
    millis(|| {
        advance(&mut state, &alice, base.nodes(), alice.frontier().vector(), |_| false).map_err(failed)?;
        if is_root {
            state.fold(base.nodes()).map_err(failed)?;
        }
        Ok(())
    })
}

fn diff() -> Result<Option<f64>, Error> {
    let mut replica = base();
    let old = replica.state().clone();
    let edit = |j| (workload::DOCUMENTS, update(&key(perm(j)), workload::Record::of(perm(j), 1).fields()));
    replica.commit(Time::from_millis(2), (0..OWN).map(edit));
    replica.fold();
    let (nodes, new) = (replica.nodes(), replica.state());
    millis(|| {
        let changes = compare(nodes, &old, new, workload::DOCUMENTS, "", usize::MAX).map_err(failed)?;
        if changes.len() as u64 == OWN { Ok(changes) } else { Err(failed(format!("{} documents differ", changes.len()))) }
    })
}

/// Returns a replica in memory with all documents, made by one commit.
fn base() -> testutil::Replica {
    let mut replica = testutil::Replica::new("base", Arc::new(workload::schema()));
    let requests = (0..N).step_by(usize::try_from(REQUEST).expect("small"));
    let requests = requests.map(|first| request(first, (first..N.min(first + REQUEST)).map(|i| workload::creation(i, 0))));
    replica.commit_requests(Time::from_millis(1), requests.collect());
    replica.fold();
    replica
}

fn open(folder: &Path) -> Result<Replica, Error> {
    let schema = schema_from_json(DOCS_SCHEMA).map_err(failed)?;
    Replica::builder(folder.join("herdbook")).schema(schema).capture(Duration::ZERO).open().map_err(failed)
}

/// Returns a replica on the disk with all documents.
fn durable(folder: &Path) -> Result<Replica, Error> {
    let replica = open(folder)?;
    build(&replica, (0..N).map(|i| edit(i, 0)).collect())?;
    Ok(replica)
}

/// Commits documents, in as few requests as there may be, and makes them durable.
fn build(replica: &Replica, mut documents: Vec<DocumentEdit>) -> Result<(), Error> {
    while !documents.is_empty() {
        let later = documents.split_off(documents.len().min(PUTS));
        commit(replica, std::mem::replace(&mut documents, later))?;
    }
    replica.flush().map_err(failed)
}

fn commit(replica: &Replica, edits: Vec<DocumentEdit>) -> Result<(), Error> {
    replica.commit(edits, "").map(drop).map_err(failed)
}

fn edits(range: std::ops::Range<u64>, revision: u64) -> Vec<DocumentEdit> {
    range.map(|j| edit(perm(j), revision)).collect()
}

fn edit(i: u64, revision: u64) -> DocumentEdit {
    let key = Key::new(key(i)).expect("keys of the workload are short");
    DocumentEdit { collection: DOCUMENTS.to_owned(), key, change: DocumentChange::Put(record(i, revision)) }
}

fn put(i: u64, revision: u64) -> Edit {
    Edit { name: name(DOCUMENTS, &key(i)), operation: Operation::Put(record(i, revision)) }
}

/// Returns the bytes of all files below a folder.
fn bytes_of(folder: &Path) -> Result<f64, Error> {
    let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let metadata = entry.metadata().map_err(failed)?;
            if metadata.is_dir() { folders.push(entry.path()) } else { bytes += metadata.len() }
        }
    }
    Ok(bytes as f64)
}

/// A coordinator in a process of its own and a replica in this one, which holds all of its documents and reaches it over a link only.
struct Pair {
    cluster: Cluster,
    client: Client,
    requests: RequestKeys,
    replica: Replica,
    link: Link,
    /// Bytes and milliseconds that the replica's first copy took.
    cloned: (f64, f64),
}

impl Pair {
    fn start(binary: &Path, folder: &Path) -> Result<Self, Error> {
        let settings = Settings { binary: binary.to_owned(), replicas: 0, is_meshed: true, folder: Some(folder.to_owned()) };
        let (cluster, client, link, token) = Handle::current().block_on(async {
            let cluster = Cluster::start(&settings).await?;
            let address = cluster.coordinator();
            let connections = connect_many(std::slice::from_ref(&address), 1, Content::Record, Wait::DURABLE).await?;
            load::fill(&connections, N).await?;
            let client = connect(&address).await?;
            let create = CreateToken { role: Role::Replica, lifetime: CreateToken::LIFETIME };
            let token = client.create_token(create).await.map_err(failed)?.token;
            let link = Link::new(0).await?;
            link.lead(Some(address.parse().map_err(failed)?));
            Ok::<_, Error>((cluster, client, link, token))
        })?;
        let begun = Instant::now();
        let replica = Replica::builder(folder.join("replica")).join(format!("http://{}", link.address()), token).capture(Duration::ZERO);
        // Told to nobody, its own address is no way around the link.
        let replica = replica.listen(([127, 0, 0, 1], 0).into(), Some(String::new())).open().map_err(failed)?;
        let mut pair = Self { cluster, client, requests: RequestKeys::new()?, replica, link, cloned: (0.0, 0.0) };
        pair.level()?;
        pair.cloned = (pair.link.count().bytes as f64, begun.elapsed().as_secs_f64() * 1000.0);
        Ok(pair)
    }

    /// Takes the replica off the network.
    fn part(&self) -> Result<(), Error> {
        self.replica.set_online(false).map_err(failed)?;
        // What is under way comes to its end.
        std::thread::sleep(Duration::from_millis(500));
        Ok(())
    }

    /// Puts it back, and waits until both are at the same state.
    fn meet(&self) -> Result<(), Error> {
        self.replica.set_online(true).map_err(failed)?;
        self.level()
    }

    /// Waits until both are at the same state.
    fn level(&self) -> Result<(), Error> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let heads = Handle::current().block_on(self.client.heads()).map_err(failed)?;
            // It may not know any branch yet.
            let own = self.replica.state().ok();
            if own.is_some() && heads.first().map(|head| head.state) == own {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        Err(failed("the two did not come to the same state"))
    }

    /// Commits at the coordinator.
    fn write(&self, edits: Vec<Edit>) -> Result<(), Error> {
        let write = Write { wait: Wait::DURABLE, ..Write::new(self.requests.draw(), edits) };
        Handle::current().block_on(self.client.commit(write)).map(drop).map_err(failed)
    }

    fn stop(self) -> Result<(), Error> {
        self.replica.close().map_err(failed)?;
        Handle::current().block_on(self.cluster.stop());
        Ok(())
    }
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::Library { name: "herdbook", why: why.to_string() }
}
