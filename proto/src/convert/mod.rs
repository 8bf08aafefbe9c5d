//! Conversion between generated messages and the types of this crate and the model: `TryFrom` inwards, `From` outwards.
//!
//! Each conversion takes its message apart completely, so that a new field cannot be forgotten. Ids travel as raw bytes; an empty byte
//! string or text is absence where the definition says so, and wrong where it does not.

mod ack;
mod blob;
mod cluster;
mod document;
mod edit;
mod history;
mod merge;
mod message;
mod parcels;
mod past;
mod read;
mod upkeep;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use herdbook_model::{
    codec::Decode,
    id::{BranchName, WrongLength},
    value::Key,
};

use crate::{Fault, Malformed, document::Name, limits};

type Result<T> = std::result::Result<T, Malformed>;

/// Returns what is there.
fn required<T>(field: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| Malformed::missing(field))
}

/// Converts a message that must be there.
fn inner<T, U: TryFrom<T, Error = Malformed>>(field: &str, value: Option<T>) -> Result<U> {
    U::try_from(required(field, value)?).map_err(|error| error.within(field))
}

/// Converts a message that may be absent.
fn optional<T, U: TryFrom<T, Error = Malformed>>(field: &str, value: Option<T>) -> Result<Option<U>> {
    value.map(|value| U::try_from(value).map_err(|error| error.within(field))).transpose()
}

/// Converts each element of a list.
fn each<T, U: TryFrom<T, Error = Malformed>>(field: &str, values: Vec<T>) -> Result<Vec<U>> {
    let element = |(at, value)| U::try_from(value).map_err(|error: Malformed| error.within(format_args!("{field}[{at}]")));
    values.into_iter().enumerate().map(element).collect()
}

/// Converts each element of a list outwards.
fn all<T, U: From<T>>(values: impl IntoIterator<Item = T>) -> Vec<U> {
    values.into_iter().map(U::from).collect()
}

/// Reads an id, key or nonce of fixed length.
fn id<I: for<'a> TryFrom<&'a [u8], Error = WrongLength>>(field: &str, bytes: &Bytes) -> Result<I> {
    match I::try_from(bytes) {
        Ok(id) => Ok(id),
        Err(_) if bytes.is_empty() => Err(Malformed::missing(field)),
        Err(error) => Err(Malformed::new(field, error.into())),
    }
}

/// Reads an id that may be absent, as an empty byte string.
fn optional_id<I: for<'a> TryFrom<&'a [u8], Error = WrongLength>>(field: &str, bytes: &Bytes) -> Result<Option<I>> {
    if bytes.is_empty() { Ok(None) } else { id(field, bytes).map(Some) }
}

/// Reads a list of ids.
fn ids<I: for<'a> TryFrom<&'a [u8], Error = WrongLength>>(field: &str, list: &[Bytes]) -> Result<Vec<I>> {
    list.iter().enumerate().map(|(at, bytes)| id(&format!("{field}[{at}]"), bytes)).collect()
}

/// Reads bytes of fixed length that are no id.
fn array<const N: usize>(field: &str, bytes: &Bytes) -> Result<[u8; N]> {
    match <[u8; N]>::try_from(bytes.as_ref()) {
        Ok(array) => Ok(array),
        Err(_) if bytes.is_empty() => Err(Malformed::missing(field)),
        Err(_) => Err(Malformed::new(field, Fault::WrongLength { expected: N, actual: bytes.len() })),
    }
}

/// Reads canonical bytes.
fn canonical<T: Decode>(field: &str, bytes: &Bytes) -> Result<T> {
    if bytes.is_empty() {
        return Err(Malformed::missing(field));
    }
    T::from_bytes(bytes).map_err(|error| Malformed::new(field, error.into()))
}

/// Returns raw bytes as they travel.
fn raw(bytes: &(impl AsRef<[u8]> + ?Sized)) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}

/// Returns an id that may be absent as it travels.
fn raw_or_empty<const N: usize>(bytes: Option<&[u8; N]>) -> Bytes {
    bytes.map_or_else(Bytes::new, raw)
}

/// Reads an enum; its zero value counts as missing.
fn choice<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E> {
    if value == 0 {
        return Err(Malformed::missing(field));
    }
    E::try_from(value).map_err(|_| Malformed::new(field, Fault::UnknownValue { value }))
}

/// Insists on a limit.
fn limited(field: &str, actual: usize, limit: usize) -> Result<()> {
    if actual <= limit { Ok(()) } else { Err(Malformed::new(field, Fault::AboveLimit { actual: actual as u64, limit: limit as u64 })) }
}

/// Reads a text that must not be empty.
fn text(field: &str, text: String) -> Result<Arc<str>> {
    if text.is_empty() { Err(Malformed::missing(field)) } else { Ok(text.into()) }
}

/// Reads a text that may be absent, as the empty text.
fn optional_text(text: String) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// Returns a text that may be absent as it travels.
fn text_or_empty(text: Option<&(impl ToString + ?Sized)>) -> String {
    text.map_or_else(String::new, ToString::to_string)
}

fn key(field: &str, text: String) -> Result<Key> {
    if text.is_empty() {
        return Err(Malformed::missing(field));
    }
    Key::new(text).map_err(|error| Malformed::new(field, Fault::BadKey { actual: error.actual }))
}

fn name(collection: String, key: String) -> Result<Name> {
    Ok(Name { collection: text("collection", collection)?, key: self::key("key", key)? })
}

fn branch(field: &str, name: String) -> Result<BranchName> {
    if name.is_empty() {
        return Err(Malformed::missing(field));
    }
    BranchName::new(name).map_err(|_| Malformed::new(field, Fault::BadName))
}

fn optional_branch(field: &str, name: String) -> Result<Option<BranchName>> {
    if name.is_empty() { Ok(None) } else { branch(field, name).map(Some) }
}

fn token(field: &str, bytes: Bytes) -> Result<Bytes> {
    limited(field, bytes.len(), limits::TOKEN)?;
    Ok(bytes)
}
