//! Documents and fields as people write them: `collection/key`, `collection/prefix`, `field=value`.

use std::{str::FromStr, sync::Arc};

use herdbook_model::{
    json::scalar_from_json,
    schema::{Field, FieldType, ScalarType, is_name},
    value::{Key, Scalar},
};
use herdbook_proto::document::Name;

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

/// Returns the scalar that `text` writes for `field`: JSON; a text may go without quotes, a timestamp may be RFC 3339.
///
/// # Errors
/// [`Error::Argument`] with the type that is wanted.
pub(crate) fn scalar(argument: &str, field: &Field, text: &str) -> Result<Scalar, Error> {
    let (FieldType::Scalar(ty) | FieldType::Set(ty) | FieldType::Map(ty)) = field.ty;
    let json = serde_json::from_str(text).ok().and_then(|json| scalar_from_json(ty, &json));
    let plain = match ty {
        ScalarType::String => Some(Scalar::from(text)),
        ScalarType::Timestamp => moment::parse_micros(text).map(Scalar::Timestamp),
        _ => None,
    };
    json.or(plain).ok_or_else(|| Error::argument(argument, format!("`{text}` is no {}, which field `{}` takes", ty.name(), field.name)))
}

#[cfg(test)]
mod tests {
    use herdbook_model::schema::{FieldId, Policy};

    use super::*;

    fn field(ty: FieldType) -> Field {
        Field { id: FieldId(1), name: "field".into(), ty, policy: Policy::LastWriter, default: None }
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
            assert_eq!(scalar("--set", &text, written).expect("any text fits"), Scalar::from(read));
        }
        let number = field(FieldType::Set(ScalarType::Int));
        assert_eq!(scalar("--add", &number, "12").expect("a number"), Scalar::Int(12));
        assert!(scalar("--add", &number, "twelve").expect_err("no number").to_string().contains("takes"));
        let time = field(FieldType::Scalar(ScalarType::Timestamp));
        assert_eq!(scalar("--set", &time, "1970-01-01T00:00:01Z").expect("a time"), Scalar::Timestamp(1_000_000));
    }
}
