//! The work: which documents there are and what they say at each revision. Seeded and portable; records, keys and check values are the
//! model's own ([`herdbook_model::testutil::workload`]), payloads of a fixed size are added here.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use herdbook_model::value::{Scalar, Value};
use herdbook_proto::edit::Fields;

pub use herdbook_model::testutil::workload::{N, Record, Rng, key, mix, perm};

/// The collection of the records.
pub const DOCUMENTS: &str = "documents";

/// The collection of the payloads.
pub const PAYLOADS: &str = "payloads";

/// The collection of the texts that several edit at once.
pub const PAGES: &str = "pages";

/// The field of a payload or of such a text.
pub const BODY: &str = "body";

/// How many payloads of a size differ in more than their revision.
pub const POOL: u64 = 64;

/// Bytes of a payload's revision.
const REVISION: usize = 8;

/// The schema of all collections, as JSON.
pub const DOCS_SCHEMA: &str = include_str!("workload/schema.json");

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Records of eight typed fields, about 125 bytes as JSON.
    Record,
    /// One text; how many bytes it has depends on document and revision.
    Payload(Sizes),
}

/// How many bytes texts have: chosen evenly between two bounds, which may be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Fewest.
    pub least: usize,
    /// Most.
    pub most: usize,
}

/// What is wrong with sizes as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no size: write bytes as 1024, or two bounds as 100..4096, from {} to {}", Payloads::MIN, Sizes::MAX)]
pub struct NoSizes {
    text: String,
}

impl Sizes {
    /// Most bytes of a text: a document with it is still below the limit of one.
    pub const MAX: usize = 900_000;

    /// Returns those of texts of one size.
    pub const fn exactly(len: usize) -> Self {
        Self { least: len, most: len }
    }

    /// Returns the size of text `i` at `revision`.
    fn of(self, i: u64, revision: u64) -> usize {
        let span = (self.most - self.least) as u64 + 1;
        self.least + usize::try_from(mix(mix(i) ^ revision) % span).expect("below a size")
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.least == self.most { write!(f, "{} bytes", self.least) } else { write!(f, "{} to {} bytes", self.least, self.most) }
    }
}

impl FromStr for Sizes {
    type Err = NoSizes;

    fn from_str(text: &str) -> Result<Self, NoSizes> {
        let bytes = |text: &str| text.trim().parse().ok().filter(|bytes| (Payloads::MIN..=Self::MAX).contains(bytes));
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let sizes = bytes(least).zip(bytes(most)).filter(|(least, most)| least <= most);
        sizes.map(|(least, most)| Self { least, most }).ok_or_else(|| NoSizes { text: text.to_owned() })
    }
}

impl Content {
    /// Returns the collection it lies in.
    pub const fn collection(self) -> &'static str {
        match self {
            Self::Record => DOCUMENTS,
            Self::Payload(_) => PAYLOADS,
        }
    }
}

/// Returns the fields of document `i` at revision `revision`, sorted by name.
pub fn record(i: u64, revision: u64) -> Fields {
    let Record { id, rev, name, score, active, tags, ts, h } = Record::of(i, revision);
    let int = |value: u64| Value::Scalar(Scalar::Int(value.cast_signed()));
    vec![
        ("active".into(), Value::Scalar(Scalar::Bool(active))),
        ("h".into(), Value::Scalar(h.as_str().into())),
        ("id".into(), int(id)),
        ("name".into(), Value::Scalar(name.as_str().into())),
        ("rev".into(), int(rev)),
        ("score".into(), int(score)),
        ("tags".into(), Value::Set(tags.into_iter().map(Value::from).collect())),
        ("ts".into(), int(ts)),
    ]
}

/// Returns at which revision document `i` says exactly `fields`; `None` at none.
pub fn revision(i: u64, fields: &BTreeMap<Arc<str>, Value>) -> Option<u64> {
    let Some(Value::Scalar(Scalar::Int(revision))) = fields.get("rev") else {
        return None;
    };
    let revision = u64::try_from(*revision).ok()?;
    fields.iter().eq(record(i, revision).iter().map(|(name, value)| (name, value))).then_some(revision)
}

/// Whether `fields` can be document `i` where several replicas write it at once, so that its fields and tags merge each by itself: compares
/// the names of the fields, and its number.
pub fn is_record(i: u64, fields: &BTreeMap<Arc<str>, Value>) -> bool {
    let number = Value::Scalar(Scalar::Int(i.cast_signed()));
    fields.keys().eq(record(i, 0).iter().map(|(name, _)| name)) && fields.get("id") == Some(&number)
}

/// Texts. Text `i` at a revision begins with that revision in eight hex digits, since a store that keeps history need not write what changes
/// nothing; the rest is the beginning of one of [`POOL`].
#[derive(Debug, Clone)]
pub struct Payloads {
    rests: Arc<[String]>,
    sizes: Sizes,
}

impl Payloads {
    /// Shortest text: the revision and some more.
    pub const MIN: usize = 16;

    /// Returns those of `sizes`, at least [`Payloads::MIN`] each.
    pub fn new(sizes: Sizes) -> Self {
        let sizes = Sizes { least: sizes.least.max(Self::MIN), most: sizes.most.max(Self::MIN) };
        Self { rests: (0..POOL).map(|i| long_text(i, 0, sizes.most).split_off(REVISION)).collect(), sizes }
    }

    /// Returns text `i` at `revision`.
    pub fn text(&self, i: u64, revision: u64) -> String {
        let len = self.sizes.of(i, revision) - REVISION;
        // Texts are ASCII.
        format!("{:08x}{}", revision & u64::from(u32::MAX), &self.rest(i)[..len])
    }

    /// Whether `text` is text `i` at some revision.
    pub fn has(&self, i: u64, text: &[u8]) -> bool {
        let Some((revision, rest)) = text.split_at_checked(REVISION) else {
            return false;
        };
        (self.sizes.least..=self.sizes.most).contains(&text.len())
            && revision.iter().all(u8::is_ascii_hexdigit)
            && self.rest(i).as_bytes().starts_with(rest)
    }

    fn rest(&self, i: u64) -> &str {
        &self.rests[usize::try_from(i % POOL).expect("below the pool's size")]
    }
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

#[cfg(test)]
mod tests {
    use herdbook_model::{json::schema_from_json, testutil::workload};

    use super::*;

    #[test]
    fn the_schema_has_the_documents_of_the_model() {
        let schema = schema_from_json(DOCS_SCHEMA).expect("well formed");
        let names: Vec<_> = schema.collections.iter().map(|collection| &*collection.name).collect();
        assert_eq!(names, [DOCUMENTS, PAGES, PAYLOADS]);
        assert_eq!(schema.collections[0], workload::schema().collections[0]);
    }

    #[test]
    fn fields_are_sorted_and_say_what_the_record_says() {
        let fields = record(42, 0);
        assert!(fields.is_sorted_by(|a, b| a.0 < b.0));
        let fields: BTreeMap<_, _> = fields.into_iter().collect();
        let text = |text: &str| Value::Scalar(text.into());
        assert_eq!((&fields["name"], &fields["h"]), (&text("kernel violet"), &text("fe9e45f1")));
        assert_eq!(fields["ts"], Value::Scalar(Scalar::Int(1_707_621_673)));
        assert_eq!(fields["tags"], Value::Set(["meadow", "jasper"].map(Value::from).into()));
    }

    #[test]
    fn a_revision_is_told_only_from_exactly_its_fields() {
        let mut fields: BTreeMap<_, _> = record(7, 3).into_iter().collect();
        assert_eq!(revision(7, &fields), Some(3));
        assert_eq!(revision(8, &fields), None);
        fields.insert("score".into(), Value::Scalar(Scalar::Int(-1)));
        assert_eq!(revision(7, &fields), None);
        fields.remove("score");
        assert_eq!(revision(7, &fields), None);
    }

    #[test]
    fn a_record_merged_of_two_revisions_is_still_that_record_and_no_other() {
        let mut fields: BTreeMap<_, _> = record(7, 3).into_iter().collect();
        fields.insert("tags".into(), Value::Set(["amber", "basil", "cedar"].map(Value::from).into()));
        assert!(is_record(7, &fields) && !is_record(8, &fields));
        fields.remove("h");
        assert!(!is_record(7, &fields));
    }

    #[test]
    fn payloads_have_the_size_asked_for_and_change_with_each_revision() {
        for len in [Payloads::MIN, 100, 1024, 4096] {
            assert_eq!(Payloads::new(Sizes::exactly(len)).text(5, 7).len(), len);
        }
        let payloads = Payloads::new(Sizes::exactly(1024));
        assert_ne!(payloads.text(5, 7), payloads.text(5, 8));
        let texts = format!("{}{}", Record::of(5, 0).json(), Record::of(5 + 7919, 0).json());
        assert!(payloads.text(5, 0x1f).starts_with(&format!("0000001f{}", &texts[8..])));
    }

    #[test]
    fn a_payload_is_known_at_every_revision_and_taken_for_no_other() {
        let payloads = Payloads::new(Sizes::exactly(100));
        let text = payloads.text(5, 7);
        assert!(payloads.has(5, text.as_bytes()) && payloads.has(5 + POOL, text.as_bytes()));
        for wrong in [&text[..99], &text[..4], &payloads.text(6, 7), &text.replacen('0', "x", 1)] {
            assert!(!payloads.has(5, wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn payloads_of_several_sizes_are_between_their_bounds_and_known() {
        let payloads = Payloads::new("100..200".parse().expect("well formed"));
        let lens: Vec<_> = (0..1000).map(|revision| payloads.text(5, revision).len()).collect();
        assert!(lens.iter().all(|len| (100..=200).contains(len)) && lens.contains(&100) && lens.contains(&200));
        assert!((0..1000).all(|revision| payloads.has(5, payloads.text(5, revision).as_bytes())));
        for wrong in ["15", "200..100", "900001", "x", "100..", ""] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }
}
