//! Bytes and ids of one of each stored object, from fixed keys: a change of format cannot pass unseen. `FORMAT.md` explains the bytes.
//!
//! Each file of `golden/` holds the object's bytes in hex and, where it has a name, the name. `HERDBOOK_GOLDEN=write` writes them anew:
//! to be done only together with a change of `FORMAT.md`.

use std::{fs, path::Path};

use herdbook_model::{
    authority::{AuthorityCertificate, Entry, Kind, Lost, RequestRef, Role, SchemaAction, SessionCertificate, Void},
    blob::{Builder, Owner, Part},
    chunk::{Kind as ChunkKind, Verified},
    codec::Encode as _,
    commit::chain,
    document::{Document, Field as Kept, ListSplice},
    edit::{Change, Edit, FieldEdit},
    graph,
    id::{ChainId, CommitId, EntryId, Judgement, Leaf, ReplicaId, RequestKey, StateRoot},
    json::{fields_from_json, schema_from_json},
    replace::replace,
    request::{Group, Must, Precondition, Principal, Proof, Request},
    schema::FieldId,
    testutil::{
        ANIMALS, Herd, STABLES, animal, branch, clear, create, delete, elements, entries, genesis, key, repository, schema, set,
        signing_key, update,
    },
    time::Time,
    tree::{Nodes as _, Tree, VALUE_MAX},
    value::{Float, Key, Scalar, Value},
};

/// Bytes of an object, in hex, and its name.
#[derive(Debug, PartialEq, Eq)]
struct Golden {
    file: String,
    text: String,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn golden(file: &str, bytes: &[u8], name: Option<String>) -> Golden {
    let digits = hex(bytes);
    let lines: Vec<_> = digits.as_bytes().chunks(96).map(|line| String::from_utf8_lossy(line)).collect();
    let name = name.map_or_else(String::new, |name| format!("name {name}\n"));
    Golden { file: format!("{file}.hex"), text: format!("{name}{}\n", lines.join("\n")) }
}

fn edits() -> Vec<(&'static str, Edit)> {
    let fields = [
        set(animal::NAME, "Alma"),
        set(animal::WEIGHT, Scalar::Float(Float::new(412.5))),
        set(animal::BORN, Scalar::Timestamp(1_600_000_000_000_000)),
        set(animal::SOLD, Scalar::Bool(true)),
        set(animal::LEGS, -3),
        clear(animal::EARMARK),
        elements(animal::TAGS, ["calm", "old"], ["wild"]),
        entries(animal::YIELDS, [("may", 7), ("june", 300)], ["july"]),
    ];
    vec![("edit-create", create("alma", fields)), ("edit-update", update("alma", [clear(animal::NAME)])), ("edit-delete", delete("bella"))]
}

fn authority_objects() -> Vec<Golden> {
    let (root, authority, replica) = (signing_key("root"), signing_key("authority"), signing_key("replica"));
    let certificate = AuthorityCertificate::sign(repository(), authority.verifying_key().to_bytes(), (1, 300), &root);
    let session = SessionCertificate::sign(repository(), &signing_key("session"), Time::from_millis(1_700_000_000_123), &replica);
    let member = ReplicaId(replica.verifying_key().to_bytes());
    let request = RequestRef { commit: CommitId([4; 32]), request: 200 };
    let kinds = [
        ("entry-epoch", Kind::Epoch { certificate: certificate.clone() }),
        ("entry-schema", Kind::Schema { branch: branch(), action: SchemaAction::Start { from: None, schema: schema() } }),
        ("entry-enrol", Kind::Enrol { replica: member, name: "alice".to_owned(), role: Role::Replica }),
        (
            "entry-head",
            Kind::Head {
                branch: branch(),
                heads: vec![CommitId([1; 32]), CommitId([2; 32])],
                root: Some(StateRoot([9; 32])),
                voids: vec![Void { request, reason: "no access".to_owned() }],
            },
        ),
        ("entry-migration", Kind::Migration { branch: branch(), heads: vec![CommitId([1; 32])], source: EntryId([5; 32]) }),
        ("entry-promote", Kind::Schema { branch: branch(), action: SchemaAction::Promote }),
        ("entry-abandon", Kind::Schema { branch: branch(), action: SchemaAction::Abandon }),
        ("entry-revoke", Kind::Revoke { replica: member }),
        (
            "entry-restore",
            Kind::Restore { reporters: vec![member], lost: vec![Lost { request, documents: vec!["animals/alma".to_owned()] }] },
        ),
        ("entry-fork", Kind::Fork { chain: ChainId([6; 16]), counter: 300, stands: CommitId([1; 32]) }),
        (
            "entry-branch",
            Kind::Schema {
                branch: branch(),
                action: SchemaAction::Branch { from: branch(), heads: vec![CommitId([1; 32]), CommitId([2; 32])] },
            },
        ),
        ("entry-horizon", Kind::Horizon { branch: branch(), heads: vec![CommitId([1; 32]), CommitId([2; 32])], root: StateRoot([5; 32]) }),
    ];
    let mut previous = None;
    let mut objects = vec![
        golden("genesis", &genesis().to_bytes(), Some(repository().to_string())),
        golden("authority-certificate", &certificate.to_bytes(), None),
        golden("session-certificate", &session.to_bytes(), None),
    ];
    for (seq, (file, kind)) in (0..).zip(kinds) {
        let entry = Entry::sign(repository(), (1, seq, previous), Time::from_millis(1_700_000_000_000 + seq), kind, &authority);
        previous = Some(entry.id());
        objects.push(golden(file, &entry.to_bytes(), Some(entry.id().to_string())));
    }
    objects
}

fn commit_objects() -> Vec<Golden> {
    let edits = edits();
    let mut objects: Vec<_> = edits.iter().map(|(file, edit)| golden(file, &edit.to_bytes(), None)).collect();
    let group = Group { collection: ANIMALS, salt: [0xaa; 16], edits: edits.into_iter().map(|(_, edit)| edit).collect() };
    objects.push(golden("group", &group.to_bytes(), Some(group.leaf().to_string())));
    let stables = Group { collection: STABLES, salt: [0xbb; 16], edits: vec![delete("north")] };
    let must = [Must::Exist, Must::BeAbsent, Must::BeAt(Leaf([8; 32]))];
    let request = Request {
        key: RequestKey([0x11; 16]),
        principal: Principal { name: "ada@example.org".to_owned(), proof: Proof::Session },
        preconditions: must.map(|must| Precondition { collection: ANIMALS, key: key("alma"), must }).into(),
        groups: vec![group, stables],
    };
    objects.push(golden("request", &request.to_bytes(), Some(request.leaf().to_string())));

    let mut herd = Herd::new(3);
    let [first, other, third] = [0, 1, 2].map(|who| {
        let mut header = herd.replicas[who].header(Time::from_millis(1_700_000_000_000 + who as u64));
        header.message = "first".to_owned();
        let delivery = herd.replicas[who].sign(header, vec![request.clone()]);
        herd.replicas[who].receive(&delivery).expect("it fits");
        delivery
    });
    herd.converge();
    let second = herd.replicas[0].commit_requests(Time::from_millis(1_700_000_000_010), vec![]);
    for (file, delivery) in [("commit-first", &first), ("commit-on-three", &second)] {
        objects.push(golden(file, &delivery.commit.to_bytes(), Some(delivery.commit.id().to_string())));
    }
    let session = first.commit.header().session;
    objects.push(golden("chain", chain(&session, &branch()).as_bytes(), None));
    let replica = &mut herd.replicas[0];
    objects.push(golden("vector", &replica.frontier().vector().to_bytes(), None));
    let mut heads = [other.commit.id(), third.commit.id()];
    heads.sort_unstable();
    let frontier = graph::name(&branch(), &heads);
    objects.push(golden("frontier", &heads.map(|head| head.0).concat(), Some(frontier.to_string())));
    let state = graph::state_name(frontier, Judgement([6; 32]));
    objects.push(golden("state", &[frontier.0, [6; 32]].concat(), Some(state.to_string())));

    let merged = replica.document(ANIMALS, "alma").expect("there");
    objects.push(golden("document-conflict", &merged.to_bytes(), None));
    let mut alone = herd.replicas[0].clone();
    alone.commit(
        Time::from_millis(1_700_000_000_020),
        [(ANIMALS, create("cora", [set(animal::NAME, "Cora"), elements(animal::TAGS, ["calm"], [])]))],
    );
    objects.push(golden("document-plain", &alone.document(ANIMALS, "cora").expect("there").to_bytes(), None));
    alone.commit(Time::from_millis(1_700_000_000_030), [(ANIMALS, delete("cora"))]);
    objects.push(golden("document-deleted", &alone.document(ANIMALS, "cora").expect("there").to_bytes(), None));
    for at in 0..160 {
        alone.commit(Time::from_millis(1_700_000_000_040), [(ANIMALS, update(&format!("dora/{at}"), [set(animal::NAME, "Dora")]))]);
    }
    alone.fold();
    let tree = alone.state().trees()[&ANIMALS].documents;
    let node = alone.nodes().node(&tree.root()).expect("there");
    objects.push(golden("tree", &tree.to_bytes(), None));
    objects.push(golden("node-inner", node.chunk().bytes(), Some(node.id().to_string())));
    let leaf = alone.nodes().node(&node.child(0).id).expect("there");
    objects.push(golden("node-leaf", leaf.chunk().bytes(), Some(leaf.id().to_string())));
    let root = alone.state().root().expect("folded");
    objects.push(golden("root", &root.0, None));
    objects
}

/// A leaf with a value in it, one in a chunk and one in parts, and the list of those parts.
fn value_objects() -> Vec<Golden> {
    let values = [("alma", vec![7; 3]), ("bella", vec![7; 5_000]), ("cora", vec![7; VALUE_MAX + 1])];
    let added = Tree::build(values).expect("sorted").added;
    let of = |file: &str, kind: ChunkKind| {
        let chunk = added.iter().find(|chunk| chunk.kind() == kind).expect("there");
        golden(file, chunk.bytes(), Some(chunk.id().to_string()))
    };
    vec![of("node-leaf-far", ChunkKind::Leaf), of("parts", ChunkKind::Parts)]
}

/// A schema, an edit and documents of every type and policy that the tests' schema lacks.
fn kind_objects() -> Vec<Golden> {
    let fields = r#"[
        {"name": "body", "type": "text"}, {"name": "items", "type": "list<string>"}, {"name": "hits", "type": "counter"},
        {"name": "nested", "type": "map<map<int>>", "policy": "strict"}, {"name": "high", "type": "decimal", "policy": "max"},
        {"name": "mixed", "type": "int|string|list<int>|map<int>", "policy": "strict"}, {"name": "photo", "type": "bytes"},
        {"name": "friend", "type": "reference<notes>"}, {"name": "sets", "type": "set<list<optional<int>>>"},
        {"name": "whole", "type": "atomic<map<int>>", "policy": "custom:longest"}, {"name": "late", "type": "int", "clears": "earlier"},
        {"name": "tallies", "type": "map<counter>"}]"#;
    let text = format!(r#"{{"version": 1, "collections": {{"notes": {{"deletes": "conflict", "fields": {fields}}}}}}}"#);
    let schema = std::sync::Arc::new(schema_from_json(&text).expect("a valid schema"));
    let notes = &schema.collections[0];
    let changes = |kept: Option<&Document>, json: serde_json::Value| -> Vec<FieldEdit> {
        let wanted = fields_from_json(notes, &json).expect("it fits").into_iter();
        let edit = |(id, value): (FieldId, Option<Value>)| {
            let field = notes.by_id(id).expect("there");
            let kept = kept.and_then(|kept| kept.field(id));
            Some(FieldEdit { field: id, change: replace(field, kept, value.as_ref())? })
        };
        wanted.filter_map(edit).collect()
    };
    let first = create(
        "first",
        changes(
            None,
            serde_json::json!({
                "body": "hello world", "items": ["a", "b", "c"], "hits": 3, "nested": {"x": {"y": 1}}, "high": "12.50", "mixed": 1,
                "photo": "00ff10", "friend": "second", "sets": [[1, null]], "whole": {"z": 9}, "late": 5, "tallies": {"may": 2}
            }),
        ),
    );
    let mut herd = Herd::under(2, schema.clone());
    herd.commit(0, [(notes.id, first.clone())]);
    herd.converge();
    let kept = herd.replicas[0].document(notes.id, "first").expect("there");
    let Some(Kept::List(list)) = kept.field(FieldId(2)) else { panic!("a list") };
    let mut one = changes(Some(&kept), serde_json::json!({"body": "hello, wide world", "nested": null, "mixed": "two", "late": null}));
    let splices = [ListSplice::Move { from: 2, to: 0 }, ListSplice::Set { at: 1, value: "B".into() }];
    one.push(FieldEdit { field: FieldId(2), change: Change::List(list.splice(&splices).expect("in it").into()) });
    let one = update("first", one);
    let other =
        changes(Some(&kept), serde_json::json!({"body": "help", "nested": {"x": {"y": 2}}, "mixed": {"k": 1}, "hits": 10, "items": ["a"]}));
    herd.commit(0, [(notes.id, one.clone())]);
    herd.commit(1, [(notes.id, update("first", other))]);
    herd.commit(1, [(notes.id, update("first", [clear(FieldId(3)), set(FieldId(10), Value::Map([("z".into(), 8.into())].into()))]))]);
    herd.commit(1, [(notes.id, delete("first"))]);
    herd.converge();
    let merged = herd.replicas[0].document(notes.id, "first").expect("there");
    vec![
        golden("schema-types", &schema.to_bytes(), Some(schema.id().to_string())),
        golden("edit-create-types", &first.to_bytes(), None),
        golden("edit-update-types", &one.to_bytes(), None),
        golden("document-types", &kept.to_bytes(), None),
        golden("document-types-merged", &merged.to_bytes(), None),
    ]
}

/// A schema with a blob, a document that refers to one, and a blob's list of parts; the root tells where content is cut.
fn blob_objects() -> Vec<Golden> {
    let text = r#"{"version": 1, "collections": {"notes": {"fields": [
        {"name": "photo", "type": "blob"}, {"name": "phone", "type": "erasable<string>"}]}}}"#;
    let schema = std::sync::Arc::new(schema_from_json(text).expect("a valid schema"));
    // Bytes without a pattern, the same everywhere.
    let content: Vec<u8> = (0u32..20_000).flat_map(|at| blake3::hash(&at.to_le_bytes()).as_bytes().to_owned()).collect();
    let (mut builder, mut parts) = (Builder::default(), Vec::new());
    builder.push(&content, &mut parts).expect("short");
    let blob = builder.finish(&mut parts);
    let list = parts.pop().expect("the root comes last");
    let (notes, photo) = (schema.collections[0].id, FieldId(1));
    let owner = Owner { collection: notes, key: Key::new("first").expect("short"), field: FieldId(2) };
    let value = Part::of_value(&[7; 16], &owner, &Scalar::from("0170 1234567"));
    let mut herd = Herd::under(1, schema.clone());
    herd.commit(0, [(notes, create("first", [set(photo, Scalar::Blob(blob))]))]);
    let document = herd.replicas[0].document(notes, "first").expect("there");
    vec![
        golden("schema-blobs", &schema.to_bytes(), Some(schema.id().to_string())),
        golden("document-blob", &document.to_bytes(), Some(blob.to_string())),
        golden("blob-list", &list.bytes, Some(list.id.to_string())),
        golden("erasable-part", &value.bytes, Some(value.id.to_string())),
    ]
}

fn objects() -> Vec<Golden> {
    let value = Verified::new(ChunkKind::Value, b"a value").expect("short");
    let mut objects = vec![
        golden("chunk", value.bytes(), Some(value.id().to_string())),
        golden("schema", &schema().to_bytes(), Some(schema().id().to_string())),
    ];
    objects.extend(value_objects());
    objects.extend(kind_objects());
    objects.extend(blob_objects());
    objects.extend(commit_objects());
    objects.extend(authority_objects());
    objects
}

#[test]
fn every_object_has_its_golden_bytes_and_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let objects = objects();
    if std::env::var("HERDBOOK_GOLDEN").is_ok_and(|wish| wish == "write") {
        fs::create_dir_all(&folder).expect("writable");
        objects.iter().for_each(|Golden { file, text }| fs::write(folder.join(file), text).expect("writable"));
    }
    for object in &objects {
        let text = fs::read_to_string(folder.join(&object.file)).unwrap_or_else(|error| panic!("{}: {error}", object.file));
        assert_eq!(object.text, text, "{}", object.file);
    }
    let files = fs::read_dir(&folder).expect("the folder of this test").count();
    assert_eq!(files, objects.len(), "a file that no object belongs to");
}
