//! From what is kept of a field to the change after which a reader sees a wanted value.
//!
//! The change says as little as can be: elements that differ, splices, an amount. So what others do meanwhile to the rest of it stays.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    document::{Field as Kept, List, ListSplice, Text, TextSplice, is_in_conflict, read},
    edit::Change,
    schema::{Field, FieldType, Policy},
    splices::{Splice, splices},
    value::{Scalar, Value},
};

/// Returns the change of an update after which the field reads `wanted`, `None` if it does already and is in no conflict.
///
/// A value that a max or min field does not take, since a greater or lesser one stands there, is no change.
pub fn replace(field: &Field, kept: Option<&Kept>, wanted: Option<&Value>) -> Option<Change> {
    change_of(&field.ty, field.policy.of_registers(), kept, wanted.filter(|value| !value.is_empty()))
}

/// Returns the change of a create after which the field reads `wanted`. `kept` is what is kept of it so far, hidden or not: a create takes it
/// away, all but counters, which are reset where they counted.
pub fn create(field: &Field, kept: Option<&Kept>, wanted: Option<&Value>) -> Option<Change> {
    anew(&field.ty, field.policy.of_registers(), kept, wanted.filter(|value| !value.is_empty()))
}

fn anew(ty: &FieldType, policy: Policy, kept: Option<&Kept>, wanted: Option<&Value>) -> Option<Change> {
    match (ty, kept) {
        (FieldType::Counter, Some(Kept::Counter(counter))) if counter.sum != 0 => Some(Change::Count { reset: true, add: amount(wanted) }),
        (FieldType::Map(of), Some(Kept::Map(entries))) if holds_counters(of) => {
            let wanted = if let Some(Value::Map(wanted)) = wanted { wanted } else { &std::collections::BTreeMap::new() };
            let keys: BTreeSet<&Arc<str>> = entries.keys().chain(wanted.keys()).collect();
            let changes = keys.into_iter().filter_map(|key| Some((key.clone(), anew(of, policy, entries.get(key), wanted.get(key))?)));
            let changes: Vec<_> = changes.collect();
            (!changes.is_empty()).then_some(Change::Within(changes))
        }
        _ => change_of(ty, policy, None, wanted),
    }
}

fn amount(wanted: Option<&Value>) -> i64 {
    if let Some(Value::Scalar(Scalar::Int(amount))) = wanted { *amount } else { 0 }
}

fn holds_counters(ty: &FieldType) -> bool {
    match ty {
        FieldType::Counter => true,
        FieldType::Map(of) => holds_counters(of),
        _ => false,
    }
}

fn change_of(ty: &FieldType, policy: Policy, kept: Option<&Kept>, wanted: Option<&Value>) -> Option<Change> {
    let shown = kept.and_then(|kept| read(kept, policy));
    // A conflict at the place itself ends with any write to it that saw it.
    let disputed = kept.is_some_and(|kept| is_in_conflict(kept, policy));
    let Some(wanted) = wanted else {
        return match (ty, kept) {
            _ if shown.is_none() && !disputed => None,
            (FieldType::Map(of), Some(Kept::Map(entries))) if holds_counters(of) => {
                let clear = |(key, entry): (&Arc<str>, &Kept)| Some((key.clone(), change_of(of, policy, Some(entry), None)?));
                Some(Change::Within(entries.iter().filter_map(clear).collect()))
            }
            _ => Some(Change::Clear),
        };
    };
    let ty = ty.alternative(wanted)?;
    let part = |is_meant: fn(&Kept) -> bool| kept.and_then(|kept| kept.parts().iter().find(|part| is_meant(part)));
    match (ty, wanted) {
        (FieldType::Counter, _) => {
            let now = if let Some(Kept::Counter(counter)) = kept { counter.sum } else { 0 };
            let add = amount(Some(wanted)).wrapping_sub(now);
            (add != 0).then_some(Change::Count { reset: false, add })
        }
        (FieldType::Text, Value::Scalar(Scalar::String(wanted))) => {
            let none = Text::default();
            let text = if let Some(Kept::Text(text)) = part(|part| matches!(part, Kept::Text(_))) { text } else { &none };
            let (old, new): (Vec<_>, Vec<_>) = (text.read().chars().collect(), wanted.chars().collect());
            let splice = |splice: Splice| TextSplice {
                at: splice.at as u64,
                removed: splice.removed as u64,
                inserted: new[splice.from..splice.from + splice.added].iter().collect::<String>().into(),
            };
            let splices: Vec<_> = splices(&old, &new).into_iter().map(splice).collect();
            let edit = text.splice(&splices).expect("splices of the text lie in it");
            (!edit.is_empty()).then_some(Change::Text(edit))
        }
        (FieldType::List(_), Value::List(wanted)) => {
            let none = List::default();
            let list = if let Some(Kept::List(list)) = part(|part| matches!(part, Kept::List(_))) { list } else { &none };
            let edit = list.splice(&list_splices(list, policy, wanted)).expect("splices of the list lie in it");
            (!edit.is_empty() || disputed).then(|| Change::List(edit.into()))
        }
        (FieldType::Set(_), Value::Set(wanted)) => {
            let here: BTreeSet<Value> = match part(|part| matches!(part, Kept::Set(_))) {
                Some(Kept::Set(elements)) => elements.keys().cloned().collect(),
                _ => BTreeSet::new(),
            };
            let (add, remove): (Vec<_>, Vec<_>) = (wanted.difference(&here).cloned().collect(), here.difference(wanted).cloned().collect());
            let differs = !add.is_empty() || !remove.is_empty();
            (differs || disputed).then_some(Change::Elements { add, remove })
        }
        (FieldType::Map(of), Value::Map(wanted)) => {
            let none = std::collections::BTreeMap::new();
            let here = if let Some(Kept::Map(entries)) = part(|part| matches!(part, Kept::Map(_))) { entries } else { &none };
            let keys: BTreeSet<&Arc<str>> = here.keys().chain(wanted.keys()).collect();
            let change = |key: &Arc<str>| {
                Some((key.clone(), change_of(of, policy, here.get(key), wanted.get(key).filter(|value| !value.is_empty()))?))
            };
            let changes: Vec<_> = keys.into_iter().filter_map(change).collect();
            (!changes.is_empty() || disputed).then(|| if of.is_register() { entries(changes) } else { Change::Within(changes) })
        }
        _ => {
            let is_beaten = match (&shown, policy) {
                (Some(shown), Policy::Max) => wanted < shown,
                (Some(shown), Policy::Min) => wanted > shown,
                _ => false,
            };
            let is_there = shown.as_ref() == Some(wanted) && !disputed;
            (!is_there && !is_beaten).then(|| Change::Set(wanted.clone()))
        }
    }
}

/// Says changes of registers in the short form.
pub(crate) fn entries(changes: Vec<(Arc<str>, Change)>) -> Change {
    let (mut put, mut remove) = (Vec::new(), Vec::new());
    for (key, change) in changes {
        match change {
            Change::Set(value) => put.push((key, value)),
            _ => remove.push(key),
        }
    }
    Change::Entries { put, remove }
}

/// Items that are replaced one by one keep their identity; so do those in conflict, whose value is written again.
fn list_splices(list: &List, policy: Policy, wanted: &[Value]) -> Vec<ListSplice> {
    let read = |register: &Kept| (read(register, policy), is_in_conflict(register, policy));
    let here: Vec<_> = list.items().into_iter().map(|(_, item)| read(&Kept::Register(item.value.clone()))).collect();
    let old: Vec<_> = here.iter().map(|(value, _)| value.as_ref()).collect();
    let new: Vec<_> = wanted.iter().map(Some).collect();
    let mut found = splices(&old, &new).into_iter().peekable();
    let (mut out, mut at, mut from) = (Vec::new(), 0, 0);
    let set = |at: usize, from: usize| ListSplice::Set { at: at as u64, value: wanted[from].clone() };
    while at < here.len() || found.peek().is_some() {
        match found.next_if(|splice| splice.at == at) {
            Some(Splice { removed, added, .. }) => {
                if removed == added {
                    out.extend((0..added).map(|step| set(at + step, from + step)));
                } else {
                    out.push(ListSplice::Splice { at: at as u64, removed: removed as u64, inserted: wanted[from..from + added].to_vec() });
                }
                (at, from) = (at + removed, from + added);
            }
            None => {
                if here[at].1 {
                    out.push(set(at, from));
                }
                (at, from) = (at + 1, from + 1);
            }
        }
    }
    out
}
