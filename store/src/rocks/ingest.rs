//! Bulk chunks: sorted into files of their own, which the engine takes in whole, past its log.

use std::fs;

use herdbook_model::chunk::Verified;
use rocksdb::{IngestExternalFileOptions, SstFileWriter};

use super::{RocksStore, folder};
use crate::{Error, Place};

/// Bytes of chunks that are sorted in memory and become one file.
const FILE_BYTES: usize = 16 << 20;

impl RocksStore {
    /// Takes chunks in by files of [`FILE_BYTES`].
    pub(super) fn ingest_files(&self, chunks: &mut dyn Iterator<Item = Verified>) -> Result<u64, Error> {
        let _one_at_a_time = self.ingesting.lock();
        let mut count = 0;
        let mut sorted = Vec::new();
        let mut bytes = 0;
        for chunk in chunks {
            count += 1;
            bytes += chunk.bytes().len();
            sorted.push(chunk);
            if bytes >= FILE_BYTES {
                self.ingest_file(std::mem::take(&mut sorted))?;
                bytes = 0;
            }
        }
        self.ingest_file(sorted)?;
        Ok(count)
    }

    fn ingest_file(&self, mut chunks: Vec<Verified>) -> Result<(), Error> {
        if let Some(error) = self.writer.failure() {
            return Err(error);
        }
        if chunks.is_empty() {
            return Ok(());
        }
        chunks.sort_unstable_by_key(Verified::id);
        chunks.dedup_by_key(|chunk| chunk.id());

        let waiting = self.engine.folder.ingest();
        fs::create_dir_all(&waiting).map_err(|error| Error::io("make", &waiting, error))?;
        let path = waiting.join("chunks.sst");
        let failed = |error| self.engine.engine_error("take files into", error);
        let options = self.setup.chunks();
        let mut file = SstFileWriter::create(&options);
        file.open(&path).map_err(failed)?;
        for chunk in &chunks {
            file.put(chunk.id().as_bytes(), chunk.bytes()).map_err(failed)?;
        }
        file.finish().map_err(failed)?;

        // A sweep waits until they are in: both have the lock on what is taken in.
        if let Some(marks) = self.engine.marks.read().as_deref() {
            chunks.iter().for_each(|chunk| marks.insert(&chunk.id()));
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.engine.db.ingest_external_file_cf_opts(self.engine.family(Place::Chunks), &options, vec![path]).map_err(failed)?;
        folder::remove_if_present(&waiting)
    }
}
