//! Edits: what a commit does to one document, always an operation, never only an after-value.
//!
//! One edit carries all it does to its document, so one dot stands behind all of it. What an edit takes away is not written in it: it
//! takes away what its commit had seen (see `document`).

use std::sync::Arc;

use crate::{
    codec::{Decode, Encode, Error as Codec, Reader, Writer},
    schema::{Collection, Error, FieldId, FieldType, number},
    value::{Key, Scalar, Value},
};

/// One document's edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Which document.
    pub key: Key,
    /// What is done to it.
    pub operation: Operation,
}

/// What is done to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Brings it into being: what the commit saw of an earlier document of that key is taken away first.
    Create(Vec<FieldEdit>),
    /// Changes fields and leaves the others. A concurrent delete loses against it.
    Update(Vec<FieldEdit>),
    /// Deletes what the commit saw of it.
    Delete,
}

/// What is done to one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldEdit {
    /// Which field.
    pub field: FieldId,
    /// The change.
    pub change: Change,
}

/// A change of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The scalar becomes this.
    Set(Scalar),
    /// The field becomes absent.
    Clear,
    /// Elements are added to and removed from the set. Each list rises strictly; they have no element in common.
    Elements {
        /// What is added.
        add: Vec<Scalar>,
        /// What is removed.
        remove: Vec<Scalar>,
    },
    /// Entries are put into and removed from the map. Each list rises strictly by key; they have no key in common.
    Entries {
        /// What is put.
        put: Vec<(Arc<str>, Scalar)>,
        /// What is removed.
        remove: Vec<Arc<str>>,
    },
}

impl Edit {
    /// Checks the edit against its collection: the fields exist and take what they are given.
    ///
    /// # Errors
    /// The first field that does not fit, by name.
    pub fn check(&self, collection: &Collection) -> Result<(), Error> {
        self.operation.fields().iter().try_for_each(|edit| edit.check(collection))
    }
}

impl Operation {
    /// Returns the field edits; none for a delete.
    pub fn fields(&self) -> &[FieldEdit] {
        match self {
            Self::Create(fields) | Self::Update(fields) => fields,
            Self::Delete => &[],
        }
    }
}

impl FieldEdit {
    fn check(&self, collection: &Collection) -> Result<(), Error> {
        let field = collection.by_id(self.field)?;
        let wrong = |operation| Error::WrongOperation { field: field.name.to_string(), ty: field.ty.to_string(), operation };
        match (&self.change, field.ty) {
            (Change::Clear, _) => Ok(()),
            (Change::Set(value), FieldType::Scalar(_)) => field.check(&Value::Scalar(value.clone())),
            (Change::Elements { add, remove }, FieldType::Set(_)) => {
                add.iter().chain(remove).try_for_each(|element| field.check_element(element))
            }
            (Change::Entries { put, .. }, FieldType::Map(_)) => put.iter().try_for_each(|(_, value)| field.check_element(value)),
            (Change::Set(_), _) => Err(wrong("set")),
            (Change::Elements { .. }, _) => Err(wrong("add or remove of elements")),
            (Change::Entries { .. }, _) => Err(wrong("put or remove of entries")),
        }
    }
}

impl Encode for Edit {
    fn encode(&self, out: &mut Writer) {
        self.key.encode(out);
        match &self.operation {
            Operation::Create(fields) => {
                out.byte(1);
                out.list(fields.iter());
            }
            Operation::Update(fields) => {
                out.byte(2);
                out.list(fields.iter());
            }
            Operation::Delete => out.byte(3),
        }
    }
}

impl Decode for Edit {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let key = Key::decode(input)?;
        let operation = match input.byte()? {
            1 => Operation::Create(fields(input)?),
            2 => Operation::Update(fields(input)?),
            3 => Operation::Delete,
            tag => return Err(Codec::Unknown { what: "operation", tag: tag.into() }),
        };
        Ok(Self { key, operation })
    }
}

fn fields(input: &mut Reader<'_>) -> Result<Vec<FieldEdit>, Codec> {
    let fields: Vec<FieldEdit> = input.list(2)?;
    if fields.is_sorted_by(|a, b| a.field < b.field) { Ok(fields) } else { Err(Codec::Order { what: "fields of an edit" }) }
}

impl Encode for FieldEdit {
    fn encode(&self, out: &mut Writer) {
        out.uint(self.field.0.into());
        match &self.change {
            Change::Set(value) => {
                out.byte(1);
                value.encode(out);
            }
            Change::Clear => out.byte(2),
            Change::Elements { add, remove } => {
                out.byte(3);
                out.list(add.iter());
                out.list(remove.iter());
            }
            Change::Entries { put, remove } => {
                out.byte(4);
                out.count(put.len());
                for (key, value) in put {
                    out.text(key);
                    value.encode(out);
                }
                out.count(remove.len());
                for key in remove {
                    out.text(key);
                }
            }
        }
    }
}

impl Decode for FieldEdit {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let field = FieldId(number(input, "field number")?);
        let change = match input.byte()? {
            1 => Change::Set(Scalar::decode(input)?),
            2 => Change::Clear,
            3 => {
                let (add, remove): (Vec<Scalar>, Vec<Scalar>) = (input.list(1)?, input.list(1)?);
                disjoint(&add, &remove, "elements of an edit")?;
                Change::Elements { add, remove }
            }
            4 => {
                let count = input.count(2)?;
                let put: Vec<(Arc<str>, Scalar)> =
                    (0..count).map(|_| Ok((input.text()?.into(), Scalar::decode(input)?))).collect::<Result<_, Codec>>()?;
                let count = input.count(1)?;
                let remove: Vec<Arc<str>> = (0..count).map(|_| Ok(input.text()?.into())).collect::<Result<_, Codec>>()?;
                let keys: Vec<_> = put.iter().map(|(key, _)| key.clone()).collect();
                disjoint(&keys, &remove, "entries of an edit")?;
                Change::Entries { put, remove }
            }
            tag => return Err(Codec::Unknown { what: "change", tag: tag.into() }),
        };
        Ok(Self { field, change })
    }
}

fn disjoint<T: Ord>(left: &[T], right: &[T], what: &'static str) -> Result<(), Codec> {
    let sorted = left.is_sorted_by(|a, b| a < b) && right.is_sorted_by(|a, b| a < b);
    let apart = left.iter().all(|element| right.binary_search(element).is_err());
    if sorted && apart { Ok(()) } else { Err(Codec::Order { what }) }
}
