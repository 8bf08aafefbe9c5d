//! Records that only one file reads, for `crate::fuzzing`.

use super::{base, materialise};

/// Trees that were fetched before their history.
pub fn base(bytes: &[u8]) -> bool {
    let Ok(base) = base::Base::from_bytes(bytes) else { return false };
    assert_eq!(base.to_bytes(), bytes, "a base has another form");
    true
}

/// A state that is folded.
pub fn materialised(bytes: &[u8]) -> bool {
    materialise::decode(bytes).is_ok()
}
