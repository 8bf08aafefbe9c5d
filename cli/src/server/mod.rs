//! Servers: how they start, say that they serve, and end on SIGTERM and SIGINT. `coordinator`, `replica` and `dev` are beside this.

pub(crate) mod coordinator;
pub(crate) mod dev;
pub(crate) mod replica;

use std::{future::Future, io, path::Path};

use clap::{Args, ValueEnum};
use herdbook_replica::node::Node;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::errors::Error;

/// How a server's log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What a server says about itself while it runs.
#[derive(Debug, Clone, Args)]
pub(crate) struct Logging {
    /// How the log on standard error is written; RUST_LOG says how much
    #[arg(long, value_name = "FORMAT", env = "HERDBOOK_LOG_FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

impl Logging {
    /// Sends the log to standard error; `default` is how much where `RUST_LOG` says nothing.
    fn begin(&self, default: &str) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(format!("{default},actix_server=warn")));
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
        match self.log_format {
            LogFormat::Text => builder.init(),
            LogFormat::Json => builder.json().init(),
        }
    }
}

/// Runs `work` in an actor system with as many threads as the machine has.
///
/// # Errors
/// Those of `work`; [`Error::Runtime`].
pub(crate) fn run<F: Future<Output = Result<(), Error>>>(work: impl FnOnce() -> F) -> Result<(), Error> {
    // Asked for before the actor system takes it, where a failure would be a panic.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    actix_rt::System::with_tokio_rt(|| runtime).block_on(work())
}

/// Returns the line that says that a node serves.
fn ready(node: &Node) -> String {
    let http = node.http().map_or_else(String::new, |address| format!(" http={address}"));
    format!("ready grpc={}{http}", node.listen())
}

/// The signals by which a process is asked to end. Taken before a server says that it is ready: who reads that may ask at once.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn take() -> Result<Self, Error> {
        let take = |kind| signal(kind).map_err(Error::Runtime);
        Ok(Self { terminate: take(SignalKind::terminate())?, interrupt: take(SignalKind::interrupt())? })
    }
}

/// Returns once one of `nodes` ends by itself, or the process is asked to end; then stops them, the last first.
async fn serve(mut nodes: Vec<Node>, signals: Signals) -> Result<(), Error> {
    let Signals { mut terminate, mut interrupt } = signals;
    let ended = async {
        let waits = nodes.iter_mut().map(|node| Box::pin(node.stopped()));
        futures::future::select_all(waits).await.0
    };
    let ended = tokio::select! {
        ended = ended => ended.map_err(Error::from),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    tracing::info!("stopping");
    while let Some(node) = nodes.pop() {
        node.stop().await;
    }
    ended
}

/// Returns what a node is called if nobody says so: as its folder.
fn name_of(data: &Path) -> String {
    let absolute = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    absolute.file_name().map_or_else(|| "node".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Reads a file that holds a token.
fn read_token(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::file("read", path, error))?;
    let token = text.trim();
    if token.is_empty() { Err(Error::argument(path.display().to_string(), "the file holds no token")) } else { Ok(token.to_owned()) }
}
