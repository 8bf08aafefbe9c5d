//! Sizes that both sides keep to. What is above them is refused with INVALID_ARGUMENT.

/// Longest message, in bytes, either way.
pub const MESSAGE: usize = 4 << 20;

/// Longest plain content of a [block](crate::block), in bytes: what fits in a message even where it does not shrink.
pub const BLOCK: usize = MESSAGE - (64 << 10);

/// Longest document, in bytes of its stored form.
pub const DOCUMENT: usize = 1 << 20;

/// Longest key of a document, in bytes.
pub const KEY: usize = 1 << 10;

/// Longest message of a commit, in bytes.
pub const COMMIT_MESSAGE: usize = 4096;

/// Most edits of a request.
pub const EDITS: usize = 1 << 16;

/// Most preconditions of a request.
pub const PRECONDITIONS: usize = 1 << 16;

/// Most documents of one `BatchGet`.
pub const BATCH: usize = 1000;

/// Most documents or commits in a page.
pub const PAGE: u32 = 1000;

/// Documents or commits in a page whose size the caller left open.
pub const PAGE_DEFAULT: u32 = 100;

/// Bytes at which a page ends, however many documents were asked for: half a message, so that one more document still fits.
pub const PAGE_BYTES: usize = 2 << 20;

/// Bytes at which a streamed answer is cut into the next message.
pub const STREAM_BYTES: usize = 256 << 10;

/// Most documents that the answer to a revert lists.
pub const LISTED: usize = 1000;

/// Most rules of a merge.
pub const RULES: usize = 1000;

/// Most documents in conflict that the answer to a merge shows.
pub const CONFLICTED: usize = 100;

/// Most replicas that a request may wait for.
pub const COPIES: u32 = 64;

/// Longest page or resume token, in bytes.
pub const TOKEN: usize = 8 << 10;
