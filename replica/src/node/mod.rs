//! A node: a repository, its writer, its services and its connections, put together and run.
//!
//! A coordinator is a node that also holds authority: it passes an [`Authority`] and an observer of exchanges.

mod cluster;
mod link;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use actix_rt::Arbiter;
use herdbook_model::{
    SigningKey,
    authority::{Position, Role},
};
use herdbook_proto::{
    client::Client,
    cluster::{CreateToken, Join, Joined, OnBranch, Phase, Recovery, Reopened, StartSchema, Started, Token},
    status::Failed,
    v1,
};
use herdbook_store::{RocksStore, Store};
use herdbook_sync::message::Enrolment;
use tokio::sync::watch;
use tonic::Status;

use crate::{
    actor::RepositoryHandle,
    clock::{Clock, SystemClock},
    error::Error as RepositoryError,
    grpc, http, keys,
    local::{self, Coming, Here},
    peers::{Observer, Peers},
    repository::{Identity, Repository, Settings as RepositorySettings},
};

/// Sets the limits that every service has.
macro_rules! sized {
    ($service:expr) => {
        $service
            .max_decoding_message_size(herdbook_proto::limits::MESSAGE)
            .max_encoding_message_size(herdbook_proto::limits::MESSAGE)
    };
}

/// How long a node tries to reach the coordinator it is to join before it gives up.
const JOIN: Duration = Duration::from_secs(60);

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
        failure: Failed,
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
    /// Makes a branch that of clients that name no version.
    async fn promote_schema(&self, on: OnBranch) -> Result<Position, Status>;
    /// Closes a branch.
    async fn abandon_schema(&self, on: OnBranch) -> Result<Position, Status>;
    /// Ends a restore by the operator's word.
    async fn reopen(&self, reason: String) -> Result<Reopened, Status>;
    /// Returns how far a restore is, `None` if none is going on.
    fn recovery(&self) -> Option<Recovery>;
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
}

/// What a node is doing, shared between those who decide and those who answer.
#[derive(Debug)]
pub struct Phases(AtomicU8);

impl Phases {
    /// Returns a cell that says `phase`.
    pub fn new(phase: Phase) -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(phase as u8)))
    }

    /// Returns what the node is doing.
    pub fn get(&self) -> Phase {
        [Phase::Starting, Phase::Serving, Phase::Recovering, Phase::Frozen]
            .into_iter()
            .find(|phase| *phase as u8 == self.0.load(Ordering::Relaxed))
            .unwrap_or(Phase::Starting)
    }

    /// Says what the node is doing from here on.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }
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

    fn advertised(&self) -> String {
        self.settings.advertise.clone().unwrap_or_else(|| format!("http://{}", self.bound))
    }

    fn store_bytes(&self) -> u64 {
        self.store.statistics().map_or(0, |statistics| statistics.places.iter().map(|usage| usage.file_bytes).sum::<u64>() + statistics.log_bytes)
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

    /// Waits until the server ends.
    ///
    /// # Errors
    /// [`Error::Serve`].
    pub async fn stopped(&mut self) -> Result<(), Error> {
        match (&mut self.server).await {
            Ok(served) => Ok(served?),
            Err(_) => Ok(()),
        }
    }

    /// Stops taking requests, ends exchanges, folds what is in memory into the trees, and returns when the store has everything.
    pub async fn stop(mut self) {
        /// Longest wait for calls that are under way.
        const GRACE: Duration = Duration::from_secs(5);
        let _ = self.inner.stop.send(true);
        self.inner.peers.close_all();
        self.writer.stop();
        if let Some(web) = &self.web {
            web.stop(true).await;
        }
        if tokio::time::timeout(GRACE, &mut self.server).await.is_err() {
            self.server.abort();
        }
        let repository = self.inner.here.repository.clone();
        let folded = tokio::task::spawn_blocking(move || repository.materialise()).await;
        if let Ok(Err(error)) = folded {
            tracing::error!(%error, "the state could not be folded before the end");
        }
        self.inner.arbiter.stop();
    }
}

/// Opens the folder of a replica, joins the coordinator if it is no member yet, and runs it. Needs a running actor system.
///
/// # Errors
/// [`Error`]: each says what to do.
pub async fn start(settings: Settings) -> Result<Node, Error> {
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
        // The port is taken before anything is asked of others.
        let joined = join(&settings, &key).await?;
        let repository = opened(Some(joined.genesis))?;
        repository.extend(&joined.entries)?;
        for peer in &joined.peers {
            peers.note_address(peer.replica, &peer.address);
        }
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

/// Returns how much the repository of a node may keep in memory.
pub fn repository_settings(settings: &Settings) -> RepositorySettings {
    let mut chosen = RepositorySettings::default();
    if let Some(bytes) = settings.cache_bytes {
        chosen.node_cache = bytes;
    }
    chosen
}

async fn join(settings: &Settings, key: &SigningKey) -> Result<Joined, Error> {
    let (Some(address), Some(token)) = (&settings.coordinator, &settings.token) else { return Err(Error::NothingToJoin) };
    let advertise = settings.advertise.clone().unwrap_or_else(|| format!("http://{}", settings.listen));
    let request = Join::sign(token.trim().to_owned(), settings.name.clone(), advertise, key);
    let began = tokio::time::Instant::now();
    loop {
        let attempt = async { Client::connect(&[address]).await?.join(request.clone()).await };
        let failure = match attempt.await {
            Ok(joined) => return Ok(joined),
            Err(failure) => failure,
        };
        if failure.kind != herdbook_proto::status::Kind::Unavailable {
            return Err(Error::NotTaken { address: address.clone(), failure });
        }
        if began.elapsed() > JOIN {
            return Err(Error::Unreachable { address: address.clone(), why: failure.message });
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Runs a node: takes its ports, serves, and connects to its peers.
///
/// # Errors
/// [`Error::Listen`], [`Error::Http`].
pub async fn run(parts: Parts) -> Result<Node, Error> {
    let Parts { settings, repository, store, key, role, enrolment, authority, observer, peers, phase, writer } = parts;
    let listener = bind(settings.listen)?;
    let bound = listener.local_addr().map_err(|source| Error::Listen { address: settings.listen, source })?;
    let here = Here { repository, coming: Arc::new(Coming::default()), enrolment };
    let stop = watch::channel(false).0;
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
        settings,
    };
    let inner = Arc::new(inner);
    let (mut stopping, ready) = (inner.stopping(), phase.clone());
    let router = grpc::router(&writer, peers.clone(), inner.phase.clone())
        .await
        .add_service(sized!(v1::cluster_service_server::ClusterServiceServer::new(cluster::ClusterService { node: inner.clone() })))
        .add_service(sized!(v1::sync_service_server::SyncServiceServer::new(link::SyncService { node: inner.clone() })));
    let incoming = grpc::incoming(listener).map_err(|source| Error::Listen { address: bound, source })?;
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
    Ok(Node { inner, writer, server, web, http })
}

fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    listen().map_err(|source| Error::Listen { address, source })
}
