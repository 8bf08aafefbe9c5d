//! Logs, commits, differences, reverts, conflicts.

use herdbook_model::{
    id::{ReplicaId, RequestKey, SessionId},
    schema::{Deletes, Policy, ResolverName},
};

use super::{
    Result,
    ack::wait,
    all, branch, choice,
    document::{at, collection, place, repository},
    each, id, ids, inner, key, limited, name, optional, optional_branch, optional_id, optional_text, raw, raw_or_empty,
    read::page_size,
    required, text, text_or_empty, token,
};
use crate::{
    Fault, Malformed,
    document::{Name, Place},
    history::{
        Body, Choice, Commits, Conflicted, Conflicts, Diff, Difference, Fate, Inspect, Inspected, Kept, KeptValue, Log, NewestEdit, Origin,
        Resolve, Revert, Reverted, Show, Shown, ShownRequest, Sides, Skipped, Summary,
    },
    limits, v1,
};

impl TryFrom<v1::LogRequest> for Log {
    type Error = Malformed;

    fn try_from(message: v1::LogRequest) -> Result<Self> {
        let v1::LogRequest {
            repository,
            at,
            collection,
            key: text,
            session,
            page_size: size,
            page_token,
            replica,
            since_millis,
            until_millis,
        } = message;
        let collection = optional_text(collection);
        if collection.is_none() && !text.is_empty() {
            return Err(Malformed::missing("collection"));
        }
        Ok(Self {
            place: place(&repository, at)?,
            collection,
            key: if text.is_empty() { None } else { Some(key("key", text)?) },
            session: optional_id("session", &session)?,
            replica: optional_id("replica", &replica)?,
            since_millis,
            until_millis,
            page_size: page_size(size),
            page_token: token("page_token", page_token)?,
        })
    }
}

impl From<Log> for v1::LogRequest {
    fn from(log: Log) -> Self {
        let Log { place, collection: name, key, session, replica, since_millis, until_millis, page_size, page_token } = log;
        let Place { repository: id, at } = place;
        Self {
            repository: repository(id),
            at: Some(at.into()),
            collection: collection(name),
            key: text_or_empty(key.as_ref()),
            session: raw_or_empty(session.as_ref().map(SessionId::as_bytes)),
            page_size,
            page_token,
            replica: raw_or_empty(replica.as_ref().map(ReplicaId::as_bytes)),
            since_millis,
            until_millis,
        }
    }
}

impl TryFrom<v1::LogResponse> for Commits {
    type Error = Malformed;

    fn try_from(message: v1::LogResponse) -> Result<Self> {
        let v1::LogResponse { commits, next_page_token } = message;
        Ok(Self { commits: each("commits", commits)?, next: token("next_page_token", next_page_token)? })
    }
}

impl From<Commits> for v1::LogResponse {
    fn from(Commits { commits, next }: Commits) -> Self {
        Self { commits: all(commits), next_page_token: next }
    }
}

impl TryFrom<v1::CommitSummary> for Summary {
    type Error = Malformed;

    fn try_from(message: v1::CommitSummary) -> Result<Self> {
        let v1::CommitSummary {
            id: commit,
            branch: name,
            schema,
            parents,
            session,
            replica,
            counter,
            time,
            message,
            requests,
            accepted,
            voided,
        } = message;
        Ok(Self {
            id: id("id", &commit)?,
            branch: branch("branch", name)?,
            schema: id("schema", &schema)?,
            parents: ids("parents", &parents)?,
            session: id("session", &session)?,
            replica: optional_id("replica", &replica)?,
            counter,
            time: inner("time", time)?,
            message,
            requests,
            accepted: optional("accepted", accepted)?,
            voided: each("voided", voided)?,
        })
    }
}

impl From<Summary> for v1::CommitSummary {
    fn from(summary: Summary) -> Self {
        let Summary { id, branch, schema, parents, session, replica, counter, time, message, requests, accepted, voided } = summary;
        Self {
            id: raw(id.as_bytes()),
            branch: branch.to_string(),
            schema: raw(schema.as_bytes()),
            parents: parents.iter().map(|parent| raw(parent.as_bytes())).collect(),
            session: raw(session.as_bytes()),
            replica: raw_or_empty(replica.as_ref().map(ReplicaId::as_bytes)),
            counter,
            time: Some(time.into()),
            message,
            requests,
            accepted: accepted.map(Into::into),
            voided: all(voided),
        }
    }
}

impl TryFrom<v1::ShowRequest> for Show {
    type Error = Malformed;

    fn try_from(message: v1::ShowRequest) -> Result<Self> {
        let v1::ShowRequest { repository, commit } = message;
        Ok(Self { repository: optional_id("repository", &repository)?, commit: id("commit", &commit)? })
    }
}

impl From<Show> for v1::ShowRequest {
    fn from(Show { repository: id, commit }: Show) -> Self {
        Self { repository: repository(id), commit: raw(commit.as_bytes()) }
    }
}

impl TryFrom<v1::ShowResponse> for Shown {
    type Error = Malformed;

    fn try_from(message: v1::ShowResponse) -> Result<Self> {
        let v1::ShowResponse { commit, requests, left_out } = message;
        Ok(Self { commit: inner("commit", commit)?, requests: each("requests", requests)?, left_out })
    }
}

impl From<Shown> for v1::ShowResponse {
    fn from(Shown { commit, requests, left_out }: Shown) -> Self {
        Self { commit: Some(commit.into()), requests: all(requests), left_out }
    }
}

impl TryFrom<v1::ShownRequest> for ShownRequest {
    type Error = Malformed;

    fn try_from(message: v1::ShownRequest) -> Result<Self> {
        let v1::ShownRequest { place, fate, reason, request_id, principal, preconditions, edits, documents } = message;
        let fate = match choice("fate", fate)? {
            v1::Fate::Unspecified => return Err(Malformed::missing("fate")),
            v1::Fate::Stands => Fate::Stands,
            v1::Fate::Voided => Fate::Voided { reason },
            v1::Fate::Lost => Fate::Lost,
            v1::Fate::Absent => Fate::Absent,
        };
        let body = match optional_id("request_id", &request_id)? {
            Some(key) => Some(Body { key, principal, preconditions: each("preconditions", preconditions)?, edits: each("edits", edits)? }),
            None if edits.is_empty() && preconditions.is_empty() && principal.is_empty() => None,
            None => return Err(Malformed::missing("request_id")),
        };
        Ok(Self { place, fate, body, documents })
    }
}

impl From<ShownRequest> for v1::ShownRequest {
    fn from(ShownRequest { place, fate, body, documents }: ShownRequest) -> Self {
        let (fate, reason) = match fate {
            Fate::Stands => (v1::Fate::Stands, String::new()),
            Fate::Voided { reason } => (v1::Fate::Voided, reason),
            Fate::Lost => (v1::Fate::Lost, String::new()),
            Fate::Absent => (v1::Fate::Absent, String::new()),
        };
        let shown = Self { place, fate: fate.into(), reason, documents, ..Self::default() };
        match body {
            None => shown,
            Some(Body { key, principal, preconditions, edits }) => {
                Self { request_id: raw(key.as_bytes()), principal, preconditions: all(preconditions), edits: all(edits), ..shown }
            }
        }
    }
}

impl TryFrom<v1::DiffRequest> for Diff {
    type Error = Malformed;

    fn try_from(message: v1::DiffRequest) -> Result<Self> {
        let v1::DiffRequest { repository, from, to, collection, prefix } = message;
        limited("prefix", prefix.len(), limits::KEY)?;
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            from: at("from", from)?,
            to: at("to", to)?,
            collection: optional_text(collection),
            prefix,
        })
    }
}

impl From<Diff> for v1::DiffRequest {
    fn from(Diff { repository: id, from, to, collection: name, prefix }: Diff) -> Self {
        Self { repository: repository(id), from: Some(from.into()), to: Some(to.into()), collection: collection(name), prefix }
    }
}

impl TryFrom<v1::Difference> for Difference {
    type Error = Malformed;

    fn try_from(message: v1::Difference) -> Result<Self> {
        let v1::Difference { name, before, after } = message;
        let sides = match (optional("before", before)?, optional("after", after)?) {
            (None, None) => return Err(Malformed::missing("before, after")),
            (None, Some(after)) => Sides::Added(after),
            (Some(before), None) => Sides::Removed(before),
            (Some(before), Some(after)) => Sides::Changed { before, after },
        };
        Ok(Self { name: inner("name", name)?, sides })
    }
}

impl From<Difference> for v1::Difference {
    fn from(Difference { name, sides }: Difference) -> Self {
        let (before, after) = match sides {
            Sides::Added(after) => (None, Some(after.into())),
            Sides::Removed(before) => (Some(before.into()), None),
            Sides::Changed { before, after } => (Some(before.into()), Some(after.into())),
        };
        Self { name: Some(name.into()), before, after }
    }
}

impl TryFrom<v1::RevertRequest> for Revert {
    type Error = Malformed;

    fn try_from(message: v1::RevertRequest) -> Result<Self> {
        let v1::RevertRequest {
            repository,
            branch,
            commits,
            request_id,
            message,
            wait: until_when,
            session,
            since,
            until,
            collection,
            key: text,
            dry_run,
        } = message;
        limited("message", message.len(), limits::COMMIT_MESSAGE)?;
        if commits.is_empty() && session.is_empty() && since.is_none() && until.is_none() && collection.is_empty() {
            return Err(Malformed::missing("commits, session, since, until, collection"));
        }
        let collection = optional_text(collection);
        if collection.is_none() && !text.is_empty() {
            return Err(Malformed::missing("collection"));
        }
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            branch: optional_branch("branch", branch)?,
            commits: ids("commits", &commits)?,
            session: optional_id("session", &session)?,
            since: optional("since", since)?,
            until: optional("until", until)?,
            collection,
            key: if text.is_empty() { None } else { Some(key("key", text)?) },
            dry_run,
            request: optional_id("request_id", &request_id)?,
            message,
            wait: wait(until_when)?,
        })
    }
}

impl From<Revert> for v1::RevertRequest {
    fn from(revert: Revert) -> Self {
        let Revert { repository: id, branch, commits, session, since, until, collection: name, key, dry_run, request, message, wait } =
            revert;
        Self {
            repository: repository(id),
            branch: text_or_empty(branch.as_ref()),
            commits: commits.iter().map(|commit| raw(commit.as_bytes())).collect(),
            request_id: raw_or_empty(request.as_ref().map(RequestKey::as_bytes)),
            message,
            wait: Some(wait.into()),
            session: raw_or_empty(session.as_ref().map(SessionId::as_bytes)),
            since: since.map(Into::into),
            until: until.map(Into::into),
            collection: collection(name),
            key: text_or_empty(key.as_ref()),
            dry_run,
        }
    }
}

impl TryFrom<v1::RevertResponse> for Reverted {
    type Error = Malformed;

    fn try_from(message: v1::RevertResponse) -> Result<Self> {
        let v1::RevertResponse { ack, reverted, skipped, commits, documents, left } = message;
        Ok(Self {
            ack: optional("ack", ack)?,
            edits: reverted,
            skipped: each("skipped", skipped)?,
            commits: ids("commits", &commits)?,
            documents: each("documents", documents)?,
            left,
        })
    }
}

impl From<Reverted> for v1::RevertResponse {
    fn from(Reverted { ack, edits, skipped, commits, documents, left }: Reverted) -> Self {
        Self {
            ack: ack.map(Into::into),
            reverted: edits,
            skipped: all(skipped),
            commits: commits.iter().map(|commit| raw(commit.as_bytes())).collect(),
            documents: all(documents),
            left,
        }
    }
}

impl TryFrom<v1::Skipped> for Skipped {
    type Error = Malformed;

    fn try_from(message: v1::Skipped) -> Result<Self> {
        let v1::Skipped { name, field, reason } = message;
        Ok(Self { name: inner("name", name)?, field: optional_text(field), reason })
    }
}

impl From<Skipped> for v1::Skipped {
    fn from(Skipped { name, field, reason }: Skipped) -> Self {
        Self { name: Some(name.into()), field: text_or_empty(field.as_deref()), reason }
    }
}

impl TryFrom<v1::ListConflictsRequest> for Conflicts {
    type Error = Malformed;

    fn try_from(message: v1::ListConflictsRequest) -> Result<Self> {
        let v1::ListConflictsRequest { repository, at, collection, page_size: size, page_token } = message;
        Ok(Self {
            place: place(&repository, at)?,
            collection: optional_text(collection),
            page_size: page_size(size),
            page_token: token("page_token", page_token)?,
        })
    }
}

impl From<Conflicts> for v1::ListConflictsRequest {
    fn from(Conflicts { place: Place { repository: id, at }, collection: name, page_size, page_token }: Conflicts) -> Self {
        Self { repository: repository(id), at: Some(at.into()), collection: collection(name), page_size, page_token }
    }
}

impl TryFrom<v1::ListConflictsResponse> for Conflicted {
    type Error = Malformed;

    fn try_from(message: v1::ListConflictsResponse) -> Result<Self> {
        let v1::ListConflictsResponse { documents, next_page_token, state } = message;
        Ok(Self { documents: each("documents", documents)?, next: token("next_page_token", next_page_token)?, state: id("state", &state)? })
    }
}

impl From<Conflicted> for v1::ListConflictsResponse {
    fn from(Conflicted { documents, next, state }: Conflicted) -> Self {
        Self { documents: all(documents), next_page_token: next, state: raw(state.as_bytes()) }
    }
}

impl TryFrom<v1::GetConflictRequest> for Inspect {
    type Error = Malformed;

    fn try_from(message: v1::GetConflictRequest) -> Result<Self> {
        let v1::GetConflictRequest { repository, at, collection, key } = message;
        Ok(Self { place: place(&repository, at)?, name: name(collection, key)? })
    }
}

impl From<Inspect> for v1::GetConflictRequest {
    fn from(Inspect { place: Place { repository: id, at }, name: Name { collection, key } }: Inspect) -> Self {
        Self { repository: repository(id), at: Some(at.into()), collection: collection.to_string(), key: key.to_string() }
    }
}

impl TryFrom<v1::GetConflictResponse> for Inspected {
    type Error = Malformed;

    fn try_from(message: v1::GetConflictResponse) -> Result<Self> {
        let v1::GetConflictResponse { document, alive, fields, newest, deletes } = message;
        let deletes = match choice("deletes", deletes)? {
            v1::DeleteRule::Unspecified => return Err(Malformed::missing("deletes")),
            v1::DeleteRule::EditWins => Deletes::EditWins,
            v1::DeleteRule::DeleteWins => Deletes::DeleteWins,
            v1::DeleteRule::Conflict => Deletes::Conflict,
        };
        let document = optional("document", document)?;
        Ok(Self { document, alive: each("alive", alive)?, fields: each("fields", fields)?, newest: each("newest", newest)?, deletes })
    }
}

impl From<Inspected> for v1::GetConflictResponse {
    fn from(Inspected { document, alive, fields, newest, deletes }: Inspected) -> Self {
        let deletes = match deletes {
            Deletes::EditWins => v1::DeleteRule::EditWins,
            Deletes::DeleteWins => v1::DeleteRule::DeleteWins,
            Deletes::Conflict => v1::DeleteRule::Conflict,
        };
        let document = document.map(Into::into);
        Self { document, alive: all(alive), fields: all(fields), newest: all(newest), deletes: deletes.into() }
    }
}

impl TryFrom<v1::NewestEdit> for NewestEdit {
    type Error = Malformed;

    fn try_from(message: v1::NewestEdit) -> Result<Self> {
        let v1::NewestEdit { origin, edit } = message;
        Ok(Self { origin: inner("origin", origin)?, edit: inner("edit", edit)? })
    }
}

impl From<NewestEdit> for v1::NewestEdit {
    fn from(NewestEdit { origin, edit }: NewestEdit) -> Self {
        Self { origin: Some(origin.into()), edit: Some(edit.into()) }
    }
}

impl TryFrom<v1::Origin> for Origin {
    type Error = Malformed;

    fn try_from(message: v1::Origin) -> Result<Self> {
        let v1::Origin { commit, time, session, replica } = message;
        Ok(Self {
            commit: id("commit", &commit)?,
            time: inner("time", time)?,
            session: id("session", &session)?,
            replica: optional_id("replica", &replica)?,
        })
    }
}

impl From<Origin> for v1::Origin {
    fn from(Origin { commit, time, session, replica }: Origin) -> Self {
        Self {
            commit: raw(commit.as_bytes()),
            time: Some(time.into()),
            session: raw(session.as_bytes()),
            replica: raw_or_empty(replica.as_ref().map(ReplicaId::as_bytes)),
        }
    }
}

impl TryFrom<v1::KeptField> for Kept {
    type Error = Malformed;

    fn try_from(message: v1::KeptField) -> Result<Self> {
        let v1::KeptField { field, policy, values, resolver } = message;
        let policy = match choice("policy", policy)? {
            v1::Policy::Unspecified => return Err(Malformed::missing("policy")),
            v1::Policy::LastWriter => Policy::LastWriter,
            v1::Policy::Strict => Policy::Strict,
            v1::Policy::AddWins => Policy::AddWins,
            v1::Policy::KeyWise => Policy::KeyWise,
            v1::Policy::Max => Policy::Max,
            v1::Policy::Min => Policy::Min,
            v1::Policy::Counter => Policy::Counter,
            v1::Policy::Text => Policy::Text,
            v1::Policy::ElementWise => Policy::ElementWise,
            v1::Policy::Custom => Policy::Custom(ResolverName::new(&resolver).ok_or_else(|| Malformed::new("resolver", Fault::BadName))?),
        };
        Ok(Self { field: text("field", field)?, policy, values: each("values", values)? })
    }
}

impl From<Kept> for v1::KeptField {
    fn from(Kept { field, policy, values }: Kept) -> Self {
        let resolver = if let Policy::Custom(name) = &policy { name.as_str().to_owned() } else { String::new() };
        let policy = match policy {
            Policy::LastWriter => v1::Policy::LastWriter,
            Policy::Strict => v1::Policy::Strict,
            Policy::AddWins => v1::Policy::AddWins,
            Policy::KeyWise => v1::Policy::KeyWise,
            Policy::Max => v1::Policy::Max,
            Policy::Min => v1::Policy::Min,
            Policy::Counter => v1::Policy::Counter,
            Policy::Text => v1::Policy::Text,
            Policy::ElementWise => v1::Policy::ElementWise,
            Policy::Custom(_) => v1::Policy::Custom,
        };
        Self { field: field.to_string(), policy: policy.into(), values: all(values), resolver }
    }
}

impl TryFrom<v1::KeptValue> for KeptValue {
    type Error = Malformed;

    fn try_from(message: v1::KeptValue) -> Result<Self> {
        let v1::KeptValue { value, entry, origin, shown } = message;
        Ok(Self { value: optional("value", value)?, entry, origin: inner("origin", origin)?, shown })
    }
}

impl From<KeptValue> for v1::KeptValue {
    fn from(KeptValue { value, entry, origin, shown }: KeptValue) -> Self {
        Self { value: value.map(Into::into), entry, origin: Some(origin.into()), shown }
    }
}

impl TryFrom<v1::ResolveRequest> for Resolve {
    type Error = Malformed;

    fn try_from(request: v1::ResolveRequest) -> Result<Self> {
        use v1::resolve_request::Choice as Wire;
        let v1::ResolveRequest { repository, branch, collection, key, field, choice, version, request_id, message, wait: until } = request;
        limited("message", message.len(), limits::COMMIT_MESSAGE)?;
        let version = optional_id("version", &version)?;
        let choice = match required("choice", choice)? {
            Wire::Value(value) => Choice::Value { value: inner("value", Some(value))?, version },
            Wire::Clear(v1::Clear {}) => Choice::Clear { version },
            Wire::Sibling(place) => Choice::Sibling { place, version: required("version", version)? },
        };
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            branch: optional_branch("branch", branch)?,
            name: name(collection, key)?,
            field: text("field", field)?,
            choice,
            request: optional_id("request_id", &request_id)?,
            message,
            wait: wait(until)?,
        })
    }
}

impl From<Resolve> for v1::ResolveRequest {
    fn from(resolve: Resolve) -> Self {
        use v1::resolve_request::Choice as Wire;
        let Resolve { repository: id, branch, name: Name { collection, key }, field, choice, request, message, wait } = resolve;
        let (choice, version) = match choice {
            Choice::Value { value, version } => (Wire::Value(value.into()), version),
            Choice::Clear { version } => (Wire::Clear(v1::Clear {}), version),
            Choice::Sibling { place, version } => (Wire::Sibling(place), Some(version)),
        };
        Self {
            repository: repository(id),
            branch: text_or_empty(branch.as_ref()),
            collection: collection.to_string(),
            key: key.to_string(),
            field: field.to_string(),
            choice: Some(choice),
            version: raw_or_empty(version.as_ref().map(herdbook_model::id::Leaf::as_bytes)),
            request_id: raw_or_empty(request.as_ref().map(RequestKey::as_bytes)),
            message,
            wait: Some(wait.into()),
        }
    }
}
