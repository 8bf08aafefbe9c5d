//! How long a commit takes from one node to another: written at one, seen by a watch at the other.

use std::time::{Duration, Instant};

use herdbook_proto::{
    ack::Wait,
    client::Client,
    edit::{Edit, Operation, Write},
    read::{Event, EventChange, Start, Step, Watch},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    Error,
    node::{RequestKeys, connect, name},
    percentiles::{Durations, Percentiles},
    workload::{DOCUMENTS, client_rng, record},
};

/// How long a commit is waited for before it counts as unseen.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many commits travel, one at a time.
    pub commits: u64,
    /// Longest pause before each, in milliseconds; its length is random, so that it beats with no timer of the cluster.
    pub pause_millis: u64,
    /// Seed of the pauses.
    pub seed: u64,
}

/// How long commits took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Where they were written.
    pub writer: String,
    /// Where they were seen.
    pub watcher: String,
    /// From the call until the writer's acknowledgement.
    pub acknowledged: Percentiles,
    /// From the call until the watch told of it.
    pub visible: Percentiles,
    /// Commits that were acknowledged and not seen within ten seconds.
    pub unseen: u64,
}

/// Measures the way from the node at `writer` to the one at `watcher`.
///
/// # Errors
/// [`Error::Call`] if a node refuses a call; [`Error::WatchEnded`] if it ends the watch.
pub async fn measure(writer: &str, watcher: &str, plan: &Plan) -> Result<Latency, Error> {
    let requests = RequestKeys::new()?;
    let prefix = format!("latency/{}/", requests.run());
    let client = connect(writer).await?;
    let mut seen = watch(connect(watcher).await?, watcher.to_owned(), prefix.clone()).await?;

    let (mut acknowledged, mut visible, mut unseen) = (Durations::default(), Durations::default(), 0);
    let mut rng = client_rng(0, plan.seed);
    for i in 0..plan.commits {
        tokio::time::sleep(Duration::from_micros(rng.below(plan.pause_millis * 1000 + 1))).await;
        let key = format!("{prefix}{i:08x}");
        let edit = Edit { name: name(DOCUMENTS, &key), operation: Operation::Create(record(i, 0)) };
        let begun = Instant::now();
        let commit = client.commit(Write { wait: Wait::DURABLE, ..Write::new(requests.draw(), vec![edit]) });
        commit.await.map_err(|failed| Error::call(writer, failed))?;
        acknowledged.record(begun.elapsed());
        match tokio::time::timeout_at((begun + PATIENCE).into(), arrival(&mut seen, &key)).await {
            Ok(Some(at)) => visible.record(at.map_err(|error| *error)?.saturating_duration_since(begun)),
            Ok(None) => return Err(Error::WatchEnded { node: watcher.to_owned() }),
            Err(_) => unseen += 1,
        }
    }
    let (acknowledged, visible) = (acknowledged.percentiles(), visible.percentiles());
    Ok(Latency { writer: writer.to_owned(), watcher: watcher.to_owned(), acknowledged, visible, unseen })
}

pub(crate) type Arrival = Result<(String, Instant), Error>;

/// Returns when `key` was seen; earlier ones that come late are passed over.
async fn arrival(seen: &mut mpsc::Receiver<Arrival>, key: &str) -> Option<Result<Instant, Box<Error>>> {
    loop {
        match seen.recv().await? {
            Ok((other, at)) if other == key => return Some(Ok(at)),
            Ok(_) => {}
            Err(error) => return Some(Err(Box::new(error))),
        }
    }
}

/// Opens a watch and returns its events with their time of arrival, from the moment at which it is open.
pub(crate) async fn watch(client: Client, node: String, prefix: String) -> Result<mpsc::Receiver<Arrival>, Error> {
    let watch = Watch { repository: None, branch: None, collection: Some(DOCUMENTS.into()), prefix, start: Start::Now };
    let call = |failed| Error::call(&node, failed);
    let mut steps = client.watch(watch).await.map_err(call)?;
    // The first answer only tells where the watch begins.
    if steps.next().await.map_err(call)?.is_none() {
        return Err(Error::WatchEnded { node });
    }
    let (sender, receiver) = mpsc::channel(1024);
    tokio::spawn(async move {
        loop {
            let step = steps.next().await;
            let at = Instant::now();
            let events = match step {
                Ok(Some(Step { events, .. })) => events,
                Ok(None) => return,
                Err(failed) => {
                    // The measurement may have ended already.
                    let _ = sender.send(Err(Error::call(&node, failed))).await;
                    return;
                }
            };
            for Event { change, .. } in events {
                let name = match change {
                    EventChange::Put(document) => document.name,
                    EventChange::Delete(name) => name,
                };
                if sender.send(Ok((name.key.to_string(), at))).await.is_err() {
                    return;
                }
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_arrival_is_not_taken_for_the_commit_awaited() {
        let (sender, mut seen) = mpsc::channel(4);
        let at = Instant::now();
        for key in ["a", "b"] {
            sender.send(Ok((key.to_owned(), at))).await.expect("open");
        }
        drop(sender);
        assert_eq!(arrival(&mut seen, "b").await.expect("it came").expect("well"), at);
        assert!(arrival(&mut seen, "c").await.is_none());
    }
}
