//! Pins: what a collection of garbage must leave beside what the store itself names.
//!
//! Law: trees are pinned by whoever holds them, for as long as he does: readers, playbacks, old states kept at hand, folds under way, exchanges that
//! offered a state. Nobody has to say so and nobody can forget to unsay it, since trees are noted here, weakly, before anything made of them is
//! handed out. What is made later stands on trees that were pinned, or on chunks stored since; both stay.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use herdbook_model::{
    plant::Plant,
    schema::CollectionId,
    state::{State, Trees},
};
use parking_lot::{Mutex, MutexGuard};

/// Trees of a state, shared by all that hold the state.
pub(crate) type Held = Arc<BTreeMap<CollectionId, Trees>>;

/// Fewest notes from which on those of trees that are gone are dropped.
const FEW: usize = 64;

/// Trees that somebody may hold.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    notes: Mutex<Notes>,
}

/// The notes. While one has them nobody notes anything, so that what is read from the store meanwhile cannot be overwritten unseen.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    trees: Vec<Weak<BTreeMap<CollectionId, Trees>>>,
    /// How many there may be before they are looked through.
    room: usize,
}

impl Pins {
    /// Notes the trees of `state`: to be done before a chunk of them that is new is stored, and before the state is handed out.
    pub(crate) fn note(&self, state: &State) {
        self.notes().note(state.shared_trees());
    }

    /// Returns the notes, to take trees from the store and note them in one.
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock()
    }
}

impl Notes {
    /// Notes trees.
    pub(crate) fn note(&mut self, trees: &Held) {
        if self.trees.last().is_some_and(|last| last.as_ptr() == Arc::as_ptr(trees)) {
            return;
        }
        if self.trees.len() >= self.room.max(FEW) {
            self.trees.retain(|trees| trees.strong_count() > 0);
            self.trees.sort_unstable_by_key(Weak::as_ptr);
            self.trees.dedup_by_key(|trees| trees.as_ptr());
            self.room = 2 * self.trees.len();
        }
        self.trees.push(Arc::downgrade(trees));
    }

    /// Returns what is held now, each once.
    pub(crate) fn held(&self) -> Vec<Held> {
        if Plant::SkipPins.is_here() {
            return Vec::new();
        }
        let mut held: Vec<_> = self.trees.iter().filter_map(Weak::upgrade).collect();
        held.sort_unstable_by_key(Arc::as_ptr);
        held.dedup_by(|one, other| Arc::ptr_eq(one, other));
        held
    }
}
