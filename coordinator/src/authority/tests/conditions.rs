//! Preconditions of requests that were made apart.

use herdbook_model::{authority::RequestRef, id::StateRoot, request::Must, schema::CollectionId, value::Value};
use herdbook_replica::repository::{FieldChange, StateParts, Wanted, version};
use proptest::prelude::*;

use super::*;

const COUNTERS: &str = r#"{"version": 1, "collections": {"notes": {"fields": [
    {"name": "text", "type": "string"}, {"name": "other", "type": "int"}]}}}"#;

/// An authority and two replicas, each of which sees what it was brought.
struct Herd {
    scene: Scene,
    authority: Authority,
    others: Vec<Authority>,
    /// Requests that count a document up if it is as it was seen.
    bumps: Vec<(RequestRef, Key)>,
    next: u8,
}

fn key(at: u8) -> Key {
    Key::new(format!("note-{at}")).expect("short")
}

impl Herd {
    fn new() -> Self {
        let scene = Scene::new();
        let mut authority = scene.founded();
        let definition = Definition::Schema(COUNTERS.to_owned());
        let start = StartSchema { repository: None, branch: Some(branch("a@1")), from: None, definition, dry_run: false };
        authority.start_schema(&start).expect("started");
        let others = (0..2).map(|_| scene.on(Arc::new(MemoryStore::default()))).collect();
        let mut herd = Self { scene, authority, others, bumps: Vec::new(), next: 0 };
        herd.spread_log();
        herd
    }

    fn at(&self, who: usize) -> &Repository {
        if who == 0 { self.authority.repository() } else { self.others[who - 1].repository() }
    }

    fn spread_log(&mut self) {
        let log = self.authority.repository().entries(0, usize::MAX).expect("readable");
        self.others.iter().for_each(|other| other.repository().extend(&log).expect("the same log"));
    }

    fn number(repository: &Repository, key: &Key) -> u64 {
        let view = repository.view();
        let state = &view.branches[&branch("a@1")];
        let document = state.get(repository.nodes(), CollectionId(1), key).expect("readable");
        let shown = document.and_then(|document| document.view(state.schema().by_id(CollectionId(1)).expect("notes")));
        let Some(Value::Scalar(herdbook_model::value::Scalar::String(text))) = shown.and_then(|shown| shown.fields.get("text").cloned())
        else {
            return 0;
        };
        text.parse().expect("a number")
    }

    fn ask(&mut self, edits: Vec<DocumentEdit>, wanted: Vec<Wanted>) -> Ask {
        self.next += 1;
        Ask {
            branch: Some(branch("a@1")),
            key: RequestKey([self.next; 16]),
            principal: String::new(),
            wanted,
            edits,
            message: String::new(),
        }
    }

    /// Counts a document up, if it is as it is seen here.
    fn bump(&mut self, who: usize, at: u8) {
        let (repository, key) = (self.at(who).clone(), key(at));
        let view = repository.view();
        let now = view.branches[&branch("a@1")].get(repository.nodes(), CollectionId(1), &key).expect("readable");
        let must = now.map_or(Must::BeAbsent, |document| Must::BeAt(version(&document)));
        let text = (Self::number(&repository, &key) + 1).to_string();
        let change = match must {
            Must::BeAbsent => DocumentChange::Put(vec![("text".into(), Value::from(text.as_str()))]),
            _ => DocumentChange::Update(vec![("text".into(), FieldChange::Set(Value::from(text.as_str())))]),
        };
        let edit = DocumentEdit { collection: "notes".to_owned(), key: key.clone(), change };
        let ask = self.ask(vec![edit], vec![Wanted { collection: "notes".to_owned(), key: key.clone(), must, only_here: false }]);
        let committed = repository.commit_one(ask, Durability::Durable).expect("it holds here");
        self.bumps.push((RequestRef { commit: committed.commit, request: committed.request }, key));
    }

    /// Makes one commit of two requests, the second of which demands what the first makes.
    fn create_and_see(&mut self, who: usize, at: u8) {
        let (repository, key) = (self.at(who).clone(), key(at));
        let exists = repository.view().branches[&branch("a@1")].get(repository.nodes(), CollectionId(1), &key).expect("readable").is_some();
        if exists {
            return self.bump(who, at);
        }
        let edit = |change| DocumentEdit { collection: "notes".to_owned(), key: key.clone(), change };
        let wanted = |must| vec![Wanted { collection: "notes".to_owned(), key: key.clone(), must, only_here: false }];
        let first = self.ask(vec![edit(DocumentChange::Put(vec![("text".into(), Value::from("1"))]))], wanted(Must::BeAbsent));
        let change = DocumentChange::Update(vec![("other".into(), FieldChange::Set(Value::from(2)))]);
        let second = self.ask(vec![edit(change)], wanted(Must::Exist));
        let (tell, told) = std::sync::mpsc::channel();
        repository.commit(vec![first, second], Durability::Durable, move |_, answers| tell.send(answers).expect("somebody waits"));
        let answers = told.recv().expect("answers");
        let [first, second] = &answers[..] else { panic!("two answers") };
        let (first, second) = (first.as_ref().expect("it holds here"), second.as_ref().expect("it holds with the first"));
        assert_eq!(first.commit, second.commit);
        self.bumps.push((RequestRef { commit: first.commit, request: first.request }, key));
    }

    /// Changes a document, whatever it is.
    fn touch(&mut self, who: usize, at: u8, value: i64) {
        let repository = self.at(who).clone();
        if Self::number(&repository, &key(at)) == 0 {
            return;
        }
        let change =
            DocumentChange::Update(vec![("other".into(), FieldChange::Set(Value::Scalar(herdbook_model::value::Scalar::Int(value))))]);
        let ask = self.ask(vec![DocumentEdit { collection: "notes".to_owned(), key: key(at), change }], Vec::new());
        repository.commit_one(ask, Durability::Durable).expect("committed");
    }

    fn bring(&self, from: usize, to: usize) {
        let (from, to) = (self.at(from), self.at(to));
        let view = from.view();
        let known = to.view().branches[&branch("a@1")].frontier().vector().clone();
        let lacking = state::lacking(from, &known, view.branches[&branch("a@1")].frontier().vector()).expect("readable");
        receive(to, lacking.iter().map(|(id, _)| parcel(from, id, true)).collect());
    }

    fn accept(&mut self) {
        while self.authority.accept().expect("it accepts") > 0 {}
        self.spread_log();
    }

    fn root(repository: &Repository) -> StateRoot {
        repository.root(&repository.view().branches[&branch("a@1")]).expect("readable")
    }

    fn check(&mut self) {
        for who in [1, 2] {
            self.bring(who, 0);
        }
        self.accept();
        for who in [1, 2] {
            self.bring(0, who);
        }
        let view = self.authority.repository().view();
        for at in 0..3 {
            let stand = self.bumps.iter().filter(|(request, of)| *of == key(at) && !view.log.skips(request)).count() as u64;
            assert_eq!(Self::number(self.authority.repository(), &key(at)), stand, "each request that stands counted once: {at}");
        }
        let root = Self::root(self.authority.repository());
        for who in [1, 2] {
            assert_eq!(Self::root(self.at(who)), root, "replica {who}");
        }
        // Who replays it all at once sees what those see who took requests away one by one.
        let late = self.scene.on(Arc::new(MemoryStore::default()));
        late.repository().extend(&self.authority.repository().entries(0, usize::MAX).expect("readable")).expect("the same log");
        let vector = view.branches[&branch("a@1")].frontier().vector().clone();
        let all = state::lacking(self.authority.repository(), &Default::default(), &vector).expect("readable");
        receive(late.repository(), all.iter().map(|(id, _)| parcel(self.authority.repository(), id, true)).collect());
        assert_eq!(Self::root(late.repository()), root);
    }
}

#[test]
fn of_two_requests_that_cannot_both_hold_the_second_is_refused() {
    let mut herd = Herd::new();
    herd.bump(1, 0);
    herd.bump(2, 0);
    herd.bump(2, 0);
    herd.bump(0, 1);
    herd.bump(2, 1);
    for who in [1, 2] {
        herd.bring(who, 0);
    }
    herd.check();
    let view = herd.authority.repository().view();
    let stands: Vec<_> = herd.bumps.iter().map(|(request, _)| !view.log.skips(request)).collect();
    // What was built on a refused request falls with it.
    assert!(stands[..3] == [true, false, false] || stands[..3] == [false, true, true], "{stands:?}");
    assert_ne!(stands[3], stands[4], "within a millisecond either may come first");
    let voids = herd.authority.repository().voids_since(herdbook_model::id::Judgement::NONE).expect("readable");
    assert!(voids.iter().all(|void| void.reason.contains("precondition on `notes/note-")), "{voids:?}");
    herd.bump(1, 0);
    herd.bring(1, 0);
    herd.check();
}

#[test]
fn a_request_that_waits_for_nobody_disturbs_none() {
    let mut herd = Herd::new();
    herd.bump(0, 0);
    herd.accept();
    herd.bring(0, 1);
    herd.touch(1, 0, 7);
    herd.bump(0, 1);
    herd.bump(1, 2);
    herd.check();
    assert!(herd.authority.repository().view().log.voided().is_empty());
}

/// The fault: trees written after a refusal, which lack what was refused, were taken for what a reader had seen before it.
#[test]
fn what_was_read_before_a_refusal_is_read_again_as_it_was() {
    let mut herd = Herd::new();
    herd.bump(0, 0);
    herd.accept();
    herd.bump(1, 1);
    herd.bring(1, 0);
    herd.bump(2, 1);
    herd.bring(2, 0);
    let repository = herd.authority.repository().clone();
    let before = repository.view().branches[&branch("a@1")].clone();
    let (heads, judgement, root) = (before.frontier().ids(), before.judgement(), Herd::root(&repository));
    drop(before);
    herd.accept();
    assert_eq!(repository.view().log.voided().len(), 1);
    repository.materialise().expect("folded");
    let parts = StateParts { branch: &branch("a@1"), heads: &heads, judgement };
    let again = repository.state_of(&repository.view(), parts).expect("it replays");
    assert_eq!(repository.root(&again).expect("readable"), root);
    assert_ne!(Herd::root(&repository), root, "it was taken back");
}

/// The fault: what a branch took in of another was judged by its own state, and refused on both.
#[test]
fn what_is_taken_in_was_judged_where_it_was_made() {
    let mut herd = Herd::new();
    herd.bump(0, 0);
    herd.accept();
    let start = StartBranch { repository: None, branch: branch("work"), from: Some(branch("a@1")), commit: None };
    herd.authority.start_branch(&start).expect("started");
    let repository = herd.authority.repository().clone();
    let document = repository.view().branches[&branch("work")].get(repository.nodes(), CollectionId(1), &key(0)).expect("readable");
    let must = Must::BeAt(version(&document.expect("it is there")));
    let change = DocumentChange::Update(vec![("other".into(), FieldChange::Set(Value::from(9)))]);
    let wanted = Wanted { collection: "notes".to_owned(), key: key(0), must, only_here: false };
    let ask = herd.ask(vec![DocumentEdit { collection: "notes".to_owned(), key: key(0), change }], vec![wanted]);
    repository.commit_one(Ask { branch: Some(branch("work")), ..ask }, Durability::Durable).expect("it holds there");
    herd.bump(0, 0);
    let from = repository.view().branches[&branch("work")].clone();
    let (into, key) = (Some(branch("a@1")), RequestKey([99; 16]));
    let merge = Merge { into, from, side: None, rules: Vec::new(), key, message: String::new(), dry_run: false };
    repository.merge(&merge, Durability::Durable).expect("merged").committed.expect("there is something to take in");
    while herd.authority.accept().expect("it accepts") > 0 {}
    assert!(repository.view().log.voided().is_empty(), "it held where it was made");
}

#[test]
fn a_restart_between_refusals_shows_the_same() {
    let mut herd = Herd::new();
    herd.bump(0, 0);
    herd.bump(1, 0);
    herd.bring(1, 0);
    herd.accept();
    let repository = herd.authority.repository().clone();
    assert_eq!(repository.view().log.voided().len(), 1);
    repository.materialise().expect("folded");
    herd.bump(0, 1);
    herd.bump(1, 1);
    herd.check();
    let view = repository.view();
    assert_eq!(view.log.voided().len(), 2);
    drop((view, repository));
    let scene = &herd.scene;
    let again = scene.on(scene.store.clone());
    assert_eq!(Herd::root(again.repository()), Herd::root(herd.authority.repository()));
}

#[derive(Debug, Clone)]
enum Act {
    Bump(usize, u8),
    Twice(usize, u8),
    Touch(usize, u8, i64),
    Bring(usize, usize),
    Fold(usize),
    Accept,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0..3_usize, 0..3_u8).prop_map(|(who, at)| Act::Bump(who, at)),
        1 => (0..3_usize, 0..3_u8).prop_map(|(who, at)| Act::Twice(who, at)),
        2 => (0..3_usize, 0..3_u8, 0..9_i64).prop_map(|(who, at, value)| Act::Touch(who, at, value)),
        3 => (0..3_usize, 0..3_usize).prop_map(|(from, to)| Act::Bring(from, to)),
        1 => (0..3_usize).prop_map(Act::Fold),
        2 => Just(Act::Accept),
    ];
    proptest::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Compare and set counts right, whoever does it where, in whatever order it comes together.
    #[test]
    fn prop_what_stands_is_what_one_after_another_would_have_done(acts in acts()) {
        let mut herd = Herd::new();
        for act in acts {
            match act {
                Act::Bump(who, at) => herd.bump(who, at),
                Act::Twice(who, at) => herd.create_and_see(who, at),
                Act::Touch(who, at, value) => herd.touch(who, at, value),
                Act::Bring(from, to) if from != to => herd.bring(from, to),
                Act::Bring(..) => {}
                Act::Fold(who) => herd.at(who).materialise().expect("folded"),
                Act::Accept => herd.accept(),
            }
        }
        herd.check();
    }
}
