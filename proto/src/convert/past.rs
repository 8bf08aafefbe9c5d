//! Blame and playback.

use super::{
    Result, all,
    document::{at, collection, place, repository},
    each, inner, limited, name, optional, optional_id, optional_text, raw_or_empty, text, text_or_empty,
};
use crate::{
    Malformed,
    document::{Name, Place},
    limits,
    past::{Blame, Blamed, Part, Playback, Played},
    v1,
};

impl TryFrom<v1::BlameRequest> for Blame {
    type Error = Malformed;

    fn try_from(message: v1::BlameRequest) -> Result<Self> {
        let v1::BlameRequest { repository, at, collection, key, field } = message;
        Ok(Self { place: place(&repository, at)?, name: name(collection, key)?, field: optional_text(field) })
    }
}

impl From<Blame> for v1::BlameRequest {
    fn from(Blame { place: Place { repository: id, at }, name: Name { collection, key }, field }: Blame) -> Self {
        Self {
            repository: repository(id),
            at: Some(at.into()),
            collection: collection.to_string(),
            key: key.to_string(),
            field: text_or_empty(field.as_deref()),
        }
    }
}

impl TryFrom<v1::BlameResponse> for Blamed {
    type Error = Malformed;

    fn try_from(message: v1::BlameResponse) -> Result<Self> {
        let v1::BlameResponse { parts, commits } = message;
        Ok(Self { parts: each("parts", parts)?, commits: each("commits", commits)? })
    }
}

impl From<Blamed> for v1::BlameResponse {
    fn from(Blamed { parts, commits }: Blamed) -> Self {
        Self { parts: all(parts), commits: all(commits) }
    }
}

impl TryFrom<v1::BlamedPart> for Part {
    type Error = Malformed;

    fn try_from(message: v1::BlamedPart) -> Result<Self> {
        let v1::BlamedPart { field, path, value, commit, request, shown } = message;
        Ok(Self {
            field: text("field", field)?,
            path: path.into_iter().map(Into::into).collect(),
            value: optional("value", value)?,
            commit: optional_id("commit", &commit)?,
            request,
            shown,
        })
    }
}

impl From<Part> for v1::BlamedPart {
    fn from(Part { field, path, value, commit, request, shown }: Part) -> Self {
        Self {
            field: field.to_string(),
            path: path.iter().map(ToString::to_string).collect(),
            value: value.map(Into::into),
            commit: raw_or_empty(commit.as_ref().map(herdbook_model::id::CommitId::as_bytes)),
            request,
            shown,
        }
    }
}

impl TryFrom<v1::PlaybackRequest> for Playback {
    type Error = Malformed;

    fn try_from(message: v1::PlaybackRequest) -> Result<Self> {
        let v1::PlaybackRequest { repository, from, to, collection, prefix, session } = message;
        limited("prefix", prefix.len(), limits::KEY)?;
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            from: at("from", from)?,
            to: at("to", to)?,
            collection: optional_text(collection),
            prefix,
            session: optional_id("session", &session)?,
        })
    }
}

impl From<Playback> for v1::PlaybackRequest {
    fn from(Playback { repository: id, from, to, collection: name, prefix, session }: Playback) -> Self {
        Self {
            repository: repository(id),
            from: Some(from.into()),
            to: Some(to.into()),
            collection: collection(name),
            prefix,
            session: raw_or_empty(session.as_ref().map(herdbook_model::id::SessionId::as_bytes)),
        }
    }
}

impl TryFrom<v1::PlaybackResponse> for Played {
    type Error = Malformed;

    fn try_from(message: v1::PlaybackResponse) -> Result<Self> {
        let v1::PlaybackResponse { commit, differences, left_out, played } = message;
        Ok(Self { commit: inner("commit", commit)?, differences: each("differences", differences)?, left_out, played })
    }
}

impl From<Played> for v1::PlaybackResponse {
    fn from(Played { commit, differences, left_out, played }: Played) -> Self {
        Self { commit: Some(commit.into()), differences: all(differences), left_out, played }
    }
}
