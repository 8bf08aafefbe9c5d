//! A cluster of its own for a run: a coordinator and replicas as separate processes on loopback, each with a data folder of its own.
//!
//! All of it ends with the value.

use std::{
    fs::{self, File},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, atomic::AtomicU32},
    time::Duration,
};

use herdbook_proto::cluster::Phase;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use crate::{Error, node::connect, sampler::Subject, workload::DOCS_SCHEMA};

/// How long a server may take until it serves: it makes keys, joins and fetches its first copy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(50);

/// How much of the log of a failed server is told, in bytes.
const LOG_END: usize = 800;

/// The environment variable that names the binary.
pub const BINARY: &str = "HERDBOOK_BIN";

/// How a cluster is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `herdbook` program.
    pub binary: PathBuf,
    /// How many replicas there are beside the coordinator.
    pub replicas: usize,
    /// Whether members tell where they are reached, so that they reach each other directly; else replicas reach the coordinator only, where
    /// they were told that it is.
    pub is_meshed: bool,
    /// Where the data folders are made; none: the system's folder for temporary files.
    pub folder: Option<PathBuf>,
}

/// A running cluster. Dropped, its servers are killed and their data is removed.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    coordinator: Server,
    replicas: Vec<Server>,
    folder: TempDir,
}

/// A server that was started here.
#[derive(Debug)]
pub struct Server {
    pub(crate) address: String,
    pub(crate) child: Child,
}

impl Cluster {
    /// Starts a cluster and waits until every member serves.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Start`] if it cannot; [`Error::NotReady`] with the end of the log of the server that failed.
    pub async fn start(settings: &Settings) -> Result<Self, Error> {
        let folder = temporary_folder(settings.folder.as_deref())?;
        let at = |name: &str| folder.path().join(name);
        let token = at("token");
        write(&at("schema.json"), DOCS_SCHEMA)?;
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        write(&token, &secret.map(|byte| format!("{byte:02x}")).concat())?;

        let coordinator = Server::start(coordinator(settings, folder.path()), "coordinator", folder.path()).await?;
        let mut replicas = Vec::with_capacity(settings.replicas);
        for number in 1..=settings.replicas {
            let name = format!("replica-{number}");
            let mut command = Command::new(&settings.binary);
            command.arg("replica").arg("--data").arg(at(&name)).arg("--name").arg(&name);
            command.arg("--coordinator").arg(format!("http://{}", coordinator.address)).arg("--token-file").arg(&token);
            if !settings.is_meshed {
                command.arg("--advertise=");
            }
            replicas.push(Server::start(command, &name, folder.path()).await?);
        }
        let cluster = Self { settings: settings.clone(), coordinator, replicas, folder };
        for address in cluster.nodes() {
            serves(&address).await?;
        }
        Ok(cluster)
    }

    /// Returns the address of the coordinator.
    pub fn coordinator(&self) -> String {
        self.coordinator.address.clone()
    }

    /// Returns the addresses of the replicas.
    pub fn replicas(&self) -> Vec<String> {
        self.replicas.iter().map(|server| server.address.clone()).collect()
    }

    /// Returns the addresses of all members, the coordinator first.
    pub fn nodes(&self) -> Vec<String> {
        [self.coordinator()].into_iter().chain(self.replicas()).collect()
    }

    /// Returns the members for the sampler, the coordinator first.
    pub fn subjects(&self) -> Vec<Subject> {
        let names = std::iter::once("coordinator".to_owned()).chain((1..=self.replicas.len()).map(|number| format!("replica-{number}")));
        let subject = |(name, server): (String, &Server)| Subject {
            name,
            address: server.address.clone(),
            process: Arc::new(AtomicU32::new(server.child.id().unwrap_or(0))),
        };
        names.zip([&self.coordinator].into_iter().chain(&self.replicas)).map(subject).collect()
    }

    /// Returns the folder in which the members keep their data and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills the coordinator, removes its data, and starts it with nothing but its keys. Returns where it is now; it does not serve before it
    /// was told by its members what there was.
    ///
    /// # Errors
    /// [`Error::Start`], [`Error::NotReady`]; [`Error::File`] if the data cannot be removed.
    pub async fn lose_coordinator(&mut self) -> Result<String, Error> {
        // One that has ended by itself needs no killing.
        let _ = self.coordinator.child.kill().await;
        let data = self.folder.path().join("coordinator");
        fs::remove_dir_all(&data).map_err(|source| Error::File { what: "remove", path: data.clone(), source })?;
        let command = coordinator(&self.settings, self.folder.path());
        self.coordinator = Server::start(command, "coordinator-again", self.folder.path()).await?;
        Ok(self.coordinator())
    }

    /// Ends all members and waits until they have ended.
    pub async fn stop(mut self) {
        for server in self.replicas.iter_mut().chain([&mut self.coordinator]) {
            // One that has ended by itself needs no killing.
            let _ = server.child.kill().await;
        }
    }
}

impl Server {
    pub(crate) async fn start(command: Command, name: &str, folder: &Path) -> Result<Self, Error> {
        Self::start_at(Ipv4Addr::LOCALHOST, command, name, folder).await
    }

    /// As [`start`](Self::start), listening at an address of the network that the command runs in.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(crate) async fn start_at(host: Ipv4Addr, mut command: Command, name: &str, folder: &Path) -> Result<Self, Error> {
        let log = folder.join(format!("{name}.log"));
        let file = File::create(&log).map_err(|source| Error::File { what: "write", path: log.clone(), source })?;
        command.arg("--listen").arg(format!("{host}:0")).arg("--http").arg("127.0.0.1:0");
        // What the caller set for servers and commands of its own is not meant for these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HERDBOOK_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).kill_on_drop(true);
        let binary = PathBuf::from(command.as_std().get_program());
        let mut child = command.spawn().map_err(|source| Error::Start { name: name.to_owned(), binary, source })?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let Some(address) = timeout(PATIENCE, ready(&mut lines)).await.ok().flatten() else {
            return Err(Error::NotReady { name: name.to_owned(), log: end_of(&log) });
        };
        // The server must not meet a closed pipe when it prints again.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { address, child })
    }
}

/// Returns how the coordinator of a cluster in `folder` is started.
fn coordinator(settings: &Settings, folder: &Path) -> Command {
    let at = |name: &str| folder.join(name);
    let mut command = Command::new(&settings.binary);
    command.arg("coordinator").arg("--data").arg(at("coordinator")).arg("--keys").arg(at("keys"));
    command.arg("--schema").arg(at("schema.json")).arg("--join-token-file").arg(at("token")).arg("--join-token-reusable");
    if !settings.is_meshed {
        command.arg("--advertise=");
    }
    command
}

/// Makes a folder for temporary files.
///
/// # Errors
/// [`Error::File`] if it cannot be made.
pub fn temporary_folder(within: Option<&Path>) -> Result<TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("herdbook-load-");
    let within = within.map_or_else(std::env::temp_dir, Path::to_path_buf);
    builder.tempdir_in(&within).map_err(|source| Error::File { what: "make a folder in", path: within, source })
}

/// Returns the program to start servers from: `given`, or what `HERDBOOK_BIN` names, or the one called `herdbook` in the folder of this
/// program, which may be this one itself.
///
/// # Errors
/// [`Error::NoBinary`] if there is none of these.
pub fn binary(given: Option<PathBuf>) -> Result<PathBuf, Error> {
    let named = given.or_else(|| std::env::var_os(BINARY).filter(|path| !path.is_empty()).map(PathBuf::from));
    let beside = || std::env::current_exe().ok().map(|path| path.with_file_name("herdbook")).filter(|path| path.is_file());
    named.or_else(beside).ok_or(Error::NoBinary)
}

/// Reads lines until a server says where it serves: `ready grpc=ADDRESS …`.
async fn ready(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = address_in(&line) {
            return Some(address.to_owned());
        }
    }
    None
}

fn address_in(line: &str) -> Option<&str> {
    let address = line.strip_prefix("ready ")?.split_whitespace().find_map(|word| word.strip_prefix("grpc="))?;
    Some(address.strip_prefix("http://").unwrap_or(address))
}

async fn serves(address: &str) -> Result<(), Error> {
    let begun = Instant::now();
    let client = connect(address).await?;
    loop {
        match client.status().await {
            Ok(status) if status.phase == Phase::Serving && status.promoted.is_some() => return Ok(()),
            Ok(_) | Err(_) if begun.elapsed() < PATIENCE => sleep(PAUSE).await,
            Ok(status) => return Err(Error::NotReady { name: status.name, log: format!("it is {:?}", status.phase) }),
            Err(failed) => return Err(Error::call(address, failed)),
        }
    }
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::File { what: "write", path: path.to_owned(), source })
}

fn end_of(log: &Path) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).unwrap_or_default();
    let start = (text.len().saturating_sub(LOG_END)..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    if text.is_empty() { "none".to_owned() } else { text[start..].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_tells_the_address() {
        for line in ["ready grpc=127.0.0.1:7710 http=127.0.0.1:7790", "ready name=a grpc=http://127.0.0.1:7710"] {
            assert_eq!(address_in(line), Some("127.0.0.1:7710"));
        }
        for line in ["", "not ready grpc=127.0.0.1:7710", "ready http=127.0.0.1:7790"] {
            assert_eq!(address_in(line), None, "{line}");
        }
    }

    #[tokio::test]
    async fn a_server_that_ends_at_once_is_told_with_its_last_words() {
        let folder = temporary_folder(None).expect("made");
        let mut command = Command::new("sh");
        command.arg("-c").arg("echo 'the port is taken' >&2; exit 1");
        let error = Server::start(command, "alice", folder.path()).await.expect_err("it ended");
        assert!(matches!(&error, Error::NotReady { name, log } if name == "alice" && log == "the port is taken"), "{error}");
    }

    #[tokio::test]
    async fn a_server_is_killed_with_the_cluster_that_holds_it() {
        let folder = temporary_folder(None).expect("made");
        let mut command = Command::new("sh");
        command.arg("-c").arg("echo ready grpc=127.0.0.1:1; exec sleep 600");
        let mut server = Server::start(command, "alice", folder.path()).await.expect("it is ready");
        assert_eq!(server.address, "127.0.0.1:1");
        server.child.kill().await.expect("it ran");
        assert!(!server.child.wait().await.expect("it ended").success());
    }

    #[test]
    fn only_the_end_of_a_long_log_is_told() {
        let folder = temporary_folder(None).expect("made");
        let log = folder.path().join("a.log");
        fs::write(&log, format!("{}é{}", "x".repeat(5000), "y".repeat(LOG_END - 1))).expect("written");
        assert_eq!(end_of(&log), "y".repeat(LOG_END - 1));
        assert_eq!(end_of(&folder.path().join("none.log")), "none");
    }
}
