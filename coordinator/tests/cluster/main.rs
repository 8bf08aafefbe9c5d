//! A coordinator and its replicas over real connections and stores.

mod conditions;
mod converge;
mod forks;
mod joining;
mod older_data;
mod quiet;
mod recovery;
mod schema_branches;
mod support;
