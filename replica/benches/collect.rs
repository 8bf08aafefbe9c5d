//! What a collection of garbage costs those who go on writing: `cargo bench -p herdbook-replica --bench collect -- [documents]…`; 100,000 if
//! not told.
//!
//! Documents are written, then as many are changed at random, so that most nodes were written anew several times. Then a collection runs while
//! another thread commits one change after another. Told are the longest wait of a commit without and with it, and the most bytes that the
//! store's files took meanwhile, against those before. Also what the collection did while the longest ones waited.

#[path = "support/documents.rs"]
mod documents;
mod support;

use std::{
    path::Path,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
    thread,
    time::{Duration, Instant},
};

use herdbook_model::testutil::workload;
use herdbook_replica::{
    Repository,
    repository::{Collecting, Stage},
};
use herdbook_store::{Durability, RocksStore, Settings};

use self::documents::{COMMIT, SCHEMA, commit, edit};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long commits are measured without a collection.
const CALM: Duration = Duration::from_secs(5);

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    for documents in if sizes.is_empty() { vec![100_000] } else { sizes } {
        let folder = tempfile::tempdir().expect("a folder");
        let store = RocksStore::open(folder.path(), &Settings::default()).expect("a fresh folder opens");
        let repository = support::repository(store, SCHEMA);
        fill(&repository, documents);
        measure(folder.path(), &repository, documents);
    }
}

fn fill(repository: &Repository, documents: u64) {
    for first in (0..documents).step_by(COMMIT as usize) {
        commit(repository, (first..documents.min(first + COMMIT)).map(|number| edit(number, 0)).collect());
    }
    for first in (0..documents).step_by(COMMIT as usize) {
        let changed = (first..documents.min(first + COMMIT)).map(|number| edit(workload::mix(number) % documents, number));
        // One edit a document and request.
        let distinct: std::collections::BTreeMap<_, _> = changed.map(|edit| (edit.key.clone(), edit)).collect();
        commit(repository, distinct.into_values().collect());
        if (first / COMMIT) % 20 == 19 {
            repository.materialise().expect("it folds");
        }
    }
    repository.materialise().expect("it folds");
}

/// What a collection does, by number.
const STAGES: [&str; 5] = ["nothing", "pruning", "marking", "sweeping", "reclaiming"];

/// Longest commits that are told one by one.
const TOLD: usize = 5;

fn measure(folder: &Path, repository: &Repository, documents: u64) {
    let (done, stage, mut number) = (AtomicBool::new(false), AtomicU8::new(0), 0);
    let calm = commits_until(repository, documents, &mut number, &stage, |since| since >= CALM);
    repository.materialise().expect("it folds");
    repository.store().records().write(herdbook_store::Batch::new(), Durability::Durable).expect("it syncs");
    let before = bytes_in(folder);
    let (collected, (busy, most)) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Acquire) {
                most = most.max(bytes_in(folder));
                thread::sleep(Duration::from_millis(10));
            }
            most
        });
        let writes = scope.spawn(|| commits_until(repository, documents, &mut number, &stage, |_| done.load(Ordering::Acquire)));
        let at = |now| {
            let number = match now {
                Stage::Pruning(_) => 1,
                Stage::Marking(_) => 2,
                Stage::Sweeping(..) => 3,
                Stage::Reclaiming(_) => 4,
            };
            stage.store(number, Ordering::Release);
        };
        let collected = repository.collect(Collecting::default(), at).expect("it collects");
        done.store(true, Ordering::Release);
        (collected, (writes.join().expect("it commits"), watch.join().expect("it looks")))
    });
    let after = bytes_in(folder);
    let (mib, extra) = (|bytes: u64| bytes as f64 / f64::from(1 << 20), most.saturating_sub(before));
    println!("{documents} documents: {} of {} chunks removed in {:.2?}", collected.removed, collected.chunks, collected.took);
    println!(
        "  on disk {:.1} MiB before, at most {:.1} MiB ({:+.1} %), {:.1} MiB after",
        mib(before),
        mib(most),
        100.0 * extra as f64 / before as f64,
        mib(after)
    );
    for (what, Commits { count, longest, took }) in [("without", calm), ("with", busy)] {
        println!("  {what} a collection: {:.0} commits/s, the longest:", count as f64 / took.as_secs_f64());
        for (took, since, stage) in longest {
            println!("    {took:.1?} after {since:.2?}, while {}", STAGES[usize::from(stage)]);
        }
    }
    let report = repository.fsck(|_| ()).expect("it reads");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// Commits one after another.
struct Commits {
    count: u64,
    /// The longest, longest first: how long, when, and at which stage of the collection.
    longest: Vec<(Duration, Duration, u8)>,
    took: Duration,
}

fn commits_until(repository: &Repository, documents: u64, number: &mut u64, stage: &AtomicU8, ends: impl Fn(Duration) -> bool) -> Commits {
    let (began, mut longest, mut count) = (Instant::now(), Vec::new(), 0);
    while !ends(began.elapsed()) {
        *number += 1;
        let edit = edit(workload::mix(*number) % documents, *number);
        let asked = Instant::now();
        commit(repository, vec![edit]);
        longest.push((asked.elapsed(), began.elapsed(), stage.load(Ordering::Acquire)));
        if longest.len() > 100 * TOLD {
            longest.sort_unstable_by(|one, other| other.cmp(one));
            longest.truncate(TOLD);
        }
        count += 1;
    }
    longest.sort_unstable_by(|one, other| other.cmp(one));
    longest.truncate(TOLD);
    Commits { count, longest, took: began.elapsed() }
}

fn bytes_in(folder: &Path) -> u64 {
    // Files come and go meanwhile.
    std::fs::read_dir(folder).into_iter().flatten().flatten().fold(0, |sum, entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => sum + bytes_in(&entry.path()),
        Ok(meta) => sum + meta.len(),
        Err(_) => sum,
    })
}
