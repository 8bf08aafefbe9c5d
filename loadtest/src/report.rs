//! What a run tells: JSON for programs, with the version of its shape, and tables for people.

use std::{fs, path::Path};

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    chaos::{Fired, Outcome},
    check::Checked,
    compare::Change,
    connection::Failures,
    fanout::FannedOut,
    forecast::{Held, Modelled, growth::Size},
    latency::Latency,
    load::{Measured, search::Step},
    percentiles::Percentiles,
    scenes::Played,
};

/// Version of the shape of reports: rises when a field changes its meaning or goes.
pub const SCHEMA: u32 = 2;

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
    /// Which workload: `run`, `search`, `fanout`, `latency`, `check`, `chaos`, or the name of a scene.
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

/// Returns the table of a run.
pub fn run_table(measured: &Measured) -> String {
    let mut table = percentile_table("per second");
    for (kind, operations) in &measured.operations {
        table.add_row(percentile_row(&kind.to_string(), format!("{:.0}", operations.per_second), &operations.percentiles));
        if let Some(service) = &operations.service {
            table.add_row(percentile_row("  once begun", String::new(), service));
        }
    }
    let unserved = match (measured.unserved, measured.offered) {
        (0, _) | (_, None) => String::new(),
        (unserved, Some(offered)) => format!("{unserved} of {offered} operations never began; they count as having taken until the end\n"),
    };
    format!("{table}\n{unserved}{}", failure_lines(&measured.failures))
}

/// Returns the table of a search.
pub fn search_table(steps: &[Step]) -> String {
    let mut table = percentile_table("offered");
    for Step { rate, met, measured } in steps {
        let slowest =
            measured.operations.values().map(|operations| operations.percentiles).max_by_key(|percentiles| percentiles.p99_micros);
        if let Some(percentiles) = slowest {
            table.add_row(percentile_row(if *met { "met" } else { "missed" }, format!("{rate:.0}"), &percentiles));
        }
    }
    format!("{table}\n")
}

/// Returns the table of a fan-out.
pub fn fanout_table(fanned: &FannedOut) -> String {
    let FannedOut { writer, events, visible, unseen, repeated, per_second } = fanned;
    let mut table = percentile_table("count");
    table.add_row(percentile_row("seen by a watcher", events.to_string(), visible));
    format!("{writer} -> watchers: {per_second:.0} events a second\n{table}\n{unseen} not seen, {repeated} seen again\n")
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

/// Returns the text of a named workload, below its verdict.
pub fn scene_text(played: &Played) -> String {
    let Played { acknowledged: _, figures, times, failures, findings } = played;
    let mut text = findings.iter().map(|finding| format!("  {finding}\n")).collect::<String>();
    let mut table = plain_table();
    for (name, value) in figures {
        table.add_row([Cell::new(name), right(format!("{value:.0}"))]);
    }
    text += &format!("{table}\n");
    if !times.is_empty() {
        let mut table = percentile_table("count");
        for (name, percentiles) in times {
            table.add_row(percentile_row(name, percentiles.count.to_string(), percentiles));
        }
        text += &format!("{table}\n");
    }
    text + &failure_lines(failures)
}

/// Returns the text of a forecast, below its verdict.
pub fn model_text(modelled: &Modelled) -> String {
    let Modelled { costs, held, sizes, wall } = modelled;
    let mut table = plain_table();
    table.set_header(["what one costs", "µs"]);
    for (name, cost) in [
        ("signature", costs.sign),
        ("check of a signature", costs.verify),
        ("commit taken into graph and state", costs.take),
        ("commit in a frame, made", costs.encode),
        ("commit in a frame, read", costs.decode),
        ("kilobyte synced to the disk", costs.sync),
        ("request: client and network", costs.network.request),
        ("request: the thread that makes commits", costs.maker.request),
        ("request: the thread that writes them", costs.writer.request),
        ("commit, whatever it holds: client and network", costs.network.commit),
        ("commit: the thread that makes it", costs.maker.commit),
        ("commit: the thread that writes it", costs.writer.commit),
        ("waiting of a request for what is none of these", costs.wait),
    ] {
        table.add_row([Cell::new(name), right(format!("{cost:.1}"))]);
    }
    let mut text = format!("{table}\na commit takes {:.0} bytes in a frame\n", costs.parcel_bytes);
    let mut table = plain_table();
    table.set_header(["clients", "forecast /s", "real /s", "off", "a commit's requests", "cores busy"]);
    for one in held {
        let Held { forecast, real } = one;
        let cells = [
            forecast.clients.to_string(),
            format!("{:.0}", forecast.per_second),
            format!("{real:.0}"),
            format!("{:+.0} %", one.off() * 100.0),
            format!("{:.1}", forecast.batch),
            format!("{:.0} %", forecast.busy * 100.0),
        ];
        table.add_row(cells.map(right));
    }
    text += &format!("{table}\n");
    let mut table = plain_table();
    let head = ["clients", "replicas", "commits /s", "hub cores", "replica cores", "hub MB/s", "hub memory MB", "messages", "fullest"];
    table.set_header(head);
    for size in sizes.iter().chain([wall]) {
        let Size { clients, replicas, commits, hub_cores, replica_cores, hub_bytes, hub_memory, messages, fullest, .. } = size;
        let cells = [
            format!("{clients:.0}"),
            format!("{replicas:.0}"),
            format!("{commits:.1}"),
            format!("{hub_cores:.3}"),
            format!("{replica_cores:.3}"),
            format!("{:.3}", hub_bytes / 1e6),
            format!("{:.1}", hub_memory / 1e6),
            format!("{messages:.0}"),
            format!("{} {:.0} %", fullest.0, fullest.1 * 100.0),
        ];
        table.add_row(cells.map(right));
    }
    text + &format!("{table}\nthe last line is the first wall\n")
}

/// Returns the text of a chaos run, below its verdict.
pub fn chaos_text(outcome: &Outcome) -> String {
    let mut text = outcome.findings.iter().map(|finding| format!("  {finding}\n")).collect::<String>();
    let mut table = plain_table();
    table.set_header(["fault", "began s", "well again s", "what was seen"]);
    for Fired { fault, began_millis, ended_millis, evidence } in &outcome.fired {
        let seconds = |millis: &u64| right(format!("{:.1}", *millis as f64 / 1000.0));
        table.add_row([Cell::new(fault), seconds(began_millis), seconds(ended_millis), Cell::new(evidence)]);
    }
    let Outcome { documents, blurred, unknown, owed_commits, read_at_end, absent, kept, .. } = outcome;
    text += &format!("{table}\n");
    text += &format!("{documents} documents, {blurred} of them blurred by a loss of data; {unknown} writes of unknown end; ");
    text += &format!("{owed_commits} commits owed; {read_at_end} documents read at the end\n");
    text += &failure_lines(&outcome.failures);
    text += &absent.iter().map(|absent| format!("absent: {absent}\n")).collect::<String>();
    text + &kept.as_ref().map_or_else(String::new, |kept| format!("data and logs: {}\n", kept.display()))
}

/// Returns the table of what changed between runs.
pub fn change_table(changes: &[Change]) -> String {
    let mut table = plain_table();
    table.set_header(["", "before", "after", "change", "95 % between", ""]);
    let percent = |part: f64| format!("{:+.1} %", part * 100.0);
    let mut worse = 0;
    for change in changes {
        let word = match (change.is_worse(), change.is_better()) {
            (true, _) => "worse",
            (_, true) => "better",
            _ => "no sure change",
        };
        worse += usize::from(change.is_worse());
        let (least, most) = change.between;
        table.add_row([
            Cell::new(&change.figure),
            right(format!("{:.2}", change.before)),
            right(format!("{:.2}", change.after)),
            right(percent(change.change)),
            right(format!("{} … {}", percent(least), percent(most))),
            Cell::new(word),
        ]);
    }
    format!("{worse} of {} figures are worse\n{table}\n", changes.len())
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
    use std::collections::BTreeMap;

    use crate::{
        connection::Failure,
        ledger::Finding,
        load::{Kind, Operations},
        percentiles::Durations,
    };

    use super::*;

    fn percentiles() -> Percentiles {
        let mut durations = Durations::default();
        durations.record(std::time::Duration::from_micros(1_234));
        durations.percentiles()
    }

    fn measured(failures: Failures) -> Measured {
        let operations = Operations { per_second: 12_345.6, percentiles: percentiles(), service: None, curve: Vec::new() };
        Measured {
            operations: BTreeMap::from([(Kind::Update, operations.clone()), (Kind::Read, operations)]),
            seconds: Vec::new(),
            failures,
            offered: Some(10),
            unserved: 0,
        }
    }

    #[test]
    fn a_report_comes_back_from_its_json() {
        let report = Report::new("run", "plan".to_owned(), measured(Failures::default()));
        let back: Report<String, Measured> = serde_json::from_str(&report.json()).expect("well formed");
        assert_eq!((back.schema, back.workload.as_str(), back.host), (SCHEMA, "run", Host::here()));
        assert_eq!(back.result, report.result);
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("well formed");
        assert_eq!(json["result"]["operations"]["update"]["p50_micros"], 1_234);
    }

    #[test]
    fn a_table_has_a_row_for_each_kind_of_operation_and_a_line_for_each_failure() {
        let mut failures = Failures::default();
        failures.count(Failure::missing(7));
        let text = run_table(&Measured { unserved: 3, ..measured(failures) });
        let row = |name: &str| text.lines().find(|line| line.contains(name)).map(str::to_owned).unwrap_or_default();
        for name in ["update", "read"] {
            assert!(row(name).contains("12346") && row(name).contains("1.234"), "{text}");
        }
        assert!(text.contains("1 × NOT_FOUND: document 7 is not there") && text.contains("3 of 10 operations never began"), "{text}");
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
