//! JSON forms of answers, for programs. Their members are stable: new ones may come, none goes or changes its meaning.
//!
//! Ids are hex, times RFC 3339 in UTC, absent things `null`.

use herdbook_model::{
    authority::{Lost, Position, Role, Status as BranchStatus, Void},
    json::{deletes_name, policy_name, value_to_json},
    request::Must,
};
use herdbook_proto::{
    ack::{Ack, Condition, Level},
    cluster::{Branch, Head, Peer, Phase, Status},
    document::{Conflict, Document, Sibling},
    edit::{Change, Edit, ListChange, ListSplice, Operation, Precondition, TextSplice},
    history::{Difference, Fate, Inspected, Kept, Origin, ShownRequest, Sides, Summary},
    read::{Event, EventChange},
};
use serde_json::{Map, Value as Json, json};

use crate::moment::rfc3339;

/// `{"epoch", "seq", "entry"}`.
pub(crate) fn position(position: &Position) -> Json {
    json!({ "epoch": position.epoch, "seq": position.seq, "entry": position.id.to_string() })
}

/// Name of a level of safety.
pub(crate) const fn level(level: Level) -> &'static str {
    match level {
        Level::Memory => "memory",
        Level::Process => "process",
        Level::Durable => "durable",
    }
}

/// Name of a role.
pub(crate) const fn role(role: Role) -> &'static str {
    match role {
        Role::Replica => "replica",
        Role::Coordinator => "coordinator",
    }
}

/// Name of a phase.
pub(crate) const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Recovering => "recovering",
        Phase::Frozen => "frozen",
    }
}

/// What is true of a write.
pub(crate) fn ack(ack: &Ack) -> Json {
    let Ack { commit, request, branch, state, local, accepted, copies, condition, repeated } = ack;
    let condition = match condition {
        Condition::Local => "local",
        Condition::Accepted => "accepted",
    };
    json!({
        "commit": commit.to_string(),
        "request": request,
        "branch": branch.as_str(),
        "state": state.to_string(),
        "local": level(*local),
        "accepted": accepted.as_ref().map(position),
        "copies": texts(copies),
        "condition": condition,
        "repeated": repeated,
    })
}

/// The fields of a document: name to value.
pub(crate) fn fields(document: &Document) -> Map<String, Json> {
    document.fields.iter().map(|(name, value)| (name.to_string(), value_to_json(value))).collect()
}

/// A document with version and conflicts.
pub(crate) fn document(document: &Document) -> Json {
    json!({
        "collection": &*document.name.collection,
        "key": document.name.key.as_str(),
        "fields": fields(document),
        "version": document.version.to_string(),
        "conflicts": document.conflicts.iter().map(conflict).collect::<Vec<_>>(),
        "deletes": document.deletes.iter().map(sibling).collect::<Vec<_>>(),
    })
}

fn sibling(Sibling { value, commit, time, session }: &Sibling) -> Json {
    json!({
        "value": value.as_ref().map(value_to_json),
        "commit": commit.to_string(),
        "time": rfc3339(*time),
        "session": session.to_string(),
    })
}

fn conflict(conflict: &Conflict) -> Json {
    json!({
        "field": &*conflict.field,
        "path": conflict.path.iter().map(|key| &**key).collect::<Vec<_>>(),
        "siblings": conflict.siblings.iter().map(sibling).collect::<Vec<_>>(),
    })
}

/// A commit without its requests.
pub(crate) fn summary(summary: &Summary) -> Json {
    let Summary { id, branch, schema, parents, session, replica, counter, time, message, requests, accepted, voided } = summary;
    json!({
        "commit": id.to_string(),
        "branch": branch.as_str(),
        "schema": schema.to_string(),
        "parents": texts(parents),
        "session": session.to_string(),
        "replica": replica.as_ref().map(ToString::to_string),
        "counter": counter,
        "time": rfc3339(*time),
        "message": message,
        "requests": requests,
        "accepted": accepted.as_ref().map(position),
        "voided": voided.iter().map(void).collect::<Vec<_>>(),
    })
}

fn void(void: &Void) -> Json {
    json!({ "commit": void.request.commit.to_string(), "request": void.request.request, "reason": void.reason })
}

/// A request of a commit.
pub(crate) fn request(request: &ShownRequest) -> Json {
    let (fate, reason) = match &request.fate {
        Fate::Stands => ("stands", None),
        Fate::Voided { reason } => ("voided", Some(reason)),
        Fate::Lost => ("lost", None),
        Fate::Absent => ("absent", None),
    };
    json!({
        "request": request.place,
        "fate": fate,
        "reason": reason,
        "request_id": request.body.as_ref().map(|body| body.key.to_string()),
        "principal": request.body.as_ref().map(|body| &body.principal),
        "preconditions": request.body.as_ref().map(|body| body.preconditions.iter().map(precondition).collect::<Vec<_>>()),
        "edits": request.body.as_ref().map(|body| body.edits.iter().map(edit).collect::<Vec<_>>()),
        "documents": request.documents,
    })
}

fn precondition(precondition: &Precondition) -> Json {
    let must = match &precondition.must {
        Must::Exist => json!("exist"),
        Must::BeAbsent => json!("be absent"),
        Must::BeAt(version) => json!({ "version": version.to_string() }),
    };
    json!({ "document": precondition.name.to_string(), "must": must })
}

/// An edit: its document and what is done.
pub(crate) fn edit(edit: &Edit) -> Json {
    let values = |fields: &herdbook_proto::edit::Fields| -> Map<String, Json> {
        fields.iter().map(|(name, value)| (name.to_string(), value_to_json(value))).collect()
    };
    let (operation, fields) = match &edit.operation {
        Operation::Create(fields) => ("create", values(fields)),
        Operation::Put(fields) => ("put", values(fields)),
        Operation::Delete => ("delete", Map::new()),
        Operation::Update(changes) => ("update", changes.iter().map(|(name, change)| (name.to_string(), self::change(change))).collect()),
    };
    json!({ "document": edit.name.to_string(), "operation": operation, "fields": fields })
}

fn change(change: &Change) -> Json {
    match change {
        Change::Set(value) => json!({ "set": value_to_json(value) }),
        Change::Clear => json!({ "clear": true }),
        Change::Elements { add, remove } => json!({
            "add": add.iter().map(value_to_json).collect::<Vec<_>>(),
            "remove": remove.iter().map(value_to_json).collect::<Vec<_>>(),
        }),
        Change::Entries { put, remove } => json!({
            "put": put.iter().map(|(key, value)| (key.to_string(), value_to_json(value))).collect::<Map<_, _>>(),
            "remove": remove.iter().map(|key| &**key).collect::<Vec<_>>(),
        }),
        Change::Count { reset, add } => json!({ "reset": reset, "add": add }),
        Change::Text(splices) => {
            let splice =
                |TextSplice { at, removed, inserted }: &TextSplice| json!({ "at": at, "removed": removed, "inserted": &**inserted });
            json!({ "splices": splices.iter().map(splice).collect::<Vec<_>>() })
        }
        Change::List(splices) => {
            let splice = |ListSplice { at, change }: &ListSplice| match change {
                ListChange::Items { removed, inserted } => {
                    json!({ "at": at, "removed": removed, "inserted": inserted.iter().map(value_to_json).collect::<Vec<_>>() })
                }
                ListChange::Set(value) => json!({ "at": at, "set": value_to_json(value) }),
                ListChange::MoveTo(to) => json!({ "at": at, "move_to": to }),
            };
            json!({ "splices": splices.iter().map(splice).collect::<Vec<_>>() })
        }
        Change::Within(changes) => {
            json!({ "within": changes.iter().map(|(key, change)| (key.to_string(), self::change(change))).collect::<Map<_, _>>() })
        }
    }
}

/// How a document differs.
pub(crate) fn difference(difference: &Difference) -> Json {
    let (kind, before, after) = match &difference.sides {
        Sides::Added(after) => ("added", None, Some(after)),
        Sides::Removed(before) => ("removed", Some(before), None),
        Sides::Changed { before, after } => ("changed", Some(before), Some(after)),
    };
    json!({ "document": difference.name.to_string(), "kind": kind, "before": before.map(document), "after": after.map(document) })
}

/// A document that changed while it was watched.
pub(crate) fn event(event: &Event) -> Json {
    let (kind, name, now) = match &event.change {
        EventChange::Put(now) => ("put", &now.name, Some(now)),
        EventChange::Delete(name) => ("delete", name, None),
    };
    json!({
        "event": kind,
        "document": name.to_string(),
        "now": now.map(document),
        "commits": texts(&event.commits),
        "voided": event.voided.iter().map(void).collect::<Vec<_>>(),
    })
}

/// What is kept of a document.
pub(crate) fn inspected(inspected: &Inspected) -> Json {
    json!({
        "document": inspected.document.as_ref().map(document),
        "alive": inspected.alive.iter().map(origin).collect::<Vec<_>>(),
        "fields": inspected.fields.iter().map(kept).collect::<Vec<_>>(),
        "newest": inspected.newest.iter().map(|newest| json!({ "origin": origin(&newest.origin), "edit": edit(&newest.edit) })).collect::<Vec<_>>(),
        "deletes": deletes_name(inspected.deletes),
    })
}

fn kept(kept: &Kept) -> Json {
    let values = kept.values.iter().map(|value| {
        json!({
            "value": value.value.as_ref().map(value_to_json),
            "entry": (!value.entry.is_empty()).then_some(&value.entry),
            "shown": value.shown,
            "origin": origin(&value.origin),
        })
    });
    json!({ "field": &*kept.field, "policy": policy_name(kept.policy), "values": values.collect::<Vec<_>>() })
}

fn origin(origin: &Origin) -> Json {
    json!({
        "commit": origin.commit.to_string(),
        "time": rfc3339(origin.time),
        "session": origin.session.to_string(),
        "replica": origin.replica.as_ref().map(ToString::to_string),
    })
}

/// A schema branch.
pub(crate) fn branch(branch: &Branch) -> Json {
    let status = match branch.status {
        BranchStatus::Open => "open",
        BranchStatus::Abandoned => "abandoned",
    };
    json!({
        "branch": branch.name.as_str(),
        "schema": branch.schema.to_string(),
        "version": branch.version,
        "from": branch.from.as_ref().map(ToString::to_string),
        "status": status,
        "promoted": branch.promoted,
        "apart": branch.apart,
    })
}

/// A member; `is_self`: the one that answers.
pub(crate) fn peer(peer: &Peer, is_self: bool) -> Json {
    json!({
        "replica": peer.replica.to_string(),
        "name": peer.name,
        "role": role(peer.role),
        "address": (!peer.address.is_empty()).then_some(&peer.address),
        "connected": peer.connected,
        "revoked": peer.revoked,
        "silent_millis": peer.silent.map(|silent| u64::try_from(silent.as_millis()).unwrap_or(u64::MAX)),
        "level": peer.level,
        "self": is_self,
    })
}

/// The newest state of a branch.
pub(crate) fn head(head: &Head) -> Json {
    json!({
        "branch": head.branch.as_str(),
        "heads": texts(&head.heads),
        "frontier": head.frontier.to_string(),
        "judgement": head.judgement.to_string(),
        "state": head.state.to_string(),
        "root": head.root.as_ref().map(ToString::to_string),
        "accepted_heads": texts(&head.accepted_heads),
        "accepted": head.accepted.as_ref().map(position),
        "commits": head.commits,
        "documents": head.documents,
        "conflicts": head.conflicts,
    })
}

/// A request that was lost.
pub(crate) fn lost(lost: &Lost) -> Json {
    json!({ "commit": lost.request.commit.to_string(), "request": lost.request.request, "documents": lost.documents })
}

/// Everything about a member.
pub(crate) fn status(status: &Status) -> Json {
    let recovery = status.recovery.as_ref().map(|recovery| {
        json!({
            "reporters": texts(&recovery.reporters),
            "needed": recovery.needed,
            "members": recovery.members,
            "missing_commits": recovery.missing_commits,
        })
    });
    json!({
        "version": status.version,
        "repository": status.repository.to_string(),
        "repository_name": status.repository_name,
        "replica": status.replica.to_string(),
        "name": status.name,
        "role": role(status.role),
        "session": status.session.to_string(),
        "phase": phase(status.phase),
        "online": status.online,
        "log": status.log.as_ref().map(position),
        "promoted": status.promoted.as_ref().map(ToString::to_string),
        "branches": status.branches.iter().map(head).collect::<Vec<_>>(),
        "outbox": status.outbox,
        "quarantine": status.quarantine,
        "lost": status.lost.iter().map(lost).collect::<Vec<_>>(),
        "recovery": recovery,
        "store_bytes": status.store_bytes,
    })
}

/// Ids as texts.
pub(crate) fn texts<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
