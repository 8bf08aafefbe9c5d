//! Values of fields: scalars, and sets, maps and lists of values, nested as one likes up to [`MAX_DEPTH`].
//!
//! Law: values have one order and one byte form, so that a set of anything has one order of elements.

mod decimal;
mod difference;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

pub use decimal::{BadDecimal, Decimal};
pub use difference::{Difference, Step, differences};
use smol_str::SmolStr;

use crate::{
    blob::Blob,
    codec::{Decode, Encode, Error, Reader, Writer},
};

/// Deepest nesting of sets, maps and lists in a value: nobody nests by hand that deep, and whoever reads needs stack for each level.
pub const MAX_DEPTH: usize = 16;

const SET: u8 = 11;
const MAP: u8 = 12;
const LIST: u8 = 13;
const BLOB: u8 = 14;

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
    /// An exact decimal number.
    Decimal(Decimal),
    /// Bytes, replaced as a whole.
    Bytes(Arc<[u8]>),
    /// Key of a document in the collection that the type names.
    Reference(Key),
    /// Nothing, where a type is optional: in a list, set or map, in which nothing differs from not being there.
    Null,
    /// Bytes of any length, which lie apart.
    Blob(Blob),
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// One scalar.
    Scalar(Scalar),
    /// A set; as a field of its own, the empty set equals an absent field.
    Set(BTreeSet<Self>),
    /// A map from text; as a field of its own, the empty map equals an absent field.
    Map(BTreeMap<Arc<str>, Self>),
    /// A list; as a field of its own, the empty list equals an absent field.
    List(Vec<Self>),
}

impl Value {
    /// Whether it is a set, map or list without elements: as a field, that is no value.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(_) => false,
            Self::Set(elements) => elements.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            Self::List(items) => items.is_empty(),
        }
    }

    /// Calls `each` with every blob in it.
    pub fn blobs(&self, each: &mut impl FnMut(&Blob)) {
        match self {
            Self::Scalar(Scalar::Blob(blob)) => each(blob),
            Self::Scalar(_) => {}
            Self::Set(elements) => elements.iter().for_each(|element| element.blobs(each)),
            Self::Map(entries) => entries.values().for_each(|entry| entry.blobs(each)),
            Self::List(items) => items.iter().for_each(|item| item.blobs(each)),
        }
    }

    /// Returns how deep it nests; a scalar does not.
    pub fn depth(&self) -> usize {
        let deepest = |values: &mut dyn Iterator<Item = &Self>| 1 + values.map(Self::depth).max().unwrap_or(0);
        match self {
            Self::Scalar(_) => 0,
            Self::Set(elements) => deepest(&mut elements.iter()),
            Self::Map(entries) => deepest(&mut entries.values()),
            Self::List(items) => deepest(&mut items.iter()),
        }
    }
}

impl From<Scalar> for Value {
    fn from(scalar: Scalar) -> Self {
        Self::Scalar(scalar)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Scalar(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Scalar(number.into())
    }
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
            Self::Decimal(value) => {
                out.byte(7);
                value.encode(out);
            }
            Self::Bytes(value) => {
                out.byte(8);
                out.bytes(value);
            }
            Self::Reference(key) => {
                out.byte(9);
                key.encode(out);
            }
            Self::Null => out.byte(10),
            Self::Blob(blob) => {
                out.byte(BLOB);
                blob.encode(out);
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
            7 => Self::Decimal(Decimal::decode(input)?),
            8 => Self::Bytes(input.bytes()?.into()),
            9 => Self::Reference(Key::decode(input)?),
            10 => Self::Null,
            BLOB => Self::Blob(Blob::decode(input)?),
            tag => return Err(Error::Unknown { what: "scalar", tag: tag.into() }),
        })
    }
}

impl Encode for Value {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Scalar(scalar) => scalar.encode(out),
            Self::Set(elements) => {
                out.byte(SET);
                out.list(elements.iter());
            }
            Self::Map(entries) => {
                out.byte(MAP);
                out.count(entries.len());
                for (key, value) in entries {
                    out.text(key);
                    value.encode(out);
                }
            }
            Self::List(items) => {
                out.byte(LIST);
                out.list(items.iter());
            }
        }
    }
}

impl Decode for Value {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        decode_within(input, MAX_DEPTH)
    }
}

/// Reads a value that nests at most `depth` deep.
fn decode_within(input: &mut Reader<'_>, depth: usize) -> Result<Value, Error> {
    let tag = input.rest().first().copied();
    if !matches!(tag, Some(SET | MAP | LIST)) {
        return Scalar::decode(input).map(Value::Scalar);
    }
    let Some(below) = depth.checked_sub(1) else {
        return Err(Error::Limit { what: "a value's depth", actual: MAX_DEPTH as u64 + 1, limit: MAX_DEPTH as u64 });
    };
    Ok(match input.byte()? {
        SET => {
            let mut elements = BTreeSet::new();
            for _ in 0..input.count(1)? {
                let element = decode_within(input, below)?;
                if elements.last().is_some_and(|before| *before >= element) {
                    return Err(Error::Order { what: "a set's elements" });
                }
                elements.insert(element);
            }
            Value::Set(elements)
        }
        MAP => {
            let mut entries = BTreeMap::<Arc<str>, Value>::new();
            for _ in 0..input.count(2)? {
                let key: Arc<str> = input.text()?.into();
                if entries.last_key_value().is_some_and(|(before, _)| *before >= key) {
                    return Err(Error::Order { what: "a map's entries" });
                }
                entries.insert(key, decode_within(input, below)?);
            }
            Value::Map(entries)
        }
        _ => {
            let count = input.count(1)?;
            Value::List((0..count).map(|_| decode_within(input, below)).collect::<Result<_, _>>()?)
        }
    })
}

/// Key of a document in its collection: UTF-8, 1 to 1,024 bytes. Cheap to clone, and to compare: a short one lies in place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(SmolStr);

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
    pub fn new(text: impl Into<SmolStr>) -> Result<Self, BadKey> {
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
    use crate::{blob, id::PartId};

    pub(crate) fn scalars() -> impl Strategy<Value = Scalar> {
        prop_oneof![
            any::<bool>().prop_map(Scalar::Bool),
            any::<i64>().prop_map(Scalar::Int),
            any::<f64>().prop_map(|value| Scalar::Float(Float::new(value))),
            "[a-zé]{0,5}".prop_map(|text| Scalar::from(text.as_str())),
            any::<i64>().prop_map(Scalar::Timestamp),
            (any::<i64>(), 0u32..30)
                .prop_map(|(coefficient, scale)| Scalar::Decimal(Decimal::new(coefficient.into(), scale).expect("short"))),
            proptest::collection::vec(any::<u8>(), 0..5).prop_map(|bytes| Scalar::Bytes(bytes.into())),
            "[a-z]{1,5}".prop_map(|key| Scalar::Reference(Key::new(key).expect("short"))),
            Just(Scalar::Null),
            (any::<[u8; 32]>(), 0..=blob::MAX_LEN).prop_map(|(root, len)| Scalar::Blob(Blob { root: PartId(root), len })),
        ]
    }

    pub(crate) fn values() -> impl Strategy<Value = Value> {
        scalars().prop_map(Value::Scalar).prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::btree_set(inner.clone(), 0..4).prop_map(Value::Set),
                proptest::collection::btree_map("[a-z]{0,3}".prop_map(Arc::from), inner.clone(), 0..4).prop_map(Value::Map),
                proptest::collection::vec(inner, 0..4).prop_map(Value::List),
            ]
        })
    }

    proptest! {
        #[test]
        fn prop_values_round_trip(value in values()) {
            prop_assert_eq!(Value::from_bytes(&value.to_bytes()), Ok(value));
        }

        #[test]
        fn prop_scalars_round_trip(value in scalars()) {
            prop_assert_eq!(Scalar::from_bytes(&value.to_bytes()), Ok(value));
        }
    }

    #[test]
    fn a_value_that_nests_too_deep_is_refused() {
        let nested = |levels: usize| (0..levels).fold(Value::from(1), |value, _| Value::List(vec![value]));
        assert_eq!(nested(MAX_DEPTH).depth(), MAX_DEPTH);
        assert_eq!(Value::from_bytes(&nested(MAX_DEPTH).to_bytes()), Ok(nested(MAX_DEPTH)));
        assert!(matches!(Value::from_bytes(&nested(MAX_DEPTH + 1).to_bytes()), Err(Error::Limit { .. })));
        assert!(Value::from_bytes(&[LIST, 1].repeat(1 << 20)).is_err());
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
