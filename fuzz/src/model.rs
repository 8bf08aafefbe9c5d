//! Canonical bytes: what is stored and sent, of which the ids are hashes.

use herdbook_model::{
    authority::{AuthorityCertificate, Entry, Genesis, Lost, SessionCertificate},
    chunk::{self, Kind, Verified},
    codec::{Decode, Encode},
    commit::{Commit, Unverified},
    document::Document,
    edit::Edit,
    json,
    request::{Group, Request},
    schema::Schema,
    tree::{Node, Tree, named},
    value::{Scalar, Value},
    vector::VersionVector,
};

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::new("authority-certificate", one_form::<AuthorityCertificate>),
    Target::new("chunk", chunk),
    Target::new("commit", one_form::<Commit<Unverified>>),
    Target::new("document", one_form::<Document>),
    Target::new("edit", one_form::<Edit>),
    Target::new("entry", one_form::<Entry>),
    Target::new("genesis", one_form::<Genesis>),
    Target::new("group", one_form::<Group>),
    Target::new("lost", one_form::<Lost>),
    Target::new("node", node),
    Target::new("parts", parts),
    Target::new("request", one_form::<Request>),
    Target::new("scalar", one_form::<Scalar>),
    Target::new("schema", one_form::<Schema>),
    Target::new("schema-json", schema_json),
    Target::new("session-certificate", one_form::<SessionCertificate>),
    Target::new("steps-json", steps_json),
    Target::new("tree", one_form::<Tree>),
    Target::new("value", one_form::<Value>),
    Target::new("vector", one_form::<VersionVector>),
];

/// `encode(decode(b)) = b`.
fn one_form<T: Decode + Encode>(bytes: &[u8]) -> bool {
    let Ok(value) = T::from_bytes(bytes) else { return false };
    assert_eq!(value.to_bytes(), bytes, "what was taken has another form");
    true
}

fn chunk(bytes: &[u8]) -> bool {
    let Ok(chunk) = Verified::verify(chunk::hash(bytes), bytes) else { return false };
    assert_eq!(**chunk.bytes(), *bytes, "a chunk holds other bytes than were read");
    true
}

/// A payload as an inner node and as a leaf: who names a chunk chooses its kind, too.
fn node(bytes: &[u8]) -> bool {
    let decodes = |kind| Verified::new(kind, bytes).is_ok_and(|chunk| Node::decode(chunk).is_ok());
    decodes(Kind::Inner) | decodes(Kind::Leaf)
}

fn parts(bytes: &[u8]) -> bool {
    let names = Verified::new(Kind::Parts, bytes).ok().and_then(|list| named(&list).ok());
    let Some(names) = names else { return false };
    assert!(names.iter().flat_map(|name| name.0).eq(bytes.iter().copied()), "a list of parts has another form");
    true
}

/// A schema that was taken says the same after it was written down.
fn schema_json(bytes: &[u8]) -> bool {
    let Some(schema) = std::str::from_utf8(bytes).ok().and_then(|text| json::schema_from_json(text).ok()) else { return false };
    assert_eq!(Schema::from_bytes(&schema.to_bytes()), Ok(schema.clone()), "a schema from JSON has no stored form");
    let again = json::schema_from_json(&json::schema_to_json(&schema).to_string()).expect("its own JSON is a schema");
    assert_eq!(again.collections.len(), schema.collections.len(), "collections were lost");
    true
}

fn steps_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| json::steps_from_json(text).is_ok())
}
