//! What a replica that holds much costs to open and to keep: `cargo bench -p herdbook-replica --bench footprint -- [documents]…`;
//! 10,000 and 1,000,000 if not told, since neither figure may follow the size.
//!
//! Each size is written by one process and opened by another, so that what writing left in memory is not counted. Documents are those of
//! the workload that every figure is measured on.

#[path = "support/figures.rs"]
mod figures;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use herdbook_model::{
    schema::Schema,
    testutil::workload,
    value::{Key, Scalar, Value},
};
use herdbook_replica::{
    Replica,
    repository::{DocumentChange, DocumentEdit},
};

use self::figures::{bytes_in, resident};

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Documents of one commit.
const COMMIT: u64 = 1000;

/// Point reads after opening.
const READS: u64 = 200_000;

/// Set in the process that opens what the other wrote.
const OPEN: &str = "HERDBOOK_BENCH_OPEN";

fn main() {
    // Cargo passes `--bench`; what is no number is not for us.
    let sizes: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    if let Ok(folder) = std::env::var(OPEN) {
        return open(Path::new(&folder), sizes[0]);
    }
    for documents in if sizes.is_empty() { vec![10_000, 1_000_000] } else { sizes } {
        let folder = tempfile::tempdir().expect("a folder");
        fill(folder.path(), documents);
        let own = std::env::current_exe().expect("a program has a path");
        let opened = Command::new(own).env(OPEN, folder.path()).arg(documents.to_string()).status().expect("it starts");
        assert!(opened.success(), "the other process opens it");
    }
}

fn fill(folder: &Path, documents: u64) {
    let began = Instant::now();
    let replica = Replica::builder(folder).schema(schema()).open().expect("a fresh folder opens");
    for first in (0..documents).step_by(COMMIT as usize) {
        let edits = (first..documents.min(first + COMMIT)).map(document).collect();
        replica.commit(edits, "").expect("it commits");
    }
    replica.flush().expect("the store takes it");
    println!("{documents} documents: written in {:.2?} by commits of {COMMIT}, durable at the end", began.elapsed());
    println!("  while writing at most {} MB resident", resident("VmHWM"));
    replica.close().expect("it closes");
    println!("  on disk {} MB", bytes_in(folder) >> 20);
}

fn open(folder: &Path, documents: u64) {
    let began = Instant::now();
    let replica = Replica::builder(folder).schema(schema()).open().expect("it opens");
    let opened = began.elapsed();
    let first = replica.get("documents", &workload::key(documents / 2)).expect("it reads");
    assert!(first.is_some(), "what was written is there");
    println!("  opened in {opened:.1?}, first document after {:.1?}; {} MB resident", began.elapsed(), resident("VmRSS"));
    let (mut random, began) = (workload::Rng::new(7), Instant::now());
    for _ in 0..READS {
        let found = replica.get("documents", &workload::key(random.below(documents))).expect("it reads");
        assert!(found.is_some(), "what was written is there");
    }
    let rate = READS as f64 / began.elapsed().as_secs_f64();
    println!("  {READS} random reads, {rate:.0}/s; {} MB resident, at most {} MB", resident("VmRSS"), resident("VmHWM"));
    let began = Instant::now();
    for number in 0..10_000 {
        replica.commit(vec![document(workload::mix(number) % documents)], "").expect("it commits");
    }
    let took = began.elapsed();
    println!("  10000 single commits, {:.0}/s; {} MB resident, at most {} MB", rate_of(10_000, took), resident("VmRSS"), resident("VmHWM"));
    replica.close().expect("it closes");
}

fn rate_of(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn document(number: u64) -> DocumentEdit {
    let record = workload::Record::of(number, 0);
    let text = |text: &str| Value::Scalar(Scalar::from(text));
    let fields = vec![
        ("id".into(), Value::Scalar(Scalar::Int(record.id.cast_signed()))),
        ("name".into(), text(&record.name)),
        ("score".into(), Value::Scalar(Scalar::Int(record.score.cast_signed()))),
        ("active".into(), Value::Scalar(Scalar::Bool(record.active))),
        ("tags".into(), Value::Set(record.tags.iter().map(|tag| text(tag)).collect())),
        ("ts".into(), Value::Scalar(Scalar::Int(record.ts.cast_signed()))),
        ("h".into(), text(&record.h)),
    ];
    let key = Key::new(workload::key(number)).expect("short");
    DocumentEdit { collection: "documents".into(), key, change: DocumentChange::Put(fields) }
}

fn schema() -> Schema {
    const TEXT: &str = r#"{"version": 1, "collections": {"documents": {"fields": [
        {"name": "id", "type": "int"}, {"name": "name", "type": "string"}, {"name": "score", "type": "int"},
        {"name": "active", "type": "bool"}, {"name": "tags", "type": "set<string>"}, {"name": "ts", "type": "int"},
        {"name": "h", "type": "string"}]}}}"#;
    herdbook_model::json::schema_from_json(TEXT).expect("a valid schema")
}
