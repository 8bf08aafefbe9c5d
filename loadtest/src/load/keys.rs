//! Which document an operation is on: all alike, a few far more often than the rest, or the newest most often.
//!
//! The skewed ones are those of YCSB (exponent 0.99), so that a figure means the same here and there.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::workload::{Rng, mix};

/// YCSB's exponent: of 10,000 documents the first gets about a tenth of all operations.
const THETA: f64 = 0.99;

/// How documents are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Keys {
    /// Each is as likely as any other.
    #[default]
    Uniform,
    /// A few are far likelier; they lie scattered among the keys.
    Zipfian,
    /// Those written last are likelier.
    Latest,
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Zipfian => "zipfian",
            Self::Latest => "latest",
        })
    }
}

/// Chooses documents.
#[derive(Debug, Clone)]
pub struct Chooser {
    keys: Keys,
    zipf: Option<Zipf>,
}

impl Chooser {
    /// Returns one for a run that begins with `documents`.
    pub fn new(keys: Keys, documents: u64) -> Self {
        let zipf = (keys != Keys::Uniform).then(|| Zipf::new(documents.max(1)));
        Self { keys, zipf }
    }

    /// Returns the number of a document below `documents`, which has only grown since.
    pub fn choose(&self, rng: &mut Rng, documents: u64) -> u64 {
        let documents = documents.max(1);
        let Some(zipf) = &self.zipf else {
            return rng.below(documents);
        };
        let rank = zipf.rank(unit(rng)).min(documents - 1);
        if self.keys == Keys::Latest { documents - 1 - rank } else { mix(rank) % documents }
    }
}

/// Ranks 0, 1, 2, … with probabilities that fall as 1 / (rank + 1)^θ, drawn in O(1) as Gray et al. have it ("Quickly generating
/// billion-record synthetic databases").
#[derive(Debug, Clone)]
struct Zipf {
    n: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    fn new(n: u64) -> Self {
        let zeta = |n: u64| (1..=n).map(|rank| (rank as f64).powf(-THETA)).sum::<f64>();
        let zeta_n = zeta(n);
        let eta = if n > 2 { (1.0 - (2.0 / n as f64).powf(1.0 - THETA)) / (1.0 - zeta(2) / zeta_n) } else { 1.0 };
        Self { n: n as f64, alpha: 1.0 / (1.0 - THETA), zeta: zeta_n, eta }
    }

    fn rank(&self, unit: f64) -> u64 {
        let uz = unit * self.zeta;
        if uz < 1.0 {
            0
        } else if uz < 1.0 + 0.5_f64.powf(THETA) {
            1
        } else {
            let rank = self.n * self.eta.mul_add(unit, 1.0 - self.eta).max(0.0).powf(self.alpha);
            // Not negative, and at most n.
            rank.min(self.n - 1.0) as u64
        }
    }
}

/// Returns a number from 0 up to 1.
fn unit(rng: &mut Rng) -> f64 {
    // 2⁵³ values are all that a float tells apart there.
    rng.below(1 << 53) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const DRAWS: u64 = 100_000;

    fn counts(keys: Keys, documents: u64) -> BTreeMap<u64, u64> {
        let (chooser, mut rng, mut counts) = (Chooser::new(keys, documents), Rng::new(7), BTreeMap::new());
        for _ in 0..DRAWS {
            *counts.entry(chooser.choose(&mut rng, documents)).or_insert(0) += 1;
        }
        counts
    }

    #[test]
    fn every_choice_is_a_document() {
        for keys in [Keys::Uniform, Keys::Zipfian, Keys::Latest] {
            for documents in [1, 2, 3, 1000] {
                assert!(counts(keys, documents).keys().all(|i| *i < documents), "{keys} of {documents}");
            }
        }
    }

    #[test]
    fn uniform_is_even() {
        assert!(counts(Keys::Uniform, 100).values().all(|count| (800..1200).contains(count)));
    }

    #[test]
    fn zipfian_has_the_shares_of_its_law() {
        let mut shares: Vec<_> = counts(Keys::Zipfian, 1000).into_values().collect();
        shares.sort_unstable_by(|a, b| b.cmp(a));
        let zeta: f64 = (1..=1000).map(|rank| f64::from(rank).powf(-THETA)).sum();
        for (at, share) in shares.iter().take(2).enumerate() {
            let expected = DRAWS as f64 / zeta / ((at + 1) as f64).powf(THETA);
            assert!((*share as f64 / expected - 1.0).abs() < 0.1, "rank {at}: {share} for {expected}");
        }
    }

    #[test]
    fn latest_prefers_the_newest_also_of_those_added_since() {
        let (chooser, mut rng) = (Chooser::new(Keys::Latest, 1000), Rng::new(7));
        let newest = (0..DRAWS).filter(|_| chooser.choose(&mut rng, 1500) >= 1490).count();
        assert!(newest > DRAWS as usize / 4, "{newest}");
    }
}
