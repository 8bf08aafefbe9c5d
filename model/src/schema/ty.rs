//! Types of fields, nested as one likes up to [`MAX_DEPTH`], and which values they take.

use std::{fmt, sync::Arc};

use super::{CollectionId, number};
use crate::{
    codec::{Error as Codec, Reader, Writer},
    value::{Scalar, Value},
};

/// Deepest nesting of types.
pub const MAX_DEPTH: usize = 8;

/// Most alternatives of a union.
pub const MAX_ALTERNATIVES: usize = 16;

/// Type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ScalarType {
    /// True or false.
    Bool = 1,
    /// Whole number, 64 bits.
    Int = 2,
    /// Floating-point number, 64 bits.
    Float = 3,
    /// Text.
    String = 4,
    /// Microseconds since 1970.
    Timestamp = 5,
    /// Exact decimal number.
    Decimal = 6,
    /// Bytes.
    Bytes = 7,
}

/// Type of a field.
///
/// Scalars, references, optional and atomic values are registers: they are replaced as a whole. The others merge by their parts, and so do
/// the values of a map. Elements of sets and lists are plain values; sets, maps and lists of them nest as such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldType {
    /// One scalar.
    Scalar(ScalarType),
    /// A set: element by element, of one type.
    Set(Arc<Self>),
    /// A map from text: key by key, each value as its type merges.
    Map(Arc<Self>),
    /// A list: element by element.
    List(Arc<Self>),
    /// A text: character by character.
    Text,
    /// A counter: the sum of all that was added to it.
    Counter,
    /// A document of that collection, by its key.
    Reference(CollectionId),
    /// Bytes of any length, in parts that lie in the collection of blobs.
    Blob,
    /// A scalar that can be erased: documents and commits hold the name of a salted part that holds it.
    Erasable(ScalarType),
    /// A value or nothing, where nothing differs from not being there.
    Optional(Arc<Self>),
    /// A value of one of several types, of which each has another form in JSON.
    Union(Arc<[Self]>),
    /// A set, map or list that is replaced as a whole.
    Atomic(Arc<Self>),
}

/// What a type looks like in JSON; alternatives of a union must differ in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bool,
    Whole,
    Fraction,
    Text,
    List,
    Object,
}

impl From<ScalarType> for FieldType {
    fn from(ty: ScalarType) -> Self {
        Self::Scalar(ty)
    }
}

impl FieldType {
    /// Returns the type of sets of `of`.
    pub fn set(of: impl Into<Self>) -> Self {
        Self::Set(Arc::new(of.into()))
    }

    /// Returns the type of maps from text to `of`.
    pub fn map(of: impl Into<Self>) -> Self {
        Self::Map(Arc::new(of.into()))
    }

    /// Returns the type of lists of `of`.
    pub fn list(of: impl Into<Self>) -> Self {
        Self::List(Arc::new(of.into()))
    }

    /// Whether values of it are written and replaced as a whole.
    pub const fn is_register(&self) -> bool {
        matches!(self, Self::Scalar(_) | Self::Reference(_) | Self::Blob | Self::Erasable(_) | Self::Optional(_) | Self::Atomic(_))
    }

    /// Returns the type of an element, entry or item of it.
    pub fn inner(&self) -> Option<&Self> {
        match self {
            Self::Set(of) | Self::Map(of) | Self::List(of) => Some(of),
            _ => None,
        }
    }

    /// Returns the type of the entries where it is a map, or a union with one.
    pub fn map_entries(&self) -> Option<&Self> {
        match self {
            Self::Map(of) => Some(of),
            Self::Union(types) => types.iter().find_map(Self::map_entries),
            _ => None,
        }
    }

    /// Whether values of it lie, or hold what lies, in the collection of blobs.
    pub fn has_blobs(&self) -> bool {
        match self {
            Self::Blob | Self::Erasable(_) => true,
            Self::Set(of) | Self::Map(of) | Self::List(of) | Self::Optional(of) | Self::Atomic(of) => of.has_blobs(),
            Self::Union(types) => types.iter().any(Self::has_blobs),
            Self::Scalar(_) | Self::Text | Self::Counter | Self::Reference(_) => false,
        }
    }

    /// Whether `value` is of this type.
    pub fn takes(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Scalar(ty), Value::Scalar(scalar)) => ScalarType::of(scalar) == Some(*ty),
            (Self::Text, Value::Scalar(Scalar::String(_)))
            | (Self::Counter, Value::Scalar(Scalar::Int(_)))
            | (Self::Reference(_), Value::Scalar(Scalar::Reference(_)))
            | (Self::Blob | Self::Erasable(_), Value::Scalar(Scalar::Blob(_)))
            | (Self::Optional(_), Value::Scalar(Scalar::Null)) => true,
            (Self::Set(of), Value::Set(elements)) => elements.iter().all(|element| of.takes(element)),
            (Self::Map(of), Value::Map(entries)) => entries.values().all(|entry| of.takes(entry)),
            (Self::List(of), Value::List(items)) => items.iter().all(|item| of.takes(item)),
            (Self::Optional(of) | Self::Atomic(of), value) => of.takes(value),
            (Self::Union(types), value) => types.iter().any(|ty| ty.takes(value)),
            _ => false,
        }
    }

    /// Returns the alternative of it that takes `value`: itself, unless it is a union.
    pub fn alternative(&self, value: &Value) -> Option<&Self> {
        match self {
            Self::Union(types) => types.iter().find(|ty| ty.takes(value)),
            ty => ty.takes(value).then_some(ty),
        }
    }

    /// Says what is wrong with the type, if anything is.
    pub(super) fn fault(&self) -> Option<&'static str> {
        self.fault_within(MAX_DEPTH, true)
    }

    /// `merges`: whether values of it could merge by their parts where it stands.
    fn fault_within(&self, depth: usize, merges: bool) -> Option<&'static str> {
        let Some(below) = depth.checked_sub(1) else { return Some("it nests too deep") };
        match self {
            Self::Text | Self::Counter if !merges => Some("texts and counters do not stand in sets, lists, and optional or atomic values"),
            // Each is erased by name, and what stands in a set or map is named by its value or place.
            Self::Erasable(_) if depth < MAX_DEPTH => Some("what can be erased is a field of its own"),
            Self::Scalar(_) | Self::Text | Self::Counter | Self::Reference(_) | Self::Blob | Self::Erasable(_) => None,
            Self::Map(of) => of.fault_within(below, merges),
            Self::Set(of) | Self::List(of) => of.fault_within(below, false),
            Self::Optional(of) | Self::Atomic(of) if matches!(**of, Self::Optional(_) | Self::Atomic(_)) => Some("it says the same twice"),
            Self::Atomic(of) if of.is_register() => Some("what has no parts is atomic anyway"),
            Self::Optional(of) | Self::Atomic(of) => of.fault_within(below, false),
            Self::Union(types) if !(2..=MAX_ALTERNATIVES).contains(&types.len()) => Some("a union has 2 to 16 alternatives"),
            Self::Union(types) => {
                let forms: Vec<_> = types.iter().map(Self::form).collect();
                let differ = forms.iter().enumerate().all(|(at, form)| form.is_some() && !forms[..at].contains(form));
                if !differ {
                    return Some(
                        "alternatives of a union differ in JSON: a bool, an int or timestamp, a float, one written as text, a set or list, a map",
                    );
                }
                types.iter().find_map(|ty| ty.fault_within(below, merges))
            }
        }
    }

    fn form(&self) -> Option<Form> {
        Some(match self {
            Self::Scalar(ScalarType::Bool) => Form::Bool,
            Self::Scalar(ScalarType::Int | ScalarType::Timestamp) => Form::Whole,
            Self::Scalar(ScalarType::Float) => Form::Fraction,
            Self::Scalar(ScalarType::String | ScalarType::Decimal | ScalarType::Bytes) | Self::Reference(_) | Self::Blob => Form::Text,
            Self::Set(_) | Self::List(_) => Form::List,
            Self::Map(_) => Form::Object,
            Self::Atomic(of) => return of.form(),
            // A text or counter in a union would have no one to ask whose characters or sums they are once another kind took their place.
            Self::Text | Self::Counter | Self::Erasable(_) | Self::Optional(_) | Self::Union(_) => return None,
        })
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Scalar(ty) => out.raw(&[0, *ty as u8]),
            Self::Set(of) => encode_inner(out, 1, of),
            Self::Map(of) => encode_inner(out, 2, of),
            Self::List(of) => encode_inner(out, 3, of),
            Self::Text => out.byte(4),
            Self::Counter => out.byte(5),
            Self::Reference(collection) => {
                out.byte(6);
                out.uint(collection.0.into());
            }
            Self::Optional(of) => encode_inner(out, 7, of),
            Self::Union(types) => {
                out.byte(8);
                out.count(types.len());
                types.iter().for_each(|ty| ty.encode(out));
            }
            Self::Atomic(of) => encode_inner(out, 9, of),
            Self::Blob => out.byte(10),
            Self::Erasable(ty) => out.raw(&[11, *ty as u8]),
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        Self::decode_within(input, MAX_DEPTH)
    }

    fn decode_within(input: &mut Reader<'_>, depth: usize) -> Result<Self, Codec> {
        let below = depth.checked_sub(1).ok_or(Codec::Malformed { what: "type's depth" })?;
        let inner = |input: &mut Reader<'_>| Self::decode_within(input, below).map(Arc::new);
        Ok(match input.byte()? {
            0 => Self::Scalar(ScalarType::from_tag(input.byte()?)?),
            1 => Self::Set(inner(input)?),
            2 => Self::Map(inner(input)?),
            3 => Self::List(inner(input)?),
            4 => Self::Text,
            5 => Self::Counter,
            6 => Self::Reference(CollectionId(number(input, "collection number")?)),
            7 => Self::Optional(inner(input)?),
            8 => {
                let count = super::limited(input.count(1)?, "union's alternatives", MAX_ALTERNATIVES)?;
                Self::Union((0..count).map(|_| Self::decode_within(input, below)).collect::<Result<_, _>>()?)
            }
            9 => Self::Atomic(inner(input)?),
            10 => Self::Blob,
            11 => Self::Erasable(ScalarType::from_tag(input.byte()?)?),
            tag => return Err(Codec::Unknown { what: "type", tag: tag.into() }),
        })
    }
}

fn encode_inner(out: &mut Writer, tag: u8, of: &FieldType) {
    out.byte(tag);
    of.encode(out);
}

impl ScalarType {
    /// Returns the type of `scalar`; references and nothing are typed by more than their own kind.
    pub const fn of(scalar: &Scalar) -> Option<Self> {
        Some(match scalar {
            Scalar::Bool(_) => Self::Bool,
            Scalar::Int(_) => Self::Int,
            Scalar::Float(_) => Self::Float,
            Scalar::String(_) => Self::String,
            Scalar::Timestamp(_) => Self::Timestamp,
            Scalar::Decimal(_) => Self::Decimal,
            Scalar::Bytes(_) => Self::Bytes,
            Scalar::Reference(_) | Scalar::Null | Scalar::Blob(_) => return None,
        })
    }

    /// Returns the name that schemas use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::String => "string",
            Self::Timestamp => "timestamp",
            Self::Decimal => "decimal",
            Self::Bytes => "bytes",
        }
    }

    const ALL: [Self; 7] = [Self::Bool, Self::Int, Self::Float, Self::String, Self::Timestamp, Self::Decimal, Self::Bytes];

    /// Returns the type that schemas call `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.name() == name)
    }

    pub(super) fn from_tag(tag: u8) -> Result<Self, Codec> {
        Self::ALL.into_iter().find(|ty| *ty as u8 == tag).ok_or(Codec::Unknown { what: "scalar type", tag: tag.into() })
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar(ty) => f.write_str(ty.name()),
            Self::Set(of) => write!(f, "set of {of}"),
            Self::Map(of) => write!(f, "map of {of}"),
            Self::List(of) => write!(f, "list of {of}"),
            Self::Text => f.write_str("text"),
            Self::Counter => f.write_str("counter"),
            Self::Reference(_) => f.write_str("reference"),
            Self::Blob => f.write_str("blob"),
            Self::Erasable(ty) => write!(f, "erasable {}", ty.name()),
            Self::Optional(of) => write!(f, "optional {of}"),
            Self::Union(types) => {
                let names: Vec<_> = types.iter().map(ToString::to_string).collect();
                f.write_str(&names.join(" or "))
            }
            Self::Atomic(of) => write!(f, "whole {of}"),
        }
    }
}

/// Returns what kind of value it is, for messages.
pub(super) const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Scalar(Scalar::Reference(_)) => "reference",
        Value::Scalar(Scalar::Null) => "nothing",
        Value::Scalar(Scalar::Blob(_)) => "blob",
        Value::Scalar(scalar) => match ScalarType::of(scalar) {
            Some(ty) => ty.name(),
            None => "nothing",
        },
        Value::Set(_) => "a set with an element of another type",
        Value::Map(_) => "a map with a value of another type",
        Value::List(_) => "a list with an item of another type",
    }
}
