//! A list that is edited item by item: items keep their identity while others insert, replace and move (Kleppmann, "Moving Elements in List
//! CRDTs", 2020).
//!
//! Each item is a register, and stands at the newest place that a move gave it, else where it was inserted; so two moves of one item never make
//! two of it. A delete takes away the values it saw: an item that others gave a value meanwhile stays.

use std::collections::BTreeMap;

use super::{
    Context, Dot, ElementId, Rule, Siblings,
    register::{self, write},
    sequence::{Sequence, Spot, Stretch},
};
use crate::{
    edit::{Element, ListEdit, Place, Span},
    schema::Policy,
    value::Value,
};

/// What is kept of a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct List {
    pub(super) slots: Sequence<Vec<Item>>,
}

/// What is kept of an item, at the element it was inserted as.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// Its value; none: it is deleted, or the element is a place alone.
    pub value: Siblings<Option<Value>>,
    /// Where moves put it.
    pub place: Siblings<ElementId>,
}

/// What happens to a list, by positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListSplice {
    /// Replaces `removed` items from position `at` on by others.
    Splice {
        /// Position.
        at: u64,
        /// How many are removed.
        removed: u64,
        /// What is inserted.
        inserted: Vec<Value>,
    },
    /// Gives the item at a position another value.
    Set {
        /// Position.
        at: u64,
        /// Its value.
        value: Value,
    },
    /// Moves an item to where another one stands, before it if it comes from behind, else after it.
    Move {
        /// Position of the item.
        from: u64,
        /// Position where it stands then.
        to: u64,
    },
}

impl List {
    /// Returns the items in order, with their ids.
    pub fn items(&self) -> Vec<(ElementId, &Item)> {
        self.standing(&self.slots.stretches()).into_iter().map(|(_, spot)| (self.slots.id(spot), self.item(spot))).collect()
    }

    /// Returns every value that is kept, in no order that means anything.
    pub(super) fn values(&self) -> impl Iterator<Item = &Value> {
        let items = self.slots.runs.iter().flat_map(|run| &run.content);
        items.flat_map(|item| &item.value).filter_map(|sibling| sibling.value.as_ref())
    }

    fn item(&self, spot: Spot) -> &Item {
        &self.slots.runs[spot.run].content[spot.at as usize]
    }

    /// Returns where items stand, in order, and where they are kept.
    fn standing(&self, stretches: &[Stretch]) -> Vec<(Spot, Spot)> {
        let mut moved = BTreeMap::<Spot, Vec<Spot>>::new();
        for (run, content) in self.slots.runs.iter().map(|run| &run.content).enumerate() {
            for (at, item) in (0..).zip(content) {
                if let (false, Some(place)) = (item.value.is_empty(), item.place.last())
                    && let Some(slot) = self.slots.find(&place.value)
                {
                    moved.entry(slot).or_default().push(Spot { run, at });
                }
            }
        }
        let spots = stretches.iter().flat_map(|stretch| (stretch.from..stretch.to).map(|at| Spot { run: stretch.run, at }));
        let mut standing = Vec::new();
        for spot in spots {
            let item = self.item(spot);
            if !item.value.is_empty() && item.place.is_empty() {
                standing.push((spot, spot));
            }
            standing.extend(moved.get(&spot).into_iter().flatten().map(|item| (spot, *item)));
        }
        standing
    }

    /// Whether no item is left.
    pub fn is_blank(&self) -> bool {
        self.slots.runs.iter().flat_map(|run| &run.content).all(|item| item.value.is_empty())
    }

    /// Returns the edit that does `splices`, one after another, each on the list as it is before all of them: positions rise apart from each
    /// other in splices; `None` if one reaches beyond the list.
    pub fn splice(&self, splices: &[ListSplice]) -> Option<ListEdit> {
        let stretches = self.slots.stretches();
        let standing = self.standing(&stretches);
        let spot = |at: u64| usize::try_from(at).ok().and_then(|at| standing.get(at)).copied();
        let after = |at: u64| match at.checked_sub(1) {
            None => Some(self.slots.place_after(&stretches, None)),
            Some(before) => Some(self.slots.place_after(&stretches, Some(spot(before)?.0))),
        };
        let (mut edit, mut free) = (ListEdit::default(), 0);
        for splice in splices {
            match splice {
                ListSplice::Splice { at, removed, inserted } => {
                    let end = at.checked_add(*removed)?;
                    if *at < free {
                        return None;
                    }
                    for gone in *at..end {
                        edit.deletes.push(Span { from: self.slots.id(spot(gone)?.1), len: 1 });
                    }
                    let place = after(*at)?;
                    if !inserted.is_empty() {
                        edit.inserts.push((place, inserted.clone()));
                    }
                    free = end + 1;
                }
                ListSplice::Set { at, value } => edit.sets.push((self.slots.id(spot(*at)?.1), value.clone())),
                ListSplice::Move { from, to } => {
                    let (item, _) = (spot(*from)?.1, spot(*to)?);
                    if from != to {
                        edit.moves.push((self.slots.id(item), after(to + u64::from(to > from))?));
                    }
                }
            }
        }
        Span::merge(&mut edit.deletes);
        edit.moves.sort_by_key(|(id, _)| *id);
        edit.sets.sort_by_key(|(id, _)| *id);
        let twice = edit.moves.windows(2).any(|pair| pair[0].0 == pair[1].0) || edit.sets.windows(2).any(|pair| pair[0].0 == pair[1].0);
        (!twice).then_some(edit)
    }

    pub(super) fn apply(&mut self, edit: &ListEdit, context: &Context<'_>, rule: Rule<'_>) {
        let mut start = 0;
        for (place, values) in &edit.inserts {
            let item = |value: &Value| Item { value: register::of(context.stamp, Some(value.clone())), place: Siblings::new() };
            self.insert(context, &mut start, place, values.iter().map(item).collect());
        }
        for (id, place) in &edit.moves {
            self.insert(context, &mut start, place, vec![Item::default()]);
            let slot = ElementId { dot: context.stamp.dot, offset: start - 1 };
            if let Some(item) = self.seen(id, context) {
                item.place.retain(|place| !context.saw(&place.stamp.dot));
                register::insert(&mut item.place, context.stamp, slot);
            }
        }
        for (id, value) in &edit.sets {
            if let Some(item) = self.seen(id, context) {
                write(&mut item.value, Some(value.clone()), context, rule);
            }
        }
        for Span { from, len } in edit.deletes.iter().filter(|span| context.saw(&span.from.dot)) {
            let meant = from.offset..from.offset.saturating_add(*len);
            for run in self.slots.runs.iter_mut().filter(|run| run.stamp.dot == from.dot) {
                for (_, item) in (run.start..).zip(&mut run.content).filter(|(offset, _)| meant.contains(offset)) {
                    item.value.retain(|sibling| !context.saw(&sibling.stamp.dot));
                }
            }
        }
    }

    fn insert(&mut self, context: &Context<'_>, start: &mut u32, place: &Place, items: Vec<Item>) {
        let len = u32::try_from(items.len()).unwrap_or(u32::MAX);
        self.slots.insert(context, *start, len, place, items);
        *start = start.saturating_add(len);
    }

    /// Returns an item that an edit made in `context` can have seen.
    fn seen(&mut self, id: &ElementId, context: &Context<'_>) -> Option<&mut Item> {
        let spot = context.saw(&id.dot).then(|| self.slots.find(id)).flatten()?;
        self.slots.runs[spot.run].content.get_mut(spot.at as usize)
    }

    /// Deletes what an edit made in `context` had seen.
    pub(super) fn take_away(&mut self, context: &Context<'_>) {
        for item in self.slots.runs.iter_mut().flat_map(|run| &mut run.content) {
            item.value.retain(|sibling| !context.saw(&sibling.stamp.dot));
        }
    }

    /// Returns the edit that takes back an edit of the list that was `before`, of which `is_own` tells the dots: its items go, its values and
    /// moves, where they are what is shown, give way to what was before, and what it deleted, all that stood if it `took` that, comes back.
    pub(crate) fn undo(
        &self,
        before: Option<&Self>,
        edit: Option<&ListEdit>,
        took: bool,
        policy: Policy,
        is_own: impl Fn(&Dot) -> bool,
    ) -> ListEdit {
        let mut undo = ListEdit::default();
        let shown = |item: &Item| register::shown(&item.value, policy).cloned();
        let stretches = self.slots.stretches();
        let mut old = BTreeMap::new();
        for (standing, spot) in before.map(|before| before.standing(&before.slots.stretches())).into_iter().flatten() {
            let before = before.expect("what stood in it stood in a list");
            old.insert(before.slots.id(spot), (before.slots.id(standing), shown(before.item(spot)).and_then(|sibling| sibling.value)));
        }
        for (run, at, item) in self.all() {
            let spot = Spot { run, at };
            let id = self.slots.id(spot);
            let now = shown(item);
            match (old.get(&id), now) {
                // What was not there before and has only the commit's own values is the commit's own.
                (None, Some(_)) if item.value.iter().all(|sibling| is_own(&sibling.stamp.dot)) => {
                    undo.deletes.push(Span { from: id, len: 1 });
                }
                (Some((slot, before)), Some(now)) => {
                    if let (true, Some(before)) = (is_own(&now.stamp.dot), before) {
                        undo.sets.push((id, before.clone()));
                    }
                    let is_moved = item.place.last().is_some_and(|place| is_own(&place.stamp.dot));
                    if let (true, Some(slot)) = (is_moved, self.slots.find(slot)) {
                        undo.moves.push((id, self.slots.place_after(&stretches, Some(slot))));
                    }
                }
                (Some((slot, Some(before))), None) => {
                    let holds =
                        |span: &Span| span.from.dot == id.dot && id.offset.checked_sub(span.from.offset).is_some_and(|at| at < span.len);
                    let deleted = took || edit.is_some_and(|edit| edit.deletes.iter().any(holds));
                    if let (true, Some(_)) = (deleted, self.slots.find(slot)) {
                        // The item itself comes back, where it stood.
                        undo.sets.push((id, before.clone()));
                    }
                }
                _ => {}
            }
        }
        Span::merge(&mut undo.deletes);
        undo.moves.sort_by_key(|(id, _)| *id);
        undo.sets.sort_by_key(|(id, _)| *id);
        undo
    }

    /// Returns every element with its run and place in it.
    fn all(&self) -> impl Iterator<Item = (usize, u32, &Item)> {
        let runs = self.slots.runs.iter().enumerate();
        runs.flat_map(|(run, content)| (0..).zip(&content.content).map(move |(at, item)| (run, at, item)))
    }
}

impl From<ElementId> for Element {
    fn from(id: ElementId) -> Self {
        Self::Known(id)
    }
}
