//! Branches that the authority starts, promotes and abandons: of a schema, or beside another of the same.

use herdbook_model::{
    authority::{Kind, Position, SchemaAction, Status},
    graph::Frontier,
    id::{BranchName, EntryId},
    json, migration,
};
use herdbook_proto::cluster::{Branch, BranchStarted, Definition, StartBranch, StartSchema, Started};
use herdbook_replica::Error as RepositoryError;

use super::{Authority, Error};

impl Authority {
    /// Starts a schema branch, or says what would start.
    ///
    /// # Errors
    /// [`Error`] with what does not fit.
    pub fn start_schema(&mut self, start: &StartSchema) -> Result<Started, Error> {
        let view = self.repository.view();
        if !view.log.horizons().is_empty() {
            return Err(Error::HorizonAndBranches);
        }
        let from = start.from.clone().or_else(|| match start.definition {
            Definition::Steps(_) => view.log.promoted().cloned(),
            Definition::Schema(_) => None,
        });
        let schema = match &start.definition {
            Definition::Steps(text) => {
                let from = from.as_ref().ok_or(Error::NoSource)?;
                let source = view.state(Some(from))?;
                migration::migrate(source.schema(), &json::steps_from_json(text)?)?
            }
            Definition::Schema(text) => json::schema_from_json(text)?,
        };
        let name = match &start.branch {
            Some(name) => name.clone(),
            None => BranchName::new(format!("main@{}", schema.version))?,
        };
        let branch = Branch {
            name: name.clone(),
            schema: schema.id(),
            version: schema.version,
            from: from.clone(),
            status: Status::Open,
            promoted: view.log.promoted().is_none(),
            apart: false,
        };
        let schema_json = json::schema_to_json(&schema).to_string();
        let position = if start.dry_run {
            None
        } else {
            Some(self.append(Kind::Schema { branch: name, action: SchemaAction::Start { from, schema } })?)
        };
        Ok(Started { branch, schema_json, position })
    }

    /// Starts a branch of the schema of another that goes its own way.
    ///
    /// # Errors
    /// [`Error::NotAccepted`] if it is to begin at a commit that the other branch has not accepted, and those of the repository.
    pub fn start_branch(&mut self, start: &StartBranch) -> Result<BranchStarted, Error> {
        let view = self.repository.view();
        if !view.log.horizons().is_empty() {
            return Err(Error::HorizonAndBranches);
        }
        let from = view.state(start.from.as_ref())?.branch().clone();
        let said = view.log.branch(&from).ok_or(RepositoryError::NoSchema)?;
        let heads = match start.commit {
            None => said.heads.clone(),
            Some(commit) => {
                let meta = self.repository.meta(&commit)?.ok_or_else(|| RepositoryError::UnknownCommit { id: commit.to_string() })?;
                let accepted = Frontier::of(&self.repository, &said.heads)?;
                let holds = accepted.is_ok_and(|accepted| accepted.vector().contains(&meta.chain, meta.counter));
                if !holds {
                    return Err(Error::NotAccepted { commit, branch: from });
                }
                if let Some(horizon) = view.log.horizons().get(&from) {
                    let past = Frontier::of(&self.repository, &horizon.heads)?;
                    if past.is_ok_and(|past| !meta.vector.covers(past.vector())) {
                        return Err(RepositoryError::BeforeHorizon { branch: from, time: meta.time }.into());
                    }
                }
                vec![commit]
            }
        };
        let branch = Branch {
            name: start.branch.clone(),
            schema: said.schema.id(),
            version: said.schema.version,
            from: Some(from.clone()),
            status: Status::Open,
            promoted: false,
            apart: true,
        };
        let position = self.append(Kind::Schema { branch: start.branch.clone(), action: SchemaAction::Branch { from, heads } })?;
        Ok(BranchStarted { branch, position })
    }

    /// Promotes or abandons a schema branch.
    ///
    /// # Errors
    /// [`Error`] if it is not there or not open.
    pub fn change_schema(&mut self, branch: BranchName, action: SchemaAction) -> Result<Position, Error> {
        self.append(Kind::Schema { branch, action })
    }

    /// Carries the accepted heads of a branch one way to the open branches that come from it.
    pub(super) fn migrate_from(&mut self, source: &BranchName, entry: EntryId) -> Result<(), Error> {
        let view = self.repository.view();
        let Some(said) = view.log.branch(source) else { return Ok(()) };
        for (name, target) in view.log.branches() {
            if target.from.as_ref() != Some(source) || target.apart || target.status != Status::Open {
                continue;
            }
            let union = Frontier::of(&self.repository, target.heads.iter().chain(&said.heads))?;
            let Ok(union) = union else { continue };
            let heads = union.ids();
            if heads != target.heads {
                let position = self.append(Kind::Migration { branch: name.clone(), heads, source: entry })?;
                // What comes from the target in turn gets it too; a branch has one source, so this ends.
                self.migrate_from(name, position.id)?;
            }
        }
        Ok(())
    }
}
