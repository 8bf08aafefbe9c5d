//! Refs: a few named values that change, each by compare-and-set. Law:
//!
//! - of two changes that expect the same value, one succeeds; the other learns the value that is there.

use crate::{Error, Record};

/// A ref as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ref {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Vec<u8>,
}

impl TryFrom<Record> for Ref {
    type Error = Error;

    fn try_from(record: Record) -> Result<Self, Error> {
        let name = String::from_utf8(record.key).map_err(|error| Error::RefName { name: error.into_bytes() })?;
        Ok(Self { name, value: record.value })
    }
}

/// Keeps refs. To change a ref together with records use [`Batch::compare_and_set`](crate::Batch::compare_and_set).
pub trait RefStore: Send + Sync {
    /// Returns the value of a ref, or `None` if there is none of that name.
    ///
    /// # Errors
    /// Engine errors.
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Replaces `expected` by `new`, where `None` is absence, and returns when that is durable.
    ///
    /// # Errors
    /// [`Error::Conflict`] with the actual value if it is not `expected`; as [`Records::write`](crate::Records::write).
    fn compare_and_set(&self, name: &str, expected: Option<&[u8]>, new: Option<&[u8]>) -> Result<(), Error>;

    /// Returns the refs whose names start with `prefix`, in order of name. All are in memory at once.
    ///
    /// # Errors
    /// Engine errors; [`Error::RefName`] if a stored name is not text.
    fn list(&self, prefix: &str) -> Result<Vec<Ref>, Error>;
}
