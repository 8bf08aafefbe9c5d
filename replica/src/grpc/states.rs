//! States that callers read: the newest of a branch, that of a commit or time, and those that earlier answers named.
//!
//! A state name is a hash. What it was made of is found again among the newest states, or, for a state with one head, among the newest
//! commits; states with several heads are remembered when they are read. A token carries what its state's name is made of, so any replica
//! that has the commits can read it.

use std::{num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use herdbook_model::{
    id::{BranchName, StateName},
    state::State,
    time::{self, Time},
};
use herdbook_proto::{
    document::At,
    token::{Anchor, Token},
};
use lru::LruCache;
use parking_lot::Mutex;

use super::failure::Error;
use crate::{
    error::Error as RepositoryError,
    repository::{Moment, Repository, StateParts, View},
};

/// States with several heads that are remembered by name.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// How many of a branch's newest commits are looked through for a state name.
const SEARCHED: usize = 4096;

/// Finds states. Cheap to clone.
#[derive(Clone)]
pub(super) struct States {
    repository: Repository,
    remembered: Arc<Mutex<LruCache<StateName, Anchor>>>,
}

impl States {
    pub(super) fn new(repository: Repository) -> Self {
        Self { repository, remembered: Arc::new(Mutex::new(LruCache::new(REMEMBERED))) }
    }

    /// Returns the newest state of a branch; of the promoted one if none is named.
    pub(super) fn newest(&self, branch: Option<&BranchName>) -> Result<State, Error> {
        Ok(self.repository.view().state(branch)?.clone())
    }

    /// Returns the state to read from. Reads the store, unless it is the newest.
    pub(super) fn at(&self, at: &At) -> Result<State, Error> {
        let view = self.repository.view();
        match at {
            At::Branch(branch) => Ok(view.state(branch.as_ref())?.clone()),
            At::Commit(commit) => {
                let unknown = || RepositoryError::UnknownCommit { id: commit.to_string() };
                let signed = self.repository.signed(commit)?.ok_or_else(unknown)?;
                Ok(self.repository.state_at(&view, Some(&signed.header().branch), &Moment::Commit(*commit))?)
            }
            At::Time { branch, millis } => Ok(self.repository.state_at(&view, branch.as_ref(), &Moment::Time(end_of(*millis)))?),
            At::State(name) => self.named(&view, *name),
        }
    }

    /// Returns the state that a token is bound to. Reads the store.
    pub(super) fn anchored(&self, what: &'static str, anchor: &Anchor) -> Result<State, Error> {
        self.parts(&self.repository.view(), anchor).map_err(|error| match error {
            RepositoryError::UnknownCommit { .. } => Error::NotHereYet { what },
            RepositoryError::StaleToken { .. } | RepositoryError::Hole { .. } => RepositoryError::StaleToken { what }.into(),
            error => error.into(),
        })
    }

    fn parts(&self, view: &View, Anchor { branch, heads, judgement }: &Anchor) -> Result<State, RepositoryError> {
        self.repository.state_of(view, StateParts { branch, heads, judgement: *judgement })
    }

    fn named(&self, view: &View, name: StateName) -> Result<State, Error> {
        if let Some(state) = view.branches.values().find(|state| state.name() == name) {
            return Ok(state.clone());
        }
        let remembered = self.remembered.lock().get(&name).cloned();
        if let Some(anchor) = remembered {
            return self.anchored("state", &anchor);
        }
        for (branch, now) in &view.branches {
            let judgement = now.judgement();
            let is_named = |heads: &[_]| StateParts { branch, heads, judgement }.name() == name;
            let newest = self.repository.newest(branch, SEARCHED)?;
            let heads = if is_named(&[]) { Some(Vec::new()) } else { newest.into_iter().map(|id| vec![id]).find(|heads| is_named(heads)) };
            if let Some(heads) = heads {
                return self.anchored("state", &Anchor { branch: branch.clone(), heads, judgement });
            }
        }
        Err(RepositoryError::StaleToken { what: "state" }.into())
    }

    /// Returns the name of a state that a caller is told of, and remembers it if it could not be found otherwise.
    pub(super) fn tell(&self, state: &State) -> StateName {
        let name = state.name();
        if state.frontier().heads().len() > 1 {
            let mut remembered = self.remembered.lock();
            if !remembered.contains(&name) {
                remembered.put(name, anchor(state));
            }
        }
        name
    }
}

/// Returns what the state's name is made of.
pub(super) fn anchor(state: &State) -> Anchor {
    Anchor { branch: state.branch().clone(), heads: state.frontier().ids(), judgement: state.judgement() }
}

/// Returns a token for a place in a state.
///
/// # Errors
/// [`Error::TooManyHeads`].
pub(super) fn token(state: &State, after: Vec<u8>) -> Result<Bytes, Error> {
    let token = Token { anchor: anchor(state), after };
    token.to_wire().ok_or_else(|| Error::TooManyHeads { branch: state.branch().clone() })
}

/// Returns the last time within a millisecond.
pub(super) fn end_of(millis: u64) -> Time {
    let next = millis.saturating_add(1).min(time::MAX.millis());
    Time::from_raw(Time::from_millis(next).raw() - 1)
}
