//! What the tests of the command share: the binary, folders, and a cluster of it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde_json::Value as Json;
use tempfile::TempDir;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ended {
    /// Returns the output of a command that must have done what it was asked.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.out
    }

    /// Returns the JSON that it printed.
    #[track_caller]
    pub(crate) fn json(self) -> Json {
        let out = self.done();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Returns the JSON of each line that it printed.
    #[track_caller]
    pub(crate) fn lines(self) -> Vec<Json> {
        let out = self.done();
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Asserts that it failed with `code` and said all of `texts` on standard error.
    #[track_caller]
    pub(crate) fn failed(&self, code: i32, texts: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for text in texts {
            assert!(self.err.contains(text), "`{text}` is not said in {self:#?}");
        }
        assert!(!self.err.contains("panicked"), "{self:#?}");
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the command writes UTF-8");
        Self { code: output.status.code().expect("it was not killed"), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Returns the command, with an environment that says nothing to it.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herdbook"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HERDBOOK_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// How long a command may take that is expected to end: far more than any takes, far less than a run of tests waits for one that hangs.
const PATIENCE: Duration = Duration::from_mins(2);

/// Runs the command to its end. One that goes on, as a server does that was to be refused, is killed and fails the test.
#[track_caller]
pub(crate) fn herdbook(args: &[&str]) -> Ended {
    let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let [out, err] = [read_aside(child.stdout.take().expect("it is piped")), read_aside(child.stderr.take().expect("it is piped"))];
    let mut late = false;
    let stdout = out.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        late = true;
        child.kill().expect("it is ours");
        out.recv().expect("a killed command closes its output")
    });
    let stderr = err.recv().expect("a command that ended closes its errors");
    let status = child.wait().expect("it is ours");
    let text = String::from_utf8_lossy;
    assert!(!late, "{args:?} goes on after {PATIENCE:?}; it said:\n{}{}", text(&stdout), text(&stderr));
    Output { status, stdout, stderr }.into()
}

/// Reads to the end on a thread of its own, so that neither of two outputs waits for the other.
fn read_aside(mut output: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (read, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).expect("it is readable");
        // A test that failed by then hears nothing any more.
        let _ = read.send(bytes);
    });
    receiver
}

/// A server in a process of its own. Dropped, it is killed.
pub(crate) struct Server {
    child: Child,
    /// Where it takes gRPC.
    pub(crate) grpc: String,
    /// The lines it printed up to and with `ready`.
    pub(crate) lines: Vec<String>,
}

impl Server {
    /// Starts the command and waits until it is ready.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("the binary starts");
        let mut lines = Vec::new();
        let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
        loop {
            let mut line = String::new();
            if output.read_line(&mut line).expect("it is readable") == 0 {
                panic!("{args:?} ended with {:?} before it was ready: {lines:?}", child.wait());
            }
            lines.push(line.trim_end().to_owned());
            if line.starts_with("ready ") {
                break;
            }
        }
        let grpc = address(lines.last().expect("it is ready"), "grpc").to_owned();
        Self { child, grpc, lines }
    }

    /// Asks it to end, as an operator would, and returns its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        // The shell's own `kill`: a small machine has no program of that name.
        let asked = Command::new("sh").args(["-c", "kill -TERM $0", &self.child.id().to_string()]).status().expect("a shell is there");
        assert!(asked.success());
        self.child.wait().expect("it is ours").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the address after `name=` in a line of a server.
pub(crate) fn address<'a>(line: &'a str, name: &str) -> &'a str {
    let mut words = line.split_whitespace().filter_map(|word| word.split_once('='));
    words.find(|(found, _)| *found == name).map(|(_, address)| address).unwrap_or_else(|| panic!("no {name}= in {line}"))
}

/// A cluster in one process, on free ports, with a data folder of its own.
pub(crate) struct Cluster {
    server: Server,
    /// Its data.
    pub(crate) folder: TempDir,
}

impl Cluster {
    /// Starts a coordinator and two replicas.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let data = folder.path().join("cluster");
        let server = Server::start(&["dev", "--port", "0", "--data", data.to_str().expect("UTF-8")]);
        Self { server, folder }
    }

    /// Returns where a node takes gRPC: `coordinator`, `replica-1`, `replica-2`.
    pub(crate) fn node(&self, name: &str) -> &str {
        let line = self.server.lines.iter().find(|line| line.starts_with(name)).expect("it was told");
        address(line, "grpc")
    }

    /// Runs a command against replica 1.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_at("replica-1", args)
    }

    /// Runs a command against a node.
    pub(crate) fn run_at(&self, node: &str, args: &[&str]) -> Ended {
        command(args).args(["--endpoint", self.node(node)]).output().expect("the binary starts").into()
    }

    /// As [`Cluster::run`], with JSON answers.
    pub(crate) fn json(&self, args: &[&str]) -> Ended {
        command(args).args(["--json", "--endpoint", self.node("replica-1")]).output().expect("the binary starts").into()
    }

    /// Runs a command against replica 1 with `input` on its standard input.
    pub(crate) fn pipe(&self, args: &[&str], input: &str) -> Ended {
        let mut command = command(args);
        command.args(["--endpoint", self.node("replica-1")]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads all of its input");
        child.wait_with_output().expect("it is ours").into()
    }

    /// Ends it; returns its exit code and its data.
    pub(crate) fn stop(self) -> (Option<i32>, TempDir) {
        (self.server.stop(), self.folder)
    }
}

/// Writes a file into a folder; returns its path.
pub(crate) fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).expect("the folder is writable");
    path.to_str().expect("UTF-8").to_owned()
}
