//! JSON forms for people and programs: schemas, migrations, documents. Never hashed, never stored.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value as Json};

use crate::{
    document::View,
    migration::Step,
    schema::{Collection, CollectionId, Error as SchemaError, Field, FieldId, FieldType, MERGE_RULES, Policy, ScalarType, Schema},
    value::{Float, Scalar, Value},
};

/// What can be wrong with a JSON form.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not JSON of this shape.
    #[error("not valid JSON of a {what}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// The parser's word.
        #[source]
        source: serde_json::Error,
    },
    /// A type or policy that does not exist.
    #[error("`{name}` is no {what}; known are {known}")]
    UnknownName {
        /// The name.
        name: String,
        /// Type or policy.
        what: &'static str,
        /// What there is.
        known: &'static str,
    },
    /// It breaks a rule of schemas.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A document is not a JSON object.
    #[error("a document is a JSON object, this is {found}")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaForm {
    version: u32,
    collections: BTreeMap<String, CollectionForm>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectionForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u16>,
    /// Lowest field number never used, where fields above all that are left were dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_field: Option<u16>,
    fields: Vec<FieldForm>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldForm {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u16>,
    #[serde(rename = "type")]
    ty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<Json>,
}

/// Reads a schema. Numbers may be left out: collections and fields are then numbered in order.
///
/// # Errors
/// [`Error`] with the place that is wrong.
pub fn schema_from_json(text: &str) -> Result<Schema, Error> {
    let form: SchemaForm = parse(text, "schema")?;
    let mut collections = Vec::new();
    for (at, (name, form)) in form.collections.into_iter().enumerate() {
        let id = CollectionId(form.id.unwrap_or(u16::try_from(at + 1).unwrap_or(u16::MAX)));
        let mut fields = form.fields.into_iter().enumerate().map(|(at, form)| field(at, form)).collect::<Result<Vec<_>, _>>()?;
        fields.sort_by_key(|field| field.id);
        let next_field = form.next_field.unwrap_or_else(|| next_after(&fields));
        collections.push(Collection { id, name: name.into(), fields, next_field });
    }
    collections.sort_by_key(|collection| collection.id);
    let schema = Schema { version: form.version, merge_rules: MERGE_RULES, collections };
    schema.validate()?;
    Ok(schema)
}

/// Returns the JSON form of a schema, numbers included.
pub fn schema_to_json(schema: &Schema) -> Json {
    let collections = schema.collections.iter().map(|collection| {
        let fields = collection.fields.iter().map(|field| FieldForm {
            name: field.name.to_string(),
            id: Some(field.id.0),
            ty: type_name(field.ty),
            policy: Some(policy_name(field.policy).to_owned()),
            default: field.default.as_ref().map(scalar_to_json),
        });
        let next_field = (collection.next_field != next_after(&collection.fields)).then_some(collection.next_field);
        (collection.name.to_string(), CollectionForm { id: Some(collection.id.0), next_field, fields: fields.collect() })
    });
    let form = SchemaForm { version: schema.version, collections: collections.collect() };
    serde_json::to_value(form).expect("forms have text keys only")
}

fn next_after(fields: &[Field]) -> u16 {
    fields.last().map_or(1, |field| field.id.0.saturating_add(1))
}

fn field(at: usize, form: FieldForm) -> Result<Field, Error> {
    let ty = type_from_name(&form.ty)?;
    let policy = match &form.policy {
        Some(name) => policy_from_name(name)?,
        None => default_policy(ty),
    };
    let id = FieldId(form.id.unwrap_or(u16::try_from(at + 1).unwrap_or(u16::MAX)));
    let mut field = Field { id, name: form.name.into(), ty, policy, default: None };
    field.default = form.default.map(|json| default_from_json(&field, &json)).transpose()?;
    Ok(field)
}

fn default_from_json(field: &Field, json: &Json) -> Result<Scalar, Error> {
    match value_from_json(field, json)? {
        Some(Value::Scalar(scalar)) => Ok(scalar),
        _ => Err(wrong_type(field, json).into()),
    }
}

const fn default_policy(ty: FieldType) -> Policy {
    match ty {
        FieldType::Scalar(_) => Policy::LastWriter,
        FieldType::Set(_) => Policy::AddWins,
        FieldType::Map(_) => Policy::KeyWise,
    }
}

fn type_name(ty: FieldType) -> String {
    match ty {
        FieldType::Scalar(ty) => ty.name().to_owned(),
        FieldType::Set(ty) => format!("set<{}>", ty.name()),
        FieldType::Map(ty) => format!("map<{}>", ty.name()),
    }
}

fn type_from_name(name: &str) -> Result<FieldType, Error> {
    let inner = |prefix| name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>')).and_then(ScalarType::from_name);
    let scalar = ScalarType::from_name(name).map(FieldType::Scalar);
    scalar.or_else(|| inner("set<").map(FieldType::Set)).or_else(|| inner("map<").map(FieldType::Map)).ok_or_else(|| Error::UnknownName {
        name: name.to_owned(),
        what: "type",
        known: "bool, int, float, string, timestamp, set<…>, map<…>",
    })
}

/// Returns the name that schemas give a policy.
pub const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::LastWriter => "last-writer",
        Policy::Strict => "strict",
        Policy::AddWins => "add-wins",
        Policy::KeyWise => "key-wise",
    }
}

fn policy_from_name(name: &str) -> Result<Policy, Error> {
    [Policy::LastWriter, Policy::Strict, Policy::AddWins, Policy::KeyWise]
        .into_iter()
        .find(|policy| policy_name(*policy) == name)
        .ok_or_else(|| Error::UnknownName {
            name: name.to_owned(),
            what: "policy",
            known: "last-writer, strict, add-wins (sets), key-wise (maps)",
        })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum StepForm {
    Add {
        collection: String,
        field: String,
        #[serde(rename = "type")]
        ty: String,
        policy: Option<String>,
        default: Option<Json>,
    },
    Rename {
        collection: String,
        from: String,
        to: String,
    },
    Drop {
        collection: String,
        field: String,
    },
}

/// Reads the steps of a migration: a list of `{"add": …}`, `{"rename": …}`, `{"drop": …}`.
///
/// # Errors
/// [`Error`] with the place that is wrong.
pub fn steps_from_json(text: &str) -> Result<Vec<Step>, Error> {
    let forms: Vec<StepForm> = parse(text, "list of migration steps")?;
    forms.into_iter().map(step).collect()
}

fn step(form: StepForm) -> Result<Step, Error> {
    Ok(match form {
        StepForm::Add { collection, field, ty, policy, default } => {
            let form = FieldForm { name: field.clone(), id: Some(1), ty, policy, default };
            let Field { ty, policy, default, .. } = self::field(0, form)?;
            Step::Add { collection, field, ty, policy, default }
        }
        StepForm::Rename { collection, from, to } => Step::Rename { collection, from, to },
        StepForm::Drop { collection, field } => Step::Drop { collection, field },
    })
}

/// Returns the JSON form of a scalar: timestamps as microseconds, floats that JSON lacks as text.
pub fn scalar_to_json(scalar: &Scalar) -> Json {
    match scalar {
        Scalar::Bool(value) => Json::Bool(*value),
        Scalar::Int(value) | Scalar::Timestamp(value) => Json::from(*value),
        Scalar::Float(value) => Number::from_f64(value.get()).map_or_else(|| Json::String(value.get().to_string()), Json::Number),
        Scalar::String(value) => Json::String(value.to_string()),
    }
}

/// Returns the JSON form of a value: a set as a list in order, a map as an object.
pub fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Scalar(scalar) => scalar_to_json(scalar),
        Value::Set(elements) => elements.iter().map(scalar_to_json).collect(),
        Value::Map(entries) => Json::Object(entries.iter().map(|(key, value)| (key.to_string(), scalar_to_json(value))).collect()),
    }
}

/// Returns the JSON object of a document as a reader sees it.
pub fn view_to_json(view: &View) -> Map<String, Json> {
    view.fields.iter().map(|(name, value)| (name.to_string(), value_to_json(value))).collect()
}

/// Reads a document's fields. `null` means the field is absent.
///
/// # Errors
/// [`SchemaError`] with the first field that the collection lacks or that has another type.
pub fn fields_from_json(collection: &Collection, json: &Json) -> Result<Vec<(FieldId, Option<Value>)>, Error> {
    let Json::Object(object) = json else { return Err(Error::NotAnObject { found: json_type(json) }) };
    let mut fields = Vec::with_capacity(object.len());
    for (name, json) in object {
        let field = collection.field(name)?;
        fields.push((field.id, value_from_json(field, json)?));
    }
    fields.sort_by_key(|(id, _)| *id);
    Ok(fields)
}

/// Reads the value of one field; `None` for `null` and for an empty set or map.
///
/// # Errors
/// [`SchemaError::WrongType`].
pub fn value_from_json(field: &Field, json: &Json) -> Result<Option<Value>, SchemaError> {
    let wrong = || wrong_type(field, json);
    Ok(match (field.ty, json) {
        (_, Json::Null) => None,
        (FieldType::Scalar(ty), json) => Some(Value::Scalar(scalar_from_json(ty, json).ok_or_else(wrong)?)),
        (FieldType::Set(ty), Json::Array(items)) => {
            let elements = items.iter().map(|item| scalar_from_json(ty, item)).collect::<Option<BTreeSet<_>>>().ok_or_else(wrong)?;
            (!elements.is_empty()).then_some(Value::Set(elements))
        }
        (FieldType::Map(ty), Json::Object(object)) => {
            let entry = |(key, item): (&String, &Json)| Some((Arc::from(key.as_str()), scalar_from_json(ty, item)?));
            let entries = object.iter().map(entry).collect::<Option<BTreeMap<_, _>>>().ok_or_else(wrong)?;
            (!entries.is_empty()).then_some(Value::Map(entries))
        }
        _ => return Err(wrong()),
    })
}

/// Reads a scalar of type `ty`; `None` if the JSON is of another.
pub fn scalar_from_json(ty: ScalarType, json: &Json) -> Option<Scalar> {
    Some(match (ty, json) {
        (ScalarType::Bool, Json::Bool(value)) => Scalar::Bool(*value),
        (ScalarType::Int, Json::Number(number)) => Scalar::Int(number.as_i64()?),
        (ScalarType::Timestamp, Json::Number(number)) => Scalar::Timestamp(number.as_i64()?),
        (ScalarType::Float, Json::Number(number)) => Scalar::Float(Float::new(number.as_f64()?)),
        (ScalarType::Float, Json::String(text)) if ["NaN", "inf", "-inf"].contains(&text.as_str()) => {
            Scalar::Float(Float::new(text.parse().ok()?))
        }
        (ScalarType::String, Json::String(text)) => Scalar::from(text.as_str()),
        _ => return None,
    })
}

fn wrong_type(field: &Field, json: &Json) -> SchemaError {
    SchemaError::WrongType { field: field.name.to_string(), expected: field.ty.to_string(), found: format!("{} {json}", json_type(json)) }
}

const fn json_type(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, what: &'static str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|source| Error::Malformed { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{migration::migrate, testutil};

    #[test]
    fn schemas_round_trip_and_never_give_a_dropped_number_again() {
        let drop = Step::Drop { collection: "animals".to_owned(), field: "pens".to_owned() };
        for schema in [testutil::schema(), testutil::workload::schema(), migrate(&testutil::schema(), &[drop]).expect("there")] {
            let text = schema_to_json(&schema).to_string();
            assert_eq!(schema_from_json(&text).expect("its own form"), schema, "{text}");
        }
    }

    #[test]
    fn documents_round_trip() {
        let schema = testutil::schema();
        let animals = schema.by_id(testutil::ANIMALS).expect("there");
        let text = serde_json::json!({"born": 5, "legs": 3, "name": "Alma", "owner": "ada", "pens": [1, 2], "sold": true, "weight": 1.5, "yields": {"may": 7}});
        let fields = fields_from_json(animals, &text).expect("it fits");
        let back: Map<String, Json> = fields
            .iter()
            .map(|(id, value)| (animals.by_id(*id).expect("there").name.to_string(), value_to_json(value.as_ref().expect("no null"))))
            .collect();
        assert_eq!(Json::Object(back), text);
    }
}
