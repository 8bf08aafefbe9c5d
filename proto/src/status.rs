//! Failures on the wire: one table from what the caller should do to the code of gRPC, and the way back.
//!
//! Every failure carries google.rpc.ErrorInfo with a reason and the particulars; a malformed request also google.rpc.BadRequest with the
//! place, and what is worth a retry google.rpc.RetryInfo. Texts are cut, since they travel as HTTP headers.

use std::{collections::BTreeMap, error::Error, fmt::Write as _, time::Duration};

use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{Malformed, limits, v1};

/// Domain of every reason.
pub const DOMAIN: &str = "herdbook";

/// Longest message, in bytes: as a header each may take three, it travels again within the details, and all of a status must stay below the
/// 16 KiB that HTTP/2 peers allow.
const MESSAGE_MAX: usize = 1024;

/// Longest particular, in bytes.
const METADATA_MAX: usize = 256;

/// Most particulars.
const METADATA_COUNT: usize = 8;

/// Name of the particular that tells people what to do.
const HINT: &str = "hint";

/// What the caller should do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Change the request: it can never succeed.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// What should be made exists already.
    Exists,
    /// Read again and decide anew: somebody else was first.
    Conflict,
    /// What the request supposes does not hold; it can succeed once it does.
    Precondition,
    /// Ask for permission.
    Denied,
    /// Say who you are.
    Unauthenticated,
    /// Slow down, or ask for less.
    Exhausted,
    /// Begin anew: the position or state is not here any more.
    OutOfRange,
    /// Try again later.
    Unavailable,
    /// Nobody knows yet how it ended: repeat it with the same idempotency key.
    Unknown,
    /// This version does not do that.
    Unsupported,
    /// Bytes here are damaged: restore them from a peer or a backup.
    Corrupt,
    /// A defect of the program: report it.
    Internal,
}

impl Kind {
    /// Returns the code of gRPC that stands for it.
    pub const fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Exists => Code::AlreadyExists,
            Self::Conflict => Code::Aborted,
            Self::Precondition => Code::FailedPrecondition,
            Self::Denied => Code::PermissionDenied,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Exhausted => Code::ResourceExhausted,
            Self::OutOfRange => Code::OutOfRange,
            Self::Unavailable => Code::Unavailable,
            Self::Unknown => Code::DeadlineExceeded,
            Self::Unsupported => Code::Unimplemented,
            Self::Corrupt => Code::DataLoss,
            Self::Internal => Code::Internal,
        }
    }

    /// Returns what a code of gRPC asks of the caller. Codes that no service here sends count as defects.
    pub const fn of(code: Code) -> Self {
        match code {
            Code::InvalidArgument => Self::Invalid,
            Code::NotFound => Self::NotFound,
            Code::AlreadyExists => Self::Exists,
            Code::Aborted => Self::Conflict,
            Code::FailedPrecondition => Self::Precondition,
            Code::PermissionDenied => Self::Denied,
            Code::Unauthenticated => Self::Unauthenticated,
            Code::ResourceExhausted => Self::Exhausted,
            Code::OutOfRange => Self::OutOfRange,
            Code::Unavailable => Self::Unavailable,
            // The transport says `Cancelled` where a deadline passed on either side.
            Code::DeadlineExceeded | Code::Cancelled => Self::Unknown,
            Code::Unimplemented => Self::Unsupported,
            Code::DataLoss => Self::Corrupt,
            Code::Internal | Code::Unknown | Code::Ok => Self::Internal,
        }
    }

    /// Returns how long to wait before a retry, where one is worth it.
    const fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Exhausted => Some(Duration::from_millis(50)),
            Self::Unavailable => Some(Duration::from_millis(500)),
            _ => None,
        }
    }
}

/// An error that a service can answer with.
pub trait Failure: Error {
    /// Returns what the caller should do.
    fn kind(&self) -> Kind;

    /// Returns what is wrong, for programs: UPPER_SNAKE_CASE, stable.
    fn reason(&self) -> &'static str;

    /// Returns the particulars by name, lower_snake_case.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Returns the field of the request that is wrong, if one is.
    fn field(&self) -> Option<String> {
        None
    }

    /// Returns what a person can do about it.
    fn hint(&self) -> Option<String> {
        None
    }

    /// Returns the status to answer with.
    fn to_status(&self) -> Status
    where
        Self: Sized,
    {
        status(self)
    }
}

impl Failure for Malformed {
    fn kind(&self) -> Kind {
        Kind::Invalid
    }

    fn reason(&self) -> &'static str {
        "MALFORMED"
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        vec![("field", self.path().to_owned())]
    }

    fn field(&self) -> Option<String> {
        Some(self.path().to_owned())
    }
}

impl From<Malformed> for Status {
    fn from(error: Malformed) -> Self {
        error.to_status()
    }
}

/// Returns the status that tells of `failure`: its message and those of its causes, and the details.
pub fn status(failure: &dyn Failure) -> Status {
    let kind = failure.kind();
    let mut message = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        // Writing to a text cannot fail.
        let _ = write!(message, ": {error}");
        cause = error.source();
    }
    cut(&mut message, MESSAGE_MAX);

    let hint = failure.hint().map(|hint| (HINT, hint));
    let particulars = failure.metadata().into_iter().take(METADATA_COUNT).chain(hint).map(|(name, mut value)| {
        cut(&mut value, METADATA_MAX);
        (name.to_owned(), value)
    });
    let mut details = ErrorDetails::new();
    details.set_error_info(failure.reason(), DOMAIN, particulars.collect::<std::collections::HashMap<_, _>>());
    if let Some(mut field) = failure.field() {
        cut(&mut field, METADATA_MAX);
        let mut description = message.clone();
        cut(&mut description, METADATA_MAX);
        details.add_bad_request_violation(field, description);
    }
    if let Some(after) = kind.retry_after() {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(kind.code(), message, details)
}

/// Cuts a text to at most `max` bytes, at a character, and marks the cut.
fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// A failure as a caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    /// What to do about it.
    pub kind: Kind,
    /// What is wrong, for programs; empty if the service did not say, as when it was not reached.
    pub reason: String,
    /// What is wrong, for people.
    pub message: String,
    /// What a person can do about it.
    pub hint: Option<String>,
    /// The particulars, by name.
    pub metadata: BTreeMap<String, String>,
    /// How long to wait before a retry, where one is worth it.
    pub retry_after: Option<Duration>,
}

impl Failed {
    /// Reads a status. Details that do not decode are left out: the code and the message always remain.
    pub fn from_status(status: &Status) -> Self {
        if status.code() == Code::Cancelled {
            return Self::no_answer();
        }
        // No service sends a cause: the transport made this status itself, of a connection that broke. It says `Unknown` or `Internal`.
        if matches!(status.code(), Code::Unknown | Code::Internal) && status.source().is_some() {
            let message = format!("the connection broke: {}", status.message());
            return Self::here(
                Kind::Unavailable,
                "BROKEN_STREAM",
                message,
                "a write that was under way is repeated with its idempotency key; if it comes at once, that may be no port of gRPC",
            );
        }
        let details = status.get_error_details();
        let (reason, mut metadata) = match details.error_info() {
            Some(info) => (info.reason.clone(), info.metadata.clone().into_iter().collect()),
            None => (String::new(), BTreeMap::new()),
        };
        Self {
            kind: Kind::of(status.code()),
            reason,
            message: status.message().to_owned(),
            hint: metadata.remove(HINT),
            metadata,
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }

    /// Returns that no answer came before the deadline.
    pub(crate) fn no_answer() -> Self {
        let message = "no answer came in time: nobody knows how it ended".to_owned();
        Self::here(Kind::Unknown, "NO_ANSWER", message, "a read can be repeated, a write with the same idempotency key")
    }

    /// Returns a failure that no service told of.
    pub(crate) fn here(kind: Kind, reason: &str, message: String, hint: &str) -> Self {
        let hint = Some(hint.to_owned());
        Self { kind, reason: reason.to_owned(), message, hint, metadata: BTreeMap::new(), retry_after: kind.retry_after() }
    }

    /// Returns that a service answered with something that means nothing.
    pub(crate) fn answer(error: &Malformed) -> Self {
        let message = format!("the server's answer cannot be read: {error}");
        Self::here(Kind::Internal, "MALFORMED_ANSWER", message, "client and server may be of different versions")
    }
}

/// Checks that a message is not too long to be sent: the other side would break off while it comes in, and say nothing that is of use.
///
/// # Errors
/// [`Kind::Invalid`] above [`limits::MESSAGE`].
pub fn fits(message: &impl Message) -> Result<(), Failed> {
    let (len, limit) = (message.encoded_len(), limits::MESSAGE);
    if len <= limit {
        return Ok(());
    }
    let message = format!("the request has {len} bytes, more than the {limit} of a message");
    Err(Failed::here(Kind::Invalid, "MESSAGE_TOO_LARGE", message, "split it into several; long content belongs into a blob"))
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self::from_status(&status)
    }
}

impl From<Failed> for v1::Failure {
    fn from(failed: Failed) -> Self {
        let Failed { kind, reason, message, hint, mut metadata, retry_after: _ } = failed;
        metadata.extend(hint.map(|hint| (HINT.to_owned(), hint)));
        Self { code: kind.code().into(), message, reason, metadata }
    }
}

impl From<v1::Failure> for Failed {
    fn from(failure: v1::Failure) -> Self {
        let v1::Failure { code, message, reason, mut metadata } = failure;
        let kind = Kind::of(Code::from_i32(code));
        Self { kind, reason, message, hint: metadata.remove(HINT), metadata, retry_after: kind.retry_after() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    #[derive(Debug, thiserror::Error)]
    #[error("no room for {what}")]
    struct Full {
        what: String,
        #[source]
        cause: std::num::ParseIntError,
    }

    impl Failure for Full {
        fn kind(&self) -> Kind {
            Kind::Exhausted
        }

        fn reason(&self) -> &'static str {
            "FULL"
        }

        fn metadata(&self) -> Vec<(&'static str, String)> {
            vec![("what", self.what.clone())]
        }

        fn hint(&self) -> Option<String> {
            Some("make room".to_owned())
        }
    }

    fn full(what: &str) -> Full {
        Full { what: what.to_owned(), cause: "x".parse::<u8>().expect_err("not a number") }
    }

    #[test]
    fn a_caller_reads_what_the_service_said() {
        let failed = Failed::from(full("chunks").to_status());
        assert_eq!(failed.kind, Kind::Exhausted);
        assert_eq!(failed.reason, "FULL");
        assert_eq!(failed.message, "no room for chunks: invalid digit found in string");
        assert_eq!(failed.hint.as_deref(), Some("make room"));
        assert_eq!(failed.metadata, BTreeMap::from([("what".to_owned(), "chunks".to_owned())]));
        assert_eq!(failed.retry_after, Kind::Exhausted.retry_after());
    }

    #[test]
    fn a_failure_within_a_stream_says_the_same_as_a_failed_call() {
        let status = full("chunks").to_status();
        let failed = Failed::from(status);
        assert_eq!(Failed::from(v1::Failure::from(failed.clone())), failed);
    }

    #[test]
    fn a_malformed_request_names_its_field() {
        let status = Status::from(Malformed::new("key", Fault::BadKey { actual: 0 }).within("edits[3]"));
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "`edits[3].key` has 0 bytes, a key has 1 to 1024");
        let details = status.get_error_details();
        let violations = &details.bad_request().expect("it is a bad request").field_violations;
        assert_eq!(violations[0].field, "edits[3].key");
    }

    #[test]
    fn long_texts_are_cut_so_that_they_fit_in_headers() {
        let status = full(&"é".repeat(1 << 20)).to_status();
        assert!(status.message().len() <= MESSAGE_MAX && status.message().ends_with('…'));
        assert!(status.details().len() < 4096);
    }

    #[test]
    fn each_kind_comes_back_from_its_code() {
        use Kind::{
            Conflict, Corrupt, Denied, Exhausted, Exists, Internal, Invalid, NotFound, OutOfRange, Precondition, Unauthenticated,
            Unavailable, Unknown, Unsupported,
        };
        for kind in [
            Conflict,
            Corrupt,
            Denied,
            Exhausted,
            Exists,
            Internal,
            Invalid,
            NotFound,
            OutOfRange,
            Precondition,
            Unauthenticated,
            Unavailable,
            Unknown,
            Unsupported,
        ] {
            assert_eq!(Kind::of(kind.code()), kind);
        }
    }

    #[test]
    fn a_stream_that_breaks_is_worth_a_retry_and_a_defect_is_not() {
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let failed = Failed::from(Status::from_error(Box::new(reset)));
        assert_eq!((failed.kind, failed.reason.as_str()), (Kind::Unavailable, "BROKEN_STREAM"));
        assert_eq!(failed.retry_after, Kind::Unavailable.retry_after());
        assert_eq!(Failed::from(Status::internal("a defect")).kind, Kind::Internal);
    }

    #[test]
    fn a_status_without_details_keeps_code_and_message() {
        let failed = Failed::from(Status::unavailable("connection refused"));
        assert_eq!((failed.kind, failed.message.as_str(), failed.reason.as_str()), (Kind::Unavailable, "connection refused", ""));
    }
}
