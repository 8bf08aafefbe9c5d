//! What was acknowledged, kept outside all nodes, and the judgement of what a node holds.
//!
//! Law: a node may hold, of each document, what was acknowledged last or what was written after it with an unknown end; nothing else, and
//! no document that nobody wrote. Each document has one writer, who writes it again only once the write before has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use herdbook_model::id::CommitId;
use serde::{Deserialize, Serialize};

/// What a write leaves behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// No document.
    Absent,
    /// The document at a revision.
    Revision(u64),
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("no document"),
            Self::Revision(revision) => write!(f, "revision {revision}"),
        }
    }
}

/// What a reader found under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A revision, exactly as it was written.
    Revision(u64),
    /// A document that nobody wrote so.
    Altered,
}

/// How a node broke its word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// A write that was acknowledged is not there.
    Lost {
        /// Which node.
        node: String,
        /// Which document.
        key: String,
        /// What was acknowledged.
        acknowledged: Held,
        /// What is there.
        found: Held,
    },
    /// Something is there that nobody wrote, or that was overwritten.
    Extra {
        /// Which node.
        node: String,
        /// Which document.
        key: String,
        /// What is there.
        found: Held,
    },
    /// A document has other fields than were ever written.
    Altered {
        /// Which node.
        node: String,
        /// Which document.
        key: String,
    },
    /// A commit that was acknowledged is not there.
    MissingCommit {
        /// Which node.
        node: String,
        /// Which commit, as hex.
        commit: String,
    },
    /// An acknowledgement said less than was asked for.
    Weak {
        /// Which node.
        node: String,
        /// Which document.
        key: String,
    },
    /// A session did not read what it had been acknowledged.
    NotRead {
        /// Which node.
        node: String,
        /// Which document.
        key: String,
        /// What was acknowledged.
        acknowledged: Held,
        /// What was read.
        found: Held,
    },
    /// A node told of something earlier than before.
    WentBack {
        /// Which node.
        node: String,
        /// What went back.
        what: String,
        /// What was told first.
        from: String,
        /// What was told later.
        to: String,
    },
    /// A node that was stopped does not pass its check, or does not stop.
    Unsound {
        /// Which node.
        node: String,
        /// What the check says.
        why: String,
    },
    /// A node did not come back, or made no progress once all faults were over.
    Stuck {
        /// Which node.
        node: String,
        /// What it did not do.
        why: String,
    },
    /// Damage was done to a node's data, and its check found nothing.
    Undetected {
        /// Which node.
        node: String,
        /// What was done.
        what: String,
    },
    /// A fault was planned and did not take place.
    NeverFired {
        /// Which.
        fault: String,
        /// Why not, as far as known.
        why: String,
    },
    /// A run was too small to tell anything.
    TooLittle {
        /// What there was too little of.
        what: String,
        /// How much there was.
        actual: u64,
        /// How much there should have been.
        wanted: u64,
    },
    /// A rule of a workload does not hold.
    Rule {
        /// Where.
        node: String,
        /// Which.
        rule: String,
        /// What was found instead.
        found: String,
    },
    /// Two nodes hold different bytes under one state name.
    Apart {
        /// Which branch.
        branch: String,
        /// Node and root, each.
        roots: Vec<(String, String)>,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { node, key, acknowledged, found } => write!(f, "{node}: {key} lost {acknowledged}, holds {found}"),
            Self::Extra { node, key, found } => write!(f, "{node}: {key} holds {found}, which was not written last"),
            Self::Altered { node, key } => write!(f, "{node}: {key} has fields that nobody wrote"),
            Self::MissingCommit { node, commit } => write!(f, "{node}: commit {commit} is missing"),
            Self::Weak { node, key } => write!(f, "{node}: {key} was acknowledged with less than was asked for"),
            Self::NotRead { node, key, acknowledged, found } => {
                write!(f, "{node}: {key} was acknowledged as {acknowledged}, and read as {found}")
            }
            Self::WentBack { node, what, from, to } => write!(f, "{node}: {what} went back from {from} to {to}"),
            Self::Unsound { node, why } => write!(f, "{node}: {why}"),
            Self::Stuck { node, why } => write!(f, "{node} is stuck: {why}"),
            Self::Undetected { node, what } => write!(f, "{node}: {what}, and its check found nothing"),
            Self::NeverFired { fault, why } => write!(f, "never fired: {fault}: {why}"),
            Self::TooLittle { what, actual, wanted } => write!(f, "too little {what}: {actual}, and {wanted} are needed"),
            Self::Rule { node, rule, found } => write!(f, "{node}: {rule}: {found}"),
            Self::Apart { branch, roots } => {
                write!(f, "{branch}: one state name, different roots:")?;
                roots.iter().try_for_each(|(node, root)| write!(f, " {node} {root}"))
            }
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Expectation {
    /// None: nothing was acknowledged.
    acknowledged: Option<Held>,
    /// Writes since then whose end is unknown.
    uncertain: Vec<Held>,
}

/// What writers were told.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    documents: BTreeMap<String, Expectation>,
    commits: BTreeSet<CommitId>,
    acknowledged: u64,
    uncertain: u64,
}

impl Ledger {
    /// Notes that a write was acknowledged in `commit`.
    pub fn acknowledge(&mut self, key: &str, held: Held, commit: CommitId) {
        self.documents.insert(key.to_owned(), Expectation { acknowledged: Some(held), uncertain: Vec::new() });
        self.commits.insert(commit);
        self.acknowledged += 1;
    }

    /// Notes that nobody knows whether a write took place. Its document must not be written again.
    pub fn doubt(&mut self, key: &str, held: Held) {
        self.documents.entry(key.to_owned()).or_default().uncertain.push(held);
        self.uncertain += 1;
    }

    /// Adds what another writer was told; the two have written no document both.
    pub fn add(&mut self, other: Self) {
        let Self { documents, commits, acknowledged, uncertain } = other;
        self.documents.extend(documents);
        self.commits.extend(commits);
        self.acknowledged += acknowledged;
        self.uncertain += uncertain;
    }

    /// Returns how many writes were acknowledged.
    pub const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Returns of how many writes nobody knows the end.
    pub const fn uncertain(&self) -> u64 {
        self.uncertain
    }

    /// Returns how many documents were written.
    pub fn documents(&self) -> u64 {
        self.documents.len() as u64
    }

    /// Returns the commits that were acknowledged; several writes may share one.
    pub const fn commits(&self) -> &BTreeSet<CommitId> {
        &self.commits
    }

    /// Returns how what `node` holds breaks the law, by key.
    pub fn judge(&self, node: &str, found: &BTreeMap<String, Found>) -> Vec<Finding> {
        let written = self.documents.iter().filter_map(|(key, expectation)| {
            let held = match found.get(key) {
                None => Held::Absent,
                Some(Found::Revision(revision)) => Held::Revision(*revision),
                Some(Found::Altered) => return Some(Finding::Altered { node: node.to_owned(), key: key.clone() }),
            };
            let acknowledged = expectation.acknowledged.unwrap_or(Held::Absent);
            if held == acknowledged || expectation.uncertain.contains(&held) {
                return None;
            }
            let (node, key) = (node.to_owned(), key.clone());
            let is_newer = matches!((acknowledged, held), (Held::Revision(last), Held::Revision(there)) if there > last);
            Some(if is_newer || expectation.acknowledged.is_none() {
                Finding::Extra { node, key, found: held }
            } else {
                Finding::Lost { node, key, acknowledged, found: held }
            })
        });
        let unwritten = found.iter().filter(|(key, _)| !self.documents.contains_key(*key)).map(|(key, found)| match found {
            Found::Revision(revision) => Finding::Extra { node: node.to_owned(), key: key.clone(), found: Held::Revision(*revision) },
            Found::Altered => Finding::Altered { node: node.to_owned(), key: key.clone() },
        });
        written.chain(unwritten).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(writes: &[(&str, Held)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (at, (key, held)) in writes.iter().enumerate() {
            ledger.acknowledge(key, *held, CommitId([u8::try_from(at).expect("few"); 32]));
        }
        ledger
    }

    fn found(documents: &[(&str, Found)]) -> BTreeMap<String, Found> {
        documents.iter().map(|(key, found)| ((*key).to_owned(), *found)).collect()
    }

    fn lost(key: &str, acknowledged: Held, found: Held) -> Finding {
        Finding::Lost { node: "bob".to_owned(), key: key.to_owned(), acknowledged, found }
    }

    #[test]
    fn a_node_that_holds_what_was_acknowledged_last_kept_its_word() {
        let ledger = ledger(&[("a", Held::Revision(1)), ("a", Held::Revision(2)), ("b", Held::Revision(1)), ("b", Held::Absent)]);
        assert_eq!(ledger.judge("bob", &found(&[("a", Found::Revision(2))])), []);
        assert_eq!((ledger.acknowledged(), ledger.documents(), ledger.commits().len()), (4, 2, 4));
    }

    #[test]
    fn an_acknowledged_create_update_or_delete_that_is_gone_is_lost() {
        let ledger = ledger(&[("a", Held::Revision(1)), ("b", Held::Revision(1)), ("b", Held::Revision(2)), ("c", Held::Absent)]);
        let findings = ledger.judge("bob", &found(&[("b", Found::Revision(1)), ("c", Found::Revision(1))]));
        let expected = [
            lost("a", Held::Revision(1), Held::Absent),
            lost("b", Held::Revision(2), Held::Revision(1)),
            lost("c", Held::Absent, Held::Revision(1)),
        ];
        assert_eq!(findings, expected);
    }

    #[test]
    fn a_write_of_unknown_end_may_be_there_or_not_and_nothing_else_may() {
        let mut ledger = ledger(&[("a", Held::Revision(1))]);
        ledger.doubt("a", Held::Revision(2));
        ledger.doubt("b", Held::Revision(1));
        for held in [&[("a", Found::Revision(1))][..], &[("a", Found::Revision(2)), ("b", Found::Revision(1))]] {
            assert_eq!(ledger.judge("bob", &found(held)), []);
        }
        assert_eq!(ledger.judge("bob", &found(&[])), [lost("a", Held::Revision(1), Held::Absent)]);
        assert_eq!(ledger.uncertain(), 2);
    }

    #[test]
    fn what_nobody_wrote_is_extra_or_altered() {
        let ledger = ledger(&[("a", Held::Revision(1)), ("b", Held::Revision(1))]);
        let held = found(&[("a", Found::Revision(7)), ("b", Found::Altered), ("c", Found::Revision(1)), ("d", Found::Altered)]);
        let (node, extra) = ("bob".to_owned(), |key: &str, revision| Finding::Extra {
            node: "bob".to_owned(),
            key: key.to_owned(),
            found: Held::Revision(revision),
        });
        let altered = |key: &str| Finding::Altered { node: node.clone(), key: key.to_owned() };
        assert_eq!(ledger.judge("bob", &held), [extra("a", 7), altered("b"), extra("c", 1), altered("d")]);
    }

    #[test]
    fn ledgers_of_two_writers_are_judged_together() {
        let mut both = ledger(&[("a", Held::Revision(1))]);
        both.add(ledger(&[("b", Held::Revision(1))]));
        assert_eq!(both.judge("bob", &found(&[("a", Found::Revision(1))])), [lost("b", Held::Revision(1), Held::Absent)]);
    }
}
