//! Actors, and the handles by which everything else knows them.
//!
//! The actor library stands behind these handles alone, so that it can be changed in this module. Mailboxes are bounded: full means
//! [`Error::Busy`](crate::Error::Busy), never growth.

pub(crate) mod peer;
mod repository;

pub use repository::{Acknowledged, Answer, RepositoryHandle};
