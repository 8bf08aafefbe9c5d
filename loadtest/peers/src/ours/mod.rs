//! Herdbook as a library in this process, and over a link whose bytes are counted.
//!
//! What it does is signed, versioned and, where it is not said to be in memory, on the disk; replicas meet over gRPC as they always do.

mod missing;
mod pair;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use herdbook_loadtest::{
    node::name,
    workload::{DOCS_SCHEMA, DOCUMENTS, N, Record, key, perm, record},
};
use herdbook_model::{
    json::schema_from_json,
    state::{advance, compare},
    testutil::{self, request, update, workload},
    time::Time,
    value::Key,
};
use herdbook_proto::edit::{Edit, Operation};
use herdbook_replica::{
    Replica,
    repository::{DocumentChange, DocumentEdit},
};

use crate::{
    error::Error,
    library::{Library, OWN, SHARED, SINGLES, SYNCED, TIMED, Task, millis, rate},
};
use pair::Pair;

/// How many documents a request may create in memory, where only the number of its edits is limited.
const REQUEST: u64 = 50_000;

/// How many documents a request to a replica may put: its bytes are limited too.
const PUTS: usize = 30_000;

/// How long a link is idle before its bytes are counted, and for how long they are.
const IDLE: Duration = Duration::from_secs(10);

/// Herdbook.
#[derive(Debug, Clone)]
pub(crate) struct Herdbook {
    /// The program that the other member is started from.
    pub(crate) binary: PathBuf,
}

/// What only Herdbook is measured by, or at another size than the libraries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// Commits of one edit by two threads at once: commits a second.
    CommitTwo,
    /// Milliseconds of a merge until the state can be read.
    Merge,
    /// Milliseconds of it until the state has a root.
    MergeRoot,
    /// Milliseconds of a diff.
    Diff,
    /// Bytes of a synchronisation.
    Sync,
    /// Bytes of a fetch of a hundred commits.
    Fetch,
    /// Milliseconds of it.
    FetchTime,
    /// Bytes that an idle link between two members carries in ten seconds, with all documents held by both.
    Idle,
    /// Milliseconds until all documents can be read again after the store was closed.
    Open,
    /// Megabytes of documents a second that a coordinator without data gets back from a replica.
    Restore,
    /// Bytes until so many missing commits are found by a node that never met the other, of as many commits as documents are named.
    Missing(u64),
    /// Milliseconds of both sides until then.
    MissingTime(u64),
    /// Messages there and back until then, those of one side that follow one another being one.
    MissingTurns(u64),
}

impl Herdbook {
    /// Measures once with so many documents, in `folder` if anything is kept.
    ///
    /// # Errors
    /// Those of replica and cluster.
    pub(crate) fn measure(&self, own: Own, documents: u64, folder: &Path) -> Result<Option<f64>, Error> {
        match own {
            Own::CommitTwo => by_two(&durable(folder, documents)?).map(Some),
            Own::Merge => merge(documents, false),
            Own::MergeRoot => merge(documents, true),
            Own::Diff => diff(documents),
            Own::Sync => self.sync(folder, documents).map(Some),
            Own::Fetch => self.fetch(folder, documents).map(|(bytes, _)| Some(bytes)),
            Own::FetchTime => self.fetch(folder, documents).map(|(_, millis)| Some(millis)),
            Own::Idle => self.idle(folder, documents).map(Some),
            Own::Open => open_time(folder, documents).map(Some),
            Own::Restore => self.restore(folder, documents).map(Some),
            Own::Missing(count) => missing::missing(count, documents).map(|found| Some(found.bytes)),
            Own::MissingTime(count) => missing::missing(count, documents).map(|found| Some(found.millis)),
            Own::MissingTurns(count) => missing::missing(count, documents).map(|found| Some(found.turns)),
        }
    }

    fn idle(&self, folder: &Path, documents: u64) -> Result<f64, Error> {
        let pair = Pair::start(&self.binary, folder, documents)?;
        std::thread::sleep(IDLE);
        let before = pair.bytes();
        std::thread::sleep(IDLE);
        let bytes = pair.bytes() - before;
        pair.stop()?;
        Ok(bytes as f64)
    }

    fn sync(&self, folder: &Path, documents: u64) -> Result<f64, Error> {
        let pair = Pair::start(&self.binary, folder, documents)?;
        pair.part()?;
        commit(&pair.replica, edits(SYNCED..2 * SYNCED, 1))?;
        pair.write((0..SYNCED).map(|j| put(perm(j), 1)).collect())?;
        let before = pair.bytes();
        pair.meet()?;
        let bytes = pair.bytes() - before;
        pair.stop()?;
        Ok(bytes as f64)
    }

    /// Returns bytes and milliseconds.
    fn fetch(&self, folder: &Path, documents: u64) -> Result<(f64, f64), Error> {
        let pair = Pair::start(&self.binary, folder, documents)?;
        pair.part()?;
        for j in 0..SYNCED {
            pair.write(vec![put(perm(j), 3)])?;
        }
        let before = pair.bytes();
        pair.go_online()?;
        pair.first_byte(before)?;
        let begun = Instant::now();
        pair.level()?;
        let millis = begun.elapsed().as_secs_f64() * 1000.0;
        let bytes = pair.bytes() - before;
        pair.stop()?;
        // Signatures do not compress.
        if bytes < SYNCED * 64 {
            Err(failed(format!("{bytes} bytes hold no {SYNCED} signatures: they came another way")))
        } else {
            Ok((bytes as f64, millis))
        }
    }

    /// Returns bytes and milliseconds.
    fn clone_all(&self, folder: &Path) -> Result<(f64, f64), Error> {
        let pair = Pair::start(&self.binary, folder, N)?;
        let (bytes, millis) = pair.cloned;
        pair.stop()?;
        Ok((bytes, millis))
    }

    fn restore(&self, folder: &Path, documents: u64) -> Result<f64, Error> {
        let mut pair = Pair::start(&self.binary, folder, documents)?;
        let megabytes = (0..documents).map(|i| key(i).len() + Record::of(i, 0).json().len()).sum::<usize>() as f64 / 1e6;
        let before = pair.bytes();
        pair.lose_coordinator()?;
        pair.first_byte(before)?;
        let begun = Instant::now();
        pair.level()?;
        let seconds = begun.elapsed().as_secs_f64();
        pair.stop()?;
        Ok(megabytes / seconds)
    }
}

impl Library for Herdbook {
    fn version(&self) -> String {
        concat!("herdbook ", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn sample(&self, task: Task, folder: &Path) -> Result<Option<f64>, Error> {
        match task {
            Task::Commit => {
                let replica = durable(folder, N)?;
                rate(|j| commit(&replica, edits(j % N..j % N + 1, 3 + j / N)))
            }
            Task::Read => {
                let replica = durable(folder, N)?;
                rate(|j| match replica.get(DOCUMENTS, &key(perm(j % N))) {
                    Ok(Some(_)) => Ok(()),
                    Ok(None) => Err(failed("a document is not there")),
                    Err(error) => Err(failed(error)),
                })
            }
            Task::Build => millis(|| Ok(base(N))),
            Task::BuildDurable => {
                let documents: Vec<_> = (0..N).map(|i| edit(i, 0)).collect();
                millis(|| {
                    let replica = open(folder)?;
                    build(&replica, documents)?;
                    Ok(replica)
                })
            }
            Task::Merge => self.measure(Own::Merge, N, folder),
            Task::Diff => self.measure(Own::Diff, N, folder),
            Task::Sync => self.measure(Own::Sync, N, folder),
            Task::Fetch => self.measure(Own::Fetch, N, folder),
            Task::Clone => self.clone_all(folder).map(|(bytes, _)| Some(bytes)),
            Task::CloneTime => self.clone_all(folder).map(|(_, millis)| Some(millis)),
            Task::Disk => {
                let replica = durable(folder, N)?;
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
fn merge(documents: u64, is_root: bool) -> Result<Option<f64>, Error> {
    let base = base(documents);
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

fn diff(documents: u64) -> Result<Option<f64>, Error> {
    let mut replica = base(documents);
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

/// Returns a replica in memory with so many documents, made by one commit for each hundred thousand.
fn base(documents: u64) -> testutil::Replica {
    let mut replica = testutil::Replica::new("base", Arc::new(workload::schema()));
    for start in (0..documents).step_by(usize::try_from(N).expect("small")) {
        let end = documents.min(start + N);
        let requests = (start..end).step_by(usize::try_from(REQUEST).expect("small"));
        let requests = requests.map(|first| request(first, (first..end.min(first + REQUEST)).map(|i| workload::creation(i, 0))));
        replica.commit_requests(Time::from_millis(1), requests.collect());
    }
    replica.fold();
    replica
}

/// Returns how many commits of one edit two threads make in a second, together.
fn by_two(replica: &Replica) -> Result<f64, Error> {
    let begun = Instant::now();
    let by = |thread: u64| {
        let mut count = 0;
        while begun.elapsed() < TIMED {
            let j = 2 * count + thread;
            commit(replica, edits(j % N..j % N + 1, 3 + j / N))?;
            count += 1;
        }
        Ok::<_, Error>(count)
    };
    let counts = std::thread::scope(|scope| {
        let threads = [0, 1].map(|thread| scope.spawn(move || by(thread)));
        threads.map(|thread| thread.join().expect("committing does not panic"))
    });
    let [first, second] = counts;
    Ok((first? + second?) as f64 / begun.elapsed().as_secs_f64())
}

fn open_time(folder: &Path, documents: u64) -> Result<f64, Error> {
    durable(folder, documents)?.close().map_err(failed)?;
    let begun = Instant::now();
    let replica = open(folder)?;
    let found = replica.get(DOCUMENTS, &key(0)).map_err(failed)?;
    let millis = begun.elapsed().as_secs_f64() * 1000.0;
    found.ok_or_else(|| failed("a document is not there"))?;
    Ok(millis)
}

fn open(folder: &Path) -> Result<Replica, Error> {
    let schema = schema_from_json(DOCS_SCHEMA).map_err(failed)?;
    Replica::builder(folder.join("herdbook")).schema(schema).capture(Duration::ZERO).open().map_err(failed)
}

/// Returns a replica on the disk with so many documents.
fn durable(folder: &Path, documents: u64) -> Result<Replica, Error> {
    let replica = open(folder)?;
    build(&replica, (0..documents).map(|i| edit(i, 0)).collect())?;
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

fn failed(why: impl std::fmt::Display) -> Error {
    Error::Library { name: "herdbook", why: why.to_string() }
}
