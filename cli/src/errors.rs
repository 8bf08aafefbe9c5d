//! What can go wrong in the command, and the exit code that scripts see for it.
//!
//! Law: a failure is one text on standard error that says what, where and what to do, and one code that says what kind it is. The table of
//! codes is [`EXIT_CODES`].

use std::{error::Error as _, io, path::PathBuf, process::ExitCode};

use herdbook_model::id::CommitId;
use herdbook_proto::status::{Failed, Kind};
use herdbook_replica::{self as replica, node};
use herdbook_store as store;
use serde_json::{Value as Json, json};

/// The exit codes, as `--help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  a difference was found (diff --exit-code, status --check)
   2  the command line is wrong
   3  what was named does not exist
   4  somebody else was first: a conflict, or a precondition that does not hold
   5  not allowed
   6  not reachable, not ready, in use or too slow: worth another try
   7  the input is not valid, or does not fit the schema
   8  stored bytes are damaged
  70  a defect of the program";

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A server refused, or none was reached.
    #[error("{0}")]
    Server(Box<Failed>),
    /// An argument that is well formed but cannot be used like this.
    #[error("{argument}: {why}")]
    Argument {
        /// The argument, as on the command line.
        argument: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something is asked before it is done, and nobody is there to answer.
    #[error("{question} Nobody can be asked here: give --yes to go ahead")]
    Unconfirmed {
        /// The question.
        question: String,
    },
    /// The answer was no.
    #[error("nothing was done")]
    Declined,
    /// No commit begins with these digits.
    #[error("no commit here begins with `{prefix}`")]
    NoSuchCommit {
        /// The digits.
        prefix: String,
    },
    /// A data folder lacks the edits of a request.
    #[error("there are no edits of request {request} of commit {commit} in {}", path.display())]
    NoSuchRequest {
        /// The commit.
        commit: CommitId,
        /// Its request.
        request: u32,
        /// The data folder.
        path: PathBuf,
    },
    /// Several commits do.
    #[error("`{prefix}` begins the names of several commits: {names}")]
    ManySuchCommits {
        /// The digits.
        prefix: String,
        /// The first few names.
        names: String,
    },
    /// A field holds no blob, or the entry of it that was named.
    #[error("there is no blob in `{field}` of `{name}`")]
    NoSuchBlob {
        /// The document.
        name: String,
        /// The field.
        field: String,
    },
    /// There is no such document.
    #[error("there is no document `{name}`")]
    NoSuchDocument {
        /// Its name.
        name: String,
    },
    /// A line of an import cannot be read.
    #[error("{file}, line {line}: {why}")]
    Line {
        /// The file.
        file: String,
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// A patch that does not fit what is there.
    #[error("the patch does not fit, and nothing was written: {misfit}")]
    Misfit {
        /// Where it does not.
        misfit: herdbook_model::patch::Misfit,
    },
    /// An import ended early.
    #[error("{source}")]
    Import {
        /// Why.
        #[source]
        source: Box<Self>,
        /// Lines that are committed, from the first of the file on.
        committed: u64,
    },
    /// JSON that does not parse, or does not fit the schema.
    #[error("{what}: {why}")]
    Json {
        /// What it should be.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A file or folder.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        #[source]
        source: io::Error,
    },
    /// Something that the demo shows is not so.
    #[error("the demo failed: {what}")]
    Demo {
        /// What is not so.
        what: String,
    },
    /// A folder that should be empty or new.
    #[error("{} exists already and is not empty", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that is no backup.
    #[error("{} is no backup: {why}", path.display())]
    NoBackup {
        /// The folder.
        path: PathBuf,
        /// What is missing or wrong.
        why: String,
    },
    /// A file of a backup is not what was written.
    #[error("{} is damaged: {why}", path.display())]
    DamagedBackup {
        /// The file.
        path: PathBuf,
        /// How.
        why: String,
    },
    /// The store of a data folder.
    #[error(transparent)]
    Store(Box<store::Error>),
    /// The repository of a data folder.
    #[error(transparent)]
    Repository(Box<replica::Error>),
    /// A replica does not start.
    #[error(transparent)]
    Node(Box<node::Error>),
    /// A coordinator does not start.
    #[error(transparent)]
    Coordinator(Box<herdbook_coordinator::Error>),
    /// The load harness came to no result.
    #[error(transparent)]
    Load(Box<herdbook_loadtest::Error>),
    /// A stream of answers ended before all was said.
    #[error("the server ended the stream before it had answered all")]
    Ended,
    /// A check found damage.
    #[error("{count} {} found in {}", if *count == 1 { "fault was" } else { "faults were" }, path.display())]
    Findings {
        /// How many.
        count: usize,
        /// The data folder.
        path: PathBuf,
    },
    /// What was looked for differs; nothing more is to be said.
    #[error("there are differences")]
    Differs,
    /// A member is not well.
    #[error("{why}")]
    Unwell {
        /// What is wrong.
        why: String,
    },
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// The program cannot start its threads.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

/// Exit code and name of a class of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class {
    /// The exit code.
    pub(crate) exit: u8,
    /// Its name in JSON.
    pub(crate) name: &'static str,
}

impl Class {
    const DIFFERENT: Self = Self { exit: 1, name: "DIFFERENT" };
    const USAGE: Self = Self { exit: 2, name: "USAGE" };
    const NOT_FOUND: Self = Self { exit: 3, name: "NOT_FOUND" };
    const CONFLICT: Self = Self { exit: 4, name: "CONFLICT" };
    const DENIED: Self = Self { exit: 5, name: "DENIED" };
    const UNAVAILABLE: Self = Self { exit: 6, name: "UNAVAILABLE" };
    const INVALID: Self = Self { exit: 7, name: "INVALID" };
    const CORRUPT: Self = Self { exit: 8, name: "CORRUPT" };
    const INTERNAL: Self = Self { exit: 70, name: "INTERNAL" };

    const fn of(kind: Kind) -> Self {
        match kind {
            Kind::NotFound | Kind::OutOfRange => Self::NOT_FOUND,
            Kind::Exists | Kind::Conflict | Kind::Precondition => Self::CONFLICT,
            Kind::Denied | Kind::Unauthenticated => Self::DENIED,
            Kind::Exhausted | Kind::Unavailable | Kind::Unknown => Self::UNAVAILABLE,
            Kind::Invalid | Kind::Unsupported => Self::INVALID,
            Kind::Corrupt => Self::CORRUPT,
            Kind::Internal => Self::INTERNAL,
        }
    }

    const fn of_store(kind: store::Kind) -> Self {
        match kind {
            store::Kind::NotFound => Self::NOT_FOUND,
            store::Kind::Conflict => Self::CONFLICT,
            store::Kind::Denied => Self::DENIED,
            store::Kind::Unavailable => Self::UNAVAILABLE,
            store::Kind::Invalid => Self::INVALID,
            store::Kind::Corrupt => Self::CORRUPT,
            store::Kind::Internal => Self::INTERNAL,
        }
    }

    const fn of_repository(kind: replica::Kind) -> Self {
        match kind {
            replica::Kind::NotFound => Self::NOT_FOUND,
            replica::Kind::Conflict => Self::CONFLICT,
            replica::Kind::Denied => Self::DENIED,
            replica::Kind::Unavailable | replica::Kind::Exhausted => Self::UNAVAILABLE,
            replica::Kind::Invalid => Self::INVALID,
            replica::Kind::Corrupt => Self::CORRUPT,
            replica::Kind::Internal => Self::INTERNAL,
        }
    }

    fn of_node(error: &node::Error) -> Self {
        match error {
            node::Error::Listen { source, .. } | node::Error::Folder { source, .. } | node::Error::Http(source) => Self::of_io(source),
            node::Error::Repository(error) => Self::of_repository(error.kind()),
            node::Error::NothingToJoin => Self::USAGE,
            node::Error::Unreachable { .. } | node::Error::Failed { .. } => Self::UNAVAILABLE,
            node::Error::NotTaken { failure, .. } => Self::of(failure.kind),
            node::Error::Impostor { .. } => Self::DENIED,
            node::Error::Serve(_) => Self::INTERNAL,
        }
    }

    fn of_coordinator(error: &herdbook_coordinator::Error) -> Self {
        use herdbook_coordinator::Error;
        match error {
            Error::Node(error) => Self::of_node(error),
            Error::Keys(error) => Self::of_coordinator_key(error),
            Error::Authority(error) => Self::of_authority(error),
        }
    }

    fn of_coordinator_key(error: &herdbook_coordinator::keys::Error) -> Self {
        use herdbook_coordinator::keys::Error;
        match error {
            Error::Io { source, .. } => Self::of_io(source),
            Error::Damaged { .. } | Error::Mismatch { .. } => Self::CORRUPT,
            Error::Key(error) => Self::of_key(error),
        }
    }

    fn of_authority(error: &herdbook_coordinator::authority::Error) -> Self {
        use herdbook_coordinator::authority::Error;
        match error {
            Error::Repository(error) => Self::of_repository(error.kind()),
            Error::Token(_) => Self::DENIED,
            Error::Json(_) | Error::Schema(_) | Error::NoSource | Error::Name(_) | Error::NoStandby => Self::INVALID,
            Error::NotAccepted { .. } | Error::HorizonAndBranches | Error::HorizonOverLosses => Self::CONFLICT,
            Error::Acceptance(_) | Error::NoEpoch => Self::INTERNAL,
            Error::Keys(error) => Self::of_coordinator_key(error),
            Error::Overtaken => Self::UNAVAILABLE,
        }
    }

    fn of_key(error: &replica::keys::Error) -> Self {
        use replica::keys::Error;
        match error {
            Error::Io { source, .. } => Self::of_io(source),
            Error::Malformed { .. } => Self::CORRUPT,
            Error::NoRandom => Self::INTERNAL,
        }
    }

    fn of_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NOT_FOUND,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::DENIED,
            io::ErrorKind::AlreadyExists | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::INVALID,
            io::ErrorKind::StorageFull | io::ErrorKind::AddrInUse | io::ErrorKind::TimedOut => Self::UNAVAILABLE,
            _ => Self::INTERNAL,
        }
    }
}

impl Error {
    /// Returns that `argument` cannot be used like this.
    pub(crate) fn argument(argument: impl Into<String>, why: impl ToString) -> Self {
        Self::Argument { argument: argument.into(), why: why.to_string() }
    }

    /// Returns the error of a failed system call on `path`.
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }

    /// Returns exit code and name.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::Server(failed) if is_broken_off(failed) => Class::UNAVAILABLE,
            Self::Server(failed) => Class::of(failed.kind),
            Self::Argument { .. } | Self::Unconfirmed { .. } | Self::Declined | Self::ManySuchCommits { .. } => Class::USAGE,
            Self::NoSuchCommit { .. } | Self::NoSuchRequest { .. } | Self::NoSuchDocument { .. } | Self::NoSuchBlob { .. } => {
                Class::NOT_FOUND
            }
            Self::Line { .. } | Self::Json { .. } | Self::Occupied { .. } | Self::NoBackup { .. } => Class::INVALID,
            Self::Misfit { .. } => Class::CONFLICT,
            Self::Import { source, .. } => source.class(),
            Self::File { source, .. } | Self::Output(source) | Self::Runtime(source) => Class::of_io(source),
            Self::Store(error) => Class::of_store(error.kind()),
            Self::Repository(error) => Class::of_repository(error.kind()),
            Self::Node(error) => Class::of_node(error),
            Self::Coordinator(error) => Class::of_coordinator(error),
            Self::Load(error) => Class::of(error.kind()),
            Self::Ended => Class::UNAVAILABLE,
            Self::DamagedBackup { .. } | Self::Findings { .. } => Class::CORRUPT,
            Self::Differs | Self::Unwell { .. } | Self::Demo { .. } => Class::DIFFERENT,
        }
    }

    /// Returns the code to exit with. Who closed our output early, as `head` does, has what it wanted.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.is_silent() && !matches!(self, Self::Differs) { ExitCode::SUCCESS } else { ExitCode::from(self.class().exit) }
    }

    fn is_silent(&self) -> bool {
        matches!(self, Self::Differs) || matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns what a person can do about it.
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Server(failed) => return failed.hint.clone(),
            Self::NoSuchCommit { .. } => "`herdbook log` lists the commits of a branch; give all 64 digits for a commit of another branch",
            Self::ManySuchCommits { .. } => "give more digits",
            Self::NoSuchBlob { .. } => "`herdbook get DOCUMENT` shows what its fields hold; it may not have arrived at this replica yet",
            Self::NoSuchDocument { .. } => "`herdbook ls COLLECTION` lists keys; --at reads an older state",
            Self::Import { committed: 0, .. } => "nothing was committed: mend the input and run the import again",
            Self::Import { committed, .. } => {
                return Some(format!("{committed} lines are committed: mend the rest and go on with --skip {committed}"));
            }
            Self::Occupied { .. } => "choose a folder that does not exist yet",
            Self::NoBackup { .. } => "give a folder that `herdbook backup` made",
            Self::DamagedBackup { .. } => "nothing was restored: use another backup",
            Self::Store(error) => return store_hint(error),
            Self::Repository(error) => match &**error {
                replica::Error::Store(error) => return store_hint(error),
                _ => return None,
            },
            Self::Node(error) => return node_hint(error),
            Self::Coordinator(error) => match &**error {
                herdbook_coordinator::Error::Node(error) => return node_hint(error),
                _ => return None,
            },
            Self::Findings { .. } => "start the member so that it fetches what it lacks from its peers, or restore a backup",
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// Returns the message with its causes.
    fn message(&self) -> String {
        let mut text = match self.root() {
            // What is not one of our servers may answer with a code alone.
            Self::Server(failed) if failed.message.is_empty() => format!("the server answered {:?} and said no more", failed.kind.code()),
            _ => self.to_string(),
        };
        // Transparent variants and `Import` tell their cause already.
        let mut cause = match self {
            Self::Import { .. } | Self::Server(_) => None,
            error => error.source(),
        };
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }

    /// Tells the failure on standard error: as text, or as one line of JSON.
    pub(crate) fn tell(&self, json: bool, endpoints: &[String]) {
        if self.is_silent() {
            return;
        }
        if json {
            eprintln!("{}", self.to_json(endpoints));
            return;
        }
        eprintln!("error: {}", self.message());
        if matches!(self.root(), Self::Server(_)) {
            eprintln!("  where: {}", endpoints.join(", "));
        }
        if let Some(hint) = self.hint() {
            eprintln!("  hint:  {hint}");
        }
    }

    fn root(&self) -> &Self {
        match self {
            Self::Import { source, .. } => source.root(),
            error => error,
        }
    }

    fn to_json(&self, endpoints: &[String]) -> Json {
        let class = self.class();
        let mut error = json!({ "code": class.name, "exit": class.exit, "message": self.message(), "hint": self.hint() });
        if let Self::Server(failed) = self.root() {
            error["grpc"] = json!(format!("{:?}", failed.kind.code()));
            error["reason"] = json!(failed.reason);
            error["metadata"] = json!(failed.metadata);
            error["endpoints"] = json!(endpoints);
        }
        if let Self::Import { committed, .. } = self {
            error["committed"] = json!(committed);
        }
        json!({ "error": error })
    }
}

/// Whether the connection broke while the answer came: the transport has a code of its own for that, and no reason.
pub(crate) fn is_broken_off(failed: &Failed) -> bool {
    failed.kind == Kind::Internal && failed.reason.is_empty() && failed.message.starts_with("h2 protocol error")
}

fn store_hint(error: &store::Error) -> Option<String> {
    let text = match error {
        store::Error::Damaged { .. } => {
            "`herdbook fsck --data DIR --repair` keeps what comes before the damage in the log, and peers bring back the rest; where that does not \
             open it, move the folder away and let the member join anew, or restore a backup (README, When a disk is damaged)"
        }
        store::Error::CorruptFile { .. } => {
            "move the folder away and let the member join anew, or restore a backup (README, When a disk is damaged)"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

fn node_hint(error: &node::Error) -> Option<String> {
    match error {
        node::Error::Repository(replica::Error::Store(error)) => store_hint(error),
        node::Error::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => Some(format!(
            "another process listens there: stop it, or choose another port than {} (--listen, --http; of `dev` --port)",
            address.port()
        )),
        node::Error::Listen { .. } => Some("give an address of this machine with --listen or --http".to_owned()),
        node::Error::Unreachable { .. } => Some("start the coordinator, or give its address with --coordinator".to_owned()),
        node::Error::NotTaken { failure, .. } => failure.hint.clone(),
        node::Error::Failed { .. } => Some("see to the cause, then start it again: what was acknowledged as durable is there".to_owned()),
        _ => None,
    }
}

/// Makes a failure of a layer below an [`Error`]; boxed, so that results stay small.
macro_rules! from_layer {
    ($($variant:ident: $layer:ty),* $(,)?) => {$(
        impl From<$layer> for Error {
            fn from(error: $layer) -> Self {
                Self::$variant(Box::new(error))
            }
        }
    )*};
}

from_layer! {
    Server: Failed,
    Store: store::Error,
    Repository: replica::Error,
    Node: node::Error,
    Coordinator: herdbook_coordinator::Error,
    Load: herdbook_loadtest::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_that_ends_early_says_how_to_go_on() {
        let line = Error::Line { file: "cities.jsonl".to_owned(), line: 512, why: "not JSON".to_owned() };
        let error = Error::Import { source: Box::new(line), committed: 500 };
        assert_eq!(error.class().exit, 7);
        let told = error.to_json(&[]);
        assert_eq!(told["error"]["committed"], 500);
        assert!(told["error"]["hint"].as_str().is_some_and(|hint| hint.contains("--skip 500")), "{told}");
        assert_eq!(told["error"]["message"], "cities.jsonl, line 512: not JSON");
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let code = |error: &Error| format!("{:?}", error.exit_code());
        let closed = Error::Output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(code(&closed), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(&Error::Differs), format!("{:?}", ExitCode::from(1)));
    }
}
