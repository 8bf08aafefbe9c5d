//! Freeing what a fold has put into the trees: a hundred thousand documents above them take a few tens of milliseconds to free, which must
//! fall on nobody who commits, reads or exchanges.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::View;

/// How many edits must have gone from above the trees before freeing them is worth a thread.
const WORTH: u64 = 5_000;

/// How long readers of the old view are waited for; whoever reads longer frees it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause between looks whether somebody still reads it.
const PAUSE: Duration = Duration::from_millis(5);

/// Lets go of a view that another took the place of: on a thread of its own, once nobody reads it, if that frees much.
pub(super) fn release(before: Arc<View>, after: &View) {
    let pending = |view: &View| view.branches.values().map(herdbook_model::state::State::pending).sum::<u64>();
    if pending(&before) < pending(after) + WORTH {
        return;
    }
    let wait = move || {
        let begun = Instant::now();
        while Arc::strong_count(&before) > 1 && begun.elapsed() < PATIENCE {
            thread::sleep(PAUSE);
        }
    };
    // Without a thread it is freed here and now.
    let _ = thread::Builder::new().name("release".to_owned()).spawn(wait);
}
