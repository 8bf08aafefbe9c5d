//! An authority over a repository in memory, with its keys in a folder of the test's.

use std::sync::Arc;

use herdbook_replica::{
    clock::SystemClock,
    repository::{Identity, Settings},
};
use herdbook_store::{
    MemoryStore, Store,
    fault::{Faulty, WriteFault},
};
use tempfile::TempDir;

use super::*;
use crate::{keys::Keys, signed::Signed};

struct Scene {
    folder: TempDir,
    keys: Keys,
    store: Arc<Faulty<MemoryStore>>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let keys = Keys::open(folder.path(), "test", Time::from_millis(1)).expect("keys");
        Self { folder, keys, store: Arc::new(Faulty::new(MemoryStore::default())) }
    }

    fn on(&self, store: Arc<dyn Store>) -> Authority {
        let identity = Identity { replica: self.keys.replica.clone(), genesis: Some(self.keys.genesis.clone()) };
        let repository = Repository::open(store, identity, Arc::new(SystemClock), Settings::default()).expect("a repository in memory");
        let signed = Signed::open(self.folder.path()).expect("a folder");
        Authority::new(repository, self.keys.authority.clone(), self.keys.certificate.clone(), None, signed)
    }

    /// Starts the authority on its store, as a process does.
    fn start(&self) -> (Authority, Standing) {
        let mut authority = self.on(self.store.clone());
        let standing = authority.standing().expect("readable");
        (authority, standing)
    }

    fn founded(&self) -> Authority {
        let (mut authority, standing) = self.start();
        assert_eq!(standing, Standing::Empty);
        authority.found("coordinator", None).expect("the first epoch");
        authority
    }
}

fn enrol(name: u8) -> Kind {
    Kind::Enrol { replica: ReplicaId([name; 32]), name: format!("member {name}"), role: Role::Replica }
}

fn sign(authority: &mut Authority, names: std::ops::Range<u8>) {
    for name in names {
        authority.append(enrol(name)).expect("signed");
    }
}

fn newest(authority: &Authority) -> Option<Position> {
    authority.repository().view().log.newest()
}

#[test]
fn data_that_holds_all_that_was_signed_is_whole() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.append(enrol(1)).expect("signed");
    drop(authority);
    assert_eq!(scene.start().1, Standing::Whole);
}

#[test]
fn an_entry_that_was_signed_and_not_stored_is_taken_in_as_it_was() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    scene.store.fail_writes_after(0, WriteFault::Failed);
    authority.append(enrol(1)).expect_err("the disk fails");
    drop(authority);
    scene.store.mend();
    let (authority, standing) = scene.start();
    assert_eq!(standing, Standing::Whole);
    assert_eq!(newest(&authority), authority.signed.newest());
    assert!(authority.repository().view().log.is_member(&ReplicaId([1; 32])));
}

#[test]
fn an_entry_that_the_log_refused_makes_the_data_no_older() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    let before = newest(&authority);
    let branch = BranchName::new("main@9").expect("well formed");
    authority.change_schema(branch, SchemaAction::Promote).expect_err("there is no such branch");
    drop(authority);
    let (mut authority, standing) = scene.start();
    assert_eq!((standing, newest(&authority)), (Standing::Whole, before));
    authority.append(enrol(1)).expect("it signs on");
    drop(authority);
    assert_eq!(scene.start().1, Standing::Whole);
}

#[test]
fn data_that_lacks_what_was_signed_is_older() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    let founding = authority.repository().entries(0, usize::MAX).expect("readable");
    sign(&mut authority, 1..4);
    let mut old = scene.on(Arc::new(MemoryStore::default()));
    old.repository().extend(&founding).expect("a prefix of the log");
    assert_eq!(old.standing().expect("readable"), Standing::Older);
}

#[test]
fn keys_from_before_the_data_vouch_for_nothing() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    let files = ["signed.0", "signed.1"].map(|name| scene.folder.path().join(name));
    let copies = files.clone().map(|file| std::fs::read(file).expect("it is there"));
    sign(&mut authority, 1..4);
    drop(authority);
    files.iter().zip(copies).for_each(|(file, copy)| std::fs::write(file, copy).expect("writable"));
    assert_eq!(scene.start().1, Standing::Doubtful);
}

#[test]
fn nothing_is_signed_on_top_of_what_another_copy_signed() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    let log = authority.repository().entries(0, usize::MAX).expect("readable");
    let mut copy = scene.on(Arc::new(MemoryStore::default()));
    copy.repository().extend(&log).expect("the same log");
    copy.newest = newest(&copy);
    copy.append(enrol(1)).expect("signed elsewhere");
    let news = copy.repository().entries(log.len() as u64, usize::MAX).expect("readable");
    authority.repository().extend(&news).expect("a member told it");
    assert!(matches!(authority.append(enrol(2)), Err(Error::Overtaken)));
}

#[test]
fn an_epoch_opened_without_every_member_has_a_number_that_none_can_know() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    let epoch = authority.append(enrol(1)).expect("signed").epoch;
    let heard = authority.reopen(&[], vec![ReplicaId([1; 32])], Vec::new()).expect("opened");
    assert_eq!(heard.epoch, epoch + 1);
    let began = authority.repository().now().millis();
    let unheard = authority.reopen(&[], Vec::new(), Vec::new()).expect("opened");
    assert!(unheard.epoch >= began, "{unheard:?}");
    assert!(authority.reopen(&[], Vec::new(), Vec::new()).expect("opened").epoch > unheard.epoch);
}
