//! Offline: all replicas are cut off, people go on editing, and then all come back at once. Nothing that was acknowledged meanwhile may be lost.

use std::time::Instant;

use futures::future::join_all;
use herdbook_proto::document::At;

use super::{Plan, Played, SETTLE, Stage, read_all};
use crate::{Error, check, ledger::Finding, node::connect, workload::DOCUMENTS};

pub(super) async fn play(stage: &Stage, plan: &Plan) -> Result<Played, Error> {
    let (mut played, writing) = (Played::default(), plan_of(plan));
    check::settle(&stage.nodes, SETTLE).await?;
    set_online(&stage.ends, false).await?;
    let written = check::write(&stage.ends, &writing).await;
    // Whoever is left of the cluster goes back, whatever came of it.
    let seen = match (&written, stage.nodes.iter().find(|node| !stage.ends.contains(node))) {
        (Ok(written), Some(other)) => read_all(other, &At::Branch(None), DOCUMENTS, &written.prefix).await?.len(),
        _ => 0,
    };
    let begun = Instant::now();
    set_online(&stage.ends, true).await?;
    let written = written?;
    if seen > 0 || stage.ends.len() < 2 {
        let why = if seen > 0 { format!("{seen} documents came through") } else { "there is only one server".to_owned() };
        played.findings.push(Finding::NeverFired { fault: "servers cut off".to_owned(), why });
    }
    let edits = written.ledger.acknowledged();
    let checked = check::compare(&stage.nodes, written, SETTLE).await?;
    played.acknowledged = edits;
    played.failures = checked.failures;
    played.findings.extend(checked.findings);
    played.figure("edits while cut off", edits as f64);
    played.figure("servers that came back", stage.ends.len() as f64);
    played.figure("ms until level", checked.settled_millis as f64);
    played.figure("edits a second until all were read and compared", edits as f64 / begun.elapsed().as_secs_f64());
    Ok(played)
}

/// Returns the plan of what is written meanwhile.
pub(super) fn plan_of(plan: &Plan) -> check::Plan {
    let settle_millis = u64::try_from(SETTLE.as_millis()).unwrap_or(u64::MAX);
    check::Plan { clients: plan.clients, millis: plan.millis, least: 1, settle_millis, seed: plan.seed }
}

async fn set_online(nodes: &[String], online: bool) -> Result<(), Error> {
    let set = |node: &String| {
        let node = node.clone();
        async move { connect(&node).await?.set_online(online).await.map_err(|failed| Error::call(&node, failed)) }
    };
    join_all(nodes.iter().map(set)).await.into_iter().try_for_each(|was| was.map(drop))
}
