//! `import`: documents from JSON lines, in batches that follow each other without waiting.
//!
//! Law: a batch is a request, so it is committed whole or not at all; its idempotency key is a hash over the file up to its end, so an
//! import that is run again, over the same lines, commits nothing twice.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clap::Args;
use flate2::bufread::MultiGzDecoder;
use herdbook_model::{
    id::{BranchName, RequestKey},
    schema::Collection,
    value::Key,
};
use herdbook_proto::{
    ack::Wait,
    document::Name,
    edit::{Edit, Operation, Outcome, Write},
    status::fits,
    v1,
};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tokio::{sync::mpsc, task};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::{
    connection::{Awaiting, Connection, Global, fresh_key},
    document,
    errors::Error,
    moment,
    output::{counted, thousands},
    progress::{Progress, Unit},
};

/// Name of the member that holds the key where none is named.
pub(crate) const KEY: &str = "_key";

/// Bytes of lines at which a batch ends, however few documents it has: well below the longest request.
const BATCH_BYTES: u64 = 1 << 20;

/// Longest line: a document has at most 1 MiB in its stored form, which JSON may escape.
const LINE_BYTES: u64 = 8 << 20;

/// Bytes of the file that are read at a time; progress is as exact as this.
const RAW: usize = 32 << 10;

/// Batches that may wait to be sent; the server bounds how many it works on.
const AHEAD: usize = 8;

/// Writes documents from a file of JSON lines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook import cities15000.jsonl.gz --collection cities --key geonameid
  zcat more.jsonl.gz | herdbook import - --collection cities --key geonameid
  herdbook import cities.jsonl --collection cities --key geonameid --skip 12000

Each line is one document, written as `herdbook put` would. A line that is cut off or does not fit the schema stops the import: the batch it
stands in is not written, those before it are, and the message says how to go on. Running an import again commits nothing twice, unless
--again asks for it. With --json: {\"documents\", \"batches\", \"repeated_batches\", \"seconds\", \"documents_per_second\", \"commit\"}")]
pub(crate) struct ImportArgs {
    /// The file, plain or compressed by gzip; - reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The collection to write to
    #[arg(short, long)]
    collection: String,
    /// Member of each line that is the document's key: a text or a whole number
    #[arg(short, long, value_name = "FIELD", default_value = KEY)]
    key: String,
    /// Most documents of one request
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Leave out so many lines at the beginning
    #[arg(long, value_name = "LINES", default_value_t = 0)]
    skip: u64,
    /// Write documents anew even if this file was imported before
    #[arg(long)]
    again: bool,
    /// What to say about it in the log
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    awaiting: Awaiting,
}

/// Writes documents from a file.
pub(crate) async fn import(global: &Global, args: ImportArgs) -> Result<(), Error> {
    let input = Input::open(&args.file)?;
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let schema = connection.schema().await?;
    let collection = schema.collection(&args.collection).map_err(|error| Error::argument("--collection", error))?.clone();
    let mut progress = Progress::begin(&out, "import", Unit::Things("documents"), input.total);

    let reader = Reader {
        message: args.message.unwrap_or_else(|| format!("import of {}", input.name)),
        branch: connection.branch.clone(),
        wait: connection.wait(&args.awaiting),
        seed: if args.again { Some(fresh_key()?) } else { None },
        limit: args.batch,
        key: args.key,
        collection,
    };
    let (sender, batches) = mpsc::channel(AHEAD);
    let reading = task::spawn_blocking(move || reader.run(input, args.skip, &sender));
    let under_way: Arc<Mutex<VecDeque<Extent>>> = Arc::default();
    let sent = under_way.clone();
    let writes = ReceiverStream::new(batches).map(move |Batch { write, extent }| {
        sent.lock().push_back(extent);
        write
    });

    let mut tally = Tally { committed: args.skip, ..Tally::default() };
    let mut sent = send(&connection, writes, &under_way, &mut tally, |tally| progress.at(tally.read, tally.documents)).await;
    // Once the stream is gone, so is its end of the channel: the reader finds out at its next batch.
    let read = reading.await.map_err(|error| Error::Runtime(io::Error::other(error)))?;
    if sent.is_ok() {
        sent = read.and_then(|is_all| if is_all && under_way.lock().is_empty() { Ok(()) } else { Err(Error::Ended) });
    }
    let took = progress.end();
    sent.map_err(|error| Error::Import { source: Box::new(error), committed: tally.committed })?;

    let rate = tally.documents as f64 / took.as_secs_f64().max(0.001);
    let form = || {
        json!({
            "documents": tally.documents,
            "batches": tally.batches,
            "repeated_batches": tally.repeated,
            "seconds": took.as_secs_f64(),
            "documents_per_second": rate,
            "commit": tally.newest,
        })
    };
    out.either(form, || format!("{} in {}, {}/s", counted(tally.documents, "document"), moment::span(took), thousands(rate as u64)))?;
    if tally.repeated > 0 {
        let (repeated, batches) = (thousands(tally.repeated), thousands(tally.batches));
        out.note(format!("{repeated} of {batches} batches were committed by an earlier import of these lines; --again writes them anew"));
    }
    Ok(())
}

/// What is committed so far.
#[derive(Debug, Default)]
struct Tally {
    /// Lines from the first on, skipped ones included.
    committed: u64,
    /// Bytes of the file that they take.
    read: u64,
    documents: u64,
    batches: u64,
    repeated: u64,
    newest: Option<String>,
}

/// Sends `writes` and takes the answers; stops at the first that is a failure.
async fn send(
    connection: &Connection,
    writes: impl tokio_stream::Stream<Item = Write> + Send + 'static,
    under_way: &Mutex<VecDeque<Extent>>,
    tally: &mut Tally,
    mut tell: impl FnMut(&Tally),
) -> Result<(), Error> {
    let mut answers = connection.client.commit_stream(writes).await?;
    while let Some(Outcome { index: _, result }) = answers.next().await? {
        let Some(extent) = under_way.lock().pop_front() else { break };
        let ack = match result {
            Ok(ack) => ack,
            Err(mut failed) => {
                failed.message = format!("lines {} to {}: {}", extent.first, extent.last, failed.message);
                return Err(failed.into());
            }
        };
        tally.committed = extent.last;
        tally.read = extent.read;
        tally.documents += extent.documents;
        tally.batches += 1;
        tally.repeated += u64::from(ack.repeated);
        tally.newest = Some(ack.commit.to_string());
        tell(tally);
    }
    Ok(())
}

/// Which lines a batch holds, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    first: u64,
    last: u64,
    documents: u64,
    /// Bytes of the file that were read by then: those of these lines, and some ahead.
    read: u64,
}

/// A write and the lines it came from.
#[derive(Debug)]
struct Batch {
    write: Write,
    extent: Extent,
}

/// Lines, whatever they come from.
struct Input {
    name: String,
    lines: Box<dyn BufRead + Send>,
    /// Bytes of the file, if it is one.
    total: Option<u64>,
    /// Bytes read of it so far.
    read: Arc<AtomicU64>,
}

impl Input {
    fn open(path: &Path) -> Result<Self, Error> {
        let read = Arc::<AtomicU64>::default();
        if path == Path::new("-") {
            return Self::decode("standard input".to_owned(), Box::new(io::stdin()), None, read);
        }
        let failed = |error| Error::file("read", path, error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let total = metadata.is_file().then_some(metadata.len());
        let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        Self::decode(name, Box::new(file), total, read).map_err(|error| match error {
            Error::File { action, source, .. } => Error::file(action, path, source),
            error => error,
        })
    }

    fn decode(name: String, raw: Box<dyn Read + Send>, total: Option<u64>, read: Arc<AtomicU64>) -> Result<Self, Error> {
        let mut raw = BufReader::with_capacity(RAW, Counted { inner: raw, read: read.clone() });
        let is_gzip = raw.fill_buf().map_err(|error| Error::file("read", name.as_str(), error))?.starts_with(&[0x1f, 0x8b]);
        let lines: Box<dyn BufRead + Send> =
            if is_gzip { Box::new(BufReader::with_capacity(4 * RAW, MultiGzDecoder::new(raw))) } else { Box::new(raw) };
        Ok(Self { name, lines, total, read })
    }
}

/// Counts what is read through it.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Turns lines into batches.
struct Reader {
    collection: Collection,
    key: String,
    limit: u32,
    branch: Option<BranchName>,
    message: String,
    wait: Wait,
    /// Makes the keys of this import its own; none: they follow from the lines alone.
    seed: Option<RequestKey>,
}

impl Reader {
    /// Reads all lines and hands their batches over. Returns whether all were taken.
    fn run(&self, mut input: Input, skip: u64, batches: &mpsc::Sender<Batch>) -> Result<bool, Error> {
        let mut hash = self.begin_hash();
        let (mut line, mut number) = (Vec::new(), 0);
        let (mut edits, mut first, mut weight) = (Vec::new(), 0, 0);
        loop {
            line.clear();
            let wrong = |number, why: String| Error::Line { file: input.name.clone(), line: number, why };
            let len =
                (&mut input.lines).take(LINE_BYTES).read_until(b'\n', &mut line).map_err(|error| wrong(number + 1, unreadable(&error)))?;
            let is_end = len == 0;
            if !is_end {
                number += 1;
                hash.update(&line);
                let is_whole = line.ends_with(b"\n");
                if !is_whole && len as u64 == LINE_BYTES {
                    return Err(wrong(number, format!("a line has at most {LINE_BYTES} bytes")));
                }
                if number > skip && !line.trim_ascii().is_empty() {
                    let edit = self
                        .edit(&line)
                        .map_err(|why| wrong(number, if is_whole { why } else { format!("{why} (the file ends in this line)") }))?;
                    if edits.is_empty() {
                        first = number;
                    }
                    edits.push(edit);
                    weight += len as u64;
                }
            }
            let is_full = edits.len() >= self.limit as usize || weight >= BATCH_BYTES;
            if !edits.is_empty() && (is_full || is_end) {
                let read = input.read.load(Ordering::Relaxed);
                let extent = Extent { first, last: number, documents: edits.len() as u64, read };
                let write = self.write(std::mem::take(&mut edits), request_key(&hash, first));
                // Lines of a usual length cannot add up to that.
                if weight > 2 * BATCH_BYTES {
                    fits(&v1::CommitRequest::from(write.clone())).map_err(|failed| wrong(number, failed.message))?;
                }
                weight = 0;
                if batches.blocking_send(Batch { write, extent }).is_err() {
                    return Ok(false);
                }
            }
            if is_end {
                return Ok(true);
            }
        }
    }

    /// Begins a hash with all that a batch's meaning depends on beside its lines.
    fn begin_hash(&self) -> blake3::Hasher {
        let mut hash = blake3::Hasher::new_derive_key("herdbook v1 import");
        let branch = self.branch.as_ref().map_or("", BranchName::as_str);
        for part in [branch, &self.collection.name, &self.key] {
            hash.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        if let Some(seed) = &self.seed {
            hash.update(seed.as_bytes());
        }
        hash
    }

    fn write(&self, edits: Vec<Edit>, key: RequestKey) -> Write {
        let mut write = Write::new(key, edits);
        write.branch.clone_from(&self.branch);
        write.message.clone_from(&self.message);
        write.wait = self.wait;
        write
    }

    fn edit(&self, line: &[u8]) -> Result<Edit, String> {
        let mut json: Json = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
        let Json::Object(members) = &mut json else { return Err("not a JSON object".to_owned()) };
        let key = match members.get(&self.key) {
            Some(Json::String(text)) => text.clone(),
            Some(Json::Number(number)) if number.is_i64() || number.is_u64() => number.to_string(),
            Some(other) => return Err(format!("`{}` is {other}: a key is a text or a whole number", self.key)),
            None => return Err(format!("there is no member `{}` to take the key from", self.key)),
        };
        if self.collection.field(&self.key).is_err() {
            members.remove(&self.key);
        }
        let key = Key::new(key).map_err(|error| error.to_string())?;
        let fields = document::fields(&self.collection, &json)?;
        Ok(Edit { name: Name { collection: self.collection.name.clone(), key }, operation: Operation::Put(fields) })
    }
}

/// Returns the idempotency key of the batch that begins at line `first` and ends where `hash` is now.
fn request_key(hash: &blake3::Hasher, first: u64) -> RequestKey {
    let mut hash = hash.clone();
    hash.update(&first.to_le_bytes());
    let mut key = [0; RequestKey::LEN];
    hash.finalize_xof().fill(&mut key);
    RequestKey(key)
}

fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the compressed file ends too early: it was cut off".to_owned(),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => format!("the compressed file is damaged: {error}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use herdbook_model::json::schema_from_json;

    use super::*;

    fn reader(limit: u32) -> Reader {
        let schema = r#"{"version": 1, "collections": {"cities": {"fields": [{"name": "name", "type": "string"}]}}}"#;
        let collection = schema_from_json(schema).expect("valid").collections.remove(0);
        Reader { collection, key: KEY.to_owned(), limit, branch: None, message: String::new(), wait: Wait::DURABLE, seed: None }
    }

    fn run(reader: &Reader, bytes: Vec<u8>, skip: u64) -> (Vec<Batch>, Result<bool, Error>) {
        let (sender, mut batches) = mpsc::channel(100);
        let input = Input::decode("test".to_owned(), Box::new(io::Cursor::new(bytes)), None, Arc::default()).expect("memory is readable");
        let result = reader.run(input, skip, &sender);
        drop(sender);
        (std::iter::from_fn(|| batches.blocking_recv()).collect(), result)
    }

    fn lines(count: u32) -> String {
        (0..count).map(|at| format!("{{\"{KEY}\": {at}, \"name\": \"city {at}\"}}\n")).collect()
    }

    fn keys(batches: &[Batch]) -> Vec<Option<RequestKey>> {
        batches.iter().map(|batch| batch.write.request).collect()
    }

    #[test]
    fn lines_become_batches_in_order() {
        let (batches, result) = run(&reader(4), lines(10).into_bytes(), 0);
        result.expect("all lines are good");
        let extents: Vec<_> = batches.iter().map(|batch| (batch.extent.first, batch.extent.last, batch.extent.documents)).collect();
        assert_eq!(extents, [(1, 4, 4), (5, 8, 4), (9, 10, 2)]);
        assert_eq!(batches[2].write.edits[1].name.to_string(), "cities/9");
    }

    #[test]
    fn the_same_lines_have_the_same_keys_whatever_follows() {
        let (short, _) = run(&reader(4), lines(8).into_bytes(), 0);
        let (long, _) = run(&reader(4), lines(12).into_bytes(), 0);
        assert_eq!(keys(&short), keys(&long)[..2]);
        let (resumed, _) = run(&reader(4), lines(12).into_bytes(), 4);
        assert_eq!(keys(&resumed), keys(&long)[1..]);
        let (other, _) = run(&reader(4), lines(12).replace("city 0", "City 0").into_bytes(), 0);
        assert!(keys(&other).iter().all(|key| !keys(&long).contains(key)));
    }

    #[test]
    fn a_bad_line_is_named_and_its_batch_is_not_handed_over() {
        for (bad, says) in [
            ("{\"_key\": 1, \"name\": \"x", "not JSON"),
            ("{\"name\": \"x\"}\n", "no member `_key`"),
            ("{\"_key\": 1.5}\n", "whole number"),
            ("{\"_key\": 1, \"size\": 2}\n", "no field `size`"),
            ("{\"_key\": 1, \"name\": 2}\n", "takes string"),
            ("[]\n", "not a JSON object"),
            ("{\"_key\": \"\"}\n", "1 to 1024 bytes"),
        ] {
            let (batches, result) = run(&reader(4), (lines(6) + bad).into_bytes(), 0);
            let error = result.expect_err(bad).to_string();
            assert!(error.starts_with("test, line 7: ") && error.contains(says), "{error}");
            assert_eq!(batches.len(), 1, "{bad}");
        }
    }

    #[test]
    fn a_cut_gzip_file_is_named_as_such() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(lines(2000).as_bytes()).expect("memory is writable");
        let whole = encoder.finish().expect("memory is writable");
        let (batches, result) = run(&reader(100), whole.clone(), 0);
        result.expect("the file is whole");
        assert_eq!(batches.iter().map(|batch| batch.extent.documents).sum::<u64>(), 2000);
        let error = run(&reader(100), whole[..whole.len() / 2].to_vec(), 0).1.expect_err("the file is cut").to_string();
        assert!(error.contains("cut off"), "{error}");
    }
}
