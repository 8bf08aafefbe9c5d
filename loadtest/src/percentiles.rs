//! How long things took: a histogram of three significant digits, and the figures one reads off it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest duration that is told apart from longer ones, in microseconds: ten minutes, far above any deadline.
const HIGHEST: u64 = 600_000_000;

/// Where a curve has its points.
const QUANTILES: [f64; 15] = [0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1.0];

/// Durations, recorded to the microsecond.
#[derive(Debug, Clone)]
pub struct Durations(Histogram<u64>);

impl Default for Durations {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, HIGHEST, 3).expect("the bounds and digits are valid"))
    }
}

impl Durations {
    /// Records one. Below a microsecond counts as one microsecond, above ten minutes as ten minutes.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(micros.clamp(1, HIGHEST));
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// Returns how many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the durations at quantiles that lie ever closer to 1; none if none was recorded.
    pub fn curve(&self) -> Vec<Point> {
        if self.0.is_empty() {
            return Vec::new();
        }
        QUANTILES.iter().map(|quantile| Point { quantile: *quantile, micros: self.0.value_at_quantile(*quantile) }).collect()
    }

    /// Returns the figures.
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.0.value_at_quantile(quantile);
        Percentiles {
            count: self.0.len(),
            mean_micros: self.0.mean(),
            p50_micros: at(0.5),
            p90_micros: at(0.9),
            p95_micros: at(0.95),
            p99_micros: at(0.99),
            p999_micros: at(0.999),
            max_micros: self.0.max(),
        }
    }
}

/// A point of a curve of durations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Which part of all durations, from 0 to 1.
    pub quantile: f64,
    /// That part took at most this.
    pub micros: u64,
}

/// Figures of durations, in microseconds; a percentile is at most 0.1 % above the recorded value. All 0 if none was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many durations there were.
    pub count: u64,
    /// Their mean.
    pub mean_micros: f64,
    /// Half took at most this.
    pub p50_micros: u64,
    /// 90 % took at most this.
    pub p90_micros: u64,
    /// 95 % took at most this.
    pub p95_micros: u64,
    /// 99 % took at most this.
    pub p99_micros: u64,
    /// 99.9 % took at most this.
    pub p999_micros: u64,
    /// The longest.
    pub max_micros: u64,
}

/// Returns the value in the middle; of an even number of values, the lower of the two. `None` of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_durations_recorded() {
        let mut durations = Durations::default();
        (1..=1000).for_each(|micros| durations.record(Duration::from_micros(micros)));
        let Percentiles { count, mean_micros, p50_micros, p90_micros, p95_micros, p99_micros, p999_micros, max_micros } =
            durations.percentiles();
        assert_eq!((count, p50_micros, p90_micros, p95_micros, p99_micros), (1000, 500, 900, 950, 990));
        assert_eq!((p999_micros, max_micros), (999, 1000));
        assert!((mean_micros - 500.5).abs() < 1e-9);
    }

    #[test]
    fn durations_of_two_clients_are_those_of_both() {
        let (mut alice, mut bob) = (Durations::default(), Durations::default());
        alice.record(Duration::from_millis(1));
        bob.record(Duration::from_millis(3));
        bob.record(Duration::from_secs(3600));
        alice.add(&bob);
        assert_eq!(alice.count(), 3);
        let long = alice.percentiles().max_micros;
        assert!((HIGHEST..HIGHEST + HIGHEST / 1000).contains(&long), "{long}");
        assert!((3_000..=3_003).contains(&alice.percentiles().p50_micros));
    }

    #[test]
    fn nothing_recorded_gives_zeros() {
        assert_eq!(Durations::default().percentiles().p99_micros, 0);
    }

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
