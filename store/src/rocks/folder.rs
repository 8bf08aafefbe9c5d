//! The folder of a store: what lies in it, its format, and that one store object at a time has it.
//!
//! - `FORMAT`: text, `herdbook store 1`. Written first; a folder without it is not a store.
//! - `LOCK`: locked by the operating system while the store is open, free again when the process ends, however it ends.
//! - `MARKER`: how far acknowledgements went, see [`marker`](super::marker).
//! - `db/`: the engine's files.
//! - `ingest/`: files on their way into `db/`; removed on opening.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use crate::Error;

/// The newest format this build reads, and the one it writes.
pub const FORMAT: u32 = 2;

const FORMAT_PREFIX: &str = "herdbook store ";

/// What may lie in a folder that is to become a store: traces of an earlier try, and what a fresh file system has.
const HARMLESS: [&str; 3] = ["LOCK", "FORMAT.new", "lost+found"];

/// A locked store folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Holds the lock until dropped.
    _lock: File,
}

impl Folder {
    /// Locks the store folder at `path`, making it if that is wanted and there is none.
    pub(crate) fn open(path: &Path, create: bool) -> Result<Self, Error> {
        let is_store = read_format(path)?;
        if !is_store {
            if !create {
                return Err(Error::Absent { folder: path.to_owned() });
            }
            make(path)?;
        }
        let lock = lock(path)?;
        if !is_store {
            write_format(path)?;
        }
        let folder = Self { path: path.to_owned(), _lock: lock };
        remove_if_present(&folder.ingest())?;
        Ok(folder)
    }

    /// Returns its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where the engine's files are.
    pub(crate) fn db(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Returns where the marker is.
    pub(crate) fn marker(&self) -> PathBuf {
        self.path.join("MARKER")
    }

    /// Returns where files wait to be taken in.
    pub(crate) fn ingest(&self) -> PathBuf {
        self.path.join("ingest")
    }

    /// Whether the engine has made its files.
    pub(crate) fn has_data(&self) -> bool {
        self.db().join("CURRENT").exists()
    }

    /// Returns the sizes of the engine's files with one of `endings`, in bytes.
    pub(crate) fn file_sizes(&self, endings: &[&str]) -> Result<Vec<u64>, Error> {
        let db = self.db();
        let entries = match fs::read_dir(&db) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", db, error)),
        };
        let mut sizes = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::io("list", &db, error))?;
            if endings.iter().any(|ending| entry.path().extension().is_some_and(|extension| extension == *ending)) {
                // A file that the engine removed meanwhile has no size.
                sizes.extend(entry.metadata().map(|metadata| metadata.len()));
            }
        }
        Ok(sizes)
    }
}

/// Makes `path` the folder of an empty store, or finds it fit to become one.
fn make(path: &Path) -> Result<(), Error> {
    match fs::create_dir(path) {
        Ok(()) => sync_folder(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NoParent { folder: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let entries = fs::read_dir(path).map_err(|error| Error::io("list", path, error))?;
            for entry in entries {
                let name = entry.map_err(|error| Error::io("list", path, error))?.file_name();
                if !HARMLESS.iter().any(|harmless| name == *harmless) {
                    return Err(Error::Foreign { folder: path.to_owned(), found: name.to_string_lossy().into_owned() });
                }
            }
            Ok(())
        }
        Err(error) => Err(Error::io("make", path, error)),
    }
}

/// Returns whether `path` is a store of a format this build reads.
fn read_format(path: &Path) -> Result<bool, Error> {
    let text = match fs::read(path.join("FORMAT")) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Error::io("read", path.join("FORMAT"), error)),
    };
    match text.trim_end().strip_prefix(FORMAT_PREFIX).and_then(|number| number.parse().ok()) {
        Some(FORMAT) => Ok(true),
        Some(found) if found > FORMAT => Err(Error::NewerFormat { folder: path.to_owned(), found, supported: FORMAT }),
        Some(found) => Err(Error::OlderFormat { folder: path.to_owned(), found, supported: FORMAT }),
        None => Err(Error::Foreign { folder: path.to_owned(), found: "FORMAT".to_owned() }),
    }
}

/// Declares the folder a store of this build's format; afterwards that is on the disk.
pub(super) fn write_format(path: &Path) -> Result<(), Error> {
    let (fresh, target) = (path.join("FORMAT.new"), path.join("FORMAT"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&fresh)?;
        writeln!(file, "{FORMAT_PREFIX}{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&fresh, &target)
    };
    write().map_err(|error| Error::io("write", &target, error))?;
    sync_folder(path)
}

fn lock(path: &Path) -> Result<File, Error> {
    let name = path.join("LOCK");
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(|error| Error::io("open", &name, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { folder: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &name, error)),
    }
}

/// Puts the names in a folder on the disk.
pub(super) fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(|error| Error::io("sync", path, error))
}

/// Removes a folder with all that is in it.
pub(super) fn remove_if_present(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, error)),
        _ => Ok(()),
    }
}
