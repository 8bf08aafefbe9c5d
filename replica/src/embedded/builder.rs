//! From settings to an open replica: which repository the folder holds, or is to hold.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use herdbook_model::{id::BranchName, schema::Schema};

use super::{Replica, capture::Core, founding, online::Online};
use crate::{error::Error as RepositoryError, keys, node};

/// Pause between commits if none is set: up to three a second.
pub const CAPTURE: Duration = Duration::from_millis(333);

/// Why a replica does not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder holds nothing, and nothing says what it is to hold.
    #[error("{} holds no repository: give a schema to found one, or a coordinator to join", folder.display())]
    NothingHere {
        /// The folder.
        folder: PathBuf,
    },
    /// A repository was founded here, which cannot join another.
    #[error("{} holds a repository that was founded there: join from another folder", folder.display())]
    FoundedHere {
        /// The folder.
        folder: PathBuf,
    },
    /// The branch has another schema than the application gives.
    #[error("branch `{branch}` has another schema of version {held} than the given one of version {given}")]
    OtherSchema {
        /// The branch.
        branch: BranchName,
        /// Version of the schema it has.
        held: u32,
        /// Version of the schema that was given.
        given: u32,
    },
    /// A file of the folder cannot be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("the system gives no thread for the replica")]
    Thread(#[source] io::Error),
    /// Joining or opening, with what to do.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// What the authority alone can do.
    #[error("this replica has joined others: its coordinator begins branches and erases")]
    NotFoundedHere,
    /// The repository cannot be opened.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl From<keys::Error> for Error {
    fn from(error: keys::Error) -> Self {
        Self::Repository(error.into())
    }
}

/// Settings of a replica that is about to be opened.
#[derive(Debug, Clone)]
pub struct Builder {
    pub(super) node: node::Settings,
    pub(super) schema: Option<Schema>,
    branch: Option<BranchName>,
    capture: Duration,
}

impl Builder {
    pub(super) fn new(folder: PathBuf) -> Self {
        let node = node::Settings {
            data: folder,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            http: None,
            name: "embedded".to_owned(),
            advertise: None,
            coordinator: None,
            token: None,
            peers: Vec::new(),
            cache_bytes: None,
            collect_at: None,
            fold_edits: None,
        };
        Self { node, schema: None, branch: None, capture: CAPTURE }
    }

    /// Founds a repository with this schema if the folder holds none. If it holds one, its schema must be this one.
    #[must_use]
    pub fn schema(mut self, schema: Schema) -> Self {
        self.schema = Some(schema);
        self
    }

    /// Joins the repository of a coordinator, such as `http://herd.example:7400`, with a token it made. Once joined the token is of no use
    /// any more, and the coordinator need not be there.
    #[must_use]
    pub fn join(mut self, coordinator: impl Into<String>, token: impl Into<String>) -> Self {
        self.node.coordinator = Some(coordinator.into());
        self.node.token = Some(token.into());
        self
    }

    /// Sets what people call the replica; `embedded` if not set.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.node.name = name.into();
        self
    }

    /// Works on this branch; on the promoted one if not set. An application names the branch of the schema it was written for.
    #[must_use]
    pub fn branch(mut self, branch: BranchName) -> Self {
        self.branch = Some(branch);
        self
    }

    /// Sets how many edits are kept in memory above the trees until they are written into them; [`FOLD_EDITS`](crate::repository::FOLD_EDITS) if not
    /// set. With fewer more is written; with more memory and a start after a crash take more.
    #[must_use]
    pub const fn fold_edits(mut self, edits: u64) -> Self {
        self.node.fold_edits = Some(edits);
        self
    }

    /// Sets for how long edits are gathered before they are committed together; [`CAPTURE`] if not set, each edit at once if zero.
    #[must_use]
    pub const fn capture(mut self, pause: Duration) -> Self {
        self.capture = pause;
        self
    }

    /// Sets the memory for nodes of trees, in bytes.
    #[must_use]
    pub const fn cache_bytes(mut self, bytes: usize) -> Self {
        self.node.cache_bytes = Some(bytes);
        self
    }

    /// Sets where a joined replica takes exchanges, and the address others are told; a free port of this machine's own network, for
    /// this machine only, if not set.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr, advertise: Option<String>) -> Self {
        self.node.listen = address;
        self.node.advertise = advertise;
        self
    }

    /// Opens the replica. Blocks for as long as that takes: milliseconds, or for the first time with [`Builder::join`] until the coordinator
    /// answered.
    ///
    /// # Errors
    /// [`Error`]: each says what to do.
    pub fn open(self) -> Result<Replica, Error> {
        let Self { node, schema, branch, capture } = self;
        std::fs::create_dir_all(&node.data).map_err(|source| Error::Io { path: node.data.clone(), source })?;
        let folder = node.data.clone();
        let (repository, online) = if node.coordinator.is_some() {
            if founding::is_founded(&node.data) {
                return Err(Error::FoundedHere { folder: node.data });
            }
            let (repository, online) = Online::start(node)?;
            (repository, Some(online))
        } else {
            (founding::open(&node, schema.as_ref())?, None)
        };
        let founded = founding::is_founded(&folder).then_some(folder);
        if let Some(given) = schema
            && let Ok(state) = repository.view().state(branch.as_ref())
            && state.schema().id() != given.id()
        {
            return Err(Error::OtherSchema { branch: state.branch().clone(), held: state.schema().version, given: given.version });
        }
        let core = Arc::new(Core::new(repository, branch, capture)?);
        Replica::run(core, online, founded)
    }
}
