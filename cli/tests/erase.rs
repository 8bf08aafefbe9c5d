//! Erasure from the command line: gone from every member's states, history and disk.

mod support;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use support::Cluster;

const VALUE: &str = "0170-fc9a1b7740d2";
const OTHERS: &str = "0170-bob-stays-77";
const MEMBERS: [&str; 3] = ["coordinator", "replica-1", "replica-2"];

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never came to pass: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Names the files below `folder` that have `value` in them.
fn files_with(folder: &Path, value: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files_with(&path, value));
        } else if std::fs::read(&path).expect("readable").windows(value.len()).any(|window| window == value.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn what_is_erased_is_gone_from_every_member_and_its_disk() {
    let cluster = Cluster::start();
    let ack = cluster.json(&["put", "notes/ada", &format!(r#"{{"text": "call her", "contact": "{VALUE}"}}"#)]).json();
    let commit = ack["commit"].as_str().expect("its name").to_owned();
    cluster.run(&["put", "notes/bob", &format!(r#"{{"contact": "{OTHERS}"}}"#)]).done();
    for member in MEMBERS {
        until("it is there", || cluster.run_at(member, &["get", "notes/bob"]).out.contains(OTHERS));
        assert!(cluster.run_at(member, &["get", "notes/ada"]).done().contains(VALUE));
    }
    assert!(!files_with(&cluster.folder.path().join("cluster"), VALUE).is_empty(), "the test looks in the right place");
    cluster.run(&["erase", "notes/ada", "-y"]).failed(4, &["no authority"]);
    cluster.run_at("coordinator", &["erase", "notes/ada", "--field", "text", "-y"]).failed(7, &["field `text`", "erasable<string>"]);
    let told = cluster.run_at("coordinator", &["erase", "notes/ada", "--dry-run"]).done();
    assert!(told.contains("1 value") && told.contains("would go"), "{told}");
    let told = cluster.run_at("coordinator", &["erase", "notes/ada", "--field", "contact", "-y"]).done();
    assert!(told.contains("1 value of `notes/ada` went, and the edits of 1 request"), "{told}");

    for member in MEMBERS {
        until("it is gone", || !cluster.run_at(member, &["get", "notes/ada"]).done().contains(VALUE));
        let old = cluster.run_at(member, &["get", "notes/ada", "--at", &commit]).done();
        assert!(old.contains("call her") && !old.contains(VALUE), "{old}");
        for args in [&["show", &commit][..], &["log", "notes/ada"], &["blame", "notes/ada"], &["export", "notes"], &["export", "_blobs"]] {
            assert!(!cluster.run_at(member, args).done().contains(VALUE), "{args:?}");
        }
        assert!(cluster.run_at(member, &["get", "notes/bob"]).done().contains(OTHERS));
        cluster.run_at(member, &["gc"]).done();
    }
    let roots = || MEMBERS.map(|member| cluster.run_at(member, &["status", "--json"]).json()["branches"][0]["root"].clone());
    until("all stand at one root", || roots().iter().all(|root| *root == roots()[0]));
    let (code, folder) = cluster.stop();
    assert_eq!(code, Some(0));
    let data = folder.path().join("cluster");
    assert_eq!(files_with(&data, VALUE), [""; 0], "the value lies on a disk");
    for member in MEMBERS {
        let folder = data.join(member);
        support::herdbook(&["fsck", "--data", folder.to_str().expect("UTF-8")]).done();
    }
}
