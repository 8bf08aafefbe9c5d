//! Edits: what a commit does to one document, always an operation, never only an after-value.
//!
//! One edit carries all it does to its document, so one dot stands behind all of it. What an edit takes away is not written in it: it
//! takes away what its commit had seen (see `document`).

mod bytes;
mod sequence;

use std::sync::Arc;

pub use sequence::{Element, ListEdit, Place, Side, Span, TextEdit};

use crate::{
    schema::{Collection, Error, Field, FieldId, FieldType},
    value::{Key, Scalar, Value},
};

const FIELDS: &str = "fields of an edit";
const LISTS: &str = "elements or entries of an edit";

/// Deepest nesting of changes within changes: that of types.
const MAX_WITHIN: usize = crate::schema::MAX_DEPTH;

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

/// A change of a field, or of an entry of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The register holds this.
    Set(Value),
    /// It becomes absent; a counter begins anew.
    Clear,
    /// Elements are added to and removed from the set. Each list rises strictly; they have no element in common.
    Elements {
        /// What is added.
        add: Vec<Value>,
        /// What is removed.
        remove: Vec<Value>,
    },
    /// Entries are put into and removed from the map. Each list rises strictly by key; they have no key in common.
    Entries {
        /// What is put.
        put: Vec<(Arc<str>, Value)>,
        /// What is removed.
        remove: Vec<Arc<str>>,
    },
    /// Entries of the map change as their type does. Rises strictly by key.
    Within(Vec<(Arc<str>, Self)>),
    /// The counter begins anew, if it is a reset, and counts on. What others add without having heard of a reset goes with it.
    Count {
        /// Whether it begins anew.
        reset: bool,
        /// What is added.
        add: i64,
    },
    /// The text changes.
    Text(TextEdit),
    /// The list changes. Apart, so that the many changes of other fields stay small.
    List(Box<ListEdit>),
    /// The register holds this, even where the policy lets what was seen of it win: a max that goes down.
    Replace(Value),
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

    /// Returns about how many bytes of texts and bytes it writes; numbers, names and whatever lies deeper count for nothing.
    pub fn weight(&self) -> u64 {
        let of = |value: &Value| match value {
            Value::Scalar(Scalar::Bytes(bytes)) => bytes.len() as u64,
            Value::Scalar(Scalar::String(text)) => text.len() as u64,
            _ => 0,
        };
        let change = |edit: &FieldEdit| match &edit.change {
            Change::Set(value) | Change::Replace(value) => of(value),
            Change::Elements { add, .. } => add.iter().map(of).sum(),
            Change::Entries { put, .. } => put.iter().map(|(_, value)| of(value)).sum(),
            Change::Text(edit) => edit.inserts.iter().map(|(_, text)| text.len() as u64).sum(),
            _ => 0,
        };
        self.fields().iter().map(change).sum()
    }
}

impl FieldEdit {
    fn check(&self, collection: &Collection) -> Result<(), Error> {
        self.change.check(collection.by_id(self.field)?)
    }
}

impl Change {
    /// Checks the change against its field.
    ///
    /// # Errors
    /// As [`Edit::check`].
    pub fn check(&self, field: &Field) -> Result<(), Error> {
        self.check_order(MAX_WITHIN).map_err(|what| Error::Order { what })?;
        self.check_as(field, &field.ty)
    }

    fn check_as(&self, field: &Field, ty: &FieldType) -> Result<(), Error> {
        let Some(place) = self.place_in(ty) else {
            let operation = self.name();
            return Err(Error::WrongOperation { field: field.name.to_string(), ty: field.ty.to_string(), operation });
        };
        let elements = |mut values: Box<dyn Iterator<Item = &Value> + '_>| {
            let of = place.inner().expect("what has elements says their type");
            values.try_for_each(|value| field.check_as(of, value))
        };
        match self {
            Self::Clear | Self::Count { .. } | Self::Text(_) => Ok(()),
            Self::Set(value) | Self::Replace(value) => {
                field.check_as(place, value)?;
                let is_register = ty.alternative(value).is_some_and(FieldType::is_register);
                let wrong = || Error::WrongOperation { field: field.name.to_string(), ty: field.ty.to_string(), operation: self.name() };
                if is_register { Ok(()) } else { Err(wrong()) }
            }
            Self::Elements { add, remove } => elements(Box::new(add.iter().chain(remove))),
            Self::Entries { put, .. } => {
                let of = place.inner().expect("a map says the type of its entries");
                put.iter().try_for_each(|(_, value)| Self::Set(value.clone()).check_as(field, of))
            }
            Self::Within(changes) => {
                let of = place.inner().expect("a map says the type of its entries");
                changes.iter().try_for_each(|(_, change)| change.check_as(field, of))
            }
            Self::List(edit) => {
                let inserted = edit.inserts.iter().flat_map(|(_, values)| values);
                elements(Box::new(inserted.chain(edit.sets.iter().map(|(_, value)| value))))
            }
        }
    }

    /// Returns the type that it changes values of, where `ty` stands: for a union, the alternative, or the union itself if what changes is a
    /// register. `None` if values of `ty` do not change so.
    pub(crate) fn place_in<'t>(&self, ty: &'t FieldType) -> Option<&'t FieldType> {
        if let FieldType::Union(types) = ty {
            return match self {
                Self::Clear | Self::Set(_) | Self::Replace(_) => Some(ty),
                _ => types.iter().find_map(|ty| self.place_in(ty)),
            };
        }
        let fits = match self {
            Self::Clear => true,
            Self::Set(_) | Self::Replace(_) => ty.is_register(),
            Self::Elements { .. } => matches!(ty, FieldType::Set(_)),
            Self::Entries { .. } | Self::Within(_) => matches!(ty, FieldType::Map(_)),
            Self::Count { .. } => matches!(ty, FieldType::Counter),
            Self::Text(_) => matches!(ty, FieldType::Text),
            Self::List(_) => matches!(ty, FieldType::List(_)),
        };
        fits.then_some(ty)
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Set(_) | Self::Replace(_) => "set",
            Self::Clear => "clear",
            Self::Elements { .. } => "add or remove of elements",
            Self::Entries { .. } => "put or remove of entries",
            Self::Within(_) => "a change of entries",
            Self::Count { .. } => "count",
            Self::Text(_) => "splices of a text",
            Self::List(_) => "splices or moves of a list",
        }
    }

    /// Names the list that is not in canonical order.
    fn check_order(&self, depth: usize) -> Result<(), &'static str> {
        let fits = match self {
            Self::Set(_) | Self::Replace(_) | Self::Clear | Self::Count { .. } => true,
            Self::Elements { add, remove } => are_disjoint(add.iter(), remove),
            Self::Entries { put, remove } => are_disjoint(put.iter().map(|(key, _)| key), remove),
            Self::Within(changes) => {
                let Some(below) = depth.checked_sub(1) else { return Err(LISTS) };
                changes.iter().try_for_each(|(_, change)| change.check_order(below))?;
                changes.is_sorted_by(|a, b| a.0 < b.0)
            }
            Self::Text(edit) => return if edit.is_canonical() { Ok(()) } else { Err(sequence::SPLICES) },
            Self::List(edit) => return if edit.is_canonical() { Ok(()) } else { Err(sequence::SPLICES) },
        };
        if fits { Ok(()) } else { Err(LISTS) }
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
    use crate::{
        codec::{Decode as _, Encode as _, Error as Codec},
        testutil::{ANIMALS, animal, elements, schema, set, update},
    };

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
                put: put.iter().map(|it| ((*it).into(), Value::from(1))).collect(),
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
