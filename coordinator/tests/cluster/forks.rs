//! A session that signed two commits of one place, and nodes that hold different ones.
//!
//! The fault: nothing said which side stands, so the nodes never held the same again.

use std::collections::BTreeMap;

use herdbook_model::{
    SigningKey,
    authority::SessionCertificate,
    codec::Decode as _,
    commit::{Commit, Header},
    id::{Leaf, SessionId},
    request::Request,
};
use herdbook_proto::cluster::Join;
use herdbook_replica::{node::Node, repository::Received};

use crate::support::{
    all_equal, client, commit, coordinator, eventually, is_accepted, loopback, name_on, put, replica, root_on, run, stop, text, token,
};

/// Returns the first commit of a session of eve's, with the edits of one that alice made.
async fn signed(alice: &Node, number: u8, eve: &SigningKey, session: &SigningKey) -> Received {
    let committed = commit(alice, put(number, &format!("fork-{number}"), &[("name", text("x"))])).await;
    let stored = alice.repository().stored(&committed.commit).expect("readable").expect("it was made here");
    let decode = |bytes: &Result<Vec<u8>, Vec<String>>| Request::from_bytes(bytes.as_ref().expect("its edits are here")).expect("sound");
    let requests: Vec<Request> = stored.requests.iter().map(decode).collect();
    let given = stored.commit.header();
    let header = Header {
        session: SessionId(session.verifying_key().to_bytes()),
        parents: Vec::new(),
        counter: 1,
        previous: None,
        requests: Leaf([0; 32]),
        request_count: 0,
        ..given.clone()
    };
    let (commit, _) = Commit::sign(header, &requests, session);
    let certificate = Some(SessionCertificate::sign(given.repository, session, given.time, eve));
    let leaves = requests.iter().map(Request::leaf).collect();
    Received {
        commit,
        certificate,
        leaves,
        requests: requests.into_iter().map(|request| Some(request.into())).collect(),
        documents: BTreeMap::new(),
    }
}

#[test]
fn nodes_with_two_sides_of_a_fork_converge_on_the_one_that_the_authority_accepted() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let address = server.listen();
        let (alice, bob) = (replica(folder.path(), "alice", address).await, replica(folder.path(), "bob", address).await);
        let [eve, session] = [5, 6].map(|seed| SigningKey::from_bytes(&[seed; 32]));
        let join = Join::sign(token(address).await, "eve".to_owned(), String::new(), &eve);
        client(address).await.join(join).await.expect("eve joins");
        eventually("all know the members", || {
            [&alice, &bob].iter().all(|node| name_on(node).is_some() && node.repository().view().log.members().len() == 4)
        })
        .await;
        let (stands, refused) = (signed(&alice, 1, &eve, &session).await, signed(&alice, 2, &eve, &session).await);
        let (stands_id, refused_id) = (stands.commit.id(), refused.commit.id());
        client(bob.listen()).await.set_online(false).await.expect("it answers");
        server.repository().receive(vec![stands]).expect("the store works");
        eventually("one side is accepted", || is_accepted(&alice) && alice.repository().meta(&stands_id).is_ok_and(|meta| meta.is_some()))
            .await;
        bob.repository().receive(vec![refused]).expect("the store works");
        assert!(bob.repository().meta(&refused_id).expect("readable").is_some(), "bob holds the other side");
        client(bob.listen()).await.set_online(true).await.expect("it answers");
        eventually("all hold the accepted side", || {
            let held = bob.repository().meta(&stands_id).expect("readable").is_some();
            held && is_accepted(&bob) && all_equal(&[&server, &alice, &bob])
        })
        .await;
        assert_eq!(bob.repository().meta(&refused_id).expect("readable"), None);
        assert_eq!(root_on(&bob), root_on(&server));
        commit(&bob, put(3, "after", &[("name", text("bob's own session goes on"))])).await;
        eventually("bob goes on", || is_accepted(&bob) && all_equal(&[&server, &alice, &bob])).await;
        stop([alice, bob, server]).await;
    });
}
