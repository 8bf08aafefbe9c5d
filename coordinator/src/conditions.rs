//! Preconditions at acceptance: replicas checked them apart, here the requests come into one order.
//!
//! Law: a request stands only if each of its preconditions holds in the accepted state right before it: of two that were made apart and cannot
//! both hold, the second is refused. Who waits for acceptance therefore compares and sets as on one machine.
//!
//! Cost: nothing where no request has preconditions; else a replay of what was accepted since they were last looked at.

use std::collections::{BTreeMap, HashSet};

use herdbook_model::{
    authority::RequestRef,
    graph::Frontier,
    id::{BranchName, CommitId},
    request::Request,
    state::State,
};
use herdbook_replica::{
    Error, Repository,
    repository::{StateParts, View},
};
use herdbook_sync::acceptance::{Before, Candidate, Requests};

/// Edits above the trees at which a state is thrown away: a newer one has them in its trees.
const MOST_PENDING: u64 = 100_000;

/// Accepted states of branches, as they were when preconditions were last looked at.
#[derive(Default)]
pub(crate) struct Conditions {
    /// With the epoch they were accepted in: what an older one accepted may be void since.
    states: BTreeMap<BranchName, (u64, State)>,
}

impl Conditions {
    /// Begins to judge what comes after `accepted`.
    pub(crate) fn judging<'a>(
        &mut self,
        repository: &'a Repository,
        view: &'a View,
        branch: &'a BranchName,
        accepted: &'a Frontier,
    ) -> Judging<'a> {
        let epoch = view.log.newest().map_or(0, |newest| newest.epoch);
        let held = self.states.remove(branch).filter(|(of, state)| *of == epoch && accepted.vector().covers(state.frontier().vector()));
        let state = held.map(|(_, state)| state).filter(|state| state.pending() < MOST_PENDING);
        Judging { repository, view, branch, accepted, epoch, state, voided: HashSet::new(), within: None, failed: None }
    }

    /// Keeps what was worked out, once the order is signed.
    pub(crate) fn keep(&mut self, branch: &BranchName, judged: Judged) {
        if let Some(state) = judged.state {
            self.states.insert(branch.clone(), (judged.epoch, state));
        }
    }
}

/// One step under way.
pub(crate) struct Judging<'a> {
    repository: &'a Repository,
    view: &'a View,
    branch: &'a BranchName,
    accepted: &'a Frontier,
    epoch: u64,
    /// The state of what is accepted, as far as it was looked at.
    state: Option<State>,
    /// Refused in this step.
    voided: HashSet<RequestRef>,
    /// The state inside a commit, before the request at a place.
    within: Option<(CommitId, u32, State)>,
    failed: Option<Error>,
}

/// What is left of a step.
pub(crate) struct Judged {
    epoch: u64,
    state: Option<State>,
}

impl Judging<'_> {
    /// Returns why a request is refused, `None` if its preconditions hold.
    pub(crate) fn refuses(&mut self, before: Before<'_>, candidate: &Candidate, at: RequestRef, request: &Request) -> Option<String> {
        if request.preconditions.is_empty() || self.failed.is_some() {
            return None;
        }
        match self.check(before, candidate, at, request) {
            Ok(()) => None,
            Err(Error::Precondition { collection, key, .. }) => {
                Some(format!("precondition on `{collection}/{key}`: a request accepted before this one changed it"))
            }
            Err(Error::Schema(error)) => Some(error.to_string()),
            Err(error) => {
                self.failed = Some(error);
                None
            }
        }
    }

    fn check(&mut self, before: Before<'_>, candidate: &Candidate, at: RequestRef, request: &Request) -> Result<(), Error> {
        self.voided.extend(before.voids[self.voided.len()..].iter().map(|void| void.request));
        let (log, voided) = (&self.view.log, &self.voided);
        let skips = |request: &RequestRef| log.skips(request) || voided.contains(request);
        let (mut next, mut inside) = match self.within.take() {
            Some((commit, next, state)) if commit == at.commit => (next, state),
            _ => {
                let kept = self.state.take().and_then(|mut state| {
                    // What it lacks may be gone before a horizon by now; then a nearer one is at hand.
                    self.repository.replay(&mut state, before.vector, skips).ok()?;
                    Some(state)
                });
                let state = match kept {
                    Some(state) => state,
                    None => {
                        let (heads, judgement) = (self.accepted.ids(), self.view.judgement());
                        let mut state =
                            self.repository.state_of(self.view, StateParts { branch: self.branch, heads: &heads, judgement })?;
                        self.repository.replay(&mut state, before.vector, skips)?;
                        state
                    }
                };
                self.state = Some(state.clone());
                (0, state)
            }
        };
        let requests = if let Requests::Read(requests) = &candidate.requests { requests.as_slice() } else { &[] };
        while next < at.request {
            let stands = !skips(&RequestRef { commit: at.commit, request: next });
            if let Some(Some(earlier)) = requests.get(next as usize).filter(|_| stands) {
                self.repository.replay_request(&mut inside, &candidate.meta, next, earlier)?;
            }
            next += 1;
        }
        let outcome = self.repository.check_preconditions(&inside, request);
        self.within = Some((at.commit, next, inside));
        outcome
    }

    /// Ends the step.
    ///
    /// # Errors
    /// Why a state could not be read: then nothing of the step may be signed.
    pub(crate) fn end(self) -> Result<Judged, Error> {
        self.failed.map_or(Ok(Judged { epoch: self.epoch, state: self.state }), Err)
    }
}
