//! Commits of an embedded replica: signed, of one edit each, in the log of a real store.
//!
//! `cargo bench -p herdbook-replica --bench commit -- [documents] [commits]`; 100,000 and 50,000 if not told. Prints how many a second one
//! thread makes that waits for each, how many when it does not wait, what the build of all documents costs, how many documents a second one
//! thread reads that lie in memory, and what the folder takes after a fifth as many commits, opened and closed once more.

#[path = "support/figures.rs"]
mod figures;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use herdbook_model::{
    id::RequestKey,
    value::{Key, Scalar, Value},
};
use herdbook_replica::{
    Repository,
    repository::{Ask, DocumentChange, DocumentEdit, FieldChange},
};
use herdbook_store::{Durability, RocksStore};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SCHEMA: &str = r#"{"version": 1, "collections": {"items": {"fields": [
    {"name": "name", "type": "string"}, {"name": "score", "type": "int"}, {"name": "active", "type": "bool"},
    {"name": "note", "type": "string"}]}}}"#;

/// Edits of one request while documents are made.
const BULK: u64 = 1000;

/// Calls that may wait for the store while documents are made.
const UNDER_WAY: u64 = 2;

/// Documents read.
const READS: u64 = 1_000_000;

/// Commits that may wait for the store at once where the thread does not wait.
const AHEAD: u64 = 256;

fn main() {
    // Cargo passes `--bench`; what is no number is not for us.
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (documents, commits) = (numbers.next().unwrap_or(100_000), numbers.next().unwrap_or(50_000));
    let folder = tempfile::tempdir().expect("a folder");
    let store = RocksStore::open(folder.path().join("store"), &herdbook_store::Settings::default()).expect("a fresh store opens");
    let repository = support::repository(store, SCHEMA);

    let began = Instant::now();
    build(&repository, documents);
    report("documents built, requests of 1,000, in the log", documents, began.elapsed());
    let began = Instant::now();
    repository.materialise().expect("it folds");
    println!("  folded after that in {:.1?}", began.elapsed());

    for durability in [Durability::Process, Durability::Durable] {
        let commits = if durability == Durability::Process { commits } else { commits / 10 };
        let began = Instant::now();
        for number in 0..commits {
            repository.commit_one(edit(number, documents), durability).expect("it commits");
        }
        report(&format!("commits of one edit, {durability:?}, each waited for"), commits, began.elapsed());
    }
    let began = Instant::now();
    ahead(&repository, commits, documents);
    report("commits of one edit, in the log, not waited for", commits, began.elapsed());
    read(&repository, documents);
    drop(repository);
    disk(documents, commits / 5);
}

/// Reads documents of the newest state at random, all of them once before.
fn read(repository: &Repository, documents: u64) {
    repository.materialise().expect("it folds");
    let view = repository.view();
    let state = view.state(None).expect("there is a branch");
    let items = state.schema().collection("items").expect("it has them").id;
    let get = |number| repository.get(state, items, &key(number)).expect("it reads").expect("it is there");
    (0..documents).for_each(|number| drop(get(number)));
    let began = Instant::now();
    (0..READS).for_each(|number| _ = std::hint::black_box(get(number.wrapping_mul(48_271) % documents)));
    report("point reads of documents in memory", READS, began.elapsed());
    println!("  {} MB resident", figures::resident("VmRSS"));
}

/// Tells what the folder takes after single commits on top of all documents.
fn disk(documents: u64, commits: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let repository = support::repository(RocksStore::open(path.clone(), &Default::default()).expect("a fresh store opens"), SCHEMA);
    build(&repository, documents);
    repository.materialise().expect("it folds");
    (0..commits).for_each(|number| drop(repository.commit_one(edit(number, documents), Durability::Process).expect("it commits")));
    repository.materialise().expect("it folds");
    drop(repository);
    // What the log still holds goes to tables when the store is opened again.
    drop(RocksStore::open(path.clone(), &Default::default()).expect("it opens again"));
    println!("{documents} documents and {commits} commits of one edit: {:.1} MB on the disk", figures::bytes_in(&path) as f64 / 1e6);
}

fn report(what: &str, count: u64, took: Duration) {
    println!("{count} {what}: {took:.2?}, {:.0}/s", count as f64 / took.as_secs_f64());
}

fn build(repository: &Repository, documents: u64) {
    let (told, hears) = std::sync::mpsc::channel();
    let (mut first, mut under_way) = (0, 0);
    while first < documents {
        let asks = (first..documents.min(first + 10 * BULK)).step_by(BULK as usize).map(|from| {
            let edits = (from..documents.min(from + BULK)).map(|number| DocumentEdit {
                collection: "items".into(),
                key: key(number),
                change: DocumentChange::Put(vec![
                    ("name".into(), Value::Scalar(Scalar::from("two words"))),
                    ("score".into(), Value::Scalar(Scalar::Int(number as i64))),
                    ("active".into(), Value::Scalar(Scalar::Bool(true))),
                    ("note".into(), Value::Scalar(Scalar::from("a note of some sixty bytes, as the documents of the workload have"))),
                ]),
            });
            ask(u64::MAX - from, edits.collect())
        });
        let asks: Vec<_> = asks.collect();
        first += 10 * BULK;
        let told = told.clone();
        repository.commit(asks, Durability::Process, move |receipt, answers| {
            told.send(receipt.map(|_| answers.into_iter().filter(Result::is_err).count())).expect("somebody waits");
        });
        under_way += 1;
        while under_way > if first < documents { UNDER_WAY } else { 0 } {
            assert_eq!(hears.recv().expect("an answer").expect("it is stored"), 0, "every request is committed");
            under_way -= 1;
        }
    }
}

fn ahead(repository: &Repository, commits: u64, documents: u64) {
    let done = Arc::new(AtomicU64::new(0));
    for number in 0..commits {
        while number - done.load(Ordering::Acquire) >= AHEAD {
            std::thread::yield_now();
        }
        let done = done.clone();
        repository.commit(vec![edit(commits + number, documents)], Durability::Process, move |receipt, answers| {
            receipt.expect("the store takes it");
            answers.into_iter().for_each(|answer| drop(answer.expect("it commits")));
            done.fetch_add(1, Ordering::Release);
        });
    }
    while done.load(Ordering::Acquire) < commits {
        std::thread::yield_now();
    }
}

fn key(number: u64) -> Key {
    Key::new(format!("doc/{:02x}/{number:08x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56)).expect("short")
}

/// Another document each time, as far as they go.
fn edit(number: u64, documents: u64) -> Ask {
    let fields = vec![("score".into(), FieldChange::Set(Value::Scalar(Scalar::Int(number as i64 + 1_000_000))))];
    let key = key(number.wrapping_mul(48_271) % documents);
    ask(number, vec![DocumentEdit { collection: "items".into(), key, change: DocumentChange::Update(fields) }])
}

fn ask(number: u64, edits: Vec<DocumentEdit>) -> Ask {
    static RUN: AtomicU64 = AtomicU64::new(0);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&run.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    Ask { branch: None, key: RequestKey(key), principal: String::new(), wanted: Vec::new(), edits, message: String::new() }
}
