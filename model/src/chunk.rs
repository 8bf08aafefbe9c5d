//! A chunk: immutable bytes named by their hash. Nothing in a chunk is used before its hash was checked.
//!
//! Layout: kind (1 byte), format version (1), length of the payload (4, little endian), payload. The id is BLAKE3 of those bytes
//! **zero-extended to the next power of two, at least 1 KiB**: BLAKE3 works in 1 KiB lanes and only whole powers of two run at full
//! width (4.1 µs for 3,814 bytes, 1.6 µs for 4,096). Only hashing extends; what is stored and sent is the bytes. The length in the
//! header makes the extension harmless: no two chunks differ in trailing zeros alone.

use std::{fmt, sync::Arc};

use crate::id::ChunkId;

/// Most bytes a chunk may have, header included.
pub const MAX_LEN: usize = 1 << 20;

/// Bytes before the payload.
pub const HEADER_LEN: usize = 6;

/// The format version this build writes.
pub const FORMAT: u8 = 1;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A leaf of a prolly tree.
    Leaf = 1,
    /// An inner node of a prolly tree.
    Inner = 2,
    /// A document too long to lie in its leaf, or a part of one too long for a chunk.
    Value = 3,
    /// A schema.
    Schema = 4,
    /// The map from collection to tree.
    Roots = 5,
    /// The names of the parts of a document too long for a chunk.
    Parts = 6,
}

impl TryFrom<u8> for Kind {
    type Error = Error;

    fn try_from(tag: u8) -> Result<Self, Error> {
        Ok(match tag {
            1 => Self::Leaf,
            2 => Self::Inner,
            3 => Self::Value,
            4 => Self::Schema,
            5 => Self::Roots,
            6 => Self::Parts,
            _ => return Err(Error::UnknownKind { tag }),
        })
    }
}

/// What can be wrong with bytes that claim to be a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The hash of the bytes is not the name they were asked by.
    #[error("chunk {expected} has bytes that hash to {actual}")]
    WrongHash {
        /// The name.
        expected: ChunkId,
        /// What the bytes hash to.
        actual: ChunkId,
    },
    /// The header implies another length.
    #[error("chunk header says {stated} bytes, there are {actual}")]
    WrongLength {
        /// Length that the header implies.
        stated: u64,
        /// Length there is.
        actual: usize,
    },
    /// Longer than [`MAX_LEN`].
    #[error("a chunk of {actual} bytes exceeds {MAX_LEN}")]
    TooLong {
        /// Its length.
        actual: usize,
    },
    /// A kind that this version does not know.
    #[error("unknown chunk kind {tag}")]
    UnknownKind {
        /// The first byte.
        tag: u8,
    },
    /// A format that this version does not know.
    #[error("chunk format {found} is unknown, this build reads format {FORMAT}")]
    UnknownFormat {
        /// The second byte.
        found: u8,
    },
    /// Another kind was expected here.
    #[error("a chunk of kind {found:?} stands where {expected:?} belongs")]
    WrongKind {
        /// What belongs here.
        expected: Kind,
        /// What was found.
        found: Kind,
    },
}

/// A chunk whose bytes are known to match its name. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Verified {
    id: ChunkId,
    kind: Kind,
    bytes: Arc<[u8]>,
}

impl Verified {
    /// Makes a chunk of `kind` around `payload` and names it.
    ///
    /// # Errors
    /// [`Error::TooLong`] above [`MAX_LEN`].
    pub fn new(kind: Kind, payload: &[u8]) -> Result<Self, Error> {
        let actual = HEADER_LEN + payload.len();
        let Some(stated) = u32::try_from(payload.len()).ok().filter(|_| actual <= MAX_LEN) else {
            return Err(Error::TooLong { actual });
        };
        let mut bytes = Vec::with_capacity(actual);
        bytes.extend_from_slice(&[kind as u8, FORMAT]);
        bytes.extend_from_slice(&stated.to_le_bytes());
        bytes.extend_from_slice(payload);
        Ok(Self { id: hash(&bytes), kind, bytes: bytes.into() })
    }

    /// Checks bytes from a disk or a peer against the name they were asked by.
    ///
    /// # Errors
    /// [`Error::WrongHash`] if they are not that chunk; the others if they are no chunk of this version.
    pub fn verify(id: ChunkId, bytes: impl Into<Arc<[u8]>>) -> Result<Self, Error> {
        let bytes = bytes.into();
        if bytes.len() > MAX_LEN {
            return Err(Error::TooLong { actual: bytes.len() });
        }
        let actual = hash(&bytes);
        if actual != id {
            return Err(Error::WrongHash { expected: id, actual });
        }
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(Error::WrongLength { stated: HEADER_LEN as u64, actual: bytes.len() });
        };
        let [tag, format, a, b, c, d] = *header;
        let stated = u64::from(u32::from_le_bytes([a, b, c, d])) + HEADER_LEN as u64;
        if stated != payload.len() as u64 + HEADER_LEN as u64 {
            return Err(Error::WrongLength { stated, actual: bytes.len() });
        }
        if format != FORMAT {
            return Err(Error::UnknownFormat { found: format });
        }
        Ok(Self { id, kind: Kind::try_from(tag)?, bytes })
    }

    /// Returns its name.
    pub const fn id(&self) -> ChunkId {
        self.id
    }

    /// Returns what it holds.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns all bytes, header included: what is stored and sent.
    pub const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Returns the bytes after the header.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// Returns the payload if the chunk is of `expected` kind.
    ///
    /// # Errors
    /// [`Error::WrongKind`] otherwise.
    pub fn expect(&self, expected: Kind) -> Result<&[u8], Error> {
        if self.kind == expected { Ok(self.payload()) } else { Err(Error::WrongKind { expected, found: self.kind }) }
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({:?} {:?}, {} bytes)", self.kind, self.id, self.bytes.len())
    }
}

/// Returns the name of `bytes`: BLAKE3 of them zero-extended to the next power of two, at least 1 KiB.
///
/// Cost: beside the hash, one copy of the bytes into the extension; up to 16 KiB, more than any node has, nothing is allocated.
pub fn hash(bytes: &[u8]) -> ChunkId {
    let extended = bytes.len().next_power_of_two().max(1 << 10);
    if extended == bytes.len() {
        return ChunkId(*blake3::hash(bytes).as_bytes());
    }
    match extended {
        0x400 => hash_extended::<0x400>(bytes),
        0x800 => hash_extended::<0x800>(bytes),
        0x1000 => hash_extended::<0x1000>(bytes),
        0x2000 => hash_extended::<0x2000>(bytes),
        0x4000 => hash_extended::<0x4000>(bytes),
        _ => {
            let mut scratch = Vec::with_capacity(extended);
            scratch.extend_from_slice(bytes);
            scratch.resize(extended, 0);
            ChunkId(*blake3::hash(&scratch).as_bytes())
        }
    }
}

/// Hashes `bytes`, at most `N`, extended to `N`. One size a function: with one scratch for all, the shortest chunk would pay for zeroing
/// the longest.
fn hash_extended<const N: usize>(bytes: &[u8]) -> ChunkId {
    let mut scratch = [0; N];
    scratch[..bytes.len()].copy_from_slice(bytes);
    ChunkId(*blake3::hash(&scratch).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_empty_leaf() {
        let chunk = Verified::new(Kind::Leaf, b"").expect("short");
        assert_eq!(chunk.bytes()[..], [1, 1, 0, 0, 0, 0]);
        let mut extended = [0u8; 1024];
        extended[..2].copy_from_slice(&[1, 1]);
        assert_eq!(chunk.id().0, *blake3::hash(&extended).as_bytes());
    }

    #[test]
    fn what_was_made_verifies_and_one_flipped_bit_does_not() {
        for len in [0, 1, 1017, 1018, 1019, 4090, 5000, 40_000] {
            let chunk = Verified::new(Kind::Value, &vec![7; len]).expect("short");
            assert_eq!(Verified::verify(chunk.id(), chunk.bytes().clone()), Ok(chunk.clone()));
            let mut bytes = chunk.bytes().to_vec();
            *bytes.last_mut().expect("header") ^= 1;
            assert!(matches!(Verified::verify(chunk.id(), bytes), Err(Error::WrongHash { .. })));
        }
    }

    #[test]
    fn trailing_zeros_do_not_make_a_second_form() {
        let chunk = Verified::new(Kind::Value, b"abc").expect("short");
        let mut longer = chunk.bytes().to_vec();
        longer.push(0);
        assert_eq!(hash(&longer), chunk.id());
        assert!(matches!(Verified::verify(chunk.id(), longer), Err(Error::WrongLength { .. })));
    }

    #[test]
    fn every_length_is_hashed_as_its_extension() {
        for power in 8..=17 {
            for len in [(1 << power) - 1, 1 << power, (1 << power) + 1] {
                let bytes = vec![7; len];
                let mut extended = bytes.clone();
                extended.resize(len.next_power_of_two().max(1024), 0);
                assert_eq!(hash(&bytes).0, *blake3::hash(&extended).as_bytes(), "{len} bytes");
            }
        }
    }

    #[test]
    fn too_long_is_refused() {
        assert!(matches!(Verified::new(Kind::Value, &vec![0; MAX_LEN]), Err(Error::TooLong { .. })));
    }
}
