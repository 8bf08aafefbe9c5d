//! What tests of one repository alone share: it is its own authority, and is opened again and again.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Entry, Genesis, Kind, Role, SchemaAction},
    id::{BranchName, ReplicaId, RequestKey},
    json,
    state::State,
    time::Time,
    value::{Key, Scalar, Value},
};
use herdbook_replica::{
    Repository,
    clock::SystemClock,
    repository::{Ask, DocumentChange, DocumentEdit, Identity, Settings},
};
use herdbook_store::RocksStore;

const SCHEMA: &str = r#"{"version": 1, "collections": {"items": {"fields": [{"name": "score", "type": "int"}]}}}"#;

/// Few enough that a fold is mostly under way.
pub(crate) const FOLD: u64 = 30;

pub(crate) fn open(folder: &Path, genesis: Option<Genesis>) -> Repository {
    open_folding(folder, genesis, FOLD)
}

/// Opens a repository that folds after so many edits.
pub(crate) fn open_folding(folder: &Path, genesis: Option<Genesis>, fold_edits: u64) -> Repository {
    // Hardly any cache: what is read is in the store.
    open_with(folder, genesis, Settings { fold_edits, node_cache: 1, ..Settings::default() })
}

pub(crate) fn open_with(folder: &Path, genesis: Option<Genesis>, settings: Settings) -> Repository {
    let store = RocksStore::open(folder.join("store"), &herdbook_store::Settings::default()).expect("nobody holds it any more");
    let identity = Identity { replica: SigningKey::from_bytes(&[3; 32]), genesis };
    Repository::open(Arc::new(store), identity, Arc::new(SystemClock), settings).expect("it opens")
}

pub(crate) fn found(folder: &Path) -> Repository {
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

pub(crate) fn ask(number: u64, key: Key, change: DocumentChange) -> Ask {
    let edits = vec![DocumentEdit { collection: "items".into(), key, change }];
    let key = RequestKey(u128::from(number).to_be_bytes());
    Ask { branch: None, key, principal: String::new(), wanted: Vec::new(), edits, message: String::new() }
}

pub(crate) fn put(number: u64, name: &str) -> Ask {
    let fields = vec![("score".into(), Value::Scalar(Scalar::Int(number.cast_signed())))];
    ask(number, Key::new(name).expect("short"), DocumentChange::Put(fields))
}

pub(crate) fn scores(repository: &Repository) -> BTreeMap<String, i64> {
    scores_in(repository, repository.view().state(None).expect("one branch"))
}

pub(crate) fn scores_in(repository: &Repository, state: &State) -> BTreeMap<String, i64> {
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

/// Signs an entry on top of the log of a repository, which takes it.
#[allow(dead_code, reason = "not every test signs")]
pub(crate) fn sign(repository: &Repository, kind: Kind) -> Entry {
    let newest = repository.view().log.newest().expect("it was founded");
    let place = (newest.epoch, newest.seq + 1, Some(newest.id));
    let entry = Entry::sign(repository.id(), place, repository.now(), kind, &SigningKey::from_bytes(&[2; 32]));
    repository.extend(std::slice::from_ref(&entry)).expect("it extends the log");
    entry
}
