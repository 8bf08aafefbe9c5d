//! What was acknowledged, written down outside of all nodes: one line an acknowledgement, with what every document was told to hold.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use herdbook_model::{id::CommitId, json::value_to_json};
use herdbook_proto::{
    ack::Ack,
    client::Client,
    edit::{Change, Edit, Operation, Write},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::errors::Error;

/// One acknowledged request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) commit: String,
    pub(super) request: u32,
    pub(super) branch: String,
    /// Document → its fields as written; `None`: deleted.
    pub(super) documents: BTreeMap<String, Option<Map<String, Json>>>,
}

/// The file of acknowledgements.
pub(super) struct Ledger {
    path: PathBuf,
    file: File,
}

impl Ledger {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(|source| super::file(path, source))?;
        Ok(Self { path: path.to_owned(), file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down that `edits` were acknowledged.
    pub(super) fn note(&mut self, ack: &Ack, edits: &[Edit]) -> Result<(), Error> {
        let documents = edits.iter().map(|edit| (edit.name.to_string(), fields(&edit.operation))).collect();
        let line = Line { commit: ack.commit.to_string(), request: ack.request, branch: ack.branch.to_string(), documents };
        let text = serde_json::to_string(&line).expect("lines have text keys only");
        writeln!(self.file, "{text}").map_err(|source| super::file(&self.path, source))
    }

    /// Commits and writes down the acknowledgement.
    pub(super) async fn commit(&mut self, client: &Client, write: Write) -> Result<CommitId, Error> {
        let edits = write.edits.clone();
        let ack = client.commit(write).await?;
        self.note(&ack, &edits)?;
        Ok(ack.commit)
    }
}

/// Reads the file of acknowledgements.
pub(super) fn read(path: &Path) -> Result<Vec<Line>, Error> {
    let named = |source| super::file(path, source);
    let lines = BufReader::new(File::open(path).map_err(named)?).lines();
    lines.map(|line| serde_json::from_str(&line.map_err(named)?).map_err(|error| named(error.into()))).collect()
}

/// The fields an operation writes as scalars or wholes; `None` for a delete.
pub(super) fn fields(operation: &Operation) -> Option<Map<String, Json>> {
    match operation {
        Operation::Delete => None,
        Operation::Create(fields) | Operation::Put(fields) => {
            Some(fields.iter().map(|(name, value)| (name.to_string(), value_to_json(value))).collect())
        }
        Operation::Update(changes) => {
            let written = changes.iter().filter_map(|(name, change)| match change {
                Change::Set(value) => Some((name.to_string(), value_to_json(value))),
                _ => None,
            });
            Some(written.collect())
        }
    }
}
