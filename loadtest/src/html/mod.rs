//! A report as one HTML page that needs nothing beside it: what was found, first; then figures, then plots.

pub(crate) mod chart;

use std::{fs, path::Path};

use chart::{Chart, Line, Scale, Shade};

use crate::{
    Error,
    load::{Kind, Operations, Second},
    percentiles::Percentiles,
    report::{Host, millis},
    sampler::Sample,
};

const STYLE: &str = include_str!("style.css");

/// A page.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    title: String,
    /// Whether what it tells is well, and the one line that says so.
    verdict: (bool, String),
    facts: Vec<(String, String)>,
    /// Name, head and rows of tables.
    tables: Vec<(String, Vec<String>, Vec<Vec<String>>)>,
    charts: Vec<Chart>,
}

impl Page {
    pub(crate) fn new(title: &str, is_well: bool, verdict: &str) -> Self {
        Self { title: title.to_owned(), verdict: (is_well, verdict.to_owned()), facts: Vec::new(), tables: Vec::new(), charts: Vec::new() }
    }

    /// Adds where it ran and what was asked for.
    pub(crate) fn facts(&mut self, host: &Host, plan: &serde_json::Value) {
        let Host { processor, cores, kernel, version, optimised } = host;
        let build = if *optimised { "release build" } else { "unoptimised build: no figure" };
        self.facts.push(("machine".to_owned(), format!("{processor}, {cores} threads shared by clients and servers, Linux {kernel}")));
        self.facts.push(("herdbook".to_owned(), format!("{version}, {build}")));
        for (name, value) in plan.as_object().into_iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.facts.push((name.replace('_', " "), value));
        }
    }

    /// Adds a table.
    pub(crate) fn table(&mut self, name: &str, head: &[&str], rows: Vec<Vec<String>>) {
        if !rows.is_empty() {
            self.tables.push((name.to_owned(), head.iter().map(|cell| (*cell).to_owned()).collect(), rows));
        }
    }

    /// Adds a chart.
    pub(crate) fn chart(&mut self, chart: Chart) {
        self.charts.push(chart);
    }

    /// Adds figures and curves of operations by kind.
    pub(crate) fn operations<'a>(&mut self, operations: impl Iterator<Item = (&'a Kind, &'a Operations)> + Clone) {
        let row = |(kind, operations): (&Kind, &Operations)| {
            let p = &operations.percentiles;
            let times = [p.p50_micros, p.p90_micros, p.p95_micros, p.p99_micros, p.p999_micros, p.max_micros].map(millis);
            [kind.to_string(), format!("{:.0}", operations.per_second)].into_iter().chain(times).collect()
        };
        let head = ["", "per second", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "p99.9 ms", "max ms"];
        self.table("Operations", &head, operations.clone().map(row).collect());
        // Each step to the right has a tenth of the operations beyond it.
        let nines = |quantile: f64| -(1.0 - quantile).max(1e-5).log10();
        let line = |(kind, operations): (&Kind, &Operations)| {
            let points = operations.curve.iter().map(|point| (nines(point.quantile), point.micros as f64 / 1000.0)).collect();
            Line { name: kind.to_string(), points }
        };
        let places = [(0.0, "0 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %"), (5.0, "100 %")];
        self.chart(Chart {
            title: "Response times by percentile".to_owned(),
            across: "part of all operations".to_owned(),
            upward: "ms".to_owned(),
            scale: Scale::Logarithmic,
            places: places.map(|(at, name)| (at, name.to_owned())).into(),
            lines: operations.map(line).collect(),
            shades: Vec::new(),
        });
    }

    /// Adds figures of what was timed, by name.
    pub(crate) fn percentiles(&mut self, rows: &[(&str, Percentiles)]) {
        let row = |(name, p): &(&str, Percentiles)| {
            let times = [p.p50_micros, p.p90_micros, p.p95_micros, p.p99_micros, p.p999_micros, p.max_micros].map(millis);
            [(*name).to_owned(), p.count.to_string()].into_iter().chain(times).collect()
        };
        let head = ["", "count", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "p99.9 ms", "max ms"];
        self.table("Times", &head, rows.iter().map(row).collect());
    }

    /// Adds throughput and latency over time.
    pub(crate) fn seconds(&mut self, seconds: &[Second], faults: &[Shade]) {
        let line = |name: &str, of: fn(&Second) -> f64| Line {
            name: name.to_owned(),
            points: seconds.iter().map(|second| (second.at_millis as f64 / 1000.0, of(second))).collect(),
        };
        let chart = |title: &str, upward: &str, scale, lines| Chart {
            title: title.to_owned(),
            across: "seconds".to_owned(),
            upward: upward.to_owned(),
            scale,
            places: Vec::new(),
            lines,
            shades: faults.to_vec(),
        };
        let rates = vec![line("well", |second| second.operations as f64), line("failed", |second| second.failures as f64)];
        self.chart(chart("Operations a second", "per second", Scale::Linear, rates));
        let times = vec![
            line("p50", |second| second.p50_micros as f64 / 1000.0),
            line("p99", |second| second.p99_micros as f64 / 1000.0),
            line("max", |second| second.max_micros as f64 / 1000.0),
        ];
        self.chart(chart("Response times", "ms", Scale::Logarithmic, times));
    }

    /// Adds what nodes held and took over time.
    pub(crate) fn nodes(&mut self, samples: &[Sample], faults: &[Shade]) {
        let names: std::collections::BTreeSet<_> = samples.iter().map(|sample| sample.node.as_str()).collect();
        let mut draw = |title: &str, upward: &str, of: fn(&Sample) -> f64| {
            let line = |name: &&str| Line {
                name: (*name).to_owned(),
                points: samples
                    .iter()
                    .filter(|sample| sample.node == **name && sample.is_up)
                    .map(|sample| (sample.at_millis as f64 / 1000.0, of(sample)))
                    .collect(),
            };
            self.chart(Chart {
                title: title.to_owned(),
                across: "seconds".to_owned(),
                upward: upward.to_owned(),
                scale: Scale::Linear,
                places: Vec::new(),
                lines: names.iter().map(line).collect(),
                shades: faults.to_vec(),
            });
        };
        draw("Commits that a node lacks", "commits behind", |sample| sample.behind as f64);
        draw("Memory of each node", "MiB", |sample| sample.memory_bytes as f64 / f64::from(1 << 20));
        draw("Disk of each node", "MiB", |sample| sample.store_bytes as f64 / f64::from(1 << 20));
        draw("Bytes of disk for each commit", "bytes", |sample| sample.store_bytes as f64 / sample.commits.max(1) as f64);
    }

    /// Returns the page.
    pub(crate) fn html(&self) -> String {
        let Self { title, verdict: (is_well, verdict), facts, tables, charts } = self;
        let class = if *is_well { "well" } else { "faulty" };
        let facts: String =
            facts.iter().map(|(name, value)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value))).collect();
        let cells = |tag: &str, cells: &[String]| cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<String>();
        let table = |(name, head, rows): &(String, Vec<String>, Vec<Vec<String>>)| {
            let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", row))).collect();
            format!("<h2>{}</h2>\n<table class=\"figures\"><tr>{}</tr>\n{rows}</table>\n", escape(name), cells("th", head))
        };
        let tables: String = tables.iter().map(table).collect();
        let charts: String = charts.iter().map(Chart::svg).collect();
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>\n{STYLE}</style></head>\n\
             <body><h1>{title}</h1>\n<p class=\"{class}\">{}</p>\n{tables}{charts}<h2>What was asked for</h2>\n<table>{facts}</table>\n\
             </body></html>\n",
            escape(verdict),
            title = escape(title),
        )
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be written.
    pub(crate) fn save(&self, path: &Path) -> Result<(), Error> {
        fs::write(path, self.html()).map_err(|source| Error::File { what: "write", path: path.to_owned(), source })
    }
}

/// Returns text that stands for itself in HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_tells_its_verdict_first_and_asks_for_nothing_from_elsewhere() {
        let mut page = Page::new("run", false, "FAIL 2 < 3");
        page.facts(&Host::here(), &serde_json::json!({ "clients": 64, "level": "durable" }));
        page.table("Faults", &["fault"], vec![vec!["kill <bob>".to_owned()]]);
        page.seconds(&[Second::default(), Second { at_millis: 1000, operations: 10, ..Second::default() }], &[]);
        let html = page.html();
        assert!(html.find("FAIL 2 &lt; 3").expect("told") < html.find("kill &lt;bob&gt;").expect("told"), "{html}");
        assert!(html.contains("class=\"faulty\"") && html.contains("<polyline") && html.contains("<th>clients</th><td>64</td>"));
        for outside in ["http:", "https:", "<script", "<link", "@import"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
