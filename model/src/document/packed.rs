//! The bytes of a document that one edit writes where nothing is kept: straight from the edit.
//!
//! Law: they are those that replay and encoding give. What has no short way is left to these.

use super::{
    Context, Rule, Rules,
    bytes::{COUNTER, MAP, OTHER, PLAIN, REGISTER, SET},
};
use crate::{
    codec::{Encode as _, Writer},
    edit::{Change, Edit, FieldEdit, Operation},
    schema::FieldType,
};

/// Returns the document that `edit` writes where nothing is kept, `None` if that is not for here.
pub(super) fn pack(edit: &Edit, context: &Context<'_>, rules: &impl Rules) -> Option<Vec<u8>> {
    let (Operation::Create(fields) | Operation::Update(fields)) = &edit.operation else { return None };
    if !fields.is_sorted_by(|a, b| a.field < b.field) {
        return None;
    }
    let mut count = 0;
    for edit in fields {
        count += usize::from(leaves(edit, rules)?);
    }
    let mut out = Writer::with_capacity(256);
    // One origin, which keeps the document alive.
    out.list(std::iter::once(&context.stamp));
    out.count(1);
    out.count(0);
    out.count(count);
    for edit in fields.iter().filter(|edit| leaves(edit, rules) == Some(true)) {
        write(edit, &mut out);
    }
    Some(out.into_bytes())
}

/// Whether anything is kept of an edit of an empty field; `None` if what is kept has no short way.
fn leaves(edit: &FieldEdit, rules: &impl Rules) -> Option<bool> {
    let Some(Rule { ty, .. }) = rules.rule(edit.field) else { return Some(false) };
    let Some(place) = edit.change.place_in(ty) else { return Some(false) };
    match &edit.change {
        Change::Set(_) | Change::Replace(_) => Some(true),
        Change::Elements { add, .. } if add.is_sorted_by(|a, b| a < b) => Some(!add.is_empty()),
        Change::Entries { put, remove } if remove.is_empty() && put.is_sorted_by(|a, b| a.0 < b.0) => {
            place.inner().is_some_and(FieldType::is_register).then_some(!put.is_empty())
        }
        Change::Count { reset: false, add } => Some(*add != 0),
        _ => None,
    }
}

fn write(edit: &FieldEdit, out: &mut Writer) {
    let number = u64::from(edit.field.0) << 3;
    match &edit.change {
        Change::Set(value) | Change::Replace(value) => {
            out.uint(number | PLAIN | REGISTER);
            value.encode(out);
        }
        Change::Elements { add, .. } => {
            out.uint(number | PLAIN | SET);
            out.list(add.iter());
        }
        Change::Entries { put, .. } => {
            out.uint(number | PLAIN | MAP);
            out.count(put.len());
            for (key, value) in put {
                out.text(key);
                value.encode(out);
            }
        }
        Change::Count { add, .. } => {
            out.uint(number | OTHER);
            out.raw(&[COUNTER, 0]);
            out.int(*add);
        }
        Change::Clear | Change::Within(_) | Change::Text(_) | Change::List(_) => unreachable!("these have no short way"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;
    use crate::{
        codec::Decode as _,
        document::{Document, Dot, Stamp, parts::Parts},
        id::ChainId,
        schema::FieldId,
        testutil::{ANIMALS, schema},
        time::Time,
        value::{Key, tests::values},
        vector::VersionVector,
    };

    fn changes() -> impl Strategy<Value = Change> {
        let list = || collection::vec(values(), 0..3);
        let rising = || collection::btree_set(values(), 0..4).prop_map(|all| all.into_iter().collect::<Vec<_>>());
        let entries = || collection::vec(("[a-d]".prop_map(Into::into), values()), 0..3);
        prop_oneof![
            4 => values().prop_map(Change::Set),
            1 => values().prop_map(Change::Replace),
            1 => Just(Change::Clear),
            2 => (rising(), list()).prop_map(|(add, remove)| Change::Elements { add, remove }),
            1 => (list(), list()).prop_map(|(add, remove)| Change::Elements { add, remove }),
            2 => entries().prop_map(|put| Change::Entries { put, remove: Vec::new() }),
            1 => entries().prop_map(|put| Change::Entries { put, remove: vec!["a".into()] }),
            1 => entries().prop_map(|of| Change::Within(of.into_iter().map(|(key, value)| (key, Change::Set(value))).collect())),
            1 => (any::<bool>(), -2i64..3).prop_map(|(reset, add)| Change::Count { reset, add }),
        ]
    }

    fn operations() -> impl Strategy<Value = Operation> {
        let edit = (1u16..16, changes()).prop_map(|(field, change)| FieldEdit { field: FieldId(field), change });
        let fields = (collection::vec(edit, 0..6), any::<bool>()).prop_map(|(mut fields, sorts)| {
            if sorts {
                fields.sort_by_key(|edit| edit.field);
            }
            fields
        });
        (fields, any::<bool>()).prop_map(|(fields, creates)| if creates { Operation::Create(fields) } else { Operation::Update(fields) })
    }

    proptest! {
        #[test]
        fn prop_what_is_packed_is_what_replay_gives(operation in operations(), counter in 1u64.., index in any::<u32>()) {
            let (schema, vector) = (schema(), VersionVector::default());
            let animals = schema.by_id(ANIMALS).expect("there");
            let stamp = Stamp { time: Time::from_millis(7), dot: Dot { chain: ChainId([3; 16]), counter, index } };
            let (edit, context) = (Edit { key: Key::new("alma").expect("short"), operation }, Context { vector: &vector, stamp });
            let mut replayed = Parts::default();
            replayed.apply(&edit, &context, animals);
            if let Some(bytes) = pack(&edit, &context, animals) {
                prop_assert_eq!(&bytes, &replayed.to_bytes());
                prop_assert_eq!(&Parts::from_bytes(&bytes), &Ok(replayed.clone()));
            }
            let mut document = Document::default();
            document.apply(&edit, &context, animals);
            let replayed = Document::from(replayed);
            prop_assert_eq!(document.exists(), replayed.exists());
            prop_assert_eq!(document.has_conflict(animals), replayed.has_conflict(animals));
            prop_assert_eq!(document.contesting(), replayed.contesting());
            prop_assert_eq!(document.view(animals), replayed.view(animals));
            prop_assert_eq!(&document, &replayed);
        }
    }

    #[test]
    fn documents_of_the_workload_are_packed() {
        let (schema, vector) = (crate::testutil::workload::schema(), VersionVector::default());
        let (collection, edit) = crate::testutil::workload::creation(7, 0);
        let stamp = Stamp { time: Time::from_millis(7), dot: Dot { chain: ChainId([3; 16]), counter: 1, index: 0 } };
        assert!(pack(&edit, &Context { vector: &vector, stamp }, schema.by_id(collection).expect("there")).is_some());
    }
}
