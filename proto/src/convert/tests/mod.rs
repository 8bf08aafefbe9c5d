//! Laws of conversion: what is sent arrives as it was, and no bytes can make it panic.

mod documents;
mod hostile;
mod messages;
mod questions;

use proptest::prelude::*;

use crate::Malformed;

/// Sends a value over the wire as bytes and returns what arrives.
fn sent<T, W>(value: T) -> Result<T, Malformed>
where
    W: prost::Message + Default + TryFrom<T>,
    <W as TryFrom<T>>::Error: std::fmt::Debug,
    T: TryFrom<W, Error = Malformed>,
{
    let bytes = W::try_from(value).expect("short").encode_to_vec();
    T::try_from(W::decode(bytes.as_slice()).expect("just encoded"))
}

/// Ids of few bytes, so that equal ones occur.
fn bytes32() -> impl Strategy<Value = [u8; 32]> {
    any::<[u8; 2]>().prop_map(|[a, b]| {
        let mut bytes = [a; 32];
        bytes[31] = b;
        bytes
    })
}
