//! History for the application: states as they were, what differs, who wrote what, taking back, playing back, merging.
//!
//! Everything here commits what waits first, so that it counts.

use herdbook_model::{
    id::{BranchName, RequestKey},
    patch::{Fit, Misfit, Patch},
    request::Must,
    state::State,
    value::{Key, Value},
};
use herdbook_store::Durability;

use super::{Replica, builder, founding};
use crate::{
    error::Error,
    keys,
    repository::{
        Ask, Blamed, Committed, DocumentChange, DocumentEdit, FieldChange, Merge, Merged, Moment, Playback, Revert, Reverted, Scope,
        Selection, Wanted, version,
    },
};

/// Why a patch was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A document reads otherwise than the patch wants.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] Error),
}

impl Replica {
    /// Returns the state of the branch at a moment.
    ///
    /// # Errors
    /// [`Error::UnknownCommit`], those of replay.
    pub fn state_at(&self, moment: &Moment) -> Result<State, Error> {
        self.core.capture()?;
        self.repository().state_at(&self.repository().view(), self.core.branch(), moment)
    }

    /// Returns what leads from one state to another, by collection and key. Cost: what differs.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn diff(&self, from: &State, to: &State) -> Result<Vec<Patch>, Error> {
        let comparison = self.repository().comparison(from, to, Scope::default())?;
        let (changes, _) = comparison.piece(None, usize::MAX)?;
        let mut patches = Vec::with_capacity(changes.len());
        for change in changes {
            let read = |state: &State, document: Option<&herdbook_model::document::Document>| {
                let collection = state.schema().by_id(change.collection).ok()?;
                document?.view(collection).map(|view| view.fields)
            };
            let (before, after) = (read(from, change.old.as_deref()), read(to, change.new.as_deref()));
            let collection = to.schema().by_id(change.collection).or_else(|_| from.schema().by_id(change.collection))?;
            patches.extend(Patch::between(&collection.name, &change.key, before.as_ref(), after.as_ref()));
        }
        Ok(patches)
    }

    /// Does what patches say, all of it or nothing, in one commit; `None` if all reads so already.
    ///
    /// # Errors
    /// [`ApplyError::Misfit`] with the place that reads otherwise; why it could not be committed.
    pub fn apply(&self, patches: &[Patch], message: &str) -> Result<Option<Committed>, ApplyError> {
        self.core.capture()?;
        let view = self.repository().view();
        let state = view.state(self.core.branch())?;
        let (mut edits, mut wanted) = (Vec::new(), Vec::new());
        for patch in patches {
            let collection = state.schema().collection(&patch.collection).map_err(Error::from)?;
            let document = self.repository().get(state, collection.id, &patch.key)?;
            let now = document.as_ref().and_then(|document| document.view(collection)).map(|view| view.fields);
            let change = |value: Option<Value>| value.map_or(FieldChange::Clear, FieldChange::Set);
            let change = match patch.fit(collection, now.as_ref())? {
                Fit::Done => continue,
                Fit::Create(fields) => DocumentChange::Create(fields),
                Fit::Update(fields) => DocumentChange::Update(fields.into_iter().map(|(name, value)| (name, change(value))).collect()),
                Fit::Delete => DocumentChange::Delete,
            };
            let (name, key) = (collection.name.to_string(), patch.key.clone());
            // What changes between the look and the commit is no longer what the patch was held against.
            let must = document.as_deref().map_or(Must::BeAbsent, |document| Must::BeAt(version(document)));
            wanted.push(Wanted { collection: name.clone(), key: key.clone(), must, only_here: true });
            edits.push(DocumentEdit { collection: name, key, change });
        }
        if edits.is_empty() {
            return Ok(None);
        }
        let ask = Ask { wanted, ..self.core.ask(state.branch().clone(), edits, message) };
        Ok(Some(self.repository().commit_one(ask, Durability::Process)?))
    }

    /// Returns the parts of a document, each with the commit it is owed to.
    ///
    /// # Errors
    /// [`Error::UnknownDocument`], [`Error::Schema`], [`Error::BadKey`].
    pub fn blame(&self, collection: &str, key: &str) -> Result<Vec<Blamed>, Error> {
        self.core.capture()?;
        let view = self.repository().view();
        self.repository().blame(&view, view.state(self.core.branch())?, collection, &Key::new(key)?, None)
    }

    /// Takes back what is still visible of selected edits. Later edits of others stay; a revert can be reverted.
    ///
    /// # Errors
    /// [`Error::UnknownCommit`], [`Error::Empty`] for a selection that names nothing, and those of a commit.
    pub fn revert(&self, selection: Selection, message: &str) -> Result<Reverted, Error> {
        self.core.capture()?;
        let (branch, message) = (self.core.branch().cloned(), message.to_owned());
        let revert = Revert { branch, selection, key: fresh()?, message, dry_run: false };
        self.repository().revert(&revert, Durability::Process)
    }

    /// Plays back what leads from one state to another, commit by commit, each with the state before and after it.
    ///
    /// # Errors
    /// Those of reading.
    pub fn playback(&self, from: &State, to: &State) -> Result<Playback, Error> {
        self.repository().playback(from, to)
    }

    /// Begins a branch at all that this one has; it goes its own way until somebody merges. A replica opened with [`Builder::branch`] works on it.
    ///
    /// # Errors
    /// [`builder::Error::NotFoundedHere`] where a coordinator holds the authority; [`Error::Log`] if there is a branch of that name.
    ///
    /// [`Builder::branch`]: super::Builder::branch
    pub fn start_branch(&self, name: &BranchName) -> Result<(), builder::Error> {
        self.core.capture()?;
        let folder = self.founded.as_deref().ok_or(builder::Error::NotFoundedHere)?;
        founding::begin_branch(self.repository(), folder, name, self.core.branch())
    }

    /// Takes another branch of the same schema into this one.
    ///
    /// # Errors
    /// [`Error::OtherSchema`], [`Error::UnknownBranch`], and those of a commit.
    pub fn merge(&self, from: &BranchName, options: MergeOptions, message: &str) -> Result<Merged, Error> {
        self.core.capture()?;
        let from = self.repository().view().state(Some(from))?.clone();
        let MergeOptions { side, rules, dry_run } = options;
        let (into, message) = (self.core.branch().cloned(), message.to_owned());
        self.repository().merge(&Merge { into, from, side, rules, key: fresh()?, message, dry_run }, Durability::Process)
    }
}

/// How branches are merged.
#[derive(Debug, Clone, Default)]
pub struct MergeOptions {
    /// Who decides where both wrote concurrently and no rule says otherwise; none: the policies alone.
    pub side: Option<herdbook_model::merge::Side>,
    /// Exceptions; the first that fits counts.
    pub rules: Vec<crate::repository::Rule>,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
}

fn fresh() -> Result<RequestKey, Error> {
    Ok(keys::random().map(RequestKey)?)
}
