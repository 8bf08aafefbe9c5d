//! A coordinator that lost its data, restarted in between, and ended by the operator's word.

use std::{fs, net::SocketAddr, path::Path};

use herdbook_proto::{cluster::Phase, status::Kind};

use crate::support::{
    all_equal, client, commit, coordinator, eventually, is_accepted, loopback, name_on, phase, put, replica, root_on, run, serves, stop,
    text,
};

/// Starts a coordinator with two replicas, lets alice and then bob write, and stops all; the coordinator has lost its data, and what bob
/// wrote last nobody else holds. Returns where it listened.
async fn lost(folder: &Path) -> SocketAddr {
    let server = coordinator(folder, loopback()).await;
    let address = server.listen();
    let (alice, bob) = (replica(folder, "alice", address).await, replica(folder, "bob", address).await);
    eventually("both know the branch", || name_on(&alice).is_some() && name_on(&bob).is_some()).await;
    commit(&alice, put(1, "oslo", &[("name", text("Oslo"))])).await;
    eventually("all hold it, accepted", || is_accepted(&alice) && is_accepted(&bob) && all_equal(&[&server, &alice, &bob])).await;
    stop([alice, server]).await;
    client(bob.listen()).await.set_online(false).await.expect("it answers");
    commit(&bob, put(2, "rome", &[("name", text("Rome"))])).await;
    bob.stop().await;
    fs::remove_dir_all(folder.join("coordinator")).expect("it has stopped");
    address
}

/// The fault: a coordinator that was restarted in the middle of a restore found the part of the log that it had pulled so far, took that for
/// its data and served.
#[test]
fn a_restore_that_is_broken_off_goes_on_at_the_next_start() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let address = lost(folder.path()).await;
        let server = coordinator(folder.path(), address).await;
        let alice = replica(folder.path(), "alice", address).await;
        eventually("alice has told all", || all_equal(&[&server, &alice])).await;
        assert_eq!(phase(&server).await, Phase::Recovering, "bob has not");
        stop([alice, server]).await;
        let server = coordinator(folder.path(), address).await;
        assert_eq!(phase(&server).await, Phase::Recovering);
        let (alice, bob) = (replica(folder.path(), "alice", address).await, replica(folder.path(), "bob", address).await);
        serves(&server).await;
        eventually("all are whole", || is_accepted(&bob) && all_equal(&[&server, &alice, &bob])).await;
        stop([alice, bob, server]).await;
    });
}

/// The fault: keys whose repository had lost its data founded it again, with a second first entry.
#[test]
fn keys_found_one_repository() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        server.stop().await;
        for lost in ["coordinator/store", "keys/signed.0", "keys/signed.1"] {
            let path = folder.path().join(lost);
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.expect("it was there");
        }
        let server = coordinator(folder.path(), loopback()).await;
        assert_eq!(phase(&server).await, Phase::Recovering);
        assert_eq!(server.repository().view().log.newest(), None, "nothing is signed");
        server.stop().await;
    });
}

#[test]
fn the_operators_word_opens_a_coordinator_that_waits_for_members() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let address = lost(folder.path()).await;
        let server = coordinator(folder.path(), address).await;
        let operator = client(address).await;
        let refused = operator.reopen_after_restore("nobody is here yet".to_owned()).await.expect_err("there is nothing to open on");
        assert_eq!(refused.kind, Kind::Precondition, "{refused:?}");
        let alice = replica(folder.path(), "alice", address).await;
        eventually("alice has told all", || all_equal(&[&server, &alice])).await;
        // The first word must not take effect now.
        let status = operator.status().await.expect("it answers");
        assert_eq!(status.phase, Phase::Recovering);
        let mut recovery = status.recovery.expect("it recovers");
        while recovery.reporters.is_empty() {
            recovery = operator.status().await.expect("it answers").recovery.expect("it recovers");
        }
        assert_eq!((recovery.reporters.clone(), recovery.needed), (vec![alice.repository().replica()], 2));
        let reopened = operator.reopen_after_restore("bob burned down".to_owned()).await.expect("alice has told all");
        assert_eq!((reopened.reporters, reopened.lost.len()), (recovery.reporters, 0));
        assert_eq!(phase(&server).await, Phase::Serving);
        commit(&alice, put(3, "bern", &[("name", text("Bern"))])).await;
        eventually("it accepts", || is_accepted(&alice) && all_equal(&[&server, &alice])).await;
        // What only bob had comes with him.
        let bob = replica(folder.path(), "bob", address).await;
        eventually("all are whole", || {
            let commits = server.repository().view().state(None).expect("a branch").frontier().vector().commits();
            commits == 3 && is_accepted(&bob) && all_equal(&[&server, &alice, &bob])
        })
        .await;
        assert_eq!(root_on(&server), root_on(&bob));
        let refused = operator.reopen_after_restore("again".to_owned()).await.expect("told again what was decided");
        assert_eq!(refused.position, reopened.position);
        stop([alice, bob, server]).await;
    });
}

#[test]
fn the_operators_word_opens_older_data_that_nobody_is_left_to_complete() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let address = server.listen();
        let alice = replica(folder.path(), "alice", address).await;
        stop([alice, server]).await;
        for file in ["signed.0", "signed.1"] {
            fs::remove_file(folder.path().join("keys").join(file)).expect("the authority notes what it signs");
        }
        let server = coordinator(folder.path(), address).await;
        assert_eq!(phase(&server).await, Phase::Recovering);
        let reopened = client(address).await.reopen_after_restore("alice burned down".to_owned()).await.expect("it has its data");
        assert!(reopened.reporters.is_empty() && reopened.position.epoch > 2, "an epoch that alice cannot know: {:?}", reopened.position);
        assert_eq!(phase(&server).await, Phase::Serving);
        server.stop().await;
    });
}
