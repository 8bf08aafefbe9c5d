//! Blobs for the application: bytes of any length beside documents.

use std::io::Read;

use herdbook_model::blob::Blob;
use herdbook_store::Durability;

use super::Replica;
use crate::{
    error::Error,
    repository::{BlobReader, Swept, Upload, Uploaded},
};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// Why nothing was uploaded.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The bytes cannot be read.
    #[error("the bytes cannot be read")]
    Read(#[from] std::io::Error),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] Error),
}

impl Replica {
    /// Uploads bytes, for a field of the type `blob` to hold; parts that are there already are not written again. Memory: some parts.
    ///
    /// In JSON a field holds it as its text: `json!({"photo": uploaded.blob.to_string()})`.
    ///
    /// # Errors
    /// [`UploadError::Read`]; [`Error::NoBlobs`] if no field of the schema holds blobs, [`Error::BlobTooLong`], the store's.
    pub fn upload(&self, mut content: impl Read) -> Result<Uploaded, UploadError> {
        let mut upload = Upload::begin(self.repository(), self.core.branch().cloned())?;
        let mut piece = vec![0; PIECE];
        loop {
            let len = match content.read(&mut piece) {
                Ok(0) => break,
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            for ask in upload.push(&piece[..len])? {
                self.repository().commit_one(ask, Durability::Process)?;
            }
        }
        let (asks, uploaded) = upload.finish()?;
        for ask in asks {
            self.repository().commit_one(ask, Durability::Process)?;
        }
        self.capture.edited();
        Ok(uploaded)
    }

    /// Returns a reader of a blob as it is now; it can seek, and reads the parts it needs.
    ///
    /// # Errors
    /// [`Error::NoSchema`]. That a part is missing or damaged is told by the reader.
    pub fn blob(&self, blob: Blob) -> Result<BlobReader, Error> {
        let view = self.repository().view();
        Ok(self.repository().blob(view.state(self.core.branch())?, blob))
    }

    /// Hides parts of blobs to which no document refers and that were not uploaded for `unused_millis`, and takes away those hidden for as
    /// long. Commits what waits first.
    ///
    /// # Errors
    /// As [`Repository::sweep`](crate::Repository::sweep), and the store's.
    pub fn sweep(&self, unused_millis: u64) -> Result<Swept, Error> {
        self.core.capture()?;
        let mut sweep = self.repository().sweep(&self.repository().view(), self.core.branch(), unused_millis)?;
        while let Some(ask) = self.repository().sweep_on(&mut sweep)? {
            self.repository().commit_one(ask, Durability::Process)?;
        }
        Ok(sweep.swept)
    }
}
