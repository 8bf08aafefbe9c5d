//! Bytes of texts and lists.
//!
//! Runs lie in the order of the tree, so each names its parent by the way back to it; chains lie in a table of their own, since the edits of a
//! text are mostly one session's, one after another.

use std::collections::BTreeSet;

use super::{
    ElementId, Item, List, Stamp, Text,
    bytes::{Origins, read_value, refer, write_value},
    register,
    sequence::{Run, Sequence, Spot},
    text::Letters,
};
use crate::{
    codec::{Decode as _, Encode as _, Error, Reader, Writer},
    document::{Dot, Sibling, Siblings},
    edit::Side,
    id::ChainId,
    schema::number,
    time::Time,
};

/// How the items of a run are kept: all as their edit inserted them, or each with its stamps.
const FRESH: u8 = 0;
const MIXED: u8 = 1;

fn write_runs<C>(out: &mut Writer, sequence: &Sequence<C>, mut content: impl FnMut(&mut Writer, &Run<C>)) {
    let chains: BTreeSet<ChainId> = sequence.runs.iter().map(|run| run.stamp.dot.chain).collect();
    let chains: Vec<_> = chains.into_iter().collect();
    out.list(chains.iter());
    out.count(sequence.runs.len());
    let mut millis = 0;
    for (at, run) in sequence.runs.iter().enumerate() {
        let back = run.parent.map_or(0, |parent| at - parent.run);
        out.uint((back as u64) << 1 | u64::from(run.side == Side::Left));
        if let Some(parent) = run.parent {
            out.uint((sequence.runs[parent.run].len - 1 - parent.at).into());
        }
        if run.side == Side::Right {
            out.count(run.right.map_or(0, |right| right.run + 1));
            if let Some(right) = run.right {
                out.uint(right.at.into());
            }
        }
        let Stamp { time, dot } = &run.stamp;
        out.count(chains.binary_search(&dot.chain).expect("every chain is in the table"));
        out.uint(dot.counter);
        out.uint((dot.index >> 16).into());
        out.uint((dot.index & 0xffff).into());
        out.int(time.millis().wrapping_sub(millis).cast_signed());
        out.uint(time.raw() & 0xffff);
        millis = time.millis();
        out.uint(run.start.into());
        out.uint(run.len.into());
        content(out, run);
    }
}

fn read_runs<C>(
    input: &mut Reader<'_>,
    mut content: impl FnMut(&mut Reader<'_>, &Stamp, u32) -> Result<C, Error>,
) -> Result<Sequence<C>, Error> {
    const MALFORMED: Error = Error::Malformed { what: "sequence" };
    let chains: Vec<ChainId> = input.list(ChainId::LEN)?;
    if !chains.is_sorted_by(|a, b| a < b) {
        return Err(Error::Order { what: "chains of a sequence" });
    }
    let mut used = vec![false; chains.len()];
    let count = input.count(9)?;
    let mut runs = Vec::<Run<C>>::with_capacity(count);
    let mut millis = 0u64;
    for at in 0..count {
        let head = input.uint()?;
        let side = if head & 1 == 1 { Side::Left } else { Side::Right };
        let parent = match usize::try_from(head >> 1).map_err(|_| MALFORMED)? {
            0 => None,
            back => {
                let run = at.checked_sub(back).ok_or(MALFORMED)?;
                let at = runs[run].len.checked_sub(1).and_then(|last| last.checked_sub(number(input, "element").ok()?)).ok_or(MALFORMED)?;
                Some(Spot { run, at })
            }
        };
        let right = match (side, if side == Side::Right { number(input, "run")? } else { 0usize }) {
            (_, 0) => None,
            (_, place) => Some(Spot { run: place - 1, at: number(input, "element")? }),
        };
        let chain: usize = number(input, "chain")?;
        *used.get_mut(chain).ok_or(MALFORMED)? = true;
        let counter = input.uint()?;
        let (request, edit): (u16, u16) = (number(input, "request")?, number(input, "edit")?);
        millis = millis.wrapping_add(input.int()?.cast_unsigned());
        let low: u16 = number(input, "time")?;
        let raw = millis.checked_mul(1 << 16).map(|high| high | u64::from(low)).filter(|raw| *raw <= crate::time::MAX.raw());
        let dot = Dot { chain: chains[chain], counter, index: Dot::index(request.into(), edit.into()) };
        let stamp = Stamp { time: Time::from_raw(raw.ok_or(MALFORMED)?), dot };
        let (start, len): (u32, u32) = (number(input, "element")?, number(input, "run")?);
        if len == 0 || start.checked_add(len).is_none() || side == Side::Left && parent.is_none() {
            return Err(MALFORMED);
        }
        let content = content(input, &stamp, len)?;
        runs.push(Run { stamp, start, len, parent, side, right, content });
    }
    let sequence = Sequence { runs };
    if used.iter().all(|used| *used) && is_tree(&sequence) { Ok(sequence) } else { Err(MALFORMED) }
}

/// Whether the runs lie in the order of their tree, siblings in theirs.
fn is_tree<C>(sequence: &Sequence<C>) -> bool {
    let runs = &sequence.runs;
    let is_there = |spot: &Spot| runs.get(spot.run).is_some_and(|run| spot.at < run.len);
    if !runs.iter().all(|run| run.parent.iter().chain(&run.right).all(is_there)) {
        return false;
    }
    // What stands open is the way from the root to the run before, with the newest run on each of it.
    let mut open: Vec<(Option<usize>, Option<usize>)> = vec![(None, None)];
    for (at, run) in runs.iter().enumerate() {
        let parent = run.parent.map(|parent| parent.run);
        while open.last().is_some_and(|(run, _)| *run != parent) {
            open.pop();
        }
        let Some((_, newest)) = open.last_mut() else { return false };
        if newest.replace(at).is_some_and(|before| sequence.order(&runs[before], run).is_ge()) {
            return false;
        }
        open.push((Some(at), None));
    }
    true
}

pub(super) fn write_text(out: &mut Writer, text: &Text) {
    write_runs(out, &text.letters, |out, run| {
        out.count(run.content.dead.len());
        let mut end = 0;
        for (from, to) in &run.content.dead {
            out.uint((from - end).into());
            out.uint((to - from).into());
            end = *to;
        }
        out.text(&run.content.living);
    });
}

pub(super) fn read_text(input: &mut Reader<'_>) -> Result<Text, Error> {
    let letters = read_runs(input, |input, _, len| {
        let (mut dead, mut end) = (Vec::new(), 0u32);
        for at in 0..input.count(2)? {
            let (gap, gone): (u32, u32) = (number(input, "letters")?, number(input, "letters")?);
            let from = end.checked_add(gap).ok_or(Error::Malformed { what: "letters" })?;
            end = from
                .checked_add(gone)
                .filter(|end| *end <= len && gone > 0 && (gap > 0 || at == 0))
                .ok_or(Error::Malformed { what: "letters" })?;
            dead.push((from, end));
        }
        let gone: u32 = dead.iter().map(|(from, to)| to - from).sum();
        let living = input.text()?.to_owned();
        if living.chars().count() == (len - gone) as usize {
            Ok(Letters { dead, living })
        } else {
            Err(Error::Malformed { what: "letters" })
        }
    })?;
    Ok(Text { letters })
}

/// Whether every item of the run is as its edit inserted it.
fn is_fresh(stamp: &Stamp, items: &[Item]) -> bool {
    let is_fresh = |value: &Siblings<_>| matches!(&value[..], [Sibling { stamp: of, value: Some(_) }] if of == stamp);
    items.iter().all(|item| item.place.is_empty() && is_fresh(&item.value))
}

impl Item {
    /// Returns the stamps of its values and places.
    pub(super) fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        self.value.iter().map(|sibling| sibling.stamp).chain(self.place.iter().map(|sibling| sibling.stamp))
    }
}

impl List {
    /// Returns the stamps that its bytes name by their place among the document's origins.
    pub(super) fn origins(&self) -> impl Iterator<Item = Stamp> + '_ {
        let mixed = self.slots.runs.iter().filter(|run| !is_fresh(&run.stamp, &run.content));
        mixed.flat_map(|run| &run.content).flat_map(Item::stamps)
    }
}

pub(super) fn write_list(out: &mut Writer, origins: &[Stamp], list: &List) {
    write_runs(out, &list.slots, |out, run| {
        if is_fresh(&run.stamp, &run.content) {
            out.byte(FRESH);
            run.content.iter().for_each(|item| write_value(out, item.value[0].value.as_ref()));
            return;
        }
        out.byte(MIXED);
        for item in &run.content {
            out.count(item.value.len());
            for sibling in &item.value {
                refer(out, origins, &sibling.stamp);
                write_value(out, sibling.value.as_ref());
            }
            out.count(item.place.len());
            for Sibling { stamp, value: ElementId { dot, offset } } in &item.place {
                refer(out, origins, stamp);
                dot.encode(out);
                out.uint((*offset).into());
            }
        }
    });
}

pub(super) fn read_list(input: &mut Reader<'_>, origins: &mut Origins<'_>) -> Result<List, Error> {
    let slots = read_runs(input, |input, stamp, len| {
        let fresh = match input.byte()? {
            FRESH => true,
            MIXED => false,
            tag => return Err(Error::Unknown { what: "form of items", tag: tag.into() }),
        };
        // Each item takes a byte at least.
        if len as usize > input.left() {
            return Err(Error::Truncated { missing: len as usize - input.left() });
        }
        let items = (0..len).map(|_| {
            if fresh {
                return Ok(Item { value: register::of(*stamp, read_value(input)?), place: Vec::new() });
            }
            let value = if input.rest().first() == Some(&0) {
                input.byte().map(|_| Vec::new())?
            } else {
                origins.siblings(input, false, read_value)?
            };
            let place = if input.rest().first() == Some(&0) {
                input.byte().map(|_| Vec::new())?
            } else {
                origins.siblings(input, false, read_id)?
            };
            Ok(Item { value, place })
        });
        let items: Vec<_> = items.collect::<Result<_, Error>>()?;
        if is_fresh(stamp, &items) == fresh { Ok(items) } else { Err(Error::Malformed { what: "items" }) }
    })?;
    Ok(List { slots })
}

fn read_id(input: &mut Reader<'_>) -> Result<ElementId, Error> {
    Ok(ElementId { dot: Dot::decode(input)?, offset: number(input, "element's place")? })
}
