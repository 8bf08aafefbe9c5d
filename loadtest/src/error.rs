//! What can go wrong with a run as a whole. That a store did not keep its word is no error but the result of a [`check`](crate::check).

use std::{io, path::PathBuf, time::Duration};

use herdbook_proto::status::{Failed, Kind};

use crate::connection::{Failure, Failures};

/// Why a run came to no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No binary to start a cluster from.
    #[error("no herdbook binary was found; give its path with --binary or HERDBOOK_BIN, or a running cluster with --target")]
    NoBinary,
    /// A name that stands for servers leads to none.
    #[error("{target} leads to no server; write dns:///NAME:PORT, where the name is known to this machine's resolver")]
    NoServers {
        /// What was given.
        target: String,
        /// The system's word.
        source: io::Error,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A mix of operations cannot be read.
    #[error("{}: {why}", path.display())]
    Mix {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// A report cannot be read.
    #[error("{} is no report that can be compared: {why}", path.display())]
    Report {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The binary with the rivals is absent.
    #[error(
        "the rows are run by a second binary, herdbook-peers, which is not beside this one: build it (cargo build --release -p herdbook-peers) or name it with HERDBOOK_PEERS"
    )]
    NoPeers,
    /// The switch between members cannot be made.
    #[error("no port of 127.0.0.1 is free: {0}")]
    Switch(#[source] io::Error),
    /// A server could not be sent a signal, or did not end.
    #[error("cannot end or stop {name}: {source}")]
    Signal {
        /// Which server.
        name: String,
        /// The system's word.
        source: io::Error,
    },
    /// A server could not be started.
    #[error("cannot start {name} from {}", binary.display())]
    Start {
        /// Which server.
        name: String,
        /// Its program.
        binary: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// A server was started but does not serve.
    #[error("{name} did not get ready; its last words: {log}")]
    NotReady {
        /// Which server.
        name: String,
        /// The end of its log.
        log: String,
    },
    /// The source of random numbers of the system failed.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// Documents could not be written before the run.
    #[error("cannot write the documents that the run reads: {0}")]
    Filling(#[source] Failure),
    /// A call that the run needs failed.
    #[error("{node}: {failed}")]
    Call {
        /// Address of the server.
        node: String,
        /// What it said.
        failed: Box<Failed>,
    },
    /// Nothing succeeded.
    #[error("not one operation succeeded{}", most_frequent(failures))]
    Silent {
        /// What failed.
        failures: Failures,
    },
    /// A run was too small to tell anything.
    #[error("{acknowledged} commits were acknowledged, fewer than the {wanted} that the result needs{}", most_frequent(failures))]
    TooLittle {
        /// How many there were.
        acknowledged: u64,
        /// How many there should have been.
        wanted: u64,
        /// What failed.
        failures: Failures,
    },
    /// The nodes did not come to the same state.
    #[error("the nodes do not hold the same state after {} s: {states}", waited.as_secs())]
    NotLevel {
        /// How long they were given.
        waited: Duration,
        /// What each holds.
        states: String,
    },
    /// A watch ended although nobody ended it.
    #[error("{node} ended the watch")]
    WatchEnded {
        /// Address of the server.
        node: String,
    },
    /// Latency between nodes takes two of them.
    #[error("a commit needs two nodes to travel between, {actual} given")]
    TooFewNodes {
        /// How many there are.
        actual: usize,
    },
}

impl Error {
    /// Returns that the server at `node` failed a call.
    pub fn call(node: &str, failed: Failed) -> Self {
        Self::Call { node: node.to_owned(), failed: Box::new(failed) }
    }

    /// Returns what the caller should do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::NoBinary | Self::TooFewNodes { .. } | Self::Mix { .. } | Self::Report { .. } | Self::NoPeers => Kind::Invalid,
            Self::Call { failed, .. } => failed.kind,
            Self::File { .. } | Self::Start { .. } | Self::Random(_) | Self::Switch(_) | Self::Signal { .. } => Kind::Precondition,
            Self::NoServers { .. }
            | Self::NotReady { .. }
            | Self::Filling(_)
            | Self::Silent { .. }
            | Self::TooLittle { .. }
            | Self::NotLevel { .. }
            | Self::WatchEnded { .. } => Kind::Unavailable,
        }
    }
}

impl From<getrandom::Error> for Error {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}

fn most_frequent(failures: &Failures) -> String {
    let most = failures.0.iter().max_by_key(|(_, counted)| counted.count);
    most.map_or_else(String::new, |(reason, counted)| format!("; {} × {reason}: {}", counted.count, counted.first))
}
