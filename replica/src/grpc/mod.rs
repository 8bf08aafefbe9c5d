//! PLACEHOLDER until the services land: `node/mod.rs` calls `router` and `incoming` with these signatures.
use std::sync::Arc;
use crate::{actor::RepositoryHandle, node::Phases, peers::Peers};
pub(crate) async fn router(_: &RepositoryHandle, _: Arc<Peers>, _: Arc<Phases>) -> tonic::transport::server::Router {
    let (_, health) = tonic_health::server::health_reporter();
    herdbook_proto::transport::server().add_service(health)
}
pub(crate) fn incoming(listener: std::net::TcpListener) -> std::io::Result<tonic::transport::server::TcpIncoming> {
    Ok(tonic::transport::server::TcpIncoming::from(tokio::net::TcpListener::from_std(listener)?))
}
impl herdbook_proto::status::Failure for crate::Error { fn kind(&self) -> herdbook_proto::status::Kind { herdbook_proto::status::Kind::Internal } fn reason(&self) -> &'static str { "X" } }
