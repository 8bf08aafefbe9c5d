//! Bytes of a document.
//!
//! Values name their edit by its place in a table of origins, so a document written by one edit says that edit once. A field all of
//! whose values come from the first origin, one each, is `plain` and says nothing more.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Counter, Document, Dot, Field, Parts, Sibling, Siblings, Stamp,
    sequence_bytes::{read_list, read_text, write_list, write_text},
};
use crate::{
    codec::{Decode, Encode, Error, Reader, Writer},
    id::ChainId,
    schema::{FieldId, MAX_DEPTH, number},
    time::Time,
    value::Value,
};

pub(super) const REGISTER: u64 = 0;
pub(super) const SET: u64 = 1;
pub(super) const MAP: u64 = 2;
/// Another form, which the byte that follows says.
pub(super) const OTHER: u64 = 3;
pub(super) const PLAIN: u64 = 4;

const SEVERAL: u8 = 0;
const ENTRIES: u8 = 1;
pub(super) const COUNTER: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;

/// Deepest nesting of fields: each level of a type may hold several parts.
const DEPTH: usize = 2 * MAX_DEPTH + 1;

/// Stands where a field's number would, above all of those: the deletes that are kept, and what they mean in place of a form.
const GRAVES: u64 = 1 << 16;
const DELETE_WINS: u64 = 0;
const CONTESTED: u64 = 1;

/// Tag of a cleared register, beside those of scalars.
const ABSENT: u8 = 6;

/// Least bytes of an origin: chain, counter, index, time.
const ORIGIN: usize = ChainId::LEN + 1 + 1 + 8;

impl Encode for Dot {
    fn encode(&self, out: &mut Writer) {
        self.chain.encode(out);
        out.uint(self.counter);
        out.uint(self.index.into());
    }
}

impl Decode for Dot {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self { chain: ChainId::decode(input)?, counter: input.uint()?, index: number(input, "edit index")? })
    }
}

impl Encode for Stamp {
    fn encode(&self, out: &mut Writer) {
        self.dot.encode(out);
        self.time.encode(out);
    }
}

impl Decode for Stamp {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        let dot = Dot::decode(input)?;
        Ok(Self { time: Time::decode(input)?, dot })
    }
}

impl Encode for Document {
    fn encode(&self, out: &mut Writer) {
        match &self.packed {
            Some(bytes) => out.raw(bytes),
            None => self.parts().encode(out),
        }
    }
}

impl Decode for Document {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        Parts::decode(input).map(Self::from)
    }
}

impl Encode for Parts {
    fn encode(&self, out: &mut Writer) {
        let mut origins: Vec<Stamp> = self.alive.iter().chain(&self.graves).copied().collect();
        // Mostly one edit wrote everything, and a run of it says so once.
        let mut note = |stamp: Stamp| {
            if origins.last() != Some(&stamp) {
                origins.push(stamp);
            }
        };
        self.fields.iter().for_each(|(_, field)| field.each_origin(&mut note));
        origins.sort_unstable();
        origins.dedup();
        out.list(origins.iter());
        out.count(self.alive.len());
        for stamp in &self.alive {
            refer(out, &origins, stamp);
        }
        out.count(self.fields.len() + usize::from(!self.graves.is_empty()));
        for (id, field) in &self.fields {
            write_field(out, &origins, id.0.into(), field);
        }
        if !self.graves.is_empty() {
            out.uint(GRAVES << 3 | if self.contested { CONTESTED } else { DELETE_WINS });
            out.count(self.graves.len());
            self.graves.iter().for_each(|stamp| refer(out, &origins, stamp));
        }
    }
}

impl Field {
    /// Calls `note` with the stamps that its bytes name by their place among the document's origins.
    pub(super) fn each_origin(&self, note: &mut impl FnMut(Stamp)) {
        match self {
            Self::Register(siblings) => siblings.iter().for_each(|sibling| note(sibling.stamp)),
            Self::Set(elements) => elements.values().flatten().for_each(|stamp| note(*stamp)),
            Self::Map(entries) => entries.values().for_each(|entry| entry.each_origin(note)),
            Self::Counter(counter) => counter.reset.iter().for_each(|stamp| note(*stamp)),
            Self::Text(_) => {}
            Self::List(list) => list.origins().for_each(note),
            Self::Several(parts) => parts.iter().for_each(|part| part.each_origin(note)),
        }
    }
}

pub(super) fn refer(out: &mut Writer, origins: &[Stamp], stamp: &Stamp) {
    out.count(origins.binary_search(stamp).expect("every stamp of the document is an origin"));
}

/// Writes a field; what stands inside another has no number.
fn write_field(out: &mut Writer, origins: &[Stamp], number: u64, field: &Field) {
    let plain = origins.first().is_some_and(|first| is_plain(field, first));
    let form = match field {
        Field::Register(_) => REGISTER,
        Field::Set(_) => SET,
        Field::Map(entries) if are_registers(entries) => MAP,
        _ => OTHER,
    };
    out.uint(number << 3 | if plain { PLAIN } else { 0 } | form);
    match field {
        Field::Register(siblings) => write_siblings(out, origins, plain, siblings),
        Field::Set(elements) => {
            out.count(elements.len());
            for (element, adds) in elements {
                element.encode(out);
                if !plain {
                    out.count(adds.len());
                    adds.iter().for_each(|stamp| refer(out, origins, stamp));
                }
            }
        }
        Field::Map(entries) => {
            if form == OTHER {
                out.byte(ENTRIES);
            }
            out.count(entries.len());
            for (key, entry) in entries {
                out.text(key);
                match entry {
                    Field::Register(siblings) if form == MAP => write_siblings(out, origins, plain, siblings),
                    entry => write_field(out, origins, 0, entry),
                }
            }
        }
        Field::Counter(Counter { reset, sum }) => {
            out.raw(&[COUNTER, u8::from(reset.is_some())]);
            reset.iter().for_each(|stamp| refer(out, origins, stamp));
            out.int(*sum);
        }
        Field::Text(text) => {
            out.byte(TEXT);
            write_text(out, text);
        }
        Field::List(list) => {
            out.byte(LIST);
            write_list(out, origins, list);
        }
        Field::Several(parts) => {
            out.byte(SEVERAL);
            out.count(parts.len());
            parts.iter().for_each(|part| write_field(out, origins, 0, part));
        }
    }
}

/// Whether the entries are registers of values, none cleared: such maps have a shorter form.
fn are_registers(entries: &BTreeMap<Arc<str>, Field>) -> bool {
    entries.values().all(|entry| matches!(entry, Field::Register(siblings) if siblings.iter().all(|sibling| sibling.value.is_some())))
}

pub(super) fn write_value(out: &mut Writer, value: Option<&Value>) {
    match value {
        Some(value) => value.encode(out),
        None => out.byte(ABSENT),
    }
}

fn write_siblings(out: &mut Writer, origins: &[Stamp], plain: bool, siblings: &Siblings<Option<Value>>) {
    if plain {
        write_value(out, siblings[0].value.as_ref());
        return;
    }
    out.count(siblings.len());
    for sibling in siblings {
        refer(out, origins, &sibling.stamp);
        write_value(out, sibling.value.as_ref());
    }
}

fn is_plain(field: &Field, first: &Stamp) -> bool {
    match field {
        Field::Register(siblings) => siblings.len() == 1 && siblings[0].stamp == *first,
        Field::Set(elements) => elements.values().all(|adds| adds.len() == 1 && adds[0] == *first),
        Field::Map(entries) => are_registers(entries) && entries.values().all(|entry| is_plain(entry, first)),
        Field::Counter(_) | Field::Text(_) | Field::List(_) | Field::Several(_) => false,
    }
}

impl Decode for Parts {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        let origins: Vec<Stamp> = input.list(ORIGIN)?;
        if !origins.is_sorted_by(|a, b| a < b) {
            return Err(Error::Order { what: "origins of a document" });
        }
        let mut used = vec![false; origins.len()];
        let mut origins = Origins { table: &origins, used: &mut used };
        let alive = origins.stamps(input)?;
        let count = input.count(2)?;
        let mut document = Self { alive, fields: Vec::with_capacity(count), ..Self::default() };
        for _ in 0..count {
            let head = input.uint()?;
            let in_order = document.graves.is_empty() && document.fields.last().is_none_or(|(before, _)| u64::from(before.0) < head >> 3);
            if !in_order {
                return Err(Error::Order { what: "fields of a document" });
            }
            match u16::try_from(head >> 3) {
                Ok(id) => document.fields.push((FieldId(id), read_field(input, &mut origins, head, DEPTH)?)),
                Err(_) => {
                    document.contested = match head {
                        _ if head == GRAVES << 3 | DELETE_WINS => false,
                        _ if head == GRAVES << 3 | CONTESTED => true,
                        _ => return Err(Error::Malformed { what: "field number" }),
                    };
                    document.graves = origins.stamps(input)?;
                    if document.graves.is_empty() {
                        return Err(Error::Malformed { what: "graves" });
                    }
                }
            }
        }
        if used.iter().all(|used| *used) { Ok(document) } else { Err(Error::Malformed { what: "unused origin" }) }
    }
}

/// The table of origins while a document is read, with a note of which were named.
pub(super) struct Origins<'a> {
    table: &'a [Stamp],
    used: &'a mut [bool],
}

impl Origins<'_> {
    fn stamp(&mut self, input: &mut Reader<'_>) -> Result<Stamp, Error> {
        let at: usize = number(input, "origin")?;
        self.at(at)
    }

    fn at(&mut self, at: usize) -> Result<Stamp, Error> {
        let stamp = self.table.get(at).ok_or(Error::Malformed { what: "origin" })?;
        self.used[at] = true;
        Ok(*stamp)
    }

    /// Takes a list of origins that rises strictly.
    fn stamps(&mut self, input: &mut Reader<'_>) -> Result<Vec<Stamp>, Error> {
        let count = input.count(1)?;
        let stamps = (0..count).map(|_| self.stamp(input)).collect::<Result<Vec<_>, _>>()?;
        if stamps.is_sorted_by(|a, b| a < b) { Ok(stamps) } else { Err(Error::Order { what: "stamps" }) }
    }

    pub(super) fn siblings<T>(
        &mut self,
        input: &mut Reader<'_>,
        plain: bool,
        value: impl Fn(&mut Reader<'_>) -> Result<T, Error>,
    ) -> Result<Siblings<T>, Error> {
        if plain {
            return Ok(vec![Sibling { stamp: self.at(0)?, value: value(input)? }]);
        }
        let count = input.count(2)?;
        let siblings =
            (0..count).map(|_| Ok(Sibling { stamp: self.stamp(input)?, value: value(input)? })).collect::<Result<Siblings<T>, Error>>()?;
        if count > 0 && siblings.is_sorted_by(|a, b| a.stamp < b.stamp) { Ok(siblings) } else { Err(Error::Order { what: "siblings" }) }
    }
}

pub(super) fn read_value(input: &mut Reader<'_>) -> Result<Option<Value>, Error> {
    if input.rest().first() == Some(&ABSENT) { input.byte().map(|_| None) } else { Value::decode(input).map(Some) }
}

/// Reads what follows the head of a field that nests at most `depth` deep.
fn read_field(input: &mut Reader<'_>, origins: &mut Origins<'_>, head: u64, depth: usize) -> Result<Field, Error> {
    let plain = head & PLAIN != 0;
    let field = match head & 3 {
        REGISTER => Field::Register(origins.siblings(input, plain, read_value)?),
        SET => {
            let mut elements = BTreeMap::<Value, Vec<Stamp>>::new();
            for _ in 0..input.count(1)? {
                let element = Value::decode(input)?;
                let adds = if plain { vec![origins.at(0)?] } else { origins.stamps(input)? };
                if adds.is_empty() || elements.last_key_value().is_some_and(|(before, _)| *before >= element) {
                    return Err(Error::Order { what: "elements of a set" });
                }
                elements.insert(element, adds);
            }
            Field::Set(elements)
        }
        MAP => Field::Map(read_entries(input, |input| {
            Ok(Field::Register(origins.siblings(input, plain, |input| Value::decode(input).map(Some))?))
        })?),
        _ => {
            let below = depth.checked_sub(1).ok_or(Error::Malformed { what: "depth of a field" })?;
            let inner = |input: &mut Reader<'_>, origins: &mut Origins<'_>| {
                let head = input.uint()?;
                if head >> 3 == 0 { read_field(input, origins, head, below) } else { Err(Error::Malformed { what: "field's part" }) }
            };
            match input.byte()? {
                ENTRIES => {
                    let entries = read_entries(input, |input| inner(input, origins))?;
                    if are_registers(&entries) {
                        return Err(Error::Malformed { what: "entries of a map" });
                    }
                    Field::Map(entries)
                }
                COUNTER => {
                    let reset = match input.byte()? {
                        0 => None,
                        1 => Some(origins.stamp(input)?),
                        tag => return Err(Error::Unknown { what: "reset", tag: tag.into() }),
                    };
                    Field::Counter(Counter { reset, sum: input.int()? })
                }
                TEXT => Field::Text(read_text(input)?),
                LIST => Field::List(read_list(input, origins)?),
                SEVERAL => {
                    let count = input.count(2)?;
                    let parts = (0..count).map(|_| inner(input, origins)).collect::<Result<Vec<_>, _>>()?;
                    if count < 2 || !Field::are_in_order(&parts) {
                        return Err(Error::Order { what: "parts of a field" });
                    }
                    Field::Several(parts)
                }
                tag => return Err(Error::Unknown { what: "field form", tag: tag.into() }),
            }
        }
    };
    let canonical = !field.is_empty() && plain == origins.table.first().is_some_and(|first| is_plain(&field, first));
    if canonical { Ok(field) } else { Err(Error::Malformed { what: "field" }) }
}

fn read_entries(
    input: &mut Reader<'_>,
    mut entry: impl FnMut(&mut Reader<'_>) -> Result<Field, Error>,
) -> Result<BTreeMap<Arc<str>, Field>, Error> {
    let mut entries = BTreeMap::<Arc<str>, Field>::new();
    for _ in 0..input.count(2)? {
        let key: Arc<str> = input.text()?.into();
        let entry = entry(input)?;
        if entries.last_key_value().is_some_and(|(before, _)| *before >= key) {
            return Err(Error::Order { what: "entries of a map" });
        }
        entries.insert(key, entry);
    }
    Ok(entries)
}

/// The time in a stamp, for those who need no more.
impl From<Stamp> for Time {
    fn from(stamp: Stamp) -> Self {
        stamp.time
    }
}
