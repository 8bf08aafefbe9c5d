//! What the peer is still to be sent: a few ranges of chains, merged into causal order as they go out.
//!
//! Law: time rises along ancestry, so going through all ranges at once by (time, id) sends ancestors first. Memory: one place a chain,
//! however many commits lie in the ranges and however often they are asked for.

use std::collections::{BTreeSet, HashMap, HashSet};

use herdbook_model::{
    id::{ChainId, CommitId, SessionId},
    time::Time,
    vector::{Range, VersionVector},
};

use super::ingest::MAX_NAMES;
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
    /// What is to be sent of each chain: the first of it, and up to which counter.
    ranges: HashMap<ChainId, (Place, u64)>,
    /// The first of each range.
    places: BTreeSet<Place>,
    /// Read for a message that had no room for it, with its length.
    pub(super) held: Option<(Place, Parcel, usize)>,
    /// Sessions whose certificates were sent.
    certified: HashSet<SessionId>,
    /// Bytes that may still be sent. One message may take it below zero.
    pub(super) credit: i64,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { ranges: HashMap::new(), places: BTreeSet::new(), held: None, certified: HashSet::new(), credit: WINDOW }
    }
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.held.is_none()
    }

    /// Returns the bytes held.
    pub(super) fn held(&self) -> usize {
        let held = self.held.as_ref().map_or(0, |(.., len)| *len);
        held + self.ranges.len() * (2 * size_of::<Place>() + size_of::<u64>()) + self.certified.len() * size_of::<SessionId>()
    }

    /// Notes that the certificate of `session` goes out; returns whether it had not.
    pub(super) fn certify(&mut self, session: SessionId) -> bool {
        if self.certified.len() >= MAX_NAMES {
            // Who is sent one twice takes it.
            self.certified.clear();
        }
        self.certified.insert(session)
    }

    /// Adds the commits of `range` that are among those held here.
    pub(super) fn add<L: Local>(&mut self, range: Range, held: &VersionVector, local: &L) -> Result<(), L::Error> {
        let chain = range.chain;
        let (first, mut last) = (range.first.max(1), range.last.min(held.get(&chain)));
        if first > last {
            return Ok(());
        }
        if let Some((place, known)) = self.ranges.get_mut(&chain) {
            *known = last.max(*known);
            last = *known;
            if place.counter <= first {
                return Ok(());
            }
        }
        self.begin(chain, first, last, local)
    }

    /// Takes the next commit: all its ancestors that are to be sent were taken before.
    pub(super) fn next<L: Local>(&mut self, local: &L) -> Result<Option<Place>, L::Error> {
        let Some(place) = self.places.first().copied() else { return Ok(None) };
        let Some((_, last)) = self.ranges.get(&place.chain).copied() else { return Ok(None) };
        if place.counter < last {
            self.begin(place.chain, place.counter + 1, last, local)?;
        } else {
            self.end(&place.chain);
        }
        Ok(Some(place))
    }

    /// Lets the range of `chain` be from `first` to `last`; ends it if the first is not here.
    fn begin<L: Local>(&mut self, chain: ChainId, first: u64, last: u64, local: &L) -> Result<(), L::Error> {
        self.end(&chain);
        let Some(id) = local.at(&chain, first)? else { return Ok(()) };
        let Some(meta) = local.meta(&id)? else { return Ok(()) };
        let place = Place { time: meta.time, id, chain, counter: first };
        self.places.insert(place);
        self.ranges.insert(chain, (place, last));
        Ok(())
    }

    fn end(&mut self, chain: &ChainId) {
        if let Some((place, _)) = self.ranges.remove(chain) {
            self.places.remove(&place);
        }
    }
}
