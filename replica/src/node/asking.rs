//! When a member asks others where those listen whose address it does not know.
//!
//! Whoever is new is asked for at once. Those whom nobody could tell of are asked for ever less often, so that an idle member is quiet; of these, those
//! that it talks to anyway, only now and then: their address is for the day when they are gone.

use std::{collections::BTreeSet, time::Duration};

use herdbook_model::id::ReplicaId;
use tokio::time::Instant;

/// First and longest pause between two questions for members that nothing leads to.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Pause after a question that nobody answered.
const UNANSWERED: Duration = Duration::from_secs(5);

/// Pause between two questions for members that an exchange is open with.
const REMINDER: Duration = Duration::from_secs(600);

/// Members whose address is not known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unaddressed {
    /// Those that no exchange is open with.
    pub(super) strangers: BTreeSet<ReplicaId>,
    /// Those that one is open with.
    pub(super) connected: BTreeSet<ReplicaId>,
}

/// What was asked last.
#[derive(Debug, Default)]
pub(super) struct Asking {
    last: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    at: Instant,
    of: BTreeSet<ReplicaId>,
    answered: bool,
    /// Pause until strangers are asked for again.
    pause: Duration,
}

impl Asking {
    /// Whether to ask `now`.
    pub(super) fn is_due(&self, unaddressed: &Unaddressed, now: Instant) -> bool {
        let Unaddressed { strangers, connected } = unaddressed;
        if strangers.is_empty() && connected.is_empty() {
            return false;
        }
        let Some(last) = &self.last else { return true };
        let pause = match last.answered {
            false => UNANSWERED,
            true if strangers.is_empty() => REMINDER,
            true => last.pause,
        };
        let is_new = last.answered && strangers.union(connected).any(|member| !last.of.contains(member));
        is_new || now.duration_since(last.at) >= pause
    }

    /// Notes that it was asked, and whether anybody answered.
    pub(super) fn note(&mut self, unaddressed: Unaddressed, answered: bool, now: Instant) {
        let Unaddressed { strangers: mut of, mut connected } = unaddressed;
        of.append(&mut connected);
        let pause = match &self.last {
            Some(last) if last.answered && of.is_subset(&last.of) => (2 * last.pause).min(PAUSE.1),
            _ => PAUSE.0,
        };
        self.last = Some(Asked { at: now, of, answered, pause });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(ids: &[u8]) -> BTreeSet<ReplicaId> {
        ids.iter().map(|id| ReplicaId([*id; 32])).collect()
    }

    fn unaddressed(strangers: &[u8], connected: &[u8]) -> Unaddressed {
        Unaddressed { strangers: members(strangers), connected: members(connected) }
    }

    /// Returns the seconds at which it asks, looking every second.
    fn asks(seconds: u64, at: impl Fn(u64) -> (Unaddressed, bool)) -> Vec<u64> {
        let (start, mut asking) = (Instant::now(), Asking::default());
        let look = |second: u64| {
            let ((unaddressed, answered), now) = (at(second), start + Duration::from_secs(second));
            let is_due = asking.is_due(&unaddressed, now);
            if is_due {
                asking.note(unaddressed, answered, now);
            }
            is_due.then_some(second)
        };
        (0..seconds).filter_map(look).collect()
    }

    #[test]
    fn those_whom_nobody_knows_are_asked_for_less_and_less() {
        assert_eq!(asks(250, |_| (unaddressed(&[1], &[]), true)), [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
    }

    #[test]
    fn whoever_is_new_is_asked_for_at_once() {
        let strangers = |second| if second < 40 { unaddressed(&[1], &[]) } else { unaddressed(&[1, 2], &[]) };
        assert_eq!(asks(50, |second| (strangers(second), true)), [0, 1, 3, 7, 15, 31, 40, 41, 43, 47]);
    }

    #[test]
    fn those_it_talks_to_are_asked_for_once_and_again_after_a_long_while() {
        assert_eq!(asks(1300, |_| (unaddressed(&[], &[1]), true)), [0, 600, 1200]);
        assert_eq!(asks(1300, |_| (unaddressed(&[], &[]), true)), Vec::<u64>::new());
    }

    #[test]
    fn what_nobody_answered_was_not_asked() {
        let answered = |second| second >= 12;
        assert_eq!(asks(20, |second| (unaddressed(&[1], &[]), answered(second))), [0, 5, 10, 15, 16, 18]);
    }
}
