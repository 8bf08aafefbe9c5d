//! Values, documents, edits, writes, acknowledgements.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use herdbook_model::{
    authority::{Position, RequestRef, Void},
    blob::Blob,
    id::{BranchName, CommitId, EntryId, Leaf, PartId, ReplicaId, RepositoryId, RequestKey, SessionId, StateName},
    request::Must,
    time::Time,
    value::{Decimal, Float, Key, Scalar, Value},
};
use proptest::{collection::vec, option, prelude::*};

use super::{bytes32, sent};
use crate::{
    Fault,
    ack::{Ack, Condition, Level, Wait},
    document::{At, Conflict, Document, Name, Place, Sibling},
    edit::{Change, Edit, ListChange, ListSplice, Operation, Outcome, Precondition, TextSplice, Write},
    limits,
    read::{Event, EventChange, List, Start, Step, Watch},
    status::{Failed, Kind},
    v1,
};

pub(super) fn scalars() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<bool>().prop_map(Scalar::Bool),
        any::<i64>().prop_map(Scalar::Int),
        any::<u64>().prop_map(|bits| Scalar::Float(Float::new(f64::from_bits(bits)))),
        "[a-zé🐑]{0,5}".prop_map(|text| Scalar::from(text.as_str())),
        any::<i64>().prop_map(Scalar::Timestamp),
        (any::<i64>(), 0u32..20).prop_map(|(number, scale)| Scalar::Decimal(Decimal::new(number.into(), scale).expect("short"))),
        vec(any::<u8>(), 0..4).prop_map(|bytes| Scalar::Bytes(bytes.into())),
        "[a-z]{1,4}".prop_map(|key| Scalar::Reference(Key::new(key).expect("short"))),
        (any::<[u8; 32]>(), 0..=herdbook_model::blob::MAX_LEN).prop_map(|(root, len)| Scalar::Blob(Blob { root: PartId(root), len })),
        Just(Scalar::Null),
    ]
}

pub(super) fn values() -> impl Strategy<Value = Value> {
    scalars().prop_map(Value::Scalar).prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|elements| Value::Set(elements.into_iter().collect())),
            vec((texts(), inner.clone()), 0..4).prop_map(|entries| Value::Map(entries.into_iter().collect())),
            vec(inner, 0..4).prop_map(Value::List),
        ]
    })
}

fn texts() -> impl Strategy<Value = Arc<str>> {
    "[a-z]{1,4}".prop_map(Arc::from)
}

fn fields() -> impl Strategy<Value = BTreeMap<Arc<str>, Value>> {
    vec((texts(), values()), 0..5).prop_map(|fields| fields.into_iter().collect())
}

pub(super) fn names() -> impl Strategy<Value = Name> {
    (texts(), "[a-z/ü]{1,9}").prop_map(|(collection, key)| Name { collection, key: Key::new(key).expect("short") })
}

pub(super) fn branches() -> impl Strategy<Value = BranchName> {
    "[a-z]{1,3}@[1-9]".prop_map(|name| BranchName::new(name).expect("well formed"))
}

pub(super) fn times() -> impl Strategy<Value = Time> {
    (0..=i64::MAX.cast_unsigned()).prop_map(Time::from_raw)
}

pub(super) fn positions() -> impl Strategy<Value = Position> {
    (any::<u64>(), any::<u64>(), bytes32()).prop_map(|(epoch, seq, id)| Position { epoch, seq, id: EntryId(id) })
}

fn siblings() -> impl Strategy<Value = Sibling> {
    (option::of(values()), bytes32(), times(), bytes32()).prop_map(|(value, commit, time, session)| Sibling {
        value,
        commit: CommitId(commit),
        time,
        session: SessionId(session),
    })
}

pub(super) fn documents() -> impl Strategy<Value = Document> {
    let conflict = (texts(), vec(texts(), 0..3), vec(siblings(), 0..3));
    let conflicts = vec(conflict.prop_map(|(field, path, siblings)| Conflict { field, path, siblings }), 0..3);
    let deletes = vec(siblings(), 0..2);
    (names(), fields(), bytes32(), conflicts, deletes).prop_map(|(name, fields, version, conflicts, deletes)| Document {
        name,
        fields,
        version: Leaf(version),
        conflicts,
        deletes,
    })
}

fn changes() -> impl Strategy<Value = Change> {
    let position = any::<u64>().prop_map(Some);
    let text = (position.clone(), any::<u64>(), texts()).prop_map(|(at, removed, inserted)| TextSplice { at, removed, inserted });
    let item = prop_oneof![
        (any::<u64>(), vec(values(), 0..3)).prop_map(|(removed, inserted)| ListChange::Items { removed, inserted }),
        values().prop_map(ListChange::Set),
        any::<u64>().prop_map(ListChange::MoveTo),
    ];
    let plain = prop_oneof![
        values().prop_map(Change::Set),
        Just(Change::Clear),
        (vec(values(), 0..4), vec(values(), 0..4)).prop_map(|(add, remove)| {
            let add: BTreeSet<Value> = add.into_iter().collect();
            let remove: BTreeSet<Value> = remove.into_iter().filter(|element| !add.contains(element)).collect();
            Change::Elements { add: add.into_iter().collect(), remove: remove.into_iter().collect() }
        }),
        (vec((texts(), values()), 0..4), vec(texts(), 0..4)).prop_map(|(put, remove)| {
            let put: BTreeMap<Arc<str>, Value> = put.into_iter().collect();
            let remove: BTreeSet<Arc<str>> = remove.into_iter().filter(|key| !put.contains_key(key)).collect();
            Change::Entries { put: put.into_iter().collect(), remove: remove.into_iter().collect() }
        }),
        (any::<bool>(), any::<i64>()).prop_map(|(reset, add)| Change::Count { reset, add }),
        vec(text, 0..3).prop_map(Change::Text),
        vec((position, item).prop_map(|(at, change)| ListSplice { at, change }), 0..3).prop_map(Change::List),
    ];
    plain.prop_recursive(2, 6, 3, |inner| {
        vec((texts(), inner), 0..3)
            .prop_map(|changes| Change::Within(changes.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect()))
    })
}

pub(super) fn edits() -> impl Strategy<Value = Edit> {
    let changes = vec((texts(), changes()), 0..5).prop_map(|changes| changes.into_iter().collect::<BTreeMap<_, _>>());
    let operation = prop_oneof![
        fields().prop_map(|fields| Operation::Create(fields.into_iter().collect())),
        changes.prop_map(|changes| Operation::Update(changes.into_iter().collect())),
        fields().prop_map(|fields| Operation::Put(fields.into_iter().collect())),
        Just(Operation::Delete),
    ];
    (names(), operation).prop_map(|(name, operation)| Edit { name, operation })
}

fn preconditions() -> impl Strategy<Value = Precondition> {
    let must = prop_oneof![Just(Must::Exist), Just(Must::BeAbsent), bytes32().prop_map(|version| Must::BeAt(Leaf(version)))];
    (names(), must).prop_map(|(name, must)| Precondition { name, must })
}

fn levels() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Memory), Just(Level::Process), Just(Level::Durable)]
}

pub(super) fn waits() -> impl Strategy<Value = Wait> {
    (levels(), any::<bool>(), 0..=limits::COPIES, option::of(any::<u32>())).prop_map(|(local, accepted, copies, timeout)| Wait {
        local,
        accepted,
        copies,
        timeout: timeout.map(|millis| Duration::from_millis(millis.into())),
    })
}

fn writes() -> impl Strategy<Value = Write> {
    let target = (option::of(bytes32()), option::of(branches()), option::of(any::<[u8; 16]>()), ".{0,20}");
    (target, vec(edits(), 0..4), vec(preconditions(), 0..3), waits()).prop_map(|(target, edits, preconditions, wait)| {
        let (repository, branch, request, message) = target;
        Write { repository: repository.map(RepositoryId), branch, request: request.map(RequestKey), message, edits, preconditions, wait }
    })
}

pub(super) fn acks() -> impl Strategy<Value = Ack> {
    let condition = prop_oneof![Just(Condition::Local), Just(Condition::Accepted)];
    let safety = (levels(), option::of(positions()), vec(bytes32(), 0..3), condition, any::<bool>());
    (bytes32(), any::<u32>(), branches(), bytes32(), safety).prop_map(|(commit, request, branch, state, safety)| {
        let (local, accepted, copies, condition, repeated) = safety;
        let copies = copies.into_iter().map(ReplicaId).collect();
        Ack { commit: CommitId(commit), request, branch, state: StateName(state), local, accepted, copies, condition, repeated }
    })
}

pub(super) fn states() -> impl Strategy<Value = At> {
    prop_oneof![
        option::of(branches()).prop_map(At::Branch),
        bytes32().prop_map(|commit| At::Commit(CommitId(commit))),
        (option::of(branches()), any::<u64>()).prop_map(|(branch, millis)| At::Time { branch, millis }),
        bytes32().prop_map(|state| At::State(StateName(state))),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let change = prop_oneof![documents().prop_map(EventChange::Put), names().prop_map(EventChange::Delete)];
    let void = (bytes32(), any::<u32>(), ".{0,9}")
        .prop_map(|(commit, request, reason)| Void { request: RequestRef { commit: CommitId(commit), request }, reason });
    let event = (change, vec(bytes32(), 0..3), vec(void, 0..3)).prop_map(|(change, commits, voided)| Event {
        change,
        commits: commits.into_iter().map(CommitId).collect(),
        voided,
    });
    (vec(event, 0..3), vec(any::<u8>(), 0..9), bytes32()).prop_map(|(events, token, state)| Step {
        events,
        resume_token: token.into(),
        state: StateName(state),
    })
}

proptest! {
    #[test]
    fn prop_values_arrive_as_they_were(value in values()) {
        prop_assert_eq!(sent::<_, v1::Value>(value.clone()), Ok(value));
    }

    #[test]
    fn prop_times_arrive_as_they_were(time in times()) {
        prop_assert_eq!(sent::<_, v1::Time>(time), Ok(time));
    }

    #[test]
    fn prop_documents_arrive_as_they_were(document in documents()) {
        prop_assert_eq!(sent::<_, v1::Document>(document.clone()), Ok(document));
    }

    #[test]
    fn prop_writes_arrive_as_they_were(write in writes()) {
        prop_assert_eq!(sent::<_, v1::CommitRequest>(write.clone()), Ok(write));
    }

    #[test]
    fn prop_acknowledgements_arrive_as_they_were(ack in acks()) {
        prop_assert_eq!(sent::<_, v1::Ack>(ack.clone()), Ok(ack.clone()));
        let outcome = Outcome { index: 7, result: Ok(ack) };
        prop_assert_eq!(sent::<_, v1::CommitStreamResponse>(outcome.clone()), Ok(outcome));
    }

    #[test]
    fn prop_states_to_read_from_arrive_as_they_were(at in states()) {
        prop_assert_eq!(sent::<_, v1::At>(at.clone()), Ok(at));
    }

    #[test]
    fn prop_steps_of_a_watch_arrive_as_they_were(step in steps()) {
        prop_assert_eq!(sent::<_, v1::WatchResponse>(step.clone()), Ok(step));
    }
}

#[test]
fn a_failed_write_of_a_stream_arrives_as_it_was() {
    let outcome =
        Outcome { index: 3, result: Err(Failed::here(Kind::Precondition, "CHANGED", "it has changed".to_owned(), "read it again")) };
    assert_eq!(sent::<_, v1::CommitStreamResponse>(outcome.clone()), Ok(outcome));
}

#[test]
fn a_write_that_says_nothing_about_waiting_waits_until_it_is_durable() {
    let write = Write::try_from(v1::CommitRequest::default()).expect("all else may be left open");
    assert_eq!(write.wait, Wait::DURABLE);
    assert_eq!((write.repository, write.branch, write.request), (None, None, None));
}

#[test]
fn a_read_that_names_no_state_reads_the_newest() {
    let message = v1::ListRequest { collection: "cities".to_owned(), ..Default::default() };
    let list = List::try_from(message).expect("all else may be left open");
    assert_eq!((list.place, list.page_size), (Place::NEWEST, limits::PAGE_DEFAULT));
}

#[test]
fn a_page_is_never_larger_than_the_limit() {
    let message = v1::ListRequest { collection: "cities".to_owned(), page_size: u32::MAX, ..Default::default() };
    assert_eq!(List::try_from(message).expect("well formed").page_size, limits::PAGE);
}

#[test]
fn a_watch_must_say_where_it_begins() {
    let error = Watch::try_from(v1::WatchRequest::default()).expect_err("no start");
    assert_eq!((error.path(), error.fault()), ("start", &Fault::Missing));
    let start = v1::watch_request::Start::Now(v1::Now {});
    let watch = Watch::try_from(v1::WatchRequest { start: Some(start), ..Default::default() }).expect("well formed");
    assert_eq!(watch.start, Start::Now);
}

#[test]
fn a_fault_is_named_with_its_place() {
    let edit = |key: &str| v1::Edit {
        collection: "cities".to_owned(),
        key: key.to_owned(),
        operation: Some(v1::edit::Operation::Create(v1::Create::default())),
    };
    let fault = |edits| {
        let error = Write::try_from(v1::CommitRequest { edits, ..Default::default() }).expect_err("malformed");
        (error.path().to_owned(), error.fault().clone())
    };
    assert_eq!(fault(vec![edit("a"), edit("")]), ("edits[1].key".to_owned(), Fault::Missing));
    let long = "x".repeat(1025);
    assert_eq!(fault(vec![edit(&long)]), ("edits[0].key".to_owned(), Fault::BadKey { actual: 1025 }));
    let mut empty = edit("a");
    empty.operation = Some(v1::edit::Operation::Put(v1::Put { fields: BTreeMap::from([("name".to_owned(), v1::Value { kind: None })]) }));
    assert_eq!(fault(vec![empty]), ("edits[0].put.fields.name.kind".to_owned(), Fault::Missing));
}

#[test]
fn a_field_that_is_changed_twice_is_refused() {
    let update = v1::Update {
        set: BTreeMap::from([("name".to_owned(), v1::Value { kind: Some(v1::value::Kind::IntValue(1)) })]),
        clear: vec!["name".to_owned()],
        ..Default::default()
    };
    let edit = v1::Edit { collection: "cities".to_owned(), key: "a".to_owned(), operation: Some(v1::edit::Operation::Update(update)) };
    assert_eq!(*Edit::try_from(edit).expect_err("twice").fault(), Fault::Twice { name: "name".to_owned() });
}

#[test]
fn an_element_that_is_added_and_removed_at_once_is_refused() {
    let one = v1::Value { kind: Some(v1::value::Kind::IntValue(1)) };
    let change = v1::ElementsChange { add: vec![one.clone()], remove: vec![one] };
    let update = v1::Update { elements: BTreeMap::from([("tags".to_owned(), change)]), ..Default::default() };
    let edit = v1::Edit { collection: "cities".to_owned(), key: "a".to_owned(), operation: Some(v1::edit::Operation::Update(update)) };
    let error = Edit::try_from(edit).expect_err("both at once");
    assert_eq!(error.path(), "update.elements.tags.add, remove");
}

#[test]
fn ids_of_another_length_and_absent_ids_are_told_apart() {
    let document = |version: &'static [u8]| v1::Document {
        collection: "cities".to_owned(),
        key: "a".to_owned(),
        version: version.into(),
        ..Default::default()
    };
    let fault = |version| Document::try_from(document(version)).expect_err("no version").fault().clone();
    assert_eq!(fault(b""), Fault::Missing);
    assert_eq!(fault(b"abc"), Fault::WrongLength { expected: 32, actual: 3 });
}
