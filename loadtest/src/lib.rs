//! The load harness: seeded work for a cluster, how long it takes, and whether the cluster kept its word.
//!
//! A [`cluster`] is started or its addresses are given; [`closed_loop`] puts load on it, [`latency`] times the way of a commit from one
//! replica to another, [`check`] compares what was acknowledged with what every node holds. Reports are [`report`]; [`cli`] is what the
//! `herdbook` command mounts. Stores that Herdbook is measured against implement [`Connection`] in `peers`.

pub mod check;
pub mod cli;
pub mod closed_loop;
pub mod cluster;
pub mod connection;
mod error;
pub mod latency;
pub mod ledger;
pub mod node;
pub mod percentiles;
pub mod report;
pub mod workload;

pub use connection::Connection;
pub use error::Error;
