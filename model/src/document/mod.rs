//! A document: typed fields with the stamps and dots that make replay exact.
//!
//! Law: a document is a pure function of the set of edits applied to it, whatever causal order they came in:
//! `apply(apply(d, a), b) = apply(apply(d, b), a)` for concurrent `a`, `b`. A value stands in it while the edit that wrote it was seen by
//! no edit that takes such values away. Bytes are in `bytes`, what a reader sees in `view`.

mod bytes;
mod field;
mod list;
mod register;
mod sequence;
mod sequence_bytes;
mod text;
mod view;

pub use field::{Counter, Field, Rule};
pub use list::{Item, List, ListSplice};
pub(crate) use register::shown;
pub use sequence::ElementId;
pub use text::{Text, TextSplice};
pub use view::{Conflict, ConflictSibling, View};
pub(crate) use view::{is_in_conflict, read};

use crate::{
    edit::{Edit, FieldEdit, Operation},
    id::ChainId,
    schema::{Deletes, FieldId},
    time::Time,
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

/// A document with its history's traces. Fields of a deleted document stay, hidden, until the horizon: a concurrent edit brings the
/// whole document back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    /// Edits that no later edit of this document saw; none: the document is deleted.
    alive: Vec<Stamp>,
    /// By number; no field is empty.
    fields: Vec<(FieldId, Field)>,
    /// Deletes that no later edit of this document saw, where its collection keeps them.
    graves: Vec<Stamp>,
    /// Whether a document that has graves and is alive is in conflict about it, rather than deleted.
    contested: bool,
}

impl Document {
    /// Whether the document exists for readers.
    pub const fn exists(&self) -> bool {
        !self.alive.is_empty() && (self.contested || self.graves.is_empty())
    }

    /// Returns the deletes that an edit stands against, if its collection makes that a conflict.
    pub fn contesting(&self) -> &[Stamp] {
        if self.exists() { &self.graves } else { &[] }
    }

    /// Whether nothing at all is kept, so that the key can go from the tree.
    pub const fn is_empty(&self) -> bool {
        self.alive.is_empty() && self.fields.is_empty() && self.graves.is_empty()
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
        self.alive.iter().chain(&self.graves).copied().chain(self.fields.iter().flat_map(|(_, field)| field.stamps()))
    }

    /// Drops what is kept of fields that `rules` do not have. Equal to a replay under those rules, since fields do not depend on each other.
    pub fn restrict(&mut self, rules: &impl Rules) {
        self.fields.retain(|(id, _)| rules.rule(*id).is_some());
    }

    /// Applies an edit made in `context`. Edits of fields that `rules` do not have (dropped by a migration, say) are passed over.
    pub fn apply(&mut self, edit: &Edit, context: &Context<'_>, rules: &impl Rules) {
        match &edit.operation {
            Operation::Delete => self.bury(context, rules.deletes()),
            Operation::Create(fields) => {
                self.forget_seen(context, rules);
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
        self.exhume(context);
    }

    fn bury(&mut self, context: &Context<'_>, deletes: Deletes) {
        self.alive.retain(|stamp| !context.saw(&stamp.dot));
        self.exhume(context);
        if deletes != Deletes::EditWins {
            insert(&mut self.graves, context.stamp);
            self.contested = deletes == Deletes::Conflict;
        }
    }

    fn exhume(&mut self, context: &Context<'_>) {
        self.graves.retain(|stamp| !context.saw(&stamp.dot));
        self.contested &= !self.graves.is_empty();
    }

    fn forget_seen(&mut self, context: &Context<'_>, rules: &impl Rules) {
        for (id, field) in &mut self.fields {
            let rule = rules.rule(*id);
            field.take_away(context, &|sibling| rule.is_some_and(|rule| rule.is_floor(sibling)));
        }
        self.fields.retain(|(_, field)| !field.is_empty());
    }

    fn apply_fields(&mut self, edits: &[FieldEdit], context: &Context<'_>, rules: &impl Rules) {
        if self.fields.is_empty() {
            self.fields.reserve_exact(edits.len());
        }
        for FieldEdit { field, change } in edits {
            let Some(rule) = rules.rule(*field) else { continue };
            let at = match self.fields.binary_search_by_key(field, |(id, _)| *id) {
                Ok(at) => at,
                Err(at) => {
                    self.fields.insert(at, (*field, Field::default()));
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

/// The rule of each field, from the schema of the branch that is replayed.
pub trait Rules {
    /// Returns the rule of `field`, `None` if the schema has no such field: then edits of it are passed over.
    fn rule(&self, field: FieldId) -> Option<Rule<'_>>;

    /// Returns what comes of a document that one deletes while another edits it.
    fn deletes(&self) -> Deletes;
}

fn insert(stamps: &mut Vec<Stamp>, stamp: Stamp) {
    if let Err(at) = stamps.binary_search(&stamp) {
        insert_at(stamps, at, stamp);
    }
}

/// As [`Vec::insert`], with room for one where there was none: most lists of a document never get a second member, and a vector makes room for
/// four at once.
fn insert_at<T>(list: &mut Vec<T>, at: usize, member: T) {
    if list.is_empty() {
        list.reserve_exact(1);
    }
    list.insert(at, member);
}
