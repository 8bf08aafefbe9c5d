//! New commits: announced, or sent at once to a peer that surely lacks them; and the answers to what the peer announces.
//!
//! Law: a commit that is announced is asked of one peer at a time, and of the next only after [`PATIENCE`].

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use herdbook_model::{
    graph::Graph as _,
    id::{ChainId, CommitId},
    vector::{Range, VersionVector},
};

use super::{Exchange, Now, Output, PATIENCE, staged::Overlay};
use crate::{
    local::Local,
    message::{Announced, MAX_LIST, Message, Refusal},
};

/// Most chains of which something waits to be announced, to be asked for, or to come; what is beyond is found by the next vector.
const MAX_PENDING: usize = 4 * MAX_LIST;

/// The newest commit of a chain that is to be announced.
#[derive(Debug, Clone, Copy)]
struct Tip {
    id: CommitId,
    counter: u64,
    /// Whether it came from the peer, which is told all the same: that is the receipt.
    receipt: bool,
}

/// What is to be announced and asked for, and what was.
#[derive(Debug, Default)]
pub(super) struct Push {
    /// One place a chain: who holds a commit holds all before it.
    pending: BTreeMap<ChainId, Tip>,
    /// Announced by the peer and not here yet: up to which counter, and since when it is waited for.
    awaited: BTreeMap<ChainId, (u64, Duration)>,
    /// To be asked for.
    wanted: BTreeMap<ChainId, Range>,
    /// What the peer said it holds, of which the newest common commit of every chain is to be announced, and the chain reached.
    common: Option<(VersionVector, Option<ChainId>)>,
    overflowed: bool,
}

impl Push {
    /// Waits no longer for what was announced of `chain`: the peer cannot give it.
    pub(super) fn give_up(&mut self, chain: &ChainId) {
        self.awaited.remove(chain);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.awaited.is_empty() && self.wanted.is_empty()
    }

    /// Returns the bytes held.
    pub(super) fn held(&self) -> usize {
        let chains = self.pending.len() * size_of::<(ChainId, Tip)>()
            + self.awaited.len() * size_of::<(ChainId, (u64, Duration))>()
            + self.wanted.len() * size_of::<(ChainId, Range)>();
        chains + self.common.as_ref().map_or(0, |(vector, _)| vector.len() * size_of::<(ChainId, u64)>())
    }

    /// Lets the peer be told that this is stored here.
    pub(super) fn acknowledge(&mut self, commit: Announced) {
        self.announce(commit, true);
    }

    /// Announces the newest commit that both count as known of every chain, to find the one that forked.
    pub(super) fn announce_common(&mut self, theirs: VersionVector) {
        self.common = Some((theirs, None));
    }

    fn announce(&mut self, Announced { id, chain, counter }: Announced, receipt: bool) {
        let is_full = self.pending.len() >= MAX_PENDING;
        match self.pending.entry(chain) {
            Entry::Vacant(_) if is_full => self.overflowed = true,
            Entry::Vacant(entry) => drop(entry.insert(Tip { id, counter, receipt })),
            Entry::Occupied(mut entry) => {
                let receipt = receipt || entry.get().receipt;
                let newest = if entry.get().counter < counter { Tip { id, counter, receipt } } else { *entry.get() };
                entry.insert(Tip { receipt, ..newest });
            }
        }
    }
}

impl Exchange {
    pub(super) fn changed<L: Local>(&mut self, commits: &[Announced], eager: bool, now: Now, local: &L) -> Result<(), L::Error> {
        for &commit in commits {
            let released = self.incoming.quarantine.release(&commit.id);
            self.readmit(released, now, local)?;
            let Some(theirs) = self.vectors.theirs() else { continue };
            if theirs.contains(&commit.chain, commit.counter) {
                continue;
            }
            if eager {
                // All that it stands on is here, whether or not this side says yet that it holds it.
                let Some(meta) = local.meta(&commit.id)? else { continue };
                for range in theirs.missing_from(&meta.vector) {
                    self.outgoing.add(range, &meta.vector, local)?;
                }
            } else {
                self.push.announce(commit, false);
            }
        }
        Ok(())
    }

    /// Returns the next question for commits, receipt, announcement of what the peer still lacks, or of what both have.
    pub(super) fn next_of_push<L: Local>(&mut self, local: &L) -> Result<Option<Message>, L::Error> {
        let mut ranges = Vec::new();
        while ranges.len() < MAX_LIST
            && let Some((_, range)) = self.push.wanted.pop_first()
        {
            ranges.push(range);
        }
        if !ranges.is_empty() {
            self.outputs.push_back(Output::Asking(ranges.clone()));
            return Ok(Some(Message::Want(ranges)));
        }
        let mut announced = Vec::new();
        while announced.len() < MAX_LIST
            && let Some((chain, Tip { id, counter, receipt })) = self.push.pending.pop_first()
        {
            if receipt || self.vectors.theirs().is_some_and(|theirs| !theirs.contains(&chain, counter)) {
                announced.push(Announced { id, chain, counter });
            }
        }
        if announced.is_empty() {
            announced = self.common(local)?;
        }
        Ok((!announced.is_empty()).then_some(Message::Announce(announced)))
    }

    fn common<L: Local>(&mut self, local: &L) -> Result<Vec<Announced>, L::Error> {
        let mut common = Vec::new();
        let Some((theirs, after)) = &mut self.push.common else { return Ok(common) };
        for &(chain, counter) in local.vector().iter().filter(|(chain, _)| after.is_none_or(|after| after < *chain)) {
            let counter = counter.min(theirs.get(&chain));
            if counter > 0
                && let Some(id) = local.at(&chain, counter)?
            {
                common.push(Announced { id, chain, counter });
            }
            if common.len() == MAX_LIST {
                *after = Some(chain);
                return Ok(common);
            }
        }
        self.push.common = None;
        Ok(common)
    }

    pub(super) fn announced<L: Local>(&mut self, announced: &[Announced], now: Now, local: &L) -> Result<(), L::Error> {
        if announced.len() > MAX_LIST || announced.iter().any(|commit| commit.counter == 0) {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        let (mut held, mut wanted) = (VersionVector::default(), Vec::new());
        for &Announced { id, chain, counter } in announced {
            let overlay = Overlay { local, staged: &self.incoming.staged };
            match overlay.at(&chain, counter)? {
                Some(known) if known == id => held.raise(chain, counter),
                Some(_) => self.contest(chain, counter),
                None => {
                    let is_full = self.push.awaited.len() >= MAX_PENDING && !self.push.awaited.contains_key(&chain);
                    if is_full {
                        continue; // the next vector brings it
                    }
                    let awaited = self.push.awaited.entry(chain).or_insert((0, now.elapsed));
                    awaited.0 = awaited.0.max(counter);
                    if !local.is_coming(&chain, counter) {
                        wanted.push(Range { chain, first: counter, last: counter });
                    }
                }
            }
            self.vectors.raise(chain, counter);
        }
        if self.vectors.is_beyond() {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        if !held.is_empty() {
            self.outputs.push_back(Output::Holds(held));
        }
        self.want(wanted, local)
    }

    /// Asks again for what was announced, was or was to be asked for, and did not come.
    pub(super) fn ask_again<L: Local>(&mut self, now: Now, local: &L) -> Result<(), L::Error> {
        let mut wanted = Vec::new();
        let overlay = Overlay { local, staged: &self.incoming.staged };
        let mut here = Vec::new();
        for (&chain, (counter, since)) in &mut self.push.awaited {
            if overlay.at(&chain, *counter)?.is_some() {
                here.push(chain);
            } else if now.elapsed.saturating_sub(*since) >= PATIENCE {
                *since = now.elapsed;
                wanted.push(Range { chain, first: *counter, last: *counter });
            }
        }
        for chain in here {
            self.push.awaited.remove(&chain);
        }
        self.tally.asked_again += wanted.len() as u64;
        if std::mem::take(&mut self.push.overflowed) {
            self.tell_vector(now);
        }
        self.want(wanted, local)
    }

    /// Asks for `wanted`, each range widened down to what is here of its chain.
    fn want<L: Local>(&mut self, wanted: Vec<Range>, local: &L) -> Result<(), L::Error> {
        let mine = local.vector();
        let overlay = Overlay { local, staged: &self.incoming.staged };
        let mut ranges = Vec::with_capacity(wanted.len());
        for Range { chain, last, .. } in wanted {
            let mut first = mine.get(&chain) + 1;
            while first <= last && overlay.at(&chain, first)?.is_some() {
                first += 1;
            }
            ranges.push(Range { chain, first, last });
        }
        self.ask(&ranges);
        Ok(())
    }

    /// Lets the peer be asked for `ranges`. What is beyond the bound is asked for when it is missed again.
    pub(super) fn ask(&mut self, ranges: &[Range]) {
        for &range in ranges.iter().filter(|range| range.first <= range.last) {
            let is_full = self.push.wanted.len() >= MAX_PENDING;
            match self.push.wanted.entry(range.chain) {
                Entry::Vacant(_) if is_full => {}
                Entry::Vacant(entry) => drop(entry.insert(range)),
                Entry::Occupied(mut entry) => {
                    let Range { first, last, .. } = *entry.get();
                    entry.insert(Range { chain: range.chain, first: first.min(range.first), last: last.max(range.last) });
                }
            }
        }
    }

    /// Asks for a chain from its first commit on: where the peer's differs from the one here, the two commits are proof of a fork.
    pub(super) fn contest(&mut self, chain: ChainId, last: u64) {
        if self.incoming.contest(chain) {
            self.ask(&[Range { chain, first: 1, last }]);
        }
    }
}
