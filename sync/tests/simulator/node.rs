//! A node in memory: what a replica is to its exchanges, with every rule of the store checked when something enters.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
};

use herdbook_model::{
    SigningKey,
    authority::{self, Entry, Log, RequestRef, SessionCertificate},
    chunk::{Kind, Verified},
    codec::{Decode as _, Encode as _},
    commit::{Commit, Header},
    graph::{self, Frontier, Graph, MemoryGraph, Meta, Refusal},
    id::{ChainId, ChunkId, CommitId, Leaf, ReplicaId, SessionId, StateRoot},
    request::Request,
    state::{History, State, advance},
    time::Time,
    tree::{self, MemoryNodes, Nodes},
    vector::VersionVector,
};
use herdbook_sync::{
    exchange::{Accepted, Received},
    local::{Held, Local},
    message::{Announced, Enrolment, Offer, Parcel, RequestBody, RootOf, TreesOf},
    summary,
};

use crate::{
    fixtures::{Authority, BEGIN, main, replica, schema},
    rng::Rng,
};

/// The session that a node writes in: a new one after each start.
#[derive(Debug)]
struct Session {
    key: SigningKey,
    certificate: SessionCertificate,
    counter: u64,
    previous: Option<CommitId>,
    time: Time,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) key: SigningKey,
    pub(crate) replica: ReplicaId,
    pub(crate) log: Arc<Log>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) enrolment: Option<Enrolment>,
    pub(crate) frontier: Frontier,
    /// Milliseconds by which its wall clock is ahead.
    pub(crate) skew: u64,
    /// Milliseconds since the beginning.
    pub(crate) now: u64,
    /// When its disk has done all it was given.
    pub(crate) disk: u64,
    pub(crate) coming: HashMap<(ChainId, u64), u64>,
    pub(crate) violations: Vec<String>,
    pub(crate) offers: Vec<Offer>,
    /// How often it is looked at what it holds before a commit comes from elsewhere; never if `None`.
    pub(crate) looks: Cell<Option<u32>>,
    session: Session,
    graph: MemoryGraph,
    commits: HashMap<CommitId, (Commit, Vec<Received>)>,
    certificates: HashMap<SessionId, SessionCertificate>,
    vector: Arc<VersionVector>,
    nodes: MemoryNodes,
    chunks: HashMap<ChunkId, Verified>,
    root: RefCell<Option<RootOf>>,
}

impl Node {
    pub(crate) fn new(key: SigningKey, authority: &Authority, rng: &mut Rng) -> Self {
        let id = replica(&key);
        let session = Session::begin(&key, authority.log.repository(), rng);
        let certificates = HashMap::from([(session.certificate.session, session.certificate.clone())]);
        Self {
            replica: id,
            log: Arc::new(authority.log.clone()),
            entries: authority.entries.clone(),
            enrolment: authority.enrolment(&id),
            frontier: Frontier::default(),
            skew: 0,
            now: 0,
            disk: 0,
            coming: HashMap::new(),
            violations: Vec::new(),
            offers: Vec::new(),
            looks: Cell::new(None),
            session,
            graph: MemoryGraph::default(),
            commits: HashMap::new(),
            certificates,
            vector: Arc::default(),
            nodes: MemoryNodes::default(),
            chunks: HashMap::new(),
            root: RefCell::default(),
            key,
        }
    }

    /// Forgets entries after the first `kept`, as a node that was away does not know them.
    pub(crate) fn forget_entries(&mut self, kept: usize) {
        let mut log = Log::new(self.log.repository(), self.log.root());
        self.entries.truncate(kept);
        for entry in &self.entries {
            log.extend(entry).expect("a prefix of a log is a log");
        }
        self.log = Arc::new(log);
    }

    /// Ends the session and begins a new one, as each start does.
    pub(crate) fn restart(&mut self, rng: &mut Rng) {
        self.session = Session::begin(&self.key, self.log.repository(), rng);
        self.certificates.insert(self.session.certificate.session, self.session.certificate.clone());
        self.coming.clear();
    }

    pub(crate) fn wall(&self) -> Time {
        Time::from_millis(BEGIN + self.now + self.skew)
    }

    /// Makes a commit of `requests` on all heads and stores it.
    pub(crate) fn commit(&mut self, requests: Vec<Request>) -> Announced {
        let (commit, requests) = self.signed(requests, self.session.counter + 1);
        let announced = Announced { id: commit.id(), chain: commit.chain(), counter: commit.header().counter };
        let Ok(admitted) = graph::admit(&self.graph, &commit);
        let meta = admitted.expect("a commit on all heads can enter");
        self.session.counter += 1;
        self.session.previous = Some(commit.id());
        self.session.time = commit.header().time;
        self.insert(commit, meta, requests);
        announced
    }

    /// Signs a commit at a place of this node's chain that may be taken: what only a broken or hostile node does.
    pub(crate) fn signed(&self, requests: Vec<Request>, counter: u64) -> (Commit, Vec<Received>) {
        let session = &self.session;
        let (previous, parents, time) = if counter == session.counter + 1 {
            let latest = self.frontier.newest().max(session.time);
            (session.previous, self.frontier.parents(), Time::after(latest, self.wall()).expect("far from the end"))
        } else {
            let chain = herdbook_model::commit::chain(&session.certificate.session, &main());
            let taken = self.graph_at(&chain, counter).expect("taken");
            let header = self.commits[&taken].0.header();
            (header.previous, header.parents.clone(), header.time)
        };
        let header = Header {
            repository: self.log.repository(),
            branch: main(),
            schema: schema().id(),
            parents,
            session: session.certificate.session,
            counter,
            previous,
            time,
            requests: Leaf([0; 32]),
            request_count: 0,
            message: String::new(),
        };
        let (commit, _) = Commit::sign(header, &requests, &session.key);
        let requests = requests.into_iter().map(|request| Received::Present(request.into())).collect();
        (commit, requests)
    }

    /// Returns the certificate and highest counter of this node's session.
    pub(crate) fn session(&self) -> (SessionCertificate, u64) {
        (self.session.certificate.clone(), self.session.counter)
    }

    /// Stores what an exchange handed out. As the one writer it checks links again; what it finds broken is a violation.
    pub(crate) fn store(&mut self, commits: Vec<Accepted>) -> Vec<Announced> {
        let mut news = Vec::new();
        for Accepted { commit, certificate, requests, .. } in commits {
            let id = commit.id();
            if let Some(certificate) = certificate {
                self.certificates.insert(certificate.session, certificate);
            }
            if let Some((_, known)) = self.commits.get_mut(&id) {
                fill(known, requests);
                continue;
            }
            let Ok(admitted) = graph::admit(&self.graph, &commit);
            match admitted {
                Ok(meta) => {
                    news.push(Announced { id, chain: meta.chain, counter: meta.counter });
                    self.insert(commit, meta, requests);
                }
                Err(Refusal::Fork { .. }) => {}
                Err(refusal) => self.violations.push(format!("stored without its links: {refusal}")),
            }
        }
        news
    }

    fn insert(&mut self, commit: Commit, meta: Meta, requests: Vec<Received>) {
        let id = commit.id();
        Arc::make_mut(&mut self.vector).raise(meta.chain, meta.counter);
        self.frontier.advance(id, &meta);
        self.coming.remove(&(meta.chain, meta.counter));
        self.graph.insert(id, meta);
        self.commits.insert(id, (commit, requests));
    }

    /// Gives entries to the log, as the node's authority module does.
    pub(crate) fn extend_log(&mut self, entries: &[Entry]) -> Result<(), authority::Error> {
        for entry in entries {
            if self.log.entry_at(entry.seq).is_some_and(|known| known.id == entry.id()) {
                continue; // another exchange brought it
            }
            Arc::make_mut(&mut self.log).extend(entry)?;
            self.entries.push(entry.clone());
        }
        Ok(())
    }

    pub(crate) fn put_chunks(&mut self, chunks: Vec<Verified>) {
        for chunk in chunks {
            self.chunks.insert(chunk.id(), chunk.clone());
            self.nodes.insert(chunk).expect("a chunk of a tree");
        }
    }

    pub(crate) fn drop_chunk(&mut self, id: &ChunkId) {
        self.chunks.remove(id);
    }

    pub(crate) fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    pub(crate) fn has_chunk_of(&self, kind: Kind) -> bool {
        self.chunks.values().any(|chunk| chunk.kind() == kind)
    }

    /// Makes the edits of a request unreadable, as a disk does.
    pub(crate) fn damage(&mut self, commit: &CommitId, request: usize) {
        let body = &mut self.commits.get_mut(commit).expect("stored").1[request];
        if let Received::Present(sealed) = body {
            let documents = sealed.request().edits().map(|(_, edit)| format!("notes/{}", edit.key.as_str())).collect();
            *body = Received::Absent { leaf: sealed.leaf(), documents };
        }
    }

    /// Returns the ids and requests of all commits, to be compared byte by byte.
    pub(crate) fn content(&self) -> BTreeMap<CommitId, &Vec<Received>> {
        self.commits.iter().map(|(id, (_, requests))| (*id, requests)).collect()
    }

    pub(crate) fn commit_of(&self, id: &CommitId) -> &(Commit, Vec<Received>) {
        &self.commits[id]
    }

    /// Checks what must always hold of a store: closure, and requests that match their leaves.
    pub(crate) fn audit(&self) -> Result<(), String> {
        if let Some(violation) = self.violations.first() {
            return Err(violation.clone());
        }
        for (id, (commit, requests)) in &self.commits {
            let leaves: Vec<Leaf> = requests
                .iter()
                .map(|request| match request {
                    Received::Present(sealed) => sealed.leaf(),
                    Received::Absent { leaf, .. } => *leaf,
                })
                .collect();
            commit.check_leaves(&leaves).map_err(|error| error.to_string())?;
            let ancestors = commit.header().parents.iter().chain(&commit.header().previous);
            if let Some(missing) = ancestors.into_iter().find(|ancestor| !self.commits.contains_key(ancestor)) {
                return Err(format!("{id:?} is stored without {missing:?}"));
            }
        }
        Ok(())
    }

    /// Replays the whole history and returns the state with its chunks.
    pub(crate) fn replay(&self) -> (State, Vec<Verified>) {
        let mut state = State::empty(main(), Arc::new(schema()));
        let nodes = MemoryNodes::default();
        let skips = |request: &RequestRef| self.log.skips(request);
        advance(&mut state, self, &nodes, self.frontier.vector(), skips).expect("history is whole");
        state.set_judgement(self.log.judgement());
        let chunks = state.fold(&nodes).expect("folding in memory");
        (state, chunks)
    }

    pub(crate) fn root(&self) -> StateRoot {
        self.replay().0.root().expect("folded")
    }

    /// Materialises the state of the frontier and offers it.
    pub(crate) fn offer(&mut self) -> Offer {
        let (state, chunks) = self.replay();
        self.put_chunks(chunks);
        let trees = state.trees().iter().map(|(id, trees)| TreesOf {
            collection: *id,
            documents: trees.documents,
            deleted: trees.deleted,
            conflicts: trees.conflicts,
        });
        let offer = Offer {
            branch: main(),
            heads: self.frontier.ids(),
            vector: self.frontier.vector().clone(),
            judgement: self.log.judgement(),
            trees: trees.collect(),
        };
        self.offers = vec![offer.clone()];
        offer
    }

    fn graph_at(&self, chain: &ChainId, counter: u64) -> Option<CommitId> {
        let Ok(found) = self.graph.at(chain, counter);
        found
    }
}

impl Session {
    fn begin(replica: &SigningKey, repository: herdbook_model::id::RepositoryId, rng: &mut Rng) -> Self {
        let key = SigningKey::from_bytes(&rng.bytes());
        let certificate = SessionCertificate::sign(repository, &key, Time::from_millis(BEGIN), replica);
        Self { key, certificate, counter: 0, previous: None, time: Time::ZERO }
    }
}

/// Takes over requests that were absent.
fn fill(known: &mut [Received], came: Vec<Received>) {
    for (known, came) in known.iter_mut().zip(came) {
        if matches!(known, Received::Absent { .. }) {
            *known = came;
        }
    }
}

impl Graph for Node {
    type Error = Infallible;

    fn meta(&self, commit: &CommitId) -> Result<Option<Meta>, Infallible> {
        self.graph.meta(commit)
    }

    fn at(&self, chain: &ChainId, counter: u64) -> Result<Option<CommitId>, Infallible> {
        self.graph.at(chain, counter)
    }
}

impl History for Node {
    fn requests(&self, commit: &CommitId) -> Result<Vec<Option<Arc<Request>>>, Infallible> {
        let present = |request: &Received| match request {
            Received::Present(sealed) => Some(sealed.request().clone()),
            Received::Absent { .. } => None,
        };
        Ok(self.commits[commit].1.iter().map(present).collect())
    }
}

impl Nodes for Node {
    fn node(&self, id: &ChunkId) -> Result<Arc<tree::Node>, tree::Error> {
        self.nodes.node(id)
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, tree::Error> {
        self.nodes.value(id)
    }
}

impl Local for Node {
    fn log(&self) -> Arc<Log> {
        self.log.clone()
    }

    fn entries(&self, first: u64, bytes: usize) -> Result<Vec<Entry>, Infallible> {
        let (mut entries, mut len) = (Vec::new(), 0);
        for entry in self.entries.iter().skip(usize::try_from(first).unwrap_or(usize::MAX)) {
            len += entry.to_bytes().len();
            if !entries.is_empty() && len > bytes {
                break;
            }
            entries.push(entry.clone());
        }
        Ok(entries)
    }

    fn enrolment(&self) -> Option<Enrolment> {
        self.enrolment.clone()
    }

    fn held(&self) -> Held {
        match self.looks.get() {
            Some(0) => {
                let mut vector = (*self.vector).clone();
                vector.raise(ChainId([7; 16]), 1);
                return Held { digest: [7; 32], vector: Arc::new(vector) };
            }
            Some(left) => self.looks.set(Some(left - 1)),
            None => {}
        }
        Held { digest: summary::digest([(&main(), &self.frontier)]), vector: self.vector.clone() }
    }

    fn parcel(&self, commit: &CommitId) -> Result<Option<Parcel>, Infallible> {
        let Some((commit, requests)) = self.commits.get(commit) else { return Ok(None) };
        let body = |request: &Received| match request {
            Received::Present(sealed) => RequestBody::Present(sealed.bytes().to_vec()),
            Received::Absent { leaf, documents } => RequestBody::Absent { leaf: *leaf, documents: documents.clone() },
        };
        let commit = Commit::from_bytes(&commit.to_bytes()).expect("what was stored decodes");
        Ok(Some(Parcel { commit, certificate: None, requests: requests.iter().map(body).collect() }))
    }

    fn certificate(&self, session: &SessionId) -> Result<Option<SessionCertificate>, Infallible> {
        Ok(self.certificates.get(session).cloned())
    }

    fn lacks_requests(&self, commit: &CommitId) -> Result<bool, Infallible> {
        let is_absent = |request: &Received| matches!(request, Received::Absent { .. });
        Ok(self.commits.get(commit).is_some_and(|(_, requests)| requests.iter().any(is_absent)))
    }

    fn is_coming(&self, chain: &ChainId, counter: u64) -> bool {
        self.coming.get(&(*chain, counter)).is_some_and(|until| *until > self.now)
    }

    fn roots(&self) -> Result<Vec<RootOf>, Infallible> {
        if self.frontier.is_empty() {
            return Ok(Vec::new());
        }
        let (branch, judgement) = (main(), self.log.judgement());
        let frontier = self.frontier.name(&branch);
        let mut cached = self.root.borrow_mut();
        if cached.as_ref().is_none_or(|cached| cached.frontier != frontier || cached.judgement != judgement) {
            *cached = Some(RootOf { branch, frontier, judgement, root: self.root() });
        }
        Ok(cached.iter().cloned().collect())
    }

    fn offers(&self) -> Result<Vec<Offer>, Infallible> {
        Ok(self.offers.clone())
    }

    fn absent(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Infallible> {
        Ok(ids.iter().filter(|id| !self.chunks.contains_key(id)).copied().collect())
    }

    fn chunk(&self, id: &ChunkId) -> Result<Option<Verified>, Infallible> {
        Ok(self.chunks.get(id).cloned())
    }
}

impl Node {
    /// Returns a certificate-carrying parcel of a commit that is not stored.
    pub(crate) fn loose_parcel(&self, commit: &Commit, requests: &[Received]) -> Parcel {
        let commit = Commit::from_bytes(&commit.to_bytes()).expect("what was signed decodes");
        let certificate = self.certificates.get(&commit.header().session).cloned();
        let bodies = requests.iter().map(|request| match request {
            Received::Present(sealed) => RequestBody::Present(sealed.bytes().to_vec()),
            Received::Absent { leaf, documents } => RequestBody::Absent { leaf: *leaf, documents: documents.clone() },
        });
        Parcel { commit, certificate, requests: bodies.collect() }
    }
}
