//! The canonical codec: one value, one byte string.
//!
//! Law: `decode(encode(x)) = x`, and `encode(decode(b)) = b` for every `b` that decodes. Numbers are LEB128 varints in their
//! shortest form (ZigZag for signed), hashes are raw, texts and byte strings carry their length. Whatever is not canonical is
//! refused, so an id can be computed from either side. Byte by byte in FORMAT.md.

use std::str;

/// What can be wrong with bytes that claim to be canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ended too early.
    #[error("input ends {missing} bytes too early")]
    Truncated {
        /// How many more bytes were needed.
        missing: usize,
    },
    /// Bytes were left over after the value.
    #[error("{left} bytes are left over")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// A varint was not in its shortest form, or exceeds 64 bits.
    #[error("a number is not in its shortest form")]
    Varint,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// Elements that must rise strictly do not.
    #[error("{what} is not in canonical order")]
    Order {
        /// Which list.
        what: &'static str,
    },
    /// A count or length exceeds its limit.
    #[error("{what} has {actual}, at most {limit} are allowed")]
    Limit {
        /// Which count.
        what: &'static str,
        /// The count.
        actual: u64,
        /// The limit.
        limit: u64,
    },
    /// A tag names nothing that this version knows.
    #[error("unknown {what} {tag}")]
    Unknown {
        /// Which tag.
        what: &'static str,
        /// Its value.
        tag: u64,
    },
    /// A value breaks a rule of its own.
    #[error("{what} is malformed")]
    Malformed {
        /// Which value.
        what: &'static str,
    },
}

/// A value with one byte form.
pub trait Encode {
    /// Appends the canonical bytes.
    fn encode(&self, out: &mut Writer);

    /// Returns the canonical bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(USUAL_LEN);
        self.encode(&mut out);
        out.into_bytes()
    }
}

/// Room for a document or a request of the usual length, so that it is not moved while it is written.
const USUAL_LEN: usize = 256;

/// A value that can be read back from its one byte form.
pub trait Decode: Sized {
    /// Reads one value; leaves what follows it.
    ///
    /// # Errors
    /// Any [`Error`]; never panics, whatever the bytes.
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error>;

    /// Reads one value that fills `bytes` completely.
    ///
    /// # Errors
    /// Any [`Error`], [`Error::Trailing`] if bytes are left.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut input = Reader::new(bytes);
        let value = Self::decode(&mut input)?;
        input.end()?;
        Ok(value)
    }
}

/// Appends canonical bytes.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Returns a writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity) }
    }

    /// Forgets what was written and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Appends one byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Appends bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends an unsigned number as a varint.
    pub fn uint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }

    /// Appends a count.
    pub fn count(&mut self, value: usize) {
        self.uint(value as u64);
    }

    /// Appends a signed number as a ZigZag varint.
    pub fn int(&mut self, value: i64) {
        self.uint((value << 1 ^ value >> 63).cast_unsigned());
    }

    /// Appends a length and that many bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    /// Appends a length and a text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Appends a count and that many values.
    pub fn list<'a, T: Encode + 'a>(&mut self, values: impl ExactSizeIterator<Item = &'a T>) {
        self.count(values.len());
        for value in values {
            value.encode(self);
        }
    }

    /// Returns how many bytes were written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns what was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads canonical bytes.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Returns a reader of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns how many bytes are left.
    pub const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Returns the bytes that are left, without taking them.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.raw(1)?[0])
    }

    /// Takes `len` bytes as they are.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(Error::Truncated { missing: len - self.rest.len() });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Takes exactly `N` bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N)?);
        Ok(array)
    }

    /// Takes an unsigned varint.
    ///
    /// # Errors
    /// [`Error::Varint`] if it is not in its shortest form or exceeds 64 bits.
    pub fn uint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 || byte == 0 && shift > 0 {
                return Err(Error::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::Varint)
    }

    /// Takes a count of things that each take at least `least` bytes of the input, so a lying count cannot reserve memory.
    ///
    /// # Errors
    /// [`Error::Truncated`] if the input is too short for that many.
    pub fn count(&mut self, least: usize) -> Result<usize, Error> {
        let count = self.uint()?;
        let possible = self.rest.len() / least.max(1);
        match usize::try_from(count) {
            Ok(count) if count <= possible => Ok(count),
            _ => Err(Error::Truncated { missing: 1 }),
        }
    }

    /// Takes a signed ZigZag varint.
    ///
    /// # Errors
    /// As [`Reader::uint`].
    pub fn int(&mut self) -> Result<i64, Error> {
        let raw = self.uint()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// Takes a length and that many bytes.
    ///
    /// # Errors
    /// [`Error::Truncated`].
    pub fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let len = self.count(1)?;
        self.raw(len)
    }

    /// Takes a length and a text.
    ///
    /// # Errors
    /// [`Error::Utf8`], [`Error::Truncated`].
    pub fn text(&mut self) -> Result<&'a str, Error> {
        str::from_utf8(self.bytes()?).map_err(|_| Error::Utf8)
    }

    /// Takes a count and that many values, each at least `least` bytes long.
    ///
    /// # Errors
    /// As the values'.
    pub fn list<T: Decode>(&mut self, least: usize) -> Result<Vec<T>, Error> {
        let count = self.count(least)?;
        (0..count).map(|_| T::decode(self)).collect()
    }

    /// Insists that nothing is left.
    ///
    /// # Errors
    /// [`Error::Trailing`].
    pub const fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Trailing { left: self.rest.len() }) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prop_numbers_round_trip(unsigned: u64, signed: i64) {
            let mut out = Writer::default();
            out.uint(unsigned);
            out.int(signed);
            let bytes = out.into_bytes();
            let mut input = Reader::new(&bytes);
            prop_assert_eq!(input.uint(), Ok(unsigned));
            prop_assert_eq!(input.int(), Ok(signed));
            prop_assert_eq!(input.end(), Ok(()));
        }

        #[test]
        fn prop_a_number_that_decodes_encodes_to_the_same_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut input = Reader::new(&bytes);
            if let Ok(value) = input.uint() {
                let mut out = Writer::default();
                out.uint(value);
                prop_assert_eq!(out.as_bytes(), &bytes[..bytes.len() - input.left()]);
            }
        }
    }

    #[test]
    fn long_forms_and_overflow_are_refused() {
        for bytes in [&[0x80, 0x00][..], &[0xff; 10], &[0x80; 11]] {
            assert_eq!(Reader::new(bytes).uint(), Err(Error::Varint));
        }
    }

    #[test]
    fn a_lying_count_reserves_nothing() {
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0x7f, 0]).bytes().is_err());
    }
}
