//! The work: which documents there are and what they say at each revision. Seeded and portable; records, keys and check values are the
//! model's own ([`herdbook_model::testutil::workload`]), payloads of a fixed size are added here.

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::value::{Scalar, Value};
use herdbook_proto::edit::Fields;

pub use herdbook_model::testutil::workload::{N, Record, Rng, key, mix, perm};

/// The collection of the records.
pub const DOCUMENTS: &str = "documents";

/// The collection of the payloads.
pub const PAYLOADS: &str = "payloads";

/// The field of a payload.
pub const BODY: &str = "body";

/// How many distinct payloads of a size there are.
pub const POOL: u64 = 64;

/// The schema of both collections, as JSON.
pub const DOCS_SCHEMA: &str = include_str!("workload/schema.json");

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Records of eight typed fields, about 125 bytes as JSON.
    Record,
    /// One text of exactly so many bytes.
    Payload(usize),
}

impl Content {
    /// Returns the collection it lies in.
    pub const fn collection(self) -> &'static str {
        match self {
            Self::Record => DOCUMENTS,
            Self::Payload(_) => PAYLOADS,
        }
    }

    /// Returns the fields of document `i` at revision `revision`, sorted by name. A payload is the same at every revision.
    pub fn fields(self, i: u64, revision: u64) -> Fields {
        match self {
            Self::Record => record_fields(&Record::of(i, revision)),
            Self::Payload(len) => vec![(BODY.into(), Value::Scalar(payload(i, len).as_str().into()))],
        }
    }

    /// Whether `fields` are what document `i` says at some revision; returns that revision.
    pub fn revision(self, i: u64, fields: &BTreeMap<Arc<str>, Value>) -> Option<u64> {
        let revision = match self {
            Self::Payload(_) => 0,
            Self::Record => match fields.get("rev")? {
                Value::Scalar(Scalar::Int(revision)) => u64::try_from(*revision).ok()?,
                _ => return None,
            },
        };
        let wanted = self.fields(i, revision);
        (wanted.len() == fields.len() && wanted.iter().all(|(name, value)| fields.get(name) == Some(value))).then_some(revision)
    }
}

/// Returns payload `i` of `len` bytes: record texts, one after the other, cut. One of [`POOL`].
pub fn payload(i: u64, len: usize) -> String {
    long_text(i % POOL, 0, len)
}

/// Returns the texts of documents `i`, `i + 7919`, `i + 2 · 7919`, … at revision `revision`, cut to exactly `len` bytes.
pub fn long_text(i: u64, revision: u64, len: usize) -> String {
    let mut text = String::with_capacity(len + 128);
    let mut at = i;
    while text.len() < len {
        text.push_str(&Record::of(at, revision).json());
        at += 7919;
    }
    // Record texts are ASCII.
    text.truncate(len);
    text
}

/// Returns the generator of client `client`'s choices in a run with seed `seed`; seed 0 gives those of the published figures.
pub const fn client_rng(client: u64, seed: u64) -> Rng {
    Rng::new(mix(client ^ 0xe7cd ^ seed))
}

fn record_fields(record: &Record) -> Fields {
    let Record { id, rev, name, score, active, tags, ts, h } = record;
    let int = |value: &u64| Value::Scalar(Scalar::Int(value.cast_signed()));
    let tags = tags.iter().map(|tag| Scalar::from(*tag)).collect();
    vec![
        ("active".into(), Value::Scalar(Scalar::Bool(*active))),
        ("h".into(), Value::Scalar(h.as_str().into())),
        ("id".into(), int(id)),
        ("name".into(), Value::Scalar(name.as_str().into())),
        ("rev".into(), int(rev)),
        ("score".into(), int(score)),
        ("tags".into(), Value::Set(tags)),
        ("ts".into(), int(ts)),
    ]
}

#[cfg(test)]
mod tests {
    use herdbook_model::{json::schema_from_json, testutil::workload};

    use super::*;

    #[test]
    fn the_schema_has_the_documents_of_the_model() {
        let schema = schema_from_json(DOCS_SCHEMA).expect("well formed");
        let names: Vec<_> = schema.collections.iter().map(|collection| &*collection.name).collect();
        assert_eq!(names, [DOCUMENTS, PAYLOADS]);
        assert_eq!(schema.collections[0], workload::schema().collections[0]);
    }

    #[test]
    fn fields_are_sorted_and_say_what_the_record_says() {
        let fields = Content::Record.fields(42, 0);
        assert!(fields.is_sorted_by(|a, b| a.0 < b.0));
        let fields: BTreeMap<_, _> = fields.into_iter().collect();
        let text = |name: &str| match &fields[name] {
            Value::Scalar(Scalar::String(text)) => text.to_string(),
            other => panic!("{name} is {other:?}"),
        };
        assert_eq!((text("name"), text("h")), ("kernel violet".to_owned(), "fe9e45f1".to_owned()));
        assert_eq!(fields["ts"], Value::Scalar(Scalar::Int(1_707_621_673)));
        assert_eq!(fields["tags"], Value::Set(["meadow", "jasper"].map(Scalar::from).into()));
    }

    #[test]
    fn a_revision_is_told_only_from_exactly_its_fields() {
        let mut fields: BTreeMap<_, _> = Content::Record.fields(7, 3).into_iter().collect();
        assert_eq!(Content::Record.revision(7, &fields), Some(3));
        assert_eq!(Content::Record.revision(8, &fields), None);
        fields.insert("score".into(), Value::Scalar(Scalar::Int(-1)));
        assert_eq!(Content::Record.revision(7, &fields), None);
        fields.remove("score");
        assert_eq!(Content::Record.revision(7, &fields), None);
    }

    #[test]
    fn payloads_have_the_size_asked_for_and_begin_with_the_record() {
        for len in [1, 100, 1024, 4096] {
            assert_eq!(payload(5, len).len(), len);
        }
        let (first, second) = (Record::of(5, 0).json(), Record::of(5 + 7919, 0).json());
        assert!(payload(5, 1024).starts_with(&format!("{first}{second}")));
        assert_eq!(payload(5, 100), payload(5 + POOL, 100));
    }
}
