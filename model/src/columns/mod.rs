//! Requests taken apart by field: the columns in which many of them travel.
//!
//! One after another, the values of a field resemble each other, and those of different fields do not: what is compressed column by column is a
//! third shorter than row by row. One walk over the grammar of a request serves both ways. Each byte goes to a column, or comes from one, that
//! follows from the bytes before it, so nothing is told beside the columns.
//!
//! Law: what is joined is what was split, byte for byte. Nothing else is checked here: who joins bytes of others reads them as requests then.

mod grammar;

use std::collections::HashMap;

use self::grammar::{SLOTS, Slot, Tape, request};
use crate::codec::{Error, Reader, Writer};

type Result<T> = std::result::Result<T, Error>;

/// Most columns that requests may be taken apart into, and most fields they may be of.
pub const MAX_COLUMNS: usize = 4096;

/// Fewest texts of a column, all of one length, that are worth to be turned.
const TURNED: usize = 8;

/// Longest of them.
const WIDEST: usize = 64;

/// What has columns: a field of a collection, the keys of its documents, or the heads of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Head,
    Group,
    Key(u64),
    Field(u64, u64),
}

/// Which columns there are, in the order of their first byte.
#[derive(Debug, Default)]
struct Layout {
    known: HashMap<Place, usize>,
    /// As they were first met, which is the order in which they come again.
    places: Vec<Place>,
    /// For each the numbers of its columns, from 1 on; 0: none yet.
    slots: Vec<[u16; SLOTS]>,
    last: usize,
    columns: u16,
}

impl Layout {
    fn place(&mut self, place: Place) -> Result<usize> {
        let next = self.last + 1;
        if self.places.get(next) == Some(&place) {
            self.last = next;
        } else if let Some(at) = self.known.get(&place) {
            self.last = *at;
        } else {
            self.last = self.places.len();
            if self.last == MAX_COLUMNS {
                return Err(Error::Limit { what: "fields in columns", actual: MAX_COLUMNS as u64 + 1, limit: MAX_COLUMNS as u64 });
            }
            self.known.insert(place, self.last);
            self.places.push(place);
            self.slots.push([0; SLOTS]);
        }
        Ok(self.last)
    }

    fn column(&mut self, place: usize, slot: usize) -> Result<usize> {
        let column = &mut self.slots[place][slot];
        if *column == 0 {
            if usize::from(self.columns) == MAX_COLUMNS {
                return Err(Error::Limit { what: "columns", actual: MAX_COLUMNS as u64 + 1, limit: MAX_COLUMNS as u64 });
            }
            self.columns += 1;
            *column = self.columns;
        }
        Ok(usize::from(*column) - 1)
    }
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Column {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Not 0: it holds texts of this length, first the first byte of each, then the second, and so on.
    pub width: usize,
}

/// Takes requests apart.
#[derive(Debug, Default)]
pub struct Split {
    layout: Layout,
    columns: Vec<Growing>,
}

/// A column while it grows.
#[derive(Debug, Default)]
struct Growing {
    bytes: Vec<u8>,
    /// Length of the first text.
    width: usize,
    /// How many texts it has, if all are as long as the first.
    texts: Option<usize>,
}

impl Split {
    /// Adds the canonical bytes of a request.
    ///
    /// # Errors
    /// Whatever keeps it from being taken apart; it is half in the columns then, and they are of no use.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let mut tape = Splitting { split: self, input: Reader::new(bytes) };
        request(&mut tape)?;
        tape.input.end()
    }

    /// Adds bytes that nothing compresses, to be handed over by [`Join::noise`].
    ///
    /// # Errors
    /// As [`Split::push`].
    pub fn noise(&mut self, bytes: &[u8]) -> Result<()> {
        let mut tape = Splitting { split: self, input: Reader::new(bytes) };
        let head = tape.layout().place(Place::Head)?;
        tape.raw(head, Slot::Noise, bytes.len())
    }

    /// Returns the columns.
    pub fn finish(self) -> Vec<Column> {
        let turned = |Growing { bytes, width, texts }| match texts {
            Some(texts @ TURNED..) if (2..=WIDEST).contains(&width) => Column { bytes: turn(&bytes, texts, width), width },
            _ => Column { bytes, width: 0 },
        };
        self.columns.into_iter().map(turned).collect()
    }

    fn column(&mut self, place: usize, slot: usize) -> Result<&mut Growing> {
        let column = self.layout.column(place, slot)?;
        if column == self.columns.len() {
            self.columns.push(Growing { texts: Some(0), ..Growing::default() });
        }
        Ok(&mut self.columns[column])
    }
}

/// Returns a table of `rows` rows of `width` bytes with its columns as rows.
fn turn(bytes: &[u8], rows: usize, width: usize) -> Vec<u8> {
    let mut turned = Vec::with_capacity(bytes.len());
    for at in 0..width {
        turned.extend((0..rows).map(|row| bytes[row * width + at]));
    }
    turned
}

struct Splitting<'a> {
    split: &'a mut Split,
    input: Reader<'a>,
}

impl Tape for Splitting<'_> {
    fn layout(&mut self) -> &mut Layout {
        &mut self.split.layout
    }

    fn raw(&mut self, place: usize, slot: Slot, len: usize) -> Result<()> {
        let bytes = self.input.raw(len)?;
        let column = self.split.column(place, slot as usize)?;
        column.bytes.extend_from_slice(bytes);
        if column.texts == Some(0) {
            column.width = len;
        }
        let is_even = column.width == len && !matches!(slot, Slot::Noise);
        column.texts = column.texts.filter(|_| is_even).map(|texts| texts + 1);
        Ok(())
    }

    fn byte(&mut self, place: usize, slot: usize) -> Result<u8> {
        let byte = self.input.byte()?;
        self.split.column(place, slot)?.bytes.push(byte);
        Ok(byte)
    }

    fn uint(&mut self, place: usize, slot: Slot) -> Result<u64> {
        let before = self.input.rest();
        let value = self.input.uint()?;
        let bytes = &before[..before.len() - self.input.left()];
        self.split.column(place, slot as usize)?.bytes.extend_from_slice(bytes);
        Ok(value)
    }
}

/// Puts requests together again.
#[derive(Debug)]
pub struct Join<'c> {
    layout: Layout,
    columns: Vec<Reader<'c>>,
    out: Writer,
}

/// Returns the columns as they grew, to be read by [`Join`].
///
/// # Errors
/// [`Error::Malformed`] for a width that does not fit its column, [`Error::Limit`] for more than [`MAX_COLUMNS`].
pub fn straighten(mut columns: Vec<Column>) -> Result<Vec<Column>> {
    if columns.len() > MAX_COLUMNS {
        return Err(Error::Limit { what: "columns", actual: columns.len() as u64, limit: MAX_COLUMNS as u64 });
    }
    for Column { bytes, width } in columns.iter_mut().filter(|column| column.width != 0) {
        if !(2..=WIDEST).contains(width) || bytes.len() % *width != 0 {
            return Err(Error::Malformed { what: "width of a column" });
        }
        *bytes = turn(bytes, *width, bytes.len() / *width);
        *width = 0;
    }
    Ok(columns)
}

impl<'c> Join<'c> {
    /// Begins to read columns that [`straighten`] returned.
    pub fn new(columns: &'c [Column]) -> Self {
        let columns = columns.iter().map(|column| Reader::new(&column.bytes)).collect();
        Self { layout: Layout::default(), columns, out: Writer::default() }
    }

    /// Returns the bytes of the next request.
    ///
    /// # Errors
    /// If columns end too early or hold nothing that looks like one.
    pub fn next_request(&mut self) -> Result<Vec<u8>> {
        self.out.clear();
        request(&mut Joining(self))?;
        Ok(self.out.as_bytes().to_vec())
    }

    /// Returns the next bytes that [`Split::noise`] took.
    ///
    /// # Errors
    /// If the column ends too early.
    pub fn noise<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.out.clear();
        let mut tape = Joining(self);
        let head = tape.layout().place(Place::Head)?;
        tape.raw(head, Slot::Noise, N)?;
        Reader::new(self.out.as_bytes()).array()
    }

    /// Checks that all was read.
    ///
    /// # Errors
    /// [`Error::Trailing`].
    pub fn end(&self) -> Result<()> {
        self.columns.iter().try_for_each(Reader::end)
    }
}

struct Joining<'a, 'c>(&'a mut Join<'c>);

impl<'c> Joining<'_, 'c> {
    fn column(&mut self, place: usize, slot: usize) -> Result<&mut Reader<'c>> {
        let column = self.0.layout.column(place, slot)?;
        self.0.columns.get_mut(column).ok_or(Error::Truncated { missing: 1 })
    }
}

impl Tape for Joining<'_, '_> {
    fn layout(&mut self) -> &mut Layout {
        &mut self.0.layout
    }

    fn raw(&mut self, place: usize, slot: Slot, len: usize) -> Result<()> {
        let bytes = self.column(place, slot as usize)?.raw(len)?;
        self.0.out.raw(bytes);
        Ok(())
    }

    fn byte(&mut self, place: usize, slot: usize) -> Result<u8> {
        let byte = self.column(place, slot)?.byte()?;
        self.0.out.byte(byte);
        Ok(byte)
    }

    fn uint(&mut self, place: usize, slot: Slot) -> Result<u64> {
        let column = self.column(place, slot as usize)?;
        let before = column.rest();
        let value = column.uint()?;
        let bytes = &before[..before.len() - column.left()];
        self.0.out.raw(bytes);
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        codec::Encode as _,
        id::Leaf,
        request::{Must, Precondition, Request},
        testutil::{self, ANIMALS, STABLES, animal, create, delete, elements, entries, key, set, workload},
        value::{Decimal, Float, Scalar, Value},
    };

    /// Takes apart and puts together again.
    fn again(requests: &[Vec<u8>]) -> Result<(Vec<Column>, Vec<Vec<u8>>)> {
        let mut split = Split::default();
        for bytes in requests {
            split.noise(&[7; 64])?;
            split.push(bytes)?;
        }
        let columns = split.finish();
        let straight = straighten(columns.clone()).expect("what was split is straight");
        let mut join = Join::new(&straight);
        let mut joined = Vec::new();
        for _ in requests {
            assert_eq!(join.noise::<64>(), Ok([7; 64]));
            joined.push(join.next_request().expect("what was split is joined"));
        }
        assert_eq!(join.end(), Ok(()));
        Ok((columns, joined))
    }

    /// A request with every kind of scalar, precondition and edit but those of texts and lists.
    fn rich() -> Request {
        let scalars = [
            Scalar::Bool(true),
            Scalar::Float(Float::new(-1.5)),
            Scalar::Timestamp(-1),
            Scalar::Bytes(vec![1, 2].into()),
            Scalar::Decimal("-12.05".parse::<Decimal>().expect("a decimal")),
            Scalar::Null,
        ];
        let of = |key: &str, scalar: &Scalar| create(key, vec![set(animal::NAME, "Ü"), set(animal::LEGS, Value::Scalar(scalar.clone()))]);
        let mut edits: Vec<_> = (0..).zip(&scalars).map(|(at, scalar)| (ANIMALS, of(&format!("a{at}"), scalar))).collect();
        edits.push((ANIMALS, create("b", vec![elements(animal::TAGS, ["x"], ["y"]), entries(animal::YIELDS, [("may", 3)], ["june"])])));
        edits.push((STABLES, delete("s")));
        let mut request = testutil::request(1, edits);
        let must = [Must::Exist, Must::BeAbsent, Must::BeAt(Leaf([3; 32]))];
        request.preconditions = must.map(|must| Precondition { collection: STABLES, key: key("s"), must }).to_vec();
        request
    }

    #[test]
    fn requests_with_every_part_come_together_again() {
        let bytes = vec![rich().to_bytes(), testutil::request(2, Vec::new()).to_bytes(), rich().to_bytes()];
        assert_eq!(again(&bytes).map(|(_, joined)| joined), Ok(bytes));
    }

    #[test]
    fn whatever_bit_changes_what_is_taken_apart_comes_together_again() {
        let request = rich().to_bytes();
        let mut taken = 0;
        for at in 0..8 * request.len() {
            let mut changed = vec![request.clone(), request.clone()];
            changed[0][at / 8] ^= 1 << (at % 8);
            if let Ok((_, joined)) = again(&changed) {
                assert_eq!(joined, changed, "bit {at}");
                taken += 1;
            }
        }
        assert!(taken > 4 * request.len(), "most changes leave a request: {taken} of {}", 8 * request.len());
    }

    #[test]
    fn texts_of_one_length_are_turned() {
        let edits: Vec<_> = (0..20).map(|at| workload::creation(at, 0)).collect();
        let bytes = vec![testutil::request(1, edits).to_bytes()];
        let (columns, joined) = again(&bytes).expect("a request");
        assert_eq!(joined, bytes);
        // Keys, and the hex digits of a field.
        assert_eq!(columns.iter().filter(|column| column.width > 0).map(|column| column.width).collect::<Vec<_>>(), [15, 8]);
        assert!(columns.iter().any(|column| column.bytes.starts_with(&b"d".repeat(20))), "the first characters of the keys lie together");
    }

    proptest! {
        #[test]
        fn prop_columns_of_others_are_read_or_refused(columns in vec((vec(0u8..15, 0..60), prop_oneof![4 => Just(0usize), 1 => 0usize..70]), 0..12)) {
            let columns: Vec<_> = columns.into_iter().map(|(bytes, width)| Column { bytes, width }).collect();
            let total: usize = columns.iter().map(|column| column.bytes.len()).sum();
            let Ok(columns) = straighten(columns) else { return Ok(()) };
            let mut join = Join::new(&columns);
            let mut out = 0;
            while let Ok(request) = join.next_request() {
                out += request.len();
            }
            prop_assert!(out <= total, "{} bytes out of {}", out, total);
        }
    }

    #[test]
    fn more_fields_than_there_may_be_are_refused() {
        let edits = (0..=MAX_COLUMNS).map(|at| {
            let field = crate::schema::FieldId(u16::try_from(at).expect("small"));
            (ANIMALS, testutil::update("a", vec![set(field, 1)]))
        });
        let request = testutil::request(1, edits);
        assert!(matches!(Split::default().push(&request.to_bytes()), Err(Error::Limit { .. })));
        let many = vec![Column::default(); MAX_COLUMNS + 1];
        assert!(matches!(straighten(many), Err(Error::Limit { .. })));
    }
}
