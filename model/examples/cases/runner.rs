//! Writes a case as schema and commits and asks the model what comes of them. No rule of merging is here: base and sides are written by
//! `replace`, merged by `advance`, and decided by `merge::decide` where the case asks for a side.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdbook_model::{
    document::Document,
    edit::{Change, Edit, FieldEdit, Operation},
    merge::{Side, decide},
    replace::{create, replace},
    schema::{Collection, CollectionId, Deletes, Field, FieldId, FieldType, MERGE_RULES, Policy, ScalarType, Schema},
    splices::splices,
    state::{State, advance},
    testutil::{Replica, branch, key},
    time::Time,
    tree::MemoryNodes,
    value::{Difference, Float, Scalar, Step, Value, differences},
};
use serde_json::{Map, Value as Json, json};

const DOCUMENTS: CollectionId = CollectionId(1);
const NAME: &str = "it";

/// What a case says and what came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) expected: Json,
    pub(crate) found: Json,
}

/// Runs one case of any of the formats.
pub(crate) fn run(case: &Json) -> Result<Outcome, String> {
    match case["kind"].as_str() {
        Some("splices") => return Ok(edit_script(case)),
        Some("roundtrip") => return round_trip(case),
        Some("value-diff") => return Ok(value_diff(case)),
        _ => {}
    }
    if case["fieldType"].is_string() { records(case) } else { values(case) }
}

/// Fields of a document by name; absent ones do not occur.
type Fields = BTreeMap<String, Value>;

/// A merge of sides that a base comes before.
struct Merge {
    schema: Arc<Schema>,
    base: Fields,
    sides: Vec<Fields>,
}

/// How a merge ended.
struct Merged {
    schema: Arc<Schema>,
    state: State,
    nodes: MemoryNodes,
    replicas: Vec<Replica>,
    everything: Replica,
}

impl Merge {
    fn new(base: Fields, sides: Vec<Fields>, policy: impl Fn(&FieldType) -> Policy, texts: bool) -> Self {
        let names: BTreeSet<_> = sides.iter().chain([&base]).flat_map(BTreeMap::keys).cloned().collect();
        let field = |(id, name): (u16, &String)| {
            let values: Vec<_> = sides.iter().chain([&base]).filter_map(|fields| fields.get(name)).collect();
            let ty = if texts { FieldType::Text } else { type_of(&values) };
            let policy = policy(&ty);
            Field::new(FieldId(id), name.as_str(), ty, policy)
        };
        let fields: Vec<_> = (1..).zip(&names).map(field).collect();
        let next_field = u16::try_from(fields.len() + 1).expect("few");
        let collections = vec![Collection { id: DOCUMENTS, name: "documents".into(), fields, next_field, deletes: Deletes::EditWins }];
        let schema = Schema { version: 1, merge_rules: MERGE_RULES, collections };
        schema.validate().expect("what a case needs is a valid schema");
        Self { schema: Arc::new(schema), base, sides }
    }

    fn collection(&self) -> &Collection {
        &self.schema.collections[0]
    }

    /// The edits after which the document reads `wanted`.
    fn edits(&self, kept: Option<&Document>, wanted: &Fields) -> Vec<FieldEdit> {
        let edit = |field: &Field| {
            let wanted = wanted.get(&*field.name);
            let change = match kept {
                None => create(field, None, wanted),
                Some(kept) => replace(field, kept.field(field.id), wanted),
            };
            // A side that makes of the base's value an empty one of another kind wrote it, though it reads like none.
            let before = self.base.get(&*field.name);
            let is_emptied = wanted.is_some_and(Value::is_empty) && before.is_some() && wanted != before;
            let change = change.or(is_emptied.then_some(Change::Clear))?;
            Some(FieldEdit { field: field.id, change })
        };
        self.collection().fields.iter().filter_map(edit).collect()
    }

    fn run(self) -> Merged {
        let mut base = Replica::new("base", self.schema.clone());
        let edit = |operation| [(DOCUMENTS, Edit { key: key(NAME), operation })];
        base.commit(Time::from_millis(1), edit(Operation::Create(self.edits(None, &self.base))));
        let mut replicas = Vec::new();
        for (at, side) in (0u64..).zip(&self.sides) {
            let mut replica = Replica::new(&format!("side {at}"), self.schema.clone());
            base.deliveries().for_each(|delivery| replica.receive(delivery).expect("it fits"));
            let kept = replica.document(DOCUMENTS, NAME).expect("the base made it");
            let edits = self.edits(Some(&kept), side);
            if !edits.is_empty() {
                replica.commit(Time::from_millis(2 + at), edit(Operation::Update(edits)));
            }
            replicas.push(replica);
        }
        let mut everything = base;
        replicas.iter().flat_map(Replica::deliveries).for_each(|delivery| everything.receive(delivery).expect("it fits"));
        let (mut state, nodes) = (State::empty(branch(), self.schema.clone()), MemoryNodes::default());
        advance(&mut state, &everything, &nodes, everything.frontier().vector(), |_| false).expect("every commit is here");
        Merged { schema: self.schema, state, nodes, replicas, everything }
    }
}

impl Merged {
    fn document(&self) -> Option<Arc<Document>> {
        self.state.document(&self.nodes, DOCUMENTS, &key(NAME)).expect("nodes in memory are whole")
    }

    /// Commits what decides all conflicts as that side has them.
    fn decide(&mut self, side: usize) -> Option<()> {
        let document = self.document()?;
        let as_there = self.replicas[side].document(DOCUMENTS, NAME);
        let operation = decide(&self.schema.collections[0], &document, as_there.as_deref(), None, |_| Some(Side::Ours))?;
        self.everything.commit(Time::from_millis(9), [(DOCUMENTS, Edit { key: key(NAME), operation })]);
        let target = self.everything.frontier().vector();
        advance(&mut self.state, &self.everything, &self.nodes, target, |_| false).expect("every commit is here");
        Some(())
    }

    /// Returns what is read: fields, or that there is a conflict, or no document.
    fn read(&self) -> Result<Fields, Json> {
        let view = self.document().and_then(|document| document.view(&self.schema.collections[0]));
        let Some(view) = view else { return Err(json!("no document")) };
        if !view.conflicts.is_empty() {
            return Err(json!({"conflict": true}));
        }
        Ok(view.fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
    }
}

/// A case about one value of any shape: `none` is strict, `ours` and `theirs` sign a decision.
fn values(case: &Json) -> Result<Outcome, String> {
    let unchanged = case["name"].as_str().is_some_and(|name| name.ends_with("do-nothing"));
    let is_set = case["type"] == "set";
    let one = |json: &Json| value_of(json, is_set).map(|value| ("_".to_owned(), value)).into_iter().collect::<Fields>();
    let side = |name: &str| one(if unchanged && case[name].is_null() { &case["base"] } else { &case[name] });
    let policy = |_: &FieldType| Policy::Strict;
    let mut merged = Merge::new(one(&case["base"]), vec![side("a"), side("b")], policy, false).run();
    match case["policy"].as_str() {
        Some("ours") => _ = merged.decide(0),
        Some("theirs") => _ = merged.decide(1),
        Some("none") => {}
        _ => return Err("a policy that is not known".to_owned()),
    }
    let found = match merged.read() {
        Ok(fields) => plain(fields.get("_")),
        Err(other) => other,
    };
    let expected = if case["conflict"] == true {
        json!({"conflict": true})
    } else {
        plain(value_of(&case["expect"], is_set).filter(|value| !value.is_empty()).as_ref())
    };
    Ok(Outcome { expected, found })
}

/// A case about fields under last-writer.
fn records(case: &Json) -> Result<Outcome, String> {
    let kind = case["fieldType"].as_str().ok_or("no type of field")?;
    let fields = |json: &Json| -> Fields {
        let members = match (kind, json) {
            (_, Json::Null) => Map::new(),
            ("item", item) => item["data"].as_object().cloned().unwrap_or_default(),
            ("richtext", json) => Map::from_iter([("it".to_owned(), json!(text_of(json)))]),
            (_, json) => Map::from_iter([("it".to_owned(), json.clone())]),
        };
        let value =
            |(name, json): (String, Json)| Some((format!("_{name}"), value_of(&json, true)?)).filter(|(_, value)| !value.is_empty());
        members.into_iter().filter_map(value).collect()
    };
    let more = case["more"].as_array().into_iter().flatten();
    let sides = [&case["a"], &case["b"]].into_iter().chain(more).map(fields).collect();
    let merge = Merge::new(fields(&case["base"]), sides, Policy::natural, kind == "richtext");
    let found = match merge.run().read() {
        Ok(fields) if kind == "richtext" => plain(fields.get("_it")),
        Ok(fields) => fields.iter().map(|(name, value)| (name.clone(), plain(Some(value)))).collect::<Map<_, _>>().into(),
        Err(other) => other,
    };
    let expected = match &case["expectText"] {
        Json::Null => fields(&case["expect"]).iter().map(|(name, value)| (name.clone(), plain(Some(value)))).collect::<Map<_, _>>().into(),
        text => text.clone(),
    };
    Ok(Outcome { expected, found })
}

/// Returns the plain text of a rich one: a line for each paragraph.
fn text_of(json: &Json) -> String {
    let inner =
        |node: &Json| -> String { node["children"].as_array().into_iter().flatten().filter_map(|leaf| leaf["text"].as_str()).collect() };
    json["root"]["children"].as_array().into_iter().flatten().map(inner).collect::<Vec<_>>().join("\n")
}

fn edit_script(case: &Json) -> Outcome {
    let list = |name: &str| case[name].as_array().cloned().unwrap_or_default();
    let found = splices(&list("a"), &list("b")).into_iter().map(|splice| json!([splice.at, splice.removed, splice.added, splice.from]));
    // Where nothing comes, the place it would come from means nothing.
    let settled = |splice: &Json| if splice[2] == 0 { json!([splice[0], splice[1], 0, 0]) } else { splice.clone() };
    let found: Vec<_> = found.map(|splice| settled(&splice)).collect();
    Outcome { expected: list("splices").iter().map(settled).collect(), found: found.into() }
}

/// Writes one value over the other, each way, and reads it.
fn round_trip(case: &Json) -> Result<Outcome, String> {
    let one = |name: &str| value_of(&case[name], false).map(|value| ("_".to_owned(), value)).into_iter().collect::<Fields>();
    let led = |from: &str, to: &str| {
        let merged = Merge::new(one(from), vec![one(to)], Policy::natural, false).run();
        merged.read().map(|fields| plain(fields.get("_")))
    };
    let expected = |name: &str| plain(one(name).get("_").filter(|value| !value.is_empty()));
    let found = [led("a", "b"), led("b", "a")].into_iter().map(|found| found.unwrap_or_else(|other| other)).collect();
    Ok(Outcome { expected: json!([expected("b"), expected("a")]), found })
}

fn value_diff(case: &Json) -> Outcome {
    let value = |name: &str| value_of(&unnamed(&case[name]), false).unwrap_or(Value::List(Vec::new()));
    let (a, b) = (value("a"), value("b"));
    let is_hidden = case["changes"].as_array().is_some_and(|changes| changes.iter().any(|change| change["path"].is_string()));
    let step = |step: Step| match step {
        Step::Key(key) => json!(&*key),
        Step::At(at) => json!(at),
        Step::Element(element) => plain(Some(&element)),
    };
    let change = |Difference { path, old, new }: Difference| {
        let kind = match (&old, &new) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "modified",
        };
        // A key that is no text is named by a hash there; here it is its JSON.
        let path = if is_hidden { json!("hash of key") } else { path.into_iter().map(step).collect() };
        let mut change = json!({"path": path, "change": kind});
        old.iter().for_each(|old| change["old"] = plain(Some(old)));
        new.iter().for_each(|new| change["new"] = plain(Some(new)));
        change
    };
    Outcome { expected: case["changes"].clone(), found: differences(&a, &b).into_iter().map(change).collect() }
}

/// Drops the names of structs: two of one name are compared by their fields.
fn unnamed(json: &Json) -> Json {
    match json {
        Json::Object(object) if object.contains_key("$struct") => unnamed(&object["fields"]),
        Json::Object(object) if !object.contains_key("$map") => {
            object.iter().map(|(key, value)| (key.clone(), unnamed(value))).collect::<Map<_, _>>().into()
        }
        json => json.clone(),
    }
}

/// Returns the value that a case writes; `None` for an absent one. A named struct is a map whose one entry is named after it.
fn value_of(json: &Json, lists_are_sets: bool) -> Option<Value> {
    let inner = |json: &Json| value_of(json, false);
    Some(match json {
        Json::Null => return None,
        Json::Bool(value) => Value::Scalar(Scalar::Bool(*value)),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => Value::Scalar(Scalar::Float(Float::new(number.as_f64()?))),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) if lists_are_sets => Value::Set(items.iter().filter_map(inner).collect()),
        Json::Array(items) => Value::List(items.iter().filter_map(inner).collect()),
        Json::Object(object) => match object.iter().next().map(|(key, of)| (key.as_str(), of)) {
            Some(("$ref", target)) => inner(target)?,
            Some(("$set", elements)) => value_of(elements, true)?,
            Some(("$map", entries)) => {
                let entry = |entry: &Json| Some((Arc::from(entry[0].to_string()), inner(&entry[1])?));
                Value::Map(entries.as_array()?.iter().filter_map(entry).collect())
            }
            _ if object.contains_key("$struct") => {
                let name = format!("{STRUCT}{}", object["$struct"].as_str()?);
                Value::Map([(name.into(), inner(&object["fields"])?)].into())
            }
            _ => Value::Map(object.iter().filter_map(|(key, json)| Some((key.as_str().into(), inner(json)?))).collect()),
        },
    })
}

const STRUCT: &str = "$struct ";

/// Returns a value as JSON in which sets and lists look alike. A struct of two names at once is none: the names are in conflict.
fn plain(value: Option<&Value>) -> Json {
    match value {
        Some(Value::Map(entries)) if entries.keys().filter(|key| key.starts_with(STRUCT)).count() > 1 => json!({"conflict": true}),
        Some(Value::Map(entries)) => entries.iter().map(|(key, value)| (key.to_string(), plain(Some(value)))).collect::<Map<_, _>>().into(),
        Some(Value::Set(elements)) => elements.iter().map(|element| plain(Some(element))).collect(),
        Some(Value::List(items)) => items.iter().map(|item| plain(Some(item))).collect(),
        Some(scalar) => herdbook_model::json::value_to_json(scalar),
        None => Json::Null,
    }
}

/// Returns the type that all of `values` have.
fn type_of(values: &[&Value]) -> FieldType {
    let (mut scalars, mut sets, mut lists, mut maps) = (Vec::new(), None::<Vec<&Value>>, None::<Vec<&Value>>, None::<Vec<&Value>>);
    for value in values {
        match value {
            Value::Scalar(scalar) => scalars.extend(ScalarType::of(scalar)),
            Value::Set(elements) => sets.get_or_insert_default().extend(elements),
            Value::List(items) => lists.get_or_insert_default().extend(items),
            Value::Map(entries) => maps.get_or_insert_default().extend(entries.values()),
        }
    }
    let mut types = Vec::<FieldType>::new();
    for scalar in scalars {
        if !types.contains(&scalar.into()) {
            types.push(scalar.into());
        }
    }
    types.extend(sets.map(|of| FieldType::set(type_of(&of))));
    types.extend(lists.map(|of| FieldType::list(type_of(&of))));
    types.extend(maps.map(|of| FieldType::map(type_of(&of))));
    match types.len() {
        0 => ScalarType::String.into(),
        1 => types.remove(0),
        _ => FieldType::Union(types.into()),
    }
}
