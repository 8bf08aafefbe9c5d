//! Folding beside the writer: a snapshot's overlay goes into the trees on a thread of its own, and the branch takes the trees over when
//! they are made. Commits wait for it only where they outrun it.
//!
//! Law: trees are taken over only by a state that has every commit in them, each of which is stored, and only where it stood on the same trees
//! before. So what the record of a materialised state names is always there.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use herdbook_model::state::State;
use herdbook_store::{Batch, Table};

use super::{Shared, layout, materialise, nodes::NodeCache, write::Writer};
use crate::error::Error;

/// How often over may be pending what is folded at a time, before a commit waits.
const BEHIND: u64 = 2;

/// A fold under way.
pub(super) struct Folding {
    /// The state that is folded, as it was.
    before: State,
    /// The state after, once it was waited for.
    folded: Option<State>,
    /// `None` once it was waited for.
    thread: Option<JoinHandle<Result<State, Error>>>,
}

impl Folding {
    fn start(before: State, nodes: Arc<NodeCache>) -> std::io::Result<Self> {
        let mut state = before.clone();
        let fold = move || {
            nodes.fold(&mut state)?;
            Ok(state)
        };
        let thread = thread::Builder::new().name("fold".to_owned()).spawn(fold)?;
        Ok(Self { before, folded: None, thread: Some(thread) })
    }

    fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Returns the state before and after; `None` if the thread panicked, which is reported by then.
    fn wait(mut self) -> Result<Option<(State, State)>, Error> {
        if let Some(folded) = self.folded.take() {
            return Ok(Some((self.before.clone(), folded)));
        }
        let Some(Ok(folded)) = self.thread.take().map(JoinHandle::join) else { return Ok(None) };
        Ok(Some((self.before.clone(), folded?)))
    }
}

impl Drop for Folding {
    /// The thread holds the store: nobody must find it open after the repository is gone.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Takes over what was folded meanwhile, and starts the next fold if enough lies above the trees. Waits only if that is far behind.
    pub(super) fn fold_beside(&self, writer: &mut Writer, state: &mut State, batch: &mut Batch) -> Result<(), Error> {
        let is_far_behind = |state: &State| self.settings.is_over(state, BEHIND);
        let folding = writer.folding.get(state.branch());
        if folding.is_some_and(|folding| folding.is_finished() || is_far_behind(state)) {
            self.take_folded(writer, state, batch)?;
        }
        if !self.settings.is_due(state) {
            return Ok(());
        }
        if is_far_behind(state) {
            writer.folding.remove(state.branch());
            return self.fold(state, batch);
        }
        if !writer.folding.contains_key(state.branch()) {
            match Folding::start(state.clone(), self.nodes.clone()) {
                Ok(folding) => drop(writer.folding.insert(state.branch().clone(), folding)),
                Err(error) => {
                    tracing::warn!(%error, "no thread to fold on");
                    return self.fold(state, batch);
                }
            }
        }
        Ok(())
    }

    /// Waits for the fold of this branch, if one is under way, and gives `state` its trees. What cannot be taken over yet, since the store has not written
    /// all of it, is kept.
    pub(super) fn take_folded(&self, writer: &mut Writer, state: &mut State, batch: &mut Batch) -> Result<(), Error> {
        let Some(folding) = writer.folding.remove(state.branch()) else { return Ok(()) };
        let Some((before, folded)) = folding.wait()? else { return Ok(()) };
        for head in before.frontier().ids() {
            // It waits for the disk, or the store refused it: then it was folded for nothing.
            if self.commits.stored(&head)?.is_none() {
                writer.folding.insert(state.branch().clone(), Folding { before, folded: Some(folded), thread: None });
                return Ok(());
            }
        }
        if state.adopt(&before, &folded) {
            batch.put(Table::Refs, layout::materialised(state.branch()).into_bytes(), materialise::encode(&folded));
        }
        Ok(())
    }
}
