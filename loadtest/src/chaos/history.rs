//! What clients were told while members failed, and what may therefore be found afterwards.
//!
//! Law: of each document a member may hold the last write that is still owed, or one after it whose end is unknown or that no acknowledgement
//! covers any more; nothing else. A write is owed while one of those who hold it, at the level they said, has met no fault that the level does
//! not survive. Each document has one writer, who writes it again only once the write before has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use herdbook_model::id::CommitId;
use herdbook_proto::ack::Level;

use crate::ledger::{Finding, Found, Held};

/// Members that hold a write, and how safely.
pub(super) type Holders = BTreeMap<usize, Level>;

/// How often members lost what they held, and how much of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Losses(BTreeMap<usize, Loss>);

#[derive(Debug, Clone, Copy, Default)]
struct Loss {
    all: u64,
    unsynced: u64,
}

impl Losses {
    /// Returns how often `member` lost what it held as safely as `level`.
    pub(super) fn of(&self, member: usize, level: Level) -> u64 {
        let Loss { all, unsynced } = self.0.get(&member).copied().unwrap_or_default();
        if level == Level::Durable { all } else { all + unsynced }
    }
}

#[derive(Debug, Clone)]
enum End {
    Unknown,
    /// Acknowledged, and held so; by nobody: not owed any more.
    Acknowledged {
        holders: Holders,
        at: Instant,
    },
}

#[derive(Debug, Clone)]
struct Written {
    held: Held,
    end: End,
}

/// What clients were told.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Here, so that what is noted of a write and what is lost of it come one after the other.
    losses: Losses,
    documents: BTreeMap<String, Vec<Written>>,
    /// Documents of which a write met a loss of data, so that it may have been made twice: only that nobody else's are touched is known.
    blurred: BTreeSet<String>,
    commits: BTreeMap<CommitId, (Holders, Instant)>,
    acknowledged: u64,
    by_member: BTreeMap<usize, u64>,
    unknown: u64,
}

impl History {
    /// Returns how often members lost what they held.
    pub(super) const fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Notes that a write that was asked for after `asked` was acknowledged by `member`, held by `holders`; those that lost all since then may
    /// have said so before.
    pub(super) fn acknowledge(&mut self, key: &str, held: Held, commit: CommitId, member: usize, mut holders: Holders, asked: &Losses) {
        holders.retain(|holder, level| self.losses.of(*holder, *level) == asked.of(*holder, *level));
        let at = Instant::now();
        let end = End::Acknowledged { holders: holders.clone(), at };
        self.documents.entry(key.to_owned()).or_default().push(Written { held, end });
        // Requests that share a commit are acknowledged each with its own wait; the commit is owed by all that any of them was told.
        let (all, first) = self.commits.entry(commit).or_insert((Holders::new(), at));
        for (holder, level) in holders {
            let known = all.entry(holder).or_insert(level);
            *known = level.max(*known);
        }
        *first = at.min(*first);
        self.acknowledged += 1;
        *self.by_member.entry(member).or_default() += 1;
    }

    /// Notes that nobody knows whether a write took place.
    pub(super) fn doubt(&mut self, key: &str, held: Held) {
        self.documents.entry(key.to_owned()).or_default().push(Written { held, end: End::Unknown });
        self.unknown += 1;
    }

    /// Notes that a write may have taken place twice.
    pub(super) fn blur(&mut self, key: &str) {
        self.blurred.insert(key.to_owned());
    }

    /// Notes that `member` may not know any more what its clients were told, though all of it is owed.
    pub(super) fn begin_anew(&mut self, member: usize) {
        self.losses.0.entry(member).or_default().all += 1;
    }

    /// Notes that `member` lost what it held less safely than `survives` (none: all it held) and was acknowledged after `since` (none: ever).
    /// It must not run: a process that was asked to end answers until it does.
    pub(super) fn lose(&mut self, member: usize, survives: Option<Level>, since: Option<Instant>) {
        let loss = self.losses.0.entry(member).or_default();
        if survives.is_some() {
            loss.unsynced += 1;
        } else {
            loss.all += 1;
        }
        let lost = |holders: &mut Holders, at: Instant| {
            let is_lost = holders.get(&member).is_some_and(|level| survives.is_none_or(|survives| *level < survives));
            if is_lost && since.is_none_or(|since| at >= since) {
                holders.remove(&member);
            }
        };
        for written in self.documents.values_mut().flatten() {
            if let End::Acknowledged { holders, at } = &mut written.end {
                lost(holders, *at);
            }
        }
        for (holders, at) in self.commits.values_mut() {
            lost(holders, *at);
        }
    }

    /// Returns how many writes were acknowledged.
    pub(super) const fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Returns how many of them `member` acknowledged.
    pub(super) fn acknowledged_by(&self, member: usize) -> u64 {
        self.by_member.get(&member).copied().unwrap_or(0)
    }

    /// Returns of how many writes nobody knows the end.
    pub(super) const fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Returns how many documents were written, and of how many only little can be said.
    pub(super) fn documents(&self) -> (u64, u64) {
        (self.documents.len() as u64, self.blurred.len() as u64)
    }

    /// Returns the commits that are still owed.
    pub(super) fn owed(&self) -> impl Iterator<Item = CommitId> + '_ {
        self.commits.iter().filter(|(_, (holders, _))| !holders.is_empty()).map(|(commit, _)| *commit)
    }

    /// Returns a commit that `member` is owed to hold durably, the newest of them.
    pub(super) fn newest_of(&self, member: usize) -> Option<CommitId> {
        let held = self.commits.iter().filter(|(_, (holders, _))| holders.get(&member) == Some(&Level::Durable));
        held.max_by_key(|(_, (_, at))| *at).map(|(commit, _)| *commit)
    }

    /// Returns how what `node` holds breaks the law, by key.
    pub(super) fn judge(&self, node: &str, found: &BTreeMap<String, Found>) -> Vec<Finding> {
        let written = self.documents.iter().filter(|(key, _)| !self.blurred.contains(*key)).filter_map(|(key, writes)| {
            let held = match found.get(key) {
                None => Held::Absent,
                Some(Found::Revision(revision)) => Held::Revision(*revision),
                Some(Found::Altered) => return Some(Finding::Altered { node: node.to_owned(), key: key.clone() }),
            };
            let is_owed = |written: &Written| matches!(&written.end, End::Acknowledged { holders, .. } if !holders.is_empty());
            let last = writes.iter().rposition(is_owed);
            let may_be = writes[last.unwrap_or(0)..].iter().any(|written| written.held == held) || last.is_none() && held == Held::Absent;
            let (node, key) = (node.to_owned(), key.clone());
            match last {
                _ if may_be => None,
                Some(last) if writes[..last].iter().any(|written| written.held == held) || held == Held::Absent => {
                    Some(Finding::Lost { node, key, acknowledged: writes[last].held, found: held })
                }
                _ => Some(Finding::Extra { node, key, found: held }),
            }
        });
        let unwritten = found.keys().filter(|key| !self.documents.contains_key(*key));
        let unwritten = unwritten.map(|key| match found[key] {
            Found::Revision(revision) => Finding::Extra { node: node.to_owned(), key: key.clone(), found: Held::Revision(revision) },
            Found::Altered => Finding::Altered { node: node.to_owned(), key: key.clone() },
        });
        written.chain(unwritten).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: usize = 1;
    const BOB: usize = 2;

    fn holders(of: &[(usize, Level)]) -> Holders {
        of.iter().copied().collect()
    }

    fn commit(number: u8) -> CommitId {
        CommitId([number; 32])
    }

    fn found(documents: &[(&str, u64)]) -> BTreeMap<String, Found> {
        documents.iter().map(|(key, revision)| ((*key).to_owned(), Found::Revision(*revision))).collect()
    }

    /// Document `a` at revision 0 with alice and bob, at revision 1 with alice alone, at revision 2 with an unknown end.
    fn history() -> History {
        let mut history = History::default();
        history.acknowledge(
            "a",
            Held::Revision(0),
            commit(0),
            ALICE,
            holders(&[(ALICE, Level::Durable), (BOB, Level::Durable)]),
            &Losses::default(),
        );
        history.acknowledge("a", Held::Revision(1), commit(1), ALICE, holders(&[(ALICE, Level::Durable)]), &Losses::default());
        history.doubt("a", Held::Revision(2));
        history
    }

    fn is_sound(history: &History, documents: &[(&str, u64)]) -> bool {
        history.judge("node", &found(documents)).is_empty()
    }

    #[test]
    fn the_last_write_owed_or_one_of_unknown_end_may_be_found_and_none_before() {
        let history = history();
        assert!(is_sound(&history, &[("a", 1)]) && is_sound(&history, &[("a", 2)]));
        let lost = |held| Finding::Lost { node: "node".to_owned(), key: "a".to_owned(), acknowledged: Held::Revision(1), found: held };
        assert_eq!(history.judge("node", &found(&[("a", 0)])), [lost(Held::Revision(0))]);
        assert_eq!(history.judge("node", &found(&[])), [lost(Held::Absent)]);
        assert_eq!(history.owed().count(), 2);
    }

    #[test]
    fn what_only_a_wiped_member_held_is_not_owed_and_what_another_holds_is() {
        let mut history = history();
        history.lose(ALICE, None, None);
        assert!([0, 1, 2].iter().all(|revision| is_sound(&history, &[("a", *revision)])));
        assert!(!is_sound(&history, &[]), "bob holds revision 0");
        assert_eq!(history.owed().collect::<Vec<_>>(), [commit(0)]);
        history.lose(BOB, None, None);
        assert!(is_sound(&history, &[]));
    }

    #[test]
    fn a_power_cut_takes_what_was_only_with_the_system_and_nothing_durable() {
        let mut history = history();
        history.acknowledge("b", Held::Revision(0), commit(2), ALICE, holders(&[(ALICE, Level::Process)]), &Losses::default());
        history.lose(ALICE, Some(Level::Durable), None);
        assert!(is_sound(&history, &[("a", 1)]) && !is_sound(&history, &[("a", 0)]), "revision 1 is durable");
        assert!(is_sound(&history, &[("a", 1), ("b", 0)]));
    }

    #[test]
    fn an_old_copy_takes_what_came_after_it_was_made() {
        let mut history = history();
        let copied = Instant::now();
        history.acknowledge("a", Held::Revision(3), commit(3), ALICE, holders(&[(ALICE, Level::Durable)]), &Losses::default());
        history.lose(ALICE, None, Some(copied));
        assert!(is_sound(&history, &[("a", 1)]) && is_sound(&history, &[("a", 3)]) && !is_sound(&history, &[("a", 0)]));
    }

    #[test]
    fn whoever_lost_all_between_question_and_answer_does_not_hold_it() {
        let mut history = History::default();
        let asked = history.losses().clone();
        history.lose(ALICE, None, None);
        history.lose(BOB, Some(Level::Durable), None);
        assert_eq!((history.losses().of(ALICE, Level::Durable), history.losses().of(BOB, Level::Durable)), (1, 0));
        let both = |level| holders(&[(ALICE, Level::Durable), (BOB, level)]);
        history.acknowledge("a", Held::Revision(0), commit(0), ALICE, both(Level::Process), &asked);
        assert!(is_sound(&history, &[]) && is_sound(&history, &[("a", 0)]));
        history.acknowledge("b", Held::Revision(0), commit(1), ALICE, both(Level::Durable), &asked);
        assert_eq!(history.owed().collect::<Vec<_>>(), [commit(1)], "bob has synced it");
    }

    #[test]
    fn what_nobody_wrote_is_extra_whatever_failed() {
        let mut history = history();
        history.lose(ALICE, None, None);
        history.lose(BOB, None, None);
        for documents in [&[("a", 7)][..], &[("c", 0)]] {
            assert!(matches!(&history.judge("node", &found(documents))[..], [Finding::Extra { .. }]), "{documents:?}");
        }
    }

    #[test]
    fn of_a_blurred_document_nothing_is_said() {
        let mut history = history();
        history.blur("a");
        assert!(is_sound(&history, &[]) && is_sound(&history, &[("a", 0)]));
        assert_eq!(history.documents(), (1, 1));
    }
}
