//! `backup` and `restore`: the data folder of a member that does not run, to a folder and back.
//!
//! A backup holds `store/`, the replica's key if the data folder holds it, and last `BACKUP.json`, which names every file with length and
//! hash. Law: a backup shares no byte with its source, and what is restored is what was written, or nothing is.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Component, Path, PathBuf},
};

use clap::Args;
use herdbook_model::{authority::Genesis, codec::Decode as _, id::RepositoryId};
use herdbook_replica::clock::{Clock as _, SystemClock};
use herdbook_store::{RefStore as _, RocksStore, Settings};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    connection::Global,
    errors::Error,
    moment::rfc3339,
    output::{bytes, counted, short},
    progress::{Progress, Unit},
};

/// Folder of the store within a data folder.
pub(crate) const STORE: &str = "store";

/// File of the replica's key within a data folder.
const REPLICA_KEY: &str = "replica.key";

/// The list of a backup's files.
const MANIFEST: &str = "BACKUP.json";

/// The list while it is written.
const MANIFEST_NEW: &str = "BACKUP.json.new";

/// A file while it is copied.
const COPYING: &str = "copying";

/// Format of the list.
const FORMAT: u32 = 1;

/// Bytes copied at a time.
const STEP: usize = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    version: String,
    repository: String,
    repository_name: String,
    made: String,
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    bytes: u64,
    blake3: String,
}

/// Copies the data folder of a member that does not run into a backup.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  herdbook backup --data /var/lib/herdbook/r1 /backup/r1-monday

The member must not run: its folder is locked while it does. Other members go on meanwhile, and what it misses it fetches when it comes back.
A coordinator's keys lie in a folder of their own (--keys): keep a copy of that elsewhere. With --json: {\"files\", \"bytes\", \"repository\"}")]
pub(crate) struct BackupArgs {
    /// The member's data folder
    #[arg(long, value_name = "DIR", env = "HERDBOOK_DATA")]
    data: PathBuf,
    /// Folder to make the backup in; must be new or empty
    #[arg(value_name = "BACKUP")]
    target: PathBuf,
}

/// Makes a backup.
pub(crate) fn backup(global: &Global, args: &BackupArgs) -> Result<(), Error> {
    let out = global.output();
    let BackupArgs { data, target } = args;
    let source = RocksStore::open(data.join(STORE), &Settings { create: false, ..Settings::default() })?;
    let (repository, repository_name) = genesis(&source)?;
    let is_new = empty_folder(target, &[])?;
    let made = copy_all(&out, &source, data, target).and_then(|files| {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let made = rfc3339(SystemClock.now());
        let manifest = Manifest { format: FORMAT, version, repository: repository.to_string(), repository_name, made, files };
        write_manifest(target, &manifest)?;
        Ok(manifest)
    });
    let manifest = made.inspect_err(|_| clear(target, is_new))?;
    let total = manifest.files.iter().map(|file| file.bytes).sum::<u64>();
    let form = || json!({ "files": manifest.files.len(), "bytes": total, "repository": manifest.repository });
    let text = || {
        let files = counted(manifest.files.len() as u64, "file");
        format!("{files}, {} of repository {} {} in {}", bytes(total), manifest.repository_name, short(&repository), target.display())
    };
    out.either(form, text)
}

fn genesis(store: &RocksStore) -> Result<(RepositoryId, String), Error> {
    let Some(bytes) = store.get("genesis")? else { return Err(herdbook_replica::Error::NotJoined.into()) };
    let genesis = Genesis::from_bytes(&bytes).map_err(|source| herdbook_replica::Error::Record { what: "genesis record", source })?;
    Ok((genesis.id(), genesis.name))
}

fn copy_all(out: &crate::output::Output, source: &RocksStore, data: &Path, target: &Path) -> Result<Vec<Entry>, Error> {
    source.checkpoint(&target.join(STORE))?;
    let mut files = walk(target, Path::new(STORE))?;
    let total = files.iter().map(|(_, len)| len).sum();
    files.sort();
    let mut progress = Progress::begin(out, "backup", Unit::Bytes, Some(total));
    let (mut entries, mut done) = (Vec::new(), 0);
    for (path, _) in files {
        // The engine links its files where it can; a copy of its own replaces each, so that a fault of the disk hits one of both only.
        let (linked, fresh) = (target.join(&path), target.join(COPYING));
        let entry = copy(&linked, &fresh, &path, |step| {
            done += step;
            progress.at(done, done);
        })?;
        fs::rename(&fresh, &linked).map_err(|error| Error::file("rename", &fresh, error))?;
        entries.push(entry);
    }
    let key = Path::new(REPLICA_KEY);
    if data.join(key).exists() {
        entries.push(copy(&data.join(key), &target.join(key), key, |_| ())?);
    }
    sync_folders(target)?;
    Ok(entries)
}

fn write_manifest(target: &Path, manifest: &Manifest) -> Result<(), Error> {
    let (fresh, path) = (target.join(MANIFEST_NEW), target.join(MANIFEST));
    let write = || -> io::Result<()> {
        let mut file = File::create(&fresh)?;
        serde_json::to_writer_pretty(&mut file, manifest)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&fresh, &path)
    };
    write().map_err(|error| Error::file("write", &path, error))?;
    sync_folders(target)
}

/// Makes a data folder from a backup.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  herdbook restore /backup/r1-monday --data /var/lib/herdbook/r1
  herdbook replica --data /var/lib/herdbook/r1 --coordinator http://coordinator:7700

Every file is compared with the hash that was taken when the backup was made. A member that starts on a restored folder fetches from its peers
what happened since. A coordinator that lost its data needs no backup: started with its keys, it restores itself from its members.
With --json: {\"files\", \"bytes\", \"repository\"}")]
pub(crate) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "BACKUP")]
    source: PathBuf,
    /// The data folder to make; must be new or empty
    #[arg(long, value_name = "DIR", env = "HERDBOOK_DATA")]
    data: PathBuf,
}

/// Makes a data folder from a backup.
pub(crate) fn restore(global: &Global, args: &RestoreArgs) -> Result<(), Error> {
    let out = global.output();
    let RestoreArgs { source, data } = args;
    let manifest = read_manifest(source)?;
    // A fresh file system may hold this one.
    let is_new = empty_folder(data, &["lost+found"])?;
    let total = manifest.files.iter().map(|file| file.bytes).sum();
    let mut progress = Progress::begin(&out, "restore", Unit::Bytes, Some(total));
    let restoring = data.join("restoring");
    let mut done = 0;
    let restored = manifest.files.iter().try_for_each(|entry| {
        restore_file(source, &restoring, entry, |step| {
            done += step;
            progress.at(done, done);
        })
    });
    let restored = restored.and_then(|()| {
        sync_folders(&restoring)?;
        // The store comes last: a data folder without it is none.
        for part in [REPLICA_KEY, STORE] {
            if restoring.join(part).exists() {
                fs::rename(restoring.join(part), data.join(part)).map_err(|error| Error::file("make", data.join(part), error))?;
            }
        }
        sync(data)?;
        RocksStore::open(data.join(STORE), &Settings { create: false, ..Settings::default() }).map(drop).map_err(Error::from)
    });
    clear(&restoring, true);
    restored.inspect_err(|_| {
        if is_new {
            clear(data, true);
        }
    })?;
    let form = || json!({ "files": manifest.files.len(), "bytes": total, "repository": manifest.repository });
    let text = || {
        let files = counted(manifest.files.len() as u64, "file");
        format!("{files}, {} of repository {} as of {} in {}", bytes(total), manifest.repository_name, manifest.made, data.display())
    };
    out.either(form, text)
}

fn read_manifest(source: &Path) -> Result<Manifest, Error> {
    let no_backup = |why: String| Error::NoBackup { path: source.to_owned(), why };
    let path = source.join(MANIFEST);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && source.is_dir() => {
            return Err(no_backup(format!("it has no {MANIFEST}; a backup that was broken off has none")));
        }
        Err(error) => return Err(Error::file("read", path, error)),
    };
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| no_backup(format!("{MANIFEST} cannot be read: {error}")))?;
    if manifest.format != FORMAT {
        return Err(no_backup(format!("its format is {}, this release reads {FORMAT}", manifest.format)));
    }
    let is_inside = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) && !path.is_empty();
    match manifest.files.iter().find(|entry| !is_inside(&entry.path)) {
        Some(entry) => Err(no_backup(format!("{MANIFEST} names `{}`, which lies outside", entry.path))),
        None => Ok(manifest),
    }
}

fn restore_file(source: &Path, restoring: &Path, entry: &Entry, tell: impl FnMut(u64)) -> Result<(), Error> {
    let (from, to) = (source.join(&entry.path), restoring.join(&entry.path));
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| Error::file("make", folder, error))?;
    }
    let damaged = |why: String| Error::DamagedBackup { path: from.clone(), why };
    if !from.is_file() {
        return Err(damaged("it is missing".to_owned()));
    }
    let copied = copy(&from, &to, Path::new(&entry.path), tell)?;
    if copied.bytes != entry.bytes {
        return Err(damaged(format!("it has {} bytes, {} were written", copied.bytes, entry.bytes)));
    }
    if copied.blake3 != entry.blake3 {
        return Err(damaged("its bytes are not those that were written".to_owned()));
    }
    Ok(())
}

/// Copies a file with its permissions; on return the copy is on the disk.
fn copy(from: &Path, to: &Path, name: &Path, mut tell: impl FnMut(u64)) -> Result<Entry, Error> {
    let mut source = File::open(from).map_err(|error| Error::file("read", from, error))?;
    let mut target = File::create(to).map_err(|error| Error::file("write", to, error))?;
    let (mut hash, mut total, mut buffer) = (blake3::Hasher::new(), 0, vec![0; STEP]);
    loop {
        let len = source.read(&mut buffer).map_err(|error| Error::file("read", from, error))?;
        if len == 0 {
            break;
        }
        target.write_all(&buffer[..len]).map_err(|error| Error::file("write", to, error))?;
        hash.update(&buffer[..len]);
        total += len as u64;
        tell(len as u64);
    }
    let kept = source.metadata().and_then(|metadata| target.set_permissions(metadata.permissions())).and_then(|()| target.sync_all());
    kept.map_err(|error| Error::file("write", to, error))?;
    Ok(Entry { path: name.to_string_lossy().into_owned(), bytes: total, blake3: hash.finalize().to_hex().to_string() })
}

/// Makes `folder`, or finds that it holds nothing but what is harmless; returns whether it was made.
fn empty_folder(folder: &Path, harmless: &[&str]) -> Result<bool, Error> {
    let is_new = !folder.exists();
    fs::create_dir_all(folder).map_err(|error| Error::file("make", folder, error))?;
    for entry in fs::read_dir(folder).map_err(|error| Error::file("list", folder, error))? {
        let name = entry.map_err(|error| Error::file("list", folder, error))?.file_name();
        if !harmless.iter().any(|harmless| name == *harmless) {
            return Err(Error::Occupied { path: folder.to_owned() });
        }
    }
    Ok(is_new)
}

/// Returns the files below `top/path`, as paths from `top`, with their lengths.
fn walk(top: &Path, path: &Path) -> Result<Vec<(PathBuf, u64)>, Error> {
    let folder = top.join(path);
    let failed = |error| Error::file("list", &folder, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, metadata) = (path.join(entry.file_name()), entry.metadata().map_err(failed)?);
        if metadata.is_dir() {
            files.extend(walk(top, &path)?);
        } else {
            files.push((path, metadata.len()));
        }
    }
    Ok(files)
}

/// Puts the names in `folder` and all folders below it on the disk.
fn sync_folders(folder: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(folder).map_err(|error| Error::file("list", folder, error))? {
        let path = entry.map_err(|error| Error::file("list", folder, error))?.path();
        if path.is_dir() {
            sync_folders(&path)?;
        }
    }
    sync(folder)
}

fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| Error::file("sync", folder, error))
}

/// Removes what was made for nothing in `folder`, and the folder itself if it was made too. That something stays is no second failure.
fn clear(folder: &Path, is_new: bool) {
    if is_new {
        let _ = fs::remove_dir_all(folder);
        return;
    }
    for made in [STORE, REPLICA_KEY, MANIFEST, MANIFEST_NEW, COPYING] {
        let path = folder.join(made);
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}
