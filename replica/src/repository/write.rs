//! Committing: requests that wait together become one signed commit a branch, applied in memory, handed to the store.

mod request;

use std::{
    collections::{BTreeMap, HashSet},
    num::NonZeroUsize,
    sync::Arc,
};

use herdbook_model::{
    SigningKey,
    authority::SessionCertificate,
    codec::{self, Encode as _},
    commit::{self, Commit, Header, MAX_REQUESTS},
    graph::Meta,
    id::{BranchName, CommitId, Domain, Leaf, RequestKey},
    request::Request,
    schema::CollectionId,
    state::State,
    time::Time,
    value::Key,
};
use herdbook_store::{Batch, Durability, Receipt, Table};
use lru::LruCache;

use self::request::Planned;
use super::{
    Ask, Change, Committed, Repository, Shared, View,
    folding::Folding,
    layout,
    tables::{put_header, put_request_bytes},
};
use crate::error::Error;

/// Bytes of requests at which a commit is closed. With one request of the largest size on top it still fits one message between peers.
const COMMIT_BYTES: usize = 256 << 10;

/// Requests at which a commit is closed. Values that the last one puts apart still fit.
const MOST_REQUESTS: usize = MAX_REQUESTS as usize - 1024;

/// Idempotency keys kept in memory, for those whose commit the store does not show yet.
const RECENT: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// What only the writer holds.
pub(crate) struct Writer {
    pub(super) key: SigningKey,
    pub(super) certificate: SessionCertificate,
    pub(super) certified: bool,
    /// Whether commits of this session were dropped: it makes no more.
    pub(super) is_over: bool,
    /// Whether the next commit takes in another branch, and so may edit nothing.
    pub(super) takes_in: bool,
    /// What will be published when the store has everything handed to it.
    pub(super) view: View,
    /// Own chain on each branch: counter and newest commit.
    pub(super) chains: BTreeMap<BranchName, (u64, CommitId)>,
    /// Highest time seen or given.
    pub(super) latest: Time,
    /// Folds under way, of each branch one at most.
    pub(super) folding: BTreeMap<BranchName, Folding>,
    recent: LruCache<RequestKey, (Committed, [u8; 32])>,
    /// Room to measure documents in.
    scratch: codec::Writer,
}

impl Writer {
    pub(super) fn new(key: SigningKey, certificate: SessionCertificate, view: View) -> Self {
        let latest = view.branches.values().map(|state| state.frontier().newest()).max().unwrap_or_default();
        let recent = LruCache::new(RECENT);
        let scratch = codec::Writer::default();
        Self {
            key,
            certificate,
            certified: false,
            is_over: false,
            takes_in: false,
            view,
            chains: BTreeMap::new(),
            latest,
            folding: BTreeMap::new(),
            recent,
            scratch,
        }
    }
}

/// Answers to the asks of one call, in their order.
pub type Answers = Vec<Result<Committed, Error>>;

/// A commit under construction.
struct Draft {
    header: Header,
    meta: Meta,
    requests: Vec<Request>,
    /// The requests' canonical bytes.
    encoded: Vec<Vec<u8>>,
    /// The requests' leaves.
    leaves: Vec<Leaf>,
    bytes: usize,
    /// Which ask each request answers; none: it belongs to the one before it that does.
    asks: Vec<Option<usize>>,
}

/// Why an ask has no place in a commit.
enum Failed {
    /// It cannot be done.
    Ask(Error),
    /// The commit cannot be made.
    All(Error),
}

impl Repository {
    /// Makes commits of `asks` and hands them to the store; `done` is called with an answer for each, in order, once they are as durable
    /// as asked and visible to readers. It may be called on the store's writing thread: it must not block.
    ///
    /// Asks that cannot be done are answered so and disturb no other. The order of commits is the order of calls.
    pub fn commit(&self, asks: Vec<Ask>, durability: Durability, done: impl FnOnce(Result<Receipt, Error>, Answers) + Send + 'static) {
        let shared = &self.0;
        let mut writer = shared.writer.lock();
        if writer.is_over {
            drop(writer);
            return done(nothing().map_err(Error::from), asks.iter().map(|_| Err(Error::SessionOver)).collect());
        }
        let Made { batch, changes, answers, undo } = shared.make(&mut writer, &asks);
        if batch.is_empty() {
            drop(writer);
            // Repeated requests are durable if everything before them is.
            let asked = if answers.iter().any(Result::is_ok) { shared.store.records().write(Batch::new(), durability) } else { nothing() };
            done(asked.map_err(Error::from), answers);
            return;
        }
        let view = writer.view.clone();
        // `done` must reach either the store's callback or, where the store does not take the batch, this thread.
        let slot = Arc::new(parking_lot::Mutex::new(Some((done, answers))));
        let (publisher, in_callback) = (self.0.published.clone(), slot.clone());
        let submitted = shared.store.records().submit(
            batch,
            durability,
            Box::new(move |receipt| {
                let Some((done, answers)) = in_callback.lock().take() else { return };
                match &receipt {
                    Ok(Receipt { durability: Durability::Durable, .. }) => publisher.publish_durable(view, changes),
                    Ok(_) => publisher.publish(view, changes),
                    Err(_) => {}
                }
                done(receipt.map_err(Error::from), answers);
            }),
        );
        match submitted {
            Ok(()) => writer.certified = true,
            Err(error) => {
                writer.take_back(undo);
                drop(writer);
                if let Some((done, answers)) = slot.lock().take() {
                    done(Err(error.into()), answers);
                }
            }
        }
    }

    /// Makes a commit of one ask and waits until it is as durable as asked.
    ///
    /// # Errors
    /// Why it could not be done; then nothing was.
    pub fn commit_one(&self, ask: Ask, durability: Durability) -> Result<Committed, Error> {
        if durability < Durability::Durable {
            return self.commit_here(&ask, durability);
        }
        let (answer, receive) = crossbeam::channel::bounded(1);
        self.commit(vec![ask], durability, move |receipt, mut answers| {
            let outcome = receipt.and_then(|_| answers.pop().expect("one ask, one answer"));
            let _ = answer.send(outcome);
        });
        receive.recv().map_err(|_| Error::Stopped)?
    }

    /// Commits on this thread, which the store then need not wake. Only where no sync is asked for: that is shared by all who wait.
    fn commit_here(&self, ask: &Ask, durability: Durability) -> Result<Committed, Error> {
        let shared = &self.0;
        let mut writer = shared.writer.lock();
        if writer.is_over {
            return Err(Error::SessionOver);
        }
        let Made { batch, changes, mut answers, undo } = shared.make(&mut writer, std::slice::from_ref(ask));
        if let Err(error) = shared.store.records().write(batch, durability) {
            writer.take_back(undo);
            return Err(error.into());
        }
        if !changes.is_empty() {
            writer.certified = true;
            shared.publish(writer.view.clone(), changes);
        }
        drop(writer);
        answers.pop().expect("one ask, one answer")
    }
}

impl Writer {
    /// Forgets what was made and not taken by the store.
    pub(super) fn take_back(&mut self, undo: Undo) {
        let Undo { view, chains } = undo;
        (self.view, self.chains) = (view, chains);
        self.recent.clear();
    }
}

/// What was made of asks, and is to be stored and published.
pub(super) struct Made {
    pub(super) batch: Batch,
    pub(super) changes: Vec<Change>,
    pub(super) answers: Answers,
    undo: Undo,
}

/// The writer as it was before.
pub(super) struct Undo {
    pub(super) view: View,
    pub(super) chains: BTreeMap<BranchName, (u64, CommitId)>,
}

impl Shared {
    /// Makes commits of `asks` in memory. The batch is empty where nothing is to be stored.
    pub(super) fn make(&self, writer: &mut Writer, asks: &[Ask]) -> Made {
        let undo = Undo { view: writer.view.clone(), chains: writer.chains.clone() };
        let mut work = Work { shared: self, batch: Batch::new(), changes: Vec::new(), answers: asks.iter().map(|_| None).collect() };
        for (branch, asks) in by_branch(asks, &writer.view, &mut work.answers) {
            let (batch, changes, chains) = (std::mem::take(&mut work.batch), work.changes.len(), writer.chains.clone());
            let made = work.commit_branch(writer, &branch, &asks);
            let of_branch = std::mem::replace(&mut work.batch, batch);
            match made {
                Ok(()) => {
                    work.batch.append(of_branch);
                }
                Err(error) => {
                    // Nothing of this branch is handed over, so nobody is told that it was done.
                    work.changes.truncate(changes);
                    writer.chains = chains;
                    writer.recent.clear();
                    let text = error.to_string();
                    for (at, _) in asks {
                        work.answers[at] = Some(Err(Error::NotStored { why: text.clone() }));
                    }
                }
            }
        }
        let Work { mut batch, changes, answers, .. } = work;
        if !batch.is_empty() && !writer.certified {
            batch.put(Table::Sessions, self.session.as_bytes().to_vec(), writer.certificate.to_bytes());
        }
        let answers = answers.into_iter().map(|answer| answer.expect("every ask was answered")).collect();
        Made { batch, changes, answers, undo }
    }
}

fn nothing() -> Result<Receipt, herdbook_store::Error> {
    Ok(Receipt { sequence: herdbook_store::Sequence(0), durability: Durability::Durable })
}

type ByBranch<'a> = Vec<(BranchName, Vec<(usize, &'a Ask)>)>;

/// Sorts asks by branch, each branch's in order; answers those whose branch is not there.
fn by_branch<'a>(asks: &'a [Ask], view: &View, answers: &mut [Option<Result<Committed, Error>>]) -> ByBranch<'a> {
    let mut branches: ByBranch<'a> = Vec::new();
    for (at, ask) in asks.iter().enumerate() {
        let state = view.state(ask.branch.as_ref()).and_then(|state| {
            let open = view.log.branch(state.branch()).is_some_and(|branch| branch.status == herdbook_model::authority::Status::Open);
            if open { Ok(state) } else { Err(Error::ClosedBranch { branch: state.branch().clone() }) }
        });
        match state {
            Ok(state) => match branches.iter_mut().find(|(name, _)| name == state.branch()) {
                Some((_, asks)) => asks.push((at, ask)),
                None => branches.push((state.branch().clone(), vec![(at, ask)])),
            },
            Err(error) => answers[at] = Some(Err(error)),
        }
    }
    branches
}

/// One call's work in progress.
struct Work<'a> {
    shared: &'a Shared,
    batch: Batch,
    changes: Vec<Change>,
    answers: Vec<Option<Result<Committed, Error>>>,
}

impl Work<'_> {
    fn commit_branch(&mut self, writer: &mut Writer, branch: &BranchName, asks: &[(usize, &Ask)]) -> Result<(), Error> {
        let mut state = writer.view.branches.get(branch).cloned().ok_or(Error::NoSchema)?;
        let mut made = Vec::new();
        let mut touched = Vec::new();
        let mut rest = asks.iter().peekable();
        while rest.peek().is_some() {
            let mut draft = self.draft(writer, &state)?;
            while let Some((at, ask)) = rest.next_if(|_| draft.bytes < COMMIT_BYTES && draft.requests.len() < MOST_REQUESTS) {
                if let Some(earlier) = self.repeated(writer, ask)? {
                    self.answers[*at] = Some(earlier);
                    continue;
                }
                match self.take_in(writer, &mut state, &mut draft, &mut touched, (*at, ask)) {
                    Ok(()) => {
                        // A message stands for the whole commit: one with a message stands alone.
                        if !ask.message.is_empty() {
                            draft.header.message.clone_from(&ask.message);
                            break;
                        }
                        if rest.peek().is_some_and(|(_, next)| !next.message.is_empty()) {
                            break;
                        }
                    }
                    Err(Failed::Ask(error)) => self.answers[*at] = Some(Err(error)),
                    Err(Failed::All(error)) => return Err(error),
                }
            }
            if draft.requests.is_empty() {
                continue;
            }
            made.push(self.sign(writer, &mut state, draft, asks)?);
        }
        if made.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.shared.fold_beside(writer, &mut state, &mut self.batch) {
            // The commits stand on their own; the overlay stays until a fold succeeds.
            tracing::error!(%error, branch = %branch, "the state could not be folded");
        }
        Shared::put_frontier(&mut self.batch, &state);
        writer.view.branches.insert(branch.clone(), state.clone());
        self.changes.push(Change::Commits { branch: branch.clone(), commits: made.into(), touched: touched.into(), state, own: true });
        Ok(())
    }

    /// Adds the request of an ask to the draft, and those of values that it puts apart: after it, so that none is there without it.
    fn take_in(
        &self,
        writer: &mut Writer,
        state: &mut State,
        draft: &mut Draft,
        touched: &mut Vec<(CollectionId, Key)>,
        (at, ask): (usize, &Ask),
    ) -> Result<(), Failed> {
        let apart = self.shared.set_apart(state, ask).map_err(Failed::Ask)?;
        let none = HashSet::new();
        let (own, names) = apart.as_ref().map_or((ask, &none), |apart| (&apart.ask, &apart.names));
        let planned = self.plan(writer, state, draft, own, names).map_err(Failed::Ask)?;
        self.join(state, draft, touched, planned).map_err(Failed::All)?;
        draft.asks.push(Some(at));
        for value in apart.iter().flat_map(|apart| &apart.values) {
            let planned = self.plan(writer, state, draft, value, &none).map_err(Failed::All)?;
            self.join(state, draft, touched, planned).map_err(Failed::All)?;
            draft.asks.push(None);
        }
        Ok(())
    }

    /// Adds a request that was planned against the state with the requests before it.
    fn join(&self, state: &mut State, draft: &mut Draft, touched: &mut Vec<(CollectionId, Key)>, planned: Planned) -> Result<(), Error> {
        let Planned { request, bytes, leaf, before } = planned;
        let place = u32::try_from(draft.requests.len()).unwrap_or(u32::MAX);
        match before {
            Some(before) => state.apply_planned(&draft.meta, place, &request, before),
            None => state.apply_request(&self.shared.nodes, &draft.meta, place, &request)?,
        }
        touched.extend(request.edits().map(|(collection, edit)| (collection, edit.key.clone())));
        draft.bytes += bytes.len();
        draft.encoded.push(bytes);
        draft.leaves.push(leaf);
        draft.requests.push(request);
        Ok(())
    }

    fn draft(&self, writer: &mut Writer, state: &State) -> Result<Draft, Error> {
        let frontier = state.frontier();
        let branch = state.branch().clone();
        let (counter, previous) = match writer.chains.get(&branch) {
            Some((counter, previous)) => (counter + 1, Some(*previous)),
            None => (1, None),
        };
        let latest = writer.latest.max(frontier.newest());
        let time = Time::after(latest, self.shared.clock.now()).ok_or(Error::Clock)?;
        let chain = commit::chain(&self.shared.session, &branch);
        let header = Header {
            repository: self.shared.id,
            branch,
            schema: state.schema().id(),
            parents: frontier.parents_on(&self.shared.commits, &chain)?,
            session: self.shared.session,
            counter,
            previous,
            time,
            requests: Leaf([0; 32]),
            request_count: 0,
            message: String::new(),
        };
        let mut vector =
            if header.parents.len() == frontier.heads().len() { frontier.vector().clone() } else { self.vector_of(&header.parents)? };
        vector.raise(chain, counter);
        let meta = Meta { chain, counter, time, vector };
        Ok(Draft { header, meta, requests: Vec::new(), encoded: Vec::new(), leaves: Vec::new(), bytes: 0, asks: Vec::new() })
    }

    fn vector_of(&self, parents: &[CommitId]) -> Result<herdbook_model::vector::VersionVector, Error> {
        use herdbook_model::graph::Graph as _;
        let mut vector = herdbook_model::vector::VersionVector::default();
        for parent in parents {
            let meta = self.shared.commits.meta(parent)?.ok_or_else(|| Error::UnknownCommit { id: parent.to_string() })?;
            vector.merge(&meta.vector);
        }
        Ok(vector)
    }

    /// Returns the answer given earlier under the same idempotency key.
    fn repeated(&self, writer: &mut Writer, ask: &Ask) -> Result<Option<Result<Committed, Error>>, Error> {
        if let Some((committed, content)) = writer.recent.get(&ask.key) {
            let same = *content == fingerprint(ask);
            return Ok(Some(if same { Ok(Committed { repeated: true, ..committed.clone() }) } else { Err(Error::KeyReused) }));
        }
        let Some(bytes) = self.shared.store.records().get(Table::Index, &layout::by_request(&ask.key))? else { return Ok(None) };
        let Some((commit, request)) = layout::parse_outcome(&bytes) else { return Ok(None) };
        let Some(stored) = self.shared.commits.stored(&commit)? else { return Ok(None) };
        let branch = stored.commit.header().branch.clone();
        let Some(state) = writer.view.branches.get(&branch) else { return Ok(None) };
        Ok(Some(Ok(Committed {
            commit,
            request,
            chain: stored.commit.chain(),
            counter: stored.commit.header().counter,
            time: stored.commit.header().time,
            state: state.name(),
            branch,
            repeated: true,
        })))
    }

    fn sign(&mut self, writer: &mut Writer, state: &mut State, draft: Draft, asks: &[(usize, &Ask)]) -> Result<CommitId, Error> {
        let Draft { header, meta, requests, encoded, leaves, asks: answered, .. } = draft;
        let branch = header.branch.clone();
        let commit = Commit::sign_leaves(header, &leaves, &writer.key);
        let id = commit.id();
        self.shared.conditional.note(id, &requests);
        // The requests are in the state already; this advances the frontier over them.
        state.apply(&self.shared.nodes, id, &meta, &[], |_| false)?;
        put_header(&self.shared.commits, &mut self.batch, &meta, &leaves, &commit)?;
        for ((at, request), bytes) in (0u32..).zip(&requests).zip(encoded) {
            put_request_bytes(&mut self.batch, &commit, at, request, bytes);
        }
        writer.chains.insert(branch.clone(), (meta.counter, id));
        writer.latest = meta.time;
        let name = state.name();
        for (request, at) in (0u32..).zip(answered) {
            let Some(at) = at else { continue };
            let committed = Committed {
                commit: id,
                request,
                branch: branch.clone(),
                chain: meta.chain,
                counter: meta.counter,
                time: meta.time,
                state: name,
                repeated: false,
            };
            if let Some((_, ask)) = asks.iter().find(|(place, _)| *place == at) {
                writer.recent.put(ask.key, (committed.clone(), fingerprint(ask)));
            }
            self.answers[at] = Some(Ok(committed));
        }
        Ok(id)
    }
}

/// Tells whether an idempotency key comes again for the same documents. Values are not compared: that would cost as much as the commit.
fn fingerprint(ask: &Ask) -> [u8; 32] {
    let mut parts = Vec::with_capacity(32 * ask.edits.len());
    for edit in &ask.edits {
        parts.extend_from_slice(edit.collection.as_bytes());
        parts.push(0);
        parts.extend_from_slice(edit.key.as_bytes());
        parts.push(0);
    }
    Domain::Digest.hash(&[&parts])
}
