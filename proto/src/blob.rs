//! Blobs as callers upload, download and sweep them.

use bytes::Bytes;
use herdbook_model::{
    blob::Blob,
    id::{BranchName, RepositoryId},
};

use crate::{
    ack::{Ack, Wait},
    document::Place,
};

/// Begins an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The branch; none: the promoted one.
    pub branch: Option<BranchName>,
    /// What to wait for once all is written.
    pub wait: Wait,
}

/// A piece of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// How it begins; read from the first piece.
    pub upload: Upload,
    /// The next bytes.
    pub content: Bytes,
}

/// What an upload made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// The blob, for a field to hold.
    pub blob: Blob,
    /// Acknowledgement of the last commit.
    pub ack: Ack,
    /// Parts it has.
    pub parts: u64,
    /// Parts that were not there before.
    pub added: u64,
    /// Bytes of those.
    pub added_bytes: u64,
}

/// Asks for bytes of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Where to read.
    pub place: Place,
    /// The blob.
    pub blob: Blob,
    /// The first byte, from 0.
    pub offset: u64,
    /// How many bytes; none: up to the end.
    pub len: Option<u64>,
}

/// Asks for a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sweep {
    /// The repository; none: the one the server holds.
    pub repository: Option<RepositoryId>,
    /// The branch; none: the promoted one.
    pub branch: Option<BranchName>,
    /// How long a part was not uploaded before it is hidden, and hidden before it goes.
    pub unused_millis: u64,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
    /// What to wait for.
    pub wait: Wait,
}

/// What a sweep did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Parts that documents refer to.
    pub used: u64,
    /// Bytes of those.
    pub used_bytes: u64,
    /// Parts that are hidden now.
    pub hidden: u64,
    /// Bytes of those.
    pub hidden_bytes: u64,
    /// Parts that are shown again.
    pub revived: u64,
    /// Parts that went for good.
    pub removed: u64,
    /// Bytes of those.
    pub removed_bytes: u64,
    /// Acknowledgement of the last commit; none: nothing was written.
    pub ack: Option<Ack>,
}
