//! Laws of states, reverts, skipped requests, graphs and the head log, on random histories and on hostile ones.

mod burst;
#[path = "../oracle/history.rs"]
mod history;
mod large;
mod log;
mod revert;
mod sequences;
mod skip;
mod state;
