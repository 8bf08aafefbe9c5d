//! Bugs that a build can have on purpose, so that the load harness is seen to find them (`scripts/plants.sh`).
//!
//! Law: without the feature `plants` there are none. With it the environment names the one that a process has; nothing else in this crate
//! looks outside.

/// The environment variable that names a bug.
pub const PLANTED_BUG: &str = "PLANTED_BUG";

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Nothing is synced to the disk.
    SkipFsync,
    /// Requests are not held against what the commit signs.
    SkipHash,
    /// A commit enters though ancestors are missing.
    SkipParents,
    /// Entries of any epoch extend the head log.
    SkipEpoch,
    /// What would have to wait for an ancestor or for the clock is thrown away.
    SkipQuarantine,
    /// Garbage is collected whoever reads it.
    SkipPins,
}

impl Plant {
    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipFsync => "skip-fsync",
            Self::SkipHash => "skip-hash",
            Self::SkipParents => "skip-parents",
            Self::SkipEpoch => "skip-epoch",
            Self::SkipQuarantine => "skip-quarantine",
            Self::SkipPins => "skip-pins",
        }
    }

    /// Whether this process has it.
    #[cfg(feature = "plants")]
    pub fn is_here(self) -> bool {
        static NAMED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        NAMED.get_or_init(|| std::env::var(PLANTED_BUG).ok()).as_deref() == Some(self.name())
    }

    /// Whether this process has it: never.
    #[cfg(not(feature = "plants"))]
    pub const fn is_here(self) -> bool {
        false
    }
}
