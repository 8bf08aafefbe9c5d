//! Uploads, downloads and sweeps of blobs.

use super::{
    Result,
    ack::wait,
    document::{place, repository},
    inner, optional, optional_branch, optional_id, raw_or_empty, text_or_empty,
};
use crate::{
    Malformed,
    blob::{Download, Piece, Sweep, Swept, Upload, Uploaded},
    document::Place,
    v1,
};

impl TryFrom<v1::UploadRequest> for Piece {
    type Error = Malformed;

    fn try_from(message: v1::UploadRequest) -> Result<Self> {
        let v1::UploadRequest { repository, branch, wait: until, content } = message;
        let upload =
            Upload { repository: optional_id("repository", &repository)?, branch: optional_branch("branch", branch)?, wait: wait(until)? };
        Ok(Self { upload, content })
    }
}

impl From<Piece> for v1::UploadRequest {
    fn from(Piece { upload: Upload { repository, branch, wait }, content }: Piece) -> Self {
        Self {
            repository: raw_or_empty(repository.as_ref().map(|id| id.as_bytes())),
            branch: text_or_empty(branch.as_ref()),
            wait: Some(wait.into()),
            content,
        }
    }
}

impl TryFrom<v1::UploadResponse> for Uploaded {
    type Error = Malformed;

    fn try_from(message: v1::UploadResponse) -> Result<Self> {
        let v1::UploadResponse { blob, ack, parts, added, added_bytes } = message;
        Ok(Self { blob: inner("blob", blob)?, ack: inner("ack", ack)?, parts, added, added_bytes })
    }
}

impl From<Uploaded> for v1::UploadResponse {
    fn from(Uploaded { blob, ack, parts, added, added_bytes }: Uploaded) -> Self {
        Self { blob: Some(blob.into()), ack: Some(ack.into()), parts, added, added_bytes }
    }
}

impl TryFrom<v1::DownloadRequest> for Download {
    type Error = Malformed;

    fn try_from(message: v1::DownloadRequest) -> Result<Self> {
        let v1::DownloadRequest { repository, at, blob, offset, length } = message;
        Ok(Self { place: place(&repository, at)?, blob: inner("blob", blob)?, offset, len: length })
    }
}

impl From<Download> for v1::DownloadRequest {
    fn from(Download { place: Place { repository: id, at }, blob, offset, len }: Download) -> Self {
        Self { repository: repository(id), at: Some(at.into()), blob: Some(blob.into()), offset, length: len }
    }
}

impl TryFrom<v1::SweepRequest> for Sweep {
    type Error = Malformed;

    fn try_from(message: v1::SweepRequest) -> Result<Self> {
        let v1::SweepRequest { repository, branch, unused_millis, dry_run, wait: until } = message;
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            branch: optional_branch("branch", branch)?,
            unused_millis,
            dry_run,
            wait: wait(until)?,
        })
    }
}

impl From<Sweep> for v1::SweepRequest {
    fn from(Sweep { repository, branch, unused_millis, dry_run, wait }: Sweep) -> Self {
        Self {
            repository: raw_or_empty(repository.as_ref().map(|id| id.as_bytes())),
            branch: text_or_empty(branch.as_ref()),
            unused_millis,
            dry_run,
            wait: Some(wait.into()),
        }
    }
}

impl TryFrom<v1::SweepResponse> for Swept {
    type Error = Malformed;

    fn try_from(message: v1::SweepResponse) -> Result<Self> {
        let v1::SweepResponse { used, used_bytes, hidden, hidden_bytes, revived, removed, removed_bytes, ack } = message;
        Ok(Self { used, used_bytes, hidden, hidden_bytes, revived, removed, removed_bytes, ack: optional("ack", ack)? })
    }
}

impl From<Swept> for v1::SweepResponse {
    fn from(Swept { used, used_bytes, hidden, hidden_bytes, revived, removed, removed_bytes, ack }: Swept) -> Self {
        Self { used, used_bytes, hidden, hidden_bytes, revived, removed, removed_bytes, ack: ack.map(Into::into) }
    }
}
