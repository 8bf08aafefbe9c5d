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
    /// Bytes of commits that were released and are not yet stored or dropped: their credit was given back when they came, so they count
    /// here until they are out of memory.
    leaving: usize,
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
        self.ids.len() >= MAX_COUNT || self.held() + bytes > MAX_BYTES
    }

    /// Returns the bytes that wait, or waited and are not out of memory.
    pub(super) const fn held(&self) -> usize {
        self.bytes + self.leaving
    }

    /// Notes that `bytes` of commits that were released are out of memory.
    pub(super) const fn left(&mut self, bytes: usize) {
        self.leaving -= bytes;
    }

    /// Notes that `bytes` of commits that were released stay in memory until they are stored.
    pub(super) const fn keep(&mut self, bytes: usize) {
        self.leaving += bytes;
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
        self.leave(released)
    }

    /// Takes out those whose time has come.
    pub(super) fn release_ripe(&mut self, wall: Time) -> Vec<Checked> {
        let (early, ripe): (Vec<_>, Vec<_>) = self.early.drain(..).partition(|checked| checked.commit.header().time.is_ahead(wall));
        self.early = early;
        self.leave(ripe)
    }

    fn enter(&mut self, checked: &Checked) {
        self.ids.insert(checked.commit.id());
        self.bytes += checked.len;
    }

    fn leave(&mut self, mut released: Vec<Checked>) -> Vec<Checked> {
        for checked in &mut released {
            self.ids.remove(&checked.commit.id());
            self.bytes -= checked.len;
            self.leaving += checked.len;
            checked.waited = checked.len;
        }
        released
    }
}
