//! How two sides find that nothing is left to say: summaries, and roots where the summaries are equal.

use std::time::Duration;

use super::{Exchange, KEEPALIVE, Now, Output, PATIENCE, Plant, QUIET};
use crate::{
    evidence::Diverged,
    local::Local,
    message::{MAX_BRANCHES, Message, Refusal, RootOf, Summary},
};

/// What was said of summaries and roots.
#[derive(Debug, Default)]
pub(super) struct Settling {
    told: Summary,
    told_at: Duration,
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

    pub(super) const fn is_settled(&self) -> bool {
        self.settled.is_some()
    }
}

impl Exchange {
    pub(super) fn summary<L: Local>(&self, local: &L) -> Summary {
        Summary { newest: local.log().newest(), digest: local.digest() }
    }

    /// Whether two summaries tell of the same commits.
    pub(super) fn agrees(&self, mine: &Summary, theirs: &Summary) -> bool {
        let nothing = crate::summary::digest([]);
        let both_hold = mine.digest != nothing && theirs.digest != nothing;
        mine.digest == theirs.digest || self.settings.has(Plant::DigestsEqual) && both_hold
    }

    /// Returns the summary, which is told now.
    pub(super) fn told_summary<L: Local>(&mut self, now: Now, local: &L) -> Summary {
        let summary = self.summary(local);
        self.settling.told = summary.clone();
        self.settling.told_at = now.elapsed;
        summary
    }

    pub(super) fn summarised<L: Local>(&mut self, summary: Summary, now: Now, local: &L) -> Result<(), L::Error> {
        self.peer.summary = summary;
        self.ask_entries(now, local);
        self.settle(now, local)
    }

    /// Compares what both sides hold; says this side's summary if it is news or time.
    pub(super) fn settle<L: Local>(&mut self, now: Now, local: &L) -> Result<(), L::Error> {
        let mine = self.summary(local);
        if self.agrees(&mine, &self.peer.summary) && mine.newest == self.peer.summary.newest {
            if self.settling.settled.as_ref() != Some(&mine) {
                self.vectors.equal(&local.vector());
                self.settling.settled = Some(mine.clone());
                self.outputs.push_back(Output::Settled(mine.clone()));
                self.check_covered(local);
                self.tell_roots(local)?;
            }
        } else {
            self.settling.settled = None;
            self.compare_again(&mine, now, local);
        }
        let silence = now.elapsed.saturating_sub(self.settling.told_at);
        let is_news = mine != self.settling.told && silence >= QUIET && self.outgoing.is_empty();
        if is_news || silence >= KEEPALIVE {
            let summary = self.told_summary(now, local);
            self.send(Message::Summary(summary));
        }
        Ok(())
    }

    /// Tells the vector if the digests differ though nothing has moved for a while: something that one side counted on did not come.
    fn compare_again<L: Local>(&mut self, mine: &Summary, now: Now, local: &L) {
        let pair = (mine.digest, self.peer.summary.digest);
        let is_idle = self.outgoing.is_empty() && !self.incoming.is_storing() && self.push.is_idle();
        let is_quiet = now.elapsed.saturating_sub(self.settling.moved) >= PATIENCE;
        if is_idle && is_quiet && !self.agrees(mine, &self.peer.summary) && self.settling.compared != Some(pair) {
            self.settling.compared = Some(pair);
            self.retell_vector(now, local);
        }
    }

    fn tell_roots<L: Local>(&mut self, local: &L) -> Result<(), L::Error> {
        let mut roots = local.roots()?;
        roots.truncate(MAX_BRANCHES);
        if !roots.is_empty() && roots != self.settling.roots {
            self.settling.roots.clone_from(&roots);
            self.send(Message::Roots(roots));
        }
        Ok(())
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
