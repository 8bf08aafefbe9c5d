//! A coordinator that starts on an older copy of its data.
//!
//! The fault: it went on from where that copy ended and signed second entries of places that members held, a fork made by an honest node.

use std::{fs, net::SocketAddr, path::Path};

use herdbook_model::authority::Position;
use herdbook_proto::cluster::Phase;
use herdbook_replica::node::Node;

use crate::support::{
    all_equal, commit, coordinator, copy, eventually, is_accepted, loopback, name_on, phase, put, replica, root_on, run, serves, stop, text,
};

fn newest(node: &Node) -> Position {
    node.repository().view().log.newest().expect("an entry")
}

async fn write(node: &Node, number: u8) {
    commit(node, put(number, &format!("city-{number}"), &[("name", text("x"))])).await;
}

fn forget_what_was_signed(folder: &Path) {
    for file in ["signed.0", "signed.1"] {
        fs::remove_file(folder.join("keys").join(file)).expect("the authority notes what it signs");
    }
}

/// Starts a coordinator and alice, and puts away a copy of the coordinator's data; then more is written and accepted. Returns where the
/// coordinator listened and its newest entry; both have stopped.
async fn herd(folder: &Path) -> (SocketAddr, Position) {
    let server = coordinator(folder, loopback()).await;
    let address = server.listen();
    let alice = replica(folder, "alice", address).await;
    eventually("alice knows the branch", || name_on(&alice).is_some()).await;
    write(&alice, 1).await;
    eventually("the first is accepted", || is_accepted(&server) && is_accepted(&alice) && all_equal(&[&server, &alice])).await;
    server.stop().await;
    copy(&folder.join("coordinator"), &folder.join("old"));
    let server = coordinator(folder, address).await;
    write(&alice, 2).await;
    eventually("the second is accepted", || is_accepted(&alice) && all_equal(&[&server, &alice])).await;
    eventually("alice has the whole log", || newest(&alice) == newest(&server)).await;
    alice.stop().await;
    let newest = newest(&server);
    server.stop().await;
    (address, newest)
}

fn roll_back(folder: &Path) {
    fs::remove_dir_all(folder.join("coordinator")).expect("it has stopped");
    fs::rename(folder.join("old"), folder.join("coordinator")).expect("one file system");
}

#[test]
fn nothing_is_signed_on_older_data_before_members_told_the_rest() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let (address, signed) = herd(folder.path()).await;
        roll_back(folder.path());
        let server = coordinator(folder.path(), address).await;
        assert_eq!(phase(&server).await, Phase::Recovering);
        assert!(newest(&server).seq < signed.seq, "the copy is older");
        let alice = replica(folder.path(), "alice", address).await;
        serves(&server).await;
        write(&alice, 3).await;
        eventually("it accepts again", || is_accepted(&alice) && all_equal(&[&server, &alice])).await;
        let view = server.repository().view();
        assert_eq!(view.log.entry_at(signed.seq), Some(signed), "what members held stands");
        assert_eq!(view.log.entry_at(signed.seq + 1).map(|next| next.epoch), Some(signed.epoch + 1));
        assert_eq!(root_on(&server), root_on(&alice));
        drop(view);
        stop([alice, server]).await;
    });
}

#[test]
fn older_data_that_nothing_vouches_for_is_compared_with_the_members() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let (address, signed) = herd(folder.path()).await;
        roll_back(folder.path());
        forget_what_was_signed(folder.path());
        let server = coordinator(folder.path(), address).await;
        assert_eq!(phase(&server).await, Phase::Recovering);
        let alice = replica(folder.path(), "alice", address).await;
        serves(&server).await;
        assert_eq!(server.repository().view().log.entry_at(signed.seq), Some(signed), "what members held stands");
        stop([alice, server]).await;
    });
}

#[test]
fn a_coordinator_whose_data_is_whole_waits_for_nobody() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let (address, signed) = herd(folder.path()).await;
        let server = coordinator(folder.path(), address).await;
        assert_eq!(phase(&server).await, Phase::Serving);
        assert_eq!(newest(&server).epoch, signed.epoch);
        server.stop().await;
    });
}

#[test]
fn a_coordinator_without_members_starts_by_itself() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let epoch = newest(&server).epoch;
        server.stop().await;
        forget_what_was_signed(folder.path());
        let server = coordinator(folder.path(), loopback()).await;
        assert_eq!(phase(&server).await, Phase::Serving);
        assert!(newest(&server).epoch > epoch, "nothing vouches for the data, so what is signed from here on is kept apart");
        server.stop().await;
    });
}
