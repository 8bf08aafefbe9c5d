//! What a store on disk does beyond the suite: its folder, group commit, the bounded queue, checkpoints, memory.

use std::{
    fs,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use herdbook_model::chunk::{Kind as ChunkKind, Verified};
use herdbook_store::{
    Batch, Direction, Durability, Error, KeyRange, Kind, MemoryStore, Place, Receipt, Reclaim, RocksStore, Settings, Store as _, Table,
    conformance,
    fault::{Faulty, WriteFault},
    rocks::Recovery,
};

fn open(folder: &Path) -> Result<RocksStore, Error> {
    RocksStore::open(folder, &Settings::default())
}

fn refusal(folder: &Path) -> Error {
    open(folder).map(drop).expect_err("refused")
}

fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Batch {
    std::mem::take(Batch::new().put(Table::Index, key, value))
}

/// Writes a batch whose answer holds the writer until the sender that is returned is used.
fn hold(store: &RocksStore) -> mpsc::Sender<()> {
    let (release, gate) = mpsc::channel();
    let (answer, held) = mpsc::channel();
    let done = Box::new(move |_| {
        answer.send(()).expect("awaited");
        gate.recv().expect("released");
    });
    store.records().submit(put("hold", ""), Durability::Durable, done).expect("an empty queue");
    held.recv().expect("written");
    release
}

mod reclaimed {
    use super::*;

    /// Bytes that do not compress.
    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        blake3::Hasher::new_derive_key("herdbook test").update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn room_of_long_edits_that_were_removed_comes_back_and_little_lies_twice_meanwhile() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = open(&folder.path().join("store")).expect("opens");
        let key = |at: u64| blake3::hash(&at.to_le_bytes()).as_bytes().to_vec();
        for at in 0..1_000 {
            store
                .records()
                .write(std::mem::take(Batch::new().put(Table::Edits, key(at), noise(at, 100_000))), Durability::Process)
                .expect("room");
        }
        store.flush().expect("flushes");
        let before = store.collect().room().expect("readable").bytes;
        assert!(before > 100_000_000, "{before}");
        for at in (0..1_000).filter(|at| at % 4 != 0) {
            store.records().write(std::mem::take(Batch::new().delete(Table::Edits, key(at))), Durability::Process).expect("room");
        }
        store.flush().expect("flushes");
        let (mut progress, mut highest) = (Reclaim::new(true, false), 0);
        while store.collect().reclaim(&mut progress).expect("room is given back") {
            highest = highest.max(store.collect().room().expect("readable").bytes);
        }
        let after = store.collect().room().expect("readable").bytes;
        assert!(after < 35_000_000, "{after} of {before}");
        assert!(highest < before * 6 / 5, "{highest} of {before}");
        for at in (0..1_000).step_by(4) {
            assert_eq!(store.records().get(Table::Edits, &key(at)).expect("readable"), Some(noise(at, 100_000)));
        }
    }

    /// The fault: one value among many, in a file of which hardly anything is garbage, stayed there when it was erased.
    #[test]
    fn nothing_of_what_was_removed_is_left_where_that_is_asked_for() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = open(&folder.path().join("store")).expect("opens");
        let key = |at: u64| at.to_be_bytes().repeat(4);
        for at in 0..600 {
            let mut batch = Batch::new();
            batch.put(Table::Edits, key(at), noise(at, 100_000));
            store.records().write(batch, Durability::Process).expect("room");
        }
        store.flush().expect("flushes");
        let removed = noise(599, 100_000)[50_000..50_064].to_vec();
        let is_left = || files_with(folder.path(), &removed) > 0;
        assert!(is_left(), "the test looks in the right places");
        let mut batch = Batch::new();
        batch.delete(Table::Edits, key(599));
        store.records().write(batch, Durability::Process).expect("room");
        store.flush().expect("flushes");
        let reclaim = |all| {
            let mut progress = Reclaim::new(true, all);
            while store.collect().reclaim(&mut progress).expect("room is given back") {}
        };
        reclaim(false);
        assert!(is_left(), "it is too little to be worth a pass");
        reclaim(true);
        assert!(!is_left());
        assert_eq!(store.records().get(Table::Edits, &key(598)).expect("readable"), Some(noise(598, 100_000)));
    }

    /// Returns how many files below a folder hold these bytes.
    fn files_with(folder: &std::path::Path, bytes: &[u8]) -> usize {
        let entries = std::fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").path());
        let holds = |path: std::path::PathBuf| {
            // The engine may take a file away meanwhile.
            if path.is_dir() { files_with(&path, bytes) } else { usize::from(std::fs::read(&path).is_ok_and(|held| memmem(&held, bytes))) }
        };
        entries.map(holds).sum()
    }

    fn memmem(held: &[u8], bytes: &[u8]) -> bool {
        let mut rest = held;
        while let Some(at) = rest.iter().position(|byte| *byte == bytes[0]) {
            if rest[at..].starts_with(bytes) {
                return true;
            }
            rest = &rest[at + 1..];
        }
        false
    }
}

mod folder {
    use super::*;

    #[test]
    fn what_was_written_is_there_after_reopening() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let chunks = conformance::chunks(1, 20);
        for round in 0..3u8 {
            let store = open(&folder.path().join("store")).expect("opens");
            assert_eq!(store.recovery(), Recovery::Whole);
            for earlier in 0..round {
                assert_eq!(store.records().get(Table::Index, &[earlier]).expect("readable"), Some(vec![earlier]));
                assert_eq!(
                    store.chunks().get(chunks[usize::from(earlier)].id()).expect("readable").as_ref(),
                    Some(&chunks[usize::from(earlier)])
                );
            }
            store.records().write(put([round], [round]), Durability::Process).expect("room");
            store.chunks().put_many(&chunks[usize::from(round)..=usize::from(round)]).expect("room");
        }
    }

    #[test]
    fn one_store_at_a_time_has_a_folder() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let first = open(folder.path()).expect("new store");
        let error = refusal(folder.path());
        assert!(matches!(error, Error::Locked { .. }), "{error:?}");
        assert_eq!(error.kind(), Kind::Unavailable);
        drop(first);
        open(folder.path()).expect("free again");
    }

    #[test]
    fn a_newer_format_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("temporary folder");
        drop(open(folder.path()).expect("new store"));
        fs::write(folder.path().join("FORMAT"), "herdbook store 99\n").expect("room");
        let error = refusal(folder.path());
        assert!(matches!(error, Error::NewerFormat { found: 99, .. }), "{error:?}");
        assert!(error.to_string().contains("format 99"), "{error}");
        fs::write(folder.path().join("FORMAT"), "something else").expect("room");
        assert!(matches!(refusal(folder.path()), Error::Foreign { .. }));
    }

    #[test]
    fn an_older_format_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().expect("temporary folder");
        drop(open(folder.path()).expect("new store"));
        let format = fs::read_to_string(folder.path().join("FORMAT")).expect("readable");
        fs::write(folder.path().join("FORMAT"), "herdbook store 1\n").expect("room");
        let error = refusal(folder.path());
        assert!(matches!(error, Error::OlderFormat { found: 1, .. }), "{error:?}");
        assert!(error.to_string().contains("export"), "{error}");
        assert_eq!(error.kind(), Kind::Invalid);
        fs::write(folder.path().join("FORMAT"), format).expect("room");
        open(folder.path()).expect("it was left alone");
    }

    #[test]
    fn a_folder_of_other_things_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("temporary folder");
        fs::write(folder.path().join("letter.txt"), "Dear").expect("room");
        let error = refusal(folder.path());
        assert!(matches!(error, Error::Foreign { ref found, .. } if found == "letter.txt"), "{error:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "nothing was added");
    }

    #[test]
    fn a_missing_parent_and_an_absent_store_are_told_apart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        assert!(matches!(refusal(&folder.path().join("a/b")), Error::NoParent { .. }));
        let settings = Settings { create: false, ..Settings::default() };
        let error = RocksStore::open(folder.path().join("a"), &settings).map(drop).expect_err("refused");
        assert!(matches!(error, Error::Absent { .. }), "{error:?}");
        assert!(!folder.path().join("a").exists());
    }

    #[test]
    fn making_a_store_can_be_cut_short_and_goes_on() {
        let folder = tempfile::tempdir().expect("temporary folder");
        drop(open(folder.path()).expect("new store"));
        fs::remove_file(folder.path().join("MARKER")).expect("there");
        drop(open(folder.path()).expect("the engine's files were made, the marker not yet"));
        fs::remove_dir_all(folder.path().join("db")).expect("there");
        fs::remove_file(folder.path().join("MARKER")).expect("there");
        open(folder.path()).expect("only the format was written");
    }
}

#[test]
fn batches_that_wait_are_written_and_synced_as_one() {
    const COUNT: u64 = 500;
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(folder.path()).expect("new store");
    let (answers, outcomes) = mpsc::channel::<Result<Receipt, Error>>();
    let release = hold(&store);
    for number in 0..COUNT {
        let answers = answers.clone();
        let done = Box::new(move |result| answers.send(result).expect("awaited"));
        store.records().submit(put(number.to_be_bytes(), [0; 50]), Durability::Durable, done).expect("a short queue");
    }
    release.send(()).expect("the writer waits");
    drop(answers);
    let receipts: Vec<Receipt> = outcomes.iter().map(|result| result.expect("room")).collect();
    assert_eq!(receipts.len() as u64, COUNT);
    assert!(receipts.iter().all(|receipt| receipt.durability == Durability::Durable));
    let writes = store.statistics().expect("readable").writes;
    assert_eq!((writes.batches, writes.groups, writes.syncs), (COUNT + 1, 2, 2));
}

#[test]
fn writes_that_need_not_be_durable_are_not_synced() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(folder.path()).expect("new store");
    for number in 0..20u8 {
        let receipt = store.records().write(put([number], ""), Durability::Process).expect("room");
        assert_eq!(receipt.durability, Durability::Process);
    }
    assert_eq!(store.statistics().expect("readable").writes.syncs, 0);
    let receipt = store.records().write(Batch::new(), Durability::Durable).expect("room");
    assert_eq!((receipt.sequence.0, receipt.durability), (20, Durability::Durable));
    assert_eq!(store.statistics().expect("readable").writes.syncs, 1);
}

#[test]
fn who_asks_for_what_is_on_the_disk_already_waits_for_no_sync() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(folder.path()).expect("new store");
    let syncs_after = |batch, durability| {
        let receipt = store.records().write(batch, durability).expect("room");
        assert_eq!(receipt.durability, durability);
        store.statistics().expect("readable").writes.syncs
    };
    assert_eq!(syncs_after(Batch::new(), Durability::Durable), 1, "what an earlier process wrote may be in the system's memory");
    assert_eq!(syncs_after(Batch::new(), Durability::Durable), 1);
    assert_eq!(syncs_after(put([1], ""), Durability::Durable), 2);
    assert_eq!(syncs_after(Batch::new(), Durability::Process), 2);
    assert_eq!(syncs_after(Batch::new(), Durability::Durable), 2);
    assert_eq!(syncs_after(put([2], ""), Durability::Process), 2);
    assert_eq!(syncs_after(Batch::new(), Durability::Durable), 3);
}

#[test]
fn a_full_queue_refuses_at_once_and_a_blocking_write_waits() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let settings = Settings { queue_bytes: 10_000, ..Settings::default() };
    let store = Arc::new(RocksStore::open(folder.path(), &settings).expect("new store"));
    let too_large = store.records().write(put("k", [0; 20_000]), Durability::Process).expect_err("larger than the queue");
    assert!(matches!(too_large, Error::TooLarge { limit: 10_000, .. }), "{too_large:?}");

    let release = hold(&store);
    let ignore = || Box::new(|result: Result<Receipt, Error>| assert!(result.is_ok()));
    let taken = (0..100u8).take_while(|number| store.records().submit(put([*number], [0; 1000]), Durability::Process, ignore()).is_ok());
    let taken = taken.count();
    assert!((8..=10).contains(&taken), "{taken} batches of 1,000 bytes fit 10,000");
    let refused = store.records().submit(put("more", [0; 1000]), Durability::Process, ignore()).expect_err("full");
    assert!(matches!(refused, Error::Busy), "{refused:?}");
    assert_eq!(refused.kind(), Kind::Unavailable);

    let waiting = std::thread::spawn({
        let store = store.clone();
        move || store.records().write(put("waits", [0; 1000]), Durability::Process).expect("room in the end")
    });
    release.send(()).expect("the writer waits");
    waiting.join().expect("no panic");
    assert_eq!(store.records().scan(Table::Index, KeyRange::all(), Direction::Forward).count(), taken + 2);
    assert!(store.records().get(Table::Index, b"more").expect("readable").is_none());
}

#[test]
fn closing_writes_what_still_waits() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(folder.path()).expect("new store");
    let (answers, outcomes) = mpsc::channel();
    for number in 0..100u8 {
        let answers = answers.clone();
        let done = Box::new(move |result: Result<Receipt, Error>| answers.send(result.is_ok()).expect("awaited"));
        store.records().submit(put([number], ""), Durability::Process, done).expect("a short queue");
    }
    drop((store, answers));
    assert_eq!(outcomes.iter().filter(|written| *written).count(), 100);
    let store = open(folder.path()).expect("opens");
    assert_eq!(store.records().scan(Table::Index, KeyRange::all(), Direction::Forward).count(), 100);
}

/// The last owner of a store may be the callback of its last write, on the writer's own thread.
#[test]
fn a_store_may_be_closed_by_its_own_callback() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = Arc::new(open(folder.path()).expect("new store"));
    let (answer, outcome) = mpsc::channel();
    let (release, gate) = mpsc::channel::<()>();
    let last = store.clone();
    let done = Box::new(move |result: Result<Receipt, Error>| {
        gate.recv().expect("released");
        drop(last);
        answer.send(result.is_ok()).expect("awaited");
    });
    store.records().submit(put("k", "v"), Durability::Process, done).expect("an empty queue");
    drop(store);
    release.send(()).expect("the writer waits");
    assert_eq!(outcome.recv(), Ok(true));

    // The engine closes on the store's own thread, after the callback; the folder is free once it has.
    let reopened = loop {
        match open(folder.path()) {
            Err(Error::Locked { .. }) => thread::sleep(Duration::from_millis(1)),
            other => break other.expect("closed as any other"),
        }
    };
    assert_eq!(reopened.records().get(Table::Index, b"k").expect("readable"), Some(b"v".to_vec()));
}

#[test]
fn a_callback_that_panics_harms_nobody_else() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(folder.path()).expect("new store");
    store.records().submit(put("a", "1"), Durability::Process, Box::new(|_| panic!("on purpose"))).expect("an empty queue");
    store.records().write(put("b", "1"), Durability::Durable).expect("the writer goes on");
    assert_eq!(store.records().get(Table::Index, b"a").expect("readable"), Some(b"1".to_vec()));
}

#[test]
fn a_checkpoint_is_a_store_of_that_moment() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(&folder.path().join("live")).expect("new store");
    let chunks = conformance::chunks(7, 100);
    store.chunks().ingest(&mut chunks.iter().cloned()).expect("room");
    store.records().write(put("before", "1"), Durability::Durable).expect("room");
    store.refs().compare_and_set("head", None, Some(b"1")).expect("new");
    let target = folder.path().join("copy");
    store.checkpoint(&target).expect("room");
    store.records().write(put("after", "1"), Durability::Durable).expect("room");
    assert!(matches!(store.checkpoint(&target), Err(Error::Exists { .. })));
    assert!(matches!(store.checkpoint(&folder.path().join("a/b")), Err(Error::NoParent { .. })));

    let copy = open(&target).expect("a store, while the other is open");
    assert_eq!(copy.recovery(), Recovery::Whole);
    let ids: Vec<_> = chunks.iter().map(Verified::id).collect();
    let found: Vec<_> = copy.chunks().get_many(&ids).expect("readable").into_iter().flatten().collect();
    assert_eq!(found, chunks);
    assert_eq!(copy.refs().get("head").expect("readable"), Some(b"1".to_vec()));
    assert_eq!(copy.records().get(Table::Index, b"before").expect("readable"), Some(b"1".to_vec()));
    assert_eq!(copy.records().get(Table::Index, b"after").expect("readable"), None);
    copy.records().write(put("own way", ""), Durability::Durable).expect("room");
    drop(copy);
    open(&target).expect("opens again");
}

#[test]
fn memory_is_bounded_by_the_settings_and_not_by_the_data() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let settings = Settings { cache_bytes: 8 << 20, write_buffer_bytes: 4 << 20, ..Settings::default() };
    let store = RocksStore::open(folder.path(), &settings).expect("new store");
    let mut seed = 1u64;
    let mut ids = Vec::new();
    for round in 0..40u32 {
        let mut batch = Batch::new();
        for number in 0..250u32 {
            // Bytes that do not compress.
            let payload: Vec<u8> = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed.to_be_bytes()
            })
            .take(512)
            .flatten()
            .collect();
            let chunk = Verified::new(ChunkKind::Leaf, &payload).expect("short");
            ids.push(chunk.id());
            batch.put_chunk(chunk).put(Table::Commits, [round.to_be_bytes(), number.to_be_bytes()].concat(), &payload[..100]);
        }
        store.records().write(batch, Durability::Process).expect("room");
    }
    store.flush().expect("room");
    assert_eq!(store.chunks().absent(&ids).expect("readable"), []);
    let statistics = store.statistics().expect("readable");
    let chunks = statistics.places.iter().find(|usage| usage.place == Place::Chunks).expect("listed");
    assert!(chunks.file_bytes > 40 << 20, "40 MiB of chunks lie on the disk: {statistics:?}");
    assert!(chunks.records >= 10_000, "{statistics:?}");
    let memory = statistics.memory;
    assert!(memory.cache + memory.files <= 12 << 20, "{memory:?}");
    assert!(statistics.log_bytes <= 16 << 20, "logs are removed: {statistics:?}");
}

#[test]
fn a_faulty_store_fails_as_told() {
    let store = Faulty::new(MemoryStore::new());
    store.fail_writes_after(1, WriteFault::Full);
    store.records().write(put("a", "1"), Durability::Process).expect("the first succeeds");
    for _ in 0..2 {
        assert!(matches!(store.records().write(put("b", "1"), Durability::Process), Err(Error::Full { .. })));
    }
    store.mend();
    store.fail_writes_after(0, WriteFault::Busy);
    let (answer, outcome) = mpsc::channel();
    let refused = store.records().submit(put("c", "1"), Durability::Process, Box::new(move |_| answer.send(()).expect("awaited")));
    assert!(matches!(refused, Err(Error::Busy)));
    assert!(outcome.recv().is_err(), "a batch that was not taken is not answered");
    store.records().write(put("d", "1"), Durability::Process).expect("only one was refused");
    assert_eq!(store.writes(), 5);

    let chunk = conformance::chunks(1, 1).remove(0);
    store.chunks().put_many(std::slice::from_ref(&chunk)).expect("room");
    store.flip_record(Table::Index, b"a", 0);
    store.flip_chunk(chunk.id(), 9);
    assert_eq!(store.records().get(Table::Index, b"a").expect("readable"), Some(b"0".to_vec()));
    let scanned = store.records().scan(Table::Index, KeyRange::prefix(b"a"), Direction::Forward).next();
    assert_eq!(scanned.expect("one").expect("readable").value, b"0");
    assert!(matches!(store.chunks().get(chunk.id()), Err(Error::Corrupt { id, .. }) if id == chunk.id()));
    store.mend();
    assert_eq!(store.chunks().get(chunk.id()).expect("mended"), Some(chunk));
}
