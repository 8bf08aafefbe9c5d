//! The services of a replica for clients: documents, their history, blobs, health, reflection.
//!
//! Here messages become questions to the repository and asks of its writer, and nothing is decided: generated types stop at this module.
//! The newest state is read on the thread of the call; what may wait for the disk or compute for long goes to threads of its own.

mod blob;
mod conflict;
mod diff;
mod document;
mod failure;
mod history;
mod host;
mod incoming;
mod log;
mod merge;
mod names;
mod past;
mod read;
mod states;
mod unread;
mod watch;

use std::{sync::Arc, time::Duration};

use herdbook_proto::{
    DESCRIPTORS,
    cluster::Phase,
    limits, transport,
    v1::{
        blob_service_server::BlobServiceServer, document_service_server::DocumentServiceServer,
        history_service_server::HistoryServiceServer,
    },
};
use tonic::transport::server::Router;
use tonic_health::{ServingStatus, server::HealthReporter};

pub use self::incoming::{Connection, Incoming};
pub(crate) use self::unread::Told;
use self::{blob::Blobs, document::Documents, history::Histories, host::Host};
use crate::{actor::RepositoryHandle, metrics::Metrics, node::Phases, peers::Peers};

/// Names under which health can be asked for: the whole, the service that clients use, and whether the process lives at all.
const HEALTH: [&str; 2] = ["", "herdbook.v1.DocumentService"];

/// Name under which the process says that it lives, whether or not it serves.
const LIVENESS: &str = "liveness";

/// How often it is looked whether the node still serves, and measures of the repository are taken.
const LOOK: Duration = Duration::from_secs(1);

/// Whether bytes are a place that a page can go on from.
#[cfg(feature = "fuzzing")]
pub(crate) fn places(bytes: &[u8]) -> bool {
    [log::place_of(bytes).is_ok(), conflict::place_of(bytes).is_ok(), read::key_of(bytes).is_ok()].contains(&true)
}

/// Returns a server with the services for clients; more can be added. Needs a running executor.
///
/// Limits: [`transport`]'s windows, keepalive and calls of a connection; messages of at most [`limits::MESSAGE`] bytes either way.
pub async fn router(handle: &RepositoryHandle, peers: Arc<Peers>, phases: Arc<Phases>) -> Router {
    let metrics = Metrics::new(handle.repository());
    let (reporter, health) = tonic_health::server::health_reporter();
    report(&reporter, phases.get()).await;
    reporter.set_service_status(LIVENESS, ServingStatus::Serving).await;
    tokio::spawn(look(reporter, handle.clone(), phases.clone(), metrics.clone()));
    let host = Host::start(handle.clone(), peers, phases, metrics);
    let documents = DocumentServiceServer::new(Documents { host: host.clone() })
        .max_decoding_message_size(limits::MESSAGE)
        .max_encoding_message_size(limits::MESSAGE);
    let blobs = BlobServiceServer::new(Blobs { host: host.clone() }).max_decoding_message_size(limits::MESSAGE);
    let histories =
        HistoryServiceServer::new(Histories { host }).max_decoding_message_size(limits::MESSAGE).max_encoding_message_size(limits::MESSAGE);
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        builder.register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    transport::server()
        .add_service(health)
        .add_service(Told(documents))
        .add_service(Told(histories))
        .add_service(Told(blobs))
        .add_service(reflection().build_v1().expect("descriptors made by the build decode"))
        .add_service(reflection().build_v1alpha().expect("descriptors made by the build decode"))
}

/// Takes connections from a listener that does not block.
///
/// # Errors
/// The system's word.
pub fn incoming(listener: std::net::TcpListener) -> std::io::Result<Incoming> {
    Incoming::new(listener)
}

async fn report(reporter: &HealthReporter, phase: Phase) {
    let status = if phase == Phase::Serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in HEALTH {
        reporter.set_service_status(name, status).await;
    }
}

/// Keeps health and measures true until the writer ends.
async fn look(reporter: HealthReporter, handle: RepositoryHandle, phases: Arc<Phases>, metrics: Metrics) {
    let (mut ended, mut told) = (handle.ended(), phases.get());
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = ended.wait_for(|ended| *ended) => break,
        }
        let phase = phases.get();
        if phase != told {
            report(&reporter, phase).await;
            told = phase;
        }
        if let Err(error) = metrics.observe(handle.repository()) {
            tracing::warn!(%error, "the repository cannot be measured");
        }
    }
    for name in HEALTH {
        reporter.set_service_status(name, ServingStatus::NotServing).await;
    }
}
