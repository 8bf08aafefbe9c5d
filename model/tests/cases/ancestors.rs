//! Merges and diffs of the two systems that this one descends from, as far as their types and policies are built: base and sides are
//! written as commits, replayed, and read. Cases marked questionable bind nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdbook_model::{
    document::{Document, View},
    edit::{Edit, FieldEdit, Operation},
    json::{value_from_json, value_to_json},
    replace,
    schema::{Collection, CollectionId, Deletes, Field, FieldId, FieldType, MERGE_RULES, Policy, ScalarType, Schema},
    state::compare,
    testutil::{Replica, create, delete, key, set},
    time::Time,
    value::Value,
};
use serde_json::{Map, Value as Json, json};

const DOCUMENTS: CollectionId = CollectionId(1);

/// Cases whose outcome differs by design, with the reason.
const DIFFERENT: [(&str, &str); 4] =
    [("map/nil-b", EDIT_WINS), ("struct/nil-a", EDIT_WINS), ("struct/nil-b", EDIT_WINS), ("struct/removed-vs-modified-nested", KEY_WISE)];
const EDIT_WINS: &str = "a document that one side deletes and the other edits is no conflict: the edit wins";
const KEY_WISE: &str = "a map that one side clears and the other edits keeps the entries that the clear had not seen";

/// How a file's cases came out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    different: usize,
    questionable: usize,
    unsupported: BTreeMap<&'static str, usize>,
}

impl Tally {
    fn unsupported(&self) -> usize {
        self.unsupported.values().sum()
    }
}

fn cases(text: &str) -> Vec<Json> {
    serde_json::from_str(text).expect("a list of cases")
}

/// Returns the type that all of `values` have; says why if there is none here.
fn type_of(values: &[&Json]) -> Result<FieldType, &'static str> {
    let kind = |json: &Json| match json {
        Json::Object(object) if object.contains_key("$set") => "set",
        Json::Object(object) if object.keys().any(|key| key.starts_with('$')) => "reference or named struct",
        Json::Object(_) => "map",
        Json::Array(_) => "list",
        _ => "scalar",
    };
    let kinds: BTreeSet<_> = values.iter().map(|value| kind(value)).collect();
    let scalar = |values: &[&Json]| -> Result<ScalarType, &'static str> {
        let of = |json: &&Json| match json {
            Json::Bool(_) => Some(ScalarType::Bool),
            Json::Number(_) => Some(ScalarType::Float),
            Json::String(_) => Some(ScalarType::String),
            _ => None,
        };
        let types: Vec<_> = values.iter().map(of).collect::<Option<_>>().ok_or("elements that are no scalars")?;
        let first = types.first().copied().unwrap_or(ScalarType::String);
        if types.iter().all(|ty| *ty == first) { Ok(first) } else { Err("values of several types in one field") }
    };
    match Vec::from_iter(kinds)[..] {
        ["scalar"] => scalar(values).map(FieldType::Scalar),
        ["set"] => scalar(&values.iter().flat_map(|set| set["$set"].as_array().expect("a list")).collect::<Vec<_>>()).map(FieldType::set),
        ["map"] => scalar(&values.iter().flat_map(|map| map.as_object().expect("a map").values()).collect::<Vec<_>>()).map(FieldType::map),
        ["list"] => Err("lists"),
        [_] => Err("references and named structs"),
        _ => Err("values of several types in one field"),
    }
}

const fn policy_of(ty: &FieldType, scalars: Policy) -> Policy {
    if ty.is_register() { scalars } else { Policy::natural(ty) }
}

/// One merge: a base and sides, as objects of fields; `None` where there is no document.
struct Merge {
    schema: Arc<Schema>,
    base: Option<Map<String, Json>>,
    sides: Vec<Option<Map<String, Json>>>,
}

impl Merge {
    fn new(
        base: Option<Map<String, Json>>,
        sides: Vec<Option<Map<String, Json>>>,
        expect: &Json,
        scalars: Policy,
    ) -> Result<Self, &'static str> {
        let mut values = BTreeMap::<&str, Vec<&Json>>::new();
        for (name, value) in base.iter().chain(sides.iter().flatten()).chain(expect.as_object()).flatten() {
            values.entry(name).or_default().extend((!value.is_null()).then_some(value));
        }
        let mut fields = Vec::new();
        for (id, (name, values)) in (1..).zip(values) {
            let ty = if values.is_empty() { FieldType::Scalar(ScalarType::String) } else { type_of(&values)? };
            let policy = policy_of(&ty, scalars);
            fields.push(Field::new(FieldId(id), format!("_{name}"), ty, policy));
        }
        let next_field = fields.len() as u16 + 1;
        let collections = vec![Collection { id: DOCUMENTS, name: "documents".into(), fields, next_field, deletes: Deletes::EditWins }];
        Ok(Self { schema: Arc::new(Schema { version: 1, merge_rules: MERGE_RULES, collections }), base, sides })
    }

    /// Returns what all of it reads, whichever side comes first.
    fn run(&self) -> Option<View> {
        let mut base = Replica::new("base", self.schema.clone());
        if let Some(fields) = &self.base {
            let edit = Edit { key: key("it"), operation: Operation::Create(self.changes(None, None, fields)) };
            base.commit(Time::from_millis(1), [(DOCUMENTS, edit)]);
        }
        let mut sides = Vec::new();
        for (at, side) in (0u64..).zip(&self.sides) {
            let mut replica = Replica::new(&format!("side {at}"), self.schema.clone());
            base.deliveries().for_each(|delivery| replica.receive(delivery).expect("it fits"));
            let kept = replica.document(DOCUMENTS, "it");
            let operation = match (&self.base, side) {
                (Some(_), None) => Operation::Delete,
                (None, None) => continue,
                (None, Some(side)) => Operation::Create(self.changes(None, None, side)),
                (Some(base), Some(side)) => Operation::Update(self.changes(kept.as_deref(), Some(base), side)),
            };
            if operation != Operation::Update(Vec::new()) {
                sides.push(replica.commit(Time::from_millis(2 + at), [(DOCUMENTS, Edit { key: key("it"), operation })]));
            }
        }
        let mut read = (0..=sides.len()).map(|turn| {
            let mut reader = base.clone();
            sides.iter().cycle().skip(turn).take(sides.len()).for_each(|side| reader.receive(side).expect("it fits"));
            reader.view(DOCUMENTS, "it")
        });
        let first = read.next().expect("at least one order");
        assert!(read.all(|other| other == first), "the order of arrival changes what is read");
        first
    }

    fn changes(&self, kept: Option<&Document>, from: Option<&Map<String, Json>>, to: &Map<String, Json>) -> Vec<FieldEdit> {
        let change = |field: &Field| {
            let value = |side: &Map<String, Json>| side.get(&field.name[1..]).and_then(|json| parsed(field, json));
            let (old, new) = (from.and_then(value), value(to));
            if old == new {
                return None;
            }
            let change = replace::replace(field, kept.and_then(|kept| kept.field(field.id)), new.as_ref())?;
            Some(FieldEdit { field: field.id, change })
        };
        self.schema.collections[0].fields.iter().filter_map(change).collect()
    }

    /// Whether `view` has exactly the fields of `expect`.
    fn reads(&self, view: Option<&View>, expect: &Map<String, Json>) -> bool {
        let empty = BTreeMap::new();
        let found = view.map_or(&empty, |view| &view.fields);
        self.schema.collections[0].fields.iter().all(|field| {
            let expected = expect.get(&field.name[1..]).and_then(|json| parsed(field, json));
            found.get(&field.name).map(value_to_json) == expected.as_ref().map(value_to_json)
        })
    }
}

fn parsed(field: &Field, json: &Json) -> Option<Value> {
    let json = json.get("$set").unwrap_or(json);
    value_from_json(field, json).expect("the field has the type of all its values")
}

#[test]
fn merges_of_noms_come_out_as_there_or_differ_for_a_reason() {
    let mut tally = Tally::default();
    for case in cases(include_str!("ancestors/noms-merge.json")) {
        match noms(&case) {
            Err(reason) => *tally.unsupported.entry(reason).or_default() += 1,
            Ok(holds) => count(&mut tally, &case, holds),
        }
    }
    assert_eq!((tally.passed, tally.different, tally.unsupported()), (30, 4, 67), "{tally:#?}");
}

fn noms(case: &Json) -> Result<bool, &'static str> {
    if case["policy"] != "none" {
        return Err("`ours` and `theirs` are options of an explicit merge");
    }
    // A set or map at the root of a case is a field of a document here, an object a document.
    let root = |json: &Json| match (case["type"].as_str(), json) {
        (_, Json::Null) => Ok(None),
        (Some("set"), Json::Array(_)) => Ok(Some(Map::from_iter([("all".to_owned(), json!({"$set": json}))]))),
        (Some("map" | "struct"), Json::Object(object)) if object.keys().all(|key| !key.starts_with('$')) => Ok(Some(object.clone())),
        (Some("list"), _) => Err("lists"),
        _ => Err("values of several types in one field"),
    };
    let unchanged = case["name"].as_str().is_some_and(|name| name.ends_with("do-nothing"));
    let base = root(&case["base"])?;
    let side = |name: &str| if unchanged && case[name].is_null() { Ok(base.clone()) } else { root(&case[name]) };
    let (a, b, expect) = (side("a")?, side("b")?, root(&case["expect"])?.unwrap_or_default());
    let merge = Merge::new(base, vec![a, b], &Json::Object(expect.clone()), Policy::Strict)?;
    let view = merge.run();
    let in_conflict = view.as_ref().is_some_and(|view| !view.conflicts.is_empty());
    if case["conflict"] == true { Ok(in_conflict) } else { Ok(!in_conflict && merge.reads(view.as_ref(), &expect)) }
}

fn count(tally: &mut Tally, case: &Json, holds: bool) {
    let name = case["name"].as_str().expect("a name");
    let different = DIFFERENT.iter().find(|(different, _)| *different == name);
    match (holds, different) {
        (true, None) => tally.passed += 1,
        (false, Some(_)) => tally.different += 1,
        (false, None) if case["questionable"] == true => tally.questionable += 1,
        (true, Some((_, reason))) => panic!("{name} comes out as there after all, though {reason}"),
        (false, None) => panic!("{name} does not come out as expected: {case:#}"),
    }
}

#[test]
fn merges_of_goatdb_come_out_as_there() {
    let mut tally = Tally::default();
    for case in cases(include_str!("ancestors/goatdb-merge.json")) {
        match goatdb(&case) {
            Err(reason) => *tally.unsupported.entry(reason).or_default() += 1,
            Ok(holds) => count(&mut tally, &case, holds),
        }
    }
    assert_eq!((tally.passed, tally.different, tally.unsupported()), (56, 0, 15), "{tally:#?}");
}

fn goatdb(case: &Json) -> Result<bool, &'static str> {
    let kind = case["fieldType"].as_str().expect("a type");
    if kind == "richtext" {
        return Err("rich text");
    }
    // A case is about one field, of a document that is there on all sides; an item is a document with fields of its own.
    let side = |json: &Json| match (kind, json) {
        ("item", Json::Null) => None,
        ("item", item) => Some(tagged(item["data"].as_object().expect("an item has data"))),
        (_, json) => Some(tagged(&Map::from_iter([("it".to_owned(), json.clone())]))),
    };
    let more = case["more"].as_array().into_iter().flatten();
    let sides = [&case["a"], &case["b"]].into_iter().chain(more).map(side).collect();
    let expect = side(&case["expect"]).unwrap_or_default();
    let merge = Merge::new(side(&case["base"]), sides, &Json::Object(expect.clone()), Policy::LastWriter)?;
    Ok(merge.reads(merge.run().as_ref(), &expect))
}

/// Marks arrays as the sets that they are there.
fn tagged(fields: &Map<String, Json>) -> Map<String, Json> {
    let tagged = |value: &Json| if value.is_array() { json!({"$set": value}) } else { value.clone() };
    fields.iter().map(|(name, value)| (name.clone(), tagged(value))).collect()
}

#[test]
fn diffs_of_noms_find_the_same_entries_and_lead_from_one_side_to_the_other() {
    let (mut passed, mut skipped) = (0, 0);
    for case in cases(include_str!("ancestors/noms-diff.json")) {
        let (Json::Object(a), Json::Object(b)) = (&case["a"], &case["b"]) else {
            skipped += 1;
            continue;
        };
        if a.keys().any(|key| key.starts_with('$')) {
            skipped += 1;
            continue;
        }
        // Each entry is a document here: paths end at the document.
        let found = changed(a, b);
        if let Some(changes) = case["changes"].as_array() {
            let expected: BTreeMap<_, _> = changes
                .iter()
                .map(|change| {
                    let path = change["path"].as_array().expect("a path");
                    let kind = if path.len() == 1 { change["change"].as_str().expect("a kind") } else { "modified" };
                    (path[0].as_str().expect("a key").to_owned(), kind)
                })
                .collect();
            let kinds: BTreeMap<_, _> = found.iter().map(|(key, sides)| (key.clone(), kind(sides))).collect();
            assert_eq!(kinds, expected, "{}", case["name"]);
        }
        let mut led: BTreeMap<_, _> = a.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
        for (key, (_, new)) in found {
            match new {
                Some(new) => _ = led.insert(key, new),
                None => _ = led.remove(&key),
            }
        }
        assert_eq!(led, b.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(), "{}", case["name"]);
        passed += 1;
    }
    assert_eq!((passed, skipped), (4, 20));
}

type Sides = (Option<String>, Option<String>);

fn kind(sides: &Sides) -> &'static str {
    match sides {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "modified",
    }
}

/// Writes `a`, then what makes it `b`, and compares the two states.
fn changed(a: &Map<String, Json>, b: &Map<String, Json>) -> BTreeMap<String, Sides> {
    let text = Field::new(FieldId(1), "text", ScalarType::String, Policy::LastWriter);
    let collections =
        vec![Collection { id: DOCUMENTS, name: "documents".into(), fields: vec![text], next_field: 2, deletes: Deletes::EditWins }];
    let schema = Schema { version: 1, merge_rules: MERGE_RULES, collections };
    let mut replica = Replica::new("writer", Arc::new(schema.clone()));
    let creation = |(key, value): (&String, &Json)| (DOCUMENTS, create(key, [set(FieldId(1), value.to_string().as_str())]));
    replica.commit(Time::from_millis(1), a.iter().map(creation));
    let old = replica.state().clone();
    let gone = a.keys().filter(|key| !b.contains_key(*key)).map(|key| (DOCUMENTS, delete(key)));
    let edits: Vec<_> = gone.chain(b.iter().filter(|(key, value)| a.get(*key) != Some(*value)).map(creation)).collect();
    replica.commit(Time::from_millis(2), edits);
    let text_of = |document: Arc<herdbook_model::document::Document>| {
        let view = document.view(&schema.collections[0]).expect("it exists");
        value_to_json(&view.fields["text"]).as_str().expect("a text").to_owned()
    };
    let changes = compare(replica.nodes(), &old, replica.state(), DOCUMENTS, "", usize::MAX).expect("nodes in memory are whole");
    changes.into_iter().map(|change| (change.key.to_string(), (change.old.map(text_of), change.new.map(text_of)))).collect()
}
