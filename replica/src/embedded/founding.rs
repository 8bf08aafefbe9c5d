//! A repository of an application's own: its keys are made in the folder, and it is its own authority.
//!
//! The folder of keys is laid out as a coordinator's, so that a coordinator can take the repository on later.

use std::{fs, io, path::Path, sync::Arc};

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Entry, Genesis, Kind, Role, SchemaAction},
    codec::{Decode as _, Encode as _},
    id::BranchName,
    schema::Schema,
};
use herdbook_store::RocksStore;
use parking_lot::Mutex;

use super::builder::Error;
use crate::{
    clock::{Clock as _, SystemClock},
    error::Error as RepositoryError,
    keys,
    node::{self, Settings},
    repository::{Identity, Repository},
};

/// Whether the repository in `folder` was founded there.
pub(super) fn is_founded(folder: &Path) -> bool {
    folder.join("keys/genesis").exists()
}

/// Opens the repository in the folder without connecting to anybody; founds it if there is none and a schema is given.
pub(super) fn open(settings: &Settings, schema: Option<&Schema>) -> Result<Repository, Error> {
    let (folder, founded) = (&settings.data, is_founded(&settings.data));
    let joined = !founded && folder.join("replica.key").exists();
    if !founded && !joined && schema.is_none() {
        return Err(Error::NothingHere { folder: folder.clone() });
    }
    let store = node::open_store(settings)?;
    if joined {
        let key = keys::load(&folder.join("replica.key"))?;
        return open_in(store, Identity { replica: key, genesis: None }, settings);
    }
    let keys = folder.join("keys");
    let genesis = if founded { read_genesis(&keys)? } else { make(&keys, &settings.name)? };
    let identity = Identity { replica: keys::load(&keys.join("replica.key"))?, genesis: Some(genesis) };
    let repository = open_in(store, identity, settings)?;
    if repository.view().log.newest().is_none() {
        // Also where a first opening was broken off after the keys were made.
        let schema = schema.ok_or_else(|| Error::NothingHere { folder: folder.clone() })?;
        found(&repository, &keys, &settings.name, schema)?;
    }
    Ok(repository)
}

fn open_in(store: Arc<RocksStore>, identity: Identity, settings: &Settings) -> Result<Repository, Error> {
    Ok(Repository::open(store, identity, Arc::new(SystemClock), node::repository_settings(settings))?)
}

/// Makes the keys. The genesis record is written last: a folder that holds it holds everything.
fn make(folder: &Path, name: &str) -> Result<Genesis, Error> {
    let root = keys::load_or_create(&folder.join("root.key"))?;
    let authority = keys::load_or_create(&folder.join("authority.key"))?;
    keys::load_or_create(&folder.join("replica.key"))?;
    let genesis =
        Genesis { name: name.to_owned(), root: root.verifying_key().to_bytes(), created: SystemClock.now(), nonce: keys::random()? };
    let certificate = AuthorityCertificate::sign(genesis.id(), authority.verifying_key().to_bytes(), (1, u64::MAX), &root);
    write(&folder.join("authority.cert"), &certificate.to_bytes())?;
    write(&folder.join("genesis"), &genesis.to_bytes())?;
    Ok(genesis)
}

/// Signs the first entries of the head log, all or none of which are kept.
fn found(repository: &Repository, keys: &Path, name: &str, schema: &Schema) -> Result<(), Error> {
    let authority = keys::load(&keys.join("authority.key"))?;
    let certificate = AuthorityCertificate::from_bytes(&read(&keys.join("authority.cert"))?)
        .map_err(|source| RepositoryError::Record { what: "authority's certificate", source })?;
    let branch = BranchName::new(format!("main@{}", schema.version)).map_err(RepositoryError::from)?;
    let kinds = [
        Kind::Epoch { certificate },
        Kind::Enrol { replica: repository.replica(), name: name.to_owned(), role: Role::Coordinator },
        Kind::Schema { branch, action: SchemaAction::Start { from: None, schema: schema.clone() } },
    ];
    repository.extend(&chained(repository, kinds, &authority))?;
    // What a coordinator looks for to tell lost data from a first start.
    write(&keys.join("used"), b"")
}

/// Begins a branch apart at all that another has. Only where the repository was founded: its own authority accepts what it has.
pub(super) fn begin_branch(repository: &Repository, folder: &Path, name: &BranchName, from: Option<&BranchName>) -> Result<(), Error> {
    let view = repository.view();
    let from = view.state(from)?;
    let action = SchemaAction::Branch { from: from.branch().clone(), heads: from.frontier().ids() };
    append(repository, folder, Kind::Schema { branch: name.clone(), action })
}

/// Lets the founder's own authority say one thing more.
pub(super) fn append(repository: &Repository, folder: &Path, kind: Kind) -> Result<(), Error> {
    /// One entry after another: two for one place would be a fork.
    static SIGNING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = SIGNING.lock();
    let authority = keys::load(&folder.join("keys/authority.key"))?;
    let newest = repository.view().log.newest().ok_or(RepositoryError::NoSchema)?;
    let entry = Entry::sign(repository.id(), (newest.epoch, newest.seq + 1, Some(newest.id)), repository.now(), kind, &authority);
    Ok(repository.extend(&[entry])?)
}

fn chained(repository: &Repository, kinds: [Kind; 3], authority: &SigningKey) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(kinds.len());
    for (seq, kind) in (0..).zip(kinds) {
        let place = (1, seq, entries.last().map(Entry::id));
        entries.push(Entry::sign(repository.id(), place, repository.now(), kind, authority));
    }
    entries
}

fn read_genesis(folder: &Path) -> Result<Genesis, Error> {
    let record = |source| RepositoryError::Record { what: "genesis record", source };
    Ok(Genesis::from_bytes(&read(&folder.join("genesis"))?).map_err(record)?)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })
}

/// Writes a file as a whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let part = path.with_extension("part");
    let write = || -> io::Result<()> {
        use io::Write as _;
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|source| Error::Io { path: path.to_owned(), source })
}
