//! Stored conflicts: `conflicts list|show|resolve`.

use std::sync::Arc;

use clap::{ArgGroup, Args, Subcommand};
use herdbook_model::{
    id::Leaf,
    json::{deletes_name, policy_name},
};
use herdbook_proto::{
    edit::Operation,
    history::{Choice, Conflicts, Inspect, Inspected, Kept, NewestEdit, Resolve},
    limits,
};

use crate::{
    connection::{Connection, Global, Reading, Writing},
    document::{acknowledge, current, shown, version},
    errors::Error,
    forms,
    moment::readable,
    names::{DocumentName, value},
    output::{Output, Style, counted, short},
};

/// Fields whose concurrent values are kept side by side until somebody resolves them.
#[derive(Debug, Subcommand)]
pub(crate) enum ConflictsCommand {
    /// List documents in conflict
    #[command(after_help = "\
Examples:
  herdbook conflicts list
  herdbook conflicts list cities --json      a document a line, as `get --json` shows it")]
    List(ListArgs),
    /// Show what a document holds: concurrent edits, and by which rule each field is read
    #[command(after_help = "\
Examples:
  herdbook conflicts show cities/2950159
  herdbook conflicts show cities/2950159 --json    {\"document\", \"newest\", \"deletes\", \"alive\", \"fields\"}

Works for documents without conflict too: it shows which concurrent edits there were and which one is read.")]
    Show(ShowArgs),
    /// Resolve the conflict of a field
    #[command(after_help = "\
Examples:
  herdbook conflicts resolve cities/2950159 mayor --sibling 0        by number, as `conflicts show` lists them
  herdbook conflicts resolve cities/2950159 mayor --value 'K. Wegner'
  herdbook conflicts resolve cities/2950159 mayor --clear -m 'not known'")]
    Resolve(ResolveArgs),
}

/// Which documents.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only this collection
    collection: Option<String>,
    #[command(flatten)]
    reading: Reading,
}

/// Which document.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The document, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT")]
    document: DocumentName,
    #[command(flatten)]
    reading: Reading,
}

/// How a conflict is resolved.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("choice").required(true).args(["value", "clear", "sibling"])))]
pub(crate) struct ResolveArgs {
    /// The document, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT")]
    document: DocumentName,
    /// The field
    field: String,
    /// The field becomes this
    #[arg(long, value_name = "VALUE")]
    value: Option<String>,
    /// The field becomes absent
    #[arg(long)]
    clear: bool,
    /// The field becomes the sibling of this number, from 0
    #[arg(long, value_name = "NUMBER")]
    sibling: Option<u32>,
    /// Refuse if the document is not at this version; for --sibling, the version it has now if left out
    #[arg(long, value_name = "VERSION", value_parser = version)]
    if_version: Option<Leaf>,
    #[command(flatten)]
    writing: Writing,
}

/// Does what `command` says.
pub(crate) async fn conflicts(global: &Global, command: ConflictsCommand) -> Result<(), Error> {
    match command {
        ConflictsCommand::List(args) => list(global, args).await,
        ConflictsCommand::Show(args) => show(global, args).await,
        ConflictsCommand::Resolve(args) => resolve(global, args).await,
    }
}

async fn list(global: &Global, args: ListArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let place = connection.place(&args.reading).await?;
    let mut asked =
        Conflicts { place, collection: args.collection.map(Arc::from), page_size: limits::PAGE, page_token: bytes::Bytes::new() };
    let mut rows = Vec::new();
    loop {
        let page = connection.client.conflicts(asked.clone()).await?;
        for document in &page.documents {
            if out.is_json() {
                out.json(&forms::document(document))?;
                continue;
            }
            rows.extend(document.conflicts.iter().map(|conflict| {
                let siblings: Vec<_> = conflict.siblings.iter().map(|sibling| shown(sibling.value.as_ref())).collect();
                [document.name.to_string(), place_of(conflict), siblings.join(" | ")]
            }));
            if !document.deletes.is_empty() {
                rows.push([document.name.to_string(), "(document)".to_owned(), "edited | deleted".to_owned()]);
            }
        }
        if page.next.is_empty() {
            break;
        }
        asked.page_token = page.next;
    }
    match rows.len() {
        _ if out.is_json() => Ok(()),
        0 => {
            out.note("no document is in conflict");
            Ok(())
        }
        _ => out.table(["DOCUMENT", "FIELD", "SIBLINGS"], rows),
    }
}

async fn show(global: &Global, args: ShowArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let place = connection.place(&args.reading).await?;
    let name = args.document.0;
    let inspected = connection.client.inspect(Inspect { place, name: name.clone() }).await?;
    if out.is_json() {
        return out.json(&forms::inspected(&inspected));
    }
    let title = out.paint(Style::Name, &name);
    match &inspected.document {
        Some(document) => out.line(format!("{title}  version {}", document.version))?,
        None => out.line(format!("{title}  {}", out.paint(Style::Removed, "deleted")))?,
    }
    if inspected.newest.len() > 1 {
        apart(&out, &inspected)?;
    }
    let conflicts = inspected.document.iter().flat_map(|document| &document.conflicts);
    for conflict in conflicts {
        out.line(format!("\nfield `{}` is in {}:", place_of(conflict), out.paint(Style::Alarm, "conflict")))?;
        for (at, sibling) in conflict.siblings.iter().enumerate() {
            let (value, commit, time) = (shown(sibling.value.as_ref()), short(&sibling.commit), readable(sibling.time));
            out.line(format!("  {at}: {value}  by {commit} at {time}"))?;
        }
    }
    let kept: Vec<_> = inspected.fields.iter().flat_map(kept_rows).collect();
    out.line("")?;
    out.table(["FIELD", "POLICY", "VALUE", "READ", "COMMIT", "TIME"], kept)
}

/// Shows edits that were made apart, and what decides between a delete and an edit.
fn apart(out: &Output, inspected: &Inspected) -> Result<(), Error> {
    out.line(format!("{} made apart from each other:", counted(inspected.newest.len() as u64, "edit")))?;
    for NewestEdit { origin, edit } in &inspected.newest {
        let form = forms::edit(edit);
        let operation = form["operation"].as_str().unwrap_or_default();
        out.line(format!("  {} at {}: {operation}", short(&origin.commit), readable(origin.time)))?;
        for (field, value) in form["fields"].as_object().into_iter().flatten() {
            out.line(format!("         {field}: {value}"))?;
        }
    }
    let deletes = inspected.newest.iter().filter(|newest| newest.edit.operation == Operation::Delete).count();
    if (1..inspected.newest.len()).contains(&deletes) {
        out.line(format!("  a delete against an edit: {}", deletes_name(inspected.deletes)))?;
    }
    out.line("")
}

/// Names the field, or the entry in it, that is in conflict.
fn place_of(conflict: &herdbook_proto::document::Conflict) -> String {
    std::iter::once(&conflict.field).chain(&conflict.path).map(|part| &**part).collect::<Vec<_>>().join("/")
}

fn kept_rows(kept: &Kept) -> impl Iterator<Item = [String; 6]> + '_ {
    kept.values.iter().map(|value| {
        let shown_value = shown(value.value.as_ref());
        let text = if value.entry.is_empty() { shown_value } else { format!("{}: {shown_value}", value.entry) };
        let read = if value.shown { "yes" } else { "no" };
        let (commit, time) = (short(&value.origin.commit), readable(value.origin.time));
        [kept.field.to_string(), policy_name(kept.policy), text, read.to_owned(), commit, time]
    })
}

async fn resolve(global: &Global, args: ResolveArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let name = args.document.0;
    let choice = match (&args.value, args.sibling) {
        (Some(text), _) => {
            let schema = connection.schema().await?;
            let collection = schema.collection(&name.collection).map_err(|error| Error::argument(name.to_string(), error))?;
            let field = collection.field(&args.field).map_err(|error| Error::argument("FIELD", error))?;
            Choice::Value { value: value("--value", field, &field.ty, text)?, version: args.if_version }
        }
        (None, Some(place)) => {
            let version = match args.if_version {
                Some(version) => version,
                None => current(&connection, &name).await?.version,
            };
            Choice::Sibling { place, version }
        }
        (None, None) => Choice::Clear { version: args.if_version },
    };
    let resolve = Resolve {
        repository: None,
        branch: connection.branch.clone(),
        name,
        field: args.field.into(),
        choice,
        request: Some(args.writing.key()?),
        message: args.writing.message.clone(),
        wait: connection.wait(&args.writing.awaiting),
    };
    let ack = connection.client.resolve(resolve).await?;
    acknowledge(&connection.out, &ack)
}
