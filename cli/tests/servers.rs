//! Servers as operators run them: ready, asked, ended; what stops them from starting; their folders backed up, checked and restored.

mod support;

use std::{
    io::{Read as _, Seek as _, Write as _},
    net::TcpListener,
    path::Path,
};

use support::{Cluster, Server, file, herdbook};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A coordinator on free ports, with a token that replicas may join with.
struct Coordinator {
    server: Server,
    folder: tempfile::TempDir,
    token: String,
}

impl Coordinator {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let token = file(folder.path(), "token", "a-token-of-the-test\n");
        let (data, keys) = (folder.path().join("c"), folder.path().join("keys"));
        let args = ["coordinator", "--data", text(&data), "--keys", text(&keys), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let server = Server::start(&[&args[..], &["--join-token-file", &token, "--join-token-reusable"]].concat());
        Self { server, folder, token }
    }

    fn path(&self, name: &str) -> String {
        text(&self.folder.path().join(name)).to_owned()
    }
}

#[test]
fn a_cluster_starts_answers_and_ends() {
    let cluster = Cluster::start();
    let status = cluster.json(&["status"]).json();
    assert_eq!((&status["name"], &status["role"], &status["phase"]), (&"replica-1".into(), &"replica".into(), &"serving".into()));
    assert_eq!(status["branches"][0]["branch"], "main@1");
    cluster.run(&["status", "--check"]).done();

    let peers = cluster.json(&["peers"]).lines();
    let names: Vec<_> = peers.iter().map(|peer| peer["name"].as_str().expect("a name")).collect();
    assert_eq!(peers.len(), 3, "{names:?}");
    assert!(cluster.run(&["peers"]).done().contains("replica-2"));

    let branches = cluster.json(&["branch", "list"]).lines();
    assert_eq!((branches[0]["branch"].as_str(), branches[0]["promoted"].as_bool()), (Some("main@1"), Some(true)));
    assert!(cluster.run(&["schema", "show"]).done().contains("alternatenames"));
    assert_eq!(cluster.json(&["schema", "show"]).json()["version"], 1);

    let (code, folder) = cluster.stop();
    assert_eq!(code, Some(0));
    for node in ["coordinator", "replica-1", "replica-2"] {
        herdbook(&["fsck", "--data", text(&folder.path().join("cluster").join(node))]).done();
        let told = herdbook(&["audit", "verify", "--data", text(&folder.path().join("cluster").join(node)), "--json"]).done();
        assert!(told.contains("\"fault\":null") && told.contains("\"epochs\":[{"), "{told}");
    }
}

#[test]
fn a_member_is_taken_off_the_network_and_put_back() {
    let cluster = Cluster::start();
    assert_eq!(cluster.json(&["offline"]).json()["was_online"], true);
    cluster.run(&["status", "--check"]).failed(1, &["taken off the network"]);
    assert_eq!(cluster.json(&["online"]).json()["was_online"], false);
    cluster.run(&["status", "--check"]).done();
}

#[test]
fn the_coordinator_alone_makes_tokens_and_branches() {
    let cluster = Cluster::start();
    let token = cluster.run_at("coordinator", &["token", "create", "--lifetime", "5m", "--quiet"]).done();
    assert_eq!(token.split_whitespace().count(), 1, "the token stands alone on standard output: {token}");
    cluster.run(&["token", "create"]).failed(4, &["no authority"]);

    let steps = r#"[{"rename": {"collection": "cities", "from": "name", "to": "title"}}]"#;
    let steps = file(cluster.folder.path(), "steps.json", steps);
    let shown = cluster.run_at("coordinator", &["branch", "start", "--steps", &steps, "--dry-run"]).done();
    assert!(shown.contains("title"), "{shown}");
    cluster.run(&["branch", "start", "--steps", &steps]).failed(4, &["no authority"]);
    cluster.run_at("coordinator", &["branch", "abandon", "main@1"]).failed(2, &["--yes"]);
    let wrong = file(cluster.folder.path(), "wrong.json", r#"[{"drop": {"collection": "cities", "field": "mood"}}]"#);
    cluster.run_at("coordinator", &["branch", "start", "--steps", &wrong]).failed(7, &["mood"]);
}

#[test]
fn a_port_in_use_a_wrong_token_and_a_locked_folder_are_told_in_a_line() {
    let coordinator = Coordinator::start();
    let address = format!("http://{}", coordinator.server.grpc);
    let replica = |data: &str, more: &[&str]| {
        let data = coordinator.path(data);
        herdbook(&[&["replica", "--data", &data, "--coordinator", &address][..], more].concat())
    };
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = taken.local_addr().expect("bound").to_string();
    replica("r1", &["--token-file", &coordinator.token, "--listen", &port]).failed(6, &["cannot listen on", &port, "--listen"]);
    replica("r2", &["--token", "another", "--listen", "127.0.0.1:0"]).failed(5, &["did not take this replica in", "token"]);
    replica("r3", &["--listen", "127.0.0.1:0"]).failed(2, &["herdbook token create"]);
    replica("r4", &["--token-file", "/nonexistent", "--listen", "127.0.0.1:0"]).failed(3, &["cannot read /nonexistent"]);

    let (data, keys) = (coordinator.path("c"), coordinator.path("keys"));
    herdbook(&["coordinator", "--data", &data, "--keys", &keys, "--listen", "127.0.0.1:0"]).failed(6, &["in use by another process"]);
    herdbook(&["fsck", "--data", &data]).failed(6, &["in use by another process"]);
    herdbook(&["backup", "--data", &data, &coordinator.path("backup")]).failed(6, &["in use by another process"]);
    assert!(!coordinator.folder.path().join("backup").exists(), "a refused backup leaves nothing");
}

#[test]
fn a_replica_is_named_after_its_folder_and_joins_once() {
    let coordinator = Coordinator::start();
    let (data, address) = (coordinator.path("herd-7"), format!("http://{}", coordinator.server.grpc));
    let args = ["replica", "--data", &data, "--coordinator", &address, "--listen", "127.0.0.1:0"];
    let replica = Server::start(&[&args[..], &["--token-file", &coordinator.token]].concat());
    assert_eq!(herdbook(&["status", "--json", "-e", &replica.grpc]).json()["name"], "herd-7");
    assert_eq!(replica.stop(), Some(0));
    assert_eq!(Server::start(&args).stop(), Some(0), "a member needs no token");
}

#[test]
fn what_is_backed_up_is_restored_and_a_damaged_backup_is_not() {
    let coordinator = Coordinator::start();
    let (data, keys, backup) = (coordinator.path("c"), coordinator.path("keys"), coordinator.path("backup"));
    let Coordinator { server, folder, token: _ } = coordinator;
    let before = herdbook(&["status", "--json", "-e", &server.grpc]).json();
    assert_eq!(server.stop(), Some(0));

    let made = herdbook(&["backup", "--data", &data, &backup, "--json"]).json();
    assert_eq!(made["repository"], before["repository"]);
    herdbook(&["backup", "--data", &data, &backup]).failed(7, &["is not empty"]);
    std::fs::remove_dir_all(&data).expect("the server has ended");
    assert_eq!(herdbook(&["restore", &backup, "--data", &data, "--json"]).json()["bytes"], made["bytes"]);
    herdbook(&["restore", &backup, "--data", &data]).failed(7, &["is not empty"]);
    herdbook(&["fsck", "--data", &data]).done();
    let server = Server::start(&["coordinator", "--data", &data, "--keys", &keys, "--listen", "127.0.0.1:0"]);
    let after = herdbook(&["status", "--json", "-e", &server.grpc]).json();
    assert_eq!(after["repository"], before["repository"]);
    assert_eq!(after["log"]["epoch"], 1, "it was not restored from members but went on");
    drop(server);

    let marker = Path::new(&backup).join("store/MARKER");
    let mut file = std::fs::File::options().read(true).write(true).open(&marker).expect("it was backed up");
    let mut byte = [0];
    file.read_exact(&mut byte).expect("it is not empty");
    file.rewind().expect("it is a file");
    file.write_all(&[byte[0] ^ 1]).expect("it is writable");
    let other = text(&folder.path().join("other")).to_owned();
    herdbook(&["restore", &backup, "--data", &other]).failed(8, &["MARKER", "is damaged"]);
    assert!(!Path::new(&other).exists(), "nothing is left of it");
    herdbook(&["restore", text(folder.path()), "--data", &other]).failed(7, &["is no backup"]);
}

#[test]
fn a_newer_format_and_a_foreign_folder_are_refused() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let data = folder.path().join("newer");
    std::fs::create_dir_all(data.join("store")).expect("the folder is writable");
    file(&data.join("store"), "FORMAT", "herdbook store 99\n");
    herdbook(&["fsck", "--data", text(&data)]).failed(7, &["format 99", "newer release"]);
    let keys = folder.path().join("keys");
    let args = ["coordinator", "--data", text(&data), "--keys", text(&keys), "--listen", "127.0.0.1:0"];
    herdbook(&args).failed(7, &["format 99", "newer release"]);

    let data = folder.path().join("foreign");
    std::fs::create_dir_all(data.join("store")).expect("the folder is writable");
    file(&data.join("store"), "letter.txt", "dear all");
    let args = ["coordinator", "--data", text(&data), "--keys", text(&keys), "--listen", "127.0.0.1:0"];
    herdbook(&args).failed(7, &["letter.txt", "not a store"]);
}
