//! What the authority signed last, kept beside its keys and apart from its data: whoever starts on an older copy of the data finds here
//! that it is one.
//!
//! Two files, `signed.0` and `signed.1`, are written in turn, so that a torn write spares the other. Each holds a hash of the rest, a count
//! that rises with each write, and the entries that were signed together. Law: entries are here, on the disk, before they are anywhere
//! else. So what is one step ahead of the data was shown to nobody and is taken in again as it stands; what is further ahead, members hold.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use herdbook_model::{
    authority::{Entry, Position},
    codec::{Error as Codec, Reader, Writer},
    id::Domain,
};

use crate::keys::Error;

/// The two files, in the order of their turns.
const FILES: [&str; 2] = ["signed.0", "signed.1"];

/// Shortest entry, in bytes: what a count of them is held against.
const LEAST: usize = 64;

/// The entries that were signed last.
#[derive(Debug)]
pub struct Signed {
    folder: PathBuf,
    /// How often was written.
    count: u64,
    entries: Vec<Entry>,
    /// Whether the folder can be written to. One that cannot, a mounted secret, vouches for nothing.
    is_kept: bool,
}

impl Signed {
    /// Reads what the folder holds.
    ///
    /// # Errors
    /// [`Error::Io`]; that the folder is read-only is none.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let mut newest = Self { folder: folder.to_owned(), count: 0, entries: Vec::new(), is_kept: true };
        for name in FILES {
            let path = folder.join(name);
            match fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path) {
                Ok(mut file) => {
                    let mut bytes = Vec::new();
                    io::Read::read_to_end(&mut file, &mut bytes).map_err(|source| Error::Io { path, source })?;
                    if let Some((count, entries)) = read(&bytes).filter(|(count, _)| *count > newest.count) {
                        (newest.count, newest.entries) = (count, entries);
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => {
                    return Ok(Self { folder: folder.to_owned(), count: 0, entries: Vec::new(), is_kept: false });
                }
                Err(source) => return Err(Error::Io { path, source }),
            }
        }
        // The names of the files must outlive a power cut as their bytes do.
        let synced = fs::File::open(folder).and_then(|folder| folder.sync_all());
        synced.map(|()| newest).map_err(|source| Error::Io { path: folder.to_owned(), source })
    }

    /// Returns the entries that were signed together last, in order; none if the folder vouches for nothing.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether entries are kept here.
    pub const fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Returns the place of the newest entry.
    pub fn newest(&self) -> Option<Position> {
        self.entries.last().map(|entry| Position { epoch: entry.epoch, seq: entry.seq, id: entry.id() })
    }

    /// Notes entries before they are taken into the log; on return they are on the disk.
    ///
    /// # Errors
    /// [`Error::Io`]; then they must not be used.
    pub fn keep(&mut self, entries: &[Entry]) -> Result<(), Error> {
        if !self.is_kept {
            return Ok(());
        }
        let count = self.count + 1;
        let path = self.folder.join(FILES[usize::from(count.is_multiple_of(2))]);
        let write = || {
            use io::Write as _;
            let mut file = fs::File::create(&path)?;
            file.write_all(&record(count, entries))?;
            file.sync_data()
        };
        write().map_err(|source| Error::Io { path: path.clone(), source })?;
        (self.count, self.entries) = (count, entries.to_vec());
        Ok(())
    }
}

fn record(count: u64, entries: &[Entry]) -> Vec<u8> {
    let mut out = Writer::default();
    out.uint(count);
    out.list(entries.iter());
    [Domain::Digest.hash(&[b"signed", out.as_bytes()]).as_slice(), out.as_bytes()].concat()
}

/// Returns what a file holds; `None` if it was never written whole.
fn read(bytes: &[u8]) -> Option<(u64, Vec<Entry>)> {
    let (hash, rest) = bytes.split_first_chunk::<32>()?;
    if *hash != Domain::Digest.hash(&[b"signed", rest]) {
        return None;
    }
    let mut input = Reader::new(rest);
    let decode = |input: &mut Reader<'_>| Ok::<_, Codec>((input.uint()?, input.list(LEAST)?));
    decode(&mut input).ok()
}

#[cfg(test)]
mod tests {
    use herdbook_model::{
        SigningKey,
        authority::Kind,
        id::{ReplicaId, RepositoryId},
        time::Time,
    };

    use super::*;

    fn entry(seq: u64) -> Entry {
        let key = SigningKey::from_bytes(&[1; 32]);
        let previous = (seq > 0).then_some(herdbook_model::id::EntryId([9; 32]));
        Entry::sign(RepositoryId([2; 32]), (1, seq, previous), Time::ZERO, Kind::Revoke { replica: ReplicaId([3; 32]) }, &key)
    }

    #[test]
    fn what_was_kept_last_is_found_again() {
        let folder = tempfile::tempdir().expect("folder");
        let mut signed = Signed::open(folder.path()).expect("a folder");
        assert_eq!(signed.newest(), None);
        for seq in 0..5 {
            signed.keep(&[entry(seq), entry(seq + 1)]).expect("writable");
            let again = Signed::open(folder.path()).expect("a folder");
            assert_eq!(again.entries(), [entry(seq), entry(seq + 1)]);
        }
    }

    #[test]
    fn a_torn_write_leaves_what_was_kept_before() {
        let folder = tempfile::tempdir().expect("folder");
        let mut signed = Signed::open(folder.path()).expect("a folder");
        (0..4).for_each(|seq| signed.keep(&[entry(seq)]).expect("writable"));
        let path = folder.path().join(FILES[1]);
        let bytes = fs::read(&path).expect("it was written");
        for torn in [0, 1, 31, 32, bytes.len() - 1] {
            fs::write(&path, &bytes[..torn]).expect("writable");
            assert_eq!(Signed::open(folder.path()).expect("a folder").entries(), [entry(2)], "torn at {torn}");
        }
    }
}
