//! A subscription: what becomes visible on one branch, step by step, from a state on.
//!
//! Law: the steps are a chain: each begins with the state that the one before ended with, and none that became visible after the first
//! state is left out. Who falls too far behind is told so and begins again from where it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdbook_model::{
    authority::Void,
    id::{BranchName, CommitId},
    schema::CollectionId,
    state::State,
    value::Key,
};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    error::Error,
    repository::{Change, Repository, Scope},
};

/// What follows a branch.
pub struct Subscription {
    repository: Repository,
    changes: broadcast::Receiver<Change>,
    state: State,
}

/// From one state of a branch to the next.
#[derive(Debug, Clone)]
pub struct Step {
    /// The state before.
    pub before: State,
    /// The state after.
    pub after: State,
    /// What lies between.
    pub cause: Cause,
}

/// What leads from one state to the next.
#[derive(Debug, Clone)]
pub enum Cause {
    /// Commits were added.
    Commits {
        /// Which, in causal order.
        commits: Arc<[CommitId]>,
        /// The documents they touched, in no order and perhaps more than once.
        touched: Arc<[(CollectionId, Key)]>,
    },
    /// The branch was replayed under another judgement, or with commits that a migration brought: compare the states.
    Replay,
}

/// Why a subscription ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Steps were dropped, since they were not taken in time.
    #[error("the subscriber fell behind: steps were dropped")]
    Behind,
    /// The repository was closed.
    #[error("the repository was closed")]
    Closed,
}

impl Subscription {
    /// Follows `branch`, the promoted one if none, from its newest state on.
    ///
    /// # Errors
    /// [`Error::UnknownBranch`], [`Error::NoSchema`].
    pub fn open(repository: &Repository, branch: Option<&BranchName>) -> Result<Self, Error> {
        // First the changes, then the view: what falls between is seen twice and passed over the second time.
        let changes = repository.changes();
        let state = repository.view().state(branch)?.clone();
        Ok(Self { repository: repository.clone(), changes, state })
    }

    /// Returns the state that the next step begins with.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Returns the next step, when there is one. Losing the future loses nothing.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn next(&mut self) -> Result<Step, Ended> {
        loop {
            let change = match self.changes.recv().await {
                Ok(change) => change,
                Err(RecvError::Lagged(_)) => return Err(Ended::Behind),
                Err(RecvError::Closed) => return Err(Ended::Closed),
            };
            let step = match change {
                Change::Commits { branch, commits, touched, state, .. } if branch == *self.state.branch() => {
                    let known = self.state.frontier().vector().covers(state.frontier().vector());
                    let same = state.judgement() == self.state.judgement();
                    (!known).then_some((state, if same { Cause::Commits { commits, touched } } else { Cause::Replay }))
                }
                Change::Rebuilt { branch, after, .. } if branch == *self.state.branch() => Some((after, Cause::Replay)),
                _ => None,
            };
            if let Some((after, cause)) = step
                && after.name() != self.state.name()
            {
                let before = std::mem::replace(&mut self.state, after.clone());
                return Ok(Step { before, after, cause });
            }
        }
    }

    /// Returns the repository.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }
}

/// The documents of a step, each with the commits that touched it.
pub type Touched = BTreeMap<(CollectionId, Key), BTreeSet<CommitId>>;

/// Returns the documents within `scope` among those that one commit touched.
pub fn touched_by(scope: &Scope, commit: CommitId, all: &[(CollectionId, Key)]) -> Touched {
    let within = all.iter().filter(|(collection, key)| scope.has(*collection, key));
    within.map(|name| (name.clone(), BTreeSet::from([commit]))).collect()
}

/// Returns the documents within `scope` that commits touched. Cost: their requests are read.
///
/// # Errors
/// [`Error::Store`], [`Error::Record`].
pub fn touched(repository: &Repository, scope: &Scope, commits: &[CommitId]) -> Result<Touched, Error> {
    let mut touched = Touched::new();
    for commit in commits {
        for request in repository.requests(commit)?.into_iter().flatten() {
            for (collection, edit) in request.edits().filter(|(collection, edit)| scope.has(*collection, &edit.key)) {
                touched.entry((collection, edit.key.clone())).or_default().insert(*commit);
            }
        }
    }
    Ok(touched)
}

/// Returns the documents within `scope` that voided requests had touched, each with its voids. Requests that are not here touch nothing.
///
/// # Errors
/// [`Error::Store`], [`Error::Record`].
pub fn voided(repository: &Repository, scope: &Scope, voids: &[Void]) -> Result<BTreeMap<(CollectionId, Key), Vec<Void>>, Error> {
    let mut touched = BTreeMap::<_, Vec<Void>>::new();
    for void in voids {
        if repository.meta(&void.request.commit)?.is_none() {
            continue;
        }
        let request = repository.requests(&void.request.commit)?.into_iter().nth(void.request.request as usize).flatten();
        for (collection, edit) in request.iter().flat_map(|request| request.edits()) {
            if scope.has(collection, &edit.key) {
                touched.entry((collection, edit.key.clone())).or_default().push(void.clone());
            }
        }
    }
    Ok(touched)
}
