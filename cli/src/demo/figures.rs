//! What each scene wrote, and how long it took.

use std::time::Duration;

use super::ledger::Tally;

/// Figures of one scene alone.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) scene: &'static str,
    pub(super) tally: Tally,
    /// By how much the store of replica 1 grew. It loses nothing in any scene; where it was compacted meanwhile it may have shrunk.
    pub(super) bytes: i128,
    pub(super) time: Duration,
}

/// Tells the figures of all scenes.
pub(super) fn tell(figures: &[Figures]) {
    println!("\n== done: everything above was checked and is so");
    println!("each scene alone; bytes are by how much the store of replica 1 grew, which shrinks where it is compacted");
    println!("{:<10} {:>16} {:>13} {:>18} {:>9}", "scene", "documents edited", "commits made", "bytes at replica 1", "seconds");
    for Figures { scene, tally, bytes, time } in figures {
        let (documents, commits) = (tally.documents.len(), tally.commits.len());
        println!("{scene:<10} {documents:>16} {commits:>13} {bytes:>+18} {:>9.1}", time.as_secs_f64());
    }
}
