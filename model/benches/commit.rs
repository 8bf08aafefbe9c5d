//! Speed of commits in memory: making one of a single edit (encode, sign, apply), checking one, and checking and replaying 100,000 of
//! somebody else, on states of 10,000 documents and of a million.

#![expect(missing_docs, reason = "criterion's macro makes a function without documentation")]

use std::{hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use herdbook_model::{
    codec::{Decode as _, Encode as _},
    commit::{Commit, Unverified},
    state::advance,
    testutil::{Replica, request, update, workload},
    time::Time,
};

const SIZES: [(&str, u64); 2] = [("10k", 10_000), ("1M", 1_000_000)];

/// Commits of somebody else.
const FOREIGN: u64 = 100_000;

/// Returns a replica with the first `count` documents, folded.
fn base(count: u64) -> Replica {
    let mut replica = Replica::new("base", Arc::new(workload::schema()));
    for first in (0..count).step_by(50_000) {
        let edits = (first..count.min(first + 50_000)).map(|i| workload::creation(i, 0));
        replica.commit_requests(Time::from_millis(1), vec![request(first, edits)]);
    }
    replica.fold();
    replica
}

/// Returns a replica with a chain of its own on the base.
fn writer(base: &Replica) -> Replica {
    let mut writer = Replica::new("writer", Arc::new(workload::schema()));
    base.deliveries().for_each(|delivery| writer.receive(delivery).expect("it fits"));
    writer.fold();
    writer
}

fn commit_single(writer: &mut Replica, j: u64, of: u64) -> Commit {
    let i = workload::perm(j) % of;
    let fields = workload::Record::of(i, 3).fields();
    let edit = update(&workload::key(i), [fields[1].clone(), fields[3].clone()]);
    writer.commit(Time::from_millis(2), [(workload::DOCUMENTS, edit)]).commit
}

fn single(c: &mut Criterion) {
    let mut group = c.benchmark_group("commit/single edit");
    for (name, count) in SIZES {
        let (base, mut j) = (base(count), 0..);
        let mut writer = writer(&base);
        group.bench_function(name, |b| {
            b.iter(|| black_box(commit_single(&mut writer, j.next().expect("endless"), count).to_bytes()));
        });
    }
}

fn verify(c: &mut Criterion) {
    let mut writer = Replica::new("writer", Arc::new(workload::schema()));
    let bytes = commit_single(&mut writer, 1, 10).to_bytes();
    c.bench_function("commit/decode and verify", |b| {
        b.iter(|| Commit::<Unverified>::from_bytes(&bytes).expect("its own bytes").verify().expect("its own signature"));
    });
}

/// Checks signatures on two threads, one commit at a time, as they come from a peer.
fn verify_all(encoded: &[Vec<u8>]) {
    let check = |bytes: &Vec<u8>| {
        let commit = Commit::<Unverified>::from_bytes(bytes).expect("its own bytes");
        commit.verify().expect("its own signature");
    };
    let (one, other) = encoded.split_at(encoded.len() / 2);
    std::thread::scope(|scope| {
        scope.spawn(|| one.iter().for_each(check));
        other.iter().for_each(check);
    });
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("foreign commits/100k");
    group.sample_size(10).throughput(Throughput::Elements(FOREIGN));
    for (name, count) in SIZES {
        let base = base(count);
        let mut writer = writer(&base);
        let encoded: Vec<_> = (0..FOREIGN).map(|j| commit_single(&mut writer, j, count).to_bytes()).collect();
        if count == SIZES[0].1 {
            group.bench_function("verified on two threads", |b| b.iter(|| verify_all(&encoded)));
        }
        group.bench_function(format!("replayed on {name}"), |b| {
            b.iter_batched(
                || base.state().clone(),
                |mut state| {
                    advance(&mut state, &writer, base.nodes(), writer.frontier().vector(), |_| false).expect("every commit is here")
                },
                BatchSize::LargeInput,
            );
        });
    }
}

criterion_group!(benches, single, verify, replay);
criterion_main!(benches);
