//! The mark of a restore under way. It is made before the first entry is taken from a member and goes when the new epoch is open, so that a
//! coordinator that is interrupted in between goes on restoring and never serves on a part of the log.

use herdbook_replica::{Error, Repository};
use herdbook_store::Store;
use herdbook_sync::restore::{Input, Quorum, Restore};

const NAME: &str = "recovering";

/// Notes that a restore is under way.
///
/// # Errors
/// [`Error::Store`].
pub fn begin(store: &dyn Store) -> Result<(), Error> {
    if !is_under_way(store)? {
        store.refs().compare_and_set(NAME, None, Some(b"1"))?;
    }
    Ok(())
}

/// Whether a restore is under way.
///
/// # Errors
/// [`Error::Store`].
pub fn is_under_way(store: &dyn Store) -> Result<bool, Error> {
    Ok(store.refs().get(NAME)?.is_some())
}

/// Notes that the restore is done.
///
/// # Errors
/// [`Error::Store`].
pub fn end(store: &dyn Store) -> Result<(), Error> {
    if let Some(mark) = store.refs().get(NAME)? {
        store.refs().compare_and_set(NAME, Some(&mark), None)?;
    }
    Ok(())
}

/// Begins a restore, or goes on with one that was interrupted: what is here counts as one more source, and as no member's report.
///
/// # Errors
/// Those of reading the log.
pub fn resume(repository: &Repository, quorum: Quorum) -> Result<Restore, Error> {
    let mut restore = Restore::new(repository.id(), repository.genesis().root, repository.replica(), quorum);
    let entries = repository.entries(0, usize::MAX)?;
    match entries.last() {
        None => tracing::warn!("no data here: recovering from the members, read-only until that is done"),
        Some(newest) => tracing::warn!(
            epoch = newest.epoch,
            seq = newest.seq,
            "the data may be older than what was signed: comparing it with the members', read-only until that is done"
        ),
    }
    restore.handle(Input::Entries { from: repository.replica(), entries: &entries }, repository)?;
    Ok(restore)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stays_until_the_end() {
        let store = herdbook_store::MemoryStore::default();
        assert!(!is_under_way(&store).expect("store in memory"));
        begin(&store).expect("store in memory");
        begin(&store).expect("twice is once");
        assert!(is_under_way(&store).expect("store in memory"));
        end(&store).expect("store in memory");
        assert!(!is_under_way(&store).expect("store in memory"));
    }
}
