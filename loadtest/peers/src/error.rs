//! Why a comparison came to no result.

use std::{io, path::PathBuf};

/// Why a comparison came to no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Herdbook or the loop failed.
    #[error(transparent)]
    Load(#[from] herdbook_loadtest::Error),
    /// A program that was named or found does not run.
    #[error("{} does not run: {source}", path.display())]
    NotRunning {
        /// The path.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A library or tool failed.
    #[error("{name}: {why}")]
    Library {
        /// Which.
        name: &'static str,
        /// What it says.
        why: String,
    },
    /// Operations failed, so that the figure means nothing.
    #[error("{count} operations failed; first: {first}")]
    Failed {
        /// How many.
        count: u64,
        /// The first one's message.
        first: String,
    },
    /// A file has no place for the table.
    #[error("{} has no line `{mark}` and no end of it", path.display())]
    NoMarks {
        /// The file.
        path: PathBuf,
        /// The line that begins the place.
        mark: &'static str,
    },
    /// A turn was not begun.
    #[error("the time for all rows was over")]
    TimeOver,
    /// A turn did not end.
    #[error("it did not end within {seconds} s")]
    Hung {
        /// How long it was given.
        seconds: u64,
    },
    /// There is no such row.
    #[error("there is no row called {0}; --list tells which there are")]
    NoRow(String),
    /// A server was started but does not serve.
    #[error("the server at {address} did not get ready; its last words: {log}")]
    NotReady {
        /// Where it should serve.
        address: String,
        /// The end of its log.
        log: String,
    },
    /// No port is free.
    #[error("no port of 127.0.0.1 is free: {0}")]
    Port(io::Error),
}
