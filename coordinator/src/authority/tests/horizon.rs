//! Horizons: what they cover, and when they are refused.

use super::*;

fn set_horizon(dry_run: bool) -> SetHorizon {
    SetHorizon { branch: None, before: Time::from_millis(u64::MAX >> 17), dry_run }
}

#[test]
fn a_horizon_covers_what_is_accepted() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    for number in 1..6 {
        write(authority.repository(), number, "main@1");
    }
    authority.accept().expect("accepted");
    let late = write(authority.repository(), 7, "main@1");
    let log = authority.repository().view().log.newest();
    let told = authority.set_horizon(&set_horizon(true)).expect("it replays");
    assert_eq!(told.iter().map(|horizon| (horizon.branch.as_str(), horizon.commits)).collect::<Vec<_>>(), [("main@1", 5)]);
    assert_eq!(authority.repository().view().log.newest(), log, "it was only told");

    let root = |authority: &Authority| {
        let view = authority.repository().view();
        authority.repository().root(&view.branches[&branch("main@1")]).expect("it folds")
    };
    let before = root(&authority);
    assert_eq!(authority.set_horizon(&set_horizon(false)).expect("signed").len(), 1);
    assert_eq!(authority.set_horizon(&set_horizon(false)).expect("signed").len(), 0, "it has its own already");
    let collected = authority.repository().collect(herdbook_replica::repository::Collecting::default(), |_| ()).expect("it collects");
    assert_eq!(collected.pruned.commits, 5);
    assert!(authority.repository().requests(&late).expect("readable").iter().all(Option::is_some), "it was not accepted");
    assert_eq!(root(&authority), before);
    authority.accept().expect("what came late is accepted");
    let report = authority.repository().fsck(|_| ()).expect("it reads");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

/// The fault: a branch, by merge or migration, may need edits of another that were removed since; then nobody could replay it any more.
#[test]
fn a_horizon_and_several_branches_do_not_go_together() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    write(authority.repository(), 1, "main@1");
    authority.accept().expect("accepted");
    authority.set_horizon(&set_horizon(false)).expect("signed");
    let refused =
        [authority.start_schema(&start(Some("main@1"), "main@2")).err(), authority.start_branch(&start_branch("trial", None)).err()];
    assert!(refused.iter().all(|refused| matches!(refused, Some(Error::HorizonAndBranches))), "{refused:?}");

    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    authority.start_branch(&start_branch("trial", None)).expect("started");
    let refused = authority.set_horizon(&set_horizon(false));
    assert!(matches!(refused, Err(Error::HorizonAndBranches)), "{refused:?}");
}

/// The fault: a horizon over edits that this coordinator lost, and members have, made the loss final.
#[test]
fn a_horizon_does_not_cover_what_is_lost_here() {
    let scene = Scene::new();
    let mut authority = scene.founded();
    authority.start_schema(&start(None, "main@1")).expect("started");
    write(authority.repository(), 1, "main@1");
    authority.accept().expect("accepted");
    drop(authority);
    let edits = scene.store.records().scan(Table::Edits, KeyRange::all(), Direction::Forward).next().expect("one").expect("readable");
    let mut batch = Batch::new();
    batch.delete(Table::Edits, edits.key);
    scene.store.records().write(batch, Durability::Durable).expect("written");
    let (mut authority, _) = scene.start();
    let refused = authority.set_horizon(&set_horizon(false));
    assert!(matches!(refused, Err(Error::HorizonOverLosses)), "{refused:?}");
}
