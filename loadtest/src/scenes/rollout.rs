//! The next version of the schema, while everybody writes: what the old version was told is in the new one, with the new field, and what the new
//! one was told is not in the old. At the end the new version is the promoted one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use herdbook_model::{
    id::BranchName,
    value::{Scalar, Value},
};
use herdbook_proto::{
    ack::Wait,
    cluster::{Definition, StartSchema},
    document::At,
    edit::{Edit, Operation, Write},
};

use super::{Plan, Played, SETTLE, Stage, field, read_all, storm::plan_of};
use crate::{
    Error, check,
    node::{RequestKeys, connect, name},
    workload::{DOCUMENTS, record},
};

/// What a document of the old version has in the new field.
const DEFAULT: i64 = 7;

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn play(stage: &Stage, plan: &Plan) -> Result<Played, Error> {
    let (mut played, requests) = (Played::default(), RequestKeys::new()?);
    // A run of its own name, so that a cluster can be used again.
    let grade = format!("grade_{}", requests.run());
    let steps = format!(r#"[{{"add": {{"collection": "{DOCUMENTS}", "field": "{grade}", "type": "int", "default": {DEFAULT}}}}}]"#);
    let server = &stage.nodes[0];
    let authority = connect(server).await?;
    let call = |failed| Error::call(server, failed);
    let old = authority.schema(None).await.map_err(call)?.branch.name;
    let writing = plan_of(plan);
    let (written, started) = tokio::join!(check::write(&stage.ends, &writing), async {
        tokio::time::sleep(Duration::from_millis(plan.millis / 3)).await;
        let start = StartSchema { repository: None, branch: None, from: None, definition: Definition::Steps(steps), dry_run: false };
        let begun = Instant::now();
        let started = authority.start_schema(start).await;
        (begun.elapsed(), started)
    });
    let (took, started) = started;
    let new = started.map_err(call)?.branch.name;
    let written = written?;
    let (prefix, acknowledged) = (written.prefix.clone(), written.ledger.acknowledged());
    let checked = check::compare(&stage.nodes, written, SETTLE).await?;
    played.acknowledged = acknowledged;
    played.failures = checked.failures;
    played.findings.extend(checked.findings);
    carried_over(stage, &old, &new, &prefix, &grade, &mut played).await?;

    let (extra, end) = (format!("{prefix}new"), &stage.ends[0]);
    let mut write = Write::new(requests.draw(), vec![Edit { name: name(DOCUMENTS, &extra), operation: Operation::Create(record(1, 0)) }]);
    (write.branch, write.wait) = (Some(new.clone()), Wait::DURABLE);
    connect(end).await?.commit(write).await.map_err(|failed| Error::call(end, failed))?;
    check::settle(&stage.nodes, SETTLE).await?;
    for node in &stage.nodes {
        for (branch, is_wanted) in [(&old, false), (&new, true)] {
            let found = !read_all(node, &At::Branch(Some(branch.clone())), DOCUMENTS, &extra).await?.is_empty();
            if found != is_wanted {
                played.break_rule(node, "edits go from the old version to the new one and never back", format!("{branch}: {found}"));
            }
        }
    }
    let begun = Instant::now();
    authority.promote_schema(new.clone()).await.map_err(call)?;
    for node in &stage.nodes {
        let client = connect(node).await?;
        while client.schema(None).await.map_err(|failed| Error::call(node, failed))?.branch.name != new {
            if begun.elapsed() > SETTLE {
                played.break_rule(node, "the new version is promoted everywhere", "it is not");
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    played.figure("ms until the version was started", took.as_secs_f64() * 1000.0);
    played.figure("ms until it was promoted everywhere", begun.elapsed().as_secs_f64() * 1000.0);
    Ok(played)
}

/// Compares what both versions hold of what was written to the old one.
async fn carried_over(
    stage: &Stage,
    old: &BranchName,
    new: &BranchName,
    prefix: &str,
    grade: &str,
    played: &mut Played,
) -> Result<(), Error> {
    let begun = Instant::now();
    for node in &stage.nodes {
        let before = read_all(node, &At::Branch(Some(old.clone())), DOCUMENTS, prefix).await?;
        let before: BTreeMap<_, _> = before.into_iter().map(|found| (found.name.key.to_string(), found.fields)).collect();
        loop {
            let after = read_all(node, &At::Branch(Some(new.clone())), DOCUMENTS, prefix).await?;
            let is_same = |found: &herdbook_proto::document::Document| {
                let others: BTreeSet<_> = found.fields.iter().filter(|(name, _)| ***name != *grade).collect();
                field(found, grade) == Some(&Value::Scalar(Scalar::Int(DEFAULT)))
                    && before.get(&found.name.key.to_string()).is_some_and(|fields| fields.iter().collect::<BTreeSet<_>>() == others)
            };
            let same = after.iter().filter(|found| is_same(found)).count();
            if same == before.len() && same == after.len() {
                break;
            }
            // The authority carries over what it accepted, a little later.
            if begun.elapsed() > SETTLE {
                let found = format!("{} documents before, {} after, {same} of them the same", before.len(), after.len());
                played.break_rule(node, "what the old version holds is in the new one", found);
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    played.figure("ms until all was in the new version, compared", begun.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}
