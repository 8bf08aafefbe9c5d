//! What the peer is still to be sent: a few ranges of chains, merged into causal order as they go out.
//!
//! Law: time rises along ancestry, so going through all ranges at once by (time, id) sends ancestors first. Memory: one place a chain,
//! however many commits lie in the ranges.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
};

use herdbook_model::{
    id::{ChainId, CommitId, SessionId},
    time::Time,
    vector::Range,
};

use crate::{local::Local, message::Parcel};

/// Bytes that may be on their way to a peer before it stored them.
pub(super) const WINDOW: i64 = 1 << 20;

/// A commit that is to be sent, by the order in which it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    time: Time,
    pub(super) id: CommitId,
    pub(super) chain: ChainId,
    pub(super) counter: u64,
}

/// Commits to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    ranges: HashMap<ChainId, Range>,
    heap: BinaryHeap<Reverse<Place>>,
    /// Read for a message that had no room for it, with its length.
    pub(super) held: Option<(Place, Parcel, usize)>,
    /// Sessions whose certificates were sent.
    pub(super) certified: HashSet<SessionId>,
    /// Bytes that may still be sent. One message may take it below zero.
    pub(super) credit: i64,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { ranges: HashMap::new(), heap: BinaryHeap::new(), held: None, certified: HashSet::new(), credit: WINDOW }
    }
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.held.is_none()
    }

    /// Adds the commits of `range` that are here.
    pub(super) fn add<L: Local>(&mut self, range: Range, local: &L) -> Result<(), L::Error> {
        let chain = range.chain;
        let (mut first, mut last) = (range.first.max(1), range.last.min(local.vector().get(&chain)));
        if first > last {
            return Ok(());
        }
        let known = self.ranges.get(&chain).copied();
        if let Some(known) = known {
            (first, last) = (first.min(known.first), last.max(known.last));
        }
        self.ranges.insert(chain, Range { chain, first, last });
        if known.is_none_or(|known| first < known.first) {
            self.push(chain, first, local)?;
        }
        Ok(())
    }

    /// Takes the next commit: all its ancestors that are to be sent were taken before.
    pub(super) fn next<L: Local>(&mut self, local: &L) -> Result<Option<Place>, L::Error> {
        while let Some(Reverse(place)) = self.heap.pop() {
            let Some(range) = self.ranges.get_mut(&place.chain) else { continue };
            if range.first != place.counter {
                continue; // the range was widened since
            }
            if range.first == range.last {
                self.ranges.remove(&place.chain);
            } else {
                range.first += 1;
                let next = range.first;
                self.push(place.chain, next, local)?;
            }
            return Ok(Some(place));
        }
        Ok(None)
    }

    fn push<L: Local>(&mut self, chain: ChainId, counter: u64, local: &L) -> Result<(), L::Error> {
        let found = match local.at(&chain, counter)? {
            Some(id) => local.meta(&id)?.map(|meta| Place { time: meta.time, id, chain, counter }),
            None => None,
        };
        match found {
            Some(place) => self.heap.push(Reverse(place)),
            None => drop(self.ranges.remove(&chain)),
        }
        Ok(())
    }
}
