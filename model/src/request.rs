//! Requests: what a client asked for, atomic, with its proof, its preconditions and its edits in groups, one a collection.
//!
//! A group is what can be withheld from who may not read its collection; its leaf is salted, so the hash tells nothing. A request is what
//! can be voided or lost. The commit's header names the hash over its requests' leaves.

use std::sync::Arc;

use crate::{
    codec::{Decode, Encode, Error as Codec, Reader, Writer},
    edit::Edit,
    id::{Domain, Leaf, RequestKey},
    schema::{CollectionId, limited, number},
    value::Key,
};

/// Most bytes of one request.
pub const MAX_LEN: usize = 3 << 20;

/// Most edits of one request.
pub const MAX_EDITS: usize = 1 << 16;

/// Longest name of a principal, in bytes.
pub const MAX_PRINCIPAL: usize = 256;

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Name of a user or service; empty: the replica itself.
    pub name: String,
    /// What proves it.
    pub proof: Proof,
}

/// What proves that a principal asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The session that signed the commit answers for it.
    Session,
}

/// What must hold of a document before the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Its collection.
    pub collection: CollectionId,
    /// Its key.
    pub key: Key,
    /// What must hold.
    pub must: Must,
}

/// What must hold of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Must {
    /// It exists.
    Exist,
    /// It does not exist.
    BeAbsent,
    /// It exists and the hash of its bytes is this (its version).
    BeAt(Leaf),
}

/// Edits of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The collection.
    pub collection: CollectionId,
    /// Makes the group's leaf tell nothing about its content. 16 bytes, unpredictable.
    pub salt: [u8; 16],
    /// Edits in order; a later one sees the earlier ones.
    pub edits: Vec<Edit>,
}

/// What a client asked for in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Idempotency key.
    pub key: RequestKey,
    /// Who asked.
    pub principal: Principal,
    /// What had to hold.
    pub preconditions: Vec<Precondition>,
    /// Edits by collection.
    pub groups: Vec<Group>,
}

impl Request {
    /// Returns its leaf in the commit: hash over its head and the leaves of its groups.
    pub fn leaf(&self) -> Leaf {
        self.seal(|_| ()).1
    }

    /// Returns its bytes and its leaf in the commit, encoding each edit once; `each` is told the length of every edit in bytes, in order.
    pub fn seal(&self, mut each: impl FnMut(usize)) -> (Vec<u8>, Leaf) {
        let mut out = Writer::with_capacity(256);
        self.encode_head(&mut out);
        let mut places = Places { head: out.len(), groups: Vec::with_capacity(self.groups.len()) };
        for group in &self.groups {
            group.encode_head(&mut out);
            for edit in &group.edits {
                let before = out.len();
                edit.encode(&mut out);
                each(out.len() - before);
            }
            places.groups.push(out.len());
        }
        let leaf = leaf_of_parts(out.as_bytes(), &places);
        (out.into_bytes(), leaf)
    }

    /// Returns its edits with their collections, in order.
    pub fn edits(&self) -> impl Iterator<Item = (CollectionId, &Edit)> {
        self.groups.iter().flat_map(|group| group.edits.iter().map(|edit| (group.collection, edit)))
    }

    /// Returns how many edits it has.
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.edits.len()).sum()
    }

    /// Whether it edits nothing.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|group| group.edits.is_empty())
    }

    fn encode_head(&self, out: &mut Writer) {
        self.key.encode(out);
        out.text(&self.principal.name);
        match self.principal.proof {
            Proof::Session => out.byte(0),
        }
        out.count(self.preconditions.len());
        for Precondition { collection, key, must } in &self.preconditions {
            out.uint(collection.0.into());
            key.encode(out);
            match must {
                Must::Exist => out.byte(1),
                Must::BeAbsent => out.byte(2),
                Must::BeAt(version) => {
                    out.byte(3);
                    version.encode(out);
                }
            }
        }
        out.count(self.groups.len());
    }
}

impl Group {
    /// Returns its salted leaf.
    pub fn leaf(&self) -> Leaf {
        Leaf(Domain::Group.hash(&[&self.to_bytes()]))
    }

    fn encode_head(&self, out: &mut Writer) {
        out.raw(&self.salt);
        out.uint(self.collection.0.into());
        out.count(self.edits.len());
    }
}

/// Returns the hash over the leaves of a commit's requests.
pub fn root(leaves: &[Leaf]) -> Leaf {
    let parts: Vec<&[u8]> = leaves.iter().map(|leaf| leaf.0.as_slice()).collect();
    Leaf(Domain::Requests.hash(&parts))
}

impl Encode for Group {
    fn encode(&self, out: &mut Writer) {
        self.encode_head(out);
        self.edits.iter().for_each(|edit| edit.encode(out));
    }
}

impl Decode for Group {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let salt = input.array()?;
        let collection = CollectionId(number(input, "collection number")?);
        let edits: Vec<Edit> = input.list(3)?;
        limited(edits.len(), "group's edits", MAX_EDITS)?;
        Ok(Self { collection, salt, edits })
    }
}

impl Encode for Request {
    fn encode(&self, out: &mut Writer) {
        self.encode_head(out);
        for group in &self.groups {
            group.encode(out);
        }
    }
}

/// Where the parts of a request lie in its bytes.
struct Places {
    /// End of what stands before the groups.
    head: usize,
    /// End of each group.
    groups: Vec<usize>,
}

impl Decode for Request {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        Self::decode_with_places(input).map(|(request, _)| request)
    }
}

impl Request {
    fn decode_with_places(input: &mut Reader<'_>) -> Result<(Self, Places), Codec> {
        limited(input.left(), "request's bytes", MAX_LEN)?;
        let whole = input.left();
        let (mut request, count) = Self::decode_head(input)?;
        let mut places = Places { head: whole - input.left(), groups: Vec::with_capacity(count) };
        request.groups.reserve_exact(count);
        for _ in 0..count {
            request.groups.push(Group::decode(input)?);
            places.groups.push(whole - input.left());
        }
        if !request.groups.is_sorted_by(|a, b| a.collection < b.collection) {
            return Err(Codec::Order { what: "groups of a request" });
        }
        limited(request.len(), "request's edits", MAX_EDITS)?;
        Ok((request, places))
    }

    /// Returns it without groups, and how many follow.
    fn decode_head(input: &mut Reader<'_>) -> Result<(Self, usize), Codec> {
        let key = RequestKey::decode(input)?;
        let name = input.text()?.to_owned();
        limited(name.len(), "principal's name", MAX_PRINCIPAL)?;
        let proof = match input.byte()? {
            0 => Proof::Session,
            tag => return Err(Codec::Unknown { what: "proof", tag: tag.into() }),
        };
        let count = input.count(4)?;
        let preconditions = (0..count).map(|_| decode_precondition(input)).collect::<Result<_, _>>()?;
        let count = input.count(18)?;
        Ok((Self { key, principal: Principal { name, proof }, preconditions, groups: Vec::new() }, count))
    }
}

/// A request with its bytes and its leaf, each worked out once. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    request: Arc<Request>,
    bytes: Arc<[u8]>,
    leaf: Leaf,
}

impl Sealed {
    /// Reads a request from its canonical bytes.
    ///
    /// # Errors
    /// As [`Decode::from_bytes`].
    pub fn read(bytes: impl Into<Arc<[u8]>>) -> Result<Self, Codec> {
        let bytes = bytes.into();
        let mut input = Reader::new(&bytes);
        let (request, places) = Request::decode_with_places(&mut input)?;
        input.end()?;
        // Bytes that decode are those that encoding gives, so their parts are what is hashed.
        let leaf = leaf_of_parts(&bytes, &places);
        Ok(Self { request: Arc::new(request), bytes, leaf })
    }

    /// Returns the request.
    pub const fn request(&self) -> &Arc<Request> {
        &self.request
    }

    /// Returns its canonical bytes.
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Returns its leaf in the commit.
    pub const fn leaf(&self) -> Leaf {
        self.leaf
    }
}

impl From<Request> for Sealed {
    fn from(request: Request) -> Self {
        let (bytes, leaf) = request.seal(|_| ());
        Self { request: Arc::new(request), bytes: bytes.into(), leaf }
    }
}

/// Returns the leaf of the request whose canonical bytes these are; of bytes that are no request, an error or a leaf that no request has: so
/// who knows the leaf knows by it whether the bytes are the request's, to the last one.
///
/// Cost: a hash; only where there are several groups, the request is read.
///
/// # Errors
/// As [`Decode::from_bytes`].
pub fn leaf_of(bytes: &[u8]) -> Result<Leaf, Codec> {
    let mut input = Reader::new(bytes);
    let (_, groups) = Request::decode_head(&mut input)?;
    let head = bytes.len() - input.left();
    let places = match groups {
        0 => Places { head, groups: Vec::new() },
        1 => Places { head, groups: vec![bytes.len()] },
        _ => Request::decode_with_places(&mut Reader::new(bytes))?.1,
    };
    let end = places.groups.last().copied().unwrap_or(head);
    if end == bytes.len() { Ok(leaf_of_parts(bytes, &places)) } else { Err(Codec::Trailing { left: bytes.len() - end }) }
}

fn leaf_of_parts(bytes: &[u8], places: &Places) -> Leaf {
    let mut leaves = Writer::with_capacity(256);
    leaves.raw(&bytes[..places.head]);
    let mut start = places.head;
    for end in &places.groups {
        leaves.raw(&Domain::Group.hash(&[&bytes[start..*end]]));
        start = *end;
    }
    Leaf(Domain::Request.hash(&[leaves.as_bytes()]))
}

fn decode_precondition(input: &mut Reader<'_>) -> Result<Precondition, Codec> {
    let (collection, key) = (CollectionId(number(input, "collection number")?), Key::decode(input)?);
    let must = match input.byte()? {
        1 => Must::Exist,
        2 => Must::BeAbsent,
        3 => Must::BeAt(Leaf::decode(input)?),
        tag => return Err(Codec::Unknown { what: "precondition", tag: tag.into() }),
    };
    Ok(Precondition { collection, key, must })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testutil::{self, ANIMALS, STABLES, delete};

    #[test]
    fn the_leaf_of_the_bytes_is_that_of_the_request() {
        let none: [(CollectionId, Edit); 0] = [];
        let requests = [
            testutil::request(1, none),
            testutil::request(2, [(ANIMALS, delete("alma")), (ANIMALS, delete("bella"))]),
            testutil::request(3, [(ANIMALS, delete("alma")), (STABLES, delete("north"))]),
        ];
        for request in requests {
            let groups: Vec<u8> = request.groups.iter().flat_map(|group| group.leaf().0).collect();
            let mut head = Writer::default();
            request.encode_head(&mut head);
            let leaf = Leaf(Domain::Request.hash(&[head.as_bytes(), &groups]));
            let bytes = request.to_bytes();
            assert_eq!((request.leaf(), leaf_of(&bytes)), (leaf, Ok(leaf)));
            let sealed = Sealed::read(bytes.clone()).expect("its own bytes");
            assert_eq!((sealed.leaf(), &sealed.bytes()[..], &**sealed.request()), (leaf, &bytes[..], &request));
            assert_eq!(Sealed::from(request), sealed);
            let longer = [&bytes[..], &[0]].concat();
            assert_ne!(leaf_of(&longer), Ok(leaf));
            assert!(Sealed::read(longer).is_err());
        }
    }

    #[test]
    fn more_edits_than_dots_can_name_are_refused_even_if_no_group_has_them() {
        let of = |count: usize| {
            let edits = (0..count).map(|at| (if at % 2 == 0 { ANIMALS } else { STABLES }, delete("a")));
            Request::from_bytes(&testutil::request(1, edits).to_bytes())
        };
        assert_eq!(of(MAX_EDITS).map(|request| request.len()), Ok(MAX_EDITS));
        let (what, actual, limit) = ("request's edits", MAX_EDITS as u64 + 1, MAX_EDITS as u64);
        assert_eq!(of(MAX_EDITS + 1), Err(Codec::Limit { what, actual, limit }));
    }
}
