//! Values and times.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdbook_model::{
    blob::{Blob, MAX_LEN},
    time::Time,
    value::{Float, Scalar, Value},
};

use super::{Result, key, required};
use crate::{Fault, Malformed, v1};

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
            Kind::DecimalValue(text) => {
                Scalar::Decimal(text.parse().map_err(|source| Malformed::new("decimal_value", Fault::BadDecimal { source }))?)
            }
            Kind::BytesValue(bytes) => Scalar::Bytes(bytes.as_ref().into()),
            Kind::ReferenceValue(text) => Scalar::Reference(key("reference_value", text)?),
            Kind::NullValue(v1::NullValue {}) => Scalar::Null,
            Kind::BlobValue(blob) => Scalar::Blob(Blob::try_from(blob).map_err(|error| error.within("blob_value"))?),
            Kind::SetValue(v1::SetValue { elements }) => return Ok(Self::Set(elements_of("elements", elements)?)),
            Kind::MapValue(v1::MapValue { entries }) => return Ok(Self::Map(fields_of("entries", entries)?)),
            Kind::ListValue(v1::ListValue { items }) => return Ok(Self::List(super::each("items", items)?)),
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
            Value::Scalar(Scalar::Decimal(value)) => Kind::DecimalValue(value.to_string()),
            Value::Scalar(Scalar::Bytes(value)) => Kind::BytesValue(super::raw(&value)),
            Value::Scalar(Scalar::Reference(key)) => Kind::ReferenceValue(key.to_string()),
            Value::Scalar(Scalar::Null) => Kind::NullValue(v1::NullValue {}),
            Value::Scalar(Scalar::Blob(blob)) => Kind::BlobValue(blob.into()),
            Value::Set(elements) => Kind::SetValue(v1::SetValue { elements: super::all(elements) }),
            Value::Map(entries) => Kind::MapValue(v1::MapValue { entries: fields_from(entries) }),
            Value::List(items) => Kind::ListValue(v1::ListValue { items: super::all(items) }),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<v1::BlobValue> for Blob {
    type Error = Malformed;

    fn try_from(message: v1::BlobValue) -> Result<Self> {
        let v1::BlobValue { root, length } = message;
        if length > MAX_LEN {
            return Err(Malformed::new("length", Fault::AboveLimit { actual: length, limit: MAX_LEN }));
        }
        Ok(Self { root: super::id("root", &root)?, len: length })
    }
}

impl From<Blob> for v1::BlobValue {
    fn from(Blob { root, len }: Blob) -> Self {
        Self { root: super::raw(root.as_bytes()), length: len }
    }
}

/// Reads elements of a set in any order, repeated or not.
pub(super) fn elements_of(field: &str, list: Vec<v1::Value>) -> Result<BTreeSet<Value>> {
    Ok(super::each::<_, Value>(field, list)?.into_iter().collect())
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
