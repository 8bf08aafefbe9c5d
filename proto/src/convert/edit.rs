//! Edits and writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdbook_model::{id::RequestKey, request::Must, value::Scalar};

use super::{
    Result,
    ack::wait,
    all,
    document::repository,
    each, id, inner, limited, name, optional_branch, optional_id, raw, raw_or_empty, required, text_or_empty,
    value::{entries_from, entries_of, fields_from, fields_of, scalars},
};
use crate::{
    Fault, Malformed,
    document::Name,
    edit::{Change, Edit, Operation, Outcome, Precondition, Write},
    limits, v1,
};

impl TryFrom<v1::Edit> for Edit {
    type Error = Malformed;

    fn try_from(message: v1::Edit) -> Result<Self> {
        use v1::edit::Operation as Choice;
        let v1::Edit { collection, key, operation } = message;
        let operation = match required("operation", operation)? {
            Choice::Create(v1::Create { fields }) => Operation::Create(fields_of("create.fields", fields)?),
            Choice::Update(update) => Operation::Update(changes_of(update).map_err(|error| error.within("update"))?),
            Choice::Put(v1::Put { fields }) => Operation::Put(fields_of("put.fields", fields)?),
            Choice::Delete(v1::Delete {}) => Operation::Delete,
        };
        Ok(Self { name: name(collection, key)?, operation })
    }
}

impl From<Edit> for v1::Edit {
    fn from(Edit { name: Name { collection, key }, operation }: Edit) -> Self {
        use v1::edit::Operation as Choice;
        let operation = match operation {
            Operation::Create(fields) => Choice::Create(v1::Create { fields: fields_from(fields) }),
            Operation::Update(changes) => Choice::Update(changes_from(changes)),
            Operation::Put(fields) => Choice::Put(v1::Put { fields: fields_from(fields) }),
            Operation::Delete => Choice::Delete(v1::Delete {}),
        };
        Self { collection: collection.to_string(), key: key.to_string(), operation: Some(operation) }
    }
}

fn changes_of(update: v1::Update) -> Result<Vec<(Arc<str>, Change)>> {
    let v1::Update { set, clear, elements, entries } = update;
    let set: Vec<_> = fields_of("set", set)?;
    let mut changes: Vec<(Arc<str>, Change)> = set.into_iter().map(|(name, value)| (name, Change::Set(value))).collect();
    changes.extend(clear.into_iter().map(|name| (Arc::from(name), Change::Clear)));
    for (name, change) in elements {
        let change = elements_of(change).map_err(|error| error.within(format_args!("elements.{name}")))?;
        changes.push((name.into(), change));
    }
    for (name, change) in entries {
        let change = changed_entries_of(change).map_err(|error| error.within(format_args!("entries.{name}")))?;
        changes.push((name.into(), change));
    }
    changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    match changes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(Malformed::new("set, clear, elements, entries", Fault::Twice { name: pair[0].0.to_string() })),
        None => Ok(changes),
    }
}

fn elements_of(change: v1::ElementsChange) -> Result<Change> {
    let v1::ElementsChange { add, remove } = change;
    let (add, remove) = (scalars("add", add)?, scalars("remove", remove)?);
    match add.intersection(&remove).next() {
        Some(both) => Err(Malformed::new("add, remove", Fault::Twice { name: format!("{both:?}") })),
        None => Ok(Change::Elements { add: add.into_iter().collect(), remove: remove.into_iter().collect() }),
    }
}

fn changed_entries_of(change: v1::EntriesChange) -> Result<Change> {
    let v1::EntriesChange { put, remove } = change;
    let put: BTreeMap<Arc<str>, Scalar> = entries_of("put", put)?;
    let remove: BTreeSet<Arc<str>> = remove.into_iter().map(Into::into).collect();
    match remove.iter().find(|key| put.contains_key(*key)) {
        Some(both) => Err(Malformed::new("put, remove", Fault::Twice { name: both.to_string() })),
        None => Ok(Change::Entries { put: put.into_iter().collect(), remove: remove.into_iter().collect() }),
    }
}

fn changes_from(changes: Vec<(Arc<str>, Change)>) -> v1::Update {
    let mut update = v1::Update::default();
    for (name, change) in changes {
        let name = name.to_string();
        match change {
            Change::Set(value) => {
                update.set.insert(name, value.into());
            }
            Change::Clear => update.clear.push(name),
            Change::Elements { add, remove } => {
                update.elements.insert(name, v1::ElementsChange { add: all(add), remove: all(remove) });
            }
            Change::Entries { put, remove } => {
                let remove = remove.iter().map(ToString::to_string).collect();
                update.entries.insert(name, v1::EntriesChange { put: entries_from(put), remove });
            }
        }
    }
    update
}

impl TryFrom<v1::Precondition> for Precondition {
    type Error = Malformed;

    fn try_from(message: v1::Precondition) -> Result<Self> {
        use v1::precondition::Must as Choice;
        let v1::Precondition { collection, key, must } = message;
        let must = match required("must", must)? {
            Choice::Exist(true) => Must::Exist,
            Choice::Exist(false) => Must::BeAbsent,
            Choice::Version(version) => Must::BeAt(id("version", &version)?),
        };
        Ok(Self { name: name(collection, key)?, must })
    }
}

impl From<Precondition> for v1::Precondition {
    fn from(Precondition { name: Name { collection, key }, must }: Precondition) -> Self {
        use v1::precondition::Must as Choice;
        let must = match must {
            Must::Exist => Choice::Exist(true),
            Must::BeAbsent => Choice::Exist(false),
            Must::BeAt(version) => Choice::Version(raw(version.as_bytes())),
        };
        Self { collection: collection.to_string(), key: key.to_string(), must: Some(must) }
    }
}

impl TryFrom<v1::CommitRequest> for Write {
    type Error = Malformed;

    fn try_from(message: v1::CommitRequest) -> Result<Self> {
        let v1::CommitRequest { repository, branch, request_id, message, edits, preconditions, wait: until } = message;
        limited("message", message.len(), limits::COMMIT_MESSAGE)?;
        limited("edits", edits.len(), limits::EDITS)?;
        limited("preconditions", preconditions.len(), limits::PRECONDITIONS)?;
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            branch: optional_branch("branch", branch)?,
            request: optional_id("request_id", &request_id)?,
            message,
            edits: each("edits", edits)?,
            preconditions: each("preconditions", preconditions)?,
            wait: wait(until)?,
        })
    }
}

impl From<Write> for v1::CommitRequest {
    fn from(Write { repository: id, branch, request, message, edits, preconditions, wait }: Write) -> Self {
        Self {
            repository: repository(id),
            branch: text_or_empty(branch.as_ref()),
            request_id: raw_or_empty(request.as_ref().map(RequestKey::as_bytes)),
            message,
            edits: all(edits),
            preconditions: all(preconditions),
            wait: Some(wait.into()),
        }
    }
}

impl TryFrom<v1::CommitStreamResponse> for Outcome {
    type Error = Malformed;

    fn try_from(message: v1::CommitStreamResponse) -> Result<Self> {
        use v1::commit_stream_response::Outcome as Choice;
        let v1::CommitStreamResponse { index, outcome } = message;
        let result = match required("outcome", outcome)? {
            Choice::Ack(ack) => Ok(inner("ack", Some(ack))?),
            Choice::Failure(failure) => Err(failure.into()),
        };
        Ok(Self { index, result })
    }
}

impl From<Outcome> for v1::CommitStreamResponse {
    fn from(Outcome { index, result }: Outcome) -> Self {
        use v1::commit_stream_response::Outcome as Choice;
        let outcome = match result {
            Ok(ack) => Choice::Ack(ack.into()),
            Err(failed) => Choice::Failure(failed.into()),
        };
        Self { index, outcome: Some(outcome) }
    }
}
