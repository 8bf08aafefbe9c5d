//! git, the tool: documents as files, edits as commits through `fast-import`, the quickest way in that it has.

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use crate::{
    error::Error,
    library::{Library, SINGLES, SYNCED, Task, all, millis, permuted, side},
};

/// git.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    version: String,
}

impl Git {
    /// Returns it, if it is on the path.
    pub(crate) fn find() -> Option<Self> {
        let output = Command::new("git").arg("--version").output().ok().filter(|output| output.status.success())?;
        Some(Self { version: String::from_utf8_lossy(&output.stdout).trim().to_owned() })
    }
}

/// A bare repository.
struct Repository(PathBuf);

impl Repository {
    /// Makes one with all documents in one commit on `main`.
    fn base(folder: &Path) -> Result<Self, Error> {
        let repository = Self(folder.join("repository.git"));
        run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&repository.0), None)?;
        repository.import("main", None, std::iter::once(all().collect()))?;
        Ok(repository)
    }

    /// Appends commits to a branch that begins at another.
    fn import(&self, branch: &str, from: Option<&str>, commits: impl Iterator<Item = Vec<(String, String)>>) -> Result<(), Error> {
        let mut stream = String::new();
        for (at, documents) in commits.enumerate() {
            let from = from.filter(|_| at == 0).map_or_else(String::new, |from| format!("from refs/heads/{from}^0\n"));
            let commit = format!("commit refs/heads/{branch}\ncommitter a <a@b> {} +0000\ndata 1\nx\n{from}", 1_700_000_000 + at);
            stream.push_str(&commit);
            for (key, text) in documents {
                write!(stream, "M 100644 inline {key}\ndata {}\n{text}\n", text.len()).expect("a string takes all");
            }
        }
        run(self.git().args(["fast-import", "--quiet", "--force"]), Some(stream.as_bytes())).map(drop)
    }

    fn git(&self) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.0);
        command
    }

    /// Returns the bytes of a pack with what `want` has and `have` lacks, as a fetch sends it.
    fn pack(&self, want: &str, have: &str) -> Result<f64, Error> {
        let revisions = format!("{want}\n^{have}\n");
        let pack = run(self.git().args(["pack-objects", "--quiet", "--revs", "--thin", "--stdout"]), Some(revisions.as_bytes()))?;
        Ok(pack.len() as f64)
    }

    fn objects(&self) -> Result<f64, Error> {
        let text = run(self.git().args(["count-objects", "-v"]), None)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let kib = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap_or(0.0);
        Ok((kib("size:") + kib("size-pack:")) * 1024.0)
    }
}

impl Library for Git {
    fn version(&self) -> String {
        self.version.clone()
    }

    fn sample(&self, task: Task, folder: &Path) -> Result<Option<f64>, Error> {
        let singles = |count| (0..count).map(|j| permuted(j..j + 1, 3).collect());
        match task {
            Task::BuildDurable => millis(|| Repository::base(folder)),
            Task::Commit => {
                let repository = Repository::base(folder)?;
                let begun = Instant::now();
                repository.import("main", Some("main"), singles(SINGLES))?;
                Ok(Some(SINGLES as f64 / begun.elapsed().as_secs_f64()))
            }
            Task::Diff => {
                let repository = Repository::base(folder)?;
                repository.import("edited", Some("main"), std::iter::once(permuted(0..1000, 1).collect()))?;
                millis(|| run(repository.git().args(["diff-tree", "-r", "main", "edited"]), None))
            }
            Task::Merge => {
                let repository = Repository::base(folder)?;
                for (name, is_second) in [("alice", false), ("bob", true)] {
                    repository.import(name, Some("main"), std::iter::once(side(is_second).collect()))?;
                }
                // Conflicts are what it ends with, by 1.
                millis(|| output(repository.git().args(["merge-tree", "--write-tree", "alice", "bob"]), None))
            }
            Task::Fetch => {
                let repository = Repository::base(folder)?;
                repository.import("new", Some("main"), singles(SYNCED))?;
                repository.pack("new", "main").map(Some)
            }
            Task::Clone => {
                let repository = Repository::base(folder)?;
                let pack = run(repository.git().args(["pack-objects", "--quiet", "--revs", "--stdout"]), Some(b"main\n"))?;
                Ok(Some(pack.len() as f64))
            }
            Task::CloneTime => {
                let repository = Repository::base(folder)?;
                let copy = folder.join("copy.git");
                millis(|| run(Command::new("git").args(["clone", "-q", "--bare", "--no-local"]).arg(&repository.0).arg(&copy), None))
            }
            Task::Disk => {
                let repository = Repository::base(folder)?;
                repository.import("main", Some("main"), singles(SINGLES))?;
                repository.objects().map(Some)
            }
            Task::Build | Task::Read | Task::Sync => Ok(None),
        }
    }
}

fn run(command: &mut Command, input: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    let (is_success, stdout, stderr) = output(command, input)?;
    if is_success { Ok(stdout) } else { Err(failed(String::from_utf8_lossy(&stderr).trim())) }
}

fn output(command: &mut Command, input: Option<&[u8]>) -> Result<(bool, Vec<u8>, Vec<u8>), Error> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What people set for their own repositories is not meant for these.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").env_remove("GIT_DIR");
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let output = std::thread::scope(|scope| {
        // It may write before it has read all.
        let writer = scope.spawn(move || input.map_or(Ok(()), |input| stdin.write_all(input)));
        let output = child.wait_with_output();
        // Where it ended early, how it ended tells why.
        let _ = writer.join();
        output
    });
    let output = output.map_err(failed)?;
    Ok((output.status.success(), output.stdout, output.stderr))
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::Library { name: "git", why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use herdbook_loadtest::cluster::temporary_folder;

    use super::*;

    #[test]
    fn imported_commits_are_one_after_another_and_hold_their_documents() {
        let Some(_) = Git::find() else {
            eprintln!("no git: nothing to test");
            return;
        };
        let folder = temporary_folder(None).expect("made");
        let repository = Repository(folder.path().join("r.git"));
        run(Command::new("git").args(["init", "-q", "--bare", "-b", "main"]).arg(&repository.0), None).expect("made");
        repository.import("main", None, std::iter::once(permuted(0..10, 0).collect())).expect("imported");
        repository.import("main", Some("main"), (0..3).map(|j| permuted(j..j + 1, 3).collect())).expect("imported");
        let log = run(repository.git().args(["rev-list", "--count", "main"]), None).expect("counted");
        assert_eq!(String::from_utf8_lossy(&log).trim(), "4");
        let (key, text) = permuted(1..2, 3).next().expect("there");
        assert_eq!(run(repository.git().args(["show", &format!("main:{key}")]), None).expect("there"), text.as_bytes());
        assert!(repository.pack("main", "main~3").expect("packed") > 0.0);
    }
}
