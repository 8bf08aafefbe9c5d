//! The data model: pure and synchronous, no I/O, clock or randomness.
//!
//! Its laws: a state is a pure function of its name (branch, frontier, judgement), and one value has one byte form.
//! `FORMAT.md` says those bytes; `store` keeps them, `sync` moves them.

pub mod authority;
pub mod blame;
pub mod blob;
pub mod chunk;
pub mod codec;
pub mod columns;
pub mod commit;
pub mod document;
pub mod edit;
pub mod graph;
pub mod id;
pub mod json;
pub mod merge;
pub mod migration;
pub mod patch;
pub mod plant;
pub mod replace;
pub mod request;
pub mod resolver;
pub mod revert;
pub mod schema;
pub mod splices;
pub mod state;
#[cfg(any(test, feature = "testutil"))]
pub mod testutil;
pub mod time;
pub mod tree;
pub mod value;
pub mod vector;

/// The signing keys of this model (RFC 8032), so that its users name one library.
pub use ed25519_dalek::SigningKey;
