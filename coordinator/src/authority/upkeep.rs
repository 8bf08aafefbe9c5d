//! What takes history away by the authority's word: horizons and erasures.

use herdbook_model::{
    authority::{Kind, REASON_ERASED, Status, Void},
    graph::Frontier,
};
use herdbook_proto::cluster::{Erase, Erased, Horizon, SetHorizon};
use herdbook_replica::{Error as RepositoryError, repository::Covered};
use herdbook_store::Durability;
use herdbook_sync::acceptance;

use super::{Authority, Error};
use crate::conditions::Conditions;

impl Authority {
    /// Lets a state of each branch asked for stand for the accepted commits up to a time, or says what it would stand for. Branches that
    /// have none by then, or no more than an earlier horizon covers, are left out.
    ///
    /// # Errors
    /// [`Error::HorizonAndBranches`], [`Error::HorizonOverLosses`], [`Error::Repository`].
    pub fn set_horizon(&mut self, set: &SetHorizon) -> Result<Vec<Horizon>, Error> {
        let view = self.repository.view();
        if view.log.branches().len() > 1 {
            return Err(Error::HorizonAndBranches);
        }
        if view.judgement() != view.log.judgement() {
            return Err(Error::HorizonOverLosses);
        }
        let names = match &set.branch {
            Some(branch) => vec![view.state(Some(branch))?.branch().clone()],
            None => view.log.branches().keys().cloned().collect(),
        };
        let mut horizons = Vec::new();
        for branch in names {
            let covered = match self.repository.coverable(&branch, set.before) {
                Ok(Some(covered)) => covered,
                Ok(None) | Err(RepositoryError::BeforeHorizon { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(horizon) = view.log.horizons().get(&branch) {
                let held = Frontier::of(&self.repository, &horizon.heads)?;
                if held.is_ok_and(|held| held.vector().covers(covered.state.frontier().vector())) {
                    continue;
                }
            }
            let Covered { heads, state, commits, time } = covered;
            let root = self.repository.root(&state)?;
            let documents = state.schema().collections.iter().map(|collection| state.count(collection.id)).sum();
            let kind = Kind::Horizon { branch: branch.clone(), heads: heads.clone(), root };
            let position = if set.dry_run { None } else { Some(self.append(kind)?) };
            horizons.push(Horizon { branch, heads, root, commits, time, documents, position });
        }
        // Members that are behind ask for these states at once.
        if let Err(error) = self.repository.reach_horizons() {
            tracing::error!(%error, "what a horizon covers cannot be stored");
        }
        Ok(horizons)
    }

    /// Erases what a document ever had in its erasable fields, or in one of them, or tells what would go.
    ///
    /// First its parts are taken out of the newest states, by commits as anybody makes; then the requests that wrote them are voided for good, and
    /// every member takes their edits out of its store when it takes that entry in. Cost: each member replays its branches anew, from nothing or
    /// from a horizon.
    ///
    /// # Errors
    /// [`Error::Repository`].
    pub fn erase(&mut self, erase: &Erase) -> Result<Erased, Error> {
        let view = self.repository.view();
        let (collection, key) = (&erase.name.collection, &erase.name.key);
        let branch = view.state(erase.branch.as_ref())?.branch().clone();
        if view.log.branch(&branch).is_none_or(|branch| branch.status != Status::Open) {
            return Err(RepositoryError::ClosedBranch { branch }.into());
        }
        let erasing = self.repository.erasing(&view, erase.branch.as_ref(), collection, key, erase.field.as_deref())?;
        let mut erased = Erased { values: erasing.values, requests: erasing.requests.len() as u64, past: erasing.past, position: None };
        if erase.dry_run {
            return Ok(erased);
        }
        // What was worked out before may hold the values.
        self.conditions = Conditions::default();
        for ask in erasing.asks {
            self.repository.commit_one(ask, Durability::Durable)?;
        }
        for requests in erasing.requests.chunks(acceptance::MAX_VOIDS) {
            let heads = self.repository.view().log.branch(&branch).ok_or(RepositoryError::NoSchema)?.heads.clone();
            let voids = requests.iter().map(|request| Void { request: *request, reason: REASON_ERASED.to_owned() }).collect();
            erased.position = Some(self.append(Kind::Head { branch: branch.clone(), heads, root: None, voids })?);
        }
        Ok(erased)
    }
}
