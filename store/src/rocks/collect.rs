//! Garbage collection on disk. A removed chunk is a mark in the engine's log; its room comes back when the file that holds its value is written
//! anew without it. That is done for the oldest files, a share of them at a time, so that little lies there twice.

use std::sync::Arc;

use herdbook_model::id::ChunkId;
use rocksdb::{BottommostLevelCompaction, CompactOptions, ReadOptions};

use super::RocksStore;
use crate::{Batch, Collect, Durability, Error, Marks, Place, Reclaim, Records as _, Room, Swept, Table};

/// Share of the files with values that is written anew at a time: what lies there twice meanwhile, at most.
const PART: f64 = 0.15;

/// Share of the oldest files that the engine writes anew by itself when it merges others.
pub(super) const USUAL_PART: f64 = 0.25;

/// Parts in which the files of edits are written anew: their keys begin with a hash, so each is as large.
const EDIT_PARTS: u8 = 16;

/// Most parts of chunks, and of long edits, in one collection: what is written meanwhile leaves garbage too.
const PARTS: u32 = 16;

impl Collect for RocksStore {
    fn begin(&self, marks: Arc<Marks>) -> Result<(), Error> {
        // Neither is a write half-way that did not see the marks, nor files that are taken in.
        let _ingesting = self.ingesting.lock();
        self.writer.between(|| {
            let mut held = self.engine.marks.write();
            if held.is_some() {
                return Err(Error::Collecting);
            }
            *held = Some(marks);
            Ok(())
        })
    }

    fn sweep(&self, after: Option<ChunkId>, limit: usize, removes: bool) -> Result<Swept, Error> {
        let _ingesting = self.ingesting.lock();
        let marks = self.engine.marks.read().clone().ok_or(Error::NotCollecting)?;
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mut rows = self.engine.db.raw_iterator_cf_opt(self.engine.family(Place::Chunks), options);
        match after {
            Some(after) => {
                rows.seek(after.as_bytes());
                if rows.key() == Some(after.as_bytes()) {
                    rows.next();
                }
            }
            None => rows.seek_to_first(),
        }
        let (mut swept, mut batch) = (Swept::default(), Batch::new());
        while let Some((key, value)) = rows.item()
            && swept.seen < limit as u64
        {
            swept.seen += 1;
            // A key that is no id is none of ours to remove.
            let Ok(id) = ChunkId::try_from(key) else {
                rows.next();
                continue;
            };
            swept.last = Some(id);
            if !marks.contains(&id) {
                swept.unmarked += 1;
                swept.bytes += value.len() as u64;
                batch.sweep_chunk(id);
            }
            rows.next();
        }
        rows.status().map_err(|error| self.engine.error("read", Place::Chunks, error))?;
        if removes && !batch.is_empty() {
            self.write(batch, Durability::Process)?;
        }
        Ok(swept)
    }

    fn end(&self) {
        *self.engine.marks.write() = None;
    }

    fn reclaim(&self, progress: &mut Reclaim) -> Result<bool, Error> {
        let edits = Place::Table(Table::Edits);
        if progress.all && progress.chunks == 0 {
            (progress.least_chunks, progress.least_long_edits) = (self.parts(Place::Chunks)?, self.parts(edits)?);
        }
        // Without any file, what was removed lay in the log or in the files of keys: one pass puts that right.
        if progress.chunks < progress.least_chunks.max(1) || progress.chunks < PARTS && self.has_garbage(Place::Chunks)? {
            progress.chunks += 1;
            return self.reclaim_part(Place::Chunks);
        }
        if self.reclaim_edits(progress) {
            return Ok(true);
        }
        if progress.long_edits < progress.least_long_edits || progress.long_edits < PARTS && self.has_garbage(edits)? {
            progress.long_edits += 1;
            return self.reclaim_part(edits);
        }
        Ok(false)
    }

    fn room(&self) -> Result<Room, Error> {
        let chunks = self.number(Place::Chunks, "rocksdb.estimate-num-keys")?;
        let bytes = self.engine.folder.file_sizes(&["sst", "blob", "log"])?.iter().sum();
        Ok(Room { chunks, bytes })
    }
}

impl RocksStore {
    /// Whether files with values of `place` hold more of what was removed than is worth a pass.
    fn has_garbage(&self, place: Place) -> Result<bool, Error> {
        let garbage = self.number(place, "rocksdb.live-blob-file-garbage-size")?;
        Ok(garbage > self.number(place, "rocksdb.live-blob-file-size")? / 100)
    }

    /// Returns in how many parts all files with values of `place` are written anew.
    fn parts(&self, place: Place) -> Result<u32, Error> {
        let files = self.number(place, "rocksdb.num-blob-files")?;
        let at_once = ((files as f64 * PART) as u64).max(1);
        Ok(u32::try_from(files.div_ceil(at_once)).unwrap_or(PARTS).min(PARTS))
    }

    /// Writes the oldest files with values of `place` anew, a share of them. Returns that there may be more.
    fn reclaim_part(&self, place: Place) -> Result<bool, Error> {
        // The engine rounds the number of files down; there must be one at least.
        let share = PART.max(1.001 / self.number(place, "rocksdb.num-blob-files")?.max(1) as f64).min(1.0);
        self.engine.set_blob_part(place, share)?;
        self.engine.db.compact_range_cf_opt(self.engine.family(place), None::<&[u8]>, None::<&[u8]>, &thorough());
        self.engine.set_blob_part(place, USUAL_PART)?;
        Ok(true)
    }

    /// Writes the next stretch of the edits' files with keys anew, if edits were removed. Returns whether there may be more.
    fn reclaim_edits(&self, progress: &mut Reclaim) -> bool {
        let Some(part) = progress.edits.filter(|part| *part < EDIT_PARTS) else { return false };
        progress.edits = Some(part + 1);
        let width = u8::MAX / EDIT_PARTS + 1;
        let (from, to) = ([part * width], (part + 1 < EDIT_PARTS).then(|| [(part + 1) * width]));
        self.engine.db.compact_range_cf_opt(self.engine.family(Place::Table(Table::Edits)), Some(from), to, &thorough());
        true
    }
}

/// Returns how files are written anew while others are written as well.
fn thorough() -> CompactOptions {
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
    options
}
