//! Edits of texts and lists: elements are inserted beside others, deleted, replaced and moved by their ids, never by position.
//!
//! An element's id is the edit that inserted it and its place among what that edit inserted there, so an id costs nothing to make and a paste
//! of a thousand characters is one run. The edit's own dot is not known while it is made: its own elements are named by place alone.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    codec::{Decode, Encode, Error as Codec, Reader, Writer},
    document::{Dot, ElementId},
    schema::number,
    value::Value,
};

/// Names an element in an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// The element of that place among those that the edit itself inserts.
    Own(u32),
    /// One that its author had seen.
    Known(ElementId),
}

/// On which side of its parent an element hangs in the tree of the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Before it, after all that is there before it.
    Left,
    /// After it, before all that is there after it.
    Right,
}

/// Where a run is inserted: between two elements that were neighbours for its author, counting deleted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The neighbour it hangs on; none: the beginning of the sequence, on whose right side all begins.
    pub parent: Option<Element>,
    /// On which side.
    pub side: Side,
    /// The neighbour on the other side; none: the end, or the beginning.
    pub other: Option<Element>,
}

/// Elements of one edit that follow each other by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first.
    pub from: ElementId,
    /// How many, not 0.
    pub len: u32,
}

impl Span {
    /// Puts spans in order, and those together that touch.
    pub(crate) fn merge(spans: &mut Vec<Self>) {
        spans.sort_unstable();
        spans.dedup_by(|next, span| {
            let touches = next.from.dot == span.from.dot && next.from.offset <= span.from.offset + span.len;
            if touches {
                span.len = span.len.max(next.from.offset + next.len - span.from.offset);
            }
            touches
        });
    }
}

/// A change of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextEdit {
    /// Runs in the order of their elements' places, none empty.
    pub inserts: Vec<(Place, Arc<str>)>,
    /// What is deleted: rising, no two touching.
    pub deletes: Vec<Span>,
}

/// A change of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListEdit {
    /// Runs in the order of their elements' places, none empty.
    pub inserts: Vec<(Place, Vec<Value>)>,
    /// Elements that stand elsewhere from now on, rising. Each takes a place of its own among the edit's elements, after those inserted.
    pub moves: Vec<(ElementId, Place)>,
    /// Elements that hold another value, rising.
    pub sets: Vec<(ElementId, Value)>,
    /// What is deleted: rising, no two touching.
    pub deletes: Vec<Span>,
}

impl TextEdit {
    /// Whether nothing is done.
    pub const fn is_empty(&self) -> bool {
        self.inserts.is_empty() && self.deletes.is_empty()
    }

    pub(super) fn is_canonical(&self) -> bool {
        let lens = self.inserts.iter().map(|(place, text)| (place, text.chars().count()));
        are_places(lens, 0).is_some() && are_apart(&self.deletes)
    }
}

impl ListEdit {
    /// Whether nothing is done.
    pub const fn is_empty(&self) -> bool {
        self.inserts.is_empty() && self.moves.is_empty() && self.sets.is_empty() && self.deletes.is_empty()
    }

    pub(super) fn is_canonical(&self) -> bool {
        let inserted = are_places(self.inserts.iter().map(|(place, values)| (place, values.len())), 0);
        let moved = inserted.and_then(|own| are_places(self.moves.iter().map(|(_, place)| (place, 1)), own));
        let rises = self.moves.is_sorted_by(|a, b| a.0 < b.0) && self.sets.is_sorted_by(|a, b| a.0 < b.0);
        moved.is_some() && rises && are_apart(&self.deletes)
    }
}

/// Whether each run hangs on something and names only own elements before it. Returns the number of own elements.
fn are_places<'a>(mut runs: impl Iterator<Item = (&'a Place, usize)>, own: u32) -> Option<u32> {
    runs.try_fold(own, |own, (place, len)| {
        let is_before = |element: Option<Element>| !matches!(element, Some(Element::Own(at)) if at >= own);
        let hangs = place.side == Side::Right || place.parent.is_some();
        let own = own.checked_add(u32::try_from(len).ok()?)?;
        (len > 0 && hangs && is_before(place.parent) && is_before(place.other)).then_some(own)
    })
}

fn are_apart(spans: &[Span]) -> bool {
    let end = |span: &Span| span.from.offset.checked_add(span.len);
    let whole = spans.iter().all(|span| span.len > 0 && end(span).is_some());
    whole && spans.is_sorted_by(|a, b| (a.from.dot, end(a)) < (b.from.dot, Some(b.from.offset)))
}

/// The dots that an edit names, once each.
struct Dots(Vec<Dot>);

impl Dots {
    fn of<'a>(places: impl Iterator<Item = &'a Place>, ids: impl Iterator<Item = ElementId>) -> Self {
        let known = |element| match element {
            Some(Element::Known(id)) => Some(id.dot),
            _ => None,
        };
        let named = places.flat_map(|place| [place.parent, place.other]).filter_map(known);
        Self(named.chain(ids.map(|id| id.dot)).collect::<BTreeSet<_>>().into_iter().collect())
    }

    fn write_id(&self, out: &mut Writer, id: &ElementId) {
        out.count(self.0.binary_search(&id.dot).expect("every dot of the edit is in its table"));
        out.uint(id.offset.into());
    }

    fn write_place(&self, out: &mut Writer, place: &Place) {
        out.byte(u8::from(place.side == Side::Left));
        for element in [place.parent, place.other] {
            match element {
                None => out.byte(0),
                Some(Element::Own(at)) => {
                    out.byte(1);
                    out.uint(at.into());
                }
                Some(Element::Known(id)) => {
                    out.count(2 + self.0.binary_search(&id.dot).expect("every dot of the edit is in its table"));
                    out.uint(id.offset.into());
                }
            }
        }
    }

    fn write_spans(&self, out: &mut Writer, spans: &[Span]) {
        out.count(spans.len());
        for Span { from, len } in spans {
            self.write_id(out, from);
            out.uint((*len).into());
        }
    }
}

/// The table of dots while an edit is read, with a note of which were named.
struct Named {
    dots: Vec<Dot>,
    used: Vec<bool>,
}

impl Named {
    fn read(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let dots: Vec<Dot> = input.list(18)?;
        if !dots.is_sorted_by(|a, b| a < b) {
            return Err(Codec::Order { what: "dots of an edit" });
        }
        Ok(Self { used: vec![false; dots.len()], dots })
    }

    fn id_at(&mut self, at: usize, input: &mut Reader<'_>) -> Result<ElementId, Codec> {
        let dot = *self.dots.get(at).ok_or(Codec::Malformed { what: "element's dot" })?;
        self.used[at] = true;
        Ok(ElementId { dot, offset: number(input, "element's place")? })
    }

    fn id(&mut self, input: &mut Reader<'_>) -> Result<ElementId, Codec> {
        let at: usize = number(input, "element's dot")?;
        self.id_at(at, input)
    }

    fn element(&mut self, input: &mut Reader<'_>) -> Result<Option<Element>, Codec> {
        Ok(match number::<usize>(input, "element's dot")? {
            0 => None,
            1 => Some(Element::Own(number(input, "element's place")?)),
            at => Some(Element::Known(self.id_at(at - 2, input)?)),
        })
    }

    fn place(&mut self, input: &mut Reader<'_>) -> Result<Place, Codec> {
        let side = match input.byte()? {
            0 => Side::Right,
            1 => Side::Left,
            tag => return Err(Codec::Unknown { what: "side", tag: tag.into() }),
        };
        Ok(Place { side, parent: self.element(input)?, other: self.element(input)? })
    }

    fn spans(&mut self, input: &mut Reader<'_>) -> Result<Vec<Span>, Codec> {
        let count = input.count(3)?;
        (0..count).map(|_| Ok(Span { from: self.id(input)?, len: number(input, "span")? })).collect()
    }

    fn end(self) -> Result<(), Codec> {
        if self.used.iter().all(|used| *used) { Ok(()) } else { Err(Codec::Malformed { what: "unused dot" }) }
    }
}

impl Encode for TextEdit {
    fn encode(&self, out: &mut Writer) {
        let dots = Dots::of(self.inserts.iter().map(|(place, _)| place), self.deletes.iter().map(|span| span.from));
        out.list(dots.0.iter());
        out.count(self.inserts.len());
        for (place, text) in &self.inserts {
            dots.write_place(out, place);
            out.text(text);
        }
        dots.write_spans(out, &self.deletes);
    }
}

impl Decode for TextEdit {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let mut named = Named::read(input)?;
        let count = input.count(5)?;
        let inserts = (0..count).map(|_| Ok((named.place(input)?, input.text()?.into()))).collect::<Result<_, Codec>>()?;
        let edit = Self { inserts, deletes: named.spans(input)? };
        named.end()?;
        if edit.is_canonical() { Ok(edit) } else { Err(Codec::Order { what: SPLICES }) }
    }
}

impl Encode for ListEdit {
    fn encode(&self, out: &mut Writer) {
        let places = self.inserts.iter().map(|(place, _)| place).chain(self.moves.iter().map(|(_, place)| place));
        let ids = self.moves.iter().map(|(id, _)| *id).chain(self.sets.iter().map(|(id, _)| *id));
        let dots = Dots::of(places, ids.chain(self.deletes.iter().map(|span| span.from)));
        out.list(dots.0.iter());
        out.count(self.inserts.len());
        for (place, values) in &self.inserts {
            dots.write_place(out, place);
            out.list(values.iter());
        }
        out.count(self.moves.len());
        for (id, place) in &self.moves {
            dots.write_id(out, id);
            dots.write_place(out, place);
        }
        out.count(self.sets.len());
        for (id, value) in &self.sets {
            dots.write_id(out, id);
            value.encode(out);
        }
        dots.write_spans(out, &self.deletes);
    }
}

impl Decode for ListEdit {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let mut named = Named::read(input)?;
        let count = input.count(5)?;
        let inserts = (0..count).map(|_| Ok((named.place(input)?, input.list(1)?))).collect::<Result<_, Codec>>()?;
        let count = input.count(5)?;
        let moves = (0..count).map(|_| Ok((named.id(input)?, named.place(input)?))).collect::<Result<_, Codec>>()?;
        let count = input.count(3)?;
        let sets = (0..count).map(|_| Ok((named.id(input)?, Value::decode(input)?))).collect::<Result<_, Codec>>()?;
        let edit = Self { inserts, moves, sets, deletes: named.spans(input)? };
        named.end()?;
        if edit.is_canonical() { Ok(edit) } else { Err(Codec::Order { what: SPLICES }) }
    }
}

/// What a codec calls the parts of such an edit.
pub(super) const SPLICES: &str = "splices of an edit";
