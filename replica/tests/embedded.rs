//! A replica inside an application, alone: what it shows at once, what it keeps, what it refuses.

use std::time::Duration;

use herdbook_model::{
    id::BranchName,
    json,
    merge::Side,
    schema::Schema,
    value::{Scalar, Value},
};
use herdbook_replica::{
    Error, Replica,
    embedded::{self, Event, MergeOptions},
    repository::{Moment, Selection},
};
use serde_json::json;

fn schema(version: u32) -> Schema {
    let text = format!(
        r#"{{"version": {version}, "collections": {{"cities": {{"fields": [
            {{"name": "name", "type": "string"}}, {{"name": "population", "type": "int"}}, {{"name": "names", "type": "set<string>"}}]}}}}}}"#
    );
    json::schema_from_json(&text).expect("a schema")
}

fn open(folder: &tempfile::TempDir, capture: Duration) -> Replica {
    Replica::builder(folder.path()).schema(schema(1)).capture(capture).open().expect("it opens")
}

/// Long enough that nothing is captured unless it is asked for.
const NEVER: Duration = Duration::from_secs(3600);

fn population(replica: &Replica, key: &str) -> Option<Value> {
    replica.get("cities", key).expect("read")?.fields.get("population").cloned()
}

#[test]
fn edits_are_read_at_once_and_committed_together() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder, NEVER);
    replica.put("cities", "oslo", &json!({"name": "Oslo", "population": 1})).expect("put");
    replica.update("cities", "oslo", &json!({"population": 2})).expect("update");
    replica.put("cities", "rome", &json!({"name": "Rome"})).expect("put");
    replica.create("cities", "bern", &json!({"name": "Bern"})).expect("create");
    replica.delete("cities", "rome").expect("delete");
    assert_eq!(population(&replica, "oslo"), Some(Value::Scalar(Scalar::Int(2))));
    let listed = |replica: &Replica| replica.list("cities", "", None, 10).expect("list");
    let before = listed(&replica);
    assert_eq!(before.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["bern", "oslo"]);
    let log = replica.log(10).expect("log");
    assert_eq!(log.iter().map(|entry| entry.requests.len()).collect::<Vec<_>>(), [5], "one commit of five requests");
    assert_eq!(listed(&replica), before, "the branch shows what the edits showed");
}

#[test]
fn reopening_keeps_what_was_closed_and_needs_no_schema() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder, NEVER);
    replica.put("cities", "oslo", &json!({"population": 7})).expect("put");
    replica.state().expect("captured");
    replica.put("cities", "late", &json!({"population": 8})).expect("put");
    drop(replica);
    let replica = Replica::builder(folder.path()).open().expect("it opens again");
    assert_eq!(population(&replica, "oslo"), Some(Value::Scalar(Scalar::Int(7))));
    assert_eq!(population(&replica, "late"), Some(Value::Scalar(Scalar::Int(8))), "what waited when it was dropped is kept");
    let (state, root) = (replica.state().expect("state"), replica.root().expect("root"));
    replica.close().expect("close");
    let replica = Replica::builder(folder.path()).schema(schema(1)).open().expect("it opens again");
    assert_eq!((replica.state().expect("state"), replica.root().expect("root")), (state, root));
}

#[test]
fn what_does_not_fit_is_refused_at_once_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder, NEVER);
    assert!(matches!(replica.put("cities", "x", &json!({"height": 1})), Err(Error::Json(_) | Error::Schema(_))));
    assert!(matches!(replica.put("towns", "x", &json!({})), Err(Error::Schema(_))));
    assert!(matches!(replica.update("cities", "x", &json!({"population": 1})), Err(Error::UnknownDocument { .. })));
    replica.put("cities", "x", &json!({"population": 1})).expect("put");
    assert!(matches!(replica.create("cities", "x", &json!({})), Err(Error::Exists { .. })));
    assert!(replica.list("cities", "", None, 10).expect("list").len() == 1 && replica.flush().is_ok());
}

#[test]
fn edits_of_many_threads_are_all_counted() {
    let folder = tempfile::tempdir().expect("folder");
    for capture in [Duration::ZERO, Duration::from_millis(1)] {
        let replica = open(&folder, capture);
        replica.put("cities", "oslo", &json!({"population": 0})).expect("put");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let count = |fields: &mut embedded::Fields| {
                            if let Some(Value::Scalar(Scalar::Int(number))) = fields.get_mut("population") {
                                *number += 1;
                            }
                        };
                        replica.edit("cities", "oslo", count).expect("edit");
                    }
                });
            }
        });
        assert_eq!(population(&replica, "oslo"), Some(Value::Scalar(Scalar::Int(200))));
        replica.close().expect("close");
    }
}

#[test]
fn a_watch_tells_of_commits_and_ends_with_the_replica() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder, Duration::ZERO);
    let watch = replica.watch().expect("watch");
    replica.put("cities", "oslo", &json!({"population": 1})).expect("put");
    let Event::Documents { documents, own: true, state } = watch.recv().expect("an event") else { panic!("own documents") };
    assert_eq!((&*documents[0].0, documents[0].1.as_str()), ("cities", "oslo"));
    assert_eq!(state, replica.state().expect("state"));
    replica.close().expect("close");
    assert!(watch.recv().is_err());
}

#[test]
fn a_folder_without_repository_and_a_schema_that_differs_are_told() {
    let folder = tempfile::tempdir().expect("folder");
    let nothing = Replica::builder(folder.path()).open();
    assert!(matches!(nothing, Err(embedded::Error::NothingHere { .. })));
    open(&folder, NEVER).close().expect("close");
    let other = Replica::builder(folder.path()).schema(schema(2)).open();
    assert!(matches!(other, Err(embedded::Error::OtherSchema { held: 1, given: 2, .. })));
    let joining = Replica::builder(folder.path()).join("127.0.0.1:1", "token").open();
    assert!(matches!(joining, Err(embedded::Error::FoundedHere { .. })));
}

#[test]
fn history_is_read_patched_blamed_taken_back_and_played() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder, NEVER);
    replica.put("cities", "oslo", &json!({"name": "Oslo", "population": 1, "names": ["Christiania"]})).expect("put");
    let first = replica.state_at(&Moment::Now).expect("captured");
    replica.update("cities", "oslo", &json!({"population": 2, "names": ["Kristiania"]})).expect("update");
    replica.put("cities", "rome", &json!({"name": "Rome"})).expect("put");
    let second = replica.state_at(&Moment::Now).expect("captured");

    let patches = replica.diff(&first, &second).expect("diff");
    assert_eq!(
        patches.iter().map(|patch| (patch.key.to_string(), patch.fields.len())).collect::<Vec<_>>(),
        [("oslo".into(), 2), ("rome".into(), 1)]
    );
    let newest = replica.log(1).expect("log")[0].commit.id();
    let blamed = replica.blame("cities", "oslo").expect("blame");
    let by = |field: &str| blamed.iter().find(|blamed| &*blamed.part.field == field).and_then(|blamed| blamed.by).map(|(commit, _)| commit);
    assert_eq!(by("population"), Some(newest));
    assert_ne!(by("name"), Some(newest));

    let selection = Selection { since: Some(first.clone()), ..Selection::default() };
    let reverted = replica.revert(selection, "back").expect("reverted");
    assert_eq!(reverted.documents.len(), 2);
    assert_eq!((population(&replica, "oslo"), replica.get("cities", "rome").expect("read")), (Some(Value::Scalar(Scalar::Int(1))), None));
    assert!(replica.apply(&patches, "again").expect("it fits").is_some());
    assert_eq!(replica.apply(&patches, "again").expect("it is so"), None);
    let now = replica.state_at(&Moment::Now).expect("captured");
    assert_eq!(replica.diff(&second, &now).expect("diff"), []);

    let steps: Vec<_> = replica.playback(&first, &now).expect("playback").collect::<Result<_, _>>().expect("all is here");
    assert_eq!(steps.len(), 3);
    assert_eq!(replica.diff(&steps[0].before, &steps[0].after).expect("diff"), patches);
    assert_eq!(steps[2].after.name(), now.name());

    replica.update("cities", "oslo", &json!({"population": 9})).expect("update");
    let misfit = replica.apply(&patches.into_iter().map(herdbook_model::patch::Patch::reversed).collect::<Vec<_>>(), "");
    assert!(matches!(misfit, Err(embedded::ApplyError::Misfit(_))), "{misfit:?}");
}

#[test]
fn a_branch_is_begun_written_and_merged() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder, NEVER);
    let (main, trial) = ["main@1", "trial"].map(|name| BranchName::new(name).expect("well formed")).into();
    replica.put("cities", "oslo", &json!({"name": "Oslo", "population": 1})).expect("put");
    replica.start_branch(&trial).expect("begun");
    assert!(replica.start_branch(&trial).is_err(), "there is one of that name");
    replica.update("cities", "oslo", &json!({"population": 2})).expect("update");
    replica.close().expect("closed");

    let replica = Replica::builder(folder.path()).branch(trial.clone()).capture(NEVER).open().expect("it opens");
    assert_eq!(population(&replica, "oslo"), Some(Value::Scalar(Scalar::Int(1))));
    replica.update("cities", "oslo", &json!({"population": 3, "name": "Christiania"})).expect("update");
    replica.close().expect("closed");

    let replica = Replica::builder(folder.path()).branch(main).capture(NEVER).open().expect("it opens");
    let dry = MergeOptions { dry_run: true, ..MergeOptions::default() };
    assert_eq!(replica.merge(&trial, dry, "").expect("told").commits, 1);
    assert_eq!(population(&replica, "oslo"), Some(Value::Scalar(Scalar::Int(2))));
    let ours = MergeOptions { side: Some(Side::Ours), ..MergeOptions::default() };
    let merged = replica.merge(&trial, ours, "in").expect("merged");
    assert_eq!((merged.decided.len(), merged.conflicts.len()), (1, 0));
    assert_eq!(population(&replica, "oslo"), Some(Value::Scalar(Scalar::Int(2))));
    let oslo = replica.get("cities", "oslo").expect("read").expect("there");
    assert_eq!(json::view_to_json(&oslo)["name"], "Christiania");
    replica.close().expect("closed");
    let replica = Replica::builder(folder.path()).open().expect("it opens after a merge");
    assert_eq!(population(&replica, "oslo"), Some(Value::Scalar(Scalar::Int(2))));
}

#[test]
fn who_founded_a_repository_erases_in_it() {
    let folder = tempfile::tempdir().expect("folder");
    let text = r#"{"version": 1, "collections": {"people": {"fields": [
        {"name": "name", "type": "string"}, {"name": "phone", "type": "erasable<string>"}]}}}"#;
    let schema = json::schema_from_json(text).expect("a schema");
    let open = || Replica::builder(folder.path()).schema(schema.clone()).capture(NEVER).open().expect("it opens");
    let replica = open();
    let phone = |replica: &Replica| replica.get("people", "ada").expect("read").expect("there").fields.get("phone").cloned();
    replica.put("people", "ada", &json!({"name": "Ada", "phone": "0170-first"})).expect("put");
    replica.flush().expect("flushed");
    replica.update("people", "ada", &json!({"phone": "0170-second"})).expect("update");
    assert_eq!(phone(&replica), Some(Value::from("0170-second")));
    assert!(matches!(replica.erase("people", "ada", Some("name")), Err(embedded::Error::Repository(Error::NotErasable { .. }))));
    assert_eq!(replica.erase("people", "ada", None).expect("erased"), 2, "what waited was committed first");
    assert_eq!(phone(&replica), None);
    replica.collect().expect("collected");
    replica.update("people", "ada", &json!({"phone": "0170-third"})).expect("update");
    replica.close().expect("it closes");
    let replica = open();
    assert_eq!(phone(&replica), Some(Value::from("0170-third")));
    let files = walk(folder.path());
    for value in ["0170-first", "0170-second"] {
        assert!(!files.windows(value.len()).any(|bytes| bytes == value.as_bytes()), "{value} is on the disk");
    }
    assert!(files.windows(10).any(|bytes| bytes == b"0170-third"), "the test looks in the right places");
}

/// Returns what all files below a folder hold, one after another.
fn walk(folder: &std::path::Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        all.extend(if path.is_dir() { walk(&path) } else { std::fs::read(&path).expect("readable") });
    }
    all
}
