//! The head log takes what extends it and refuses everything else, whatever byte was changed.

use std::sync::Arc;

use herdbook_model::{
    SigningKey,
    authority::{
        AuthorityCertificate, BranchRule, Entry, Error, Horizon, Kind, Log, Lost, RequestRef, Role, SchemaAction, SessionCertificate, Void,
    },
    codec::{Decode as _, Encode as _},
    id::{BranchName, ChainId, CommitId, EntryId, Judgement, ReplicaId, StateRoot},
    testutil::{branch, repository, schema, signing_key},
    time::Time,
};

/// An authority that signs whatever it is asked to.
struct Authority {
    key: SigningKey,
    epoch: u64,
    seq: u64,
    newest: Option<EntryId>,
}

impl Authority {
    fn new() -> Self {
        Self { key: signing_key("authority 1"), epoch: 1, seq: 0, newest: None }
    }

    fn sign(&self, kind: Kind) -> Entry {
        Entry::sign(repository(), (self.epoch, self.seq, self.newest), Time::from_millis(self.seq), kind, &self.key)
    }

    fn next(&mut self, kind: Kind) -> Entry {
        let entry = self.sign(kind);
        (self.seq, self.newest) = (self.seq + 1, Some(entry.id()));
        entry
    }
}

fn certificate(key: &SigningKey, epochs: (u64, u64), root: &str) -> Kind {
    let key = key.verifying_key().to_bytes();
    Kind::Epoch { certificate: AuthorityCertificate::sign(repository(), key, epochs, &signing_key(root)) }
}

fn replica(name: &str) -> ReplicaId {
    ReplicaId(signing_key(name).verifying_key().to_bytes())
}

fn request(commit: u8) -> RequestRef {
    RequestRef { commit: CommitId([commit; 32]), request: 1 }
}

fn second() -> BranchName {
    BranchName::new("main@2").expect("a valid name")
}

/// A log with an entry of each kind, in two epochs.
fn entries() -> Vec<Entry> {
    let mut authority = Authority::new();
    let start = |from, version| SchemaAction::Start { from, schema: herdbook_model::schema::Schema { version, ..schema() } };
    let head = |heads: &[u8], voids: Vec<Void>| Kind::Head {
        branch: branch(),
        heads: heads.iter().map(|head| CommitId([*head; 32])).collect(),
        root: Some(StateRoot([9; 32])),
        voids,
    };
    let kinds = [
        certificate(&authority.key, (1, 1), "root"),
        Kind::Schema { branch: branch(), action: start(None, 1) },
        Kind::Enrol { replica: replica("alice"), name: "alice".to_owned(), role: Role::Replica },
        Kind::Enrol { replica: replica("hub"), name: "hub".to_owned(), role: Role::Coordinator },
        head(&[1, 2], Vec::new()),
        head(&[3], vec![Void { request: request(2), reason: "no access".to_owned() }]),
        Kind::Schema { branch: second(), action: start(Some(branch()), 2) },
        Kind::Migration { branch: second(), heads: vec![CommitId([3; 32])], source: EntryId([5; 32]) },
        Kind::Schema { branch: second(), action: SchemaAction::Promote },
        Kind::Schema { branch: branch(), action: SchemaAction::Abandon },
        Kind::Revoke { replica: replica("alice") },
    ];
    let mut entries: Vec<_> = kinds.into_iter().map(|kind| authority.next(kind)).collect();
    (authority.key, authority.epoch) = (signing_key("authority 2"), 4);
    entries.push(authority.next(certificate(&authority.key, (2, 9), "root")));
    let lost = vec![Lost { request: request(7), documents: vec!["animals/alma".to_owned()] }];
    entries.push(authority.next(Kind::Restore { reporters: vec![replica("hub")], lost }));
    entries
}

fn log_of(entries: &[Entry]) -> Log {
    let mut log = Log::new(repository(), signing_key("root").verifying_key().to_bytes());
    entries.iter().for_each(|entry| _ = log.extend(entry).expect("it extends the log"));
    log
}

#[test]
fn a_log_says_what_its_entries_decided() {
    let log = log_of(&entries());
    assert_eq!(log.newest().map(|newest| (newest.epoch, newest.seq)), Some((4, 12)));
    assert_eq!(log.promoted(), Some(&second()));
    assert_eq!(log.branch(&second()).expect("started").heads, vec![CommitId([3; 32])]);
    assert!(!log.is_member(&replica("alice")) && log.is_member(&replica("hub")) && !log.is_member(&replica("eve")));
    assert!(log.skips(&request(2)) && log.skips(&request(7)) && !log.skips(&request(3)));
    assert_eq!(log.judgement(), Judgement(log.newest().expect("not empty").id.0));
    assert_eq!(log_of(&entries()[..5]).judgement(), Judgement::NONE);
}

#[test]
fn any_changed_byte_of_any_entry_is_refused_and_leaves_the_log_as_it_was() {
    let entries = entries();
    for (at, entry) in entries.iter().enumerate() {
        let log = log_of(&entries[..at]);
        let bytes = entry.to_bytes();
        assert_eq!(Entry::from_bytes(&bytes).as_ref(), Ok(entry));
        for (byte, bit) in (0..bytes.len()).flat_map(|byte| [1, 0x80].map(|bit| (byte, bit))) {
            let mut changed = bytes.clone();
            changed[byte] ^= bit;
            let Ok(changed) = Entry::from_bytes(&changed) else { continue };
            let mut after = log.clone();
            assert!(after.extend(&changed).is_err(), "entry {at} with byte {byte} changed by {bit:#x} was taken");
            assert_eq!(after.newest(), log.newest());
            assert_eq!(after.extend(entry).map(|position| position.id), Ok(entry.id()));
        }
    }
}

#[test]
fn entries_that_do_not_extend_are_refused() {
    let entries = entries();
    for at in 0..entries.len() {
        let mut log = log_of(&entries[..at]);
        for (other, entry) in entries.iter().enumerate().filter(|(other, _)| *other != at) {
            let error = log.extend(entry).expect_err("another entry is due");
            let expected = matches!(error, Error::DoesNotExtend { .. } | Error::BadSignature { .. });
            assert!(expected, "entry {other} where {at} is due: {error}");
            assert_eq!(log.newest().map(|newest| newest.seq + 1).unwrap_or(0), at as u64);
        }
    }
}

#[test]
fn two_entries_of_one_place_are_a_fork() {
    let mut authority = Authority::new();
    let mut entries = vec![authority.next(certificate(&authority.key, (1, 1), "root"))];
    let enrol = |name: &str| Kind::Enrol { replica: replica(name), name: name.to_owned(), role: Role::Replica };
    let other = authority.sign(enrol("eve"));
    entries.push(authority.next(enrol("alice")));
    let mut log = log_of(&entries);
    let (known, found) = (entries[1].id(), other.id());
    assert_eq!(log.extend(&other), Err(Error::Fork { epoch: 1, seq: 1, known, found }));
    assert!(!log.is_member(&replica("eve")));
}

#[test]
fn only_a_certified_key_opens_an_epoch_and_only_a_higher_one() {
    let mut authority = Authority::new();
    let entries = vec![authority.next(certificate(&authority.key, (1, 3), "root"))];
    let log = log_of(&entries);
    let thief = signing_key("thief");
    let refused = |epoch, key: &SigningKey, kind| {
        let entry = Entry::sign(repository(), (epoch, 1, Some(entries[0].id())), Time::ZERO, kind, key);
        log.clone().extend(&entry).expect_err("it must be refused")
    };
    let bad = |epoch| Error::BadSignature { seq: 1, epoch };
    assert_eq!(refused(2, &thief, certificate(&thief, (2, 2), "not the root")), bad(2));
    assert_eq!(refused(2, &thief, certificate(&authority.key, (2, 2), "root")), bad(2));
    assert_eq!(refused(4, &authority.key, certificate(&authority.key, (1, 3), "root")), bad(4));
    assert_eq!(refused(1, &authority.key, certificate(&authority.key, (1, 3), "root")), Error::WrongEpoch { seq: 1, current: 1, found: 1 });
    let revoke = || Kind::Revoke { replica: replica("alice") };
    assert_eq!(refused(2, &authority.key, revoke()), Error::WrongEpoch { seq: 1, current: 1, found: 2 });
    assert_eq!(refused(1, &thief, revoke()), bad(1));
    let elsewhere = herdbook_model::id::RepositoryId([0; 32]);
    let entry = Entry::sign(elsewhere, (1, 1, Some(entries[0].id())), Time::ZERO, revoke(), &authority.key);
    assert_eq!(log.clone().extend(&entry), Err(Error::OtherRepository { expected: repository(), found: elsewhere }));
}

#[test]
fn decisions_about_branches_that_are_not_open_are_refused() {
    let entries = entries();
    let mut authority = Authority { key: signing_key("authority 2"), epoch: 4, seq: 13, newest: entries.last().map(Entry::id) };
    let log = log_of(&entries);
    let head = |branch| Kind::Head { branch, heads: Vec::new(), root: None, voids: Vec::new() };
    let start = |from| SchemaAction::Start { from, schema: schema() };
    let third = || BranchName::new("main@3").expect("a valid name");
    let cases = [
        (head(third()), BranchRule::Absent),
        (head(branch()), BranchRule::Abandoned),
        (Kind::Schema { branch: second(), action: start(None) }, BranchRule::Exists),
        (Kind::Schema { branch: third(), action: start(Some(branch())) }, BranchRule::Abandoned),
        (Kind::Schema { branch: second(), action: SchemaAction::Abandon }, BranchRule::Promoted),
    ];
    for (kind, expected) in cases {
        let mut after = log.clone();
        let Err(Error::BadBranch { rule, .. }) = after.extend(&authority.sign(kind)) else { panic!("{expected}: it was taken") };
        assert_eq!((rule, after.newest()), (expected, log.newest()));
    }
    let third_branch = authority.next(Kind::Schema { branch: third(), action: start(Some(second())) });
    let mut after = log;
    after.extend(&third_branch).expect("it starts from an open branch");
    assert_eq!(after.branch(&third()).expect("started").schema, Arc::new(schema()));
}

#[test]
fn any_changed_byte_of_a_certificate_is_refused() {
    let root = signing_key("root");
    let authority = AuthorityCertificate::sign(repository(), [7; 32], (1, 300), &root);
    let session = SessionCertificate::sign(repository(), &signing_key("session"), Time::from_millis(5), &signing_key("alice"));
    assert_eq!((authority.verify(&root.verifying_key().to_bytes()), session.verify()), (Ok(()), Ok(())));
    let (one, other) = (authority.to_bytes(), session.to_bytes());
    for at in 0..one.len().max(other.len()) {
        let changed = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1;
            bytes
        };
        let authority = AuthorityCertificate::from_bytes(&changed(&one));
        assert!(authority.is_err() || authority.is_ok_and(|certificate| certificate.verify(&root.verifying_key().to_bytes()).is_err()));
        let session = SessionCertificate::from_bytes(&changed(&other));
        assert!(session.is_err() || session.is_ok_and(|certificate| certificate.verify().is_err()));
    }
}

#[test]
fn who_does_not_hold_a_sessions_key_cannot_claim_it() {
    let (alice, eve) = (signing_key("alice"), signing_key("eve"));
    let session = signing_key("session");
    let honest = SessionCertificate::sign(repository(), &session, Time::from_millis(5), &alice);
    // Eve signs with her own keys that the session is hers, and puts alice's session into it.
    let mut claimed = SessionCertificate::sign(repository(), &eve, Time::from_millis(5), &eve);
    claimed.session = honest.session;
    let bytes = claimed.to_bytes();
    // Her replica's signature can be made good: what she lacks is the session's.
    let body = [b"\x07session".as_slice(), &bytes[..bytes.len() - 128]].concat();
    let signature = herdbook_model::authority::sign(&eve, &herdbook_model::id::Domain::Certificate.hash(&[&body]));
    let mut forged = bytes;
    let at = forged.len() - 128;
    forged[at..at + 64].copy_from_slice(&signature);
    let forged = SessionCertificate::from_bytes(&forged).expect("well formed");
    assert_eq!(forged.verify().expect_err("not hers").what, "session certificate's proof of possession");
}

#[test]
fn the_first_word_about_a_forked_place_stands() {
    let mut authority = Authority::new();
    let opens = certificate(&authority.key, (1, 300), "root");
    let mut log = log_of(&[authority.next(opens)]);
    let chain = ChainId([6; 16]);
    let [one, other] = [CommitId([1; 32]), CommitId([2; 32])];
    for stands in [one, other] {
        log.extend(&authority.next(Kind::Fork { chain, counter: 3, stands })).expect("in order");
    }
    assert!(log.refuses(&other, &chain, 3) && !log.refuses(&one, &chain, 3) && !log.refuses(&other, &chain, 4));
}

#[test]
fn a_horizon_is_of_a_branch_that_is_there_and_has_commits() {
    let mut authority = Authority::new();
    let opens = certificate(&authority.key, (1, 300), "root");
    let mut log = log_of(&[authority.next(opens)]);
    let (name, root) = (branch(), StateRoot([5; 32]));
    let horizon = |heads: &[CommitId]| Kind::Horizon { branch: name.clone(), heads: heads.to_vec(), root };
    log.extend(&authority.sign(horizon(&[CommitId([1; 32])]))).expect_err("no such branch");
    let start = SchemaAction::Start { from: None, schema: schema() };
    log.extend(&authority.next(Kind::Schema { branch: name.clone(), action: start })).expect("in order");
    log.extend(&authority.sign(horizon(&[]))).expect_err("of nothing");
    for heads in [[CommitId([1; 32])], [CommitId([2; 32])]] {
        let set = log.extend(&authority.next(horizon(&heads))).expect("in order");
        assert_eq!(log.horizons()[&name], Horizon { heads: heads.to_vec(), root, set });
    }
}
