//! Values outside their leaf: one chunk each, or, beyond what a chunk holds, parts that chunks of names list.
//!
//! Law: equal values have equal chunks. One rule, by length alone: a part of at most [`VALUE_MAX`] bytes is a chunk of kind `Value`; a
//! longer one is a chunk of kind `Parts`, the names of its own parts in order, all of [`span`] bytes but the last. Concurrent edits of one
//! document add up without a bound, and replay must be total, so there is no longest value: one list reaches 34 GB, lists of lists
//! whatever a `u64` can say.

use super::{Error, Fault, Nodes, VALUE_MAX};
use crate::{
    chunk::{self, Kind, Verified},
    codec::{self, Decode as _, Reader},
    id::ChunkId,
};

/// Most names in one list: what one chunk holds.
pub(super) const LIST_MAX: usize = VALUE_MAX / ChunkId::LEN;

/// A value, or a part of one, by the name of its chunk and its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) id: ChunkId,
    /// Bytes of the value, not of the chunk.
    pub(super) len: u64,
}

impl Part {
    /// Makes the chunks of `value` and appends them to `added`, each after those it names.
    pub(super) fn split(value: &[u8], added: &mut Vec<Verified>) -> Self {
        let len = value.len() as u64;
        let chunk = if value.len() <= VALUE_MAX {
            Verified::new(Kind::Value, value)
        } else {
            let span = usize::try_from(span(len)).expect("a span is shorter than its value");
            let names: Vec<u8> = value.chunks(span).flat_map(|part| Self::split(part, added).id.0).collect();
            Verified::new(Kind::Parts, &names)
        };
        let chunk = chunk.expect("a span is chosen so that a part and the names of all parts fit a chunk");
        let id = chunk.id();
        added.push(chunk);
        Self { id, len }
    }

    /// Whether its chunk lists parts.
    const fn is_list(&self) -> bool {
        self.len > VALUE_MAX as u64
    }

    /// Returns its chunk, checked against its length.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is of another kind or length; those of [`Nodes`].
    pub(super) fn open<N: Nodes + ?Sized>(&self, nodes: &N) -> Result<Verified, Error> {
        let (expected, payload) =
            if self.is_list() { (Kind::Parts, self.len.div_ceil(span(self.len)) * ChunkId::LEN as u64) } else { (Kind::Value, self.len) };
        let chunk = nodes.value(&self.id)?;
        let corrupt = |source| Error::Corrupt { id: self.id, source };
        let actual = chunk.expect(expected).map_err(|fault| corrupt(fault.into()))?.len() as u64;
        if actual != payload {
            return Err(corrupt(Fault::ValueLength { expected: payload, actual }));
        }
        Ok(chunk)
    }

    /// Returns the whole value. Memory follows what is read, not what is claimed.
    ///
    /// # Errors
    /// As [`Part::open`]; [`Error::ValueTooLong`] if memory cannot hold it.
    pub(super) fn join<N: Nodes + ?Sized>(self, nodes: &N) -> Result<Vec<u8>, Error> {
        let too_long = Error::ValueTooLong { actual: self.len };
        if isize::try_from(self.len).is_err() {
            return Err(too_long);
        }
        let (mut value, mut walk) = (Vec::new(), Walk::over(self));
        while let Some(part) = walk.next(nodes)? {
            if !part.is_list() {
                let chunk = part.open(nodes)?;
                if value.try_reserve(chunk.payload().len()).is_err() {
                    return Err(too_long);
                }
                value.extend_from_slice(chunk.payload());
            }
        }
        Ok(value)
    }

    /// Reads all its chunks.
    ///
    /// # Errors
    /// As [`Part::open`].
    pub(super) fn audit<N: Nodes + ?Sized>(self, nodes: &N) -> Result<(), Error> {
        let mut walk = Walk::over(self);
        while let Some(part) = walk.next(nodes)? {
            if !part.is_list() {
                part.open(nodes)?;
            }
        }
        Ok(())
    }
}

/// The chunks of a value, each before those it names. Lists are read as the walk comes to them, values never. Memory: one list a level.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// What is to come, the next one last.
    rest: Vec<Part>,
}

impl Walk {
    /// Starts at `part`.
    pub(super) fn over(part: Part) -> Self {
        Self { rest: vec![part] }
    }

    /// Goes to the next chunk.
    ///
    /// # Errors
    /// As [`Part::open`], for a list.
    pub(super) fn next<N: Nodes + ?Sized>(&mut self, nodes: &N) -> Result<Option<Part>, Error> {
        let Some(part) = self.rest.pop() else { return Ok(None) };
        if part.is_list() {
            let (list, span) = (part.open(nodes)?, span(part.len));
            let names = names(&list).map_err(|source| Error::Corrupt { id: part.id, source })?;
            let lens = (0..).map(|at: u64| (part.len - at * span).min(span));
            let first = self.rest.len();
            self.rest.extend(names.into_iter().zip(lens).map(|(id, len)| Part { id, len }));
            self.rest[first..].reverse();
        }
        Ok(Some(part))
    }
}

/// Returns the names in a list of parts.
///
/// # Errors
/// If they do not fill it, or there are fewer than two.
pub(super) fn names(list: &Verified) -> Result<Vec<ChunkId>, Fault> {
    let mut input = Reader::new(list.expect(Kind::Parts)?);
    if input.left() < 2 * ChunkId::LEN || !input.left().is_multiple_of(ChunkId::LEN) {
        return Err(codec::Error::Malformed { what: "list of parts" }.into());
    }
    (0..input.left() / ChunkId::LEN).map(|_| ChunkId::decode(&mut input).map_err(Fault::from)).collect()
}

/// Returns how many bytes each part but the last has of a value of `len` bytes, more than one chunk holds: the greatest
/// [`VALUE_MAX`] · [`LIST_MAX`]ⁿ below `len`.
fn span(len: u64) -> u64 {
    let mut span = VALUE_MAX as u64;
    while let Some(next) = span.checked_mul(LIST_MAX as u64).filter(|next| *next < len) {
        span = next;
    }
    span
}

/// A part fits a chunk exactly where a chunk fits a part.
const _: () = assert!(VALUE_MAX + chunk::HEADER_LEN == chunk::MAX_LEN);

#[cfg(test)]
mod tests;
