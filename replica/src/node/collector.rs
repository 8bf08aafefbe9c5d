//! Collects garbage by itself, where it has come to take too large a share of the store.

use std::{sync::Arc, time::Duration};

use super::Inner;
use crate::{
    error::Error,
    metrics,
    repository::{Collected, Collecting},
};

/// How often it is looked whether it is worth while. Commits of a minute make no more garbage than they write.
const LOOK: Duration = Duration::from_secs(60);

/// Fewest bytes of a store whose garbage is worth a collection.
const FEW: u64 = 64 << 20;

/// Share of the chunks from which on garbage is collected where nothing else was said, in percent.
pub const COLLECT_AT: u8 = 50;

impl Inner {
    /// Looks again and again until the node stops.
    pub(super) async fn collect(self: Arc<Self>) {
        let percent = self.settings.collect_at.unwrap_or(COLLECT_AT);
        if percent == 0 {
            return;
        }
        let mut stopping = self.stopping();
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let node = self.clone();
            let collected = tokio::task::spawn_blocking(move || node.collect_if_worth(percent)).await;
            match collected {
                Ok(Ok(Some(collected))) => tracing::info!(?collected, "garbage was collected"),
                Ok(Ok(None) | Err(Error::Collecting | Error::Interrupted)) => {}
                Ok(Err(error)) => tracing::error!(%error, "garbage could not be collected"),
                Err(_) => return,
            }
        }
    }

    fn collect_if_worth(&self, percent: u8) -> Result<Option<Collected>, Error> {
        let repository = &self.here.repository;
        let garbage = repository.garbage()?;
        metrics::garbage(repository, garbage);
        let is_large = garbage * 100.0 >= f64::from(percent) && self.store_bytes() >= FEW;
        // While an older state is read, what was erased may be of it: a collection would be in vain.
        let can_forget = || Ok::<_, Error>(repository.has_erased()? && !repository.is_read_behind()?);
        if !is_large && !repository.lags_horizon()? && !can_forget()? {
            return Ok(None);
        }
        self.collect_now(Collecting::default()).map(Some)
    }

    /// Collects, and counts what came of it.
    pub(super) fn collect_now(&self, how: Collecting) -> Result<Collected, Error> {
        let repository = &self.here.repository;
        let collected = repository.collect(how, |_| ())?;
        if !how.dry_run {
            metrics::collected(repository, &collected);
            metrics::garbage(repository, repository.garbage()?);
        }
        Ok(collected)
    }
}
