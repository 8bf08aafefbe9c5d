//! Compare and set across replicas.

use herdbook_model::request::Must;
use herdbook_proto::{
    ack::{Condition, Wait},
    document::Name,
    edit::{Edit, Operation, Precondition, Write},
    status::Kind,
};

use crate::support::{client, coordinator, eventually, loopback, replica, root_on, run, serves};

fn create(number: u8, key: &str) -> Write {
    let name = Name { collection: "cities".into(), key: herdbook_model::value::Key::new(key).expect("short") };
    let edit = Edit {
        name: name.clone(),
        operation: Operation::Put(vec![("population".into(), herdbook_model::value::Value::from(i64::from(number)))]),
    };
    let wait = Wait { accepted: true, ..Wait::DURABLE };
    Write {
        preconditions: vec![Precondition { name, must: Must::BeAbsent }],
        wait,
        ..Write::new(herdbook_model::id::RequestKey([number; 16]), vec![edit])
    }
}

#[test]
fn of_those_who_create_a_document_at_once_one_succeeds() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let (alice, bob) = (replica(folder.path(), "alice", server.listen()).await, replica(folder.path(), "bob", server.listen()).await);
        for node in [&server, &alice, &bob] {
            serves(node).await;
        }
        let clients = [client(server.listen()).await, client(alice.listen()).await, client(bob.listen()).await];
        let mut refused_late = 0;
        for round in 0..20_u8 {
            let key = format!("city-{round}");
            let ask = |at: usize| clients[at].commit(create(1 + round * 3 + at as u8, &key));
            let outcomes: [_; 3] = tokio::join!(ask(0), ask(1), ask(2)).into();
            let [won] = outcomes.iter().flatten().collect::<Vec<_>>()[..] else { panic!("one succeeds: {outcomes:?}") };
            assert!(won.accepted.is_some() && won.condition == Condition::Accepted, "{won:?}");
            for failed in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
                refused_late += u32::from(failed.reason == "VOIDED");
                assert!(matches!(failed.kind, Kind::Precondition | Kind::Conflict), "{failed:?}");
            }
        }
        assert!(refused_late > 0, "some passed where they were made, and were refused at acceptance");
        eventually("all show the same", || root_on(&server) == root_on(&alice) && root_on(&server) == root_on(&bob)).await;
        for node in [bob, alice, server] {
            node.stop().await;
        }
    });
}
