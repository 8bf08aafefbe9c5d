//! Where verified commits wait: for an ancestor, or for this node's clock to come near their time. Bounded; who finds it full is turned
//! away and comes again with the next vector.

use std::collections::{HashMap, HashSet};

use herdbook_model::{id::CommitId, time::Time};

use super::check::Checked;

/// Most commits that wait.
pub(super) const MAX_COUNT: usize = 4096;

/// Most bytes that wait.
pub(super) const MAX_BYTES: usize = 8 << 20;

/// Commits that wait.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    /// By the ancestor they wait for.
    orphans: HashMap<CommitId, Vec<Checked>>,
    /// For the clock.
    early: Vec<Checked>,
    ids: HashSet<CommitId>,
    bytes: usize,
}

impl Quarantine {
    pub(super) fn contains(&self, id: &CommitId) -> bool {
        self.ids.contains(id)
    }

    /// Whether any waits for an ancestor.
    pub(super) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    pub(super) fn is_full(&self, bytes: usize) -> bool {
        self.ids.len() >= MAX_COUNT || self.bytes + bytes > MAX_BYTES
    }

    /// Lets `waiting` wait for `ancestor`. The caller asked [`is_full`](Self::is_full).
    pub(super) fn wait(&mut self, ancestor: CommitId, waiting: Checked) {
        self.enter(&waiting);
        self.orphans.entry(ancestor).or_default().push(waiting);
    }

    /// Lets `waiting` wait for the clock. The caller asked [`is_full`](Self::is_full).
    pub(super) fn wait_for_clock(&mut self, waiting: Checked) {
        self.enter(&waiting);
        self.early.push(waiting);
    }

    /// Takes out those that waited for `ancestor`.
    pub(super) fn release(&mut self, ancestor: &CommitId) -> Vec<Checked> {
        let released = self.orphans.remove(ancestor).unwrap_or_default();
        released.iter().for_each(|checked| self.leave(checked));
        released
    }

    /// Takes out those whose time has come.
    pub(super) fn release_ripe(&mut self, wall: Time) -> Vec<Checked> {
        let (early, ripe): (Vec<_>, Vec<_>) = self.early.drain(..).partition(|checked| checked.commit.header().time.is_ahead(wall));
        self.early = early;
        ripe.iter().for_each(|checked| self.leave(checked));
        ripe
    }

    fn enter(&mut self, checked: &Checked) {
        self.ids.insert(checked.commit.id());
        self.bytes += checked.len;
    }

    fn leave(&mut self, checked: &Checked) {
        self.ids.remove(&checked.commit.id());
        self.bytes -= checked.len;
    }
}
