//! A member that sends a forged entry of a higher epoch changes nothing.
//!
//! The fault: the log was cut for such an entry before its signature was looked at, and the entries beyond were deleted.

use std::sync::Arc;

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Entry, Genesis, Kind, Log, Role},
    id::ReplicaId,
    time::Time,
};
use herdbook_replica::{
    Error, Repository,
    clock::SystemClock,
    repository::{Identity, Settings},
};
use herdbook_store::MemoryStore;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

struct Authority {
    genesis: Genesis,
    certificate: AuthorityCertificate,
}

impl Authority {
    fn new() -> Self {
        let genesis = Genesis { name: "test".to_owned(), root: key(1).verifying_key().to_bytes(), created: Time::ZERO, nonce: [0; 16] };
        let certificate = AuthorityCertificate::sign(genesis.id(), key(2).verifying_key().to_bytes(), (1, 9), &key(1));
        Self { genesis, certificate }
    }

    fn entry(&self, epoch: u64, after: Option<&Entry>, kind: Kind, signer: &SigningKey) -> Entry {
        let place = (epoch, after.map_or(0, |entry| entry.seq + 1), after.map(Entry::id));
        Entry::sign(self.genesis.id(), place, Time::from_millis(1), kind, signer)
    }

    fn log(&self) -> Vec<Entry> {
        let mut log = vec![self.entry(1, None, Kind::Epoch { certificate: self.certificate.clone() }, &key(2))];
        for member in 10..14 {
            let kind = Kind::Enrol { replica: ReplicaId([member; 32]), name: format!("m{member}"), role: Role::Replica };
            log.push(self.entry(1, log.last(), kind, &key(2)));
        }
        log
    }
}

fn open(authority: &Authority) -> Repository {
    let identity = Identity { replica: key(3), genesis: Some(authority.genesis.clone()) };
    let repository = Repository::open(Arc::new(MemoryStore::default()), identity, Arc::new(SystemClock), Settings::default());
    repository.expect("a repository in memory")
}

#[test]
fn a_forged_epoch_takes_nothing_away() {
    let authority = Authority::new();
    let (repository, log) = (open(&authority), authority.log());
    repository.extend(&log).expect("the authority's own entries");
    let newest = repository.view().log.newest();
    let kind = Kind::Epoch { certificate: authority.certificate.clone() };
    let forged = authority.entry(2, Some(&log[1]), kind, &key(66));
    assert!(matches!(repository.extend(&[forged]), Err(Error::Log(_))));
    assert_eq!(repository.view().log.newest(), newest);
    assert_eq!(repository.entries(0, usize::MAX).expect("readable"), log, "nothing was deleted");
}

#[test]
fn an_epoch_that_the_authority_signed_replaces_what_lies_beyond_its_cut() {
    let authority = Authority::new();
    let (repository, log) = (open(&authority), authority.log());
    repository.extend(&log).expect("the authority's own entries");
    let kind = Kind::Epoch { certificate: authority.certificate.clone() };
    let opens = authority.entry(2, Some(&log[2]), kind, &key(2));
    repository.extend(std::slice::from_ref(&opens)).expect("a restore that cut there");
    let mut expected = Log::new(authority.genesis.id(), authority.genesis.root);
    log[..3].iter().chain([&opens]).for_each(|entry| {
        expected.extend(entry).expect("in order");
    });
    assert_eq!(repository.view().log.newest(), expected.newest());
    assert_eq!(repository.view().log.members(), expected.members());
}
