//! The proof: a process of its own walks a restored store and holds every acknowledgement against it.

use std::{collections::BTreeSet, path::PathBuf};

use clap::Args;
use herdbook_model::id::{BranchName, CommitId};
use herdbook_proto::history::Fate;

use super::{insist, ledger};
use crate::{
    connection::{Connection, Global},
    errors::Error,
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
}

/// Checks that every acknowledged commit is there, with each document as it was written, under the heads of its branch.
pub(crate) async fn verify(global: &Global, args: VerifyArgs) -> Result<(), Error> {
    let client = Connection::open(global).await?.client;
    let lines = ledger::read(&args.acknowledged)?;
    let heads = client.heads().await?;
    let (mut commits, mut documents) = (BTreeSet::new(), 0u64);
    for line in &lines {
        let id = CommitId::from_hex(&line.commit).ok_or_else(|| Error::Demo { what: format!("`{}` is no commit", line.commit) })?;
        let shown = client.show(id).await?;
        insist(shown.commit.branch.as_str() == line.branch, || format!("commit {id} is on branch {}", shown.commit.branch))?;
        let request = shown.requests.iter().find(|request| request.place == line.request);
        let request = request.ok_or_else(|| Error::Demo { what: format!("commit {id} has no request {}", line.request) })?;
        let expected_lost = args.lost.contains(&line.commit);
        insist((request.fate == Fate::Lost) == expected_lost, || format!("request {} of commit {id}: {:?}", line.request, request.fate))?;
        commits.insert(id);
        if expected_lost {
            let named: Vec<_> = line.documents.keys().cloned().collect();
            insist(request.documents == named, || format!("lost are {:?}, not {named:?}", request.documents))?;
            continue;
        }
        let body = request.body.as_ref().ok_or_else(|| Error::Demo { what: format!("the edits of commit {id} are not there") })?;
        insist(body.edits.len() == line.documents.len(), || {
            format!("commit {id} has {} edits, not {}", body.edits.len(), line.documents.len())
        })?;
        for edit in &body.edits {
            let written = line.documents.get(&edit.name.to_string());
            let same = match (written, ledger::fields(&edit.operation)) {
                (Some(None), None) => true,
                // An empty set is an absent field, and what was there already is not written twice.
                (Some(Some(written)), Some(stored)) => stored.iter().all(|(name, value)| written.get(name) == Some(value)),
                _ => false,
            };
            insist(same, || format!("commit {id} holds something else for {} than was acknowledged", edit.name))?;
            documents += 1;
        }
    }
    let known: BTreeSet<BranchName> = heads.iter().map(|head| head.branch.clone()).collect();
    for branch in lines.iter().map(|line| &line.branch).collect::<BTreeSet<_>>() {
        insist(known.iter().any(|name| name.as_str() == branch), || format!("branch {branch} is gone"))?;
    }
    for head in &heads {
        insist(!head.heads.is_empty(), || format!("branch {} has no head", head.branch))?;
        for id in &head.heads {
            client.show(*id).await?;
        }
    }
    println!(
        "proof: a process of its own found all {} acknowledged commits ({documents} document edits) and {} branch heads{}",
        commits.len(),
        heads.len(),
        if args.lost.is_empty() { String::new() } else { format!("; {} is listed as lost, as it must be", args.lost.len()) }
    );
    Ok(())
}
