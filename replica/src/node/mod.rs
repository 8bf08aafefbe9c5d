//! A node: a repository, its writer, its services and its connections, put together and run.
//!
//! A coordinator is a node that also holds authority: it passes an [`Authority`] and an observer of exchanges.

mod asking;
mod cluster;
mod collector;
mod link;
mod phases;
mod pulse;
mod refusal;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use actix_rt::Arbiter;
use herdbook_model::{
    SigningKey,
    authority::{Kind, Position, Role},
    id::{Domain, ReplicaId},
};
use herdbook_proto::{
    client::Client,
    cluster::{
        BranchStarted, CreateToken, Erase, Erased, Horizon, Join, Joined, OnBranch, Phase, Recovery, Reopened, SetHorizon, StartBranch,
        StartSchema, Started, Token,
    },
    status::Failed,
    v1,
};
use herdbook_store::{Batch, Direction, Durability, KeyRange, Records as _, RocksStore, Store, Table};
use herdbook_sync::message::Enrolment;
use tokio::sync::watch;
use tonic::Status;

pub use self::{collector::COLLECT_AT, phases::Phases};
use crate::{
    actor::RepositoryHandle,
    clock::{Clock, SystemClock},
    error::Error as RepositoryError,
    grpc, http, keys,
    local::{self, Here},
    peers::{Observer, Peers},
    repository::{Identity, Repository, Settings as RepositorySettings},
};

/// Sets the limits that every service has.
macro_rules! sized {
    ($service:expr) => {
        $service.max_decoding_message_size(herdbook_proto::limits::MESSAGE).max_encoding_message_size(herdbook_proto::limits::MESSAGE)
    };
}

/// How long a node tries to reach the coordinator it is to join before it gives up.
const JOIN: Duration = Duration::from_secs(60);

/// Longest wait for calls that are under way when a node stops, before their connections are broken off.
const GRACE: Duration = Duration::from_secs(5);

/// Longest wait for threads that still use the store when a node stops: one may be folding a large state.
const CLOSE: Duration = Duration::from_secs(20);

/// What an operator decides about a replica.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its folder; made if absent.
    pub data: PathBuf,
    /// Where it takes gRPC.
    pub listen: SocketAddr,
    /// Where it tells of its health and metrics over HTTP; nowhere if none.
    pub http: Option<SocketAddr>,
    /// What people call it.
    pub name: String,
    /// Where others reach it; `http://` and the address it listens on if none.
    pub advertise: Option<String>,
    /// Where the coordinator is reached.
    pub coordinator: Option<String>,
    /// The token to join with; needed once.
    pub token: Option<String>,
    /// Peers to call besides.
    pub peers: Vec<String>,
    /// Memory for the nodes of trees, in bytes.
    pub cache_bytes: Option<usize>,
    /// Share of the chunks from which on garbage is collected, in percent; 0: only when asked for. [`COLLECT_AT`] if none.
    pub collect_at: Option<u8>,
    /// Edits above the trees of a branch at which they are written into them. [`FOLD_EDITS`](crate::repository::FOLD_EDITS) if none.
    pub fold_edits: Option<u64>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The data folder cannot be made.
    #[error("cannot make the data folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: std::io::Error,
    },
    /// The repository cannot be opened.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Not a member yet, and nothing to join with.
    #[error("this folder holds no repository yet: name a coordinator to join and a token (`herdbook token create` makes one)")]
    NothingToJoin,
    /// The coordinator was not reached in time.
    #[error("the coordinator at {address} was not reached: {why}")]
    Unreachable {
        /// Its address.
        address: String,
        /// The last failure.
        why: String,
    },
    /// The coordinator refused.
    #[error("the coordinator at {address} did not take this replica in: {}", failure.message)]
    NotTaken {
        /// Its address.
        address: String,
        /// Its word.
        failure: Box<Failed>,
    },
    /// Whoever answered is not the authority that the token was made by.
    #[error("{address} is not the coordinator this token was made by, or what it sent is forged")]
    Impostor {
        /// Its address.
        address: String,
    },
    /// It cannot go on; started again it may.
    #[error("the node had to end: {why}")]
    Failed {
        /// What failed.
        why: String,
    },
    /// The server broke off.
    #[error("the server broke off")]
    Serve(#[from] tonic::transport::Error),
    /// The HTTP server does not start.
    #[error("the HTTP server does not start")]
    Http(#[source] std::io::Error),
}

impl From<keys::Error> for Error {
    fn from(error: keys::Error) -> Self {
        Self::Repository(error.into())
    }
}

impl From<herdbook_store::Error> for Error {
    fn from(error: herdbook_store::Error) -> Self {
        Self::Repository(error.into())
    }
}

/// What only the authority can do.
#[tonic::async_trait]
pub trait Authority: Send + Sync {
    /// Takes a replica in.
    async fn join(&self, join: Join) -> Result<Joined, Status>;
    /// Makes a token to join with.
    async fn create_token(&self, create: CreateToken) -> Result<Token, Status>;
    /// Starts a schema branch.
    async fn start_schema(&self, start: StartSchema) -> Result<Started, Status>;

    /// Starts a branch that goes its own way.
    async fn start_branch(&self, start: StartBranch) -> Result<BranchStarted, Status>;
    /// Makes a branch that of clients that name no version.
    async fn promote_schema(&self, on: OnBranch) -> Result<Position, Status>;
    /// Closes a branch.
    async fn abandon_schema(&self, on: OnBranch) -> Result<Position, Status>;
    /// Sets horizons, or tells what they would cover.
    async fn set_horizon(&self, set: SetHorizon) -> Result<Vec<Horizon>, Status>;
    /// Erases values, or tells what would go.
    async fn erase(&self, erase: Erase) -> Result<Erased, Status>;
    /// Ends a restore by the operator's word.
    async fn reopen(&self, reason: String) -> Result<Reopened, Status>;
    /// Returns how far a restore is, `None` if none is going on.
    fn recovery(&self) -> Option<Recovery>;
    /// Ends it; what was decided stays.
    fn stop(&self);
}

/// What a node is put together from.
pub struct Parts {
    /// What the operator decided.
    pub settings: Settings,
    /// The repository.
    pub repository: Repository,
    /// The store below it, for statistics.
    pub store: Arc<RocksStore>,
    /// The replica's key.
    pub key: SigningKey,
    /// What it is.
    pub role: Role,
    /// Its enrolment, if it has one.
    pub enrolment: Option<Enrolment>,
    /// Authority, if it holds it.
    pub authority: Option<Arc<dyn Authority>>,
    /// Who listens to exchanges.
    pub observer: Option<Arc<dyn Observer>>,
    /// Its peers; shared with who asks them.
    pub peers: Arc<Peers>,
    /// What it is doing at first.
    pub phase: Arc<Phases>,
    /// Its writer.
    pub writer: RepositoryHandle,
    /// Where it takes gRPC; see [`bind`].
    pub listener: TcpListener,
}

pub(crate) struct Inner {
    settings: Settings,
    here: Here,
    store: Arc<RocksStore>,
    key: SigningKey,
    role: Role,
    authority: Option<Arc<dyn Authority>>,
    observer: Option<Arc<dyn Observer>>,
    peers: Arc<Peers>,
    phase: Arc<Phases>,
    arbiter: Arbiter,
    bound: SocketAddr,
    stop: watch::Sender<bool>,
    /// Breaks off connections that did not end by themselves.
    cut: watch::Sender<bool>,
}

impl Inner {
    fn stopping(&self) -> watch::Receiver<bool> {
        self.stop.subscribe()
    }

    fn phase(&self) -> Phase {
        self.phase.get()
    }

    fn is_recovering(&self) -> bool {
        self.phase.get() == Phase::Recovering
    }

    /// Notes where a member listens, here and for the next start.
    fn note_address(&self, replica: ReplicaId, address: &str) {
        if self.peers.note_address(replica, address) {
            keep_address(self.store.as_ref(), replica, address);
        }
    }

    fn advertised(&self) -> String {
        self.settings.advertise.clone().unwrap_or_else(|| format!("http://{}", self.bound))
    }

    fn store_bytes(&self) -> u64 {
        self.store
            .statistics()
            .map_or(0, |statistics| statistics.places.iter().map(|usage| usage.file_bytes).sum::<u64>() + statistics.log_bytes)
    }
}

/// A running node.
pub struct Node {
    inner: Arc<Inner>,
    writer: RepositoryHandle,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    web: Option<actix_web::dev::ServerHandle>,
    http: Option<SocketAddr>,
}

impl Node {
    /// Returns where it takes gRPC.
    pub fn listen(&self) -> SocketAddr {
        self.inner.bound
    }

    /// Returns where it answers HTTP.
    pub const fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Returns its repository.
    pub fn repository(&self) -> &Repository {
        &self.inner.here.repository
    }

    /// Returns its writer.
    pub const fn writer(&self) -> &RepositoryHandle {
        &self.writer
    }

    /// Waits until the server ends, or cannot go on: then the process must end without success, since only a new one can.
    ///
    /// # Errors
    /// [`Error::Serve`], [`Error::Failed`].
    pub async fn stopped(&mut self) -> Result<(), Error> {
        tokio::select! {
            served = &mut self.server => match served {
                Ok(served) => Ok(served?),
                Err(_) => Ok(()),
            },
            why = self.inner.phase.failed() => Err(Error::Failed { why }),
        }
    }

    /// Stops taking requests, ends exchanges, folds what is in memory into the trees, and returns when all of it is on the disk and the
    /// store is closed. Where the caller still holds the repository, the store closes with it.
    pub async fn stop(self) {
        let Self { inner, writer, mut server, web, .. } = self;
        let _ = inner.stop.send(true);
        inner.here.repository.stop_collecting();
        inner.peers.close_all();
        if let Some(authority) = &inner.authority {
            authority.stop();
        }
        writer.stop();
        if let Some(web) = &web {
            web.stop(true).await;
        }
        // One that ended by itself was waited for already.
        if !server.is_finished() && tokio::time::timeout(GRACE, &mut server).await.is_err() {
            // Somebody does not read his answers.
            let _ = inner.cut.send(true);
            if tokio::time::timeout(GRACE, &mut server).await.is_err() {
                server.abort();
            }
        }
        let repository = inner.here.repository.clone();
        let folded = tokio::task::spawn_blocking(move || repository.materialise()).await;
        if let Ok(Err(error)) = folded {
            tracing::error!(%error, "the state could not be folded before the end");
        }
        inner.arbiter.stop();
        let store = inner.store.clone();
        drop((inner, writer, server));
        close(store).await;
    }
}

/// Syncs and closes a store as soon as nobody else holds it: actors and calls let go of it as they end.
async fn close(mut store: Arc<RocksStore>) {
    let began = tokio::time::Instant::now();
    let last = loop {
        store = match Arc::try_unwrap(store) {
            Ok(last) => break Ok(last),
            Err(held) if began.elapsed() > CLOSE => break Err(held),
            Err(held) => held,
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    // The engine's threads end within the drop: the process must not end under them.
    let closed = tokio::task::spawn_blocking(move || match last {
        Ok(last) => sync(&last),
        Err(held) => {
            tracing::warn!(holders = Arc::strong_count(&held) - 1, "the store is still in use; it closes with its last user");
            sync(&held)
        }
    });
    match closed.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the store could not be synced before the end"),
        Err(_) => tracing::error!("closing the store broke off"),
    }
}

/// Makes everything written so far survive a power cut.
fn sync(store: &RocksStore) -> Result<(), herdbook_store::Error> {
    store.write(Batch::new(), Durability::Durable).map(drop)
}

/// Opens the folder of a replica, joins the coordinator if it is no member yet, and runs it. Needs a running actor system.
///
/// # Errors
/// [`Error`]: each says what to do.
pub async fn start(settings: Settings) -> Result<Node, Error> {
    let listener = bind(settings.listen)?;
    let store = open_store(&settings)?;
    let key = keys::load_or_create(&settings.data.join("replica.key"))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let member = store.refs().get("genesis").map_err(RepositoryError::from)?.is_some();
    let opened = |genesis| {
        let identity = Identity { replica: key.clone(), genesis };
        Repository::open(store.clone(), identity, clock.clone(), repository_settings(&settings))
    };
    let peers = Arc::new(Peers::default());
    let repository = if member {
        opened(None)?
    } else {
        let bound = listener.local_addr().map_err(|source| Error::Listen { address: settings.listen, source })?;
        let joined = join(&settings, bound, &key).await?;
        let repository = opened(Some(joined.genesis))?;
        repository.extend(&joined.entries)?;
        for peer in &joined.peers {
            peers.note_address(peer.replica, &peer.address);
        }
        let own = peers.all().into_iter().filter_map(|(replica, known)| Some((replica, known.address?)));
        own.for_each(|(replica, address)| keep_address(store.as_ref(), replica, &address));
        repository
    };
    let enrolment = enrolment(&repository)?;
    let writer = RepositoryHandle::start(repository.clone());
    let parts = Parts {
        settings,
        repository,
        store,
        key,
        role: Role::Replica,
        enrolment,
        authority: None,
        observer: None,
        peers,
        phase: Phases::new(Phase::Serving),
        writer,
        listener,
    };
    run(parts).await
}

/// Opens the store in a data folder, and makes both if they are absent.
///
/// # Errors
/// [`Error`].
pub fn open_store(settings: &Settings) -> Result<Arc<RocksStore>, Error> {
    std::fs::create_dir_all(&settings.data).map_err(|source| Error::Folder { path: settings.data.clone(), source })?;
    Ok(Arc::new(RocksStore::open(settings.data.join("store"), &herdbook_store::Settings::default())?))
}

/// Returns the enrolment of the repository's own replica, if its log has one.
///
/// # Errors
/// [`Error::Repository`].
pub fn enrolment(repository: &Repository) -> Result<Option<Enrolment>, Error> {
    Ok(local::enrolment_of(repository, &repository.replica())?)
}

/// Where members listen, as told: kept so that replicas find each other while the coordinator is gone.
const ADDRESSES: &[u8] = b"address/";

fn keep_address(store: &dyn Store, replica: ReplicaId, address: &str) {
    let mut batch = Batch::new();
    batch.put(Table::Peers, [ADDRESSES, replica.as_bytes()].concat(), address.as_bytes().to_vec());
    if let Err(error) = store.records().write(batch, Durability::Process) {
        tracing::warn!(%error, "a member's address could not be kept");
    }
}

fn load_addresses(store: &dyn Store, peers: &Peers) -> Result<(), RepositoryError> {
    for record in store.records().scan(Table::Peers, KeyRange::prefix(ADDRESSES), Direction::Forward) {
        let record = record?;
        let replica = ReplicaId::try_from(&record.key[ADDRESSES.len()..]);
        if let (Ok(replica), Ok(address)) = (replica, std::str::from_utf8(&record.value)) {
            peers.note_address(replica, address);
        }
    }
    Ok(())
}

/// Returns how much the repository of a node may keep in memory.
pub fn repository_settings(settings: &Settings) -> RepositorySettings {
    let mut chosen = RepositorySettings::default();
    if let Some(bytes) = settings.cache_bytes {
        chosen.node_cache = bytes;
    }
    if let Some(edits) = settings.fold_edits {
        chosen.fold_edits = edits.max(1);
    }
    chosen
}

async fn join(settings: &Settings, bound: SocketAddr, key: &SigningKey) -> Result<Joined, Error> {
    let (Some(address), Some(token)) = (&settings.coordinator, &settings.token) else { return Err(Error::NothingToJoin) };
    let advertise = settings.advertise.clone().unwrap_or_else(|| format!("http://{bound}"));
    let request = Join::sign(token.trim().to_owned(), settings.name.clone(), advertise, key);
    let began = tokio::time::Instant::now();
    let mut is_told = false;
    loop {
        let attempt = async { Client::connect(&[address]).await?.join(request.clone()).await };
        let failure = match attempt.await {
            Ok(joined) => return if fits(&joined, token) { Ok(joined) } else { Err(Error::Impostor { address: address.clone() }) },
            Err(failure) => failure,
        };
        if failure.kind != herdbook_proto::status::Kind::Unavailable {
            return Err(Error::NotTaken { address: address.clone(), failure: Box::new(failure) });
        }
        if began.elapsed() > JOIN {
            return Err(Error::Unreachable { address: address.clone(), why: failure.message });
        }
        if !is_told {
            tracing::warn!(%address, why = %failure.message, seconds = JOIN.as_secs(), "the coordinator cannot be reached yet; going on to try");
            is_told = true;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Whether the authority that answered is the one whose fingerprint the token carries, and signed what it sent. Tokens of an operator's own
/// making carry none.
fn fits(joined: &Joined, token: &str) -> bool {
    let Kind::Epoch { certificate } = &joined.epoch.kind else { return false };
    let named = token.trim().strip_prefix("hb1-").and_then(|rest| rest.split_once('-')).map(|(fingerprint, _)| fingerprint);
    let known = named.is_none_or(|named| named == authority_fingerprint(&certificate.key));
    known && certificate.verify(&joined.genesis.root).is_ok() && joined.enrolment.is_signed_by(&certificate.key)
}

/// Returns the text that names an authority in a token: 16 hex digits of its key's hash.
pub fn authority_fingerprint(key: &[u8; 32]) -> String {
    Domain::Certificate.hash(&[key])[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Runs a node: takes its ports, serves, and connects to its peers.
///
/// # Errors
/// [`Error::Listen`], [`Error::Http`].
pub async fn run(parts: Parts) -> Result<Node, Error> {
    let Parts { settings, repository, store, key, role, enrolment, authority, observer, peers, phase, writer, listener } = parts;
    let bound = listener.local_addr().map_err(|source| Error::Listen { address: settings.listen, source })?;
    load_addresses(store.as_ref(), &peers)?;
    let here = Here::new(repository, enrolment);
    let (stop, cut) = (watch::channel(false).0, watch::channel(false).0);
    let inner = Inner {
        here,
        store,
        key,
        role,
        authority,
        observer,
        peers: peers.clone(),
        phase: phase.clone(),
        arbiter: Arbiter::new(),
        bound,
        stop,
        cut,
        settings,
    };
    let inner = Arc::new(inner);
    let (mut stopping, ready) = (inner.stopping(), phase.clone());
    let router = grpc::router(&writer, peers.clone(), inner.phase.clone())
        .await
        .add_service(grpc::Told(sized!(v1::cluster_service_server::ClusterServiceServer::new(cluster::ClusterService {
            node: inner.clone()
        }))))
        .add_service(sized!(v1::sync_service_server::SyncServiceServer::new(link::SyncService { node: inner.clone() })));
    let incoming = grpc::Incoming::until(listener, &inner.cut).map_err(|source| Error::Listen { address: bound, source })?;
    let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    }));
    let (web, http) = match inner.settings.http {
        Some(address) => {
            let (handle, bound) = http::serve(bind(address)?, move || ready.get() == Phase::Serving).map_err(Error::Http)?;
            (Some(handle), Some(bound))
        }
        None => (None, None),
    };
    tokio::spawn(inner.clone().dial());
    tokio::spawn(inner.clone().collect());
    tokio::spawn(pulse::follow(inner.here.repository.changes(), phase.clone()));
    tokio::spawn(pulse::watch(inner.here.repository.store().clone(), phase));
    Ok(Node { inner, writer, server, web, http })
}

/// Takes an address to listen on, before anything else is done under it.
///
/// # Errors
/// [`Error::Listen`].
pub fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| Error::Listen { address, source })
}
