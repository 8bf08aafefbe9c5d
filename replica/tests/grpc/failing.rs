//! A node whose store fails.
//!
//! The fault: the store refused everything from then on, rightly, but the process stayed up, ready, and of no use to anybody.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use herdbook_proto::{client::Client, status::Kind};
use herdbook_replica::node;
use herdbook_store::{
    MemoryStore,
    fault::{Faulty, WriteFault},
};

use crate::{
    herd::Herd,
    server::{put, run, write},
};

/// Returns the first line of the answer to a GET.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers text");
    answer.lines().next().unwrap_or_default().to_owned()
}

async fn fails_after(fault: WriteFault, told: &str) {
    let herd = Herd::found();
    let disk = Arc::new(Faulty::new(MemoryStore::default()));
    let mut alice = herd.start_on("alice", &[], disk.clone(), Arc::new(herd.open_store("alice"))).await;
    let http = alice.node.http().expect("it was asked for");
    let client = Client::connect(&[&alice.address()]).await.expect("it answers");
    client.commit(write(vec![put("berlin", [])])).await.expect("the disk is well");
    let ready = |what| tokio::task::spawn_blocking(move || get(http, what));
    assert_eq!(ready("/readyz").await.expect("it answers"), "HTTP/1.1 200 OK");
    disk.fail_writes_after(0, fault);
    let node::Error::Failed { why } = alice.node.stopped().await.expect_err("it cannot go on") else { panic!("another error") };
    assert!(why.contains(told), "{why}");
    assert_eq!(ready("/readyz").await.expect("it answers"), "HTTP/1.1 503 Service Unavailable", "before the process ends");
    assert_eq!(client.commit(write(vec![put("paris", [])])).await.expect_err("nothing is acknowledged").kind, Kind::Unavailable);
    alice.node.stop().await;
}

#[test]
fn a_node_whose_store_stopped_after_a_failed_write_says_so_and_ends() {
    run(fails_after(WriteFault::Failed, "stopped after a failed write"));
}

#[test]
fn a_node_without_room_on_the_disk_says_so_and_ends() {
    run(fails_after(WriteFault::Full, "no room on the disk"));
}
