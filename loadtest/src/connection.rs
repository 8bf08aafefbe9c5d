//! What a store must do to be put under load: one connection to it. [`node`](crate::node) has Herdbook's, the peers' binary those of others.

use std::{collections::BTreeMap, future::Future};

use serde::{Deserialize, Serialize};

/// A connection to a store. Clones share it.
pub trait Connection: Clone + Send + Sync + 'static {
    /// Returns the number, from 0, of the server it leads to: what was written at another one may come to this one later.
    fn site(&self) -> usize {
        0
    }

    /// Writes documents of `range` at revision 0, many at a time, so that reads find them.
    fn fill(&self, range: std::ops::Range<u64>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes document `i` at `revision`; returns once it is as safe as the store was asked for.
    fn write(&self, i: u64, revision: u64) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Reads document `i` and checks that it says what was once written.
    fn read(&self, i: u64) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Writes documents at `revision` in one request, where the store has such; else one after another.
    fn write_many(&self, documents: &[u64], revision: u64) -> impl Future<Output = Result<(), Failure>> + Send {
        async move {
            for i in documents {
                self.write(*i, revision).await?;
            }
            Ok(())
        }
    }

    /// Reads the first `count` documents, in the order of keys, of the folder in which document `i` lies. A store that cannot fails.
    fn scan(&self, _i: u64, _count: u64) -> impl Future<Output = Result<(), Failure>> + Send {
        std::future::ready(Err(Failure {
            reason: "UNSUPPORTED".to_owned(),
            message: "this store scans nothing in the order of keys".to_owned(),
        }))
    }
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What is wrong, for programs.
    pub reason: String,
    /// What is wrong, for people.
    pub message: String,
}

impl Failure {
    /// Returns the failure of a read that found something else than was written.
    pub fn wrong(i: u64) -> Self {
        Self { reason: "WRONG_ANSWER".to_owned(), message: format!("document {i} is not what was written") }
    }

    /// Returns the failure of a read that found nothing.
    pub fn missing(i: u64) -> Self {
        Self { reason: "NOT_FOUND".to_owned(), message: format!("document {i} is not there") }
    }
}

impl From<herdbook_proto::status::Failed> for Failure {
    fn from(failed: herdbook_proto::status::Failed) -> Self {
        let reason = if failed.reason.is_empty() { format!("{:?}", failed.kind).to_uppercase() } else { failed.reason };
        Self { reason, message: failed.message }
    }
}

/// How often operations failed, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Failures(pub BTreeMap<String, Counted>);

/// How often something failed for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How often.
    pub count: u64,
    /// The first one's message.
    pub first: String,
}

impl Failures {
    /// Counts one.
    pub fn count(&mut self, failure: Failure) {
        let Failure { reason, message } = failure;
        self.0.entry(reason).or_insert(Counted { count: 0, first: message }).count += 1;
    }

    /// Adds those of another.
    pub fn add(&mut self, other: Self) {
        for (reason, Counted { count, first }) in other.0 {
            self.0.entry(reason).or_insert(Counted { count: 0, first }).count += count;
        }
    }

    /// Returns how many there are.
    pub fn total(&self) -> u64 {
        self.0.values().map(|counted| counted.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_reason_and_keep_the_first_message() {
        let mut failures = Failures::default();
        failures.count(Failure::missing(1));
        failures.count(Failure::missing(2));
        failures.count(Failure::wrong(3));
        let mut others = Failures::default();
        others.count(Failure::missing(4));
        failures.add(others);
        assert_eq!(failures.total(), 4);
        assert_eq!(failures.0["NOT_FOUND"], Counted { count: 3, first: "document 1 is not there".to_owned() });
    }
}
