//! The services for clients, over real connections and a store on disk.

mod bad_input;
mod clones;
mod collections;
mod conflicts;
mod ends;
mod failing;
mod floods;
mod herd;
mod history;
mod merges;
mod past;
mod reads;
mod reverts;
mod server;
mod transport;
mod watches;
mod writes;
