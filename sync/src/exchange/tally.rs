//! What an exchange counted, for metrics and for tests that must know what happened.

/// Counters of one exchange; they only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Commits sent.
    pub sent: u64,
    /// Commits received, whatever became of them.
    pub received: u64,
    /// Commits received that were known already.
    pub duplicates: u64,
    /// Commits handed out to be stored.
    pub stored: u64,
    /// Commits that waited for an ancestor.
    pub waited: u64,
    /// Commits that waited for this node's clock.
    pub early: u64,
    /// Commits that found the quarantine full.
    pub turned_away: u64,
    /// Commits of a place that was taken.
    pub forks: u64,
    /// Commits that are wrong in themselves.
    pub faults: u64,
    /// Vectors sent.
    pub vectors: u64,
    /// Cells of vectors sent.
    pub cells: u64,
    /// Ranges asked for a second time.
    pub asked_again: u64,
    /// Bytes of commits and chunks sent.
    pub payload: u64,
}
