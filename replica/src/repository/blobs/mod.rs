//! Blobs: uploading their parts as documents, reading them back, and taking away those of no use.
//!
//! Law: whatever a document of any branch refers to can be read. An upload touches every part, so that it outlives a concurrent delete; what is
//! swept is deleted first, which hides it and takes nothing from who reads; only what nobody refers to after it was hidden for long, on every
//! branch, goes for good.

mod reader;
mod sweep;
mod upload;

use std::sync::Arc;

use herdbook_model::{
    blob::{self, Blob, Held},
    edit::{Edit, Operation},
    id::{BranchName, PartId, RequestKey},
    schema::BLOBS_NAME,
    state::State,
    time::Time,
    value::{Key, Scalar, Value},
};

pub use self::{
    reader::BlobReader,
    sweep::{Sweep, Swept},
    upload::{Upload, Uploaded},
};
use super::{Ask, DocumentChange, DocumentEdit, Shared};
use crate::{error::Error, keys};

/// Bytes of parts that go into one request.
const REQUEST: usize = 1 << 20;

/// In whose name parts are hidden and taken away. Nobody else may: what is hidden in another way would not be known to be so since when.
pub(super) const UPKEEP: &str = "upkeep";

/// Writes a part: whole where it is not there, else only that it is used.
pub(super) fn write(key: Key, bytes: Arc<[u8]>, now: i64) -> DocumentEdit {
    let fields = vec![("data".into(), Value::Scalar(Scalar::Bytes(bytes))), ("used".into(), Value::Scalar(Scalar::Timestamp(now)))];
    DocumentEdit { collection: BLOBS_NAME.to_owned(), key, change: DocumentChange::Put(fields) }
}

pub(super) fn ask(branch: Option<BranchName>, edits: Vec<DocumentEdit>) -> Result<Ask, Error> {
    let key = RequestKey(keys::random()?);
    Ok(Ask { branch, key, principal: String::new(), wanted: Vec::new(), edits, message: String::new() })
}

pub(super) fn micros(time: Time) -> i64 {
    i64::try_from(time.millis().saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// Checks an edit of the collection of blobs, made in the name of `principal`.
pub(super) fn check(edit: &Edit, principal: &str) -> Result<(), Error> {
    let takes_away = match &edit.operation {
        Operation::Delete => true,
        Operation::Create(fields) => fields.iter().all(|field| field.field != herdbook_model::schema::DATA),
        Operation::Update(_) => false,
    };
    if takes_away && principal != UPKEEP {
        return Err(Error::PartsAreSwept);
    }
    Ok(blob::check(edit)?)
}

impl Shared {
    /// Returns the bytes of a part, hidden ones too, `None` if they are not in `state`. Whether they are those that its name stands for is for the
    /// caller to look at.
    pub(super) fn part(&self, state: &State, id: &PartId) -> Result<Option<Arc<[u8]>>, Error> {
        let document = state.document(&self.nodes, herdbook_model::schema::BLOBS, &blob::key_of(id))?;
        Ok(document.as_deref().and_then(|document| blob::bytes_of(document, id)))
    }

    /// Checks that a blob can be referred to in `state`: its root is there, not hidden, and of its length.
    pub(super) fn check_reference(&self, state: &State, blob: &Blob) -> Result<(), Error> {
        let document = state.get(&self.nodes, herdbook_model::schema::BLOBS, &blob::key_of(&blob.root))?;
        let bytes =
            document.as_deref().and_then(|document| blob::bytes_of(document, &blob.root)).ok_or(Error::UnknownBlob { blob: *blob })?;
        let len = match blob::read(&bytes) {
            Ok(Held::Content(content)) => Some(content.len() as u64),
            Ok(Held::Value { .. }) => Some(0),
            Ok(Held::List { children, .. }) => children.iter().try_fold(0u64, |sum, child| sum.checked_add(child.len)),
            Err(_) => None,
        };
        if len == Some(blob.len) { Ok(()) } else { Err(Error::UnknownBlob { blob: *blob }) }
    }
}
