//! Tells of a document what was done to it apart, and by which rule each field that was touched is read.

use std::collections::BTreeSet;

use herdbook_model::{
    json::{deletes_name, policy_name, value_to_json},
    value::Value,
};
use herdbook_proto::{
    edit::{Change, Operation},
    history::{Inspected, Kept, NewestEdit},
};

use super::say;

/// Says which edits of the document no other edit of it has seen, and what decides between them.
pub(super) fn tell(what: &str, inspected: &Inspected) {
    let Some(document) = &inspected.document else { return };
    say(format!("{}: {what}", document.name));
    for NewestEdit { origin, edit } in &inspected.newest {
        say(format!("    commit {:.8} {}", origin.commit.to_string(), done(&edit.operation).join(", ")));
    }
    let deletes = inspected.newest.iter().filter(|newest| newest.edit.operation == Operation::Delete).count();
    if (1..inspected.newest.len()).contains(&deletes) {
        say(format!("    rule of the collection, a delete against an edit: {}", deletes_name(inspected.deletes)));
    }
    let touched: BTreeSet<_> = inspected.newest.iter().flat_map(|newest| fields(&newest.edit.operation)).collect();
    let is_of_these = |commit| inspected.newest.iter().any(|newest| newest.origin.commit == commit);
    for kept in inspected.fields.iter().filter(|kept| touched.contains(&*kept.field)) {
        let told = told(kept, is_of_these);
        say(format!("    rule of {}, {}: {}", kept.field, policy_name(kept.policy), told.join("; ")));
    }
}

/// Returns what became of the values of a field that were written by one of the commits meant.
fn told(kept: &Kept, is_meant: impl Fn(herdbook_model::id::CommitId) -> bool) -> Vec<String> {
    let values = kept.values.iter().filter(|value| is_meant(value.origin.commit));
    let told = values.map(|value| {
        let written = value.value.as_ref().map_or_else(|| "absent".to_owned(), written);
        format!("{written} is {}", if value.shown { "read" } else { "kept beside" })
    });
    told.collect()
}

/// Returns the fields that an edit names.
fn fields(operation: &Operation) -> Vec<&str> {
    match operation {
        Operation::Create(fields) | Operation::Put(fields) => fields.iter().map(|(name, _)| &**name).collect(),
        Operation::Update(changes) => changes.iter().map(|(name, _)| &**name).collect(),
        Operation::Delete => Vec::new(),
    }
}

/// Returns what an edit did, field by field.
fn done(operation: &Operation) -> Vec<String> {
    let list = |values: &[Value]| values.iter().map(written).collect::<Vec<_>>().join(", ");
    match operation {
        Operation::Delete => vec!["deletes it".to_owned()],
        Operation::Create(fields) | Operation::Put(fields) => {
            fields.iter().map(|(name, value)| format!("sets {name} to {}", written(value))).collect()
        }
        Operation::Update(changes) => {
            let of = |name: &str, change: &Change| match change {
                Change::Set(value) => vec![format!("sets {name} to {}", written(value))],
                Change::Elements { add, remove } => {
                    let added = (!add.is_empty()).then(|| format!("adds {} to {name}", list(add)));
                    let removed = (!remove.is_empty()).then(|| format!("removes {} from {name}", list(remove)));
                    added.into_iter().chain(removed).collect()
                }
                _ => vec![format!("changes {name}")],
            };
            changes.iter().flat_map(|(name, change)| of(name, change)).collect()
        }
    }
}

fn written(value: &Value) -> String {
    value_to_json(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_told_field_by_field() {
        let elements = Change::Elements { add: vec!["a".into()], remove: vec!["b".into(), "c".into()] };
        let operation = Operation::Update(vec![("name".into(), Change::Set("x".into())), ("tags".into(), elements)]);
        assert_eq!(done(&operation), [r#"sets name to "x""#, r#"adds "a" to tags"#, r#"removes "b", "c" from tags"#]);
        assert_eq!(fields(&operation), ["name", "tags"]);
        assert_eq!(done(&Operation::Delete), ["deletes it"]);
    }
}
