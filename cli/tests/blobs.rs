//! Blobs from the command line against a cluster: up at one member, down at another.

mod support;

use std::time::{Duration, Instant};

use support::{Cluster, command, file};

/// Bytes that do not compress, the same everywhere.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_derive_key("herdbook test").update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Runs a command until it is done: a member may be some commits behind.
#[track_caller]
fn at_last(cluster: &Cluster, node: &str, args: &[&str]) {
    let begun = Instant::now();
    loop {
        let ended = cluster.run_at(node, args);
        if ended.code == 0 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{ended:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_file_goes_up_at_one_member_and_comes_down_at_another() {
    let cluster = Cluster::start();
    let content = bytes(1, 12_345_678);
    let source = file(cluster.folder.path(), "film.mov", &content);
    let up = cluster.json(&["blob", "put", "notes/1", "files", &source, "--entry", "film.mov"]).json();
    assert_eq!((&up["bytes"], &up["parts"]), (&12_345_678.into(), &up["added"]));
    let blob = up["blob"].as_str().expect("a text").to_owned();
    assert_eq!(cluster.json(&["get", "notes/1"]).json()["fields"]["files"]["film.mov"], blob.as_str());

    let target = cluster.folder.path().join("copy.mov").to_str().expect("UTF-8").to_owned();
    let down = ["blob", "get", "notes/1", "files", &target, "--entry", "film.mov"];
    at_last(&cluster, "replica-2", &down);
    assert!(std::fs::read(&target).expect("it was written") == content, "the bytes are another's");
    at_last(&cluster, "coordinator", &["get", "notes/1"]);
    let args = ["blob", "get", "notes/1", "files", "--entry", "film.mov", "--offset", "9000000", "--length", "70000", "-q"];
    let stretch = command(&args).args(["--endpoint", cluster.node("coordinator")]).output().expect("it starts");
    assert!(stretch.status.success() && stretch.stdout == content[9_000_000..9_070_000]);

    // The same again is there; a word more changes little.
    let again = cluster.json(&["blob", "upload", &source]).json();
    assert_eq!((&again["blob"], &again["added"]), (&blob.into(), &0.into()));
    let longer = file(cluster.folder.path(), "longer.mov", [&content[..5_000_000], b"a word", &content[5_000_000..]].concat());
    let longer = cluster.json(&["blob", "upload", &longer]).json();
    assert!(longer["added"].as_u64().expect("a number") <= 6, "{longer}");
    let assigned = format!("files=longer={}", longer["blob"].as_str().expect("a text"));
    cluster.run(&["patch", "notes/1", "--add", &assigned]).done();
    let piped = cluster.pipe(&["blob", "put", "notes/2", "files", "-", "--entry", "hello"], "hello, world").done();
    assert!(piped.contains("1 part") && piped.contains("committed"), "{piped}");
    assert_eq!(cluster.run(&["blob", "get", "notes/2", "files", "--entry", "hello"]).done(), "hello, world");
}

#[test]
fn what_cannot_be_is_told_before_anything_is_sent() {
    let cluster = Cluster::start();
    let source = file(cluster.folder.path(), "a.txt", "hay");
    cluster.run(&["blob", "put", "notes/1", "text", &source]).failed(2, &["takes string"]);
    cluster.run(&["blob", "put", "notes/1", "files", &source]).failed(2, &["map of blob", "--entry"]);
    cluster.run(&["blob", "put", "notes/1", "photos", &source]).failed(2, &["no field `photos`", "files"]);
    cluster.run(&["blob", "put", "notes/1", "files", "no such file", "--entry", "a"]).failed(3, &["no such file"]);
    assert_eq!(cluster.run(&["count", "_blobs"]).done(), "0\n", "nothing was written");
    cluster.run(&["blob", "get", "notes/1", "files"]).failed(3, &["notes/1"]);
    let absent = format!("files=a={}:5", "07".repeat(32));
    cluster.run(&["put", "notes/1", "{}"]).done();
    cluster.run(&["patch", "notes/1", "--add", &absent]).failed(7, &["there is no blob 0707", "upload"]);
    cluster.run(&["blob", "get", "notes/1", "files"]).failed(3, &["no blob in `files`"]);
    cluster.run(&["put", "_blobs/x", r#"{"data": "00"}"#]).failed(7, &["not the hash"]);
}

#[test]
fn a_sweep_takes_away_what_nobody_refers_to() {
    let cluster = Cluster::start();
    for (key, seed) in [("notes/1", 2), ("notes/2", 3)] {
        let source = file(cluster.folder.path(), "file", bytes(seed, 1_000_000));
        cluster.run(&["blob", "put", key, "files", &source, "--entry", "file"]).done();
    }
    cluster.run(&["rm", "notes/2"]).done();
    let swept = |args: &[&str]| cluster.json(&[&["blob", "sweep", "-y"], args].concat()).json();
    assert_eq!(swept(&[])["hidden"], 0, "what was uploaded today stays");
    let would = swept(&["--unused", "0s", "--dry-run"]);
    let hidden = swept(&["--unused", "0s"]);
    assert_eq!(would, hidden);
    assert!(hidden["hidden"].as_u64() > Some(5) && hidden["used"].as_u64() > Some(5), "{hidden}");
    let removed = swept(&["--unused", "0s"]);
    assert_eq!((&removed["hidden"], &removed["removed"]), (&0.into(), &hidden["hidden"]));
    let text = cluster.run(&["blob", "sweep", "--dry-run"]).done();
    assert!(text.contains("in use") && text.contains("nothing was done"), "{text}");
    assert_eq!(cluster.run(&["blob", "get", "notes/1", "files", "--entry", "file", "--offset", "999999", "-q"]).code, 0);
}
