//! What can go wrong in a store, and what the caller should do about it.

use std::{fmt, io, path::PathBuf, sync::Arc};

use herdbook_model::{chunk, id::ChunkId};

use crate::{Sequence, Table};

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Change the request: it can never succeed.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// Read again and decide anew: somebody else was first.
    Conflict,
    /// Ask for permission.
    Denied,
    /// Try again later, perhaps after making room or ending another process.
    Unavailable,
    /// Restore from a peer or a backup: bytes on the disk are not what was written.
    Corrupt,
    /// Report it.
    Internal,
}

/// A cause from the layer below, shared by everyone who waited for the same write.
pub(crate) type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What can go wrong in a store. Cheap to clone: one failed write answers many.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stored bytes of a chunk are not that chunk.
    #[error("chunk {id} is corrupt in the store")]
    Corrupt {
        /// The chunk that was asked for.
        id: ChunkId,
        /// How its bytes are wrong.
        #[source]
        source: chunk::Error,
    },
    /// Bytes in a file of the store fail their checksum.
    #[error("cannot read {place} in {folder}: the bytes on the disk are not what was written")]
    CorruptFile {
        /// The store.
        folder: PathBuf,
        /// The table, or chunks.
        place: Place,
        /// What the engine says.
        #[source]
        source: Cause,
    },
    /// The name of a ref is not text.
    #[error("a ref has the name {name:?}, which is not UTF-8")]
    RefName {
        /// The stored name.
        name: Vec<u8>,
    },
    /// A ref is not what a batch expected; nothing of the batch was written.
    #[error("ref `{name}` has changed")]
    Conflict {
        /// The ref.
        name: String,
        /// Its value, or that it does not exist.
        actual: Option<Vec<u8>>,
    },
    /// The queue of batches is full; nothing was taken in.
    #[error("the store's queue is full")]
    Busy,
    /// A collection is under way.
    #[error("garbage is being collected already")]
    Collecting,
    /// No collection is under way.
    #[error("no collection of garbage was begun")]
    NotCollecting,
    /// A batch that could never be written.
    #[error("a batch of {actual} bytes exceeds {limit}")]
    TooLarge {
        /// Its size in bytes.
        actual: usize,
        /// The most bytes a batch may have.
        limit: usize,
    },
    /// No room on the disk. The store takes no more writes until it is opened again.
    #[error("no room on the disk for {folder}: free some and start again")]
    Full {
        /// The store.
        folder: PathBuf,
        /// What the system says.
        #[source]
        source: Cause,
    },
    /// A write or sync failed, now or before. The store takes no more writes: end the process and open the store again.
    #[error("the store in {folder} stopped after a failed write")]
    Failed {
        /// The store.
        folder: PathBuf,
        /// The first failure.
        #[source]
        source: Cause,
    },
    /// The folder holds less than was acknowledged, or files that cannot be read.
    #[error("the store in {folder} is damaged")]
    Damaged {
        /// The store.
        folder: PathBuf,
        /// What is missing.
        #[source]
        damage: Damage,
    },
    /// The folder was written by a newer release.
    #[error("the store in {folder} has format {found}, this release reads formats up to {supported}: use a newer release")]
    NewerFormat {
        /// The store.
        folder: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this build reads.
        supported: u32,
    },
    /// The folder was written by an older release, of before the formats were settled.
    #[error(
        "the store in {folder} has format {found}, this release reads format {supported}: export it to JSON lines with the release that wrote it \
         (`herdbook export`), and import that"
    )]
    OlderFormat {
        /// The store.
        folder: PathBuf,
        /// Its format.
        found: u32,
        /// The format this build reads.
        supported: u32,
    },
    /// Another store object, mostly another process, has the folder open.
    #[error("the store in {folder} is in use by another process: stop that first, or choose another folder")]
    Locked {
        /// The store.
        folder: PathBuf,
    },
    /// The folder is neither empty nor a store.
    #[error("{folder} is not a store: it holds {found:?} but no valid FORMAT file; choose an empty or new folder")]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// A file that does not belong there.
        found: String,
    },
    /// There is no store in the folder.
    #[error("there is no store in {folder}")]
    Absent {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder in which the store's folder would be made does not exist.
    #[error("cannot make {folder}: the folder above it does not exist")]
    NoParent {
        /// The folder that would be made.
        folder: PathBuf,
    },
    /// A backup would overwrite something.
    #[error("{folder} exists already: choose a folder that does not")]
    Exists {
        /// The folder.
        folder: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried: a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The storage engine refused.
    #[error("the storage engine cannot {action} {folder}")]
    Engine {
        /// What was tried: a verb.
        action: &'static str,
        /// The store.
        folder: PathBuf,
        /// What it says.
        #[source]
        source: Cause,
    },
}

impl Error {
    /// Returns what the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Corrupt { .. } | Self::CorruptFile { .. } | Self::RefName { .. } | Self::Damaged { .. } => Kind::Corrupt,
            Self::Conflict { .. } => Kind::Conflict,
            Self::Busy | Self::Collecting | Self::Full { .. } | Self::Failed { .. } | Self::Locked { .. } => Kind::Unavailable,
            Self::TooLarge { .. } | Self::NewerFormat { .. } | Self::OlderFormat { .. } | Self::Foreign { .. } | Self::Exists { .. } => {
                Kind::Invalid
            }
            Self::Absent { .. } | Self::NoParent { .. } => Kind::NotFound,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Kind::Denied,
                io::ErrorKind::NotFound => Kind::NotFound,
                io::ErrorKind::Interrupted | io::ErrorKind::TimedOut => Kind::Unavailable,
                _ => Kind::Internal,
            },
            Self::Engine { .. } | Self::NotCollecting => Kind::Internal,
        }
    }

    /// Returns the error for a failed system call; a full disk is always [`Error::Full`].
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { folder: path, source: Arc::new(source) },
            _ => Self::Io { action, path, source: Arc::new(source) },
        }
    }
}

/// Where something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Among the chunks.
    Chunks,
    /// In a table.
    Table(Table),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunks => f.write_str("chunks"),
            Self::Table(table) => write!(f, "table {table}"),
        }
    }
}

/// How a store's folder is damaged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Damage {
    /// Writes that were acknowledged as durable are not there.
    #[error("writes up to {expected} were acknowledged, only those up to {found} are there")]
    Behind {
        /// The last acknowledged write.
        expected: Sequence,
        /// The last that is there.
        found: Sequence,
    },
    /// The marker, which says how far acknowledgements went, is missing or unreadable.
    #[error("the marker file is missing or unreadable, so nobody can say whether all acknowledged writes are there")]
    Marker,
    /// The engine's files are gone.
    #[error("writes up to {expected} were acknowledged, but the data files are gone")]
    Gone {
        /// The last acknowledged write.
        expected: Sequence,
    },
    /// The engine cannot read its files.
    #[error("a data file is unreadable")]
    Unreadable {
        /// What it says.
        #[source]
        source: Cause,
    },
}
