//! What a repository answers when it cannot do what it was asked.

use herdbook_model::{
    authority,
    blob::{self, Blob},
    codec, commit,
    graph::Refusal,
    id::{BranchName, CommitId, Leaf, StateRoot},
    schema, state,
    state::AdvanceError,
    time::Time,
    tree,
};
use herdbook_store as store;

/// What the caller should make of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is wrong and stays wrong.
    Invalid,
    /// What it names is not there.
    NotFound,
    /// The state is another than the caller thought.
    Conflict,
    /// Not allowed.
    Denied,
    /// Try again later.
    Unavailable,
    /// A queue or limit is full; slow down.
    Exhausted,
    /// Data here is damaged.
    Corrupt,
    /// A defect of this program.
    Internal,
}

/// Why a repository did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such branch.
    #[error("there is no branch `{name}`; there are {known}")]
    UnknownBranch {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The branch takes no commits.
    #[error("branch `{branch}` was abandoned and takes no commits")]
    ClosedBranch {
        /// The branch.
        branch: BranchName,
    },
    /// What went before a horizon.
    #[error("that lies before the horizon of branch `{branch}`, and its edits are gone: they were of {} ms since 1970 or before", time.millis())]
    BeforeHorizon {
        /// The branch.
        branch: BranchName,
        /// Time of the newest commit that the horizon covers.
        time: Time,
    },
    /// A state at a horizon is not what the authority signed.
    #[error("the state at the horizon of branch `{branch}` has root {held:?} here, and the authority signed {signed:?}")]
    WrongRoot {
        /// The branch.
        branch: BranchName,
        /// The authority's.
        signed: StateRoot,
        /// The one here.
        held: StateRoot,
    },
    /// Garbage is being collected.
    #[error("garbage is being collected already")]
    Collecting,
    /// A collection of garbage did not come to its end.
    #[error("the collection of garbage ended early: a state is being fetched, or the node stops")]
    Interrupted,
    /// A tree cannot be read.
    #[error("a tree cannot be read")]
    Tree(#[source] tree::Error),
    /// No such commit here.
    #[error("there is no commit {id} here")]
    UnknownCommit {
        /// The commit, or what was given for one.
        id: String,
    },
    /// No such document.
    #[error("there is no document `{key}` in `{collection}`")]
    UnknownDocument {
        /// Its collection.
        collection: String,
        /// Its key.
        key: String,
    },
    /// A create met a document that exists.
    #[error("document `{key}` in `{collection}` exists already")]
    Exists {
        /// Its collection.
        collection: String,
        /// Its key.
        key: String,
    },
    /// A precondition does not hold.
    #[error("precondition on `{collection}/{key}` does not hold: wanted {wanted}, found {found}")]
    Precondition {
        /// Its collection.
        collection: String,
        /// Its key.
        key: String,
        /// What was wanted.
        wanted: String,
        /// What was found.
        found: String,
    },
    /// The document has changed shape: it has no such conflict.
    #[error("document `{key}` in `{collection}` has no conflict in field `{field}`")]
    NoConflict {
        /// Its collection.
        collection: String,
        /// Its key.
        key: String,
        /// The field.
        field: String,
    },
    /// Splices that reach beyond a text or list, or are not in order.
    #[error("a splice of field `{field}` reaches beyond it, or splices do not rise with a place between them")]
    Beyond {
        /// The field.
        field: String,
    },
    /// A value or name does not fit the schema.
    #[error(transparent)]
    Schema(#[from] schema::Error),
    /// A document's JSON does not fit.
    #[error(transparent)]
    Json(#[from] herdbook_model::json::Error),
    /// Too large.
    #[error("{what} has {actual} bytes, at most {limit} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size in bytes.
        actual: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Branches of two schemas: only a migration leads from one to the other.
    #[error("`{from}` has another schema than `{target}`: what leads from one schema to another is a migration, one way")]
    OtherSchema {
        /// The branch that is taken in.
        from: BranchName,
        /// The branch that takes in.
        target: BranchName,
    },
    /// More heads than a commit can name.
    #[error(
        "both branches have {heads} heads together, and a commit names at most {limit}: write to one of them first, which folds its heads"
    )]
    ManyHeads {
        /// How many.
        heads: usize,
        /// How many at most.
        limit: usize,
    },
    /// A branch whose schema has no blobs.
    #[error("no field of branch `{branch}` holds blobs: give one the type `blob` in a schema")]
    NoBlobs {
        /// The branch.
        branch: BranchName,
    },
    /// A document that would refer to a blob that is not there.
    #[error("there is no blob {blob}, or it was swept: upload it first")]
    UnknownBlob {
        /// The blob.
        blob: Blob,
    },
    /// The name of a value in place of one.
    #[error("field `{field}` takes a value, which can be erased later, and not the name of one")]
    NotAValue {
        /// The field.
        field: String,
    },
    /// A field that cannot be erased.
    #[error("{what} can be erased: give it a type like `erasable<string>` in a schema")]
    NotErasable {
        /// Which.
        what: String,
    },
    /// A part of a blob that somebody would delete or empty.
    #[error("parts of blobs go by a sweep alone: `herdbook blob sweep`")]
    PartsAreSwept,
    /// A document in the collection of blobs that is no part.
    #[error(transparent)]
    NotAPart(#[from] blob::NotAPart),
    /// A blob that is too long.
    #[error(transparent)]
    BlobTooLong(#[from] blob::TooLong),
    /// A blob that cannot be read.
    #[error(transparent)]
    Blob(#[from] blob::Error),
    /// A request without edits.
    #[error("the request edits nothing")]
    Empty,
    /// A key of a bad length.
    #[error(transparent)]
    BadKey(#[from] herdbook_model::value::BadKey),
    /// A malformed name.
    #[error(transparent)]
    BadName(#[from] herdbook_model::id::BadName),
    /// An idempotency key was used for something else before.
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The clock is at its end, or so far off that no commit can be made.
    #[error("no time can be given to a commit: check the clock of this machine")]
    Clock,
    /// A page token or position that names another state.
    #[error("the {what} belongs to a state that is not here any more; begin again")]
    StaleToken {
        /// Which token.
        what: &'static str,
    },
    /// A malformed page token or position.
    #[error("the {what} is malformed")]
    BadToken {
        /// Which token.
        what: &'static str,
    },
    /// The repository has no schema yet.
    #[error("the repository has no schema branch yet; start one with `herdbook branch start`")]
    NoSchema,
    /// This node is recovering and read-only.
    #[error("the coordinator is being restored and is read-only until that is done")]
    Recovering,
    /// A commit from a peer cannot enter.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A commit from a peer is malformed.
    #[error(transparent)]
    BadCommit(#[from] commit::Error),
    /// A commit's session is not certified by a member.
    #[error("commit {commit:?}: {why}")]
    BadSession {
        /// The commit.
        commit: CommitId,
        /// What is wrong.
        why: &'static str,
    },
    /// A request's edits are not here or damaged.
    #[error("the edits of commit {commit} request {request} are lost here: their leaf should be {leaf:?}")]
    LostEdits {
        /// The commit.
        commit: CommitId,
        /// Which request.
        request: u32,
        /// What they should hash to.
        leaf: Leaf,
    },
    /// A head-log entry cannot be taken.
    #[error(transparent)]
    Log(#[from] authority::Error),
    /// A stored record does not decode.
    #[error("the stored {what} does not decode")]
    Record {
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: codec::Error,
    },
    /// A document or tree cannot be read.
    #[error(transparent)]
    State(#[from] state::Error),
    /// A commit that should be here is not.
    #[error("history here has a hole: {what}")]
    Hole {
        /// What is missing.
        what: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A key file.
    #[error(transparent)]
    Keys(#[from] crate::keys::Error),
    /// The folder holds another repository.
    #[error("the data folder holds repository {found}, not {expected}")]
    OtherRepository {
        /// The one asked for.
        expected: String,
        /// The one in the folder.
        found: String,
    },
    /// The data folder is empty and no genesis was given.
    #[error("the data folder holds no repository yet: join a coordinator first")]
    NotJoined,
    /// Commits of this session were dropped, since they stood on the refused side of a fork.
    #[error("commits of this session stood on a forked one, which the authority refused, and were dropped: start again")]
    SessionOver,
    /// The actor behind this is gone.
    #[error("the repository is shutting down")]
    Stopped,
    /// The store did not take the commit; the outcome is unknown until it is asked again under the same idempotency key.
    #[error("the store did not take the commit: {why}")]
    NotStored {
        /// The store's word.
        why: String,
    },
    /// Too many requests wait.
    #[error("too many requests wait; try again in a moment")]
    Busy,
}

impl Error {
    /// Returns what the caller should make of it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::BeforeHorizon { .. }
            | Self::UnknownBranch { .. }
            | Self::UnknownCommit { .. }
            | Self::UnknownDocument { .. }
            | Self::Blob(blob::Error::Missing { .. })
            | Self::NoConflict { .. } => Kind::NotFound,
            Self::Exists { .. } | Self::Precondition { .. } | Self::ManyHeads { .. } => Kind::Conflict,
            Self::Beyond { .. }
            | Self::Schema(_)
            | Self::Json(_)
            | Self::TooLarge { .. }
            | Self::NoBlobs { .. }
            | Self::UnknownBlob { .. }
            | Self::NotAPart(_)
            | Self::PartsAreSwept
            | Self::NotErasable { .. }
            | Self::NotAValue { .. }
            | Self::BlobTooLong(_)
            | Self::Empty
            | Self::OtherSchema { .. }
            | Self::BadKey(_)
            | Self::BadName(_)
            | Self::KeyReused
            | Self::BadToken { .. }
            | Self::StaleToken { .. }
            | Self::ClosedBranch { .. }
            | Self::NoSchema => Kind::Invalid,
            Self::Refused(_) | Self::BadCommit(_) | Self::BadSession { .. } | Self::Log(_) | Self::OtherRepository { .. } => Kind::Denied,
            Self::NotStored { .. }
            | Self::Recovering
            | Self::Stopped
            | Self::SessionOver
            | Self::Clock
            | Self::NotJoined
            | Self::Collecting
            | Self::Interrupted => Kind::Unavailable,
            Self::Busy => Kind::Exhausted,
            Self::Tree(tree::Error::Unavailable { .. }) => Kind::Unavailable,
            Self::LostEdits { .. } | Self::Record { .. } | Self::Hole { .. } | Self::Tree(_) | Self::WrongRoot { .. } | Self::Blob(_) => {
                Kind::Corrupt
            }
            Self::State(state::Error::Tree { source: tree::Error::Unavailable { .. }, .. }) => Kind::Unavailable,
            Self::State(_) => Kind::Corrupt,
            Self::Store(error) => match error.kind() {
                store::Kind::Invalid => Kind::Invalid,
                store::Kind::NotFound => Kind::NotFound,
                store::Kind::Conflict => Kind::Conflict,
                store::Kind::Denied => Kind::Denied,
                store::Kind::Unavailable => Kind::Unavailable,
                store::Kind::Corrupt => Kind::Corrupt,
                store::Kind::Internal => Kind::Internal,
            },
            Self::Keys(_) => Kind::Internal,
        }
    }
}

impl From<AdvanceError<Self>> for Error {
    fn from(error: AdvanceError<Self>) -> Self {
        match error {
            AdvanceError::History(error) => error,
            AdvanceError::State(error) => Self::State(error),
            error @ (AdvanceError::NoCommit { .. } | AdvanceError::NoRequest { .. }) => Self::Hole { what: error.to_string() },
        }
    }
}
