//! The walk over a request: which byte is of what. It is the grammar of `edit`, `value` and `request` once more, told as what a byte belongs to.

use super::{Layout, Place, Result};
use crate::codec::Error;

/// Deepest nesting of changes and values that is followed; canonical ones nest less.
const MAX_DEPTH: usize = 32;

/// What of a field: each has a column of its own, from its first byte on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slot {
    /// Tags, counts and whatever else says of what form the rest is.
    Form,
    /// Lengths of texts.
    Length,
    /// Texts and bytes.
    Text,
    /// What has a fixed length.
    Fixed,
    /// What nothing compresses.
    Noise,
    /// Numbers, by the place of a byte in its varint; the last is for all bytes from there on.
    Number,
}

/// Bytes of a varint that have columns of their own.
const DIGITS: usize = 5;

/// Columns of a field.
pub(super) const SLOTS: usize = Slot::Number as usize + DIGITS;

/// Bytes on their way to columns or back. What is asked for is handed over from the one to the other, and told.
pub(super) trait Tape {
    fn layout(&mut self) -> &mut Layout;

    /// Hands over `len` bytes.
    fn raw(&mut self, place: usize, slot: Slot, len: usize) -> Result<()>;

    /// Hands over one byte.
    fn byte(&mut self, place: usize, slot: usize) -> Result<u8>;

    /// Hands over a varint, whose bytes stay together.
    fn uint(&mut self, place: usize, slot: Slot) -> Result<u64>;

    fn tag(&mut self, place: usize) -> Result<u8> {
        self.byte(place, Slot::Form as usize)
    }

    fn count(&mut self, place: usize) -> Result<u64> {
        self.uint(place, Slot::Form)
    }

    /// Hands over a varint, each byte to the column of its place.
    fn number(&mut self, place: usize) -> Result<()> {
        for at in 0..10 {
            if self.byte(place, Slot::Number as usize + at.min(DIGITS - 1))? < 0x80 {
                return Ok(());
            }
        }
        Err(Error::Varint)
    }

    fn text(&mut self, place: usize) -> Result<()> {
        let len = self.uint(place, Slot::Length)?;
        self.raw(place, Slot::Text, usize::try_from(len).unwrap_or(usize::MAX))
    }
}

/// Walks over one request.
pub(super) fn request(tape: &mut impl Tape) -> Result<()> {
    let head = tape.layout().place(Place::Head)?;
    tape.raw(head, Slot::Noise, 16)?;
    tape.text(head)?;
    tape.tag(head)?;
    for _ in 0..tape.count(head)? {
        precondition(tape, head)?;
    }
    for _ in 0..tape.count(head)? {
        tape.raw(head, Slot::Noise, 16)?;
        let of = tape.layout().place(Place::Group)?;
        let collection = tape.count(of)?;
        for _ in 0..tape.count(of)? {
            edit(tape, collection)?;
        }
    }
    Ok(())
}

fn precondition(tape: &mut impl Tape, head: usize) -> Result<()> {
    let collection = tape.count(head)?;
    let of = tape.layout().place(Place::Key(collection))?;
    tape.text(of)?;
    match tape.tag(head)? {
        3 => tape.raw(head, Slot::Noise, 32),
        _ => Ok(()),
    }
}

fn edit(tape: &mut impl Tape, collection: u64) -> Result<()> {
    let of = tape.layout().place(Place::Key(collection))?;
    tape.text(of)?;
    match tape.tag(of)? {
        1 | 2 => {
            for _ in 0..tape.count(of)? {
                let field = tape.count(of)?;
                let field = tape.layout().place(Place::Field(collection, field))?;
                change(tape, field, MAX_DEPTH)?;
            }
            Ok(())
        }
        3 => Ok(()),
        tag => Err(unknown("operation", tag)),
    }
}

fn change(tape: &mut impl Tape, field: usize, depth: usize) -> Result<()> {
    match tape.tag(field)? {
        1 | 9 => value(tape, field, depth),
        2 => Ok(()),
        3 => {
            values(tape, field, depth)?;
            values(tape, field, depth)
        }
        4 => {
            for _ in 0..tape.count(field)? {
                tape.text(field)?;
                value(tape, field, depth)?;
            }
            for _ in 0..tape.count(field)? {
                tape.text(field)?;
            }
            Ok(())
        }
        5 => {
            for _ in 0..tape.count(field)? {
                tape.text(field)?;
                change(tape, field, below(depth)?)?;
            }
            Ok(())
        }
        6 => {
            tape.tag(field)?;
            tape.number(field)
        }
        7 => {
            dots(tape, field)?;
            for _ in 0..tape.count(field)? {
                position(tape, field)?;
                tape.text(field)?;
            }
            spans(tape, field)
        }
        8 => {
            dots(tape, field)?;
            for _ in 0..tape.count(field)? {
                position(tape, field)?;
                values(tape, field, depth)?;
            }
            for _ in 0..tape.count(field)? {
                element(tape, field)?;
                position(tape, field)?;
            }
            for _ in 0..tape.count(field)? {
                element(tape, field)?;
                value(tape, field, depth)?;
            }
            spans(tape, field)
        }
        tag => Err(unknown("change", tag)),
    }
}

fn dots(tape: &mut impl Tape, field: usize) -> Result<()> {
    for _ in 0..tape.count(field)? {
        tape.raw(field, Slot::Fixed, 16)?;
        tape.number(field)?;
        tape.number(field)?;
    }
    Ok(())
}

/// Where something is inserted: side, parent, and the neighbour on the other side.
fn position(tape: &mut impl Tape, field: usize) -> Result<()> {
    tape.tag(field)?;
    for _ in 0..2 {
        if tape.count(field)? > 0 {
            tape.number(field)?;
        }
    }
    Ok(())
}

fn element(tape: &mut impl Tape, field: usize) -> Result<()> {
    tape.count(field)?;
    tape.number(field)
}

fn spans(tape: &mut impl Tape, field: usize) -> Result<()> {
    for _ in 0..tape.count(field)? {
        element(tape, field)?;
        tape.count(field)?;
    }
    Ok(())
}

fn values(tape: &mut impl Tape, field: usize, depth: usize) -> Result<()> {
    for _ in 0..tape.count(field)? {
        value(tape, field, depth)?;
    }
    Ok(())
}

fn value(tape: &mut impl Tape, field: usize, depth: usize) -> Result<()> {
    match tape.tag(field)? {
        0 | 1 | 10 => Ok(()),
        2 | 5 => tape.number(field),
        3 => tape.raw(field, Slot::Fixed, 8),
        4 | 8 | 9 => tape.text(field),
        7 => {
            tape.tag(field)?;
            tape.text(field)
        }
        11 | 13 => values(tape, field, below(depth)?),
        12 => {
            for _ in 0..tape.count(field)? {
                tape.text(field)?;
                value(tape, field, below(depth)?)?;
            }
            Ok(())
        }
        14 => {
            tape.raw(field, Slot::Noise, 32)?;
            tape.number(field)
        }
        tag => Err(unknown("value", tag)),
    }
}

fn below(depth: usize) -> Result<usize> {
    depth.checked_sub(1).ok_or(Error::Malformed { what: "depth of a value" })
}

fn unknown(what: &'static str, tag: u8) -> Error {
    Error::Unknown { what, tag: tag.into() }
}
