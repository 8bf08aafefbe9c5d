//! What an operator may set about a store on disk.

use serde::{Deserialize, Serialize};

/// Settings of a [`RocksStore`](super::RocksStore). Memory of a store is about `cache_bytes + queue_bytes + group_bytes` plus a few
/// MiB for open files: below 128 MiB with these defaults, whatever the size of the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Memory for cached blocks, filters and indexes, in bytes; `write_buffer_bytes` are part of it.
    pub cache_bytes: usize,
    /// Memory for writes that are in the log but not yet in files, in bytes. More makes fewer, larger files and a longer opening.
    pub write_buffer_bytes: usize,
    /// Most data files that are open at once.
    pub max_open_files: u32,
    /// Most batches that may wait to be written.
    pub queue_batches: usize,
    /// Most bytes of batches that may wait to be written; also the most bytes of one batch.
    pub queue_bytes: usize,
    /// Most bytes of waiting batches that are written and synced together.
    pub group_bytes: usize,
    /// Threads for flush and compaction.
    pub background_jobs: u32,
    /// Whether a folder that is not yet a store becomes one.
    pub create: bool,
    /// Whether a damaged store is opened with what is left of it. What is missing is told by
    /// [`RocksStore::recovery`](super::RocksStore::recovery) and must then be fetched from peers. One whose data files do not open, or of
    /// whose synced log a file is gone, stays refused.
    pub repair: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            write_buffer_bytes: 32 << 20,
            max_open_files: 512,
            queue_batches: 4096,
            queue_bytes: 32 << 20,
            group_bytes: 4 << 20,
            background_jobs: 2,
            create: true,
            repair: false,
        }
    }
}
