//! Blobs beside branches: what one branch takes away is not missing on another.

use std::io::Read as _;

use herdbook_model::{
    blob::Blob,
    value::{Scalar, Value},
};
use herdbook_replica::repository::{Swept, Upload};

use super::*;

const FILMS: &str =
    r#"{"version": 1, "collections": {"films": {"fields": [{"name": "title", "type": "string"}, {"name": "video", "type": "blob"}]}}}"#;

fn upload(repository: &Repository, on: &str, content: &[u8]) -> Blob {
    let mut upload = Upload::begin(repository, Some(branch(on))).expect("a branch with blobs");
    let mut asks = upload.push(content).expect("taken");
    let (last, uploaded) = upload.finish().expect("taken");
    asks.extend(last);
    asks.into_iter().for_each(|ask| _ = repository.commit_one(ask, Durability::Durable).expect("committed"));
    uploaded.blob
}

fn sweep(repository: &Repository, on: &str) -> Swept {
    let mut sweep = repository.sweep(&repository.view(), Some(&branch(on)), 0).expect("it reads");
    while let Some(ask) = repository.sweep_on(&mut sweep).expect("it reads") {
        repository.commit_one(ask, Durability::Durable).expect("committed");
    }
    sweep.swept
}

fn refer(repository: &Repository, number: u8, on: &str, blob: Blob) {
    let change = DocumentChange::Put(vec![("video".into(), Value::Scalar(Scalar::Blob(blob)))]);
    let edit = DocumentEdit { collection: "films".to_owned(), key: Key::new("alma").expect("short"), change };
    let key = RequestKey([number; 16]);
    let (principal, message) = (String::new(), String::new());
    let ask = Ask { branch: Some(branch(on)), key, principal, wanted: Vec::new(), edits: vec![edit], message };
    repository.commit_one(ask, Durability::Durable).expect("committed");
}

fn read(repository: &Repository, on: &str, blob: Blob) -> std::io::Result<Vec<u8>> {
    let (view, mut content) = (repository.view(), Vec::new());
    repository.blob(&view.branches[&branch(on)], blob).read_to_end(&mut content).map(|_| content)
}

/// The fault: a part was taken away on one branch while it lived on another; an upload there then said only that it is used, and where both branches
/// met its bytes were missing.
#[test]
fn a_part_that_lives_on_another_branch_is_hidden_and_not_taken_away() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    let definition = Definition::Schema(FILMS.to_owned());
    authority
        .start_schema(&StartSchema { repository: None, branch: Some(branch("main@1")), from: None, definition, dry_run: false })
        .expect("started");
    let repository = authority.repository().clone();
    let content: Vec<u8> = (0u32..200_000).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let blob = upload(&repository, "main@1", &content);
    authority.accept().expect("accepted");
    authority.start_branch(&start_branch("trial", None)).expect("started");
    assert_eq!(read(&repository, "trial", blob).expect("it began there"), content);

    let hidden = sweep(&repository, "main@1").hidden;
    assert!(hidden > 3);
    assert_eq!(sweep(&repository, "main@1").removed, 0, "it lives on the other branch");
    assert_eq!(upload(&repository, "trial", &content), blob);
    refer(&repository, 1, "trial", blob);
    let merge = Merge {
        into: Some(branch("main@1")),
        from: repository.view().branches[&branch("trial")].clone(),
        side: None,
        rules: Vec::new(),
        key: RequestKey([2; 16]),
        message: String::new(),
        dry_run: false,
    };
    repository.merge(&merge, Durability::Durable).expect("merged");
    assert_eq!(read(&repository, "main@1", blob).expect("all of it came over"), content);

    // Nobody refers to another one anywhere: once both branches hid it, it goes.
    let useless = upload(&repository, "trial", &content[7..]);
    for on in ["trial", "main@1", "trial"] {
        sweep(&repository, on);
    }
    assert!(read(&repository, "trial", useless).is_err());
    assert_eq!(read(&repository, "trial", blob).expect("in use"), content);
}
