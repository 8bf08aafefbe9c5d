//! Key files: a replica's own key, made where it lives, readable by its owner only.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use herdbook_model::SigningKey;

/// What can go wrong with a key file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("key file {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// It does not hold a key.
    #[error("key file {} must hold 64 hex digits", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
}

/// Returns `N` unpredictable bytes from the system.
///
/// # Errors
/// [`Error::NoRandom`].
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandom)?;
    Ok(bytes)
}

/// Returns a fresh key.
///
/// # Errors
/// [`Error::NoRandom`].
pub fn generate() -> Result<SigningKey, Error> {
    random().map(|secret| SigningKey::from_bytes(&secret))
}

/// Reads the key in `path`; makes one there if there is none.
///
/// # Errors
/// [`Error`].
pub fn load_or_create(path: &Path) -> Result<SigningKey, Error> {
    match fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = generate()?;
            save(path, &key)?;
            Ok(key)
        }
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

/// Reads the key in `path`.
///
/// # Errors
/// [`Error`].
pub fn load(path: &Path) -> Result<SigningKey, Error> {
    let text = fs::read_to_string(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Writes `key` to `path`, which must not exist, readable by its owner only, and syncs it.
///
/// # Errors
/// [`Error::Io`].
pub fn save(path: &Path, key: &SigningKey) -> Result<(), Error> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let text: String = key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let write = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()
    };
    write().map_err(|source| Error::Io { path: path.to_owned(), source })
}

fn parse(path: &Path, text: &str) -> Result<SigningKey, Error> {
    let key = herdbook_model::id::ChunkId::from_hex(text.trim()).map(|bytes| SigningKey::from_bytes(&bytes.0));
    key.ok_or_else(|| Error::Malformed { path: path.to_owned() })
}
