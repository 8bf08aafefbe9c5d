//! In what two values differ, place by place.

use std::sync::Arc;

use super::Value;
use crate::splices::{Splice, splices};

/// A step on the way from a value to a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The entry of a map.
    Key(Arc<str>),
    /// The item of a list at that position: of the older list what is removed or changed, of the newer what is added.
    At(usize),
    /// The element of a set.
    Element(Value),
}

/// A part that differs. At least one side is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where it is; empty: the value itself.
    pub path: Vec<Step>,
    /// As the older value has it.
    pub old: Option<Value>,
    /// As the newer value has it.
    pub new: Option<Value>,
}

/// Returns the smallest parts in which two values differ, in their order. Maps, sets and lists are compared by their parts, all else as a whole.
pub fn differences(old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(Some(old), Some(new), &mut Vec::new(), &mut found);
    found
}

fn compare(old: Option<&Value>, new: Option<&Value>, path: &mut Vec<Step>, found: &mut Vec<Difference>) {
    if old == new {
        return;
    }
    let mut at = |step: Step, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>| {
        path.push(step);
        compare(old, new, path, found);
        path.pop();
    };
    match (old, new) {
        (Some(Value::Map(old)), Some(Value::Map(new))) => {
            let added = new.keys().filter(|key| !old.contains_key(*key));
            let mut keys: Vec<_> = old.keys().chain(added).collect();
            keys.sort_unstable();
            keys.into_iter().for_each(|key| at(Step::Key(key.clone()), old.get(key), new.get(key), found));
        }
        (Some(Value::Set(old)), Some(Value::Set(new))) => {
            old.difference(new).for_each(|element| at(Step::Element(element.clone()), Some(element), None, found));
            new.difference(old).for_each(|element| at(Step::Element(element.clone()), None, Some(element), found));
        }
        (Some(Value::List(old)), Some(Value::List(new))) => {
            for Splice { at: place, removed, added, from } in splices(old, new) {
                if removed == added {
                    (0..added).for_each(|step| at(Step::At(place + step), old.get(place + step), new.get(from + step), found));
                } else {
                    (0..removed).for_each(|step| at(Step::At(place + step), old.get(place + step), None, found));
                    (0..added).for_each(|step| at(Step::At(from + step), None, new.get(from + step), found));
                }
            }
        }
        _ => found.push(Difference { path: path.clone(), old: old.cloned(), new: new.cloned() }),
    }
}
