//! Documents of the workload, one collection of them, and commits that write them.

use herdbook_model::{
    id::RequestKey,
    testutil::workload,
    value::{Key, Scalar, Value},
};
use herdbook_replica::{
    Repository, keys,
    repository::{Ask, DocumentChange, DocumentEdit},
};
use herdbook_store::Durability;

pub(crate) const SCHEMA: &str = r#"{"version": 1, "collections": {"documents": {"fields": [
    {"name": "id", "type": "int"}, {"name": "name", "type": "string"}, {"name": "score", "type": "int"},
    {"name": "active", "type": "bool"}, {"name": "ts", "type": "int"}, {"name": "h", "type": "string"}]}}}"#;

/// Documents of one commit where many are written.
pub(crate) const COMMIT: u64 = 1000;

/// Commits edits, seen by all in the process.
pub(crate) fn commit(repository: &Repository, edits: Vec<DocumentEdit>) {
    let key = RequestKey(keys::random().expect("random bytes"));
    let ask = Ask { branch: None, key, principal: String::new(), wanted: Vec::new(), edits, message: String::new() };
    repository.commit_one(ask, Durability::Process).expect("it commits");
}

/// Writes document `number` as it is in its `generation`.
pub(crate) fn edit(number: u64, generation: u64) -> DocumentEdit {
    let record = workload::Record::of(number, generation);
    let text = |text: &str| Value::Scalar(Scalar::from(text));
    let fields = vec![
        ("id".into(), Value::Scalar(Scalar::Int(record.id.cast_signed()))),
        ("name".into(), text(&record.name)),
        ("score".into(), Value::Scalar(Scalar::Int(record.score.cast_signed()))),
        ("active".into(), Value::Scalar(Scalar::Bool(record.active))),
        ("ts".into(), Value::Scalar(Scalar::Int(record.ts.cast_signed()))),
        ("h".into(), text(&record.h)),
    ];
    let key = Key::new(workload::key(number)).expect("short");
    DocumentEdit { collection: "documents".into(), key, change: DocumentChange::Put(fields) }
}
