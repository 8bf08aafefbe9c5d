//! A coordinator and its replicas over real connections and stores.

mod converge;
mod older_data;
mod support;
