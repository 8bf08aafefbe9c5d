//! Horizons: a state of a branch that stands for all edits that led to it, so that these need not be kept.
//!
//! Laws:
//!
//! - edits go only after the state that stands for them is stored with the root that the authority signed, on every branch here that has them.
//! - headers of commits stay, and in states all that replay remembers (stamps, graves, places). So ancestors, exchanges and signatures are as before, and a
//!   commit that comes late is replayed on that state as on any other.
//! - a branch that lacks what a horizon covers waits for a state from its peers, as a newcomer does: what it has stays, what comes is stored.
//!
//! Commits whose edits may be gone are called past here.

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::{
    codec::{Decode as _, Encode as _},
    graph::{Frontier, Graph as _},
    id::{BranchName, ChainId, CommitId},
    schema::Schema,
    state::State,
    time::Time,
    vector::VersionVector,
};
use herdbook_store::{Batch, Durability, Table};

use super::{Base, Repository, Shared, View, base::Ahead, layout};
use crate::error::Error;

/// Commits whose edits are removed in one batch: with the largest requests still far below what the store takes at once.
const STEP: usize = 64;

/// What was removed before horizons, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Commits whose edits went.
    pub commits: u64,
    /// Requests of those commits.
    pub requests: u64,
    /// Bytes of those requests.
    pub bytes: u64,
}

/// What a horizon would cover.
#[derive(Debug, Clone)]
pub struct Covered {
    /// Heads of the state that would stand for the rest.
    pub heads: Vec<CommitId>,
    /// That state, folded; its chunks are stored.
    pub state: State,
    /// Commits that it stands on.
    pub commits: u64,
    /// Time of the newest of them.
    pub time: Time,
}

impl Shared {
    /// Returns the state that stands for what went on `branch`, `None` if nothing went.
    pub(super) fn floor(&self, branch: &BranchName, schema: &Arc<Schema>) -> Result<Option<State>, Error> {
        let mut notes = self.nodes.pins().notes();
        let Some(bytes) = self.store.refs().get(&layout::horizon(branch))? else { return Ok(None) };
        let base = Base::from_bytes(&bytes).map_err(|source| Error::Record { what: "horizon", source })?;
        let frontier = Frontier::of(&self.commits, &base.heads)?
            .map_err(|head| Error::Hole { what: format!("head {head} of the horizon of branch `{branch}` is not stored") })?;
        let trees = Arc::unwrap_or_clone(base.trees);
        let state = State::materialised(branch.clone(), schema.clone(), frontier, base.judgement, trees);
        notes.note(state.shared_trees());
        Ok(Some(state))
    }

    /// Returns the state from which what comes to `target` on `branch` can be replayed where nothing nearer is at hand: that of the horizon, or
    /// that of no commits.
    pub(super) fn beginning(&self, view: &View, branch: &BranchName, schema: &Arc<Schema>, target: &VersionVector) -> Result<State, Error> {
        if let Some(floor) = self.floor(branch, schema)? {
            if target.covers(floor.frontier().vector()) {
                return Ok(floor);
            }
            return Err(Error::BeforeHorizon { branch: branch.clone(), time: floor.frontier().newest() });
        }
        // A branch that comes from one with a horizon stands on what went there.
        let from = view.log.branch(branch).and_then(|said| said.from.as_ref());
        if let Some(from) = from
            && let Some(said) = view.log.branch(from)
            && let Some(floor) = self.floor(from, &said.schema)?
            && target.covers(floor.frontier().vector())
        {
            let (state, added) = floor.migrated(&self.nodes, branch.clone(), schema.clone())?;
            self.nodes.keep(&state, &added)?;
            return Ok(state);
        }
        Ok(State::empty(branch.clone(), schema.clone()))
    }

    /// Whether the state that stands for what went on `branch` covers all of `commits`.
    fn stands_for(&self, branch: &BranchName, commits: &VersionVector) -> Result<bool, Error> {
        let Some(bytes) = self.store.refs().get(&layout::horizon(branch))? else { return Ok(false) };
        let held = Base::from_bytes(&bytes).map_err(|source| Error::Record { what: "horizon", source })?;
        Ok(Frontier::of(&self.commits, &held.heads)?.is_ok_and(|held| held.vector().covers(commits)))
    }

    /// Whether the edits of a commit may be gone, or never come, since a horizon covers it.
    pub(super) fn is_past(&self, view: &View, commit: &CommitId) -> Result<bool, Error> {
        if view.log.horizons().is_empty() {
            return Ok(false);
        }
        let Some(meta) = self.commits.meta(commit)? else { return Ok(false) };
        self.covers(view, &meta.chain, meta.counter)
    }

    /// Whether a horizon covers the commit at a place, as far as is known here.
    fn covers(&self, view: &View, chain: &ChainId, counter: u64) -> Result<bool, Error> {
        for head in view.log.horizons().values().flat_map(|horizon| &horizon.heads) {
            if self.commits.meta(head)?.is_some_and(|head| head.vector.contains(chain, counter)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets branches that lack what a horizon covers wait for a state.
    pub(super) fn await_states(&self, view: &mut View, batch: &mut Batch) -> Result<(), Error> {
        for (branch, horizon) in view.log.horizons() {
            let Some(state) = view.branches.get(branch) else { continue };
            let covered = match Frontier::of(&self.commits, &horizon.heads)? {
                Ok(frontier) => state.frontier().vector().covers(frontier.vector()),
                Err(_) => false,
            };
            if covered || view.ahead(branch).is_some() {
                continue;
            }
            tracing::info!(%branch, "the horizon lies beyond what is here: a state is to be fetched");
            let base = Base { branch: branch.clone(), heads: Vec::new(), judgement: state.judgement(), trees: Arc::default() };
            batch.put(Table::Refs, layout::base(branch).into_bytes(), base.to_bytes());
            Arc::make_mut(&mut view.ahead).insert(branch.clone(), Ahead { base, frontier: state.frontier().clone() });
        }
        Ok(())
    }
}

impl Repository {
    /// Whether the edits of the commit at a place may be gone everywhere. While a branch waits for a state that is not known of any of its
    /// commits, and none is replayed.
    pub(crate) fn may_lack(&self, branch: &BranchName, chain: &ChainId, counter: u64) -> Result<bool, Error> {
        let view = self.view();
        let waits = view.log.horizons().contains_key(branch) && view.ahead(branch).is_some();
        Ok(waits || self.0.covers(&view, chain, counter)?)
    }

    /// Whether a branch waits for a state from a peer.
    pub fn awaits_base(&self) -> bool {
        self.view().ahead.values().any(|ahead| ahead.base.heads.is_empty())
    }

    /// Returns what a horizon of `branch` at `time` would cover, `None` if that is no commit: accepted ones up to then. The state is
    /// computed and stored.
    ///
    /// Cost: as [`Repository::state_at`], and a fold.
    ///
    /// # Errors
    /// [`Error::BeforeHorizon`], those of replay.
    pub fn coverable(&self, branch: &BranchName, time: Time) -> Result<Option<Covered>, Error> {
        let shared = &self.0;
        let view = self.view();
        let now = view.state(Some(branch))?;
        let said = view.log.branch(branch).ok_or(Error::NoSchema)?;
        let accepted = self.frontier_of(&said.heads)?;
        // What is accepted and not after `time`, of every chain: both are closed under ancestors, so this is.
        let until = self.frontier_up_to(now, time)?;
        let mut frontier = Frontier::default();
        for &(chain, counter) in until.vector().iter() {
            let both = counter.min(accepted.vector().get(&chain));
            if both > 0
                && let Some(id) = self.at(&chain, both)?
                && let Some(meta) = self.meta(&id)?
            {
                frontier.advance(id, &meta);
            }
        }
        if frontier.is_empty() {
            return Ok(None);
        }
        let (commits, time) = (frontier.vector().commits(), frontier.newest());
        let mut state = self.replayed(&view, now, frontier)?;
        shared.nodes.fold(&mut state)?;
        Ok(Some(Covered { heads: state.frontier().ids(), state, commits, time }))
    }

    /// Whether a horizon of the head log covers edits that are here and could go.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn lags_horizon(&self) -> Result<bool, Error> {
        let view = self.view();
        for (branch, horizon) in view.log.horizons() {
            if view.ahead(branch).is_none()
                && let Ok(frontier) = Frontier::of(&self.0.commits, &horizon.heads)?
                && !self.0.stands_for(branch, frontier.vector())?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stores the states that stand for what the horizons of the head log cover, where all of that is here. Returns how many are new.
    ///
    /// Cost: for each the commits between the nearest state at hand and the horizon.
    ///
    /// # Errors
    /// [`Error::WrongRoot`] if a state here has another root than the authority signed; those of replay.
    pub fn reach_horizons(&self) -> Result<usize, Error> {
        let shared = &self.0;
        let view = self.view();
        let mut reached = 0;
        for (branch, horizon) in view.log.horizons() {
            let Some(now) = view.branches.get(branch) else { continue };
            let Ok(frontier) = Frontier::of(&shared.commits, &horizon.heads)? else { continue };
            if view.ahead(branch).is_some() || !now.frontier().vector().covers(frontier.vector()) {
                continue;
            }
            if shared.stands_for(branch, frontier.vector())? {
                continue;
            }
            let mut state = self.replayed(&view, now, frontier)?;
            shared.nodes.fold(&mut state)?;
            let root = self.root(&state)?;
            if root != horizon.root {
                return Err(Error::WrongRoot { branch: branch.clone(), signed: horizon.root, held: root });
            }
            let trees = state.shared_trees().clone();
            let base = Base { branch: branch.clone(), heads: state.frontier().ids(), judgement: state.judgement(), trees };
            let mut batch = Batch::new();
            batch.put(Table::Refs, layout::horizon(branch).into_bytes(), base.to_bytes());
            shared.store.records().write(batch, Durability::Durable)?;
            tracing::info!(%branch, commits = state.frontier().vector().commits(), "the horizon is reached");
            reached += 1;
        }
        Ok(reached)
    }

    /// Removes the edits that states at horizons stand for, or with `dry_run` counts them. `progress` is told how many commits are done.
    ///
    /// Cost: reads what it removes. Each batch is small, and commits wait for no more than that.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub(crate) fn prune(&self, dry_run: bool, mut progress: impl FnMut(u64)) -> Result<Pruned, Error> {
        let shared = &self.0;
        let (limit, mut gone) = (self.prunable()?, shared.pruned()?);
        let collections = |state: &State| state.schema().collections.iter().any(|collection| collection.erasable().next().is_some());
        let has_erasable = self.view().branches.values().any(collections);
        let mut pruned = Pruned::default();
        let (mut batch, mut in_batch) = (Batch::new(), 0);
        for range in gone.clone().missing_from(&limit) {
            for counter in range.first..=range.last {
                if let Some(id) = self.at(&range.chain, counter)?
                    && let Some(stored) = shared.commits.stored(&id)?
                {
                    for at in 0..stored.commit.header().request_count {
                        pruned.requests += 1;
                        pruned.bytes += shared.unstore_request(&id, at, stored.commit.header().time, &mut batch)?;
                    }
                    pruned.commits += 1;
                }
                in_batch += 1;
                if in_batch == STEP || counter == range.last {
                    gone.raise(range.chain, counter);
                    let full = std::mem::take(&mut batch);
                    if !dry_run {
                        shared.write_pruned(full, &gone, has_erasable)?;
                    }
                    in_batch = 0;
                    progress(pruned.commits);
                }
            }
        }
        Ok(pruned)
    }

    /// Returns the commits whose edits no branch here needs.
    fn prunable(&self) -> Result<VersionVector, Error> {
        let view = self.view();
        let mut floors = BTreeMap::new();
        for branch in view.branches.keys() {
            // What stands for it may cover more than it does, where it was fetched.
            if let Some(horizon) = view.log.horizons().get(branch)
                && let Ok(frontier) = Frontier::of(&self.0.commits, &horizon.heads)?
                && self.0.stands_for(branch, frontier.vector())?
            {
                floors.insert(branch, frontier.vector().clone());
            }
        }
        let mut limit = VersionVector::default();
        floors.values().for_each(|floor| limit.merge(floor));
        let mut prunable = VersionVector::default();
        for &(chain, most) in limit.iter() {
            let needed = view.branches.iter().filter_map(|(branch, state)| {
                let floor = floors.get(branch).map_or(0, |floor| floor.get(&chain));
                (state.frontier().vector().get(&chain) > floor).then_some(floor)
            });
            prunable.raise(chain, needed.min().unwrap_or(most).min(most));
        }
        // What waits for a state needs all it has until then.
        Ok(if view.ahead.is_empty() { prunable } else { VersionVector::default() })
    }
}

impl Shared {
    /// Returns the commits whose edits are gone.
    fn pruned(&self) -> Result<VersionVector, Error> {
        let bytes = self.store.refs().get(layout::PRUNED)?;
        let decode = |bytes: Vec<u8>| VersionVector::from_bytes(&bytes).map_err(|source| Error::Record { what: "pruned commits", source });
        Ok(bytes.map(decode).transpose()?.unwrap_or_default())
    }

    fn write_pruned(&self, mut batch: Batch, gone: &VersionVector, has_erasable: bool) -> Result<(), Error> {
        batch.put(Table::Refs, layout::PRUNED, gone.to_bytes());
        if has_erasable {
            // The state at an earlier horizon may have held what was erased since: no file is to keep it.
            batch.put(Table::Refs, layout::ERASED, gone.to_bytes());
        }
        self.store.records().write(batch, Durability::Process)?;
        Ok(())
    }
}
