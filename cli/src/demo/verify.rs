//! The proof: a process of its own walks a restored store, and holds every acknowledgement and the stores of the survivors against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use clap::Args;
use herdbook_model::id::{BranchName, CommitId};
use herdbook_proto::{client::Client, history::Fate};

use super::{
    holdings::{self, Holdings, Sole},
    insist,
    ledger::{self, Acknowledged, Record},
    walk::{self, Walk},
    written::Written,
};
use crate::{
    connection::{Connection, Global},
    errors::Error,
    output::{counted, thousands},
};

/// What is held against what.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The acknowledgements, one a line
    #[arg(long, value_name = "FILE")]
    acknowledged: PathBuf,
    /// A commit whose edits must be listed as lost; nothing else may be
    #[arg(long, value_name = "COMMIT")]
    lost: Vec<String>,
    /// A member whose data survived: its heads must be there, and the same documents
    #[arg(long, value_name = "ENDPOINT")]
    like: Vec<String>,
}

/// The walk of each branch.
type Walks = BTreeMap<BranchName, Walk>;

/// Checks that every acknowledged commit is there, with each document as it was written, under the heads of its branch.
pub(crate) async fn verify(global: &Global, args: VerifyArgs) -> Result<(), Error> {
    let restored = Connection::open(global).await?.client;
    let record = ledger::read(&args.acknowledged)?;
    let mut walks = Walks::new();
    for head in restored.heads().await? {
        let walk = Walk::from(&head, &walk::log(&restored, &head.branch).await?)?;
        walks.insert(head.branch, walk);
    }
    let walked: usize = walks.values().map(Walk::len).sum();
    println!("proof: a process of its own walked {} from the heads of {}", counted(walked as u64, "commit"), branches(&walks));
    acknowledged(&restored, &walks, &record, &args.lost).await?;
    heads(&walks, &record, &args.like).await?;
    documents(&restored, &walks, &record, &args).await
}

/// Insists that every acknowledged commit is in the walk and holds what was acknowledged.
async fn acknowledged(restored: &Client, walks: &Walks, record: &Record, lost: &[String]) -> Result<(), Error> {
    let (mut commits, mut edits) = (BTreeSet::new(), 0);
    for line in &record.acknowledged {
        let commit = id(&line.receipt.commit)?;
        insist(walk(walks, &line.receipt.branch)?.has(&commit), || format!("no head of {} leads to commit {commit}", line.receipt.branch))?;
        edits += request(restored, line, commit, lost.contains(&line.receipt.commit)).await?;
        commits.insert(commit);
    }
    let suffix = if lost.is_empty() { String::new() } else { format!("; {} is listed as lost, as it must be", lost.len()) };
    println!("proof: all {} acknowledged commits are among them, with {} document edits{suffix}", commits.len(), thousands(edits));
    Ok(())
}

/// Insists that a request is stored as it was acknowledged, or listed as lost. Returns how many of its edits are there.
async fn request(restored: &Client, line: &Acknowledged, commit: CommitId, is_lost: bool) -> Result<u64, Error> {
    let place = line.receipt.request;
    let shown = restored.show(commit).await?;
    insist(shown.commit.branch.as_str() == line.receipt.branch, || format!("commit {commit} is on branch {}", shown.commit.branch))?;
    let request = shown.requests.iter().find(|request| request.place == place);
    let request = request.ok_or_else(|| Error::Demo { what: format!("commit {commit} has no request {place}") })?;
    insist((request.fate == Fate::Lost) == is_lost, || format!("request {place} of commit {commit}: {:?}", request.fate))?;
    if is_lost {
        let named: Vec<_> = line.documents.keys().cloned().collect();
        insist(request.documents == named, || format!("lost are {:?}, not {named:?}", request.documents))?;
        return Ok(0);
    }
    let body = request.body.as_ref().ok_or_else(|| Error::Demo { what: format!("the edits of commit {commit} are not there") })?;
    let mut edited = BTreeSet::new();
    for edit in &body.edits {
        let (name, stored) = (edit.name.to_string(), Written::of(&edit.operation)?);
        let same = line.documents.get(&name).is_some_and(|written| written.is_kept_as(&stored));
        insist(same, || format!("commit {commit} holds something else for {name} than was acknowledged: {stored:?}"))?;
        edited.insert(name);
    }
    let whole = edited.len() == body.edits.len() && edited.len() == line.documents.len();
    insist(whole, || format!("commit {commit} has {} edits, not {}", body.edits.len(), line.documents.len()))?;
    Ok(edited.len() as u64)
}

/// Insists that every head is in the walk that a node had before the loss, or that a survivor has.
async fn heads(walks: &Walks, record: &Record, survivors: &[String]) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    for before in &record.heads {
        let walk = walk(walks, &before.branch)?;
        for commit in &before.commits {
            let commit = id(commit)?;
            insist(walk.has(&commit), || format!("{} had head {commit} of {}, which is gone", before.node, before.branch))?;
            known.insert(commit);
        }
    }
    let mut held = BTreeSet::new();
    for address in survivors {
        for head in Client::connect(&[address]).await?.heads().await? {
            let walk = walk(walks, head.branch.as_str())?;
            for commit in head.heads {
                insist(walk.has(&commit), || format!("{address} has head {commit} of {}, which is not in the walk", head.branch))?;
                held.insert(commit);
            }
        }
    }
    println!(
        "proof: so are {} that nodes had before the loss, and {} of {}",
        counted(known.len() as u64, "head"),
        counted(held.len() as u64, "head"),
        replicas(survivors)
    );
    Ok(())
}

/// Insists that the documents are those of the survivors, and that each which one request alone wrote is as it was written.
async fn documents(restored: &Client, walks: &Walks, record: &Record, args: &VerifyArgs) -> Result<(), Error> {
    let stands = |line: &&Acknowledged| !args.lost.contains(&line.receipt.commit);
    let said = record
        .acknowledged
        .iter()
        .filter(stands)
        .flat_map(|line| line.documents.iter().map(|(document, written)| (line.receipt.branch.as_str(), document.as_str(), written)));
    let (mut documents, mut written) = (0, 0);
    for branch in walks.keys() {
        // The nodes answer at the same time.
        let there: Vec<_> = args.like.iter().map(|address| tokio::spawn(survivor(address.clone(), branch.clone()))).collect();
        let sole = Sole::of(branch.as_str(), said.clone());
        let here = holdings::read(restored, branch, |document| sole.check(document)).await?;
        sole.check_missing(&here)?;
        for (address, there) in args.like.iter().zip(there) {
            let there = there.await.map_err(|error| Error::Demo { what: error.to_string() })??;
            let difference = holdings::difference(&here, &there);
            insist(difference.is_none(), || format!("{branch} is not what {address} has: {}", difference.unwrap_or_default()))?;
        }
        documents += here.len();
        written += sole.len();
    }
    println!("proof: {} are in the same versions at {}", counted(documents as u64, "document"), replicas(&args.like));
    println!("proof: each of {} that one request alone wrote holds exactly that", counted(written as u64, "document"));
    Ok(())
}

async fn survivor(address: String, branch: BranchName) -> Result<Holdings, Error> {
    let client = Client::connect(&[address]).await?;
    holdings::read(&client, &branch, |_| Ok(())).await
}

fn walk<'w>(walks: &'w Walks, branch: &str) -> Result<&'w Walk, Error> {
    let found = walks.iter().find(|(name, _)| name.as_str() == branch);
    found.map(|(_, walk)| walk).ok_or_else(|| Error::Demo { what: format!("branch {branch} is gone") })
}

fn id(commit: &str) -> Result<CommitId, Error> {
    CommitId::from_hex(commit).ok_or_else(|| Error::Demo { what: format!("`{commit}` is no commit") })
}

fn branches(walks: &Walks) -> String {
    walks.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn replicas(survivors: &[String]) -> String {
    counted(survivors.len() as u64, "surviving replica")
}
