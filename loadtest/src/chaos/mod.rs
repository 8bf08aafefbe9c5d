//! Chaos: a cluster of its own under load and faults, and a checker that decides.
//!
//! First comes the safety phase: clients write and read while members fail by a schedule ([`fault`], from a seed by [`schedule`]). Then the
//! liveness phase: all faults are over, and every member must make progress and come to the same state. What clients were told is then held
//! against what every member holds, and every member's data is checked from the ground. The verdict is one line.

mod clients;
mod disk;
pub mod fault;
mod herd;
mod history;
mod means;
mod nemesis;
mod relay;
pub mod schedule;
pub mod switch;
mod tools;
mod wires;

use std::{
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use herdbook_model::authority::Position;
use herdbook_proto::{
    ack::{Level, Wait},
    client::Client,
    document::Place,
    edit::{Edit, Operation, Write},
    read::List,
    status::Failed,
};
use serde::{Deserialize, Serialize};

pub use means::Means;
pub use nemesis::Fired;

use crate::{
    Error, check,
    connection::Failures,
    ledger::{Finding, Found},
    live::Live,
    load::{Second, series::Tallies},
    node::{RequestKeys, connect, name},
    sampler::{Sample, Sampler},
    workload::{DOCUMENTS, Rng, client_rng, mix, record},
};
use clients::{Shared, Writer};
use fault::{Fault, Kind, member_name};
use herd::Herd;
use history::History;
use nemesis::Nemesis;

/// How long a member may take until it takes a write and the authority has accepted it, once all faults are over.
const PROGRESS: Duration = Duration::from_secs(30);

/// How long members may take to come to the same state.
const SETTLE: Duration = Duration::from_secs(120);

/// How long they may take where one of them is known to be stuck.
const HOPELESS: Duration = Duration::from_secs(5);

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(100);

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Seed of clients, faults and links.
    pub seed: u64,
    /// How long clients write while members fail, in milliseconds.
    pub millis: u64,
    /// Replicas beside the coordinator.
    pub replicas: usize,
    /// Clients that write, spread over the members.
    pub clients: usize,
    /// Longest pause of a client between operations, in milliseconds.
    pub pause_millis: u64,
    /// Fewest acknowledged writes from which the result counts.
    pub least: u64,
    /// The faults.
    pub faults: Vec<Fault>,
}

/// Where it is done.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `herdbook` program.
    pub binary: PathBuf,
    /// The program that a rolling restart goes to; none: the same.
    pub upgrade: Option<PathBuf>,
    /// Where data folders are made.
    pub folder: Option<PathBuf>,
    /// Whether to leave data and logs behind.
    pub keep: Keep,
}

/// When data and logs are left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Never.
    Never,
    /// If something was found.
    Failed,
    /// Always.
    Always,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The faults that took place.
    pub fired: Vec<Fired>,
    /// What is broken; nothing: all is well.
    pub findings: Vec<Finding>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Commits that they went into and that are still owed.
    pub owed_commits: u64,
    /// Documents that were written.
    pub documents: u64,
    /// Of them: those of which little can be said, since a write may have been made twice by a member that lost its data.
    pub blurred: u64,
    /// Writes of which nobody knows the end.
    pub unknown: u64,
    /// Reads that were held against what was known.
    pub reads: u64,
    /// Calls that failed while members did.
    pub failures: Failures,
    /// Time from the end of the liveness phase until all members named the same state, in milliseconds.
    pub settled_millis: u64,
    /// Documents read at the end, on all members together.
    pub read_at_end: u64,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// How the members fared.
    pub nodes: Vec<Sample>,
    /// What could not be done here, and why.
    pub absent: Vec<String>,
    /// Where data and logs were left, if they were to be.
    pub kept: Option<PathBuf>,
}

impl Outcome {
    /// Returns the verdict: one line.
    pub fn verdict(&self, plan: &Plan) -> String {
        let word = if self.findings.is_empty() { "PASS" } else { "FAIL" };
        let first = self.findings.first().map_or_else(String::new, |finding| format!("; first: {finding}"));
        format!(
            "{word} chaos seed {}: {} writes acknowledged, {} reads checked, {} of {} faults fired, {} members level after {:.1} s, {} findings{first}",
            plan.seed,
            self.acknowledged,
            self.reads,
            self.fired.len(),
            plan.faults.len(),
            plan.replicas + 1,
            self.settled_millis as f64 / 1000.0,
            self.findings.len(),
        )
    }
}

/// Runs a plan.
///
/// # Errors
/// If the cluster cannot be started at first, or cannot be read at the end. What members did wrong is in the outcome.
pub async fn run(plan: &Plan, settings: &Settings, means: &Means) -> Result<Outcome, Error> {
    let has_disks = means.has_disks() && plan.faults.iter().any(|fault| matches!(fault.kind, Kind::Power | Kind::Full | Kind::Slow));
    let herd = herd::Settings {
        binary: settings.binary.clone(),
        replicas: plan.replicas,
        folder: settings.folder.clone(),
        has_disks,
        has_wires: means.has_wires() && plan.faults.iter().any(|fault| fault.kind == Kind::Sever),
        seed: plan.seed,
    };
    let mut herd = Herd::begin(&herd).await?;
    check::settle(&herd.addresses(), SETTLE).await?;
    let requests = RequestKeys::new()?;
    let shared = Arc::new(Shared {
        pipelines: Mutex::default(),
        prefix: format!("chaos/{}/", requests.run()),
        requests,
        history: Mutex::new(History::default()),
        findings: Mutex::default(),
        failures: Mutex::default(),
        tallies: Tallies::new(),
        is_over: AtomicBool::new(false),
        identities: herd.identities(),
        journals: Mutex::default(),
        reads: AtomicU64::new(0),
        furthest: Mutex::new(None),
    });
    let rng = Rng::new(mix(plan.seed ^ 0x6e6d));
    let mut nemesis = Nemesis {
        herd: &mut herd,
        shared: Arc::clone(&shared),
        means,
        upgrade: settings.upgrade.as_deref(),
        begun: Instant::now(),
        rng,
        copied: None,
    };
    if plan.faults.iter().any(|fault| fault.kind == Kind::Rollback) {
        nemesis.copy().await?;
    }

    // Safety.
    let begun = Instant::now();
    nemesis.begun = begun;
    let clients = spawn_clients(plan, &shared, nemesis.herd);
    let sampler = Sampler::start(nemesis.herd.subjects(), begun);
    let pulse = Pulse::start(Arc::clone(&shared), begun);
    let fired = nemesis.run(&plan.faults, |fault| pulse.note(fault)).await;
    tokio::time::sleep_until((begun + Duration::from_millis(plan.millis)).into()).await;

    // Liveness.
    for member in 0..herd.len() {
        if let Err(why) = progress(&shared, &herd.address(member), member).await {
            shared.find(Finding::Stuck { node: member_name(member), why });
        }
    }
    shared.is_over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("a client does not panic");
    }
    let (seconds, nodes) = (pulse.stop(), sampler.stop());
    let (settled, read_at_end) = compare(&shared, &herd).await?;
    end(&shared, &mut herd).await;

    let history = std::mem::take(&mut *shared.history.lock().expect("nobody panics with it"));
    let mut findings = std::mem::take(&mut *shared.findings.lock().expect("nobody panics with it"));
    judge_traffic(plan, &history, &mut findings);
    let is_kept = settings.keep == Keep::Always || settings.keep == Keep::Failed && !findings.is_empty();
    let kept = is_kept.then(|| herd.keep());
    let (documents, blurred) = history.documents();
    Ok(Outcome {
        fired,
        findings,
        acknowledged: history.acknowledged(),
        owed_commits: history.owed().count() as u64,
        documents,
        blurred,
        unknown: history.unknown(),
        reads: shared.reads.load(Ordering::Relaxed),
        failures: std::mem::take(&mut *shared.failures.lock().expect("nobody panics with it")),
        settled_millis: u64::try_from(settled.as_millis()).unwrap_or(u64::MAX),
        read_at_end,
        seconds,
        nodes,
        absent: means.absent.clone(),
        kept,
    })
}

fn spawn_clients(plan: &Plan, shared: &Arc<Shared>, herd: &Herd) -> Vec<tokio::task::JoinHandle<()>> {
    let mut clients = Vec::new();
    for number in 0..plan.clients as u64 {
        let member = usize::try_from(number).expect("few") % herd.len();
        let mut rng = client_rng(number, plan.seed);
        let writer = Writer {
            shared: Arc::clone(shared),
            member,
            address: herd.address(member),
            number,
            // Each member has writers of every kind.
            wait: Writer::wait(number / herd.len() as u64),
            pause: Duration::from_millis(rng.below(plan.pause_millis + 1)),
            rng,
        };
        clients.push(tokio::spawn(writer.run()));
    }
    for member in 0..herd.len() {
        clients.push(tokio::spawn(clients::follow(Arc::clone(shared), member, herd.address(member))));
        clients.push(tokio::spawn(clients::watch_heads(Arc::clone(shared), member, herd.address(member))));
    }
    clients
}

/// Tells each second what was done in it.
struct Pulse {
    seconds: Arc<Mutex<Vec<Second>>>,
    note: Arc<Mutex<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl Pulse {
    fn start(shared: Arc<Shared>, begun: Instant) -> Self {
        let (seconds, note) = (Arc::<Mutex<Vec<Second>>>::default(), Arc::<Mutex<String>>::default());
        let (kept, noted) = (Arc::clone(&seconds), Arc::clone(&note));
        let task = tokio::spawn(async move {
            let live = Live::here();
            let mut ticks = tokio::time::interval_at((begun + Duration::from_secs(1)).into(), Duration::from_secs(1));
            while !shared.is_over.load(Ordering::Relaxed) {
                ticks.tick().await;
                let second = shared.tallies.second(begun.elapsed());
                let note = noted.lock().expect("nobody panics with it").clone();
                live.show(&second, &[], &note);
                kept.lock().expect("nobody panics with it").push(second);
            }
        });
        Self { seconds, note, task }
    }

    fn note(&self, fault: Option<&Fault>) {
        *self.note.lock().expect("nobody panics with it") = fault.map_or_else(String::new, ToString::to_string);
    }

    fn stop(self) -> Vec<Second> {
        self.task.abort();
        std::mem::take(&mut *self.seconds.lock().expect("nobody panics with it"))
    }
}

/// Waits until a member acknowledges a write that the authority has accepted.
async fn progress(shared: &Shared, address: &str, member: usize) -> Result<(), String> {
    let key = format!("progress/{member:016x}");
    let wait = Wait { local: Level::Durable, accepted: true, copies: 0, timeout: Some(Duration::from_secs(5)) };
    let edit = Edit { name: name(DOCUMENTS, &key), operation: Operation::Put(record(member as u64, 0)) };
    let write = Write { wait, ..Write::new(shared.requests.draw(), vec![edit]) };
    let begun = Instant::now();
    loop {
        let failed = match connect(address).await {
            Ok(client) => match client.commit(write.clone()).await {
                Ok(_) => return Ok(()),
                Err(failed) => failed.to_string(),
            },
            Err(failed) => failed.to_string(),
        };
        // Once one is stuck nobody waits for the others.
        let patience = if shared.is_stuck() { HOPELESS } else { PROGRESS };
        if begun.elapsed() >= patience {
            return Err(format!("no write was accepted within {} s after all faults were over: {failed}", patience.as_secs()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the members to come to the same state and holds what each has against the history. Returns how long that took, and how many
/// documents were read.
async fn compare(shared: &Shared, herd: &Herd) -> Result<(Duration, u64), Error> {
    // Of a cluster that has failed by now nobody waits to see how it ends.
    let patience = if shared.is_stuck() { HOPELESS } else { SETTLE };
    let (settled, apart) = match check::settle(&herd.addresses(), patience).await {
        Ok(settled) => settled,
        Err(error @ Error::NotLevel { .. }) => {
            shared.find(Finding::Stuck { node: "the cluster".to_owned(), why: error.to_string() });
            (patience, Vec::new())
        }
        Err(error) => return Err(error),
    };
    apart.into_iter().for_each(|finding| shared.find(finding));
    let patience = if shared.is_stuck() { HOPELESS } else { SETTLE };
    let furthest = *shared.furthest.lock().expect("nobody panics with it");
    let owed: Vec<_> = shared.history.lock().expect("nobody panics with it").owed().collect();
    let (mut read, mut digests) = (0, Vec::new());
    for member in 0..herd.len() {
        let (node, address) = (member_name(member), herd.address(member));
        let client = match connect(&address).await {
            Ok(client) => client,
            Err(failed) => {
                shared.find(Finding::Stuck { node, why: failed.to_string() });
                continue;
            }
        };
        let Some(held) = patiently(patience, || hold(&client, shared)).await else {
            shared.find(Finding::Stuck { node, why: "it did not tell what it holds".to_owned() });
            continue;
        };
        let Holding { found, log, digest } = held;
        read += found.len() as u64;
        let broken = shared.history.lock().expect("nobody panics with it").judge(&node, &found);
        broken.into_iter().for_each(|finding| shared.find(finding));
        match patiently(patience, || check::missing_commits(&client, &node, &owed)).await {
            Some(missing) => missing.into_iter().for_each(|finding| shared.find(finding)),
            None => shared.find(Finding::Stuck { node: node.clone(), why: "it did not tell which commits it holds".to_owned() }),
        }
        if log < furthest {
            let tell = |at: Option<Position>| at.map_or_else(String::new, |at| format!("{}.{}", at.epoch, at.seq));
            shared.find(Finding::WentBack {
                node: node.clone(),
                what: "the cluster's head log".to_owned(),
                from: tell(furthest),
                to: tell(log),
            });
        }
        digests.push((node.clone(), digest));
    }
    if digests.windows(2).any(|pair| pair[0].1 != pair[1].1) {
        shared.find(Finding::Apart { branch: "documents as stored".to_owned(), roots: digests });
    }
    Ok((settled, read))
}

/// What a member holds.
struct Holding {
    found: BTreeMap<String, Found>,
    log: Option<Position>,
    digest: String,
}

async fn hold(client: &Client, shared: &Shared) -> Result<Holding, Failed> {
    let found = check::read_all(client, &shared.prefix).await?;
    Ok(Holding { found, log: client.status().await?.log, digest: digest(client).await? })
}

/// Asks again for a while: a machine that is busy elsewhere is no broken word.
async fn patiently<T, E, F: Future<Output = Result<T, E>>>(patience: Duration, mut ask: impl FnMut() -> F) -> Option<T> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Some(answer),
            Err(_) if begun.elapsed() < patience => tokio::time::sleep(PAUSE).await,
            Err(_) => return None,
        }
    }
}

/// Returns a hash over what a member stores of each document.
async fn digest(client: &Client) -> Result<String, Failed> {
    let (mut hasher, mut page_token) = (blake3::Hasher::new(), bytes::Bytes::new());
    loop {
        let list = List {
            place: Place::NEWEST,
            collection: DOCUMENTS.into(),
            prefix: String::new(),
            page_size: 1000,
            page_token,
            keys_only: false,
        };
        let page = client.list(list).await?;
        for document in page.documents {
            hasher.update(document.name.key.to_string().as_bytes());
            hasher.update(document.version.as_bytes());
        }
        if page.next.is_empty() {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        page_token = page.next;
    }
}

/// Stops all members and checks the data of each.
async fn end(shared: &Shared, herd: &mut Herd) {
    for member in (0..herd.len()).rev() {
        let node = member_name(member);
        match herd.stop(member).await {
            Ok(status) if status.success() => {}
            Ok(status) => shared.find(Finding::Unsound { node: node.clone(), why: format!("asked to end, it ended by {status}") }),
            Err(error) => {
                shared.find(Finding::Unsound { node, why: error.to_string() });
                continue;
            }
        }
        let data = herd.data(member).to_string_lossy().into_owned();
        if let Err(why) = nemesis::fsck(herd.binary(member), &data).await {
            shared.find(Finding::Unsound { node: node.clone(), why: format!("fsck: {why}") });
        }
        if let Err(why) = nemesis::audit(herd.binary(member), &data).await {
            shared.find(Finding::Unsound { node, why: format!("audit verify: {why}") });
        }
    }
}

/// Finds a run too small to tell anything.
fn judge_traffic(plan: &Plan, history: &History, findings: &mut Vec<Finding>) {
    let mut want = |what: String, actual: u64, wanted: u64| {
        if actual < wanted {
            findings.push(Finding::TooLittle { what, actual, wanted });
        }
    };
    want("writes acknowledged".to_owned(), history.acknowledged(), plan.least);
    for member in 0..=plan.replicas {
        want(format!("writes acknowledged by {}", member_name(member)), history.acknowledged_by(member), 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan { seed: 7, millis: 1000, replicas: 1, clients: 2, pause_millis: 1, least: 3, faults: Vec::new() }
    }

    #[test]
    fn a_run_with_too_little_traffic_or_a_silent_member_fails() {
        let (mut history, mut findings) = (History::default(), Vec::new());
        for number in 0..2 {
            let commit = herdbook_model::id::CommitId([number; 32]);
            history.acknowledge(
                "a",
                crate::ledger::Held::Revision(number.into()),
                commit,
                0,
                history::Holders::new(),
                &history::Losses::default(),
            );
        }
        judge_traffic(&plan(), &history, &mut findings);
        let what: Vec<_> = findings.iter().map(ToString::to_string).collect();
        let expected =
            ["too little writes acknowledged: 2, and 3 are needed", "too little writes acknowledged by replica-1: 0, and 1 are needed"];
        assert_eq!(what, expected);
    }

    #[test]
    fn the_verdict_is_one_line_that_begins_with_the_word() {
        let mut outcome = Outcome {
            fired: Vec::new(),
            findings: Vec::new(),
            acknowledged: 10,
            owed_commits: 1,
            documents: 1,
            blurred: 0,
            unknown: 0,
            reads: 5,
            failures: Failures::default(),
            settled_millis: 1234,
            read_at_end: 2,
            seconds: Vec::new(),
            nodes: Vec::new(),
            absent: Vec::new(),
            kept: None,
        };
        let well =
            "PASS chaos seed 7: 10 writes acknowledged, 5 reads checked, 0 of 0 faults fired, 2 members level after 1.2 s, 0 findings";
        assert_eq!(outcome.verdict(&plan()), well);
        outcome.findings.push(Finding::NeverFired { fault: "1000ms kill replica-1 5ms".to_owned(), why: "it was gone".to_owned() });
        let verdict = outcome.verdict(&plan());
        assert!(
            verdict.starts_with("FAIL ") && verdict.ends_with("first: never fired: 1000ms kill replica-1 5ms: it was gone"),
            "{verdict}"
        );
        assert!(!verdict.contains('\n'));
    }
}
