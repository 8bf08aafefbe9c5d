//! What an earlier answer named, found again: states by what their names are made of, requests by their idempotency keys, commits by id,
//! and the entries that judged them.

use std::collections::BTreeSet;

use herdbook_model::{
    authority::{Entry, Kind as EntryKind, Position, RequestRef, Void},
    codec::Decode as _,
    commit::Commit,
    graph::{self, Frontier, Graph as _, Meta},
    id::{BranchName, CommitId, Judgement, RequestKey, StateName},
    state::{State, advance},
};
use herdbook_store::{Direction, KeyRange, Table};

use super::{Committed, Repository, View, layout};
use crate::error::Error;

/// What a state's name is made of.
#[derive(Debug, Clone, Copy)]
pub struct StateParts<'a> {
    /// The branch.
    pub branch: &'a BranchName,
    /// Heads of its frontier, sorted.
    pub heads: &'a [CommitId],
    /// What its replay skipped.
    pub judgement: Judgement,
}

impl StateParts<'_> {
    /// Returns the name.
    pub fn name(&self) -> StateName {
        graph::state_name(graph::name(self.branch, self.heads), self.judgement)
    }
}

impl Repository {
    /// Returns the header of a commit with its signature, `None` if it is not here.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn signed(&self, id: &CommitId) -> Result<Option<Commit>, Error> {
        Ok(self.0.commits.stored(id)?.map(|stored| stored.commit))
    }

    /// Returns the newest commits of a branch by time, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn newest(&self, branch: &BranchName, limit: usize) -> Result<Vec<CommitId>, Error> {
        let records = self.0.store.records().scan(Table::Index, KeyRange::prefix(&layout::by_branch(branch)), Direction::Backward);
        let mut commits = Vec::new();
        for record in records.take(limit) {
            commits.extend(layout::parse_tail(&record?.key).map(|(_, id)| id));
        }
        Ok(commits)
    }

    /// Returns what became of a request with this idempotency key, `None` if there is none in the store.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn answered(&self, key: &RequestKey) -> Result<Option<Committed>, Error> {
        let Some(bytes) = self.0.store.records().get(Table::Index, &layout::by_request(key))? else { return Ok(None) };
        let Some((commit, request)) = layout::parse_outcome(&bytes) else { return Ok(None) };
        let Some(stored) = self.0.commits.stored(&commit)? else { return Ok(None) };
        let branch = stored.commit.header().branch.clone();
        let view = self.view();
        let Some(state) = view.branches.get(&branch) else { return Ok(None) };
        let (chain, counter, time) = (stored.commit.chain(), stored.commit.header().counter, stored.commit.header().time);
        Ok(Some(Committed { commit, request, branch, chain, counter, time, state: state.name(), repeated: true }))
    }

    /// Returns a state by what its name is made of. Cost: as [`Repository::state_at`]; for a judgement that is not the branch's newest also
    /// a pass over the head log.
    ///
    /// # Errors
    /// [`Error::UnknownBranch`]; [`Error::UnknownCommit`] if the branch does not have the heads here; [`Error::StaleToken`] if they are no
    /// frontier, or if what the judgement skipped is not known here.
    pub fn state_of(&self, view: &View, parts: StateParts<'_>) -> Result<State, Error> {
        let stale = || Error::StaleToken { what: "state" };
        let now = view.state(Some(parts.branch))?;
        let name = parts.name();
        if now.name() == name {
            return Ok(now.clone());
        }
        if let Some(state) = self.0.past.lock().get(&name) {
            return Ok(state.clone());
        }
        let frontier = self.frontier_of(parts.heads)?;
        if let Some(head) = frontier.heads().iter().find(|head| !now.frontier().vector().contains(&head.chain, head.counter)) {
            return Err(Error::UnknownCommit { id: head.id.to_string() });
        }
        if frontier.ids() != parts.heads {
            return Err(stale());
        }
        if parts.judgement == now.judgement() {
            return self.replayed(view, now, frontier);
        }
        let skipped = self.skipped_by(parts.judgement)?.ok_or_else(stale)?;
        let mut state = self.nearest_below(view, now, &frontier, parts.judgement)?;
        advance(&mut state, &self.0.commits, &self.0.nodes, frontier.vector(), |request| skipped.contains(request))?;
        state.set_judgement(parts.judgement);
        self.0.past.lock().put(name, state.clone());
        Ok(state)
    }

    /// Returns a state from which `frontier` can be replayed under an older judgement.
    fn nearest_below(&self, view: &View, now: &State, frontier: &Frontier, judgement: Judgement) -> Result<State, Error> {
        let covered = |state: &State| frontier.vector().covers(state.frontier().vector());
        let held = {
            let past = self.0.past.lock();
            let same = past.iter().map(|(_, state)| state).filter(|state| state.branch() == now.branch() && state.judgement() == judgement);
            same.filter(|state| covered(state)).max_by_key(|state| state.frontier().vector().commits()).cloned()
        };
        if let Some(state) = held {
            return Ok(state);
        }
        if let Some(state) = self.0.load_materialised(now.branch(), now.schema())?
            && covered(&state)
            && (state.judgement() == judgement || self.0.holds_none_skipped(view, &state, Judgement::NONE)?)
        {
            return Ok(state);
        }
        self.0.beginning(view, now.branch(), now.schema(), frontier.vector())
    }

    /// Returns what replay skips under a judgement of the head log, `None` if the log has no such judgement.
    fn skipped_by(&self, judgement: Judgement) -> Result<Option<BTreeSet<RequestRef>>, Error> {
        let mut skipped = BTreeSet::new();
        if judgement == Judgement::NONE {
            return Ok(Some(skipped));
        }
        for record in self.0.store.records().scan(Table::Entries, KeyRange::all(), Direction::Forward) {
            let entry = decode(&record?.value)?;
            match &entry.kind {
                EntryKind::Head { voids, .. } => skipped.extend(voids.iter().map(|void| void.request)),
                EntryKind::Restore { lost, .. } => skipped.extend(lost.iter().map(|lost| lost.request)),
                _ => continue,
            }
            if entry.id().0 == judgement.0 {
                return Ok(Some(skipped));
            }
        }
        Ok(None)
    }

    /// Returns the requests that the head log voided after the entry that made `judgement`, with the reasons; all of them for
    /// [`Judgement::NONE`]. Cost: the entries after it, and nothing if none was ever voided.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn voids_since(&self, judgement: Judgement) -> Result<Vec<Void>, Error> {
        let mut found = Vec::new();
        if self.view().log.voided().is_empty() {
            return Ok(found);
        }
        for record in self.0.store.records().scan(Table::Entries, KeyRange::all(), Direction::Backward) {
            let entry = decode(&record?.value)?;
            if entry.id().0 == judgement.0 {
                break;
            }
            if let EntryKind::Head { voids, .. } = entry.kind {
                found.extend(voids);
            }
        }
        Ok(found)
    }

    /// Returns the entry that accepted a commit into its branch, `None` if none did as far as `view` knows.
    ///
    /// Cost: entries looked up by halving, since the accepted frontier only grows.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn accepted(&self, view: &View, branch: &BranchName, meta: &Meta) -> Result<Option<Position>, Error> {
        let Some(said) = view.log.branch(branch) else { return Ok(None) };
        if !self.covers(&said.heads, meta)? {
            return Ok(None);
        }
        // `high` accepts; nothing below `low` does.
        let (mut low, mut high) = (0, said.accepted.seq);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.heads_between(branch, low, middle)? {
                Some((seq, heads)) if self.covers(&heads, meta)? => high = seq,
                _ => low = middle + 1,
            }
        }
        Ok(view.log.entry_at(high))
    }

    fn covers(&self, heads: &[CommitId], meta: &Meta) -> Result<bool, Error> {
        for head in heads {
            if self.0.commits.meta(head)?.is_some_and(|head| head.vector.contains(&meta.chain, meta.counter)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the last entry in `low..=high` that said what the heads of `branch` are, with those heads.
    fn heads_between(&self, branch: &BranchName, low: u64, high: u64) -> Result<Option<(u64, Vec<CommitId>)>, Error> {
        let range = KeyRange::between(&low.to_be_bytes(), &high.saturating_add(1).to_be_bytes());
        for record in self.0.store.records().scan(Table::Entries, range, Direction::Backward) {
            let entry = decode(&record?.value)?;
            match entry.kind {
                EntryKind::Head { branch: of, heads, .. } | EntryKind::Migration { branch: of, heads, .. } if of == *branch => {
                    return Ok(Some((entry.seq, heads)));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

fn decode(bytes: &[u8]) -> Result<Entry, Error> {
    Entry::from_bytes(bytes).map_err(|source| Error::Record { what: "head-log entry", source })
}
