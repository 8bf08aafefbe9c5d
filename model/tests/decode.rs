//! Whatever the bytes, a decoder answers and does not panic; and what decodes has one byte form, the one it was read from.

use herdbook_model::{
    authority::{AuthorityCertificate, Entry, Genesis, Kind, Lost, RequestRef, Role, SchemaAction, SessionCertificate, Void},
    chunk::{Kind as ChunkKind, Verified},
    codec::{Decode, Encode},
    commit::{Commit, Unverified},
    document::Document,
    edit::Edit,
    id::{ChainId, CommitId, EntryId, Leaf, ReplicaId, StateRoot},
    request::{Group, Must, Precondition, Request},
    schema::Schema,
    testutil::{
        ANIMALS, Herd, animal, branch, clear, create, delete, elements, entries, genesis, key, repository, request, schema, set,
        signing_key, update,
    },
    time::Time,
    tree::{Node, Tree, VALUE_MAX, named},
    value::{Float, Scalar, Value},
    vector::VersionVector,
};
use proptest::prelude::*;

/// Decodes, and insists that what decodes encodes to the same bytes.
fn one_form<T: Decode + Encode>(bytes: &[u8]) -> bool {
    match T::from_bytes(bytes) {
        Ok(value) => {
            assert_eq!(value.to_bytes(), bytes, "{}", std::any::type_name::<T>());
            true
        }
        Err(_) => false,
    }
}

fn node(bytes: &[u8]) -> bool {
    let [inner, leaf] = [ChunkKind::Inner, ChunkKind::Leaf];
    let decodes = |kind| Verified::new(kind, bytes).is_ok_and(|chunk| Node::decode(chunk).is_ok());
    decodes(inner) | decodes(leaf)
}

fn list(bytes: &[u8]) -> bool {
    let names = Verified::new(ChunkKind::Parts, bytes).ok().and_then(|list| named(&list).ok());
    names.is_some_and(|names| names.iter().flat_map(|name| name.0).eq(bytes.iter().copied()))
}

fn chunk(bytes: &[u8]) -> bool {
    Verified::verify(herdbook_model::chunk::hash(bytes), bytes).is_ok_and(|chunk| **chunk.bytes() == *bytes)
}

/// Whether bytes decode.
type Decoder = fn(&[u8]) -> bool;

/// Every stored or sent kind of bytes, with its decoder.
const DECODERS: [(&str, Decoder); 18] = [
    ("document", one_form::<Document>),
    ("edit", one_form::<Edit>),
    ("request", one_form::<Request>),
    ("group", one_form::<Group>),
    ("commit", one_form::<Commit<Unverified>>),
    ("entry", one_form::<Entry>),
    ("schema", one_form::<Schema>),
    ("vector", one_form::<VersionVector>),
    ("authority certificate", one_form::<AuthorityCertificate>),
    ("session certificate", one_form::<SessionCertificate>),
    ("genesis", one_form::<Genesis>),
    ("tree", one_form::<Tree>),
    ("scalar", one_form::<Scalar>),
    ("value", one_form::<Value>),
    ("lost", one_form::<Lost>),
    ("node", node),
    ("list of parts", list),
    ("chunk", chunk),
];

/// Real bytes of each kind, rich in parts.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut samples = Vec::new();
    let mut herd = Herd::new(3);
    let rich = |name: &str| {
        let fields = [
            set(animal::NAME, name),
            set(animal::WEIGHT, Scalar::Float(Float::new(-1.5))),
            set(animal::BORN, Scalar::Timestamp(-1)),
            set(animal::SOLD, Scalar::Bool(true)),
            set(animal::OWNER, name),
            elements(animal::TAGS, ["a", "b", name], []),
            entries(animal::YIELDS, [("may", 7), (name, 300)], ["july"]),
        ];
        create("alma", fields)
    };
    for (who, name) in ["ada", "bob", "eve"].into_iter().enumerate() {
        let delivery =
            herd.commit(who, [(ANIMALS, rich(name)), (ANIMALS, update("alma", [clear(animal::EARMARK)])), (ANIMALS, delete("b"))]);
        samples.push(("commit", delivery.commit.to_bytes()));
        let mut request = (**delivery.requests[0].as_ref().expect("whole")).clone();
        let must = [Must::Exist, Must::BeAbsent, Must::BeAt(Leaf([8; 32]))];
        request.preconditions = must.map(|must| Precondition { collection: ANIMALS, key: key("alma"), must }).into();
        samples.push(("request", request.to_bytes()));
        samples.push(("group", request.groups[0].to_bytes()));
        samples.extend(request.edits().map(|(_, edit)| ("edit", edit.to_bytes())));
        samples.push(("document", herd.replicas[who].document(ANIMALS, "alma").expect("there").to_bytes()));
    }
    herd.converge();
    let merged = herd.commit(0, [(ANIMALS, update("bella", [set(animal::LEGS, 3)]))]);
    samples.push(("commit", merged.commit.to_bytes()));
    let replica = &mut herd.replicas[0];
    samples.push(("document", replica.document(ANIMALS, "alma").expect("there").to_bytes()));
    replica.fold();
    let tree = replica.state().trees()[&ANIMALS].documents;
    samples.push(("tree", tree.to_bytes()));
    let reached = herdbook_model::tree::Nodes::node(replica.nodes(), &tree.root()).expect("there");
    samples.push(("node", reached.chunk().payload().to_vec()));
    let far = Tree::build([("alma", vec![7; 3]), ("bella", vec![7; 5_000]), ("cora", vec![7; VALUE_MAX + 1])]).expect("sorted");
    samples.push(("node", far.added.last().expect("its leaf").payload().to_vec()));
    let list = far.added.iter().find(|chunk| chunk.kind() == ChunkKind::Parts);
    samples.push(("list of parts", list.expect("there").payload().to_vec()));
    samples.push(("chunk", reached.chunk().bytes().to_vec()));
    samples.push(("vector", replica.frontier().vector().to_bytes()));
    samples.push(("schema", schema().to_bytes()));
    samples.push(("genesis", genesis().to_bytes()));
    samples.push(("scalar", Scalar::from("é").to_bytes()));
    let root = signing_key("root");
    let certificate = AuthorityCertificate::sign(repository(), [7; 32], (1, 300), &root);
    samples.push(("authority certificate", certificate.to_bytes()));
    let session = SessionCertificate::sign(repository(), &signing_key("session"), Time::from_millis(5), &root);
    samples.push(("session certificate", session.to_bytes()));
    let request_ref = RequestRef { commit: CommitId([4; 32]), request: 200 };
    let lost = Lost { request: request_ref, documents: vec!["animals/alma".to_owned(), "é".to_owned()] };
    samples.push(("lost", lost.to_bytes()));
    let start = |from| Kind::Schema { branch: branch(), action: SchemaAction::Start { from, schema: schema() } };
    let voids = vec![Void { request: request_ref, reason: "no access".to_owned() }];
    let heads = vec![CommitId([1; 32]), CommitId([2; 32])];
    let kinds = [
        Kind::Epoch { certificate },
        Kind::Head { branch: branch(), heads: heads.clone(), root: Some(StateRoot([9; 32])), voids },
        Kind::Head { branch: branch(), heads: Vec::new(), root: None, voids: Vec::new() },
        Kind::Enrol { replica: ReplicaId([3; 32]), name: "alice".to_owned(), role: Role::Coordinator },
        Kind::Revoke { replica: ReplicaId([3; 32]) },
        start(None),
        start(Some(branch())),
        Kind::Schema { branch: branch(), action: SchemaAction::Branch { from: branch(), heads: heads.clone() } },
        Kind::Schema { branch: branch(), action: SchemaAction::Promote },
        Kind::Schema { branch: branch(), action: SchemaAction::Abandon },
        Kind::Migration { branch: branch(), heads, source: EntryId([5; 32]) },
        Kind::Restore { reporters: vec![ReplicaId([1; 32]), ReplicaId([2; 32])], lost: vec![lost] },
        Kind::Horizon { branch: branch(), heads: vec![CommitId([1; 32])], root: StateRoot([5; 32]) },
        Kind::Fork { chain: ChainId([6; 16]), counter: 300, stands: CommitId([1; 32]) },
    ];
    for (seq, kind) in (0..).zip(kinds) {
        let previous = (seq > 0).then_some(EntryId([6; 32]));
        samples.push(("entry", Entry::sign(repository(), (2, seq, previous), Time::from_millis(9), kind, &root).to_bytes()));
    }
    samples.push(("request", request(1, []).to_bytes()));
    samples.push((
        "value",
        Value::Map([("k".into(), Value::List(vec![Value::from(1), Value::Set([Value::from("é")].into())]))].into()).to_bytes(),
    ));
    samples.extend(TYPES.map(|(kind, text)| (kind, bytes_of(text))));
    samples
}

/// Objects of every type of field, as `golden` keeps them.
const TYPES: [(&str, &str); 7] = [
    ("document", include_str!("golden/document-types.hex")),
    ("document", include_str!("golden/document-types-merged.hex")),
    ("edit", include_str!("golden/edit-create-types.hex")),
    ("edit", include_str!("golden/edit-update-types.hex")),
    ("schema", include_str!("golden/schema-types.hex")),
    ("schema", include_str!("golden/schema-blobs.hex")),
    ("document", include_str!("golden/document-blob.hex")),
];

fn bytes_of(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with("name ")).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex");
    digits.as_bytes().chunks(2).map(byte).collect()
}

fn decoder(kind: &str) -> Decoder {
    DECODERS.iter().find(|(name, _)| *name == kind).expect("every sample has a decoder").1
}

#[test]
fn real_bytes_of_every_kind_decode_and_no_shorter_or_longer_ones_do() {
    let samples = samples();
    for (kind, decode) in DECODERS {
        assert!(samples.iter().any(|(name, bytes)| *name == kind && decode(bytes)), "no sample of a {kind}");
    }
    for (kind, bytes) in samples {
        let decode = decoder(kind);
        assert!(decode(&bytes), "a {kind} of {} bytes", bytes.len());
        for len in 0..bytes.len() {
            assert!(!decode(&bytes[..len]), "a {kind} cut to {len} of {} bytes", bytes.len());
        }
        assert!(!decode(&[&bytes[..], &[0]].concat()), "a {kind} with a byte too many");
    }
}

#[test]
fn every_single_changed_byte_is_refused_or_read_back_as_it_is() {
    for (kind, bytes) in samples() {
        let decode = decoder(kind);
        for at in 0..bytes.len() {
            for bits in [0x01, 0x02, 0x04, 0x10, 0x40, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= bits;
                decode(&changed);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn prop_random_bytes_are_refused_or_read_back_as_they_are(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        for (_, decode) in DECODERS {
            decode(&bytes);
        }
    }

    #[test]
    fn prop_bytes_with_several_faults_are_refused_or_read_back_as_they_are(
        at in any::<proptest::sample::Index>(),
        faults in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3), 1..5),
    ) {
        static SAMPLES: std::sync::OnceLock<Vec<(&'static str, Vec<u8>)>> = std::sync::OnceLock::new();
        let (kind, bytes) = at.get(SAMPLES.get_or_init(samples));
        let mut bytes = bytes.clone();
        for (at, byte, fault) in faults {
            match (fault, bytes.len()) {
                (0, 1..) => { let at = at.index(bytes.len()); bytes[at] = byte; }
                (1, 1..) => { let at = at.index(bytes.len()); bytes.remove(at); }
                (_, len) => bytes.insert(at.index(len + 1), byte),
            }
        }
        decoder(kind)(&bytes);
    }
}
