//! Scene 2: two replicas are cut off and edit the same documents; back on the network all nodes agree, by the rule of each field.

use std::{process::Command, sync::Arc, time::Duration};

use herdbook_model::value::{Key, Scalar, Value};
use herdbook_proto::{
    client::Client,
    document::{Document, Name, Place},
    edit::{Change, Edit, Operation, Write},
    history::{Conflicts, Inspect, Inspected},
    read::Get,
};

use super::{Cluster, apart, import::request_key, insist, ledger::Receipt, say};
use crate::errors::Error;

/// Cities whose fields are edited on both sides.
const FIELDS: &str = "2950159";
const SAME: &str = "2988507";
const SETS: &str = "3169070";
const DELETED: &str = "3117735";
const STRICT: &str = "2643743";

pub(super) async fn run(cluster: &mut Cluster) -> Result<(), Error> {
    for node in [2, 3] {
        cluster.client(node).await?.set_online(false).await?;
    }
    say("replicas 2 and 3 are off the network");
    let (two, three) = (cluster.client(2).await?, cluster.client(3).await?);
    let removed = one_name(&document(&two, SETS).await?)?;
    let edits: [(&str, &str, Operation, Operation); 5] = [
        ("distinct fields of one city", FIELDS, set("population", Scalar::Int(3_769_495)), set("name", Scalar::from("Berlin (edited)"))),
        ("the same field of one city", SAME, set("population", Scalar::Int(1)), set("population", Scalar::Int(2))),
        (
            "one removes an alternate name that the other adds again",
            SETS,
            elements(&["Roma Due"], &[&removed]),
            elements(&["Roma Tre", &removed], &[]),
        ),
        ("a delete against an edit", DELETED, Operation::Delete, set("population", Scalar::Int(3_332_035))),
        (
            "two values of a strict field",
            STRICT,
            set("timezone", Scalar::from("Europe/Two")),
            set("timezone", Scalar::from("Europe/Three")),
        ),
    ];
    for (number, (_, key, left, right)) in (0u64..).zip(&edits) {
        cluster.ledger.commit(&two, write(2 * number, key, left.clone())).await?;
        // The clocks of the two tell milliseconds apart, so this one is the later.
        tokio::time::sleep(Duration::from_millis(3)).await;
        cluster.ledger.commit(&three, write(2 * number + 1, key, right.clone())).await?;
    }
    say(format!("{} documents were edited on both sides", edits.len()));
    for node in [2, 3] {
        cluster.client(node).await?.set_online(true).await?;
    }
    cluster.level("back on the network").await?;
    let one = cluster.client(1).await?;
    for (what, key, ..) in &edits {
        let inspected = inspect(&one, key).await?;
        insist(inspected.newest.len() == 2, || format!("{} edits of {key} were made apart, not 2", inspected.newest.len()))?;
        apart::tell(what, &inspected);
    }
    check(&one, &removed).await?;
    resolve(cluster, &one).await
}

async fn check(client: &Client, removed: &str) -> Result<(), Error> {
    let field = |document: &Document, name: &str| document.fields.get(name).cloned();
    let city = document(client, FIELDS).await?;
    let both = field(&city, "population") == Some(int(3_769_495)) && field(&city, "name") == Some(text("Berlin (edited)"));
    insist(both, || "edits of distinct fields are not both there".to_owned())?;
    let city = document(client, SAME).await?;
    insist(field(&city, "population") == Some(int(2)), || "the later write of one field is not what is read".to_owned())?;
    let names = field(&document(client, SETS).await?, "alternatenames");
    let has = |name: &str| matches!(&names, Some(Value::Set(elements)) if elements.contains(&Value::from(name)));
    insist(has("Roma Due") && has("Roma Tre") && has(removed), || "the set has not what either side added".to_owned())?;
    let city = document(client, DELETED).await?;
    insist(field(&city, "population") == Some(int(3_332_035)), || "the edit did not win against the delete".to_owned())?;
    let city = document(client, STRICT).await?;
    let kept = city.conflicts.iter().any(|conflict| &*conflict.field == "timezone" && conflict.siblings.len() == 2);
    insist(kept, || "the conflict is not stored with both values".to_owned())?;
    let listed =
        client.conflicts(Conflicts { place: Place::NEWEST, collection: None, page_size: 10, page_token: bytes::Bytes::new() }).await?;
    insist(listed.documents.len() == 1, || format!("{} documents are listed in conflict, not 1", listed.documents.len()))
}

/// Resolves the conflict as a person would, from the command line.
async fn resolve(cluster: &mut Cluster, client: &Client) -> Result<(), Error> {
    let address = cluster.address(3);
    let arguments = ["conflicts", "resolve", "cities/2643743", "timezone", "--value", "Europe/London", "--json", "-e", &address];
    say(format!("$ herdbook {}", arguments.join(" ")));
    let output = Command::new(cluster.binary()).args(arguments).output().map_err(|source| super::file("herdbook", source))?;
    insist(output.status.success(), || format!("it failed: {}", String::from_utf8_lossy(&output.stderr)))?;
    let receipt: Receipt = serde_json::from_slice(&output.stdout)
        .map_err(|error| Error::Demo { what: format!("the command did not print an acknowledgement: {error}") })?;
    cluster.ledger.note(receipt, &[Edit { name: name(STRICT), operation: set("timezone", Scalar::from("Europe/London")) }])?;
    cluster.level("resolved").await?;
    let city = document(client, STRICT).await?;
    let resolved = city.conflicts.is_empty() && city.fields.get("timezone") == Some(&text("Europe/London"));
    insist(resolved, || "the conflict is still there".to_owned())
}

pub(super) async fn document(client: &Client, key: &str) -> Result<Document, Error> {
    let found = client.get(Get { place: Place::NEWEST, name: name(key) }).await?;
    found.ok_or_else(|| Error::NoSuchDocument { name: name(key).to_string() })
}

async fn inspect(client: &Client, key: &str) -> Result<Inspected, Error> {
    Ok(client.inspect(Inspect { place: Place::NEWEST, name: name(key) }).await?)
}

pub(super) fn name(key: &str) -> Name {
    Name { collection: Arc::from("cities"), key: Key::new(key).expect("a short key") }
}

fn write(number: u64, key: &str, operation: Operation) -> Write {
    Write::new(request_key(b"merge", number), vec![Edit { name: name(key), operation }])
}

pub(super) fn set(field: &str, value: Scalar) -> Operation {
    Operation::Update(vec![(Arc::from(field), Change::Set(Value::Scalar(value)))])
}

fn elements(add: &[&str], remove: &[&str]) -> Operation {
    let scalars = |texts: &[&str]| texts.iter().copied().map(Value::from).collect();
    Operation::Update(vec![(Arc::from("alternatenames"), Change::Elements { add: scalars(add), remove: scalars(remove) })])
}

fn one_name(document: &Document) -> Result<String, Error> {
    match document.fields.get("alternatenames") {
        Some(Value::Set(elements)) => elements.first().and_then(|element| match element {
            Value::Scalar(Scalar::String(name)) => Some(name.to_string()),
            _ => None,
        }),
        _ => None,
    }
    .ok_or_else(|| Error::Demo { what: format!("{} has no alternate names", document.name) })
}

pub(super) fn int(value: i64) -> Value {
    Value::Scalar(Scalar::Int(value))
}

pub(super) fn text(value: &str) -> Value {
    Value::Scalar(Scalar::from(value))
}
