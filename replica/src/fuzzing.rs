//! Decoders of this crate's own records and tokens, for those who feed them what nobody wrote. Each returns whether the bytes were taken, and
//! panics where what it took has another form than it was read from.

use crate::{
    grpc,
    repository::{growth, layout},
};

pub use crate::repository::fuzzing::{base, materialised};

/// A commit as stored: its vector, leaves and signed header.
pub fn commit(bytes: &[u8]) -> bool {
    let Ok(stored) = layout::decode_commit(bytes) else { return false };
    let again = layout::encode_commit(&stored.growth, &stored.leaves, &stored.commit);
    assert_eq!(again, bytes, "a stored commit has another form");
    true
}

/// A vector that others are told above.
pub fn checkpoint(bytes: &[u8]) -> bool {
    let Ok(grown) = layout::decode_checkpoint(bytes) else { return false };
    let mut out = herdbook_model::codec::Writer::default();
    growth::encode_grown(&grown, &mut out);
    assert_eq!(out.as_bytes(), bytes, "a checkpoint has another form");
    true
}

/// A key of the index.
pub fn index_key(bytes: &[u8]) -> bool {
    let parsed = [layout::parse_number(bytes).is_some(), layout::parse_tail(bytes).is_some(), layout::parse_outcome(bytes).is_some()];
    layout::parse_by_edit(bytes).is_some() || parsed.contains(&true)
}

/// What page and resume tokens say after their state.
pub fn places(bytes: &[u8]) -> bool {
    grpc::places(bytes)
}
