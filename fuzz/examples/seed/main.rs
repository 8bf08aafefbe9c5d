//! Writes the part of the kept corpus that follows from golden vectors and builders: `cargo run -p herdbook-fuzz --example seed`. What
//! fuzzing found beside it stays (`scripts/fuzz.sh merge`).

mod wire;

use std::{fs, path::Path};

use herdbook_model::{
    authority::{Lost, RequestRef},
    codec::{Decode as _, Encode as _, Writer},
    commit::{Commit, Header},
    id::{BranchName, CommitId, Judgement},
    testutil::genesis,
    value::{Decimal, Float, Scalar, Value},
};
use herdbook_proto::{
    token::{Anchor, Token},
    v1,
};
use herdbook_store::{RocksStore, Settings};
use prost::Message as _;

/// Golden vectors by the beginning of their names, and the target that reads them. The longest beginning counts.
const GOLDEN: [(&str, &str); 20] = [
    ("authority-certificate", "authority-certificate"),
    ("chunk", "chunk"),
    ("commit-", "commit"),
    ("document-", "document"),
    ("edit-", "edit"),
    ("entry-", "entry"),
    ("genesis", "genesis"),
    ("group", "group"),
    ("node-", "chunk"),
    ("parts", "chunk"),
    ("request", "request"),
    ("schema", "schema"),
    ("session-certificate", "session-certificate"),
    ("tree", "tree"),
    ("vector", "vector"),
    ("node-", "node"),
    ("parts", "parts"),
    ("commit-", "stored-commit"),
    ("commit-", "frame-commits"),
    ("entry-", "frame-entries"),
];

/// Bytes of a chunk before its payload.
const HEADER: usize = 6;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = root.join("corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("it can be made");
        fs::write(folder.join(name), bytes).expect("it can be written");
    };
    for file in fs::read_dir(root.join("../model/tests/golden")).expect("there") {
        let path = file.expect("readable").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("ASCII").to_owned();
        let bytes = golden(&fs::read_to_string(&path).expect("text"));
        for (_, target) in GOLDEN.iter().filter(|(beginning, _)| name.starts_with(beginning)) {
            let seed = match *target {
                "node" | "parts" => bytes[HEADER..].to_vec(),
                "stored-commit" => stored(&bytes),
                "frame-commits" => parcels(&bytes),
                "frame-entries" => listed(&bytes),
                _ => bytes.clone(),
            };
            write(target, &name, &seed);
        }
    }
    let lost = Lost {
        request: RequestRef { commit: CommitId([4; 32]), request: 200 },
        documents: vec!["animals/alma".to_owned(), "é".to_owned()],
    };
    write("lost", "two", &lost.to_bytes());
    let scalars = [
        Scalar::from("é"),
        Scalar::Bool(true),
        Scalar::Int(-300),
        Scalar::Float(Float::new(-1.5)),
        Scalar::Timestamp(7),
        Scalar::Decimal(Decimal::new(-12_345, 2).expect("short")),
    ];
    for (number, scalar) in scalars.into_iter().enumerate() {
        write("scalar", &number.to_string(), &scalar.to_bytes());
        write("value", &number.to_string(), &Value::Scalar(scalar.clone()).to_bytes());
        write("value", &format!("set-{number}"), &Value::Set([Value::Scalar(scalar)].into()).to_bytes());
    }
    write("schema-json", "all", include_bytes!("schema.json"));
    write("steps-json", "all", include_bytes!("steps.json"));

    write("stored-checkpoint", "three", &[3, 0, 1, 0, 5, 9, 200, 1]);
    write("stored-key", "number", b"c\0\0\0\x07");
    write("stored-key", "edit", &[b"k\0\x01alma\0".as_slice(), &[0; 8], &[7; 32], &[0; 4]].concat());
    write("stored-key", "time", &[b"tmain@1\0".as_slice(), &[0; 8], &[7; 32]].concat());
    write("stored-marker", "slot", &marker());
    let (branch, heads) = (BranchName::new("main@1").expect("valid"), vec![CommitId([1; 32]), CommitId([2; 32])]);
    let mut base = Writer::default();
    branch.encode(&mut base);
    base.list(heads.iter());
    base.raw(&[0; 33]);
    write("stored-base", "empty", base.as_bytes());
    let mut materialised = Writer::default();
    materialised.raw(&[3; 32]);
    materialised.list(heads.iter());
    materialised.raw(&[0; 33]);
    write("stored-materialised", "empty", materialised.as_bytes());
    write("token-places", "time", &[[0xff, 1].as_slice(), &[7; 32]].concat());
    write("token-places", "key", b"alma");

    let token = Token { anchor: Anchor { branch, heads, judgement: Judgement::NONE }, after: b"berlin".to_vec() };
    let token = token.to_wire().expect("two heads fit");
    write("token", "two-heads", &token[..token.len() - 4]);
    let vector = |name: &str| golden(&fs::read_to_string(root.join("../model/tests/golden").join(name)).expect("there"));
    write("frame-commits", "columns", &wire::columns(&vector("commit-first.hex")));
    let mut chunks = Writer::default();
    chunks.count(0);
    write("frame-chunks", "none", chunks.as_bytes());
    write("response-join", "new", &wire::joined(&vector("genesis.hex"), &vector("entry-epoch.hex"), &vector("entry-enrol.hex")));
    for (target, name, bytes) in wire::calls(&token) {
        write(target, name, &bytes);
    }
    for (name, message) in wire::frames() {
        write("frame", name, &v1::Frame { message: Some(message) }.encode_to_vec());
    }
}

/// Reads the hexadecimal digits of a golden vector; a first line may tell its name.
fn golden(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with("name ")).collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// A commit as stored where it grows from nothing and its leaves are not told.
fn stored(commit: &[u8]) -> Vec<u8> {
    [&[0, 1, 0, 1, 0], commit].concat()
}

fn listed(entry: &[u8]) -> Vec<u8> {
    [&[1], entry].concat()
}

/// A commit as it travels, told in full, as one of the same origin, and with one that follows it on its chain; all without certificate and
/// requests.
fn parcels(commit: &[u8]) -> Vec<u8> {
    let commit = Commit::from_bytes(commit).expect("a golden vector");
    let Header { repository, branch, schema, parents, session, counter, previous, time, requests, request_count, message } =
        commit.header();
    let mut out = Writer::default();
    // No columns.
    out.count(0);
    out.count(3);
    for marks in [0, 1] {
        out.byte(marks);
        out.raw(commit.signature());
        if marks == 0 {
            repository.encode(&mut out);
            branch.encode(&mut out);
            schema.encode(&mut out);
            session.encode(&mut out);
        }
        out.uint(*counter);
        if let Some(previous) = previous {
            previous.encode(&mut out);
        }
        time.encode(&mut out);
        out.list(parents.iter());
        requests.encode(&mut out);
        out.uint((*request_count).into());
        out.text(message);
        out.count(0);
    }
    out.byte(15);
    out.raw(commit.signature());
    out.uint(1);
    out.text("");
    out.count(0);
    out.into_bytes()
}

/// A slot of a marker, as a store of its own wrote it.
fn marker() -> Vec<u8> {
    let folder = std::env::temp_dir().join(format!("herdbook-fuzz-seed-{}", genesis().id()));
    drop(RocksStore::open(folder.clone(), &Settings::default()).expect("a fresh store opens"));
    let bytes = fs::read(folder.join("MARKER")).expect("it has a marker");
    fs::remove_dir_all(&folder).expect("it is there");
    bytes[..40].to_vec()
}
