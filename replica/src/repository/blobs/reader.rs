//! Reading blobs back.

use std::io::{self, Read, Seek, SeekFrom};

use herdbook_model::{
    blob::{Blob, Slice, Walk},
    state::State,
};

use crate::{error::Error, repository::Repository};

/// Bytes of a blob, read from one state, which it holds fast. A read names no byte twice and no part that it does not need.
pub struct BlobReader {
    repository: Repository,
    state: State,
    blob: Blob,
    place: u64,
    walk: Walk,
    slice: Option<(Slice, usize)>,
}

impl Repository {
    /// Returns a reader of a blob as it is in `state`, from its first byte on. That all of it is there is told while it is read.
    pub fn blob(&self, state: &State, blob: Blob) -> BlobReader {
        let walk = Walk::whole(&blob);
        BlobReader { repository: self.clone(), state: state.clone(), blob, place: 0, walk, slice: None }
    }
}

impl BlobReader {
    /// Returns its length in bytes.
    pub const fn len(&self) -> u64 {
        self.blob.len
    }

    /// Whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.blob.len == 0
    }

    /// Begins anew at byte `offset`, to end after `len` bytes or at the blob's end.
    pub fn range(&mut self, offset: u64, len: u64) {
        (self.place, self.walk, self.slice) = (offset, Walk::new(&self.blob, offset, len), None);
    }

    /// Returns the next stretch, at most a part long; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Blob`] if a part is missing or damaged, and those of reading.
    pub fn next_slice(&mut self) -> Result<Option<Slice>, Error> {
        while let Some(id) = self.walk.wanted() {
            let bytes = self.repository.0.part(&self.state, &id)?;
            if let Some(slice) = self.walk.take(bytes)? {
                self.place += slice.as_bytes().len() as u64;
                return Ok(Some(slice));
            }
        }
        Ok(None)
    }
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((slice, taken)) = &mut self.slice {
                let left = &slice.as_bytes()[*taken..];
                let count = left.len().min(out.len());
                out[..count].copy_from_slice(&left[..count]);
                *taken += count;
                if count > 0 || out.is_empty() {
                    return Ok(count);
                }
            }
            self.slice = self.next_slice().map_err(io::Error::other)?.map(|slice| (slice, 0));
            if self.slice.is_none() {
                return Ok(0);
            }
        }
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let read = self.slice.as_ref().map_or(0, |(slice, taken)| (slice.as_bytes().len() - taken) as u64);
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(from) => self.blob.len.checked_add_signed(from),
            SeekFrom::Current(from) => (self.place - read).checked_add_signed(from),
        };
        let place = place.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the first byte"))?;
        self.range(place, self.blob.len.saturating_sub(place));
        Ok(place)
    }
}
