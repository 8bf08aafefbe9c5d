//! Reading a stretch of a blob, part by part.

use std::{ops::Range, sync::Arc};

use super::{Blob, Held, MAX_LEVEL, id_of, read};
use crate::{codec::Error as Codec, id::PartId};

/// Why a blob cannot be read on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A part is not in the state.
    #[error("part {id} of the blob is not there")]
    Missing {
        /// Its name.
        id: PartId,
    },
    /// Under a part's name lies something else.
    #[error("what lies under part {id} of the blob is something else")]
    Damaged {
        /// Its name.
        id: PartId,
    },
    /// A part is none, or another than the list above it says.
    #[error("part {id} of the blob does not fit those above it: {why}")]
    Malformed {
        /// Its name.
        id: PartId,
        /// What is wrong.
        why: &'static str,
    },
}

/// A stretch of content within its part.
#[derive(Debug, Clone)]
pub struct Slice {
    bytes: Arc<[u8]>,
    range: Range<usize>,
}

/// A walk over the bytes of a blob from one place to another. Reads no part that lies outside.
#[derive(Debug, Clone)]
pub struct Walk {
    /// What is ahead, the next one last.
    ahead: Vec<Step>,
    /// Bytes ahead that are passed over.
    skip: u64,
    /// Bytes that are read after those.
    left: u64,
    /// Whether the root was read: it always is, since a blob whose root is not what it should be is none.
    is_begun: bool,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    id: PartId,
    len: u64,
    /// Its level, where a list above says it.
    level: Option<u8>,
}

impl Slice {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Walk {
    /// Begins at byte `offset`; ends after `len` bytes or at the blob's end.
    pub fn new(blob: &Blob, offset: u64, len: u64) -> Self {
        let left = len.min(blob.len.saturating_sub(offset));
        Self { ahead: vec![Step { id: blob.root, len: blob.len, level: None }], skip: offset, left, is_begun: false }
    }

    /// Begins a walk over all parts, which also tells whether they fit together.
    pub fn whole(blob: &Blob) -> Self {
        Self::new(blob, 0, blob.len)
    }

    /// Returns the part to be read next, `None` at the end: its bytes go to [`Walk::take`].
    pub fn wanted(&mut self) -> Option<PartId> {
        while let Some(step) = self.ahead.last() {
            if !self.is_begun {
                return Some(step.id);
            }
            if self.left == 0 {
                return None;
            }
            if self.skip < step.len {
                return Some(step.id);
            }
            self.skip -= step.len;
            self.ahead.pop();
        }
        None
    }

    /// Takes the bytes of the part that [`Walk::wanted`] named, `None` if they are not to be had. Returns the content in it that is asked for, `None`
    /// for a list.
    ///
    /// # Errors
    /// [`Error`]; the walk then stays where it is.
    pub fn take(&mut self, bytes: Option<Arc<[u8]>>) -> Result<Option<Slice>, Error> {
        let Some(Step { id, len, level }) = self.ahead.last().copied() else { return Ok(None) };
        let bytes = bytes.ok_or(Error::Missing { id })?;
        if id_of(&bytes) != id {
            return Err(Error::Damaged { id });
        }
        let malformed = |why| Error::Malformed { id, why };
        match read(&bytes)
            .map_err(|error: Codec| malformed(if matches!(error, Codec::Limit { .. }) { "it is too large" } else { "it is no part" }))?
        {
            Held::Content(content) => {
                if level.is_some_and(|level| level != 0) {
                    return Err(malformed("it holds content in place of a list"));
                }
                if content.len() as u64 != len {
                    return Err(malformed("it has another length"));
                }
                // Of the root it may be all that is passed over.
                let start = usize::try_from(self.skip).unwrap_or(usize::MAX).min(content.len());
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(content.len() - start);
                (self.skip, self.left) = (self.skip - start as u64, self.left - taken as u64);
                self.ahead.pop();
                self.is_begun = true;
                // Content begins after the level.
                Ok(Some(Slice { bytes, range: 1 + start..1 + start + taken }))
            }
            Held::Value { .. } => Err(malformed("it holds a value")),
            Held::List { level: own, children } => {
                if level.is_some_and(|level| level != own) || own > MAX_LEVEL {
                    return Err(malformed("it is of another level"));
                }
                let sum = children.iter().try_fold(0u64, |sum, child| sum.checked_add(child.len));
                if sum != Some(len) {
                    return Err(malformed("its parts have another length"));
                }
                self.ahead.pop();
                self.is_begun = true;
                self.ahead.extend(children.iter().rev().map(|child| Step { id: child.id, len: child.len, level: Some(own - 1) }));
                Ok(None)
            }
        }
    }
}
