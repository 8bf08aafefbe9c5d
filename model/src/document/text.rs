//! A text that is edited character by character. Deleted characters keep their place and nothing else.

use std::sync::Arc;

use super::{
    Context, ElementId, Stamp,
    sequence::{Sequence, Spot},
};
use crate::edit::{Span, TextEdit};

/// What is kept of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    pub(super) letters: Sequence<Letters>,
}

/// The characters of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Letters {
    /// Which are deleted, as `from..to`: rising, no two touching.
    pub(super) dead: Vec<(u32, u32)>,
    /// Those that are left.
    pub(super) living: String,
}

/// Replaces `removed` characters from position `at` on; what comes instead stands after what it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextSplice {
    /// Position in characters (Unicode scalar values).
    pub at: u64,
    /// How many are removed.
    pub removed: u64,
    /// What is inserted.
    pub inserted: Arc<str>,
}

impl Letters {
    /// Deletes characters `from..to` of a run of `len`.
    fn delete(&mut self, from: u32, to: u32, len: u32) {
        let mut letters = self.living.chars();
        let mut living = String::with_capacity(self.living.len());
        for (start, end) in self.living_in(0, len) {
            let part = (start..end).zip(letters.by_ref());
            living.extend(part.filter(|(place, _)| !(from..to).contains(place)).map(|(_, letter)| letter));
        }
        self.living = living;
        let (touching, mut dead): (Vec<(u32, u32)>, Vec<_>) = self.dead.iter().partition(|dead| dead.0 <= to && from <= dead.1);
        let from = touching.iter().map(|dead| dead.0).min().map_or(from, |least| least.min(from));
        let to = touching.iter().map(|dead| dead.1).max().map_or(to, |most| most.max(to));
        dead.insert(dead.partition_point(|dead| dead.0 < from), (from, to));
        self.dead = dead;
    }

    /// Returns the parts of `from..to` that are not deleted.
    fn living_in(&self, from: u32, to: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let ends = self.dead.iter().map(|dead| dead.0).chain([u32::MAX]);
        let starts = [0].into_iter().chain(self.dead.iter().map(|dead| dead.1));
        starts.zip(ends).map(move |(start, end)| (start.max(from), end.min(to))).filter(|(start, end)| start < end)
    }
}

impl Text {
    /// Returns the text.
    pub fn read(&self) -> String {
        let mut text = String::new();
        let mut rest: Vec<_> = self.letters.runs.iter().map(|run| run.content.living.chars()).collect();
        for (run, from, to) in self.living() {
            text.extend(rest[run].by_ref().take((to - from) as usize));
        }
        text
    }

    /// Returns the text in stretches, each written by one edit, with that edit's stamp.
    pub fn stretches(&self) -> Vec<(String, Stamp)> {
        let mut rest: Vec<_> = self.letters.runs.iter().map(|run| run.content.living.chars()).collect();
        let mut stretches: Vec<(String, Stamp)> = Vec::new();
        for (run, from, to) in self.living() {
            let letters = rest[run].by_ref().take((to - from) as usize);
            let stamp = self.letters.runs[run].stamp;
            match stretches.last_mut() {
                Some((text, last)) if *last == stamp => text.extend(letters),
                _ => stretches.push((letters.collect(), stamp)),
            }
        }
        stretches
    }

    /// Whether no character is left.
    pub fn is_blank(&self) -> bool {
        self.letters.runs.iter().all(|run| run.content.living.is_empty())
    }

    /// Returns the living characters in order: run and places in it.
    fn living(&self) -> Vec<(usize, u32, u32)> {
        let parts = |stretch: super::sequence::Stretch| {
            let letters = &self.letters.runs[stretch.run].content;
            letters.living_in(stretch.from, stretch.to).map(move |(from, to)| (stretch.run, from, to))
        };
        self.letters.stretches().into_iter().flat_map(parts).collect()
    }

    /// Returns the edit that makes `splices`, whose positions are those of the text as it is; `None` if one reaches beyond the text, or they do
    /// not rise apart from each other.
    pub fn splice(&self, splices: &[TextSplice]) -> Option<TextEdit> {
        let (living, stretches) = (self.living(), self.letters.stretches());
        let mut edit = TextEdit::default();
        let mut position = Position { living: &living, part: 0, before: 0 };
        let mut free = 0;
        for TextSplice { at, removed, inserted } in splices {
            let end = at.checked_add(*removed)?;
            if *at < free {
                return None;
            }
            let mut left = at.checked_sub(1).map(|before| position.spot(before)).map_or(Some(None), |spot| spot.map(Some))?;
            let mut gone = *at;
            while gone < end {
                let (spot, len) = position.stretch(gone, end - gone)?;
                edit.deletes.push(Span { from: self.letters.id(spot), len });
                gone += u64::from(len);
                left = Some(Spot { at: spot.at + len - 1, ..spot });
            }
            if !inserted.is_empty() {
                edit.inserts.push((self.letters.place_after(&stretches, left), inserted.clone()));
            }
            // One character at least stays between two splices, so that they do not meet in one place.
            free = end + 1;
        }
        Span::merge(&mut edit.deletes);
        Some(edit)
    }

    pub(super) fn apply(&mut self, edit: &TextEdit, context: &Context<'_>) {
        let mut start = 0;
        for (place, text) in &edit.inserts {
            let len = u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
            let letters = Letters { dead: Vec::new(), living: text.to_string() };
            self.letters.insert(context, start, len, place, letters);
            start = start.saturating_add(len);
        }
        for Span { from, len } in edit.deletes.iter().filter(|span| context.saw(&span.from.dot)) {
            self.delete(from, *len);
        }
    }

    fn delete(&mut self, from: &ElementId, len: u32) {
        let end = from.offset.saturating_add(len);
        for run in self.letters.runs.iter_mut().filter(|run| run.stamp.dot == from.dot) {
            let (low, high) = (from.offset.max(run.start), end.min(run.start + run.len));
            if low < high {
                run.content.delete(low - run.start, high - run.start, run.len);
            }
        }
    }

    /// Deletes what an edit made in `context` had seen.
    pub(super) fn take_away(&mut self, context: &Context<'_>) {
        for run in self.letters.runs.iter_mut().filter(|run| context.saw(&run.stamp.dot)) {
            run.content = Letters { dead: vec![(0, run.len)], living: String::new() };
        }
    }

    /// Returns the edit that takes back an edit of the text that was `before`, of which `is_own` tells the dots: what it inserted goes, and
    /// what it deleted, all that stood if it `took` that, comes back where it stood.
    pub(crate) fn undo(
        &self,
        before: Option<&Self>,
        edit: Option<&TextEdit>,
        took: bool,
        is_own: impl Fn(&super::Dot) -> bool,
    ) -> TextEdit {
        let mut undo = TextEdit { inserts: Vec::new(), deletes: self.spans_of(&is_own) };
        let Some(before) = before else { return undo };
        let stretches = self.letters.stretches();
        let deleted = |id: &ElementId| {
            let holds = |span: &Span| span.from.dot == id.dot && id.offset.checked_sub(span.from.offset).is_some_and(|at| at < span.len);
            took || edit.is_some_and(|edit| edit.deletes.iter().any(holds))
        };
        let mut letters: Vec<_> = before.letters.runs.iter().map(|run| run.content.living.chars()).collect();
        let mut open: Option<(Spot, String)> = None;
        for (run, from, to) in before.living() {
            for (at, letter) in (from..to).zip(letters[run].by_ref().take((to - from) as usize)) {
                let id = before.letters.id(Spot { run, at });
                let gone = deleted(&id).then(|| self.letters.find(&id)).flatten().filter(|spot| !self.is_living(*spot));
                match (gone, &mut open) {
                    (Some(spot), Some((last, text))) => {
                        *last = spot;
                        text.push(letter);
                    }
                    (Some(spot), None) => open = Some((spot, letter.into())),
                    (None, _) => {
                        let done = open.take().map(|(last, text)| (self.letters.place_after(&stretches, Some(last)), text.into()));
                        undo.inserts.extend(done);
                    }
                }
            }
        }
        undo.inserts.extend(open.map(|(last, text)| (self.letters.place_after(&stretches, Some(last)), text.into())));
        undo
    }

    fn is_living(&self, spot: Spot) -> bool {
        self.letters.runs[spot.run].content.living_in(spot.at, spot.at + 1).next().is_some()
    }

    /// Returns living characters for which `is_meant` answers true of the edit that inserted them, as spans.
    fn spans_of(&self, is_meant: impl Fn(&super::Dot) -> bool) -> Vec<Span> {
        let mut spans = Vec::new();
        for (at, run) in self.letters.runs.iter().enumerate().filter(|(_, run)| is_meant(&run.stamp.dot)) {
            let part = |(from, to)| Span { from: self.letters.id(Spot { run: at, at: from }), len: to - from };
            spans.extend(run.content.living_in(0, run.len).map(part));
        }
        Span::merge(&mut spans);
        spans
    }
}

/// Finds living characters by position, from left to right.
struct Position<'a> {
    living: &'a [(usize, u32, u32)],
    part: usize,
    /// Living characters before the part.
    before: u64,
}

impl Position<'_> {
    fn spot(&mut self, at: u64) -> Option<Spot> {
        self.stretch(at, 1).map(|(spot, _)| spot)
    }

    /// Returns the character at position `at`, and how many of the `most` from there on follow it in its run.
    fn stretch(&mut self, at: u64, most: u64) -> Option<(Spot, u32)> {
        loop {
            let (run, from, to) = *self.living.get(self.part)?;
            let len = u64::from(to - from);
            match at.checked_sub(self.before) {
                Some(within) if within < len => {
                    let at = from + u32::try_from(within).ok()?;
                    return Some((Spot { run, at }, u32::try_from(most.min(u64::from(to - at))).ok()?));
                }
                Some(_) => {
                    self.before += len;
                    self.part += 1;
                }
                None => {
                    // Splices rise, so what lies behind is at most the character before one.
                    self.part = self.part.checked_sub(1)?;
                    let (_, from, to) = self.living[self.part];
                    self.before -= u64::from(to - from);
                }
            }
        }
    }
}
