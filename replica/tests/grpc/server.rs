//! A server to test against: one replica's repository on disk with its services on loopback, the authority's key at hand, and a second
//! replica in memory whose commits are concurrent.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Entry, Genesis, Kind as EntryKind, Role, SchemaAction, Void},
    id::{BranchName, CommitId, Leaf, ReplicaId, RequestKey, StateName},
    json,
    request::Sealed,
    time::Time,
    value::{Key, Scalar, Value},
    vector::VersionVector,
};
use herdbook_proto::{
    client::Client,
    cluster::Phase,
    document::{At, Document, Name, Place},
    edit::{Change, Edit, Operation, Write},
    read::{Count, Get, List},
};
use herdbook_replica::{
    Repository,
    actor::RepositoryHandle,
    clock::SystemClock,
    grpc, keys,
    node::Phases,
    peers::Peers,
    repository::{Ask, Committed, DocumentChange, DocumentEdit, FieldChange, Identity, Received, Settings},
};
use herdbook_store::{Durability, MemoryStore, RocksStore, Store};
use parking_lot::Mutex;
use tempfile::TempDir;

const SCHEMA: &str = r#"{"version": 1, "collections": {
    "cities": {"fields": [
        {"name": "name", "type": "string"},
        {"name": "population", "type": "int"},
        {"name": "mayor", "type": "string", "policy": "strict"},
        {"name": "names", "type": "set<string>"},
        {"name": "twins", "type": "map<int>"}]},
    "rivers": {"fields": [{"name": "name", "type": "string"}]}}}"#;

thread_local! {
    /// Stores that the test of this thread opened, each with its folder.
    static STORES: RefCell<Vec<(Arc<RocksStore>, TempDir)>> = const { RefCell::new(Vec::new()) };
}

/// Runs a test under an actor system on several threads, as a node runs, and insists that what it opened closes: an engine that still runs
/// when the process ends would abort it.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    actix_rt::System::with_tokio_rt(runtime).block_on(async {
        test.await;
        for (store, folder) in STORES.take() {
            close(store).await;
            drop(folder);
        }
    });
}

/// Closes a store as soon as nobody else holds it.
async fn close(mut store: Arc<RocksStore>) {
    for _ in 0..2000 {
        match Arc::try_unwrap(store) {
            Ok(last) => return drop(last),
            Err(held) => store = held,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the server has ended and its store is held {} times", Arc::strong_count(&store) - 1);
}

/// Who signs the head log.
pub(crate) struct Authority {
    repository: herdbook_model::id::RepositoryId,
    key: SigningKey,
    entries: Mutex<Vec<Entry>>,
}

impl Authority {
    pub(crate) fn begin(genesis: &Genesis, root: &SigningKey, members: &[(&str, ReplicaId)]) -> Self {
        let (repository, key) = (genesis.id(), signing_key(2));
        let certificate = AuthorityCertificate::sign(repository, key.verifying_key().to_bytes(), (1, 9), root);
        let authority = Self { repository, key, entries: Mutex::default() };
        authority.sign(EntryKind::Epoch { certificate });
        for (name, replica) in members {
            authority.sign(EntryKind::Enrol { replica: *replica, name: (*name).to_owned(), role: Role::Replica });
        }
        let schema = json::schema_from_json(SCHEMA).expect("a valid schema");
        authority.sign(EntryKind::Schema { branch: branch(), action: SchemaAction::Start { from: None, schema } });
        authority
    }

    /// Signs the next entry.
    pub(crate) fn sign(&self, kind: EntryKind) -> Entry {
        let mut entries = self.entries.lock();
        let previous = entries.last().map(Entry::id);
        let entry = Entry::sign(self.repository, (1, entries.len() as u64, previous), Time::from_millis(1), kind, &self.key);
        entries.push(entry.clone());
        entry
    }

    /// Accepts what `repository` has of the branch, with its root.
    pub(crate) fn accept_with_root(&self, repository: &Repository) -> Entry {
        repository.materialise().expect("it folds");
        let view = repository.view();
        let state = view.state(None).expect("the branch is there");
        let entry = self.sign(EntryKind::Head { branch: branch(), heads: state.frontier().ids(), root: state.root(), voids: Vec::new() });
        repository.extend(std::slice::from_ref(&entry)).expect("the entry extends the log");
        entry
    }

    /// Accepts what `repository` has of the branch, without the requests in `voids`.
    pub(crate) fn accept(&self, repository: &Repository, voids: Vec<Void>) -> Entry {
        let heads = repository.view().state(None).expect("the branch is there").frontier().ids();
        let entry = self.sign(EntryKind::Head { branch: branch(), heads, root: None, voids });
        repository.extend(std::slice::from_ref(&entry)).expect("the entry extends the log");
        entry
    }

    fn entries(&self) -> Vec<Entry> {
        self.entries.lock().clone()
    }
}

/// A served replica, and beside it another one in memory.
pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    pub(crate) handle: RepositoryHandle,
    pub(crate) phases: Arc<Phases>,
    pub(crate) authority: Authority,
    /// The second replica, not served.
    pub(crate) bob: Repository,
    bobs: RefCell<Option<RepositoryHandle>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.stop();
        self.bobs.take().iter().for_each(RepositoryHandle::stop);
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let (root, alice, bob) = (signing_key(1), signing_key(3), signing_key(4));
        let genesis = genesis(&root);
        let members = [("alice", replica_id(&alice)), ("bob", replica_id(&bob))];
        let authority = Authority::begin(&genesis, &root, &members);
        let folder = tempfile::tempdir().expect("a folder");
        let store = RocksStore::open(folder.path().join("store"), &herdbook_store::Settings::default()).expect("a fresh store opens");
        let store = Arc::new(store);
        let repository = open(store.clone(), &alice, &genesis, &authority);
        let bob = open(Arc::new(MemoryStore::default()), &bob, &genesis, &authority);
        let (handle, phases) = (RepositoryHandle::start(repository), Phases::new(Phase::Serving));
        let address = serve(&handle, &phases).await;
        let client = Client::connect(&[address.to_string()]).await.expect("the server answers");
        STORES.with_borrow_mut(|stores| stores.push((store, folder)));
        Self { client, address, handle, phases, authority, bob, bobs: RefCell::default() }
    }

    pub(crate) fn repository(&self) -> &Repository {
        self.handle.repository()
    }

    /// Serves the second replica too.
    pub(crate) async fn serve_bob(&self) -> Client {
        let handle = RepositoryHandle::start(self.bob.clone());
        let address = serve(&handle, &self.phases).await;
        self.bobs.replace(Some(handle));
        Client::connect(&[address.to_string()]).await.expect("the server answers")
    }

    /// Brings the commits of either replica to the other.
    pub(crate) fn exchange(&self) {
        deliver(self.repository(), &self.bob);
        deliver(&self.bob, self.repository());
    }

    /// What must not change when a request is refused.
    pub(crate) fn digest(&self) -> ([u8; 32], Vec<StateName>) {
        let view = self.repository().view();
        (view.digest(), view.branches.values().map(herdbook_model::state::State::name).collect())
    }

    pub(crate) async fn commit(&self, edits: Vec<Edit>) -> CommitId {
        self.client.commit(write(edits)).await.expect("it commits").commit
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Document> {
        self.client.get(Get { place: Place::NEWEST, name: city(key) }).await.expect("it reads")
    }

    pub(crate) async fn get_at(&self, key: &str, at: At) -> Option<Document> {
        self.client.get(Get { place: Place { repository: None, at }, name: city(key) }).await.expect("it reads")
    }

    pub(crate) async fn count(&self, prefix: &str) -> u64 {
        let count = Count { place: Place::NEWEST, collection: "cities".into(), prefix: prefix.to_owned() };
        self.client.count(count).await.expect("it counts").documents
    }
}

pub(crate) fn genesis(root: &SigningKey) -> Genesis {
    Genesis {
        name: "cities".to_owned(),
        root: root.verifying_key().to_bytes(),
        created: Time::from_millis(1),
        nonce: keys::random().expect("random bytes"),
    }
}

async fn serve(handle: &RepositoryHandle, phases: &Arc<Phases>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.set_nonblocking(true).expect("a listener can be told");
    let address = listener.local_addr().expect("it is bound");
    let router = grpc::router(handle, Arc::new(Peers::default()), phases.clone()).await;
    let mut ended = handle.ended();
    let stopped = async move {
        let _ = ended.wait_for(|ended| *ended).await;
    };
    tokio::spawn(router.serve_with_incoming_shutdown(grpc::incoming(listener).expect("it listens"), stopped));
    address
}

pub(crate) fn open(store: Arc<dyn Store>, key: &SigningKey, genesis: &Genesis, authority: &Authority) -> Repository {
    let identity = Identity { replica: key.clone(), genesis: Some(genesis.clone()) };
    let repository = Repository::open(store, identity, Arc::new(SystemClock), Settings::default()).expect("it opens");
    repository.extend(&authority.entries()).expect("the log is valid");
    repository
}

/// Brings the commits that `to` lacks.
fn deliver(from: &Repository, to: &Repository) {
    to.receive(lacking(from, &to.view().vector())).expect("it is taken");
}

/// Returns the commits of `from` that who holds `held` lacks, as an exchange brings them.
pub(crate) fn lacking(from: &Repository, held: &VersionVector) -> Vec<Received> {
    let missing = held.missing_from(&from.view().vector());
    let mut commits = Vec::new();
    for range in missing {
        for counter in range.first..=range.last {
            let id = from.at(&range.chain, counter).expect("readable").expect("it is there");
            let stored = from.stored(&id).expect("readable").expect("it is there");
            let requests = stored.requests.iter().map(|bytes| bytes.as_ref().ok());
            commits.push(Received {
                certificate: from.certificate(&stored.commit.header().session).expect("readable"),
                requests: requests.map(|bytes| bytes.map(|bytes| Sealed::read(bytes.as_slice()).expect("canonical"))).collect(),
                leaves: stored.leaves.clone(),
                documents: BTreeMap::new(),
                commit: stored.commit,
            });
        }
    }
    commits.sort_by_key(|received| received.commit.header().time);
    commits
}

pub(crate) fn signing_key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn replica_id(key: &SigningKey) -> ReplicaId {
    ReplicaId(key.verifying_key().to_bytes())
}

pub(crate) fn branch() -> BranchName {
    BranchName::new("main@1").expect("a valid name")
}

/// Returns an idempotency key that was not used before.
pub(crate) fn request_key() -> RequestKey {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut key = [0; 16];
    key[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    RequestKey(key)
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).expect("a short key")
}

pub(crate) fn city(text: &str) -> Name {
    Name { collection: "cities".into(), key: key(text) }
}

pub(crate) fn text(text: &str) -> Value {
    Value::Scalar(Scalar::from(text))
}

pub(crate) fn int(number: i64) -> Value {
    Value::Scalar(Scalar::Int(number))
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Vec<(Arc<str>, Value)> {
    let mut fields: Vec<(Arc<str>, Value)> = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
    fields.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields
}

pub(crate) fn create<const N: usize>(key: &str, values: [(&str, Value); N]) -> Edit {
    Edit { name: city(key), operation: Operation::Create(fields(values)) }
}

pub(crate) fn put<const N: usize>(key: &str, values: [(&str, Value); N]) -> Edit {
    Edit { name: city(key), operation: Operation::Put(fields(values)) }
}

pub(crate) fn update<const N: usize>(key: &str, values: [(&str, Value); N]) -> Edit {
    let changes = fields(values).into_iter().map(|(name, value)| (name, Change::Set(value)));
    Edit { name: city(key), operation: Operation::Update(changes.collect()) }
}

pub(crate) fn delete(key: &str) -> Edit {
    Edit { name: city(key), operation: Operation::Delete }
}

pub(crate) fn write(edits: Vec<Edit>) -> Write {
    Write::new(request_key(), edits)
}

pub(crate) fn list(prefix: &str, page_size: u32) -> List {
    let (collection, prefix) = ("cities".into(), prefix.to_owned());
    List { place: Place::NEWEST, collection, prefix, page_size, page_token: bytes::Bytes::new(), keys_only: false }
}

/// Changes one field of a city at a replica that is not served.
pub(crate) fn set_at(repository: &Repository, document: &str, field: &str, value: Value) -> Committed {
    let change = DocumentChange::Update(vec![(field.into(), FieldChange::Set(value))]);
    commit_at(repository, document, change)
}

/// Does something to a city at a replica that is not served.
pub(crate) fn commit_at(repository: &Repository, document: &str, change: DocumentChange) -> Committed {
    let ask = Ask {
        branch: None,
        key: request_key(),
        principal: String::new(),
        wanted: Vec::new(),
        edits: vec![DocumentEdit { collection: "cities".to_owned(), key: key(document), change }],
        message: String::new(),
    };
    repository.commit_one(ask, Durability::Process).expect("it commits")
}

/// Returns a version that no document has.
pub(crate) const fn no_version() -> Leaf {
    Leaf([9; 32])
}
