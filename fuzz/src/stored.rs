//! Records that a replica and its store keep beside canonical bytes. They are read back by who wrote them; damage must still be an error.

use herdbook_replica::fuzzing as replica;
use herdbook_store::fuzzing as store;

use crate::Target;

pub(crate) const TARGETS: &[Target] = &[
    Target::new("stored-base", replica::base),
    Target::new("stored-checkpoint", replica::checkpoint),
    Target::new("stored-commit", replica::commit),
    Target::new("stored-key", replica::index_key),
    Target::new("stored-marker", store::marker),
    Target::new("stored-materialised", replica::materialised),
    Target::new("token-places", replica::places),
];
