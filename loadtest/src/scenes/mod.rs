//! Named workloads: what people do with it, each with a check of its own. Whatever a scene measures, its verdict is about what members hold in
//! the end, and one in which too little was done fails.

mod chat;
mod import;
mod pages;
mod revert;
mod rollout;
mod storm;

use std::{collections::BTreeMap, fmt, time::Duration};

use herdbook_model::value::Value;
use herdbook_proto::{
    ack::{Ack, Wait},
    client::Client,
    document::{At, Document, Place},
    edit::{Edit, Operation, Write},
    read::List,
    status::Failed,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, check,
    connection::Failures,
    ledger::Finding,
    node::{RequestKeys, connect, name},
    percentiles::Percentiles,
};

/// How long members may take to come to the same state.
const SETTLE: Duration = Duration::from_secs(120);

/// Documents of a page.
const PAGE: u32 = 1000;

/// The named workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scene {
    /// Messages are appended to rooms, and everybody in a room watches it.
    Chat,
    /// A few texts that everybody edits at once.
    Pages,
    /// Replicas are cut off, edited, and meet again all at once.
    Storm,
    /// What one session did is taken back while others go on.
    Revert,
    /// The next version of the schema comes while everybody writes.
    Rollout,
    /// Many documents at once.
    Import,
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Chat => "chat",
            Self::Pages => "pages",
            Self::Storm => "storm",
            Self::Revert => "revert",
            Self::Rollout => "rollout",
            Self::Import => "import",
        })
    }
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Which workload.
    pub scene: Scene,
    /// How many clients there are, spread over the servers.
    pub clients: usize,
    /// How long they work, in milliseconds; an import takes as long as it takes.
    pub millis: u64,
    /// Documents of an import.
    pub documents: u64,
    /// Fewest acknowledged writes from which the result tells anything.
    pub least: u64,
    /// Seed of the clients' choices.
    pub seed: u64,
}

/// Where it is done.
#[derive(Debug, Clone)]
pub struct Stage {
    /// All members that are known, the coordinator first if it was started for the run.
    pub nodes: Vec<String>,
    /// Those that clients work at.
    pub ends: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Played {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Figures, by name and with their unit.
    pub figures: BTreeMap<String, f64>,
    /// How long things took.
    pub times: BTreeMap<String, Percentiles>,
    /// What failed.
    pub failures: Failures,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

impl Played {
    fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    fn break_rule(&mut self, node: &str, rule: &str, found: impl Into<String>) {
        self.findings.push(Finding::Rule { node: node.to_owned(), rule: rule.to_owned(), found: found.into() });
    }
}

/// Plays a scene and checks what came of it.
///
/// # Errors
/// If members cannot be reached, refuse what the scene needs, or do not come to the same state.
pub async fn play(stage: &Stage, plan: &Plan) -> Result<Played, Error> {
    let mut played = match plan.scene {
        Scene::Chat => chat::play(stage, plan).await?,
        Scene::Pages => pages::play(stage, plan).await?,
        Scene::Storm => storm::play(stage, plan).await?,
        Scene::Revert => revert::play(stage, plan).await?,
        Scene::Rollout => rollout::play(stage, plan).await?,
        Scene::Import => import::play(stage, plan).await?,
    };
    let wanted = plan.least.max(1);
    if played.acknowledged < wanted {
        let what = "writes acknowledged".to_owned();
        played.findings.push(Finding::TooLittle { what, actual: played.acknowledged, wanted });
    }
    Ok(played)
}

/// Waits until all members are at the same state, and notes how long that took and what is wrong with it.
async fn settle(stage: &Stage, played: &mut Played) -> Result<(), Error> {
    let (settled, apart) = check::settle(&stage.nodes, SETTLE).await?;
    played.figure("ms until level", settled.as_secs_f64() * 1000.0);
    played.findings.extend(apart);
    Ok(())
}

/// Returns all documents of a collection whose keys begin so, as a member shows them at a place.
async fn read_all(node: &str, at: &At, collection: &str, prefix: &str) -> Result<Vec<Document>, Error> {
    let client = connect(node).await?;
    let (mut documents, mut page_token) = (Vec::new(), bytes::Bytes::new());
    loop {
        let place = Place { repository: None, at: at.clone() };
        let list = List { place, collection: collection.into(), prefix: prefix.to_owned(), page_size: PAGE, page_token, keys_only: false };
        let page = client.list(list).await.map_err(|failed| Error::call(node, failed))?;
        documents.extend(page.documents);
        if page.next.is_empty() {
            return Ok(documents);
        }
        page_token = page.next;
    }
}

/// Writes one document durably.
async fn write(client: &Client, requests: &RequestKeys, collection: &str, key: &str, operation: Operation) -> Result<Ack, Failed> {
    let edit = Edit { name: name(collection, key), operation };
    client.commit(Write { wait: Wait::DURABLE, ..Write::new(requests.draw(), vec![edit]) }).await
}

/// Returns a field of a document.
fn field<'a>(document: &'a Document, name: &str) -> Option<&'a Value> {
    document.fields.get(name)
}
