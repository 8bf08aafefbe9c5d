//! Why a node itself refuses a call, where the repository has no word in it.

use herdbook_model::id::RepositoryId;
use herdbook_proto::{
    Malformed,
    status::{Failure, Kind},
};

/// Why a call of an operator or another member is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// Another repository was named.
    #[error("this node holds repository {held}")]
    OtherRepository { held: RepositoryId },
    /// Only the authority can do that.
    #[error("this node holds no authority: ask {whom}")]
    NoAuthority { whom: String },
    /// Whoever asks to join does not hold the key of the replica named.
    #[error("the join request is not signed by the replica it names")]
    Unsigned,
    /// The operator took the node off the network.
    #[error("this node was taken off the network by its operator")]
    Offline,
    /// The work for the call ended before its time.
    #[error("the work was broken off")]
    BrokenOff,
    /// An exchange cannot begin.
    #[error("no exchange can begin here")]
    NoExchange(#[source] crate::keys::Error),
    /// What is to be said does not fit the wire.
    #[error("a message does not fit the wire")]
    Unsayable(#[source] Malformed),
}

impl Failure for Refusal {
    fn kind(&self) -> Kind {
        match self {
            Self::OtherRepository { .. } => Kind::NotFound,
            Self::NoAuthority { .. } => Kind::Precondition,
            Self::Unsigned => Kind::Unauthenticated,
            Self::Offline => Kind::Unavailable,
            Self::BrokenOff | Self::NoExchange(_) | Self::Unsayable(_) => Kind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::OtherRepository { .. } => "OTHER_REPOSITORY",
            Self::NoAuthority { .. } => "NO_AUTHORITY",
            Self::Unsigned => "NOT_SIGNED",
            Self::Offline => "OFFLINE",
            Self::BrokenOff => "BROKEN_OFF",
            Self::NoExchange(_) => "NO_EXCHANGE",
            Self::Unsayable(_) => "UNSAYABLE",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::OtherRepository { held } => vec![("held", held.to_string())],
            Self::NoAuthority { whom } => vec![("coordinator", whom.clone())],
            _ => Vec::new(),
        }
    }
}
