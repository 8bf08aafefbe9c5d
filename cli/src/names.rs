//! Documents and fields as people write them: `collection/key`, `collection/prefix`, `field=value`.

use std::{str::FromStr, sync::Arc};

use herdbook_model::{
    json::value_as,
    schema::{Field, FieldType, ScalarType, is_name},
    value::{Key, Scalar, Value},
};
use herdbook_proto::document::Name;
use serde_json::Value as Json;

use crate::{errors::Error, moment};

/// A document, as on the command line: `collection/key`. A key may hold slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DocumentName(pub(crate) Name);

impl FromStr for DocumentName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (collection, key) = text.split_once('/').ok_or("write COLLECTION/KEY, as in cities/2950159")?;
        let collection = collection_name(collection)?;
        let key = Key::new(key).map_err(|error| error.to_string())?;
        Ok(Self(Name { collection, key }))
    }
}

/// Documents whose keys begin alike, as on the command line: `collection` or `collection/prefix`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The collection.
    pub(crate) collection: Arc<str>,
    /// What keys begin with.
    pub(crate) prefix: String,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (collection, prefix) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self { collection: collection_name(collection)?, prefix: prefix.to_owned() })
    }
}

fn collection_name(text: &str) -> Result<Arc<str>, String> {
    if is_name(text) { Ok(text.into()) } else { Err(format!("`{text}` cannot be the name of a collection")) }
}

/// A field and what is said about it, as on the command line: `field=text`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Assignment {
    /// The field.
    pub(crate) field: String,
    /// What stands after the first `=`.
    pub(crate) text: String,
}

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, text) = text.split_once('=').ok_or("write FIELD=VALUE, as in population=3700000")?;
        if !is_name(field) {
            return Err(format!("`{field}` cannot be the name of a field"));
        }
        Ok(Self { field: field.to_owned(), text: text.to_owned() })
    }
}

/// Returns the value of type `ty` that `text` writes for `field`: JSON; a text may go without quotes, a timestamp may be RFC 3339.
///
/// # Errors
/// [`Error::Argument`] with the type that is wanted.
pub(crate) fn value(argument: &str, field: &Field, ty: &FieldType, text: &str) -> Result<Value, Error> {
    let json = serde_json::from_str(text).ok().and_then(|json| value_as(ty, &json));
    let timestamp = || moment::parse_micros(text).map(|micros| Value::Scalar(Scalar::Timestamp(micros)));
    let plain = || match ty {
        FieldType::Scalar(ScalarType::Timestamp) => timestamp(),
        // What JSON writes in quotes may go without.
        ty => value_as(ty, &Json::String(text.to_owned())),
    };
    json.or_else(plain).ok_or_else(|| Error::argument(argument, format!("`{text}` is no {ty}, which field `{}` takes", field.name)))
}

/// Returns the value that `text` writes for an element or entry of `field`, or for the field itself if it has no parts.
///
/// # Errors
/// As [`value`].
pub(crate) fn element(argument: &str, field: &Field, text: &str) -> Result<Value, Error> {
    value(argument, field, field.ty.inner().unwrap_or(&field.ty), text)
}

#[cfg(test)]
mod tests {
    use herdbook_model::schema::{FieldId, Policy};

    use super::*;

    fn field(ty: FieldType) -> Field {
        let policy = Policy::natural(&ty);
        Field::new(FieldId(1), "field", ty, policy)
    }

    #[test]
    fn keys_may_hold_slashes_and_must_not_be_empty() {
        let DocumentName(name) = "files/a/b".parse().expect("well formed");
        assert_eq!((&*name.collection, name.key.as_str()), ("files", "a/b"));
        for bad in ["cities", "cities/", "/1", "1st/2"] {
            assert!(bad.parse::<DocumentName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn texts_go_without_quotes_and_numbers_do_not_become_texts() {
        let text = field(FieldType::Scalar(ScalarType::String));
        for (written, read) in [("Berlin", "Berlin"), ("12", "12"), ("\"12\"", "12"), ("", "")] {
            assert_eq!(element("--set", &text, written).expect("any text fits"), Value::from(read));
        }
        let number = field(FieldType::set(ScalarType::Int));
        assert_eq!(element("--add", &number, "12").expect("a number"), Value::from(12));
        assert!(element("--add", &number, "twelve").expect_err("no number").to_string().contains("takes"));
        let time = field(FieldType::Scalar(ScalarType::Timestamp));
        assert_eq!(element("--set", &time, "1970-01-01T00:00:01Z").expect("a time"), Value::Scalar(Scalar::Timestamp(1_000_000)));
    }
}
