//! Speed of the prolly tree in memory: build, edits, diff and point reads at 10,000 and 1,000,000 documents of about 125 bytes.

#![expect(missing_docs, reason = "criterion's macro makes a function without documentation")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use herdbook_model::tree::{Keys, MemoryNodes, Tree, diff};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn key(i: u64) -> Vec<u8> {
    format!("doc/{:02x}/{i:08x}", mix(i) >> 56).into_bytes()
}

/// A document whose length varies a little with its content, as real ones do.
fn value(i: u64, revision: u64) -> Vec<u8> {
    let draw = mix(i << 20 ^ revision);
    format!(
        r#"{{"id":{i},"rev":{revision},"name":"kernel violet","score":{},"active":true,"tags":["meadow","jasper"],"ts":17{:08},"h":"{:08x}"}}"#,
        draw % 100_000,
        draw % 100_000_000,
        draw >> 32
    )
    .into_bytes()
}

fn entries(count: u64) -> Entries {
    let mut entries: Entries = (0..count).map(|i| (key(i), value(i, 0))).collect();
    entries.sort();
    entries
}

/// Edits of `count` documents spread over the first `of`, in key order.
fn edits(of: u64, count: u64, revision: u64) -> Entries {
    let mut edits: Entries = (0..count).map(|j| j * 48_271 % of).map(|i| (key(i), value(i, revision))).collect();
    edits.sort();
    edits
}

fn put(edits: &Entries) -> impl Iterator<Item = (&Vec<u8>, Option<&Vec<u8>>)> {
    edits.iter().map(|(key, value)| (key, Some(value)))
}

fn base(count: u64) -> (MemoryNodes, Tree) {
    let mut nodes = MemoryNodes::default();
    let applied = Tree::build(entries(count)).expect("sorted");
    nodes.extend(applied.added).expect("well formed");
    (nodes, applied.tree)
}

/// Sizes at which each cost is measured: those that follow the difference may not follow them.
const SIZES: [(&str, u64); 2] = [("10k", 10_000), ("1M", 1_000_000)];

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    for (name, count) in [("10k", 10_000), ("100k", 100_000), ("1M", 1_000_000)] {
        let content = entries(count);
        group.sample_size(10).throughput(Throughput::Elements(count));
        group.bench_function(name, |b| b.iter(|| Tree::build(content.iter().map(|(key, value)| (key, value))).expect("sorted")));
    }
}

fn edit(c: &mut Criterion) {
    let mut group = c.benchmark_group("edit");
    let (nodes, tree) = base(100_000);
    let batch = edits(100_000, 1100, 1);
    group.sample_size(30);
    group.bench_function("batch of 1100 in 100k", |b| b.iter(|| tree.apply(&nodes, put(&batch)).expect("sorted")));
    let mut single = (0..).map(|j: u64| j * 48_271 % 100_000).map(|i| (key(i), value(i, 3)));
    group.bench_function("single in 100k", |b| {
        b.iter_batched(
            || single.next().expect("endless"),
            |(key, value)| tree.apply(&nodes, [(key, Some(value))]).expect("sorted"),
            BatchSize::SmallInput,
        );
    });
}

fn compare(c: &mut Criterion) {
    let mut group = c.benchmark_group("diff");
    for (name, count) in SIZES {
        let (mut nodes, tree) = base(count);
        for changed in [1, 1_000] {
            let applied = tree.apply(&nodes, put(&edits(count, changed, 1))).expect("sorted");
            nodes.extend(applied.added).expect("well formed");
            group.bench_function(format!("{changed} changed of {name}"), |b| {
                b.iter(|| {
                    let found = diff(&nodes, &tree, &nodes, &applied.tree, &Keys::all()).expect("roots").count();
                    assert_eq!(found as u64, changed);
                });
            });
        }
    }
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("get");
    for (name, count) in SIZES {
        let (nodes, tree) = base(count);
        let keys: Vec<_> = (0..10_000).map(|j| key(mix(j) % count)).collect();
        let mut keys = keys.iter().cycle();
        group.bench_function(name, |b| b.iter(|| black_box(tree.get(&nodes, keys.next().expect("endless")).expect("nodes"))));
    }
}

criterion_group!(benches, build, edit, compare, read);
criterion_main!(benches);
