//! Questions to the graph where many sessions write at once: what a commit costs to enter, and whether one commit is an ancestor of another.
//!
//! Each with 30 and with 1,000 sessions, all of them live, and about sixteen parents a commit: neither cost may follow the sessions.

#![expect(missing_docs, reason = "criterion's macro makes a function without documentation")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use herdbook_model::{
    codec::{Decode as _, Encode as _},
    commit::Commit,
    graph::{Frontier, Graph as _, Meta, admit},
    testutil::Crowd,
    vector::VersionVector,
};

/// Sessions, and commits after which the questions are asked.
const SIZES: [(&str, usize, usize); 2] = [("30 sessions", 30, 3_000), ("1000 sessions", 1_000, 100_000)];

/// Commits that are asked about: the newest.
const ASKED: usize = 1_000;

/// How late others hear of a commit.
const LAG: usize = 16;

fn graph(c: &mut Criterion) {
    for (name, sessions, commits) in SIZES {
        let mut crowd = Crowd::new(sessions, LAG, 1);
        let made: Vec<Commit> = (0..commits).map(|_| crowd.commit(&[]).0).collect();
        let newest = &made[commits - ASKED..];
        let meta = |commit: &Commit| {
            let Ok(meta) = crowd.graph().meta(&commit.id());
            meta.expect("it was committed")
        };
        let metas: Vec<Meta> = newest.iter().map(meta).collect();
        let parents: usize = newest.iter().map(|commit| commit.header().parents.len()).sum();
        println!("{name}: {:.1} parents a commit", parents as f64 / ASKED as f64);

        let mut next = newest.iter().cycle();
        c.bench_function(&format!("graph/a commit enters/{name}"), |b| {
            b.iter(|| admit(crowd.graph(), next.next().expect("endless")));
        });
        let mut frontier = Frontier::default();
        let mut next = (0..ASKED).cycle();
        c.bench_function(&format!("graph/a frontier advances, kept by a reader/{name}"), |b| {
            b.iter(|| {
                let at = next.next().expect("endless");
                if at == 0 {
                    frontier = Frontier::default();
                }
                let before = frontier.clone();
                frontier.advance(newest[at].id(), &metas[at]);
                before
            });
        });
        let mut pairs = (0..ASKED).cycle();
        c.bench_function(&format!("graph/ancestor test/{name}"), |b| {
            b.iter(|| {
                let at = pairs.next().expect("endless");
                let (one, other) = (&metas[at], &metas[(at * 7) % ASKED]);
                black_box(one.vector.contains(&other.chain, other.counter))
            });
        });
        let bytes = metas[ASKED - 1].vector.to_bytes();
        println!("{name}: {} bytes a whole vector", bytes.len());
        c.bench_function(&format!("graph/a whole vector is read/{name}"), |b| {
            b.iter(|| VersionVector::from_bytes(&bytes));
        });
    }
}

criterion_group!(benches, graph);
criterion_main!(benches);
