//! Names of things: 32-byte hashes and keys, each its own type, and the numbers that identify within a parent.
//!
//! Every hash is BLAKE3 with a domain of its own, so a commit can never be mistaken for a head-log entry. A chunk's id is the
//! exception: it is the plain hash of its bytes, zero-extended (see `chunk`).

use std::{fmt, sync::Arc};

use crate::codec::{Decode, Encode, Error, Reader, Writer};

/// Declares a 32-byte identifier: `Copy`, ordered by bytes, shown as hex, eight digits in `Debug`.
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $bytes;

            /// Returns the bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Returns the id that a text of exactly twice as many hex digits names, or `None`.
            pub fn from_hex(text: &str) -> Option<Self> {
                from_hex(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = WrongLength;

            fn try_from(bytes: &[u8]) -> Result<Self, WrongLength> {
                bytes.try_into().map(Self).map_err(|_| WrongLength { expected: $bytes, actual: bytes.len() })
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Writer) {
                out.raw(&self.0);
            }
        }

        impl Decode for $name {
            fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
                Ok(Self(input.array()?))
            }
        }
    };
}

/// An id arrived with the wrong number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id of {expected} bytes came with {actual}")]
pub struct WrongLength {
    /// How many bytes this kind of id has.
    pub expected: usize,
    /// How many there were.
    pub actual: usize,
}

id_type!(
    /// Name of a chunk: BLAKE3 of its bytes zero-extended to a power of two.
    ChunkId,
    32
);
id_type!(
    /// Name of a repository: hash of its genesis record.
    RepositoryId,
    32
);
id_type!(
    /// Name of a commit: hash of its header.
    CommitId,
    32
);
id_type!(
    /// Name of a head-log entry: hash of its signed body.
    EntryId,
    32
);
id_type!(
    /// Name of a schema: hash of its canonical bytes.
    SchemaId,
    32
);
id_type!(
    /// An Ed25519 public key that names a replica (RFC 8032).
    ReplicaId,
    32
);
id_type!(
    /// An Ed25519 public key that names a session, one run of one replica (RFC 8032).
    SessionId,
    32
);
id_type!(
    /// Hash of something inside a commit: a request leaf, a group leaf, the root above them.
    Leaf,
    32
);
id_type!(
    /// Name of a frontier: hash of branch and sorted heads. This is all a derived merge is.
    FrontierName,
    32
);
id_type!(
    /// Which voids, horizons, migrations and restores a state takes into account: a hash over them.
    Judgement,
    32
);
id_type!(
    /// Name of a state: hash of branch, frontier and judgement. A state is a pure function of it.
    StateName,
    32
);
id_type!(
    /// Root of a state: hash of the small map from collection to tree.
    StateRoot,
    32
);
id_type!(
    /// Name of a chain: the commits of one session on one branch.
    ChainId,
    16
);
id_type!(
    /// Name of a part of a blob: hash of its bytes.
    PartId,
    32
);
id_type!(
    /// Idempotency key of a request, chosen by who sends it.
    RequestKey,
    16
);

impl Judgement {
    /// Nothing was ever voided, cut, migrated or restored.
    pub const NONE: Self = Self([0; 32]);
}

/// What a hash is about; each has its own BLAKE3 key-derivation context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// A genesis record.
    Genesis,
    /// A commit's header.
    Commit,
    /// A head-log entry.
    Entry,
    /// A schema.
    Schema,
    /// One collection's group of edits, salted.
    Group,
    /// A request.
    Request,
    /// The requests of a commit.
    Requests,
    /// The salt of a group.
    Salt,
    /// A frontier.
    Frontier,
    /// A state name.
    State,
    /// A judgement.
    Judgement,
    /// The map from collection to tree.
    Root,
    /// A chain.
    Chain,
    /// Keys of a tree, for its boundaries.
    Digest,
    /// A certificate.
    Certificate,
    /// A proof that one holds a key, in a handshake.
    Possession,
    /// The salt of what two sides tell of their vectors.
    Sketch,
    /// A version vector.
    Vector,
    /// A part of a blob.
    Blob,
}

impl Domain {
    const COUNT: usize = Self::Blob as usize + 1;

    const fn context(self) -> &'static str {
        match self {
            Self::Genesis => "herdbook v1 genesis",
            Self::Commit => "herdbook v1 commit",
            Self::Entry => "herdbook v1 head-log entry",
            Self::Schema => "herdbook v1 schema",
            Self::Group => "herdbook v1 edit group",
            Self::Request => "herdbook v1 request",
            Self::Requests => "herdbook v1 requests of a commit",
            Self::Salt => "herdbook v1 group salt",
            Self::Frontier => "herdbook v1 frontier",
            Self::State => "herdbook v1 state name",
            Self::Judgement => "herdbook v1 judgement",
            Self::Root => "herdbook v1 state root",
            Self::Chain => "herdbook v1 chain",
            Self::Digest => "herdbook v1 digest",
            Self::Certificate => "herdbook v1 certificate",
            Self::Possession => "herdbook v1 possession",
            Self::Sketch => "herdbook v1 sketch",
            Self::Vector => "herdbook v1 version vector",
            Self::Blob => "herdbook v1 part of a blob",
        }
    }

    /// Returns the hash of `parts`, one after another, in this domain. Parts are not delimited: at most the last may vary in length.
    pub fn hash(self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = self.hasher();
        for part in parts {
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }

    fn hasher(self) -> blake3::Hasher {
        // Deriving a context key hashes the context each time (1 µs); the derived states are kept.
        static STATES: [std::sync::OnceLock<blake3::Hasher>; Domain::COUNT] = [const { std::sync::OnceLock::new() }; Domain::COUNT];
        STATES[self as usize].get_or_init(|| blake3::Hasher::new_derive_key(self.context())).clone()
    }
}

/// A branch of a repository, by name: `main@1` is branch `main` under schema version 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchName(Arc<str>);

impl BranchName {
    /// Longest name, in bytes.
    pub const MAX: usize = 128;

    /// Returns the name if it is well formed: 1 to 128 bytes of `a-z A-Z 0-9 . _ - / @`, starting with a letter or digit.
    ///
    /// # Errors
    /// [`BadName`] otherwise.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        let well_formed = !name.is_empty()
            && name.len() <= Self::MAX
            && name.as_bytes()[0].is_ascii_alphanumeric()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/@".contains(&byte));
        if well_formed { Ok(Self(name.into())) } else { Err(BadName { name }) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BranchName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Encode for BranchName {
    fn encode(&self, out: &mut Writer) {
        out.text(&self.0);
    }
}

impl Decode for BranchName {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        Self::new(input.text()?).map_err(|_| Error::Malformed { what: "branch name" })
    }
}

/// A name that breaks the rules for names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a valid name: use 1 to 128 of a-z A-Z 0-9 . _ - / @, starting with a letter or digit")]
pub struct BadName {
    /// The name as given.
    pub name: String,
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_debug_is_short() {
        let id = ChunkId([0xab; 32]);
        assert_eq!(ChunkId::from_hex(&id.to_string()), Some(id));
        assert_eq!(format!("{id:?}"), "abababab");
        assert_eq!(ChunkId::from_hex("zz"), None);
    }

    #[test]
    fn domains_separate_equal_bytes() {
        assert_ne!(Domain::Commit.hash(&[b"x"]), Domain::Entry.hash(&[b"x"]));
    }

    #[test]
    fn branch_names_are_checked() {
        assert!(BranchName::new("main@1").is_ok());
        for bad in ["", "@x", "a b", "ä"] {
            assert!(BranchName::new(bad).is_err(), "{bad}");
        }
    }
}
