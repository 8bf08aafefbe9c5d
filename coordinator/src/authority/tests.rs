//! An authority over a repository in memory, with its keys in a folder of the test's.

use std::sync::Arc;

use herdbook_model::{
    authority::{SchemaAction, SessionCertificate},
    commit::{Commit, Header},
    id::{CommitId, Leaf, RequestKey, SessionId},
    request::Sealed,
    value::Key,
};
use herdbook_proto::cluster::{Definition, SetHorizon, StartBranch, StartSchema};
use herdbook_replica::{
    clock::SystemClock,
    repository::{Ask, Change, DocumentChange, DocumentEdit, Identity, Merge, Outcome, Received, Settings, View},
};
use herdbook_store::{
    Batch, Direction, Durability, KeyRange, MemoryStore, Store, Table,
    fault::{Faulty, WriteFault},
};
use tempfile::TempDir;

use super::*;
use crate::{keys::Keys, signed::Signed};

mod blobs;
mod conditions;
mod erasure;
mod horizon;

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
    // The first write only asks for what was written before to be durable.
    scene.store.fail_writes_after(1, WriteFault::Failed);
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

/// The fault: a commit of the coordinator's own, written without a sync, was signed for; after a power cut the signature was there and the
/// commit was not.
#[test]
fn what_may_not_outlive_a_power_cut_is_not_signed_for() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "a@1")).expect("started");
    write_as(authority.repository(), 1, "a@1", Durability::Process);
    let signed = authority.signed.newest();
    scene.store.fail_writes_after(0, WriteFault::Failed);
    authority.accept().expect_err("the disk fails");
    assert_eq!(authority.signed.newest(), signed);
}

/// The fault: a store that was repaired had lost accepted commits and the entry about them; the key folder gave the entry back, and the
/// branch could not go on, nor did anybody ask the members.
#[test]
fn data_that_lacks_accepted_commits_is_older() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "a@1")).expect("started");
    let before = authority.repository().entries(0, usize::MAX).expect("readable");
    write(authority.repository(), 1, "a@1");
    assert_eq!(authority.accept().expect("accepted"), 1);
    let mut repaired = scene.on(Arc::new(MemoryStore::default()));
    repaired.repository().extend(&before).expect("what came before the damage");
    assert_eq!(repaired.standing().expect("readable"), Standing::Older);
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

const SCHEMA: &str = r#"{"version": 1, "collections": {"notes": {"fields": [{"name": "text", "type": "string"}]}}}"#;

fn branch(name: &str) -> BranchName {
    BranchName::new(name).expect("well formed")
}

fn start(from: Option<&str>, name: &str) -> StartSchema {
    let definition = match from {
        Some(_) => Definition::Steps(r#"[{"rename": {"collection": "notes", "from": "text", "to": "body"}}]"#.to_owned()),
        None => Definition::Schema(SCHEMA.to_owned()),
    };
    StartSchema { repository: None, branch: Some(branch(name)), from: from.map(branch), definition, dry_run: false }
}

fn write(repository: &Repository, number: u8, on: &str) -> CommitId {
    write_as(repository, number, on, Durability::Durable)
}

fn write_as(repository: &Repository, number: u8, on: &str, durability: Durability) -> CommitId {
    let edit = DocumentEdit {
        collection: "notes".to_owned(),
        key: Key::new(format!("note-{number}")).expect("short"),
        change: DocumentChange::Put(Vec::new()),
    };
    let ask = Ask {
        branch: Some(branch(on)),
        key: RequestKey([number; 16]),
        principal: String::new(),
        wanted: Vec::new(),
        edits: vec![edit],
        message: String::new(),
    };
    repository.commit_one(ask, durability).expect("committed").commit
}

/// Returns a commit as a peer would bring it; `whole`: with its edits.
fn parcel(from: &Repository, id: &CommitId, whole: bool) -> Received {
    let stored = from.stored(id).expect("readable").expect("there");
    let request =
        |bytes: &Result<Vec<u8>, Vec<String>>| Sealed::read(bytes.as_ref().expect("its edits are here").as_slice()).expect("sound");
    Received {
        certificate: from.certificate(&stored.commit.header().session).expect("readable"),
        requests: stored.requests.iter().map(|bytes| whole.then(|| request(bytes))).collect(),
        leaves: stored.leaves,
        commit: stored.commit,
        documents: BTreeMap::new(),
    }
}

fn receive(to: &Repository, received: Vec<Received>) {
    for (commit, outcome) in to.receive(received).expect("the store works") {
        assert!(matches!(outcome, Outcome::Stored), "{commit}: {outcome:?}");
    }
}

fn heads(authority: &Authority, of: &str) -> Vec<CommitId> {
    authority.repository().view().log.branch(&branch(of)).expect("started").heads.clone()
}

/// The fault: the first branch that could not go on ended the acceptance of all.
#[test]
fn a_branch_that_cannot_go_on_stops_no_other() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    for name in ["a@1", "b@1"] {
        authority.start_schema(&start(None, name)).expect("started");
    }
    let nobody_has = vec![CommitId([7; 32])];
    authority.append(Kind::Head { branch: branch("a@1"), heads: nobody_has, root: None, voids: Vec::new() }).expect("signed");
    let written = write(authority.repository(), 1, "b@1");
    assert_eq!(authority.accept().expect("b goes on"), 1);
    assert_eq!(heads(&authority, "b@1"), [written]);
}

/// The fault: after a restore without a commit that only the lost coordinator had held, and accepted, nothing was accepted any more.
#[test]
fn an_accepted_head_that_nobody_has_any_more_is_taken_back_by_a_restore() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "a@1")).expect("started");
    let kept = write(authority.repository(), 1, "a@1");
    assert_eq!(authority.accept().expect("accepted"), 1);
    let nobody_has = vec![CommitId([7; 32])];
    authority.append(Kind::Head { branch: branch("a@1"), heads: nobody_has, root: None, voids: Vec::new() }).expect("signed");
    let log = authority.repository().entries(0, usize::MAX).expect("readable");
    authority.reopen(&log, Vec::new(), Vec::new()).expect("opened");
    assert_eq!(heads(&authority, "a@1"), [kept]);
    let later = write(authority.repository(), 2, "a@1");
    assert_eq!(authority.accept().expect("it goes on"), 1);
    assert_eq!(heads(&authority, "a@1"), [later]);
}

/// What comes in need not wait for the disk to be seen and passed on, but is claimed by nobody before.
#[test]
fn what_comes_in_is_seen_at_once_and_held_when_it_is_durable() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "a@1")).expect("started");
    let log = authority.repository().entries(0, usize::MAX).expect("readable");
    let written = write(authority.repository(), 1, "a@1");
    let parcel = parcel(authority.repository(), &written, true);
    let has = |view: &View| view.branches[&branch("a@1")].frontier().ids() == [written];
    for power_holds in [true, false] {
        let store = Arc::new(Faulty::new(MemoryStore::default()));
        let node = scene.on(store.clone());
        let node = node.repository();
        node.extend(&log).expect("the same log");
        let mut changes = node.changes();
        if !power_holds {
            store.fail_writes_after(1, WriteFault::Failed);
        }
        assert_eq!(node.receive(vec![parcel.clone()]).is_ok(), power_holds);
        assert!(matches!(changes.try_recv(), Ok(Change::Commits { own: false, .. })), "readers and a hub's members");
        let durable = changes.try_recv();
        assert_eq!(matches!(durable, Ok(Change::Durable { commits }) if *commits == [written]), power_holds);
        assert_eq!((has(&node.view()), has(&node.held())), (true, power_holds));
    }
}

/// The fault: a commit whose edits nobody brought stopped the acceptance of those beside it.
#[test]
fn a_commit_that_cannot_be_judged_stops_none_beside_it() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "a@1")).expect("started");
    let log = authority.repository().entries(0, usize::MAX).expect("readable");
    let [poisonous, sound] = [1, 2].map(|number| {
        let other = scene.on(Arc::new(MemoryStore::default()));
        other.repository().extend(&log).expect("the same log");
        let id = write(other.repository(), number, "a@1");
        parcel(other.repository(), &id, number == 2)
    });
    let id = sound.commit.id();
    receive(authority.repository(), vec![poisonous, sound]);
    assert_eq!(authority.accept().expect("it goes on"), 1);
    assert_eq!(heads(&authority, "a@1"), [id]);
}

/// The fault: a commit on a branch, that stands on commits of the branch it comes from, broke the replay of a node that had not heard of the
/// migration yet; so none of its batch entered, again and again.
#[test]
fn commits_may_come_before_the_migration_they_stand_on() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    authority.start_schema(&start(Some("main@1"), "main@2")).expect("started");
    let before = authority.repository().entries(0, usize::MAX).expect("readable");
    let behind = scene.on(Arc::new(MemoryStore::default()));
    behind.repository().extend(&before).expect("the log so far");
    let older = write(authority.repository(), 1, "main@1");
    assert_eq!(authority.accept().expect("accepted"), 1);
    assert_eq!(heads(&authority, "main@2"), [older], "it was migrated");
    let newer = write(authority.repository(), 2, "main@2");
    let parcels = [older, newer].map(|id| parcel(authority.repository(), &id, true));
    receive(behind.repository(), parcels.into());
    let root = |repository: &Repository| repository.root(&repository.view().branches[&branch("main@2")]).expect("readable");
    assert_eq!(root(behind.repository()), root(authority.repository()));
}

fn start_branch(name: &str, commit: Option<CommitId>) -> StartBranch {
    StartBranch { repository: None, branch: branch(name), from: Some(branch("main@1")), commit }
}

/// Takes all of `from` into `main@1`.
fn merge(repository: &Repository, number: u8, from: &str) -> CommitId {
    let merge = Merge {
        into: Some(branch("main@1")),
        from: repository.view().branches[&branch(from)].clone(),
        side: None,
        rules: Vec::new(),
        key: RequestKey([number; 16]),
        message: String::new(),
        dry_run: false,
    };
    repository.merge(&merge, Durability::Durable).expect("merged").committed.expect("there is something to take in").commit
}

#[test]
fn a_branch_that_goes_its_own_way_takes_in_nothing_by_itself() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    let first = write(authority.repository(), 1, "main@1");
    let early = authority.start_branch(&start_branch("early", Some(first)));
    assert!(matches!(early, Err(Error::NotAccepted { commit, .. }) if commit == first), "{early:?}");
    authority.accept().expect("accepted");
    let second = write(authority.repository(), 2, "main@1");
    authority.accept().expect("accepted");
    authority.start_branch(&start_branch("old", Some(first))).expect("started");
    authority.start_branch(&start_branch("trial", None)).expect("started");
    write(authority.repository(), 3, "main@1");
    authority.accept().expect("accepted");
    assert_eq!((heads(&authority, "old"), heads(&authority, "trial")), (vec![first], vec![second]));
    let view = authority.repository().view();
    let notes = |name: &str| view.branches[&branch(name)].count(herdbook_model::schema::CollectionId(1));
    assert_eq!((notes("old"), notes("trial"), notes("main@1")), (1, 2, 3));
}

#[test]
fn a_merge_is_accepted_with_what_it_takes_in_and_that_is_judged_once() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    authority.start_branch(&start_branch("trial", None)).expect("started");
    let ours = write(authority.repository(), 1, "main@1");
    let theirs = write(authority.repository(), 2, "trial");
    let merged = merge(authority.repository(), 3, "trial");
    let parents = authority.repository().signed(&merged).expect("readable").expect("there").header().parents.clone();
    assert_eq!(parents.iter().collect::<std::collections::BTreeSet<_>>(), [&ours, &theirs].into());
    // Each branch judges what was made there, then one takes in what the other accepted.
    assert_eq!(authority.accept().expect("accepted"), 3);
    assert_eq!((heads(&authority, "main@1"), heads(&authority, "trial")), (vec![merged], vec![theirs]));
    assert_eq!(authority.accept().expect("nothing is left"), 0);
    assert!(authority.repository().view().log.voided().is_empty());
    let behind = scene.on(Arc::new(MemoryStore::default()));
    behind.repository().extend(&authority.repository().entries(0, usize::MAX).expect("readable")).expect("the same log");
    let parcels = [ours, theirs, merged].map(|id| parcel(authority.repository(), &id, true));
    receive(behind.repository(), parcels.into());
    let root = |repository: &Repository| repository.root(&repository.view().branches[&branch("main@1")]).expect("readable");
    assert_eq!(root(behind.repository()), root(authority.repository()));
}

/// The fault: commits that stand on another branch's were stored before the heads of their branch; after a crash between they were known, so
/// nobody sent them again, and in no state.
#[test]
fn a_merge_that_came_while_the_store_failed_is_in_the_state_after_the_next_start() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    authority.start_branch(&start_branch("trial", None)).expect("started");
    let ours = write(authority.repository(), 1, "main@1");
    let theirs = write(authority.repository(), 2, "trial");
    let merged = merge(authority.repository(), 3, "trial");
    let log = authority.repository().entries(0, usize::MAX).expect("readable");
    let root = |repository: &Repository, name: &str| repository.root(&repository.view().branches[&branch(name)]).expect("readable");
    let mut failed = 0;
    for successes in 0..6 {
        let store = Arc::new(Faulty::new(MemoryStore::default()));
        let parcels = || [ours, theirs, merged].map(|id| parcel(authority.repository(), &id, true)).into();
        let behind = scene.on(store.clone());
        behind.repository().extend(&log).expect("the same log");
        store.fail_writes_after(successes, WriteFault::Failed);
        failed += u32::from(behind.repository().receive(parcels()).is_err());
        drop(behind);
        store.mend();
        let behind = scene.on(store);
        behind.repository().receive(parcels()).expect("the store works");
        for name in ["main@1", "trial"] {
            assert_eq!(root(behind.repository(), name), root(authority.repository(), name), "{name} after {successes} writes");
        }
    }
    assert!(failed >= 2, "the store failed in between: {failed}");
}

#[test]
fn what_was_merged_from_a_branch_that_was_abandoned_meanwhile_is_accepted_all_the_same() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    authority.start_branch(&start_branch("trial", None)).expect("started");
    write(authority.repository(), 1, "trial");
    let merged = merge(authority.repository(), 2, "trial");
    authority.change_schema(branch("trial"), SchemaAction::Abandon).expect("it is open");
    authority.accept().expect("accepted");
    assert_eq!(heads(&authority, "main@1"), [merged]);
}

/// The fault: a commit of an older schema that named one of a newer as parent entered, and the edits of the newer with it.
#[test]
fn nothing_of_a_newer_schema_is_reachable_from_an_older_branch() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    authority.start_schema(&start(Some("main@1"), "main@2")).expect("started");
    let eve = SigningKey::from_bytes(&[5; 32]);
    let enrol = Kind::Enrol { replica: ReplicaId(eve.verifying_key().to_bytes()), name: "eve".to_owned(), role: Role::Replica };
    authority.append(enrol).expect("signed");
    let newer = write(authority.repository(), 1, "main@2");
    let older = write(authority.repository(), 2, "main@1");
    let sound = parcel(authority.repository(), &older, true);
    let session = SigningKey::from_bytes(&[6; 32]);
    let given = sound.commit.header();
    let header = Header {
        session: SessionId(session.verifying_key().to_bytes()),
        parents: vec![newer],
        time: Time::from_raw(given.time.raw() + 1),
        counter: 1,
        previous: None,
        ..given.clone()
    };
    let requests: Vec<Request> = sound.requests.iter().flatten().map(|sealed| Request::clone(sealed.request())).collect();
    let (commit, leaves) = Commit::sign(header, &requests, &session);
    let certificate = SessionCertificate::sign(given.repository, &session, given.time, &eve);
    let requests = requests.into_iter().map(|request| Some(request.into())).collect();
    let forged = Received { commit, certificate: Some(certificate), leaves, requests, documents: BTreeMap::new() };
    let outcomes = authority.repository().receive(vec![forged]).expect("the store works");
    assert!(matches!(outcomes[0].1, Outcome::Refused(_)), "{outcomes:?}");
    assert_eq!(authority.repository().view().branches[&branch("main@1")].count(herdbook_model::schema::CollectionId(1)), 1);
}

#[test]
fn a_token_is_no_way_back_for_who_was_revoked() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    let hour = std::time::Duration::from_secs(3600);
    let token = authority.create_token(Role::Replica, hour).expect("made").token;
    let join = Join::sign(token, "alice".to_owned(), String::new(), &SigningKey::from_bytes(&[5; 32]));
    authority.join(&join).expect("it joins");
    authority.append(Kind::Revoke { replica: join.replica }).expect("signed");
    assert!(matches!(authority.join(&join), Err(Error::Token(Refused::Unknown))));
}

#[test]
fn a_join_that_fails_can_be_tried_again_with_its_token() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    let token = authority.create_token(Role::Replica, std::time::Duration::from_secs(3600)).expect("made").token;
    let join = Join::sign(token, "alice".to_owned(), String::new(), &SigningKey::from_bytes(&[5; 32]));
    scene.store.fail_writes_after(1, WriteFault::Busy);
    authority.join(&join).expect_err("the entry cannot be stored");
    authority.join(&join).expect("now it can");
    assert!(authority.repository().view().log.is_member(&join.replica));
}

/// Returns the first commit of a session, that of `parcel` signed anew: with two parcels a fork.
fn signed(parcel: &Received, session: &SigningKey, replica: &SigningKey) -> Received {
    let given = parcel.commit.header();
    let header = Header {
        session: SessionId(session.verifying_key().to_bytes()),
        parents: Vec::new(),
        counter: 1,
        previous: None,
        requests: Leaf([0; 32]),
        request_count: 0,
        ..given.clone()
    };
    let requests: Vec<Request> = parcel.requests.iter().flatten().map(|sealed| Request::clone(sealed.request())).collect();
    let (commit, _) = Commit::sign(header, &requests, session);
    let certificate = SessionCertificate::sign(given.repository, session, given.time, replica);
    let leaves = requests.iter().map(Request::leaf).collect();
    let requests = requests.into_iter().map(|request| Some(request.into())).collect();
    Received { commit, certificate: Some(certificate), leaves, requests, documents: BTreeMap::new() }
}

/// The fault: nodes that held two sides of a fork never held the same again, since nothing said which of them stands.
#[test]
fn the_side_of_a_fork_that_the_authority_holds_stands_everywhere() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    let [eve, session] = [5, 6].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let enrol = Kind::Enrol { replica: ReplicaId(eve.verifying_key().to_bytes()), name: "eve".to_owned(), role: Role::Replica };
    authority.append(enrol).expect("signed");
    let log = authority.repository().entries(0, usize::MAX).expect("readable");
    let node = || {
        let node = scene.on(Arc::new(MemoryStore::default()));
        node.repository().extend(&log).expect("the same log");
        node
    };
    let [stands, refused, beside] = [1, 2, 3].map(|number| {
        let author = node();
        let id = write(author.repository(), number, "main@1");
        parcel(author.repository(), &id, true)
    });
    let [stands, refused] = [stands, refused].map(|parcel| signed(&parcel, &session, &eve));
    let disk = Arc::new(MemoryStore::default());
    let bob = scene.on(disk.clone());
    bob.repository().extend(&log).expect("the same log");
    receive(authority.repository(), vec![stands.clone(), beside.clone()]);
    receive(bob.repository(), vec![refused.clone(), beside]);
    let upon = write(bob.repository(), 4, "main@1");
    authority.repository().keep_fork(&refused.commit).expect("kept");
    assert_eq!(authority.accept().expect("judged and accepted"), 1);
    let news = authority.repository().entries(log.len() as u64, usize::MAX).expect("readable");
    bob.repository().extend(&news).expect("the log goes on");

    for gone in [refused.commit.id(), upon] {
        assert_eq!(bob.repository().meta(&gone).expect("readable"), None, "it and what stands on it is dropped");
    }
    let outcome = bob.repository().receive(vec![refused]).expect("the store works").pop().expect("one");
    assert!(matches!(outcome.1, Outcome::Refused(_)), "{outcome:?}");
    receive(bob.repository(), vec![stands]);
    let state = |authority: &Authority| authority.repository().view().branches[&branch("main@1")].name();
    assert_eq!(state(&bob), state(&authority));
    assert_eq!(heads(&authority, "main@1").len(), 2, "what stands, and what was beside it");
    let edit = DocumentEdit { collection: "notes".to_owned(), key: Key::new("x").expect("short"), change: DocumentChange::Put(Vec::new()) };
    let ask = Ask {
        branch: Some(branch("main@1")),
        key: RequestKey([9; 16]),
        principal: String::new(),
        wanted: Vec::new(),
        edits: vec![edit],
        message: String::new(),
    };
    let over = bob.repository().commit_one(ask.clone(), Durability::Durable);
    assert!(matches!(over, Err(RepositoryError::SessionOver)), "its places on the chain are used: {over:?}");
    drop(bob);
    let bob = scene.on(disk);
    assert_eq!(state(&bob), state(&authority), "so it is on the disk");
    bob.repository().commit_one(ask, Durability::Durable).expect("a new session goes on");
}
