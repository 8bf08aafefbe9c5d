//! The wire: what callers and members say to each other, and its conversion to the model.
//!
//! Law: whatever bytes arrive, conversion returns a value that means something or says which field does not; and
//! `from_wire(to_wire(x)) = x`. The definitions are `herdbook/v1/*.proto`; [`v1`] is what prost and tonic make of them, and stops at this
//! crate and at the services of the replica. [`sync`](herdbook_sync) says which messages an exchange has, and when.

pub mod ack;
pub mod blob;
pub mod block;
pub mod client;
pub mod cluster;
mod convert;
pub mod document;
pub mod edit;
pub mod history;
pub mod limits;
mod malformed;
pub mod merge;
pub mod past;
pub mod pipeline;
pub mod read;
pub mod status;
pub mod token;
pub mod transport;

pub use malformed::{Fault, Malformed};

/// Generated code of package `herdbook.v1`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::use_self, clippy::unused_trait_names, clippy::semicolon_if_nothing_returned)]
pub mod v1 {
    include!("generated/herdbook.v1.rs");
}

/// Descriptors of package `herdbook.v1` and what it imports (`google.protobuf.FileDescriptorSet`), for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
