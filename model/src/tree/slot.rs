//! What stands beside a key in a node: a value in a leaf, a child in an inner node.

use super::Fault;
use crate::{
    chunk,
    codec::{self, Decode, Encode, Reader, Writer},
    id::ChunkId,
};

/// Longest value that lies in its leaf, in bytes; a longer one has a chunk of its own, so that an edit beside it rewrites 4 KiB.
pub const INLINE_MAX: usize = 2048;

/// Longest value that has one chunk, in bytes; a longer one lies in parts, however long it is.
pub const VALUE_MAX: usize = chunk::MAX_LEN - chunk::HEADER_LEN;

const NEAR: u8 = 0;
const FAR: u8 = 1;
const PARTS: u8 = 2;

/// Where a value lies.
///
/// Bytes: tag 0 and the value, or tag 1 (one chunk) or 2 (parts), chunk id (32 raw) and length (varint). Which of them follows from the
/// length, so equal values have equal slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot<'a> {
    /// Here.
    Near(&'a [u8]),
    /// In chunks of its own.
    Far {
        /// The chunk: of kind `Value` up to [`VALUE_MAX`] bytes, above them of kind `Parts`.
        id: ChunkId,
        /// Bytes of the value.
        len: u64,
    },
}

impl<'a> Slot<'a> {
    /// Reads the slot that fills `bytes`.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, codec::Error> {
        let mut input = Reader::new(bytes);
        match input.byte()? {
            NEAR if input.left() <= INLINE_MAX => Ok(Self::Near(input.rest())),
            NEAR => Err(codec::Error::Limit { what: "value in a leaf", actual: input.left() as u64, limit: INLINE_MAX as u64 }),
            tag @ (FAR | PARTS) => {
                let (id, len) = (ChunkId::decode(&mut input)?, input.uint()?);
                input.end()?;
                if len <= INLINE_MAX as u64 || tag != far_tag(len) {
                    return Err(codec::Error::Malformed { what: "length of a value outside its leaf" });
                }
                Ok(Self::Far { id, len })
            }
            tag => Err(codec::Error::Unknown { what: "slot", tag: tag.into() }),
        }
    }

    /// Returns the bytes of the value.
    pub const fn value_len(&self) -> u64 {
        match self {
            Self::Near(bytes) => bytes.len() as u64,
            Self::Far { len, .. } => *len,
        }
    }

    /// Returns how long the slot of a value of `len` bytes is.
    pub(super) const fn len_for(len: usize) -> usize {
        // A varint holds seven bits a byte.
        if len <= INLINE_MAX { 1 + len } else { 1 + ChunkId::LEN + (len.ilog2() / 7 + 1) as usize }
    }
}

/// Returns the tag of the slot of a far value.
const fn far_tag(len: u64) -> u8 {
    if len <= VALUE_MAX as u64 { FAR } else { PARTS }
}

impl Encode for Slot<'_> {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Near(bytes) => {
                out.byte(NEAR);
                out.raw(bytes);
            }
            Self::Far { id, len } => {
                out.byte(far_tag(*len));
                id.encode(out);
                out.uint(*len);
            }
        }
    }
}

/// A child of an inner node.
///
/// Bytes: id (32 raw), count (varint), bytes (varint).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// The node.
    pub id: ChunkId,
    /// Entries below it.
    pub count: u64,
    /// Bytes of all keys and values below it.
    pub bytes: u64,
}

impl Child {
    /// Returns whether `node` has what this says.
    pub(super) const fn check(&self, totals: Totals) -> Result<(), Fault> {
        if totals.count != self.count {
            return Err(Fault::Totals { what: "entries", expected: self.count, actual: totals.count });
        }
        if totals.bytes != self.bytes {
            return Err(Fault::Totals { what: "bytes", expected: self.bytes, actual: totals.bytes });
        }
        Ok(())
    }
}

impl Encode for Child {
    fn encode(&self, out: &mut Writer) {
        self.id.encode(out);
        out.uint(self.count);
        out.uint(self.bytes);
    }
}

impl Decode for Child {
    fn decode(input: &mut Reader<'_>) -> Result<Self, codec::Error> {
        Ok(Self { id: ChunkId::decode(input)?, count: input.uint()?, bytes: input.uint()? })
    }
}

/// Entries and their bytes, keys and values, below some point of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// How many entries.
    pub count: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

impl Totals {
    /// Adds; stops at the largest number, which only a forged node reaches.
    pub(super) const fn add(&mut self, other: Self) {
        self.count = self.count.saturating_add(other.count);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}
