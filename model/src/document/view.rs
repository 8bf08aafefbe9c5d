//! What a reader sees of a document: names and values, defaults filled in, conflicts beside them.

use std::{collections::BTreeMap, sync::Arc};

use super::{Document, Field, Rule, Rules, Siblings, Stamp, register};
use crate::{
    resolver::Resolvers,
    schema::{Collection, Deletes, FieldId, FieldType, Policy},
    value::{Scalar, Value},
};

/// The fields of a document as a reader sees them, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// Name → value; absent fields without default do not occur. A counter that nobody counted is 0.
    pub fields: BTreeMap<Arc<str>, Value>,
    /// Places with at least two distinct siblings, under strict or a custom policy.
    pub conflicts: Vec<Conflict>,
    /// Deletes that edits stand against, where that is a conflict.
    pub deletes: Vec<Stamp>,
}

/// A stored conflict: a field, or an entry in it, whose siblings hold at least two distinct values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Name of the field.
    pub field: Arc<str>,
    /// Keys of the entries that lead to it, or positions of items; empty: the field itself.
    pub path: Vec<Arc<str>>,
    /// Its siblings by stamp; the last is what a plain read shows.
    pub siblings: Vec<ConflictSibling>,
}

/// One of several concurrent values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictSibling {
    /// Which edit wrote it; of a set, map or list the newest.
    pub stamp: Stamp,
    /// The value; `None` if it was a clear.
    pub value: Option<Value>,
}

impl Rules for Collection {
    fn rule(&self, field: FieldId) -> Option<Rule<'_>> {
        self.get(field).map(|field| Rule { ty: &field.ty, policy: field.policy.of_registers(), clears: field.clears })
    }

    fn deletes(&self) -> Deletes {
        self.deletes
    }
}

impl Document {
    /// Returns what a reader sees, or `None` if the document is deleted. Fields that `collection` does not have are left out.
    pub fn view(&self, collection: &Collection) -> Option<View> {
        self.view_with(collection, &Resolvers::default())
    }

    /// Returns what a reader sees who has `resolvers`: custom policies whose resolver is not among them show the newest sibling, in conflict.
    pub fn view_with(&self, collection: &Collection, resolvers: &Resolvers) -> Option<View> {
        if !self.exists() {
            return None;
        }
        let mut view = View { deletes: self.contesting().to_vec(), ..View::default() };
        for field in &collection.fields {
            let kept = self.field(field.id);
            let reading = Reading { policy: field.policy.of_registers(), resolvers };
            let uncounted = || (field.ty == FieldType::Counter).then_some(Value::from(0));
            let value = kept.and_then(|kept| reading.read(kept)).or_else(|| field.default.clone().map(Value::Scalar)).or_else(uncounted);
            if let Some(value) = value {
                view.fields.insert(field.name.clone(), value);
            }
            if let Some(kept) = kept.filter(|_| field.policy.keeps_siblings()) {
                let mut found = |path: &[Arc<str>], siblings| {
                    view.conflicts.push(Conflict { field: field.name.clone(), path: path.to_vec(), siblings });
                };
                reading.conflicts(kept, &mut Vec::new(), &mut found);
            }
        }
        Some(view)
    }

    /// Returns the places at which values stand side by side that differ, whatever is read there: also losers under last-writer. Under max and min
    /// all count, so nothing is disputed there.
    pub(crate) fn disputes(&self, collection: &Collection) -> Vec<Conflict> {
        let mut disputes = Vec::new();
        for field in &collection.fields {
            let policy = field.policy.of_registers();
            if let (Some(kept), false) = (self.field(field.id), matches!(policy, Policy::Max | Policy::Min)) {
                let mut found = |path: &[Arc<str>], siblings| {
                    disputes.push(Conflict { field: field.name.clone(), path: path.to_vec(), siblings });
                };
                Reading { policy, resolvers: Resolvers::none() }.conflicts(kept, &mut Vec::new(), &mut found);
            }
        }
        disputes
    }

    /// Whether a strict or custom field of it has at least two distinct siblings, or an edit stands against a delete. A deleted document has no
    /// conflict.
    pub fn has_conflict(&self, collection: &Collection) -> bool {
        let is_conflict = |(id, kept): &(FieldId, Field)| {
            // Nearly every field is one of these, and no rule need be looked up.
            let is_plain = match kept {
                Field::Register(siblings) => siblings.len() < 2,
                Field::Set(_) | Field::Counter(_) | Field::Text(_) => true,
                Field::Map(_) | Field::List(_) | Field::Several(_) => false,
            };
            if is_plain {
                return false;
            }
            let Some(rule) = collection.rule(*id).filter(|rule| rule.policy.keeps_siblings()) else { return false };
            let mut found = false;
            Reading { policy: rule.policy, resolvers: Resolvers::none() }.conflicts(kept, &mut Vec::new(), &mut |_, _| found = true);
            found
        };
        !self.is_packed() && self.exists() && (!self.contesting().is_empty() || self.fields().iter().any(is_conflict))
    }
}

/// Who is told of conflicts: path and siblings.
type Found<'a> = dyn FnMut(&[Arc<str>], Vec<ConflictSibling>) + 'a;

/// How a field is read.
#[derive(Clone, Copy)]
struct Reading<'a> {
    policy: Policy,
    resolvers: &'a Resolvers,
}

impl Reading<'_> {
    fn read(self, field: &Field) -> Option<Value> {
        match field {
            Field::Register(siblings) => self.register(siblings),
            Field::Set(elements) => (!elements.is_empty()).then(|| Value::Set(elements.keys().cloned().collect())),
            Field::Map(entries) => {
                let entries: BTreeMap<_, _> = entries.iter().filter_map(|(key, entry)| Some((key.clone(), self.read(entry)?))).collect();
                (!entries.is_empty()).then_some(Value::Map(entries))
            }
            Field::Counter(counter) => (counter.sum != 0).then(|| Value::from(counter.sum)),
            Field::Text(text) => (!text.is_blank()).then(|| Value::Scalar(Scalar::String(text.read().into()))),
            Field::List(list) => {
                let items: Vec<_> = list.items().into_iter().filter_map(|(_, item)| self.register(&item.value)).collect();
                (!items.is_empty()).then_some(Value::List(items))
            }
            Field::Several(_) => {
                let siblings = self.siblings(field);
                self.resolved(&siblings).unwrap_or_else(|| siblings.last().and_then(|sibling| sibling.value.clone()))
            }
        }
    }

    fn register(self, siblings: &Siblings<Option<Value>>) -> Option<Value> {
        if siblings.len() > 1
            && let Policy::Custom(_) = self.policy
            && let Some(value) = self.resolved(&as_conflict(siblings))
        {
            return value;
        }
        register::shown(siblings, self.policy)?.value.clone()
    }

    /// Returns what the resolver makes of siblings that differ.
    fn resolved(self, siblings: &[ConflictSibling]) -> Option<Option<Value>> {
        let Policy::Custom(name) = self.policy else { return None };
        differ(siblings).then(|| self.resolvers.resolve(&name, siblings)).flatten()
    }

    /// Returns what stands side by side at a place: a register's siblings, and each other part as one.
    fn siblings(self, field: &Field) -> Vec<ConflictSibling> {
        let mut siblings = Vec::new();
        for part in field.parts() {
            match part {
                Field::Register(register) => siblings.extend(as_conflict(register)),
                part => {
                    let value = self.read(part);
                    let stamp = part.newest_value();
                    siblings.extend(value.zip(stamp).map(|(value, stamp)| ConflictSibling { stamp, value: Some(value) }));
                }
            }
        }
        siblings.sort_by_key(|sibling| sibling.stamp);
        siblings
    }

    /// Tells `found` of every place at or below `field` whose siblings differ, unless the resolver is at hand.
    fn conflicts(self, field: &Field, path: &mut Vec<Arc<str>>, found: &mut Found<'_>) {
        let is_place = matches!(field, Field::Several(_)) || matches!(field, Field::Register(siblings) if siblings.len() > 1);
        if is_place {
            let siblings = self.siblings(field);
            if differ(&siblings) && self.resolved(&siblings).is_none() {
                found(path, siblings);
            }
        }
        for part in field.parts() {
            match part {
                Field::Map(entries) => {
                    for (key, entry) in entries {
                        path.push(key.clone());
                        self.conflicts(entry, path, found);
                        path.pop();
                    }
                }
                Field::List(list) => {
                    for (at, (_, item)) in list.items().into_iter().enumerate().filter(|(_, (_, item))| item.value.len() > 1) {
                        path.push(at.to_string().into());
                        let siblings = as_conflict(&item.value);
                        if differ(&siblings) && self.resolved(&siblings).is_none() {
                            found(path, siblings);
                        }
                        path.pop();
                    }
                }
                _ => {}
            }
        }
    }
}

impl Field {
    /// Returns the newest stamp of what is read of it.
    fn newest_value(&self) -> Option<Stamp> {
        match self {
            Self::List(list) => list.items().iter().flat_map(|(_, item)| item.value.iter().map(|sibling| sibling.stamp)).max(),
            Self::Map(entries) => entries.values().filter_map(Self::newest_value).max(),
            field => field.stamps().max(),
        }
    }
}

fn as_conflict(siblings: &Siblings<Option<Value>>) -> Vec<ConflictSibling> {
    siblings.iter().map(|sibling| ConflictSibling { stamp: sibling.stamp, value: sibling.value.clone() }).collect()
}

fn differ(siblings: &[ConflictSibling]) -> bool {
    siblings.iter().any(|sibling| sibling.value != siblings[0].value)
}

/// Whether what stands side by side at the place itself is in conflict, whatever lies below.
pub(crate) fn is_in_conflict(field: &Field, policy: Policy) -> bool {
    let reading = Reading { policy: policy.of_registers(), resolvers: Resolvers::none() };
    let is_place = matches!(field, Field::Several(_)) || matches!(field, Field::Register(siblings) if siblings.len() > 1);
    is_place && reading.policy.keeps_siblings() && differ(&reading.siblings(field))
}

/// Returns the value that a plain read of the field shows.
pub(crate) fn read(field: &Field, policy: Policy) -> Option<Value> {
    Reading { policy: policy.of_registers(), resolvers: Resolvers::none() }.read(field)
}
