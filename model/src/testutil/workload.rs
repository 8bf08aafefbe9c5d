//! The documents that every figure is measured on: seeded, portable, with check values. All arithmetic wraps at 64 bits.

use crate::{
    edit::{Edit, FieldEdit},
    schema::{Collection, CollectionId, Deletes, Field, FieldId, FieldType, MERGE_RULES, Policy, ScalarType, Schema},
    value::Scalar,
};

use super::build::{create, elements, set};

/// How many documents there are.
pub const N: u64 = 100_000;

/// The collection of the documents.
pub const DOCUMENTS: CollectionId = CollectionId(1);

const GOLD: u64 = 0x9e37_79b9_7f4a_7c15;
const SEED: u64 = 0x5eed_2026_0000_0001;

#[rustfmt::skip]
const WORDS: [&str; 64] = [
    "amber", "basil", "cedar", "delta", "ember", "fable", "gamma", "hazel", "indigo", "jasper", "karma", "lemon", "mango", "nectar",
    "ochre", "pearl", "quartz", "raven", "sable", "topaz", "umber", "violet", "willow", "xenon", "yarrow", "zephyr", "anchor", "beacon",
    "canyon", "dragon", "engine", "falcon", "garden", "harbor", "island", "jungle", "kernel", "ladder", "magnet", "needle", "oyster",
    "planet", "quiver", "ribbon", "signal", "temple", "unison", "valley", "window", "yellow", "zodiac", "acorn", "bridge", "copper",
    "dollar", "effort", "forest", "guitar", "hunter", "insect", "junior", "kitten", "lumber", "meadow",
];

/// Returns the output of splitmix64 for state `x`.
pub const fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(GOLD);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A seeded generator of numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Returns the generator of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub const fn draw(&mut self) -> u64 {
        let out = mix(self.0);
        self.0 = self.0.wrapping_add(GOLD);
        out
    }

    /// Returns the next number below `n`.
    pub const fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }

    /// Returns the next index into `n` things.
    pub fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).expect("below a usize")
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.index(at + 1);
            items.swap(at, other);
        }
    }
}

/// Returns the key of document `i`: 15 bytes, in one of 256 directories.
pub fn key(i: u64) -> String {
    format!("doc/{:02x}/{i:08x}", mix(SEED ^ i) >> 56)
}

/// Returns which document comes `j`-th in the order of edits; distinct for `j` below [`N`].
pub const fn perm(j: u64) -> u64 {
    j.wrapping_mul(48_271) % N
}

/// What document `i` says at revision `r`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub id: u64,
    /// Its revision.
    pub rev: u64,
    /// Two words.
    pub name: String,
    /// Below 100,000.
    pub score: u64,
    /// Either.
    pub active: bool,
    /// Two words, perhaps the same.
    pub tags: [&'static str; 2],
    /// Seconds since 1970.
    pub ts: u64,
    /// Eight hex digits.
    pub h: String,
}

impl Record {
    /// Returns document `i` at revision `r`.
    pub fn of(i: u64, r: u64) -> Self {
        let mut rng = Rng::new(mix(SEED ^ i << 20 ^ r.wrapping_mul(0x1_0000_0001)));
        let [a, b, c, d] = std::array::from_fn(|_| WORDS[rng.index(64)]);
        let (score, active) = (rng.below(100_000), rng.below(2) == 1);
        let ts = 1_700_000_000 + rng.below(10_000_000);
        Self { id: i, rev: r, name: format!("{a} {b}"), score, active, tags: [c, d], ts, h: format!("{:08x}", rng.draw() >> 32) }
    }

    /// Returns its JSON text, about 125 bytes.
    pub fn json(&self) -> String {
        let Self { id, rev, name, score, active, tags: [c, d], ts, h } = self;
        format!(r#"{{"id":{id},"rev":{rev},"name":"{name}","score":{score},"active":{active},"tags":["{c}","{d}"],"ts":{ts},"h":"{h}"}}"#)
    }

    /// Returns the changes that write all of it.
    pub fn fields(&self) -> Vec<FieldEdit> {
        let mut tags = self.tags.to_vec();
        tags.sort_unstable();
        tags.dedup();
        vec![
            set(FieldId(1), self.id.cast_signed()),
            set(FieldId(2), self.rev.cast_signed()),
            set(FieldId(3), self.name.as_str()),
            set(FieldId(4), self.score.cast_signed()),
            set(FieldId(5), Scalar::Bool(self.active)),
            elements(FieldId(6), tags, []),
            set(FieldId(7), self.ts.cast_signed()),
            set(FieldId(8), self.h.as_str()),
        ]
    }
}

/// Returns the edit that creates document `i` at revision `r`.
pub fn creation(i: u64, r: u64) -> (CollectionId, Edit) {
    (DOCUMENTS, create(&key(i), Record::of(i, r).fields()))
}

/// Returns the schema of the documents.
pub fn schema() -> Schema {
    use FieldType::Scalar as One;
    use ScalarType::{Bool, Int, String};
    let fields = [
        ("id", One(Int)),
        ("rev", One(Int)),
        ("name", One(String)),
        ("score", One(Int)),
        ("active", One(Bool)),
        ("tags", FieldType::set(String)),
        ("ts", One(Int)),
        ("h", One(String)),
    ];
    let field = |(id, (name, ty)): (u16, (&str, FieldType))| {
        let policy = Policy::natural(&ty);
        Field::new(FieldId(id), name, ty, policy)
    };
    let fields = (1..).zip(fields).map(field).collect();
    let collections = vec![Collection { id: DOCUMENTS, name: "documents".into(), fields, next_field: 9, deletes: Deletes::EditWins }];
    Schema { version: 1, merge_rules: MERGE_RULES, collections }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_those_that_others_make_from_the_same_seed() {
        let of = |i, r| Record::of(i, r).json();
        assert_eq!(key(42), "doc/e8/0000002a");
        assert_eq!(
            of(42, 0),
            r#"{"id":42,"rev":0,"name":"kernel violet","score":26320,"active":true,"tags":["meadow","jasper"],"ts":1707621673,"h":"fe9e45f1"}"#
        );
        assert_eq!(key(99_999), "doc/f3/0001869f");
        assert_eq!(
            of(99_999, 1),
            r#"{"id":99999,"rev":1,"name":"quartz nectar","score":64605,"active":true,"tags":["kernel","junior"],"ts":1701463083,"h":"4615b412"}"#
        );
        assert_eq!([0, 1, 2, 3, 4].map(perm), [0, 48_271, 96_542, 44_813, 93_084]);
    }

    #[test]
    fn all_documents_together_have_the_known_length_and_hash() {
        let (mut len, mut hash) = (0, 0xcbf2_9ce4_8422_2325u64);
        for i in 0..N {
            let text = Record::of(i, 0).json();
            len += text.len();
            for byte in key(i).bytes().chain(text.bytes()) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
        assert_eq!((len, hash), (12_809_610, 0x214c_e938_c052_1d49));
    }

    #[test]
    fn edits_fit_the_schema() {
        let schema = schema();
        let (collection, edit) = creation(7, 0);
        schema.validate().expect("valid");
        edit.check(schema.by_id(collection).expect("there")).expect("fits");
    }
}
