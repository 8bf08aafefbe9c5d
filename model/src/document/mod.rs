//! A document: typed fields with the stamps and dots that make replay exact.
//!
//! Law: a document is a pure function of the set of edits applied to it, whatever causal order they came in:
//! `apply(apply(d, a), b) = apply(apply(d, b), a)` for concurrent `a`, `b`. A value stands in it while the edit that wrote it was seen by
//! no edit that takes such values away. Replay is in `parts`, bytes are in `bytes` and `packed`, what a reader sees is in `view`.

mod bytes;
mod field;
mod list;
mod packed;
mod parts;
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

use std::sync::{Arc, OnceLock};

use self::parts::Parts;
use crate::{
    codec::Decode as _,
    edit::Edit,
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

/// A document with its history's traces.
///
/// Most are written by one edit and seldom read before they go into a tree: such a one is kept as its bytes where that is simple (see `packed`),
/// and taken apart when somebody asks for a part. Clones share the bytes.
#[derive(Debug, Clone, Default)]
pub struct Document {
    /// Its canonical bytes, where `packed` wrote them: then it exists, and nothing in it stands beside anything else. Documents that have none may be
    /// so too.
    packed: Option<Arc<[u8]>>,
    /// What is kept. Where it is not set there are bytes, or nothing is kept.
    parts: OnceLock<Parts>,
}

impl Document {
    fn parts(&self) -> &Parts {
        self.parts.get_or_init(|| {
            let bytes = self.packed.as_deref().unwrap_or_default();
            if bytes.is_empty() { Parts::default() } else { Parts::from_bytes(bytes).expect("what was packed here is canonical") }
        })
    }

    fn parts_mut(&mut self) -> &mut Parts {
        self.parts();
        self.packed = None;
        self.parts.get_mut().expect("they were just taken apart")
    }

    /// Whether there are bytes of it.
    fn is_packed(&self) -> bool {
        self.packed.is_some()
    }

    /// Whether the document exists for readers.
    pub fn exists(&self) -> bool {
        self.is_packed() || self.parts().exist()
    }

    /// Returns the deletes that an edit stands against, if its collection makes that a conflict.
    pub fn contesting(&self) -> &[Stamp] {
        if !self.is_packed() && self.exists() { &self.parts().graves } else { &[] }
    }

    /// Whether nothing at all is kept, so that the key can go from the tree.
    pub fn is_empty(&self) -> bool {
        !self.is_packed() && self.parts().is_empty()
    }

    /// Returns the edits that keep it alive, by stamp.
    pub fn alive(&self) -> &[Stamp] {
        &self.parts().alive
    }

    /// Returns what is kept of each field, by number, hidden ones included.
    pub fn fields(&self) -> &[(FieldId, Field)] {
        &self.parts().fields
    }

    /// Returns what is kept of `field`.
    pub fn field(&self, field: FieldId) -> Option<&Field> {
        let fields = self.fields();
        fields.binary_search_by_key(&field, |(id, _)| *id).ok().map(|at| &fields[at].1)
    }

    /// Returns the newest stamp in it.
    pub fn newest(&self) -> Option<Stamp> {
        self.alive().iter().copied().max()
    }

    /// Returns every stamp of every kept value of fields, and of existence.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        let parts = self.parts();
        parts.alive.iter().chain(&parts.graves).copied().chain(parts.fields.iter().flat_map(|(_, field)| field.stamps()))
    }

    /// Drops what is kept of fields that `rules` do not have. Equal to a replay under those rules, since fields do not depend on each other.
    pub fn restrict(&mut self, rules: &impl Rules) {
        if self.fields().iter().any(|(id, _)| rules.rule(*id).is_none()) {
            self.parts_mut().fields.retain(|(id, _)| rules.rule(*id).is_some());
        }
    }

    /// Applies an edit made in `context`. Edits of fields that `rules` do not have (dropped by a migration, say) are passed over.
    pub fn apply(&mut self, edit: &Edit, context: &Context<'_>, rules: &impl Rules) {
        if self.is_empty()
            && let Some(bytes) = packed::pack(edit, context, rules)
        {
            *self = Self { packed: Some(bytes.into()), parts: OnceLock::new() };
            return;
        }
        self.parts_mut().apply(edit, context, rules);
    }
}

impl From<Parts> for Document {
    fn from(parts: Parts) -> Self {
        Self { packed: None, parts: parts.into() }
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        match (&self.packed, &other.packed) {
            (Some(own), Some(others)) => own == others,
            _ => self.parts() == other.parts(),
        }
    }
}

impl Eq for Document {}

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
