//! Capture: edits become commits, gathered for a while or one by one.
//!
//! An edit is checked when it is made, against the branch with the edits before it. Where a peer's commit then comes between and the
//! repository refuses it, the edit wins as it would have by merging: the document is put as its author saw it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use herdbook_model::{
    authority::Status,
    document::View,
    id::{BranchName, RequestKey},
    value::{Key, Value},
};
use herdbook_store::{Batch, Durability, Receipt};
use parking_lot::Mutex;

use super::{
    builder,
    pending::{self, Pending},
};
use crate::{
    error::Error,
    keys,
    repository::{Ask, Committed, DocumentChange, DocumentEdit, FieldChange, Repository},
};

/// How long nothing must be edited before what lies above the trees is folded into them.
const IDLE: Duration = Duration::from_secs(2);

/// Shortest pause before a commit that the store did not take is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// Refusals kept until [`Core::flush`] tells of them.
const REFUSALS: usize = 256;

/// A repository and the edits that are to be committed to it.
pub(super) struct Core {
    pub(super) repository: Repository,
    branch: Option<BranchName>,
    pause: Duration,
    pending: Mutex<Pending>,
    /// Held while edits are committed, so that they are in the order in which they were made.
    capturing: Mutex<()>,
    refused: Mutex<VecDeque<Error>>,
    /// First half of the keys of this run's requests; the other half counts.
    run: [u8; 8],
    asked: AtomicU64,
}

impl Core {
    pub(super) fn new(repository: Repository, branch: Option<BranchName>, pause: Duration) -> Result<Self, keys::Error> {
        Ok(Self {
            repository,
            branch,
            pause,
            pending: Mutex::default(),
            capturing: Mutex::default(),
            refused: Mutex::default(),
            run: keys::random()?,
            asked: AtomicU64::new(0),
        })
    }

    /// Returns the branch it works on if one was named.
    pub(super) const fn branch(&self) -> Option<&BranchName> {
        self.branch.as_ref()
    }

    pub(super) fn ask(&self, branch: BranchName, edits: Vec<DocumentEdit>, message: &str) -> Ask {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.run);
        key[8..].copy_from_slice(&self.asked.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let (principal, message) = (String::new(), message.to_owned());
        Ask { branch: Some(branch), key: RequestKey(key), principal, wanted: Vec::new(), edits, message }
    }

    /// Returns what a reader sees of a document, edits that wait included.
    pub(super) fn get(&self, collection: &str, key: &Key) -> Result<Option<View>, Error> {
        // First what waits, then the branch: what is settled between is in the branch by then.
        if let Some(shown) = self.pending.lock().get(collection, key) {
            return Ok(shown.cloned());
        }
        self.committed(collection, key)
    }

    fn committed(&self, collection: &str, key: &Key) -> Result<Option<View>, Error> {
        let view = self.repository.view();
        let state = view.state(self.branch())?;
        let collection = state.schema().collection(collection)?;
        let document = self.repository.get(state, collection.id, key)?;
        document.map_or(Ok(None), |document| self.repository.view_of(state, collection, &document))
    }

    /// Returns at most `limit` documents in key order, edits that wait included.
    pub(super) fn list(&self, collection: &str, prefix: &str, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, View)>, Error> {
        let mut waiting = self.pending.lock().scan(collection, prefix, after);
        let view = self.repository.view();
        let state = view.state(self.branch())?;
        let collection = state.schema().collection(collection)?;
        let mut documents = Vec::new();
        for entry in self.repository.scan(state, collection.id, prefix, after)? {
            let (key, document) = entry?;
            // Keys that only edits that wait have come before this one.
            while documents.len() < limit
                && let Some(first) = waiting.first_entry().filter(|first| *first.key() < key)
            {
                let (key, shown) = first.remove_entry();
                documents.extend(shown.map(|view| (key, view)));
            }
            if documents.len() >= limit {
                return Ok(documents);
            }
            let shown = match waiting.remove(&key) {
                Some(shown) => shown,
                None => self.repository.view_of(state, collection, &document)?,
            };
            documents.extend(shown.map(|view| (key, view)));
        }
        let rest = waiting.into_iter().filter_map(|(key, shown)| Some((key, shown?)));
        documents.extend(rest.take(limit.saturating_sub(documents.len())));
        Ok(documents)
    }

    /// Takes an edit in, if the document is still what `seen` says, where that is given. Returns whether it was.
    pub(super) fn gather(&self, edit: DocumentEdit, seen: Option<&Option<View>>) -> Result<bool, Error> {
        let full = {
            let mut pending = self.pending.lock();
            let view = self.repository.view();
            let state = view.state(self.branch())?;
            if view.log.branch(state.branch()).is_none_or(|branch| branch.status != Status::Open) {
                return Err(Error::ClosedBranch { branch: state.branch().clone() });
            }
            let collection = state.schema().collection(&edit.collection)?;
            let now = match pending.get(&edit.collection, &edit.key) {
                Some(shown) => shown.cloned(),
                None => match self.repository.get(state, collection.id, &edit.key)? {
                    Some(document) => self.repository.view_of(state, collection, &document)?,
                    None => None,
                },
            };
            if seen.is_some_and(|seen| *seen != now) {
                return Ok(false);
            }
            let shown = pending::changed(collection, &edit.key, &edit.change, now.as_ref())?;
            pending.push(self.ask(state.branch().clone(), vec![edit], ""), shown)
        };
        if full || self.pause.is_zero() {
            self.capture()?;
        }
        if self.pause.is_zero()
            && let Some(refused) = self.refused.lock().pop_front()
        {
            return Err(refused);
        }
        Ok(true)
    }

    /// Commits what waits. Afterwards it survives the end of the process.
    ///
    /// # Errors
    /// The store's: what waits goes on waiting then, and may be tried again.
    pub(super) fn capture(&self) -> Result<(), Error> {
        let _one = self.capturing.lock();
        self.commit_pending()
    }

    /// Commits what waits, and then edits that stand together, at once.
    pub(super) fn commit(&self, edits: Vec<DocumentEdit>, message: &str) -> Result<Committed, Error> {
        let _one = self.capturing.lock();
        self.commit_pending()?;
        let branch = self.repository.view().state(self.branch())?.branch().clone();
        self.repository.commit_one(self.ask(branch, edits, message), Durability::Process)
    }

    /// Waits until everything edited so far survives a power cut.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.capture()?;
        self.repository.store().records().write(Batch::new(), Durability::Durable)?;
        self.refused.lock().pop_front().map_or(Ok(()), Err)
    }

    fn commit_pending(&self) -> Result<(), Error> {
        let (asks, last) = self.pending.lock().take();
        if asks.is_empty() {
            return Ok(());
        }
        let (receipt, answers) = self.submit(asks.clone());
        if let Err(error) = receipt {
            self.pending.lock().put_back(asks);
            return Err(error);
        }
        let refused: Vec<_> = asks.into_iter().zip(answers).filter_map(|(ask, answer)| Some((ask, answer.err()?))).collect();
        for (ask, error) in refused {
            if let Err(error) = self.insist(ask, error) {
                tracing::error!(%error, "an edit could not be committed");
                let mut refused = self.refused.lock();
                if refused.len() < REFUSALS {
                    refused.push_back(error);
                }
            }
        }
        self.pending.lock().settle(last);
        Ok(())
    }

    fn submit(&self, asks: Vec<Ask>) -> (Result<Receipt, Error>, Vec<Result<Committed, Error>>) {
        let (told, hears) = bounded(1);
        self.repository.commit(asks, Durability::Process, move |receipt, answers| {
            let _ = told.send((receipt, answers));
        });
        hears.recv().unwrap_or((Err(Error::Stopped), Vec::new()))
    }

    /// Makes a refused edit again, where a commit that came between made or deleted its document.
    fn insist(&self, ask: Ask, error: Error) -> Result<(), Error> {
        let (Error::Exists { .. } | Error::UnknownDocument { .. }, Some(branch)) = (&error, ask.branch) else { return Err(error) };
        for DocumentEdit { collection, key, .. } in ask.edits {
            let shown = self.pending.lock().get(&collection, &key).map(Option::<&View>::cloned);
            // Deleted by both, or edited on and settled: nothing is left to do.
            let Some(Some(view)) = shown else { continue };
            let change = DocumentChange::Put(view.fields.into_iter().collect());
            let edit = DocumentEdit { collection, key, change };
            self.repository.commit_one(self.ask(branch.clone(), vec![edit], ""), Durability::Process)?;
        }
        Ok(())
    }
}

/// Returns the changes that lead from one document to another, field by field.
pub(super) fn difference(before: &View, after: &View) -> Vec<(std::sync::Arc<str>, FieldChange)> {
    let set = |(name, value): (&Arc<str>, &Value)| {
        (before.fields.get(name) != Some(value)).then(|| (name.clone(), FieldChange::Set(value.clone())))
    };
    let cleared = before.fields.keys().filter(|name| !after.fields.contains_key(*name)).map(|name| (name.clone(), FieldChange::Clear));
    after.fields.iter().filter_map(set).chain(cleared).collect()
}

/// The thread that commits what is gathered and folds what is committed. Ends, after a last commit, when this is dropped.
pub(super) struct Capture {
    edited: Option<Sender<()>>,
    closed: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Capture {
    pub(super) fn start(core: Arc<Core>) -> Result<Self, builder::Error> {
        let (edited, hears) = bounded(1);
        let (closed, ends) = bounded(0);
        let run = move || run(&core, &hears, &ends);
        let thread = thread::Builder::new().name("herdbook-capture".to_owned()).spawn(run).map_err(builder::Error::Thread)?;
        Ok(Self { edited: Some(edited), closed: Some(closed), thread: Some(thread) })
    }

    /// Tells that there is something to commit, or to fold.
    pub(super) fn edited(&self) {
        if let Some(edited) = &self.edited {
            // One that waits already is enough.
            let _ = edited.try_send(());
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        (self.edited, self.closed) = (None, None);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of capture panicked");
        }
    }
}

fn run(core: &Core, edited: &Receiver<()>, closed: &Receiver<()>) {
    let mut is_folded = true;
    loop {
        let heard = if is_folded { edited.recv().map_err(RecvTimeoutError::from) } else { edited.recv_timeout(IDLE) };
        match heard {
            Ok(()) => {
                is_folded = false;
                let mut pause = core.pause;
                while closed.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    let Err(error) = core.capture() else { break };
                    tracing::warn!(%error, "edits wait: the store does not take them");
                    pause = core.pause.max(RETRY);
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                fold(core);
                is_folded = true;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    if let Err(error) = core.capture() {
        tracing::error!(%error, "edits are lost: the store does not take them");
    }
    fold(core);
}

fn fold(core: &Core) {
    if let Err(error) = core.repository.materialise() {
        tracing::error!(%error, "the state could not be folded");
    }
}
