//! Which faults come when: a pure function of seed, time, members and what can be done here, so that a seed tells a run again.
//!
//! Faults follow one another with pauses; every kind that can be done comes before any comes twice, as far as the time allows.

use crate::workload::{Rng, mix};

use super::fault::{Fault, Kind};

/// Time before the first fault, in which clients get going.
const FIRST_MILLIS: u64 = 2000;

/// Shortest and longest pause between the end of one fault and the beginning of the next.
const PAUSE_MILLIS: (u64, u64) = (500, 1500);

/// Shortest and longest time that a fault lasts.
const LASTS_MILLIS: (u64, u64) = (800, 2500);

/// How much longer than its own time a fault takes that replaces data, or that members have to meet for anew, until all is well again; an
/// estimate that only spaces the schedule.
const REPLACE_MILLIS: u64 = 2500;

/// Returns the schedule of a seed for `millis` of load on a coordinator and `replicas`.
pub fn of_seed(seed: u64, millis: u64, replicas: usize, kinds: &[Kind]) -> Vec<Fault> {
    let (mut rng, mut faults, mut bag) = (Rng::new(mix(seed ^ 0xfa17)), Vec::new(), Vec::new());
    let mut at_millis = FIRST_MILLIS;
    while !kinds.is_empty() {
        if bag.is_empty() {
            bag = kinds.to_vec();
        }
        let kind = bag.swap_remove(rng.index(bag.len()));
        let member = match kind {
            Kind::Roll => 0,
            kind if kind.is_of_replicas_only() && replicas > 0 => 1 + rng.index(replicas),
            _ => rng.index(replicas + 1),
        };
        let lasts_millis = between(&mut rng, LASTS_MILLIS);
        let takes = lasts_millis + if kind.destroys() || kind.lies() || kind == Kind::Roll { REPLACE_MILLIS } else { 0 };
        if at_millis + takes > millis {
            break;
        }
        faults.push(Fault { at_millis, kind, member, lasts_millis });
        at_millis += takes + between(&mut rng, PAUSE_MILLIS);
    }
    faults
}

fn between(rng: &mut Rng, (least, most): (u64, u64)) -> u64 {
    least + rng.below(most - least + 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_tells_the_same_schedule_again_and_another_seed_another() {
        let of = |seed| of_seed(seed, 60_000, 3, &Kind::ALL);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn a_minute_has_every_kind_that_can_be_done_and_no_other() {
        for seed in 0..100 {
            let kinds: BTreeSet<_> = of_seed(seed, 60_000, 3, &Kind::ALL[..10]).iter().map(|fault| fault.kind).collect();
            assert_eq!(kinds, Kind::ALL[..10].iter().copied().collect(), "seed {seed}");
        }
    }

    #[test]
    fn faults_are_over_before_the_load_is_and_of_members_that_exist() {
        for seed in 0..100 {
            let faults = of_seed(seed, 60_000, 2, &Kind::ALL);
            assert!(faults.windows(2).all(|pair| pair[0].at_millis + pair[0].lasts_millis < pair[1].at_millis), "seed {seed}");
            assert!(faults.iter().all(|fault| fault.at_millis + fault.lasts_millis <= 60_000 && fault.member <= 2), "seed {seed}");
            assert!(faults.iter().all(|fault| fault.member > 0 || !fault.kind.is_of_replicas_only()), "seed {seed}");
        }
        assert_eq!(of_seed(1, 60_000, 2, &[]), []);
    }
}
