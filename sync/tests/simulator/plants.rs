//! The simulator is worth nothing if it finds nothing: it must fail under each planted bug.

use herdbook_sync::exchange::Plant;

use crate::histories::first_failure;

const HISTORIES: u64 = 60;

#[test]
fn a_missing_parent_check_is_found() {
    let failure = first_failure(Plant::SkipParents, HISTORIES);
    assert!(failure.is_some_and(|failure| failure.contains("without")), "closure is what breaks");
}

#[test]
fn a_forgotten_last_parcel_is_found() {
    assert!(first_failure(Plant::DropLast, HISTORIES).is_some());
}

#[test]
fn a_want_of_which_only_the_first_range_counts_is_found() {
    assert!(first_failure(Plant::FirstRangeOnly, HISTORIES).is_some());
}

#[test]
fn digests_that_always_seem_equal_are_found() {
    let failure = first_failure(Plant::DigestsEqual, HISTORIES);
    assert!(failure.is_some_and(|failure| failure.contains("converged")), "nothing is exchanged any more");
}

#[test]
fn a_wrong_leaf_that_is_taken_is_found() {
    assert!(first_failure(Plant::AnyLeaf, HISTORIES).is_some());
}

#[test]
fn a_missing_quarantine_is_found() {
    assert!(first_failure(Plant::NoQuarantine, HISTORIES).is_some());
}
