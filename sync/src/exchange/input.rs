//! What an exchange is told, and what it wants done.

use std::sync::Arc;

use herdbook_model::{
    authority::{self, Entry},
    chunk::Verified,
    id::{CommitId, ReplicaId},
    vector::{Range, VersionVector},
};

use super::Accepted;
use crate::{
    evidence::{Diverged, Evidence},
    message::{Announced, Message, Offer, Purpose, Refusal},
};

/// Something that happened.
#[expect(clippy::large_enum_variant, reason = "the large one is a hello, said once")]
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The peer said this.
    Received(Message),
    /// [`super::TICK`] went by.
    Tick,
    /// Commits are in the store that were not: made here, or stored for another exchange. In causal order.
    Changed {
        /// Which.
        commits: Vec<Announced>,
        /// Whether the peer surely lacks them, so that they go out at once; otherwise they are announced first.
        eager: bool,
    },
    /// The head log grew.
    LogChanged,
    /// The head log refused entries that came out of this exchange.
    LogRefused(authority::Error),
    /// What [`Output::Store`] or [`Output::StoreChunks`] handed out is stored, durably, or was refused by the store.
    Stored {
        /// The number it was handed out under.
        batch: u64,
    },
    /// The states of the peer are to be fetched as they lie; what is here of them does not travel.
    FetchStates,
    /// Commits are to be asked for, though their headers may be here: for requests that are absent.
    Ask {
        /// Which.
        ranges: Vec<Range>,
    },
    /// The exchange is to end.
    Close,
}

/// Something to be done at this node. What is to be said to the peer comes from [`super::Exchange::poll_message`].
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// The peer proved who it is.
    Opened {
        /// Who.
        peer: ReplicaId,
        /// What it came for.
        purpose: Purpose,
    },
    /// Store these, ancestors first, and say [`Input::Stored`]. Signatures, certificates, leaves and links were checked against the
    /// store as it was; the writer checks the links again, since another exchange may have come first.
    Store {
        /// Number of the batch.
        batch: u64,
        /// The commits.
        commits: Vec<Accepted>,
    },
    /// Store these chunks, which name nothing that is not stored, and say [`Input::Stored`].
    StoreChunks {
        /// Number of the batch.
        batch: u64,
        /// The chunks; their hashes were checked.
        chunks: Vec<Verified>,
    },
    /// Give these entries to the head log, of which no more come until that is done; then say [`Input::LogChanged`] or [`Input::LogRefused`]. Signatures were not checked. Where
    /// the first does not extend the log, a log of another epoch came to light: late evidence after a restore.
    Entries(Vec<Entry>),
    /// The peer was asked for these: see [`crate::local::Local::is_coming`].
    Asking(Vec<Range>),
    /// The peer says that it holds all of this durably.
    Holds(VersionVector),
    /// The peer has this commit without all its requests; it was not taken. Another may have it whole.
    Withheld(CommitId),
    /// The peer's log is here, and all commits that it held when it first told all that it holds. Said once, to who restores itself.
    Covered,
    /// Both sides hold the same: the peer holds all of this durably, which is what this side held when it made the summary that agrees.
    Settled(Arc<VersionVector>),
    /// The states of the peer are here, whole. Whether their roots are those the authority signed is for the node to check.
    States(Vec<Offer>),
    /// Keep this.
    Evidence(Evidence),
    /// Raise the alarm: one state has two roots.
    Alarm(Diverged),
    /// The exchange is over; close the connection when the last messages are sent.
    Closed(Ending),
}

/// Why an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// This side refused.
    #[error("this node refused")]
    Refused(#[source] Refusal),
    /// The peer refused.
    #[error("the peer refused")]
    RefusedByPeer(#[source] Refusal),
    /// The peer said nothing for too long.
    #[error("the peer fell silent")]
    Silent,
    /// The driver ended it.
    #[error("ended by this node")]
    Local,
}
