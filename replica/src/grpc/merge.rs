//! Merges of one branch into another.

use herdbook_model::id::RequestKey;
use herdbook_proto::{
    document::Place,
    limits,
    merge::{Merge, Merged, Rule},
};
use tokio::time::Instant;

use super::{
    failure::Error,
    host::{Host, blocking},
    names,
};
use crate::{keys, repository};

impl Host {
    pub(super) async fn merge(&self, merge: Merge, until: Option<Instant>) -> Result<Merged, Error> {
        let Merge { repository, branch, from, side, rules, dry_run, request, message, wait } = merge;
        let from = self.state(Place { repository, at: from }).await?;
        if !dry_run {
            self.check_writable()?;
        }
        let key = request.map_or_else(|| keys::random().map(RequestKey), Ok)?;
        if request.is_some()
            && !dry_run
            && let Some(ack) = self.repeated(key, wait, until).await?
        {
            return Ok(Merged { ack: Some(ack), commits: 0, decided: 0, conflicts: 0, conflicted: Vec::new() });
        }
        let message = if message.is_empty() {
            let into = self.newest(repository, branch.clone()).await?;
            format!("merge {} into {}", from.branch(), into.branch())
        } else {
            message
        };
        let rules = rules.into_iter().map(rule).collect();
        let merge = repository::Merge { into: branch, from, side, rules, key, message, dry_run };
        let (here, durability) = (self.repository().clone(), names::durability(wait.local));
        let (merged, conflicted) = blocking(move || {
            let merged = here.merge(&merge, durability)?;
            let mut conflicted = Vec::new();
            for (id, key) in merged.conflicts.iter().take(limits::CONFLICTED) {
                let Ok(collection) = merged.state.schema().by_id(*id) else { continue };
                // A dry run's decisions are signed by nobody, so only what is in conflict is looked at, which they leave alone.
                if let Some(document) = here.get(&merged.state, *id, key)? {
                    conflicted.extend(names::document(&here, &merged.state, collection, key, &document)?);
                }
            }
            Ok((merged, conflicted))
        })
        .await?;
        let repository::Merged { committed, commits, decided, conflicts, state: _ } = merged;
        let ack = match committed {
            Some(committed) => {
                self.metrics.committed(1);
                Some(self.acknowledge(committed, durability, wait, until).await.map_err(|error| error.under(key))?)
            }
            None => None,
        };
        Ok(Merged { ack, commits, decided: decided.len() as u64, conflicts: conflicts.len() as u64, conflicted })
    }
}

fn rule(Rule { collection, prefix, field, side }: Rule) -> repository::Rule {
    repository::Rule { collection, prefix, field, side }
}
