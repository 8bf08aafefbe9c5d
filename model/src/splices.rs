//! Edit scripts: which stretches of one sequence to replace by which of another, changing as few elements as can be.
//!
//! By Levenshtein distance, so a replaced element is one change, not two; where the parts that differ are too long for that, they are one
//! splice.

/// Most pairs of elements that are compared.
const MAX_PAIRS: usize = 1 << 22;

/// Replaces `removed` elements from `at` on by the `added` elements of the other sequence from `from` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Splice {
    /// Position in the sequence as it was.
    pub at: usize,
    /// How many go.
    pub removed: usize,
    /// How many come.
    pub added: usize,
    /// Position of the first of these in the sequence as it is to be.
    pub from: usize,
}

/// Returns the splices that make `old` become `new`, rising, with an element that stays between any two.
///
/// Cost: the product of the lengths of what lies between the common beginning and the common end.
pub fn splices<T: PartialEq>(old: &[T], new: &[T]) -> Vec<Splice> {
    let prefix = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[prefix..], &new[prefix..]);
    let suffix = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) = (&old[..old.len() - suffix], &new[..new.len() - suffix]);
    if old.is_empty() && new.is_empty() {
        return Vec::new();
    }
    let is_one = old.is_empty() || new.is_empty() || (old.len() + 1).saturating_mul(new.len() + 1) > MAX_PAIRS;
    if is_one {
        return vec![Splice { at: prefix, removed: old.len(), added: new.len(), from: prefix }];
    }
    let mut splices = Vec::<Splice>::new();
    for (at, from, step) in steps(old, new) {
        let (removed, added) = match step {
            Step::Keep => continue,
            Step::Replace => (1, 1),
            Step::Remove => (1, 0),
            Step::Add => (0, 1),
        };
        let (at, from) = (at + prefix, from + prefix);
        match splices.last_mut() {
            Some(open) if open.at + open.removed == at && open.from + open.added == from => {
                open.removed += removed;
                open.added += added;
            }
            _ => splices.push(Splice { at, removed, added, from }),
        }
    }
    splices
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Keep,
    Replace,
    Remove,
    Add,
}

/// Returns the steps from `old` to `new`, each with its place in both.
fn steps<T: PartialEq>(old: &[T], new: &[T]) -> Vec<(usize, usize, Step)> {
    let width = new.len() + 1;
    let mut distances = vec![0u32; (old.len() + 1) * width];
    let of = |x: usize, y: usize| x * width + y;
    for x in 0..=old.len() {
        for y in 0..=new.len() {
            distances[of(x, y)] = match (x, y) {
                (0, far) | (far, 0) => u32::try_from(far).unwrap_or(u32::MAX),
                _ if old[x - 1] == new[y - 1] => distances[of(x - 1, y - 1)],
                _ => 1 + distances[of(x - 1, y - 1)].min(distances[of(x - 1, y)]).min(distances[of(x, y - 1)]),
            };
        }
    }
    let (mut x, mut y) = (old.len(), new.len());
    let mut steps = Vec::new();
    while x > 0 || y > 0 {
        let step = match (x, y) {
            (0, _) => Step::Add,
            (_, 0) => Step::Remove,
            _ => {
                let [both, less, more] = [of(x - 1, y - 1), of(x - 1, y), of(x, y - 1)].map(|at| distances[at]);
                // Of equally short scripts one that removes leaves more elements in place than one that replaces.
                if old[x - 1] == new[y - 1] {
                    Step::Keep
                } else if less <= both && less <= more {
                    Step::Remove
                } else if both <= more {
                    Step::Replace
                } else {
                    Step::Add
                }
            }
        };
        match step {
            Step::Keep | Step::Replace => (x, y) = (x - 1, y - 1),
            Step::Remove => x -= 1,
            Step::Add => y -= 1,
        }
        steps.push((x, y, step));
    }
    steps.reverse();
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn prop_splices_lead_from_one_to_the_other_and_stay_apart(old in "[abc]{0,12}", new in "[abc]{0,12}") {
            let (old, new): (Vec<_>, Vec<_>) = (old.chars().collect(), new.chars().collect());
            let splices = splices(&old, &new);
            let mut led = old;
            for splice in splices.iter().rev() {
                led.splice(splice.at..splice.at + splice.removed, new[splice.from..splice.from + splice.added].iter().copied());
            }
            prop_assert_eq!(led, new);
            prop_assert!(splices.windows(2).all(|pair| pair[0].at + pair[0].removed < pair[1].at), "{:?}", splices);
        }
    }
}
