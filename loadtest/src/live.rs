//! What a run tells while it runs: one line on the terminal, written over each second. Elsewhere nothing.

use std::io::{IsTerminal as _, Write as _};

use crate::{load::Second, report::millis, sampler::Sample};

/// The line.
#[derive(Debug)]
pub(crate) struct Live {
    is_on: bool,
}

impl Live {
    /// Returns it, for standard error.
    pub(crate) fn here() -> Self {
        Self { is_on: std::io::stderr().is_terminal() }
    }

    /// Shows a second.
    pub(crate) fn show(&self, second: &Second, nodes: &[Sample], note: &str) {
        if self.is_on {
            // A terminal that went away is no reason to end a run.
            let _ = write!(std::io::stderr(), "\r\x1b[2K{}", line(second, nodes, note));
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.is_on {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

fn line(second: &Second, nodes: &[Sample], note: &str) -> String {
    let Second { at_millis, operations, failures, p50_micros, p99_micros, .. } = *second;
    let (p50, p99) = (millis(p50_micros), millis(p99_micros));
    let mut line = format!("{:>4} s  {operations:>6}/s  p50 {p50}  p99 {p99} ms  {failures} failed  behind:", at_millis / 1000);
    for node in nodes {
        let behind = if node.is_up { node.behind.to_string() } else { "away".to_owned() };
        line += &format!(" {} {behind}", node.node);
    }
    if !note.is_empty() {
        line += &format!("  [{note}]");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_rate_latency_failures_lag_and_faults() {
        let second =
            Second { at_millis: 12_000, operations: 3_456, failures: 2, p50_micros: 1_234, p99_micros: 20_000, max_micros: 30_000 };
        let sample = |node: &str, is_up, behind| Sample {
            at_millis: 12_000,
            node: node.to_owned(),
            is_up,
            commits: 5,
            behind,
            store_bytes: 0,
            memory_bytes: 0,
        };
        let text = line(&second, &[sample("alice", true, 7), sample("bob", false, 0)], "kill bob");
        assert_eq!(text, "  12 s    3456/s  p50 1.234  p99 20.000 ms  2 failed  behind: alice 7 bob away  [kill bob]");
    }
}
