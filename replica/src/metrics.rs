//! What a replica counts and measures, for Prometheus. Names begin with `herdbook_replica_`; the base unit stands in the name.
//!
//! Several replicas of one process share the recorder; the label `replica` tells them apart.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use herdbook_model::vector::{Range, VersionVector};
use herdbook_proto::status::Failure;
use metrics::{Counter, Gauge, Histogram, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tonic::{Code, Status};

use crate::{
    error::Error,
    repository::{Collected, Repository},
};

/// Upper bounds of the buckets of durations, in seconds: from a read in memory to a wait for a far authority.
const SECONDS: [f64; 14] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// How often measured durations are put into their buckets, so that a process nobody asks does not keep each.
const UPKEEP: Duration = Duration::from_secs(5);

/// Returns what all replicas of this process measured, in Prometheus' text format; `None` where the embedding program records by itself.
pub fn render() -> Option<String> {
    recorder().map(PrometheusHandle::render)
}

/// Installs the recorder of the process, once.
fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS).ok()?;
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        let kept_up = handle.clone();
        let upkeep = move || {
            loop {
                std::thread::sleep(UPKEEP);
                kept_up.run_upkeep();
            }
        };
        std::thread::Builder::new().name("metrics".to_owned()).spawn(upkeep).ok()?;
        describe();
        Some(handle)
    };
    RECORDER.get_or_init(install).as_ref()
}

fn describe() {
    metrics::describe_counter!("herdbook_replica_requests_total", "Calls by method and code of gRPC.");
    metrics::describe_histogram!("herdbook_replica_request_seconds", Unit::Seconds, "From a call's arrival to its answer, by method.");
    metrics::describe_counter!("herdbook_replica_commits_total", "Requests of clients that were committed here.");
    metrics::describe_counter!("herdbook_replica_edits_total", "Edits of documents in those requests.");
    metrics::describe_counter!("herdbook_replica_reads_total", "Documents read by clients.");
    metrics::describe_gauge!("herdbook_replica_watch_streams", "Watches that are open.");
    metrics::describe_counter!("herdbook_replica_watch_events_total", "Documents told to watches.");
    metrics::describe_gauge!("herdbook_replica_documents", "Living documents, by branch.");
    metrics::describe_gauge!("herdbook_replica_heads", "Heads of the frontier, by branch; above 1 there are concurrent commits.");
    metrics::describe_gauge!("herdbook_replica_unaccepted_commits", "Commits here that the authority has not accepted, by branch.");
    metrics::describe_gauge!("herdbook_replica_garbage_ratio", "Share of the chunks that no state needs, as last guessed.");
    metrics::describe_counter!(
        "herdbook_replica_collected_bytes_total",
        Unit::Bytes,
        "Bytes of chunks that collections of garbage removed."
    );
    metrics::describe_histogram!("herdbook_replica_collection_seconds", Unit::Seconds, "How long collections of garbage took.");
    metrics::describe_gauge!("herdbook_replica_lost_requests", "Requests whose edits are lost here.");
}

/// Notes which share of the chunks is garbage.
pub(crate) fn garbage(repository: &Repository, ratio: f64) {
    metrics::gauge!("herdbook_replica_garbage_ratio", "replica" => format!("{:?}", repository.replica())).set(ratio);
}

/// Notes a collection of garbage.
pub(crate) fn collected(repository: &Repository, collected: &Collected) {
    let replica = format!("{:?}", repository.replica());
    metrics::counter!("herdbook_replica_collected_bytes_total", "replica" => replica.clone()).increment(collected.bytes);
    metrics::histogram!("herdbook_replica_collection_seconds", "replica" => replica).record(collected.took);
}

/// A call of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// DocumentService.Commit.
    Commit,
    /// One request of DocumentService.CommitStream.
    CommitStream,
    /// DocumentService.Get.
    Get,
    /// One question of DocumentService.GetStream.
    GetStream,
    /// DocumentService.BatchGet.
    BatchGet,
    /// DocumentService.List.
    List,
    /// DocumentService.Count.
    Count,
    /// Opening of DocumentService.Watch.
    Watch,
    /// HistoryService.Log.
    Log,
    /// HistoryService.Show.
    Show,
    /// Opening of HistoryService.Diff.
    Diff,
    /// HistoryService.Blame.
    Blame,
    /// Opening of HistoryService.Playback.
    Playback,
    /// BlobService.Upload.
    Upload,
    /// Opening of BlobService.Download.
    Download,
    /// BlobService.Sweep.
    Sweep,
    /// HistoryService.Revert.
    Revert,
    /// HistoryService.Merge.
    Merge,
    /// HistoryService.ListConflicts.
    ListConflicts,
    /// HistoryService.GetConflict.
    GetConflict,
    /// HistoryService.Resolve.
    Resolve,
}

impl Method {
    const ALL: [Self; 21] = [
        Self::Commit,
        Self::CommitStream,
        Self::Get,
        Self::GetStream,
        Self::BatchGet,
        Self::List,
        Self::Count,
        Self::Watch,
        Self::Log,
        Self::Show,
        Self::Diff,
        Self::Blame,
        Self::Playback,
        Self::Upload,
        Self::Download,
        Self::Sweep,
        Self::Revert,
        Self::Merge,
        Self::ListConflicts,
        Self::GetConflict,
        Self::Resolve,
    ];

    /// Returns its name as in the definition of the service.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Commit => "Commit",
            Self::CommitStream => "CommitStream",
            Self::Get => "Get",
            Self::GetStream => "GetStream",
            Self::BatchGet => "BatchGet",
            Self::List => "List",
            Self::Count => "Count",
            Self::Watch => "Watch",
            Self::Log => "Log",
            Self::Show => "Show",
            Self::Diff => "Diff",
            Self::Blame => "Blame",
            Self::Playback => "Playback",
            Self::Upload => "Upload",
            Self::Download => "Download",
            Self::Sweep => "Sweep",
            Self::Revert => "Revert",
            Self::Merge => "Merge",
            Self::ListConflicts => "ListConflicts",
            Self::GetConflict => "GetConflict",
            Self::Resolve => "Resolve",
        }
    }
}

/// The metrics of one replica. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Series>);

struct Series {
    replica: String,
    commits: Counter,
    edits: Counter,
    reads: Counter,
    watch_streams: Gauge,
    watch_events: Counter,
    /// By method: answers without error, and seconds.
    calls: Vec<(Counter, Histogram)>,
}

impl Metrics {
    /// Returns the metrics of the replica that holds `repository`, and installs the recorder if this process has none.
    pub fn new(repository: &Repository) -> Self {
        recorder();
        let replica = format!("{:?}", repository.replica());
        let call = |method: Method| {
            let (replica, method) = (replica.clone(), method.name());
            (
                metrics::counter!("herdbook_replica_requests_total", "replica" => replica.clone(), "method" => method, "code" => "Ok"),
                metrics::histogram!("herdbook_replica_request_seconds", "replica" => replica, "method" => method),
            )
        };
        let series = Series {
            commits: metrics::counter!("herdbook_replica_commits_total", "replica" => replica.clone()),
            edits: metrics::counter!("herdbook_replica_edits_total", "replica" => replica.clone()),
            reads: metrics::counter!("herdbook_replica_reads_total", "replica" => replica.clone()),
            watch_streams: metrics::gauge!("herdbook_replica_watch_streams", "replica" => replica.clone()),
            watch_events: metrics::counter!("herdbook_replica_watch_events_total", "replica" => replica.clone()),
            calls: Method::ALL.into_iter().map(call).collect(),
            replica,
        };
        Self(Arc::new(series))
    }

    /// Begins to measure a call.
    pub(crate) fn begin(&self, method: Method) -> Call<'_> {
        Call { series: &self.0, method, began: Instant::now() }
    }

    pub(crate) fn committed(&self, edits: usize) {
        self.0.commits.increment(1);
        self.0.edits.increment(edits as u64);
    }

    pub(crate) fn read(&self, documents: usize) {
        self.0.reads.increment(documents as u64);
    }

    pub(crate) fn watched(&self, events: usize) {
        self.0.watch_events.increment(events as u64);
    }

    /// Counts a watch until the answer is dropped.
    pub(crate) fn watching(&self) -> Watching {
        self.0.watch_streams.increment(1.0);
        Watching(self.0.watch_streams.clone())
    }

    /// Takes the measures of what the repository holds. Cost: look-ups of the accepted heads.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub(crate) fn observe(&self, repository: &Repository) -> Result<(), Error> {
        let view = repository.view();
        let replica = &self.0.replica;
        for (branch, state) in &view.branches {
            let gauge = |name: &'static str| metrics::gauge!(name, "replica" => replica.clone(), "branch" => branch.to_string());
            let documents: u64 = state.schema().collections.iter().map(|collection| state.count(collection.id)).sum();
            gauge("herdbook_replica_documents").set(documents as f64);
            gauge("herdbook_replica_heads").set(state.frontier().heads().len() as f64);
            let mut accepted = VersionVector::default();
            for head in view.log.branch(branch).map_or(&[][..], |said| &said.heads) {
                if let Some(meta) = repository.meta(head)? {
                    accepted.merge(&meta.vector);
                }
            }
            let missing: u64 = accepted.missing_from(state.frontier().vector()).iter().map(Range::len).sum();
            gauge("herdbook_replica_unaccepted_commits").set(missing as f64);
        }
        let lost = view.lost.len() + view.log.lost().len();
        metrics::gauge!("herdbook_replica_lost_requests", "replica" => replica.clone()).set(lost as f64);
        Ok(())
    }
}

/// A call under way.
pub(crate) struct Call<'a> {
    series: &'a Series,
    method: Method,
    began: Instant,
}

impl Call<'_> {
    /// Ends the call: counts it, and makes a failure what travels.
    pub(crate) fn end<T, E: Failure + Into<Status>>(self, answer: Result<T, E>) -> Result<T, Status> {
        let (ok, seconds) = &self.series.calls[self.method as usize];
        seconds.record(self.began.elapsed());
        match answer {
            Ok(answer) => {
                ok.increment(1);
                Ok(answer)
            }
            Err(error) => {
                let status: Status = error.into();
                let (replica, method) = (self.series.replica.clone(), self.method.name());
                let code = code(status.code());
                metrics::counter!("herdbook_replica_requests_total", "replica" => replica, "method" => method, "code" => code).increment(1);
                Err(status)
            }
        }
    }
}

/// A watch under way.
pub(crate) struct Watching(Gauge);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

fn code(code: Code) -> &'static str {
    match code {
        Code::Ok => "Ok",
        Code::Cancelled => "Cancelled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_stands_at_its_own_place() {
        for (at, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method as usize, at, "{}", method.name());
        }
    }
}
