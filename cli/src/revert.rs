//! `revert`: taking back what commits, a session, or a stretch of history did, in all documents or in some.

use std::sync::Arc;

use clap::Args;
use herdbook_model::{id::SessionId, value::Key};
use herdbook_proto::history::Revert;
use serde_json::json;

use crate::{
    connection::{Connection, Global, Writing},
    document::acknowledged,
    errors::Error,
    forms,
    moment::Moment,
    names::Scope,
    output::counted,
};

/// Takes back what commits did and nobody changed since.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook revert 3f9c12ab44d0
  herdbook revert 3f9c12ab44d0 81d0c2aa91b3 -m 'wrong file imported'
  herdbook revert --session 4be0… --dry-run          what one run of one member did
  herdbook revert --back-to 10m                      everything, back to ten minutes ago
  herdbook revert --back-to 10m --only cities/9      one document
  herdbook revert --back-to 3f9c12ab44d0 --until 81d0c2aa91b3      a stretch of history

A revert is a new commit, or several where much is taken back: others' later edits stay, and it can be reverted itself.
With --json: {\"ack\": {…} or null, \"edits\", \"commits\", \"documents\", \"left\", \"skipped\": [{\"document\", \"field\", \"reason\"}]}")]
pub(crate) struct RevertArgs {
    /// The commits: 64 hex digits, or the first 6 or more
    #[arg(value_name = "COMMIT", required_unless_present_any = ["session", "back_to", "until", "only"])]
    commits: Vec<Moment>,
    /// What this session did (64 hex digits)
    #[arg(long, value_name = "SESSION", value_parser = |text: &str| SessionId::from_hex(text).ok_or("a session has 64 hex digits"))]
    session: Option<SessionId>,
    /// What was done since: a commit, a time, or 10m for ten minutes ago
    #[arg(long, value_name = "MOMENT")]
    back_to: Option<Moment>,
    /// What was done up to there
    #[arg(long, value_name = "MOMENT")]
    until: Option<Moment>,
    /// Only in this collection, or in this document as COLLECTION/KEY
    #[arg(long, value_name = "WHAT")]
    only: Option<Scope>,
    /// Only tell what would happen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    writing: Writing,
}

/// Takes back what commits did.
pub(crate) async fn revert(global: &Global, args: RevertArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let mut commits = Vec::with_capacity(args.commits.len());
    for commit in &args.commits {
        commits.push(connection.commit(commit).await?);
    }
    let (collection, key) = args.only.map_or(Ok((None, None)), document_or_collection)?;
    let mut moments = [None, None];
    for (at, moment) in [&args.back_to, &args.until].into_iter().enumerate() {
        if let Some(moment) = moment {
            moments[at] = Some(connection.at(Some(moment)).await?);
        }
    }
    let [since, until] = moments;
    let revert = Revert {
        repository: None,
        branch: connection.branch.clone(),
        commits,
        session: args.session,
        since,
        until,
        collection,
        key,
        dry_run: args.dry_run,
        request: Some(args.writing.key()?),
        message: args.writing.message.clone(),
        wait: connection.wait(&args.writing.awaiting),
    };
    let reverted = connection.client.revert(revert).await?;
    if out.is_json() {
        let skipped = reverted
            .skipped
            .iter()
            .map(|skipped| json!({ "document": skipped.name.to_string(), "field": skipped.field.as_deref(), "reason": skipped.reason }));
        let skipped: Vec<_> = skipped.collect();
        return out.json(&json!({
            "ack": reverted.ack.as_ref().map(forms::ack),
            "edits": reverted.edits,
            "commits": reverted.commits.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "documents": reverted.documents.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "left": reverted.left,
            "skipped": skipped,
        }));
    }
    let edits = counted(reverted.edits, "document");
    match &reverted.ack {
        Some(ack) => {
            out.line(format!("took back edits of {edits}; {}", acknowledged(&out, ack)))?;
            if reverted.commits.len() > 1 {
                out.note(format!("made of {}", counted(reverted.commits.len() as u64, "commit")));
            }
        }
        None if args.dry_run && reverted.edits > 0 => {
            out.note(format!("would take back edits of {edits}:"));
            reverted.documents.iter().try_for_each(|name| out.line(name))?;
            if reverted.edits > reverted.documents.len() as u64 {
                out.note(format!("and {} more", reverted.edits - reverted.documents.len() as u64));
            }
        }
        None => out.line("nothing is left to take back; nothing was written")?,
    }
    for skipped in &reverted.skipped {
        let field = skipped.field.as_deref().map_or_else(String::new, |field| format!(", field `{field}`"));
        out.note(format!("stays: {}{field}: {}", skipped.name, skipped.reason));
    }
    if reverted.left > reverted.skipped.len() as u64 {
        out.note(format!("and {} more stay", reverted.left - reverted.skipped.len() as u64));
    }
    Ok(())
}

fn document_or_collection(Scope { collection, prefix }: Scope) -> Result<(Option<Arc<str>>, Option<Key>), Error> {
    if prefix.is_empty() {
        return Ok((Some(collection), None));
    }
    Ok((Some(collection), Some(Key::new(prefix).map_err(|error| Error::argument("--only", error))?)))
}
