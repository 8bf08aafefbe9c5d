//! Why a comparison came to no result.

use std::{io, path::PathBuf};

/// Why a comparison came to no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Herdbook or the loop failed.
    #[error(transparent)]
    Load(#[from] herdbook_loadtest::Error),
    /// The path that `HERDBOOK_ETCD` names is no program.
    #[error("HERDBOOK_ETCD names {}, which does not run: {source}", path.display())]
    NotRunning {
        /// The path.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// etcd was started but does not serve.
    #[error("etcd at {address} did not get ready; its last words: {log}")]
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
