//! What a node is doing, shared between those who decide and those who answer.
//!
//! Law: a node that failed takes no writes from that moment on, says that it is not ready, and never does anything else again.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use herdbook_proto::cluster::Phase;
use tokio::sync::watch;

/// What a node is doing.
#[derive(Debug)]
pub struct Phases {
    phase: AtomicU8,
    /// Why the process has to end, if it has to.
    failure: watch::Sender<Option<String>>,
}

impl Phases {
    /// Returns a cell that says `phase`.
    pub fn new(phase: Phase) -> Arc<Self> {
        Arc::new(Self { phase: AtomicU8::new(phase as u8), failure: watch::channel(None).0 })
    }

    /// Returns what the node is doing.
    pub fn get(&self) -> Phase {
        if self.failure.borrow().is_some() {
            return Phase::Frozen;
        }
        [Phase::Starting, Phase::Serving, Phase::Recovering, Phase::Frozen]
            .into_iter()
            .find(|phase| *phase as u8 == self.phase.load(Ordering::Relaxed))
            .unwrap_or(Phase::Starting)
    }

    /// Says what the node is doing from here on.
    pub fn set(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// Says that the node cannot go on and why: its process has to end. The first reason stands.
    pub fn fail(&self, why: impl Into<String>) {
        self.failure.send_if_modified(|failure| {
            let is_first = failure.is_none();
            failure.get_or_insert_with(|| why.into());
            is_first
        });
    }

    /// Waits until the node failed; returns why.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        // The sender lives as long as `self`, so the wait ends only with a failure.
        let failed = failure.wait_for(Option::is_some).await;
        failed.ok().and_then(|why| why.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_stays_so_with_the_first_reason() {
        let phases = Phases::new(Phase::Serving);
        phases.fail("the disk");
        phases.fail("what came of it");
        phases.set(Phase::Serving);
        assert_eq!(phases.get(), Phase::Frozen);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        assert_eq!(runtime.block_on(phases.failed()), "the disk");
    }
}
