//! What the benchmarks share: a repository that is its own authority.

use std::sync::Arc;

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Entry, Genesis, Kind, Role, SchemaAction},
    id::{BranchName, ReplicaId},
    json,
    time::Time,
};
use herdbook_replica::{
    Repository,
    clock::SystemClock,
    keys,
    repository::{Identity, Settings},
};
use herdbook_store::RocksStore;

/// Secret key of the only replica.
pub(crate) const REPLICA: [u8; 32] = [3; 32];

/// Returns a fresh repository in `store` with one branch under `schema`, a JSON text.
pub(crate) fn repository(store: RocksStore, schema: &str) -> Repository {
    let [root, authority, replica] = [[1; 32], [2; 32], REPLICA].map(|seed| SigningKey::from_bytes(&seed));
    let nonce = keys::random().expect("random bytes");
    let genesis = Genesis { name: "bench".to_owned(), root: root.verifying_key().to_bytes(), created: Time::from_millis(1), nonce };
    let id = genesis.id();
    let certificate = AuthorityCertificate::sign(id, authority.verifying_key().to_bytes(), (1, 1), &root);
    let schema = json::schema_from_json(schema).expect("a valid schema");
    let kinds = [
        Kind::Epoch { certificate },
        Kind::Enrol { replica: ReplicaId(replica.verifying_key().to_bytes()), name: "bench".to_owned(), role: Role::Replica },
        Kind::Schema { branch: BranchName::new("main@1").expect("valid"), action: SchemaAction::Start { from: None, schema } },
    ];
    let mut entries: Vec<Entry> = Vec::new();
    for kind in kinds {
        let place = (1, entries.len() as u64, entries.last().map(Entry::id));
        entries.push(Entry::sign(id, place, Time::from_millis(1), kind, &authority));
    }
    let identity = Identity { replica, genesis: Some(genesis) };
    let repository = Repository::open(Arc::new(store), identity, Arc::new(SystemClock), Settings::default()).expect("it opens");
    repository.extend(&entries).expect("the log is valid");
    repository
}

/// Opens the repository that `store` holds.
#[allow(dead_code, reason = "not every benchmark opens one again")]
pub(crate) fn again(store: RocksStore, settings: Settings) -> Repository {
    let identity = Identity { replica: SigningKey::from_bytes(&REPLICA), genesis: None };
    Repository::open(Arc::new(store), identity, Arc::new(SystemClock), settings).expect("it opens")
}
