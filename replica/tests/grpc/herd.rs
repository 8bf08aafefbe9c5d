//! Whole nodes that talk to each other: members of one repository whose log is at hand, each in a folder of its own.

use std::{path::PathBuf, sync::Arc};

use herdbook_model::{
    SigningKey,
    authority::{Genesis, Role},
    id::{ReplicaId, RepositoryId},
};
use herdbook_proto::cluster::Phase;
use herdbook_replica::{
    Repository,
    actor::RepositoryHandle,
    node::{self, Node, Parts, Phases},
    peers::Peers,
};
use herdbook_store::{RocksStore, Store};
use tempfile::TempDir;

use crate::server::{Authority, genesis, open, replica_id, signing_key};

/// The members, each with the seed of its key.
const MEMBERS: [(&str, u8); 3] = [("alice", 3), ("bob", 4), ("eve", 5)];

/// A repository and the folders of its members.
pub(crate) struct Herd {
    pub(crate) authority: Authority,
    genesis: Genesis,
    folder: TempDir,
}

/// A node that runs.
pub(crate) struct Running {
    pub(crate) node: Node,
    pub(crate) peers: Arc<Peers>,
}

impl Running {
    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.node.listen())
    }

    pub(crate) fn repository(&self) -> &Repository {
        self.node.repository()
    }
}

pub(crate) fn key_of(name: &str) -> SigningKey {
    let (_, seed) = MEMBERS.iter().find(|(member, _)| *member == name).expect("a member");
    signing_key(*seed)
}

impl Herd {
    pub(crate) fn found() -> Self {
        let root = signing_key(1);
        let genesis = genesis(&root);
        let members: Vec<(&str, ReplicaId)> = MEMBERS.iter().map(|(name, seed)| (*name, replica_id(&signing_key(*seed)))).collect();
        let authority = Authority::begin(&genesis, &root, &members);
        Self { authority, genesis, folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn id(&self) -> RepositoryId {
        self.genesis.id()
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens the repository of a member without serving it.
    pub(crate) fn open(&self, name: &str, store: Arc<dyn Store>) -> Repository {
        open(store, &key_of(name), &self.genesis, &self.authority)
    }

    pub(crate) fn open_store(&self, name: &str) -> RocksStore {
        let folder = self.folder(name);
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        RocksStore::open(folder.join("store"), &herdbook_store::Settings::default()).expect("the store opens")
    }

    /// Runs a member that calls those at `calls`.
    pub(crate) async fn start(&self, name: &str, calls: &[String]) -> Running {
        let store = Arc::new(self.open_store(name));
        self.start_on(name, calls, store.clone(), store).await
    }

    /// Runs a member whose repository lies in `data`; `store` gives the figures of its disk.
    pub(crate) async fn start_on(&self, name: &str, calls: &[String], data: Arc<dyn Store>, store: Arc<RocksStore>) -> Running {
        let key = key_of(name);
        let repository = open(data, &key, &self.genesis, &self.authority);
        let loopback = "127.0.0.1:0".parse().expect("an address");
        let settings = node::Settings {
            data: self.folder(name),
            listen: loopback,
            http: Some(loopback),
            name: name.to_owned(),
            advertise: None,
            coordinator: None,
            token: None,
            peers: calls.to_vec(),
            cache_bytes: None,
            collect_at: None,
            fold_edits: None,
        };
        let peers = Arc::new(Peers::default());
        let parts = Parts {
            listener: node::bind(settings.listen).expect("loopback"),
            enrolment: node::enrolment(&repository).expect("the log is readable"),
            writer: RepositoryHandle::start(repository.clone()),
            settings,
            repository,
            store,
            key,
            role: Role::Replica,
            authority: None,
            observer: None,
            peers: peers.clone(),
            phase: Phases::new(Phase::Serving),
        };
        Running { node: node::run(parts).await.expect("it runs"), peers }
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("not within 30 s: {what}");
}
