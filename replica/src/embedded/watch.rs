//! Watching a branch: what became visible, told through a channel of the standard library.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
};

use herdbook_model::{
    id::{BranchName, StateName},
    state::State,
    value::Key,
};
use tokio::sync::broadcast::{self, error::RecvError};

use super::builder;
use crate::repository::{Change, Repository};

/// Events that may wait to be received. Who is slower than that is told to read anew.
const WAITING: usize = 1024;

/// Something on the branch became visible.
#[derive(Debug, Clone)]
pub enum Event {
    /// Commits were made here or came in.
    Documents {
        /// The documents they touched, as collection and key, in no order and perhaps more than once.
        documents: Vec<(Arc<str>, Key)>,
        /// Whether they were made here.
        own: bool,
        /// The state with them.
        state: StateName,
    },
    /// Anything may be different: the branch was replayed, or events were passed over because they were not received in time.
    Anew,
}

/// Tells of what becomes visible on `branch` from here on, until the replica is closed or the receiver dropped.
pub(super) fn watch(repository: &Repository, branch: BranchName) -> Result<Receiver<Event>, builder::Error> {
    let (tell, hear) = mpsc::sync_channel(WAITING);
    // The thread holds the receiver of changes alone: a watch keeps no store open.
    let changes = repository.changes();
    let run = move || run(changes, &branch, &tell);
    thread::Builder::new().name("herdbook-watch".to_owned()).spawn(run).map_err(builder::Error::Thread)?;
    Ok(hear)
}

fn run(mut changes: broadcast::Receiver<Change>, branch: &BranchName, tell: &SyncSender<Event>) {
    loop {
        let event = match changes.blocking_recv() {
            Ok(Change::Commits { branch: of, touched, state, own, .. }) if of == *branch => {
                Event::Documents { documents: named(&state, &touched), own, state: state.name() }
            }
            Ok(Change::Rebuilt { branch: of, .. }) if of == *branch => Event::Anew,
            Ok(_) => continue,
            Err(RecvError::Lagged(_)) => Event::Anew,
            Err(RecvError::Closed) => return,
        };
        if tell.send(event).is_err() {
            return;
        }
    }
}

fn named(state: &State, touched: &[(herdbook_model::schema::CollectionId, Key)]) -> Vec<(Arc<str>, Key)> {
    let name = |(collection, key): &(_, Key)| Some((state.schema().by_id(*collection).ok()?.name.clone(), key.clone()));
    touched.iter().filter_map(name).collect()
}
