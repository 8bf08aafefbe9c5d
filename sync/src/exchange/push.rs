//! New commits: announced, or sent at once to a peer that surely lacks them; and the answers to what the peer announces.
//!
//! Law: a commit that is announced is asked of one peer at a time, and of the next only after [`PATIENCE`].

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use herdbook_model::{
    graph::Graph as _,
    id::ChainId,
    vector::{Range, VersionVector},
};

use super::{Exchange, Now, Output, PATIENCE, staged::Overlay};
use crate::{
    local::Local,
    message::{Announced, MAX_CHAINS, MAX_LIST, Message, Refusal},
};

/// Most announcements that wait to be sent; beyond it the peer is told the vector instead.
const MAX_PENDING: usize = 16 * MAX_LIST;

/// What is to be announced, and what was.
#[derive(Debug, Default)]
pub(super) struct Push {
    pending: VecDeque<Announced>,
    /// Announced by the peer and not here yet: up to which counter, and since when it is waited for.
    awaited: BTreeMap<ChainId, (u64, Duration)>,
    overflowed: bool,
}

impl Push {
    /// Waits no longer for what was announced of `chain`: the peer cannot give it.
    pub(super) fn give_up(&mut self, chain: &ChainId) {
        self.awaited.remove(chain);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.awaited.is_empty()
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
                let Some(meta) = local.meta(&commit.id)? else { continue };
                for range in theirs.missing_from(&meta.vector) {
                    self.outgoing.add(range, local)?;
                }
            } else if self.push.pending.len() < MAX_PENDING {
                self.push.pending.push_back(commit);
            } else {
                self.push.overflowed = true;
            }
        }
        Ok(())
    }

    /// Returns the next announcement of commits that the peer still lacks.
    pub(super) fn next_announcement(&mut self) -> Option<Message> {
        let theirs = self.vectors.theirs()?;
        let mut announced = Vec::new();
        while announced.len() < MAX_LIST
            && let Some(commit) = self.push.pending.pop_front()
        {
            if !theirs.contains(&commit.chain, commit.counter) {
                announced.push(commit);
            }
        }
        (!announced.is_empty()).then_some(Message::Announce(announced))
    }

    /// Announces the newest commit that both count as known of every chain, to find the one that forked.
    pub(super) fn announce_common<L: Local>(&mut self, mine: &VersionVector, theirs: &VersionVector, local: &L) -> Result<(), L::Error> {
        let mut common = Vec::new();
        for &(chain, counter) in mine.iter() {
            let counter = counter.min(theirs.get(&chain));
            if counter > 0
                && let Some(id) = local.at(&chain, counter)?
            {
                common.push(Announced { id, chain, counter });
            }
        }
        for common in common.chunks(MAX_LIST) {
            self.send(Message::Announce(common.to_vec()));
        }
        Ok(())
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
                    self.vectors.uncover();
                    let is_full = self.push.awaited.len() >= MAX_CHAINS && !self.push.awaited.contains_key(&chain);
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
            self.tell_vector(now, local);
        }
        self.want(wanted, local)
    }

    /// Asks for `wanted`, each range widened down to what is here of its chain.
    fn want<L: Local>(&mut self, wanted: Vec<Range>, local: &L) -> Result<(), L::Error> {
        let mine = local.vector();
        let overlay = Overlay { local, staged: &self.incoming.staged };
        let mut ranges: BTreeMap<ChainId, Range> = BTreeMap::new();
        for Range { chain, last, .. } in wanted {
            let mut first = mine.get(&chain) + 1;
            while first <= last && overlay.at(&chain, first)?.is_some() {
                first += 1;
            }
            if first <= last {
                let range = ranges.entry(chain).or_insert(Range { chain, first, last });
                range.last = range.last.max(last);
            }
        }
        self.ask(&ranges.into_values().collect::<Vec<_>>());
        Ok(())
    }

    pub(super) fn ask(&mut self, ranges: &[Range]) {
        for ranges in ranges.chunks(MAX_LIST) {
            self.outputs.push_back(Output::Asking(ranges.to_vec()));
            self.send(Message::Want(ranges.to_vec()));
        }
    }

    /// Asks for a chain from its first commit on: where the peer's differs from the one here, the two commits are proof of a fork.
    pub(super) fn contest(&mut self, chain: ChainId, last: u64) {
        if self.incoming.contest(chain) {
            self.send(Message::Want(vec![Range { chain, first: 1, last }]));
        }
    }
}
