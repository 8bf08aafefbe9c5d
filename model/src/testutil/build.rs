//! Small builders: one value each, panicking where a test's own arguments break a rule.

use std::sync::Arc;

use ed25519_dalek::SigningKey;

use crate::{
    authority::Genesis,
    edit::{Change, Edit, FieldEdit, Operation},
    id::{BranchName, Domain, RequestKey},
    request::{Group, Principal, Proof, Request},
    schema::{Collection, CollectionId, Deletes, Field, FieldId, FieldType, MERGE_RULES, Policy, ScalarType, Schema},
    time::Time,
    value::{Key, Scalar, Value},
};

/// The collection `animals` of [`schema`]: every type under every policy.
pub const ANIMALS: CollectionId = CollectionId(1);

/// The collection `stables` of [`schema`].
pub const STABLES: CollectionId = CollectionId(7);

/// A collection that [`schema`] lacks.
pub const VANISHED: CollectionId = CollectionId(3);

/// Fields of [`ANIMALS`].
pub mod animal {
    use crate::schema::FieldId;

    /// string, last-writer.
    pub const NAME: FieldId = FieldId(1);
    /// float, last-writer.
    pub const WEIGHT: FieldId = FieldId(2);
    /// timestamp, last-writer.
    pub const BORN: FieldId = FieldId(3);
    /// bool, last-writer, default false.
    pub const SOLD: FieldId = FieldId(4);
    /// int, last-writer, default 4.
    pub const LEGS: FieldId = FieldId(5);
    /// string, strict.
    pub const OWNER: FieldId = FieldId(6);
    /// int, strict.
    pub const EARMARK: FieldId = FieldId(7);
    /// set of strings.
    pub const TAGS: FieldId = FieldId(8);
    /// map from text to int.
    pub const YIELDS: FieldId = FieldId(9);
    /// set of ints.
    pub const PENS: FieldId = FieldId(12);
    /// A number that no field of the collection has.
    pub const NO_SUCH_FIELD: FieldId = FieldId(11);
}

/// Returns the schema of the tests: two collections, every type, every policy, defaults, gaps between the numbers.
pub fn schema() -> Schema {
    use FieldType::Scalar as One;
    use ScalarType::{Bool, Float, Int, String, Timestamp};
    let field = |id: FieldId, name: &str, ty, policy, default| Field { default, ..Field::new(id, name, ty, policy) };
    let animals = vec![
        field(animal::NAME, "name", One(String), Policy::LastWriter, None),
        field(animal::WEIGHT, "weight", One(Float), Policy::LastWriter, None),
        field(animal::BORN, "born", One(Timestamp), Policy::LastWriter, None),
        field(animal::SOLD, "sold", One(Bool), Policy::LastWriter, Some(Scalar::Bool(false))),
        field(animal::LEGS, "legs", One(Int), Policy::LastWriter, Some(Scalar::Int(4))),
        field(animal::OWNER, "owner", One(String), Policy::Strict, None),
        field(animal::EARMARK, "earmark", One(Int), Policy::Strict, None),
        field(animal::TAGS, "tags", FieldType::set(String), Policy::AddWins, None),
        field(animal::YIELDS, "yields", FieldType::map(Int), Policy::KeyWise, None),
        field(animal::PENS, "pens", FieldType::set(Int), Policy::AddWins, None),
    ];
    let stables = vec![
        field(FieldId(1), "name", One(String), Policy::LastWriter, None),
        field(FieldId(2), "places", One(Int), Policy::Strict, None),
        field(FieldId(3), "notes", FieldType::map(String), Policy::KeyWise, None),
    ];
    let collections = vec![
        Collection { id: ANIMALS, name: "animals".into(), fields: animals, next_field: 13, deletes: Deletes::EditWins },
        Collection { id: STABLES, name: "stables".into(), fields: stables, next_field: 4, deletes: Deletes::EditWins },
    ];
    let schema = Schema { version: 1, merge_rules: MERGE_RULES, collections };
    schema.validate().expect("the schema of the tests is valid");
    schema
}

/// Returns the branch of the tests, `main@1`.
pub fn branch() -> BranchName {
    BranchName::new("main@1").expect("a valid name")
}

/// Returns a signing key that depends on `seed` alone.
pub fn signing_key(seed: &str) -> SigningKey {
    SigningKey::from_bytes(&Domain::Digest.hash(&[b"test key ", seed.as_bytes()]))
}

/// Returns the genesis record of the tests' repository.
pub fn genesis() -> Genesis {
    Genesis {
        name: "herd".to_owned(),
        root: signing_key("root").verifying_key().to_bytes(),
        created: Time::from_millis(1_700_000_000_000),
        nonce: *b"sixteen bytes...",
    }
}

/// Returns a document's key.
pub fn key(text: &str) -> Key {
    Key::new(text).expect("a test's key has 1 to 1,024 bytes")
}

/// Creates a document.
pub fn create(document: &str, fields: impl IntoIterator<Item = FieldEdit>) -> Edit {
    Edit { key: key(document), operation: Operation::Create(sorted(fields)) }
}

/// Changes fields of a document.
pub fn update(document: &str, fields: impl IntoIterator<Item = FieldEdit>) -> Edit {
    Edit { key: key(document), operation: Operation::Update(sorted(fields)) }
}

/// Deletes a document.
pub fn delete(document: &str) -> Edit {
    Edit { key: key(document), operation: Operation::Delete }
}

fn sorted(fields: impl IntoIterator<Item = FieldEdit>) -> Vec<FieldEdit> {
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort_by_key(|edit| edit.field);
    fields
}

/// Sets a register.
pub fn set(field: FieldId, value: impl Into<Value>) -> FieldEdit {
    FieldEdit { field, change: Change::Set(value.into()) }
}

/// Clears a field.
pub const fn clear(field: FieldId) -> FieldEdit {
    FieldEdit { field, change: Change::Clear }
}

/// Adds elements to a set and removes others.
pub fn elements<T: Into<Value>>(field: FieldId, add: impl IntoIterator<Item = T>, remove: impl IntoIterator<Item = T>) -> FieldEdit {
    let mut lists = [add.into_iter().map(Into::into).collect::<Vec<Value>>(), remove.into_iter().map(Into::into).collect()];
    lists.iter_mut().for_each(|list| list.sort_unstable());
    let [add, remove] = lists;
    FieldEdit { field, change: Change::Elements { add, remove } }
}

/// Puts entries into a map and removes others.
pub fn entries<'a, T: Into<Value>>(
    field: FieldId,
    put: impl IntoIterator<Item = (&'a str, T)>,
    remove: impl IntoIterator<Item = &'a str>,
) -> FieldEdit {
    let mut put: Vec<(Arc<str>, Value)> = put.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
    let mut remove: Vec<Arc<str>> = remove.into_iter().map(Into::into).collect();
    put.sort_unstable();
    remove.sort_unstable();
    FieldEdit { field, change: Change::Entries { put, remove } }
}

/// Puts one entry into a map.
pub fn put(field: FieldId, entry: &str, value: impl Into<Value>) -> FieldEdit {
    entries(field, [(entry, value)], [])
}

/// Removes one entry from a map.
pub fn remove(field: FieldId, entry: &str) -> FieldEdit {
    entries::<Value>(field, [], [entry])
}

/// Returns a request of `edits`, grouped by collection in their order. Key and salts depend on `seed` alone.
pub fn request(seed: u64, edits: impl IntoIterator<Item = (CollectionId, Edit)>) -> Request {
    let mut groups = Vec::<Group>::new();
    for (collection, edit) in edits {
        match groups.iter_mut().find(|group| group.collection == collection) {
            Some(group) => group.edits.push(edit),
            None => groups.push(Group { collection, salt: half(b"salt", seed ^ u64::from(collection.0)), edits: vec![edit] }),
        }
    }
    groups.sort_by_key(|group| group.collection);
    let principal = Principal { name: "alice".to_owned(), proof: Proof::Session };
    Request { key: RequestKey(half(b"key ", seed)), principal, preconditions: Vec::new(), groups }
}

fn half(what: &[u8; 4], seed: u64) -> [u8; 16] {
    let hash = Domain::Salt.hash(&[what, &seed.to_le_bytes()]);
    hash.first_chunk().copied().expect("a hash has 32 bytes")
}
