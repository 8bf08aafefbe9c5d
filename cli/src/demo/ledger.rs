//! What was acknowledged, written down outside of all nodes: one line an acknowledgement, with what every document was told to hold, and
//! one for each branch of each node whose heads a loss must not take.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
};

use herdbook_model::id::CommitId;
use herdbook_proto::{
    ack::Ack,
    client::Client,
    cluster::Head,
    edit::{Edit, Write},
};
use serde::{Deserialize, Serialize};

use super::written::Written;
use crate::errors::Error;

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Acknowledged(Acknowledged),
    Heads(Heads),
}

/// One acknowledged request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Acknowledged {
    #[serde(flatten)]
    pub(super) receipt: Receipt,
    /// Document → what the request says of it.
    pub(super) documents: BTreeMap<String, Written>,
}

/// What an acknowledgement names; the command prints it so with `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    pub(super) commit: String,
    /// Its place in the commit.
    pub(super) request: u32,
    pub(super) branch: String,
}

/// The heads of a branch that a node had.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Heads {
    pub(super) node: String,
    pub(super) branch: String,
    pub(super) commits: Vec<String>,
}

/// All that the file says.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) acknowledged: Vec<Acknowledged>,
    pub(super) heads: Vec<Heads>,
}

/// What was acknowledged since one last looked.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) documents: BTreeSet<String>,
    pub(super) commits: BTreeSet<String>,
}

/// The file of acknowledgements.
pub(super) struct Ledger {
    path: PathBuf,
    file: File,
    tally: Tally,
}

impl Ledger {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(path).map_err(|source| super::file(path, source))?;
        Ok(Self { path: path.to_owned(), file, tally: Tally::default() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down that `edits` were acknowledged.
    pub(super) fn note(&mut self, receipt: impl Into<Receipt>, edits: &[Edit]) -> Result<(), Error> {
        let documents = edits.iter().map(|edit| Ok((edit.name.to_string(), Written::of(&edit.operation)?)));
        let line = Acknowledged { receipt: receipt.into(), documents: documents.collect::<Result<_, Error>>()? };
        self.tally.documents.extend(line.documents.keys().cloned());
        self.tally.commits.insert(line.receipt.commit.clone());
        self.write(&Line::Acknowledged(line))
    }

    /// Writes down which heads a node has.
    pub(super) fn note_heads(&mut self, node: &str, heads: &[Head]) -> Result<(), Error> {
        heads.iter().try_for_each(|head| {
            let commits = head.heads.iter().map(ToString::to_string).collect();
            self.write(&Line::Heads(Heads { node: node.to_owned(), branch: head.branch.to_string(), commits }))
        })
    }

    /// Commits and writes down the acknowledgement.
    pub(super) async fn commit(&mut self, client: &Client, write: Write) -> Result<CommitId, Error> {
        let edits = write.edits.clone();
        let ack = client.commit(write).await?;
        self.note(&ack, &edits)?;
        Ok(ack.commit)
    }

    /// Returns what was acknowledged since the last call.
    pub(super) fn tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn write(&mut self, line: &Line) -> Result<(), Error> {
        let text = serde_json::to_string(line).expect("lines have text keys only");
        writeln!(self.file, "{text}").map_err(|source| super::file(&self.path, source))
    }
}

impl From<&Ack> for Receipt {
    fn from(ack: &Ack) -> Self {
        Self { commit: ack.commit.to_string(), request: ack.request, branch: ack.branch.to_string() }
    }
}

/// Reads the file of acknowledgements.
pub(super) fn read(path: &Path) -> Result<Record, Error> {
    let named = |source| super::file(path, source);
    let mut record = Record::default();
    for line in BufReader::new(File::open(path).map_err(named)?).lines() {
        match serde_json::from_str(&line.map_err(named)?).map_err(|error| named(error.into()))? {
            Line::Acknowledged(acknowledged) => record.acknowledged.push(acknowledged),
            Line::Heads(heads) => record.heads.push(heads),
        }
    }
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_what_the_command_prints() {
        let printed = r#"{"commit": "ab", "request": 2, "branch": "main@1", "state": "cd", "copies": [], "repeated": false}"#;
        let receipt = Receipt { commit: "ab".to_owned(), request: 2, branch: "main@1".to_owned() };
        assert_eq!(serde_json::from_str::<Receipt>(printed).unwrap(), receipt);
    }
}
