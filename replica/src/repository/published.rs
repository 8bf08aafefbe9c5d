//! What readers see, and how much of it peers may be told is held here.
//!
//! Laws: views are published in the order in which they were made. What is held never has a commit of another replica that a power cut could
//! take away again: its author may count this copy and forget its own. What readers see may have such commits, and a hub passes them on: the
//! sync of each node on a commit's way would be added to the time until it is seen.
//!
//! Apart from the rest of the repository, so that a callback of the store, which runs on the store's own thread, never is the last that holds one:
//! closing it waits for that thread.

use std::{collections::VecDeque, sync::Arc};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{CHANGES, Change, View, release};

/// The newest view, and those before it that count still.
pub(crate) struct Published {
    view: ArcSwap<View>,
    kept: Mutex<Kept>,
    changes: broadcast::Sender<Change>,
}

/// What is held, and what will be.
struct Kept {
    held: Arc<View>,
    /// Views with commits that are not durable here yet, in order, each the newest without those of the next.
    early: VecDeque<(Early, Arc<View>)>,
    next: Early,
}

/// Names what was published before it was durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Early(u64);

impl Published {
    pub(crate) fn new(view: View) -> Self {
        let view = Arc::new(view);
        let kept = Kept { held: view.clone(), early: VecDeque::new(), next: Early(0) };
        Self { view: ArcSwap::new(view), kept: Mutex::new(kept), changes: broadcast::channel(CHANGES).0 }
    }

    /// Returns what readers see.
    pub(crate) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Returns what peers may be told is held here.
    pub(crate) fn held(&self) -> Arc<View> {
        self.kept.lock().held.clone()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Tells subscribers.
    pub(crate) fn tell(&self, change: Change) {
        // No subscriber is no fault.
        let _ = self.changes.send(change);
    }

    /// Makes `view` what readers see, and tells subscribers. Called in the order in which views were made.
    pub(crate) fn publish(&self, view: View, changes: Vec<Change>) {
        self.show(Arc::new(view), |kept, view| match kept.early.back_mut() {
            Some((_, newest)) => *newest = view,
            None => kept.held = view,
        });
        changes.into_iter().for_each(|change| self.tell(change));
    }

    /// As [`publish`](Self::publish), of what is durable: and so is all before it.
    pub(crate) fn publish_durable(&self, view: View, changes: Vec<Change>) {
        self.show(Arc::new(view), |kept, view| {
            kept.early.clear();
            kept.held = view;
        });
        changes.into_iter().for_each(|change| self.tell(change));
    }

    /// As [`publish`](Self::publish), of commits of others that are not durable here yet.
    pub(crate) fn publish_early(&self, view: View, changes: Vec<Change>) -> Early {
        let early = self.show(Arc::new(view), |kept, view| {
            let early = kept.next;
            kept.next = Early(early.0 + 1);
            kept.early.push_back((early, view));
            early
        });
        changes.into_iter().for_each(|change| self.tell(change));
        early
    }

    /// Notes that everything up to `early` is durable now: it counts as held.
    pub(crate) fn durable(&self, early: Early) {
        let mut kept = self.kept.lock();
        while kept.early.front().is_some_and(|(first, _)| *first <= early) {
            let (_, view) = kept.early.pop_front().expect("it was there");
            let before = std::mem::replace(&mut kept.held, view);
            kept.let_go(before);
        }
    }

    /// Makes `view`, read from the store when all was synced, what readers see and what is held. Tells nobody.
    pub(crate) fn begin_anew(&self, view: View) {
        self.publish_durable(view, Vec::new());
    }

    fn show<T>(&self, view: Arc<View>, keep: impl FnOnce(&mut Kept, Arc<View>) -> T) -> T {
        let mut kept = self.kept.lock();
        let before = self.view.swap(view.clone());
        let done = keep(&mut kept, view);
        kept.let_go(before);
        done
    }
}

impl Kept {
    /// Lets go of a view that is not the newest any more, unless it counts still: then it goes when it does not.
    fn let_go(&self, before: Arc<View>) {
        let newest = self.early.back().map_or(&self.held, |(_, newest)| newest);
        let counts = std::iter::once(&self.held).chain(self.early.iter().map(|(_, view)| view)).any(|view| Arc::ptr_eq(view, &before));
        if !counts {
            release::release(before, newest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use herdbook_model::{authority::Log, id::RepositoryId};

    use super::*;

    fn view() -> View {
        let log = Arc::new(Log::new(RepositoryId([1; 32]), [2; 32]));
        View { log, branches: BTreeMap::new(), lost: Arc::default(), ahead: Arc::default() }
    }

    #[test]
    fn a_view_is_held_when_all_before_it_is_durable_whoever_says_so_first() {
        let published = Published::new(view());
        let first = published.view();
        let one = published.publish_early(view(), Vec::new());
        let with_one = published.view();
        let two = published.publish_early(view(), Vec::new());
        published.publish(view(), Vec::new());
        let with_all = published.view();
        assert!(Arc::ptr_eq(&published.held(), &first));
        published.durable(one);
        assert!(Arc::ptr_eq(&published.held(), &with_one));
        let three = published.publish_early(view(), Vec::new());
        published.durable(three);
        assert!(Arc::ptr_eq(&published.held(), &published.view()));
        published.durable(two);
        assert!(Arc::ptr_eq(&published.held(), &published.view()), "what came before is durable then, too");
        assert!(!Arc::ptr_eq(&published.held(), &with_all));
    }

    #[test]
    fn what_was_made_here_is_held_with_what_came_before_it() {
        let published = Published::new(view());
        published.publish(view(), Vec::new());
        assert!(Arc::ptr_eq(&published.held(), &published.view()));
        let early = published.publish_early(view(), Vec::new());
        let before = published.held();
        published.publish(view(), Vec::new());
        assert!(Arc::ptr_eq(&published.held(), &before), "it stands on what is not durable yet");
        published.durable(early);
        assert!(Arc::ptr_eq(&published.held(), &published.view()));
    }

    #[test]
    fn what_is_durable_makes_all_before_it_held() {
        let published = Published::new(view());
        let early = published.publish_early(view(), Vec::new());
        published.publish_durable(view(), Vec::new());
        assert!(Arc::ptr_eq(&published.held(), &published.view()));
        published.publish_early(view(), Vec::new());
        let before = published.held();
        published.durable(early);
        assert!(Arc::ptr_eq(&published.held(), &before), "what came later is not");
    }

    #[test]
    fn what_is_read_from_the_store_is_held() {
        let published = Published::new(view());
        let early = published.publish_early(view(), Vec::new());
        published.begin_anew(view());
        assert!(Arc::ptr_eq(&published.held(), &published.view()));
        published.durable(early);
        assert!(Arc::ptr_eq(&published.held(), &published.view()));
    }
}
