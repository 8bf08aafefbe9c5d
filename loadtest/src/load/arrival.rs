//! When operations are meant to begin: each as soon as the client's last one ended, or at a rate that does not ask how the store fares.
//!
//! Law: an operation of an open loop is late from its intended start on, whoever made it late.

use std::{str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// What makes an operation begin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrival {
    /// The end of the client's operation before: measures capacity, and hides stalls.
    Closed,
    /// The clock: stretches one after another.
    Open(Vec<Stretch>),
}

/// A stretch of time in which the rate is held, or goes evenly from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stretch {
    /// Operations a second at its start.
    pub from: f64,
    /// Operations a second at its end.
    pub to: f64,
    /// How long it is, in seconds.
    pub seconds: f64,
}

impl Stretch {
    /// Returns one that holds a rate.
    pub const fn even(rate: f64, seconds: f64) -> Self {
        Self { from: rate, to: rate, seconds }
    }

    /// Returns how many operations begin in it.
    fn operations(&self) -> f64 {
        f64::midpoint(self.from, self.to) * self.seconds
    }

    /// Returns after how many seconds operation `n` begins, counted from 0 in this stretch.
    fn offset(&self, n: f64) -> f64 {
        // from · t + (to − from) · t² / (2 · seconds) = n
        let a = (self.to - self.from) / (2.0 * self.seconds);
        if a.abs() < 1e-9 { n / self.from } else { ((self.from * self.from + 4.0 * a * n).max(0.0).sqrt() - self.from) / (2.0 * a) }
    }
}

/// The intended starts of an open loop, in order, from its first moment on.
#[derive(Debug, Clone)]
pub struct Starts {
    stretches: Vec<Stretch>,
    at: usize,
    /// Of the stretches that are over.
    seconds: f64,
    n: f64,
}

impl Starts {
    /// Returns those of `stretches`.
    pub fn new(stretches: &[Stretch]) -> Self {
        let stretches = stretches.iter().copied().filter(|stretch| stretch.operations() > 0.0).collect();
        Self { stretches, at: 0, seconds: 0.0, n: 0.0 }
    }
}

impl Iterator for Starts {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            let stretch = self.stretches.get(self.at)?;
            if self.n < stretch.operations() {
                let start = self.seconds + stretch.offset(self.n);
                self.n += 1.0;
                return Some(Duration::from_secs_f64(start));
            }
            self.n -= stretch.operations();
            self.seconds += stretch.seconds;
            self.at += 1;
        }
    }
}

/// Rates as one writes them: `5000`, `1000,2000,5000` (held one after another), `1000..5000` (rising evenly).
#[derive(Debug, Clone, PartialEq)]
pub struct Rates(Vec<(f64, f64)>);

/// What is wrong with rates as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{part}` is no rate: write 5000, 1000,2000,5000 or 1000..5000, each above 0")]
pub struct NoRate {
    part: String,
}

impl Rates {
    /// Returns them as stretches that share `seconds` evenly.
    pub fn over(&self, seconds: f64) -> Vec<Stretch> {
        let each = seconds / self.0.len() as f64;
        self.0.iter().map(|(from, to)| Stretch { from: *from, to: *to, seconds: each }).collect()
    }

    /// Returns the first.
    pub fn first(&self) -> f64 {
        self.0.first().map_or(0.0, |(from, _)| *from)
    }
}

impl FromStr for Rates {
    type Err = NoRate;

    fn from_str(text: &str) -> Result<Self, NoRate> {
        let rate = |text: &str| text.trim().parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate > 0.0);
        let stretch = |part: &str| {
            let (from, to) = part.split_once("..").unwrap_or((part, part));
            rate(from).zip(rate(to)).ok_or_else(|| NoRate { part: part.to_owned() })
        };
        text.split(',').map(stretch).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(stretches: &[Stretch]) -> Vec<u128> {
        Starts::new(stretches).map(|start| start.as_millis()).collect()
    }

    #[test]
    fn a_held_rate_starts_evenly() {
        assert_eq!(millis(&[Stretch::even(10.0, 0.5)]), [0, 100, 200, 300, 400]);
    }

    #[test]
    fn stretches_follow_one_another() {
        assert_eq!(millis(&[Stretch::even(10.0, 0.2), Stretch::even(100.0, 0.03)]), [0, 100, 200, 210, 220]);
    }

    #[test]
    fn a_rising_rate_starts_as_many_as_its_mean_and_ever_closer() {
        let starts = millis(&[Stretch { from: 10.0, to: 30.0, seconds: 10.0 }]);
        assert_eq!(starts.len(), 200);
        let gaps: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!((98..=100).contains(&gaps[0]) && (33..=35).contains(gaps.last().expect("some")), "{gaps:?}");
    }

    #[test]
    fn a_stretch_without_operations_is_passed_over() {
        assert_eq!(millis(&[Stretch::even(0.0, 5.0), Stretch::even(10.0, 0.1)]), [0]);
    }

    #[test]
    fn rates_are_read_as_written_and_nonsense_is_named() {
        let rates: Rates = "1000, 2000..3000".parse().expect("well formed");
        assert_eq!(rates.over(10.0), [Stretch::even(1000.0, 5.0), Stretch { from: 2000.0, to: 3000.0, seconds: 5.0 }]);
        for wrong in ["", "0", "-1", "1..x", "nan"] {
            assert!(wrong.parse::<Rates>().is_err(), "{wrong}");
        }
    }
}
