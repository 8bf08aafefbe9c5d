//! Bad input: one clear error that says what, where and what to do, the right code, and a store that is as it was.

use std::sync::Arc;

use herdbook_model::{
    id::{BranchName, CommitId, RepositoryId},
    value::{Key, Value},
};
use herdbook_proto::{
    cluster::Phase,
    document::{At, Name, Place},
    edit::{Edit, Operation, Write},
    read::{BatchGet, Count, Get, Start, Watch},
    status::{Failed, Kind},
    v1::{self, document_service_client::DocumentServiceClient},
};
use tonic::Code;

use crate::server::{Server, city, create, delete, int, key, list, put, run, text, update, write};

fn edit(collection: &str, document: &str, operation: Operation) -> Edit {
    Edit { name: Name { collection: collection.into(), key: key(document) }, operation }
}

fn put_fields(field: &str, value: Value) -> Operation {
    Operation::Put(vec![(Arc::from(field), value)])
}

#[test]
fn a_write_that_does_not_fit_is_refused_with_its_reason() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [("name", text("Bonn"))])]).await;
        let before = server.digest();
        let long = "x".repeat(600_000);
        let elements: Value = Value::Set([Value::from(1)].into());
        for (what, edits, kind, reason, names) in [
            ("collection", vec![edit("towns", "a", Operation::Put(Vec::new()))], Kind::NotFound, "COLLECTION_NOT_FOUND", "towns"),
            ("field", vec![put("a", [("size", int(1))])], Kind::Invalid, "FIELD_NOT_FOUND", "size"),
            ("type", vec![put("a", [("population", text("many"))])], Kind::Invalid, "WRONG_TYPE", "population"),
            ("element", vec![put("a", [("names", elements)])], Kind::Invalid, "WRONG_TYPE", "names"),
            ("exists", vec![create("bonn", [])], Kind::Exists, "DOCUMENT_EXISTS", "bonn"),
            ("update", vec![update("ulm", [("population", int(1))])], Kind::NotFound, "DOCUMENT_NOT_FOUND", "ulm"),
            ("delete", vec![delete("ulm")], Kind::NotFound, "DOCUMENT_NOT_FOUND", "ulm"),
            ("nothing", Vec::new(), Kind::Invalid, "EMPTY_REQUEST", "nothing"),
            ("document", vec![put("a", [("name", text(&long)), ("mayor", text(&long))])], Kind::Invalid, "TOO_LARGE", "the document has"),
            (
                "request",
                (0..9).map(|at| edit("cities", &format!("c{at}"), put_fields("name", text(&long[..400_000])))).collect(),
                Kind::Invalid,
                "TOO_LARGE",
                "the request has",
            ),
        ] {
            let failed = server.client.commit(write(edits)).await.expect_err(what);
            assert_eq!((failed.kind, failed.reason.as_str()), (kind, reason), "{what}: {}", failed.message);
            assert!(failed.message.contains(names), "{what}: {}", failed.message);
            assert_eq!(server.digest(), before, "{what} left something");
        }
        assert_eq!(server.count("").await, 1);
    });
}

#[test]
fn a_document_that_grew_too_large_is_refused_and_the_rest_goes_on() {
    run(async {
        let server = Server::start().await;
        let long = "x".repeat(900_000);
        server.commit(vec![create("bonn", [("name", text(&long))])]).await;
        let failed = server.client.commit(write(vec![update("bonn", [("mayor", text(&long[..200_000]))])])).await.expect_err("too long");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Invalid, "TOO_LARGE"));
        server.commit(vec![update("bonn", [("mayor", text("short"))])]).await;
        server.repository().materialise().expect("what was taken can be folded");
    });
}

#[test]
fn what_is_not_there_is_named() {
    run(async {
        let server = Server::start().await;
        server.commit(vec![create("bonn", [])]).await;
        let at = |at| Place { repository: None, at };
        let no_branch = BranchName::new("main@9").expect("a valid name");
        let get = async |place| server.client.get(Get { place, name: city("bonn") }).await.expect_err("it is not there");
        let failed = get(at(At::Branch(Some(no_branch.clone())))).await;
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::NotFound, "BRANCH_NOT_FOUND"));
        assert!(failed.message.contains("main@9") && failed.message.contains("main@1"), "{}", failed.message);
        let failed = get(at(At::Commit(CommitId([9; 32])))).await;
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::NotFound, "COMMIT_NOT_FOUND"));
        let other = RepositoryId([9; 32]);
        let failed = get(Place { repository: Some(other), at: At::NEWEST }).await;
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::NotFound, "REPOSITORY_NOT_FOUND"));
        assert_eq!(failed.metadata["held"], server.repository().id().to_string());

        let before = server.digest();
        let failed = server.client.commit(Write { repository: Some(other), ..write(vec![put("a", [])]) }).await.expect_err("no repository");
        assert_eq!(failed.reason, "REPOSITORY_NOT_FOUND");
        let failed =
            server.client.commit(Write { branch: Some(no_branch.clone()), ..write(vec![put("a", [])]) }).await.expect_err("no branch");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::NotFound, "BRANCH_NOT_FOUND"));
        assert_eq!(server.digest(), before);

        let watch = Watch { repository: None, branch: Some(no_branch), collection: None, prefix: String::new(), start: Start::Now };
        assert_eq!(server.client.watch(watch.clone()).await.expect_err("no branch").reason, "BRANCH_NOT_FOUND");
        let watch = Watch { branch: None, collection: Some("towns".into()), ..watch };
        assert_eq!(server.client.watch(watch).await.expect_err("no collection").reason, "COLLECTION_NOT_FOUND");
        let towns: Arc<str> = "towns".into();
        let failed = server.client.list(herdbook_proto::read::List { collection: towns.clone(), ..list("", 0) }).await;
        assert_eq!(failed.expect_err("no collection").reason, "COLLECTION_NOT_FOUND");
        let count = Count { place: Place::NEWEST, collection: towns.clone(), prefix: String::new() };
        assert_eq!(server.client.count(count).await.expect_err("no collection").reason, "COLLECTION_NOT_FOUND");
        let names = vec![city("bonn"), Name { collection: towns, key: key("a") }];
        let failed = server.client.batch_get(BatchGet { place: Place::NEWEST, names }).await.expect_err("no collection");
        assert_eq!(failed.reason, "COLLECTION_NOT_FOUND");
    });
}

#[test]
fn a_malformed_message_is_refused_with_its_field() {
    run(async {
        let server = Server::start().await;
        let before = server.digest();
        let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.address)).expect("a URI").connect().await;
        let mut raw = DocumentServiceClient::new(channel.expect("the server answers"));
        let edit = |key: &str, operation| v1::Edit { collection: "cities".to_owned(), key: key.to_owned(), operation };
        let delete = || Some(v1::edit::Operation::Delete(v1::Delete {}));
        for (field, request) in [
            ("request_id", v1::CommitRequest { request_id: vec![1; 15].into(), ..Default::default() }),
            ("repository", v1::CommitRequest { repository: vec![1; 31].into(), ..Default::default() }),
            ("branch", v1::CommitRequest { branch: "no spaces".to_owned(), ..Default::default() }),
            ("message", v1::CommitRequest { message: "x".repeat(4097), ..Default::default() }),
            ("edits[0].operation", v1::CommitRequest { edits: vec![edit("a", None)], ..Default::default() }),
            ("edits[1].key", v1::CommitRequest { edits: vec![edit("a", delete()), edit("", delete())], ..Default::default() }),
            ("edits[0].key", v1::CommitRequest { edits: vec![edit(&"k".repeat(Key::MAX + 1), delete())], ..Default::default() }),
            ("wait.local", v1::CommitRequest { wait: Some(v1::Wait::default()), ..Default::default() }),
        ] {
            let status = raw.commit(request).await.expect_err(field);
            assert_eq!(status.code(), Code::InvalidArgument, "{field}");
            let failed = Failed::from_status(&status);
            assert_eq!((failed.reason.as_str(), failed.metadata["field"].as_str()), ("MALFORMED", field));
        }
        let status = raw.watch(v1::WatchRequest::default()).await.expect_err("no start");
        assert_eq!((status.code(), Failed::from_status(&status).metadata["field"].as_str()), (Code::InvalidArgument, "start"));
        assert_eq!(server.digest(), before);
    });
}

#[test]
fn a_message_that_is_none_is_the_callers_fault() {
    run(async {
        let server = Server::start().await;
        let before = server.digest();
        let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.address)).expect("a URI").connect().await;
        let mut raw = tonic::client::Grpc::new(channel.expect("the server answers"));
        let paths =
            ["/herdbook.v1.DocumentService/Commit", "/herdbook.v1.DocumentService/CommitStream", "/herdbook.v1.HistoryService/Show"];
        for path in paths {
            raw.ready().await.expect("the server answers");
            // Its first field is a number, and not the bytes that these methods take there.
            let request = tonic::Request::new(v1::Credit { bytes: 7 });
            let codec = tonic_prost::ProstCodec::<v1::Credit, v1::Credit>::default();
            let stream = raw.server_streaming(request, path.parse().expect("a path"), codec).await;
            let status = match stream {
                Ok(answers) => answers.into_inner().message().await.expect_err(path),
                Err(status) => status,
            };
            assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
            let failed = Failed::from_status(&status);
            assert_eq!((failed.reason.as_str(), failed.hint.is_some()), ("MALFORMED", true), "{path}");
        }
        assert_eq!(server.digest(), before);
    });
}

#[test]
fn an_oversized_message_is_refused_and_the_connection_goes_on() {
    run(async {
        let server = Server::start().await;
        let before = server.digest();
        let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.address)).expect("a URI").connect().await;
        let mut raw = DocumentServiceClient::new(channel.expect("the server answers"));
        let message = "x".repeat(5 << 20);
        let status = raw.commit(v1::CommitRequest { message, ..Default::default() }).await.expect_err("above 4 MiB");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains("4194304"), "{}", status.message());
        assert_eq!(Failed::from_status(&status).reason, "MESSAGE_TOO_LARGE");
        let long = [("name", text(&"x".repeat(5 << 20)))];
        let failed = server.client.commit(write(vec![put("bonn", long)])).await.expect_err("above 4 MiB");
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Invalid, "MESSAGE_TOO_LARGE"));
        assert!(failed.hint.is_some_and(|hint| hint.contains("split")));
        assert_eq!(server.digest(), before);
        raw.commit(v1::CommitRequest::from(write(vec![put("bonn", [])]))).await.expect("the connection is whole");
    });
}

#[test]
fn a_node_that_is_restored_or_frozen_reads_and_refuses_writes() {
    run(async {
        let server = Server::start().await;
        let commit = server.commit(vec![create("bonn", [])]).await;
        let before = server.digest();
        for phase in [Phase::Starting, Phase::Recovering, Phase::Frozen] {
            server.phases.set(phase);
            let failed = server.client.commit(write(vec![put("a", [])])).await.expect_err("no writes now");
            assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unavailable, "READ_ONLY"), "{phase:?}");
            let revert = herdbook_proto::history::Revert::of(vec![commit]);
            assert_eq!(server.client.revert(revert).await.expect_err("no writes now").reason, "READ_ONLY");
            assert!(server.get("bonn").await.is_some());
        }
        assert_eq!(server.digest(), before);
        server.phases.set(Phase::Serving);
        server.commit(vec![put("a", [])]).await;
    });
}
