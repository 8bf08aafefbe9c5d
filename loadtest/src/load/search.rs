//! The highest rate at which an objective is still met: the rate doubles until it is missed, then the gap is halved.
//!
//! Law: the answer is a rate at which the objective was met, and one was tried at most a tenth above it at which it was not, or no step was
//! left.

use std::{future::Future, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Measured;

/// Share of the offered operations that must end well within the time for a rate to count as sustained.
const SUSTAINED: f64 = 0.95;

/// Share of the offered operations that may not have begun when the time is over: those that were meant to just before.
const UNSERVED: f64 = 0.01;

/// How close the search goes: the missed rate over the met one.
const CLOSE: f64 = 1.1;

/// What must hold: a percentile below a limit, as `p99<20ms`, and fewer failures than one in a thousand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Which percentile of the response times.
    pub percentile: Percentile,
    /// Its limit, in microseconds.
    pub limit_micros: u64,
}

/// Percentiles that an objective can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Percentile {
    /// Half.
    P50,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
    /// 99.9 %.
    P999,
}

/// What is wrong with an objective as written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no objective: write p50, p95, p99 or p999, `<`, and a time as 20ms or 500us")]
pub struct NoObjective(String);

impl FromStr for Objective {
    type Err = NoObjective;

    fn from_str(text: &str) -> Result<Self, NoObjective> {
        let parse = || {
            let (percentile, limit) = text.split_once('<')?;
            let percentile = match percentile.trim() {
                "p50" => Percentile::P50,
                "p95" => Percentile::P95,
                "p99" => Percentile::P99,
                "p999" => Percentile::P999,
                _ => return None,
            };
            let limit = limit.trim();
            let (number, micros) = match limit.strip_suffix("ms") {
                Some(number) => (number, 1000.0),
                None => (limit.strip_suffix("us")?, 1.0),
            };
            let limit = number.trim().parse::<f64>().ok().filter(|limit| limit.is_finite() && *limit > 0.0)? * micros;
            // Positive and finite; beyond what fits it saturates.
            Some(Self { percentile, limit_micros: limit as u64 })
        };
        parse().ok_or_else(|| NoObjective(text.to_owned()))
    }
}

impl Objective {
    /// Whether a run at `rate` met it.
    pub fn is_met(&self, rate: f64, measured: &Measured) -> bool {
        let total: u64 = measured.operations.values().map(|operations| operations.percentiles.count).sum();
        let slowest = measured.operations.values().map(|operations| self.of(&operations.percentiles)).max().unwrap_or(u64::MAX);
        slowest <= self.limit_micros
            && measured.per_second() >= rate * SUSTAINED
            && measured.unserved as f64 <= measured.offered.unwrap_or(0) as f64 * UNSERVED
            && measured.failures.total() * 1000 <= total
    }

    const fn of(&self, percentiles: &crate::percentiles::Percentiles) -> u64 {
        match self.percentile {
            Percentile::P50 => percentiles.p50_micros,
            Percentile::P95 => percentiles.p95_micros,
            Percentile::P99 => percentiles.p99_micros,
            Percentile::P999 => percentiles.p999_micros,
        }
    }
}

/// A rate that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Operations a second that were offered.
    pub rate: f64,
    /// Whether the objective was met.
    pub met: bool,
    /// What came of it.
    pub measured: Measured,
}

/// Tries rates from `first` on, at most `steps` of them; the last one that was met is the answer.
///
/// # Errors
/// The first of `attempt`.
pub async fn search<E, F>(objective: &Objective, first: f64, steps: usize, mut attempt: impl FnMut(f64) -> F) -> Result<Vec<Step>, E>
where
    F: Future<Output = Result<Measured, E>>,
{
    let (mut met, mut missed, mut rate, mut tried) = (None::<f64>, None::<f64>, first, Vec::new());
    while tried.len() < steps {
        let measured = attempt(rate).await?;
        let is_met = objective.is_met(rate, &measured);
        tried.push(Step { rate, met: is_met, measured });
        if is_met {
            met = Some(met.map_or(rate, |met| met.max(rate)));
        } else {
            missed = Some(missed.map_or(rate, |missed| missed.min(rate)));
        }
        rate = match (met, missed) {
            (Some(met), Some(missed)) if missed <= met * CLOSE => break,
            (Some(met), Some(missed)) => f64::midpoint(met, missed),
            (Some(met), None) => met * 2.0,
            (None, Some(missed)) => missed / 2.0,
            (None, None) => first,
        };
    }
    Ok(tried)
}

/// Returns the step with the highest rate that was met.
pub fn highest(steps: &[Step]) -> Option<&Step> {
    steps.iter().filter(|step| step.met).max_by(|a, b| a.rate.total_cmp(&b.rate))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        connection::Failures,
        load::{Kind, Operations},
        percentiles::Durations,
    };

    /// What a store does that takes 1,000 operations a second and no more.
    fn measured(rate: f64) -> Measured {
        let mut durations = Durations::default();
        durations.record(std::time::Duration::from_millis(if rate <= 1000.0 { 2 } else { 500 }));
        let operations =
            Operations { per_second: rate.min(1000.0), percentiles: durations.percentiles(), service: None, curve: Vec::new() };
        Measured {
            operations: BTreeMap::from([(Kind::Read, operations)]),
            seconds: Vec::new(),
            failures: Failures::default(),
            offered: None,
            unserved: 0,
        }
    }

    async fn tried(first: f64, steps: usize) -> Vec<Step> {
        let objective = "p99<20ms".parse().expect("well formed");
        search::<(), _>(&objective, first, steps, |rate| std::future::ready(Ok(measured(rate)))).await.expect("no attempt fails")
    }

    #[tokio::test]
    async fn the_knee_is_found_from_below_and_from_above() {
        for first in [10.0, 900.0, 70_000.0] {
            let steps = tried(first, 30).await;
            let rate = highest(&steps).expect("one was met").rate;
            assert!((1000.0 / CLOSE..=1000.0).contains(&rate), "from {first}: {rate}");
            assert!(steps.iter().any(|step| !step.met && step.rate <= rate * CLOSE), "from {first}");
        }
    }

    #[tokio::test]
    async fn a_search_ends_with_its_steps_and_may_find_nothing() {
        let steps = tried(70_000.0, 2).await;
        assert_eq!((steps.len(), highest(&steps)), (2, None));
    }

    #[test]
    fn a_store_that_falls_behind_or_fails_misses_whatever_its_percentiles_say() {
        let objective: Objective = "p99<20ms".parse().expect("well formed");
        assert!(objective.is_met(1000.0, &measured(1000.0)));
        assert!(!objective.is_met(1100.0, &measured(1000.0)), "it did not keep up");
        assert!(!objective.is_met(1000.0, &Measured { unserved: 11, offered: Some(1000), ..measured(1000.0) }));
        let mut failing = measured(1000.0);
        failing.failures.count(crate::connection::Failure::missing(1));
        assert!(!objective.is_met(1000.0, &failing));
    }

    #[test]
    fn objectives_are_read_as_written() {
        let parse = |text: &str| text.parse::<Objective>();
        assert_eq!(parse("p999 < 1.5ms"), Ok(Objective { percentile: Percentile::P999, limit_micros: 1500 }));
        assert_eq!(parse("p50<80us"), Ok(Objective { percentile: Percentile::P50, limit_micros: 80 }));
        for wrong in ["p99", "p98<1ms", "p99<1s", "p99<-1ms", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
