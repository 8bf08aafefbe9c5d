//! Registers: concurrent values side by side, and which of them a write takes away.

use super::{Context, Rule, Sibling, Siblings, Stamp, insert_at};
use crate::{schema::Policy, value::Value};

/// Returns siblings of one value.
pub(super) fn of<T>(stamp: Stamp, value: T) -> Siblings<T> {
    vec![Sibling { stamp, value }]
}

/// Adds a value in its place; one of the same stamp stays.
pub(super) fn insert<T>(siblings: &mut Siblings<T>, stamp: Stamp, value: T) {
    if let Err(at) = siblings.binary_search_by_key(&stamp, |sibling| sibling.stamp) {
        insert_at(siblings, at, Sibling { stamp, value });
    }
}

/// Writes a value.
///
/// Under max and min a write takes away what it saw and beats: what beats it stays, and is read, and a clear that saw only that leaves the other.
pub(super) fn write(siblings: &mut Siblings<Option<Value>>, value: Option<Value>, context: &Context<'_>, rule: Rule<'_>) {
    siblings.retain(|sibling| {
        let beaten = match rule.policy {
            Policy::Max => sibling.value <= value,
            Policy::Min => sibling.value >= value,
            _ => true,
        };
        !(beaten && context.saw(&sibling.stamp.dot)) || rule.is_floor(sibling)
    });
    insert(siblings, context.stamp, value);
}

/// Returns the sibling that a plain read shows.
pub(crate) fn shown<'s>(siblings: &'s [Sibling<Option<Value>>], policy: Policy) -> Option<&'s Sibling<Option<Value>>> {
    let value = |sibling: &&'s Sibling<Option<Value>>| (sibling.value.as_ref(), sibling.stamp);
    let some = siblings.iter().filter(|sibling| sibling.value.is_some());
    match policy {
        Policy::Max => some.max_by_key(value),
        // Of equal values the newest, as everywhere.
        Policy::Min => some.min_by(|a, b| a.value.cmp(&b.value).then(b.stamp.cmp(&a.stamp))),
        _ => siblings.last(),
    }
}
