//! Clients of a failing cluster: writers that note what they were told and read it again, readers that follow others' documents, and watchers
//! of heads. Each stays with one member, as a session does.
//!
//! Laws: a writer reads what was acknowledged to it; no reader sees a document at an earlier revision than before; no member's head log or
//! number of commits goes back. A member that lost its data begins anew.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use herdbook_model::{
    authority::Position,
    id::{BranchName, ReplicaId},
};
use herdbook_proto::{
    ack::{Ack, Level, Wait},
    client::Client,
    document::Place,
    edit::{Edit, Operation, Write},
    pipeline::Pipeline,
    read::Get,
    status::{Failed, Kind},
};

use super::{
    fault::member_name,
    history::{History, Holders},
};
use crate::{
    connection::Failures,
    ledger::{Finding, Held},
    load::{
        self,
        series::{Ended, Tallies},
    },
    node::{RequestKeys, Way, connect, name},
    workload::{DOCUMENTS, Rng, record, revision},
};

/// How long a write whose end is unknown is asked about.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(4);

/// How long a write waits for copies.
const COPIES: Duration = Duration::from_secs(3);

/// Pause before a call is repeated, and between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What all clients share.
pub(super) struct Shared {
    pub(super) history: Mutex<History>,
    pub(super) findings: Mutex<Vec<Finding>>,
    pub(super) failures: Mutex<Failures>,
    pub(super) tallies: Tallies,
    pub(super) requests: RequestKeys,
    /// What the keys of all documents begin with.
    pub(super) prefix: String,
    pub(super) is_over: AtomicBool,
    pub(super) identities: Arc<Mutex<BTreeMap<ReplicaId, usize>>>,
    /// Streams that the writers of a member share, by member and whether they wait for copies.
    pub(super) pipelines: Mutex<BTreeMap<(usize, bool), Pipeline>>,
    /// Documents that are only ever written again, by writer: their newest one.
    pub(super) journals: Mutex<BTreeMap<u64, u64>>,
    /// Reads whose answer was held against what was known.
    pub(super) reads: AtomicU64,
    /// The furthest position of the head log that any member told.
    pub(super) furthest: Mutex<Option<Position>>,
}

impl Shared {
    /// Adds a finding; the first few of each member are enough.
    pub(super) fn find(&self, finding: Finding) {
        const MOST: usize = 200;
        let mut findings = self.findings.lock().expect("nobody panics with it");
        if findings.len() < MOST {
            findings.push(finding);
        }
    }

    /// Whether a member did not come back, or makes no progress.
    pub(super) fn is_stuck(&self) -> bool {
        self.findings.lock().expect("nobody panics with it").iter().any(|finding| matches!(finding, Finding::Stuck { .. }))
    }

    /// Returns how often a member lost what it held so safely.
    fn generation(&self, member: usize, level: Level) -> u64 {
        self.history().losses().of(member, level)
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn key(&self, i: u64) -> String {
        format!("{}{i:016x}", self.prefix)
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().expect("nobody panics with it")
    }

    /// Returns who holds a write, and how safely.
    fn holders(&self, member: usize, ack: &Ack) -> Holders {
        let identities = self.identities.lock().expect("nobody panics with it");
        let copies = ack.copies.iter().filter_map(|replica| Some((*identities.get(replica)?, Level::Durable)));
        let mut holders: Holders = copies.collect();
        let own = holders.entry(member).or_insert(ack.local);
        *own = ack.local.max(*own);
        holders
    }
}

/// Waits for a client of a member, for as long as the run goes on.
async fn reach(shared: &Shared, address: &str) -> Option<Client> {
    loop {
        if let Ok(client) = connect(address).await {
            return Some(client.with_deadline(DEADLINE));
        }
        if shared.is_over() {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A writer and its documents.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) member: usize,
    pub(super) address: String,
    pub(super) number: u64,
    pub(super) wait: Wait,
    pub(super) rng: Rng,
    /// Pause between operations.
    pub(super) pause: Duration,
}

/// What a writer may still touch.
#[derive(Default)]
struct Own {
    generation: u64,
    /// Documents and their revision.
    live: Vec<(u64, u64)>,
    journal: Option<(u64, u64)>,
    made: u64,
}

enum End {
    Acknowledged(Ack),
    Refused(Failed),
    Unknown(Failed),
}

impl Writer {
    /// Returns what the writers of a member wait for, in turn.
    pub(super) const fn wait(number: u64) -> Wait {
        match number % 4 {
            0 | 1 => Wait::DURABLE,
            2 => Wait { local: Level::Durable, accepted: false, copies: 2, timeout: Some(COPIES) },
            _ => Wait { local: Level::Process, accepted: false, copies: 0, timeout: None },
        }
    }

    /// Writes and reads until the run is over.
    pub(super) async fn run(mut self) {
        let Some(client) = reach(&self.shared, &self.address).await else { return };
        let way = if self.number.is_multiple_of(3) {
            Way::Calls(client)
        } else {
            let mut pipelines = self.shared.pipelines.lock().expect("nobody panics with it");
            let shared = pipelines.entry((self.member, self.wait.copies > 0)).or_insert_with(|| client.pipeline());
            Way::Pipeline(shared.clone())
        };
        let mut own = Own { generation: self.generation(), ..Own::default() };
        while !self.shared.is_over() {
            let generation = self.generation();
            if own.generation != generation {
                own = Own { generation, made: own.made, ..Own::default() };
            }
            match self.rng.below(10) {
                0..=2 if !own.live.is_empty() => self.read(&way, &own).await,
                3 | 4 => self.keep_journal(&way, &mut own).await,
                _ => self.change(&way, &mut own).await,
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    fn generation(&self) -> u64 {
        self.shared.generation(self.member, self.wait.local)
    }

    /// Creates, changes or deletes a document.
    async fn change(&mut self, way: &Way, own: &mut Own) {
        let choice = if own.live.is_empty() { 0 } else { self.rng.below(10) };
        let (i, operation, held) = match choice {
            0..=4 => {
                let i = self.fresh(own);
                (i, Operation::Put(record(i, 0)), Held::Revision(0))
            }
            5..=8 => {
                let (i, revision) = own.live.swap_remove(self.rng.index(own.live.len()));
                (i, Operation::Put(record(i, revision + 1)), Held::Revision(revision + 1))
            }
            _ => (own.live.swap_remove(self.rng.index(own.live.len())).0, Operation::Delete, Held::Absent),
        };
        if self.write(way, own.generation, i, operation, held).await
            && let Held::Revision(revision) = held
        {
            own.live.push((i, revision));
        }
    }

    /// Writes the document that readers follow.
    async fn keep_journal(&self, way: &Way, own: &mut Own) {
        let (i, revision) = own.journal.take().map_or_else(|| (self.fresh(own), 0), |(i, revision)| (i, revision + 1));
        if self.write(way, own.generation, i, Operation::Put(record(i, revision)), Held::Revision(revision)).await {
            own.journal = Some((i, revision));
            self.shared.journals.lock().expect("nobody panics with it").insert(self.number, i);
        }
    }

    const fn fresh(&self, own: &mut Own) -> u64 {
        own.made += 1;
        self.number << 32 | own.made
    }

    /// Writes, and notes what came of it. Returns whether the document may be written again.
    async fn write(&self, way: &Way, generation: u64, i: u64, operation: Operation, held: Held) -> bool {
        let key = self.shared.key(i);
        let (begun, asked) = (Instant::now(), self.shared.history().losses().clone());
        let ended = self.ask(way, generation, Edit { name: name(DOCUMENTS, &key), operation }).await;
        let mut history = self.shared.history();
        if history.losses().of(self.member, self.wait.local) != generation {
            // It may have been written before its member lost all, and again after.
            history.doubt(&key, held);
            history.blur(&key);
            return false;
        }
        match ended {
            End::Acknowledged(ack) => {
                let holders = self.shared.holders(self.member, &ack);
                history.acknowledge(&key, held, ack.commit, self.member, holders, &asked);
                drop(history);
                let ended = Instant::now();
                let ended = Ended { kind: load::Kind::Update, intended: begun, begun, ended, is_measured: true, is_within: true };
                self.shared.tallies.end(self.number, ended);
                if ack.local < self.wait.local || (ack.copies.len() as u64) < u64::from(self.wait.copies) {
                    self.shared.find(Finding::Weak { node: member_name(self.member), key: key.clone() });
                }
                true
            }
            // Nothing of it was written, so what was acknowledged before still holds; the document is left alone from here on.
            End::Refused(failed) => {
                drop(history);
                self.fail(failed);
                false
            }
            End::Unknown(failed) => {
                history.doubt(&key, held);
                drop(history);
                self.fail(failed);
                false
            }
        }
    }

    fn fail(&self, failed: Failed) {
        self.shared.tallies.fail(self.number, failed.clone().into());
        self.shared.failures.lock().expect("nobody panics with it").count(failed.into());
    }

    /// Asks again with the same idempotency key for as long as the end is unknown, and the member has not lost it.
    async fn ask(&self, way: &Way, generation: u64, edit: Edit) -> End {
        let write = Write { wait: self.wait, ..Write::new(self.shared.requests.draw(), vec![edit]) };
        let begun = Instant::now();
        let mut is_doubtful = false;
        loop {
            let failed = match way.commit(write.clone()).await {
                Ok(ack) => return End::Acknowledged(ack),
                Err(failed) => failed,
            };
            // A full queue refuses before it writes; all else that passes may have come after the write.
            let passes = matches!(failed.kind, Kind::Unknown | Kind::Unavailable | Kind::Internal | Kind::Exhausted | Kind::Precondition);
            is_doubtful |= passes && !matches!(failed.kind, Kind::Exhausted | Kind::Precondition);
            let is_late = begun.elapsed() >= PATIENCE || self.shared.is_over() || self.generation() != generation;
            if !passes || is_late {
                return if is_doubtful { End::Unknown(failed) } else { End::Refused(failed) };
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Reads a document of its own: it must be as it was acknowledged.
    async fn read(&mut self, way: &Way, own: &Own) {
        let (i, expected) = own.live[self.rng.index(own.live.len())];
        let key = self.shared.key(i);
        let begun = Instant::now();
        let Ok(found) = way.get(Get { place: Place::NEWEST, name: name(DOCUMENTS, &key) }).await else { return };
        if self.generation() != own.generation {
            return;
        }
        let ended = Instant::now();
        let ended = Ended { kind: load::Kind::Read, intended: begun, begun, ended, is_measured: true, is_within: true };
        self.shared.tallies.end(self.number, ended);
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        let node = member_name(self.member);
        let held = match found.map(|document| revision(i, &document.fields)) {
            None => Held::Absent,
            Some(Some(revision)) => Held::Revision(revision),
            Some(None) => return self.shared.find(Finding::Altered { node, key }),
        };
        if held != Held::Revision(expected) {
            self.shared.find(Finding::NotRead { node, key, acknowledged: Held::Revision(expected), found: held });
        }
    }
}

/// Reads what writers of all members write again and again, at one member.
pub(super) async fn follow(shared: Arc<Shared>, member: usize, address: String) {
    let Some(client) = reach(&shared, &address).await else { return };
    let (mut seen, mut generation) = (BTreeMap::<u64, u64>::new(), shared.generation(member, Level::Process));
    while !shared.is_over() {
        let journals: Vec<_> = shared.journals.lock().expect("nobody panics with it").values().copied().collect();
        for i in journals {
            let key = shared.key(i);
            let Ok(found) = client.get(Get { place: Place::NEWEST, name: name(DOCUMENTS, &key) }).await else { continue };
            if shared.generation(member, Level::Process) != generation {
                seen.clear();
                generation = shared.generation(member, Level::Process);
                continue;
            }
            shared.reads.fetch_add(1, Ordering::Relaxed);
            let before = seen.get(&i).copied();
            let now = found.and_then(|document| revision(i, &document.fields));
            if before.is_some_and(|before| now.is_none_or(|now| now < before)) {
                let tell = |revision: Option<u64>| revision.map_or(Held::Absent, Held::Revision).to_string();
                shared.find(Finding::WentBack { node: member_name(member), what: key, from: tell(before), to: tell(now) });
            }
            if let Some(now) = now {
                seen.insert(i, now);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks at a member's head log and branches.
pub(super) async fn watch_heads(shared: Arc<Shared>, member: usize, address: String) {
    let Some(client) = reach(&shared, &address).await else { return };
    let (mut log, mut commits, mut generation) =
        (None::<Position>, BTreeMap::<BranchName, u64>::new(), shared.generation(member, Level::Process));
    while !shared.is_over() {
        tokio::time::sleep(PAUSE).await;
        let asked = shared.generation(member, Level::Process);
        let Ok(status) = client.status().await else { continue };
        if shared.generation(member, Level::Process) != generation {
            (log, commits, generation) = (None, BTreeMap::new(), shared.generation(member, Level::Process));
        }
        if asked != generation || status.recovery.is_some() {
            continue;
        }
        let node = || member_name(member);
        let tell = |position: Option<Position>| position.map_or_else(|| "none".to_owned(), |at| format!("{}.{}", at.epoch, at.seq));
        if status.log < log {
            shared.find(Finding::WentBack { node: node(), what: "the head log".to_owned(), from: tell(log), to: tell(status.log) });
        }
        log = status.log;
        let mut furthest = shared.furthest.lock().expect("nobody panics with it");
        *furthest = (*furthest).max(log);
        drop(furthest);
        for head in status.branches {
            let before = commits.insert(head.branch.clone(), head.commits).unwrap_or(0);
            if head.commits < before {
                let (from, to) = (before.to_string(), head.commits.to_string());
                shared.find(Finding::WentBack { node: node(), what: format!("commits of {}", head.branch), from, to });
            }
        }
    }
}
