//! JSON forms for people and programs: schemas, migrations, documents. Never hashed, never stored.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value as Json};

use crate::{
    document::View,
    migration::Step,
    schema::{
        Clears, Collection, CollectionId, Deletes, Error as SchemaError, Field, FieldId, FieldType, MERGE_RULES, Policy, ResolverName,
        ScalarType, Schema,
    },
    value::{Float, Key, Scalar, Value},
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
    /// What comes of a document that one deletes while another edits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deletes: Option<String>,
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
    /// What a clear takes away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clears: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    default: Option<Json>,
}

/// Reads a schema. Numbers may be left out: collections and fields are then numbered in order.
///
/// # Errors
/// [`Error`] with the place that is wrong.
pub fn schema_from_json(text: &str) -> Result<Schema, Error> {
    let form: SchemaForm = parse(text, "schema")?;
    let id_of = |at: usize, form: &CollectionForm| CollectionId(form.id.unwrap_or(u16::try_from(at + 1).unwrap_or(u16::MAX)));
    let ids: BTreeMap<_, _> = form.collections.iter().enumerate().map(|(at, (name, form))| (name.clone(), id_of(at, form))).collect();
    let mut collections = Vec::new();
    for (name, form) in form.collections {
        let mut fields = form.fields.into_iter().enumerate().map(|(at, form)| field(at, form, &ids)).collect::<Result<Vec<_>, _>>()?;
        fields.sort_by_key(|field| field.id);
        let next_field = form.next_field.unwrap_or_else(|| next_after(&fields));
        let deletes = form.deletes.as_deref().map_or(Ok(Deletes::EditWins), deletes_from_name)?;
        collections.push(Collection { id: ids[&name], name: name.into(), fields, next_field, deletes });
    }
    collections.sort_by_key(|collection| collection.id);
    let mut schema = Schema { version: form.version, merge_rules: MERGE_RULES, collections };
    schema.add_blobs();
    schema.validate()?;
    Ok(schema)
}

/// Returns the JSON form of a schema, numbers included.
pub fn schema_to_json(schema: &Schema) -> Json {
    let collections = schema.collections.iter().map(|collection| {
        let fields = collection.fields.iter().map(|field| FieldForm {
            name: field.name.to_string(),
            id: Some(field.id.0),
            ty: type_name(&field.ty, schema),
            policy: Some(policy_name(field.policy)),
            clears: (field.clears == Clears::Earlier).then(|| EARLIER.to_owned()),
            default: field.default.as_ref().map(scalar_to_json),
        });
        let next_field = (collection.next_field != next_after(&collection.fields)).then_some(collection.next_field);
        let deletes = (collection.deletes != Deletes::EditWins).then(|| deletes_name(collection.deletes).to_owned());
        (collection.name.to_string(), CollectionForm { id: Some(collection.id.0), next_field, deletes, fields: fields.collect() })
    });
    let form = SchemaForm { version: schema.version, collections: collections.collect() };
    serde_json::to_value(form).expect("forms have text keys only")
}

fn next_after(fields: &[Field]) -> u16 {
    fields.last().map_or(1, |field| field.id.0.saturating_add(1))
}

/// Numbers of the collections that a type may refer to, by name.
type Ids = BTreeMap<String, CollectionId>;

fn field(at: usize, form: FieldForm, ids: &Ids) -> Result<Field, Error> {
    let ty = type_from_name(&form.ty, ids)?;
    let policy = match &form.policy {
        Some(name) => policy_from_name(name)?,
        None => Policy::natural(&ty),
    };
    let clears = match form.clears.as_deref() {
        None | Some(SEEN) => Clears::Seen,
        Some(EARLIER) => Clears::Earlier,
        Some(name) => return Err(Error::UnknownName { name: name.to_owned(), what: "rule of clears", known: "seen, earlier" }),
    };
    let id = FieldId(form.id.unwrap_or(u16::try_from(at + 1).unwrap_or(u16::MAX)));
    let mut field = Field { id, name: form.name.into(), ty, policy, clears, default: None };
    field.default = form.default.map(|json| default_from_json(&field, &json)).transpose()?;
    Ok(field)
}

fn default_from_json(field: &Field, json: &Json) -> Result<Scalar, Error> {
    match value_from_json(field, json)? {
        Some(Value::Scalar(scalar)) => Ok(scalar),
        _ => Err(wrong_type(field, json).into()),
    }
}

const SEEN: &str = "seen";
const EARLIER: &str = "earlier";

/// Returns the name of what comes of a delete against an edit, as a schema's JSON says it.
pub const fn deletes_name(deletes: Deletes) -> &'static str {
    match deletes {
        Deletes::EditWins => "edit-wins",
        Deletes::DeleteWins => "delete-wins",
        Deletes::Conflict => "conflict",
    }
}

fn deletes_from_name(name: &str) -> Result<Deletes, Error> {
    [Deletes::EditWins, Deletes::DeleteWins, Deletes::Conflict]
        .into_iter()
        .find(|rule| deletes_name(*rule) == name)
        .ok_or_else(|| Error::UnknownName { name: name.to_owned(), what: "rule of deletes", known: "edit-wins, delete-wins, conflict" })
}

fn type_name(ty: &FieldType, schema: &Schema) -> String {
    let inner = |of: &FieldType| type_name(of, schema);
    match ty {
        FieldType::Scalar(ty) => ty.name().to_owned(),
        FieldType::Set(of) => format!("set<{}>", inner(of)),
        FieldType::Map(of) => format!("map<{}>", inner(of)),
        FieldType::List(of) => format!("list<{}>", inner(of)),
        FieldType::Text => "text".to_owned(),
        FieldType::Counter => "counter".to_owned(),
        FieldType::Blob => "blob".to_owned(),
        FieldType::Erasable(ty) => format!("erasable<{}>", ty.name()),
        FieldType::Reference(id) => {
            let name = schema.by_id(*id).map_or_else(|_| format!("#{}", id.0), |collection| collection.name.to_string());
            format!("reference<{name}>")
        }
        FieldType::Optional(of) => format!("optional<{}>", inner(of)),
        FieldType::Union(types) => types.iter().map(inner).collect::<Vec<_>>().join("|"),
        FieldType::Atomic(of) => format!("atomic<{}>", inner(of)),
    }
}

fn type_from_name(name: &str, ids: &Ids) -> Result<FieldType, Error> {
    type_within(name, ids, crate::schema::MAX_DEPTH).ok_or_else(|| Error::UnknownName {
        name: name.to_owned(),
        what: "type",
        known: "bool, int, float, decimal, string, bytes, timestamp, text, counter, blob, set<…>, map<…>, list<…>, reference<COLLECTION>, erasable<…>, \
                optional<…>, atomic<…>, and alternatives parted by |",
    })
}

fn type_within(name: &str, ids: &Ids, depth: usize) -> Option<FieldType> {
    let below = depth.checked_sub(1)?;
    let mut open = 0usize;
    let alternatives: Vec<&str> = name
        .split(|letter| {
            open = match letter {
                '<' => open + 1,
                '>' => open.saturating_sub(1),
                _ => open,
            };
            letter == '|' && open == 0
        })
        .collect();
    if alternatives.len() > 1 {
        return Some(FieldType::Union(alternatives.into_iter().map(|name| type_within(name, ids, below)).collect::<Option<_>>()?));
    }
    let Some((kind, of)) = name.strip_suffix('>').and_then(|name| name.split_once('<')) else {
        return match name {
            "text" => Some(FieldType::Text),
            "counter" => Some(FieldType::Counter),
            "blob" => Some(FieldType::Blob),
            name => ScalarType::from_name(name).map(FieldType::Scalar),
        };
    };
    if kind == "erasable" {
        return ScalarType::from_name(of).map(FieldType::Erasable);
    }
    if kind == "reference" {
        let number = || of.strip_prefix('#')?.parse().ok().map(CollectionId);
        return ids.get(of).copied().or_else(number).map(FieldType::Reference);
    }
    let of = Arc::new(type_within(of, ids, below)?);
    Some(match kind {
        "set" => FieldType::Set(of),
        "map" => FieldType::Map(of),
        "list" => FieldType::List(of),
        "optional" => FieldType::Optional(of),
        "atomic" => FieldType::Atomic(of),
        _ => return None,
    })
}

/// Returns the name that schemas give a policy.
pub fn policy_name(policy: Policy) -> String {
    match policy {
        Policy::LastWriter => "last-writer",
        Policy::Strict => "strict",
        Policy::AddWins => "add-wins",
        Policy::KeyWise => "key-wise",
        Policy::Max => "max",
        Policy::Min => "min",
        Policy::Counter => "counter",
        Policy::Text => "text",
        Policy::ElementWise => "element-wise",
        Policy::Custom(name) => return format!("{CUSTOM}{}", name.as_str()),
    }
    .to_owned()
}

const CUSTOM: &str = "custom:";

const POLICIES: [Policy; 9] = [
    Policy::LastWriter,
    Policy::Strict,
    Policy::AddWins,
    Policy::KeyWise,
    Policy::Max,
    Policy::Min,
    Policy::Counter,
    Policy::Text,
    Policy::ElementWise,
];

fn policy_from_name(name: &str) -> Result<Policy, Error> {
    let custom = || name.strip_prefix(CUSTOM).and_then(ResolverName::new).map(Policy::Custom);
    POLICIES.into_iter().find(|policy| policy_name(*policy) == name).or_else(custom).ok_or_else(|| Error::UnknownName {
        name: name.to_owned(),
        what: "policy",
        known: "last-writer, strict, max, min, custom:NAME, add-wins (sets), key-wise (maps), element-wise (lists), text, counter",
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

/// Reads the steps of a migration: a list of `{"add": …}`, `{"rename": …}`, `{"drop": …}`. References name their collection by number there,
/// as in `reference<#1>`.
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
            let form = FieldForm { name: field.clone(), id: Some(1), ty, policy, clears: None, default };
            let Field { ty, policy, default, .. } = self::field(0, form, &Ids::new())?;
            Step::Add { collection, field, ty, policy, default }
        }
        StepForm::Rename { collection, from, to } => Step::Rename { collection, from, to },
        StepForm::Drop { collection, field } => Step::Drop { collection, field },
    })
}

/// Returns the JSON form of a scalar: timestamps as microseconds, decimals and floats that JSON lacks as text, bytes in hex, blobs as
/// `ROOT:LENGTH`.
pub fn scalar_to_json(scalar: &Scalar) -> Json {
    match scalar {
        Scalar::Bool(value) => Json::Bool(*value),
        Scalar::Int(value) | Scalar::Timestamp(value) => Json::from(*value),
        Scalar::Float(value) => Number::from_f64(value.get()).map_or_else(|| Json::String(value.get().to_string()), Json::Number),
        Scalar::String(value) => Json::String(value.to_string()),
        Scalar::Decimal(value) => Json::String(value.to_string()),
        Scalar::Bytes(bytes) => Json::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        Scalar::Reference(key) => Json::String(key.to_string()),
        Scalar::Null => Json::Null,
        Scalar::Blob(blob) => Json::String(blob.to_string()),
    }
}

/// Returns the JSON form of a value: a set as a list in order, a map as an object.
pub fn value_to_json(value: &Value) -> Json {
    match value {
        Value::Scalar(scalar) => scalar_to_json(scalar),
        Value::Set(elements) => elements.iter().map(value_to_json).collect(),
        Value::List(items) => items.iter().map(value_to_json).collect(),
        Value::Map(entries) => Json::Object(entries.iter().map(|(key, value)| (key.to_string(), value_to_json(value))).collect()),
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

/// Reads the value of one field; `None` for `null` and for an empty set, map, list or text.
///
/// # Errors
/// [`SchemaError::WrongType`].
pub fn value_from_json(field: &Field, json: &Json) -> Result<Option<Value>, SchemaError> {
    if json.is_null() {
        return Ok(None);
    }
    let value = value_as(&field.ty, json).ok_or_else(|| wrong_type(field, json))?;
    Ok((!value.is_empty()).then_some(value))
}

/// Reads a value of type `ty`; `None` if the JSON is of another.
pub fn value_as(ty: &FieldType, json: &Json) -> Option<Value> {
    Some(match (ty, json) {
        (FieldType::Scalar(ty) | FieldType::Erasable(ty), json) => Value::Scalar(scalar_from_json(*ty, json)?),
        (FieldType::Text, Json::String(text)) => Value::from(text.as_str()),
        (FieldType::Counter, Json::Number(number)) => Value::from(number.as_i64()?),
        (FieldType::Reference(_), Json::String(key)) => Value::Scalar(Scalar::Reference(Key::new(key.as_str()).ok()?)),
        (FieldType::Blob, Json::String(text)) => Value::Scalar(Scalar::Blob(text.parse().ok()?)),
        (FieldType::Set(of), Json::Array(items)) => Value::Set(items.iter().map(|item| value_as(of, item)).collect::<Option<_>>()?),
        (FieldType::List(of), Json::Array(items)) => Value::List(items.iter().map(|item| value_as(of, item)).collect::<Option<_>>()?),
        (FieldType::Map(of), Json::Object(object)) => {
            let entry = |(key, item): (&String, &Json)| Some((Arc::from(key.as_str()), value_as(of, item)?));
            Value::Map(object.iter().map(entry).collect::<Option<_>>()?)
        }
        (FieldType::Optional(_), Json::Null) => Value::Scalar(Scalar::Null),
        (FieldType::Optional(of) | FieldType::Atomic(of), json) => value_as(of, json)?,
        (FieldType::Union(types), json) => {
            let plain = |ty: &&FieldType| !(**ty == FieldType::Scalar(ScalarType::Float) && json_is_whole(json));
            // A float takes any number; where whole ones have a type of their own, that comes first.
            types.iter().filter(plain).chain(types.iter()).find_map(|ty| value_as(ty, json))?
        }
        _ => return None,
    })
}

fn json_is_whole(json: &Json) -> bool {
    json.is_i64() || json.is_string()
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
        (ScalarType::Decimal, Json::String(text)) => Scalar::Decimal(text.parse().ok()?),
        (ScalarType::Decimal, Json::Number(number)) => Scalar::Decimal(number.to_string().parse().ok()?),
        (ScalarType::Bytes, Json::String(text)) => Scalar::Bytes(bytes_from_hex(text)?),
        _ => return None,
    })
}

fn bytes_from_hex(text: &str) -> Option<Arc<[u8]>> {
    let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let byte = |pair: &[u32]| u8::try_from(pair.first()? << 4 | pair.get(1)?).ok();
    digits.chunks(2).map(byte).collect()
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
