//! Bytes of a document.
//!
//! Values name their edit by its place in a table of origins, so a document written by one edit says that edit once. A field all of
//! whose values come from the first origin, one each, is `plain` and says nothing more.

use std::{collections::BTreeMap, sync::Arc};

use super::{Document, Dot, Field, Sibling, Siblings, Stamp};
use crate::{
    codec::{Decode, Encode, Error, Reader, Writer},
    id::ChainId,
    schema::{FieldId, number},
    time::Time,
    value::Scalar,
};

const REGISTER: u64 = 0;
const SET: u64 = 1;
const MAP: u64 = 2;
const PLAIN: u64 = 4;

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
        let mut origins: Vec<Stamp> = self.stamps().collect();
        origins.sort_unstable();
        origins.dedup();
        out.list(origins.iter());
        out.count(self.alive.len());
        for stamp in &self.alive {
            refer(out, &origins, stamp);
        }
        out.count(self.fields.len());
        for (id, field) in &self.fields {
            encode_field(out, &origins, *id, field);
        }
    }
}

fn refer(out: &mut Writer, origins: &[Stamp], stamp: &Stamp) {
    out.count(origins.binary_search(stamp).expect("every stamp of the document is an origin"));
}

fn encode_field(out: &mut Writer, origins: &[Stamp], id: FieldId, field: &Field) {
    let plain = is_plain(field, &origins[0]);
    let form = match field {
        Field::Register(_) => REGISTER,
        Field::Set(_) => SET,
        Field::Map(_) => MAP,
    };
    out.uint(u64::from(id.0) << 3 | if plain { PLAIN } else { 0 } | form);
    match field {
        Field::Register(siblings) => encode_siblings(out, origins, plain, siblings, |out, value| match value {
            Some(value) => value.encode(out),
            None => out.byte(ABSENT),
        }),
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
            out.count(entries.len());
            for (key, siblings) in entries {
                out.text(key);
                encode_siblings(out, origins, plain, siblings, |out, value| value.encode(out));
            }
        }
    }
}

fn encode_siblings<T>(out: &mut Writer, origins: &[Stamp], plain: bool, siblings: &Siblings<T>, value: impl Fn(&mut Writer, &T)) {
    if plain {
        value(out, &siblings[0].value);
        return;
    }
    out.count(siblings.len());
    for sibling in siblings {
        refer(out, origins, &sibling.stamp);
        value(out, &sibling.value);
    }
}

fn is_plain(field: &Field, first: &Stamp) -> bool {
    match field {
        Field::Register(siblings) => siblings.len() == 1 && siblings[0].stamp == *first,
        Field::Set(elements) => elements.values().all(|adds| adds.len() == 1 && adds[0] == *first),
        Field::Map(entries) => entries.values().all(|siblings| siblings.len() == 1 && siblings[0].stamp == *first),
    }
}

impl Decode for Document {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        let origins: Vec<Stamp> = input.list(ORIGIN)?;
        if !origins.is_sorted_by(|a, b| a < b) {
            return Err(Error::Order { what: "origins of a document" });
        }
        let mut used = vec![false; origins.len()];
        let mut origins = Origins { table: &origins, used: &mut used };
        let alive = origins.stamps(input)?;
        let count = input.count(2)?;
        let mut fields = Vec::<(FieldId, Field)>::with_capacity(count);
        for _ in 0..count {
            let (id, field) = decode_field(input, &mut origins)?;
            if fields.last().is_some_and(|(before, _)| *before >= id) {
                return Err(Error::Order { what: "fields of a document" });
            }
            fields.push((id, field));
        }
        if used.iter().all(|used| *used) { Ok(Self { alive, fields }) } else { Err(Error::Malformed { what: "unused origin" }) }
    }
}

/// The table of origins while a document is read, with a note of which were named.
struct Origins<'a> {
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

    fn siblings<T>(
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

fn decode_field(input: &mut Reader<'_>, origins: &mut Origins<'_>) -> Result<(FieldId, Field), Error> {
    let head = input.uint()?;
    let id = u16::try_from(head >> 3).map(FieldId).map_err(|_| Error::Malformed { what: "field number" })?;
    let plain = head & PLAIN != 0;
    let field = match head & 3 {
        REGISTER => Field::Register(origins.siblings(input, plain, |input| {
            if input.rest().first() == Some(&ABSENT) { input.byte().map(|_| None) } else { Scalar::decode(input).map(Some) }
        })?),
        SET => {
            let mut elements = BTreeMap::<Scalar, Vec<Stamp>>::new();
            for _ in 0..input.count(1)? {
                let element = Scalar::decode(input)?;
                let adds = if plain { vec![origins.at(0)?] } else { origins.stamps(input)? };
                if adds.is_empty() || elements.last_key_value().is_some_and(|(before, _)| *before >= element) {
                    return Err(Error::Order { what: "elements of a set" });
                }
                elements.insert(element, adds);
            }
            Field::Set(elements)
        }
        MAP => {
            let mut entries = BTreeMap::<Arc<str>, Siblings<Scalar>>::new();
            for _ in 0..input.count(2)? {
                let key: Arc<str> = input.text()?.into();
                let siblings = origins.siblings(input, plain, Scalar::decode)?;
                if entries.last_key_value().is_some_and(|(before, _)| *before >= key) {
                    return Err(Error::Order { what: "entries of a map" });
                }
                entries.insert(key, siblings);
            }
            Field::Map(entries)
        }
        tag => return Err(Error::Unknown { what: "field form", tag }),
    };
    let canonical = !field.is_empty() && plain == origins.table.first().is_some_and(|first| is_plain(&field, first));
    if canonical { Ok((id, field)) } else { Err(Error::Malformed { what: "field" }) }
}

/// The time in a stamp, for those who need no more.
impl From<Stamp> for Time {
    fn from(stamp: Stamp) -> Self {
        stamp.time
    }
}
