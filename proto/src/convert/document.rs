//! Documents, conflicts, and the states they are read from.

use std::sync::Arc;

use bytes::Bytes;
use herdbook_model::id::RepositoryId;

use super::{
    Result, all, each, id, inner, name, optional, optional_branch, optional_id, raw, raw_or_empty, text, text_or_empty,
    value::{fields_from, fields_of},
};
use crate::{
    Malformed,
    document::{At, Conflict, Document, Name, Place, Sibling},
    v1,
};

impl TryFrom<v1::DocumentName> for Name {
    type Error = Malformed;

    fn try_from(message: v1::DocumentName) -> Result<Self> {
        let v1::DocumentName { collection, key } = message;
        name(collection, key)
    }
}

impl From<Name> for v1::DocumentName {
    fn from(Name { collection, key }: Name) -> Self {
        Self { collection: collection.to_string(), key: key.to_string() }
    }
}

impl TryFrom<v1::Document> for Document {
    type Error = Malformed;

    fn try_from(message: v1::Document) -> Result<Self> {
        let v1::Document { collection, key, fields, version, conflicts, deletes } = message;
        Ok(Self {
            name: name(collection, key)?,
            fields: fields_of("fields", fields)?,
            version: id("version", &version)?,
            conflicts: each("conflicts", conflicts)?,
            deletes: each("deletes", deletes)?,
        })
    }
}

impl From<Document> for v1::Document {
    fn from(Document { name: Name { collection, key }, fields, version, conflicts, deletes }: Document) -> Self {
        Self {
            collection: collection.to_string(),
            key: key.to_string(),
            fields: fields_from(fields),
            version: raw(version.as_bytes()),
            conflicts: all(conflicts),
            deletes: all(deletes),
        }
    }
}

impl TryFrom<v1::Conflict> for Conflict {
    type Error = Malformed;

    fn try_from(message: v1::Conflict) -> Result<Self> {
        let v1::Conflict { field, siblings, path } = message;
        let path = path.into_iter().map(Into::into).collect();
        Ok(Self { field: text("field", field)?, path, siblings: each("siblings", siblings)? })
    }
}

impl From<Conflict> for v1::Conflict {
    fn from(Conflict { field, path, siblings }: Conflict) -> Self {
        Self { field: field.to_string(), siblings: all(siblings), path: path.iter().map(ToString::to_string).collect() }
    }
}

impl TryFrom<v1::Sibling> for Sibling {
    type Error = Malformed;

    fn try_from(message: v1::Sibling) -> Result<Self> {
        let v1::Sibling { value, commit, time, session } = message;
        Ok(Self {
            value: optional("value", value)?,
            commit: id("commit", &commit)?,
            time: inner("time", time)?,
            session: id("session", &session)?,
        })
    }
}

impl From<Sibling> for v1::Sibling {
    fn from(Sibling { value, commit, time, session }: Sibling) -> Self {
        Self { value: value.map(Into::into), commit: raw(commit.as_bytes()), time: Some(time.into()), session: raw(session.as_bytes()) }
    }
}

impl TryFrom<v1::At> for At {
    type Error = Malformed;

    fn try_from(message: v1::At) -> Result<Self> {
        use v1::at::At as Choice;
        let v1::At { at } = message;
        Ok(match at {
            None => Self::NEWEST,
            Some(Choice::Branch(branch)) => Self::Branch(optional_branch("branch", branch)?),
            Some(Choice::Commit(commit)) => Self::Commit(id("commit", &commit)?),
            Some(Choice::Time(v1::AtTime { branch, unix_millis })) => {
                Self::Time { branch: optional_branch("time.branch", branch)?, millis: unix_millis }
            }
            Some(Choice::State(state)) => Self::State(id("state", &state)?),
        })
    }
}

impl From<At> for v1::At {
    fn from(at: At) -> Self {
        use v1::at::At as Choice;
        let at = match at {
            At::Branch(branch) => Choice::Branch(text_or_empty(branch.as_ref())),
            At::Commit(commit) => Choice::Commit(raw(commit.as_bytes())),
            At::Time { branch, millis } => Choice::Time(v1::AtTime { branch: text_or_empty(branch.as_ref()), unix_millis: millis }),
            At::State(state) => Choice::State(raw(state.as_bytes())),
        };
        Self { at: Some(at) }
    }
}

/// Reads a state that may be left open: then it is the newest one of the promoted branch.
pub(super) fn at(field: &str, at: Option<v1::At>) -> Result<At> {
    Ok(optional(field, at)?.unwrap_or(At::NEWEST))
}

/// Reads where to read.
pub(super) fn place(repository: &Bytes, at: Option<v1::At>) -> Result<Place> {
    Ok(Place { repository: optional_id("repository", repository)?, at: self::at("at", at)? })
}

/// Returns the repository as it travels.
pub(super) fn repository(repository: Option<RepositoryId>) -> Bytes {
    raw_or_empty(repository.as_ref().map(RepositoryId::as_bytes))
}

/// Returns the name of a collection that may be left open, as it travels.
pub(super) fn collection(collection: Option<Arc<str>>) -> String {
    text_or_empty(collection.as_deref())
}
