//! Convergence, acceptance, and the loss of the server's data.

use crate::support::{all_equal, commit, coordinator, eventually, loopback, name_on, put, replica, root_on, run, text};

#[test]
fn commits_reach_every_node_and_are_accepted() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let alice = replica(folder.path(), "alice", server.listen()).await;
        let bob = replica(folder.path(), "bob", server.listen()).await;
        eventually("both know the branch", || name_on(&alice).is_some() && name_on(&bob).is_some()).await;
        let committed = commit(&alice, put(1, "oslo", &[("name", text("Oslo")), ("zone", text("A"))])).await;
        commit(&bob, put(2, "rome", &[("name", text("Rome"))])).await;
        eventually("all hold the same", || {
            let view = server.repository().view();
            let state = view.state(None).expect("a branch");
            all_equal(&[&server, &alice, &bob]) && state.frontier().vector().commits() == 2
        })
        .await;
        assert_eq!(root_on(&alice), root_on(&bob));
        assert_eq!(root_on(&alice), root_on(&server));
        eventually("the authority accepts", || {
            let view = bob.repository().view();
            let heads = view.log.branch(&committed.branch).expect("branch").heads.clone();
            heads.iter().any(|head| {
                bob.repository().meta(head).expect("read").is_some_and(|meta| meta.vector.contains(&committed.chain, committed.counter))
            })
        })
        .await;
        for node in [alice, bob, server] {
            node.stop().await;
        }
    });
}

#[test]
fn a_server_that_lost_its_data_comes_back_from_its_replicas() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let address = server.listen();
        let alice = replica(folder.path(), "alice", address).await;
        let bob = replica(folder.path(), "bob", address).await;
        eventually("both know the branch", || name_on(&alice).is_some() && name_on(&bob).is_some()).await;
        for number in 0..20 {
            commit(&alice, put(number, &format!("a{number}"), &[("name", text("x"))])).await;
        }
        eventually("all hold the same", || all_equal(&[&server, &alice, &bob])).await;
        let before = server.repository().view().log.newest().expect("entries");
        server.stop().await;
        std::fs::remove_dir_all(folder.path().join("coordinator")).expect("the data is gone");
        // Replicas go on alone, and among themselves.
        commit(&bob, put(99, "lonely", &[("name", text("offline"))])).await;
        eventually("replicas converge without the server", || all_equal(&[&alice, &bob])).await;
        let server = coordinator(folder.path(), address).await;
        eventually("the server is whole again", || {
            let newest = server.repository().view().log.newest();
            newest.is_some_and(|newest| newest.epoch > before.epoch) && all_equal(&[&server, &alice, &bob])
        })
        .await;
        assert_eq!(root_on(&server), root_on(&alice));
        assert!(server.repository().view().log.lost().is_empty(), "nothing was lost");
        commit(&alice, put(100, "after", &[("name", text("accepted"))])).await;
        eventually("it goes on", || all_equal(&[&server, &alice, &bob])).await;
        for node in [alice, bob, server] {
            node.stop().await;
        }
    });
}
