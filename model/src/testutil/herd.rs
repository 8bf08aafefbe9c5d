//! A herd: replicas in memory, one session each, that sign commits and deliver them in whatever order a test likes.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
};

use ed25519_dalek::SigningKey;

use super::build::{branch, genesis, request, schema, signing_key};
use crate::{
    authority::RequestRef,
    commit::{Commit, Header, chain},
    document::{Document, View},
    edit::Edit,
    graph::{self, Frontier, Graph, MemoryGraph, Meta, Refusal},
    id::{BranchName, ChainId, CommitId, Leaf, RepositoryId, SessionId},
    request::Request,
    schema::{CollectionId, Schema},
    state::{State, advance, lacking},
    time::Time,
    tree::MemoryNodes,
    vector::VersionVector,
};

/// Returns the repository of the tests.
pub fn repository() -> RepositoryId {
    genesis().id()
}

/// A commit with its requests: what travels between replicas. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The signed header.
    pub commit: Commit,
    /// Its requests in order; `None` for one whose edits did not come along.
    pub requests: Vec<Option<Arc<Request>>>,
}

/// A replica in memory. Its state follows each commit as it comes in, in the order of arrival.
#[derive(Debug, Clone)]
pub struct Replica {
    branch: BranchName,
    schema: Arc<Schema>,
    session: SigningKey,
    own: Option<(u64, CommitId)>,
    graph: MemoryGraph,
    book: HashMap<CommitId, Delivery>,
    arrivals: Vec<CommitId>,
    waiting: HashMap<CommitId, Vec<Delivery>>,
    skipped: BTreeSet<RequestRef>,
    frontier: Frontier,
    state: State,
    nodes: MemoryNodes,
}

impl Replica {
    /// Returns an empty replica whose session key depends on `name` alone.
    pub fn new(name: &str, schema: Arc<Schema>) -> Self {
        let state = State::empty(branch(), schema.clone());
        Self {
            branch: branch(),
            schema,
            session: signing_key(name),
            own: None,
            graph: MemoryGraph::default(),
            book: HashMap::new(),
            arrivals: Vec::new(),
            waiting: HashMap::new(),
            skipped: BTreeSet::new(),
            frontier: Frontier::default(),
            state,
            nodes: MemoryNodes::default(),
        }
    }

    /// Returns its chain.
    pub fn chain(&self) -> ChainId {
        chain(&SessionId(self.session.verifying_key().to_bytes()), &self.branch)
    }

    /// Returns the header of its next commit at physical time `now`, on all heads it knows.
    pub fn header(&self, now: Time) -> Header {
        let Ok(parents) = self.frontier.parents_on(&self.graph, &self.chain());
        let time = Time::after(self.frontier.newest(), now).expect("a test ends before the year 6429");
        Header {
            repository: repository(),
            branch: self.branch.clone(),
            schema: self.schema.id(),
            parents,
            session: SessionId([0; 32]),
            counter: self.own.map_or(1, |(counter, _)| counter + 1),
            previous: self.own.map(|(_, id)| id),
            time,
            requests: Leaf([0; 32]),
            request_count: 0,
            message: String::new(),
        }
    }

    /// Signs `header` over `requests` with its session key, without taking it in.
    pub fn sign(&self, header: Header, requests: Vec<Request>) -> Delivery {
        let (commit, _) = Commit::sign(header, &requests, &self.session);
        Delivery { commit, requests: requests.into_iter().map(|request| Some(Arc::new(request))).collect() }
    }

    /// Commits `requests` on all heads it knows, at physical time `now`.
    pub fn commit_requests(&mut self, now: Time, requests: Vec<Request>) -> Delivery {
        let delivery = self.sign(self.header(now), requests);
        self.receive(&delivery).expect("its own commit fits its own graph");
        delivery
    }

    /// Commits one request of `edits`.
    pub fn commit(&mut self, now: Time, edits: impl IntoIterator<Item = (CollectionId, Edit)>) -> Delivery {
        let seed = self.arrivals.len() as u64 ^ u64::from_le_bytes(*self.chain().0.first_chunk().expect("16 bytes"));
        self.commit_requests(now, vec![request(seed, edits)])
    }

    /// Takes in a commit, or keeps it aside until its ancestors are here. One that is here already changes nothing.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn receive(&mut self, delivery: &Delivery) -> Result<(), Refusal> {
        let mut due = vec![delivery.clone()];
        while let Some(next) = due.pop() {
            let id = next.commit.id();
            if self.book.contains_key(&id) {
                continue;
            }
            let Ok(admitted) = graph::admit(&self.graph, &next.commit);
            match admitted {
                Ok(meta) => self.insert(next, meta),
                Err(Refusal::Incomplete { missing, .. }) => {
                    self.waiting.entry(missing).or_default().push(next);
                    continue;
                }
                Err(refusal) => return Err(refusal),
            }
            due.extend(self.waiting.remove(&id).unwrap_or_default());
        }
        Ok(())
    }

    fn insert(&mut self, delivery: Delivery, meta: Meta) {
        let id = delivery.commit.id();
        if meta.chain == self.chain() {
            self.own = Some((meta.counter, id));
        }
        self.frontier.advance(id, &meta);
        let skipped = &self.skipped;
        let skips = |request| skipped.contains(&RequestRef { commit: id, request });
        self.state.apply(&self.nodes, id, &meta, &delivery.requests, skips).expect("nodes in memory are whole");
        self.graph.insert(id, meta);
        self.book.insert(id, delivery);
        self.arrivals.push(id);
    }

    /// Passes over a request in every replay from here on. Set before the commit comes in.
    pub fn skip(&mut self, request: RequestRef) {
        self.skipped.insert(request);
    }

    /// Folds its state's overlay into the trees.
    pub fn fold(&mut self) {
        let made = self.state.fold(&self.nodes).expect("nodes in memory are whole");
        self.nodes.extend(made).expect("what a fold makes is well formed");
    }

    /// Returns its state, as it grew.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Returns the nodes below its state.
    pub const fn nodes(&self) -> &MemoryNodes {
        &self.nodes
    }

    /// Returns the frontier of all commits it has.
    pub const fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Returns its graph.
    pub const fn graph(&self) -> &MemoryGraph {
        &self.graph
    }

    /// Returns how many commits wait for ancestors.
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Returns its commits in the order in which they came in.
    pub fn deliveries(&self) -> impl DoubleEndedIterator<Item = &Delivery> + ExactSizeIterator {
        self.arrivals.iter().map(|id| &self.book[id])
    }

    /// Returns the commit `id`.
    pub fn delivery(&self, id: &CommitId) -> &Delivery {
        &self.book[id]
    }

    /// Returns the commits that `target` has and the empty set lacks, in the order replay takes.
    pub fn in_replay_order(&self, target: &VersionVector) -> Vec<(CommitId, Meta)> {
        lacking(self, &VersionVector::default(), target).expect("every commit is here")
    }

    /// Returns the state of all its commits, replayed from nothing under `schema`, folded.
    pub fn replayed(&self, schema: Arc<Schema>) -> (State, MemoryNodes) {
        self.replayed_to(schema, self.frontier.vector())
    }

    /// Returns the state of the commits in `target`, replayed from nothing under `schema`, folded.
    pub fn replayed_to(&self, schema: Arc<Schema>, target: &VersionVector) -> (State, MemoryNodes) {
        let (mut state, mut nodes) = (State::empty(self.branch.clone(), schema), MemoryNodes::default());
        advance(&mut state, self, &nodes, target, |request| self.skipped.contains(request)).expect("every commit is here");
        let made = state.fold(&nodes).expect("nodes in memory are whole");
        nodes.extend(made).expect("what a fold makes is well formed");
        (state, nodes)
    }

    /// Returns the document under `document`, deleted ones too.
    pub fn document(&self, collection: CollectionId, document: &str) -> Option<Arc<Document>> {
        self.state.document(&self.nodes, collection, &super::key(document)).expect("nodes in memory are whole")
    }

    /// Returns what a reader sees of the document under `document`.
    pub fn view(&self, collection: CollectionId, document: &str) -> Option<View> {
        self.document(collection, document)?.view(self.schema.by_id(collection).expect("a collection of the schema"))
    }
}

impl Graph for Replica {
    type Error = Infallible;

    fn meta(&self, commit: &CommitId) -> Result<Option<Meta>, Infallible> {
        self.graph.meta(commit)
    }

    fn at(&self, chain: &ChainId, counter: u64) -> Result<Option<CommitId>, Infallible> {
        self.graph.at(chain, counter)
    }
}

impl crate::state::History for Replica {
    fn requests(&self, commit: &CommitId) -> Result<Vec<Option<Arc<Request>>>, Infallible> {
        Ok(self.book[commit].requests.clone())
    }
}

/// Replicas that know each other, with one clock that stands still unless a test moves it.
#[derive(Debug, Clone)]
pub struct Herd {
    /// The replicas.
    pub replicas: Vec<Replica>,
    /// What every clock shows.
    pub now: Time,
}

impl Herd {
    /// Returns `count` empty replicas under the tests' schema.
    pub fn new(count: usize) -> Self {
        Self::under(count, Arc::new(schema()))
    }

    /// Returns `count` empty replicas under `schema`.
    pub fn under(count: usize, schema: Arc<Schema>) -> Self {
        let replicas = (0..count).map(|at| Replica::new(&format!("replica {at}"), schema.clone())).collect();
        Self { replicas, now: Time::from_millis(1_700_000_000_000) }
    }

    /// Commits one request of `edits` at replica `who`, a millisecond later than whatever was before.
    pub fn commit(&mut self, who: usize, edits: impl IntoIterator<Item = (CollectionId, Edit)>) -> Delivery {
        self.now = Time::from_millis(self.now.millis() + 1);
        self.replicas[who].commit(self.now, edits)
    }

    /// Brings replica `to` all commits of replica `from`.
    pub fn exchange(&mut self, from: usize, to: usize) {
        let commits: Vec<_> = self.replicas[from].deliveries().cloned().collect();
        for delivery in &commits {
            self.replicas[to].receive(delivery).expect("commits of a herd fit each other");
        }
    }

    /// Brings every replica all commits of every other.
    pub fn converge(&mut self) {
        for from in 0..self.replicas.len() {
            for to in 0..self.replicas.len() {
                self.exchange(from, to);
            }
        }
    }
}
