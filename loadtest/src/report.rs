//! What a run tells: JSON for programs, with the version of its shape, and tables for people.

use std::{fs, path::Path};

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Deserialize, Serialize};

use crate::{Error, check::Checked, closed_loop::Measured, connection::Failures, latency::Latency, percentiles::Percentiles};

/// Version of the shape of reports: rises when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// The machine and build that a figure is true of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its processor.
    pub processor: String,
    /// How many threads run at once; clients and servers share them where both run here.
    pub cores: usize,
    /// Version of its kernel.
    pub kernel: String,
    /// Version of Herdbook.
    pub version: String,
    /// Whether the harness was built with optimisation.
    pub optimised: bool,
}

impl Host {
    /// Returns this one. What the system does not tell is `unknown`.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let or_unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        let cpus = read("/proc/cpuinfo");
        let processor = cpus.lines().find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim())).unwrap_or_default();
        Self {
            processor: or_unknown(processor),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: or_unknown(read("/proc/sys/kernel/osrelease").trim()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
        }
    }
}

/// A report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report<P, R> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Which workload: `run`, `latency`, `check` or `peers`.
    pub workload: String,
    /// Where it ran.
    pub host: Host,
    /// What was asked for.
    pub plan: P,
    /// What came of it.
    pub result: R,
}

impl<P: Serialize, R: Serialize> Report<P, R> {
    /// Returns the report of what came of a plan here.
    pub fn new(workload: &str, plan: P, result: R) -> Self {
        Self { schema: SCHEMA, workload: workload.to_owned(), host: Host::here(), plan, result }
    }

    /// Returns it as JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("reports have text keys only")
    }

    /// Writes it as JSON to a file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        fs::write(path, self.json() + "\n").map_err(|source| Error::File { what: "write", path: path.to_owned(), source })
    }
}

/// Returns the table of a closed-loop run.
pub fn run_table(measured: &Measured) -> String {
    let mut table = percentile_table("per second");
    for (name, operations) in [("commits", measured.commits), ("reads", measured.reads)] {
        if let Some(operations) = operations {
            table.add_row(percentile_row(name, format!("{:.0}", operations.per_second), &operations.percentiles));
        }
    }
    format!("{table}\n{}", failure_lines(&measured.failures))
}

/// Returns the table of a latency run.
pub fn latency_table(latency: &Latency) -> String {
    let mut table = percentile_table("count");
    for (name, percentiles) in [("acknowledged", latency.acknowledged), ("seen at the other", latency.visible)] {
        table.add_row(percentile_row(name, percentiles.count.to_string(), &percentiles));
    }
    let unseen = if latency.unseen == 0 { String::new() } else { format!("{} commits were not seen\n", latency.unseen) };
    format!("{} -> {}\n{table}\n{unseen}", latency.writer, latency.watcher)
}

/// Returns the text of a check.
pub fn check_text(checked: &Checked) -> String {
    let Checked { nodes, acknowledged, commits, documents, uncertain, failures, settled_millis, read, findings } = checked;
    let mut table = plain_table();
    for (name, value) in [
        ("writes acknowledged", acknowledged),
        ("in commits", commits),
        ("documents written", documents),
        ("writes of unknown end", uncertain),
        ("ms until level", settled_millis),
        ("documents read", read),
    ] {
        table.add_row([Cell::new(name), right(value.to_string())]);
    }
    let findings = findings.iter().map(|finding| format!("{finding}\n")).collect::<String>();
    let verdict =
        if findings.is_empty() { format!("all {} nodes hold what was acknowledged, and nothing else\n", nodes.len()) } else { findings };
    format!("{table}\n{}{verdict}", failure_lines(failures))
}

/// Returns an empty table in the style of reports.
pub fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table
}

/// Returns a cell of a number.
pub fn right(text: impl Into<String>) -> Cell {
    Cell::new(text.into()).set_alignment(CellAlignment::Right)
}

/// Returns microseconds as milliseconds, to the microsecond.
pub fn millis(micros: u64) -> String {
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

fn percentile_table(number: &str) -> Table {
    let mut table = plain_table();
    table.set_header(["", number, "p50 ms", "p90 ms", "p95 ms", "p99 ms", "p99.9 ms", "max ms"]);
    table
}

fn percentile_row(name: &str, number: String, percentiles: &Percentiles) -> Vec<Cell> {
    let Percentiles { count: _, mean_micros: _, p50_micros, p90_micros, p95_micros, p99_micros, p999_micros, max_micros } = *percentiles;
    let figures = [p50_micros, p90_micros, p95_micros, p99_micros, p999_micros, max_micros];
    [Cell::new(name), right(number)].into_iter().chain(figures.map(|micros| right(millis(micros)))).collect()
}

fn failure_lines(failures: &Failures) -> String {
    failures.0.iter().map(|(reason, counted)| format!("{} × {reason}: {}\n", counted.count, counted.first)).collect()
}

#[cfg(test)]
mod tests {
    use crate::{closed_loop::Operations, connection::Failure, ledger::Finding, percentiles::Durations};

    use super::*;

    fn percentiles() -> Percentiles {
        let mut durations = Durations::default();
        durations.record(std::time::Duration::from_micros(1_234));
        durations.percentiles()
    }

    #[test]
    fn a_report_comes_back_from_its_json() {
        let operations = Operations { per_second: 12.5, percentiles: percentiles() };
        let measured = Measured { commits: Some(operations), reads: None, failures: Failures::default() };
        let report = Report::new("run", "plan".to_owned(), measured);
        let back: Report<String, Measured> = serde_json::from_str(&report.json()).expect("well formed");
        assert_eq!((back.schema, back.workload.as_str(), back.host), (SCHEMA, "run", Host::here()));
        assert_eq!((back.result.commits, back.result.reads), (Some(operations), None));
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("well formed");
        assert_eq!(json["result"]["commits"]["p50_micros"], 1_234);
        assert!(json["result"].get("reads").is_none());
    }

    #[test]
    fn a_table_has_a_row_for_each_kind_of_operation_and_a_line_for_each_failure() {
        let operations = Operations { per_second: 12_345.6, percentiles: percentiles() };
        let mut failures = Failures::default();
        failures.count(Failure::missing(7));
        let text = run_table(&Measured { commits: Some(operations), reads: Some(operations), failures });
        let row = |name: &str| text.lines().find(|line| line.contains(name)).map(str::to_owned).unwrap_or_default();
        for name in ["commits", "reads"] {
            assert!(row(name).contains("12346") && row(name).contains("1.234"), "{text}");
        }
        assert!(text.contains("1 × NOT_FOUND: document 7 is not there"), "{text}");
    }

    #[test]
    fn a_check_says_what_it_found_and_says_well_only_if_it_found_nothing() {
        let mut checked = Checked {
            nodes: vec!["alice".to_owned(), "bob".to_owned()],
            acknowledged: 10,
            commits: 3,
            documents: 9,
            uncertain: 0,
            failures: Failures::default(),
            settled_millis: 12,
            read: 18,
            findings: Vec::new(),
        };
        assert!(check_text(&checked).contains("all 2 nodes hold"));
        checked.findings.push(Finding::MissingCommit { node: "bob".to_owned(), commit: "00ff".to_owned() });
        let text = check_text(&checked);
        assert!(text.contains("bob: commit 00ff is missing") && !text.contains("all 2 nodes hold"), "{text}");
    }
}
