//! A replica that also holds authority.
//!
//! [`start`] runs one: with new keys it founds a repository, with keys and data it goes on, with keys alone, or with data that may lack what
//! was signed, it restores itself from its members. [`authority`] decides, its actor does so one thing after another.

mod actor;
pub mod authority;
mod conditions;
pub mod keys;
pub mod recovery;
pub mod signed;
pub mod token;

use std::{path::PathBuf, sync::Arc};

use herdbook_model::{authority::Role, schema::Schema};
use herdbook_proto::cluster::Phase;
use herdbook_replica::{
    Repository,
    actor::RepositoryHandle,
    clock::{Clock as _, SystemClock},
    node::{self, Node, Parts, Phases},
    peers::Peers,
    repository::Identity,
};
use herdbook_sync::restore::Quorum;

use crate::{
    actor::AuthorityHandle,
    authority::{Authority, Standing},
    keys::Keys,
    signed::Signed,
};

/// What an operator decides about a coordinator.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As for every node; `coordinator` and `token` are of no use here.
    pub node: node::Settings,
    /// The folder of the authority's keys.
    pub keys: PathBuf,
    /// Schema of the first branch, for a new repository.
    pub schema: Option<Schema>,
    /// What people call the repository, for a new one.
    pub repository_name: String,
    /// A token that replicas may join with, again and again.
    pub join_token: Option<String>,
    /// How many members must report before a restore goes on by itself; 0: all.
    pub restore_quorum: usize,
}

/// Why a coordinator does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] authority::Error),
}

impl From<herdbook_replica::Error> for Error {
    fn from(error: herdbook_replica::Error) -> Self {
        Self::Node(error.into())
    }
}

/// Runs a coordinator. Needs a running actor system.
///
/// # Errors
/// [`Error`]: each says what to do.
pub async fn start(settings: Settings) -> Result<Node, Error> {
    let Settings { node: node_settings, keys: folder, schema, repository_name, join_token, restore_quorum } = settings;
    let keys = Keys::open(&folder, &repository_name, SystemClock.now())?;
    let listener = node::bind(node_settings.listen)?;
    let store = node::open_store(&node_settings)?;
    let identity = Identity { replica: keys.replica.clone(), genesis: Some(keys.genesis.clone()) };
    let repository = Repository::open(store.clone(), identity, Arc::new(SystemClock), node::repository_settings(&node_settings))?;
    let shared_token = join_token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    let signed = Signed::open(&folder)?;
    let mut authority = Authority::new(repository.clone(), keys.authority, keys.certificate, shared_token, signed);
    match authority.standing()? {
        _ if recovery::is_under_way(store.as_ref())? => {}
        Standing::Whole => {}
        Standing::Empty if keys::take_unused(&folder)? => authority.found(&node_settings.name, schema)?,
        // Nobody is known who could be asked; an epoch of its own keeps what is signed from here on apart.
        Standing::Doubtful if !has_members(&repository) => drop(authority.reopen(&[], Vec::new(), Vec::new())?),
        Standing::Empty | Standing::Doubtful | Standing::Older => recovery::begin(store.as_ref())?,
    }
    let restoring = recovery::is_under_way(store.as_ref())?;
    let phase = Phases::new(if restoring { Phase::Recovering } else { Phase::Serving });
    let peers = Arc::new(Peers::default());
    let quorum = if restore_quorum == 0 { Quorum::All } else { Quorum::AtLeast(restore_quorum) };
    let restore = if restoring { Some(recovery::resume(&repository, quorum)?) } else { None };
    let authority = AuthorityHandle::start(authority, phase.clone(), peers.clone(), restore);
    let writer = RepositoryHandle::start(repository.clone());
    let parts = Parts {
        settings: node_settings,
        enrolment: node::enrolment(&repository)?,
        repository,
        store,
        key: keys.replica,
        role: Role::Coordinator,
        observer: restoring.then(|| Arc::new(authority.clone()) as Arc<dyn herdbook_replica::peers::Observer>),
        authority: Some(Arc::new(authority)),
        peers,
        phase,
        writer,
        listener,
    };
    Ok(node::run(parts).await?)
}

/// Whether the log knows anybody else who could hold more of it.
fn has_members(repository: &Repository) -> bool {
    let log = &repository.view().log;
    log.members().keys().any(|member| *member != repository.replica() && log.is_member(member))
}
