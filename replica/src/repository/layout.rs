//! Keys and values of a repository's records in the store.
//!
//! | table | key | value |
//! |---|---|---|
//! | commits | commit | its vector (see `growth`), leaves, signed header |
//! | edits | commit, request (4, big endian) | the request's canonical bytes |
//! | index | `p` chain, counter (8, big endian) | commit |
//! | index | `t` branch, 0, time (8, big endian), commit | |
//! | index | `k` collection (2, big endian), key, 0, time, commit, request (4) | branch |
//! | index | `r` idempotency key | commit, request (4) |
//! | index | `c` number of a chain (4, big endian) | chain |
//! | index | `v` number of a checkpoint (4, big endian) | a whole vector: the list of a `growth` from nothing |
//! | sessions | session | certificate |
//! | entries | seq (8, big endian) | entry |
//! | quarantine | `late-entry/`, `fork/`, `dropped/` … | evidence; see `entries` and `fork` |
//! | refs | `genesis`, `frontier/<branch>`, `materialised/<branch>` | genesis record; heads; see `materialise` |

use herdbook_model::{
    codec::{Decode as _, Encode as _, Reader, Writer},
    commit::{Commit, Unverified, Verified},
    id::{BranchName, ChainId, CommitId, Leaf, RequestKey},
    schema::CollectionId,
    time::Time,
    value::Key,
};

use super::growth::{self, Grown, Growth};
use crate::error::Error;

/// A commit as stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredCommit {
    pub(crate) growth: Growth,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) commit: Commit<Verified>,
}

pub(crate) fn encode_commit(growth: &Growth, leaves: &[Leaf], commit: &Commit<Verified>) -> Vec<u8> {
    let mut out = Writer::with_capacity(320 + 32 * leaves.len());
    growth.encode(&mut out);
    out.list(leaves.iter());
    commit.encode(&mut out);
    out.into_bytes()
}

pub(crate) fn decode_commit(bytes: &[u8]) -> Result<StoredCommit, Error> {
    let bad = |source| Error::Record { what: "commit", source };
    let mut input = Reader::new(bytes);
    let growth = Growth::decode(&mut input).map_err(bad)?;
    let leaves = input.list(Leaf::LEN).map_err(bad)?;
    let commit = Commit::<Unverified>::decode(&mut input).map_err(bad)?;
    input.end().map_err(bad)?;
    Ok(StoredCommit { growth, leaves, commit: Commit::trusted(commit) })
}

pub(crate) fn decode_checkpoint(bytes: &[u8]) -> Result<Grown, Error> {
    let mut input = Reader::new(bytes);
    let grown = growth::decode_grown(&mut input).and_then(|grown| input.end().map(|()| grown));
    grown.map_err(|source| Error::Record { what: "checkpoint of version vectors", source })
}

/// Prefix of the numbers of chains.
pub(crate) const CHAIN: &[u8] = b"c";

/// Prefix of checkpoints of version vectors.
pub(crate) const CHECKPOINT: &[u8] = b"v";

pub(crate) fn chain(number: u32) -> Vec<u8> {
    [CHAIN, &number.to_be_bytes()].concat()
}

pub(crate) fn checkpoint_vector(number: u32) -> Vec<u8> {
    [CHECKPOINT, &number.to_be_bytes()].concat()
}

/// Returns the number in a key made by [`chain`] or [`checkpoint_vector`].
pub(crate) fn parse_number(key: &[u8]) -> Option<u32> {
    let (_, number) = key.split_first()?;
    Some(u32::from_be_bytes(number.try_into().ok()?))
}

pub(crate) fn edits(commit: &CommitId, request: u32) -> Vec<u8> {
    [commit.as_bytes().as_slice(), &request.to_be_bytes()].concat()
}

pub(crate) fn place(chain: &ChainId, counter: u64) -> Vec<u8> {
    [b"p", chain.as_bytes().as_slice(), &counter.to_be_bytes()].concat()
}

pub(crate) fn by_branch(branch: &BranchName) -> Vec<u8> {
    [b"t", branch.as_str().as_bytes(), b"\0"].concat()
}

pub(crate) fn by_time(branch: &BranchName, time: Time, commit: &CommitId) -> Vec<u8> {
    let mut key = by_branch(branch);
    key.extend_from_slice(&time.raw().to_be_bytes());
    key.extend_from_slice(commit.as_bytes());
    key
}

/// Prefix of the keys made by [`by_time`].
pub(crate) const BY_TIME: &[u8] = b"t";

/// Returns time and commit of a key made by [`by_time`].
pub(crate) fn parse_tail(key: &[u8]) -> Option<(Time, CommitId)> {
    let (_, tail) = key.split_at_checked(key.len().checked_sub(40)?)?;
    let (time, commit) = tail.split_at(8);
    Some((Time::from_raw(u64::from_be_bytes(time.try_into().ok()?)), CommitId::try_from(commit).ok()?))
}

pub(crate) fn by_document(collection: CollectionId, key: &Key) -> Vec<u8> {
    [b"k", collection.0.to_be_bytes().as_slice(), key.as_bytes(), b"\0"].concat()
}

pub(crate) fn by_edit(collection: CollectionId, key: &Key, time: Time, commit: &CommitId, request: u32) -> Vec<u8> {
    let (of, time, at) = (collection.0.to_be_bytes(), time.raw().to_be_bytes(), request.to_be_bytes());
    [b"k", of.as_slice(), key.as_bytes(), b"\0", &time, commit.as_bytes(), &at].concat()
}

/// Parts of a key made by [`by_edit`].
pub(crate) struct ByEdit {
    pub(crate) collection: CollectionId,
    pub(crate) key: String,
    pub(crate) commit: CommitId,
    pub(crate) request: u32,
}

pub(crate) fn parse_by_edit(key: &[u8]) -> Option<ByEdit> {
    let rest = key.strip_prefix(b"k")?;
    let (collection, rest) = rest.split_first_chunk::<2>()?;
    let (text, tail) = rest.split_at_checked(rest.len().checked_sub(45)?)?;
    let (commit, request) = (CommitId::try_from(&tail[9..41]).ok()?, tail[41..].try_into().ok()?);
    let key = std::str::from_utf8(text).ok()?.to_owned();
    Some(ByEdit { collection: CollectionId(u16::from_be_bytes(*collection)), key, commit, request: u32::from_be_bytes(request) })
}

pub(crate) fn by_request(key: &RequestKey) -> Vec<u8> {
    [b"r", key.as_bytes().as_slice()].concat()
}

pub(crate) fn encode_outcome(commit: &CommitId, request: u32) -> Vec<u8> {
    [commit.as_bytes().as_slice(), &request.to_be_bytes()].concat()
}

pub(crate) fn parse_outcome(bytes: &[u8]) -> Option<(CommitId, u32)> {
    let (commit, request) = bytes.split_at_checked(32)?;
    Some((CommitId::try_from(commit).ok()?, u32::from_be_bytes(request.try_into().ok()?)))
}

/// The state that stands for what went of a branch.
pub(crate) fn horizon(branch: &BranchName) -> String {
    format!("horizon/{branch}")
}

/// The commits whose edits went.
pub(crate) const PRUNED: &str = "pruned";

/// What the last collection of garbage kept; there before anything was removed.
pub(crate) const COLLECTED: &str = "collected";

/// There while what was erased may still lie in the engine's files; what it holds tells one erasure from a later one.
pub(crate) const ERASED: &str = "erased";

/// Ref of the genesis record.
pub(crate) const GENESIS: &str = "genesis";

pub(crate) fn frontier(branch: &BranchName) -> String {
    format!("frontier/{branch}")
}

/// A base that waits for its history.
pub(crate) fn base(branch: &BranchName) -> String {
    format!("base/{branch}")
}

/// Heads of what is stored beyond the state of a branch whose base waits.
pub(crate) fn ahead(branch: &BranchName) -> String {
    format!("ahead/{branch}")
}

/// The last state whose root the authority signed while it was materialised here.
pub(crate) fn checkpoint(branch: &BranchName) -> String {
    format!("checkpoint/{branch}")
}

pub(crate) fn materialised(branch: &BranchName) -> String {
    format!("materialised/{branch}")
}
