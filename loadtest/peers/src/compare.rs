//! Turns, rounds and what comes of them.

use std::path::Path;

use herdbook_loadtest::{
    Connection,
    closed_loop::{self, Measured, fill},
    cluster::{Cluster, Settings},
    node::connect_many,
    percentiles::median,
    report::{millis, plain_table, right},
    workload::Content,
};
use herdbook_proto::ack::Wait;
use serde::{Deserialize, Serialize};

use crate::{error::Error, etcd::Etcd};

/// How many clients share a connection.
const CLIENTS_PER_CONNECTION: usize = 16;

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// How often each system has its turn.
    pub(crate) rounds: u32,
    /// Clients that each wait for their answer.
    pub(crate) clients: usize,
    /// Sizes of values, in bytes.
    pub(crate) payloads: Vec<usize>,
    /// Keys worked on.
    pub(crate) documents: u64,
    /// Time before anything is counted, in milliseconds.
    pub(crate) warm_up_millis: u64,
    /// Time in which operations are counted, of writes and of reads each, in milliseconds.
    pub(crate) measured_millis: u64,
    /// Replicas that Herdbook's clients write to; 0: they write to the coordinator.
    pub(crate) replicas: usize,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Compared {
    /// Version of etcd; none: there was none.
    pub(crate) etcd: Option<String>,
    /// What stood for Herdbook.
    pub(crate) herdbook: String,
    /// One row for each size of value and kind of operation.
    pub(crate) rows: Vec<Row>,
}

/// Figures of one size of value and one kind of operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Size of a value, in bytes.
    pub(crate) payload: usize,
    /// `durable write` or `local read`.
    pub(crate) operation: String,
    /// etcd's.
    pub(crate) etcd: Option<Figures>,
    /// Herdbook's.
    pub(crate) herdbook: Figures,
    /// Herdbook's median rate over etcd's.
    pub(crate) ratio: Option<f64>,
}

/// A system's figures over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Median of the rounds' operations a second.
    pub(crate) per_second: f64,
    /// The rounds' operations a second, in order.
    pub(crate) rounds: Vec<f64>,
    /// Median of the rounds' p50, in microseconds.
    pub(crate) p50_micros: u64,
    /// Median of the rounds' p99, in microseconds.
    pub(crate) p99_micros: u64,
    /// Operations that failed, in all rounds.
    pub(crate) failures: u64,
}

/// A turn of a system: writes, then reads.
#[derive(Debug, Clone)]
struct Turn {
    writes: Measured,
    reads: Measured,
}

/// Lets the systems take turns.
///
/// # Errors
/// [`Error`] if a system cannot be started or does nothing.
pub(crate) async fn compare(plan: &Plan, etcd: Option<&Etcd>, binary: &Path, folder: Option<&Path>) -> Result<Compared, Error> {
    let mut rows = Vec::new();
    for payload in &plan.payloads {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..plan.rounds {
            if let Some(etcd) = etcd {
                theirs.push(etcd_turn(plan, etcd, folder, *payload).await?);
            }
            ours.push(herdbook_turn(plan, binary, folder, *payload).await?);
        }
        rows.push(row(*payload, "durable write", &theirs, &ours, |turn| &turn.writes));
        rows.push(row(*payload, "local read", &theirs, &ours, |turn| &turn.reads));
    }
    let herdbook = match plan.replicas {
        0 => "one coordinator, written to directly".to_owned(),
        replicas => format!("{replicas} replicas, written to, and their coordinator"),
    };
    Ok(Compared { etcd: etcd.map(|etcd| etcd.version().to_owned()), herdbook, rows })
}

async fn etcd_turn(plan: &Plan, etcd: &Etcd, folder: Option<&Path>, payload: usize) -> Result<Turn, Error> {
    let running = etcd.start(folder).await?;
    let connections = running.connect(plan.connections(), payload).await?;
    let turn = turn(plan, &connections).await?;
    running.stop().await;
    Ok(turn)
}

async fn herdbook_turn(plan: &Plan, binary: &Path, folder: Option<&Path>, payload: usize) -> Result<Turn, Error> {
    let folder = folder.map(Path::to_path_buf);
    let settings = Settings { binary: binary.to_path_buf(), replicas: plan.replicas, is_meshed: true, folder };
    let cluster = Cluster::start(&settings).await?;
    let servers = if plan.replicas == 0 { vec![cluster.coordinator()] } else { cluster.replicas() };
    let connections = connect_many(&servers, plan.connections(), Content::Payload(payload), Wait::DURABLE).await?;
    let turn = turn(plan, &connections).await?;
    cluster.stop().await;
    Ok(turn)
}

async fn turn<C: Connection>(plan: &Plan, connections: &[C]) -> Result<Turn, Error> {
    fill(connections, plan.documents).await?;
    let writes = closed_loop::run(connections, &plan.closed_loop(0)).await?;
    let reads = closed_loop::run(connections, &plan.closed_loop(100)).await?;
    Ok(Turn { writes, reads })
}

impl Plan {
    fn connections(&self) -> usize {
        self.clients.div_ceil(CLIENTS_PER_CONNECTION)
    }

    const fn closed_loop(&self, reads_percent: u8) -> closed_loop::Plan {
        let Self { clients, documents, warm_up_millis, measured_millis, .. } = *self;
        closed_loop::Plan { clients, warm_up_millis, measured_millis, documents, reads_percent, seed: 0 }
    }
}

fn row(payload: usize, operation: &str, theirs: &[Turn], ours: &[Turn], part: fn(&Turn) -> &Measured) -> Row {
    let etcd = figures(theirs.iter().map(part));
    let herdbook = figures(ours.iter().map(part)).expect("there is a round at least");
    let ratio = etcd.as_ref().filter(|etcd| etcd.per_second > 0.0).map(|etcd| herdbook.per_second / etcd.per_second);
    Row { payload, operation: operation.to_owned(), etcd, herdbook, ratio }
}

/// Returns the figures of a system's rounds; `None` if it had none.
fn figures<'a>(rounds: impl Iterator<Item = &'a Measured>) -> Option<Figures> {
    let rounds: Vec<_> = rounds.filter_map(|measured| Some((measured.commits.or(measured.reads)?, measured.failures.total()))).collect();
    let rates: Vec<_> = rounds.iter().map(|(operations, _)| operations.per_second).collect();
    let middle = |at: fn(&herdbook_loadtest::percentiles::Percentiles) -> u64| {
        let mut micros: Vec<_> = rounds.iter().map(|(operations, _)| at(&operations.percentiles)).collect();
        micros.sort_unstable();
        micros.get(micros.len().saturating_sub(1) / 2).copied()
    };
    Some(Figures {
        per_second: median(rates.clone())?,
        rounds: rates,
        p50_micros: middle(|percentiles| percentiles.p50_micros)?,
        p99_micros: middle(|percentiles| percentiles.p99_micros)?,
        failures: rounds.iter().map(|(_, failures)| failures).sum(),
    })
}

impl Compared {
    /// Returns the table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = plain_table();
        table.set_header(["value", "operation", "etcd /s", "p50 / p99 ms", "herdbook /s", "p50 / p99 ms", "ratio", "failed"]);
        let rate = |figures: &Figures| format!("{:.0}", figures.per_second);
        let times = |figures: &Figures| format!("{} / {}", millis(figures.p50_micros), millis(figures.p99_micros));
        for Row { payload, operation, etcd, herdbook, ratio } in &self.rows {
            let failures = herdbook.failures + etcd.as_ref().map_or(0, |etcd| etcd.failures);
            table.add_row([
                right(format!("{payload} B")),
                operation.as_str().into(),
                right(etcd.as_ref().map_or_else(|| "-".to_owned(), rate)),
                right(etcd.as_ref().map_or_else(|| "-".to_owned(), times)),
                right(rate(herdbook)),
                right(times(herdbook)),
                right(ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))),
                right(failures.to_string()),
            ]);
        }
        let etcd = self.etcd.as_deref().unwrap_or("not found");
        format!("{table}\netcd: {etcd}; Herdbook: {}. Clients and server share the machine.\n", self.herdbook)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use herdbook_loadtest::{closed_loop::Operations, connection::Failures, percentiles::Durations};

    use super::*;

    fn turn_of(writes: f64, reads: f64, micros: u64) -> Turn {
        let mut durations = Durations::default();
        durations.record(Duration::from_micros(micros));
        let operations = |per_second| Some(Operations { per_second, percentiles: durations.percentiles() });
        Turn {
            writes: Measured { commits: operations(writes), reads: None, failures: Failures::default() },
            reads: Measured { commits: None, reads: operations(reads), failures: Failures::default() },
        }
    }

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let theirs = [turn_of(100.0, 1.0, 10), turn_of(400.0, 1.0, 30), turn_of(200.0, 1.0, 20)];
        let ours = [turn_of(300.0, 2.0, 5), turn_of(1.0, 2.0, 7), turn_of(900.0, 2.0, 6)];
        let row = row(100, "durable write", &theirs, &ours, |turn| &turn.writes);
        assert_eq!(row.ratio, Some(1.5));
        let etcd = row.etcd.expect("it had turns");
        assert_eq!((etcd.per_second, etcd.p50_micros, etcd.p99_micros), (200.0, 20, 20));
        assert_eq!(etcd.rounds, [100.0, 400.0, 200.0]);
    }

    #[test]
    fn without_etcd_there_is_no_ratio_and_the_table_says_so() {
        let row = row(1024, "local read", &[], &[turn_of(1.0, 2.0, 5)], |turn| &turn.reads);
        assert_eq!((row.etcd.clone(), row.ratio, row.herdbook.per_second), (None, None, 2.0));
        let compared = Compared { etcd: None, herdbook: "one coordinator".to_owned(), rows: vec![row] };
        let table = compared.table();
        assert!(table.contains("etcd: not found") && table.contains("1024 B"), "{table}");
    }

    #[test]
    fn sixteen_clients_share_a_connection() {
        let plan =
            |clients| Plan { rounds: 1, clients, payloads: vec![], documents: 1, warm_up_millis: 0, measured_millis: 1, replicas: 0 };
        assert_eq!([1, 16, 17, 64].map(|clients| plan(clients).connections()), [1, 1, 2, 4]);
    }
}
