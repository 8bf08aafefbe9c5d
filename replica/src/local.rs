//! The repository as an exchange sees it.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use herdbook_model::{
    authority::{Entry, Kind, Log, SessionCertificate},
    chunk::Verified,
    graph::{Graph, Meta},
    id::{BranchName, ChainId, ChunkId, CommitId, SessionId},
    state::Trees,
    tree::{self, Node, Nodes},
    vector::{Range, VersionVector},
};
use herdbook_sync::{
    local::{Held, Local},
    message::{Enrolment, Offer, Parcel, RequestBody, RootOf, TreesOf},
    summary,
};
use parking_lot::Mutex;

use crate::{
    error::Error,
    repository::{Base, Fetching, Repository, View},
};

/// How long a commit that was asked for counts as coming.
const COMING: Duration = Duration::from_secs(2);

/// How long a state that was offered is held back after the peer last fetched of it: as long as a peer may be silent, many times over.
const FETCHED: Duration = Duration::from_secs(300);

/// What exchanges of this node asked their peers for, so that a mesh sends a body once.
#[derive(Debug, Default)]
pub(crate) struct Coming {
    asked: Mutex<HashMap<(ChainId, u64), Instant>>,
}

impl Coming {
    pub(crate) fn ask(&self, ranges: &[Range]) {
        const MOST: u64 = 4096;
        let now = Instant::now();
        let mut asked = self.asked.lock();
        asked.retain(|_, since| now.duration_since(*since) < COMING);
        for range in ranges {
            for counter in range.first..=range.last.min(range.first + MOST) {
                asked.insert((range.chain, counter), now);
            }
        }
    }

    fn is_coming(&self, chain: &ChainId, counter: u64) -> bool {
        self.asked.lock().get(&(*chain, counter)).is_some_and(|since| since.elapsed() < COMING)
    }
}

/// A view, and what it holds. It is not kept: what lies above its trees may be large, and whoever looks next would be the one to free it.
type Looked = (Weak<View>, Held);

/// A repository and what its exchanges share.
#[derive(Clone)]
pub(crate) struct Here {
    pub(crate) repository: Repository,
    pub(crate) coming: Arc<Coming>,
    /// This node's own enrolment, as it was given when it joined.
    pub(crate) enrolment: Option<Enrolment>,
    /// What was held when exchanges last looked: they look often, and it follows from the view alone.
    looked: Arc<Mutex<Option<Looked>>>,
    /// What one exchange holds back from collections of garbage.
    pinned: Arc<Mutex<Pinned>>,
}

/// What one exchange holds back from collections of garbage.
#[derive(Default)]
struct Pinned {
    /// States it offered, as long as the peer fetches them.
    offered: Vec<Base>,
    /// When the peer last fetched of them.
    fetched: Option<Instant>,
    /// States that this node fetches.
    fetching: Option<Fetching>,
}

impl Here {
    /// Returns what a view holds: what its states stand on, and what is stored ahead of them.
    fn held_in(&self, view: &View) -> Held {
        let (mut frontiers, mut vector) = (Vec::with_capacity(view.branches.len()), view.vector());
        for (branch, state) in &view.branches {
            let mut frontier = state.frontier().clone();
            if let Some(ahead) = view.ahead(branch) {
                vector.merge(ahead.vector());
                if let Err(error) = frontier.join(ahead, &self.repository) {
                    tracing::error!(%error, %branch, "what is ahead of the branch cannot be read");
                }
            }
            frontiers.push((branch, frontier));
        }
        let digest = summary::digest(frontiers.iter().map(|(branch, frontier)| (*branch, frontier)));
        Held { digest, vector: Arc::new(vector) }
    }

    pub(crate) fn new(repository: Repository, enrolment: Option<Enrolment>) -> Self {
        Self { repository, coming: Arc::default(), enrolment, looked: Arc::default(), pinned: Arc::default() }
    }

    /// Returns it for another exchange.
    pub(crate) fn for_exchange(&self) -> Self {
        Self { pinned: Arc::default(), ..self.clone() }
    }

    /// Holds back what this exchange still needs, and no more.
    pub(crate) fn let_go(&self, is_fetching: bool) {
        let mut pinned = self.pinned.lock();
        if !is_fetching {
            pinned.fetching = None;
        }
        if pinned.fetched.is_some_and(|fetched| fetched.elapsed() >= FETCHED) {
            (pinned.offered, pinned.fetched) = (Vec::new(), None);
        }
    }
}

impl Graph for Here {
    type Error = Error;

    fn meta(&self, commit: &CommitId) -> Result<Option<Meta>, Error> {
        self.repository.meta(commit)
    }

    fn at(&self, chain: &ChainId, counter: u64) -> Result<Option<CommitId>, Error> {
        self.repository.at(chain, counter)
    }
}

impl Nodes for Here {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, tree::Error> {
        self.repository.nodes().node(id)
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, tree::Error> {
        self.repository.nodes().value(id)
    }
}

impl Local for Here {
    fn log(&self) -> Arc<Log> {
        self.repository.view().log.clone()
    }

    fn entries(&self, first: u64, bytes: usize) -> Result<Vec<Entry>, Error> {
        self.repository.entries(first, bytes)
    }

    fn enrolment(&self) -> Option<Enrolment> {
        self.enrolment.clone()
    }

    fn held(&self) -> Held {
        let view = self.repository.held();
        let mut looked = self.looked.lock();
        match &*looked {
            // The address is nobody else's as long as it is known here.
            Some((known, held)) if std::ptr::eq(known.as_ptr(), Arc::as_ptr(&view)) => held.clone(),
            _ => {
                let held = self.held_in(&view);
                *looked = Some((Arc::downgrade(&view), held.clone()));
                held
            }
        }
    }

    fn parcel(&self, commit: &CommitId) -> Result<Option<Parcel>, Error> {
        let Some(stored) = self.repository.stored(commit)? else { return Ok(None) };
        let unverified = |bytes: Vec<u8>| {
            use herdbook_model::codec::Decode as _;
            herdbook_model::commit::Commit::from_bytes(&bytes).map_err(|source| Error::Record { what: "commit", source })
        };
        let body = |(leaf, request): (&_, Result<Vec<u8>, Vec<String>>)| match request {
            Ok(bytes) => RequestBody::Present(bytes),
            Err(documents) => RequestBody::Absent { leaf: *leaf, documents },
        };
        let requests = stored.leaves.iter().zip(stored.requests).map(body).collect();
        let commit = unverified(herdbook_model::codec::Encode::to_bytes(&stored.commit))?;
        Ok(Some(Parcel { commit, certificate: None, requests }))
    }

    fn certificate(&self, session: &SessionId) -> Result<Option<SessionCertificate>, Error> {
        self.repository.certificate(session)
    }

    fn lacks_requests(&self, commit: &CommitId) -> Result<bool, Error> {
        Ok(self.repository.lacks_requests(commit))
    }

    fn may_lack(&self, branch: &BranchName, chain: &ChainId, counter: u64) -> Result<bool, Error> {
        self.repository.may_lack(branch, chain, counter)
    }

    fn is_coming(&self, chain: &ChainId, counter: u64) -> bool {
        self.coming.is_coming(chain, counter)
    }

    fn roots(&self) -> Result<Vec<RootOf>, Error> {
        let view = self.repository.view();
        let root = |(branch, state): (&_, &herdbook_model::state::State)| {
            let frontier = state.frontier().name(branch);
            Some(RootOf { branch: branch.clone(), frontier, judgement: state.judgement(), root: state.root()? })
        };
        Ok(view.branches.iter().filter_map(root).collect())
    }

    fn chunk(&self, id: &ChunkId) -> Result<Option<Verified>, Error> {
        self.pinned.lock().fetched = Some(Instant::now());
        Ok(self.repository.store().chunks().get(*id)?)
    }

    fn absent(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Error> {
        // What is told to be here must stay until the state hangs on it.
        self.pinned.lock().fetching.get_or_insert_with(|| self.repository.fetching());
        self.repository.lacking(ids)
    }

    fn offers(&self) -> Result<Vec<Offer>, Error> {
        let (mut offers, bases) = (Vec::new(), self.repository.bases()?);
        let mut pinned = self.pinned.lock();
        (pinned.offered, pinned.fetched) = (bases.clone(), Some(Instant::now()));
        drop(pinned);
        for Base { branch, heads, judgement, trees } in bases {
            let mut vector = VersionVector::default();
            for head in &heads {
                if let Some(meta) = self.repository.meta(head)? {
                    vector.merge(&meta.vector);
                }
            }
            let trees = trees.iter().map(|(collection, &Trees { documents, deleted, conflicts })| TreesOf {
                collection: *collection,
                documents,
                deleted,
                conflicts,
            });
            offers.push(Offer { branch, heads, vector, judgement, trees: trees.collect() });
        }
        Ok(offers)
    }
}

/// Reads an offer of a peer: the state as it may be taken as a base.
pub(crate) fn as_base(offer: Offer) -> Base {
    let Offer { branch, heads, judgement, trees, vector: _ } = offer;
    let trees = trees
        .into_iter()
        .map(|TreesOf { collection, documents, deleted, conflicts }| (collection, Trees { documents, deleted, conflicts }));
    Base { branch, heads, judgement, trees: Arc::new(trees.collect()) }
}

/// Finds a member's enrolment in the head log: the entry, and the one that opened its epoch.
///
/// # Errors
/// [`Error`] if the log cannot be read.
pub(crate) fn enrolment_of(repository: &Repository, replica: &herdbook_model::id::ReplicaId) -> Result<Option<Enrolment>, Error> {
    let mut epoch = None;
    for entry in repository.entries(0, usize::MAX)? {
        match &entry.kind {
            Kind::Epoch { .. } => epoch = Some(entry),
            Kind::Enrol { replica: enrolled, .. } if enrolled == replica => {
                return Ok(epoch.map(|epoch| Enrolment { epoch, entry }));
            }
            _ => {}
        }
    }
    Ok(None)
}
