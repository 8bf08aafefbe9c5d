//! Power cuts: what was acknowledged as durable is there afterwards, and this test would notice if it were not.
//!
//! Built with the feature `plant-skip-fsync`, which takes every sync out of the store, the same body must find losses.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use herdbook_fault_env::FaultEnv;
use herdbook_store::{Batch, Direction, Durability, Error, KeyRange, Receipt, Records as _, RocksStore, Settings, Table, rocks::Recovery};
use parking_lot::Mutex;

/// Cuts of one run; `HERDBOOK_TEST_CUTS` asks for more.
const CUTS: u32 = 100;

/// Numbers that each writer wrote and saw acknowledged as durable.
type Acknowledged = Arc<Mutex<BTreeMap<u8, u32>>>;

/// What a run found.
#[derive(Debug, Default)]
struct Findings {
    acknowledged: u32,
    lost: u32,
    unacknowledged_but_there: u32,
    refused: u32,
    holes: u32,
}

impl Findings {
    const fn plus(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            lost: self.lost + other.lost,
            unacknowledged_but_there: self.unacknowledged_but_there + other.unacknowledged_but_there,
            refused: self.refused + other.refused,
            holes: self.holes + other.holes,
        }
    }
}

/// Cuts the power `cuts` times in all, in some stores at once: the engine spends most of a failed life waiting.
fn run(cuts: u32) -> Findings {
    const STORES: u32 = 5;
    thread::scope(|scope| {
        let runs: Vec<_> = (0..STORES).map(|store| scope.spawn(move || run_one(store * 1000, cuts.div_ceil(STORES)))).collect();
        runs.into_iter().map(|run| run.join().expect("no panic")).fold(Findings::default(), Findings::plus)
    })
}

/// Cuts the power of one store `cuts` times while three threads write, and compares after each.
fn run_one(seed: u32, cuts: u32) -> Findings {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("store");
    let fault = Arc::new(FaultEnv::new());
    let acknowledged = Acknowledged::default();
    // Small buffers: flushes, new logs and compactions happen between the cuts. Many threads, which all stores share: after a
    // failed flush each sleeps for a second.
    let settings =
        Settings { write_buffer_bytes: 256 << 10, cache_bytes: 4 << 20, background_jobs: 32, repair: true, ..Settings::default() };
    let mut findings = Findings::default();

    for cut in seed..seed + cuts {
        let store = Arc::new(open(&path, &settings, &fault, &mut findings));
        compare(&store, &acknowledged, &mut findings);
        write_until_the_cut(&store, &acknowledged, &fault, cut);
        drop(Arc::into_inner(store).expect("all writers ended"));
        // One in three cuts drops all that was not synced, the others leave torn ends.
        fault.restart(if cut % 3 == 0 { 0 } else { cut });
    }
    let store = open(&path, &settings, &fault, &mut findings);
    compare(&store, &acknowledged, &mut findings);
    findings.acknowledged = acknowledged.lock().values().sum();
    findings
}

fn open(path: &Path, settings: &Settings, fault: &FaultEnv, findings: &mut Findings) -> RocksStore {
    let store = RocksStore::open_in(path, settings, Some(fault.env())).expect("a power cut is no reason to refuse repair");
    findings.refused += u32::from(matches!(store.recovery(), Recovery::Lost { .. }));
    store
}

/// Each writer writes 0, 1, 2, … under its own prefix; every number up to its last acknowledged one must be there, and no number
/// without those before it.
fn compare(store: &RocksStore, acknowledged: &Acknowledged, findings: &mut Findings) {
    let mut acknowledged = acknowledged.lock();
    for writer in 0..3u8 {
        let found: Vec<u32> = store
            .scan(Table::Commits, KeyRange::prefix(&[writer]), Direction::Forward)
            .map(|record| u32::from_be_bytes(record.expect("readable").key[1..].try_into().expect("four bytes")))
            .collect();
        let there = found.len() as u32;
        findings.holes += u32::from(!found.iter().copied().eq(0..there));
        let promised = acknowledged.entry(writer).or_default();
        findings.lost += promised.saturating_sub(there);
        findings.unacknowledged_but_there += there.saturating_sub(*promised);
        // The writer goes on after what is there.
        *promised = there;
    }
}

fn write_until_the_cut(store: &Arc<RocksStore>, acknowledged: &Acknowledged, fault: &FaultEnv, cut: u32) {
    let off = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3u8)
        .map(|writer| {
            let (store, acknowledged, off) = (store.clone(), acknowledged.clone(), off.clone());
            thread::spawn(move || {
                while !off.load(Ordering::Relaxed) {
                    if write_next(&store, &acknowledged, writer).is_err() {
                        break;
                    }
                }
            })
        })
        .collect();
    // From the first write to some thousand: the cut falls into opening, log, flush, compaction.
    thread::sleep(Duration::from_micros(u64::from(cut.wrapping_mul(7919) % 40_000)));
    fault.cut_power();
    off.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
}

/// Writes the writer's next number: 300 bytes, durable, after one that is not to be durable by itself.
fn write_next(store: &RocksStore, acknowledged: &Acknowledged, writer: u8) -> Result<Receipt, Error> {
    let number = acknowledged.lock()[&writer];
    let mut soft = Batch::new();
    soft.put(Table::Outbox, [&[writer][..], &number.to_be_bytes()].concat(), [7; 300]);
    store.write(soft, Durability::Process)?;
    let mut batch = Batch::new();
    batch.put(Table::Commits, [&[writer][..], &number.to_be_bytes()].concat(), [9; 300]);
    let receipt = store.write(batch, Durability::Durable)?;
    assert_eq!(receipt.durability, Durability::Durable);
    acknowledged.lock().insert(writer, number + 1);
    Ok(receipt)
}

fn cuts() -> u32 {
    std::env::var("HERDBOOK_TEST_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(CUTS)
}

#[test]
#[cfg(not(feature = "plant-skip-fsync"))]
fn what_was_acknowledged_survives_power_cuts() {
    let findings = run(cuts());
    println!("{findings:?}");
    assert!(findings.acknowledged > cuts(), "too little traffic to prove anything: {findings:?}");
    assert_eq!((findings.lost, findings.refused, findings.holes), (0, 0, 0), "{findings:?}");
}

#[test]
#[cfg(feature = "plant-skip-fsync")]
fn without_syncs_the_same_test_finds_losses() {
    let findings = run(cuts().min(20));
    println!("{findings:?}");
    assert!(findings.lost > 0, "the test cannot see a missing sync: {findings:?}");
}

#[test]
fn a_full_disk_is_told_and_leaves_the_store_as_it_was() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let fault = FaultEnv::new();
    let settings = Settings::default();
    let put = |store: &RocksStore, key: &str| {
        let mut batch = Batch::new();
        batch.put(Table::Index, key, "value");
        store.write(batch, Durability::Durable)
    };
    let store = RocksStore::open_in(folder.path(), &settings, Some(fault.env())).expect("new store");
    put(&store, "before").expect("room");
    fault.fill();
    assert!(matches!(put(&store, "during"), Err(Error::Full { .. })));
    fault.make_room();
    assert!(matches!(put(&store, "after"), Err(Error::Full { .. })), "what failed once is not tried again");
    assert_eq!(store.get(Table::Index, b"before").expect("readable"), Some(b"value".to_vec()));
    drop(store);

    let store = RocksStore::open_in(folder.path(), &settings, Some(fault.env())).expect("nothing is lost");
    assert_eq!(store.recovery(), Recovery::Whole);
    let keys: Vec<_> = store
        .scan(Table::Index, KeyRange::all(), Direction::Forward)
        .map(|record| String::from_utf8(record.expect("readable").key).expect("text"))
        .collect();
    assert_eq!(keys, ["before"]);
    put(&store, "again").expect("room");
}
