//! What a reader sees of a document: names and values, defaults filled in, conflicts beside them.

use std::{collections::BTreeMap, sync::Arc};

use super::{Document, Field, Rule, Rules, Stamp};
use crate::{
    schema::{Collection, FieldId, Policy},
    value::{Scalar, Value},
};

/// The fields of a document as a reader sees them, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// Name → value; absent fields without default do not occur.
    pub fields: BTreeMap<Arc<str>, Value>,
    /// Fields with at least two distinct siblings under strict.
    pub conflicts: Vec<Conflict>,
}

/// A stored conflict: a field whose siblings hold at least two distinct values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Name of the field.
    pub field: Arc<str>,
    /// Its siblings by stamp; the last is what a plain read shows.
    pub siblings: Vec<ConflictSibling>,
}

/// One of several concurrent values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictSibling {
    /// Which edit wrote it.
    pub stamp: Stamp,
    /// The value; `None` if it was a clear.
    pub value: Option<Scalar>,
}

impl Rules for Collection {
    fn rule(&self, field: FieldId) -> Option<Rule> {
        self.get(field).map(|field| match field.policy {
            Policy::LastWriter => Rule::LastWriter,
            Policy::Strict => Rule::Strict,
            Policy::AddWins => Rule::Set,
            Policy::KeyWise => Rule::Map,
        })
    }
}

impl Document {
    /// Returns what a reader sees, or `None` if the document is deleted. Fields that `collection` does not have are left out.
    pub fn view(&self, collection: &Collection) -> Option<View> {
        if !self.exists() {
            return None;
        }
        let mut view = View::default();
        for field in &collection.fields {
            let kept = self.field(field.id);
            let value = kept.and_then(read).or_else(|| field.default.clone().map(Value::Scalar));
            if let Some(value) = value {
                view.fields.insert(field.name.clone(), value);
            }
            if let (Policy::Strict, Some(Field::Register(siblings))) = (field.policy, kept)
                && siblings.iter().any(|sibling| sibling.value != siblings[0].value)
            {
                let siblings =
                    siblings.iter().map(|sibling| ConflictSibling { stamp: sibling.stamp, value: sibling.value.clone() }).collect();
                view.conflicts.push(Conflict { field: field.name.clone(), siblings });
            }
        }
        Some(view)
    }

    /// Whether a strict field of it has at least two distinct siblings. A deleted document has no conflict.
    pub fn has_conflict(&self, collection: &Collection) -> bool {
        self.exists()
            && self.fields.iter().any(|(id, field)| match field {
                Field::Register(siblings) if siblings.len() > 1 => {
                    collection.rule(*id) == Some(Rule::Strict) && siblings.iter().any(|sibling| sibling.value != siblings[0].value)
                }
                _ => false,
            })
    }
}

/// Returns the value that a plain read of the field shows: the highest stamp's.
pub(crate) fn read(field: &Field) -> Option<Value> {
    match field {
        Field::Register(siblings) => siblings.last()?.value.clone().map(Value::Scalar),
        Field::Set(elements) => Some(Value::Set(elements.keys().cloned().collect())),
        Field::Map(entries) => {
            let winner = |(key, siblings): (&Arc<str>, &super::Siblings<Scalar>)| Some((key.clone(), siblings.last()?.value.clone()));
            Some(Value::Map(entries.iter().filter_map(winner).collect()))
        }
    }
}
