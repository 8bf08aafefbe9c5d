//! Requests: what a client asked for, atomic, with its proof, its preconditions and its edits in groups, one a collection.
//!
//! A group is what can be withheld from who may not read its collection; its leaf is salted, so the hash tells nothing. A request is what
//! can be voided or lost. The commit's header names the hash over its requests' leaves.

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
        let (mut bytes, mut leaves) = (Writer::with_capacity(256), Writer::default());
        self.encode_head(&mut bytes);
        self.encode_head(&mut leaves);
        for group in &self.groups {
            let start = bytes.len();
            group.encode_head(&mut bytes);
            for edit in &group.edits {
                let before = bytes.len();
                edit.encode(&mut bytes);
                each(bytes.len() - before);
            }
            leaves.raw(&Domain::Group.hash(&[&bytes.as_bytes()[start..]]));
        }
        (bytes.into_bytes(), Leaf(Domain::Request.hash(&[leaves.as_bytes()])))
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

impl Decode for Request {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        limited(input.left(), "request's bytes", MAX_LEN)?;
        let key = RequestKey::decode(input)?;
        let name = input.text()?.to_owned();
        limited(name.len(), "principal's name", MAX_PRINCIPAL)?;
        let proof = match input.byte()? {
            0 => Proof::Session,
            tag => return Err(Codec::Unknown { what: "proof", tag: tag.into() }),
        };
        let count = input.count(4)?;
        let preconditions = (0..count).map(|_| decode_precondition(input)).collect::<Result<_, _>>()?;
        let groups: Vec<Group> = input.list(18)?;
        if !groups.is_sorted_by(|a, b| a.collection < b.collection) {
            return Err(Codec::Order { what: "groups of a request" });
        }
        limited(groups.iter().map(|group| group.edits.len()).sum(), "request's edits", MAX_EDITS)?;
        Ok(Self { key, principal: Principal { name, proof }, preconditions, groups })
    }
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
