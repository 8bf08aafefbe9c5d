//! The graph and its commits, read from the store through a cache of what ancestor questions need.

use std::{num::NonZeroUsize, sync::Arc};

use herdbook_model::{
    codec::Decode as _,
    graph::{Graph, Meta},
    id::{ChainId, CommitId},
    request::Request,
    state::History,
};
use herdbook_store::{Store, Table};
use lru::LruCache;
use parking_lot::Mutex;

use super::layout::{self, StoredCommit};
use crate::error::Error;

/// How many commits' vectors and places are kept in memory.
const CACHED: NonZeroUsize = NonZeroUsize::new(16 << 10).expect("not zero");

/// History as this node's store has it.
pub(crate) struct Commits {
    store: Arc<dyn Store>,
    metas: Mutex<LruCache<CommitId, Meta>>,
}

impl Commits {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, metas: Mutex::new(LruCache::new(CACHED)) }
    }

    /// Notes a commit that was handed to the store but may not be visible there yet.
    pub(crate) fn note(&self, id: CommitId, meta: Meta) {
        self.metas.lock().put(id, meta);
    }

    /// Forgets commits that may not be stored after all.
    pub(crate) fn forget(&self, ids: &[CommitId]) {
        let mut metas = self.metas.lock();
        for id in ids {
            metas.pop(id);
        }
    }

    /// Returns a commit as stored, or `None` if it is not here.
    pub(crate) fn stored(&self, id: &CommitId) -> Result<Option<StoredCommit>, Error> {
        let bytes = self.store.records().get(Table::Commits, id.as_bytes())?;
        bytes.map(|bytes| layout::decode_commit(&bytes)).transpose()
    }

    /// Returns one request, `None` if it is not here.
    pub(crate) fn request(&self, commit: &CommitId, at: u32) -> Result<Option<Request>, Error> {
        let Some(bytes) = self.store.records().get(Table::Edits, &layout::edits(commit, at))? else { return Ok(None) };
        Request::from_bytes(&bytes).map(Some).map_err(|source| Error::Record { what: "request", source })
    }

    /// Returns the bytes of one request, `None` if they are not here or do not match their leaf.
    pub(crate) fn request_bytes(&self, commit: &CommitId, at: u32, stored: &StoredCommit) -> Result<Option<Vec<u8>>, Error> {
        let Some(bytes) = self.store.records().get(Table::Edits, &layout::edits(commit, at))? else { return Ok(None) };
        let leaf = stored.leaves.get(at as usize);
        let matches = Request::from_bytes(&bytes).is_ok_and(|request| Some(&request.leaf()) == leaf);
        Ok(matches.then_some(bytes))
    }
}

impl Graph for Commits {
    type Error = Error;

    fn meta(&self, commit: &CommitId) -> Result<Option<Meta>, Error> {
        if let Some(meta) = self.metas.lock().get(commit) {
            return Ok(Some(meta.clone()));
        }
        let Some(bytes) = self.store.records().get(Table::Commits, commit.as_bytes())? else { return Ok(None) };
        let meta = layout::decode_meta(&bytes)?;
        self.metas.lock().put(*commit, meta.clone());
        Ok(Some(meta))
    }

    fn at(&self, chain: &ChainId, counter: u64) -> Result<Option<CommitId>, Error> {
        let bytes = self.store.records().get(Table::Index, &layout::place(chain, counter))?;
        Ok(bytes.and_then(|bytes| CommitId::try_from(bytes.as_slice()).ok()))
    }
}

impl History for Commits {
    fn requests(&self, commit: &CommitId) -> Result<Vec<Option<Arc<Request>>>, Error> {
        let stored = self.stored(commit)?.ok_or_else(|| Error::UnknownCommit { id: commit.to_string() })?;
        let read = |at| {
            let bytes = self.request_bytes(commit, at, &stored)?;
            let decode =
                |bytes: Vec<u8>| Request::from_bytes(&bytes).map(Arc::new).map_err(|source| Error::Record { what: "request", source });
            bytes.map(decode).transpose()
        };
        (0..stored.commit.header().request_count).map(read).collect()
    }
}
