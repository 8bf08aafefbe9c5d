//! Policies: how concurrent edits of a field, and of a document's existence, meet.

use std::fmt;

use super::{FieldType, is_name};
use crate::codec::{Error as Codec, Reader, Writer};

/// How concurrent edits of a field merge. In a map, list or union that merges by its parts, it says how the registers in it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// The highest stamp is read; concurrent losers are kept until a write or clear saw them.
    LastWriter,
    /// All concurrent values are kept as siblings; two distinct ones are a conflict.
    Strict,
    /// An element is in the set while some add of it was seen by no remove.
    AddWins,
    /// Key by key, each as last-writer.
    KeyWise,
    /// The greatest value that no clear saw.
    Max,
    /// The least value that no clear saw.
    Min,
    /// The sum of all that was added since the last reset.
    Counter,
    /// Character by character.
    Text,
    /// Item by item, each as last-writer.
    ElementWise,
    /// All concurrent values are kept as siblings; readers see what the resolver of this name makes of them.
    Custom(ResolverName),
}

/// What a clear takes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clears {
    /// What its author had seen.
    #[default]
    Seen,
    /// Everything of a lower stamp, seen or not.
    Earlier,
}

/// What comes of a document that one deletes while another edits it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Deletes {
    /// The edit wins: the document stays.
    #[default]
    EditWins = 0,
    /// The delete wins: the document goes, whatever others did that had not heard of it.
    DeleteWins = 1,
    /// The document stays, in conflict, until somebody who saw both edits or deletes it.
    Conflict = 2,
}

/// Name of a custom policy: 1 to 31 characters as in names of fields. Lies in place, so that policies are cheap to copy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResolverName {
    len: u8,
    bytes: [u8; Self::MAX],
}

impl ResolverName {
    /// Longest name, in bytes.
    pub const MAX: usize = 31;

    /// Returns the name, `None` if it is malformed.
    pub fn new(name: &str) -> Option<Self> {
        if !is_name(name) || name.len() > Self::MAX {
            return None;
        }
        let mut bytes = [0; Self::MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(Self { len: u8::try_from(name.len()).ok()?, bytes })
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("names are ASCII")
    }
}

impl fmt::Debug for ResolverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Policy {
    /// Whether it says how registers merge.
    pub const fn is_of_registers(self) -> bool {
        matches!(self, Self::LastWriter | Self::Strict | Self::Max | Self::Min | Self::Custom(_))
    }

    /// Returns how registers inside a field of this policy merge.
    #[must_use]
    pub const fn of_registers(self) -> Self {
        if self.is_of_registers() { self } else { Self::LastWriter }
    }

    /// Whether concurrent values under it are siblings that somebody has to resolve.
    pub const fn keeps_siblings(self) -> bool {
        matches!(self, Self::Strict | Self::Custom(_))
    }

    /// Returns the policy a field of type `ty` has if its schema does not say.
    pub const fn natural(ty: &FieldType) -> Self {
        match ty {
            FieldType::Set(_) => Self::AddWins,
            FieldType::Map(_) => Self::KeyWise,
            FieldType::List(_) => Self::ElementWise,
            FieldType::Text => Self::Text,
            FieldType::Counter => Self::Counter,
            _ => Self::LastWriter,
        }
    }

    /// Whether a field of type `ty` may have it.
    pub(super) fn fits(self, ty: &FieldType) -> bool {
        match ty {
            FieldType::Set(_) => matches!(self, Self::AddWins | Self::Strict),
            FieldType::Map(_) | FieldType::List(_) => self == Self::natural(ty) || self.is_of_registers() && self != Self::LastWriter,
            FieldType::Text | FieldType::Counter => self == Self::natural(ty),
            // Names of parts have no order that means anything, and every write has another.
            FieldType::Erasable(_) => matches!(self, Self::LastWriter | Self::Strict),
            FieldType::Union(_) => matches!(self, Self::LastWriter | Self::Strict | Self::Custom(_)),
            FieldType::Scalar(_) | FieldType::Reference(_) | FieldType::Blob | FieldType::Optional(_) | FieldType::Atomic(_) => {
                self.is_of_registers()
            }
        }
    }

    const fn tag(self) -> u8 {
        match self {
            Self::LastWriter => 1,
            Self::Strict => 2,
            Self::AddWins => 3,
            Self::KeyWise => 4,
            Self::Max => 5,
            Self::Min => 6,
            Self::Counter => 7,
            Self::Text => 8,
            Self::ElementWise => 9,
            Self::Custom(_) => 10,
        }
    }
}

/// Marks the tag of a policy whose clears take away what is earlier.
const EARLIER: u8 = 0x40;

pub(super) fn encode(out: &mut Writer, policy: Policy, clears: Clears) {
    out.byte(policy.tag() | if clears == Clears::Earlier { EARLIER } else { 0 });
    if let Policy::Custom(name) = policy {
        out.text(name.as_str());
    }
}

pub(super) fn decode(input: &mut Reader<'_>) -> Result<(Policy, Clears), Codec> {
    let tag = input.byte()?;
    let clears = if tag & EARLIER != 0 { Clears::Earlier } else { Clears::Seen };
    let policy = match tag & !EARLIER {
        1 => Policy::LastWriter,
        2 => Policy::Strict,
        3 => Policy::AddWins,
        4 => Policy::KeyWise,
        5 => Policy::Max,
        6 => Policy::Min,
        7 => Policy::Counter,
        8 => Policy::Text,
        9 => Policy::ElementWise,
        10 => Policy::Custom(ResolverName::new(input.text()?).ok_or(Codec::Malformed { what: "resolver's name" })?),
        tag => return Err(Codec::Unknown { what: "policy", tag: tag.into() }),
    };
    Ok((policy, clears))
}
