//! Documents: `get`, `put`, `patch`, `rm`, `ls`, `count`.

use std::{collections::BTreeMap, io::Read as _, path::PathBuf, sync::Arc};

use clap::Args;
use herdbook_model::{
    id::Leaf,
    json::{fields_from_json, value_from_json},
    request::Must,
    schema::{Collection, Field, FieldType},
    value::{Scalar, Value},
};
use herdbook_proto::{
    ack::Ack,
    document::{Document, Name},
    edit::{Change, Edit, Fields, ListChange, ListSplice, Operation, Precondition, TextSplice, Write},
    limits,
    read::{Count, Get, List},
};
use serde_json::{Value as Json, json};

use crate::{
    connection::{Connection, Global, Reading, Writing},
    errors::Error,
    forms,
    names::{Assignment, DocumentName, Scope, element, value},
    output::{Output, Style, counted, short, thousands},
};

/// Shows a document.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook get cities/2950159
  herdbook get cities/2950159 --at 10m            as it was ten minutes ago
  herdbook get cities/2950159 --json | jq .version

The answer is the document's fields as JSON. With --json it is
  {\"collection\", \"key\", \"fields\", \"version\", \"conflicts\": [{\"field\", \"siblings\": [{\"value\", \"commit\", \"time\", \"session\"}]}]}")]
pub(crate) struct GetArgs {
    /// The document, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT")]
    document: DocumentName,
    #[command(flatten)]
    reading: Reading,
}

/// Shows a document.
pub(crate) async fn get(global: &Global, args: GetArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let place = connection.place(&args.reading).await?;
    let name = args.document.0;
    let found = connection.client.get(Get { place, name: name.clone() }).await?;
    let document = found.ok_or_else(|| Error::NoSuchDocument { name: name.to_string() })?;
    if out.is_json() {
        return out.json(&forms::document(&document));
    }
    out.line(pretty(&Json::Object(forms::fields(&document))))?;
    for conflict in &document.conflicts {
        let count = conflict.siblings.len() as u64;
        out.note(format!("conflict: `{}` has {}; `herdbook conflicts show {name}`", conflict.field, counted(count, "sibling")));
    }
    Ok(())
}

/// Writes a document as a whole, whether it exists or not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook put cities/9 '{\"name\": \"Newtown\", \"population\": 12}'
  herdbook put cities/9 --file newtown.json --create
  curl -s https://example.org/9.json | herdbook put cities/9 -

Fields that are left out become absent. `herdbook patch` changes single fields.")]
pub(crate) struct PutArgs {
    /// The document, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT")]
    document: DocumentName,
    /// Its fields as a JSON object; - reads it from standard input
    #[arg(value_name = "JSON", required_unless_present = "file")]
    content: Option<String>,
    /// Read the fields from a file
    #[arg(short, long, conflicts_with = "content", value_name = "FILE")]
    file: Option<PathBuf>,
    /// Refuse if it exists already
    #[arg(long)]
    create: bool,
    /// Refuse if it is not at this version
    #[arg(long, value_name = "VERSION", conflicts_with = "create", value_parser = version)]
    if_version: Option<Leaf>,
    #[command(flatten)]
    writing: Writing,
}

/// Writes a document as a whole.
pub(crate) async fn put(global: &Global, args: PutArgs) -> Result<(), Error> {
    let (text, what) = match (&args.file, args.content.as_deref()) {
        (Some(path), _) => (std::fs::read_to_string(path).map_err(|error| Error::file("read", path, error))?, path.display().to_string()),
        (None, Some("-") | None) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|error| Error::file("read", "standard input", error))?;
            (text, "standard input".to_owned())
        }
        (None, Some(text)) => (text.to_owned(), "JSON".to_owned()),
    };
    let json: Json = serde_json::from_str(&text).map_err(|error| Error::Json { what: what.clone(), why: error.to_string() })?;
    let connection = Connection::open(global).await?;
    let name = args.document.0;
    let schema = connection.schema().await?;
    let collection = schema.collection(&name.collection).map_err(|error| Error::Json { what: name.to_string(), why: error.to_string() })?;
    let fields = fields(collection, &json).map_err(|why| Error::Json { what, why })?;
    let operation = if args.create { Operation::Create(fields) } else { Operation::Put(fields) };
    let must = args.if_version.map(Must::BeAt);
    write(&connection, vec![Edit { name, operation }], must, &args.writing).await
}

/// Returns the fields of a document, by name; fields that are `null` are left out.
pub(crate) fn fields(collection: &Collection, json: &Json) -> Result<Fields, String> {
    let numbered = fields_from_json(collection, json).map_err(|error| error.to_string())?;
    let mut fields: Fields = Vec::with_capacity(numbered.len());
    for (id, value) in numbered {
        let field = collection.by_id(id).map_err(|error| error.to_string())?;
        fields.extend(value.map(|value| (field.name.clone(), value)));
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(fields)
}

/// Changes fields of a document and leaves the others.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook patch cities/2950159 --set population=3700000 --set name=Berlin
  herdbook patch cities/2950159 --add alternatenames=Berolina --remove alternatenames=Berlim
  herdbook patch cities/2950159 --clear admin1code -m 'not known'

  herdbook patch notes/7 --splice text=12:5:sheep            5 characters from the 12th on become \"sheep\"
  herdbook patch lists/7 --splice items=0:0:'[\"hay\"]' --move items=4:1

Values are JSON; texts may go without quotes, timestamps may be written as 2026-05-01T10:30:00Z. Entries of a map are
--add FIELD=KEY=VALUE and --remove FIELD=KEY. Concurrent patches of different fields, and adds and removes in one set, merge.")]
pub(crate) struct PatchArgs {
    /// The document, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT")]
    document: DocumentName,
    /// Give a field a value
    #[arg(long, value_name = "FIELD=VALUE", required_unless_present_any = ["clear", "add", "remove", "splice", "shift"])]
    set: Vec<Assignment>,
    /// Make a field absent
    #[arg(long, value_name = "FIELD")]
    clear: Vec<String>,
    /// Add an element to a set, an amount to a counter, or put an entry into a map
    #[arg(long, value_name = "FIELD=VALUE")]
    add: Vec<Assignment>,
    /// Remove an element from a set, an amount from a counter, or an entry from a map
    #[arg(long, value_name = "FIELD=VALUE")]
    remove: Vec<Assignment>,
    /// Replace a part of a text or list: REMOVED characters or items from position AT on
    #[arg(long, value_name = "FIELD=AT:REMOVED:INSERTED")]
    splice: Vec<Assignment>,
    /// Move an item of a list to where another one stands
    #[arg(long = "move", value_name = "FIELD=FROM:TO")]
    shift: Vec<Assignment>,
    /// Refuse if it is not at this version
    #[arg(long, value_name = "VERSION", value_parser = version)]
    if_version: Option<Leaf>,
    #[command(flatten)]
    writing: Writing,
}

/// Changes fields of a document.
pub(crate) async fn patch(global: &Global, args: PatchArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let schema = connection.schema().await?;
    let name = args.document.0.clone();
    let collection = schema.collection(&name.collection).map_err(|error| Error::argument(name.to_string(), error))?;
    let changes = changes(collection, &args)?;
    let must = args.if_version.map(Must::BeAt);
    write(&connection, vec![Edit { name, operation: Operation::Update(changes) }], must, &args.writing).await
}

/// Returns the change of each field that `args` names.
fn changes(collection: &Collection, args: &PatchArgs) -> Result<Vec<(Arc<str>, Change)>, Error> {
    let known = |argument: &str, field: &str| collection.field(field).map_err(|error| Error::argument(argument, error));
    let mut changes: BTreeMap<Arc<str>, Change> = BTreeMap::new();
    let twice = |argument: &str, field: &Field| Error::argument(argument, format!("field `{}` is changed in two ways", field.name));

    for Assignment { field, text } in &args.set {
        let field = known("--set", field)?;
        let change = set(field, text)?;
        if changes.insert(field.name.clone(), change).is_some() {
            return Err(twice("--set", field));
        }
    }
    for field in &args.clear {
        let field = known("--clear", field)?;
        if changes.insert(field.name.clone(), Change::Clear).is_some() {
            return Err(twice("--clear", field));
        }
    }
    for (argument, assignments) in [("--add", &args.add), ("--remove", &args.remove)] {
        for Assignment { field, text } in assignments {
            let field = known(argument, field)?;
            let fresh = match &field.ty {
                FieldType::Set(_) => Change::Elements { add: Vec::new(), remove: Vec::new() },
                FieldType::Map(_) => Change::Entries { put: Vec::new(), remove: Vec::new() },
                FieldType::Counter => Change::Count { reset: false, add: 0 },
                _ => {
                    return Err(Error::argument(argument, format!("field `{}` is no set, map or counter: use --set", field.name)));
                }
            };
            match (changes.entry(field.name.clone()).or_insert(fresh), argument) {
                (Change::Elements { add, .. }, "--add") => insert(add, element(argument, field, text)?),
                (Change::Elements { remove, .. }, _) => insert(remove, element(argument, field, text)?),
                (Change::Entries { put, .. }, "--add") => {
                    let (key, value) = text.split_once('=').ok_or_else(|| Error::argument(argument, "write FIELD=KEY=VALUE for a map"))?;
                    let value = element(argument, field, value)?;
                    put.retain(|(present, _)| **present != *key);
                    insert(put, (key.into(), value));
                }
                (Change::Entries { remove, .. }, _) => insert(remove, text.as_str().into()),
                (Change::Count { add, .. }, argument) => {
                    let Value::Scalar(Scalar::Int(amount)) = element(argument, field, text)? else { return Err(twice(argument, field)) };
                    let amount = if argument == "--add" { Some(amount) } else { amount.checked_neg() };
                    let sum = amount.and_then(|amount| add.checked_add(amount));
                    *add = sum.ok_or_else(|| Error::argument(argument, format!("`{text}` is too much for a counter")))?;
                }
                _ => return Err(twice(argument, field)),
            }
        }
    }
    for Assignment { field, text } in &args.splice {
        let field = known("--splice", field)?;
        let splice = spliced(field, text)?;
        let fresh = if field.ty == FieldType::Text { Change::Text(Vec::new()) } else { Change::List(Vec::new()) };
        match (changes.entry(field.name.clone()).or_insert(fresh), splice) {
            (Change::Text(splices), Spliced::Text(splice)) => splices.push(splice),
            (Change::List(splices), Spliced::List(splice)) => splices.push(splice),
            _ => return Err(twice("--splice", field)),
        }
    }
    for Assignment { field, text } in &args.shift {
        let field = known("--move", field)?;
        let numbers = text.split_once(':').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
        let (at, to) = numbers.ok_or_else(|| Error::argument("--move", "write FIELD=FROM:TO, positions from 0"))?;
        match changes.entry(field.name.clone()).or_insert_with(|| Change::List(Vec::new())) {
            Change::List(splices) => splices.push(ListSplice { at: Some(at), change: ListChange::MoveTo(to) }),
            _ => return Err(twice("--move", field)),
        }
    }
    for (name, change) in &changes {
        let both = match change {
            Change::Elements { add, remove } => add.iter().any(|element| remove.contains(element)),
            Change::Entries { put, remove } => put.iter().any(|(key, _)| remove.contains(key)),
            _ => false,
        };
        if both {
            return Err(Error::argument("--remove", format!("something is both added to and removed from field `{name}`")));
        }
    }
    Ok(changes.into_iter().collect())
}

/// One splice, of a text or a list.
enum Spliced {
    Text(TextSplice),
    List(ListSplice),
}

/// Reads `AT:REMOVED:INSERTED`; what is inserted into a list is a JSON list.
fn spliced(field: &Field, text: &str) -> Result<Spliced, Error> {
    let mut parts = text.splitn(3, ':');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (at, removed) =
        number().zip(number()).ok_or_else(|| Error::argument("--splice", "write FIELD=AT:REMOVED:INSERTED, positions from 0"))?;
    let inserted = parts.next().unwrap_or_default();
    Ok(match &field.ty {
        FieldType::Text => Spliced::Text(TextSplice { at: Some(at), removed, inserted: inserted.into() }),
        ty @ FieldType::List(_) => {
            let items = if inserted.is_empty() { Value::List(Vec::new()) } else { value("--splice", field, ty, inserted)? };
            let Value::List(inserted) = items else { return Err(Error::argument("--splice", "what is inserted is a JSON list")) };
            Spliced::List(ListSplice { at: Some(at), change: ListChange::Items { removed, inserted } })
        }
        _ => return Err(Error::argument("--splice", format!("field `{}` is no text or list: use --set", field.name))),
    })
}

fn set(field: &Field, text: &str) -> Result<Change, Error> {
    if field.ty.is_register() && !matches!(field.ty, FieldType::Atomic(_)) || matches!(field.ty, FieldType::Text | FieldType::Counter) {
        return value("--set", field, &field.ty, text).map(Change::Set);
    }
    let json: Json = serde_json::from_str(text).map_err(|error| Error::argument("--set", format!("`{text}` is no JSON: {error}")))?;
    let value = value_from_json(field, &json).map_err(|error| Error::argument("--set", error))?;
    // An empty set or map equals an absent field.
    Ok(value.map_or(Change::Clear, Change::Set))
}

/// Puts `item` where it belongs in a sorted list, once.
fn insert<T: Ord>(list: &mut Vec<T>, item: T) {
    if let Err(at) = list.binary_search(&item) {
        list.insert(at, item);
    }
}

/// Deletes documents: all of them, or none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook rm cities/9
  herdbook rm cities/9 cities/10 -m 'never existed'

History keeps them: `herdbook get cities/9 --at COMMIT` still shows them, and `herdbook revert COMMIT` brings them back.")]
pub(crate) struct RmArgs {
    /// The documents, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT", required = true)]
    documents: Vec<DocumentName>,
    #[command(flatten)]
    writing: Writing,
}

/// Deletes documents.
pub(crate) async fn rm(global: &Global, args: RmArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let edits = args.documents.into_iter().map(|DocumentName(name)| Edit { name, operation: Operation::Delete });
    write(&connection, edits.collect(), None, &args.writing).await
}

/// Commits `edits`; what must hold is said of the first one's document.
async fn write(connection: &Connection, edits: Vec<Edit>, must: Option<Must>, writing: &Writing) -> Result<(), Error> {
    let mut write = Write::new(writing.key()?, edits);
    write.preconditions = must.and_then(|must| Some(Precondition { name: write.edits.first()?.name.clone(), must })).into_iter().collect();
    write.branch.clone_from(&connection.branch);
    write.message.clone_from(&writing.message);
    write.wait = connection.wait(&writing.awaiting);
    let ack = connection.client.commit(write).await?;
    acknowledge(&connection.out, &ack)
}

/// Tells what is true of a write.
pub(crate) fn acknowledge(out: &Output, ack: &Ack) -> Result<(), Error> {
    out.either(|| forms::ack(ack), || acknowledged(out, ack))
}

/// Returns what is true of a write, in a line for people.
pub(crate) fn acknowledged(out: &Output, ack: &Ack) -> String {
    let verb = if ack.repeated { "was committed before:" } else { "committed" };
    let accepted = ack.accepted.as_ref().map_or_else(|| "not accepted yet".to_owned(), |position| format!("accepted at {}", position.seq));
    let copies = match ack.copies.len() {
        0 | 1 => String::new(),
        count => format!(", {count} copies"),
    };
    let commit = out.paint(Style::Name, short(&ack.commit));
    format!("{verb} {commit} on {}: {} here, {accepted}{copies}", ack.branch, forms::level(ack.local))
}

/// Lists the documents of a collection by key.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook ls cities
  herdbook ls cities/29 --long --limit 20      keys that begin with 29, with fields
  herdbook ls cities --all --json              {\"key\"} a line; with --long a document a line, as `get --json` shows it")]
pub(crate) struct LsArgs {
    /// The collection, or COLLECTION/PREFIX
    #[arg(value_name = "COLLECTION")]
    scope: Scope,
    /// Show fields, not keys alone
    #[arg(short, long)]
    long: bool,
    /// Most documents to list
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100, conflicts_with = "all")]
    limit: u64,
    /// List all
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    reading: Reading,
}

/// Lists documents.
pub(crate) async fn ls(global: &Global, args: LsArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let place = connection.place(&args.reading).await?;
    let Scope { collection, prefix } = args.scope;
    let limit = if args.all { u64::MAX } else { args.limit };
    let mut list = List {
        place,
        collection,
        prefix,
        page_size: u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, limits::PAGE),
        page_token: bytes::Bytes::new(),
        keys_only: !args.long,
    };
    let mut listed = 0;
    loop {
        let page = connection.client.list(list.clone()).await?;
        for key in page.keys.iter().take(usize::try_from(limit - listed).unwrap_or(usize::MAX)) {
            out.either(|| json!({ "key": key.as_str() }), || key.to_string())?;
            listed += 1;
        }
        for document in page.documents.iter().take(usize::try_from(limit - listed).unwrap_or(usize::MAX)) {
            out.either(|| forms::document(document), || long(&out, document))?;
            listed += 1;
        }
        if page.next.is_empty() {
            return Ok(());
        }
        if listed >= limit {
            out.note(format!("there are more than {}; --all lists them", thousands(limit)));
            return Ok(());
        }
        list.page_token = page.next;
    }
}

fn long(out: &Output, document: &Document) -> String {
    let alarm = if document.conflicts.is_empty() { String::new() } else { out.paint(Style::Alarm, "  (in conflict)") };
    format!("{}  {}{alarm}", out.paint(Style::Name, &document.name.key), Json::Object(forms::fields(document)))
}

/// Counts the documents of a collection.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook count cities
  herdbook count cities/29 --at 2026-05-01
  herdbook count cities --json                 {\"documents\", \"state\"}")]
pub(crate) struct CountArgs {
    /// The collection, or COLLECTION/PREFIX
    #[arg(value_name = "COLLECTION")]
    scope: Scope,
    #[command(flatten)]
    reading: Reading,
}

/// Counts documents.
pub(crate) async fn count(global: &Global, args: CountArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let place = connection.place(&args.reading).await?;
    let Scope { collection, prefix } = args.scope;
    let counted = connection.client.count(Count { place, collection, prefix }).await?;
    let form = || json!({ "documents": counted.documents, "state": counted.state.to_string() });
    connection.out.either(form, || counted.documents.to_string())
}

/// Returns JSON over several lines.
pub(crate) fn pretty(json: &Json) -> String {
    serde_json::to_string_pretty(json).expect("a JSON value can be written")
}

/// Reads a document's version.
pub(crate) fn version(text: &str) -> Result<Leaf, String> {
    Leaf::from_hex(text).ok_or_else(|| "a version has 64 hex digits, as `herdbook get --json` shows it".to_owned())
}

/// Returns the document's name and version, as it is now.
///
/// # Errors
/// [`Error::NoSuchDocument`].
pub(crate) async fn current(connection: &Connection, name: &Name) -> Result<Document, Error> {
    let place = connection.place(&Reading { at: None }).await?;
    let found = connection.client.get(Get { place, name: name.clone() }).await?;
    found.ok_or_else(|| Error::NoSuchDocument { name: name.to_string() })
}

/// Returns a value for people, or that there is none.
pub(crate) fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| herdbook_model::json::value_to_json(value).to_string())
}
