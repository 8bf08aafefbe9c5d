//! Uploads: bytes come in, asks that write parts go out.

use std::collections::HashSet;

use herdbook_model::{
    blob::{self, Blob, Builder, Part},
    id::BranchName,
    schema::BLOBS,
};

use super::{REQUEST, ask, micros, write};
use crate::{
    error::Error,
    repository::{Ask, Repository},
};

/// An upload under way: bytes come in, asks that write parts go out. Memory: some parts.
pub struct Upload {
    repository: Repository,
    branch: BranchName,
    builder: Builder,
    made: Vec<Part>,
    parts: u64,
    added: u64,
    added_bytes: u64,
}

/// What an upload made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    /// The blob, for a field to hold.
    pub blob: Blob,
    /// Parts it has.
    pub parts: u64,
    /// Parts that were not there before.
    pub added: u64,
    /// Bytes of those.
    pub added_bytes: u64,
}

impl Upload {
    /// Begins one, into `branch`; into the promoted one if none is named.
    ///
    /// # Errors
    /// [`Error::NoBlobs`] if no field of the branch's schema holds blobs; those of [`View::state`].
    pub fn begin(repository: &Repository, branch: Option<BranchName>) -> Result<Self, Error> {
        let view = repository.view();
        let state = view.state(branch.as_ref())?;
        if state.schema().blobs().is_none() {
            return Err(Error::NoBlobs { branch: state.branch().clone() });
        }
        // Whatever is promoted meanwhile, all parts go to one branch.
        let (repository, branch, builder) = (repository.clone(), state.branch().clone(), Builder::default());
        Ok(Self { repository, branch, builder, made: Vec::new(), parts: 0, added: 0, added_bytes: 0 })
    }

    /// Takes the next bytes; returns what is to be committed, in order.
    ///
    /// # Errors
    /// [`Error::BlobTooLong`], and those of reading.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Ask>, Error> {
        self.builder.push(bytes, &mut self.made)?;
        self.asks(false)
    }

    /// Returns what is left to be committed, and the blob, which can be referred to after that. There is one ask at least.
    ///
    /// # Errors
    /// Those of reading.
    pub fn finish(mut self) -> Result<(Vec<Ask>, Uploaded), Error> {
        let blob = std::mem::take(&mut self.builder).finish(&mut self.made);
        let asks = self.asks(true)?;
        Ok((asks, Uploaded { blob, parts: self.parts, added: self.added, added_bytes: self.added_bytes }))
    }

    fn asks(&mut self, all: bool) -> Result<Vec<Ask>, Error> {
        let waiting: usize = self.made.iter().map(|part| part.bytes.len()).sum();
        if self.made.is_empty() || !all && waiting < REQUEST {
            return Ok(Vec::new());
        }
        let view = self.repository.view();
        let state = view.state(Some(&self.branch))?;
        let now = micros(self.repository.now());
        let (mut asks, mut edits, mut bytes) = (Vec::new(), Vec::new(), 0);
        // The same part comes more than once where content repeats itself.
        let mut seen = HashSet::new();
        for part in self.made.drain(..) {
            self.parts += 1;
            if !seen.insert(part.id) {
                continue;
            }
            let key = blob::key_of(&part.id);
            if self.repository.get(state, BLOBS, &key)?.is_none() {
                self.added += 1;
                self.added_bytes += part.bytes.len() as u64;
            }
            if bytes + part.bytes.len() > REQUEST && !edits.is_empty() {
                asks.push(ask(Some(self.branch.clone()), std::mem::take(&mut edits))?);
                bytes = 0;
            }
            bytes += part.bytes.len();
            edits.push(write(key, part.bytes, now));
        }
        asks.push(ask(Some(self.branch.clone()), edits)?);
        Ok(asks)
    }
}
