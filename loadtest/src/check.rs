//! Whether a cluster keeps its word: clients write and note what was acknowledged; then every node is read whole and compared.
//!
//! Each client creates, changes and deletes documents of its own, so that the last acknowledgement of each says what must be there
//! ([`ledger`](crate::ledger)). Nodes are compared once all name the same state.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use herdbook_model::id::CommitId;
use herdbook_proto::{
    ack::Wait,
    client::Client,
    cluster::Head,
    document::Place,
    edit::{Edit, Operation, Write},
    read::List,
    status::Kind,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    connection::Failures,
    ledger::{Finding, Found, Held, Ledger},
    node::{RequestKeys, connect, name},
    workload::{DOCUMENTS, Rng, client_rng, record, revision},
};

/// How long a write whose end is unknown is asked about.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause before a call is repeated.
const PAUSE: Duration = Duration::from_millis(50);

/// Commits that are looked up at once.
const LOOK_UPS: usize = 32;

/// What the clients do, and what makes the result count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// How many clients write, spread over the nodes.
    pub clients: usize,
    /// How long, in milliseconds.
    pub millis: u64,
    /// Fewest acknowledged writes from which the result tells anything.
    pub least: u64,
    /// How long the nodes may take to come to the same state, in milliseconds.
    pub settle_millis: u64,
    /// Seed of the clients' choices.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Addresses of the nodes compared.
    pub nodes: Vec<String>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Commits that they went into.
    pub commits: u64,
    /// Documents written.
    pub documents: u64,
    /// Writes of which nobody knows the end.
    pub uncertain: u64,
    /// Writes that were refused.
    pub failures: Failures,
    /// Time from the last write until all nodes named the same state, in milliseconds.
    pub settled_millis: u64,
    /// Documents read, on all nodes together.
    pub read: u64,
    /// How nodes broke their word.
    pub findings: Vec<Finding>,
}

/// What clients wrote, and were told.
#[derive(Debug, Clone)]
pub struct Written {
    /// What was acknowledged.
    pub ledger: Ledger,
    /// What was refused.
    pub failures: Failures,
    /// What the keys of all documents begin with; nobody else writes such.
    pub prefix: String,
}

/// Writes, waits for all nodes to come to the same state, and compares.
///
/// # Errors
/// As [`write`] and [`compare`].
pub async fn check(nodes: &[String], plan: &Plan) -> Result<Checked, Error> {
    let written = write(nodes, plan).await?;
    compare(nodes, written, Duration::from_millis(plan.settle_millis)).await
}

/// Lets clients write for as long as the plan says.
///
/// # Errors
/// [`Error::TooLittle`] if fewer writes were acknowledged than the plan asks for; [`Error::Call`] if a node does not answer at first.
pub async fn write(nodes: &[String], plan: &Plan) -> Result<Written, Error> {
    let requests = Arc::new(RequestKeys::new()?);
    let prefix = format!("check/{}/", requests.run());
    let end = Instant::now() + Duration::from_millis(plan.millis);
    let mut writers = Vec::with_capacity(plan.clients);
    for (node, client) in nodes.iter().cycle().zip(0..plan.clients as u64) {
        let rng = client_rng(client, plan.seed);
        let writer = Writer { client: connect(node).await?, number: client, prefix: prefix.clone(), requests: Arc::clone(&requests), rng };
        writers.push(tokio::spawn(writer.run(end)));
    }
    let (mut ledger, mut failures) = (Ledger::default(), Failures::default());
    for written in join_all(writers).await {
        let (noted, failed) = written.expect("a client does not panic");
        ledger.add(noted);
        failures.add(failed);
    }
    let wanted = plan.least.max(1);
    if ledger.acknowledged() < wanted {
        return Err(Error::TooLittle { acknowledged: ledger.acknowledged(), wanted, failures });
    }
    Ok(Written { ledger, failures, prefix })
}

/// Waits until all nodes name the same state, for at most `patience`, and compares what each holds with what was acknowledged.
///
/// # Errors
/// [`Error::NotLevel`] if the nodes stay apart; [`Error::Call`] if a node cannot be read.
pub async fn compare(nodes: &[String], written: Written, patience: Duration) -> Result<Checked, Error> {
    let Written { ledger, failures, prefix } = written;
    let (settled, mut findings) = settle(nodes, patience).await?;
    let commits: Vec<_> = ledger.commits().iter().copied().collect();
    let mut read = 0;
    for node in nodes {
        let client = connect(node).await?;
        let found = read_all(&client, &prefix).await.map_err(|failed| Error::call(node, failed))?;
        read += found.len() as u64;
        findings.extend(ledger.judge(node, &found));
        findings.extend(missing_commits(&client, node, &commits).await?);
    }
    Ok(Checked {
        nodes: nodes.to_vec(),
        acknowledged: ledger.acknowledged(),
        commits: ledger.commits().len() as u64,
        documents: ledger.documents(),
        uncertain: ledger.uncertain(),
        failures,
        settled_millis: u64::try_from(settled.as_millis()).unwrap_or(u64::MAX),
        read,
        findings,
    })
}

/// Waits until all nodes name the same state of each branch. Returns how long that took, and where their roots differ nevertheless.
///
/// # Errors
/// [`Error::NotLevel`] if they stay apart for longer than `patience`; unreachable nodes are waited for as well.
pub async fn settle(nodes: &[String], patience: Duration) -> Result<(Duration, Vec<Finding>), Error> {
    let begun = Instant::now();
    loop {
        let mut heads = Vec::with_capacity(nodes.len());
        for node in nodes {
            heads.push((node.clone(), heads_of(node).await));
        }
        let known: Option<Vec<_>> = heads.iter().map(|(node, heads)| Some((node.clone(), heads.as_ref().ok()?.clone()))).collect();
        if known.is_some_and(|known| are_level(&known)) {
            let settled = begun.elapsed();
            // Roots are worked out once, not as often as it is looked; a node that wrote meanwhile, or went, is waited for again.
            match with_roots(nodes).await {
                Ok(whole) if are_level(&whole) => return Ok((settled, roots_apart(&whole))),
                Err(error) if begun.elapsed() >= patience => return Err(error),
                _ => {}
            }
        }
        if begun.elapsed() >= patience {
            let states = heads.iter().map(|(node, heads)| match heads {
                Ok(heads) => {
                    format!("{node} {}", heads.iter().map(|head| format!("{} {:?}", head.branch, head.state)).collect::<Vec<_>>().join(" "))
                }
                Err(error) => error.to_string(),
            });
            return Err(Error::NotLevel { waited: patience, states: states.collect::<Vec<_>>().join(", ") });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn heads_of(node: &str) -> Result<Vec<Head>, Error> {
    let client = connect(node).await?;
    client.heads_at_hand().await.map_err(|failed| Error::call(node, failed))
}

async fn with_roots(nodes: &[String]) -> Result<Vec<(String, Vec<Head>)>, Error> {
    let mut whole = Vec::with_capacity(nodes.len());
    for node in nodes {
        let heads = connect(node).await?.heads().await.map_err(|failed| Error::call(node, failed))?;
        whole.push((node.clone(), heads));
    }
    Ok(whole)
}

fn are_level(nodes: &[(String, Vec<Head>)]) -> bool {
    let states = |heads: &[Head]| heads.iter().map(|head| (head.branch.clone(), head.state)).collect::<BTreeMap<_, _>>();
    nodes.windows(2).all(|pair| states(&pair[0].1) == states(&pair[1].1)) && nodes.iter().all(|(_, heads)| !heads.is_empty())
}

/// Of nodes that are level: the branches for which they tell different roots. A root that was not computed tells nothing.
fn roots_apart(nodes: &[(String, Vec<Head>)]) -> Vec<Finding> {
    let mut branches: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (node, heads) in nodes {
        for head in heads {
            if let Some(root) = head.root {
                branches.entry(head.branch.to_string()).or_default().push((node.clone(), root));
            }
        }
    }
    let apart = branches.into_iter().filter(|(_, roots)| roots.windows(2).any(|pair| pair[0].1 != pair[1].1));
    let shown = |(branch, roots): (String, Vec<_>)| Finding::Apart {
        branch,
        roots: roots.into_iter().map(|(node, root): (String, herdbook_model::id::StateRoot)| (node, root.to_string())).collect(),
    };
    apart.map(shown).collect()
}

/// Reads all documents of a run: one state, page by page.
pub(crate) async fn read_all(client: &Client, prefix: &str) -> Result<BTreeMap<String, Found>, herdbook_proto::status::Failed> {
    let (mut found, mut page_token) = (BTreeMap::new(), Bytes::new());
    loop {
        let list = List {
            place: Place::NEWEST,
            collection: DOCUMENTS.into(),
            prefix: prefix.to_owned(),
            page_size: 1000,
            page_token,
            keys_only: false,
        };
        let page = client.list(list).await?;
        for document in page.documents {
            let key = document.name.key.to_string();
            let number = key.rsplit('/').next().and_then(|number| u64::from_str_radix(number, 16).ok());
            let revision = number.and_then(|number| revision(number, &document.fields)).filter(|_| document.conflicts.is_empty());
            found.insert(key, revision.map_or(Found::Altered, Found::Revision));
        }
        if page.next.is_empty() {
            return Ok(found);
        }
        page_token = page.next;
    }
}

pub(crate) async fn missing_commits(client: &Client, node: &str, commits: &[CommitId]) -> Result<Vec<Finding>, Error> {
    let look_up = |commit| async move {
        match client.show(commit).await {
            Ok(_) => Ok(None),
            Err(failed) if failed.kind == Kind::NotFound => {
                Ok(Some(Finding::MissingCommit { node: node.to_owned(), commit: commit.to_string() }))
            }
            Err(failed) => Err(Error::call(node, failed)),
        }
    };
    let found = stream::iter(commits.iter().copied().map(look_up)).buffered(LOOK_UPS);
    found.try_filter_map(|finding| async move { Ok(finding) }).try_collect().await
}

/// A client and its documents.
struct Writer {
    client: Client,
    number: u64,
    prefix: String,
    requests: Arc<RequestKeys>,
    rng: Rng,
}

enum End {
    Acknowledged(CommitId),
    Refused(herdbook_proto::status::Failed),
    Unknown(herdbook_proto::status::Failed),
}

impl Writer {
    async fn run(mut self, end: Instant) -> (Ledger, Failures) {
        let (mut ledger, mut failures) = (Ledger::default(), Failures::default());
        // Documents that exist, with their revision, and how many were ever made.
        let (mut live, mut made) = (Vec::<(u64, u64)>::new(), 0);
        while Instant::now() < end {
            let choice = if live.is_empty() { 0 } else { self.rng.below(10) };
            let (i, operation, held) = match choice {
                0..=4 => {
                    made += 1;
                    let i = self.number << 32 | made;
                    (i, Operation::Put(record(i, 0)), Held::Revision(0))
                }
                5..=8 => {
                    let at = self.rng.index(live.len());
                    let (i, revision) = live.swap_remove(at);
                    (i, Operation::Put(record(i, revision + 1)), Held::Revision(revision + 1))
                }
                _ => {
                    let at = self.rng.index(live.len());
                    (live.swap_remove(at).0, Operation::Delete, Held::Absent)
                }
            };
            let key = format!("{}{i:016x}", self.prefix);
            let ended = self.write(Edit { name: name(DOCUMENTS, &key), operation }).await;
            match ended {
                End::Acknowledged(commit) => {
                    ledger.acknowledge(&key, held, commit);
                    if let Held::Revision(revision) = held {
                        live.push((i, revision));
                    }
                }
                // Nothing of it was written, so what was acknowledged before still holds; the document is left alone from here on.
                End::Refused(failed) => failures.count(failed.into()),
                End::Unknown(failed) => {
                    ledger.doubt(&key, held);
                    failures.count(failed.into());
                }
            }
        }
        (ledger, failures)
    }

    /// Writes, and asks again with the same idempotency key for as long as the end is unknown.
    async fn write(&self, edit: Edit) -> End {
        let write = Write { wait: Wait::DURABLE, ..Write::new(self.requests.draw(), vec![edit]) };
        let begun = Instant::now();
        let mut is_doubtful = false;
        loop {
            let failed = match self.client.commit(write.clone()).await {
                Ok(ack) => return End::Acknowledged(ack.commit),
                Err(failed) => failed,
            };
            // A full queue refuses before it writes; all else that passes may have come after the write.
            let passes = matches!(failed.kind, Kind::Unknown | Kind::Unavailable | Kind::Internal | Kind::Exhausted);
            is_doubtful |= passes && failed.kind != Kind::Exhausted;
            if !passes || begun.elapsed() >= PATIENCE {
                return if is_doubtful { End::Unknown(failed) } else { End::Refused(failed) };
            }
            tokio::time::sleep(failed.retry_after.unwrap_or(PAUSE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use herdbook_model::id::{BranchName, FrontierName, Judgement, StateName, StateRoot};

    use super::*;

    fn head(branch: &str, state: u8, root: Option<u8>) -> Head {
        Head {
            branch: BranchName::new(branch).expect("well formed"),
            heads: Vec::new(),
            frontier: FrontierName([state; 32]),
            judgement: Judgement::NONE,
            state: StateName([state; 32]),
            root: root.map(|root| StateRoot([root; 32])),
            accepted_heads: Vec::new(),
            accepted: None,
            commits: 1,
            documents: 1,
            conflicts: 0,
        }
    }

    fn nodes(alice: Vec<Head>, bob: Vec<Head>) -> Vec<(String, Vec<Head>)> {
        vec![("alice".to_owned(), alice), ("bob".to_owned(), bob)]
    }

    #[test]
    fn nodes_are_level_when_they_name_the_same_state_of_each_branch() {
        let both = || vec![head("main@1", 1, None), head("main@2", 2, None)];
        assert!(are_level(&nodes(both(), both())));
        assert!(!are_level(&nodes(both(), vec![head("main@1", 1, None)])));
        assert!(!are_level(&nodes(both(), vec![head("main@1", 1, None), head("main@2", 3, None)])));
        assert!(!are_level(&nodes(Vec::new(), Vec::new())), "nodes that hold nothing agree on nothing");
    }

    #[test]
    fn different_roots_of_one_state_are_found_and_missing_ones_are_not() {
        let nodes =
            nodes(vec![head("main@1", 1, Some(1)), head("main@2", 2, None)], vec![head("main@1", 1, Some(9)), head("main@2", 2, Some(4))]);
        let findings = roots_apart(&nodes);
        assert!(matches!(&findings[..], [Finding::Apart { branch, roots }] if branch == "main@1" && roots.len() == 2), "{findings:?}");
    }

    #[tokio::test]
    async fn nodes_that_do_not_answer_are_named_when_patience_ends() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound").to_string();
        let error = settle(std::slice::from_ref(&free), Duration::ZERO).await.expect_err("nobody listens");
        assert!(matches!(&error, Error::NotLevel { states, .. } if states.contains(&free)), "{error}");
    }
}
