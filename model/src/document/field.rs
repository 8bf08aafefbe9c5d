//! What is kept of a field, or of an entry of a map, and how a change of it is replayed.
//!
//! A place holds parts of different forms: a register, a set, a map and so on. Mostly it holds one, which is then kept as it is; several
//! only where a union's alternatives, or a value and a clear under strict, were written concurrently. Writing one part takes away what was
//! seen of the others.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Context, List, Siblings, Stamp, Text,
    register::{self, write},
};
use crate::{
    blob::Blob,
    edit::Change,
    schema::{Clears, FieldType, Policy},
    value::{Scalar, Value},
};

/// What is kept of a field or entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A register's siblings; `None` is a clear, kept under strict, and where clears take away what is earlier.
    Register(Siblings<Option<Value>>),
    /// Element → the adds that no remove saw.
    Set(BTreeMap<Value, Vec<Stamp>>),
    /// Key → what is kept of the entry.
    Map(BTreeMap<Arc<str>, Self>),
    /// The sum since the last reset.
    Counter(Counter),
    /// A text.
    Text(Text),
    /// A list.
    List(List),
    /// Two or more of the above, in that order, each once, none empty.
    Several(Vec<Self>),
}

/// A counter. What was added without having heard of the newest reset does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counter {
    /// The newest reset.
    pub reset: Option<Stamp>,
    /// What was added since, modulo 2⁶⁴.
    pub sum: i64,
}

/// How a field keeps what is written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Its type.
    pub ty: &'a FieldType,
    /// How its registers merge.
    pub policy: Policy,
    /// What a clear takes away.
    pub clears: Clears,
}

impl Rule<'_> {
    /// Whether `sibling` is a clear below which nothing counts; no write takes it away.
    pub(super) fn is_floor(&self, sibling: &super::Sibling<Option<Value>>) -> bool {
        self.clears == Clears::Earlier && sibling.value.is_none()
    }

    /// Returns the rule of what stands inside.
    const fn inside(self, ty: &FieldType) -> Rule<'_> {
        Rule { ty, policy: self.policy, clears: Clears::Seen }
    }
}

/// Which part of a place; their order is that in [`Field::Several`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Register,
    Set,
    Map,
    Counter,
    Text,
    List,
}

impl Form {
    const fn of(field: &Field) -> Option<Self> {
        Some(match field {
            Field::Register(_) => Self::Register,
            Field::Set(_) => Self::Set,
            Field::Map(_) => Self::Map,
            Field::Counter(_) => Self::Counter,
            Field::Text(_) => Self::Text,
            Field::List(_) => Self::List,
            Field::Several(_) => return None,
        })
    }

    /// Returns the part that a change is of; a clear is of all.
    const fn changed_by(change: &Change) -> Option<Self> {
        Some(match change {
            Change::Set(_) | Change::Replace(_) => Self::Register,
            Change::Elements { .. } => Self::Set,
            Change::Entries { .. } | Change::Within(_) => Self::Map,
            Change::Count { .. } => Self::Counter,
            Change::Text(_) => Self::Text,
            Change::List(_) => Self::List,
            Change::Clear => return None,
        })
    }

    fn empty(self) -> Field {
        match self {
            Self::Register => Field::Register(Vec::new()),
            Self::Set => Field::Set(BTreeMap::new()),
            Self::Map => Field::Map(BTreeMap::new()),
            Self::Counter => Field::Counter(Counter::default()),
            Self::Text => Field::Text(Text::default()),
            Self::List => Field::List(List::default()),
        }
    }
}

impl Default for Field {
    fn default() -> Self {
        Self::Register(Vec::new())
    }
}

impl Field {
    /// Returns what a last-writer reads, where a register is all there is and holds a scalar.
    pub fn shown_scalar(&self) -> Option<&Scalar> {
        let Self::Register(siblings) = self else { return None };
        match register::shown(siblings, Policy::LastWriter)?.value.as_ref()? {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Calls `each` with every blob that is kept, whether a reader sees it or not.
    pub fn blobs(&self, each: &mut impl FnMut(&Blob)) {
        match self {
            Self::Register(siblings) => siblings.iter().filter_map(|sibling| sibling.value.as_ref()).for_each(|value| value.blobs(each)),
            Self::Set(elements) => elements.keys().for_each(|element| element.blobs(each)),
            Self::Map(entries) => entries.values().for_each(|entry| entry.blobs(each)),
            Self::List(list) => list.values().for_each(|value| value.blobs(each)),
            Self::Several(parts) => parts.iter().for_each(|part| part.blobs(each)),
            Self::Counter(_) | Self::Text(_) => {}
        }
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Register(siblings) => siblings.is_empty(),
            Self::Set(elements) => elements.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            Self::Counter(counter) => *counter == Counter::default(),
            Self::Text(text) => text.letters.runs.is_empty(),
            Self::List(list) => list.slots.runs.is_empty(),
            Self::Several(parts) => parts.is_empty(),
        }
    }

    /// Returns its parts, each of another form.
    pub fn parts(&self) -> &[Self] {
        if let Self::Several(parts) = self { parts } else { std::slice::from_ref(self) }
    }

    /// Returns every stamp of every kept value, and of resets.
    pub fn stamps(&self) -> Box<dyn Iterator<Item = Stamp> + '_> {
        match self {
            Self::Text(text) => Box::new(text.letters.runs.iter().map(|run| run.stamp)),
            Self::List(list) => {
                let items = list.slots.runs.iter().flat_map(|run| &run.content);
                Box::new(list.slots.runs.iter().map(|run| run.stamp).chain(items.flat_map(super::Item::stamps)))
            }
            Self::Map(entries) => Box::new(entries.values().flat_map(Self::stamps)),
            Self::Several(parts) => Box::new(parts.iter().flat_map(Self::stamps)),
            Self::Register(siblings) => Box::new(siblings.iter().map(|sibling| sibling.stamp)),
            Self::Set(elements) => Box::new(elements.values().flatten().copied()),
            Self::Counter(counter) => Box::new(counter.reset.into_iter()),
        }
    }

    /// Whether `parts` are those of one place, in their order.
    pub(super) fn are_in_order(parts: &[Self]) -> bool {
        parts.iter().all(|part| Form::of(part).is_some()) && parts.is_sorted_by(|a, b| Form::of(a) < Form::of(b))
    }

    /// Takes away what an edit made in `context` had seen. Counters stay: what resets them says so.
    pub(super) fn take_away(&mut self, context: &Context<'_>, is_floor: &dyn Fn(&super::Sibling<Option<Value>>) -> bool) {
        match self {
            Self::Register(siblings) => siblings.retain(|sibling| !context.saw(&sibling.stamp.dot) || is_floor(sibling)),
            Self::Set(elements) => elements.retain(|_, adds| {
                adds.retain(|stamp| !context.saw(&stamp.dot));
                !adds.is_empty()
            }),
            Self::Map(entries) => entries.retain(|_, entry| {
                entry.take_away(context, &|_| false);
                !entry.is_empty()
            }),
            Self::Counter(_) => {}
            Self::Text(text) => text.take_away(context),
            Self::List(list) => list.take_away(context),
            Self::Several(parts) => {
                parts.iter_mut().for_each(|part| part.take_away(context, is_floor));
                self.settle();
            }
        }
    }

    /// Takes away what is earlier than `floor`. Registers, sets, and maps of registers.
    fn sink(&mut self, floor: &Stamp) {
        match self {
            Self::Register(siblings) => siblings.retain(|sibling| sibling.stamp >= *floor),
            Self::Set(elements) => elements.retain(|_, adds| {
                adds.retain(|stamp| stamp >= floor);
                !adds.is_empty()
            }),
            Self::Map(entries) => entries.retain(|_, entry| {
                entry.sink(floor);
                !entry.is_empty()
            }),
            Self::Several(parts) => {
                parts.iter_mut().for_each(|part| part.sink(floor));
                self.settle();
            }
            Self::Counter(_) | Self::Text(_) | Self::List(_) => {}
        }
    }

    /// Drops empty parts, and the list of parts if one is left.
    fn settle(&mut self) {
        if let Self::Several(parts) = self {
            parts.retain(|part| !part.is_empty());
            match parts.len() {
                0 => *self = Self::default(),
                1 => *self = parts.pop().expect("there is one"),
                _ => {}
            }
        }
    }

    /// Returns the part of `form`, made if it is not there.
    fn part(&mut self, form: Form) -> &mut Self {
        if self.is_empty() {
            *self = form.empty();
        }
        if Form::of(self) == Some(form) {
            return self;
        }
        if !matches!(self, Self::Several(_)) {
            *self = Self::Several(vec![std::mem::take(self)]);
        }
        let Self::Several(parts) = self else { unreachable!("it was just made") };
        let at = match parts.binary_search_by_key(&Some(form), Form::of) {
            Ok(at) => at,
            Err(at) => {
                parts.insert(at, form.empty());
                at
            }
        };
        &mut parts[at]
    }

    /// Replays a change made in `context`.
    ///
    /// A change of another shape than the field changes nothing: requests are checked against the schema before they are signed, and
    /// judged at acceptance; replay must only be total and deterministic.
    pub(super) fn apply(&mut self, change: &Change, context: &Context<'_>, rule: Rule<'_>) {
        if rule.clears == Clears::Earlier
            && let Some(floor) = self.floor()
            && context.stamp < floor
        {
            return;
        }
        let Some(ty) = change.place_in(rule.ty) else { return };
        match Form::changed_by(change) {
            None => self.clear(context, rule),
            Some(form) if self.is_empty() || Form::of(self) == Some(form) => {
                self.part(form).apply_part(change, context, Rule { ty, ..rule });
            }
            Some(form) => {
                self.take_away_others(form, context, rule);
                self.part(form).apply_part(change, context, Rule { ty, ..rule });
            }
        }
        self.settle();
    }

    /// Takes away what was seen of parts other than that of `form`.
    fn take_away_others(&mut self, form: Form, context: &Context<'_>, rule: Rule<'_>) {
        let is_floor = |sibling: &super::Sibling<Option<Value>>| rule.is_floor(sibling);
        match self {
            Self::Several(parts) => {
                parts.iter_mut().filter(|part| Form::of(part) != Some(form)).for_each(|part| part.take_away(context, &is_floor));
                parts.retain(|part| !part.is_empty());
                self.settle();
            }
            part => part.take_away(context, &is_floor),
        }
    }

    /// Returns the newest clear, where clears take away what is earlier.
    fn floor(&self) -> Option<Stamp> {
        match self.parts().first() {
            Some(Self::Register(siblings)) => siblings.iter().rev().find(|sibling| sibling.value.is_none()).map(|sibling| sibling.stamp),
            _ => None,
        }
    }

    fn clear(&mut self, context: &Context<'_>, rule: Rule<'_>) {
        if matches!(rule.ty, FieldType::Counter) {
            return self.part(Form::Counter).apply_part(&Change::Count { reset: true, add: 0 }, context, rule);
        }
        if rule.clears == Clears::Earlier {
            self.sink(&context.stamp);
        }
        self.take_away(context, &|_| false);
        if rule.clears == Clears::Earlier || rule.policy.keeps_siblings() {
            let Self::Register(siblings) = self.part(Form::Register) else { unreachable!("it is the register") };
            register::insert(siblings, context.stamp, None);
        }
    }

    /// Replays a change of this part's form.
    fn apply_part(&mut self, change: &Change, context: &Context<'_>, rule: Rule<'_>) {
        match (self, change) {
            (Self::Register(siblings), Change::Set(value)) => write(siblings, Some(value.clone()), context, rule),
            (Self::Register(siblings), Change::Replace(value)) => {
                write(siblings, Some(value.clone()), context, Rule { policy: Policy::LastWriter, ..rule });
            }
            (Self::Set(elements), Change::Elements { add, remove }) => {
                for element in remove.iter().chain(add) {
                    if let Some(adds) = elements.get_mut(element) {
                        adds.retain(|stamp| !context.saw(&stamp.dot));
                    }
                }
                for element in add {
                    super::insert(elements.entry(element.clone()).or_default(), context.stamp);
                }
                for element in remove {
                    if elements.get(element).is_some_and(Vec::is_empty) {
                        elements.remove(element);
                    }
                }
            }
            (Self::Map(entries), Change::Entries { put, remove }) => {
                let FieldType::Map(of) = rule.ty else { return };
                for key in remove {
                    apply_entry(entries, key, &Change::Clear, context, rule.inside(of));
                }
                for (key, value) in put {
                    apply_entry(entries, key, &Change::Set(value.clone()), context, rule.inside(of));
                }
            }
            (Self::Map(entries), Change::Within(changes)) => {
                let FieldType::Map(of) = rule.ty else { return };
                for (key, change) in changes {
                    apply_entry(entries, key, change, context, rule.inside(of));
                }
            }
            (Self::Counter(counter), Change::Count { reset, add }) => {
                if *reset && counter.reset < Some(context.stamp) {
                    *counter = Counter { reset: Some(context.stamp), sum: *add };
                } else if !*reset && counter.reset.is_none_or(|reset| context.saw(&reset.dot)) {
                    counter.sum = counter.sum.wrapping_add(*add);
                }
            }
            (Self::Text(text), Change::Text(edit)) => text.apply(edit, context),
            (Self::List(list), Change::List(edit)) => list.apply(edit, context, rule),
            _ => {}
        }
    }
}

fn apply_entry(entries: &mut BTreeMap<Arc<str>, Field>, key: &Arc<str>, change: &Change, context: &Context<'_>, rule: Rule<'_>) {
    match entries.get_mut(key) {
        Some(entry) => {
            entry.apply(change, context, rule);
            if entry.is_empty() {
                entries.remove(key);
            }
        }
        None => {
            let mut entry = Field::default();
            entry.apply(change, context, rule);
            if !entry.is_empty() {
                entries.insert(key.clone(), entry);
            }
        }
    }
}
