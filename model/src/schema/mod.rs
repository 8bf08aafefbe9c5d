//! A schema: collections, their fields, and the policy by which concurrent edits of a field merge.
//!
//! Fields and collections are named by number in documents and edits; a rename therefore changes no document. Numbers are never used
//! twice: `next_field` remembers the highest ever given.

mod policy;
mod ty;

use std::{collections::HashSet, sync::Arc};

pub use policy::{Clears, Deletes, Policy, ResolverName};
pub use ty::{FieldType, MAX_ALTERNATIVES, MAX_DEPTH, ScalarType};

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

/// The collection that the parts of blobs lie in: of every schema with a blob, and of no other use. See [`Collection::of_blobs`].
pub const BLOBS: CollectionId = CollectionId(u16::MAX);

/// Its name.
pub const BLOBS_NAME: &str = "_blobs";

/// The bytes of a part.
pub const DATA: FieldId = FieldId(1);

/// When a part was last uploaded, as itself or as part of another blob.
pub const USED: FieldId = FieldId(2);

/// Number of a collection within its schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CollectionId(pub u16);

/// Number of a field within its collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldId(pub u16);

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
    /// What a clear of it takes away.
    pub clears: Clears,
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
    /// What comes of a document that one deletes while another edits it.
    pub deletes: Deletes,
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
    /// A type that cannot be.
    #[error("field `{field}`: {ty} cannot be: {reason}")]
    BadType {
        /// The field.
        field: String,
        /// The type.
        ty: String,
        /// Why.
        reason: &'static str,
    },
    /// A value that nests too deep.
    #[error("a value of field `{field}` nests {actual} deep, at most {} are allowed", crate::value::MAX_DEPTH)]
    TooDeep {
        /// The field.
        field: String,
        /// How deep.
        actual: usize,
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
    /// More than there may be.
    #[error("{what}: there are {actual}, at most {limit} are allowed")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many.
        actual: usize,
        /// How many at most.
        limit: usize,
    },
    /// A collection of blobs that is not as it must be, or is missing.
    #[error("collection `{BLOBS_NAME}`, number {}, holds the parts of blobs: leave it out, it is added", BLOBS.0)]
    BadBlobs,
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
        few("collections, with that of blobs", self.collections.len(), MAX_COLLECTIONS)?;
        let (mut names, mut before) = (HashSet::new(), None);
        for collection in &self.collections {
            if !is_name(&collection.name) || !names.insert(&collection.name) || before >= Some(collection.id) {
                return Err(Error::BadName { name: collection.name.to_string() });
            }
            before = Some(collection.id);
            collection.validate()?;
        }
        let blobs = self.collections.iter().find(|collection| collection.id == BLOBS || &*collection.name == BLOBS_NAME);
        match blobs {
            Some(blobs) if *blobs != Collection::of_blobs() => Err(Error::BadBlobs),
            None if self.has_blobs() => Err(Error::BadBlobs),
            _ => Ok(()),
        }
    }

    /// Whether a field of it holds blobs.
    fn has_blobs(&self) -> bool {
        self.collections.iter().flat_map(|collection| &collection.fields).any(|field| field.ty.has_blobs())
    }

    /// Returns the collection of blobs, if there is one.
    pub fn blobs(&self) -> Option<&Collection> {
        self.collections.last().filter(|collection| collection.id == BLOBS)
    }

    /// Adds the collection of blobs where a field holds some and it is not there.
    pub fn add_blobs(&mut self) {
        if self.has_blobs() && self.collections.iter().all(|collection| collection.id != BLOBS && &*collection.name != BLOBS_NAME) {
            self.collections.push(Collection::of_blobs());
        }
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
    /// Returns the collection that the parts of blobs lie in, under the hex digits of their hash.
    ///
    /// An upload writes `used` anew where the part is there: so it wins over a concurrent delete of what seemed to be of no use.
    pub fn of_blobs() -> Self {
        let data = Field::new(DATA, "data", ScalarType::Bytes, Policy::LastWriter);
        let used = Field::new(USED, "used", ScalarType::Timestamp, Policy::Max);
        Self { id: BLOBS, name: BLOBS_NAME.into(), fields: vec![data, used], next_field: 3, deletes: Deletes::EditWins }
    }

    fn validate(&self) -> Result<(), Error> {
        few("fields of a collection", self.fields.len(), MAX_FIELDS)?;
        let (mut names, mut before) = (HashSet::new(), None);
        for field in &self.fields {
            if !is_name(&field.name) || !names.insert(&field.name) || before >= Some(field.id) || field.id.0 >= self.next_field {
                return Err(Error::BadName { name: field.name.to_string() });
            }
            before = Some(field.id);
            if let Some(reason) = field.fault() {
                return Err(Error::BadType { field: field.name.to_string(), ty: field.ty.to_string(), reason });
            }
            if !field.policy.fits(&field.ty) {
                return Err(Error::WrongPolicy { field: field.name.to_string(), policy: field.policy, ty: field.ty.to_string() });
            }
            if let Some(default) = &field.default {
                let default = Value::Scalar(default.clone());
                field.check(&default)?;
                if matches!(field.ty, FieldType::Text | FieldType::Counter) || field.ty.has_blobs() {
                    return Err(field.wrong_type(&default));
                }
            }
        }
        Ok(())
    }

    /// Returns the fields whose values can be erased.
    pub fn erasable(&self) -> impl Iterator<Item = (&Field, ScalarType)> {
        self.fields.iter().filter_map(|field| match field.ty {
            FieldType::Erasable(ty) => Some((field, ty)),
            _ => None,
        })
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
    /// Returns the field without default whose clears take away what they saw.
    pub fn new(id: FieldId, name: impl Into<Arc<str>>, ty: impl Into<FieldType>, policy: Policy) -> Self {
        Self { id, name: name.into(), ty: ty.into(), policy, clears: Clears::Seen, default: None }
    }

    /// Says what is wrong with its type, if anything is.
    fn fault(&self) -> Option<&'static str> {
        let fault = self.ty.fault();
        // A stamp is all that such a clear leaves, so all below it must have one to be judged by.
        let is_stamped = match &self.ty {
            FieldType::Map(of) => of.is_register(),
            FieldType::Set(_) => true,
            ty => ty.is_register(),
        };
        let clears = self.clears == Clears::Earlier && (!is_stamped || self.policy.keeps_siblings());
        fault.or(clears.then_some("clears take away what is earlier in registers, sets, and maps of registers, and not under strict"))
    }

    /// Checks that `value` is of this field's type.
    ///
    /// # Errors
    /// [`Error::WrongType`], [`Error::TooDeep`].
    pub fn check(&self, value: &Value) -> Result<(), Error> {
        self.check_as(&self.ty, value)
    }

    /// Checks that a caller may give `value` for this field: as [`check`](Self::check), and where it can be erased, the scalar itself, which its
    /// writer puts apart.
    ///
    /// # Errors
    /// [`Error::WrongType`], [`Error::TooDeep`].
    pub fn check_given(&self, value: &Value) -> Result<(), Error> {
        match (&self.ty, value) {
            (FieldType::Erasable(ty), Value::Scalar(scalar)) if ScalarType::of(scalar) == Some(*ty) => Ok(()),
            _ => self.check(value),
        }
    }

    /// Checks that `element` may stand in this field's set, map or list.
    ///
    /// # Errors
    /// [`Error::WrongType`], [`Error::TooDeep`].
    pub fn check_element(&self, element: &Value) -> Result<(), Error> {
        match self.ty.inner() {
            Some(ty) => self.check_as(ty, element),
            None => Err(self.wrong_type(element)),
        }
    }

    /// Checks that `value` is of type `ty`, which stands somewhere in this field's.
    pub(crate) fn check_as(&self, ty: &FieldType, value: &Value) -> Result<(), Error> {
        let depth = value.depth();
        if depth > crate::value::MAX_DEPTH {
            return Err(Error::TooDeep { field: self.name.to_string(), actual: depth });
        }
        if ty.takes(value) { Ok(()) } else { Err(self.wrong_type(value)) }
    }

    fn wrong_type(&self, value: &Value) -> Error {
        Error::WrongType { field: self.name.to_string(), expected: self.ty.to_string(), found: ty::kind(value).to_owned() }
    }
}

/// Whether `name` may name a collection or field.
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

const fn few(what: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    if actual <= limit { Ok(()) } else { Err(Error::TooMany { what, actual, limit }) }
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
            out.uint(u64::from(collection.next_field) | (collection.deletes as u64) << 16);
            out.list(collection.fields.iter());
        }
    }
}

impl Encode for Field {
    fn encode(&self, out: &mut Writer) {
        out.uint(self.id.0.into());
        out.text(&self.name);
        let (form, of) = match &self.ty {
            FieldType::Set(of) => (1, &**of),
            FieldType::Map(of) => (2, &**of),
            ty => (0, ty),
        };
        if let FieldType::Scalar(ty) = of {
            out.raw(&[form, *ty as u8]);
        } else {
            out.byte(3);
            self.ty.encode(out);
        }
        policy::encode(out, self.policy, self.clears);
        out.byte(u8::from(self.default.is_some()));
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
            let next_field: u32 = number(input, "field number")?;
            let deletes = match next_field >> 16 {
                0 => Deletes::EditWins,
                1 => Deletes::DeleteWins,
                2 => Deletes::Conflict,
                tag => return Err(Codec::Unknown { what: "rule of deletes", tag: tag.into() }),
            };
            let next_field = (next_field & 0xffff) as u16;
            let fields = input.list(6)?;
            limited(fields.len(), "collection's fields", MAX_FIELDS)?;
            collections.push(Collection { id, name, fields, next_field, deletes });
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
        let scalar = |input: &mut Reader<'_>| ScalarType::from_tag(input.byte()?);
        let ty = match input.byte()? {
            0 => FieldType::Scalar(scalar(input)?),
            1 => FieldType::set(scalar(input)?),
            2 => FieldType::map(scalar(input)?),
            3 => match FieldType::decode(input)? {
                FieldType::Scalar(_) => return Err(Codec::Malformed { what: "field type" }),
                FieldType::Set(of) | FieldType::Map(of) if matches!(*of, FieldType::Scalar(_)) => {
                    return Err(Codec::Malformed { what: "field type" });
                }
                ty => ty,
            },
            tag => return Err(Codec::Unknown { what: "field type", tag: tag.into() }),
        };
        let (policy, clears) = policy::decode(input)?;
        let default = match input.byte()? {
            0 => None,
            1 => Some(Scalar::decode(input)?),
            tag => return Err(Codec::Unknown { what: "default", tag: tag.into() }),
        };
        Ok(Self { id, name, ty, policy, clears, default })
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
