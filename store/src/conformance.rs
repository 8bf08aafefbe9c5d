//! The laws of a store, as tests that every implementation runs.
//!
//! ```no_run
//! mod memory {
//!     herdbook_store::conformance!(|| (herdbook_store::MemoryStore::new(), ()));
//! }
//! ```
//!
//! The expression makes a fresh, empty store, and whatever must live as long as it does (a temporary folder, say).

use std::sync::{
    Arc, Barrier,
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use herdbook_model::{
    chunk::{Kind as ChunkKind, Verified},
    id::ChunkId,
};

use crate::{Batch, Direction, Durability, Error, KeyRange, Kind, Marks, Record, Sequence, Store, Swept, Table};

/// Makes a `#[test]` of each law.
#[macro_export]
macro_rules! conformance {
    ($make:expr) => {
        $crate::conformance!(@each $make;
            a_chunk_put_is_a_chunk_got
            chunks_come_in_the_order_asked
            absent_names_what_is_missing_in_order
            ingested_chunks_are_there_once
            a_ref_changes_only_from_what_was_expected
            refs_are_listed_by_prefix_in_order
            of_racing_changes_to_a_ref_one_wins
            a_batch_is_written_whole_or_not_at_all
            conditions_look_at_the_state_before_the_batch
            records_are_got_and_deleted_table_by_table
            scans_keep_order_bounds_and_direction
            a_scan_sees_one_moment
            batches_are_written_in_the_order_submitted
            a_receipt_is_as_durable_as_asked_or_says_otherwise
            an_empty_batch_is_written
            a_ref_set_by_a_plain_put_counts_for_conditions
            a_sweep_removes_what_is_not_marked
            what_is_stored_during_a_collection_stays
            collections_come_one_after_another
        );
    };
    (@each $make:expr; $($law:ident)+) => {
        $(
            #[test]
            fn $law() {
                let (store, _kept) = ($make)();
                $crate::conformance::$law(&store);
            }
        )+
    };
}

/// Returns `count` chunks, from ten bytes to some ten thousand, distinct by `seed` and place.
pub fn chunks(seed: u8, count: usize) -> Vec<Verified> {
    (0..count)
        .map(|place| {
            let mut payload = vec![seed; 10 + place * 97 % 20_000];
            payload[..8].copy_from_slice(&(place as u64).to_le_bytes());
            Verified::new(ChunkKind::Value, &payload).expect("shorter than a chunk may be")
        })
        .collect()
}

fn put(table: Table, key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(table, key, value);
    batch
}

fn keys(store: &dyn Store, range: KeyRange, direction: Direction) -> Vec<Vec<u8>> {
    store.records().scan(Table::Index, range, direction).map(|record| record.expect("readable").key).collect()
}

/// What was put is what one gets; what was not put is not there; twice is once.
pub fn a_chunk_put_is_a_chunk_got(store: &dyn Store) {
    let made = chunks(1, 30);
    let (stored, missing) = made.split_at(20);
    store.chunks().put_many(stored).expect("room");
    store.chunks().put_many(stored).expect("room");
    for chunk in stored {
        assert_eq!(store.chunks().get(chunk.id()).expect("readable").as_ref(), Some(chunk));
    }
    for chunk in missing {
        assert_eq!(store.chunks().get(chunk.id()).expect("readable"), None);
    }
}

/// Results stand where their ids stood, repeated ids included.
pub fn chunks_come_in_the_order_asked(store: &dyn Store) {
    let made = chunks(2, 10);
    store.chunks().put_many(&made[..5]).expect("room");
    let asked: Vec<usize> = vec![7, 3, 0, 3, 9, 4];
    let ids: Vec<ChunkId> = asked.iter().map(|place| made[*place].id()).collect();
    let expected: Vec<Option<Verified>> = asked.iter().map(|place| made[..5].get(*place).cloned()).collect();
    assert_eq!(store.chunks().get_many(&ids).expect("readable"), expected);
    assert_eq!(store.chunks().get_many(&[]).expect("readable"), []);
}

/// Absent keeps the order of the question.
pub fn absent_names_what_is_missing_in_order(store: &dyn Store) {
    let made = chunks(3, 40);
    let ids: Vec<ChunkId> = made.iter().map(Verified::id).collect();
    assert_eq!(store.chunks().absent(&ids).expect("readable"), ids);
    let odd: Vec<Verified> = made.iter().skip(1).step_by(2).cloned().collect();
    store.chunks().put_many(&odd).expect("room");
    let even: Vec<ChunkId> = ids.iter().step_by(2).copied().collect();
    assert_eq!(store.chunks().absent(&ids).expect("readable"), even);
}

/// Bulk chunks are as good as others, also over ones that are there and with repetitions.
pub fn ingested_chunks_are_there_once(store: &dyn Store) {
    let made = chunks(4, 300);
    store.chunks().put_many(&made[..50]).expect("room");
    let count = store.chunks().ingest(&mut made.iter().chain(&made[..20]).cloned()).expect("room");
    assert_eq!(count, 320);
    let ids: Vec<ChunkId> = made.iter().map(Verified::id).collect();
    assert_eq!(store.chunks().absent(&ids).expect("readable"), []);
    let found: Vec<Verified> = store.chunks().get_many(&ids).expect("readable").into_iter().flatten().collect();
    assert_eq!(found, made);
    assert_eq!(store.chunks().ingest(&mut std::iter::empty()).expect("nothing to do"), 0);
}

/// Compare-and-set over all four cases, and what a conflict says.
pub fn a_ref_changes_only_from_what_was_expected(store: &dyn Store) {
    let refs = store.refs();
    let conflict = |outcome: Result<(), Error>| match outcome {
        Err(error @ Error::Conflict { .. }) => {
            assert_eq!(error.kind(), Kind::Conflict);
            let Error::Conflict { name, actual } = error else { unreachable!("matched above") };
            assert_eq!(name, "head");
            actual
        }
        other => panic!("expected a conflict, got {other:?}"),
    };
    assert_eq!(refs.get("head").expect("readable"), None);
    assert_eq!(conflict(refs.compare_and_set("head", Some(b"a"), Some(b"b"))), None);
    refs.compare_and_set("head", None, Some(b"a")).expect("absent as expected");
    assert_eq!(conflict(refs.compare_and_set("head", None, Some(b"b"))), Some(b"a".to_vec()));
    refs.compare_and_set("head", Some(b"a"), Some(b"")).expect("a as expected");
    assert_eq!(refs.get("head").expect("readable"), Some(Vec::new()), "an empty value is a value");
    assert_eq!(conflict(refs.compare_and_set("head", Some(b"a"), None)), Some(Vec::new()));
    refs.compare_and_set("head", Some(b""), None).expect("empty as expected");
    assert_eq!(refs.get("head").expect("readable"), None);
}

/// A prefix takes in exactly the names that start with it.
pub fn refs_are_listed_by_prefix_in_order(store: &dyn Store) {
    for name in ["head/b", "head/a", "heads", "hea", "head/ü"] {
        store.refs().compare_and_set(name, None, Some(name.as_bytes())).expect("new");
    }
    let listed: Vec<String> = store.refs().list("head/").expect("readable").into_iter().map(|found| found.name).collect();
    assert_eq!(listed, ["head/a", "head/b", "head/ü"]);
    assert_eq!(store.refs().list("").expect("readable").len(), 5);
    assert_eq!(store.refs().list("x").expect("readable"), []);
}

/// Eight threads step one counter; no step is lost.
pub fn of_racing_changes_to_a_ref_one_wins(store: &dyn Store) {
    const THREADS: u64 = 8;
    const STEPS: u64 = 20;
    let start = Barrier::new(THREADS as usize);
    let lost = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                start.wait();
                for _ in 0..STEPS {
                    let mut seen = store.refs().get("counter").expect("readable");
                    loop {
                        let value = seen.as_deref().map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
                        match store.refs().compare_and_set("counter", seen.as_deref(), Some(&(value + 1).to_le_bytes())) {
                            Ok(()) => break,
                            Err(Error::Conflict { actual, .. }) => seen = actual,
                            Err(error) => panic!("{error}"),
                        }
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let value = store.refs().get("counter").expect("readable");
    assert_eq!(value, Some((THREADS * STEPS).to_le_bytes().to_vec()), "{} conflicts", lost.into_inner());
}

/// A batch whose condition fails leaves no trace, also among chunks; one whose conditions hold is there whole.
pub fn a_batch_is_written_whole_or_not_at_all(store: &dyn Store) {
    let chunk = chunks(5, 1).remove(0);
    let mut batch = put(Table::Commits, b"commit", b"1");
    batch.put_chunk(chunk.clone()).compare_and_set("head", None, Some(b"1")).put(Table::Outbox, b"commit", b"");
    let mut refused = batch.clone();
    refused.expect_ref("other", Some(b"x"));

    let outcome = store.records().write(refused, Durability::Process);
    assert!(matches!(outcome, Err(Error::Conflict { ref name, actual: None }) if name == "other"), "{outcome:?}");
    assert_eq!(store.records().get(Table::Commits, b"commit").expect("readable"), None);
    assert_eq!(store.chunks().get(chunk.id()).expect("readable"), None);
    assert_eq!(store.refs().get("head").expect("readable"), None);

    store.records().write(batch, Durability::Durable).expect("conditions hold");
    assert_eq!(store.records().get(Table::Commits, b"commit").expect("readable"), Some(b"1".to_vec()));
    assert_eq!(store.records().get(Table::Outbox, b"commit").expect("readable"), Some(Vec::new()));
    assert_eq!(store.chunks().get(chunk.id()).expect("readable"), Some(chunk));
    assert_eq!(store.refs().get("head").expect("readable"), Some(b"1".to_vec()));
}

/// Also when the batch itself changes the ref, and in the order given.
pub fn conditions_look_at_the_state_before_the_batch(store: &dyn Store) {
    let mut batch = Batch::new();
    batch.compare_and_set("head", None, Some(b"1")).compare_and_set("head", None, Some(b"2"));
    store.records().write(batch, Durability::Process).expect("both look at the state before");
    assert_eq!(store.refs().get("head").expect("readable"), Some(b"2".to_vec()));
}

/// A key in one table is not a key in another.
pub fn records_are_got_and_deleted_table_by_table(store: &dyn Store) {
    let mut batch = Batch::new();
    for table in Table::ALL {
        batch.put(table, "key", table.name());
    }
    store.records().write(batch, Durability::Process).expect("room");
    let mut batch = Batch::new();
    batch.delete(Table::Edits, "key").delete(Table::Edits, "never there");
    store.records().write(batch, Durability::Process).expect("room");
    for table in Table::ALL {
        let expected = (table != Table::Edits).then(|| table.name().as_bytes().to_vec());
        assert_eq!(store.records().get(table, b"key").expect("readable"), expected, "{table}");
    }
}

/// Bytes order, prefixes, bounds of both sorts, both directions, and going on where one stopped.
pub fn scans_keep_order_bounds_and_direction(store: &dyn Store) {
    let all: [&[u8]; 8] = [b"", b"a", b"a\0", b"ab", b"ac", b"b", &[0xff], &[0xff, 0xff, 1]];
    let mut batch = Batch::new();
    for key in all.iter().rev() {
        batch.put(Table::Index, *key, [key, &b"!"[..]].concat());
    }
    store.records().write(batch, Durability::Process).expect("room");

    let cases: [(KeyRange, &[&[u8]]); 8] = [
        (KeyRange::all(), &all),
        (KeyRange::prefix(b"a"), &all[1..5]),
        (KeyRange::prefix(&[0xff]), &all[6..]),
        (KeyRange::starting_at(b"ac"), &all[4..]),
        (KeyRange::between(b"a\0", b"ac"), &all[2..4]),
        (KeyRange::between(b"b", b"a"), &[]),
        (KeyRange::prefix(b"a").after(b"a"), &all[2..5]),
        (KeyRange::prefix(b"a").before(b"ac"), &all[1..4]),
    ];
    for (range, expected) in cases {
        assert_eq!(keys(store, range.clone(), Direction::Forward), expected, "{range:?}");
        let mut reverse = keys(store, range.clone(), Direction::Backward);
        reverse.reverse();
        assert_eq!(reverse, expected, "{range:?} backward");
    }
    let first = store.records().scan(Table::Index, KeyRange::prefix(b"ac"), Direction::Forward).next();
    let first = first.expect("one").expect("readable");
    assert_eq!(first, Record { key: b"ac".to_vec(), value: b"ac!".to_vec() });
}

/// What is written during a scan is not in it.
pub fn a_scan_sees_one_moment(store: &dyn Store) {
    let mut batch = Batch::new();
    for number in 0..100u8 {
        batch.put(Table::Index, [number], [number]);
    }
    store.records().write(batch, Durability::Process).expect("room");
    let mut scan = store.records().scan(Table::Index, KeyRange::all(), Direction::Forward);
    let before: Vec<u8> = scan.by_ref().take(10).map(|record| record.expect("readable").value[0]).collect();
    let mut batch = Batch::new();
    batch.delete(Table::Index, [50]).put(Table::Index, [60], [0]).put(Table::Index, [99, 1], [0]);
    store.records().write(batch, Durability::Process).expect("room");
    let after: Vec<u8> = scan.map(|record| record.expect("readable").value[0]).collect();
    assert_eq!([before, after].concat(), (0..100).collect::<Vec<u8>>());
    assert_eq!(keys(store, KeyRange::all(), Direction::Forward).len(), 100, "one gone, one new");
}

/// One thread's batches become visible in its order, and each is answered once.
pub fn batches_are_written_in_the_order_submitted(store: &dyn Store) {
    const COUNT: u64 = 200;
    let (answers, outcomes) = mpsc::channel();
    for number in 0..COUNT {
        let answers = answers.clone();
        let done = Box::new(move |result: Result<crate::Receipt, Error>| {
            answers.send((number, result.expect("room").sequence)).expect("the test waits");
        });
        let durability = if number % 50 == 0 { Durability::Durable } else { Durability::Process };
        store.records().submit(put(Table::Index, b"last", &number.to_le_bytes()), durability, done).expect("a short queue");
    }
    drop(answers);
    let outcomes: Vec<(u64, Sequence)> = outcomes.iter().collect();
    assert_eq!(outcomes.iter().map(|(number, _)| *number).collect::<Vec<_>>(), (0..COUNT).collect::<Vec<_>>());
    assert!(outcomes.is_sorted_by_key(|(_, sequence)| *sequence));
    assert_eq!(store.records().get(Table::Index, b"last").expect("readable"), Some((COUNT - 1).to_le_bytes().to_vec()));
}

/// A receipt never claims less than was asked without saying so, and sequences rise.
pub fn a_receipt_is_as_durable_as_asked_or_says_otherwise(store: &dyn Store) {
    let mut last = Sequence::default();
    for durability in [Durability::Process, Durability::Durable, Durability::Process] {
        let receipt = store.records().write(put(Table::Index, b"k", b"v"), durability).expect("room");
        assert!(receipt.durability >= durability || receipt.durability == Durability::Memory);
        assert!(receipt.sequence > last);
        last = receipt.sequence;
    }
}

/// It changes nothing and is answered.
pub fn an_empty_batch_is_written(store: &dyn Store) {
    let before = store.records().write(put(Table::Index, b"k", b"v"), Durability::Process).expect("room");
    for durability in [Durability::Process, Durability::Durable] {
        let receipt = store.records().write(Batch::new(), durability).expect("nothing to do");
        assert_eq!(receipt.sequence, before.sequence);
    }
}

/// The table of refs is one, whichever way it is written.
pub fn a_ref_set_by_a_plain_put_counts_for_conditions(store: &dyn Store) {
    let outcomes = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let batches = [
        put(Table::Refs, b"head", b"1"),
        std::mem::take(Batch::new().compare_and_set("head", None, Some(b"2"))),
        std::mem::take(Batch::new().compare_and_set("head", Some(b"1"), Some(b"3"))),
    ];
    for batch in batches {
        let outcomes = outcomes.clone();
        let done = Box::new(move |result: Result<crate::Receipt, Error>| outcomes.lock().push(result.is_ok()));
        store.records().submit(batch, Durability::Process, done).expect("a short queue");
    }
    store.records().write(Batch::new(), Durability::Process).expect("answered after those before it");
    assert_eq!(*outcomes.lock(), [true, false, true]);
    assert_eq!(store.refs().get("head").expect("readable"), Some(b"3".to_vec()));
}

/// Sweeps all of the chunks in steps of `limit`.
fn sweep(store: &dyn Store, limit: usize, removes: bool) -> Swept {
    let mut all = Swept::default();
    loop {
        let Swept { last, seen, unmarked, bytes } = store.collect().sweep(all.last, limit, removes).expect("swept");
        all = Swept { last: last.or(all.last), seen: all.seen + seen, unmarked: all.unmarked + unmarked, bytes: all.bytes + bytes };
        if last.is_none() {
            return all;
        }
    }
}

/// A sweep removes what is not marked and nothing else, and says how much; one that only looks removes nothing.
pub fn a_sweep_removes_what_is_not_marked(store: &dyn Store) {
    let (kept, rest) = (chunks(1, 40), chunks(2, 60));
    store.chunks().put_many(&kept).expect("stored");
    store.chunks().put_many(&rest).expect("stored");
    let marks = Arc::new(Marks::new(100, 1 << 20, 3));
    kept.iter().for_each(|chunk| marks.insert(&chunk.id()));
    store.collect().begin(marks.clone()).expect("begun");
    let bytes = |chunks: &[Verified]| chunks.iter().map(|chunk| chunk.bytes().len() as u64).sum::<u64>();
    let (mistaken, garbage): (Vec<_>, Vec<_>) = rest.into_iter().partition(|chunk| marks.contains(&chunk.id()));
    let looked = sweep(store, 7, false);
    assert_eq!((looked.seen, looked.unmarked, looked.bytes), (100, garbage.len() as u64, bytes(&garbage)));
    assert_eq!(sweep(store, 7, true), looked, "what was only looked at is there still");
    store.collect().end();
    let ids = |chunks: &[Verified]| chunks.iter().map(Verified::id).collect::<Vec<_>>();
    assert_eq!(store.chunks().absent(&ids(&kept)).expect("looked up"), []);
    assert_eq!(store.chunks().absent(&ids(&mistaken)).expect("looked up"), []);
    assert_eq!(store.chunks().absent(&ids(&garbage)).expect("looked up"), ids(&garbage));
    let mut progress = crate::Reclaim::default();
    while store.collect().reclaim(&mut progress).expect("room is given back") {}
    assert!(store.chunks().get_many(&ids(&kept)).expect("read").iter().all(Option::is_some));
}

/// What is stored after a collection began stays, by whichever way it came, new or stored before.
pub fn what_is_stored_during_a_collection_stays(store: &dyn Store) {
    let (old, put, batched, ingested) = (chunks(1, 30), chunks(2, 10), chunks(3, 10), chunks(4, 10));
    store.chunks().put_many(&old).expect("stored");
    store.collect().begin(Arc::new(Marks::new(100, 1 << 20, 5))).expect("begun");
    store.chunks().put_many(&put).expect("stored");
    store.chunks().put_many(&old[..5]).expect("stored again");
    let mut batch = Batch::new();
    for chunk in &batched {
        batch.put_chunk(chunk.clone());
    }
    store.records().write(batch, Durability::Process).expect("written");
    store.chunks().ingest(&mut ingested.clone().into_iter().chain(old[5..8].iter().cloned())).expect("taken in");
    sweep(store, 9, true);
    store.collect().end();
    let stay: Vec<_> = put.iter().chain(&batched).chain(&ingested).chain(&old[..8]).map(Verified::id).collect();
    assert_eq!(store.chunks().absent(&stay).expect("looked up"), []);
    let absent = store.chunks().absent(&old[8..].iter().map(Verified::id).collect::<Vec<_>>()).expect("looked up");
    assert!(absent.len() > 15, "{} of 22 are gone", absent.len());
}

/// One collection at a time; without one nothing is swept; after one the next can begin.
pub fn collections_come_one_after_another(store: &dyn Store) {
    let marks = || Arc::new(Marks::new(1, 1 << 10, 0));
    assert!(matches!(store.collect().sweep(None, 1, true), Err(Error::NotCollecting)));
    store.collect().begin(marks()).expect("begun");
    assert!(matches!(store.collect().begin(marks()), Err(Error::Collecting)));
    store.collect().end();
    store.collect().begin(marks()).expect("begun again");
    store.collect().end();
}
