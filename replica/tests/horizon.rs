//! Before a horizon edits go; states after it, and what comes later, are as if they were there.

mod alone;

use std::collections::BTreeMap;

use herdbook_model::{
    authority::{Kind, RequestRef, Void},
    id::{BranchName, CommitId},
    state::State,
    time::Time,
};
use herdbook_replica::{
    Error, Repository,
    repository::{Collecting, Covered, Moment},
};
use herdbook_store::Durability;

use alone::{found, open, put, scores, scores_in, sign};

fn branch() -> BranchName {
    BranchName::new("main@1").expect("valid")
}

/// Commits so many edits of 100 documents; returns the last commit.
fn fill(repository: &Repository, numbers: std::ops::Range<u64>, expected: &mut BTreeMap<String, i64>) -> CommitId {
    let mut last = None;
    for number in numbers {
        let name = format!("item-{:03}-{}", number.wrapping_mul(0x9e37_79b9) % 100, "k".repeat(120));
        last = Some(repository.commit_one(put(number, &name), Durability::Process).expect("it commits").commit);
        expected.insert(name, number.cast_signed());
    }
    last.expect("some")
}

fn now(repository: &Repository) -> State {
    repository.view().state(None).expect("one branch").clone()
}

fn accept(repository: &Repository, voids: Vec<Void>) {
    sign(repository, Kind::Head { branch: branch(), heads: now(repository).frontier().ids(), root: None, voids });
}

fn time_of(repository: &Repository, commit: &CommitId) -> Time {
    repository.meta(commit).expect("readable").expect("it is there").time
}

/// Sets a horizon at the time of a commit.
fn cover(repository: &Repository, commit: &CommitId) {
    let covered = repository.coverable(&branch(), time_of(repository, commit)).expect("it replays").expect("something");
    let Covered { heads, state, .. } = covered;
    assert_eq!(heads, [*commit]);
    sign(repository, Kind::Horizon { branch: branch(), heads, root: repository.root(&state).expect("folded") });
}

fn is_sound(repository: &Repository) {
    let report = repository.fsck(|_| ()).expect("it reads");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

fn is_before_horizon<T: std::fmt::Debug>(outcome: Result<T, Error>) {
    let error = outcome.expect_err("it is gone");
    assert!(matches!(error, Error::BeforeHorizon { .. }), "{error:?}");
}

#[test]
fn edits_before_a_horizon_go_and_states_after_it_stay() {
    let folder = tempfile::tempdir().expect("folder");
    let (repository, mut expected) = (found(folder.path()), BTreeMap::new());
    let early = fill(&repository, 0..200, &mut expected);
    let horizon = fill(&repository, 200..400, &mut expected);
    let at_horizon = expected.clone();
    let later = fill(&repository, 400..500, &mut expected);
    let at_later = expected.clone();
    fill(&repository, 500..600, &mut expected);
    accept(&repository, Vec::new());
    cover(&repository, &horizon);

    let dry = repository.collect(Collecting { dry_run: true, ..Collecting::default() }, |_| ()).expect("it counts");
    assert_eq!(dry.pruned.commits, 0, "no state stands for them yet");
    let collected = repository.collect(Collecting::default(), |_| ()).expect("it collects");
    assert_eq!((collected.pruned.commits, collected.pruned.requests), (400, 400));
    assert!(collected.pruned.bytes > 400 * 100, "{collected:?}");
    assert_eq!(repository.collect(Collecting::default(), |_| ()).expect("it collects").pruned.commits, 0, "once");

    let past = |repository: &Repository| {
        let at = |moment| repository.state_at(&repository.view(), None, &moment);
        for (commit, then) in [(&horizon, &at_horizon), (&later, &at_later)] {
            assert_eq!(scores_in(repository, &at(Moment::Commit(*commit)).expect("it replays")), *then);
            assert_eq!(scores_in(repository, &at(Moment::Time(time_of(repository, commit))).expect("it replays")), *then);
        }
        is_before_horizon(at(Moment::Commit(early)));
        is_before_horizon(at(Moment::Before(horizon)));
        is_before_horizon(at(Moment::Time(time_of(repository, &early))));
        is_before_horizon(repository.requests(&early));
        assert!(repository.requests(&later).expect("readable").iter().all(Option::is_some));
        assert_eq!(repository.log(&branch(), None, 1_000).expect("readable").len(), 600, "commits keep their names");
    };
    past(&repository);
    assert_eq!(scores(&repository), expected);
    is_sound(&repository);
    drop(repository);

    let repository = open(folder.path(), None);
    assert_eq!(scores(&repository), expected);
    past(&repository);
    fill(&repository, 600..700, &mut expected);
    assert_eq!(scores(&repository), expected);
    is_sound(&repository);
}

/// A judgement that changes makes a state be replayed anew: from the horizon.
#[test]
fn what_is_voided_after_a_horizon_is_replayed_from_it() {
    let folder = tempfile::tempdir().expect("folder");
    let (repository, mut expected) = (found(folder.path()), BTreeMap::new());
    let horizon = fill(&repository, 0..300, &mut expected);
    accept(&repository, Vec::new());
    cover(&repository, &horizon);
    repository.collect(Collecting::default(), |_| ()).expect("it collects");

    let before = expected.clone();
    let commit = fill(&repository, 300..301, &mut expected);
    repository.materialise().expect("it folds");
    accept(&repository, vec![Void { request: RequestRef { commit, request: 0 }, reason: "no access".to_owned() }]);
    assert_eq!(scores(&repository), before);
    is_sound(&repository);
}

#[test]
fn a_horizon_moves_on_and_never_back() {
    let folder = tempfile::tempdir().expect("folder");
    let (repository, mut expected) = (found(folder.path()), BTreeMap::new());
    let first = fill(&repository, 0..100, &mut expected);
    let second = fill(&repository, 100..200, &mut expected);
    fill(&repository, 200..250, &mut expected);
    accept(&repository, Vec::new());
    cover(&repository, &second);
    assert_eq!(repository.collect(Collecting::default(), |_| ()).expect("it collects").pruned.commits, 200);
    is_before_horizon(repository.coverable(&branch(), time_of(&repository, &first)));

    let third = fill(&repository, 250..300, &mut expected);
    accept(&repository, Vec::new());
    cover(&repository, &third);
    assert_eq!(repository.collect(Collecting::default(), |_| ()).expect("it collects").pruned.commits, 100);
    assert_eq!(scores(&repository), expected);
    is_sound(&repository);
}

/// Edits of a root that nobody can check must not go.
#[test]
fn a_horizon_of_another_root_takes_nothing_away() {
    let folder = tempfile::tempdir().expect("folder");
    let (repository, mut expected) = (found(folder.path()), BTreeMap::new());
    let commit = fill(&repository, 0..100, &mut expected);
    accept(&repository, Vec::new());
    sign(&repository, Kind::Horizon { branch: branch(), heads: vec![commit], root: herdbook_model::id::StateRoot([7; 32]) });
    let error = repository.collect(Collecting::default(), |_| ()).expect_err("an alarm");
    assert!(matches!(error, Error::WrongRoot { .. }), "{error:?}");
    assert!(repository.requests(&commit).expect("readable").iter().all(Option::is_some));
    is_sound(&repository);
}
