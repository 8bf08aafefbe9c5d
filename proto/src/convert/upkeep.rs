//! What takes away: collections of garbage, horizons and erasures.

use std::time::Duration;

use herdbook_model::time::Time;

use super::{Result, branch, id, ids, name, optional, optional_branch, optional_text, raw, text_or_empty};
use crate::{
    Fault, Malformed,
    cluster::{Collected, Erase, Erased, Horizon, SetHorizon},
    v1,
};

impl From<v1::CollectGarbageResponse> for Collected {
    fn from(message: v1::CollectGarbageResponse) -> Self {
        let v1::CollectGarbageResponse { chunks, removed, bytes, pinned, disk_before, disk_after, micros, commits, edit_bytes } = message;
        let took = Duration::from_micros(micros);
        Self { chunks, removed, bytes, commits, edit_bytes, pinned, disk_before, disk_after, took }
    }
}

impl From<Collected> for v1::CollectGarbageResponse {
    fn from(collected: Collected) -> Self {
        let Collected { chunks, removed, bytes, commits, edit_bytes, pinned, disk_before, disk_after, took } = collected;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self { chunks, removed, bytes, pinned, disk_before, disk_after, micros, commits, edit_bytes }
    }
}

/// Reads a time.
fn time(field: &str, millis: u64) -> Result<Time> {
    const MOST: u64 = (1 << 47) - 1;
    if millis > MOST {
        return Err(Malformed::new(field, Fault::AboveLimit { actual: millis, limit: MOST }));
    }
    Ok(Time::from_millis(millis))
}

impl TryFrom<v1::SetHorizonRequest> for SetHorizon {
    type Error = Malformed;

    fn try_from(message: v1::SetHorizonRequest) -> Result<Self> {
        // Whose repository is meant was looked at before.
        let v1::SetHorizonRequest { repository: _, branch, before_millis, dry_run } = message;
        Ok(Self { branch: optional_branch("branch", branch)?, before: time("before_millis", before_millis)?, dry_run })
    }
}

impl From<SetHorizon> for v1::SetHorizonRequest {
    fn from(SetHorizon { branch, before, dry_run }: SetHorizon) -> Self {
        Self { repository: bytes::Bytes::new(), branch: text_or_empty(branch.as_ref()), before_millis: before.millis(), dry_run }
    }
}

impl TryFrom<v1::Horizon> for Horizon {
    type Error = Malformed;

    fn try_from(message: v1::Horizon) -> Result<Self> {
        let v1::Horizon { branch: name, heads, root, commits, time_millis, documents, position } = message;
        Ok(Self {
            branch: branch("branch", name)?,
            heads: ids("heads", &heads)?,
            root: id("root", &root)?,
            commits,
            time: time("time_millis", time_millis)?,
            documents,
            position: optional("position", position)?,
        })
    }
}

impl From<Horizon> for v1::Horizon {
    fn from(Horizon { branch, heads, root, commits, time, documents, position }: Horizon) -> Self {
        Self {
            branch: branch.to_string(),
            heads: heads.iter().map(|head| raw(head.as_bytes())).collect(),
            root: raw(root.as_bytes()),
            commits,
            time_millis: time.millis(),
            documents,
            position: position.map(Into::into),
        }
    }
}

impl TryFrom<v1::EraseRequest> for Erase {
    type Error = Malformed;

    fn try_from(message: v1::EraseRequest) -> Result<Self> {
        // Whose repository is meant was looked at before.
        let v1::EraseRequest { repository: _, branch, collection, key, field, dry_run } = message;
        Ok(Self { branch: optional_branch("branch", branch)?, name: name(collection, key)?, field: optional_text(field), dry_run })
    }
}

impl From<Erase> for v1::EraseRequest {
    fn from(Erase { branch, name, field, dry_run }: Erase) -> Self {
        Self {
            repository: bytes::Bytes::new(),
            branch: text_or_empty(branch.as_ref()),
            collection: name.collection.to_string(),
            key: name.key.to_string(),
            field: text_or_empty(field.as_deref()),
            dry_run,
        }
    }
}

impl TryFrom<v1::EraseResponse> for Erased {
    type Error = Malformed;

    fn try_from(message: v1::EraseResponse) -> Result<Self> {
        let v1::EraseResponse { values, requests, past, position } = message;
        Ok(Self { values, requests, past, position: optional("position", position)? })
    }
}

impl From<Erased> for v1::EraseResponse {
    fn from(Erased { values, requests, past, position }: Erased) -> Self {
        Self { values, requests, past, position: position.map(Into::into) }
    }
}
