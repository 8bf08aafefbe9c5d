//! A replica: actors around the store, gRPC services, and the library that applications embed.
//!
//! [`repository`] is the synchronous core: one repository's store, head log and states. Actors carry requests to it, `grpc` carries
//! clients to the actors, peers exchange what they have. [`embedded`] is the same for an application that holds a replica in itself.

pub mod actor;
pub mod clock;
pub mod embedded;
pub mod error;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod grpc;
pub mod http;
pub mod keys;
mod local;
pub mod metrics;
pub mod node;
pub mod peers;
pub mod repository;
pub mod subscription;

pub use embedded::Replica;
pub use error::{Error, Kind};
pub use repository::Repository;
