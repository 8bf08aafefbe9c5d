//! The decoder of the marker, for those who feed it what nobody wrote.

/// Reads a slot of the marker; returns whether it is whole.
pub fn marker(bytes: &[u8]) -> bool {
    crate::rocks::marker::decode(bytes).is_some()
}
