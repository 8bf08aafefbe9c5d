//! How nodes converge and how authority acts, as state machines without I/O.
//!
//! Each machine takes an input and the time, changes itself, and yields outputs; whoever drives it carries them to the world.
//! Law: two machines that exchanged everything hold the same frontiers, states and roots, whatever the network did in between.

pub mod message;
