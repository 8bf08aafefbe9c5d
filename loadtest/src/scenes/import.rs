//! Bulk import: many documents in large requests at one server. Every member must hold each of them, as it was written.

use std::{collections::BTreeMap, time::Instant};

use herdbook_proto::{ack::Wait, document::At};

use super::{Plan, Played, Stage, read_all, settle};
use crate::{
    Error,
    load::fill,
    node::connect_many,
    workload::{Content, DOCUMENTS, key, revision},
};

/// What the keys of the workload's documents begin with.
const PREFIX: &str = "doc/";

pub(super) async fn play(stage: &Stage, plan: &Plan) -> Result<Played, Error> {
    let mut played = Played::default();
    let count = plan.clients.clamp(1, 16);
    let connections = connect_many(&stage.ends[..1], count, Content::Record, Wait::DURABLE).await?;
    let begun = Instant::now();
    fill(&connections, plan.documents).await?;
    let seconds = begun.elapsed().as_secs_f64();
    settle(stage, &mut played).await?;
    let numbers: BTreeMap<_, _> = (0..plan.documents).map(|i| (key(i), i)).collect();
    for node in &stage.nodes {
        let documents = read_all(node, &At::Branch(None), DOCUMENTS, PREFIX).await?;
        let is_whole = |found: &herdbook_proto::document::Document| {
            numbers.get(&found.name.key.to_string()).is_some_and(|i| revision(*i, &found.fields) == Some(0))
        };
        let whole = documents.iter().filter(|found| is_whole(found)).count() as u64;
        if whole != plan.documents || documents.len() as u64 != plan.documents {
            let found = format!("{} documents, {whole} of {} as they were written", documents.len(), plan.documents);
            played.break_rule(node, "each document is held, and no other", found);
        }
    }
    played.acknowledged = plan.documents;
    played.figure("documents a second", plan.documents as f64 / seconds);
    Ok(played)
}
