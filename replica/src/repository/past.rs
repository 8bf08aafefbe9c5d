//! History: the log, one commit, states at commits and times, differences.

use std::sync::Arc;

use herdbook_model::{
    graph::Frontier,
    id::{BranchName, CommitId, ReplicaId},
    request::Request,
    schema::CollectionId,
    state::{self, State, advance},
    time::Time,
    value::Key,
};
use herdbook_store::{Direction, KeyRange, Table};

use super::{Repository, View, layout};
use crate::error::Error;

/// Which state of a branch is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// The newest.
    Now,
    /// That of a commit: it and its ancestors.
    Commit(CommitId),
    /// That of a time: every commit up to it that the branch has.
    Time(Time),
    /// Just before a commit: its ancestors without itself.
    Before(CommitId),
}

/// One line of a log.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// The commit.
    pub commit: herdbook_model::commit::Commit,
    /// Whose session signed it, if the certificate is here.
    pub replica: Option<ReplicaId>,
    /// Which of its requests touched the key asked for; all of them without a key.
    pub requests: Vec<u32>,
}

impl Repository {
    /// Returns commits of a branch from the newest back, at most `limit`: those before `before`, if given.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn log(&self, branch: &BranchName, before: Option<(Time, CommitId)>, limit: usize) -> Result<Vec<LogEntry>, Error> {
        let mut range = KeyRange::prefix(&layout::by_branch(branch));
        if let Some((time, commit)) = before {
            range = range.before(&layout::by_time(branch, time, &commit));
        }
        let mut entries = Vec::new();
        for record in self.0.store.records().scan(Table::Index, range, Direction::Backward) {
            if entries.len() == limit {
                break;
            }
            let Some((_, id)) = layout::parse_tail(&record?.key) else { continue };
            let Some(stored) = self.0.commits.stored(&id)? else { continue };
            let requests = (0..stored.commit.header().request_count).collect();
            entries.push(self.entry(stored.commit, requests)?);
        }
        Ok(entries)
    }

    /// Returns commits that touched a document, from the newest back, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn log_of_document(
        &self,
        branch: &BranchName,
        collection: CollectionId,
        key: &Key,
        before: Option<(Time, CommitId)>,
        limit: usize,
    ) -> Result<Vec<LogEntry>, Error> {
        let mut range = KeyRange::prefix(&layout::by_document(collection, key));
        if let Some((time, commit)) = before {
            range = range.before(&layout::by_edit(collection, key, time, &commit, 0));
        }
        let mut entries: Vec<LogEntry> = Vec::new();
        for record in self.0.store.records().scan(Table::Index, range, Direction::Backward) {
            let record = record?;
            let Some(edit) = layout::parse_by_edit(&record.key) else { continue };
            // A key that holds a zero byte may share the prefix; commits of other branches share the document.
            if edit.key != key.as_str() || record.value != branch.as_str().as_bytes() {
                continue;
            }
            if let Some(last) = entries.last_mut()
                && last.commit.id() == edit.commit
            {
                last.requests.insert(0, edit.request);
                continue;
            }
            if entries.len() == limit {
                break;
            }
            let Some(stored) = self.0.commits.stored(&edit.commit)? else { continue };
            entries.push(self.entry(stored.commit, vec![edit.request])?);
        }
        Ok(entries)
    }

    fn entry(&self, commit: herdbook_model::commit::Commit, requests: Vec<u32>) -> Result<LogEntry, Error> {
        let session = commit.header().session;
        // The writer need not be asked for its own certificate.
        let replica = if session == self.0.session {
            Some(self.0.replica)
        } else {
            self.certificate(&session)?.map(|certificate| certificate.replica)
        };
        Ok(LogEntry { commit, replica, requests })
    }

    /// Returns the commit whose id is written as `text`: all 64 hex digits, or at least 6 that no other commit here begins with.
    ///
    /// # Errors
    /// [`Error::UnknownCommit`].
    pub fn find_commit(&self, text: &str) -> Result<CommitId, Error> {
        let unknown = || Error::UnknownCommit { id: text.to_owned() };
        if let Some(id) = CommitId::from_hex(text) {
            return self.0.commits.stored(&id)?.map(|_| id).ok_or_else(unknown);
        }
        if text.len() < 6 || text.len() > 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(unknown());
        }
        let padded = format!("{text:0<64}").to_ascii_lowercase();
        let from = CommitId::from_hex(&padded).ok_or_else(unknown)?;
        let mut found = None;
        for record in self.0.store.records().scan(Table::Commits, KeyRange::starting_at(from.as_bytes()), Direction::Forward).take(2) {
            let id = CommitId::try_from(record?.key.as_slice()).map_err(|_| unknown())?;
            if id.to_string().starts_with(&text.to_ascii_lowercase()) && found.replace(id).is_some() {
                return Err(unknown());
            }
        }
        found.ok_or_else(unknown)
    }

    /// Returns the state of a branch at a moment. Cost: the commits between the moment and the nearest state at hand below it.
    ///
    /// # Errors
    /// [`Error::UnknownCommit`], [`Error::UnknownBranch`], those of replay.
    pub fn state_at(&self, view: &View, branch: Option<&BranchName>, moment: &Moment) -> Result<State, Error> {
        let now = view.state(branch)?;
        match moment {
            Moment::Now => Ok(now.clone()),
            Moment::Commit(commit) => {
                let frontier = self.frontier_of(std::slice::from_ref(commit))?;
                self.replayed(view, now, frontier)
            }
            Moment::Before(commit) => {
                let stored = self.0.commits.stored(commit)?.ok_or_else(|| Error::UnknownCommit { id: commit.to_string() })?;
                let frontier = self.frontier_of(&stored.commit.header().parents)?;
                self.replayed(view, now, frontier)
            }
            Moment::Time(time) => {
                let frontier = self.frontier_up_to(now, *time)?;
                self.replayed(view, now, frontier)
            }
        }
    }

    /// Returns the frontier of the commits of `now` up to `time`. Times rise along ancestry, so that is a set closed under ancestors.
    ///
    /// Cost: a look into the index by time; then, for each chain that the commit found there does not cover, a search by halving.
    pub(super) fn frontier_up_to(&self, now: &State, time: Time) -> Result<Frontier, Error> {
        if now.frontier().newest() <= time {
            return Ok(now.frontier().clone());
        }
        if let Some(floor) = self.0.floor(now.branch(), now.schema())?.filter(|floor| time < floor.frontier().newest()) {
            return Err(Error::BeforeHorizon { branch: now.branch().clone(), time: floor.frontier().newest() });
        }
        let mut frontier = Frontier::default();
        let mut range = KeyRange::prefix(&layout::by_branch(now.branch()));
        if let Some(next) = time.raw().checked_add(1) {
            range = range.before(&layout::by_time(now.branch(), Time::from_raw(next), &CommitId([0; 32])));
        }
        // What the newest commit before the moment stands on needs no search, and mostly that is nearly all.
        if let Some(record) = self.0.store.records().scan(Table::Index, range, Direction::Backward).next()
            && let Some((_, id)) = layout::parse_tail(&record?.key)
            && let Some(meta) = self.meta(&id)?
            && now.frontier().vector().contains(&meta.chain, meta.counter)
        {
            frontier.advance(id, &meta);
        }
        for &(chain, newest) in now.frontier().vector().iter() {
            let (mut low, mut high) = (frontier.vector().get(&chain), newest);
            let mut found = None;
            while low < high {
                let middle = low + (high - low).div_ceil(2);
                let commit = match self.at(&chain, middle)? {
                    Some(id) => self.meta(&id)?.filter(|meta| meta.time <= time).map(|meta| (id, meta)),
                    None => None,
                };
                match commit {
                    Some(commit) => (low, found) = (middle, Some(commit)),
                    None => high = middle - 1,
                }
            }
            if let Some((id, meta)) = found {
                frontier.advance(id, &meta);
            }
        }
        Ok(frontier)
    }

    pub(super) fn frontier_of(&self, heads: &[CommitId]) -> Result<Frontier, Error> {
        let frontier = Frontier::of(&self.0.commits, heads)?;
        frontier.map_err(|head| Error::UnknownCommit { id: head.to_string() })
    }

    /// Returns the state of `frontier` under the rules and judgement of `now`.
    pub(super) fn replayed(&self, view: &View, now: &State, frontier: Frontier) -> Result<State, Error> {
        let name = herdbook_model::graph::state_name(frontier.name(now.branch()), now.judgement());
        if now.name() == name {
            return Ok(now.clone());
        }
        if let Some(state) = self.0.past.lock().get(&name) {
            return Ok(state.clone());
        }
        let usable = |state: &State| state.judgement() == now.judgement() && frontier.vector().covers(state.frontier().vector());
        let floor = self.0.floor(now.branch(), now.schema())?;
        if let Some(floor) = floor.as_ref().filter(|floor| !frontier.vector().covers(floor.frontier().vector())) {
            return Err(Error::BeforeHorizon { branch: now.branch().clone(), time: floor.frontier().newest() });
        }
        let covers = |state: &State| frontier.vector().covers(state.frontier().vector());
        let materialised = self.0.load_materialised(now.branch(), now.schema())?.filter(covers);
        let materialised = match materialised {
            Some(state) if state.judgement() == now.judgement() || self.0.is_as_judged(view, &state)? => Some(state),
            _ => None,
        };
        let nearest = {
            let past = self.0.past.lock();
            let held = past.iter().map(|(_, state)| state).filter(|state| state.branch() == now.branch() && usable(state));
            held.max_by_key(|state| state.frontier().vector().commits()).cloned()
        };
        let at_hand = [floor, materialised, nearest].into_iter().flatten().max_by_key(|state| state.frontier().vector().commits());
        let mut state = match at_hand {
            Some(state) => state,
            None => self.0.beginning(view, now.branch(), now.schema(), frontier.vector())?,
        };
        advance(&mut state, &self.0.commits, &self.0.nodes, frontier.vector(), |request| view.skips(request))?;
        state.set_judgement(now.judgement());
        self.0.past.lock().put(name, state.clone());
        Ok(state)
    }

    /// Returns the documents of `collection` that differ between two states, in key order, at most `limit`.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn compare(
        &self,
        old: &State,
        new: &State,
        collection: CollectionId,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<state::Change>, Error> {
        Ok(state::compare(&self.0.nodes, old, new, collection, prefix, limit)?)
    }

    /// Returns the requests of a commit, in order; `None` for one that is lost here.
    ///
    /// # Errors
    /// [`Error::UnknownCommit`], [`Error::Record`]; [`Error::BeforeHorizon`] if its edits are gone.
    pub fn requests(&self, commit: &CommitId) -> Result<Vec<Option<Arc<Request>>>, Error> {
        use herdbook_model::state::History as _;
        let requests = self.0.commits.requests(commit)?;
        if requests.iter().any(Option::is_none) {
            self.fails_past(commit)?;
        }
        Ok(requests)
    }

    /// Fails if the edits of a commit are gone since a horizon covers it.
    pub(super) fn fails_past(&self, commit: &CommitId) -> Result<(), Error> {
        let view = self.view();
        if !self.0.is_past(&view, commit)? {
            return Ok(());
        }
        let stored = self.0.commits.stored(commit)?.ok_or_else(|| Error::UnknownCommit { id: commit.to_string() })?;
        let branch = stored.commit.header().branch.clone();
        let heads = view.log.horizons().get(&branch).map(|horizon| horizon.heads.clone()).unwrap_or_default();
        Err(Error::BeforeHorizon { time: self.frontier_of(&heads)?.newest().max(stored.commit.header().time), branch })
    }
}
