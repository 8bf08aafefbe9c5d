//! Patches, as `diff --patch` writes them, and `apply`, which does what they say.

use std::{collections::BTreeMap, io::Read as _, path::PathBuf, sync::Arc};

use clap::Args;
use herdbook_model::{
    json::{value_from_json, value_to_json},
    patch::{Fit, Kind, Patch, Sides},
    request::Must,
    schema::Schema,
};
use herdbook_proto::{
    document::{Document, Name},
    edit::{Change, Edit, Operation, Precondition, Write},
    history::{self, Difference},
    limits,
    read::BatchGet,
};
use serde_json::{Map, Value as Json, json};

use crate::{
    connection::{Connection, Global, Reading, Writing, fresh_key},
    document::acknowledged,
    errors::Error,
    forms,
    names::DocumentName,
    output::counted,
};

/// Documents that one request changes.
const BATCH: usize = limits::BATCH;

/// Returns what differs in a document, `None` where only what is in conflict does.
pub(crate) fn of(difference: &Difference) -> Option<Patch> {
    let Name { collection, key } = &difference.name;
    let (before, after) = match &difference.sides {
        history::Sides::Added(after) => (None, Some(after)),
        history::Sides::Removed(before) => (Some(before), None),
        history::Sides::Changed { before, after } => (Some(before), Some(after)),
    };
    Patch::between(collection, key, before.map(|document| &document.fields), after.map(|document| &document.fields))
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Create => "create",
        Kind::Update => "update",
        Kind::Delete => "delete",
    }
}

/// Returns a patch as a line of JSON.
pub(crate) fn to_json(patch: &Patch) -> Json {
    let side = |value: &Option<_>| value.as_ref().map(value_to_json);
    let fields: Map<_, _> = patch
        .fields
        .iter()
        .map(|(name, sides)| (name.to_string(), json!({ "before": side(&sides.before), "after": side(&sides.after) })))
        .collect();
    json!({ "document": format!("{}/{}", patch.collection, patch.key), "change": kind_name(patch.kind), "fields": fields })
}

/// Reads a line of a patch.
fn from_json(schema: &Schema, json: &Json) -> Result<Patch, String> {
    let Name { collection, key } = json["document"].as_str().ok_or("`document` is missing")?.parse::<DocumentName>()?.0;
    let kind = match json["change"].as_str() {
        Some("create") => Kind::Create,
        Some("update") => Kind::Update,
        Some("delete") => Kind::Delete,
        _ => return Err("`change` is none of create, update, delete".to_owned()),
    };
    let known = schema.collection(&collection).map_err(|error| error.to_string())?;
    let mut fields = BTreeMap::new();
    for (name, sides) in json["fields"].as_object().ok_or("`fields` is missing")? {
        let field = known.field(name).map_err(|error| error.to_string())?;
        let side = |of: &str| match &sides[of] {
            Json::Null => Ok(None),
            value => value_from_json(field, value).map_err(|error| error.to_string()),
        };
        fields.insert(field.name.clone(), Sides { before: side("before")?, after: side("after")? });
    }
    Ok(Patch { collection, key, kind, fields })
}

/// Does what a patch says, where documents read as they did before it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook diff 10m --patch > mine.patch
  herdbook apply mine.patch --branch trial
  herdbook apply mine.patch --reverse --dry-run
  herdbook diff 3f9c12ab44d0 --patch --only cities/9 | herdbook apply - --reverse

A patch fits where what it changes reads as before it or as after it; sets fit by element, maps by entry, counters by amount. If a document does
not fit, nothing is written. With --json: {\"applied\", \"done_already\", \"acks\": [{…}]}")]
pub(crate) struct ApplyArgs {
    /// The patch, as `herdbook diff --patch` writes it; - reads it from standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Lead back from after to before
    #[arg(long)]
    reverse: bool,
    /// Only tell whether it fits
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    writing: Writing,
}

/// Does what a patch says.
pub(crate) async fn apply(global: &Global, args: ApplyArgs) -> Result<(), Error> {
    let text = read(&args.file)?;
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let schema = connection.schema().await?;
    let mut patches = Vec::new();
    for (line, text) in (1u64..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let wrong = |why: String| Error::Line { file: args.file.display().to_string(), line, why };
        let json: Json = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let patch = from_json(&schema, &json).map_err(wrong)?;
        patches.push(if args.reverse { patch.reversed() } else { patch });
    }
    // All is looked at before the first is written; what changes in between is caught by the preconditions.
    let mut writes = Vec::new();
    let (mut applied, mut done) = (0_u64, 0_u64);
    for patches in patches.chunks(BATCH) {
        let mut write = Write::new(fresh_key()?, Vec::new());
        for (patch, now) in patches.iter().zip(current(&connection, patches).await?) {
            let collection = schema.collection(&patch.collection).map_err(|error| Error::argument("FILE", error))?;
            let fit = patch.fit(collection, now.as_ref().map(|now| &now.fields)).map_err(|misfit| Error::Misfit { misfit })?;
            let set = |value: Option<_>| value.map_or(Change::Clear, Change::Set);
            let operation = match fit {
                Fit::Done => {
                    done += 1;
                    continue;
                }
                Fit::Create(fields) => Operation::Create(fields),
                Fit::Update(fields) => Operation::Update(fields.into_iter().map(|(name, value)| (name, set(value))).collect()),
                Fit::Delete => Operation::Delete,
            };
            let name = Name { collection: patch.collection.clone(), key: patch.key.clone() };
            let must = now.as_ref().map_or(Must::BeAbsent, |now| Must::BeAt(now.version));
            write.preconditions.push(Precondition { name: name.clone(), must });
            write.edits.push(Edit { name, operation });
            applied += 1;
        }
        if !write.edits.is_empty() {
            writes.push(write);
        }
    }
    let mut acks = Vec::new();
    let single = writes.len() == 1;
    for write in writes.into_iter().filter(|_| !args.dry_run) {
        let request = if single { args.writing.key()? } else { write.request.map_or_else(fresh_key, Ok)? };
        let (branch, message) = (connection.branch.clone(), args.writing.message.clone());
        let wait = connection.wait(&args.writing.awaiting);
        acks.push(connection.client.commit(Write { branch, request: Some(request), message, wait, ..write }).await?);
    }
    if out.is_json() {
        return out.json(&json!({ "applied": applied, "done_already": done, "acks": acks.iter().map(forms::ack).collect::<Vec<_>>() }));
    }
    let documents = counted(applied, "document");
    match acks.last() {
        Some(ack) => out.line(format!("applied to {documents}; {}", acknowledged(&out, ack)))?,
        None if args.dry_run && applied > 0 => out.line(format!("fits; would change {documents}"))?,
        None => out.line("nothing is left to do; nothing was written")?,
    }
    if done > 0 {
        out.note(format!("{} read so already", counted(done, "document")));
    }
    Ok(())
}

fn read(path: &std::path::Path) -> Result<String, Error> {
    if path.as_os_str() != "-" {
        return std::fs::read_to_string(path).map_err(|error| Error::file("read", path, error));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| Error::file("read", "standard input", error))?;
    Ok(text)
}

/// Returns the documents of patches as they are, in order.
async fn current(connection: &Connection, patches: &[Patch]) -> Result<Vec<Option<Document>>, Error> {
    let mut place = connection.place(&Reading { at: None }).await?;
    let name = |patch: &Patch| Name { collection: patch.collection.clone(), key: patch.key.clone() };
    let mut wanted: Vec<_> = patches.iter().map(name).collect();
    let mut found = BTreeMap::<(Arc<str>, herdbook_model::value::Key), Document>::new();
    while !wanted.is_empty() {
        let batch = connection.client.batch_get(BatchGet { place: place.clone(), names: wanted }).await?;
        place.at = herdbook_proto::document::At::State(batch.state);
        for document in batch.documents {
            found.insert((document.name.collection.clone(), document.name.key.clone()), document);
        }
        wanted = batch.left_out;
    }
    Ok(patches.iter().map(|patch| found.remove(&(patch.collection.clone(), patch.key.clone()))).collect())
}
