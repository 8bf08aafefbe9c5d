//! A simulator of nodes that exchange over a bad network, seeded, and the conversations and decisions it is built from.
//!
//! `HERDBOOK_SIM_SEEDS` sets how many histories run; a failure names its seed.

mod acceptance;
mod bounds;
mod conversations;
mod costs;
mod fixtures;
mod histories;
mod hostile;
mod network;
mod node;
mod plants;
mod restore;
mod rng;
mod states;
mod wants;
