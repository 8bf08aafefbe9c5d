//! A commit in the tables: its header, its requests, and what the index says of both.

use herdbook_model::{
    codec::Encode as _,
    commit::Commit,
    graph::Meta,
    id::{CommitId, Leaf},
    request::{Request, Sealed},
    time::Time,
};
use herdbook_store::{Batch, Table};

use super::{Shared, history::Commits, layout};
use crate::error::Error;

/// Adds a commit and its index entries to a batch. `requests` are in order, `None` where the edits are not here.
pub(super) fn put_commit<'r>(
    commits: &Commits,
    batch: &mut Batch,
    meta: &Meta,
    leaves: &[Leaf],
    commit: &Commit,
    requests: impl Iterator<Item = Option<&'r Sealed>>,
) -> Result<(), Error> {
    put_header(commits, batch, meta, leaves, commit)?;
    for (at, sealed) in (0u32..).zip(requests) {
        if let Some(sealed) = sealed {
            put_request(batch, commit, at, sealed);
        }
    }
    Ok(())
}

/// Adds the header of a commit and what the index says of it to a batch.
pub(super) fn put_header(commits: &Commits, batch: &mut Batch, meta: &Meta, leaves: &[Leaf], commit: &Commit) -> Result<(), Error> {
    let id = commit.id();
    commits.put(batch, meta, leaves, commit)?;
    batch.put(Table::Index, layout::place(&meta.chain, meta.counter), id.as_bytes().to_vec());
    batch.put(Table::Index, layout::by_time(&commit.header().branch, meta.time, &id), Vec::new());
    Ok(())
}

/// Adds one request of a commit and its index entries to a batch.
pub(super) fn put_request(batch: &mut Batch, commit: &Commit, at: u32, sealed: &Sealed) {
    put_request_bytes(batch, commit, at, sealed.request(), sealed.bytes().to_vec());
}

/// As [`put_request`], of canonical bytes.
pub(super) fn put_request_bytes(batch: &mut Batch, commit: &Commit, at: u32, request: &Request, bytes: Vec<u8>) {
    let (id, header) = (commit.id(), commit.header());
    batch.reserve(2 + request.groups.iter().map(|group| group.edits.len()).sum::<usize>());
    batch.put(Table::Edits, layout::edits(&id, at), bytes);
    batch.put(Table::Index, layout::by_request(&request.key), layout::encode_outcome(&id, at));
    for (collection, edit) in request.edits() {
        let key = layout::by_edit(collection, &edit.key, header.time, &id, at);
        batch.put(Table::Index, key, header.branch.as_str().as_bytes().to_vec());
    }
}

impl Shared {
    /// Takes the edits of a request out of the tables; returns their bytes, 0 if they are not here.
    pub(super) fn unstore_request(&self, id: &CommitId, at: u32, time: Time, batch: &mut Batch) -> Result<u64, Error> {
        let Some(request) = self.commits.request(id, at)? else { return Ok(0) };
        for (collection, edit) in request.edits() {
            batch.delete(Table::Index, layout::by_edit(collection, &edit.key, time, id, at));
        }
        batch.delete(Table::Index, layout::by_request(&request.key));
        batch.delete(Table::Edits, layout::edits(id, at));
        Ok(request.to_bytes().len() as u64)
    }
}
