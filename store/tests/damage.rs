//! Flipped bits and cut files: a store opens with everything acknowledged, or refuses, or a read refuses. It never serves less
//! or other than was acknowledged without saying so.

use std::{
    fs,
    path::{Path, PathBuf},
};

use herdbook_model::chunk::Verified;
use herdbook_store::{
    Batch, Damage, Durability, Error, Kind, RocksStore, Settings, Store as _, Table, conformance, fault, rocks::Recovery,
};

const RECORDS: u32 = 400;

fn open(folder: &Path) -> Result<RocksStore, Error> {
    RocksStore::open(folder, &Settings { cache_bytes: 4 << 20, create: false, ..Settings::default() })
}

/// A copy, while it is open as after a sudden death, of a store with [`RECORDS`] durable records. In `flushed`, they are in data
/// files, with chunks beside them; else all are in the log, one write each.
fn crashed(flushed: bool) -> (tempfile::TempDir, PathBuf, Vec<Verified>) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (live, copy) = (folder.path().join("live"), folder.path().join("copy"));
    let store = RocksStore::open(&live, &Settings::default()).expect("new store");
    let chunks = if flushed { conformance::chunks(9, 40) } else { Vec::new() };
    store.chunks().put_many(&chunks).expect("room");
    for number in 0..RECORDS {
        let mut batch = Batch::new();
        batch.put(Table::Commits, number.to_be_bytes(), value(number));
        store.records().write(batch, Durability::Durable).expect("room");
    }
    if flushed {
        store.flush().expect("room");
    }
    copy_folder(&live, &copy);
    (folder, copy, chunks)
}

fn value(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(20)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).expect("new");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("readable");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("room");
        }
    }
}

/// The files of the engine with one of `names` in their name, in order.
fn files(folder: &Path, names: &[&str]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder.join("db"))
        .expect("a folder")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| names.iter().any(|name| path.file_name().expect("named").to_string_lossy().contains(name)))
        .filter(|path| path.metadata().expect("readable").len() > 0)
        .collect();
    files.sort();
    files
}

/// What became of a damaged store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Whole,
    RefusedToOpen,
    RefusedToRead,
}

/// Opens a store and reads all of it. Fails if anything is missing or different.
fn examine(folder: &Path, chunks: &[Verified], damage: &str) -> Outcome {
    let store = match open(folder) {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.kind(), Kind::Corrupt, "{damage}: {error:?}");
            return Outcome::RefusedToOpen;
        }
    };
    let mut refused = false;
    for number in 0..RECORDS {
        match store.records().get(Table::Commits, &number.to_be_bytes()) {
            Ok(found) => assert_eq!(found, Some(value(number)), "{damage}: record {number} was served wrong or not at all"),
            Err(_) => refused = true,
        }
    }
    for chunk in chunks {
        match store.chunks().get(chunk.id()) {
            Ok(found) => assert_eq!(found.as_ref(), Some(chunk), "{damage}: a chunk was served wrong or not at all"),
            Err(_) => refused = true,
        }
    }
    if refused { Outcome::RefusedToRead } else { Outcome::Whole }
}

/// Copies the store, changes `file` of the copy, and examines it.
fn examine_changed(folder: &Path, file: &Path, chunks: &[Verified], damage: &str, change: impl FnOnce(&mut Vec<u8>)) -> Outcome {
    let scratch = tempfile::tempdir().expect("temporary folder");
    let copy = scratch.path().join("store");
    copy_folder(folder, &copy);
    let target = copy.join(file.strip_prefix(folder).expect("a file of it"));
    let mut bytes = fs::read(&target).expect("readable");
    change(&mut bytes);
    fs::write(&target, bytes).expect("room");
    examine(&copy, chunks, damage)
}

/// Places to damage in a file of `len` bytes: spread over all of it, and closely over its last part, all bits in turn.
fn places(len: usize, count: usize) -> impl Iterator<Item = (usize, u8)> {
    let spread = (0..count).map(move |step| (step * len / count, (step % 8) as u8));
    let last = (0..count).map(move |step| (len - 1 - step * len.min(2_000) / count, (step * 3 % 8) as u8));
    spread.chain(last)
}

#[test]
fn an_undamaged_copy_is_whole() {
    for flushed in [false, true] {
        let (_kept, folder, chunks) = crashed(flushed);
        assert_eq!(examine(&folder, &chunks, "none"), Outcome::Whole);
    }
}

#[test]
fn a_flipped_bit_in_the_log_is_never_served_as_a_shorter_history() {
    let (_kept, folder, _) = crashed(false);
    let log = files(&folder, &[".log"]).pop().expect("a log");
    let len = fs::metadata(&log).expect("readable").len() as usize;
    let mut refused = 0;
    for (offset, bit) in places(len, 60) {
        let outcome = examine_changed(&folder, &log, &[], &format!("log byte {offset} bit {bit}"), |bytes| bytes[offset] ^= 1 << bit);
        refused += usize::from(outcome == Outcome::RefusedToOpen);
    }
    assert!(refused > 60, "only {refused} of 120 flips were noticed: did they hit the log?");
}

/// The engine alone takes a record whose length points beyond the end of the file for one that a crash tore, and drops the rest.
#[test]
fn a_flipped_length_near_the_end_of_the_log_is_noticed() {
    let (_kept, folder, _) = crashed(false);
    let log = files(&folder, &[".log"]).pop().expect("a log");
    let bytes = fs::read(&log).expect("readable");
    let starts = last_block_records(&bytes);
    assert!(starts.len() > 50, "{} records", starts.len());
    for start in starts.iter().step_by(7) {
        // Bytes 4 and 5 of a record are its length.
        for (byte, bit) in [(5, 6), (5, 7), (4, 0)] {
            let damage = format!("length of the record at {start}, byte {byte} bit {bit}");
            let outcome = examine_changed(&folder, &log, &[], &damage, |bytes| bytes[start + byte] ^= 1 << bit);
            assert_eq!(outcome, Outcome::RefusedToOpen, "{damage}");
        }
    }
}

/// Returns where the records of the last 32 KiB block of a log start.
fn last_block_records(log: &[u8]) -> Vec<usize> {
    const BLOCK: usize = 32 << 10;
    const HEADER: usize = 7;
    let mut starts = Vec::new();
    let mut at = (log.len() - 1) / BLOCK * BLOCK;
    while at + HEADER <= log.len() {
        let len = usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]]));
        // Types above 4 have a longer header; the log's own records, at its start, are of those.
        if log[at + 6] <= 4 && len > 0 {
            starts.push(at);
        }
        if log[at + 6] == 0 {
            break;
        }
        at += HEADER + len;
    }
    starts
}

#[test]
fn a_log_cut_anywhere_is_noticed() {
    let (_kept, folder, _) = crashed(false);
    let log = files(&folder, &[".log"]).pop().expect("a log");
    let len = fs::metadata(&log).expect("readable").len() as usize;
    for (cut, _) in places(len, 15) {
        let outcome = examine_changed(&folder, &log, &[], &format!("log cut at {cut} of {len}"), |bytes| bytes.truncate(cut));
        assert_eq!(outcome, Outcome::RefusedToOpen, "cut at {cut} of {len}");
    }
}

#[test]
fn flips_in_data_files_and_manifest_are_noticed_or_harmless() {
    let (_kept, folder, chunks) = crashed(true);
    let mut noticed = 0;
    for file in files(&folder, &[".sst", ".blob", "MANIFEST", "CURRENT"]) {
        let len = fs::metadata(&file).expect("readable").len() as usize;
        for (offset, bit) in places(len, 12) {
            let damage = format!("{} byte {offset} bit {bit}", file.display());
            let outcome = examine_changed(&folder, &file, &chunks, &damage, |bytes| bytes[offset] ^= 1 << bit);
            noticed += usize::from(outcome != Outcome::Whole);
        }
    }
    assert!(noticed > 20, "only {noticed} flips were noticed: did they hit anything?");
}

#[test]
fn flips_in_the_marker_are_harmless_alone() {
    let (_kept, folder, _) = crashed(false);
    let marker = folder.join("MARKER");
    for offset in [0, 9, 17, 30, 4096, 4105, 4113, 4126] {
        let outcome = examine_changed(&folder, &marker, &[], &format!("marker byte {offset}"), |bytes| bytes[offset] ^= 4);
        assert_eq!(outcome, Outcome::Whole, "marker byte {offset}");
    }
}

#[test]
fn a_lost_marker_or_lost_data_is_damage() {
    let (_kept, folder, _) = crashed(false);
    let scratch = tempfile::tempdir().expect("temporary folder");

    let without_marker = scratch.path().join("marker");
    copy_folder(&folder, &without_marker);
    fs::remove_file(without_marker.join("MARKER")).expect("there");
    let error = open(&without_marker).map(drop).expect_err("damaged");
    assert!(matches!(error, Error::Damaged { damage: Damage::Marker, .. }), "{error:?}");

    let without_data = scratch.path().join("data");
    copy_folder(&folder, &without_data);
    fs::remove_dir_all(without_data.join("db")).expect("there");
    let error = open(&without_data).map(drop).expect_err("damaged");
    assert!(matches!(error, Error::Damaged { damage: Damage::Gone { .. }, .. }), "{error:?}");
    assert!(!without_data.join("db").exists(), "nothing was made in its place");
}

/// Refuses, again and again, until told to go on with what is left; then says what is missing, once.
#[test]
fn repair_opens_with_what_is_left_and_says_what_is_missing() {
    let (_kept, folder, _) = crashed(false);
    let log = files(&folder, &[".log"]).pop().expect("a log");
    let len = fs::metadata(&log).expect("readable").len() as usize;
    let mut bytes = fs::read(&log).expect("readable");
    bytes[len / 2] ^= 1;
    fs::write(&log, bytes).expect("room");

    for _ in 0..2 {
        let error = open(&folder).map(drop).expect_err("damaged");
        let Error::Damaged { damage: Damage::Behind { expected, found }, .. } = error else { panic!("{error:?}") };
        assert!(expected.0 == u64::from(RECORDS) && found < expected, "{expected} {found}");
    }
    let store = RocksStore::open(&folder, &Settings { repair: true, ..Settings::default() }).expect("repairable");
    let Recovery::Lost { expected: Some(expected), found } = store.recovery() else { panic!("{:?}", store.recovery()) };
    assert_eq!(expected.0, u64::from(RECORDS));
    for number in 0..RECORDS {
        let expected = (u64::from(number) < found.0).then(|| value(number));
        assert_eq!(store.records().get(Table::Commits, &number.to_be_bytes()).expect("readable"), expected);
    }
    drop(store);
    assert_eq!(open(&folder).expect("repaired").recovery(), Recovery::Whole);
}

/// What was never to be durable may go with a gap behind it, but is told.
#[test]
fn damage_behind_the_last_durable_write_is_cut_off_and_told() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (live, copy) = (folder.path().join("live"), folder.path().join("copy"));
    let store = RocksStore::open(&live, &Settings::default()).expect("new store");
    for number in 0..200u32 {
        let mut batch = Batch::new();
        batch.put(Table::Commits, number.to_be_bytes(), value(number));
        store.records().write(batch, if number < 100 { Durability::Durable } else { Durability::Process }).expect("room");
    }
    copy_folder(&live, &copy);
    let log = files(&copy, &[".log"]).pop().expect("a log");
    let mut bytes = fs::read(&log).expect("readable");
    let three_quarters = bytes.len() * 3 / 4;
    bytes[three_quarters] ^= 1;
    fs::write(&log, bytes).expect("room");

    let store = open(&copy).expect("all that was durable is there");
    let Recovery::Cut { found } = store.recovery() else { panic!("{:?}", store.recovery()) };
    assert!((100..200).contains(&found.0), "{found}");
    for number in 0..200 {
        let expected = (u64::from(number) < found.0).then(|| value(number));
        assert_eq!(store.records().get(Table::Commits, &number.to_be_bytes()).expect("readable"), expected, "{number}");
    }
}

#[test]
fn a_corrupted_record_passes_every_check_of_the_engine() {
    let (_kept, folder, chunks) = crashed(true);
    let key = 7u32.to_be_bytes();
    assert!(fault::corrupt_record(&folder, Table::Commits, &key, 3).expect("closed"));
    assert!(!fault::corrupt_record(&folder, Table::Edits, &key, 3).expect("closed"), "there is no such record");
    assert!(fault::corrupt_chunk(&folder, chunks[0].id(), 50).expect("closed"));

    let store = open(&folder).expect("nothing to notice");
    let mut expected = value(7);
    expected[3] ^= 1;
    assert_eq!(store.records().get(Table::Commits, &key).expect("readable"), Some(expected));
    let error = store.chunks().get(chunks[0].id()).expect_err("a chunk is checked by its hash");
    assert!(matches!(error, Error::Corrupt { id, .. } if id == chunks[0].id()), "{error:?}");
    assert!(store.chunks().get_many(&[chunks[1].id(), chunks[0].id()]).is_err());
    store.chunks().put_many(&chunks[..1]).expect("room");
    assert_eq!(store.chunks().get(chunks[0].id()).expect("healed").as_ref(), Some(&chunks[0]));
    assert!(matches!(fault::corrupt_record(&folder, Table::Commits, &key, 3), Err(Error::Locked { .. })));
}
