//! How the nodes fare while they work, once a second: what they hold, how far they are behind, what they take of memory and disk.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use herdbook_proto::client::Client;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::node::connect;

/// How often nodes are asked.
const EVERY: Duration = Duration::from_secs(1);

/// How long a node may take to answer before it counts as away.
const DEADLINE: Duration = Duration::from_millis(800);

/// A node to look at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What it is called.
    pub name: String,
    /// Where it answers.
    pub address: String,
    /// Its process, if it runs here; it may change, 0 stands for none.
    pub process: Arc<std::sync::atomic::AtomicU32>,
}

/// A node at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When: milliseconds since the run began.
    pub at_millis: u64,
    /// Which node.
    pub node: String,
    /// Whether it answered.
    pub is_up: bool,
    /// Commits that it holds, of all branches.
    pub commits: u64,
    /// How many fewer than the one that holds most, at that moment.
    pub behind: u64,
    /// Bytes of its store on the disk.
    pub store_bytes: u64,
    /// Bytes of memory that its process takes; 0 if it does not run here.
    pub memory_bytes: u64,
}

/// Looks at nodes until it is stopped.
#[derive(Debug)]
pub struct Sampler {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Sampler {
    /// Begins to look at `subjects`; times count from `begun`.
    pub fn start(subjects: Vec<Subject>, begun: Instant) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&samples);
        let task = tokio::spawn(async move {
            let mut clients = vec![None; subjects.len()];
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                ticks.tick().await;
                let at_millis = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                let looks = subjects.iter().zip(&mut clients).map(|(subject, client)| look(subject, client, at_millis));
                let mut round = futures::future::join_all(looks).await;
                let most = round.iter().filter(|sample| sample.is_up).map(|sample| sample.commits).max().unwrap_or(0);
                for sample in round.iter_mut().filter(|sample| sample.is_up) {
                    sample.behind = most - sample.commits;
                }
                kept.lock().expect("nobody panics with it").append(&mut round);
            }
        });
        Self { samples, task }
    }

    /// Returns the newest sample of each node.
    pub fn newest(&self) -> Vec<Sample> {
        let samples = self.samples.lock().expect("nobody panics with it");
        let last = samples.last().map(|sample| sample.at_millis);
        samples.iter().rev().take_while(|sample| Some(sample.at_millis) == last).cloned().collect::<Vec<_>>().into_iter().rev().collect()
    }

    /// Ends it and returns all it saw.
    pub fn stop(self) -> Vec<Sample> {
        self.task.abort();
        std::mem::take(&mut *self.samples.lock().expect("nobody panics with it"))
    }
}

async fn look(subject: &Subject, client: &mut Option<Client>, at_millis: u64) -> Sample {
    let process = subject.process.load(std::sync::atomic::Ordering::Relaxed);
    let away = Sample {
        at_millis,
        node: subject.name.clone(),
        is_up: false,
        commits: 0,
        behind: 0,
        store_bytes: 0,
        memory_bytes: resident_bytes(process),
    };
    let status = async {
        if client.is_none() {
            *client = connect(&subject.address).await.ok();
        }
        client.as_ref()?.status().await.ok()
    };
    match tokio::time::timeout(DEADLINE, status).await {
        Ok(Some(status)) => {
            let commits = status.branches.iter().map(|head| head.commits).sum();
            Sample { is_up: true, commits, store_bytes: status.store_bytes, ..away }
        }
        _ => {
            *client = None;
            away
        }
    }
}

/// Returns the memory that a process takes; 0 if it is not there.
pub fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory_and_one_that_is_not_there_takes_none() {
        assert!(resident_bytes(std::process::id()) > 1 << 20);
        assert_eq!(resident_bytes(0), 0);
    }

    #[tokio::test]
    async fn a_node_that_does_not_answer_is_told_as_away() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").to_string();
        let subject = Subject { name: "alice".to_owned(), address, process: Arc::default() };
        let sampler = Sampler::start(vec![subject], Instant::now());
        while sampler.newest().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let samples = sampler.stop();
        assert!(samples.iter().all(|sample| !sample.is_up && sample.node == "alice" && sample.memory_bytes == 0), "{samples:?}");
    }
}
