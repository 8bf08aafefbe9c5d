//! The head log: who is behind asks from the first place where the logs differ; new entries of a log that the peer follows are pushed.
//!
//! Entries leave as [`Output::Entries`] and the node's log decides about them. Here only two things are decided: what is news, and
//! whether two entries of one place and epoch prove that the authority signed twice.

use std::time::Duration;

use herdbook_model::authority::{self, Entry, Kind, Log, Position};

use super::{Exchange, Now, Output, PATIENCE};
use crate::{
    evidence::Evidence,
    local::Local,
    message::{MAX_PAYLOAD, Message, Purpose, Refusal},
};

/// How many new entries are pushed at most; who is further behind asks.
const PUSHED: u64 = 64;

/// Where this side is in reading the peer's log.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// When entries were asked for that did not come yet.
    asked: Option<Duration>,
    /// How far back the next question goes if this one does not meet a common entry.
    back: u64,
    /// Whether the logs contradict each other across epochs; nothing more is asked until this node's changes.
    contradicts: bool,
    /// The newest entry handed out by an authority that recovers: it compares logs elsewhere and takes none here.
    recovered: Option<Position>,
    recovers: bool,
    /// The place from which entries are to be asked for.
    wants: Option<u64>,
    /// The place from which entries are owed to the peer.
    owes: Option<u64>,
    /// Whether they are owed because they are new, and not because the peer asked.
    pushes: bool,
    /// Whether entries were handed out and the log did not answer yet.
    taking: bool,
}

impl Reading {
    /// Whether nothing of the peer's log is news: its `newest` entry is in `log`.
    pub(super) fn is_caught_up(&self, log: &Log, newest: Option<Position>) -> bool {
        let Some(newest) = newest else { return true };
        if self.recovers { self.recovered == Some(newest) } else { self.contradicts || log.entry_at(newest.seq) == Some(newest) }
    }
}

impl Exchange {
    /// Asks for the entries this side lacks, if the peer has any and was not asked lately.
    pub(super) fn ask_entries<L: Local>(&mut self, now: Now, local: &L) {
        self.log.recovers = self.settings.purpose == Purpose::Recover;
        let (log, newest) = (local.log(), self.peer.summary.newest);
        let is_asked = self.log.asked.is_some_and(|asked| now.elapsed.saturating_sub(asked) < PATIENCE);
        let Some(newest) = newest.filter(|_| !is_asked && !self.log.is_caught_up(&log, newest)) else { return };
        let first = if self.log.recovers {
            self.log.recovered.map_or(0, |position| position.seq + 1)
        } else {
            log.newest().map_or(0, |mine| (mine.seq + 1).min(newest.seq))
        };
        self.want_entries(first, now);
    }

    fn want_entries(&mut self, first: u64, now: Now) {
        self.log.asked = Some(now.elapsed);
        self.log.wants = Some(first);
    }

    pub(super) const fn entries_wanted(&mut self, first: u64) {
        self.log.owes = Some(first);
        self.log.pushes = false;
    }

    /// Returns the next question or answer about the log.
    pub(super) fn next_of_log<L: Local>(&mut self, local: &L) -> Result<Option<Message>, L::Error> {
        if let Some(first) = self.log.wants.take() {
            return Ok(Some(Message::WantEntries { first }));
        }
        let Some(first) = self.log.owes.take() else { return Ok(None) };
        let Some(newest) = local.log().newest().filter(|newest| newest.seq >= first) else { return Ok(None) };
        let entries = local.entries(first, MAX_PAYLOAD)?;
        if self.log.pushes && entries.last().is_some_and(|last| last.id() == newest.id) {
            self.peer.summary.newest = Some(newest);
        }
        Ok((!entries.is_empty()).then_some(Message::Entries(entries)))
    }

    pub(super) fn entries_came<L: Local>(&mut self, entries: Vec<Entry>, now: Now, local: &L) -> Result<(), L::Error> {
        let in_order =
            entries.windows(2).all(|pair| pair[0].seq.checked_add(1) == Some(pair[1].seq) && pair[1].previous == Some(pair[0].id()));
        let (Some(first), Some(last), true) = (entries.first(), entries.last(), in_order) else {
            self.refuse(Refusal::Broken);
            return Ok(());
        };
        self.log.asked = None;
        let end = Position { epoch: last.epoch, seq: last.seq, id: last.id() };
        if self.peer.summary.newest.is_none_or(|newest| newest.seq < end.seq) {
            self.peer.summary.newest = Some(end);
        }
        if self.log.recovers {
            if first.seq == self.log.recovered.map_or(0, |position| position.seq + 1) {
                self.log.recovered = Some(end);
                self.outputs.push_back(Output::Entries(entries));
                self.ask_entries(now, local);
                self.check_covered(local);
            }
            return Ok(());
        }
        if self.log.taking {
            // Asked for again when the log has taken what it was given.
            return Ok(());
        }
        let log = local.log();
        let next = log.newest().map_or(0, |newest| newest.seq + 1);
        if first.seq > next {
            self.want_entries(next, now);
            return Ok(());
        }
        if first.seq > 0 && first.previous != log.entry_at(first.seq - 1).map(|known| known.id) {
            // No common entry yet: goes back twice as far each time.
            self.log.back = (self.log.back * 2).max(1);
            self.want_entries(first.seq.saturating_sub(self.log.back), now);
            return Ok(());
        }
        self.log.back = 0;
        let known = entries.iter().take_while(|entry| log.entry_at(entry.seq).is_some_and(|known| known.id == entry.id())).count();
        let news: Vec<Entry> = entries.into_iter().skip(known).collect();
        let Some(other) = news.first() else {
            self.ask_entries(now, local);
            return Ok(());
        };
        if let Some(known) = log.entry_at(other.seq) {
            if known.epoch == other.epoch {
                return self.fork(known, other.clone(), &log, local);
            }
            self.log.contradicts = true;
        }
        self.log.taking = true;
        self.outputs.push_back(Output::Entries(news));
        Ok(())
    }

    fn fork<L: Local>(&mut self, known: Position, other: Entry, log: &Log, local: &L) -> Result<(), L::Error> {
        let signer = authority_at(known.epoch, log, local)?;
        if signer.is_some_and(|key| other.is_signed_by(&key)) {
            self.outputs.push_back(Output::Evidence(Evidence::LogFork { known, other: Box::new(other) }));
            self.refuse(Refusal::Fork);
        } else {
            self.refuse(Refusal::Broken);
        }
        Ok(())
    }

    /// Pushes what is new in this node's log, if the peer follows it closely; goes on reading the peer's.
    pub(super) fn log_changed<L: Local>(&mut self, now: Now, local: &L) -> Result<(), L::Error> {
        self.log.contradicts = false;
        self.log.asked = None;
        self.log.taking = false;
        let log = local.log();
        let first = match self.peer.summary.newest {
            None => 0,
            Some(known) if log.entry_at(known.seq) == Some(known) => known.seq + 1,
            Some(_) => {
                self.ask_entries(now, local);
                return Ok(());
            }
        };
        let is_close = log.newest().is_some_and(|newest| newest.seq >= first && newest.seq - first < PUSHED);
        if is_close && self.log.owes.is_none() {
            self.log.owes = Some(first);
            self.log.pushes = true;
        }
        self.check_covered(local);
        Ok(())
    }

    pub(super) fn log_refused(&mut self, error: &authority::Error) {
        self.log.taking = false;
        let is_fork = matches!(error, authority::Error::Fork { .. });
        self.refuse(if is_fork { Refusal::Fork } else { Refusal::Broken });
    }
}

/// Returns the key that signed `epoch` in this node's log: the certificate in the entry that opened it, found by bisection.
fn authority_at<L: Local>(epoch: u64, log: &Log, local: &L) -> Result<Option<[u8; 32]>, L::Error> {
    let (mut low, mut high) = (0, log.newest().map_or(0, |newest| newest.seq + 1));
    while low < high {
        let middle = low + (high - low) / 2;
        if log.entry_at(middle).is_some_and(|entry| entry.epoch < epoch) { low = middle + 1 } else { high = middle }
    }
    let opening = local.entries(low, 1)?.into_iter().next();
    Ok(opening.and_then(|entry| match entry.kind {
        Kind::Epoch { certificate } if entry.epoch == epoch => Some(certificate.key),
        _ => None,
    }))
}
