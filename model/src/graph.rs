//! The graph of commits, as version vectors see it, and the frontiers in it.
//!
//! A frontier is the sorted maximal signed commits of a branch that one knows; its hash names a derived merge, and that name is all a
//! merge is. Law: whoever knows the same commits has the same frontier, in whatever order they came.

use std::collections::HashMap;

use crate::{
    codec::{Encode as _, Writer},
    commit::{Commit, Header, MAX_PARENTS},
    id::{BranchName, ChainId, CommitId, Domain, FrontierName, Judgement, StateName},
    plant::Plant,
    time::Time,
    vector::VersionVector,
};

/// What the graph keeps of a commit: enough for every ancestor question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Its chain.
    pub chain: ChainId,
    /// Its place on it.
    pub counter: u64,
    /// Its time.
    pub time: Time,
    /// Its ancestors and itself.
    pub vector: VersionVector,
}

/// Where commits are looked up.
pub trait Graph {
    /// What can go wrong below.
    type Error;

    /// Returns what is known of `commit`, `None` if it is not in the graph.
    ///
    /// # Errors
    /// If the graph cannot be read.
    fn meta(&self, commit: &CommitId) -> Result<Option<Meta>, Self::Error>;

    /// Returns the commit at `counter` of `chain`, `None` if it is not in the graph.
    ///
    /// # Errors
    /// If the graph cannot be read.
    fn at(&self, chain: &ChainId, counter: u64) -> Result<Option<CommitId>, Self::Error>;
}

/// Why a commit cannot enter the graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Ancestors are not known yet; it waits.
    #[error("commit {commit:?} waits for {missing:?}")]
    Incomplete {
        /// The commit.
        commit: CommitId,
        /// What it waits for.
        missing: CommitId,
    },
    /// A link breaks a rule.
    #[error("commit {commit:?}: {rule}")]
    BadLink {
        /// The commit.
        commit: CommitId,
        /// The rule.
        rule: &'static str,
    },
    /// The chain already has another commit of that counter.
    #[error("session forked: {known:?} and {commit:?} have one place on one chain")]
    Fork {
        /// The commit.
        commit: CommitId,
        /// The one already there.
        known: CommitId,
    },
}

/// Checks a commit's links against the graph and returns what the graph keeps of it.
///
/// # Errors
/// The outer error is the graph's; the inner tells why the commit cannot enter now.
pub fn admit<G: Graph>(graph: &G, commit: &Commit) -> Result<Result<Meta, Refusal>, G::Error> {
    let (id, header) = (commit.id(), commit.header());
    let bad = |rule| Ok(Err(Refusal::BadLink { commit: id, rule }));
    if let Some(known) = graph.at(&commit.chain(), header.counter)?
        && known != id
    {
        return Ok(Err(Refusal::Fork { commit: id, known }));
    }
    let mut vector = VersionVector::default();
    let mut parents = Vec::with_capacity(header.parents.len());
    for parent in &header.parents {
        let Some(meta) = graph.meta(parent)? else {
            if Plant::SkipParents.is_here() {
                continue;
            }
            return Ok(Err(Refusal::Incomplete { commit: id, missing: *parent }));
        };
        if meta.time >= header.time {
            return bad("its time is not above a parent's");
        }
        vector.merge(&meta.vector);
        parents.push(meta);
    }
    for (at, parent) in parents.iter().enumerate() {
        let covers = |other: &Meta| other.vector.contains(&parent.chain, parent.counter);
        if parents.iter().enumerate().any(|(other, meta)| other != at && covers(meta)) {
            return bad("a parent is an ancestor of another");
        }
    }
    let is_checked = !Plant::SkipParents.is_here();
    if let Some(previous) = header.previous.as_ref().filter(|_| is_checked) {
        let Some(meta) = graph.meta(previous)? else { return Ok(Err(Refusal::Incomplete { commit: id, missing: *previous })) };
        if meta.chain != commit.chain() || meta.counter + 1 != header.counter {
            return bad("`previous` is not the commit before it on its chain");
        }
        if !vector.contains(&meta.chain, meta.counter) {
            return bad("`previous` is not among its ancestors");
        }
    } else if vector.get(&commit.chain()) > 0 && is_checked {
        return bad("a first commit has ancestors on its own chain");
    }
    vector.raise(commit.chain(), header.counter);
    Ok(Ok(Meta { chain: commit.chain(), counter: header.counter, time: header.time, vector }))
}

/// The sorted maximal commits of a branch, with the vector of all they stand on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    heads: Vec<Head>,
    vector: VersionVector,
}

/// One maximal commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    /// The commit.
    pub id: CommitId,
    /// Its chain.
    pub chain: ChainId,
    /// Its place on it.
    pub counter: u64,
    /// Its time.
    pub time: Time,
}

impl Frontier {
    /// Returns the frontier of `heads`, whose metas the graph knows; those that another covers drop out.
    ///
    /// # Errors
    /// The outer error is the graph's; the inner names a head the graph lacks.
    pub fn of<'a, G: Graph>(graph: &G, heads: impl IntoIterator<Item = &'a CommitId>) -> Result<Result<Self, CommitId>, G::Error> {
        let mut frontier = Self::default();
        for head in heads {
            let Some(meta) = graph.meta(head)? else { return Ok(Err(*head)) };
            frontier.advance(*head, &meta);
        }
        Ok(Ok(frontier))
    }

    /// Takes in a commit: heads it covers give way to it, and it changes nothing if it is covered already. Returns whether it did.
    pub fn advance(&mut self, id: CommitId, meta: &Meta) -> bool {
        if self.vector.contains(&meta.chain, meta.counter) {
            return false;
        }
        self.heads.retain(|head| !meta.vector.contains(&head.chain, head.counter));
        let head = Head { id, chain: meta.chain, counter: meta.counter, time: meta.time };
        if let Err(at) = self.heads.binary_search(&head) {
            self.heads.insert(at, head);
        }
        self.vector.merge(&meta.vector);
        true
    }

    /// Takes in another frontier whole. Heads stay only where the other side does not stand on them; needs the graph for that.
    ///
    /// # Errors
    /// The graph's.
    pub fn join<G: Graph>(&mut self, other: &Self, graph: &G) -> Result<(), G::Error> {
        for head in &other.heads {
            if let Some(meta) = graph.meta(&head.id)? {
                self.advance(head.id, &meta);
            }
        }
        Ok(())
    }

    /// Returns the heads, by id.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// Returns the ids of the heads, sorted.
    pub fn ids(&self) -> Vec<CommitId> {
        self.heads.iter().map(|head| head.id).collect()
    }

    /// Returns the set of all commits it stands on.
    pub const fn vector(&self) -> &VersionVector {
        &self.vector
    }

    /// Returns the time of its newest head.
    pub fn newest(&self) -> Time {
        self.heads.iter().map(|head| head.time).max().unwrap_or_default()
    }

    /// Whether it has no commit.
    pub const fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Returns the parents that the first commit of a chain names: all heads, or the newest [`MAX_PARENTS`] if there are more. A commit that
    /// has one before it on its chain needs [`Frontier::parents_on`].
    pub fn parents(&self) -> Vec<CommitId> {
        self.newest_parents(None)
    }

    /// Returns the parents that the next commit of `chain` names: all heads, or if there are more than [`MAX_PARENTS`], the newest, among
    /// them one that stands on the chain's newest commit, which must be an ancestor of the next.
    ///
    /// # Errors
    /// The graph's.
    pub fn parents_on<G: Graph>(&self, graph: &G, chain: &ChainId) -> Result<Vec<CommitId>, G::Error> {
        let newest = self.vector.get(chain);
        if newest == 0 || self.heads.len() <= MAX_PARENTS {
            return Ok(self.parents());
        }
        for head in &self.heads {
            if graph.meta(&head.id)?.is_some_and(|meta| meta.vector.contains(chain, newest)) {
                return Ok(self.newest_parents(Some(head.id)));
            }
        }
        Ok(self.parents())
    }

    fn newest_parents(&self, needed: Option<CommitId>) -> Vec<CommitId> {
        let mut heads = self.heads.clone();
        if heads.len() > MAX_PARENTS {
            heads.sort_unstable_by_key(|head| std::cmp::Reverse((Some(head.id) == needed, head.time, head.id)));
            heads.truncate(MAX_PARENTS);
        }
        let mut parents: Vec<_> = heads.into_iter().map(|head| head.id).collect();
        parents.sort_unstable();
        parents
    }

    /// Returns its name on `branch`.
    pub fn name(&self, branch: &BranchName) -> FrontierName {
        name(branch, &self.ids())
    }
}

/// Returns the name of the frontier of `branch` whose sorted heads are `heads`.
pub fn name(branch: &BranchName, heads: &[CommitId]) -> FrontierName {
    let mut out = Writer::default();
    branch.encode(&mut out);
    out.list(heads.iter());
    FrontierName(Domain::Frontier.hash(&[out.as_bytes()]))
}

/// Returns the name of the state of `frontier` under `judgement`.
pub fn state_name(frontier: FrontierName, judgement: Judgement) -> StateName {
    StateName(Domain::State.hash(&[frontier.as_bytes(), judgement.as_bytes()]))
}

/// A graph in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryGraph {
    metas: HashMap<CommitId, Meta>,
    places: HashMap<(ChainId, u64), CommitId>,
}

impl MemoryGraph {
    /// Adds a commit that was admitted.
    pub fn insert(&mut self, id: CommitId, meta: Meta) {
        self.places.insert((meta.chain, meta.counter), id);
        self.metas.insert(id, meta);
    }

    /// Returns how many commits it has.
    pub fn len(&self) -> usize {
        self.metas.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.metas.is_empty()
    }
}

impl Graph for MemoryGraph {
    type Error = std::convert::Infallible;

    fn meta(&self, commit: &CommitId) -> Result<Option<Meta>, Self::Error> {
        Ok(self.metas.get(commit).cloned())
    }

    fn at(&self, chain: &ChainId, counter: u64) -> Result<Option<CommitId>, Self::Error> {
        Ok(self.places.get(&(*chain, counter)).copied())
    }
}

/// Whether a header could be the first of all: it names no parents.
pub const fn is_root(header: &Header) -> bool {
    header.parents.is_empty()
}
