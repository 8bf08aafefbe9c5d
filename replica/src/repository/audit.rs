//! Checking the head log from the ground: from the genesis record on, each entry by its signature, its place in the chain of hashes, and its
//! epoch, whose key the root must have certified. Takes nothing for granted that a node which runs has checked before.

use herdbook_model::{
    authority::{Entry, Genesis, Kind, Log, Position},
    codec::Decode as _,
    id::RepositoryId,
};
use herdbook_store::{Direction, KeyRange, Store, Table};

use super::layout;
use crate::error::Error;

/// A stretch of the head log under one opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: u64,
    /// The place of the entry that opened it.
    pub first: u64,
    /// The key that signs it, which the root certified.
    pub key: [u8; 32],
    /// How many entries it has.
    pub entries: u64,
}

/// What an audit looked at and found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The repository.
    pub repository: RepositoryId,
    /// The root key.
    pub root: [u8; 32],
    /// The epochs, oldest first.
    pub epochs: Vec<Epoch>,
    /// The newest entry that is as it should be.
    pub newest: Option<Position>,
    /// Requests that the authority refused.
    pub voided: u64,
    /// Accepted heads whose commits are not here: a member that has not fetched them yet, or lost them.
    pub absent_heads: u64,
    /// The first entry that is not as it should be, and why; what follows it was not looked at.
    pub fault: Option<(u64, String)>,
}

/// Audits what a store holds.
///
/// # Errors
/// [`Error::NotJoined`] if it holds no repository; [`Error::Store`] if it cannot be read. What is merely wrong is in the audit.
pub fn audit(store: &dyn Store) -> Result<Audit, Error> {
    let genesis = store.refs().get(layout::GENESIS)?.ok_or(Error::NotJoined)?;
    let genesis = Genesis::from_bytes(&genesis).map_err(|source| Error::Record { what: "genesis record", source })?;
    let mut log = Log::new(genesis.id(), genesis.root);
    let (mut epochs, mut voided, mut fault) = (Vec::<Epoch>::new(), 0, None);
    for (seq, record) in (0..).zip(store.records().scan(Table::Entries, KeyRange::all(), Direction::Forward)) {
        let record = record?;
        match next(&mut log, seq, &record.key, &record.value) {
            Ok(Entry { epoch, seq, kind, .. }) => {
                match kind {
                    Kind::Epoch { certificate } => epochs.push(Epoch { number: epoch, first: seq, key: certificate.key, entries: 0 }),
                    Kind::Head { voids, .. } => voided += voids.len() as u64,
                    _ => {}
                }
                if let Some(epoch) = epochs.last_mut() {
                    epoch.entries += 1;
                }
            }
            Err(why) => {
                fault = Some((seq, why));
                break;
            }
        }
    }
    let mut absent_heads = 0;
    for head in log.branches().values().flat_map(|branch| &branch.heads) {
        absent_heads += u64::from(store.records().get(Table::Commits, head.as_bytes())?.is_none());
    }
    Ok(Audit { repository: genesis.id(), root: genesis.root, epochs, newest: log.newest(), voided, absent_heads, fault })
}

fn next(log: &mut Log, seq: u64, key: &[u8], value: &[u8]) -> Result<Entry, String> {
    let entry = Entry::from_bytes(value).map_err(|error| error.to_string())?;
    if *key != entry.seq.to_be_bytes() || entry.seq != seq {
        return Err(format!("entry {} lies at another place", entry.seq));
    }
    log.extend(&entry).map_err(|error| error.to_string())?;
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use herdbook_model::{
        SigningKey,
        authority::AuthorityCertificate,
        codec::Encode as _,
        id::{EntryId, ReplicaId},
        time::Time,
    };
    use herdbook_store::{Batch, Durability, MemoryStore};

    use super::*;

    struct Written {
        store: MemoryStore,
        repository: RepositoryId,
        authority: SigningKey,
        newest: Option<EntryId>,
        next: u64,
    }

    impl Written {
        /// A log of one epoch with its opening entry.
        fn new() -> Self {
            let (root, authority) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
            let genesis = Genesis {
                name: "audited".to_owned(),
                root: root.verifying_key().to_bytes(),
                created: Time::from_millis(1),
                nonce: [3; 16],
            };
            let (store, repository) = (MemoryStore::default(), genesis.id());
            store.refs().compare_and_set(layout::GENESIS, None, Some(&genesis.to_bytes())).expect("memory takes it");
            let certificate = AuthorityCertificate::sign(repository, authority.verifying_key().to_bytes(), (1, 9), &root);
            let mut written = Self { store, repository, authority, newest: None, next: 0 };
            written.entry(1, Kind::Epoch { certificate });
            written
        }

        fn entry(&mut self, epoch: u64, kind: Kind) {
            let entry = Entry::sign(self.repository, (epoch, self.next, self.newest), Time::from_millis(2), kind, &self.authority);
            (self.newest, self.next) = (Some(entry.id()), self.next + 1);
            self.put(entry.seq, entry.to_bytes());
        }

        fn put(&self, seq: u64, bytes: Vec<u8>) {
            let mut batch = Batch::new();
            batch.put(Table::Entries, seq.to_be_bytes().to_vec(), bytes);
            self.store.records().write(batch, Durability::Process).expect("memory takes it");
        }

        fn fault(&self) -> Option<u64> {
            audit(&self.store).expect("it can be read").fault.map(|(seq, _)| seq)
        }
    }

    fn revoke() -> Kind {
        Kind::Revoke { replica: ReplicaId([7; 32]) }
    }

    #[test]
    fn a_sound_log_is_told_with_its_epochs() {
        let mut written = Written::new();
        written.entry(1, revoke());
        let found = audit(&written.store).expect("it can be read");
        assert_eq!((found.fault, found.newest.map(|newest| newest.seq), found.epochs.len()), (None, Some(1), 1));
        assert_eq!((found.epochs[0].number, found.epochs[0].entries), (1, 2));
    }

    #[test]
    fn an_entry_of_an_epoch_that_is_not_open_is_found() {
        let mut written = Written::new();
        written.entry(2, revoke());
        assert_eq!(written.fault(), Some(1));
    }

    #[test]
    fn an_entry_that_another_signed_or_that_follows_no_other_is_found() {
        let mut written = Written::new();
        written.authority = SigningKey::from_bytes(&[9; 32]);
        written.entry(1, revoke());
        assert_eq!(written.fault(), Some(1));
        let mut written = Written::new();
        written.newest = Some(EntryId([8; 32]));
        written.entry(1, revoke());
        assert_eq!(written.fault(), Some(1));
    }

    #[test]
    fn a_gap_and_a_damaged_entry_are_found() {
        let mut written = Written::new();
        written.next += 1;
        written.entry(1, revoke());
        assert_eq!(written.fault(), Some(1));
        let written = Written::new();
        written.put(0, vec![1, 2, 3]);
        assert_eq!(written.fault(), Some(0));
    }

    #[test]
    fn a_store_without_a_repository_is_refused() {
        assert!(matches!(audit(&MemoryStore::default()), Err(Error::NotJoined)));
    }
}
