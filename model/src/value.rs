//! Values of fields: scalars, sets of scalars, maps from text to scalar.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use crate::codec::{Decode, Encode, Error, Reader, Writer};

/// A 64-bit float with one form for each value: every NaN is the quiet one, minus zero is zero. Ordered by IEEE 754 totalOrder.
#[derive(Clone, Copy)]
pub struct Float(f64);

impl Float {
    /// Returns the canonical form of `value`.
    pub fn new(value: f64) -> Self {
        if value.is_nan() {
            Self(f64::from_bits(0x7ff8_0000_0000_0000))
        } else if value == 0.0 {
            Self(0.0)
        } else {
            Self(value)
        }
    }

    /// Returns the number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Float {}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl fmt::Debug for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value without parts. Ordered by type, then by value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A whole number of 64 bits.
    Int(i64),
    /// A floating-point number of 64 bits.
    Float(Float),
    /// UTF-8 text, replaced as a whole.
    String(Arc<str>),
    /// Microseconds since 1970-01-01T00:00:00Z.
    Timestamp(i64),
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// One scalar.
    Scalar(Scalar),
    /// A set of scalars; the empty set equals an absent field.
    Set(BTreeSet<Scalar>),
    /// A map from text to scalar; the empty map equals an absent field.
    Map(BTreeMap<Arc<str>, Scalar>),
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<i64> for Scalar {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl Encode for Scalar {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Bool(value) => out.byte(u8::from(*value)),
            Self::Int(value) => {
                out.byte(2);
                out.int(*value);
            }
            Self::Float(value) => {
                out.byte(3);
                out.raw(&value.0.to_bits().to_le_bytes());
            }
            Self::String(value) => {
                out.byte(4);
                out.text(value);
            }
            Self::Timestamp(value) => {
                out.byte(5);
                out.int(*value);
            }
        }
    }
}

impl Decode for Scalar {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(match input.byte()? {
            tag @ (0 | 1) => Self::Bool(tag == 1),
            2 => Self::Int(input.int()?),
            3 => {
                let bits = u64::from_le_bytes(input.array()?);
                let value = Float::new(f64::from_bits(bits));
                if value.0.to_bits() != bits {
                    return Err(Error::Malformed { what: "float" });
                }
                Self::Float(value)
            }
            4 => Self::String(input.text()?.into()),
            5 => Self::Timestamp(input.int()?),
            tag => return Err(Error::Unknown { what: "scalar", tag: tag.into() }),
        })
    }
}

/// Key of a document in its collection: UTF-8, 1 to 1,024 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

/// A key of the wrong length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key has 1 to {} bytes, this one has {actual}", Key::MAX)]
pub struct BadKey {
    /// Its length in bytes.
    pub actual: usize,
}

impl Key {
    /// Longest key, in bytes.
    pub const MAX: usize = 1024;

    /// Returns the key.
    ///
    /// # Errors
    /// [`BadKey`] if it is empty or longer than [`Key::MAX`].
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, BadKey> {
        let text = text.into();
        if (1..=Self::MAX).contains(&text.len()) { Ok(Self(text)) } else { Err(BadKey { actual: text.len() }) }
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the bytes the tree is ordered by.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Encode for Key {
    fn encode(&self, out: &mut Writer) {
        out.text(&self.0);
    }
}

impl Decode for Key {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        Self::new(input.text()?).map_err(|_| Error::Malformed { what: "key" })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn scalars() -> impl Strategy<Value = Scalar> {
        prop_oneof![
            any::<bool>().prop_map(Scalar::Bool),
            any::<i64>().prop_map(Scalar::Int),
            any::<f64>().prop_map(|value| Scalar::Float(Float::new(value))),
            "[a-zé]{0,5}".prop_map(|text| Scalar::from(text.as_str())),
            any::<i64>().prop_map(Scalar::Timestamp),
        ]
    }

    proptest! {
        #[test]
        fn prop_scalars_round_trip(value in scalars()) {
            prop_assert_eq!(Scalar::from_bytes(&value.to_bytes()), Ok(value));
        }
    }

    #[test]
    fn floats_have_one_form() {
        assert_eq!(Float::new(-0.0), Float::new(0.0));
        assert_eq!(Float::new(f64::NAN), Float::new(-f64::NAN));
        let mut minus_zero = vec![3];
        minus_zero.extend_from_slice(&(-0.0f64).to_bits().to_le_bytes());
        assert_eq!(Scalar::from_bytes(&minus_zero), Err(Error::Malformed { what: "float" }));
    }
}
