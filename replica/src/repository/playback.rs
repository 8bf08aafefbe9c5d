//! Playback: the commits between two states one after another, each with the state before and after it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    sync::Arc,
};

use herdbook_model::{
    authority::RequestRef,
    graph::Meta,
    id::{ChainId, CommitId},
    schema::CollectionId,
    state::{AdvanceError, State},
    time::Time,
    value::Key,
};

use super::{Repository, View};
use crate::error::Error;

/// One step of a playback.
#[derive(Debug, Clone)]
pub struct Step {
    /// The commit.
    pub commit: CommitId,
    /// Its place in the graph.
    pub meta: Meta,
    /// The state without it.
    pub before: State,
    /// The state with it.
    pub after: State,
    /// The documents it edits, by collection and key.
    pub touched: BTreeSet<(CollectionId, Key)>,
}

/// The commits that one state has and another lacks, in order of time, which is causal. An error ends it.
///
/// Memory: the documents that were changed so far, and a place on each chain; however long the history is.
pub struct Playback {
    repository: Repository,
    view: Arc<View>,
    state: State,
    /// The next commit of each chain, the earliest on top.
    next: BinaryHeap<Reverse<Place>>,
}

/// A commit to come, and the last one of its chain that is played.
type Place = (Time, CommitId, ChainId, u64, u64);

impl Repository {
    /// Plays back what leads from one state of a branch to another: the commits that `to` has and `from` lacks.
    ///
    /// # Errors
    /// Those of reading; a commit that is not here is told when its turn comes.
    pub fn playback(&self, from: &State, to: &State) -> Result<Playback, Error> {
        let mut playback = Playback { repository: self.clone(), view: self.view(), state: from.clone(), next: BinaryHeap::new() };
        for range in from.frontier().vector().missing_from(to.frontier().vector()) {
            playback.push(range.chain, range.first, range.last)?;
        }
        Ok(playback)
    }
}

impl Playback {
    /// Returns the state reached so far.
    pub const fn state(&self) -> &State {
        &self.state
    }

    fn push(&mut self, chain: ChainId, counter: u64, last: u64) -> Result<(), Error> {
        let absent = || Error::from(AdvanceError::NoCommit { chain, counter });
        let id = self.repository.at(&chain, counter)?.ok_or_else(absent)?;
        let meta = self.repository.meta(&id)?.ok_or_else(absent)?;
        self.next.push(Reverse((meta.time, id, chain, counter, last)));
        Ok(())
    }

    fn step(&mut self, (_, id, chain, counter, last): Place) -> Result<Step, Error> {
        if counter < last {
            self.push(chain, counter + 1, last)?;
        }
        let meta = self.repository.meta(&id)?.ok_or_else(|| Error::UnknownCommit { id: id.to_string() })?;
        let requests = self.repository.requests(&id)?;
        let skips = |request| self.view.skips(&RequestRef { commit: id, request });
        let (mut after, mut touched) = (self.state.clone(), BTreeSet::new());
        for (at, request) in (0u32..).zip(&requests) {
            match request {
                _ if skips(at) => {}
                Some(request) => touched.extend(request.edits().map(|(collection, edit)| (collection, edit.key.clone()))),
                None => return Err(AdvanceError::NoRequest { request: RequestRef { commit: id, request: at } }.into()),
            }
        }
        after.apply(&self.repository.0.nodes, id, &meta, &requests, skips)?;
        let before = std::mem::replace(&mut self.state, after.clone());
        Ok(Step { commit: id, meta, before, after, touched })
    }
}

impl Iterator for Playback {
    type Item = Result<Step, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(place) = self.next.pop()?;
        let step = self.step(place);
        if step.is_err() {
            self.next.clear();
        }
        Some(step)
    }
}
