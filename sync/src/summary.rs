//! The digest of all a node holds. Law: nodes that know the same commits have the same digest, in whatever order they came.

use herdbook_model::{
    codec::{Encode as _, Writer},
    graph::Frontier,
    id::{BranchName, Domain, FrontierName},
};

/// Returns the digest over `frontiers`, the frontier of every branch that has commits, by branch name.
///
/// A branch whose frontier is empty leaves no trace, so a node that has only heard of a branch agrees with one that has not.
pub fn digest<'a>(frontiers: impl IntoIterator<Item = (&'a BranchName, &'a Frontier)>) -> [u8; 32] {
    let known = frontiers.into_iter().filter(|(_, frontier)| !frontier.is_empty());
    digest_of(known.map(|(branch, frontier)| (branch, frontier.name(branch))))
}

/// Returns the digest over the names of the frontiers that are not empty, by branch name.
pub fn digest_of<'a>(frontiers: impl IntoIterator<Item = (&'a BranchName, FrontierName)>) -> [u8; 32] {
    let mut out = Writer::default();
    for (branch, name) in frontiers {
        branch.encode(&mut out);
        name.encode(&mut out);
    }
    Domain::Digest.hash(&[out.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_branch_leaves_no_trace() {
        let main = BranchName::new("main@1").expect("well formed");
        assert_eq!(digest([(&main, &Frontier::default())]), digest([]));
    }
}
