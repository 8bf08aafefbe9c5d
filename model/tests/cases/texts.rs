//! Runs the text cases beside this file; `README.txt` says how they are written.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use herdbook_model::{
    edit::{Edit, FieldEdit, Operation},
    json,
    schema::{CollectionId, FieldId, Schema},
    testutil::{Delivery, Replica, clear, elements, entries, key, set, workload::Rng},
    time::Time,
    value::Value,
};

const DOCUMENTS: CollectionId = CollectionId(1);
const FIELDS: [&str; 6] = ["x", "f", "g", "owner", "tags", "yields"];

#[test]
fn every_case_reads_as_it_says_in_any_order_of_arrival() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of this test") {
        let path = entry.expect("readable").path();
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "txt") && name != "README" {
            run(&name, &fs::read_to_string(&path).expect("a text"));
            names.push(name);
        }
    }
    assert!(names.len() >= 20, "only {} cases were found", names.len());
}

fn schema() -> Arc<Schema> {
    let text = r#"{"version": 1, "collections": {"documents": {"fields": [
        {"name": "x", "type": "int"}, {"name": "f", "type": "int"}, {"name": "g", "type": "int"},
        {"name": "owner", "type": "string", "policy": "strict"}, {"name": "tags", "type": "set<string>"},
        {"name": "yields", "type": "map<int>"}]}}}"#;
    Arc::new(json::schema_from_json(text).expect("a valid schema"))
}

fn run(name: &str, text: &str) {
    let (script, expected) = text.split_once("everybody reads\n").unwrap_or_else(|| panic!("{name}: nothing says what everybody reads"));
    let mut sessions = BTreeMap::<String, Replica>::new();
    let mut commits = Vec::<Delivery>::new();
    for line in script.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let mut session = |name: &str| sessions.entry(name.to_owned()).or_insert_with(|| Replica::new(name, schema())).clone();
        if let Some((to, from)) = line.split_once(" hears ") {
            let (from, mut to_replica) = (session(from), session(to));
            from.deliveries().for_each(|delivery| to_replica.receive(delivery).expect("it fits"));
            sessions.insert(to.to_owned(), to_replica);
        } else {
            let (who, rest) = line.split_once(" at ").unwrap_or_else(|| panic!("{name}: `{line}` is no step"));
            let (time, what) = rest.split_once(": ").unwrap_or_else(|| panic!("{name}: `{line}` is no step"));
            let mut replica = session(who);
            commits.push(replica.commit(Time::from_millis(number(time).cast_unsigned()), [(DOCUMENTS, edit(what))]));
            sessions.insert(who.to_owned(), replica);
        }
    }
    for order in 0..20 {
        Rng::new(order).shuffle(&mut commits);
        let mut newcomer = Replica::new("newcomer", schema());
        for delivery in &commits {
            newcomer.receive(delivery).expect("it fits");
            if order % 3 == 0 {
                newcomer.fold();
            }
        }
        let expected: Vec<_> = expected.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(read(&newcomer, &expected), expected, "{name}, order {order}");
    }
}

fn number(text: &str) -> i64 {
    text.trim().parse().unwrap_or_else(|_| panic!("`{text}` is no number"))
}

fn edit(what: &str) -> Edit {
    let operation = match what.strip_prefix("create ") {
        _ if what == "delete" => Operation::Delete,
        Some(changes) => Operation::Create(changes_of(changes)),
        None => Operation::Update(changes_of(what)),
    };
    Edit { key: key("alma"), operation }
}

fn field(name: &str) -> FieldId {
    schema().collections[0].field(name).expect("a field of the cases").id
}

fn changes_of(text: &str) -> Vec<FieldEdit> {
    let (mut changes, mut add, mut remove, mut puts, mut removes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for change in text.split("; ") {
        let words: Vec<_> = change.split(' ').collect();
        match words[..] {
            ["clear", name] => changes.push(clear(field(name))),
            ["remove", entry] => removes.push(entry.strip_prefix("yields.").expect("an entry of yields")),
            ["tags", "+", element] => add.push(element),
            ["tags", "-", element] => remove.push(element),
            ["owner", "=", word] => changes.push(set(field("owner"), word)),
            [name, "=", value] => match name.strip_prefix("yields.") {
                Some(entry) => puts.push((entry, number(value))),
                None => changes.push(set(field(name), number(value))),
            },
            _ => panic!("`{change}` is no change"),
        }
    }
    if !add.is_empty() || !remove.is_empty() {
        changes.push(elements(field("tags"), add, remove));
    }
    if !puts.is_empty() || !removes.is_empty() {
        changes.push(entries(field("yields"), puts, removes));
    }
    changes.sort_by_key(|change| change.field);
    changes
}

/// Says what `replica` reads, field by field as `expected` names them, then whatever else there is.
fn read(replica: &Replica, expected: &[&str]) -> Vec<String> {
    let Some(view) = replica.view(DOCUMENTS, "alma") else { return vec!["the document is deleted".to_owned()] };
    let named: Vec<_> = expected.iter().filter_map(|line| line.split(' ').next()).collect();
    let rest = FIELDS.iter().filter(|name| !named.contains(name) && view.fields.contains_key(**name));
    let mut lines = Vec::new();
    for name in named.iter().chain(rest) {
        let conflict = view.conflicts.iter().find(|conflict| &*conflict.field == *name);
        let text = |value: &Value| json::value_to_json(value).to_string().replace('"', "");
        let is = if ["tags", "yields"].contains(name) { "are" } else { "is" };
        lines.push(match (conflict, view.fields.get(*name)) {
            (Some(conflict), _) => {
                let values = conflict.siblings.iter().map(|sibling| sibling.value.as_ref().map_or("absent".to_owned(), text));
                format!("{name} is in conflict: {}", values.collect::<Vec<_>>().join(", "))
            }
            (None, None) => format!("{name} {is} absent"),
            (None, Some(Value::Set(elements))) => format!("{name} are {}", elements.iter().map(text).collect::<Vec<_>>().join(" ")),
            (None, Some(Value::Map(entries))) => {
                let entries = entries.iter().map(|(key, value)| format!("{key}={}", text(value)));
                format!("{name} are {}", entries.collect::<Vec<_>>().join(" "))
            }
            (None, Some(value)) => format!("{name} is {}", text(value)),
        });
    }
    lines
}
