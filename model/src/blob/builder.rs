//! Making a blob's parts out of its bytes, as they come.

use fastcdc::v2020::FastCDC;

use super::{Blob, Child, MAX_CHILDREN, MAX_LEN, MAX_LEVEL, MAX_PART, MEAN_PART, MIN_PART, Part};
use crate::codec::{Encode as _, Writer};

/// One list in so many ends, on average, after a child whose name says so.
const ENDS: u8 = 0;

/// Levels of lists that end so, from the lowest.
const CUT_LEVELS: usize = 3;

/// The parts of the longest blob, by lists of two on the levels that are cut and full ones above, and one level for what is left over.
const _: () =
    assert!(((MAX_LEN / MIN_PART as u64) >> CUT_LEVELS).ilog2().div_ceil(MAX_CHILDREN.ilog2()) as usize + CUT_LEVELS < MAX_LEVEL as usize);

/// Cuts bytes into parts. Memory: one part of the greatest length, and one list of each level.
#[derive(Debug, Default)]
pub struct Builder {
    /// Bytes that no part has yet.
    pending: Vec<u8>,
    len: u64,
    /// Of each level, from content up, the parts that no list has yet.
    levels: Vec<Vec<Child>>,
}

/// A blob longer than [`MAX_LEN`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a blob has at most {MAX_LEN} bytes")]
pub struct TooLong;

impl Builder {
    /// Takes the next bytes, and appends to `made` the parts that are complete, each after those it names.
    ///
    /// # Errors
    /// [`TooLong`]; the builder is of no use then.
    pub fn push(&mut self, mut bytes: &[u8], made: &mut Vec<Part>) -> Result<(), TooLong> {
        self.len = self.len.checked_add(bytes.len() as u64).filter(|len| *len <= MAX_LEN).ok_or(TooLong)?;
        // Where a part ends depends on as many bytes as a part may have and on nothing else: so on no piece's end.
        while self.pending.len() + bytes.len() >= MAX_PART {
            let (taken, rest) = bytes.split_at(bytes.len().min((2 * MAX_PART).saturating_sub(self.pending.len())));
            self.pending.extend_from_slice(taken);
            bytes = rest;
            let mut start = 0;
            while self.pending.len() - start >= MAX_PART {
                start = self.cut(start, made);
            }
            self.pending.drain(..start);
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends the last parts to `made`, and returns the blob.
    pub fn finish(mut self, made: &mut Vec<Part>) -> Blob {
        let mut start = 0;
        while start < self.pending.len() || self.len == 0 && self.levels.is_empty() {
            start = self.cut(start, made);
        }
        let mut level = 0;
        loop {
            if let [root] = self.levels[level][..]
                && self.levels.len() == level + 1
            {
                return Blob { root: root.id, len: self.len };
            }
            if !self.levels[level].is_empty() {
                self.close(level, made);
            }
            level += 1;
        }
    }

    /// Makes the part that begins at `start` of what is pending; returns where it ends.
    fn cut(&mut self, start: usize, made: &mut Vec<Part>) -> usize {
        let (_, end) = FastCDC::new(&self.pending, MIN_PART, MEAN_PART, MAX_PART).cut(start, self.pending.len() - start);
        let content = &self.pending[start..end];
        let mut bytes = Vec::with_capacity(1 + content.len());
        bytes.push(0);
        bytes.extend_from_slice(content);
        let len = content.len() as u64;
        self.add(0, Part::new(bytes), len, made);
        end
    }

    fn add(&mut self, level: usize, part: Part, len: u64, made: &mut Vec<Part>) {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        let list = &mut self.levels[level];
        list.push(Child { id: part.id, len });
        // A list of one would grow no tree, and whoever chooses bytes could make all lists short: higher ones end when they are full, so
        // that the longest blob has fewer levels than there may be.
        let ends = list.len() > 1 && part.id.0[31] == ENDS && level < CUT_LEVELS;
        let is_full = list.len() == MAX_CHILDREN;
        made.push(part);
        if ends || is_full {
            self.close(level, made);
        }
    }

    /// Makes a list of the parts of `level` that none has.
    fn close(&mut self, level: usize, made: &mut Vec<Part>) {
        let children = std::mem::take(&mut self.levels[level]);
        let mut out = Writer::with_capacity(1 + children.len() * 36);
        out.byte(u8::try_from(level + 1).expect("levels are few, see above"));
        for child in &children {
            child.id.encode(&mut out);
            out.uint(child.len);
        }
        let len = children.iter().map(|child| child.len).sum();
        self.add(level + 1, Part::new(out.into_bytes()), len, made);
    }
}
