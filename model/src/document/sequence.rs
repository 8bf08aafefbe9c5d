//! A sequence of elements that any number of people edit at once: the tree of FugueMax (Weidner and Kleppmann, "The Art of the Fugue", 2023).
//!
//! Each element hangs on the left or right side of another; the order is that of the tree, left sides first. Law: the sequence is a function
//! of the set of runs inserted, in whatever causal order they came, and a run that nobody inserted into stays in one piece. Elements that an
//! edit inserted together hang each on the one before it, so they are kept as one run. Deleted elements keep their place for those who insert
//! beside them without having heard; only a horizon can drop them. What an element holds is in `text` and `list`.

use std::cmp::{Ordering, Reverse};

use super::{Context, Dot, Stamp};
use crate::edit::{Element, Place, Side};

/// Names an element: the edit that inserted it, and its place among what that edit inserted in this sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementId {
    /// The edit.
    pub dot: Dot,
    /// Its place.
    pub offset: u32,
}

/// An element by the run that holds it and its place in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) run: usize,
    pub(super) at: u32,
}

/// Elements that one edit inserted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run<C> {
    pub(super) stamp: Stamp,
    /// Place of the first among what the edit inserted.
    pub(super) start: u32,
    /// How many; not 0.
    pub(super) len: u32,
    /// What the first hangs on; none: the beginning.
    pub(super) parent: Option<Spot>,
    pub(super) side: Side,
    /// What was on the right when it was inserted on a right side; none: the end.
    pub(super) right: Option<Spot>,
    /// What the elements hold.
    pub(super) content: C,
}

/// Elements of a run that follow each other in the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) run: usize,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// Runs in the order in which the tree is walked from its root: each run, then what hangs on it, left sides first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sequence<C> {
    pub(super) runs: Vec<Run<C>>,
}

impl<C> Default for Sequence<C> {
    fn default() -> Self {
        Self { runs: Vec::new() }
    }
}

impl<C> Sequence<C> {
    /// Returns where an element is kept.
    pub(super) fn find(&self, id: &ElementId) -> Option<Spot> {
        let holds = |run: &Run<C>| run.stamp.dot == id.dot && run.start <= id.offset && id.offset - run.start < run.len;
        let run = self.runs.iter().rposition(holds)?;
        Some(Spot { run, at: id.offset - self.runs[run].start })
    }

    /// Returns the id of the element at `spot`.
    pub(super) fn id(&self, spot: Spot) -> ElementId {
        let run = &self.runs[spot.run];
        ElementId { dot: run.stamp.dot, offset: run.start + spot.at }
    }

    /// Returns where the element is kept that an edit made in `context` names; none if it is not among what the edit can have seen, say because
    /// the request that inserted it was voided.
    fn resolve(&self, element: Option<Element>, context: &Context<'_>) -> Option<Spot> {
        match element? {
            Element::Own(offset) => self.find(&ElementId { dot: context.stamp.dot, offset }),
            Element::Known(id) if context.saw(&id.dot) => self.find(&id),
            Element::Known(_) => None,
        }
    }

    /// Inserts a run of `len` elements. Where its parent is gone, it hangs on the other neighbour, else on the beginning.
    pub(super) fn insert(&mut self, context: &Context<'_>, start: u32, len: u32, place: &Place, content: C) {
        let (parent, other) = (self.resolve(place.parent, context), self.resolve(place.other, context));
        let (parent, side, right) = match (place.side, parent, other) {
            (Side::Right, Some(parent), right) => (Some(parent), Side::Right, right),
            (Side::Right, None, right) if place.parent.is_none() => (None, Side::Right, right),
            (Side::Left, Some(parent), _) | (Side::Right, None, Some(parent)) => (Some(parent), Side::Left, None),
            (_, None, other) => (other, Side::Right, None),
        };
        let run = Run { stamp: context.stamp, start, len, parent, side, right, content };
        let at = self.slot(&run);
        for spot in self.runs.iter_mut().flat_map(|run| [&mut run.parent, &mut run.right]).flatten() {
            spot.run += usize::from(spot.run >= at);
        }
        let shift = |spot: Spot| Spot { run: spot.run + usize::from(spot.run >= at), ..spot };
        self.runs.insert(at, Run { parent: run.parent.map(shift), right: run.right.map(shift), ..run });
    }

    /// Returns where among the runs a new one goes.
    fn slot(&self, new: &Run<C>) -> usize {
        let (mut at, end) = new.parent.map_or((0, self.runs.len()), |parent| (parent.run + 1, self.end(parent.run)));
        while at < end && self.order(&self.runs[at], new).is_lt() {
            at = self.end(at);
        }
        at
    }

    /// Returns the end of what hangs on a run, the run included.
    pub(super) fn end(&self, run: usize) -> usize {
        let below = |next: &Run<C>| next.parent.is_some_and(|parent| parent.run >= run);
        run + 1 + self.runs[run + 1..].iter().take_while(|next| below(next)).count()
    }

    /// Order of two runs that hang on one run: left sides first, in order of the elements they hang on. On a right side the one whose right
    /// neighbour was farther comes first: so whoever inserted between others stays between them. Else the earlier one comes first.
    pub(super) fn order(&self, one: &Run<C>, other: &Run<C>) -> Ordering {
        let at = |run: &Run<C>| run.parent.map_or(0, |parent| parent.at);
        let by_place = match (one.side, other.side) {
            (Side::Left, Side::Left) => at(one).cmp(&at(other)),
            (Side::Right, Side::Right) => at(other).cmp(&at(one)).then_with(|| {
                if one.right == other.right {
                    return Ordering::Equal;
                }
                // The end of the sequence is farther than any element.
                let far = |right: Option<Spot>| right.map_or(usize::MAX, |spot| self.rank(spot));
                Reverse(far(one.right)).cmp(&Reverse(far(other.right)))
            }),
            (one, other) => one.cmp(&other),
        };
        by_place.then_with(|| (one.stamp, one.start).cmp(&(other.stamp, other.start)))
    }

    /// Returns how many elements come before the one at `spot`.
    fn rank(&self, spot: Spot) -> usize {
        let mut before = 0;
        for stretch in self.stretches() {
            if stretch.run == spot.run && (stretch.from..stretch.to).contains(&spot.at) {
                return before + (spot.at - stretch.from) as usize;
            }
            before += (stretch.to - stretch.from) as usize;
        }
        before
    }

    /// Returns all elements in their order, deleted ones too.
    pub(super) fn stretches(&self) -> Vec<Stretch> {
        const NONE: usize = usize::MAX;
        let count = self.runs.len();
        // The root stands after the runs.
        let (mut first, mut last, mut next) = (vec![NONE; count + 1], vec![NONE; count + 1], vec![NONE; count]);
        for (at, run) in self.runs.iter().enumerate() {
            let parent = run.parent.map_or(count, |parent| parent.run);
            match last[parent] {
                NONE => first[parent] = at,
                before => next[before] = at,
            }
            last[parent] = at;
        }
        let mut stretches = Vec::with_capacity(count);
        // Explicit, since the tree is as deep as a text is long that was typed letter by letter.
        let mut stack = vec![(count, first[count], 0)];
        while let Some((run, child, from)) = stack.last_mut() {
            let len = self.runs.get(*run).map_or(0, |run| run.len);
            let to = match self.runs.get(*child) {
                Some(Run { side: Side::Left, parent: Some(parent), .. }) => parent.at,
                _ => len,
            };
            if *from < to {
                stretches.push(Stretch { run: *run, from: *from, to });
                *from = to;
            }
            if *child == NONE {
                stack.pop();
            } else {
                let below = *child;
                *child = next[below];
                stack.push((below, first[below], 0));
            }
        }
        stretches
    }

    /// Returns where something is inserted right after the element `left`, or at the beginning. `stretches` are all elements in order.
    pub(super) fn place_after(&self, stretches: &[Stretch], left: Option<Spot>) -> Place {
        let first = |stretch: &Stretch| Spot { run: stretch.run, at: stretch.from };
        let next = match left {
            None => stretches.first().map(first),
            Some(left) => {
                let holds = |stretch: &Stretch| stretch.run == left.run && (stretch.from..stretch.to).contains(&left.at);
                let at = stretches.iter().position(holds).expect("stretches hold all elements");
                let inside = (left.at + 1 < stretches[at].to).then_some(Spot { at: left.at + 1, ..left });
                inside.or_else(|| stretches.get(at + 1).map(first))
            }
        };
        let has_right = match left {
            None => !self.runs.is_empty(),
            Some(left) => {
                let hangs = |run: &Run<C>| run.side == Side::Right && run.parent == Some(left);
                left.at + 1 < self.runs[left.run].len || self.runs.iter().any(hangs)
            }
        };
        let known = |spot: Spot| Element::Known(self.id(spot));
        match next {
            Some(next) if has_right => Place { parent: Some(known(next)), side: Side::Left, other: left.map(known) },
            next => Place { parent: left.map(known), side: Side::Right, other: next.map(known) },
        }
    }
}
