//! What a commit costs where many sessions write at once: `cargo bench -p herdbook-replica --bench sessions -- [sessions commits]…`;
//! 30 sessions and 1,000 with 100,000 commits each if not told, since no figure may follow the sessions.
//!
//! Each commit has one edit and about sixteen parents, so that nearly each one merges. They come as from an exchange, a hundred at a time,
//! their signatures checked before; then this node commits on top, which waits for the log and not for the disk.

#[path = "support/figures.rs"]
mod figures;
mod support;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use herdbook_model::{
    SigningKey,
    authority::SessionCertificate,
    id::{BranchName, RequestKey},
    request::Request,
    schema::{CollectionId, FieldId},
    testutil::{Crowd, request, set, update, workload},
    time::Time,
    value::{Key, Scalar, Value},
};
use herdbook_replica::{
    Repository,
    clock::SystemClock,
    repository::{Ask, DocumentChange, DocumentEdit, Identity, Outcome, Received, Settings},
};
use herdbook_store::{Durability, RocksStore};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SCHEMA: &str = r#"{"version": 1, "collections": {"items": {"fields": [{"name": "score", "type": "int"}]}}}"#;

/// How late others hear of a commit.
const LAG: usize = 16;

/// Commits that come at once.
const BATCH: usize = 100;

/// Documents that are edited.
const DOCUMENTS: u64 = 10_000;

/// Commits of this node's own session.
const OWN: u64 = 10_000;

fn main() {
    // Cargo passes `--bench`; what is no number is not for us.
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let numbers = if numbers.is_empty() { vec![30, 100_000, 1_000, 100_000] } else { numbers };
    for pair in numbers.chunks_exact(2) {
        run(pair[0], pair[1]);
    }
}

fn run(sessions: usize, commits: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = RocksStore::open(folder.path().join("store"), &herdbook_store::Settings::default()).expect("a fresh store opens");
    let repository = support::repository(store, SCHEMA);
    let branch = BranchName::new("main@1").expect("valid");
    let schema = repository.view().branches[&branch].schema().id();
    let mut crowd = Crowd::new(sessions, LAG, 1).at(repository.id(), branch, schema);
    let replica = SigningKey::from_bytes(&support::REPLICA);
    let certify = |key| SessionCertificate::sign(repository.id(), key, Time::from_millis(1), &replica);
    let mut certificates: BTreeMap<_, _> = crowd.keys().map(certify).map(|certificate| (certificate.session, certificate)).collect();

    println!("{sessions} sessions, {commits} commits:");
    let (mut took, mut last, mut parents) = (Duration::ZERO, Duration::ZERO, 0);
    for first in (0..commits).step_by(BATCH) {
        let mut received = Vec::with_capacity(BATCH);
        for number in first..commits.min(first + BATCH) {
            let request = edited(number as u64);
            let (commit, leaves) = crowd.commit(std::slice::from_ref(&request));
            parents += commit.header().parents.len();
            let certificate = certificates.remove(&commit.header().session);
            received.push(Received { commit, certificate, leaves, requests: vec![Some(request.into())], documents: BTreeMap::new() });
        }
        let began = Instant::now();
        let outcomes = repository.receive(received).expect("it is taken");
        let batch = began.elapsed();
        assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Stored)), "every commit enters");
        took += batch;
        if first + commits / 10 >= commits {
            last += batch;
        }
    }
    println!("  {:.1} parents each", parents as f64 / commits as f64);
    println!("  received in {took:.2?}, {:.0} us each, the last tenth {:.0} us each", us(took, commits), us(last, commits / 10));
    drop(crowd);
    println!("  {} MB resident", figures::resident("VmRSS"));

    let began = Instant::now();
    (0..OWN).for_each(|number| commit(&repository, number));
    println!("  {OWN} own commits, {:.1} us each", us(began.elapsed(), OWN as usize));
    repository.materialise().expect("it folds");
    drop(repository);
    println!("  on disk {} bytes a commit", figures::bytes_in(folder.path()) / (commits as u64 + OWN));

    let began = Instant::now();
    let store = RocksStore::open(folder.path().join("store"), &herdbook_store::Settings::default()).expect("it opens again");
    let identity = Identity { replica, genesis: None };
    let repository = Repository::open(Arc::new(store), identity, Arc::new(SystemClock), Settings::default()).expect("it opens");
    println!("  opened again in {:.1?}", began.elapsed());
    let view = repository.view();
    let began = Instant::now();
    for (place, (chain, newest)) in view.vector().iter().enumerate() {
        let at = repository.at(chain, 1 + place as u64 * 7919 % newest).expect("readable").expect("it is there");
        assert!(repository.meta(&at).expect("readable").is_some(), "its vector can be read");
    }
    println!("  a vector from far back {:.0} us", us(began.elapsed(), view.vector().len()));
}

fn us(took: Duration, count: usize) -> f64 {
    took.as_secs_f64() * 1e6 / count as f64
}

fn key(number: u64) -> String {
    format!("item/{:08x}", workload::mix(number) % DOCUMENTS)
}

fn edited(number: u64) -> Request {
    let score = set(FieldId(1), number as i64);
    request(number, [(CollectionId(1), update(&key(number), [score]))])
}

fn commit(repository: &Repository, number: u64) {
    let fields = vec![("score".into(), Value::Scalar(Scalar::Int(number as i64)))];
    let (key, change) = (Key::new(key(number)).expect("short"), DocumentChange::Put(fields));
    let edits = vec![DocumentEdit { collection: "items".into(), key, change }];
    let key = RequestKey((u128::MAX - u128::from(number)).to_be_bytes());
    let ask = Ask { branch: None, key, principal: String::new(), wanted: Vec::new(), edits, message: String::new() };
    repository.commit_one(ask, Durability::Process).expect("it commits");
}
