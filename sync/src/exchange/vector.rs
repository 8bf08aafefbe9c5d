//! Version vectors: one from each side, and each knows exactly what the other lacks.

use std::time::Duration;

use herdbook_model::{id::ChainId, vector::VersionVector};

use super::{Exchange, KEEPALIVE, Now, Output, PATIENCE};
use crate::{
    local::Local,
    message::{MAX_CHAINS, Message, Purpose, Refusal},
};

/// What is known of the peer's commits.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    /// What the peer holds, was sent or says it has; `None` until it is known.
    theirs: Option<VersionVector>,
    /// When this side last told its own.
    told: Option<Duration>,
    /// When the vector is told next for commits that wait for ancestors.
    orphans: Option<Duration>,
    /// What a member held when it first told all of it, until that is here; kept by who restores itself. What it writes meanwhile is not
    /// waited for: it may write faster than that comes.
    goal: Option<VersionVector>,
    /// Whether there was such a goal.
    has_goal: bool,
    /// Whether this side's vector is to be told.
    owes: bool,
}

impl Vectors {
    pub(super) const fn theirs(&self) -> Option<&VersionVector> {
        self.theirs.as_ref()
    }

    /// Notes that the peer has, or gets, this commit.
    pub(super) fn raise(&mut self, chain: ChainId, counter: u64) {
        if let Some(theirs) = &mut self.theirs {
            theirs.raise(chain, counter);
        }
    }

    /// Sets the goal, the first time.
    fn aim(&mut self, vector: &VersionVector) {
        if !std::mem::replace(&mut self.has_goal, true) {
            self.goal = Some(vector.clone());
        }
    }

    /// Whether the peer names more chains than may be.
    pub(super) fn is_beyond(&self) -> bool {
        self.theirs.as_ref().is_some_and(|theirs| theirs.len() > MAX_CHAINS)
    }

    /// Returns the bytes held.
    pub(super) fn held(&self) -> usize {
        let bytes = |vector: &VersionVector| vector.len() * size_of::<(ChainId, u64)>();
        self.theirs.as_ref().map_or(0, bytes) + self.goal.as_ref().map_or(0, bytes)
    }

    /// Notes that both sides hold the same.
    pub(super) fn equal(&mut self, mine: &VersionVector) {
        match &mut self.theirs {
            Some(theirs) => theirs.merge(mine),
            None => self.theirs = Some(mine.clone()),
        }
    }

    /// Notes that this side tells its own, in whatever way.
    pub(super) const fn note_told(&mut self, now: Now) {
        self.told = Some(now.elapsed);
    }

    /// Takes it that the peer holds at least this.
    pub(super) fn believe(&mut self, theirs: VersionVector) {
        match &mut self.theirs {
            Some(known) => known.merge(&theirs),
            None => self.theirs = Some(theirs),
        }
    }

    fn is_told_lately(&self, now: Now) -> bool {
        self.told.is_some_and(|told| now.elapsed.saturating_sub(told) < PATIENCE)
    }
}

impl Exchange {
    pub(super) const fn tell_vector(&mut self, now: Now) {
        self.vectors.note_told(now);
        self.vectors.owes = true;
    }

    /// Returns this side's vector if it is to be told.
    pub(super) fn next_vector<L: Local>(&mut self, local: &L) -> Option<Message> {
        std::mem::take(&mut self.vectors.owes).then(|| {
            self.tally.vectors += 1;
            let vector = local.vector();
            self.comparison.tells(vector.clone());
            Message::Vector((*vector).clone())
        })
    }

    /// Tells the vector again, unless that was done lately.
    pub(super) fn retell_vector(&mut self, now: Now) {
        if !self.vectors.is_told_lately(now) && !self.fetch.is_first() {
            self.tell_vector(now);
        }
    }

    /// Tells the vector, so that the peer sends what is lacking, when commits have waited too long for ancestors.
    pub(super) fn ask_for_orphans(&mut self, now: Now) {
        if !self.incoming.quarantine.has_orphans() {
            self.vectors.orphans = None;
        } else if *self.vectors.orphans.get_or_insert(now.elapsed + PATIENCE) <= now.elapsed {
            self.vectors.orphans = Some(now.elapsed + KEEPALIVE);
            self.tell_vector(now);
        }
    }

    pub(super) fn compared<L: Local>(&mut self, vector: VersionVector, now: Now, local: &L) -> Result<(), L::Error> {
        if vector.len() > MAX_CHAINS {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        let mine = local.vector();
        let is_under_way = !self.outgoing.is_empty() || self.incoming.is_storing();
        for range in vector.missing_from(&mine) {
            self.outgoing.add(range, &mine, local)?;
        }
        let is_lacking = !mine.covers(&vector);
        // Nothing to send, or a second vector with nothing on the way: something that both count as known is not the same on both sides.
        let is_odd = vector == *mine || self.vectors.theirs.is_some() && !is_under_way;
        if is_odd && !self.agrees(&self.summary(local).0, &self.peer.summary) {
            self.push.announce_common(vector.clone());
        }
        self.outputs.push_back(Output::Holds(vector.clone()));
        if self.vectors.told.is_none() && self.is_brief() && !self.fetch.is_first() {
            self.tell_lacks(&vector, &mine, now);
        }
        self.aim(&vector);
        // Replaces what was believed: the peer knows best, and what was sent meanwhile only costs a duplicate.
        self.vectors.theirs = Some(vector);
        if is_lacking {
            self.retell_vector(now);
        }
        self.check_covered(local);
        Ok(())
    }

    /// Notes that the peer holds all of this, and maybe nothing else. Before the first call nothing is known to be covered.
    pub(super) fn aim(&mut self, vector: &VersionVector) {
        if self.settings.purpose == Purpose::Recover {
            self.vectors.aim(vector);
        }
    }

    /// Says so, once, when everything is here that the peer held when it first told all of it.
    pub(super) fn check_covered<L: Local>(&mut self, local: &L) {
        let is_covered = self.vectors.goal.as_ref().is_some_and(|goal| local.vector().covers(goal));
        if is_covered && self.log.is_caught_up(&local.log(), self.peer.summary.newest) {
            self.vectors.goal = None;
            self.outputs.push_back(Output::Covered);
        }
    }
}
