//! Edits and writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdbook_model::{id::RequestKey, request::Must, value::Value};

use super::{
    Result,
    ack::wait,
    all,
    document::repository,
    each, id, inner, limited, name, optional_branch, optional_id, raw, raw_or_empty, required, text_or_empty,
    value::{elements_of, fields_from, fields_of},
};
use crate::{
    Fault, Malformed,
    document::Name,
    edit::{Change, Edit, ListChange, ListSplice, Operation, Outcome, Precondition, TextSplice, Write},
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
    let v1::Update { set, clear, elements, entries, counters, texts, lists, within } = update;
    let set: Vec<_> = fields_of("set", set)?;
    let mut changes: Vec<(Arc<str>, Change)> = set.into_iter().map(|(name, value)| (name, Change::Set(value))).collect();
    changes.extend(clear.into_iter().map(|name| (Arc::from(name), Change::Clear)));
    for (name, change) in elements {
        let change = changed_elements_of(change).map_err(|error| error.within(format_args!("elements.{name}")))?;
        changes.push((name.into(), change));
    }
    for (name, change) in entries {
        let change = changed_entries_of(change).map_err(|error| error.within(format_args!("entries.{name}")))?;
        changes.push((name.into(), change));
    }
    let counters = counters.into_iter().map(|(name, v1::CounterChange { add, reset })| (name.into(), Change::Count { reset, add }));
    changes.extend(counters);
    for (name, v1::TextChange { splices }) in texts {
        let splice = |v1::TextSplice { at, removed, inserted }| TextSplice { at, removed, inserted: inserted.into() };
        changes.push((name.into(), Change::Text(splices.into_iter().map(splice).collect())));
    }
    for (name, v1::ListChange { splices }) in lists {
        let splices = each("splices", splices).map_err(|error: Malformed| error.within(format_args!("lists.{name}")))?;
        changes.push((name.into(), Change::List(splices)));
    }
    for (name, update) in within {
        let inner = changes_of(update).map_err(|error| error.within(format_args!("within.{name}")))?;
        changes.push((name.into(), Change::Within(inner)));
    }
    changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    match changes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(Malformed::new(
            "set, clear, elements, entries, counters, texts, lists, within",
            Fault::Twice { name: pair[0].0.to_string() },
        )),
        None => Ok(changes),
    }
}

fn changed_elements_of(change: v1::ElementsChange) -> Result<Change> {
    let v1::ElementsChange { add, remove } = change;
    let (add, remove) = (elements_of("add", add)?, elements_of("remove", remove)?);
    match add.intersection(&remove).next() {
        Some(both) => Err(Malformed::new("add, remove", Fault::Twice { name: format!("{both:?}") })),
        None => Ok(Change::Elements { add: add.into_iter().collect(), remove: remove.into_iter().collect() }),
    }
}

fn changed_entries_of(change: v1::EntriesChange) -> Result<Change> {
    let v1::EntriesChange { put, remove } = change;
    let put: BTreeMap<Arc<str>, Value> = fields_of("put", put)?;
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
                update.entries.insert(name, v1::EntriesChange { put: fields_from(put), remove });
            }
            Change::Count { reset, add } => _ = update.counters.insert(name, v1::CounterChange { add, reset }),
            Change::Text(splices) => {
                let splice = |TextSplice { at, removed, inserted }| v1::TextSplice { at, removed, inserted: String::from(&*inserted) };
                update.texts.insert(name, v1::TextChange { splices: splices.into_iter().map(splice).collect() });
            }
            Change::List(splices) => _ = update.lists.insert(name, v1::ListChange { splices: all(splices) }),
            Change::Within(inner) => _ = update.within.insert(name, changes_from(inner)),
        }
    }
    update
}

impl TryFrom<v1::ListSplice> for ListSplice {
    type Error = Malformed;

    fn try_from(message: v1::ListSplice) -> Result<Self> {
        use v1::list_splice::Change as Choice;
        let v1::ListSplice { at, change } = message;
        let change = match required("change", change)? {
            Choice::Items(v1::ItemsChange { removed, inserted }) => {
                ListChange::Items { removed, inserted: each("items.inserted", inserted)? }
            }
            Choice::Set(value) => ListChange::Set(inner("set", Some(value))?),
            Choice::MoveTo(to) => ListChange::MoveTo(to),
        };
        Ok(Self { at, change })
    }
}

impl From<ListSplice> for v1::ListSplice {
    fn from(ListSplice { at, change }: ListSplice) -> Self {
        use v1::list_splice::Change as Choice;
        let change = match change {
            ListChange::Items { removed, inserted } => Choice::Items(v1::ItemsChange { removed, inserted: all(inserted) }),
            ListChange::Set(value) => Choice::Set(value.into()),
            ListChange::MoveTo(to) => Choice::MoveTo(to),
        };
        Self { at, change: Some(change) }
    }
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
        let edits: Vec<Edit> = each("edits", edits)?;
        let is_placed = |edit: &Edit| !matches!(&edit.operation, Operation::Update(changes) if !changes.iter().all(|(_, change)| change.has_positions()));
        if let Some(at) = edits.iter().position(|edit| !is_placed(edit)) {
            return Err(Malformed::missing("at").within("splices").within(format_args!("edits[{at}]")));
        }
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            branch: optional_branch("branch", branch)?,
            request: optional_id("request_id", &request_id)?,
            message,
            edits,
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
