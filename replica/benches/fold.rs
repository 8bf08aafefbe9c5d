//! What it costs to write edits into trees, by how many are gathered first: `cargo bench -p herdbook-replica --bench fold -- [documents]…`;
//! 10,000 and 1,000,000 if not told.
//!
//! Documents are written once. For each setting the repository is opened with it, documents are changed at random, one a commit, and the store is
//! left as a crash leaves it and opened again. Told are commits a second, the longest of them, bytes that the process wrote for each commit,
//! memory above what it took before, and how long opening takes, which replays what was not written into trees.

#[path = "support/documents.rs"]
mod documents;
#[path = "support/figures.rs"]
mod figures;
mod support;

use std::time::{Duration, Instant};

use herdbook_model::testutil::workload;
use herdbook_replica::repository::{Collecting, FOLD_EDITS, Settings};
use herdbook_store::{RocksStore, Settings as StoreSettings};

use self::{
    documents::{COMMIT, SCHEMA, commit, edit},
    figures::resident,
};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Settings that are compared.
const FOLDS: [u64; 4] = [3_125, 12_500, FOLD_EDITS, 100_000];

/// Commits under each: more than the largest gathers, and half of that, so that opening has something to replay under every setting.
const COMMITS: u64 = 200_000;

fn main() {
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    for documents in if sizes.is_empty() { vec![10_000, 1_000_000] } else { sizes } {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || RocksStore::open(folder.path(), &StoreSettings::default()).expect("it opens");
        let repository = support::repository(open(), SCHEMA);
        for first in (0..documents).step_by(COMMIT as usize) {
            commit(&repository, (first..documents.min(first + COMMIT)).map(|number| edit(number, 0)).collect());
        }
        repository.materialise().expect("it folds");
        drop(repository);
        println!("{documents} documents, {COMMITS} commits of one change each");
        println!("{:>9} {:>10} {:>12} {:>14} {:>10} {:>12}", "gathered", "commits/s", "longest", "bytes/commit", "memory", "opens in");
        let mut number = 0;
        let fixed = |fold_edits| (fold_edits, Settings { fold_edits, fold_nodes: u64::MAX, ..Settings::default() });
        // The first is what is shipped: so many, or fewer where that would write too many nodes at once.
        for (fold_edits, settings) in [(FOLD_EDITS, Settings::default())].into_iter().chain(FOLDS.map(fixed)) {
            let repository = support::again(open(), settings.clone());
            repository.materialise().expect("it folds");
            // What the one before left to be merged is not counted for this one.
            repository.collect(Collecting::default(), |_| ()).expect("it collects");
            let (memory, written) = (resident("VmRSS"), bytes_written());
            let (began, mut longest, mut most) = (Instant::now(), Duration::ZERO, memory);
            // Half of what is gathered stays above the trees at the end.
            for done in 0..COMMITS / fold_edits * fold_edits + fold_edits / 2 {
                number += 1;
                let asked = Instant::now();
                commit(&repository, vec![edit(workload::mix(number) % documents, number)]);
                longest = longest.max(asked.elapsed());
                if done % 10_000 == 0 {
                    most = most.max(resident("VmRSS"));
                }
            }
            let commits = COMMITS / fold_edits * fold_edits + fold_edits / 2;
            let (took, written) = (began.elapsed(), bytes_written() - written);
            drop(repository);
            let store = open();
            let began = Instant::now();
            drop(support::again(store, settings));
            println!(
                "{fold_edits:>9} {:>10.0} {longest:>12.1?} {:>14.0} {:>6} MiB {:>12.1?}",
                commits as f64 / took.as_secs_f64(),
                written as f64 / commits as f64,
                most.saturating_sub(memory),
                began.elapsed(),
            );
        }
    }
}

/// Bytes that this process gave to files so far.
fn bytes_written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("Linux tells");
    let line = io.lines().find(|line| line.starts_with("wchar")).expect("Linux tells of writes");
    line.split_whitespace().nth(1).and_then(|bytes| bytes.parse().ok()).expect("a number")
}
