//! What can be wrong with a message from the wire, and where in it.

use herdbook_model::{codec, id::WrongLength, request, value::Key};

/// A message that says nothing meaningful, with the place that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {fault}")]
pub struct Malformed {
    path: String,
    fault: Fault,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing was sent where something is needed.
    #[error("is missing")]
    Missing,
    /// An id, key or signature of another length.
    #[error("has {actual} bytes, {expected} are needed")]
    WrongLength {
        /// How many there should be.
        expected: usize,
        /// How many there were.
        actual: usize,
    },
    /// A document's key that is empty or too long.
    #[error("has {actual} bytes, a key has 1 to {}", Key::MAX)]
    BadKey {
        /// Its length in bytes.
        actual: usize,
    },
    /// A text that is no decimal number.
    #[error("is malformed")]
    BadDecimal {
        /// What a decimal is.
        #[source]
        source: herdbook_model::value::BadDecimal,
    },
    /// A branch name that breaks the rules.
    #[error("is not a valid name: use 1 to 128 of a-z A-Z 0-9 . _ - / @, starting with a letter or digit")]
    BadName,
    /// An enum value that this version does not know.
    #[error("has the unknown value {value}")]
    UnknownValue {
        /// The value.
        value: i32,
    },
    /// A number, length or count above its limit.
    #[error("is {actual}, at most {limit} is allowed")]
    AboveLimit {
        /// What there is.
        actual: u64,
        /// The limit.
        limit: u64,
    },
    /// Something that may stand once stands twice, or on both sides of a change.
    #[error("names `{name}` twice")]
    Twice {
        /// What.
        name: String,
    },
    /// Two fields that exclude each other.
    #[error("cannot be used with `{other}`")]
    Excludes {
        /// The other one.
        other: &'static str,
    },
    /// Bytes that should be canonical and are not.
    #[error("does not decode: {fault}")]
    NotCanonical {
        /// What the codec says.
        fault: codec::Error,
    },
    /// Compressed bytes that are damaged, or longer than they say.
    #[error("does not decompress to the {stated} bytes it states")]
    BadBlock {
        /// Stated length.
        stated: usize,
    },
    /// A token that this service did not make.
    #[error("is not a token of this service: pass on what an earlier answer gave, unchanged")]
    BadToken,
}

impl Malformed {
    /// Returns that `field` is wrong in this way.
    pub fn new(field: impl Into<String>, fault: Fault) -> Self {
        Self { path: field.into(), fault }
    }

    /// Returns that `field` is missing.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::new(field, Fault::Missing)
    }

    /// Returns the same fault, seen from one message further out: `key` within `edits[3]` is `edits[3].key`.
    #[must_use]
    pub fn within(self, outer: impl std::fmt::Display) -> Self {
        Self { path: format!("{outer}.{}", self.path), fault: self.fault }
    }

    /// Returns the place: field names from the outermost, with dots, elements of lists by number.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns what is wrong there.
    pub const fn fault(&self) -> &Fault {
        &self.fault
    }
}

impl From<WrongLength> for Fault {
    fn from(WrongLength { expected, actual }: WrongLength) -> Self {
        Self::WrongLength { expected, actual }
    }
}

impl From<codec::Error> for Fault {
    fn from(fault: codec::Error) -> Self {
        Self::NotCanonical { fault }
    }
}

const _: () = assert!(request::MAX_LEN < crate::limits::BLOCK, "the longest request must fit in a block");
