//! Values and times.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdbook_model::{
    time::Time,
    value::{Float, Scalar, Value},
};

use super::{Result, required};
use crate::{Fault, Malformed, v1};

impl TryFrom<v1::Scalar> for Scalar {
    type Error = Malformed;

    fn try_from(scalar: v1::Scalar) -> Result<Self> {
        use v1::scalar::Kind;
        let v1::Scalar { kind } = scalar;
        Ok(match required("kind", kind)? {
            Kind::BoolValue(value) => Self::Bool(value),
            Kind::IntValue(value) => Self::Int(value),
            Kind::FloatValue(value) => Self::Float(Float::new(value)),
            Kind::StringValue(value) => Self::String(value.into()),
            Kind::TimestampValue(value) => Self::Timestamp(value),
        })
    }
}

impl From<Scalar> for v1::Scalar {
    fn from(scalar: Scalar) -> Self {
        use v1::scalar::Kind;
        let kind = match scalar {
            Scalar::Bool(value) => Kind::BoolValue(value),
            Scalar::Int(value) => Kind::IntValue(value),
            Scalar::Float(value) => Kind::FloatValue(value.get()),
            Scalar::String(value) => Kind::StringValue(value.as_ref().to_owned()),
            Scalar::Timestamp(value) => Kind::TimestampValue(value),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::Value> for Value {
    type Error = Malformed;

    fn try_from(value: v1::Value) -> Result<Self> {
        use v1::value::Kind;
        let v1::Value { kind } = value;
        Ok(Self::Scalar(match required("kind", kind)? {
            Kind::BoolValue(value) => Scalar::Bool(value),
            Kind::IntValue(value) => Scalar::Int(value),
            Kind::FloatValue(value) => Scalar::Float(Float::new(value)),
            Kind::StringValue(value) => Scalar::String(value.into()),
            Kind::TimestampValue(value) => Scalar::Timestamp(value),
            Kind::SetValue(v1::ScalarSet { elements }) => return Ok(Self::Set(scalars("elements", elements)?)),
            Kind::MapValue(v1::ScalarMap { entries }) => return Ok(Self::Map(entries_of("entries", entries)?)),
        }))
    }
}

impl From<Value> for v1::Value {
    fn from(value: Value) -> Self {
        use v1::value::Kind;
        let kind = match value {
            Value::Scalar(Scalar::Bool(value)) => Kind::BoolValue(value),
            Value::Scalar(Scalar::Int(value)) => Kind::IntValue(value),
            Value::Scalar(Scalar::Float(value)) => Kind::FloatValue(value.get()),
            Value::Scalar(Scalar::String(value)) => Kind::StringValue(value.as_ref().to_owned()),
            Value::Scalar(Scalar::Timestamp(value)) => Kind::TimestampValue(value),
            Value::Set(elements) => Kind::SetValue(v1::ScalarSet { elements: super::all(elements) }),
            Value::Map(entries) => Kind::MapValue(v1::ScalarMap { entries: entries_from(entries) }),
        };
        Self { kind: Some(kind) }
    }
}

/// Reads scalars in any order, repeated or not.
pub(super) fn scalars(field: &str, list: Vec<v1::Scalar>) -> Result<BTreeSet<Scalar>> {
    Ok(super::each::<_, Scalar>(field, list)?.into_iter().collect())
}

/// Reads entries of a map.
pub(super) fn entries_of(field: &str, entries: BTreeMap<String, v1::Scalar>) -> Result<BTreeMap<Arc<str>, Scalar>> {
    let entry = |(name, scalar): (String, v1::Scalar)| match Scalar::try_from(scalar) {
        Ok(scalar) => Ok((Arc::from(name), scalar)),
        Err(error) => Err(error.within(format_args!("{field}.{name}"))),
    };
    entries.into_iter().map(entry).collect()
}

/// Returns entries of a map as they travel.
pub(super) fn entries_from(entries: impl IntoIterator<Item = (Arc<str>, Scalar)>) -> BTreeMap<String, v1::Scalar> {
    entries.into_iter().map(|(name, scalar)| (name.to_string(), scalar.into())).collect()
}

/// Reads names of fields and their values, in order of their names.
pub(super) fn fields_of<C: FromIterator<(Arc<str>, Value)>>(field: &str, values: BTreeMap<String, v1::Value>) -> Result<C> {
    let value = |(name, value): (String, v1::Value)| match Value::try_from(value) {
        Ok(value) => Ok((Arc::from(name), value)),
        Err(error) => Err(error.within(format_args!("{field}.{name}"))),
    };
    values.into_iter().map(value).collect()
}

/// Returns names of fields and their values as they travel.
pub(super) fn fields_from(values: impl IntoIterator<Item = (Arc<str>, Value)>) -> BTreeMap<String, v1::Value> {
    values.into_iter().map(|(name, value)| (name.to_string(), value.into())).collect()
}

impl TryFrom<v1::Time> for Time {
    type Error = Malformed;

    fn try_from(time: v1::Time) -> Result<Self> {
        const LAST_MILLI: u64 = herdbook_model::time::MAX.millis();
        let v1::Time { unix_millis, counter } = time;
        if unix_millis > LAST_MILLI {
            return Err(Malformed::new("unix_millis", Fault::AboveLimit { actual: unix_millis, limit: LAST_MILLI }));
        }
        let Ok(counter) = u16::try_from(counter) else {
            return Err(Malformed::new("counter", Fault::AboveLimit { actual: counter.into(), limit: u16::MAX.into() }));
        };
        Ok(Self::from_raw(unix_millis << 16 | u64::from(counter)))
    }
}

impl From<Time> for v1::Time {
    fn from(time: Time) -> Self {
        Self { unix_millis: time.millis(), counter: u32::try_from(time.raw() & 0xffff).expect("16 bits fit") }
    }
}
