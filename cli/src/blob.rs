//! `blob`: bytes of any length beside documents: up, down, and away with those of no use.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, Subcommand};
use herdbook_model::{
    blob::Blob,
    value::{Scalar, Value},
};
use herdbook_proto::{
    ack::{Ack, Wait},
    blob::{Download, Sweep, Swept, Upload, Uploaded},
    document::Name,
    edit::{Change, Edit, Operation, Write},
    read::Get,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::{
    connection::{Awaiting, Connection, Global, Reading, Writing},
    document,
    errors::Error,
    forms, moment,
    names::DocumentName,
    output::{bytes, counted},
    progress::{Progress, Unit},
};

/// Bytes that are sent as one message.
const PIECE: usize = 256 << 10;

/// Messages read from the file before the server took them.
const AHEAD: usize = 8;

/// Commands about blobs.
#[derive(Debug, Subcommand)]
pub(crate) enum BlobCommand {
    /// Upload a file into a field of a document
    Put(PutArgs),
    /// Download what a field of a document holds
    Get(GetArgs),
    /// Upload a file and print the blob, for `patch --set FIELD=BLOB` or an import
    Upload(UploadArgs),
    /// Hide parts of blobs that nobody refers to, and take away those hidden long enough
    Sweep(SweepArgs),
}

/// Uploads a file into a field.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook blob put cities/2950159 photo gate.jpg
  herdbook blob put cities/2950159 files map.pdf --entry map         into the entry `map` of a field of type map<blob>
  pg_dump shop | herdbook blob put backups/today dump -

A schema gives a field the type `blob`, or set<blob>, list<blob>, map<blob>. The file is cut by its content into parts of some 64 KiB, and a
part that is there already, in whatever blob, is not written again. A document that does not exist is made.
With --json: {\"blob\", \"bytes\", \"parts\", \"added\", \"added_bytes\", \"seconds\", \"ack\"}")]
pub(crate) struct PutArgs {
    /// The document, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT")]
    document: DocumentName,
    /// The field
    #[arg(value_name = "FIELD")]
    field: String,
    /// The file; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The entry, where the field is a map of blobs
    #[arg(long, value_name = "KEY")]
    entry: Option<String>,
    #[command(flatten)]
    writing: Writing,
}

/// Downloads what a field holds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook blob get cities/2950159 photo gate.jpg
  herdbook blob get backups/today dump --at 2026-05-01 | psql shop
  herdbook blob get films/7 video --offset 1000000 --length 4096 | xxd

Every part is checked against its hash. A file appears under its name when all of it is there.")]
pub(crate) struct GetArgs {
    /// The document, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT")]
    document: DocumentName,
    /// The field
    #[arg(value_name = "FIELD")]
    field: String,
    /// Where to write it; standard output if left out
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The entry, where the field is a map of blobs
    #[arg(long, value_name = "KEY")]
    entry: Option<String>,
    /// First byte, from 0
    #[arg(long, value_name = "BYTE", default_value_t = 0)]
    offset: u64,
    /// How many bytes; up to the end if left out
    #[arg(long, value_name = "BYTES")]
    length: Option<u64>,
    #[command(flatten)]
    reading: Reading,
}

/// Uploads a file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook blob upload gate.jpg
  herdbook patch cities/2950159 --set photo=$(herdbook blob upload -q gate.jpg)")]
pub(crate) struct UploadArgs {
    /// The file; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    awaiting: Awaiting,
}

/// Sweeps.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook blob sweep --dry-run
  herdbook blob sweep --unused 90d --yes

A part that no document of any branch refers to, and that was not uploaded for --unused, is hidden: it is deleted, but who knows its blob can
still read it, as at an old state or where a replica comes back with a document. What has been hidden for --unused then goes for good, so
give a time that no replica is offline for. Room on the disk comes back with `gc`; commits keep their bytes until a horizon.
With --json: {\"used\", \"used_bytes\", \"hidden\", \"hidden_bytes\", \"revived\", \"removed\", \"removed_bytes\"}")]
pub(crate) struct SweepArgs {
    /// How long a part must not have been used
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = moment::duration)]
    unused: Duration,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    awaiting: Awaiting,
}

/// Runs a command.
pub(crate) async fn blob(global: &Global, command: BlobCommand) -> Result<(), Error> {
    match command {
        BlobCommand::Put(args) => put(global, args).await,
        BlobCommand::Get(args) => get(global, args).await,
        BlobCommand::Upload(args) => upload(global, args).await,
        BlobCommand::Sweep(args) => sweep(global, args).await,
    }
}

async fn put(global: &Global, args: PutArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let name = args.document.0;
    // What cannot hold a blob is told before the upload.
    let schema = connection.schema().await?;
    let collection = schema.collection(&name.collection).map_err(|error| Error::argument("DOCUMENT", error))?;
    let field = collection.field(&args.field).map_err(|error| Error::argument("FIELD", error))?;
    let of = if args.entry.is_some() { field.ty.map_entries() } else { Some(&field.ty) };
    if !of.is_some_and(|ty| ty.takes(&Value::Scalar(Scalar::Blob(Blob { root: herdbook_model::id::PartId([0; 32]), len: 0 })))) {
        let why = format!("field `{}` takes {}; `blob upload` prints a blob for `patch`, or give --entry for a map", field.name, field.ty);
        return Err(Error::argument("FIELD", why));
    }
    let (uploaded, took) = send(&connection, &args.file, Wait::DURABLE).await?;
    let value = Value::Scalar(Scalar::Blob(uploaded.blob));
    let field = field.name.clone();
    let exists = connection.client.get(Get { place: connection.place(&Reading { at: None }).await?, name: name.clone() }).await?.is_some();
    let operation = match (exists, args.entry) {
        (true, None) => Operation::Update(vec![(field, Change::Set(value))]),
        (true, Some(entry)) => Operation::Update(vec![(field, Change::Entries { put: vec![(entry.into(), value)], remove: Vec::new() })]),
        (false, None) => Operation::Create(vec![(field, value)]),
        (false, Some(entry)) => Operation::Create(vec![(field, Value::Map([(entry.into(), value)].into()))]),
    };
    let mut write = Write::new(args.writing.key()?, vec![Edit { name, operation }]);
    write.branch.clone_from(&connection.branch);
    write.message.clone_from(&args.writing.message);
    write.wait = connection.wait(&args.writing.awaiting);
    let ack = connection.client.commit(write).await?;
    let out = connection.out;
    out.either(|| form(&uploaded, took, &ack), || format!("{}; {}", told(&uploaded, took), document::acknowledged(&out, &ack)))
}

async fn upload(global: &Global, args: UploadArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let (uploaded, took) = send(&connection, &args.file, connection.wait(&args.awaiting)).await?;
    connection.out.note(told(&uploaded, took));
    connection.out.either(|| form(&uploaded, took, &uploaded.ack), || uploaded.blob.to_string())
}

fn form(uploaded: &Uploaded, took: Duration, ack: &Ack) -> serde_json::Value {
    let Uploaded { blob, ack: _, parts, added, added_bytes } = uploaded;
    json!({
        "blob": blob.to_string(),
        "bytes": blob.len,
        "parts": parts,
        "added": added,
        "added_bytes": added_bytes,
        "seconds": took.as_secs_f64(),
        "ack": forms::ack(ack),
    })
}

fn told(uploaded: &Uploaded, took: Duration) -> String {
    let Uploaded { blob, parts, added, added_bytes, .. } = uploaded;
    let of = counted(*parts, "part");
    format!("{} in {of}, {added} of them new ({}), in {}", bytes(blob.len), bytes(*added_bytes), moment::span(took))
}

/// Sends a file, and returns how long that took.
async fn send(connection: &Connection, path: &Path, wait: Wait) -> Result<(Uploaded, Duration), Error> {
    let is_input = path.as_os_str() == "-";
    let name = if is_input { PathBuf::from("standard input") } else { path.to_owned() };
    let (mut source, total): (Box<dyn io::Read + Send>, _) = if is_input {
        (Box::new(io::stdin()), None)
    } else {
        let file = File::open(path).map_err(|error| Error::file("read", path, error))?;
        let len = file.metadata().map_err(|error| Error::file("read", path, error))?.len();
        (Box::new(file), Some(len))
    };
    let (pieces, taken) = mpsc::channel::<Bytes>(AHEAD);
    let (failed, mut failure) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            match source.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
                Ok(0) => break,
                Ok(_) if pieces.blocking_send(piece.into()).is_ok() => {}
                Ok(_) => break,
                Err(error) => {
                    _ = failed.send(error);
                    break;
                }
            }
        }
    });
    let mut progress = Progress::begin(&connection.out, "upload", Unit::Bytes, total);
    let (report, mut reports) = mpsc::unbounded_channel();
    let pieces = ReceiverStream::new(taken).map(move |piece| {
        _ = report.send(piece.len() as u64);
        piece
    });
    let upload = Upload { repository: None, branch: connection.branch.clone(), wait };
    let mut sent = 0;
    let uploading = connection.client.upload(upload, pieces);
    tokio::pin!(uploading);
    let uploaded = loop {
        tokio::select! {
            answer = &mut uploading => break answer?,
            Some(len) = reports.recv() => {
                sent += len;
                progress.at(sent, sent);
            }
        }
    };
    let took = progress.end();
    // What could be read before is a blob too, but not the one that was meant.
    if let Ok(error) = failure.try_recv() {
        return Err(Error::file("read", name, error));
    }
    Ok((uploaded, took))
}

async fn get(global: &Global, args: GetArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let place = connection.place(&args.reading).await?;
    let name = args.document.0;
    let found = connection.client.get(Get { place: place.clone(), name: name.clone() }).await?;
    let found = found.ok_or_else(|| Error::NoSuchDocument { name: name.to_string() })?;
    let blob = blob_in(&name, found.fields.get(args.field.as_str()), &args.field, args.entry.as_deref())?;
    let total = args.length.unwrap_or(u64::MAX).min(blob.len.saturating_sub(args.offset));
    let mut pieces = connection.client.download(Download { place, blob, offset: args.offset, len: args.length }).await?;
    let (mut target, part) = open(args.file.as_deref())?;
    let shown = args.file.clone().unwrap_or_else(|| "standard output".into());
    let failed = |error| Error::file("write", &shown, error);
    let mut progress = Progress::begin(&connection.out, "download", Unit::Bytes, Some(total));
    let mut done = 0;
    while let Some(piece) = pieces.next().await? {
        target.write_all(&piece).map_err(failed)?;
        done += piece.len() as u64;
        progress.at(done, done);
    }
    target.flush().map_err(failed)?;
    let took = progress.end();
    if done != total {
        return Err(failed(io::Error::new(io::ErrorKind::UnexpectedEof, format!("the server sent {done} of {total} bytes: try again"))));
    }
    if let (Some(part), Some(file)) = (part, &args.file) {
        part.persist(file).map_err(|error| failed(error.error))?;
    }
    connection.out.note(format!("{} in {}", bytes(done), moment::span(took)));
    Ok(())
}

/// Returns the blob that a field, or an entry of it, holds.
fn blob_in(name: &Name, value: Option<&Value>, field: &str, entry: Option<&str>) -> Result<Blob, Error> {
    let value = match (value, entry) {
        (Some(Value::Map(entries)), Some(entry)) => entries.get(entry),
        (value, _) => value,
    };
    match value {
        Some(Value::Scalar(Scalar::Blob(blob))) => Ok(*blob),
        None => Err(Error::NoSuchBlob { name: name.to_string(), field: field.to_string() }),
        Some(Value::Map(_)) => Err(Error::argument("FIELD", format!("`{field}` of `{name}` is a map: give --entry"))),
        Some(_) => Err(Error::argument("FIELD", format!("`{field}` of `{name}` holds no blob"))),
    }
}

/// Returns where a download goes; a file under another name first.
fn open(file: Option<&Path>) -> Result<(Box<dyn io::Write>, Option<tempfile::TempPath>), Error> {
    let Some(file) = file else { return Ok((Box::new(io::stdout().lock()), None)) };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (open, path) =
        tempfile::Builder::new().prefix(".herdbook-").tempfile_in(folder).map_err(|error| Error::file("write", file, error))?.into_parts();
    Ok((Box::new(open), Some(path)))
}

async fn sweep(global: &Global, args: SweepArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    if !args.dry_run {
        let span = moment::span(args.unused);
        out.confirm(&format!("hide parts of blobs unused for {span}, and remove those hidden for as long?"), global.yes)?;
    }
    let unused_millis = u64::try_from(args.unused.as_millis()).unwrap_or(u64::MAX);
    let (branch, wait) = (connection.branch.clone(), connection.wait(&args.awaiting));
    let swept = connection.client.sweep(Sweep { repository: None, branch, unused_millis, dry_run: args.dry_run, wait }).await?;
    let Swept { used, used_bytes, hidden, hidden_bytes, revived, removed, removed_bytes, ack: _ } = swept;
    let form = || {
        json!({
            "used": used,
            "used_bytes": used_bytes,
            "hidden": hidden,
            "hidden_bytes": hidden_bytes,
            "revived": revived,
            "removed": removed,
            "removed_bytes": removed_bytes,
        })
    };
    let text = || {
        let would = if args.dry_run { " (nothing was done)" } else { "" };
        let back = if revived > 0 { format!(", {revived} shown again") } else { String::new() };
        format!(
            "{} in use ({}), {hidden} hidden ({}), {removed} removed ({}){back}{would}",
            counted(used, "part"),
            bytes(used_bytes),
            bytes(hidden_bytes),
            bytes(removed_bytes)
        )
    };
    out.either(form, text)
}
