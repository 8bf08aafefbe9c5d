//! The oracle: what documents say, straight from the definition, by explicit sets of ancestors.
//!
//! A write is visible unless an edit that takes such values away has it among its ancestors (or before it in its own commit). A document
//! exists if some create or update of it was seen by no delete. Written apart from `document`: no version vector, no incremental state,
//! every question is asked of the whole list of edits.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use herdbook_model::{
    document::{Conflict, ConflictSibling, Dot, Stamp, View},
    edit::{Change, Operation},
    id::CommitId,
    schema::{Collection, CollectionId, Field, FieldId, FieldType, Policy, Schema},
    testutil::Delivery,
    value::{Key, Value},
};

/// Every edit that anybody made, with all that its commit stands on.
#[derive(Default)]
pub(crate) struct Oracle {
    ancestors: HashMap<CommitId, Rc<BTreeSet<CommitId>>>,
    edits: BTreeMap<(CollectionId, Key), Vec<Written>>,
}

struct Written {
    commit: CommitId,
    /// Request and edit, by place.
    place: (u32, u32),
    stamp: Stamp,
    seen: Rc<BTreeSet<CommitId>>,
    operation: Operation,
}

impl Written {
    fn saw(&self, other: &Self) -> bool {
        if self.commit == other.commit { other.place < self.place } else { self.seen.contains(&other.commit) }
    }

    fn field(&self, field: FieldId) -> Option<&Change> {
        let fields = match &self.operation {
            Operation::Create(fields) | Operation::Update(fields) => fields,
            Operation::Delete => return None,
        };
        fields.iter().find(|edit| edit.field == field).map(|edit| &edit.change)
    }

    const fn is_create(&self) -> bool {
        matches!(self.operation, Operation::Create(_))
    }

    /// Whether it takes away scalars of a field.
    fn replaces(&self, field: FieldId) -> bool {
        self.is_create() || matches!(self.field(field), Some(Change::Set(_) | Change::Clear))
    }

    /// Whether it takes away `element` of a set.
    fn replaces_element(&self, field: FieldId, element: &Value) -> bool {
        let named =
            matches!(self.field(field), Some(Change::Elements { add, remove }) if add.contains(element) || remove.contains(element));
        self.is_create() || named || matches!(self.field(field), Some(Change::Clear))
    }

    /// Whether it takes away the entry `key` of a map.
    fn replaces_entry(&self, field: FieldId, key: &str) -> bool {
        let named = match self.field(field) {
            Some(Change::Entries { put, remove }) => {
                put.iter().any(|(put, _)| &**put == key) || remove.iter().any(|removed| &**removed == key)
            }
            Some(Change::Clear) => true,
            _ => false,
        };
        self.is_create() || named
    }
}

impl Oracle {
    /// Takes in a commit whose parents it has; requests for which `skips` answers true were never made.
    pub(crate) fn add(&mut self, delivery: &Delivery, skips: impl Fn(u32) -> bool) {
        let (id, header) = (delivery.commit.id(), delivery.commit.header());
        if self.ancestors.contains_key(&id) {
            return;
        }
        let mut seen = BTreeSet::new();
        for parent in &header.parents {
            seen.extend(self.ancestors[parent].iter().copied());
            seen.insert(*parent);
        }
        let seen = Rc::new(seen);
        self.ancestors.insert(id, seen.clone());
        for (request_at, request) in (0..).zip(&delivery.requests).filter(|(at, _)| !skips(*at)) {
            let request = request.as_ref().expect("only skipped requests are absent");
            for (edit_at, (collection, edit)) in (0..).zip(request.edits()) {
                let dot = Dot { chain: delivery.commit.chain(), counter: header.counter, index: request_at << 16 | edit_at };
                let stamp = Stamp { time: header.time, dot };
                let (operation, seen) = (edit.operation.clone(), seen.clone());
                let written = Written { commit: id, place: (request_at, edit_at), stamp, seen, operation };
                self.edits.entry((collection, edit.key.clone())).or_default().push(written);
            }
        }
    }

    /// Returns every document that was ever edited.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &(CollectionId, Key)> {
        self.edits.keys()
    }

    /// Returns what a reader sees of a document.
    pub(crate) fn view(&self, collection: CollectionId, key: &Key, schema: &Schema) -> Option<View> {
        let collection_id = collection;
        let edits = self.edits.get(&(collection_id, key.clone()))?;
        let collection = schema.by_id(collection_id).ok()?;
        exists(edits).then(|| view(edits, collection))
    }

    /// Returns the stamps that a document keeps, its hidden values' too: those of visible writes, and of edits that no later one saw.
    pub(crate) fn stamps(&self, collection: CollectionId, key: &Key, schema: &Schema) -> BTreeSet<Stamp> {
        let edits = &self.edits[&(collection, key.clone())];
        let Ok(collection) = schema.by_id(collection) else { return BTreeSet::new() };
        let mut stamps = BTreeSet::new();
        for write in edits.iter().filter(|write| write.operation != Operation::Delete) {
            let stands = |replaces: &dyn Fn(&Written) -> bool| !edits.iter().any(|other| replaces(other) && other.saw(write));
            let is_kept = |field: &Field| match (write.field(field.id), &field.ty) {
                (Some(Change::Set(_)), FieldType::Scalar(_)) => stands(&|other| other.replaces(field.id)),
                (Some(Change::Clear), FieldType::Scalar(_)) => field.policy == Policy::Strict && stands(&|other| other.replaces(field.id)),
                (Some(Change::Elements { add, .. }), FieldType::Set(_)) => {
                    add.iter().any(|element| stands(&|other| other.replaces_element(field.id, element)))
                }
                (Some(Change::Entries { put, .. }), FieldType::Map(_)) => {
                    put.iter().any(|(key, _)| stands(&|other| other.replaces_entry(field.id, key)))
                }
                _ => false,
            };
            if stands(&|_| true) || collection.fields.iter().any(is_kept) {
                stamps.insert(write.stamp);
            }
        }
        stamps
    }

    /// Returns how often each thing happens that makes merging hard, for the documents of `schema`.
    pub(crate) fn count(&self, schema: &Schema, seen: &mut Coverage) {
        for ((collection, _), edits) in &self.edits {
            let Ok(collection) = schema.by_id(*collection) else { continue };
            let concurrent = |a: &Written, b: &Written| a.commit != b.commit && !a.saw(b) && !b.saw(a);
            let pairs = || edits.iter().flat_map(|a| edits.iter().map(move |b| (a, b)));
            let is_delete = |edit: &Written| edit.operation == Operation::Delete;
            seen.documents += 1;
            seen.delete_against_edit += usize::from(pairs().any(|(a, b)| is_delete(a) && !is_delete(b) && concurrent(a, b)));
            seen.delete_against_delete += usize::from(pairs().any(|(a, b)| is_delete(a) && is_delete(b) && concurrent(a, b)));
            seen.create_after_delete += usize::from(pairs().any(|(a, b)| a.is_create() && is_delete(b) && a.saw(b)));
            seen.update_after_delete += usize::from(pairs().any(|(a, b)| !a.is_create() && !is_delete(a) && is_delete(b) && a.saw(b)));
            seen.create_against_create += usize::from(pairs().any(|(a, b)| a.is_create() && b.is_create() && concurrent(a, b)));
            seen.deleted += usize::from(!exists(edits));
            if exists(edits) {
                let conflicts = view(edits, collection).conflicts;
                seen.conflicts += conflicts.len();
                seen.clears_in_conflict +=
                    conflicts.iter().filter(|conflict| conflict.siblings.iter().any(|sibling| sibling.value.is_none())).count();
                seen.equal_siblings += collection.fields.iter().filter(|field| has_equal_siblings(edits, field)).count();
            }
        }
    }
}

/// What histories went through, so that a test can insist that the hard things happened.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) documents: usize,
    pub(crate) deleted: usize,
    pub(crate) delete_against_edit: usize,
    pub(crate) delete_against_delete: usize,
    pub(crate) create_after_delete: usize,
    pub(crate) update_after_delete: usize,
    pub(crate) create_against_create: usize,
    pub(crate) conflicts: usize,
    pub(crate) clears_in_conflict: usize,
    pub(crate) equal_siblings: usize,
    pub(crate) skipped_requests: usize,
    pub(crate) commits: usize,
    pub(crate) merges: usize,
    pub(crate) late_arrivals: usize,
}

fn exists(edits: &[Written]) -> bool {
    let deletes = || edits.iter().filter(|edit| edit.operation == Operation::Delete);
    edits.iter().any(|edit| edit.operation != Operation::Delete && !deletes().any(|delete| delete.saw(edit)))
}

fn view(edits: &[Written], collection: &Collection) -> View {
    let mut view = View::default();
    for field in &collection.fields {
        let value = match &field.ty {
            FieldType::Scalar(_) => {
                let siblings = siblings(edits, field);
                if field.policy == Policy::Strict && siblings.iter().any(|one| siblings.iter().any(|other| one.value != other.value)) {
                    view.conflicts.push(Conflict { field: field.name.clone(), path: Vec::new(), siblings: siblings.clone() });
                }
                siblings.last().and_then(|sibling| sibling.value.clone())
            }
            FieldType::Set(_) => set(edits, field.id),
            FieldType::Map(_) => map(edits, field.id),
            _ => None,
        };
        if let Some(value) = value.or_else(|| field.default.clone().map(Value::Scalar)) {
            view.fields.insert(field.name.clone(), value);
        }
    }
    view
}

/// Visible writes of a scalar, by stamp. A clear is a value under strict only.
fn siblings(edits: &[Written], field: &Field) -> Vec<ConflictSibling> {
    let visible = edits.iter().filter(|write| !edits.iter().any(|other| other.replaces(field.id) && other.saw(write)));
    let mut siblings: Vec<_> = visible
        .filter_map(|write| match write.field(field.id)? {
            Change::Set(value) => Some(ConflictSibling { stamp: write.stamp, value: Some(value.clone()) }),
            Change::Clear if field.policy == Policy::Strict => Some(ConflictSibling { stamp: write.stamp, value: None }),
            _ => None,
        })
        .collect();
    siblings.sort_by_key(|sibling| sibling.stamp);
    siblings
}

fn has_equal_siblings(edits: &[Written], field: &Field) -> bool {
    let siblings = siblings(edits, field);
    siblings.len() > 1 && siblings.windows(2).all(|pair| pair[0].value == pair[1].value)
}

fn set(edits: &[Written], field: FieldId) -> Option<Value> {
    let mut present = BTreeSet::new();
    for write in edits {
        let Some(Change::Elements { add, .. }) = write.field(field) else { continue };
        let stands = |element: &&Value| !edits.iter().any(|other| other.replaces_element(field, element) && other.saw(write));
        present.extend(add.iter().filter(stands).cloned());
    }
    (!present.is_empty()).then_some(Value::Set(present))
}

fn map(edits: &[Written], field: FieldId) -> Option<Value> {
    let mut winners = BTreeMap::new();
    for write in edits {
        let Some(Change::Entries { put, .. }) = write.field(field) else { continue };
        for (key, value) in put {
            let taken = edits.iter().any(|other| other.replaces_entry(field, key) && other.saw(write));
            let beaten = winners.get(key).is_some_and(|(stamp, _)| *stamp > write.stamp);
            if !taken && !beaten {
                winners.insert(key.clone(), (write.stamp, value.clone()));
            }
        }
    }
    let winners: BTreeMap<_, _> = winners.into_iter().map(|(key, (_, value))| (key, value)).collect();
    (!winners.is_empty()).then_some(Value::Map(winners))
}
