//! Preconditions, looked at again where requests that were made apart come into one order.

use std::collections::BTreeSet;

use herdbook_model::{
    authority::RequestRef,
    graph::Meta,
    id::CommitId,
    request::Request,
    state::{State, advance},
    vector::VersionVector,
};
use parking_lot::Mutex;

use super::{Repository, plan};
use crate::error::Error;

/// Commits of this session whose requests have preconditions and are not accepted yet. Kept only where somebody accepts.
#[derive(Debug, Default)]
pub(crate) struct Conditional(Mutex<Option<BTreeSet<CommitId>>>);

impl Conditional {
    /// Keeps a commit in mind if one of its requests has preconditions.
    pub(super) fn note(&self, id: CommitId, requests: &[Request]) {
        if requests.iter().any(|request| !request.preconditions.is_empty())
            && let Some(commits) = self.0.lock().as_mut()
        {
            commits.insert(id);
        }
    }
}

impl Repository {
    /// Keeps in mind from now on which commits made here have preconditions, for [`Repository::is_conditional`].
    pub fn note_conditional(&self) {
        self.0.conditional.0.lock().get_or_insert_default();
    }

    /// Whether a request of a commit made here has preconditions, as far as this was to be kept in mind.
    pub fn is_conditional(&self, id: &CommitId) -> bool {
        self.0.conditional.0.lock().as_ref().is_some_and(|commits| commits.contains(id))
    }

    /// Forgets about commits whose preconditions were looked at.
    pub fn forget_conditional(&self, ids: &[CommitId]) {
        if let Some(commits) = self.0.conditional.0.lock().as_mut().filter(|commits| !commits.is_empty()) {
            for id in ids {
                commits.remove(id);
            }
        }
    }

    /// Brings a state to at least the commits of `target`, without the requests for which `skips` answers true. Cost: what it lacks.
    ///
    /// # Errors
    /// Those of reading; the state is then half-way and must be thrown away.
    pub fn replay(&self, state: &mut State, target: &VersionVector, skips: impl Fn(&RequestRef) -> bool) -> Result<(), Error> {
        advance(state, &self.0.commits, &self.0.nodes, target, skips)?;
        Ok(())
    }

    /// Replays one request, `at` its place in its commit, whose ancestors are in the state.
    ///
    /// # Errors
    /// As [`Repository::replay`].
    pub fn replay_request(&self, state: &mut State, meta: &Meta, at: u32, request: &Request) -> Result<(), Error> {
        Ok(state.apply_request(&self.0.nodes, meta, at, request)?)
    }

    /// Checks the preconditions of a request in `state`.
    ///
    /// # Errors
    /// [`Error::Precondition`] for the first that does not hold, [`Error::Schema`] for a collection that the state does not have, and those of
    /// reading.
    pub fn check_preconditions(&self, state: &State, request: &Request) -> Result<(), Error> {
        for wanted in &request.preconditions {
            let collection = state.schema().by_id(wanted.collection)?;
            let now = state.get(&self.0.nodes, collection.id, &wanted.key)?;
            plan::check(collection, &wanted.key, &wanted.must, now.as_deref())?;
        }
        Ok(())
    }
}
