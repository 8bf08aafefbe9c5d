//! Writes a second, synced and not, one batch at a time and many in flight. 100-byte values under 32-byte keys.

#![expect(missing_docs, reason = "criterion's macro makes a public function without")]

use std::{hint::black_box, sync::mpsc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use herdbook_store::{Batch, Durability, Error, Records as _, RocksStore, Settings, Table};

/// Batches handed over before the first answer is waited for.
const IN_FLIGHT: u64 = 256;

/// Makes batches of `size` records, none with a key used before.
struct Source {
    next: u64,
    size: u64,
}

impl Source {
    fn batch(&mut self) -> Batch {
        let mut batch = Batch::new();
        for _ in 0..self.size {
            let mut key = [0; 32];
            // Spread over the key space, as hashes are.
            key[..8].copy_from_slice(&self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
            batch.put(Table::Commits, key, [self.next.to_le_bytes()[0]; 100]);
            self.next += 1;
        }
        batch
    }
}

fn one_at_a_time(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = RocksStore::open(folder.path(), &Settings::default()).expect("new store");
    let mut source = Source { next: 0, size: 1 };
    let mut group = criterion.benchmark_group("write");
    for (name, durability) in [("process", Durability::Process), ("durable", Durability::Durable)] {
        for size in [1, 64, 1000] {
            source.size = size;
            group.throughput(Throughput::Elements(size));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| store.write(black_box(source.batch()), durability).expect("room"));
            });
        }
    }
    group.finish();
}

fn many_in_flight(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = RocksStore::open(folder.path(), &Settings::default()).expect("new store");
    let mut source = Source { next: 0, size: 1 };
    let mut group = criterion.benchmark_group("submit");
    group.throughput(Throughput::Elements(IN_FLIGHT));
    for (name, durability) in [("process", Durability::Process), ("durable", Durability::Durable)] {
        group.bench_function(BenchmarkId::new(name, 1), |bencher| {
            bencher.iter(|| {
                let (answers, outcomes) = mpsc::channel();
                for _ in 0..IN_FLIGHT {
                    let answers = answers.clone();
                    let done = Box::new(move |result: Result<_, Error>| answers.send(result.is_ok()).expect("awaited below"));
                    store.submit(source.batch(), durability, done).expect("a queue longer than this");
                }
                drop(answers);
                assert!(outcomes.iter().all(|written| written));
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = writes;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1)).sample_size(20);
    targets = one_at_a_time, many_in_flight
}
criterion_main!(writes);
