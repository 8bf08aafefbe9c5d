//! History from the command line: who wrote what, taking back, patches, playback, branches and their merges.

mod support;

use serde_json::{Value as Json, json};
use support::{Cluster, file};

fn fields(cluster: &Cluster, args: &[&str]) -> Json {
    cluster.json(&[&["get"], args].concat()).json()["fields"].clone()
}

fn commit(cluster: &Cluster, args: &[&str]) -> String {
    cluster.json(args).json()["commit"].as_str().expect("a commit").to_owned()
}

#[test]
fn a_document_is_blamed_played_back_and_taken_back() {
    let cluster = Cluster::start();
    let first = commit(&cluster, &["put", "notes/1", r#"{"text": "milk", "tags": ["shop"]}"#, "-m", "a note"]);
    let second = commit(&cluster, &["patch", "notes/1", "--set", "done=true", "--add", "tags=food"]);
    let blamed = cluster.json(&["blame", "notes/1"]).lines();
    let by = |field: &str, value: &Json| {
        let part = blamed.iter().find(|part| part["field"] == field && part["value"] == *value).expect("it is told");
        part["commit"]["commit"].clone()
    };
    assert_eq!((by("text", &"milk".into()), by("tags", &"shop".into())), (first.as_str().into(), first.as_str().into()));
    assert_eq!((by("done", &true.into()), by("tags", &"food".into())), (second.as_str().into(), second.as_str().into()));
    let people = cluster.run(&["blame", "notes/1", "--field", "text"]).done();
    assert!(people.contains("a note") && people.contains("milk") && !people.contains("food"), "{people}");

    let played = cluster.json(&["playback", &first]).lines();
    assert_eq!((played.len(), &played[0]["commit"]["commit"], &played[0]["played"]), (1, &second.as_str().into(), &1.into()));
    assert_eq!(played[0]["differences"][0]["after"]["fields"]["done"], true);
    assert!(cluster.run(&["playback", &first, "--speed", "1000"]).done().contains("notes/1"));
    let member = cluster.json(&["status"]).json()["name"].as_str().expect("a name").to_owned();
    assert_eq!(cluster.json(&["log", "--author", &member, "--since", "1h"]).lines().len(), 2);
    assert_eq!(cluster.json(&["log", "--until", "2001-01-01"]).lines().len(), 0);
    cluster.run(&["log", "--author", "nobody"]).failed(2, &["nobody"]);

    let told = cluster.json(&["revert", "--back-to", &first, "--only", "notes/1", "--dry-run"]).json();
    assert_eq!((&told["ack"], &told["documents"]), (&Json::Null, &json!(["notes/1"])));
    assert_eq!(fields(&cluster, &["notes/1"])["done"], true);
    let done = cluster.json(&["revert", "--back-to", &first, "--only", "notes/1"]).json();
    assert_eq!(fields(&cluster, &["notes/1"]), json!({"text": "milk", "tags": ["shop"], "done": false}));
    let back = done["commits"][0].as_str().expect("a commit").to_owned();
    cluster.run(&["revert", &back]).done();
    assert_eq!(fields(&cluster, &["notes/1"])["tags"], json!(["food", "shop"]));
    cluster.run(&["revert"]).failed(2, &["COMMIT"]);
}

#[test]
fn a_patch_leads_there_and_back_or_is_refused_whole() {
    let cluster = Cluster::start();
    let first = commit(&cluster, &["put", "notes/1", r#"{"text": "milk", "tags": ["shop"]}"#]);
    cluster.run(&["patch", "notes/1", "--set", "text=bread", "--add", "tags=food", "--remove", "tags=shop"]).done();
    cluster.run(&["put", "notes/2", r#"{"text": "new"}"#]).done();
    let patch = cluster.run(&["diff", &first, "--patch"]).done();
    assert_eq!(patch.lines().count(), 2);
    let path = file(cluster.folder.path(), "mine.patch", &patch);
    let again = cluster.json(&["apply", &path]).json();
    assert_eq!((&again["applied"], &again["done_already"], &again["acks"]), (&0.into(), &2.into(), &json!([])));
    let told = cluster.json(&["apply", &path, "--reverse", "--dry-run"]).json();
    assert_eq!((&told["applied"], &told["acks"]), (&2.into(), &json!([])));
    cluster.run(&["apply", &path, "--reverse"]).done();
    assert_eq!(fields(&cluster, &["notes/1"]), json!({"text": "milk", "tags": ["shop"], "done": false}));
    cluster.run(&["get", "notes/2"]).failed(3, &["notes/2"]);
    cluster.run(&["patch", "notes/1", "--add", "tags=other"]).done();
    cluster.pipe(&["apply", "-"], &patch).done();
    assert_eq!(fields(&cluster, &["notes/1"]), json!({"text": "bread", "tags": ["food", "other"], "done": false}));
    cluster.run(&["patch", "notes/1", "--set", "text=salt"]).done();
    cluster.run(&["apply", &path, "--reverse"]).failed(4, &["does not fit", "text", "notes/1"]);
    cluster.run(&["get", "notes/2"]).done();
    cluster.pipe(&["apply", "-"], "{}").failed(7, &["line 1", "document"]);
}

#[test]
fn a_branch_goes_its_own_way_and_is_merged() {
    let cluster = Cluster::start();
    let first = commit(&cluster, &["put", "notes/1", r#"{"text": "milk"}"#, "--accepted"]);
    let create = |args: &[&str]| cluster.run_at("coordinator", &[&["branch", "create"], args].concat());
    create(&["trial"]).done();
    create(&["old", "--at", &first]).done();
    create(&["trial"]).failed(4, &["exists already", "choose another name"]);
    let listed = cluster.json(&["branch", "list"]);
    assert!(listed.lines().iter().any(|branch| branch["branch"] == "main@1" && branch["apart"] == false));
    let begun = std::time::Instant::now();
    while cluster.run(&["get", "notes/1", "--branch", "trial"]).code != 0 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "the branch never came");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    cluster.run(&["patch", "notes/1", "--set", "text=oat milk", "--branch", "trial"]).done();
    cluster.run(&["put", "notes/2", r#"{"text": "new"}"#, "--branch", "trial"]).done();
    cluster.run(&["patch", "notes/1", "--set", "text=soy milk"]).done();
    cluster.run(&["get", "notes/2"]).failed(3, &["notes/2"]);
    let told = cluster.json(&["merge", "trial", "--side", "theirs", "--dry-run"]).json();
    assert_eq!((&told["ack"], &told["commits"], &told["decided"]), (&Json::Null, &2.into(), &1.into()));
    let done = cluster.json(&["merge", "trial", "--side", "ours", "--rule", "notes/1:text=theirs", "-m", "in"]).json();
    assert_eq!((&done["commits"], &done["decided"], &done["conflicts"]), (&2.into(), &1.into(), &0.into()));
    assert_eq!(fields(&cluster, &["notes/1"])["text"], "oat milk");
    assert_eq!(fields(&cluster, &["notes/2"])["text"], "new");
    let again = cluster.run(&["merge", "trial"]).done();
    assert!(again.contains("nothing to take in"), "{again}");
    cluster.run(&["merge", "nowhere"]).failed(3, &["nowhere"]);
}
