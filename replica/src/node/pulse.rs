//! Looks whether the store still takes writes and the session still commits, and fails the node when one does not.
//!
//! After a failed write or sync a store refuses everything, since nobody knows what is on the disk. Only opening it again tells, and only an
//! ended process can do that.

use std::{sync::Arc, time::Duration};

use herdbook_store::{Batch, Durability, Error, Store};

use tokio::sync::broadcast;

use super::Phases;
use crate::repository::Change;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);

/// Fails the node when its session can make no more commits; ends with the repository.
pub(super) async fn follow(mut changes: broadcast::Receiver<Change>, phases: Arc<Phases>) {
    loop {
        match changes.recv().await {
            Ok(Change::Dropped { own: true }) => phases.fail(crate::Error::SessionOver.to_string()),
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => break,
        }
    }
}

/// Looks until the store fails or is dropped by everybody else.
pub(super) async fn watch(store: Arc<dyn Store>, phases: Arc<Phases>) {
    let store = {
        let weak = Arc::downgrade(&store);
        drop(store);
        weak
    };
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(store) = store.upgrade() else { break };
        // An empty batch passes the same queue as every other, and costs nothing where all is synced; it bounds how long anything is not:
        // head-log entries of a member, say, which wait for no sync of their own.
        let beat = tokio::task::spawn_blocking(move || store.records().write(Batch::new(), Durability::Durable)).await;
        if let Ok(Err(error @ (Error::Failed { .. } | Error::Full { .. }))) = beat {
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let why = causes.fold(error.to_string(), |why, cause| format!("{why}: {cause}"));
            tracing::error!(%why, "the store takes no more writes: the process must end");
            phases.fail(why);
            break;
        }
    }
}
