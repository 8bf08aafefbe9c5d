//! The mark of a restore under way. It is made before the first entry is taken from a member and goes when the new epoch is open, so that a
//! coordinator that is interrupted in between goes on restoring and never serves on a part of the log.

use herdbook_replica::Error;
use herdbook_store::Store;

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
