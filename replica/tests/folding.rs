//! A repository that folds beside its writer says the same as one that never did, whenever it is closed.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Entry, Genesis, Kind, Role, SchemaAction},
    id::{BranchName, ReplicaId, RequestKey},
    json,
    time::Time,
    value::{Key, Scalar, Value},
};
use herdbook_replica::{
    Repository,
    clock::SystemClock,
    repository::{Ask, DocumentChange, DocumentEdit, Identity, Settings},
};
use herdbook_store::{Durability, RocksStore};

const SCHEMA: &str = r#"{"version": 1, "collections": {"items": {"fields": [{"name": "score", "type": "int"}]}}}"#;

/// Few enough that a fold is mostly under way.
const FOLD: u64 = 30;

fn open(folder: &Path, genesis: Option<Genesis>) -> Repository {
    let store = RocksStore::open(folder.join("store"), &herdbook_store::Settings::default()).expect("nobody holds it any more");
    let identity = Identity { replica: SigningKey::from_bytes(&[3; 32]), genesis };
    let settings = Settings { fold_edits: FOLD, ..Settings::default() };
    Repository::open(Arc::new(store), identity, Arc::new(SystemClock), settings).expect("it opens")
}

fn found(folder: &Path) -> Repository {
    let [root, authority, replica] = [1, 2, 3].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let genesis = Genesis { name: "test".to_owned(), root: root.verifying_key().to_bytes(), created: Time::ZERO, nonce: [0; 16] };
    let (id, branch) = (genesis.id(), BranchName::new("main@1").expect("valid"));
    let kinds = [
        Kind::Epoch { certificate: AuthorityCertificate::sign(id, authority.verifying_key().to_bytes(), (1, 1), &root) },
        Kind::Enrol { replica: ReplicaId(replica.verifying_key().to_bytes()), name: "test".to_owned(), role: Role::Replica },
        Kind::Schema { branch, action: SchemaAction::Start { from: None, schema: json::schema_from_json(SCHEMA).expect("valid") } },
    ];
    let mut entries: Vec<Entry> = Vec::new();
    for kind in kinds {
        let place = (1, entries.len() as u64, entries.last().map(Entry::id));
        entries.push(Entry::sign(id, place, Time::from_millis(1), kind, &authority));
    }
    let repository = open(folder, Some(genesis));
    repository.extend(&entries).expect("the log is valid");
    repository
}

fn ask(number: u64, key: Key, change: DocumentChange) -> Ask {
    let edits = vec![DocumentEdit { collection: "items".into(), key, change }];
    let key = RequestKey(u128::from(number).to_be_bytes());
    Ask { branch: None, key, principal: String::new(), wanted: Vec::new(), edits, message: String::new() }
}

fn scores(repository: &Repository) -> BTreeMap<String, i64> {
    let view = repository.view();
    let state = view.state(None).expect("one branch");
    let collection = state.schema().collection("items").expect("it is there");
    let scan = repository.scan(state, collection.id, "", None).expect("it reads");
    scan.map(|document| {
        let (key, document) = document.expect("it reads");
        let fields = document.view(collection).expect("it lives").fields;
        let Some(Value::Scalar(Scalar::Int(score))) = fields.get("score") else { panic!("a score: {fields:?}") };
        (key.as_str().to_owned(), *score)
    })
    .collect()
}

#[test]
fn what_is_folded_beside_the_writer_is_what_was_committed() {
    let folder = tempfile::tempdir().expect("folder");
    let mut repository = found(folder.path());
    let (mut expected, mut folds) = (BTreeMap::new(), 0);
    for number in 0..2_000_u64 {
        let name = format!("item-{:03}", number.wrapping_mul(0x9e37_79b9) % 211);
        let key = Key::new(name.as_str()).expect("short");
        let change = if number % 7 == 3 && expected.remove(&name).is_some() {
            DocumentChange::Delete
        } else {
            expected.insert(name, number as i64);
            DocumentChange::Put(vec![("score".into(), Value::Scalar(Scalar::Int(number as i64)))])
        };
        let before = repository.view().state(None).expect("one branch").trees().clone();
        repository.commit_one(ask(number, key, change), Durability::Process).expect("it commits");
        folds += u32::from(*repository.view().state(None).expect("one branch").trees() != before);
        if number % 331 == 330 {
            // Closed with a fold under way, mostly: it must not hold the store.
            drop(repository);
            repository = open(folder.path(), None);
            assert_eq!(scores(&repository), expected, "after {number} and a restart");
        }
    }
    assert_eq!(scores(&repository), expected);
    assert!(folds >= 20, "trees were taken over {folds} times");
    repository.materialise().expect("it folds");
    assert_eq!(scores(&repository), expected);
    let report = repository.fsck(|_| ()).expect("it reads");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// The fault: the last owner of a repository was a callback on the store's thread, which then waited for a fold that waited for this thread.
#[test]
fn a_repository_that_is_dropped_while_it_commits_and_folds_is_closed() {
    let folder = tempfile::tempdir().expect("folder");
    drop(found(folder.path()));
    for round in 0..40_u64 {
        let repository = open(folder.path(), None);
        let asks = (0..FOLD + 5).map(|at| {
            let key = Key::new(format!("item-{at}")).expect("short");
            ask(round * 1000 + at, key, DocumentChange::Put(vec![("score".into(), Value::Scalar(Scalar::Int(round as i64)))]))
        });
        repository.commit(asks.collect(), Durability::Durable, |_, _| ());
    }
    let repository = open(folder.path(), None);
    assert_eq!(scores(&repository).into_values().collect::<std::collections::BTreeSet<_>>(), [39].into());
}
