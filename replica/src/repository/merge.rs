//! Merging one branch into another of the same schema: a commit on the latter whose parents are the heads of both.
//!
//! Replay does the merging, as it does for any heads. What is added here is that somebody says so, signs it, and may let a side decide where both
//! wrote concurrently; what nobody decides stays as replay left it, a stored conflict where the policy keeps values apart. The branch that is taken
//! in stays as it is.

use std::{collections::BTreeSet, sync::Arc};

use herdbook_model::{
    commit::{self, MAX_PARENTS},
    document::Stamp,
    edit::Edit,
    graph::Meta,
    id::{BranchName, RequestKey},
    merge::{self, Dispute, Side},
    request::{Group, Principal, Proof, Request},
    schema::CollectionId,
    state::{State, advance, lacking},
    time::Time,
    value::Key,
    vector::VersionVector,
};
use herdbook_store::{Batch, Durability};

use super::{
    Ask, Change, Committed, DocumentChange, DocumentEdit, Repository, View,
    write::{Made, Undo},
};
use crate::error::Error;

/// How often a merge is worked out anew because the branch moved on meanwhile. The last time it holds the writer.
const ATTEMPTS: usize = 4;

/// What is to be merged, and how.
#[derive(Debug, Clone)]
pub struct Merge {
    /// The branch that takes in; the promoted one if none.
    pub into: Option<BranchName>,
    /// The state that is taken in.
    pub from: State,
    /// Who decides where both wrote concurrently and no rule says otherwise; none: the policies alone.
    pub side: Option<Side>,
    /// Exceptions; the first that fits counts.
    pub rules: Vec<Rule>,
    /// Idempotency key.
    pub key: RequestKey,
    /// What its author says about it.
    pub message: String,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
}

/// Who decides at some places.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// In documents of this collection; none: of all.
    pub collection: Option<Arc<str>>,
    /// In documents whose keys begin so.
    pub prefix: String,
    /// In this field; none: in all, and whether a document is deleted.
    pub field: Option<Arc<str>>,
    /// Who decides; none: nobody.
    pub side: Option<Side>,
}

/// What a merge did.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The commit; `None` if there was nothing to take in, or nothing was to be written.
    pub committed: Option<Committed>,
    /// How many commits it takes in.
    pub commits: u64,
    /// Documents of which a side decided something.
    pub decided: Vec<(CollectionId, Key)>,
    /// Documents touched by what is taken in that are in conflict afterwards.
    pub conflicts: Vec<(CollectionId, Key)>,
    /// The state of the branch with the merge; after a dry run as it would be, decisions included but not signed.
    pub state: State,
}

/// A merge worked out upon a state of the branch.
struct Plan {
    merged: State,
    commits: u64,
    touched: BTreeSet<(CollectionId, Key)>,
    edits: Vec<DocumentEdit>,
    decided: Vec<(CollectionId, Key)>,
}

impl Repository {
    /// Takes the commits of a state of another branch into a branch, by a commit that names the heads of both. Works offline.
    ///
    /// Cost: the replay of the commits that are taken in; what they touch is looked at once.
    ///
    /// # Errors
    /// [`Error::OtherSchema`], [`Error::ManyHeads`], and those of a commit.
    pub fn merge(&self, merge: &Merge, durability: Durability) -> Result<Merged, Error> {
        for attempt in 1.. {
            let view = self.view();
            let ours = view.state(merge.into.as_ref())?;
            if ours.schema().id() != merge.from.schema().id() {
                return Err(Error::OtherSchema { from: merge.from.branch().clone(), target: ours.branch().clone() });
            }
            let Some(mut plan) = self.plan_merge(&view, ours, merge)? else {
                return Ok(Merged { committed: None, commits: 0, decided: Vec::new(), conflicts: Vec::new(), state: ours.clone() });
            };
            if merge.dry_run {
                let state = self.with_edits(ours, &plan)?;
                return self.told(None, plan, state);
            }
            let ask = |plan: &Plan| Ask {
                branch: Some(ours.branch().clone()),
                key: merge.key,
                principal: String::new(),
                wanted: Vec::new(),
                edits: plan.edits.clone(),
                message: merge.message.clone(),
            };
            // What was handed to the store before must be readable by a replay that holds the writer.
            let committed = if attempt < ATTEMPTS {
                self.commit_upon(ours, durability, |_, _| Ok((plan.merged.clone(), ask(&plan))), false)?
            } else {
                self.commit_upon(
                    ours,
                    durability,
                    |view, now| {
                        self.store().records().write(Batch::new(), Durability::Process)?;
                        let again = self.plan_merge(view, now, merge)?.ok_or(Error::Empty)?;
                        let prepared = (again.merged.clone(), ask(&again));
                        plan = again;
                        Ok(prepared)
                    },
                    true,
                )?
            };
            if let Some((committed, state)) = committed {
                return self.told(Some(committed), plan, state);
            }
        }
        unreachable!("the attempts are numbered without end")
    }

    fn told(&self, committed: Option<Committed>, plan: Plan, state: State) -> Result<Merged, Error> {
        let mut conflicts = Vec::new();
        for (id, key) in plan.touched {
            let Ok(collection) = state.schema().by_id(id) else { continue };
            if self.get(&state, id, &key)?.is_some_and(|document| document.has_conflict(collection)) {
                conflicts.push((id, key));
            }
        }
        Ok(Merged { committed, commits: plan.commits, decided: plan.decided, conflicts, state })
    }

    /// Works out a merge; `None` if the branch has all of it already.
    fn plan_merge(&self, view: &View, ours: &State, merge: &Merge) -> Result<Option<Plan>, Error> {
        let theirs = &merge.from;
        let lacking = lacking(&self.0.commits, ours.frontier().vector(), theirs.frontier().vector())?;
        if lacking.is_empty() {
            return Ok(None);
        }
        let mut touched = BTreeSet::new();
        for (id, _) in &lacking {
            for request in self.requests(id)?.iter().flatten() {
                touched.extend(request.edits().map(|(collection, edit)| (collection, edit.key.clone())));
            }
        }
        let mut merged = ours.clone();
        advance(&mut merged, &self.0.commits, &self.0.nodes, theirs.frontier().vector(), |request| view.skips(request))?;
        let heads = merged.frontier().heads().len();
        if heads > MAX_PARENTS {
            return Err(Error::ManyHeads { heads, limit: MAX_PARENTS });
        }
        let (mut edits, mut decided) = (Vec::new(), Vec::new());
        let sides = (ours.frontier().vector(), theirs.frontier().vector());
        for (id, key) in &touched {
            let Ok(collection) = merged.schema().by_id(*id) else { continue };
            let Some(document) = self.get(&merged, *id, key)? else { continue };
            let (our, their) = (self.get(ours, *id, key)?, self.get(theirs, *id, key)?);
            let choose = |dispute: Dispute<'_>| {
                if !is_between(dispute.stamps, sides) {
                    return None;
                }
                let rule = merge.rules.iter().find(|rule| rule.fits(&collection.name, key, dispute.field));
                rule.map_or(merge.side, |rule| rule.side)
            };
            if let Some(operation) = merge::decide(collection, &document, our.as_deref(), their.as_deref(), choose) {
                let change = DocumentChange::Exact(operation);
                edits.push(DocumentEdit { collection: collection.name.to_string(), key: key.clone(), change });
                decided.push((*id, key.clone()));
            }
        }
        Ok(Some(Plan { merged, commits: lacking.len() as u64, touched, edits, decided }))
    }

    /// Returns the merged state with the decisions, as a reader would see it.
    fn with_edits(&self, ours: &State, plan: &Plan) -> Result<State, Error> {
        let mut state = plan.merged.clone();
        let chain = commit::chain(&self.session(), ours.branch());
        let counter = state.frontier().vector().get(&chain) + 1;
        let time = Time::after(state.frontier().newest(), self.now()).ok_or(Error::Clock)?;
        let meta = Meta { chain, counter, time, vector: state.frontier().vector().clone() };
        for edit in &plan.edits {
            let DocumentChange::Exact(operation) = &edit.change else { continue };
            let collection = state.schema().collection(&edit.collection)?.id;
            let edits = vec![Edit { key: edit.key.clone(), operation: operation.clone() }];
            let groups = vec![Group { collection, salt: [0; 16], edits }];
            let principal = Principal { name: String::new(), proof: Proof::Session };
            let request = Request { key: RequestKey([0; 16]), principal, preconditions: Vec::new(), groups };
            state.apply_request(&self.0.nodes, &meta, 0, &request)?;
        }
        Ok(state)
    }
}

impl Repository {
    /// Makes a commit of one ask upon a state of its branch that also has commits of another, all heads of which the commit names; the ask may edit
    /// nothing. `prepare` gets the view and the branch as the writer has them and returns that state and the ask. Waits until it is as durable as asked.
    ///
    /// Returns the commit with the state after it, `None` if the branch is no longer at `seen` and was not prepared for that.
    fn commit_upon(
        &self,
        seen: &State,
        durability: Durability,
        prepare: impl FnOnce(&View, &State) -> Result<(State, Ask), Error>,
        anew: bool,
    ) -> Result<Option<(Committed, State)>, Error> {
        let shared = &self.0;
        let mut writer = shared.writer.lock();
        if writer.is_over {
            return Err(Error::SessionOver);
        }
        let branch = seen.branch();
        let before = writer.view.branches.get(branch).cloned().ok_or(Error::NoSchema)?;
        if before.name() != seen.name() && !anew {
            return Ok(None);
        }
        let (merged, ask) = prepare(&writer.view, &before)?;
        let undo = Undo { view: writer.view.clone(), chains: writer.chains.clone() };
        writer.view.branches.insert(branch.clone(), merged);
        writer.takes_in = true;
        let Made { batch, changes, mut answers, .. } = shared.make(&mut writer, std::slice::from_ref(&ask));
        writer.takes_in = false;
        let answer = answers.pop().expect("one ask, one answer");
        let made = !batch.is_empty();
        if made && let Err(error) = shared.store.records().write(batch, durability) {
            writer.take_back(undo);
            return Err(error.into());
        }
        let committed = match answer {
            Ok(committed) if made => committed,
            other => {
                writer.take_back(undo);
                drop(writer);
                let repeated = other?;
                // It may have come from another member a moment ago.
                shared.store.records().write(Batch::new(), durability)?;
                return Ok(Some((repeated, before)));
            }
        };
        writer.certified = true;
        let after = writer.view.branches[branch].clone();
        // Subscribers learn of all that came in, not only of what the commit edits.
        let rebuilt = Change::Rebuilt { branch: branch.clone(), before, after: after.clone() };
        shared.publish(writer.view.clone(), std::iter::once(rebuilt).chain(changes).collect());
        Ok(Some((committed, after)))
    }
}

/// Whether edits of either side stand against each other that the other side does not have.
fn is_between(stamps: &[Stamp], (ours, theirs): (&VersionVector, &VersionVector)) -> bool {
    let lacks = |side: &VersionVector| stamps.iter().any(|stamp| !side.contains(&stamp.dot.chain, stamp.dot.counter));
    lacks(ours) && lacks(theirs)
}

impl Rule {
    fn fits(&self, collection: &str, key: &Key, field: Option<&Arc<str>>) -> bool {
        self.collection.as_deref().is_none_or(|only| only == collection)
            && key.as_str().starts_with(&self.prefix)
            && self.field.as_ref().is_none_or(|only| Some(only) == field)
    }
}
