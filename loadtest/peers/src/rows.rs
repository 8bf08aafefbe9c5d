//! The rows: one for each figure that is a goal, by name. What each measures, what is asked for, and who else can do it.

use crate::{library::Task, ours::Own};
use herdbook_loadtest::workload::N;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At least this, in the row's unit.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// At least so many times what the peer does in the same run.
    Times(f64),
    /// At most this part of what the peer does in the same run.
    Part(f64),
}

impl Row {
    /// How often each contender has its turn, where `rounds` were asked for.
    pub(crate) const fn rounds(&self, rounds: u32) -> u32 {
        match self.work {
            // To write a million documents takes longer than all else.
            Work::Own(_, MILLION) => 1,
            _ => rounds,
        }
    }
}

impl Goal {
    /// Whether it is met.
    pub(crate) fn is_met(self, ours: f64, peer: Option<f64>) -> bool {
        match self {
            Self::AtLeast(limit) => ours >= limit,
            Self::AtMost(limit) => ours <= limit,
            Self::Times(factor) => peer.is_some_and(|peer| ours >= factor * peer),
            Self::Part(part) => peer.is_some_and(|peer| ours <= part * peer),
        }
    }

    /// Returns it as one reads it.
    pub(crate) fn text(self, unit: &str) -> String {
        match self {
            Self::AtLeast(limit) => format!("≥ {} {unit}", number(limit)),
            Self::AtMost(limit) => format!("≤ {} {unit}", number(limit)),
            Self::Times(factor) => format!("≥ {factor} × the peer"),
            Self::Part(part) => format!("≤ {part} × the peer"),
        }
    }
}

/// What clients of a server do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// Clients that each wait for their answer.
    pub(crate) clients: usize,
    /// Bytes of a value.
    pub(crate) payload: usize,
    /// What they do.
    pub(crate) operation: Operation,
    /// Which figure of it.
    pub(crate) figure: Figure,
}

/// What each client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Durable writes of one document, as a store's own client does them.
    Write,
    /// The same, each a call of its own.
    Call,
    /// Durable writes of a hundred documents in one request.
    Batch,
    /// Reads of one, as a store's own client does them.
    Read,
    /// The same, each a call of its own.
    ReadCall,
}

/// A figure of what clients did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Documents a second.
    Rate,
    /// Milliseconds that 99 % took at most.
    P99,
}

/// What a row measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Clients at a server.
    Server(Load),
    /// A task of libraries and tools.
    Library(Task),
    /// What only Herdbook does, with so many documents.
    Own(Own, u64),
    /// Milliseconds until a commit at one replica is seen at another, by a percentile.
    Visible(u8),
    /// Reads a second after a load of writes over those before it.
    ReadsAfterWrites,
}

/// A row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it measures, for people.
    pub(crate) what: &'static str,
    /// What is asked for.
    pub(crate) goal: Goal,
    /// In which unit.
    pub(crate) unit: &'static str,
    /// What is done.
    pub(crate) work: Work,
    /// Who else does it, by name; nobody: our goal stands alone.
    pub(crate) peers: &'static [&'static str],
    /// Those of them who do something else, less durable or on other documents: beside them nothing is met.
    pub(crate) unlike: &'static [&'static str],
    /// What a reader has to know beside it.
    pub(crate) note: &'static str,
}

const fn server(clients: usize, payload: usize, operation: Operation, figure: Figure) -> Work {
    Work::Server(Load { clients, payload, operation, figure })
}

/// The larger of the two sizes at which costs are told that must not grow with it.
const MILLION: u64 = 1_000_000;

/// Note of a row at that size.
const GROWTH: &str = "the same goal: the cost follows the difference, not the size; one round";

const CRDTS: &[&str] = &["automerge", "loro", "yrs"];

const ONE: &str = "etcd is a single member without consensus here; Herdbook is one coordinator, written to directly";
const PIPELINE: &str = "etcd is a single member without consensus here and has calls only; Herdbook is one coordinator, written to directly, through a pipeline";
const MEMORY: &str = "the peers work in memory and sign nothing";

/// All of them.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    Row { name: "commit-batch-100", what: "durable documents over gRPC, 100 a request, 64 clients", goal: Goal::AtLeast(150_000.0), unit: "/s", work: server(64, 100, Operation::Batch, Figure::Rate), peers: &["redis"], unlike: &[], note: "Redis sets one key a request and syncs each, without pipelining; Herdbook through a pipeline" },
    Row { name: "commit-single-64", what: "durable commits of one document of 100 B over gRPC, 64 clients", goal: Goal::Times(2.0), unit: "/s", work: server(64, 100, Operation::Write, Figure::Rate), peers: &["etcd"], unlike: &[], note: PIPELINE },
    Row { name: "commit-single-64-calls", what: "the same, each a call of its own", goal: Goal::Times(2.0), unit: "/s", work: server(64, 100, Operation::Call, Figure::Rate), peers: &["etcd"], unlike: &[], note: ONE },
    Row { name: "commit-single-64-p99", what: "of commit-single-64, p99", goal: Goal::Part(0.5), unit: "ms", work: server(64, 100, Operation::Write, Figure::P99), peers: &["etcd"], unlike: &[], note: PIPELINE },
    Row { name: "commit-single-64-1k", what: "of commit-single-64, of 1 KiB", goal: Goal::Times(2.0), unit: "/s", work: server(64, 1024, Operation::Write, Figure::Rate), peers: &["etcd"], unlike: &[], note: PIPELINE },
    Row { name: "commit-single-64-1k-calls", what: "the same, each a call of its own", goal: Goal::Times(2.0), unit: "/s", work: server(64, 1024, Operation::Call, Figure::Rate), peers: &["etcd"], unlike: &[], note: ONE },
    Row { name: "commit-single-64-1k-p99", what: "of commit-single-64-1k, p99", goal: Goal::Part(0.5), unit: "ms", work: server(64, 1024, Operation::Write, Figure::P99), peers: &["etcd"], unlike: &[], note: PIPELINE },
    Row { name: "commit-single-1", what: "of commit-single-64, 1 client", goal: Goal::Times(1.3), unit: "/s", work: server(1, 100, Operation::Write, Figure::Rate), peers: &["etcd"], unlike: &[], note: PIPELINE },
    Row { name: "read-64", what: "point reads over gRPC, 64 clients", goal: Goal::Times(2.0), unit: "/s", work: server(64, 100, Operation::Read, Figure::Rate), peers: &["etcd"], unlike: &[], note: "etcd 3.5, serializable reads, which has calls only; both freshly filled; Herdbook through a pipeline" },
    Row { name: "read-64-calls", what: "the same, each a call of its own", goal: Goal::Times(2.0), unit: "/s", work: server(64, 100, Operation::ReadCall, Figure::Rate), peers: &["etcd"], unlike: &[], note: "etcd 3.5, serializable reads; both freshly filled" },
    Row { name: "read-64-after-writes", what: "those of read-64 after a load of writes, over before it", goal: Goal::AtLeast(0.95), unit: "×", work: Work::ReadsAfterWrites, peers: &[], unlike: &[], note: "Herdbook alone; a twentieth is noise" },
    Row { name: "embedded-commit", what: "embedded commits of one edit, signed, in the log", goal: Goal::AtLeast(30_000.0), unit: "/s", work: Work::Library(Task::Commit), peers: &["automerge", "loro", "yrs", "git", "rocksdb"], unlike: &["automerge", "loro", "yrs", "git"], note: "CRDTs work in memory and sign nothing; git by fast-import; RocksDB puts with its log" },
    Row { name: "embedded-commit-two", what: "the same by two threads", goal: Goal::AtLeast(50_000.0), unit: "/s", work: Work::Own(Own::CommitTwo, N), peers: &[], unlike: &[], note: "one writer takes what both ask for" },
    Row { name: "embedded-read", what: "embedded warm point reads", goal: Goal::AtLeast(1_000_000.0), unit: "/s", work: Work::Library(Task::Read), peers: &["automerge", "loro", "yrs", "rocksdb"], unlike: CRDTS, note: MEMORY },
    Row { name: "build-memory", what: "100,000 documents in one commit, in memory", goal: Goal::AtMost(60.0), unit: "ms", work: Work::Library(Task::Build), peers: CRDTS, unlike: &[], note: MEMORY },
    Row { name: "build-durable", what: "100,000 documents, durable", goal: Goal::AtMost(150.0), unit: "ms", work: Work::Library(Task::BuildDurable), peers: &["git"], unlike: &[], note: "Herdbook in four commits: a request has at most 3 MiB; git by fast-import" },
    Row { name: "merge-1100", what: "merge of 1,100 and 1,100 edits, 100 of the same documents, until the state can be read", goal: Goal::AtMost(2.5), unit: "ms", work: Work::Library(Task::Merge), peers: &["automerge", "loro", "yrs", "git"], unlike: &["git"], note: MEMORY },
    Row { name: "merge-1100-root", what: "the same until it has a root", goal: Goal::AtMost(5.0), unit: "ms", work: Work::Own(Own::MergeRoot, N), peers: &[], unlike: &[], note: "" },
    Row { name: "merge-1100-1m", what: "the same merge among a million documents, until the state can be read", goal: Goal::AtMost(2.5), unit: "ms", work: Work::Own(Own::Merge, MILLION), peers: &[], unlike: &[], note: GROWTH },
    Row { name: "diff-1000", what: "diff of 1,000 changed documents", goal: Goal::AtMost(1.0), unit: "ms", work: Work::Library(Task::Diff), peers: &["git"], unlike: &["git"], note: "git starts a process and reads files; Herdbook decodes both sides of each document" },
    Row { name: "diff-1000-1m", what: "the same diff among a million documents", goal: Goal::AtMost(1.0), unit: "ms", work: Work::Own(Own::Diff, MILLION), peers: &[], unlike: &[], note: GROWTH },
    Row { name: "sync-100", what: "bytes of a synchronisation of 100 and 100 edits, one commit a side", goal: Goal::AtMost(10_000.0), unit: "B", work: Work::Library(Task::Sync), peers: CRDTS, unlike: &["automerge"], note: "Herdbook: all bytes on the TCP connection both ways, a fresh handshake included; peers: bytes of messages; automerge on a base of 1,000 commits" },
    Row { name: "sync-100-1m", what: "the same synchronisation with a million documents", goal: Goal::AtMost(10_000.0), unit: "B", work: Work::Own(Own::Sync, MILLION), peers: &[], unlike: &[], note: GROWTH },
    Row { name: "fetch-100", what: "bytes of a fetch of 100 signed commits of one edit", goal: Goal::AtMost(15_000.0), unit: "B", work: Work::Library(Task::Fetch), peers: &["git"], unlike: &[], note: "git: the thin pack alone; Herdbook: all bytes on the connection" },
    Row { name: "fetch-100-time", what: "the same, from the first byte until it can be read", goal: Goal::AtMost(10.0), unit: "ms", work: Work::Own(Own::FetchTime, N), peers: &[], unlike: &[], note: "" },
    Row { name: "fetch-100-1m", what: "bytes of the same fetch with a million documents", goal: Goal::AtMost(15_000.0), unit: "B", work: Work::Own(Own::Fetch, MILLION), peers: &[], unlike: &[], note: GROWTH },
    Row { name: "clone-100k", what: "bytes of a clone of 100,000 documents", goal: Goal::AtMost(3_000_000.0), unit: "B", work: Work::Library(Task::Clone), peers: &["automerge", "loro", "yrs", "git"], unlike: &[], note: "" },
    Row { name: "clone-100k-time", what: "the same, verified and durable", goal: Goal::AtMost(100.0), unit: "ms", work: Work::Library(Task::CloneTime), peers: &["automerge", "loro", "yrs", "git"], unlike: CRDTS, note: "Herdbook: from joining with a token on; CRDTs: loading, without network or disk" },
    Row { name: "visible-p50", what: "a commit at one replica seen at another through the coordinator, p50", goal: Goal::AtMost(3.0), unit: "ms", work: Work::Visible(50), peers: &[], unlike: &[], note: "GoatDB and Electric do not run here" },
    Row { name: "visible-p99", what: "the same, p99", goal: Goal::AtMost(20.0), unit: "ms", work: Work::Visible(99), peers: &[], unlike: &[], note: "GoatDB and Electric do not run here" },
    Row { name: "idle-link", what: "bytes of an idle link in 10 s, 100,000 documents", goal: Goal::AtMost(200.0), unit: "B", work: Work::Own(Own::Idle, N), peers: &[], unlike: &[], note: "GoatDB does not run here" },
    Row { name: "idle-link-1m", what: "the same with a million documents", goal: Goal::AtMost(200.0), unit: "B", work: Work::Own(Own::Idle, MILLION), peers: &[], unlike: &[], note: GROWTH },
    Row { name: "missing-10", what: "10 missing commits found among a million, peers that never met", goal: Goal::AtMost(2_000.0), unit: "B", work: Work::Own(Own::Missing(10), MILLION), peers: &[], unlike: &[], note: "a million commits of 100,000 sessions, of which so many have one more at one side, the one that hears; messages as they are encoded, with their heads" },
    Row { name: "missing-1000", what: "1,000 of them", goal: Goal::AtMost(27_000.0), unit: "B", work: Work::Own(Own::Missing(1000), MILLION), peers: &[], unlike: &[], note: "a million commits of 100,000 sessions, of which so many have one more at one side, the one that hears; messages as they are encoded, with their heads" },
    Row { name: "missing-1000-time", what: "CPU of both sides for that", goal: Goal::AtMost(1_000.0), unit: "ms", work: Work::Own(Own::MissingTime(1000), MILLION), peers: &[], unlike: &[], note: "" },
    Row { name: "missing-1000-turns", what: "messages there and back for that, two to a round trip", goal: Goal::AtMost(4.0), unit: "", work: Work::Own(Own::MissingTurns(1000), MILLION), peers: &[], unlike: &[], note: "" },
    Row { name: "restore", what: "a wiped coordinator restored from replicas", goal: Goal::AtLeast(200.0), unit: "MB/s", work: Work::Own(Own::Restore, N), peers: &["rocksdb"], unlike: &[], note: "100,000 documents, counted as JSON, from the first byte until both hold the same; RocksDB: logical copy, nothing checked" },
    Row { name: "open", what: "a repository of 100,000 documents opened", goal: Goal::AtMost(50.0), unit: "ms", work: Work::Own(Own::Open, N), peers: &[], unlike: &[], note: "the goal is for 10 million documents, which nobody waits for here: see how it grows" },
    Row { name: "open-1m", what: "a repository of a million documents opened", goal: Goal::AtMost(50.0), unit: "ms", work: Work::Own(Own::Open, MILLION), peers: &[], unlike: &[], note: GROWTH },
    Row { name: "disk-10k", what: "bytes on the disk of 100,000 documents and 10,000 commits of one edit", goal: Goal::AtMost(12_000_000.0), unit: "B", work: Work::Library(Task::Disk), peers: &["automerge", "loro", "git"], unlike: &[], note: "Herdbook: all files, logs included; CRDTs: bytes of a saved document" },
];

/// Returns a number without needless digits, thousands apart.
pub(crate) fn number(value: f64) -> String {
    let magnitude = value.abs();
    let text = match magnitude {
        _ if magnitude >= 100.0 => format!("{value:.0}"),
        _ if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
    let digits: Vec<_> = whole.bytes().rev().collect();
    let groups: Vec<_> = digits.chunks(3).map(|group| group.iter().rev().map(|digit| *digit as char).collect::<String>()).collect();
    let whole = groups.into_iter().rev().collect::<Vec<_>>().join(",").replace("-,", "-");
    let part = part.trim_end_matches('0');
    if part.is_empty() { whole } else { format!("{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_row_has_a_name_of_its_own() {
        let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn who_is_unlike_is_a_peer_of_the_row() {
        assert!(ROWS.iter().all(|row| row.unlike.iter().all(|name| row.peers.contains(name))));
    }

    #[test]
    fn costs_that_must_not_grow_are_measured_at_two_sizes() {
        for (name, larger) in
            [("diff-1000", "diff-1000-1m"), ("sync-100", "sync-100-1m"), ("open", "open-1m"), ("idle-link", "idle-link-1m")]
        {
            let row = |name: &str| ROWS.iter().find(|row| row.name == name).expect("it is a row");
            assert_eq!((row(name).goal, row(name).unit, row(larger).rounds(5)), (row(larger).goal, row(larger).unit, 1));
        }
    }

    #[test]
    fn a_goal_over_a_peer_is_met_by_nobody_without_the_peer() {
        assert!(Goal::Times(2.0).is_met(20.0, Some(10.0)) && !Goal::Times(2.0).is_met(19.0, Some(10.0)));
        assert!(Goal::Part(0.5).is_met(5.0, Some(10.0)) && !Goal::Part(0.5).is_met(6.0, Some(10.0)));
        assert!(!Goal::Times(2.0).is_met(1e9, None) && !Goal::Part(0.5).is_met(0.0, None));
        assert!(Goal::AtLeast(5.0).is_met(5.0, None) && !Goal::AtMost(5.0).is_met(5.1, Some(9.0)));
    }

    #[test]
    fn numbers_are_short_and_read_well() {
        assert_eq!(
            [1_234_567.0, 150_000.0, 42.25, 2.5, 0.35, 1.0, -1234.0].map(number),
            ["1,234,567", "150,000", "42.2", "2.5", "0.35", "1", "-1,234"]
        );
        assert_eq!(Goal::AtMost(2.5).text("ms"), "≤ 2.5 ms");
    }
}
