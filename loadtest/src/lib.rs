//! The load harness: workloads, a checker, percentiles.
