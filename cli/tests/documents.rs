//! Documents and their history, from the command line against a cluster.

mod support;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value as Json, json};
use support::{Cluster, command, file};

/// Longest wait for members to hold the same; a cluster that works needs far less.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `is_so`.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it never came to pass: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn lines(count: usize) -> String {
    (1..=count).map(|at| format!("{{\"geonameid\": {at}, \"name\": \"City {at}\", \"population\": {at}000}}\n")).collect()
}

fn fields(cluster: &Cluster, document: &str) -> Json {
    cluster.json(&["get", document]).json()["fields"].clone()
}

#[test]
fn a_document_is_written_read_changed_and_deleted() {
    let cluster = Cluster::start();
    let ack = cluster.json(&["put", "notes/1", r#"{"text": "milk", "tags": ["shop"]}"#, "-m", "a note"]).json();
    assert_eq!((&ack["local"], &ack["branch"], &ack["repeated"]), (&"durable".into(), &"main@1".into(), &false.into()));
    assert_eq!(fields(&cluster, "notes/1"), json!({"text": "milk", "tags": ["shop"], "done": false}));

    let args =
        ["patch", "notes/1", "--set", "done=true", "--set", "due=1970-01-01T00:00:01Z", "--add", "tags=food", "--remove", "tags=shop"];
    cluster.run(&[&args[..], &["--add", "links=shop=http://shop.example", "--clear", "text"]].concat()).done();
    let expected = json!({"done": true, "due": 1_000_000, "tags": ["food"], "links": {"shop": "http://shop.example"}});
    assert_eq!(fields(&cluster, "notes/1"), expected);
    let shown: Json = serde_json::from_str(&cluster.run(&["get", "notes/1"]).done()).expect("people see JSON too");
    assert_eq!(shown, expected);

    cluster.run(&["put", "notes/1", "{}", "--create"]).failed(4, &["exists"]);
    let version = cluster.json(&["get", "notes/1"]).json()["version"].as_str().expect("a version").to_owned();
    cluster.run(&["put", "notes/1", r#"{"text": "bread"}"#, "--if-version", &version]).done();
    cluster.run(&["put", "notes/1", r#"{"text": "salt"}"#, "--if-version", &version]).failed(4, &["notes"]);
    assert_eq!(fields(&cluster, "notes/1"), json!({"text": "bread", "done": false}));

    cluster.pipe(&["put", "notes/2", "-"], r#"{"text": "from a pipe"}"#).done();
    assert_eq!(cluster.run(&["ls", "notes"]).done(), "1\n2\n");
    assert_eq!(cluster.run(&["count", "notes"]).done(), "2\n");
    cluster.run(&["rm", "notes/1", "notes/3"]).failed(3, &["3"]);
    assert_eq!(cluster.run(&["count", "notes"]).done(), "2\n", "nothing of a refused request is done");
    cluster.run(&["rm", "notes/1"]).done();
    cluster.run(&["get", "notes/1"]).failed(3, &["there is no document `notes/1`"]);
}

#[test]
fn what_does_not_fit_is_refused_with_what_and_where() {
    let cluster = Cluster::start();
    cluster.run(&["put", "notes/1", r#"{"mood": "good"}"#]).failed(7, &["no field `mood`"]);
    cluster.run(&["put", "notes/1", r#"{"done": "yes"}"#]).failed(7, &["done", "bool"]);
    cluster.run(&["put", "notes/1", "[]"]).failed(7, &["JSON object"]);
    cluster.run(&["put", "notions/1", "{}"]).failed(7, &["no collection `notions`", "cities"]);
    cluster.run(&["patch", "notes/1", "--set", "done=maybe"]).failed(2, &["--set", "bool"]);
    cluster.run(&["patch", "notes/1", "--add", "text=x"]).failed(2, &["--add", "no set, map or counter"]);
    cluster.run(&["patch", "notes/1", "--add", "tags=x", "--remove", "tags=x"]).failed(2, &["both added to and removed"]);
    cluster.run(&["patch", "notes/1", "--set", "text=x", "--clear", "text"]).failed(2, &["two ways"]);
    cluster.run(&["patch", "notes/1", "--set", "text=x"]).failed(3, &["notes"]);
    cluster.run(&["get", "notes/1", "--branch", "main@9"]).failed(3, &["main@9"]);
    cluster.run(&["get", "notes/1", "--at", &"ab".repeat(32)]).failed(3, &["abab"]);
    cluster.run(&["show", "abcdef12"]).failed(3, &["no commit here begins with `abcdef12`"]);
    assert_eq!(cluster.json(&["status"]).json()["branches"][0]["commits"], 0, "nothing was written");
}

#[test]
fn an_import_is_whole_fast_to_repeat_and_comes_back_by_export() {
    let cluster = Cluster::start();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(lines(1234).as_bytes()).expect("memory is writable");
    let path = file(cluster.folder.path(), "cities.jsonl.gz", encoder.finish().expect("memory is writable"));
    let import = ["import", &path, "-c", "cities", "-k", "geonameid", "--batch", "100"];
    let first = cluster.json(&import).json();
    assert_eq!((&first["documents"], &first["batches"], &first["repeated_batches"]), (&1234.into(), &13.into(), &0.into()));
    assert_eq!(cluster.run(&["count", "cities"]).done(), "1234\n");
    let commits = || cluster.json(&["status"]).json()["branches"][0]["commits"].clone();
    let before = commits();
    let again = cluster.json(&import).json();
    assert_eq!((&again["documents"], &again["repeated_batches"]), (&1234.into(), &13.into()));
    assert_eq!(commits(), before, "a repeated import commits nothing");

    let out = cluster.folder.path().join("out.jsonl").to_str().expect("UTF-8").to_owned();
    assert_eq!(cluster.json(&["export", "cities", "-o", &out, "-k", "geonameid"]).json()["documents"], 1234);
    let sorted = |text: String| {
        let mut lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        lines.sort_by_key(|line| line["geonameid"].as_i64());
        lines
    };
    assert_eq!(sorted(std::fs::read_to_string(&out).expect("it was written")), sorted(lines(1234)));
    cluster.run(&["export", "cities", "-o", &out]).failed(7, &["cannot make", "out.jsonl"]);
    assert_eq!(cluster.run(&["ls", "cities/12", "--all"]).done().lines().count(), 1 + 10 + 35);
    let page = cluster.run(&["ls", "cities", "-n", "3"]);
    assert!(page.err.contains("more than 3"), "{page:?}");
    assert_eq!(page.done().lines().count(), 3);
}

#[test]
fn an_import_stops_at_a_bad_line_and_goes_on_after_it() {
    let cluster = Cluster::start();
    let broken = lines(450) + "{\"geonameid\": 451, \"name\": \"Cit";
    let path = file(cluster.folder.path(), "cities.jsonl", broken);
    let import = ["import", &path, "-c", "cities", "-k", "geonameid", "--batch", "200"];
    cluster.run(&import).failed(7, &["cities.jsonl, line 451: not JSON", "ends in this line", "400 lines are committed", "--skip 400"]);
    assert_eq!(cluster.run(&["count", "cities"]).done(), "400\n", "nothing of the batch with the bad line");

    file(cluster.folder.path(), "cities.jsonl", lines(500));
    let resumed = cluster.json(&[&import[..], &["--skip", "400"]].concat()).json();
    assert_eq!((&resumed["documents"], &resumed["repeated_batches"]), (&100.into(), &0.into()));
    assert_eq!(cluster.run(&["count", "cities"]).done(), "500\n");

    let wrong = file(cluster.folder.path(), "wrong.jsonl", "{\"geonameid\": 1, \"population\": \"many\"}\n");
    cluster.run(&["import", &wrong, "-c", "cities", "-k", "geonameid"]).failed(7, &["line 1", "population", "nothing was committed"]);
    cluster.run(&["import", &wrong, "-c", "towns"]).failed(2, &["--collection", "towns"]);
}

#[test]
fn history_is_listed_shown_compared_and_taken_back() {
    let cluster = Cluster::start();
    let commit = |args: &[&str]| cluster.json(args).json()["commit"].as_str().expect("a commit").to_owned();
    let first = commit(&["put", "notes/1", r#"{"text": "one"}"#, "-m", "first"]);
    let second = commit(&["patch", "notes/1", "--set", "text=two", "-m", "second"]);
    let third = commit(&["put", "notes/2", r#"{"text": "other"}"#, "-m", "third"]);

    let log = cluster.json(&["log"]).lines();
    let ids: Vec<_> = log.iter().map(|commit| commit["commit"].as_str().expect("a commit")).collect();
    assert_eq!(ids, [&third, &second, &first]);
    assert_eq!(cluster.json(&["log", "notes/1"]).lines().len(), 2);
    let text = cluster.run(&["log", "-n", "1"]).done();
    assert!(text.contains("third") && text.contains("replica-1") && text.lines().count() == 1, "{text}");

    let shown = cluster.json(&["show", &second[..12]]).json();
    assert_eq!(shown["requests"][0]["edits"][0]["document"], "notes/1");
    assert!(cluster.run(&["show", &second]).done().contains("two"));
    assert_eq!(cluster.json(&["get", "notes/1", "--at", &first]).json()["fields"]["text"], "one");
    cluster.run(&["get", "notes/2", "--at", &second]).failed(3, &["notes/2"]);

    let differences = cluster.json(&["diff", &first]).lines();
    let kinds: Vec<_> = differences.iter().map(|each| (each["document"].as_str(), each["kind"].as_str())).collect();
    assert_eq!(kinds, [(Some("notes/1"), Some("changed")), (Some("notes/2"), Some("added"))]);
    assert_eq!(cluster.run(&["diff", &first, "--stat"]).done(), "1 added, 0 removed, 1 changed\n");
    assert_eq!(cluster.run(&["diff", &third, "--exit-code"]).code, 0);
    assert_eq!(cluster.run(&["diff", &first, &second, "--exit-code", "--only", "notes/1"]).code, 1);
    assert!(cluster.run(&["diff", &first, &second]).done().contains("\"one\" → \"two\""));

    let reverted = cluster.json(&["revert", &second]).json();
    assert_eq!(reverted["edits"], 1);
    assert_eq!(fields(&cluster, "notes/1")["text"], "one");
    assert_eq!(cluster.json(&["revert", &second]).json()["ack"], Json::Null, "nothing is left to take back");
}

#[test]
fn concurrent_edits_are_shown_and_a_conflict_is_resolved() {
    let cluster = Cluster::start();
    cluster.run(&["put", "notes/1", r#"{"text": "draft", "owner": "nobody"}"#]).done();
    cluster.run(&["put", "notes/2", r#"{"text": "draft"}"#]).done();
    until("replica 2 has the notes", || cluster.run_at("replica-2", &["get", "notes/2"]).code == 0);
    for node in ["replica-1", "replica-2"] {
        cluster.run_at(node, &["offline"]).done();
    }
    cluster.run_at("replica-1", &["patch", "notes/1", "--set", "owner=alice", "--add", "tags=a"]).done();
    cluster.run_at("replica-2", &["patch", "notes/1", "--set", "owner=bob", "--add", "tags=b"]).done();
    cluster.run_at("replica-1", &["rm", "notes/2"]).done();
    cluster.run_at("replica-2", &["patch", "notes/2", "--set", "text=kept"]).done();
    for node in ["replica-1", "replica-2"] {
        cluster.run_at(node, &["online"]).done();
    }
    let conflicts = || cluster.json(&["conflicts", "list"]).lines();
    until("the conflict is seen", || !conflicts().is_empty());

    let document = conflicts().remove(0);
    assert_eq!(document["fields"]["tags"], json!(["a", "b"]));
    let siblings = document["conflicts"][0]["siblings"].as_array().expect("siblings").clone();
    assert_eq!((document["conflicts"][0]["field"].as_str(), siblings.len()), (Some("owner"), 2));
    let place = siblings.iter().position(|sibling| sibling["value"] == "alice").expect("alice is a sibling");
    let text = cluster.run(&["conflicts", "show", "notes/1"]).done();
    assert!(text.contains("alice") && text.contains("bob") && text.contains("strict") && text.contains("add-wins"), "{text}");
    // A delete is one of them, though nothing of it is kept, and it is said what decided.
    until("the note is back", || cluster.run(&["get", "notes/2"]).code == 0);
    let text = cluster.run(&["conflicts", "show", "notes/2"]).done();
    for part in ["2 edits made apart", ": delete", ": update", "kept", "a delete against an edit: edit-wins"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(cluster.run(&["conflicts", "list", "notes"]).done().contains("\"alice\""));
    assert!(cluster.run(&["get", "notes/1"]).err.contains("conflicts show notes/1"));

    let version = document["version"].as_str().expect("a version").to_owned();
    cluster.run(&["conflicts", "resolve", "notes/1", "owner", "--sibling", "7"]).failed(7, &["7"]);
    cluster.run(&["conflicts", "resolve", "notes/1", "owner", "--sibling", &place.to_string()]).done();
    assert_eq!(fields(&cluster, "notes/1")["owner"], "alice");
    assert!(conflicts().is_empty());
    cluster.run(&["conflicts", "resolve", "notes/1", "owner", "--value", "bob", "--if-version", &version]).failed(4, &["notes"]);
}

#[test]
fn a_watch_tells_what_changes_and_goes_on_where_it_was_left() {
    let cluster = Cluster::start();
    let watch = |more: &[&str]| {
        let mut command = command(&["watch", "notes", "--json", "--endpoint", cluster.node("replica-1")]);
        command.args(more).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        (child, lines.map(|line| serde_json::from_str::<Json>(&line.expect("readable")).expect("JSON")))
    };
    let (mut child, mut events) = watch(&["-n", "1"]);
    assert_eq!(events.next().expect("it tells where it begins")["event"], "step");
    cluster.run(&["put", "cities/1", r#"{"name": "elsewhere"}"#]).done();
    cluster.run(&["put", "notes/1", r#"{"text": "one"}"#]).done();
    let event = events.find(|event| event["event"] != "step").expect("it tells the put");
    assert_eq!((&event["event"], &event["document"], &event["now"]["fields"]["text"]), (&"put".into(), &"notes/1".into(), &"one".into()));
    let left = events.last().expect("it tells where it was left");
    assert!(child.wait().expect("it is ours").success());

    cluster.run(&["rm", "notes/1"]).done();
    let (mut child, events) = watch(&["-n", "1", "--resume", left["resume"].as_str().expect("a token")]);
    let told: Vec<_> = events.filter(|event| event["event"] != "step").map(|event| event["event"].clone()).collect();
    assert!(child.wait().expect("it is ours").success());
    assert_eq!(told, ["delete"], "what happened while nobody watched, once");
    cluster.run(&["watch", "--resume", "AAAA"]).failed(7, &["resume_token"]);
}
