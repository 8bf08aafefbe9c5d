//! Chat: each client appends messages to a room and watches it. Everybody in a room must be told of each message once, those of one author in
//! their order, and every member must hold all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::future::join_all;
use herdbook_proto::{document::At, edit::Operation};
use tokio::sync::mpsc::Receiver;

use super::{Plan, Played, Stage, read_all, settle, write};
use crate::{
    Error,
    connection::Failures,
    latency::{Arrival, watch},
    node::{RequestKeys, connect},
    percentiles::Durations,
    workload::{DOCUMENTS, client_rng, record},
};

/// Clients of a room.
const ROOM: usize = 4;

/// Longest pause of a client between two messages, in milliseconds.
const PAUSE: u64 = 20;

/// How long after the last message a watcher may still hear of one.
const PATIENCE: Duration = Duration::from_secs(20);

/// When each message was sent, by key; those only that were acknowledged.
type Sent = Arc<Mutex<BTreeMap<String, Instant>>>;

pub(super) async fn play(stage: &Stage, plan: &Plan) -> Result<Played, Error> {
    let requests = Arc::new(RequestKeys::new()?);
    let prefix = format!("chat/{}/", requests.run());
    let sent = Sent::default();
    let end = Instant::now() + Duration::from_millis(plan.millis);
    let (mut authors, mut watchers) = (Vec::new(), Vec::new());
    for (node, number) in stage.ends.iter().cycle().zip(0..plan.clients) {
        let client = connect(node).await?;
        let room = format!("{prefix}{:04x}/", number / ROOM);
        watchers.push((node.clone(), room.clone(), watch(client.clone(), node.clone(), room.clone()).await?));
        let (requests, sent, mut rng) = (Arc::clone(&requests), Arc::clone(&sent), client_rng(number as u64, plan.seed));
        authors.push(async move {
            let (mut failures, mut acknowledged) = (Failures::default(), Durations::default());
            for message in 0u64.. {
                if Instant::now() >= end {
                    break;
                }
                let (key, begun) = (format!("{room}{number:04x}/{message:016x}"), Instant::now());
                match write(&client, &requests, DOCUMENTS, &key, Operation::Create(record(message, 0))).await {
                    Ok(_) => {
                        acknowledged.record(begun.elapsed());
                        sent.lock().expect("nobody panics with it").insert(key, begun);
                    }
                    Err(failed) => failures.count(failed.into()),
                }
                tokio::time::sleep(Duration::from_millis(rng.below(PAUSE + 1))).await;
            }
            (failures, acknowledged)
        });
    }
    // Watches are read while the authors write: their channels are bounded.
    let listening =
        watchers.into_iter().map(|(node, room, events)| tokio::spawn(listen(node, room, events, end + PATIENCE, Arc::clone(&sent))));
    let listening: Vec<_> = listening.collect();
    let (mut played, mut acknowledged) = (Played::default(), Durations::default());
    for (failures, durations) in
        join_all(authors.into_iter().map(tokio::spawn)).await.into_iter().map(|ended| ended.expect("an author does not panic"))
    {
        played.failures.add(failures);
        acknowledged.add(&durations);
    }
    let mut seen = Durations::default();
    for heard in join_all(listening).await {
        let Heard { node, durations, missing, repeated, disordered } = heard.expect("a watcher does not panic")?;
        seen.add(&durations);
        for (rule, found) in [
            ("each message is told", missing.first().cloned()),
            ("no message is told twice", repeated.first().cloned()),
            ("messages of one author are told in their order", disordered.first().cloned()),
        ] {
            if let Some(found) = found {
                played.break_rule(&node, rule, found);
            }
        }
    }
    settle(stage, &mut played).await?;
    let sent = std::mem::take(&mut *sent.lock().expect("nobody panics with it"));
    for node in &stage.nodes {
        let held: BTreeSet<_> =
            read_all(node, &At::Branch(None), DOCUMENTS, &prefix).await?.into_iter().map(|found| found.name.key.to_string()).collect();
        if let Some(lost) = sent.keys().find(|key| !held.contains(*key)) {
            played.break_rule(node, "each message is held", lost.clone());
        }
    }
    played.acknowledged = sent.len() as u64;
    played.figure("messages a second", sent.len() as f64 * 1000.0 / plan.millis as f64);
    played.times.insert("acknowledged".to_owned(), acknowledged.percentiles());
    played.times.insert("seen in the room".to_owned(), seen.percentiles());
    Ok(played)
}

/// What one in a room heard.
struct Heard {
    node: String,
    durations: Durations,
    missing: Vec<String>,
    repeated: Vec<String>,
    disordered: Vec<String>,
}

/// Listens until all that was sent to the room was told, or `end`.
async fn listen(node: String, room: String, mut events: Receiver<Arrival>, end: Instant, sent: Sent) -> Result<Heard, Error> {
    let mut heard = Heard { node, durations: Durations::default(), missing: Vec::new(), repeated: Vec::new(), disordered: Vec::new() };
    let (mut told, mut newest) = (BTreeMap::<String, Instant>::new(), BTreeMap::<String, String>::new());
    let quiet = end - PATIENCE;
    loop {
        let lacks = |told: &BTreeMap<String, Instant>| {
            let sent = sent.lock().expect("nobody panics with it");
            sent.keys().filter(|key| key.starts_with(&room) && !told.contains_key(*key)).cloned().collect::<Vec<_>>()
        };
        let now = Instant::now();
        // What is under way at the end is acknowledged soon after it.
        if now >= end || now >= quiet + PATIENCE / 10 && lacks(&told).is_empty() {
            heard.missing = lacks(&told);
            break;
        }
        let Ok(event) = tokio::time::timeout(Duration::from_millis(200), events.recv()).await else { continue };
        let Some(event) = event else { return Err(Error::WatchEnded { node: heard.node }) };
        let (key, at) = event?;
        if !key.starts_with(&room) {
            continue;
        }
        if let Some((author, _)) = key.rsplit_once('/') {
            let before = newest.insert(author.to_owned(), key.clone());
            if before.is_some_and(|before| before > key) {
                heard.disordered.push(key.clone());
            }
        }
        if told.insert(key.clone(), at).is_some() {
            heard.repeated.push(key);
        }
    }
    let sent = sent.lock().expect("nobody panics with it");
    for (key, at) in &told {
        if let Some(begun) = sent.get(key) {
            heard.durations.record(at.saturating_duration_since(*begun));
        }
    }
    drop(sent);
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_missing_told_twice_or_out_of_order_is_found() {
        let (sender, events) = tokio::sync::mpsc::channel(8);
        let now = Instant::now();
        let sent = ["r/a/1", "r/a/2", "r/b/1", "other/a/1"].map(|key| (key.to_owned(), now));
        let sent: Sent = Arc::new(Mutex::new(BTreeMap::from(sent)));
        for key in ["r/a/2", "r/a/1", "r/a/1"] {
            sender.send(Ok((key.to_owned(), now))).await.expect("open");
        }
        let end = now + PATIENCE + Duration::from_millis(1);
        // All that comes has come: it waits no longer than it must.
        let heard = tokio::time::timeout(2 * PATIENCE, listen("alice".to_owned(), "r/".to_owned(), events, end - PATIENCE / 10 * 9, sent));
        let Heard { missing, repeated, disordered, durations, .. } = heard.await.expect("it ends").expect("the watch goes on");
        assert_eq!((missing, repeated, disordered), (vec!["r/b/1".to_owned()], vec!["r/a/1".to_owned()], vec!["r/a/1".to_owned()]));
        assert_eq!(durations.count(), 2);
    }
}
