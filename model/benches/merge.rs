//! Speed of merging in memory: two sides edit 1,100 documents each, 100 of them in common, on 10,000 documents and on a million. Measured is
//! the replay of both sides on their base, after which the state can be read, and that with the fold into new trees, after which it has a root.

#![expect(missing_docs, reason = "criterion's macro makes a function without documentation")]

use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use herdbook_model::{
    state::{State, advance},
    testutil::{Replica, request, update, workload},
    time::Time,
};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn base(count: u64) -> Replica {
    let mut replica = Replica::new("base", Arc::new(workload::schema()));
    for first in (0..count).step_by(50_000) {
        let edits = (first..count.min(first + 50_000)).map(|i| workload::creation(i, 0));
        replica.commit_requests(Time::from_millis(1), vec![request(first, edits)]);
    }
    replica.fold();
    replica
}

/// Returns a replica that edited documents `own` and the common ones, one commit each or all in one.
fn side(base: &Replica, name: &str, own: std::ops::Range<u64>, revision: u64, of: u64, per_commit: bool) -> Replica {
    let mut side = Replica::new(name, Arc::new(workload::schema()));
    base.deliveries().for_each(|delivery| side.receive(delivery).expect("it fits"));
    side.fold();
    let edit = |j: u64| {
        let i = workload::perm(j) % of;
        (workload::DOCUMENTS, update(&workload::key(i), workload::Record::of(i, revision).fields()))
    };
    let edits: Vec<_> = own.chain(2000..2100).map(edit).collect();
    if per_commit {
        edits.into_iter().for_each(|edit| _ = side.commit(Time::from_millis(2), [edit]));
    } else {
        side.commit(Time::from_millis(2), edits);
    }
    side
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge/1100 + 1100");
    group.sample_size(20).throughput(Throughput::Elements(2200));
    for (name, count) in [("10k", 10_000), ("1M", 1_000_000)] {
        let base = base(count);
        for (form, per_commit) in [("one commit a side", false), ("a commit an edit", true)] {
            let mut alice = side(&base, "alice", 0..1000, 1, count, per_commit);
            let bob = side(&base, "bob", 1000..2000, 2, count, per_commit);
            bob.deliveries().for_each(|delivery| alice.receive(delivery).expect("it fits"));
            let replayed = |mut state: State| {
                advance(&mut state, &alice, base.nodes(), alice.frontier().vector(), |_| false).expect("every commit is here");
                state
            };
            group.bench_function(format!("{name}, {form}, readable"), |b| {
                b.iter_batched(|| base.state().clone(), replayed, BatchSize::LargeInput);
            });
            group.bench_function(format!("{name}, {form}, with its root"), |b| {
                b.iter_batched(
                    || base.state().clone(),
                    |state| replayed(state).fold(base.nodes()).expect("nodes in memory are whole"),
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

criterion_group!(benches, merge);
criterion_main!(benches);
