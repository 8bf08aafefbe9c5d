//! Two sets of runs, before and after: what changed, and how sure one can be of it.
//!
//! Every second of the measured time is a sample. How far medians of such samples lie apart by chance is found by drawing them again and again
//! (bootstrap, seeded); seconds of one run resemble each other, so several runs a side tell more than one long one.

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Error, load::Second, percentiles::median, workload::Rng};

/// How often samples are drawn anew.
const DRAWS: usize = 2000;

/// Parts of all draws that lie outside the interval, on each side: 2.5 %.
const OUTSIDE: f64 = 0.025;

/// Smallest change, as a part, that counts: below it even a sure one is of no use to anybody.
const COUNTS: f64 = 0.05;

/// How a figure changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Which figure.
    pub figure: String,
    /// Its median before.
    pub before: f64,
    /// Its median after.
    pub after: f64,
    /// By which part it rose; negative: it fell.
    pub change: f64,
    /// That part lies between these with 95 % confidence.
    pub between: (f64, f64),
    /// Whether more is better.
    pub is_rate: bool,
}

impl Change {
    /// Whether it is surely for the worse.
    pub fn is_worse(&self) -> bool {
        let (least, most) = self.between;
        if self.is_rate { most < 0.0 && self.change < -COUNTS } else { least > 0.0 && self.change > COUNTS }
    }

    /// Whether it is surely for the better.
    pub fn is_better(&self) -> bool {
        let (least, most) = self.between;
        if self.is_rate { least > 0.0 && self.change > COUNTS } else { most < 0.0 && self.change < -COUNTS }
    }
}

/// Which workload a report is of.
#[derive(Debug, Deserialize)]
struct Told {
    workload: String,
}

/// As much of a report of `run` as is compared.
#[derive(Debug, Deserialize)]
struct Ran {
    plan: Planned,
    result: Measured,
}

#[derive(Debug, Deserialize)]
struct Planned {
    warm_up_millis: u64,
    measured_millis: u64,
}

#[derive(Debug, Deserialize)]
struct Measured {
    seconds: Vec<Second>,
}

/// A figure of a second: its name, whether more is better, and how it is told.
type Figure = (&'static str, bool, fn(&Second) -> f64);

/// Compares the reports of the runs before with those after.
///
/// # Errors
/// [`Error::File`], or [`Error::Report`] if one is no report of `run`.
pub fn compare(before: &[PathBuf], after: &[PathBuf]) -> Result<Vec<Change>, Error> {
    Ok(changes(&seconds(before)?, &seconds(after)?))
}

fn seconds(paths: &[PathBuf]) -> Result<Vec<Second>, Error> {
    let mut all = Vec::new();
    for path in paths {
        let text = fs::read_to_string(path).map_err(|source| Error::File { what: "read", path: path.clone(), source })?;
        let wrong = |why: String| Error::Report { path: path.clone(), why };
        // What it is of comes first: reports of other workloads have other fields.
        let Told { workload } = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if workload != "run" {
            return Err(wrong(format!("it is of `{workload}`, not of `run`")));
        }
        let Ran { plan, result } = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let measured = plan.warm_up_millis + 1000..=plan.warm_up_millis + plan.measured_millis + 500;
        all.extend(result.seconds.into_iter().filter(|second| measured.contains(&second.at_millis)));
    }
    Ok(all)
}

fn changes(before: &[Second], after: &[Second]) -> Vec<Change> {
    let figures: [Figure; 3] = [
        ("operations a second", true, |second| second.operations as f64),
        ("p50 ms", false, |second| second.p50_micros as f64 / 1000.0),
        ("p99 ms", false, |second| second.p99_micros as f64 / 1000.0),
    ];
    let change = |(figure, is_rate, of): Figure| {
        let [first, second] = [before, after].map(|seconds| seconds.iter().map(of).collect::<Vec<_>>());
        let (before, after) = (median(first.clone())?, median(second.clone())?);
        let between = interval(&first, &second)?;
        (before > 0.0).then(|| Change { figure: figure.to_owned(), before, after, change: after / before - 1.0, between, is_rate })
    };
    figures.into_iter().filter_map(change).collect()
}

/// Returns between which bounds the change of the median lies.
fn interval(before: &[f64], after: &[f64]) -> Option<(f64, f64)> {
    let mut rng = Rng::new(0x5eed);
    let mut draw = |samples: &[f64]| median((0..samples.len()).map(|_| samples[rng.index(samples.len())]).collect());
    let mut drawn = Vec::with_capacity(DRAWS);
    for _ in 0..DRAWS {
        let (before, after) = (draw(before)?, draw(after)?);
        if before > 0.0 {
            drawn.push(after / before - 1.0);
        }
    }
    drawn.sort_by(f64::total_cmp);
    // Below the number of draws.
    let at = (drawn.len() as f64 * OUTSIDE) as usize;
    Some((*drawn.get(at)?, *drawn.get(drawn.len().checked_sub(1 + at)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds with rates around `rate`, by up to a tenth.
    fn seconds(rate: u64, seed: u64) -> Vec<Second> {
        let mut rng = Rng::new(seed);
        let mut second = |at: u64| Second {
            at_millis: at * 1000,
            operations: rate * 9 / 10 + rng.below(rate / 5),
            failures: 0,
            p50_micros: 1000,
            p99_micros: 5000,
            max_micros: 9000,
        };
        (1..=30).map(&mut second).collect()
    }

    #[test]
    fn a_drop_of_a_fifth_is_worse_and_noise_is_not() {
        let rate = |before: Vec<_>, after: Vec<_>| changes(&before, &after).into_iter().next().expect("a rate");
        let dropped = rate(seconds(10_000, 1), seconds(8_000, 2));
        assert!(dropped.is_worse() && !dropped.is_better(), "{dropped:?}");
        let noise = rate(seconds(10_000, 1), seconds(10_000, 2));
        assert!(!noise.is_worse() && !noise.is_better(), "{noise:?}");
        assert!(rate(seconds(8_000, 1), seconds(10_000, 2)).is_better());
    }

    #[test]
    fn of_times_more_is_worse() {
        let slow: Vec<_> = seconds(10_000, 2).into_iter().map(|second| Second { p99_micros: 9000, ..second }).collect();
        let p99 = changes(&seconds(10_000, 1), &slow).into_iter().find(|change| change.figure == "p99 ms").expect("told");
        assert!(p99.is_worse() && (p99.change - 0.8).abs() < 1e-9, "{p99:?}");
    }

    #[test]
    fn a_report_of_something_else_is_refused() {
        let folder = crate::cluster::temporary_folder(None).expect("made");
        let path = folder.path().join("a.json");
        fs::write(&path, r#"{"workload":"latency","plan":{},"result":{}}"#).expect("written");
        let error = compare(std::slice::from_ref(&path), &[]).expect_err("it is of another workload");
        assert!(error.to_string().contains("it is of `latency`, not of `run`"), "{error}");
    }
}
