//! A Redis of its own for a turn, and as much of its protocol as the work needs. Each write is synced before it is answered.

use std::{
    net::TcpListener,
    ops::Range,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use herdbook_loadtest::{
    Connection,
    cluster::temporary_folder,
    connection::Failure,
    workload::{Payloads, Sizes, key},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, Command},
    sync::Mutex,
    time::sleep,
};

use crate::error::Error;

/// The program, found on the path.
const PROGRAM: &str = "redis-server";

/// How long it may take until it serves.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A Redis program.
#[derive(Debug, Clone)]
pub(crate) struct Redis {
    version: String,
}

/// A running Redis. Dropped, it is killed and its data is removed.
#[derive(Debug)]
pub(crate) struct Running {
    address: String,
    child: Child,
    _folder: TempDir,
}

impl Redis {
    /// Finds one on the path.
    pub(crate) async fn find() -> Option<Self> {
        let output = Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).output().await.ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
        Some(Self { version: format!("Redis {version}") })
    }

    /// Returns its version.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// [`Error::NotReady`] if it does not.
    pub(crate) async fn start(&self, within: Option<&Path>) -> Result<Running, Error> {
        let folder = temporary_folder(within)?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(Error::Port)?.port();
        let mut command = Command::new(PROGRAM);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        command.arg("--dir").arg(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(|source| Error::NotRunning { path: PROGRAM.into(), source })?;
        let mut running = Running { address: format!("127.0.0.1:{port}"), child, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(&running.address).await.is_err() {
            if begun.elapsed() >= PATIENCE || matches!(running.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return Err(Error::NotReady { address: running.address, log: "none".to_owned() });
            }
            sleep(PAUSE).await;
        }
        Ok(running)
    }
}

impl Running {
    /// Returns `count` connections of their own, for values of `len` bytes. It answers one request of a connection after another, so each
    /// client needs its own.
    ///
    /// # Errors
    /// [`Error::NotReady`] if it does not answer.
    pub(crate) async fn connect(&self, count: usize, len: usize) -> Result<Vec<RedisConnection>, Error> {
        let payloads = Payloads::new(Sizes::exactly(len));
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let stream = TcpStream::connect(&self.address).await;
            let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
            let stream = stream.map_err(|error| Error::NotReady { address: self.address.clone(), log: error.to_string() })?;
            let (read, write) = stream.into_split();
            let stream = Arc::new(Mutex::new((BufReader::new(read), write)));
            connections.push(RedisConnection { stream, payloads: payloads.clone() });
        }
        Ok(connections)
    }

    /// Ends it and waits until it has ended.
    pub(crate) async fn stop(mut self) {
        // If it has ended by itself there is nothing to kill.
        let _ = self.child.kill().await;
    }
}

/// A connection, and what is written over it.
#[derive(Debug, Clone)]
pub(crate) struct RedisConnection {
    stream: Arc<Mutex<(BufReader<OwnedReadHalf>, OwnedWriteHalf)>>,
    payloads: Payloads,
}

impl RedisConnection {
    async fn call(&self, words: &[&[u8]]) -> Result<Option<Vec<u8>>, Failure> {
        let mut stream = self.stream.lock().await;
        let (read, write) = &mut *stream;
        write.write_all(&request(words)).await.map_err(|error| failure(&error))?;
        answer(read).await
    }
}

impl Connection for RedisConnection {
    async fn fill(&self, range: Range<u64>) -> Result<(), Failure> {
        let pairs: Vec<_> = range.map(|i| (key(i), self.payloads.text(i, 0))).collect();
        let pairs = pairs.iter().flat_map(|(key, text)| [key.as_bytes(), text.as_bytes()]);
        let words: Vec<_> = std::iter::once(&b"MSET"[..]).chain(pairs).collect();
        self.call(&words).await.map(drop)
    }

    async fn write(&self, i: u64, revision: u64) -> Result<(), Failure> {
        self.call(&[b"SET", key(i).as_bytes(), self.payloads.text(i, revision).as_bytes()]).await.map(drop)
    }

    async fn read(&self, i: u64) -> Result<(), Failure> {
        match self.call(&[b"GET", key(i).as_bytes()]).await? {
            None => Err(Failure::missing(i)),
            Some(text) if self.payloads.has(i, &text) => Ok(()),
            Some(_) => Err(Failure::wrong(i)),
        }
    }
}

/// Returns a request: an array of strings.
fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

/// Reads an answer: a word, a string, or that there is none.
async fn answer(read: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Result<Option<Vec<u8>>, Failure> {
    let malformed = || Failure { reason: "MALFORMED".to_owned(), message: "an answer of Redis cannot be read".to_owned() };
    let mut line = String::new();
    read.read_line(&mut line).await.map_err(|error| failure(&error))?;
    let text = line.trim_end();
    match text.split_at_checked(1) {
        Some(("+" | ":", word)) => Ok(Some(word.as_bytes().to_vec())),
        Some(("-", why)) => Err(Failure { reason: "REFUSED".to_owned(), message: why.to_owned() }),
        Some(("$", "-1")) => Ok(None),
        Some(("$", len)) => {
            let len: usize = len.parse().map_err(|_| malformed())?;
            let mut text = vec![0; len + 2];
            read.read_exact(&mut text).await.map_err(|error| failure(&error))?;
            text.truncate(len);
            Ok(Some(text))
        }
        _ => Err(malformed()),
    }
}

fn failure(error: &std::io::Error) -> Failure {
    Failure { reason: "CONNECTION".to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_the_bytes_that_redis_expects() {
        assert_eq!(request(&[b"GET", b"k"]), b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
    }

    #[tokio::test]
    async fn answers_are_read_one_after_another() {
        let mut wire = &b"+OK\r\n$3\r\na\r\n\r\n$-1\r\n-ERR no\r\n?\r\n"[..];
        assert_eq!(answer(&mut wire).await, Ok(Some(b"OK".to_vec())));
        assert_eq!(answer(&mut wire).await, Ok(Some(b"a\r\n".to_vec())));
        assert_eq!(answer(&mut wire).await, Ok(None));
        assert_eq!(answer(&mut wire).await.expect_err("refused").message, "ERR no");
        assert_eq!(answer(&mut wire).await.expect_err("malformed").reason, "MALFORMED");
    }
}
