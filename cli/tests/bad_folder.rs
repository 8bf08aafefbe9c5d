//! Data folders that a server must not open: each is refused in one line, with the exit code that says why, and is left as it was.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use support::{Ended, Server, file, herdbook};
use tempfile::TempDir;

const SCHEMA: &str = r#"{"version": 1, "collections": {"notes": {"fields": [{"name": "text", "type": "string"}]}}}"#;

/// The folder of a coordinator that was killed after it had acknowledged some documents.
struct Folder {
    folder: TempDir,
}

impl Folder {
    fn written() -> Self {
        let folder = Self { folder: tempfile::tempdir().expect("a folder for the test") };
        let server = folder.serve();
        for number in 0..20 {
            herdbook(&["put", &format!("notes/{number}"), r#"{"text": "hay"}"#, "-e", &server.grpc]).done();
        }
        drop(server);
        // What is in the log of the store goes into files of its own at the next opening.
        drop(folder.serve());
        folder
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn arguments(&self) -> Vec<String> {
        let schema = file(self.folder.path(), "schema.json", SCHEMA);
        let [data, keys] = ["data", "keys"].map(|name| self.path(name));
        ["coordinator", "--data", &data, "--keys", &keys, "--schema", &schema, "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec()
    }

    fn serve(&self) -> Server {
        Server::start(&self.arguments().iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a server that is expected not to start.
    fn refused(&self) -> Ended {
        herdbook(&self.arguments().iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Returns the files of the store by name, but for the diary and the locks that the engine writes at each attempt.
    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in [self.store(), self.store().join("db")] {
            for entry in fs::read_dir(folder).expect("it is there") {
                let path = entry.expect("it is readable").path();
                let name = path.file_name().expect("it has one").to_string_lossy().into_owned();
                if path.is_file() && !name.starts_with("LO") {
                    files.insert(path.clone(), fs::read(path).expect("it is readable"));
                }
            }
        }
        files
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("data/store")
    }

    /// Returns the file of the engine whose name begins or ends with `part`.
    fn file(&self, part: &str) -> PathBuf {
        let of_part = |path: &PathBuf| {
            let name = path.file_name().expect("it has one").to_string_lossy();
            name.starts_with(part) || name.ends_with(part)
        };
        self.files().into_keys().find(of_part).unwrap_or_else(|| panic!("no {part} in {:?}", self.files().keys()))
    }
}

/// Returns the names of files that are not the same before and after.
fn changed(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeSet<PathBuf> {
    let names = before.keys().chain(after.keys());
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// Asserts that the failure is told in one line, after lines of the log.
#[track_caller]
fn assert_one_line(ended: &Ended) {
    let told = ended.err.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!((told, ended.out.as_str()), (1, ""), "{ended:#?}");
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).expect("it is readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("it is writable");
}

#[test]
fn a_damaged_store_is_refused_and_left_as_it_is() {
    for part in ["MANIFEST", "CURRENT"] {
        let folder = Folder::written();
        flip(&folder.file(part));
        let before = folder.files();
        for ended in [folder.refused(), herdbook(&["fsck", "--data", &folder.path("data")])] {
            ended.failed(8, &["data/store is damaged", "fsck --data DIR --repair", "join anew"]);
            assert_one_line(&ended);
        }
        assert_eq!(changed(&before, &folder.files()), BTreeSet::new(), "{part}: a refused store is left as it was");
    }
}

#[test]
fn a_repair_keeps_what_can_be_read_and_says_what_it_had() {
    let folder = Folder::written();
    let server = folder.serve();
    for number in 20..30 {
        herdbook(&["put", &format!("notes/{number}"), r#"{"text": "hay"}"#, "-e", &server.grpc]).done();
    }
    drop(server);
    // An older log may lie beside it, whose records are in files already: damage there is harmless.
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "log");
    flip(&folder.files().into_keys().rfind(is_log).expect("the log of what was just written"));
    folder.refused().failed(8, &["data/store is damaged"]);
    let repaired = herdbook(&["fsck", "--data", &folder.path("data"), "--repair", "--json"]);
    assert!(repaired.err.contains("repaired: it holds everything up to write"), "{repaired:#?}");
    let recovery = &repaired.json()["recovery"];
    assert_eq!(recovery["outcome"], "repaired");
    assert!(recovery["found"].as_u64() < recovery["expected"].as_u64(), "{recovery}");

    // The keys know of entries that the log lost, which a member may hold; the coordinator says how to go on without.
    let server = folder.serve();
    let put = || herdbook(&["put", "notes/30", r#"{"text": "hay"}"#, "-e", &server.grpc]);
    put().failed(6, &["being restored", "`herdbook reopen`"]);
    herdbook(&["reopen", "--reason", "it is alone", "-y", "-e", &server.grpc]).done();
    put().done();
    for number in 0..20 {
        herdbook(&["get", &format!("notes/{number}"), "-e", &server.grpc]).done();
    }
}

#[test]
fn damage_within_a_file_of_records_is_refused_and_told_where() {
    let folder = Folder::written();
    // Opening reads some of them whole, of others a part.
    folder.files().into_keys().filter(|path| path.extension().is_some_and(|extension| extension == "sst")).for_each(|path| flip(&path));
    for ended in [folder.refused(), herdbook(&["fsck", "--data", &folder.path("data")])] {
        ended.failed(8, &["data/store", ".sst"]);
        assert_one_line(&ended);
    }
}

#[test]
fn a_folder_in_use_or_of_a_newer_format_is_refused_and_goes_on_unharmed() {
    let folder = Folder::written();
    let server = folder.serve();
    let ended = folder.refused();
    ended.failed(6, &["in use by another process"]);
    assert_one_line(&ended);
    // Its files cannot be compared: the one that serves them may write.
    herdbook(&["put", "notes/20", r#"{"text": "straw"}"#, "-e", &server.grpc]).done();
    drop(server);
    herdbook(&["fsck", "--data", &folder.path("data")]).done();

    let format = fs::read(folder.store().join("FORMAT")).expect("it is readable");
    file(&folder.store(), "FORMAT", "herdbook store 99\n");
    let before = folder.files();
    let ended = folder.refused();
    ended.failed(7, &["format 99", "newer release"]);
    assert_one_line(&ended);
    assert_eq!(changed(&before, &folder.files()), BTreeSet::new(), "an older release changes nothing");

    file(&folder.store(), "FORMAT", format);
    let server = folder.serve();
    for note in ["notes/19", "notes/20"] {
        herdbook(&["get", note, "-e", &server.grpc]).done();
    }
}
