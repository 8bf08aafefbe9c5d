//! The walk: from the heads of a branch over parents down to its first commits.
//!
//! Law: every parent that a commit names is in the walk, and the log of a branch lists what its heads lead to, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use herdbook_model::id::{BranchName, CommitId};
use herdbook_proto::{
    client::Client,
    cluster::Head,
    document::{At, Place},
    history::{Log, Summary},
    limits,
};

use super::insist;
use crate::errors::Error;

/// The commits that the heads of a branch lead to.
#[derive(Debug)]
pub(super) struct Walk(BTreeSet<CommitId>);

impl Walk {
    /// Walks from the heads over the commits of the branch's log.
    ///
    /// # Errors
    /// [`Error::Demo`] if the law does not hold.
    pub(super) fn from(head: &Head, log: &[Summary]) -> Result<Self, Error> {
        insist(!head.heads.is_empty(), || format!("branch {} has no head", head.branch))?;
        let parents = log.iter().map(|commit| (commit.id, &*commit.parents)).collect();
        let reached = reached(&head.heads, &parents);
        let reached = reached.map_err(|missing| Error::Demo { what: format!("commit {missing} is not in the log of {}", head.branch) })?;
        for id in parents.keys() {
            insist(reached.contains(id), || format!("no head of {} leads to commit {id}, which its log lists", head.branch))?;
        }
        Ok(Self(reached))
    }

    pub(super) fn has(&self, commit: &CommitId) -> bool {
        self.0.contains(commit)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Reads the whole log of a branch.
pub(super) async fn log(client: &Client, branch: &BranchName) -> Result<Vec<Summary>, Error> {
    let place = Place { repository: None, at: At::Branch(Some(branch.clone())) };
    let mut log = Log { page_size: limits::PAGE, ..Log::of(place) };
    let mut commits = Vec::new();
    loop {
        let page = client.log(log.clone()).await?;
        commits.extend(page.commits);
        if page.next.is_empty() {
            return Ok(commits);
        }
        log.page_token = page.next;
    }
}

/// Returns the heads and all that they stand on.
///
/// # Errors
/// The first commit that is named but not known.
fn reached(heads: &[CommitId], parents: &BTreeMap<CommitId, &[CommitId]>) -> Result<BTreeSet<CommitId>, CommitId> {
    let (mut reached, mut ahead) = (BTreeSet::new(), heads.to_vec());
    while let Some(id) = ahead.pop() {
        if reached.insert(id) {
            ahead.extend_from_slice(parents.get(&id).ok_or(id)?);
        }
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> CommitId {
        CommitId([number; 32])
    }

    #[test]
    fn a_walk_reaches_what_the_heads_stand_on() {
        let (joined, left) = ([id(2), id(3)], [id(1)]);
        let parents = BTreeMap::from([(id(4), &joined[..]), (id(3), &left[..]), (id(2), &left[..]), (id(1), &[]), (id(9), &[])]);
        assert_eq!(reached(&[id(4)], &parents), Ok(BTreeSet::from([id(1), id(2), id(3), id(4)])));
        assert_eq!(reached(&[id(3), id(9)], &parents), Ok(BTreeSet::from([id(1), id(3), id(9)])));
    }

    #[test]
    fn a_walk_ends_at_a_parent_that_is_not_there() {
        let parent = [id(1)];
        let parents = BTreeMap::from([(id(2), &parent[..])]);
        assert_eq!(reached(&[id(2)], &parents), Err(id(1)));
        assert_eq!(reached(&[id(7)], &parents), Err(id(7)));
    }
}
