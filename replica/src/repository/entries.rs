//! The head log on this node: taking entries, and what they mean for the states of branches.

use std::{collections::BTreeSet, sync::Arc};

use herdbook_model::{
    authority::{Entry, Kind as EntryKind, Log, RequestRef},
    codec::{Decode as _, Encode as _, Reader, Writer},
    graph::{Frontier, Graph as _},
    id::{BranchName, CommitId, EntryId, Judgement},
    state::{AdvanceError, State, advance},
};
use herdbook_store::{Batch, Direction, Durability, KeyRange, Receipt, Table};

use super::{Change, Repository, Shared, View, layout, write::Writer as Holder};
use crate::error::Error;

impl Repository {
    /// Takes entries that extend the head log, in order, and waits until they are durable.
    ///
    /// Entries known already are passed over. An entry that opens a higher epoch may stand where this node holds entries of older epochs:
    /// those beyond are then set aside as late evidence.
    ///
    /// # Errors
    /// [`Error::Log`] names the first entry that cannot be taken; those before it were taken.
    pub fn extend(&self, entries: &[Entry]) -> Result<(), Error> {
        self.take_entries(entries, false, Durability::Durable)
    }

    /// As [`Repository::extend`], and waits for no disk: for entries that a power cut does not take from everybody. A member hears them again from
    /// who told them; the authority has those signed last beside its keys.
    ///
    /// # Errors
    /// As [`Repository::extend`].
    pub fn hear(&self, entries: &[Entry]) -> Result<(), Error> {
        self.take_entries(entries, false, Durability::Process)
    }

    /// Takes a log, from its first entry on, in the place of this one: whatever contradicts it here is set aside as late evidence. Only an
    /// authority that ends its restore may do so.
    ///
    /// # Errors
    /// As [`Repository::extend`].
    pub fn adopt(&self, entries: &[Entry]) -> Result<(), Error> {
        self.take_entries(entries, true, Durability::Durable)
    }

    fn take_entries(&self, entries: &[Entry], adopts: bool, durability: Durability) -> Result<(), Error> {
        let shared = &self.0;
        let mut writer = shared.writer.lock();
        let before = writer.view.clone();
        let mut log = (*writer.view.log).clone();
        let mut batch = Batch::new();
        let mut refused = None;
        for entry in entries {
            if log.entry_at(entry.seq).is_some_and(|known| known.id == entry.id()) {
                continue;
            }
            let opens_higher_epoch =
                matches!(entry.kind, EntryKind::Epoch { .. }) && log.newest().is_some_and(|newest| entry.epoch > newest.epoch);
            // Nothing is given up for an entry that is not taken in the end: its signature is checked by the log it would extend.
            let cut = if (opens_higher_epoch || adopts) && log.entry_at(entry.seq).is_some() {
                // Entries that were handed over before are cut, too.
                shared.store.records().write(Batch::new(), Durability::Process)?;
                Some(shared.cut(&log, entry.seq)?)
            } else {
                None
            };
            let extended = match cut {
                Some((mut shorter, evidence)) => shorter.extend(entry).map(|_| {
                    log = shorter;
                    batch.append(evidence);
                }),
                None => log.extend(entry).map(|_| ()),
            };
            if let Err(error) = extended {
                refused = Some(error);
                break;
            }
            batch.put(Table::Entries, entry.seq.to_be_bytes().to_vec(), entry.to_bytes());
            shared.forget_erased(entry, &mut batch)?;
        }
        if !batch.is_empty() {
            let judged_anew = log.judgement() != writer.view.log.judgement();
            writer.view.log = Arc::new(log);
            if judged_anew {
                shared.forget_checkpoints(&writer.view, &mut batch);
            }
            let (told, hears) = crossbeam::channel::bounded(1);
            let dropped = shared.drop_refused(&mut writer, entries, &mut batch);
            let has_dropped = dropped.as_ref().is_ok_and(|branches| !branches.is_empty());
            let taken = dropped.and_then(|branches| shared.take_log(&mut writer, judged_anew, &branches, &mut batch));
            let handed = taken.and_then(|mut changes| {
                shared.note_checkpoints(&writer.view, entries, &mut batch);
                if has_dropped {
                    changes.push(Change::Dropped { own: writer.is_over });
                }
                let (view, publisher) = (writer.view.clone(), shared.published.clone());
                let stored = move |receipt: Result<Receipt, herdbook_store::Error>| {
                    if receipt.is_ok() {
                        publisher.publish(view, changes);
                    }
                    let _ = told.send(receipt);
                };
                Ok(shared.store.records().submit(batch, durability, Box::new(stored))?)
            });
            if let Err(error) = handed {
                writer.view = before;
                if has_dropped && let Err(error) = shared.reload(&mut writer) {
                    tracing::error!(%error, "the repository could not be read again after a failure");
                }
                return Err(error);
            }
            // The next commit need not wait for the disk. If the store fails now it takes nothing any more, from nobody.
            drop(writer);
            hears.recv().map_err(|_| Error::Stopped)??;
        }
        refused.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Returns the entries from `first` on, at most about `bytes`, at least one if there is one.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn entries(&self, first: u64, bytes: usize) -> Result<Vec<Entry>, Error> {
        let range = KeyRange::starting_at(&first.to_be_bytes());
        let (mut entries, mut taken) = (Vec::new(), 0);
        for record in self.0.store.records().scan(Table::Entries, range, Direction::Forward) {
            let value = record?.value;
            taken += value.len();
            if taken > bytes && !entries.is_empty() {
                break;
            }
            entries.push(Entry::from_bytes(&value).map_err(|source| Error::Record { what: "head-log entry", source })?);
        }
        Ok(entries)
    }
}

impl Shared {
    /// Returns the log up to, and without, `seq`; what lies beyond is kept in the quarantine table as evidence.
    fn cut(&self, log: &Log, seq: u64) -> Result<(Log, Batch), Error> {
        let mut batch = Batch::new();
        let mut shorter = Log::new(log.repository(), log.root());
        for record in self.store.records().scan(Table::Entries, KeyRange::all(), Direction::Forward) {
            let record = record?;
            let entry = Entry::from_bytes(&record.value).map_err(|source| Error::Record { what: "head-log entry", source })?;
            if entry.seq < seq {
                shorter.extend(&entry)?;
            } else {
                let key = [b"late-entry/".as_slice(), entry.id().as_bytes()].concat();
                batch.put(Table::Quarantine, key, record.value);
                batch.delete(Table::Entries, record.key);
            }
        }
        Ok((shorter, batch))
    }

    /// Whether what the log of `view` says takes a branch further than its state is, or to where it has none yet.
    fn moves(&self, view: &View) -> Result<bool, Error> {
        for (name, said) in view.log.branches() {
            let Some(state) = view.branches.get(name) else { return Ok(true) };
            for head in &said.heads {
                let Some(meta) = self.commits.meta(head)? else { continue };
                if !state.frontier().vector().contains(&meta.chain, meta.counter) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Brings branches to what the log now says. `judged_anew`: replay skips other requests than before. `dropped`: branches whose states stand on
    /// what was dropped.
    fn take_log(
        &self,
        writer: &mut Holder,
        judged_anew: bool,
        dropped: &BTreeSet<BranchName>,
        batch: &mut Batch,
    ) -> Result<Vec<Change>, Error> {
        let mut changes = vec![Change::Entries];
        if judged_anew || self.moves(&writer.view)? {
            // What was handed over before must be readable: the replay may have to go through it again.
            self.store.records().write(Batch::new(), Durability::Process)?;
        }
        if judged_anew {
            // What the log lists as lost is no loss of this node's own any more.
            let log = writer.view.log.clone();
            Arc::make_mut(&mut writer.view.lost).retain(|request, _| !log.skips(request));
        }
        let names: Vec<_> = writer.view.log.branches().keys().cloned().collect();
        let old = std::mem::take(&mut writer.view.branches);
        for branch in names {
            if let Some(state) = old.get(&branch).filter(|_| !dropped.contains(&branch)) {
                writer.view.branches.insert(branch.clone(), state.clone());
            }
            let before = old.get(&branch).map(State::name);
            self.settle(writer, &branch, batch)?;
            let after = writer.view.branches[&branch].clone();
            if before != Some(after.name()) {
                Self::put_frontier(batch, &after);
                if let Some(before) = old.get(&branch) {
                    changes.push(Change::Rebuilt { branch, before: before.clone(), after });
                }
            }
        }
        self.await_states(&mut writer.view, batch)?;
        Ok(changes)
    }

    /// Brings the state of `branch` to every commit of it that is here and to the heads the log accepted, judged as the view judges.
    ///
    /// Starts from the nearest state at hand: the writer's own, the materialised one, its source's, or nothing.
    pub(super) fn settle(&self, writer: &mut Holder, branch: &BranchName, batch: &mut Batch) -> Result<(), Error> {
        loop {
            match self.settled(&writer.view, branch) {
                Ok(mut state) => {
                    self.fold_beside(writer, &mut state, batch)?;
                    writer.view.branches.insert(branch.clone(), state);
                    return Ok(());
                }
                Err(AdvanceError::NoRequest { request }) if !self.is_past(&writer.view, &request.commit)? => {
                    tracing::warn!(commit = %request.commit, request = request.request, "edits are lost here");
                    let documents = self.documents_of(&writer.view, &request)?;
                    Arc::make_mut(&mut writer.view.lost).insert(request, documents);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn settled(&self, view: &View, branch: &BranchName) -> Result<State, AdvanceError<Error>> {
        let lift = AdvanceError::History;
        let said = view.log.branch(branch).ok_or(AdvanceError::History(Error::NoSchema))?;
        let judgement = view.judgement();
        let mut target = Frontier::default();
        let held = view.branches.get(branch);
        if let Some(state) = held {
            target = state.frontier().clone();
        }
        // The log's heads may include commits of the branch it is migrated from, and such as are not here yet.
        // A branch whose base waits is not replayed up to them.
        let accepted = if view.ahead(branch).is_some() { &[][..] } else { &said.heads };
        for head in accepted {
            if let Some(meta) = self.commits.meta(head).map_err(lift)? {
                target.advance(*head, &meta);
            }
        }
        if held.is_none() {
            for head in self.heads_in_store(branch).map_err(lift)? {
                let meta = self.commits.meta(&head).map_err(lift)?.ok_or_else(|| {
                    AdvanceError::History(Error::Hole { what: format!("head {head} of branch `{branch}` is not stored") })
                })?;
                target.advance(head, &meta);
            }
        }
        let mut state = match held {
            Some(state) if state.judgement() == judgement => state.clone(),
            _ => self.nearest(view, branch, &target).map_err(lift)?,
        };
        advance(&mut state, &self.commits, &self.nodes, target.vector(), |request| view.skips(request))?;
        state.set_judgement(judgement);
        Ok(state)
    }

    /// Returns a state from which `target` can be replayed under the view's judgement.
    fn nearest(&self, view: &View, branch: &BranchName, target: &Frontier) -> Result<State, Error> {
        let said = view.log.branch(branch).ok_or(Error::NoSchema)?;
        if let Some(mut state) = self.load_materialised(branch, &said.schema)? {
            let as_judged = state.judgement() == view.judgement() || self.is_as_judged(view, &state)?;
            let is_past = match self.floor(branch, &said.schema)? {
                Some(floor) => !state.frontier().vector().covers(floor.frontier().vector()),
                None => false,
            };
            if as_judged && !is_past && target.vector().covers(state.frontier().vector()) {
                state.set_judgement(view.judgement());
                return Ok(state);
            }
        }
        let source = said.from.as_ref().and_then(|from| view.branches.get(from));
        if let Some(source) = source
            && source.judgement() == view.judgement()
            && target.vector().covers(source.frontier().vector())
        {
            let (state, added) = source.migrated(&self.nodes, branch.clone(), said.schema.clone())?;
            self.nodes.keep(&state, &added)?;
            return Ok(state);
        }
        self.beginning(view, branch, &said.schema, target.vector())
    }

    /// Whether a state under an older judgement of the log is what a replay under the newest gives. One judged by what was lost here alone is of no
    /// use once that changed; one judged by an entry of this log is, as long as nothing is skipped now that it holds.
    pub(super) fn is_as_judged(&self, view: &View, state: &State) -> Result<bool, Error> {
        let by_log = state.judgement() == Judgement::NONE || view.log.knows(&EntryId(state.judgement().0));
        Ok(by_log && self.holds_none_skipped(view, state, state.judgement())?)
    }

    /// Whether the state has no request in it that the view skips and that it may not have been replayed without: what was skipped at `judgement`
    /// it lacks.
    pub(super) fn holds_none_skipped(&self, view: &View, state: &State, judgement: Judgement) -> Result<bool, Error> {
        for request in view.log.skipped_since(judgement).chain(view.lost.keys()) {
            if let Some(meta) = self.commits.meta(&request.commit)?
                && state.frontier().vector().contains(&meta.chain, meta.counter)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the heads of `branch` as last written with a commit or an entry. Cost: one look-up.
    fn heads_in_store(&self, branch: &BranchName) -> Result<Vec<CommitId>, Error> {
        let Some(bytes) = self.store.refs().get(&layout::frontier(branch))? else { return Ok(Vec::new()) };
        let bad = |source| Error::Record { what: "frontier", source };
        Reader::new(&bytes).list(CommitId::LEN).map_err(bad)
    }

    /// Adds the heads of a state to a batch: with the commits that moved them, so that a restart finds them at once.
    pub(super) fn put_frontier(batch: &mut Batch, state: &State) {
        Self::put_heads(batch, state.branch(), state.frontier());
    }

    /// As [`put_frontier`](Self::put_frontier), for heads whose state is not replayed yet.
    pub(super) fn put_heads(batch: &mut Batch, branch: &BranchName, frontier: &Frontier) {
        let mut out = Writer::default();
        out.list(frontier.ids().iter());
        batch.put(Table::Refs, layout::frontier(branch).into_bytes(), out.into_bytes());
    }

    /// Returns the documents that a request touched, as the index remembers them. Cost: a pass over the index of edits.
    pub(super) fn documents_of(&self, view: &View, request: &RequestRef) -> Result<Vec<String>, Error> {
        let mut documents = Vec::new();
        for record in self.store.records().scan(Table::Index, KeyRange::prefix(b"k"), Direction::Forward) {
            let record = record?;
            let Some(edit) = layout::parse_by_edit(&record.key) else { continue };
            if edit.commit == request.commit && edit.request == request.request {
                documents.push(document_name(view, &edit, &record.value));
            }
        }
        documents.dedup();
        Ok(documents)
    }
}

/// Returns `collection/key`, with the collection's name in the schema of the branch that was edited.
fn document_name(view: &View, edit: &layout::ByEdit, branch: &[u8]) -> String {
    let name = std::str::from_utf8(branch).ok().and_then(|name| BranchName::new(name).ok());
    let schema = name.and_then(|name| view.log.branch(&name).map(|branch| branch.schema.clone()));
    let collection = schema.and_then(|schema| schema.by_id(edit.collection).ok().map(|collection| collection.name.to_string()));
    format!("{}/{}", collection.unwrap_or_else(|| edit.collection.0.to_string()), edit.key)
}
