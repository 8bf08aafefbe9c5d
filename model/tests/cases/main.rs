//! Cases that a non-programmer can read, and those of the two systems that this one descends from.

mod ancestors;
mod texts;
