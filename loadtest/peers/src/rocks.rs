//! RocksDB, the engine below: what is left of its speed once documents are signed, versioned and replicated.

use std::{path::Path, time::Instant};

use herdbook_loadtest::workload::{N, key, perm};
use rocksdb::{BlockBasedOptions, Cache, DB, Options, WriteBatch};

use crate::{
    error::Error,
    library::{Library, Task, all, rate, text},
};

/// Memory for blocks: all documents fit.
const CACHE: usize = 512 << 20;

/// RocksDB.
#[derive(Debug)]
pub(crate) struct Rocks;

impl Rocks {
    fn base(folder: &Path) -> Result<DB, Error> {
        let mut tables = BlockBasedOptions::default();
        tables.set_block_cache(&Cache::new_lru_cache(CACHE));
        tables.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&tables);
        let db = DB::open(&options, folder.join("rocks")).map_err(failed)?;
        let mut batch = WriteBatch::default();
        all().for_each(|(key, text)| batch.put(key, text));
        db.write(batch).map_err(failed)?;
        Ok(db)
    }

    /// Returns how many megabytes a second are read from one database and written into another, by key and durably at the end.
    pub(crate) fn copy(folder: &Path) -> Result<f64, Error> {
        let from = Self::base(folder)?;
        from.flush().map_err(failed)?;
        let begun = Instant::now();
        let to = DB::open_default(folder.join("copy")).map_err(failed)?;
        let (mut bytes, mut batch) = (0, WriteBatch::default());
        for entry in from.iterator(rocksdb::IteratorMode::Start) {
            let (key, value) = entry.map_err(failed)?;
            bytes += key.len() + value.len();
            batch.put(key, value);
            if batch.len() >= 1000 {
                to.write(std::mem::take(&mut batch)).map_err(failed)?;
            }
        }
        to.write(batch).map_err(failed)?;
        to.flush_wal(true).map_err(failed)?;
        Ok(bytes as f64 / 1e6 / begun.elapsed().as_secs_f64())
    }
}

impl Library for Rocks {
    fn version(&self) -> String {
        "RocksDB 11, crate rocksdb 0.25".to_owned()
    }

    fn sample(&self, task: Task, folder: &Path) -> Result<Option<f64>, Error> {
        match task {
            Task::Commit => {
                let db = Self::base(folder)?;
                rate(|j| {
                    let i = perm(j % N);
                    db.put(key(i), text(i, 3 + j / N)).map_err(failed)
                })
            }
            Task::Read => {
                let db = Self::base(folder)?;
                db.flush().map_err(failed)?;
                db.compact_range::<&[u8], &[u8]>(None, None);
                rate(|j| match db.get_pinned(key(perm(j % N))) {
                    Ok(Some(_)) => Ok(()),
                    Ok(None) => Err(failed("a document is not there")),
                    Err(error) => Err(failed(error)),
                })
            }
            _ => Ok(None),
        }
    }
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::Library { name: "rocksdb", why: why.to_string() }
}
