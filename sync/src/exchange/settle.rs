//! How two sides find that nothing is left to say: summaries, and roots where the summaries are equal.

use std::{sync::Arc, time::Duration};

use herdbook_model::vector::VersionVector;

use super::{Exchange, KEEPALIVE, Now, Output, PATIENCE, Plant, QUIET};
use crate::{
    evidence::Diverged,
    local::{Held, Local},
    message::{MAX_BRANCHES, Message, Refusal, RootOf, Summary},
};

/// What was said of summaries and roots.
#[derive(Debug, Default)]
pub(super) struct Settling {
    told: Summary,
    /// What this side held when it made that summary.
    told_held: Arc<VersionVector>,
    told_at: Duration,
    /// Whether the summary is to be told.
    owes: bool,
    /// Whether roots are to be told.
    owes_roots: bool,
    /// The summary at which both sides were last equal.
    settled: Option<Summary>,
    /// When commits last came or went.
    pub(super) moved: Duration,
    /// The digests, this side's and the peer's, about which the vector was told.
    compared: Option<([u8; 32], [u8; 32])>,
    /// The roots last told, so that they are told once.
    roots: Vec<RootOf>,
}

impl Settling {
    /// Returns the summary last told.
    pub(super) fn told(&self) -> Summary {
        self.told.clone()
    }

    /// Returns what was held when the summary last told was made.
    pub(super) fn told_held(&self) -> Arc<VersionVector> {
        self.told_held.clone()
    }

    /// Notes when the summary was last told.
    pub(super) const fn told_at(&mut self, now: Now) {
        self.told_at = now.elapsed;
    }

    /// Returns the bytes held.
    pub(super) const fn held(&self) -> usize {
        self.roots.len() * size_of::<RootOf>()
    }

    pub(super) const fn is_settled(&self) -> bool {
        self.settled.is_some()
    }
}

impl Exchange {
    /// Returns this side's summary with the commits that its digest names, both of one moment.
    pub(super) fn summary<L: Local>(&self, local: &L) -> (Summary, Arc<VersionVector>) {
        let Held { digest, vector } = local.held();
        (Summary { newest: local.log().newest(), digest }, vector)
    }

    /// Whether two summaries tell of the same commits.
    pub(super) fn agrees(&self, mine: &Summary, theirs: &Summary) -> bool {
        let nothing = crate::summary::digest([]);
        let both_hold = mine.digest != nothing && theirs.digest != nothing;
        mine.digest == theirs.digest || self.settings.has(Plant::DigestsEqual) && both_hold
    }

    /// Returns the summary, which is told now.
    pub(super) fn told_summary<L: Local>(&mut self, local: &L) -> Summary {
        let (summary, held) = self.summary(local);
        self.settling.told = summary.clone();
        self.settling.told_held = held;
        summary
    }

    /// Returns the next summary or roots, if they are owed.
    pub(super) fn next_of_settling<L: Local>(&mut self, local: &L) -> Result<Option<Message>, L::Error> {
        if std::mem::take(&mut self.settling.owes) {
            return Ok(Some(Message::Summary(self.told_summary(local))));
        }
        if !std::mem::take(&mut self.settling.owes_roots) {
            return Ok(None);
        }
        let mut roots = local.roots()?;
        roots.truncate(MAX_BRANCHES);
        if roots.is_empty() || roots == self.settling.roots {
            return Ok(None);
        }
        self.settling.roots.clone_from(&roots);
        Ok(Some(Message::Roots(roots)))
    }

    pub(super) fn summarised<L: Local>(&mut self, summary: Summary, now: Now, local: &L) {
        self.peer.summary = summary;
        self.ask_entries(now, local);
        self.settle(now, local);
    }

    /// Compares what both sides hold; says this side's summary if it is news or time.
    pub(super) fn settle<L: Local>(&mut self, now: Now, local: &L) {
        let (mine, held) = self.summary(local);
        if self.agrees(&mine, &self.peer.summary) && mine.newest == self.peer.summary.newest {
            if self.settling.settled.as_ref() != Some(&mine) {
                self.vectors.equal(&held);
                self.aim(&held);
                self.settling.settled = Some(mine.clone());
                self.settling.owes_roots = true;
                self.outputs.push_back(Output::Settled(held));
                self.check_covered(local);
            }
        } else {
            self.settling.settled = None;
            self.compare_again(&mine, now);
        }
        let silence = now.elapsed.saturating_sub(self.settling.told_at);
        let is_news = mine != self.settling.told && silence >= QUIET && self.outgoing.is_empty();
        if is_news || silence >= KEEPALIVE {
            self.settling.told_at(now);
            self.settling.owes = true;
        }
    }

    /// Tells the vector if the digests differ though nothing has moved for a while: something that one side counted on did not come.
    fn compare_again(&mut self, mine: &Summary, now: Now) {
        let pair = (mine.digest, self.peer.summary.digest);
        let is_idle = self.outgoing.is_empty() && !self.incoming.is_storing() && self.push.is_idle();
        let is_quiet = now.elapsed.saturating_sub(self.settling.moved) >= PATIENCE;
        if is_idle && is_quiet && !self.agrees(mine, &self.peer.summary) && self.settling.compared != Some(pair) {
            self.settling.compared = Some(pair);
            self.retell_vector(now);
        }
    }

    pub(super) fn roots_came<L: Local>(&mut self, roots: &[RootOf], local: &L) -> Result<(), L::Error> {
        if roots.len() > MAX_BRANCHES {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        for ours in local.roots()? {
            let same =
                |theirs: &&RootOf| (&theirs.branch, theirs.frontier, theirs.judgement) == (&ours.branch, ours.frontier, ours.judgement);
            if let Some(theirs) = roots.iter().find(same).filter(|theirs| theirs.root != ours.root) {
                let diverged = Diverged { branch: ours.branch, ours: ours.root, theirs: theirs.root };
                self.outputs.push_back(Output::Alarm(diverged));
                self.refuse(Refusal::Diverged);
                return Ok(());
            }
        }
        Ok(())
    }
}
