//! The authority's step, rule by rule.

use herdbook_model::{
    authority::{Kind, Log, Role, SchemaAction},
    codec::Encode as _,
    edit::{Change, Edit, FieldEdit, Operation},
    graph::Graph as _,
    request::Request,
    schema::FieldId,
    value::{Key, Value},
};
use herdbook_sync::{
    acceptance::{Candidate, Error, Requests, Step, step},
    exchange::Received,
    local::Local as _,
};

use crate::{
    fixtures::{Authority, key, main, replica, request, schema},
    node::Node,
    rng::Rng,
};

struct Scene {
    authority: Authority,
    alice: Node,
    rng: Rng,
}

fn scene() -> Scene {
    let mut rng = Rng::new(1);
    let authority = Authority::open(&[key(0), key(1)], true);
    let alice = Node::new(key(1), &authority, &mut rng);
    Scene { authority, alice, rng }
}

impl Scene {
    fn commit(&mut self, requests: Vec<Request>) -> Candidate {
        let announced = self.alice.commit(requests);
        let Ok(meta) = self.alice.meta(&announced.id);
        let (commit, requests) = self.alice.commit_of(&announced.id).clone();
        let requests = requests.into_iter().map(|request| match request {
            Received::Present(sealed) => Some(Request::clone(sealed.request())),
            Received::Absent { .. } => None,
        });
        let Ok(certificate) = self.alice.certificate(&commit.header().session);
        Candidate { commit, meta: meta.expect("stored"), certificate, requests: Requests::Read(requests.collect()) }
    }

    fn random(&mut self) -> Candidate {
        let requests = vec![request(&mut self.rng, 10), request(&mut self.rng, 10)];
        self.commit(requests)
    }

    fn judge(&self, log: &Log, candidates: &[Candidate]) -> Step {
        let Ok(decided) = step(log, &self.alice, &main(), candidates, |_, _, _, _| None);
        decided.expect("the branch is open")
    }

    fn judge_one(&self, candidate: Candidate) -> Vec<String> {
        self.judge(&self.authority.log, &[candidate]).voids.into_iter().map(|void| void.reason).collect()
    }
}

#[test]
fn sound_commits_become_the_accepted_frontier() {
    let mut scene = scene();
    let candidates = [scene.random(), scene.random()];
    let step = scene.judge(&scene.authority.log, &candidates);
    assert_eq!(step.heads, [candidates[1].commit.id()]);
    assert_eq!((step.voids.len(), step.judged.len(), step.later.len()), (0, 2, 0));
}

#[test]
fn a_session_without_an_enrolled_replica_is_voided_whole() {
    let mut scene = scene();
    let mut unknown = scene.random();
    let stranger = Node::new(key(9), &scene.authority, &mut Rng::new(4));
    let mut certificate = stranger.session().0;
    certificate.session = unknown.commit.header().session;
    unknown.certificate = Some(certificate);
    let reasons = scene.judge_one(unknown.clone());
    assert!(reasons.len() == 2 && reasons[0].contains("is not enrolled"), "{reasons:?}");
    unknown.certificate = None;
    assert_eq!(scene.judge_one(unknown)[0], "its session has no certificate");
}

#[test]
fn a_revoked_replica_is_refused_from_the_entry_on() {
    let mut scene = scene();
    let candidate = scene.random();
    scene.authority.sign(Kind::Revoke { replica: replica(&key(1)) });
    let reasons = scene.judge_one(candidate);
    assert!(reasons[0].contains("was revoked by entry 4"), "{reasons:?}");
}

#[test]
fn what_was_judged_when_it_was_made_is_refused_by_who_made_it_alone() {
    let mut scene = scene();
    let candidate = Candidate { requests: Requests::Made, ..scene.random() };
    let step = scene.judge(&scene.authority.log, std::slice::from_ref(&candidate));
    assert_eq!((step.heads, step.voids.len()), (vec![candidate.commit.id()], 0));
    scene.authority.sign(Kind::Revoke { replica: replica(&key(1)) });
    let step = scene.judge(&scene.authority.log, &[candidate]);
    assert_eq!(step.voids.iter().map(|void| void.request.request).collect::<Vec<_>>(), [0, 1]);
    assert!(step.voids[0].reason.contains("was revoked"), "{}", step.voids[0].reason);
}

#[test]
fn another_schema_than_the_branchs_is_refused() {
    let mut scene = scene();
    let candidate = scene.random();
    let mut newer = Authority::open(&[key(0), key(1)], true);
    let mut schema = schema();
    schema.version = 2;
    let genesis = newer.entries[0].clone();
    newer.log = Log::new(newer.repository, newer.log.root());
    newer.log.extend(&genesis).expect("the first");
    newer.entries.truncate(1);
    newer.sign(Kind::Schema { branch: main(), action: SchemaAction::Start { from: None, schema } });
    newer.sign(Kind::Enrol { replica: replica(&key(1)), name: "alice".into(), role: Role::Replica });
    let step = scene.judge(&newer.log, &[candidate]);
    assert!(step.voids.iter().all(|void| void.reason.contains("is not the branch's")));
    assert_eq!(step.voids.len(), 2);
}

#[test]
fn only_the_request_that_does_not_fit_is_voided_and_the_commit_stays() {
    let mut scene = scene();
    let mut unfit = request(&mut scene.rng, 10);
    let change = FieldEdit { field: FieldId(3), change: Change::Set(Value::from("not a number")) };
    let key = Key::new("note-1").expect("short");
    unfit.groups[0].edits = vec![Edit { key, operation: Operation::Update(vec![change]) }];
    let fit = request(&mut scene.rng, 10);
    let candidate = scene.commit(vec![fit, unfit]);
    let step = scene.judge(&scene.authority.log, std::slice::from_ref(&candidate));
    assert_eq!(step.heads, [candidate.commit.id()]);
    assert_eq!(step.voids.iter().map(|void| void.request.request).collect::<Vec<_>>(), [1]);
    assert!(step.voids[0].reason.starts_with("edit of `note-1`"), "{}", step.voids[0].reason);
    assert!(step.voids[0].to_bytes().len() < 200);
}

#[test]
fn a_commit_waits_for_its_ancestors_and_for_its_requests() {
    let mut scene = scene();
    let (first, second) = (scene.random(), scene.random());
    let step = scene.judge(&scene.authority.log, std::slice::from_ref(&second));
    assert_eq!((step.is_empty(), step.later), (true, vec![second.commit.id()]));
    let mut absent = first;
    let Requests::Read(requests) = &mut absent.requests else { panic!("it was read") };
    requests[1] = None;
    let step = scene.judge(&scene.authority.log, &[absent, second]);
    assert!(step.is_empty(), "who stands on what waits, waits");
}

#[test]
fn what_was_judged_is_not_judged_again() {
    let mut scene = scene();
    let first = scene.random();
    let entry = scene.judge(&scene.authority.log, std::slice::from_ref(&first)).into_kind(main(), None);
    scene.authority.sign(entry);
    let second = scene.random();
    let step = scene.judge(&scene.authority.log, &[first, second.clone()]);
    assert_eq!(step.judged, [second.commit.id()]);
}

#[test]
fn an_abandoned_branch_takes_nothing() {
    let mut scene = scene();
    let candidate = scene.random();
    let other = herdbook_model::id::BranchName::new("main@2").expect("well formed");
    let action = SchemaAction::Start { from: Some(main()), schema: schema() };
    scene.authority.sign(Kind::Schema { branch: other.clone(), action });
    scene.authority.sign(Kind::Schema { branch: other.clone(), action: SchemaAction::Abandon });
    let Ok(decided) = step(&scene.authority.log, &scene.alice, &other, &[candidate], |_, _, _, _| None);
    assert_eq!(decided, Err(Error::Abandoned { branch: other }));
}
