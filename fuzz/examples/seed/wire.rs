//! Messages with something in each field that means anything: frames of an exchange, and calls.

use bytes::Bytes;
use herdbook_model::{
    codec::{Decode as _, Encode as _},
    commit::Commit,
    testutil::{self, ANIMALS, STABLES, animal, delete, elements, entries, set, update, workload},
};
use herdbook_proto::{block, v1};
use herdbook_sync::message::{self as sync, Parcel, RequestBody};
use prost::Message as _;

fn id() -> Bytes {
    Bytes::from_static(&[7; 32])
}

/// Returns the content of a block with this commit and two requests, which are not its own, in columns.
pub(crate) fn columns(commit: &[u8]) -> Vec<u8> {
    let commit = Commit::from_bytes(commit).expect("golden");
    let request = |seed| {
        let mut edits: Vec<_> = (0..12).map(|number| workload::creation(number, seed)).collect();
        let rich = vec![set(animal::NAME, "é"), elements(animal::TAGS, ["x"], ["y"]), entries(animal::YIELDS, [("may", 3)], ["june"])];
        edits.extend([(ANIMALS, update("alma", rich)), (STABLES, delete("north"))]);
        RequestBody::Present(testutil::request(seed, edits).to_bytes())
    };
    let parcel = Parcel { commit, certificate: None, requests: vec![request(1), request(2)] };
    let frame = v1::Frame::try_from(sync::Message::Commits(vec![parcel])).expect("short");
    let Some(v1::frame::Message::Commits(v1::Commits { block: Some(block) })) = frame.message else { panic!("commits stay commits") };
    block::unpack(block).expect("just packed").to_vec()
}

pub(crate) fn frames() -> Vec<(&'static str, v1::frame::Message)> {
    use v1::{compare::Part, frame::Message};
    let compare = |part| Message::Compare(v1::Compare { part: Some(part) });
    let pack = |bytes: &[u8]| Some(block::pack(&[bytes]).expect("short"));
    vec![
        ("proof", Message::Proof(v1::Proof { signature: Bytes::from_static(&[7; 64]) })),
        ("vector", Message::Vector(v1::Vector { vector: Bytes::from_static(&[0]) })),
        ("cells", compare(Part::Cells(v1::Cells { first: 200, cells: vec![7, 9], vector: id() }))),
        ("want-cells", compare(Part::Want(v1::WantCells { count: 64 }))),
        ("which", compare(Part::Which(v1::Which { symbols: vec![7] }))),
        ("those", compare(Part::Those(v1::Vector { vector: Bytes::from_static(&[0]) }))),
        ("lacks", compare(Part::Lacks(v1::Lacks { chains: Bytes::from_static(&[0]) }))),
        ("want-entries", Message::WantEntries(v1::WantEntries { first: 3 })),
        ("entries", Message::Entries(v1::Entries { block: pack(&[0]) })),
        ("commits", Message::Commits(v1::Commits { block: pack(&[0, 0]) })),
        ("chunks", Message::Chunks(v1::Chunks { block: pack(&[0]), last: true })),
        ("announce", Message::Announce(v1::Announce { commits: Vec::new() })),
        ("want", Message::Want(v1::Want { ranges: vec![v1::Range { chain: Bytes::from_static(&[7; 16]), first: 1, last: 9 }] })),
        ("roots", Message::Roots(v1::Roots { roots: Vec::new() })),
        ("want-states", Message::WantStates(v1::WantStates {})),
        ("offers", Message::Offers(v1::Offers { offers: Vec::new() })),
        ("want-chunks", Message::WantChunks(v1::WantChunks { tree: id(), path: vec![1], names: vec![3] })),
        ("credit", Message::Credit(v1::Credit { bytes: 300 })),
        ("refuse", Message::Refuse(v1::Refuse { reason: 1 })),
    ]
}

/// Returns target, name and bytes of calls and their answers.
pub(crate) fn calls(token: &Bytes) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let name = || v1::DocumentName { collection: "animals".into(), key: "alma".into() };
    let value = |kind| v1::Value { kind: Some(kind) };
    let at = |at| Some(v1::At { at: Some(at) });
    let fields = || {
        use v1::value::Kind;
        let kinds = [Kind::BoolValue(true), Kind::IntValue(-3), Kind::FloatValue(1.5), Kind::StringValue("é".into())];
        kinds.into_iter().enumerate().map(|(number, kind)| (format!("field{number}"), value(kind))).collect()
    };
    let edit = v1::Edit {
        collection: "animals".into(),
        key: "alma".into(),
        operation: Some(v1::edit::Operation::Put(v1::Put { fields: fields() })),
    };
    let document = || v1::Document {
        collection: "animals".into(),
        key: "alma".into(),
        fields: fields(),
        version: id(),
        conflicts: Vec::new(),
        deletes: Vec::new(),
    };
    let summary = || v1::CommitSummary {
        id: id(),
        branch: "main@1".into(),
        schema: id(),
        parents: vec![id()],
        session: id(),
        replica: id(),
        counter: 3,
        time: Some(v1::Time { unix_millis: 5, counter: 1 }),
        requests: 1,
        ..Default::default()
    };
    let ack = v1::Ack { commit: id(), branch: "main@1".into(), state: id(), local: 1, condition: 1, ..Default::default() };
    let answered = |outcome| v1::CommitStreamResponse { index: 3, outcome: Some(outcome) }.encode_to_vec();
    let schema = v1::start_schema_request::Definition::SchemaJson("{}".into());
    let watch = |start| v1::WatchRequest { collection: "animals".into(), start: Some(start), ..Default::default() }.encode_to_vec();
    let resolve = v1::ResolveRequest {
        collection: "animals".into(),
        key: "alma".into(),
        field: "name".into(),
        choice: Some(v1::resolve_request::Choice::Clear(v1::Clear {})),
        ..Default::default()
    };
    vec![
        ("request-batch", "one", v1::BatchGetRequest { names: vec![name()], ..Default::default() }.encode_to_vec()),
        ("request-commit", "put", v1::CommitRequest { message: "m".into(), edits: vec![edit], ..Default::default() }.encode_to_vec()),
        (
            "request-join",
            "new",
            v1::JoinRequest { token: "t".into(), replica: id(), signature: Bytes::from_static(&[7; 64]), ..Default::default() }
                .encode_to_vec(),
        ),
        (
            "request-list",
            "next",
            v1::ListRequest { collection: "animals".into(), page_token: token.clone(), ..Default::default() }.encode_to_vec(),
        ),
        ("request-log", "all", v1::LogRequest { at: at(v1::at::At::Commit(id())), session: id(), ..Default::default() }.encode_to_vec()),
        (
            "request-merge",
            "ours",
            v1::MergeRequest { from: at(v1::at::At::Branch("apart".into())), side: 1, ..Default::default() }.encode_to_vec(),
        ),
        (
            "request-playback",
            "session",
            v1::PlaybackRequest { to: at(v1::at::At::State(id())), session: id(), ..Default::default() }.encode_to_vec(),
        ),
        ("request-resolve", "clear", resolve.encode_to_vec()),
        ("request-revert", "commit", v1::RevertRequest { commits: vec![id()], ..Default::default() }.encode_to_vec()),
        (
            "request-schema",
            "new",
            v1::StartSchemaRequest { branch: "main@2".into(), definition: Some(schema), ..Default::default() }.encode_to_vec(),
        ),
        ("request-watch", "now", watch(v1::watch_request::Start::Now(v1::Now {}))),
        ("request-watch", "token", watch(v1::watch_request::Start::ResumeToken(token.clone()))),
        (
            "response-batch",
            "one",
            v1::BatchGetResponse { documents: vec![document()], missing: vec![name()], state: id(), ..Default::default() }.encode_to_vec(),
        ),
        ("response-blame", "commits", v1::BlameResponse { parts: Vec::new(), commits: vec![summary()] }.encode_to_vec()),
        ("response-commit", "ack", answered(v1::commit_stream_response::Outcome::Ack(ack))),
        (
            "response-commit",
            "failure",
            answered(v1::commit_stream_response::Outcome::Failure(v1::Failure { code: 3, ..Default::default() })),
        ),
        (
            "response-conflict",
            "document",
            v1::GetConflictResponse { document: Some(document()), deletes: 1, ..Default::default() }.encode_to_vec(),
        ),
        ("response-show", "commit", v1::ShowResponse { commit: Some(summary()), requests: Vec::new(), left_out: 1 }.encode_to_vec()),
        (
            "response-status",
            "serving",
            v1::StatusResponse { repository: id(), replica: id(), session: id(), role: 1, phase: 1, ..Default::default() }.encode_to_vec(),
        ),
        ("response-watch", "still", v1::WatchResponse { events: Vec::new(), resume_token: token.clone(), state: id() }.encode_to_vec()),
    ]
}

/// What a coordinator answers to who joins: canonical bytes of a genesis record and two entries.
pub(crate) fn joined(genesis: &[u8], epoch: &[u8], enrolment: &[u8]) -> Vec<u8> {
    let [genesis, epoch, enrolment] = [genesis, epoch, enrolment].map(Bytes::copy_from_slice);
    v1::JoinResponse { genesis, epoch, enrolment, entries: Vec::new(), peers: Vec::new() }.encode_to_vec()
}
