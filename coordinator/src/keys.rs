//! The authority's keys: a folder that outlives the data. With it alone a lost server comes back.
//!
//! | file | what |
//! |---|---|
//! | `root.key` | certifies authority keys; belongs off the machine once that is done |
//! | `authority.key` | signs the head log |
//! | `authority.cert` | the root's certificate for it |
//! | `replica.key` | the coordinator's own replica |
//! | `genesis` | the genesis record, canonical bytes |
//! | `unused` | there until the keys open their first epoch |
//! | `signed.0`, `signed.1` | what was signed last; see [`crate::signed`] |

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Genesis},
    codec::{self, Decode as _, Encode as _},
    time::Time,
};
use herdbook_replica::keys;

/// What can go wrong with the folder of keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("key folder: {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A record does not decode.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: codec::Error,
    },
    /// The certificate does not fit the keys.
    #[error("the authority's certificate in {} does not fit its keys", folder.display())]
    Mismatch {
        /// The folder.
        folder: PathBuf,
    },
    /// A key file.
    #[error(transparent)]
    Key(#[from] keys::Error),
}

/// The authority's keys, loaded.
#[derive(Clone)]
pub struct Keys {
    /// Where the repository began.
    pub genesis: Genesis,
    /// Signs the head log.
    pub authority: SigningKey,
    /// The root's word for it.
    pub certificate: AuthorityCertificate,
    /// The coordinator's own replica.
    pub replica: SigningKey,
}

impl Keys {
    /// Loads the folder, or makes the keys of a new repository called `name` in it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(folder: &Path, name: &str, now: Time) -> Result<Self, Error> {
        let genesis_path = folder.join("genesis");
        match fs::read(&genesis_path) {
            Ok(bytes) => Self::load(folder, &genesis_path, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(folder, name, now),
            Err(source) => Err(Error::Io { path: genesis_path, source }),
        }
    }

    fn load(folder: &Path, genesis_path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let damaged = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Damaged { path, source }
        };
        let genesis = Genesis::from_bytes(bytes).map_err(damaged(genesis_path))?;
        let path = folder.join("authority.cert");
        let bytes = fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let certificate = AuthorityCertificate::from_bytes(&bytes).map_err(damaged(&path))?;
        let authority = keys::load(&folder.join("authority.key"))?;
        let fits = certificate.verify(&genesis.root).is_ok()
            && certificate.repository == genesis.id()
            && certificate.key == authority.verifying_key().to_bytes();
        if !fits {
            return Err(Error::Mismatch { folder: folder.to_owned() });
        }
        Ok(Self { genesis, authority, certificate, replica: keys::load(&folder.join("replica.key"))? })
    }

    /// The genesis record is written last: a folder that holds it holds everything.
    fn make(folder: &Path, name: &str, now: Time) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.to_owned(), source })?;
        let root = keys::load_or_create(&folder.join("root.key"))?;
        let authority = keys::load_or_create(&folder.join("authority.key"))?;
        let replica = keys::load_or_create(&folder.join("replica.key"))?;
        let genesis = Genesis { name: name.to_owned(), root: root.verifying_key().to_bytes(), created: now, nonce: keys::random()? };
        let certificate = AuthorityCertificate::sign(genesis.id(), authority.verifying_key().to_bytes(), (1, u64::MAX), &root);
        write(&folder.join("authority.cert"), &certificate.to_bytes())?;
        write(&folder.join(UNUSED), b"")?;
        write(&folder.join("genesis"), &genesis.to_bytes())?;
        Ok(Self { genesis, authority, certificate, replica })
    }
}

/// Keys that opened no epoch yet.
const UNUSED: &str = "unused";

/// Whether the keys have opened no epoch yet; from here on they have. Keys without that mark never found a repository, they restore one: to
/// sign a second beginning would be a fork.
///
/// # Errors
/// [`Error::Io`] if the mark cannot be taken away; then nothing may be founded.
pub fn take_unused(folder: &Path) -> Result<bool, Error> {
    let path = folder.join(UNUSED);
    let named = |source| Error::Io { path: path.clone(), source };
    match fs::remove_file(&path) {
        Ok(()) => fs::File::open(folder).and_then(|folder| folder.sync_all()).map(|()| true).map_err(named),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(named(error)),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write as _;
    let write = || {
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| Error::Io { path: path.to_owned(), source })
}
