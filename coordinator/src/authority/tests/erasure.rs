//! Erasure: the value goes from states, history and store; everything else stays as it was.

use herdbook_model::{
    request::Must,
    value::{Scalar, Value},
};
use herdbook_proto::{cluster::Erase, document::Name};
use herdbook_replica::repository::{Collecting, FieldChange, Moment, Revert, Selection, Wanted};

use super::*;

const PEOPLE: &str = r#"{"version": 1, "collections": {"people": {"fields": [
    {"name": "name", "type": "string"}, {"name": "phone", "type": "erasable<string>"}, {"name": "mail", "type": "erasable<string>", "policy": "strict"}]}}}"#;

fn people(authority: &mut Authority) {
    let definition = Definition::Schema(PEOPLE.to_owned());
    let start = StartSchema { repository: None, branch: Some(branch("main@1")), from: None, definition, dry_run: false };
    authority.start_schema(&start).expect("started");
}

fn edit(key: &str, change: DocumentChange) -> DocumentEdit {
    DocumentEdit { collection: "people".to_owned(), key: Key::new(key).expect("short"), change }
}

fn commit(repository: &Repository, number: u8, edits: Vec<DocumentEdit>) -> CommitId {
    let key = RequestKey([number; 16]);
    let ask = Ask { branch: None, key, principal: String::new(), wanted: Vec::new(), edits, message: String::new() };
    repository.commit_one(ask, Durability::Durable).expect("committed").commit
}

fn put(key: &str, fields: &[(&str, &str)]) -> DocumentEdit {
    edit(key, DocumentChange::Put(fields.iter().map(|(name, value)| ((*name).into(), Value::from(*value))).collect()))
}

fn set(key: &str, field: &str, value: &str) -> DocumentEdit {
    edit(key, DocumentChange::Update(vec![(field.into(), FieldChange::Set(Value::from(value)))]))
}

fn shown_at(repository: &Repository, moment: Option<&CommitId>, key: &str, field: &str) -> Option<String> {
    let view = repository.view();
    let state = match moment {
        Some(commit) => repository.state_at(&view, None, &Moment::Commit(*commit)).expect("it replays"),
        None => view.state(None).expect("a branch").clone(),
    };
    let collection = state.schema().collection("people").expect("there");
    let document = repository.get(&state, collection.id, &Key::new(key).expect("short")).expect("readable")?;
    let shown = repository.view_of(&state, collection, &document).expect("readable")?;
    match shown.fields.get(field)? {
        Value::Scalar(Scalar::String(text)) => Some(text.to_string()),
        other => panic!("{other:?}"),
    }
}

fn shown(repository: &Repository, key: &str, field: &str) -> Option<String> {
    shown_at(repository, None, key, field)
}

fn erase(key: &str, field: Option<&str>) -> Erase {
    let name = Name { collection: "people".into(), key: Key::new(key).expect("short") };
    Erase { branch: None, name, field: field.map(Into::into), dry_run: false }
}

/// Whether a value's bytes lie in any table or chunk.
fn holds(store: &MemoryStore, value: &str) -> bool {
    let tables = Table::ALL.iter().any(|table| {
        let mut records = store.records().scan(*table, KeyRange::all(), Direction::Forward);
        records.any(|record| contains(&record.expect("readable").value, value))
    });
    tables || store.all_chunks().iter().any(|chunk| contains(chunk.bytes(), value))
}

fn contains(bytes: &[u8], value: &str) -> bool {
    bytes.windows(value.len()).any(|window| window == value.as_bytes())
}

fn is_sound(repository: &Repository) {
    let report = repository.fsck(|_| ()).expect("it reads");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn what_is_erased_is_nowhere_and_all_else_is_as_it_was() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    people(&mut authority);
    let repository = authority.repository().clone();
    let first = commit(&repository, 1, vec![put("ada", &[("name", "Ada"), ("phone", "0170-first"), ("mail", "ada@mail")])]);
    commit(&repository, 2, vec![set("ada", "phone", "0170-second"), put("bob", &[("phone", "0170-of-bob")])]);
    authority.accept().expect("accepted");
    repository.materialise().expect("folded");
    assert_eq!(shown(&repository, "ada", "phone").as_deref(), Some("0170-second"));
    assert_eq!(shown_at(&repository, Some(&first), "ada", "phone").as_deref(), Some("0170-first"));
    assert!(["0170-first", "0170-second"].iter().all(|value| holds(scene.store.inner(), value)), "the test looks in the right places");

    let dry = authority.erase(&Erase { dry_run: true, ..erase("ada", Some("phone")) }).expect("told");
    assert_eq!((dry.values, dry.requests, dry.past, dry.position), (2, 2, 0, None));
    assert_eq!(shown(&repository, "ada", "phone").as_deref(), Some("0170-second"), "it was only told");
    let erased = authority.erase(&erase("ada", Some("phone"))).expect("erased");
    assert_eq!((erased.values, erased.requests, erased.position.is_some()), (2, 2, true));

    let is_erased = |repository: &Repository| {
        assert_eq!(shown(repository, "ada", "phone"), None);
        assert_eq!(shown_at(repository, Some(&first), "ada", "phone"), None);
        assert_eq!(shown(repository, "ada", "name").as_deref(), Some("Ada"));
        assert_eq!(shown(repository, "ada", "mail").as_deref(), Some("ada@mail"), "another field of the same request");
        assert_eq!(shown_at(repository, Some(&first), "ada", "mail").as_deref(), Some("ada@mail"));
        assert_eq!(shown(repository, "bob", "phone").as_deref(), Some("0170-of-bob"), "another document of the same request");
        is_sound(repository);
    };
    is_erased(&repository);
    authority.accept().expect("what took the parts away is accepted");
    repository.materialise().expect("folded");
    authority.accept().expect("the new root is signed");
    repository.collect(Collecting::default(), |_| ()).expect("collected");
    for value in ["0170-first", "0170-second"] {
        assert!(!holds(scene.store.inner(), value), "{value} is still in the store");
    }
    assert!(holds(scene.store.inner(), "0170-of-bob"));
    is_erased(&repository);
    assert_eq!(authority.erase(&erase("ada", Some("phone"))).expect("again").requests, 0, "there is nothing more to erase");
    commit(&repository, 3, vec![set("ada", "phone", "0170-third")]);
    assert_eq!(shown(&repository, "ada", "phone").as_deref(), Some("0170-third"), "it can be written again");

    drop((authority, repository));
    let (authority, _) = scene.start();
    assert_eq!(shown(authority.repository(), "ada", "phone").as_deref(), Some("0170-third"));
    assert_eq!(shown_at(authority.repository(), Some(&first), "ada", "phone"), None);
}

#[test]
fn a_member_drops_what_is_erased_and_takes_it_from_nobody() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    people(&mut authority);
    let repository = authority.repository().clone();
    let written = commit(&repository, 1, vec![put("ada", &[("phone", "0170-first")])]);
    authority.accept().expect("accepted");
    let whole = parcel(&repository, &written, true);
    let log = repository.entries(0, usize::MAX).expect("readable");
    let (early, late) = (Arc::new(MemoryStore::default()), Arc::new(MemoryStore::default()));
    let (early_member, late_member) = (scene.on(early.clone()), scene.on(late.clone()));
    early_member.repository().extend(&log).expect("the log so far");
    receive(early_member.repository(), vec![whole.clone()]);
    assert_eq!(shown(early_member.repository(), "ada", "phone").as_deref(), Some("0170-first"));

    authority.erase(&erase("ada", None)).expect("erased");
    let log = repository.entries(0, usize::MAX).expect("readable");
    early_member.repository().extend(&log).expect("the log goes on");
    assert_eq!(shown(early_member.repository(), "ada", "phone"), None);
    // Who hears of it first takes the commit without that, also from one that has it still.
    late_member.repository().extend(&log).expect("the whole log");
    receive(late_member.repository(), vec![whole.clone()]);
    assert_eq!(shown(late_member.repository(), "ada", "phone"), None);
    for (member, store) in [(&early_member, &early), (&late_member, &late)] {
        assert!(matches!(member.repository().receive(vec![whole.clone()]).expect("the store works")[..], [(_, Outcome::Known)]));
        member.repository().materialise().expect("folded");
        member.repository().collect(Collecting::default(), |_| ()).expect("collected");
        assert!(!holds(store, "0170-first"));
        assert!(member.repository().view().lost.is_empty(), "erased is not lost");
        is_sound(member.repository());
    }
    let names =
        [&repository, early_member.repository(), late_member.repository()].map(|it| it.view().branches[&branch("main@1")].judgement());
    assert!(names.iter().all(|name| *name == names[0]), "all judge alike");
}

/// The faults: the state that was noted for newcomers kept it, and so did a collection that a reader of an older state or a later erasure got in
/// the way of; both said that nothing was left to be done.
#[test]
fn a_collection_leaves_the_mark_while_anything_may_hold_what_was_erased() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    people(&mut authority);
    let repository = authority.repository().clone();
    commit(&repository, 1, vec![put("ada", &[("phone", "0170-of-ada")]), put("bob", &[("phone", "0170-of-bob")])]);
    // What preconditions were judged by is kept for the next.
    let key = Key::new("carol").expect("short");
    let wanted = vec![Wanted { collection: "people".to_owned(), key, must: Must::BeAbsent, only_here: false }];
    let ask = Ask {
        branch: None,
        key: RequestKey([9; 16]),
        principal: String::new(),
        wanted,
        edits: vec![put("carol", &[])],
        message: String::new(),
    };
    repository.commit_one(ask, Durability::Durable).expect("committed");
    authority.accept().expect("accepted");
    repository.materialise().expect("folded");
    authority.accept().expect("the root is signed");
    let collect = || repository.collect(Collecting::default(), |_| ()).expect("collected");
    let is_there = |key: &str| (holds(scene.store.inner(), &format!("0170-of-{key}")), repository.has_erased().expect("readable"));
    collect();
    assert_eq!(is_there("ada"), (true, false));

    let reader = repository.view();
    authority.erase(&erase("ada", None)).expect("erased");
    collect();
    assert_eq!(is_there("ada"), (true, true), "somebody reads a state that has it");
    drop(reader);
    let mut erased = None;
    let during = |_| _ = erased.get_or_insert_with(|| authority.erase(&erase("bob", None)).expect("erased"));
    repository.collect(Collecting::default(), during).expect("collected");
    assert_eq!(erased.expect("while it went on").requests, 1);
    assert_eq!((is_there("ada"), is_there("bob")), ((false, true), (true, true)));
    collect();
    assert_eq!(is_there("bob"), (false, false));
    is_sound(&repository);
}

/// The fault: where a horizon was set, values that were overwritten before it named nobody any more and stayed.
#[test]
fn values_from_before_a_horizon_are_found_and_go_with_the_next() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    people(&mut authority);
    let repository = authority.repository().clone();
    commit(&repository, 1, vec![put("ada", &[("phone", "0170-first"), ("mail", "ada@mail")]), put("bob", &[("phone", "0170-of-bob")])]);
    commit(&repository, 2, vec![set("ada", "phone", "0170-second")]);
    authority.accept().expect("accepted");
    let horizon = SetHorizon { branch: None, before: Time::from_millis(u64::MAX >> 17), dry_run: false };
    assert_eq!(authority.set_horizon(&horizon).expect("signed").len(), 1);
    repository.collect(Collecting::default(), |_| ()).expect("collected");
    commit(&repository, 3, vec![set("ada", "phone", "0170-third")]);
    authority.accept().expect("accepted");

    let erased = authority.erase(&erase("ada", Some("phone"))).expect("erased");
    assert_eq!((erased.values, erased.requests, erased.past), (3, 1, 2), "two of them stand in the state at the horizon");
    assert_eq!(shown(&repository, "ada", "phone"), None);
    authority.accept().expect("accepted");
    assert_eq!(authority.set_horizon(&horizon).expect("signed").len(), 1);
    repository.collect(Collecting::default(), |_| ()).expect("collected");
    for value in ["0170-first", "0170-second", "0170-third"] {
        assert!(!holds(scene.store.inner(), value), "{value} is still in the store");
    }
    assert_eq!(
        (shown(&repository, "ada", "mail"), shown(&repository, "bob", "phone")),
        (Some("ada@mail".into()), Some("0170-of-bob".into()))
    );
    is_sound(&repository);
    assert_eq!(authority.erase(&erase("ada", Some("phone"))).expect("again").values, 0);
}

/// The fault: a revert that would have brought back one erased value was refused as a whole.
#[test]
fn a_revert_brings_back_all_but_what_was_erased() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    people(&mut authority);
    let repository = authority.repository().clone();
    commit(&repository, 1, vec![put("ada", &[("name", "Ada"), ("phone", "0170-first"), ("mail", "ada@mail")])]);
    let changed = commit(&repository, 2, vec![put("ada", &[("name", "Eve"), ("phone", "0170-second"), ("mail", "eve@mail")])]);
    authority.accept().expect("accepted");
    authority.erase(&erase("ada", Some("phone"))).expect("erased");
    let revert = |number, commit| {
        let selection = Selection::of(&[commit]);
        let revert = Revert { branch: None, selection, key: RequestKey([number; 16]), message: String::new(), dry_run: false };
        repository.revert(&revert, Durability::Durable).expect("reverted").committed.expect("something was left").commit
    };
    let reverted = revert(3, changed);
    let ada = || ["name", "phone", "mail"].map(|field| shown(&repository, "ada", field));
    assert_eq!(ada(), [Some("Ada".to_owned()), None, Some("ada@mail".to_owned())]);
    // What a sweep has hidden meanwhile is written anew.
    let view = repository.view();
    let mut sweep = repository.sweep(&view, None, 0).expect("worked out");
    assert!(sweep.swept.hidden > 0, "{:?}", sweep.swept);
    while let Some(ask) = repository.sweep_on(&mut sweep).expect("worked out") {
        repository.commit_one(ask, Durability::Durable).expect("swept");
    }
    revert(4, reverted);
    assert_eq!(ada(), [Some("Eve".to_owned()), None, Some("eve@mail".to_owned())]);
    is_sound(&repository);
}

/// The fault: what was dropped with a fork was kept as evidence, values that can be erased with it, and no erasure reached it there.
#[test]
fn evidence_of_a_fork_keeps_no_value_that_can_be_erased() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    people(&mut authority);
    let [eve, session] = [5, 6].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let enrol = Kind::Enrol { replica: ReplicaId(eve.verifying_key().to_bytes()), name: "eve".to_owned(), role: Role::Replica };
    authority.append(enrol).expect("signed");
    let log = authority.repository().entries(0, usize::MAX).expect("readable");
    let [stands, refused] = [("ada", 1), ("bob", 2)].map(|(key, number)| {
        let author = scene.on(Arc::new(MemoryStore::default()));
        author.repository().extend(&log).expect("the same log");
        let id = commit(author.repository(), number, vec![put(key, &[("name", "0170-is-a-name"), ("phone", &format!("0170-of-{key}"))])]);
        signed(&parcel(author.repository(), &id, true), &session, &eve)
    });
    let disk = Arc::new(MemoryStore::default());
    let bob = scene.on(disk.clone());
    bob.repository().extend(&log).expect("the same log");
    receive(bob.repository(), vec![refused.clone()]);
    assert!(holds(&disk, "0170-of-bob"));
    receive(authority.repository(), vec![stands]);
    authority.repository().keep_fork(&refused.commit).expect("kept");
    authority.accept().expect("judged");
    let news = authority.repository().entries(log.len() as u64, usize::MAX).expect("readable");
    bob.repository().extend(&news).expect("the log goes on");
    assert_eq!(bob.repository().meta(&refused.commit.id()).expect("readable"), None, "it was dropped");
    assert_eq!((holds(&disk, "0170-of-bob"), holds(&disk, "0170-is-a-name")), (false, true));
}

#[test]
fn equal_values_are_told_apart_and_writing_the_same_again_writes_none() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    people(&mut authority);
    let repository = authority.repository().clone();
    commit(&repository, 1, vec![put("ada", &[("phone", "0170-same")]), put("bob", &[("phone", "0170-same")])]);
    let named = |key: &str| {
        let view = repository.view();
        let state = view.state(None).expect("a branch");
        let collection = state.schema().collection("people").expect("there");
        let document = repository.get(state, collection.id, &Key::new(key).expect("short")).expect("readable").expect("there");
        document.field(collection.field("phone").expect("there").id).expect("kept").clone()
    };
    assert_ne!(named("ada"), named("bob"));
    let before = named("ada");
    commit(&repository, 2, vec![put("ada", &[("phone", "0170-same"), ("name", "Ada")])]);
    assert_eq!(named("ada"), before);
    authority.erase(&erase("ada", None)).expect("erased");
    assert_eq!((shown(&repository, "ada", "phone"), shown(&repository, "bob", "phone").as_deref()), (None, Some("0170-same")));
}

#[test]
fn what_cannot_be_erased_or_does_not_fit_is_refused() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    people(&mut authority);
    let refused = authority.erase(&erase("ada", Some("name")));
    assert!(matches!(refused, Err(Error::Repository(RepositoryError::NotErasable { .. }))), "{refused:?}");
    assert!(matches!(authority.erase(&erase("ada", Some("height"))), Err(Error::Repository(RepositoryError::Schema(_)))));
    assert_eq!(authority.erase(&erase("nobody", None)).expect("nothing").values, 0);
    let number = vec![("phone".into(), Value::from(5))];
    let ask = |change| Ask {
        branch: None,
        key: RequestKey([9; 16]),
        principal: String::new(),
        wanted: Vec::new(),
        edits: vec![edit("ada", change)],
        message: String::new(),
    };
    let refused = authority.repository().commit_one(ask(DocumentChange::Put(number)), Durability::Process).expect_err("a number");
    assert!(matches!(refused, RepositoryError::Schema(_)), "{refused:?}");
    let long = "x".repeat(300 << 10);
    let change = DocumentChange::Put(vec![("phone".into(), Value::from(long.as_str()))]);
    let refused = authority.repository().commit_one(ask(change), Durability::Process).expect_err("too long");
    assert!(matches!(refused, RepositoryError::TooLarge { .. }), "{refused:?}");
    assert_eq!(shown(authority.repository(), "ada", "name"), None, "nothing was written");
}

/// The fault: a name from outside in an erasable field gave another's value to read, and to erase: a file's, with all that was uploaded beside it.
#[test]
fn the_name_of_anothers_value_is_no_value() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    people(&mut authority);
    let repository = authority.repository().clone();
    commit(&repository, 1, vec![put("bob", &[("phone", "0170-of-bob")])]);
    let view = repository.view();
    let state = view.state(None).expect("a branch");
    let collection = state.schema().collection("people").expect("there");
    let bob = repository.get(state, collection.id, &Key::new("bob").expect("short")).expect("readable").expect("there");
    let name = bob.field(collection.field("phone").expect("there").id).expect("kept").shown_scalar().expect("a name").clone();
    let change = DocumentChange::Put(vec![("phone".into(), Value::Scalar(name))]);
    let (principal, message) = (String::new(), String::new());
    let ask = Ask { branch: None, key: RequestKey([7; 16]), principal, wanted: Vec::new(), edits: vec![edit("eve", change)], message };
    let refused = repository.commit_one(ask, Durability::Process).expect_err("it is bob's");
    assert!(matches!(refused, RepositoryError::NotAValue { .. }), "{refused:?}");
    assert_eq!(authority.erase(&erase("eve", None)).expect("nothing").values, 0);
    assert_eq!(shown(&repository, "bob", "phone").as_deref(), Some("0170-of-bob"));
}
