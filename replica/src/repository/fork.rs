//! Forked chains: two commits of one place on one chain, both signed by its session.
//!
//! Which of two came first here is chance, so nodes that met different ones do not converge by themselves. The proof is kept; the authority
//! says which commit stands; a node that holds another drops it, with all that stands on it, and takes the one that stands from its peers.
//! Law: what is dropped is kept as evidence, and nothing that stands on it is in a frontier any more.

use std::{collections::BTreeSet, sync::Arc};

use herdbook_model::{
    authority::{Entry, Kind},
    codec::{Decode as _, Encode as _, Writer},
    commit::{self, Commit},
    graph::{Frontier, Graph as _, Meta},
    id::{BranchName, ChainId, CommitId},
    request::Request,
};
use herdbook_store::{Batch, Direction, Durability, KeyRange, Table};

use super::{Change, Repository, Shared, erasure, layout, write::Writer as Holder};
use crate::error::Error;

/// Proofs of forks: chain, counter (8, big endian) and commit; the signed header.
const PROOF: &[u8] = b"fork/";

/// Commits that were dropped: commit; as it was stored. A request of one: commit, request (4, big endian); its bytes.
const DROPPED: &[u8] = b"dropped/";

/// A place on a chain at which two commits are known, and the one that is in the graph here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forked {
    /// The chain.
    pub chain: ChainId,
    /// The place.
    pub counter: u64,
    /// The commit held here.
    pub held: CommitId,
}

impl Repository {
    /// Keeps a commit, whose signature was checked, as proof that its session forked: another holds its place here.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn keep_fork(&self, other: &Commit) -> Result<(), Error> {
        let (chain, counter) = (other.chain(), other.header().counter);
        let key = [PROOF, chain.as_bytes().as_slice(), &counter.to_be_bytes(), other.id().as_bytes()].concat();
        let mut batch = Batch::new();
        batch.put(Table::Quarantine, key, other.to_bytes());
        self.0.store.records().write(batch, Durability::Durable)?;
        self.0.published.tell(Change::Forked);
        Ok(())
    }

    /// Returns the forked places that the head log has not judged and of which a commit is held here.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn forks(&self) -> Result<Vec<Forked>, Error> {
        let view = self.view();
        let mut forks: Vec<Forked> = Vec::new();
        for record in self.0.store.records().scan(Table::Quarantine, KeyRange::prefix(PROOF), Direction::Forward) {
            let record = record?;
            let place =
                record.key[PROOF.len()..].split_first_chunk::<16>().and_then(|(chain, rest)| Some((chain, rest.first_chunk::<8>()?)));
            let Some((chain, counter)) = place.map(|(chain, counter)| (ChainId(*chain), u64::from_be_bytes(*counter))) else { continue };
            let is_judged = view.log.forks().contains_key(&(chain, counter));
            let is_listed = forks.last().is_some_and(|last| (last.chain, last.counter) == (chain, counter));
            if is_judged || is_listed {
                continue;
            }
            if let Some(held) = self.at(&chain, counter)? {
                forks.push(Forked { chain, counter, held });
            }
        }
        Ok(forks)
    }
}

impl Shared {
    /// Drops what `entries`, which the log took, refuse; returns the branches that must be replayed from what is left.
    ///
    /// Cost: nothing unless a refused commit is here; then a pass over all commits.
    pub(super) fn drop_refused(&self, writer: &mut Holder, entries: &[Entry], batch: &mut Batch) -> Result<BTreeSet<BranchName>, Error> {
        let mut affected = BTreeSet::new();
        if entries.iter().any(|entry| matches!(entry.kind, Kind::Fork { .. })) {
            // What was handed over before may have to be dropped.
            self.store.records().write(Batch::new(), Durability::Process)?;
        }
        for entry in entries {
            let Kind::Fork { chain, counter, .. } = &entry.kind else { continue };
            let Some(held) = self.commits.at(chain, *counter)? else { continue };
            if writer.view.log.refuses(&held, chain, *counter) {
                affected.extend(self.drop_from(writer, chain, *counter, batch)?);
            }
        }
        Ok(affected)
    }

    /// Drops every commit that stands on the one at `counter` of `chain`, and that one.
    fn drop_from(&self, writer: &mut Holder, chain: &ChainId, counter: u64, batch: &mut Batch) -> Result<BTreeSet<BranchName>, Error> {
        let (mut dropped, mut left) = (Vec::new(), Vec::new());
        // By time: so what a vector grows from is mostly at hand.
        for record in self.store.records().scan(Table::Index, KeyRange::prefix(layout::BY_TIME), Direction::Forward) {
            let Some((_, id)) = layout::parse_tail(&record?.key) else { continue };
            let Some(meta) = self.commits.meta(&id)? else { continue };
            if meta.vector.contains(chain, counter) { dropped.push(id) } else { left.push((id, meta)) }
        }
        tracing::error!(
            ?chain,
            counter,
            commits = dropped.len(),
            "commits that stand on a forked one are dropped, as the authority judged"
        );
        let mut affected = BTreeSet::new();
        for id in &dropped {
            affected.insert(self.drop_commit(writer, id, batch)?);
        }
        self.commits.forget(&dropped);
        Arc::make_mut(&mut writer.view.lost).retain(|request, _| !dropped.contains(&request.commit));
        // States of other branches may stand on what was dropped as well: a migration brought it there.
        let stand_on = writer.view.branches.iter().filter(|(_, state)| state.frontier().vector().contains(chain, counter));
        affected.extend(stand_on.map(|(branch, _)| branch.clone()));
        for (branch, frontier) in self.frontiers(&affected, left)? {
            let mut out = Writer::default();
            out.list(frontier.ids().iter());
            // Where a base waits for its history, that is what is held beyond the state.
            let name = if writer.view.ahead(&branch).is_some() { layout::ahead(&branch) } else { layout::frontier(&branch) };
            batch.put(Table::Refs, name.into_bytes(), out.into_bytes());
        }
        self.store.records().write(std::mem::take(batch), Durability::Durable)?;
        self.load_bases(&mut writer.view)?;
        Ok(affected)
    }

    /// Takes one commit out of the tables and keeps it as evidence; returns its branch.
    fn drop_commit(&self, writer: &mut Holder, id: &CommitId, batch: &mut Batch) -> Result<BranchName, Error> {
        let stored = self.commits.stored(id)?.ok_or_else(|| Error::UnknownCommit { id: id.to_string() })?;
        let (chain, header) = (stored.commit.chain(), stored.commit.header());
        let evidence = [DROPPED, id.as_bytes().as_slice()].concat();
        batch.put(Table::Quarantine, evidence.clone(), layout::encode_commit(&stored.growth, &stored.leaves, &stored.commit));
        for at in 0..header.request_count {
            let Some(bytes) = self.commits.request_bytes(id, at, &stored)? else { continue };
            let request = Request::from_bytes(&bytes).map_err(|source| Error::Record { what: "request", source })?;
            for (collection, edit) in request.edits() {
                batch.delete(Table::Index, layout::by_edit(collection, &edit.key, header.time, id, at));
            }
            batch.delete(Table::Index, layout::by_request(&request.key));
            batch.delete(Table::Edits, layout::edits(id, at));
            // An erasure finds no copies that no state leads to: so there are none, once the next collection has written the files anew.
            if erasure::writes_values(&request) {
                batch.put(Table::Refs, layout::ERASED, id.as_bytes().to_vec());
            } else {
                batch.put(Table::Quarantine, [evidence.as_slice(), &at.to_be_bytes()].concat(), bytes);
            }
        }
        batch.delete(Table::Commits, id.as_bytes().to_vec());
        batch.delete(Table::Index, layout::place(&chain, header.counter));
        batch.delete(Table::Index, layout::by_time(&header.branch, header.time, id));
        if chain == commit::chain(&self.session, &header.branch) {
            // Its places were used: to sign others there would be one more fork.
            writer.is_over = true;
        }
        Ok(header.branch.clone())
    }

    /// Returns the frontiers of `branches` over the commits that are left.
    fn frontiers(&self, branches: &BTreeSet<BranchName>, mut left: Vec<(CommitId, Meta)>) -> Result<Vec<(BranchName, Frontier)>, Error> {
        let mut frontiers: Vec<_> = branches.iter().map(|branch| (branch.clone(), Frontier::default())).collect();
        // The newest first: most others are below it, and need not be read.
        left.sort_unstable_by_key(|(id, meta)| std::cmp::Reverse((meta.time, *id)));
        for (id, meta) in left {
            if frontiers.iter().all(|(_, frontier)| frontier.vector().contains(&meta.chain, meta.counter)) {
                continue;
            }
            let Some(stored) = self.commits.stored(&id)? else { continue };
            if let Some((_, frontier)) = frontiers.iter_mut().find(|(branch, _)| *branch == stored.commit.header().branch) {
                frontier.advance(id, &meta);
            }
        }
        Ok(frontiers)
    }
}
