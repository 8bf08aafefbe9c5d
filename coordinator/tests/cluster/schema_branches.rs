//! Schema branches over gRPC: begun, promoted, abandoned, and what a closed one answers.

use herdbook_model::id::{BranchName, RequestKey};
use herdbook_proto::{
    cluster::{Definition, StartSchema},
    document::Name,
    edit::{Edit, Operation, Write},
    status::Kind,
};

use crate::support::{client, coordinator, loopback, run};

const STEPS: &str = r#"[{"rename": {"collection": "cities", "from": "name", "to": "title"}}]"#;

fn name(branch: &str) -> BranchName {
    BranchName::new(branch).expect("well formed")
}

fn start(branch: &str) -> StartSchema {
    let (branch, definition) = (Some(name(branch)), Definition::Steps(STEPS.to_owned()));
    StartSchema { repository: None, branch, from: Some(name("main@1")), definition, dry_run: false }
}

fn write(number: u8, branch: Option<&str>) -> Write {
    let document = Name { collection: "cities".into(), key: herdbook_model::value::Key::new("oslo").expect("short") };
    let edit = Edit { name: document, operation: Operation::Put(Vec::new()) };
    Write { branch: branch.map(name), ..Write::new(RequestKey([number; 16]), vec![edit]) }
}

#[test]
fn a_promoted_branch_is_what_callers_get_and_cannot_be_abandoned() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let client = client(server.listen()).await;
        client.start_schema(start("main@2")).await.expect("it begins");
        assert_eq!(client.commit(write(1, None)).await.expect("it commits").branch, name("main@1"));
        client.promote_schema(name("main@2")).await.expect("it is open");
        assert_eq!(client.commit(write(2, None)).await.expect("it commits").branch, name("main@2"));
        let refused = client.abandon_schema(name("main@2")).await.expect_err("callers are on it");
        assert!(refused.message.contains("cannot be abandoned"), "{refused:?}");
        let refused = client.promote_schema(name("main@9")).await.expect_err("there is none");
        assert!(refused.message.contains("does not exist"), "{refused:?}");
        assert_eq!(client.commit(write(3, Some("main@1"))).await.expect("the older stays open").branch, name("main@1"));
        server.stop().await;
    });
}

#[test]
fn an_abandoned_branch_takes_nothing_and_is_still_read() {
    run(async {
        let folder = tempfile::tempdir().expect("folder");
        let server = coordinator(folder.path(), loopback()).await;
        let client = client(server.listen()).await;
        client.start_schema(start("main@2")).await.expect("it begins");
        client.commit(write(1, Some("main@2"))).await.expect("it is open");
        client.abandon_schema(name("main@2")).await.expect("nobody is on it");
        let refused = client.commit(write(2, Some("main@2"))).await.expect_err("it is closed");
        assert_eq!((refused.kind, refused.reason.as_str()), (Kind::Precondition, "BRANCH_CLOSED"), "{refused:?}");
        let head = client.heads().await.expect("it answers").into_iter().find(|head| head.branch == name("main@2"));
        assert_eq!(head.map(|head| head.documents), Some(1), "what is on it can be read");
        for refused in [client.promote_schema(name("main@2")).await, client.abandon_schema(name("main@2")).await] {
            let refused = refused.expect_err("it is closed");
            assert!(refused.message.contains("was abandoned"), "{refused:?}");
        }
        let steps = STEPS.replace("title", "heading").replace("\"name\"", "\"title\"");
        let next = StartSchema { from: Some(name("main@2")), definition: Definition::Steps(steps), ..start("main@3") };
        let refused = client.start_schema(next).await.expect_err("it is closed");
        assert!(refused.message.contains("was abandoned"), "{refused:?}");
        server.stop().await;
    });
}
