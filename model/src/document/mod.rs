//! A document: typed fields with the stamps and dots that make replay exact.
//!
//! Law: a document is a pure function of the set of edits applied to it, whatever causal order they came in:
//! `apply(apply(d, a), b) = apply(apply(d, b), a)` for concurrent `a`, `b`. A value stands in it while the edit that wrote it was seen by
//! no edit that takes such values away. Bytes are in `bytes`, what a reader sees in `view`.

mod bytes;
mod view;

use std::{collections::BTreeMap, sync::Arc};

pub(crate) use view::read;
pub use view::{Conflict, ConflictSibling, View};

use crate::{
    edit::{Change, Edit, FieldEdit, Operation},
    id::ChainId,
    schema::FieldId,
    time::Time,
    value::Scalar,
    vector::VersionVector,
};

/// Most bytes a document may have after an edit, as its writer sees it: a rule for requests. Concurrent edits add up, so replay and trees
/// take documents of any length.
pub const MAX_LEN: usize = (1 << 20) - 64;

/// Names one edit of commit `counter` of `chain`.
///
/// The index holds the request's place in the commit in its upper 16 bits and the edit's place in the request in its lower 16, so that a
/// request that is lost leaves the names of the others' edits as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// The chain.
    pub chain: ChainId,
    /// The commit on it.
    pub counter: u64,
    /// The edit in it.
    pub index: u32,
}

impl Dot {
    /// Returns the index of the `edit`-th edit of the `request`-th request.
    pub const fn index(request: u32, edit: u32) -> u32 {
        request << 16 | edit
    }

    /// Returns the place in the commit of the request the edit belongs to.
    pub const fn request(&self) -> u32 {
        self.index >> 16
    }
}

/// When and by which edit a value was written. Rises along ancestry; the highest wins under last-writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Time of the commit.
    pub time: Time,
    /// The edit.
    pub dot: Dot,
}

/// What an edit had seen: the commits below its own, and the edits before it in the same commit.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The commit's ancestors; whether the commit itself is in it makes no difference.
    pub vector: &'a VersionVector,
    /// The edit's own stamp.
    pub stamp: Stamp,
}

impl Context<'_> {
    /// Whether the edit named by `dot` was seen.
    pub fn saw(&self, dot: &Dot) -> bool {
        let own = &self.stamp.dot;
        if dot.chain == own.chain && dot.counter == own.counter {
            dot.index < own.index
        } else {
            self.vector.contains(&dot.chain, dot.counter)
        }
    }
}

/// A value and the edit that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sibling<T> {
    /// Which edit.
    pub stamp: Stamp,
    /// The value.
    pub value: T,
}

/// Concurrent writes that no later edit saw, by stamp.
pub type Siblings<T> = Vec<Sibling<T>>;

/// What is kept of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Scalar under last-writer or strict; `None` is a clear, kept under strict only.
    Register(Siblings<Option<Scalar>>),
    /// Element → the adds that no remove saw.
    Set(BTreeMap<Scalar, Vec<Stamp>>),
    /// Key → its siblings.
    Map(BTreeMap<Arc<str>, Siblings<Scalar>>),
}

/// A document with its history's traces. Fields of a deleted document stay, hidden, until the horizon: a concurrent edit brings the
/// whole document back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// Edits that no later edit of this document saw; none: the document is deleted.
    alive: Vec<Stamp>,
    /// By number; no field is empty.
    fields: Vec<(FieldId, Field)>,
}

impl Document {
    /// Whether the document exists for readers.
    pub const fn exists(&self) -> bool {
        !self.alive.is_empty()
    }

    /// Whether nothing at all is kept, so that the key can go from the tree.
    pub const fn is_empty(&self) -> bool {
        self.alive.is_empty() && self.fields.is_empty()
    }

    /// Returns the edits that keep it alive, by stamp.
    pub fn alive(&self) -> &[Stamp] {
        &self.alive
    }

    /// Returns what is kept of each field, by number, hidden ones included.
    pub fn fields(&self) -> &[(FieldId, Field)] {
        &self.fields
    }

    /// Returns what is kept of `field`.
    pub fn field(&self, field: FieldId) -> Option<&Field> {
        self.fields.binary_search_by_key(&field, |(id, _)| *id).ok().map(|at| &self.fields[at].1)
    }

    /// Returns the newest stamp in it.
    pub fn newest(&self) -> Option<Stamp> {
        self.alive.iter().copied().max()
    }

    /// Returns every stamp of every kept value of fields, and of existence.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.alive.iter().copied().chain(self.fields.iter().flat_map(|(_, field)| field.stamps()))
    }

    /// Drops what is kept of fields that `rules` do not have. Equal to a replay under those rules, since fields do not depend on each other.
    pub fn restrict(&mut self, rules: &impl Rules) {
        self.fields.retain(|(id, _)| rules.rule(*id).is_some());
    }

    /// Applies an edit made in `context`. Edits of fields that `rules` do not have (dropped by a migration, say) are passed over.
    pub fn apply(&mut self, edit: &Edit, context: &Context<'_>, rules: &impl Rules) {
        match &edit.operation {
            Operation::Delete => self.alive.retain(|stamp| !context.saw(&stamp.dot)),
            Operation::Create(fields) => {
                self.forget_seen(context);
                self.touch(context);
                self.apply_fields(fields, context, rules);
            }
            Operation::Update(fields) => {
                self.touch(context);
                self.apply_fields(fields, context, rules);
            }
        }
    }

    fn touch(&mut self, context: &Context<'_>) {
        self.alive.retain(|stamp| !context.saw(&stamp.dot));
        insert(&mut self.alive, context.stamp);
    }

    fn forget_seen(&mut self, context: &Context<'_>) {
        for (_, field) in &mut self.fields {
            field.take_away(context);
        }
        self.fields.retain(|(_, field)| !field.is_empty());
    }

    fn apply_fields(&mut self, edits: &[FieldEdit], context: &Context<'_>, rules: &impl Rules) {
        for FieldEdit { field, change } in edits {
            let Some(rule) = rules.rule(*field) else { continue };
            let at = match self.fields.binary_search_by_key(field, |(id, _)| *id) {
                Ok(at) => at,
                Err(at) => {
                    self.fields.insert(at, (*field, rule.empty()));
                    at
                }
            };
            self.fields[at].1.apply(change, context, rule);
            if self.fields[at].1.is_empty() {
                self.fields.remove(at);
            }
        }
    }
}

/// How a field keeps what is written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Last-writer: a clear takes away what it saw.
    LastWriter,
    /// Strict: a clear is a sibling like any other.
    Strict,
    /// Add-wins set.
    Set,
    /// Key-wise map.
    Map,
}

impl Rule {
    const fn empty(self) -> Field {
        match self {
            Self::LastWriter | Self::Strict => Field::Register(Vec::new()),
            Self::Set => Field::Set(BTreeMap::new()),
            Self::Map => Field::Map(BTreeMap::new()),
        }
    }
}

/// The rule of each field, from the schema of the branch that is replayed.
pub trait Rules {
    /// Returns the rule of `field`, `None` if the schema has no such field: then edits of it are passed over.
    fn rule(&self, field: FieldId) -> Option<Rule>;
}

impl Field {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Register(siblings) => siblings.is_empty(),
            Self::Set(elements) => elements.is_empty(),
            Self::Map(entries) => entries.is_empty(),
        }
    }

    fn stamps(&self) -> Box<dyn Iterator<Item = Stamp> + '_> {
        match self {
            Self::Register(siblings) => Box::new(siblings.iter().map(|sibling| sibling.stamp)),
            Self::Set(elements) => Box::new(elements.values().flatten().copied()),
            Self::Map(entries) => Box::new(entries.values().flatten().map(|sibling| sibling.stamp)),
        }
    }

    fn take_away(&mut self, context: &Context<'_>) {
        match self {
            Self::Register(siblings) => siblings.retain(|sibling| !context.saw(&sibling.stamp.dot)),
            Self::Set(elements) => elements.retain(|_, adds| {
                adds.retain(|stamp| !context.saw(&stamp.dot));
                !adds.is_empty()
            }),
            Self::Map(entries) => entries.retain(|_, siblings| {
                siblings.retain(|sibling| !context.saw(&sibling.stamp.dot));
                !siblings.is_empty()
            }),
        }
    }

    /// A change of another shape than the field changes nothing: requests are checked against the schema before they are signed, and
    /// judged at acceptance; replay must only be total and deterministic.
    fn apply(&mut self, change: &Change, context: &Context<'_>, rule: Rule) {
        match (self, change) {
            (field, Change::Clear) => {
                field.take_away(context);
                if let (Self::Register(siblings), Rule::Strict) = (field, rule) {
                    insert_sibling(siblings, Sibling { stamp: context.stamp, value: None });
                }
            }
            (Self::Register(siblings), Change::Set(value)) => {
                siblings.retain(|sibling| !context.saw(&sibling.stamp.dot));
                insert_sibling(siblings, Sibling { stamp: context.stamp, value: Some(value.clone()) });
            }
            (Self::Set(elements), Change::Elements { add, remove }) => {
                for element in remove.iter().chain(add) {
                    if let Some(adds) = elements.get_mut(element) {
                        adds.retain(|stamp| !context.saw(&stamp.dot));
                    }
                }
                for element in add {
                    insert(elements.entry(element.clone()).or_default(), context.stamp);
                }
                for element in remove {
                    if elements.get(element).is_some_and(Vec::is_empty) {
                        elements.remove(element);
                    }
                }
            }
            (Self::Map(entries), Change::Entries { put, remove }) => {
                for key in remove.iter().chain(put.iter().map(|(key, _)| key)) {
                    if let Some(siblings) = entries.get_mut(key) {
                        siblings.retain(|sibling| !context.saw(&sibling.stamp.dot));
                    }
                }
                for (key, value) in put {
                    let siblings = entries.entry(key.clone()).or_default();
                    insert_sibling(siblings, Sibling { stamp: context.stamp, value: value.clone() });
                }
                for key in remove {
                    if entries.get(key).is_some_and(Vec::is_empty) {
                        entries.remove(key);
                    }
                }
            }
            _ => {}
        }
    }
}

fn insert(stamps: &mut Vec<Stamp>, stamp: Stamp) {
    if let Err(at) = stamps.binary_search(&stamp) {
        stamps.insert(at, stamp);
    }
}

fn insert_sibling<T>(siblings: &mut Siblings<T>, sibling: Sibling<T>) {
    if let Err(at) = siblings.binary_search_by_key(&sibling.stamp, |sibling| sibling.stamp) {
        siblings.insert(at, sibling);
    }
}
