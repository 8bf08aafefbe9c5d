//! A version vector as it is stored with its commit: by how much it grows from one that is at hand.
//!
//! A commit's ancestors are those of its parents, so beside one parent there is little to say. Law: a vector is read from at most
//! [`STEPS`] records above one that stands alone, however long the history is. Chains go by small numbers of this store (`numbers`).
//!
//! | bytes | |
//! |---|---|
//! | `uint` | what it grows from: 0 nothing, 1 a checkpoint, 2 + place a parent |
//! | `uint` | number of the checkpoint; or for a parent, how many records lie between this one and one that stands alone, itself counted |
//! | `list` | for each chain that grows, by rising number: `uint` number less the one before and 1, `uint` by how much |
//!
//! The commit's own place is left out: its header says it.

use herdbook_model::{
    codec::{Decode, Encode, Error, Reader, Writer},
    commit::MAX_PARENTS,
};

/// Most records above one that stands alone: every 64th does.
pub(crate) const STEPS: u8 = 63;

/// By how much chains grow: number of the chain, and how many commits. Rising, none by zero.
pub(crate) type Grown = Vec<(u32, u64)>;

/// A vector as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) from: From,
    pub(crate) grown: Grown,
}

/// What a vector grows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Nothing,
    /// A vector that is stored once for all commits that say so.
    Checkpoint(u32),
    /// That of a parent, by its place in the header.
    Parent {
        place: u8,
        /// Records from this one down to one that stands alone.
        steps: u8,
    },
}

impl From {
    /// Returns how many records lie above one that stands alone, this one counted.
    pub(crate) const fn steps(self) -> u8 {
        match self {
            Self::Nothing | Self::Checkpoint(_) => 0,
            Self::Parent { steps, .. } => steps,
        }
    }
}

impl Encode for From {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Nothing => out.uint(0),
            Self::Checkpoint(number) => {
                out.uint(1);
                out.uint((*number).into());
            }
            Self::Parent { place, steps } => {
                out.uint(2 + u64::from(*place));
                out.uint((*steps).into());
            }
        }
    }
}

impl Decode for From {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        match input.uint()? {
            0 => Ok(Self::Nothing),
            1 => Ok(Self::Checkpoint(number(input.uint()?)?)),
            place => {
                let place = u8::try_from(place - 2).ok().filter(|place| usize::from(*place) < MAX_PARENTS);
                let steps = u8::try_from(input.uint()?).ok().filter(|steps| (1..=STEPS).contains(steps));
                let malformed = Error::Malformed { what: "base of a vector" };
                Ok(Self::Parent { place: place.ok_or(malformed)?, steps: steps.ok_or(malformed)? })
            }
        }
    }
}

impl Encode for Growth {
    fn encode(&self, out: &mut Writer) {
        self.from.encode(out);
        encode_grown(&self.grown, out);
    }
}

impl Decode for Growth {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self { from: From::decode(input)?, grown: decode_grown(input)? })
    }
}

pub(crate) fn encode_grown(grown: &Grown, out: &mut Writer) {
    out.count(grown.len());
    let mut least = 0;
    for &(number, by) in grown {
        out.uint(u64::from(number) - least);
        out.uint(by);
        least = u64::from(number) + 1;
    }
}

pub(crate) fn decode_grown(input: &mut Reader<'_>) -> Result<Grown, Error> {
    let count = input.count(2)?;
    let (mut grown, mut least) = (Vec::with_capacity(count), 0u64);
    for _ in 0..count {
        let (gap, by) = (input.uint()?, input.uint()?);
        let number = number(least.checked_add(gap).ok_or(Error::Varint)?)?;
        if by == 0 {
            return Err(Error::Malformed { what: "growth of a chain" });
        }
        grown.push((number, by));
        least = u64::from(number) + 1;
    }
    Ok(grown)
}

fn number(value: u64) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::Malformed { what: "number of a chain" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growth_has_the_bytes_that_its_layout_says() {
        let golden: [(&[u8], Growth); 3] = [
            (&[0, 1, 2, 5], Growth { from: From::Nothing, grown: vec![(2, 5)] }),
            (&[1, 7, 2, 0, 1, 9, 200, 1], Growth { from: From::Checkpoint(7), grown: vec![(0, 1), (10, 200)] }),
            (&[5, 63, 0], Growth { from: From::Parent { place: 3, steps: 63 }, grown: Vec::new() }),
        ];
        for (bytes, growth) in golden {
            assert_eq!(growth.to_bytes(), bytes);
            assert_eq!(Growth::from_bytes(bytes), Ok(growth));
        }
    }

    #[test]
    fn what_no_growth_has_is_refused() {
        let malformed: [&[u8]; 6] = [&[2, 0, 0], &[2, 64, 0], &[66, 1, 0], &[0, 1, 0, 0], &[0, 9, 0, 1], &[1, 255, 255, 255, 255, 31, 0]];
        for bytes in malformed {
            assert!(Growth::from_bytes(bytes).is_err(), "{bytes:?}");
        }
    }
}
