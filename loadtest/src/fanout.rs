//! Wide fan-out: one writer, many watchers. Each commit must reach each watcher, once; how long that takes is the figure.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};
use herdbook_proto::{
    ack::Wait,
    edit::{Edit, Operation, Write},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    latency::watch,
    load::arrival::{Starts, Stretch},
    node::{RequestKeys, connect, name},
    percentiles::{Durations, Percentiles},
    workload::{DOCUMENTS, record},
};

/// How long after the last commit a watcher may still hear of one.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many watchers share a connection; a connection takes a hundred streams.
const PER_CONNECTION: usize = 50;

/// What is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// How many watchers there are, spread over the nodes.
    pub watchers: usize,
    /// How many commits are made.
    pub commits: u64,
    /// Commits a second.
    pub rate: f64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FannedOut {
    /// Where the commits were made.
    pub writer: String,
    /// Events that came.
    pub events: u64,
    /// From a commit's intended start until a watcher told of it.
    pub visible: Percentiles,
    /// Events that did not come within ten seconds after the last commit.
    pub unseen: u64,
    /// Events that came again.
    pub repeated: u64,
    /// Events a second, over the time from the first commit to the last event.
    pub per_second: f64,
}

/// Makes commits at `writer` and watches for them at `nodes`.
///
/// # Errors
/// [`Error::Call`] if a node refuses a call; [`Error::WatchEnded`] if one ends a watch.
pub async fn measure(writer: &str, nodes: &[String], plan: &Plan) -> Result<FannedOut, Error> {
    let requests = RequestKeys::new()?;
    let prefix: Arc<str> = format!("fanout/{}/", requests.run()).into();
    let intended: Arc<[AtomicU64]> = (0..plan.commits).map(|_| AtomicU64::new(u64::MAX)).collect();
    let begun = Instant::now();
    let (seen, last) = (Arc::new(Mutex::new(Durations::default())), Arc::new(AtomicU64::new(0)));

    let mut watchers = Vec::with_capacity(plan.watchers);
    for (node, count) in nodes.iter().cycle().zip(shares(plan.watchers)) {
        let client = connect(node).await?;
        let opened = (0..count).map(|_| watch(client.clone(), node.clone(), prefix.to_string()));
        for mut events in try_join_all(opened).await? {
            let watcher = Watcher {
                prefix: Arc::clone(&prefix),
                intended: Arc::clone(&intended),
                begun,
                seen: Arc::clone(&seen),
                last: Arc::clone(&last),
                told: vec![false; intended.len()],
                repeated: 0,
            };
            watchers.push(tokio::spawn(async move { watcher.follow(&mut events).await }));
        }
    }

    let client = connect(writer).await?;
    let first = Instant::now();
    for (i, start) in (0..plan.commits).zip(Starts::new(&[Stretch::even(plan.rate, plan.commits as f64 / plan.rate + 1.0)])) {
        tokio::time::sleep_until((first + start).into()).await;
        intended[usize::try_from(i).expect("as many as there are")].store(micros(begun.elapsed()), Ordering::Release);
        let edit = Edit { name: name(DOCUMENTS, &format!("{prefix}{i:08x}")), operation: Operation::Create(record(i, 0)) };
        let commit = client.commit(Write { wait: Wait::DURABLE, ..Write::new(requests.draw(), vec![edit]) });
        commit.await.map_err(|failed| Error::call(writer, failed))?;
    }
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut unseen = 0;
    let mut repeated = 0;
    for ended in join_all(watchers.into_iter().map(|watcher| tokio::time::timeout_at(deadline, watcher))).await {
        match ended {
            Ok(ended) => repeated += ended.expect("a watcher does not panic")?,
            Err(_) => unseen += 1,
        }
    }
    let visible = seen.lock().expect("nobody panics with it").percentiles();
    // Of a watcher that waits in vain only the sum over all tells how much it lacks.
    let wanted = plan.watchers as u64 * plan.commits;
    let seconds = Duration::from_micros(last.load(Ordering::Relaxed)).saturating_sub(first - begun).as_secs_f64();
    let unseen = if unseen == 0 { 0 } else { wanted.saturating_sub(visible.count) };
    let per_second = if seconds > 0.0 { visible.count as f64 / seconds } else { 0.0 };
    Ok(FannedOut { writer: writer.to_owned(), events: visible.count, visible, unseen, repeated, per_second })
}

/// Returns how many watchers go to each connection.
fn shares(watchers: usize) -> impl Iterator<Item = usize> {
    (0..watchers.div_ceil(PER_CONNECTION)).map(move |at| PER_CONNECTION.min(watchers - at * PER_CONNECTION))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

struct Watcher {
    prefix: Arc<str>,
    intended: Arc<[AtomicU64]>,
    begun: Instant,
    seen: Arc<Mutex<Durations>>,
    last: Arc<AtomicU64>,
    told: Vec<bool>,
    repeated: u64,
}

impl Watcher {
    /// Follows a watch until it has told of each commit; returns how often it told of one again.
    async fn follow(mut self, events: &mut tokio::sync::mpsc::Receiver<crate::latency::Arrival>) -> Result<u64, Error> {
        let mut missing = self.told.len();
        while missing > 0 {
            let Some(event) = events.recv().await else {
                return Err(Error::WatchEnded { node: self.prefix.to_string() });
            };
            let (key, at) = event?;
            let number = key.strip_prefix(&*self.prefix).and_then(|number| usize::from_str_radix(number, 16).ok());
            let Some(number) = number.filter(|number| *number < self.told.len()) else {
                continue;
            };
            if std::mem::replace(&mut self.told[number], true) {
                self.repeated += 1;
                continue;
            }
            missing -= 1;
            let at = micros(at - self.begun);
            let took = at.saturating_sub(self.intended[number].load(Ordering::Acquire));
            self.seen.lock().expect("nobody panics with it").record(Duration::from_micros(took));
            self.last.fetch_max(at, Ordering::Relaxed);
        }
        Ok(self.repeated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_share_connections_up_to_their_limit() {
        assert_eq!(shares(120).collect::<Vec<_>>(), [50, 50, 20]);
        assert_eq!(shares(0).count(), 0);
    }

    #[tokio::test]
    async fn a_watcher_ends_with_the_last_commit_and_counts_what_came_twice() {
        let (sender, mut events) = tokio::sync::mpsc::channel(8);
        let begun = Instant::now();
        for key in ["f/00000001", "f/00000001", "other", "f/00000000"] {
            sender.send(Ok((key.to_owned(), begun))).await.expect("open");
        }
        let seen = Arc::new(Mutex::new(Durations::default()));
        let watcher = Watcher {
            prefix: "f/".into(),
            intended: (0..2).map(|_| AtomicU64::new(0)).collect(),
            begun,
            seen: Arc::clone(&seen),
            last: Arc::default(),
            told: vec![false; 2],
            repeated: 0,
        };
        assert_eq!(watcher.follow(&mut events).await.expect("it ends"), 1);
        assert_eq!(seen.lock().expect("not poisoned").count(), 2);
    }
}
