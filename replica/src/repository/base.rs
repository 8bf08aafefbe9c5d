//! Bases: trees of a state that the authority signed, fetched as they lie before the history that led to it.
//!
//! Laws: a base is taken only if its root stands in the head log, signed, beside its heads. While commits of its frontier lack, what comes is
//! stored and not replayed: the branch shows what it showed, and what is held beyond that is known as [`Ahead`], so that peers are told of
//! it. When the last head is here the base is the materialised state of the branch, and only what it lacks is replayed.

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::{
    authority::{Entry, Kind, Log},
    codec::{self, Decode as _, Encode as _, Reader, Writer as Encoder},
    graph::{Frontier, Meta},
    id::{BranchName, CommitId, Judgement, StateRoot},
    schema::CollectionId,
    state::{State, Trees, root_of},
    tree::Tree,
};
use herdbook_store::{Batch, Direction, Durability, KeyRange, Table};

use super::{Change, Repository, Shared, View, layout, materialise, write::Writer};
use crate::error::Error;

/// Most entries of the head log that are looked through for a signed root.
const NEWEST: usize = 16_384;

/// Trees of a state, with what names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The branch.
    pub branch: BranchName,
    /// Heads of the state's frontier.
    pub heads: Vec<CommitId>,
    /// What replay skipped.
    pub judgement: Judgement,
    /// The trees, by collection.
    pub trees: Arc<BTreeMap<CollectionId, Trees>>,
}

/// A base whose history is not all here.
#[derive(Debug, Clone)]
pub(crate) struct Ahead {
    /// One without heads: none is here yet, a peer is to be asked for one.
    pub(super) base: Base,
    /// What is stored of the branch beyond what its state shows.
    pub(super) frontier: Frontier,
}

impl View {
    /// Returns what is stored of `branch` beyond what its state shows, if a base waits for it.
    pub fn ahead(&self, branch: &BranchName) -> Option<&Frontier> {
        self.ahead.get(branch).map(|ahead| &ahead.frontier)
    }
}

impl Repository {
    /// Takes bases whose chunks are all in the store, for branches of which nothing is here yet. Those that the authority did not sign are
    /// passed over. Returns how many were taken.
    ///
    /// Cost: a pass over the newest entries of the head log.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn take_bases(&self, bases: Vec<Base>) -> Result<usize, Error> {
        let shared = &self.0;
        let mut writer = shared.writer.lock();
        let (mut batch, mut changes, mut taken) = (Batch::new(), Vec::new(), 0);
        for base in bases {
            let Some(state) = writer.view.branches.get(&base.branch) else { continue };
            let waiting = writer.view.ahead.get(&base.branch);
            let is_wanted = waiting.map_or_else(|| state.frontier().is_empty(), |ahead| ahead.base.heads.is_empty());
            let root = root_of(base.trees.iter().map(|(id, trees)| (*id, trees)));
            let is_signed = shared.is_signed(&writer.view.log, &base.branch, &base.heads, root, base.judgement)?;
            if !is_wanted || base.heads.is_empty() || !is_signed {
                tracing::debug!(branch = %base.branch, is_wanted, is_signed, "a base is not taken");
                continue;
            }
            let branch = base.branch.clone();
            let frontier = waiting.map(|ahead| ahead.frontier.clone()).unwrap_or_default();
            batch.put(Table::Refs, layout::base(&branch).into_bytes(), base.to_bytes());
            Arc::make_mut(&mut writer.view.ahead).insert(branch.clone(), Ahead { base, frontier });
            // All of its history may be here already.
            changes.extend(shared.gather(&mut writer, &branch, &[], &mut batch)?);
            taken += 1;
        }
        if taken > 0 {
            shared.store.records().write(batch, Durability::Process)?;
            shared.publish(writer.view.clone(), changes);
        }
        Ok(taken)
    }

    /// Returns a state of each branch that a peer may take as a base: the one that is materialised, if the authority signed its root, else the
    /// last of which that was so.
    ///
    /// Cost: a pass over the newest entries of the head log for each branch.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn bases(&self) -> Result<Vec<Base>, Error> {
        let shared = &self.0;
        let view = self.view();
        let mut bases = Vec::new();
        for (branch, state) in &view.branches {
            if let Some(base) = shared.signed_base(&view.log, state)? {
                bases.push(base);
                continue;
            }
            let mut notes = shared.nodes.pins().notes();
            let mut read = |name: String| -> Result<Option<Base>, Error> {
                let Some(bytes) = shared.store.refs().get(&name)? else { return Ok(None) };
                let base = Base::from_bytes(&bytes).map_err(|source| Error::Record { what: "checkpoint", source })?;
                notes.note(&base.trees);
                Ok(Some(base))
            };
            let (last, floor) = (read(layout::checkpoint(branch))?, read(layout::horizon(branch))?);
            drop(notes);
            let root = |base: &Base| root_of(base.trees.iter().map(|(id, trees)| (*id, trees)));
            // With a horizon only what it does not lie beyond is of use to anybody.
            let is_past = match &last {
                Some(last) if floor.is_some() => !shared.is_signed(&view.log, branch, &last.heads, root(last), last.judgement)?,
                _ => false,
            };
            bases.extend(if is_past { floor } else { last.or(floor) });
        }
        Ok(bases)
    }
}

impl Shared {
    /// Whether the authority signed `root` for a branch with these heads, and judged nothing since; `judgement` must be its last. Or whether that is
    /// the root at the horizon, below which nothing is judged any more. What stands on less than the horizon is not meant: what it lacks is gone.
    ///
    /// Cost: a pass over the newest entries, at most [`NEWEST`].
    fn is_signed(&self, log: &Log, branch: &BranchName, heads: &[CommitId], root: StateRoot, judgement: Judgement) -> Result<bool, Error> {
        let horizon = log.horizons().get(branch);
        if horizon.is_some_and(|horizon| (&horizon.heads[..], horizon.root) == (heads, root)) {
            return Ok(true);
        }
        // What was accepted last before the horizon was set: accepted frontiers only rise, and it covers what was accepted.
        let mut accepted_then = None;
        for record in self.store.records().scan(Table::Entries, KeyRange::all(), Direction::Backward).take(NEWEST) {
            let entry = Entry::from_bytes(&record?.value).map_err(|source| Error::Record { what: "head-log entry", source })?;
            if let Kind::Head { branch: of, heads, .. } | Kind::Migration { branch: of, heads, .. } = &entry.kind
                && of == branch
                && horizon.is_some_and(|horizon| entry.seq < horizon.set.seq)
            {
                accepted_then.get_or_insert_with(|| heads.clone());
            }
            match &entry.kind {
                Kind::Head { branch: of, heads: at, root: Some(signed), .. } if (of, &at[..], *signed) == (branch, heads, root) => {
                    return Ok(judgement == log.judgement() && accepted_then.is_none_or(|accepted| accepted == *heads));
                }
                Kind::Head { voids, .. } if !voids.is_empty() => return Ok(false),
                Kind::Restore { lost, .. } if !lost.is_empty() => return Ok(false),
                _ => {}
            }
        }
        Ok(false)
    }

    /// Returns `state` as a base, if it is folded and the authority signed its root.
    fn signed_base(&self, log: &Log, state: &State) -> Result<Option<Base>, Error> {
        let Some(root) = state.root().filter(|_| !state.frontier().is_empty()) else { return Ok(None) };
        let (branch, heads) = (state.branch().clone(), state.frontier().ids());
        let is_signed = self.is_signed(log, &branch, &heads, root, state.judgement())?;
        Ok(is_signed.then(|| Base { branch, heads, judgement: state.judgement(), trees: state.shared_trees().clone() }))
    }

    /// Notes, when the authority signed a root, the state here that it names, so that newcomers can have it when this node has gone on.
    pub(super) fn note_checkpoints(&self, view: &View, entries: &[Entry], batch: &mut Batch) {
        for entry in entries {
            let Kind::Head { branch, heads, root: Some(root), .. } = &entry.kind else { continue };
            let Some(state) = view.branches.get(branch) else { continue };
            if state.root() == Some(*root) && state.frontier().ids() == *heads && state.judgement() == view.log.judgement() {
                let (branch, heads) = (branch.clone(), heads.clone());
                let base = Base { branch, heads, judgement: state.judgement(), trees: state.shared_trees().clone() };
                batch.put(Table::Refs, layout::checkpoint(&base.branch).into_bytes(), base.to_bytes());
            }
        }
    }

    /// Drops states noted under an older judgement: nobody takes one, and it may hold what was erased.
    pub(super) fn forget_checkpoints(&self, view: &View, batch: &mut Batch) {
        for branch in view.log.branches().keys() {
            batch.delete(Table::Refs, layout::checkpoint(branch).into_bytes());
        }
    }

    /// Reads the bases that wait for their history.
    pub(super) fn load_bases(&self, view: &mut View) -> Result<(), Error> {
        let mut waiting = BTreeMap::new();
        for branch in view.log.branches().keys() {
            let Some(bytes) = self.store.refs().get(&layout::base(branch))? else { continue };
            let base = Base::from_bytes(&bytes).map_err(|source| Error::Record { what: "base", source })?;
            let heads: Vec<CommitId> = match self.store.refs().get(&layout::ahead(branch))? {
                Some(bytes) => {
                    Reader::new(&bytes).list(CommitId::LEN).map_err(|source| Error::Record { what: "frontier ahead", source })?
                }
                None => Vec::new(),
            };
            let frontier = Frontier::of(&self.commits, &heads)?
                .map_err(|head| Error::Hole { what: format!("head {head} of branch `{branch}`, ahead of its state, is not stored") })?;
            waiting.insert(branch.clone(), Ahead { base, frontier });
        }
        view.ahead = Arc::new(waiting);
        Ok(())
    }

    /// Takes commits of a branch whose base waits for its history: they are stored and not replayed. With the last that the base waits for
    /// the branch goes on from the base.
    pub(super) fn gather(
        &self,
        writer: &mut Writer,
        branch: &BranchName,
        commits: &[(CommitId, Meta)],
        batch: &mut Batch,
    ) -> Result<Option<Change>, Error> {
        let Some(Ahead { base, mut frontier }) = writer.view.ahead.get(branch).cloned() else { return Ok(None) };
        for (id, meta) in commits {
            frontier.advance(*id, meta);
        }
        writer.latest = writer.latest.max(frontier.newest());
        let stands_on = if base.heads.is_empty() { None } else { Frontier::of(&self.commits, &base.heads)?.ok() };
        let Some(stands_on) = stands_on else {
            let mut out = Encoder::default();
            out.list(frontier.ids().iter());
            batch.put(Table::Refs, layout::ahead(branch).into_bytes(), out.into_bytes());
            Arc::make_mut(&mut writer.view.ahead).insert(branch.clone(), Ahead { base, frontier });
            return Ok(None);
        };
        let said = writer.view.log.branch(branch).ok_or(Error::NoSchema)?;
        let trees = Arc::unwrap_or_clone(base.trees);
        let state = State::materialised(branch.clone(), said.schema.clone(), stands_on.clone(), base.judgement, trees);
        self.nodes.pins().note(&state);
        let Some(before) = writer.view.branches.remove(branch) else { return Ok(None) };
        // All that is here of the branch is its frontier now; the branch is settled from the base as after a restart.
        frontier.join(&stands_on, &self.commits)?;
        frontier.join(before.frontier(), &self.commits)?;
        let mut heads = Encoder::default();
        heads.list(frontier.ids().iter());
        batch.put(Table::Refs, layout::frontier(branch).into_bytes(), heads.into_bytes());
        batch.put(Table::Refs, layout::materialised(branch).into_bytes(), materialise::encode(&state));
        if writer.view.log.horizons().contains_key(branch) {
            // What led to it may be nowhere any more.
            let floor =
                Base { branch: branch.clone(), heads: stands_on.ids(), judgement: state.judgement(), trees: state.shared_trees().clone() };
            batch.put(Table::Refs, layout::horizon(branch).into_bytes(), floor.to_bytes());
        }
        batch.delete(Table::Refs, layout::base(branch).into_bytes());
        batch.delete(Table::Refs, layout::ahead(branch).into_bytes());
        self.store.records().write(std::mem::take(batch), Durability::Durable)?;
        Arc::make_mut(&mut writer.view.ahead).remove(branch);
        self.settle(writer, branch, batch)?;
        let after = writer.view.branches[branch].clone();
        tracing::info!(%branch, commits = after.frontier().vector().commits(), "history reached the state that was fetched");
        Ok(Some(Change::Rebuilt { branch: branch.clone(), before, after }))
    }
}

/// Returns the trees of a collection, one by one.
pub(super) const fn each(trees: &Trees) -> [Tree; 3] {
    [trees.documents, trees.deleted, trees.conflicts]
}

impl Base {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        self.branch.encode(&mut out);
        out.list(self.heads.iter());
        self.judgement.encode(&mut out);
        out.count(self.trees.len());
        for (id, Trees { documents, deleted, conflicts }) in self.trees.iter() {
            out.uint(id.0.into());
            documents.encode(&mut out);
            deleted.encode(&mut out);
            conflicts.encode(&mut out);
        }
        out.into_bytes()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, codec::Error> {
        let mut input = Reader::new(bytes);
        let (branch, heads) = (BranchName::decode(&mut input)?, input.list(CommitId::LEN)?);
        let judgement = Judgement::decode(&mut input)?;
        let mut trees = BTreeMap::new();
        for _ in 0..input.count(1)? {
            let id = u16::try_from(input.uint()?).map_err(|_| codec::Error::Malformed { what: "collection number" })?;
            if trees.last_key_value().is_some_and(|(last, _)| *last >= CollectionId(id)) {
                return Err(codec::Error::Order { what: "collections" });
            }
            let (documents, deleted) = (Tree::decode(&mut input)?, Tree::decode(&mut input)?);
            trees.insert(CollectionId(id), Trees { documents, deleted, conflicts: Tree::decode(&mut input)? });
        }
        input.end()?;
        Ok(Self { branch, heads, judgement, trees: Arc::new(trees) })
    }
}
