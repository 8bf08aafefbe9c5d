//! A process that is killed at a random moment loses nothing it acknowledged, and leaves no hole.
//!
//! The test starts itself again as a child, which writes and prints what was acknowledged; only what the parent has read counts.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use herdbook_store::{Batch, Direction, Durability, KeyRange, Records as _, RocksStore, Settings, Table, rocks::Recovery};

/// Set in the child: the folder it writes to.
const CHILD: &str = "HERDBOOK_TEST_KILL_FOLDER";

/// Kills of one run; `HERDBOOK_TEST_KILLS` asks for more.
const KILLS: u64 = 200;

#[test]
fn acknowledged_writes_survive_sudden_death() {
    if let Ok(folder) = std::env::var(CHILD) {
        return write_for_ever(Path::new(&folder));
    }
    let kills = std::env::var("HERDBOOK_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("store");
    let mut written = 0;
    for kill in 0..kills {
        let acknowledged = run_and_kill(&path, Duration::from_micros(kill.wrapping_mul(104_729) % 60_000));
        let there = numbers(&path);
        assert!(there.iter().copied().eq(0..there.len() as u64), "kill {kill}: a hole in {} numbers", there.len());
        assert!(there.len() as u64 >= acknowledged, "kill {kill}: {acknowledged} were acknowledged, {} are there", there.len());
        written = there.len() as u64;
    }
    println!("{kills} kills, {written} numbers written");
    assert!(written > kills, "too little traffic to prove anything: {written}");
}

/// The child: writes the numbers after those that are there, by turns durable and not, and prints how many are acknowledged.
fn write_for_ever(folder: &Path) {
    let store = RocksStore::open(folder, &small()).expect("opens after every kill");
    let next = numbers_in(&store).len() as u64;
    println!("\nopened");
    for number in next.. {
        let mut batch = Batch::new();
        batch.put(Table::Commits, number.to_be_bytes(), [1; 200]).put(Table::Edits, number.to_be_bytes(), [2; 500]);
        let durability = if number % 4 == 0 { Durability::Durable } else { Durability::Process };
        store.write(batch, durability).expect("room");
        println!("{}", number + 1);
    }
}

/// Runs a child for `life` from its opening on, kills it, and returns what it acknowledged.
fn run_and_kill(folder: &Path, life: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "acknowledged_writes_survive_sudden_death", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test runs again");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let opened = lines.by_ref().map_while(Result::ok).any(|line| line == "opened");
    assert!(opened, "the child did not open the store: {:?}", child.wait());
    let reader = thread::spawn(move || {
        // A last line that the kill cut short was not read whole, but is then no larger than the truth.
        lines.map_while(Result::ok).filter_map(|line| line.parse().ok()).max().unwrap_or(0)
    });
    thread::sleep(life);
    child.kill().expect("still running");
    child.wait().expect("killed");
    reader.join().expect("no panic")
}

fn numbers(folder: &Path) -> Vec<u64> {
    let store = RocksStore::open(folder, &small()).expect("a kill is no damage");
    assert_eq!(store.recovery(), Recovery::Whole);
    numbers_in(&store)
}

/// Returns the numbers that are there; each in both tables or in none.
fn numbers_in(store: &RocksStore) -> Vec<u64> {
    let scan = |table| -> Vec<u64> {
        store
            .scan(table, KeyRange::all(), Direction::Forward)
            .map(|record| u64::from_be_bytes(record.expect("readable").key.try_into().expect("eight bytes")))
            .collect()
    };
    let numbers = scan(Table::Commits);
    assert_eq!(numbers, scan(Table::Edits), "a batch was torn");
    numbers
}

/// Small buffers, so that kills fall into flushes and new logs too.
fn small() -> Settings {
    Settings { write_buffer_bytes: 512 << 10, cache_bytes: 4 << 20, ..Settings::default() }
}
