//! A session that did wrong: what it wrote over others' documents is taken back while everybody else goes on. Afterwards those
//! documents are as they were, and of the rest nothing is missing.

use std::time::Instant;

use herdbook_model::id::CommitId;
use herdbook_proto::{
    ack::Wait,
    client::Client,
    document::{At, Place},
    edit::{Edit, Operation, Write},
    history::{Log, Revert},
};

use super::{PAGE, Plan, Played, SETTLE, Stage, read_all, storm::plan_of};
use crate::{
    Error, check,
    node::{RequestKeys, connect, name},
    workload::{DOCUMENTS, record, revision},
};

/// Documents that the session writes over.
const SPOILT: u64 = 200;

/// Documents of one of its commits.
const AT_ONCE: u64 = 10;

pub(super) async fn play(stage: &Stage, plan: &Plan) -> Result<Played, Error> {
    let (mut played, requests) = (Played::default(), RequestKeys::new()?);
    let prefix = format!("revert/{}/", requests.run());
    // The one who does wrong has a server of its own; where there is only one, its session did nothing else yet.
    let (wrong, others) = match stage.ends.split_last() {
        Some((wrong, others)) if !others.is_empty() => (wrong, others),
        _ => return Err(Error::TooFewNodes { actual: stage.ends.len() }),
    };
    let (good, bad) = (connect(&others[0]).await?, connect(wrong).await?);
    for start in (0..SPOILT).step_by(100) {
        put(&good, &others[0], &requests, &prefix, start..start + 100, 0).await?;
    }
    check::settle(&stage.nodes, SETTLE).await?;
    let mut commits = Vec::new();
    for start in (0..SPOILT).step_by(usize::try_from(AT_ONCE).expect("small")) {
        commits.push(put(&bad, wrong, &requests, &prefix, start..start + AT_ONCE, 1).await?);
    }
    check::settle(&stage.nodes, SETTLE).await?;
    let session = good.show(commits[0]).await.map_err(|failed| Error::call(&others[0], failed))?.commit.session;
    let spoilt = of_session(&good, &others[0], session).await?;
    if !commits.iter().all(|commit| spoilt.contains(commit)) {
        played.break_rule(&others[0], "a session's log has its commits", "some are missing");
    }

    // Others write while it is taken back.
    let writing = plan_of(plan);
    let (written, took) = tokio::join!(check::write(others, &writing), async {
        let begun = Instant::now();
        let revert = Revert { session: Some(session), request: Some(requests.draw()), ..Revert::of(Vec::new()) };
        let reverted = good.revert(revert).await;
        (begun.elapsed(), reverted)
    });
    let (took, reverted) = took;
    let reverted = reverted.map_err(|failed| Error::call(&others[0], failed))?;
    if let Some(skipped) = reverted.skipped.first() {
        played.break_rule(&others[0], "nobody wrote over what is taken back", format!("{} stays", skipped.name));
    }
    let checked = check::compare(&stage.nodes, written?, SETTLE).await?;
    for node in &stage.nodes {
        let documents = read_all(node, &At::Branch(None), DOCUMENTS, &prefix).await?;
        let number = |key: &str| u64::from_str_radix(key.strip_prefix(&prefix)?, 16).ok();
        let is_as_before = |found: &herdbook_proto::document::Document| {
            number(&found.name.key.to_string()).is_some_and(|i| revision(i, &found.fields) == Some(0))
        };
        if documents.len() as u64 != SPOILT || !documents.iter().all(is_as_before) {
            let wrong = documents.iter().filter(|found| !is_as_before(found)).count();
            played.break_rule(node, "what is taken back is as before", format!("{} documents, {wrong} of them otherwise", documents.len()));
        }
    }
    played.acknowledged = checked.acknowledged;
    played.failures = checked.failures;
    played.findings.extend(checked.findings);
    played.figure("commits taken back", spoilt.len() as f64);
    played.figure("ms to take them back", took.as_secs_f64() * 1000.0);
    played.figure("ms until level", checked.settled_millis as f64);
    Ok(played)
}

async fn put(
    client: &Client,
    node: &str,
    requests: &RequestKeys,
    prefix: &str,
    range: std::ops::Range<u64>,
    revision: u64,
) -> Result<CommitId, Error> {
    let edit = |i| Edit { name: name(DOCUMENTS, &format!("{prefix}{i:016x}")), operation: Operation::Put(record(i, revision)) };
    let write = Write { wait: Wait::DURABLE, ..Write::new(requests.draw(), range.map(edit).collect()) };
    Ok(client.commit(write).await.map_err(|failed| Error::call(node, failed))?.commit)
}

/// Returns the commits of a session on the promoted branch.
async fn of_session(client: &Client, node: &str, session: herdbook_model::id::SessionId) -> Result<Vec<CommitId>, Error> {
    let place = Place { repository: None, at: At::Branch(None) };
    let mut log = Log { session: Some(session), page_size: PAGE, ..Log::of(place) };
    let mut commits = Vec::new();
    loop {
        let page = client.log(log.clone()).await.map_err(|failed| Error::call(node, failed))?;
        commits.extend(page.commits.into_iter().map(|commit| commit.id));
        if page.next.is_empty() {
            return Ok(commits);
        }
        log.page_token = page.next;
    }
}
