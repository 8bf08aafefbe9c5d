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

const FIELDS: &str = "fields of an edit";
const LISTS: &str = "elements or entries of an edit";

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
    /// Checks the edit against its collection: the fields exist and take what they are given, and all lists are in canonical order.
    ///
    /// # Errors
    /// The first field that does not fit, by name; [`Error::Order`].
    pub fn check(&self, collection: &Collection) -> Result<(), Error> {
        if !self.operation.fields().is_sorted_by(|a, b| a.field < b.field) {
            return Err(Error::Order { what: FIELDS });
        }
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
        self.change.check_order().map_err(|what| Error::Order { what })?;
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

impl Change {
    /// Names the list that is not in canonical order.
    fn check_order(&self) -> Result<(), &'static str> {
        let fits = match self {
            Self::Set(_) | Self::Clear => true,
            Self::Elements { add, remove } => are_disjoint(add.iter(), remove),
            Self::Entries { put, remove } => are_disjoint(put.iter().map(|(key, _)| key), remove),
        };
        if fits { Ok(()) } else { Err(LISTS) }
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
    if fields.is_sorted_by(|a, b| a.field < b.field) { Ok(fields) } else { Err(Codec::Order { what: FIELDS }) }
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
            3 => Change::Elements { add: input.list(1)?, remove: input.list(1)? },
            4 => {
                let count = input.count(2)?;
                let put: Vec<(Arc<str>, Scalar)> =
                    (0..count).map(|_| Ok((input.text()?.into(), Scalar::decode(input)?))).collect::<Result<_, Codec>>()?;
                let count = input.count(1)?;
                let remove: Vec<Arc<str>> = (0..count).map(|_| Ok(input.text()?.into())).collect::<Result<_, Codec>>()?;
                Change::Entries { put, remove }
            }
            tag => return Err(Codec::Unknown { what: "change", tag: tag.into() }),
        };
        change.check_order().map_err(|what| Codec::Order { what })?;
        Ok(Self { field, change })
    }
}

/// Whether both lists rise and have nothing in common.
fn are_disjoint<'a, T: Ord + 'a>(left: impl Iterator<Item = &'a T>, right: &'a [T]) -> bool {
    let left: Vec<_> = left.collect();
    left.is_sorted_by(|a, b| a < b) && right.is_sorted_by(|a, b| a < b) && left.iter().all(|element| right.binary_search(element).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testutil::{ANIMALS, animal, elements, schema, set, update};

    #[test]
    fn what_could_not_be_read_back_is_no_edit() {
        let add = |add: &[&str], remove: &[&str]| FieldEdit {
            field: animal::TAGS,
            change: Change::Elements {
                add: add.iter().map(|it| (*it).into()).collect(),
                remove: remove.iter().map(|it| (*it).into()).collect(),
            },
        };
        let put = |put: &[&str], remove: &[&str]| FieldEdit {
            field: animal::YIELDS,
            change: Change::Entries {
                put: put.iter().map(|it| ((*it).into(), Scalar::Int(1))).collect(),
                remove: remove.iter().map(|it| (*it).into()).collect(),
            },
        };
        let fields = |edits: Vec<FieldEdit>| Edit { key: Key::new("alma").expect("short"), operation: Operation::Update(edits) };
        let bad = [
            fields(vec![set(animal::LEGS, 3), set(animal::NAME, "Alma")]),
            fields(vec![set(animal::LEGS, 3), set(animal::LEGS, 4)]),
            fields(vec![add(&["b", "a"], &[])]),
            fields(vec![add(&[], &["a", "a"])]),
            fields(vec![add(&["a"], &["a"])]),
            fields(vec![put(&["b", "a"], &[])]),
            fields(vec![put(&["a"], &["a", "b"])]),
        ];
        let schema = schema();
        let animals = schema.by_id(ANIMALS).expect("there");
        for edit in bad {
            assert!(matches!(edit.check(animals), Err(Error::Order { .. })), "{edit:?}");
            assert!(matches!(Edit::from_bytes(&edit.to_bytes()), Err(Codec::Order { .. })), "{edit:?}");
        }
        assert_eq!(update("alma", [elements(animal::TAGS, ["b", "a"], ["c"]), set(animal::LEGS, 3)]).check(animals), Ok(()));
    }
}
