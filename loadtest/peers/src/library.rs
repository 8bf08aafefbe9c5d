//! What libraries and tools are compared by: tasks on the same documents, one sample a call. A contender that cannot do a task says so.
//!
//! Documents are JSON texts of about 125 bytes under their keys, in one map; Herdbook holds them as records of eight typed fields, signed and
//! versioned. Their order and the edits are those of the figures everywhere (`perm`).

use std::{
    ops::Range,
    path::Path,
    time::{Duration, Instant},
};

use herdbook_loadtest::workload::{N, Record, key, perm};

use crate::error::Error;

/// Edits of each side of a merge that the other has not.
pub(crate) const OWN: u64 = 1000;

/// Edits that both sides of a merge make.
pub(crate) const SHARED: u64 = 100;

/// Edits of each side of a synchronisation.
pub(crate) const SYNCED: u64 = 100;

/// Commits of one edit each whose room on the disk is measured.
pub(crate) const SINGLES: u64 = 10_000;

/// How long single commits and reads are timed.
pub(crate) const TIMED: Duration = Duration::from_secs(2);

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Commits of one edit, each by itself: commits a second.
    Commit,
    /// Reads of documents that are in memory: reads a second.
    Read,
    /// All documents in one commit, in memory: milliseconds.
    Build,
    /// The same, and on the disk.
    BuildDurable,
    /// Two sides meet that edited 1,100 documents each, 100 of them in common: milliseconds until the state can be read.
    Merge,
    /// Two states that differ in 1,000 documents: milliseconds.
    Diff,
    /// Two sides meet that edited 100 documents each, in one commit: bytes that go to and fro.
    Sync,
    /// 100 commits of one edit each are fetched: bytes.
    Fetch,
    /// All documents are fetched by somebody who has nothing: bytes.
    Clone,
    /// The same: milliseconds.
    CloneTime,
    /// Bytes that documents and 10,000 commits of one edit each take.
    Disk,
}

/// A library or tool.
pub(crate) trait Library: Send + Sync {
    /// Returns what it is called, with its version.
    fn version(&self) -> String;

    /// Does a task once, in `folder` if it keeps anything; none: it has no such task.
    ///
    /// # Errors
    /// [`Error::Library`] with what it says.
    fn sample(&self, task: Task, folder: &Path) -> Result<Option<f64>, Error>;
}

/// Returns a document's text at a revision.
pub(crate) fn text(i: u64, revision: u64) -> String {
    Record::of(i, revision).json()
}

/// Returns all documents at revision 0.
pub(crate) fn all() -> impl Iterator<Item = (String, String)> {
    edits(0..N, 0, |i| i)
}

/// Returns the documents that `edits` of the permuted order touch, at a revision.
pub(crate) fn permuted(range: Range<u64>, revision: u64) -> impl Iterator<Item = (String, String)> {
    edits(range, revision, perm)
}

fn edits(range: Range<u64>, revision: u64, order: fn(u64) -> u64) -> impl Iterator<Item = (String, String)> {
    range.map(move |j| {
        let i = order(j);
        (key(i), text(i, revision))
    })
}

/// Returns what one side of a merge edits: what is its own, and what both edit.
pub(crate) fn side(is_second: bool) -> impl Iterator<Item = (String, String)> {
    let (own, revision) = if is_second { (OWN..2 * OWN, 2) } else { (0..OWN, 1) };
    permuted(own, revision).chain(permuted(2 * OWN..2 * OWN + SHARED, revision))
}

/// Does something with ever other documents for a while; returns how often a second.
///
/// # Errors
/// The first of `act`.
pub(crate) fn rate(mut act: impl FnMut(u64) -> Result<(), Error>) -> Result<Option<f64>, Error> {
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < TIMED {
        // The clock is asked now and then only: some of these take less than asking.
        for _ in 0..100 {
            act(count)?;
            count += 1;
        }
    }
    Ok(Some(count as f64 / begun.elapsed().as_secs_f64()))
}

/// Returns how long something takes, in milliseconds.
///
/// # Errors
/// That of `act`.
pub(crate) fn millis<T>(act: impl FnOnce() -> Result<T, Error>) -> Result<Option<f64>, Error> {
    let begun = Instant::now();
    let kept = act()?;
    let took = begun.elapsed();
    // What was made goes after the clock was read.
    drop(kept);
    Ok(Some(took.as_secs_f64() * 1000.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_sides_of_a_merge_have_a_hundred_documents_in_common() {
        let keys = |is_second| side(is_second).map(|(key, _)| key).collect::<BTreeSet<_>>();
        let (alice, bob) = (keys(false), keys(true));
        assert_eq!((alice.len(), bob.len(), alice.intersection(&bob).count()), (1100, 1100, 100));
    }

    #[test]
    fn documents_are_those_of_the_workload() {
        assert_eq!(all().nth(42).expect("there").0, "doc/e8/0000002a");
        assert!(text(42, 0).starts_with(r#"{"id":42,"rev":0,"name":"kernel violet""#));
        assert_eq!(permuted(0..2, 3).nth(1).expect("there").0, key(48_271));
    }
}
