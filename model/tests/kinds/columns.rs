//! Requests of every type travel in columns and come together as they were.

use herdbook_model::{
    codec::Encode as _,
    columns::{Join, Split, straighten},
};

use super::history::History;

#[test]
fn requests_of_every_type_come_together_again() {
    let mut columns_seen = 0;
    for seed in 0..300 * super::times() {
        let history = History::of(30_000 + seed, 30);
        let requests: Vec<_> =
            history.commits.iter().flat_map(|delivery| delivery.requests.iter().flatten()).map(|request| request.to_bytes()).collect();
        let mut split = Split::default();
        for (at, bytes) in requests.iter().enumerate() {
            split.push(bytes).unwrap_or_else(|error| panic!("seed {seed}: request {at} cannot be taken apart: {error}"));
        }
        let columns = straighten(split.finish()).expect("what was split is straight");
        let mut join = Join::new(&columns);
        for bytes in &requests {
            assert_eq!(join.next_request().as_ref(), Ok(bytes), "seed {seed}");
        }
        assert_eq!(join.end(), Ok(()), "seed {seed}");
        columns_seen = columns_seen.max(columns.len());
    }
    assert!(columns_seen > 100, "the requests were too tame: {columns_seen} columns at most");
}
