//! Builders for tests and benchmarks: schemas, edits, requests, a herd of replicas in memory, a crowd that writes at once, and the documents
//! that figures are measured on. Compiled for this crate's own tests and under the feature `testutil`; nothing of it is part of the model.

mod build;
mod crowd;
mod herd;
pub mod workload;

pub use build::{
    ANIMALS, STABLES, VANISHED, animal, branch, clear, create, delete, elements, entries, genesis, key, put, remove, request, schema, set,
    signing_key, update,
};
pub use crowd::Crowd;
pub use herd::{Delivery, Herd, Replica, repository};
