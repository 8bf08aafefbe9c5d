//! The load harness: seeded work for a cluster, how long it takes, and whether the cluster kept its word.
//!
//! A [`cluster`] is started or its addresses are given; [`load`] puts load on it, [`latency`] times the way of a commit from one replica to
//! another and [`fanout`] to many watchers, [`check`] compares what was acknowledged with what every node holds, and [`chaos`] does so under
//! faults. [`scenes`] are what people do with it, each with its check; a [`forecast`] tells what larger clusters need. Reports are [`report`]; [`cli`] is what the `herdbook` command mounts. Stores that Herdbook is measured against implement
//! [`Connection`] in `peers`.

pub mod chaos;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod compare;
pub mod connection;
mod error;
pub mod fanout;
pub mod forecast;
mod html;
pub mod latency;
pub mod ledger;
mod live;
pub mod load;
pub mod node;
pub mod percentiles;
pub mod report;
pub mod sampler;
pub mod scenes;
pub mod workload;

pub use connection::Connection;
pub use error::Error;
