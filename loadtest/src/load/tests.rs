//! The loops against a store that only notes what it was asked.

use std::{collections::BTreeSet, ops::Range, sync::Mutex};

use super::*;

/// A store that keeps what it was asked; documents from `lost` on cannot be read; each operation takes `pause`.
#[derive(Clone)]
struct Fake {
    asked: Arc<Mutex<Asked>>,
    lost: u64,
    pause: Duration,
    site: usize,
}

#[derive(Default)]
struct Asked {
    filled: BTreeSet<u64>,
    revisions: BTreeSet<u64>,
    written: BTreeSet<u64>,
    writes: u64,
    reads: u64,
    scans: u64,
}

impl Fake {
    fn new(lost: u64) -> Self {
        Self { asked: Arc::default(), lost, pause: Duration::ZERO, site: 0 }
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().expect("not poisoned")
    }

    async fn wait(&self) {
        if self.pause.is_zero() { tokio::task::yield_now().await } else { tokio::time::sleep(self.pause).await }
    }
}

impl Connection for Fake {
    fn site(&self) -> usize {
        self.site
    }

    async fn fill(&self, range: Range<u64>) -> Result<(), Failure> {
        self.asked().filled.extend(range);
        Ok(())
    }

    async fn write(&self, i: u64, revision: u64) -> Result<(), Failure> {
        self.wait().await;
        let mut asked = self.asked();
        asked.writes += 1;
        asked.revisions.insert(revision);
        asked.written.insert(i);
        Ok(())
    }

    async fn read(&self, i: u64) -> Result<(), Failure> {
        self.wait().await;
        let mut asked = self.asked();
        asked.reads += 1;
        if i < self.lost || asked.written.contains(&i) { Ok(()) } else { Err(Failure::missing(i)) }
    }

    async fn scan(&self, _: u64, _: u64) -> Result<(), Failure> {
        self.wait().await;
        self.asked().scans += 1;
        Ok(())
    }
}

fn plan(mix: Mix) -> Plan {
    Plan { clients: 4, arrival: Arrival::Closed, warm_up_millis: 0, measured_millis: 200, documents: 100, mix, seed: 0 }
}

async fn load(fake: &Fake, plan: &Plan) -> Result<Measured, Error> {
    run(std::slice::from_ref(fake), plan, |_| ()).await
}

fn count(measured: &Measured, kind: Kind) -> u64 {
    measured.operations.get(&kind).map_or(0, |operations| operations.percentiles.count)
}

#[tokio::test]
async fn every_document_is_filled_in_once() {
    let fake = Fake::new(u64::MAX);
    fill(&vec![fake.clone(); 40], 24_500).await.expect("filled");
    assert_eq!(fake.asked().filled, (0..24_500).collect());
}

#[tokio::test]
async fn each_write_has_a_revision_of_its_own_and_is_counted() {
    let fake = Fake::new(u64::MAX);
    let measured = load(&fake, &plan(Mix::reads(0))).await.expect("writes succeed");
    let asked = fake.asked();
    assert_eq!(asked.revisions.len() as u64, asked.writes);
    assert_eq!((count(&measured, Kind::Update), asked.reads), (asked.writes, 0));
    assert_eq!(measured.operations.len(), 1);
}

#[tokio::test]
async fn inserts_are_of_documents_that_were_not_there() {
    let fake = Fake::new(u64::MAX);
    load(&fake, &plan(Mix { insert: 1, ..Mix::default() })).await.expect("writes succeed");
    let asked = fake.asked();
    assert_eq!(asked.written, (100..100 + asked.writes).collect());
}

#[tokio::test]
async fn scans_modifies_and_batches_do_what_they_are_called() {
    let fake = Fake::new(u64::MAX);
    let mix = Mix { scan: 1, modify: 1, batch: 1, batch_size: Some(7), ..Mix::default() };
    let measured = load(&fake, &plan(mix)).await.expect("all succeed");
    let asked = fake.asked();
    let [scans, modifies, batches] = [Kind::Scan, Kind::Modify, Kind::Batch].map(|kind| count(&measured, kind));
    assert!(scans > 0 && modifies > 0 && batches > 0);
    assert_eq!((asked.scans, asked.reads, asked.writes), (scans, modifies, modifies + 7 * batches));
}

#[tokio::test]
async fn the_warm_up_is_not_counted() {
    let fake = Fake::new(u64::MAX);
    let measured = load(&fake, &Plan { warm_up_millis: 200, ..plan(Mix::reads(0)) }).await.expect("writes succeed");
    assert!(count(&measured, Kind::Update) < fake.asked().writes);
}

#[tokio::test]
async fn failures_are_told_beside_what_succeeded() {
    let fake = Fake::new(50);
    let measured = load(&fake, &plan(Mix::reads(100))).await.expect("some reads succeed");
    let read = count(&measured, Kind::Read);
    assert!(read > 0 && measured.failures.0["NOT_FOUND"].count > 0);
    assert_eq!(read + measured.failures.total(), fake.asked().reads);
}

#[tokio::test]
async fn a_store_that_only_fails_gives_no_figures() {
    let error = load(&Fake::new(0), &plan(Mix::reads(100))).await.expect_err("nothing succeeds");
    assert!(matches!(&error, Error::Silent { failures } if failures.total() > 0), "{error}");
}

#[tokio::test]
async fn an_open_loop_offers_its_rate_whatever_the_store_takes() {
    let arrival = Arrival::Open(vec![Stretch::even(1000.0, 0.2)]);
    let measured = load(&Fake::new(u64::MAX), &Plan { arrival, measured_millis: 10_000, ..plan(Mix::reads(100)) }).await.expect("reads");
    assert_eq!((measured.offered, count(&measured, Kind::Read), measured.unserved), (Some(200), 200, 0));
}

#[tokio::test]
async fn a_slow_store_makes_later_operations_of_an_open_loop_late_and_is_not_omitted() {
    let fake = Fake { pause: Duration::from_millis(20), ..Fake::new(u64::MAX) };
    let arrival = Arrival::Open(vec![Stretch::even(200.0, 0.5)]);
    // 100 operations of 20 ms each by one client: the last begins 1.5 s late at least.
    let measured = load(&fake, &Plan { clients: 1, arrival, measured_millis: 60_000, ..plan(Mix::reads(100)) }).await.expect("reads");
    let read = &measured.operations[&Kind::Read];
    assert!(read.percentiles.max_micros >= 1_400_000, "{read:?}");
    assert!(read.percentiles.p50_micros > 4 * read.service.expect("told of an open loop").p50_micros, "{read:?}");
}

#[tokio::test]
async fn operations_that_never_began_are_told() {
    let fake = Fake { pause: Duration::from_millis(20), ..Fake::new(u64::MAX) };
    let arrival = Arrival::Open(vec![Stretch::even(1000.0, 0.1)]);
    let measured = load(&fake, &Plan { clients: 1, arrival, measured_millis: 100, ..plan(Mix::reads(100)) }).await.expect("some reads");
    let read = &measured.operations[&Kind::Read];
    assert_eq!((read.percentiles.count, read.service.expect("told of an open loop").count), (100, 100 - measured.unserved));
    assert!(measured.unserved > 50, "{}", measured.unserved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_clients_work_on_two_threads() {
    let fake = Fake { pause: Duration::from_millis(50), ..Fake::new(u64::MAX) };
    let measured = load(&fake, &Plan { clients: 10_000, measured_millis: 2000, ..plan(Mix::reads(100)) }).await.expect("reads");
    assert!(count(&measured, Kind::Read) >= 10_000, "{}", count(&measured, Kind::Read));
}

/// The fault: a client read a document that another was still writing, and counted its absence as a failure.
#[test]
fn a_document_is_read_only_when_it_and_all_before_it_are_written() {
    let documents = Documents::new(10, 0, 1);
    let [first, second, third] = [(); 3].map(|()| documents.take());
    assert_eq!((first, documents.known()), (10, 10));
    documents.acknowledge(second);
    assert_eq!(documents.known(), 10);
    documents.acknowledge(first);
    assert_eq!(documents.known(), 12);
    documents.acknowledge(third);
    assert_eq!(documents.known(), 13);
}

/// The fault: a client at one server read what a client at another had just inserted, and counted its absence as a failure.
#[tokio::test]
async fn what_is_inserted_at_one_server_is_read_there_only() {
    // Two stores of which neither ever hears of the other.
    let stores = [0, 1].map(|site| Fake { site, ..Fake::new(100) });
    let mix = Mix { read: 1, insert: 1, keys: keys::Keys::Latest, ..Mix::default() };
    let measured = run(&stores, &plan(mix), |_| ()).await.expect("reads and writes succeed");
    assert_eq!(measured.failures.total(), 0, "{:?}", measured.failures);
    let [alice, bob] = stores.each_ref().map(|store| store.asked().written.clone());
    assert!(!alice.is_empty() && !bob.is_empty() && alice.is_disjoint(&bob));
}
