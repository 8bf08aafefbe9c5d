//! `fsck`: every hash, signature and link of a data folder, and each state against a replay from nothing. And the fault that `fsck` and
//! `restore` are practised on.

use std::{path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use herdbook_model::id::CommitId;
use herdbook_replica::{
    Repository,
    clock::SystemClock,
    keys,
    repository::{Finding, Identity, Settings as RepositorySettings},
};
use herdbook_store::{RocksStore, Settings, Table, fault, rocks::Recovery};
use serde_json::{Value as Json, json};

use crate::{
    backup::STORE,
    connection::Global,
    errors::Error,
    moment,
    output::{Output, Style, counted, short},
    progress::{Progress, Unit},
};

/// Checks the data folder of a member that does not run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook fsck --data /var/lib/herdbook/r1
  herdbook fsck --data r1 --repair       keeps what can be read of a damaged folder
  herdbook fsck --data r1 --json | jq '.findings[] | select(.finding == \"lost edits\")'

Checks the hash and signature of every commit, the edits of every request, the links between commits, every tree, and the root of every branch
against a replay of its whole history. A document counts once for each branch that has it. Exits with 8 if anything is wrong.

A folder that holds less than was acknowledged, or whose log is damaged, is refused. With --repair it is opened with what is left of it: what
is gone is gone from this folder, and comes back from peers once the member runs. Copy the folder first if no peer has the rest. Where not even
that opens, move the folder away and let the member join anew.

With --json: {\"commits\", \"requests\", \"documents\", \"seconds\", \"findings\": [{\"finding\", …}]}")]
pub(crate) struct FsckArgs {
    /// The member's data folder
    #[arg(long, value_name = "DIR", env = "HERDBOOK_DATA")]
    data: PathBuf,
    /// Open a damaged folder with what is left of it
    #[arg(long)]
    repair: bool,
}

/// Checks a data folder.
pub(crate) fn fsck(global: &Global, args: &FsckArgs) -> Result<(), Error> {
    let out = global.output();
    let store = RocksStore::open(args.data.join(STORE), &Settings { create: false, repair: args.repair, ..Settings::default() })?;
    match store.recovery() {
        Recovery::Whole => {}
        Recovery::Cut { found } => out.note(format!(
            "what came after write {found} was cut off, as a power cut leaves it; nothing acknowledged as durable is missing"
        )),
        Recovery::Lost { expected, found } => {
            let expected = expected.map_or_else(|| "more".to_owned(), |expected| format!("write {expected}"));
            out.note(format!("repaired: it holds everything up to write {found}; it held {expected} when that was acknowledged"));
        }
    }
    let recovery = recovery_form(&store.recovery());
    let mut progress = Progress::begin(&out, "fsck", Unit::Things("commits"), None);
    // Nothing is signed here: any key will do.
    let identity = Identity { replica: keys::generate().map_err(herdbook_replica::Error::from)?, genesis: None };
    let repository = Repository::open(Arc::new(store), identity, Arc::new(SystemClock), RepositorySettings::default())?;
    let report = repository.fsck(|commits| progress.at(commits, commits))?;
    let took = progress.end();

    if out.is_json() {
        let findings: Vec<_> = report.findings.iter().map(form).collect();
        out.json(&json!({
            "commits": report.commits,
            "requests": report.requests,
            "documents": report.documents,
            "seconds": took.as_secs_f64(),
            "recovery": recovery,
            "findings": findings,
        }))?;
    } else {
        for finding in &report.findings {
            out.line(line(&out, finding))?;
        }
        let (commits, requests) = (counted(report.commits, "commit"), counted(report.requests, "request"));
        let documents = counted(report.documents, "document");
        out.line(format!("{commits}, {requests}, {documents} checked in {}", moment::span(took)))?;
    }
    match report.findings.len() {
        0 => Ok(()),
        count => Err(Error::Findings { count, path: args.data.clone() }),
    }
}

/// Returns what the opening of the store did. `found` and `expected` count writes.
fn recovery_form(recovery: &Recovery) -> Json {
    match recovery {
        Recovery::Whole => json!({ "outcome": "whole" }),
        Recovery::Cut { found } => json!({ "outcome": "cut", "found": found.0 }),
        Recovery::Lost { expected, found } => json!({ "outcome": "repaired", "expected": expected.map(|write| write.0), "found": found.0 }),
    }
}

fn form(finding: &Finding) -> Json {
    match finding {
        Finding::BadCommit { commit, why } => json!({ "finding": "bad commit", "commit": commit, "why": why }),
        Finding::LostEdits { commit, request, documents } => {
            json!({ "finding": "lost edits", "commit": commit.to_string(), "request": request, "documents": documents })
        }
        Finding::BadTree { branch, why } => json!({ "finding": "bad tree", "branch": branch.as_str(), "why": why }),
        Finding::WrongRoot { branch, held, replayed } => {
            json!({ "finding": "wrong root", "branch": branch.as_str(), "held": held.to_string(), "replayed": replayed.to_string() })
        }
    }
}

fn line(out: &Output, finding: &Finding) -> String {
    let (what, text) = match finding {
        Finding::BadCommit { commit, why } => ("bad commit", format!("{commit}: {why}")),
        Finding::LostEdits { commit, request, documents } => {
            let documents = if documents.is_empty() { "documents not known".to_owned() } else { documents.join(", ") };
            ("lost edits", format!("commit {commit} request {request}: {documents}"))
        }
        Finding::BadTree { branch, why } => ("bad tree  ", format!("branch {branch}: {why}")),
        Finding::WrongRoot { branch, held, replayed } => {
            ("wrong root", format!("branch {branch}: it is {}, its history gives {}", short(held), short(replayed)))
        }
    };
    format!("{}  {text}", out.paint(Style::Alarm, what))
}

/// Faults made on purpose, to practise on.
#[derive(Debug, Subcommand)]
pub(crate) enum DrillCommand {
    /// Change a byte of a request's stored edits, past every checksum of the engine
    #[command(after_help = "Example:\n  herdbook drill corrupt-edit --data r3 --commit 3f9c… --request 0")]
    CorruptEdit(CorruptArgs),
}

/// Which request.
#[derive(Debug, Args)]
pub(crate) struct CorruptArgs {
    /// The data folder of a member that does not run
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The commit, 64 hex digits
    #[arg(long, value_name = "COMMIT", value_parser = |text: &str| CommitId::from_hex(text).ok_or("a commit has 64 hex digits"))]
    commit: CommitId,
    /// Its request, from 0
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    request: u32,
    /// Which byte of the record
    #[arg(long, value_name = "NUMBER", default_value_t = 40)]
    offset: usize,
}

/// Does what `command` says.
pub(crate) fn drill(global: &Global, DrillCommand::CorruptEdit(args): &DrillCommand) -> Result<(), Error> {
    let out = global.output();
    out.confirm(&format!("Damage the store in {}?", args.data.display()), global.yes)?;
    let key = [args.commit.as_bytes().as_slice(), &args.request.to_be_bytes()].concat();
    if !fault::corrupt_record(&args.data.join(STORE), Table::Edits, &key, args.offset)? {
        return Err(Error::NoSuchRequest { commit: args.commit, request: args.request, path: args.data.clone() });
    }
    let form = || json!({ "commit": args.commit.to_string(), "request": args.request, "offset": args.offset });
    out.either(form, || format!("one byte of request {} of commit {} is changed", args.request, short(&args.commit)))
}
