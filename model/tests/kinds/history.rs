//! Random histories over every type: sessions that commit, hear of some of each other's commits, and commit again. One seed, one history.

use std::{collections::BTreeSet, sync::Arc};

use herdbook_model::{
    authority::RequestRef,
    blob::Blob,
    document::{Field as Kept, List, ListSplice, Text, TextSplice},
    edit::{Change, Edit, FieldEdit, ListEdit, Operation, TextEdit},
    id::PartId,
    json::schema_from_json,
    replace::{create, replace},
    schema::{Collection, CollectionId, Field, FieldType, Policy, ScalarType, Schema},
    testutil::{Delivery, Herd, key, request, workload::Rng},
    time::Time,
    value::{Decimal, Scalar, Value},
};

/// What happened, commit by commit, with who knew what at the end.
pub(crate) struct History {
    pub(crate) herd: Herd,
    /// All commits, parents first.
    pub(crate) commits: Vec<Delivery>,
    /// Requests that no replay counts.
    pub(crate) skipped: BTreeSet<RequestRef>,
}

/// Three collections alike but for what comes of a delete against an edit.
pub(crate) fn schema() -> Schema {
    let fields = r#"[
        {"name": "title", "type": "string", "policy": "strict"}, {"name": "high", "type": "int", "policy": "max"},
        {"name": "low", "type": "decimal", "policy": "min"}, {"name": "body", "type": "text"}, {"name": "items", "type": "list<string>"},
        {"name": "ranks", "type": "list<int>", "policy": "strict"}, {"name": "hits", "type": "counter"},
        {"name": "sets", "type": "set<list<optional<int>>>"}, {"name": "nested", "type": "map<map<int>>", "policy": "strict"},
        {"name": "tallies", "type": "map<counter>"}, {"name": "notes", "type": "map<text>"},
        {"name": "mixed", "type": "int|string|list<int>|map<int>", "policy": "strict"},
        {"name": "either", "type": "int|map<int>"}, {"name": "whole", "type": "atomic<list<int>>"},
        {"name": "late", "type": "int", "clears": "earlier"}, {"name": "tags", "type": "set<string>", "clears": "earlier"},
        {"name": "yields", "type": "map<int>", "clears": "earlier"}, {"name": "owner", "type": "string", "policy": "custom:longest"},
        {"name": "friend", "type": "reference<kept>"}, {"name": "strict_set", "type": "set<int>", "policy": "strict"},
        {"name": "peaks", "type": "map<int>", "policy": "max"}, {"name": "files", "type": "map<blob>"}]"#;
    let text = format!(
        r#"{{"version": 1, "collections": {{"kept": {{"fields": {fields}}}, "gone": {{"deletes": "delete-wins", "fields": {fields}}},
        "disputed": {{"deletes": "conflict", "fields": {fields}}}}}}}"#
    );
    schema_from_json(&text).expect("a valid schema")
}

impl History {
    /// Returns the history of `seed` after `steps` steps.
    pub(crate) fn of(seed: u64, steps: u64) -> Self {
        let mut rng = Rng::new(seed);
        let sessions = 2 + rng.index(3);
        let schema = Arc::new(schema());
        let mut history = Self { herd: Herd::under(sessions, schema.clone()), commits: Vec::new(), skipped: BTreeSet::new() };
        for _ in 0..steps {
            let who = rng.index(sessions);
            match rng.below(10) {
                0..=5 => history.commit(who, &schema, &mut rng),
                _ => history.hear(who, rng.index(sessions), &mut rng),
            }
            if rng.below(8) == 0 {
                history.herd.replicas[who].fold();
            }
        }
        history
    }

    fn commit(&mut self, who: usize, schema: &Schema, rng: &mut Rng) {
        let now = Time::from_millis(1_700_000_000_000 + self.commits.len() as u64 + 10 * rng.below(5));
        let seed = rng.draw();
        let mut requests = Vec::new();
        for at in 0..1 + rng.below(2) {
            let edits: Vec<_> = (0..1 + rng.below(3)).map(|_| self.edit(who, schema, rng)).collect();
            for (collection, edit) in &edits {
                edit.check(schema.by_id(*collection).expect("there")).expect("what is made fits the schema");
            }
            requests.push(request(seed ^ at, edits));
        }
        let replica = &self.herd.replicas[who];
        let delivery = replica.sign(replica.header(now), requests);
        for at in 0..delivery.commit.header().request_count {
            if rng.below(14) == 0 {
                let skipped = RequestRef { commit: delivery.commit.id(), request: at };
                self.herd.replicas.iter_mut().for_each(|replica| replica.skip(skipped));
                self.skipped.insert(skipped);
            }
        }
        self.herd.replicas[who].receive(&delivery).expect("its own commit fits its own graph");
        self.commits.push(delivery);
    }

    /// Brings `to` what `from` knows, or the part of it that came to `from` first.
    fn hear(&mut self, to: usize, from: usize, rng: &mut Rng) {
        let known: Vec<_> = self.herd.replicas[from].deliveries().cloned().collect();
        let some = if rng.below(2) == 0 { known.len() } else { rng.index(known.len() + 1) };
        for delivery in &known[..some] {
            self.herd.replicas[to].receive(delivery).expect("commits of a herd fit each other");
        }
    }

    fn edit(&self, who: usize, schema: &Schema, rng: &mut Rng) -> (CollectionId, Edit) {
        let collection = &schema.collections[[0, 0, 0, 1, 2][rng.index(5)]];
        let name = ["alma", "alma", "bella"][rng.index(3)];
        let document = self.herd.replicas[who].document(collection.id, name);
        let kept = |field: &Field| document.as_ref().and_then(|document| document.field(field.id));
        let operation = match rng.below(12) {
            0 | 1 => Operation::Delete,
            2 => Operation::Create(fields(collection, rng, |field, rng| create(field, kept(field), value(&field.ty, rng).as_ref()))),
            _ => Operation::Update(fields(collection, rng, |field, rng| change(field, &field.ty, kept(field), rng))),
        };
        (collection.id, Edit { key: key(name), operation })
    }
}

fn fields(collection: &Collection, rng: &mut Rng, mut change: impl FnMut(&Field, &mut Rng) -> Option<Change>) -> Vec<FieldEdit> {
    // Texts, lists and nested maps are where the most can go wrong.
    let most = ["body", "items", "ranks", "nested", "mixed"].map(|name| collection.fields.iter().position(|field| &*field.name == name));
    let any = |rng: &mut Rng| if rng.below(2) == 0 { most[rng.index(5)].expect("there") } else { rng.index(collection.fields.len()) };
    let chosen: BTreeSet<_> = (0..rng.below(5)).map(|_| any(rng)).collect();
    let edit = |at: usize| {
        let field = &collection.fields[at];
        Some(FieldEdit { field: field.id, change: change(field, rng)? })
    };
    chosen.into_iter().filter_map(edit).collect()
}

/// Returns some change of a place of type `ty` in `field`, of which `kept` is known.
fn change(field: &Field, ty: &FieldType, kept: Option<&Kept>, rng: &mut Rng) -> Option<Change> {
    let part = |is_meant: fn(&Kept) -> bool| kept.and_then(|kept| kept.parts().iter().find(|part| is_meant(part)));
    match rng.below(10) {
        0 => return Some(Change::Clear),
        1 | 2 => {
            let field = Field {
                ty: ty.clone(),
                policy: if ty.is_register() { field.policy.of_registers() } else { field.policy },
                ..field.clone()
            };
            return replace(&field, kept, value(ty, rng).as_ref());
        }
        _ => {}
    }
    Some(match ty {
        FieldType::Counter => Change::Count { reset: rng.below(6) == 0, add: rng.below(9).cast_signed() - 4 },
        FieldType::Text => {
            let none = Text::default();
            let text = if let Some(Kept::Text(text)) = part(|part| matches!(part, Kept::Text(_))) { text } else { &none };
            Change::Text(splices_of_text(text, rng)?)
        }
        FieldType::List(of) => {
            let none = List::default();
            let list = if let Some(Kept::List(list)) = part(|part| matches!(part, Kept::List(_))) { list } else { &none };
            Change::List(splices_of_list(list, of, rng)?.into())
        }
        FieldType::Set(of) => {
            let mut elements: Vec<_> = (0..3).filter_map(|_| value(of, rng)).collect();
            elements.sort();
            elements.dedup();
            let (add, remove) = elements.into_iter().partition(|_| rng.below(2) == 0);
            Change::Elements { add, remove }
        }
        FieldType::Map(of) if of.is_register() => {
            let (mut put, mut remove) = (Vec::new(), Vec::new());
            for key in ["x", "y", "z"] {
                match rng.below(4) {
                    0 => put.extend(value(of, rng).map(|value| (key.into(), value))),
                    1 => remove.push(key.into()),
                    _ => {}
                }
            }
            Change::Entries { put, remove }
        }
        FieldType::Map(of) => {
            let none = std::collections::BTreeMap::new();
            let entries = if let Some(Kept::Map(entries)) = part(|part| matches!(part, Kept::Map(_))) { entries } else { &none };
            let mut changes = Vec::new();
            for key in ["x", "y"] {
                if rng.below(2) == 0 {
                    changes.extend(change(field, of, entries.get(key), rng).map(|change| (key.into(), change)));
                }
            }
            Change::Within(changes)
        }
        FieldType::Union(types) => {
            let ty = &types[rng.index(types.len())];
            return change(field, ty, kept, rng);
        }
        ty if rng.below(12) == 0 && matches!(field.policy, Policy::Max | Policy::Min) => Change::Replace(value(ty, rng)?),
        ty => Change::Set(value(ty, rng)?),
    })
}

fn splices_of_text(text: &Text, rng: &mut Rng) -> Option<TextEdit> {
    let len = text.read().chars().count() as u64;
    let (mut splices, mut at) = (Vec::new(), rng.below(len + 1));
    for _ in 0..1 + rng.below(2) {
        if at > len {
            break;
        }
        let removed = rng.below(3).min(len - at);
        splices.push(TextSplice { at, removed, inserted: ["", "ab", "c", "ü🐑", "defg"][rng.index(5)].into() });
        at += removed + 1 + rng.below(3);
    }
    text.splice(&splices)
}

fn splices_of_list(list: &List, of: &FieldType, rng: &mut Rng) -> Option<ListEdit> {
    let len = list.items().len() as u64;
    let at = rng.below(len + 1);
    let splice = match rng.below(4) {
        0 if at < len => ListSplice::Set { at, value: value(of, rng)? },
        1 | 2 if at < len => ListSplice::Move { from: at, to: rng.below(len) },
        _ => {
            let inserted = (0..rng.below(3)).filter_map(|_| value(of, rng)).collect();
            ListSplice::Splice { at, removed: rng.below(3).min(len - at), inserted }
        }
    };
    list.splice(&[splice])
}

/// Returns some value of type `ty`.
fn value(ty: &FieldType, rng: &mut Rng) -> Option<Value> {
    let few = |rng: &mut Rng, of: &FieldType| -> Vec<Value> { (0..1 + rng.below(3)).filter_map(|_| value(of, rng)).collect() };
    Some(match ty {
        FieldType::Scalar(ScalarType::Int) | FieldType::Counter => Value::from(rng.below(4).cast_signed()),
        FieldType::Scalar(ScalarType::Decimal) => Value::Scalar(Scalar::Decimal(Decimal::new(rng.below(30).into(), 1).ok()?)),
        FieldType::Scalar(_) => Value::from(["", "ada", "bob"][rng.index(3)]),
        FieldType::Text => Value::from(["ab", "abcd", "bcxa", "ü"][rng.index(4)]),
        FieldType::Reference(_) => Value::Scalar(Scalar::Reference(key(["alma", "bella"][rng.index(2)]))),
        FieldType::Blob | FieldType::Erasable(_) => Value::Scalar(Scalar::Blob(Blob { root: PartId([1; 32]), len: rng.below(3) })),
        FieldType::Set(of) => Value::Set(few(rng, of).into_iter().collect()),
        FieldType::List(of) => Value::List(few(rng, of)),
        FieldType::Map(of) => {
            let keys = ["x", "y", "z"].into_iter().filter(|_| rng.below(2) == 0).collect::<Vec<_>>();
            Value::Map(keys.into_iter().filter_map(|key| Some((key.into(), value(of, rng)?))).collect())
        }
        FieldType::Optional(of) if rng.below(3) > 0 => value(of, rng)?,
        FieldType::Optional(_) => Value::Scalar(Scalar::Null),
        FieldType::Atomic(of) => value(of, rng)?,
        FieldType::Union(types) => value(&types[rng.index(types.len())], rng)?,
    })
}
