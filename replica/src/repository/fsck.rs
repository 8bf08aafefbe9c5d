//! Checking a repository from the ground: every hash, signature, link, document, and each state against a replay from nothing.

use herdbook_model::{
    authority::RequestRef,
    codec::Decode as _,
    commit::{Commit, Unverified},
    id::{BranchName, CommitId, StateRoot},
    state::{State, advance},
    tree,
};
use herdbook_store::{Direction, KeyRange, Table};

use super::{Repository, layout};
use crate::error::Error;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A commit's record does not decode, or its signature, leaves or links are wrong.
    BadCommit {
        /// Which, as far as known.
        commit: String,
        /// What is wrong.
        why: String,
    },
    /// The edits of a request are missing or do not match their leaf.
    LostEdits {
        /// The commit.
        commit: CommitId,
        /// Its request.
        request: u32,
        /// The documents it touched, as the index remembers.
        documents: Vec<String>,
    },
    /// A tree of a state cannot be read, or is not canonical.
    BadTree {
        /// The branch.
        branch: BranchName,
        /// What is wrong.
        why: String,
    },
    /// Replaying everything from nothing gives another root than the state has.
    WrongRoot {
        /// The branch.
        branch: BranchName,
        /// The state's root.
        held: StateRoot,
        /// The replay's.
        replayed: StateRoot,
    },
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Commits checked.
    pub commits: u64,
    /// Requests whose edits were checked.
    pub requests: u64,
    /// Living documents in all branches.
    pub documents: u64,
    /// What is wrong; empty is good.
    pub findings: Vec<Finding>,
}

impl Repository {
    /// Checks everything: signatures and links of commits, leaves of requests, trees, and each branch's root against a replay from nothing.
    ///
    /// `progress` is told how many commits were checked so far.
    ///
    /// # Errors
    /// [`Error::Store`] if the store cannot be read at all; what is merely wrong is a finding.
    pub fn fsck(&self, mut progress: impl FnMut(u64)) -> Result<Report, Error> {
        let mut report = Report::default();
        for record in self.0.store.records().scan(Table::Commits, KeyRange::all(), Direction::Forward) {
            let record = record?;
            let name = record.key.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            if let Err(why) = self.check_commit(&record.key, &record.value, &mut report) {
                report.findings.push(Finding::BadCommit { commit: name, why });
            }
            report.commits += 1;
            progress(report.commits);
        }
        let view = self.view();
        for (branch, state) in &view.branches {
            report.documents += state.schema().collections.iter().map(|collection| state.count(collection.id)).sum::<u64>();
            self.check_state(branch, state, &mut report);
        }
        Ok(report)
    }

    fn check_commit(&self, key: &[u8], value: &[u8], report: &mut Report) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let stored = layout::decode_commit(value).map_err(|error| text(&error))?;
        let id = stored.commit.id();
        if id.as_bytes() != key {
            return Err(format!("it is stored under the name of another commit; it is {id}"));
        }
        let bytes = herdbook_model::codec::Encode::to_bytes(&stored.commit);
        let again = Commit::<Unverified>::from_bytes(&bytes).map_err(|error| text(&error))?;
        let verified = again.verify().map_err(|error| text(&error))?;
        verified.check_leaves(&stored.leaves).map_err(|error| text(&error))?;
        for parent in verified.header().parents.iter().chain(&verified.header().previous) {
            if !self.0.commits.holds(parent).map_err(|error| text(&error))? {
                return Err(format!("its ancestor {parent} is not here"));
            }
        }
        for request in 0..verified.header().request_count {
            report.requests += 1;
            let is_absent = self.0.commits.request_bytes(&id, request, &stored).map_err(|error| text(&error))?.is_none();
            let is_erased = self.view().log.erased().contains(&RequestRef { commit: id, request });
            if is_absent && !is_erased && !self.0.is_past(&self.view(), &id).map_err(|error| text(&error))? {
                let documents = self.0.documents_of(&self.view(), &RequestRef { commit: id, request }).map_err(|error| text(&error))?;
                report.findings.push(Finding::LostEdits { commit: id, request, documents });
            }
        }
        Ok(())
    }

    fn check_state(&self, branch: &BranchName, state: &State, report: &mut Report) {
        let bad = |why: String| Finding::BadTree { branch: branch.clone(), why };
        for trees in state.trees().values() {
            for tree in [&trees.documents, &trees.deleted, &trees.conflicts] {
                if let Err(error) = tree::audit(&self.0.nodes, tree) {
                    return report.findings.push(bad(error.to_string()));
                }
            }
        }
        let view = self.view();
        let lost: Vec<_> = report
            .findings
            .iter()
            .filter_map(|finding| match finding {
                Finding::LostEdits { commit, request, .. } => Some(RequestRef { commit: *commit, request: *request }),
                _ => None,
            })
            .collect();
        let mut replayed = match self.0.beginning(&view, branch, state.schema(), state.frontier().vector()) {
            Ok(beginning) => beginning,
            // It waits for a state from a peer, and is what it was.
            Err(Error::BeforeHorizon { .. }) if view.ahead(branch).is_some() => return,
            Err(error) => return report.findings.push(bad(error.to_string())),
        };
        // What a horizon covers is replayed no more: the state that stands for it must be what the authority signed.
        let horizon = view.log.horizons().get(branch).filter(|horizon| horizon.heads == replayed.frontier().ids());
        if let (Some(horizon), Some(held)) = (horizon, replayed.root())
            && horizon.root != held
        {
            report.findings.push(Finding::WrongRoot { branch: branch.clone(), held, replayed: horizon.root });
            return;
        }
        let skips = |request: &RequestRef| view.skips(request) || lost.contains(request);
        let advanced = advance(&mut replayed, &self.0.commits, &self.0.nodes, state.frontier().vector(), skips).map_err(Error::from);
        let roots = advanced.and_then(|_| Ok((self.root(state)?, self.root(&replayed)?)));
        match roots {
            Ok((held, replayed)) if held != replayed => {
                report.findings.push(Finding::WrongRoot { branch: branch.clone(), held, replayed });
            }
            Ok(_) => {}
            Err(error) => report.findings.push(bad(error.to_string())),
        }
    }
}
