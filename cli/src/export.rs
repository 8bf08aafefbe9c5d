//! `export`: documents as JSON lines, in key order, all of one state.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::Args;
use flate2::{Compression, write::GzEncoder};
use herdbook_proto::{
    document::Document,
    limits,
    read::{Count, List},
};
use serde_json::{Value as Json, json};

use crate::{
    connection::{Connection, Global, Reading},
    errors::Error,
    forms,
    import::KEY,
    moment,
    names::Scope,
    output::{counted, thousands},
    progress::{Progress, Unit},
};

/// Writes the documents of a collection as JSON lines.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook export cities --output cities.jsonl.gz
  herdbook export cities/29 --at 2026-05-01 | jq .name
  herdbook export cities --key geonameid --output cities.jsonl

Each line holds a document's fields and its key under the name that --key gives, so that `herdbook import` reads it back. A field of that
name is left as it is. Conflicts are exported as they are read: the newest sibling. With --json and --output:
{\"documents\", \"conflicts\", \"state\", \"seconds\"}")]
pub(crate) struct ExportArgs {
    /// The collection, or COLLECTION/PREFIX
    #[arg(value_name = "COLLECTION")]
    scope: Scope,
    /// File to write, compressed if it ends in .gz; standard output if left out
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Member of each line that holds the key
    #[arg(short, long, value_name = "FIELD", default_value = KEY)]
    key: String,
    #[command(flatten)]
    reading: Reading,
}

/// Writes documents as JSON lines.
pub(crate) async fn export(global: &Global, args: ExportArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let place = connection.place(&args.reading).await?;
    let Scope { collection, prefix } = args.scope;
    let count = connection.client.count(Count { place: place.clone(), collection: collection.clone(), prefix: prefix.clone() }).await?;
    let mut progress = Progress::begin(&out, "export", Unit::Things("documents"), Some(count.documents));
    let mut target = Target::open(args.output.as_ref())?;
    let mut list = List { place, collection, prefix, page_size: limits::PAGE, page_token: bytes::Bytes::new(), keys_only: false };
    let (mut documents, mut conflicts) = (0, 0_u64);
    let state = loop {
        let page = connection.client.list(list.clone()).await?;
        for document in &page.documents {
            target.write(&line(document, &args.key))?;
            documents += 1;
            conflicts += u64::from(!document.conflicts.is_empty());
        }
        progress.at(documents, documents);
        if page.next.is_empty() {
            break page.state;
        }
        list.page_token = page.next;
    };
    target.finish()?;
    let took = progress.end();
    if args.output.is_some() {
        let rate = documents as f64 / took.as_secs_f64().max(0.001);
        let form = || json!({ "documents": documents, "conflicts": conflicts, "state": state.to_string(), "seconds": took.as_secs_f64() });
        out.either(form, || format!("{} in {}, {}/s", counted(documents, "document"), moment::span(took), thousands(rate as u64)))?;
    }
    if conflicts > 0 {
        out.note(format!("{} in conflict: exported with the newest sibling", counted(conflicts, "document")));
    }
    Ok(())
}

fn line(document: &Document, key: &str) -> Json {
    let mut members = forms::fields(document);
    members.entry(key).or_insert_with(|| Json::from(document.name.key.as_str()));
    Json::Object(members)
}

/// Where lines go.
struct Target {
    path: Option<PathBuf>,
    lines: Lines,
}

enum Lines {
    Plain(BufWriter<Box<dyn Write + Send>>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

impl Target {
    fn open(path: Option<&PathBuf>) -> Result<Self, Error> {
        let lines = match path {
            None => Lines::Plain(BufWriter::new(Box::new(io::stdout()))),
            Some(path) => {
                let file = File::create_new(path).map_err(|error| Error::file("make", path, error))?;
                if path.extension().is_some_and(|extension| extension == "gz") {
                    Lines::Gzip(Box::new(GzEncoder::new(BufWriter::new(file), Compression::default())))
                } else {
                    Lines::Plain(BufWriter::new(Box::new(file)))
                }
            }
        };
        Ok(Self { path: path.cloned(), lines })
    }

    fn write(&mut self, line: &Json) -> Result<(), Error> {
        let written = match &mut self.lines {
            Lines::Plain(lines) => writeln!(lines, "{line}"),
            Lines::Gzip(lines) => writeln!(lines, "{line}"),
        };
        written.map_err(|error| failed(self.path.as_ref(), error))
    }

    fn finish(self) -> Result<(), Error> {
        let finished = match self.lines {
            Lines::Plain(mut lines) => lines.flush(),
            Lines::Gzip(lines) => lines.finish().and_then(|mut file| file.flush()),
        };
        finished.map_err(|error| failed(self.path.as_ref(), error))
    }
}

fn failed(path: Option<&PathBuf>, error: io::Error) -> Error {
    match path {
        None => Error::Output(error),
        Some(path) => Error::file("write", path, error),
    }
}
