//! Commits from peers: checked against the graph, stored with their requests, replayed.

use std::{collections::BTreeMap, sync::Arc};

use herdbook_model::{
    authority::{Log, RequestRef, SessionCertificate},
    codec::{Decode as _, Encode as _},
    commit::Commit,
    graph::{self, Graph as _, Refusal},
    id::{BranchName, CommitId, Leaf, SessionId},
    request::{Request, Sealed},
    schema::CollectionId,
    state::{State, advance},
    value::Key,
};
use herdbook_store::{Batch, Durability, Table};

use super::{Change, Repository, Shared, View, published::Early, tables, write};
use crate::error::Error;

/// A commit from a peer, its signature and leaves checked.
#[derive(Debug, Clone)]
pub struct Received {
    /// The commit.
    pub commit: Commit,
    /// Certificate of its session, if it came along.
    pub certificate: Option<SessionCertificate>,
    /// Leaves of its requests.
    pub leaves: Vec<Leaf>,
    /// Its requests in order; `None` where the sender lacks the edits.
    pub requests: Vec<Option<Sealed>>,
    /// For absent requests: the documents they touched, if the sender remembers.
    pub documents: BTreeMap<u32, Vec<String>>,
}

/// Adds the heads that branches have with what entered them. What is stored ahead of its states would otherwise be known after a crash and in no
/// state: peers offer it no more.
fn put_entered(view: &View, entered: &BTreeMap<BranchName, Entered>, batch: &mut Batch) {
    for (branch, entered) in entered.iter().filter(|(branch, _)| view.ahead(branch).is_none()) {
        let Some(state) = view.branches.get(branch) else { continue };
        let mut frontier = state.frontier().clone();
        for (id, meta, _) in &entered.commits {
            frontier.advance(*id, meta);
        }
        Shared::put_heads(batch, branch, &frontier);
    }
}

/// Whether every ancestor of a commit is in the state.
fn stands_on(state: &State, meta: &graph::Meta) -> bool {
    state.frontier().vector().covers_below(&meta.vector, &meta.chain, meta.counter)
}

/// What became of a received commit.
#[derive(Debug)]
pub enum Outcome {
    /// It is stored, visible and durable.
    Stored,
    /// It was here already.
    Known,
    /// It may enter later: ancestors, its session's enrolment or its branch are not known yet, or it is ahead of the clock.
    Waits(Error),
    /// It can never enter.
    Refused(Error),
}

impl Repository {
    /// Takes commits from a peer, in causal order, and waits until they are durable. Returns what became of each. Readers see them, and a hub
    /// passes them on, before that; nobody is told that they are held here.
    ///
    /// # Errors
    /// [`Error::Store`] and those of replay; then none entered. If the last sync fails they have entered, and the store takes nothing any more.
    pub fn receive(&self, received: Vec<Received>) -> Result<Vec<(CommitId, Outcome)>, Error> {
        let shared = &self.0;
        let mut writer = shared.writer.lock();
        let before = writer.view.clone();
        let ids: Vec<_> = received.iter().map(|received| received.commit.id()).collect();
        let taken = shared.take(&mut writer, received).inspect_err(|_| {
            // Commits that were noted may not be stored, and some may be stored that the view has not: what the store holds counts.
            shared.commits.forget(&ids);
            writer.view = before;
            if let Err(error) = shared.reload(&mut writer) {
                tracing::error!(%error, "the repository could not be read again after a failure");
            }
        });
        // The next need not wait for the disk, and shares this sync if it comes meanwhile.
        drop(writer);
        let (outcomes, early) = taken?;
        // What another exchange brought a moment before may not be durable yet, either.
        shared.store.records().write(Batch::new(), Durability::Durable)?;
        if let Some(early) = early {
            shared.published.durable(early);
            let stored = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Stored));
            let commits: Arc<[_]> = stored.map(|(commit, _)| *commit).collect();
            if !commits.is_empty() {
                shared.published.tell(Change::Durable { commits });
            }
        }
        Ok(outcomes)
    }
}

/// What became of commits, in their order.
type Outcomes = Vec<(CommitId, Outcome)>;

/// A commit to be replayed: its name, its place in the graph, its requests (`None` where the edits are lost).
type Replayed = (CommitId, graph::Meta, Vec<Option<Arc<Request>>>);

/// What enters one branch.
#[derive(Default)]
struct Entered {
    commits: Vec<Replayed>,
    touched: Vec<(CollectionId, Key)>,
    lost: BTreeMap<RequestRef, Vec<String>>,
    /// Requests of commits that were here without them.
    healed: bool,
}

impl Shared {
    /// Stores and publishes what can enter. Nothing of it is durable yet.
    fn take(&self, writer: &mut write::Writer, received: Vec<Received>) -> Result<(Outcomes, Option<Early>), Error> {
        let mut batch = Batch::new();
        let mut outcomes = Vec::with_capacity(received.len());
        let mut sessions = BTreeMap::new();
        let mut entered = BTreeMap::<BranchName, Entered>::new();
        for received in received {
            let id = received.commit.id();
            let outcome = self.admit(&writer.view, &received, &mut sessions, &mut batch, &mut entered)?;
            outcomes.push((id, outcome));
        }
        if batch.is_empty() {
            return Ok((outcomes, None));
        }
        let changes = self.replay(writer, entered, &mut batch)?;
        self.store.records().write(batch, Durability::Process)?;
        Ok((outcomes, Some(self.published.publish_early(writer.view.clone(), changes))))
    }

    fn admit(
        &self,
        view: &View,
        received: &Received,
        sessions: &mut BTreeMap<SessionId, SessionCertificate>,
        batch: &mut Batch,
        entered: &mut BTreeMap<BranchName, Entered>,
    ) -> Result<Outcome, Error> {
        let (commit, id) = (&received.commit, received.commit.id());
        let header = commit.header();
        if header.repository != self.id {
            let found = header.repository.to_string();
            return Ok(Outcome::Refused(Error::OtherRepository { expected: self.id.to_string(), found }));
        }
        let Some(branch) = view.log.branch(&header.branch) else {
            return Ok(Outcome::Waits(Error::UnknownBranch { name: header.branch.to_string(), known: "others".to_owned() }));
        };
        if branch.schema.id() != header.schema {
            return Ok(Outcome::Refused(Error::BadSession { commit: id, why: "it names another schema than its branch has" }));
        }
        if header.time.is_ahead(self.clock.now()) {
            return Ok(Outcome::Waits(Error::Clock));
        }
        if let Some(outcome) = self.check_session(view, received, sessions, batch)? {
            return Ok(outcome);
        }
        if self.commits.meta(&id)?.is_some() {
            return self.heal(&view.log, received, batch, entered);
        }
        if view.log.refuses(&id, &commit.chain(), header.counter) {
            let stands = view.log.forks()[&(commit.chain(), header.counter)];
            return Ok(Outcome::Refused(Refusal::Fork { commit: id, known: stands }.into()));
        }
        let meta = match graph::admit(&self.commits, commit)? {
            Ok(meta) => meta,
            Err(refusal @ Refusal::Incomplete { .. }) => return Ok(Outcome::Waits(refusal.into())),
            Err(refusal) => return Ok(Outcome::Refused(refusal.into())),
        };
        if let Some(parent) = self.foreign_parent(view, commit, entered)? {
            let why = "it stands on a commit of a branch whose schema does not lead to its own";
            tracing::warn!(commit = %id, %parent, "{why}");
            return Ok(Outcome::Refused(Error::BadSession { commit: id, why }));
        }
        // What was erased is taken from nobody.
        let kept = |(request, sealed)| (!view.log.erased().contains(&RequestRef { commit: id, request })).then_some(sealed);
        let requests = (0u32..).zip(&received.requests).map(|(at, sealed)| sealed.as_ref().and_then(|sealed| kept((at, sealed))));
        tables::put_commit(&self.commits, batch, &meta, &received.leaves, commit, requests)?;
        let branch = entered.entry(header.branch.clone()).or_default();
        for (at, sealed) in (0u32..).zip(&received.requests) {
            match sealed {
                Some(sealed) => branch.touched.extend(sealed.request().edits().map(|(collection, edit)| (collection, edit.key.clone()))),
                // What a horizon covers is no loss, nor what lies below a state that waits for its history.
                None if view.ahead(&header.branch).is_some() || self.is_past(view, &id)? => {}
                None => {
                    let documents = received.documents.get(&at).cloned().unwrap_or_default();
                    branch.lost.insert(RequestRef { commit: id, request: at }, documents);
                }
            }
        }
        let requests = received.requests.iter().map(|sealed| Some(sealed.as_ref()?.request().clone())).collect();
        branch.commits.push((id, meta, requests));
        Ok(Outcome::Stored)
    }

    /// Returns a parent that no commit of this branch may stand on: nothing of a newer schema is reachable from an older branch. Cost: a look-up for
    /// a parent that is new to the branch alone.
    fn foreign_parent(&self, view: &View, commit: &Commit, entered: &BTreeMap<BranchName, Entered>) -> Result<Option<CommitId>, Error> {
        let branch = &commit.header().branch;
        let held = view.branches.get(branch).map(|state| state.frontier().vector());
        for parent in &commit.header().parents {
            let just_came = entered.get(branch).is_some_and(|entered| entered.commits.iter().rev().any(|(id, ..)| id == parent));
            if just_came {
                continue;
            }
            let meta = self.commits.meta(parent)?;
            if meta.is_some_and(|meta| held.is_some_and(|held| held.contains(&meta.chain, meta.counter))) {
                continue;
            }
            // One that came in this batch on another branch is not readable yet.
            let of_batch = entered.iter().find(|(_, entered)| entered.commits.iter().any(|(id, ..)| id == parent));
            let source = match of_batch {
                Some((source, _)) => Some(source.clone()),
                None => self.commits.stored(parent)?.map(|stored| stored.commit.header().branch.clone()),
            };
            if source.is_some_and(|source| !view.log.may_enter(&source, branch)) {
                return Ok(Some(*parent));
            }
        }
        Ok(None)
    }

    /// Checks that the commit's session is certified by a member. `None`: it is.
    fn check_session(
        &self,
        view: &View,
        received: &Received,
        sessions: &mut BTreeMap<SessionId, SessionCertificate>,
        batch: &mut Batch,
    ) -> Result<Option<Outcome>, Error> {
        let (id, session) = (received.commit.id(), received.commit.header().session);
        let bad = |why| Error::BadSession { commit: id, why };
        let certificate = match sessions.get(&session) {
            Some(certificate) => certificate.clone(),
            None => {
                let held = self.store.records().get(Table::Sessions, session.as_bytes())?;
                let certificate = match (held, &received.certificate) {
                    (Some(bytes), _) => {
                        SessionCertificate::from_bytes(&bytes).map_err(|source| Error::Record { what: "session certificate", source })?
                    }
                    (None, Some(certificate)) => {
                        if certificate.session != session || certificate.repository != self.id || certificate.verify().is_err() {
                            return Ok(Some(Outcome::Refused(bad("its session's certificate is not valid"))));
                        }
                        batch.put(Table::Sessions, session.as_bytes().to_vec(), certificate.to_bytes());
                        certificate.clone()
                    }
                    (None, None) => return Ok(Some(Outcome::Waits(bad("its session's certificate is not here")))),
                };
                sessions.insert(session, certificate.clone());
                certificate
            }
        };
        // Once a member: whether it still was when the authority judged is the head log's to say.
        let known = view.log.members().contains_key(&certificate.replica);
        Ok((!known).then(|| Outcome::Waits(bad("its replica is not enrolled here yet"))))
    }

    /// Takes requests of a commit that is here without them.
    fn heal(
        &self,
        log: &Log,
        received: &Received,
        batch: &mut Batch,
        entered: &mut BTreeMap<BranchName, Entered>,
    ) -> Result<Outcome, Error> {
        let id = received.commit.id();
        let Some(stored) = self.commits.stored(&id)? else { return Ok(Outcome::Known) };
        let mut healed = false;
        for (at, sealed) in (0u32..).zip(&received.requests) {
            if let Some(sealed) = sealed
                && !log.erased().contains(&RequestRef { commit: id, request: at })
                && self.commits.request_bytes(&id, at, &stored)?.is_none()
            {
                tables::put_request(batch, &received.commit, at, sealed);
                healed = true;
            }
        }
        if healed {
            entered.entry(received.commit.header().branch.clone()).or_default().healed = true;
            return Ok(Outcome::Stored);
        }
        Ok(Outcome::Known)
    }

    /// Brings the states of branches to what entered them.
    fn replay(&self, writer: &mut write::Writer, entered: BTreeMap<BranchName, Entered>, batch: &mut Batch) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        let loses = entered.values().any(|entered| !entered.lost.is_empty());
        for lost in entered.values().flat_map(|entered| &entered.lost) {
            if !writer.view.log.skips(lost.0) {
                Arc::make_mut(&mut writer.view.lost).insert(*lost.0, lost.1.clone());
            }
        }
        let heals = entered.values().any(|entered| entered.healed);
        let all = entered;
        for (branch, entered) in &all {
            if writer.view.ahead(branch).is_some() {
                let commits: Vec<_> = entered.commits.iter().map(|(id, meta, _)| (*id, meta.clone())).collect();
                changes.extend(self.gather(writer, branch, &commits, batch)?);
                continue;
            }
            let Some(state) = writer.view.branches.get(branch) else { continue };
            let (before, mut took_in) = (state.clone(), false);
            let mut state = state.clone();
            for (id, meta, requests) in &entered.commits {
                let view = &writer.view;
                if !stands_on(&state, meta) {
                    // It stands on commits of another branch: it merges them, or this node has not heard of their migration. They enter with it.
                    took_in = true;
                    let mut stored = std::mem::take(batch);
                    put_entered(view, &all, &mut stored);
                    self.store.records().write(stored, Durability::Process)?;
                    advance(&mut state, &self.commits, &self.nodes, &meta.vector, |request| view.skips(request))?;
                    continue;
                }
                state.apply(&self.nodes, *id, meta, requests, |request| view.skips(&RequestRef { commit: *id, request }))?;
            }
            self.fold_beside(writer, &mut state, batch)?;
            Self::put_frontier(batch, &state);
            writer.latest = writer.latest.max(state.frontier().newest());
            writer.view.branches.insert(branch.clone(), state.clone());
            if took_in {
                // Subscribers learn of all that came in, not only of what these commits edit.
                changes.push(Change::Rebuilt { branch: branch.clone(), before, after: state.clone() });
            }
            let commits = entered.commits.iter().map(|(id, ..)| *id).collect();
            changes.push(Change::Commits { branch: branch.clone(), commits, touched: entered.touched.clone().into(), state, own: false });
        }
        if heals {
            // What was lost is here again once this batch is written; states are judged anew then.
            let stored = std::mem::take(batch);
            self.store.records().write(stored, Durability::Process)?;
            self.reconsider_lost(&mut writer.view)?;
        }
        if loses || heals {
            changes.extend(self.rejudge(writer, batch)?);
        }
        // Branches that the log migrates from others may now find heads that were missing.
        let names: Vec<_> = writer.view.log.branches().keys().cloned().collect();
        for name in names {
            if writer.view.ahead(&name).is_some() {
                continue;
            }
            let wanted = writer.view.log.branch(&name).map(|branch| branch.heads.clone()).unwrap_or_default();
            let state = writer.view.branches.get(&name);
            let lacks = |head: &CommitId| -> Result<bool, Error> {
                let Some(state) = state else { return Ok(true) };
                Ok(self.commits.meta(head)?.is_some_and(|meta| !state.frontier().vector().contains(&meta.chain, meta.counter)))
            };
            let mut any = false;
            for head in &wanted {
                any |= lacks(head)?;
            }
            if any {
                changes.extend(self.resettle(writer, &name, batch)?);
            }
        }
        Ok(changes)
    }

    /// Drops from the list of lost requests those whose edits are here again.
    fn reconsider_lost(&self, view: &mut View) -> Result<(), Error> {
        let mut lost = (*view.lost).clone();
        let mut found = Vec::new();
        for request in lost.keys() {
            if let Some(stored) = self.commits.stored(&request.commit)?
                && self.commits.request_bytes(&request.commit, request.request, &stored)?.is_some()
            {
                found.push(*request);
            }
        }
        lost.retain(|request, _| !found.contains(request));
        view.lost = Arc::new(lost);
        Ok(())
    }

    /// Replays every branch whose state was judged otherwise than the view judges now.
    pub(super) fn rejudge(&self, writer: &mut write::Writer, batch: &mut Batch) -> Result<Vec<Change>, Error> {
        // Commits of this batch must be readable by the replay.
        let stored = std::mem::take(batch);
        self.store.records().write(stored, Durability::Process)?;
        let names: Vec<_> = writer.view.branches.keys().cloned().collect();
        let mut changes = Vec::new();
        for name in names {
            if writer.view.branches[&name].judgement() != writer.view.judgement() {
                changes.extend(self.resettle(writer, &name, batch)?);
            }
        }
        Ok(changes)
    }

    fn resettle(&self, writer: &mut write::Writer, name: &BranchName, batch: &mut Batch) -> Result<Option<Change>, Error> {
        if !batch.is_empty() {
            let stored = std::mem::take(batch);
            self.store.records().write(stored, Durability::Process)?;
        }
        let before = writer.view.branches.get(name).cloned();
        self.settle(writer, name, batch)?;
        let after = writer.view.branches[name].clone();
        Self::put_frontier(batch, &after);
        Ok(before.map(|before| Change::Rebuilt { branch: name.clone(), before, after }))
    }
}

impl Repository {
    /// Returns a stored commit with what a peer needs of it, or `None` if it is not here: the commit, its leaves, and each request's bytes
    /// or, where they are lost, the documents they touched.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    pub fn stored(&self, id: &CommitId) -> Result<Option<Stored>, Error> {
        let Some(stored) = self.0.commits.stored(id)? else { return Ok(None) };
        let mut requests = Vec::with_capacity(stored.leaves.len());
        for at in 0..stored.commit.header().request_count {
            requests.push(match self.0.commits.request_bytes(id, at, &stored)? {
                Some(bytes) => Ok(bytes),
                None => Err(self.lost_documents(RequestRef { commit: *id, request: at })?),
            });
        }
        Ok(Some(Stored { commit: stored.commit, leaves: stored.leaves, requests }))
    }

    /// Returns a commit without its requests.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    pub fn header(&self, id: &CommitId) -> Result<Option<Commit>, Error> {
        Ok(self.0.commits.stored(id)?.map(|stored| stored.commit))
    }

    fn lost_documents(&self, request: RequestRef) -> Result<Vec<String>, Error> {
        let view = self.view();
        if let Some(documents) = view.lost.get(&request) {
            return Ok(documents.clone());
        }
        if let Some(lost) = view.log.lost().get(&request) {
            return Ok(lost.documents.clone());
        }
        // What is gone on purpose is no loss.
        if !view.ahead.is_empty() || view.log.erased().contains(&request) || self.0.is_past(&view, &request.commit)? {
            return Ok(Vec::new());
        }
        self.mark_lost(request)
    }

    /// Notes that the edits of `request` are lost here and replays without them. Returns the documents they touched.
    ///
    /// # Errors
    /// [`Error`].
    pub(super) fn mark_lost(&self, request: RequestRef) -> Result<Vec<String>, Error> {
        let shared = &self.0;
        let documents = shared.documents_of(&self.view(), &request)?;
        let mut writer = shared.writer.lock();
        if writer.view.skips(&request) {
            return Ok(documents);
        }
        Arc::make_mut(&mut writer.view.lost).insert(request, documents.clone());
        let mut batch = Batch::new();
        let changes = shared.rejudge(&mut writer, &mut batch)?;
        shared.store.records().write(batch, Durability::Process)?;
        shared.publish(writer.view.clone(), changes);
        Ok(documents)
    }

    /// Returns the certificate of a session, `None` if it is not here.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn certificate(&self, session: &SessionId) -> Result<Option<SessionCertificate>, Error> {
        if *session == self.0.session {
            return Ok(Some(self.0.writer.lock().certificate.clone()));
        }
        let bytes = self.0.store.records().get(Table::Sessions, session.as_bytes())?;
        let decode = |bytes: Vec<u8>| SessionCertificate::from_bytes(&bytes);
        bytes.map(decode).transpose().map_err(|source| Error::Record { what: "session certificate", source })
    }

    /// Returns what the graph knows of a commit.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn meta(&self, id: &CommitId) -> Result<Option<graph::Meta>, Error> {
        self.0.commits.meta(id)
    }

    /// Returns the commit at a place of a chain.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn at(&self, chain: &herdbook_model::id::ChainId, counter: u64) -> Result<Option<CommitId>, Error> {
        self.0.commits.at(chain, counter)
    }

    /// Whether requests of a commit that is here are lost here.
    pub fn lacks_requests(&self, id: &CommitId) -> bool {
        self.view().lost.keys().any(|request| request.commit == *id)
    }
}

/// A stored commit with all that travels with it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The commit.
    pub commit: Commit,
    /// Leaves of its requests.
    pub leaves: Vec<Leaf>,
    /// Bytes of each request in order, or the documents it touched where the edits are lost here.
    pub requests: Vec<Result<Vec<u8>, Vec<String>>>,
}

/// Reads the requests of a stored commit; lost ones are left out, each with its place.
impl Stored {
    /// Returns the requests that are here, each with its place.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub fn decode(&self) -> Result<Vec<(u32, Request)>, Error> {
        let present = (0u32..).zip(&self.requests).filter_map(|(at, request)| Some((at, request.as_ref().ok()?)));
        let decode = |(at, bytes): (u32, &Vec<u8>)| Ok((at, Request::from_bytes(bytes)?));
        present.map(decode).collect::<Result<_, herdbook_model::codec::Error>>().map_err(|source| Error::Record { what: "request", source })
    }
}
