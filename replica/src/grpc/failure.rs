//! Why a call fails, and what that is on the wire: a kind, a reason, and a hint.

use herdbook_model::{
    authority::{self, BranchRule, RequestRef},
    id::{BranchName, RepositoryId, RequestKey},
    schema, state, tree,
};
use herdbook_proto::{
    Malformed,
    ack::{Ack, Level},
    cluster::Phase,
    status::{Failure, Kind},
};
use tonic::Status;

use crate::error::Error as RepositoryError;

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The repository's word.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The message means nothing.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Another repository was named.
    #[error("there is no repository {asked} here; this replica holds {held}")]
    OtherRepository { asked: RepositoryId, held: RepositoryId },
    /// The replica takes no writes now.
    #[error("this replica takes no writes now: it is {what}", what = doing(*.phase))]
    ReadOnly { phase: Phase },
    /// The wait ended before what was waited for came true.
    #[error("not all that was asked for was reached in time; so far: {so_far}", so_far = so_far(.ack.as_deref()))]
    OutcomeUnknown { key: RequestKey, ack: Option<Box<Ack>> },
    /// The authority refused the request after it was committed.
    #[error("the authority refused request {} of commit {}", request.request, request.commit)]
    Voided { request: RequestRef },
    /// The state or commits are of a frontier that did not reach this replica yet.
    #[error("the {what} names commits that are not here yet")]
    NotHereYet { what: &'static str },
    /// A token that was made for another question.
    #[error("the {what} was given for another request: pass it on with the same collection, prefix and filters")]
    OtherQuestion { what: &'static str },
    /// The branch has too many heads to name its state in a token.
    #[error("branch `{branch}` has too many concurrent heads for a page token")]
    TooManyHeads { branch: BranchName },
    /// A sibling that the conflict does not have.
    #[error("the conflict has {siblings} siblings, there is none at place {place}")]
    NoSibling { place: u32, siblings: usize },
    /// The caller decided on another version of the document.
    #[error("document `{document}` has changed since: it has version {found} now")]
    Changed { document: String, found: String },
    /// The receiver of a watch or diff did not keep up.
    #[error("this stream's receiver is too slow: changes were dropped")]
    SlowReceiver,
    /// More watches than the replica serves at once.
    #[error("this replica serves {limit} watches already")]
    TooManyWatches { limit: usize },
    /// The replica is going down.
    #[error("this replica is shutting down")]
    Stopping,
    /// Whoever sends a stream broke it off.
    #[error("the stream broke off: {}", .0.message())]
    Sender(Status),
    /// A message longer than is taken.
    #[error("the message is longer than the {limit} bytes of a message")]
    MessageTooLarge { limit: usize },
    /// A message that is none of this service.
    #[error("the message cannot be read: {what}")]
    Undecodable { what: String },
    /// A worker thread panicked.
    #[error("a worker of this replica broke off")]
    Broken,
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Recovering => "being restored",
        Phase::Frozen => "frozen, since its store failed or it saw proof of a forked head log",
    }
}

fn so_far(ack: Option<&Ack>) -> String {
    let Some(ack) = ack else { return "nothing is known".to_owned() };
    let local = match ack.local {
        Level::Memory => "in memory",
        Level::Process => "handed to the system",
        Level::Durable => "durable",
    };
    let accepted = if ack.accepted.is_some() { "accepted" } else { "not accepted" };
    format!("{local} on this replica, {accepted}, {} durable copies", ack.copies.len())
}

impl Error {
    /// Returns the error as one of the request with this idempotency key.
    pub(super) fn under(self, key: RequestKey) -> Self {
        match self {
            Self::OutcomeUnknown { ack, .. } => Self::OutcomeUnknown { key, ack },
            error => error,
        }
    }
}

impl From<schema::Error> for Error {
    fn from(error: schema::Error) -> Self {
        Self::Repository(error.into())
    }
}

impl From<crate::keys::Error> for Error {
    fn from(error: crate::keys::Error) -> Self {
        Self::Repository(error.into())
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Repository(error) => error.to_status(),
            Error::Malformed(error) => error.to_status(),
            error => error.to_status(),
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Repository(error) => Failure::kind(error),
            Self::Malformed(error) => error.kind(),
            Self::OtherRepository { .. } => Kind::NotFound,
            Self::OutcomeUnknown { .. } => Kind::Unknown,
            Self::Voided { .. } => Kind::Conflict,
            Self::OtherQuestion { .. } | Self::NoSibling { .. } | Self::MessageTooLarge { .. } | Self::Undecodable { .. } => Kind::Invalid,
            Self::Changed { .. } => Kind::Precondition,
            Self::TooManyHeads { .. } | Self::SlowReceiver | Self::TooManyWatches { .. } => Kind::Exhausted,
            Self::ReadOnly { .. } | Self::NotHereYet { .. } | Self::Stopping | Self::Sender(_) => Kind::Unavailable,
            Self::Broken => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Repository(error) => error.reason(),
            Self::Malformed(error) => error.reason(),
            Self::OtherRepository { .. } => "REPOSITORY_NOT_FOUND",
            Self::ReadOnly { .. } => "READ_ONLY",
            Self::OutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
            Self::Voided { .. } => "VOIDED",
            Self::NotHereYet { .. } => "NOT_HERE_YET",
            Self::OtherQuestion { .. } => "TOKEN_OF_ANOTHER_REQUEST",
            Self::TooManyHeads { .. } => "TOO_MANY_HEADS",
            Self::NoSibling { .. } => "NO_SIBLING",
            Self::Changed { .. } => "PRECONDITION_FAILED",
            Self::SlowReceiver => "SLOW_RECEIVER",
            Self::TooManyWatches { .. } => "TOO_MANY_WATCHES",
            Self::Stopping => "STOPPING",
            Self::Sender(_) => "STREAM_BROKEN",
            Self::MessageTooLarge { .. } => "MESSAGE_TOO_LARGE",
            Self::Undecodable { .. } => "MALFORMED",
            Self::Broken => "BROKEN",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Repository(error) => error.metadata(),
            Self::Malformed(error) => error.metadata(),
            Self::OtherRepository { asked, held } => vec![("asked", asked.to_string()), ("held", held.to_string())],
            Self::OutcomeUnknown { key, ack } => {
                let mut told = vec![("request_id", key.to_string())];
                if let Some(ack) = ack {
                    told.push(("commit", ack.commit.to_string()));
                    told.push(("copies", ack.copies.len().to_string()));
                    told.push(("accepted", ack.accepted.is_some().to_string()));
                }
                told
            }
            Self::Voided { request } => vec![("commit", request.commit.to_string()), ("request", request.request.to_string())],
            Self::MessageTooLarge { limit } => vec![("limit", limit.to_string())],
            Self::Changed { document, found } => vec![("document", document.clone()), ("found", found.clone())],
            _ => Vec::new(),
        }
    }

    fn field(&self) -> Option<String> {
        match self {
            Self::Repository(error) => error.field(),
            Self::Malformed(error) => error.field(),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Repository(error) => return error.hint(),
            Self::OtherRepository { .. } => "leave the repository empty for the one held here, or ask a replica of the other",
            Self::ReadOnly { phase: Phase::Recovering } => {
                "read here, or write on another replica; `herdbook reopen` ends the wait for members that do not come back"
            }
            Self::ReadOnly { .. } => "read here, or write on another replica",
            Self::OutcomeUnknown { .. } => "repeat it with the same request_id: nothing is written twice",
            Self::Voided { .. } => "`show` of the commit tells why; correct it and send it again with a new request_id",
            Self::NotHereYet { .. } => "try again when this replica has caught up, or ask the one that gave the name",
            Self::TooManyHeads { .. } => "write something on this replica, which folds them, and begin again",
            Self::NoSibling { .. } => "read the conflict again",
            Self::Changed { .. } => "read it again and decide anew",
            Self::SlowReceiver => "resume with the last resume_token received",
            Self::TooManyWatches { .. } => "end one, or watch another replica",
            Self::Stopping => "connect to another replica",
            Self::Sender(_) => "send it again: parts that were written are found",
            Self::MessageTooLarge { .. } => "split it into several requests; long content belongs into a blob",
            Self::Undecodable { .. } => "make the client anew from the .proto files of this version",
            Self::Malformed(_) | Self::OtherQuestion { .. } | Self::Broken => return None,
        };
        Some(hint.to_owned())
    }
}

impl Failure for RepositoryError {
    fn kind(&self) -> Kind {
        match self {
            Self::Exists { .. } => Kind::Exists,
            Self::Log(authority::Error::BadBranch { rule, .. }) => match rule {
                BranchRule::Exists => Kind::Exists,
                BranchRule::Absent => Kind::NotFound,
                BranchRule::Abandoned | BranchRule::Promoted | BranchRule::Empty => Kind::Precondition,
            },
            Self::Precondition { .. } | Self::NoSchema | Self::ClosedBranch { .. } => Kind::Precondition,
            Self::StaleToken { .. } => Kind::OutOfRange,
            Self::NotStored { .. } => Kind::Unknown,
            Self::Schema(schema::Error::UnknownCollection { .. }) => Kind::NotFound,
            Self::Store(herdbook_store::Error::Full { .. } | herdbook_store::Error::Busy) => Kind::Exhausted,
            Self::State(state::Error::Tree { source: tree::Error::ValueTooLong { .. }, .. }) => Kind::Invalid,
            error => match error.kind() {
                crate::Kind::Invalid => Kind::Invalid,
                crate::Kind::NotFound => Kind::NotFound,
                crate::Kind::Conflict => Kind::Conflict,
                crate::Kind::Denied => Kind::Denied,
                crate::Kind::Unavailable => Kind::Unavailable,
                crate::Kind::Exhausted => Kind::Exhausted,
                crate::Kind::Corrupt => Kind::Corrupt,
                crate::Kind::Internal => Kind::Internal,
            },
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownBranch { .. } => "BRANCH_NOT_FOUND",
            Self::ClosedBranch { .. } => "BRANCH_CLOSED",
            Self::Log(authority::Error::BadBranch { rule, .. }) => match rule {
                BranchRule::Exists => "BRANCH_EXISTS",
                BranchRule::Absent => "BRANCH_NOT_FOUND",
                BranchRule::Abandoned => "BRANCH_CLOSED",
                BranchRule::Promoted => "BRANCH_PROMOTED",
                BranchRule::Empty => "BRANCH_EMPTY",
            },
            Self::UnknownCommit { .. } => "COMMIT_NOT_FOUND",
            Self::UnknownDocument { .. } => herdbook_proto::client::DOCUMENT_NOT_FOUND,
            Self::Exists { .. } => "DOCUMENT_EXISTS",
            Self::Precondition { .. } => "PRECONDITION_FAILED",
            Self::NoConflict { .. } => "NO_CONFLICT",
            Self::Beyond { .. } => "BEYOND_THE_END",
            Self::Schema(error) => schema_reason(error),
            Self::Json(_) => "BAD_JSON",
            Self::TooLarge { .. } => "TOO_LARGE",
            Self::NoBlobs { .. } => "NO_BLOBS",
            Self::UnknownBlob { .. } => "BLOB_NOT_FOUND",
            Self::Blob(herdbook_model::blob::Error::Missing { .. }) => "BLOB_PART_NOT_FOUND",
            Self::NotAPart(_) | Self::PartsAreSwept => "NOT_A_PART",
            Self::BlobTooLong(_) => "TOO_LARGE",
            Self::NotErasable { .. } => "NOT_ERASABLE",
            Self::Empty => "EMPTY_REQUEST",
            Self::OtherSchema { .. } => "OTHER_SCHEMA",
            Self::ManyHeads { .. } => "TOO_MANY_HEADS",
            Self::BadKey(_) => "BAD_KEY",
            Self::BadName(_) => "BAD_NAME",
            Self::KeyReused => "REQUEST_ID_REUSED",
            Self::Clock => "CLOCK",
            Self::BeforeHorizon { .. } => "BEFORE_HORIZON",
            Self::StaleToken { .. } => "STALE_STATE",
            Self::BadToken { .. } => "BAD_TOKEN",
            Self::NoSchema => "NO_SCHEMA",
            Self::Recovering => "READ_ONLY",
            Self::NotStored { .. } => "OUTCOME_UNKNOWN",
            Self::Stopped => "STOPPING",
            Self::Busy | Self::Store(herdbook_store::Error::Busy) => "BUSY",
            Self::Store(herdbook_store::Error::Full { .. }) => "DISK_FULL",
            Self::Store(herdbook_store::Error::Failed { .. }) => "STORE_STOPPED",
            Self::OtherRepository { .. } => "REPOSITORY_NOT_FOUND",
            error => match error.kind() {
                crate::Kind::Corrupt => "DAMAGED",
                crate::Kind::Denied => "DENIED",
                crate::Kind::Unavailable => "UNAVAILABLE",
                _ => "INTERNAL",
            },
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::UnknownBranch { name, known } => vec![("branch", name.clone()), ("known", known.clone())],
            Self::ClosedBranch { branch } | Self::Log(authority::Error::BadBranch { branch, .. }) => vec![("branch", branch.to_string())],
            Self::UnknownCommit { id } => vec![("commit", id.clone())],
            Self::UnknownDocument { collection, key } | Self::Exists { collection, key } => {
                vec![("collection", collection.clone()), ("key", key.clone())]
            }
            Self::Precondition { collection, key, wanted, found } => {
                vec![("collection", collection.clone()), ("key", key.clone()), ("wanted", wanted.clone()), ("found", found.clone())]
            }
            Self::NoConflict { collection, key, field } => {
                vec![("collection", collection.clone()), ("key", key.clone()), ("field", field.clone())]
            }
            Self::Schema(schema::Error::UnknownCollection { name, known }) => vec![("collection", name.clone()), ("known", known.clone())],
            Self::Schema(schema::Error::UnknownField { collection, name, known }) => {
                vec![("collection", collection.clone()), ("field", name.clone()), ("known", known.clone())]
            }
            Self::Schema(schema::Error::WrongType { field, expected, found }) => {
                vec![("field", field.clone()), ("expected", expected.clone()), ("found", found.clone())]
            }
            Self::TooLarge { actual, limit, .. } => vec![("actual", actual.to_string()), ("limit", limit.to_string())],
            _ => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Log(authority::Error::BadBranch { rule, .. }) => match rule {
                BranchRule::Exists => "choose another name; those of abandoned branches stay taken",
                BranchRule::Absent => "list the branches: it may be spelled otherwise, or not have arrived here yet",
                BranchRule::Abandoned => "begin another branch from one that is open",
                BranchRule::Promoted => "promote another branch first",
                BranchRule::Empty => "commit something on it first",
            },
            Self::ClosedBranch { .. } => "write to the promoted branch: leave the branch empty",
            Self::UnknownCommit { .. } => "give all 32 bytes of a commit that this replica has; it may not have arrived yet",
            Self::Exists { .. } => "use put or update to change it",
            Self::UnknownDocument { .. } => "look at the key: `list` shows which there are; create or put makes a document",
            Self::Precondition { .. } => "read the document again and decide anew",
            Self::NoConflict { .. } => "somebody may have resolved it: read the document again",
            Self::TooLarge { .. } => "split it",
            Self::Beyond { .. } => "positions are those of the field as it is: read it again, and put splices in order",
            Self::NoBlobs { .. } => "begin a schema branch with a field of the type `blob`, or name a branch that has one",
            Self::UnknownBlob { .. } => "upload it, then write the document with the blob that the upload answers",
            Self::NotAPart(_) => "upload the bytes, which writes the parts",
            Self::Blob(herdbook_model::blob::Error::Missing { .. }) => {
                "it may not have arrived here yet: ask the replica that wrote it, or upload the same bytes again, which brings it back"
            }
            Self::Empty => "give at least one edit",
            Self::OtherSchema { .. } => "merge branches of one schema; the coordinator migrates from an older one by itself",
            Self::ManyHeads { .. } => "write to either branch once, and merge again",
            Self::KeyReused => "choose a new random request_id for each new request",
            Self::StaleToken { .. } => "begin again without the token",
            Self::NotStored { .. } => "repeat it with the same request_id: nothing is written twice",
            Self::BeforeHorizon { .. } => "ask for a later moment: history is kept from the horizon on",
            Self::Busy | Self::Store(herdbook_store::Error::Busy) => "send fewer at once, and try again in a moment",
            Self::Store(herdbook_store::Error::Full { .. }) => "free space on the replica's disk and start it again",
            Self::Store(herdbook_store::Error::Failed { .. }) => "look at the replica's log, and start it again",
            Self::LostEdits { .. } | Self::Record { .. } | Self::Hole { .. } => "run `herdbook fsck`; peers bring back what is lost here",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

fn schema_reason(error: &schema::Error) -> &'static str {
    match error {
        schema::Error::UnknownCollection { .. } | schema::Error::UnknownCollectionId { .. } => "COLLECTION_NOT_FOUND",
        schema::Error::UnknownField { .. } | schema::Error::UnknownFieldId { .. } => "FIELD_NOT_FOUND",
        schema::Error::WrongType { .. } => "WRONG_TYPE",
        schema::Error::WrongOperation { .. } => "WRONG_OPERATION",
        _ => "BAD_SCHEMA",
    }
}
