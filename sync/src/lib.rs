//! How nodes converge and how authority acts, as state machines without I/O.
//!
//! Each machine takes an input and the time, changes itself, and yields outputs; whoever drives it carries them to the world.
//! Law: two machines that exchanged everything hold the same frontiers, states and roots, whatever the network did in between.
//!
//! [`exchange`] is one conversation between two peers, over the messages of [`message`] and what a node shows it of itself through
//! [`local`]. [`acceptance`] is one step of the authority, [`restore`] its return after it lost its data.

pub mod acceptance;
pub mod enrolment;
pub mod evidence;
pub mod exchange;
pub mod local;
pub mod message;
pub mod restore;
pub mod sketch;
pub mod summary;

#[doc = include_str!("../PROTOCOL.md")]
pub mod protocol {}
