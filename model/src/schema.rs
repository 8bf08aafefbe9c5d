//! A schema: collections, their fields, and the policy by which concurrent edits of a field merge.
//!
//! Fields and collections are named by number in documents and edits; a rename therefore changes no document. Numbers are never used
//! twice: `next_field` remembers the highest ever given.

use std::{collections::HashSet, sync::Arc};

use crate::{
    codec::{Decode, Encode, Error as Codec, Reader, Writer},
    id::{Domain, SchemaId},
    value::{Scalar, Value},
};

/// The merge rules that this build executes.
pub const MERGE_RULES: u32 = 1;

/// Most collections a schema may have.
pub const MAX_COLLECTIONS: usize = 1024;

/// Most fields a collection may have.
pub const MAX_FIELDS: usize = 4096;

/// Number of a collection within its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionId(pub u16);

/// Number of a field within its collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u16);

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
}

/// Type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// One scalar.
    Scalar(ScalarType),
    /// A set of scalars of one type.
    Set(ScalarType),
    /// A map from text to scalars of one type.
    Map(ScalarType),
}

/// How concurrent edits of a field merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// The highest stamp is read; concurrent losers are kept until a write or clear saw them.
    LastWriter = 1,
    /// All concurrent values are kept as siblings; two distinct ones are a conflict.
    Strict = 2,
    /// An element is in the set while some add of it was seen by no remove.
    AddWins = 3,
    /// Key by key, each as last-writer.
    KeyWise = 4,
}

/// A field of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Number, unique in its collection for ever.
    pub id: FieldId,
    /// Name.
    pub name: Arc<str>,
    /// Type.
    pub ty: FieldType,
    /// Policy.
    pub policy: Policy,
    /// What a reader sees where the field is absent. Scalars only.
    pub default: Option<Scalar>,
}

/// A collection of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// Number, unique in its schema and its successors.
    pub id: CollectionId,
    /// Name.
    pub name: Arc<str>,
    /// Fields, by number.
    pub fields: Vec<Field>,
    /// Lowest field number never used.
    pub next_field: u16,
}

/// A schema: data in the repository, named by the hash of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Version, from 1.
    pub version: u32,
    /// Version of the merge rules under which its branch is replayed.
    pub merge_rules: u32,
    /// Collections, by number.
    pub collections: Vec<Collection>,
}

/// What can be wrong with a schema, or with a value held against one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No collection of that name.
    #[error("there is no collection `{name}`; the schema has {known}")]
    UnknownCollection {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No field of that name.
    #[error("collection `{collection}` has no field `{name}`; it has {known}")]
    UnknownField {
        /// The collection.
        collection: String,
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No collection of that number.
    #[error("the schema has no collection number {}", id.0)]
    UnknownCollectionId {
        /// The number.
        id: CollectionId,
    },
    /// No field of that number.
    #[error("collection `{collection}` has no field number {}", id.0)]
    UnknownFieldId {
        /// The collection.
        collection: String,
        /// The number.
        id: FieldId,
    },
    /// A value is of another type than its field.
    #[error("field `{field}` takes {expected}, not {found}")]
    WrongType {
        /// The field.
        field: String,
        /// Its type.
        expected: String,
        /// What was given.
        found: String,
    },
    /// An operation that fields of this type do not have.
    #[error("field `{field}` takes {ty}: it cannot be edited by {operation}")]
    WrongOperation {
        /// The field.
        field: String,
        /// Its type.
        ty: String,
        /// What was tried.
        operation: &'static str,
    },
    /// A list of an edit that is not in canonical order, so that nobody could read the edit's bytes.
    #[error("{what} must rise, each once")]
    Order {
        /// Which list.
        what: &'static str,
    },
    /// A policy that does not fit the type.
    #[error("field `{field}`: policy {policy:?} does not fit {ty}")]
    WrongPolicy {
        /// The field.
        field: String,
        /// The policy.
        policy: Policy,
        /// The type.
        ty: String,
    },
    /// A name used twice, or malformed.
    #[error("`{name}` is used twice or is no valid name (a-z A-Z 0-9 _ -, at most 64, not starting with a digit)")]
    BadName {
        /// The name.
        name: String,
    },
    /// Merge rules that this build does not execute.
    #[error("the schema asks for merge rules {wanted}, this build executes {MERGE_RULES}")]
    UnknownMergeRules {
        /// The version wanted.
        wanted: u32,
    },
    /// A migration step that cannot be taken.
    #[error("migration step {step}: {reason}")]
    BadStep {
        /// Which step, from 1.
        step: usize,
        /// Why.
        reason: String,
    },
}

impl Schema {
    /// Returns its name.
    pub fn id(&self) -> SchemaId {
        SchemaId(Domain::Schema.hash(&[&self.to_bytes()]))
    }

    /// Checks names, numbers, and that policies and defaults fit their types.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), Error> {
        if self.merge_rules != MERGE_RULES {
            return Err(Error::UnknownMergeRules { wanted: self.merge_rules });
        }
        let (mut names, mut before) = (HashSet::new(), None);
        for collection in &self.collections {
            if !is_name(&collection.name) || !names.insert(&collection.name) || before >= Some(collection.id) {
                return Err(Error::BadName { name: collection.name.to_string() });
            }
            before = Some(collection.id);
            collection.validate()?;
        }
        Ok(())
    }

    /// Returns the collection called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownCollection`] with the names there are.
    pub fn collection(&self, name: &str) -> Result<&Collection, Error> {
        self.collections.iter().find(|collection| &*collection.name == name).ok_or_else(|| Error::UnknownCollection {
            name: name.to_owned(),
            known: known(self.collections.iter().map(|collection| &*collection.name)),
        })
    }

    /// Returns the collection numbered `id`.
    ///
    /// # Errors
    /// [`Error::UnknownCollectionId`].
    pub fn by_id(&self, id: CollectionId) -> Result<&Collection, Error> {
        self.collections.iter().find(|collection| collection.id == id).ok_or(Error::UnknownCollectionId { id })
    }
}

impl Collection {
    fn validate(&self) -> Result<(), Error> {
        let (mut names, mut before) = (HashSet::new(), None);
        for field in &self.fields {
            if !is_name(&field.name) || !names.insert(&field.name) || before >= Some(field.id) || field.id.0 >= self.next_field {
                return Err(Error::BadName { name: field.name.to_string() });
            }
            before = Some(field.id);
            let fits = match field.ty {
                FieldType::Scalar(_) => matches!(field.policy, Policy::LastWriter | Policy::Strict),
                FieldType::Set(_) => field.policy == Policy::AddWins,
                FieldType::Map(_) => field.policy == Policy::KeyWise,
            };
            if !fits {
                return Err(Error::WrongPolicy { field: field.name.to_string(), policy: field.policy, ty: field.ty.to_string() });
            }
            if let Some(default) = &field.default {
                field.check(&Value::Scalar(default.clone()))?;
            }
        }
        Ok(())
    }

    /// Returns the field called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownField`] with the names there are.
    pub fn field(&self, name: &str) -> Result<&Field, Error> {
        self.fields.iter().find(|field| &*field.name == name).ok_or_else(|| Error::UnknownField {
            collection: self.name.to_string(),
            name: name.to_owned(),
            known: known(self.fields.iter().map(|field| &*field.name)),
        })
    }

    /// Returns the field numbered `id`.
    ///
    /// # Errors
    /// [`Error::UnknownFieldId`].
    pub fn by_id(&self, id: FieldId) -> Result<&Field, Error> {
        self.get(id).ok_or_else(|| Error::UnknownFieldId { collection: self.name.to_string(), id })
    }

    /// Returns the field numbered `id`, if there is one.
    pub fn get(&self, id: FieldId) -> Option<&Field> {
        self.fields.binary_search_by_key(&id, |field| field.id).ok().map(|at| &self.fields[at])
    }
}

impl Field {
    /// Checks that `value` is of this field's type.
    ///
    /// # Errors
    /// [`Error::WrongType`].
    pub fn check(&self, value: &Value) -> Result<(), Error> {
        let fits = match (self.ty, value) {
            (FieldType::Scalar(ty), Value::Scalar(scalar)) => ScalarType::of(scalar) == ty,
            (FieldType::Set(ty), Value::Set(elements)) => elements.iter().all(|element| ScalarType::of(element) == ty),
            (FieldType::Map(ty), Value::Map(entries)) => entries.values().all(|entry| ScalarType::of(entry) == ty),
            _ => false,
        };
        if fits { Ok(()) } else { Err(self.wrong_type(value)) }
    }

    /// Checks that `element` may stand in this field's set or map.
    ///
    /// # Errors
    /// [`Error::WrongType`].
    pub fn check_element(&self, element: &Scalar) -> Result<(), Error> {
        match self.ty {
            FieldType::Set(ty) | FieldType::Map(ty) if ScalarType::of(element) == ty => Ok(()),
            _ => Err(self.wrong_type(&Value::Scalar(element.clone()))),
        }
    }

    fn wrong_type(&self, value: &Value) -> Error {
        let found = match value {
            Value::Scalar(scalar) => ScalarType::of(scalar).name().to_owned(),
            Value::Set(_) => "a set with an element of another type".to_owned(),
            Value::Map(_) => "a map with a value of another type".to_owned(),
        };
        Error::WrongType { field: self.name.to_string(), expected: self.ty.to_string(), found }
    }
}

impl ScalarType {
    /// Returns the type of `scalar`.
    pub const fn of(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Bool(_) => Self::Bool,
            Scalar::Int(_) => Self::Int,
            Scalar::Float(_) => Self::Float,
            Scalar::String(_) => Self::String,
            Scalar::Timestamp(_) => Self::Timestamp,
        }
    }

    /// Returns the name that schemas use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::String => "string",
            Self::Timestamp => "timestamp",
        }
    }

    const ALL: [Self; 5] = [Self::Bool, Self::Int, Self::Float, Self::String, Self::Timestamp];

    /// Returns the type that schemas call `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.name() == name)
    }

    fn from_tag(tag: u8) -> Result<Self, Codec> {
        Self::ALL.into_iter().find(|ty| *ty as u8 == tag).ok_or(Codec::Unknown { what: "scalar type", tag: tag.into() })
    }
}

impl std::fmt::Display for FieldType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scalar(ty) => f.write_str(ty.name()),
            Self::Set(ty) => write!(f, "set of {}", ty.name()),
            Self::Map(ty) => write!(f, "map of {}", ty.name()),
        }
    }
}

/// Whether `name` may name a collection or field.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

fn known<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl Encode for Schema {
    fn encode(&self, out: &mut Writer) {
        out.uint(self.version.into());
        out.uint(self.merge_rules.into());
        out.count(self.collections.len());
        for collection in &self.collections {
            out.uint(collection.id.0.into());
            out.text(&collection.name);
            out.uint(collection.next_field.into());
            out.list(collection.fields.iter());
        }
    }
}

impl Encode for Field {
    fn encode(&self, out: &mut Writer) {
        out.uint(self.id.0.into());
        out.text(&self.name);
        let (form, ty) = match self.ty {
            FieldType::Scalar(ty) => (0, ty),
            FieldType::Set(ty) => (1, ty),
            FieldType::Map(ty) => (2, ty),
        };
        out.raw(&[form, ty as u8, self.policy as u8, u8::from(self.default.is_some())]);
        if let Some(default) = &self.default {
            default.encode(out);
        }
    }
}

impl Decode for Schema {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let (version, merge_rules) = (number(input, "schema version")?, number(input, "merge rules")?);
        let count = limited(input.count(4)?, "schema's collections", MAX_COLLECTIONS)?;
        let mut collections = Vec::with_capacity(count);
        for _ in 0..count {
            let (id, name) = (CollectionId(number(input, "collection number")?), input.text()?.into());
            let next_field = number(input, "field number")?;
            let fields = input.list(6)?;
            limited(fields.len(), "collection's fields", MAX_FIELDS)?;
            collections.push(Collection { id, name, fields, next_field });
        }
        let schema = Self { version, merge_rules, collections };
        // Unknown merge rules still decode: the replica then keeps both heads instead of refusing the bytes.
        match schema.validate() {
            Ok(()) | Err(Error::UnknownMergeRules { .. }) => Ok(schema),
            Err(_) => Err(Codec::Malformed { what: "schema" }),
        }
    }
}

impl Decode for Field {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let (id, name) = (FieldId(number(input, "field number")?), input.text()?.into());
        let [form, ty, policy, has_default] = input.array()?;
        let ty = ScalarType::from_tag(ty)?;
        let ty = match form {
            0 => FieldType::Scalar(ty),
            1 => FieldType::Set(ty),
            2 => FieldType::Map(ty),
            tag => return Err(Codec::Unknown { what: "field type", tag: tag.into() }),
        };
        let policy = match policy {
            1 => Policy::LastWriter,
            2 => Policy::Strict,
            3 => Policy::AddWins,
            4 => Policy::KeyWise,
            tag => return Err(Codec::Unknown { what: "policy", tag: tag.into() }),
        };
        let default = match has_default {
            0 => None,
            1 => Some(Scalar::decode(input)?),
            tag => return Err(Codec::Unknown { what: "default", tag: tag.into() }),
        };
        Ok(Self { id, name, ty, policy, default })
    }
}

/// Takes a number that must fit the target.
pub(crate) fn number<T: TryFrom<u64>>(input: &mut Reader<'_>, what: &'static str) -> Result<T, Codec> {
    T::try_from(input.uint()?).map_err(|_| Codec::Malformed { what })
}

/// Returns `count` if it is within `limit`.
pub(crate) const fn limited(count: usize, what: &'static str, limit: usize) -> Result<usize, Codec> {
    if count <= limit { Ok(count) } else { Err(Codec::Limit { what, actual: count as u64, limit: limit as u64 }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testutil;

    #[test]
    fn numbers_and_names_are_used_once() {
        let bad = |change: &dyn Fn(&mut Vec<Field>)| {
            let mut schema = testutil::schema();
            change(&mut schema.collections[0].fields);
            assert!(Schema::from_bytes(&schema.to_bytes()).is_err());
            schema.validate().expect_err("a number or name is used twice")
        };
        assert_eq!(bad(&|fields| fields[1].name = fields[0].name.clone()), Error::BadName { name: "name".to_owned() });
        assert_eq!(bad(&|fields| fields[1].id = fields[0].id), Error::BadName { name: "weight".to_owned() });
        assert_eq!(bad(&|fields| fields.swap(0, 1)), Error::BadName { name: "name".to_owned() });
        assert_eq!(bad(&|fields| fields[9].id = FieldId(13)), Error::BadName { name: "pens".to_owned() });
        let mut schema = testutil::schema();
        schema.collections.swap(0, 1);
        assert_eq!(schema.validate(), Err(Error::BadName { name: "animals".to_owned() }));
    }
}
