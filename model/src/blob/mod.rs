//! Blobs: bytes of any length, in parts that are documents of their own.
//!
//! Content is cut where it says so itself (FastCDC, Xia et al., USENIX ATC 2016 and IEEE TPDS 2020), so that an insertion changes the parts
//! around it and no others, and equal stretches of two blobs are one part. Lists of parts are parts too, level by level, up to one: its
//! name and the blob's length are the value that a field holds. A part is a document of the collection [`BLOBS`](crate::schema::BLOBS)
//! under its own hash, so parts are replicated, restored, read at old states and collected as all documents are.
//!
//! Law: equal bytes make equal parts and one root, in whatever pieces they come. Whoever reads holds each part against its name, so that
//! nobody who writes documents can pass off other bytes.

mod builder;
mod walk;

use std::{fmt, str::FromStr, sync::Arc};

pub use builder::{Builder, TooLong};
pub use walk::{Error, Slice, Walk};

use crate::{
    codec::{Decode, Encode, Error as Codec, Reader, Writer},
    document::{Document, Field},
    edit::{Change, Edit, Operation},
    id::{Domain, PartId},
    schema::{CollectionId, DATA, FieldId, limited},
    value::{Key, Scalar, Value},
};

/// Longest blob, in bytes: 16 TiB.
pub const MAX_LEN: u64 = 1 << 44;

/// Shortest part with content, in bytes, the last of a blob apart.
pub const MIN_PART: usize = 16 << 10;

/// Length of a part with content that cutting aims at, in bytes.
pub const MEAN_PART: usize = 64 << 10;

/// Longest part with content, in bytes.
pub const MAX_PART: usize = 256 << 10;

/// Most parts that one list names.
pub const MAX_CHILDREN: usize = 1024;

/// Most levels of lists; content is level 0.
pub const MAX_LEVEL: u8 = 8;

/// In place of a level: the part holds a scalar.
const VALUE: u8 = 255;

/// A blob, as a field holds it. Ordered by root. Text form: `ROOT:LENGTH`, the root in hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blob {
    /// Name of the part that leads to all others.
    pub root: PartId,
    /// Length in bytes, at most [`MAX_LEN`].
    pub len: u64,
}

/// A part: its level, 0, and content; its level and the parts below, in order; or 255, a salt, an owner and a scalar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name: hash of its bytes.
    pub id: PartId,
    /// Its bytes.
    pub bytes: Arc<[u8]>,
}

/// A part below a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Its name.
    pub id: PartId,
    /// Bytes of the blob in it and below it.
    pub len: u64,
}

/// The field of a document that a value which can be erased was written to, so that it is found where no edit tells any more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The collection.
    pub collection: CollectionId,
    /// The document.
    pub key: Key,
    /// The field.
    pub field: FieldId,
}

/// What a part holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held<'a> {
    /// Content.
    Content(&'a [u8]),
    /// A scalar that can be erased.
    Value {
        /// Where it belongs.
        owner: Owner,
        /// The scalar.
        value: Scalar,
    },
    /// Parts of one level below.
    List {
        /// The level of this part, from 1.
        level: u8,
        /// The parts, in order.
        children: Vec<Child>,
    },
}

/// A text that names no blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a blob is ROOT:LENGTH, 64 hex digits and at most {MAX_LEN}")]
pub struct BadBlob;

/// An edit of the collection of blobs that would leave a part that is not what its key says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is not the hash of the part written there: blobs are written by uploading them")]
pub struct NotAPart {
    /// The key.
    pub key: String,
}

impl Part {
    /// Returns the part that holds a scalar which can be erased. The salt, which nobody can guess, keeps what is left of it, its name, from telling
    /// the value to who tries all there may be, and equal values apart.
    pub fn of_value(salt: &[u8; 16], owner: &Owner, value: &Scalar) -> Self {
        let mut out = Writer::with_capacity(64);
        out.byte(VALUE);
        out.raw(salt);
        out.uint(owner.collection.0.into());
        owner.key.encode(&mut out);
        out.uint(owner.field.0.into());
        value.encode(&mut out);
        Self::new(out.into_bytes())
    }

    fn new(bytes: Vec<u8>) -> Self {
        Self { id: id_of(&bytes), bytes: bytes.into() }
    }
}

/// Returns the name of the part with these bytes.
pub fn id_of(bytes: &[u8]) -> PartId {
    PartId(Domain::Blob.hash(&[bytes]))
}

/// Returns the key under which the part of this name lies.
pub fn key_of(id: &PartId) -> Key {
    Key::new(id.to_string()).expect("64 digits are a key")
}

/// Returns the value that a field of an erasable type holds the name of: a blob of the part's name, and no length.
pub const fn name_of_value(id: PartId) -> Blob {
    Blob { root: id, len: 0 }
}

/// Returns what the part with these bytes holds.
///
/// # Errors
/// [`Codec`] if it is none.
pub fn read(bytes: &[u8]) -> Result<Held<'_>, Codec> {
    let mut input = Reader::new(bytes);
    let level = input.byte()?;
    if level == 0 {
        let content = input.rest();
        limited(content.len(), "part of a blob", MAX_PART)?;
        return Ok(Held::Content(content));
    }
    if level == VALUE {
        limited(bytes.len(), "part of a blob", MAX_PART)?;
        let _salt: [u8; 16] = input.array()?;
        let owner =
            Owner { collection: CollectionId(short(&mut input)?), key: Key::decode(&mut input)?, field: FieldId(short(&mut input)?) };
        let value = Scalar::decode(&mut input)?;
        input.end()?;
        return Ok(Held::Value { owner, value });
    }
    if level > MAX_LEVEL {
        return Err(Codec::Limit { what: "levels of a blob", actual: level.into(), limit: MAX_LEVEL.into() });
    }
    let mut children = Vec::new();
    while input.left() > 0 {
        limited(children.len() + 1, "parts of a list", MAX_CHILDREN)?;
        children.push(Child { id: PartId::decode(&mut input)?, len: input.uint()? });
    }
    if children.is_empty() {
        return Err(Codec::Malformed { what: "empty list of parts" });
    }
    Ok(Held::List { level, children })
}

fn short(input: &mut Reader<'_>) -> Result<u16, Codec> {
    u16::try_from(input.uint()?).map_err(|_| Codec::Malformed { what: "number of a collection or field" })
}

/// Returns the bytes that `document`, of the collection of blobs, holds under the name `id`: of concurrent ones those whose hash it is. Where none
/// are, others that are there, so that a reader sees that they are not what they should be.
pub fn bytes_of(document: &Document, id: &PartId) -> Option<Arc<[u8]>> {
    let Field::Register(siblings) = document.field(DATA)? else { return None };
    let bytes = siblings.iter().rev().filter_map(|sibling| match &sibling.value {
        Some(Value::Scalar(Scalar::Bytes(bytes))) => Some(bytes),
        _ => None,
    });
    let mut last = None;
    for bytes in bytes {
        // Mostly there is one, which its reader holds against the name.
        if siblings.len() == 1 || id_of(bytes) == *id {
            return Some(bytes.clone());
        }
        last.get_or_insert(bytes);
    }
    last.cloned()
}

/// Returns how many bytes a part has that `document`, of the collection of blobs, holds.
pub fn len_of(document: &Document) -> u64 {
    match document.field(DATA).and_then(Field::shown_scalar) {
        Some(Scalar::Bytes(bytes)) => bytes.len() as u64,
        _ => 0,
    }
}

/// Checks an edit of the collection of blobs: what it writes under a key has that hash, and it empties no part.
///
/// # Errors
/// [`NotAPart`].
pub fn check(edit: &Edit) -> Result<(), NotAPart> {
    let fits = edit.operation.fields().iter().filter(|edit| edit.field == DATA).all(|field| match &field.change {
        Change::Set(Value::Scalar(Scalar::Bytes(bytes))) => key_of(&id_of(bytes)) == edit.key && read(bytes).is_ok(),
        _ => false,
    });
    if fits { Ok(()) } else { Err(NotAPart { key: edit.key.to_string() }) }
}

/// Calls `each` with every blob that an edit writes into a document.
pub fn written(operation: &Operation, each: &mut impl FnMut(&Blob)) {
    operation.fields().iter().for_each(|field| written_by(&field.change, each));
}

/// Calls `each` with every blob that a change of a field writes.
pub fn written_by(change: &Change, each: &mut impl FnMut(&Blob)) {
    match change {
        Change::Set(value) | Change::Replace(value) => value.blobs(each),
        Change::Elements { add, .. } => add.iter().for_each(|value| value.blobs(each)),
        Change::Entries { put, .. } => put.iter().for_each(|(_, value)| value.blobs(each)),
        Change::Within(changes) => changes.iter().for_each(|(_, change)| written_by(change, each)),
        Change::List(edit) => {
            edit.inserts.iter().flat_map(|(_, values)| values).for_each(|value| value.blobs(each));
            edit.sets.iter().for_each(|(_, value)| value.blobs(each));
        }
        Change::Clear | Change::Count { .. } | Change::Text(_) => {}
    }
}

impl Encode for Blob {
    fn encode(&self, out: &mut Writer) {
        self.root.encode(out);
        out.uint(self.len);
    }
}

impl Decode for Blob {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let (root, len) = (PartId::decode(input)?, input.uint()?);
        if len > MAX_LEN {
            return Err(Codec::Limit { what: "blob", actual: len, limit: MAX_LEN });
        }
        Ok(Self { root, len })
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.root, self.len)
    }
}

impl FromStr for Blob {
    type Err = BadBlob;

    fn from_str(text: &str) -> Result<Self, BadBlob> {
        let (root, len) = text.split_once(':').ok_or(BadBlob)?;
        let is_canonical = len.bytes().all(|digit| digit.is_ascii_digit());
        let len = len.parse().ok().filter(|len| is_canonical && *len <= MAX_LEN).ok_or(BadBlob)?;
        Ok(Self { root: PartId::from_hex(root).ok_or(BadBlob)?, len })
    }
}

#[cfg(test)]
mod tests;
