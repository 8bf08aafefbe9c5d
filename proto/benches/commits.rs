//! What commits take on the wire: `cargo bench -p herdbook-proto --bench commits`.
//!
//! Messages of commits of the workload: one of 100 edits, a hundred of one, and 10,000 and 100,000 documents, a thousand a request, two requests a
//! message. Told are bytes for each edit, and how long a message takes to be made and to be read, for each edit.

use std::time::{Duration, Instant};

use herdbook_model::{
    SigningKey,
    codec::{Decode as _, Encode as _},
    commit::{Commit, Header},
    id::{BranchName, Leaf, RepositoryId, RequestKey, SchemaId, SessionId},
    request::{Group, Principal, Proof, Request},
    testutil::workload,
    time::Time,
};
use herdbook_proto::v1;
use herdbook_sync::message::{Message, Parcel, RequestBody};
use prost::Message as _;

fn main() {
    println!("{:>20} {:>10} {:>12} {:>12} {:>12}", "", "bytes", "an edit", "made in", "read in");
    row("a commit of 100", vec![commits(&(0..100).map(place).collect::<Vec<_>>(), 100)]);
    row("100 commits of 1", vec![commits(&(0..100).map(place).collect::<Vec<_>>(), 1)]);
    for documents in [10_000, 100_000u64] {
        let numbers: Vec<u64> = (0..documents).collect();
        row(&format!("{documents} documents"), numbers.chunks(2000).map(|numbers| commits(numbers, 1000)).collect());
    }
}

/// A place far from the one before, as in the workload.
fn place(at: u64) -> u64 {
    at * 48_271 % 100_000
}

/// Returns commits of `each` documents of `numbers`, one after another.
fn commits(numbers: &[u64], each: usize) -> Vec<Parcel> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let mut previous: Option<Header> = None;
    let mut parcel = |(at, numbers): (usize, &[u64])| {
        let header = Header {
            repository: RepositoryId([1; 32]),
            branch: BranchName::new("main@1").expect("well formed"),
            schema: SchemaId([2; 32]),
            parents: previous.iter().map(Header::id).collect(),
            session: SessionId([0; 32]),
            counter: at as u64 + 1,
            previous: previous.as_ref().map(Header::id),
            time: Time::from_millis(1_700_000_000_000 + 3 * at as u64),
            requests: Leaf([0; 32]),
            request_count: 0,
            message: String::new(),
        };
        let noise = |of: u64| {
            let mut random = workload::Rng::new(of << 32 ^ numbers[0] << 16 ^ at as u64);
            let mut bytes = [0; 16];
            bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.draw().to_le_bytes()));
            bytes
        };
        let mut groups: Vec<Group> = Vec::new();
        for number in numbers {
            let (collection, edit) = workload::creation(*number, 1);
            match groups.last_mut() {
                Some(group) => group.edits.push(edit),
                None => groups.push(Group { collection, salt: noise(1), edits: vec![edit] }),
            }
        }
        let principal = Principal { name: String::new(), proof: Proof::Session };
        let request = Request { key: RequestKey(noise(2)), principal, preconditions: Vec::new(), groups };
        let (commit, _) = Commit::sign(header, std::slice::from_ref(&request), &key);
        previous = Some(commit.header().clone());
        let commit = Commit::from_bytes(&commit.to_bytes()).expect("just encoded");
        Parcel { commit, certificate: None, requests: vec![RequestBody::Present(request.to_bytes())] }
    };
    numbers.chunks(each).enumerate().map(&mut parcel).collect()
}

fn row(name: &str, messages: Vec<Vec<Parcel>>) {
    let edits: usize = messages.iter().flatten().map(|parcel| edits(&parcel.requests)).sum();
    let (mut bytes, mut made, mut read) = (0, Duration::ZERO, Duration::ZERO);
    // Once to warm up, and then the quickest of three.
    for round in 0..4 {
        bytes = 0;
        let (mut made_now, mut read_now) = (Duration::ZERO, Duration::ZERO);
        for parcels in &messages {
            let message = Message::Commits(parcels.clone());
            let began = Instant::now();
            let frame = v1::Frame::try_from(message).expect("short");
            made_now += began.elapsed();
            bytes += frame.encoded_len();
            let began = Instant::now();
            let message = Message::try_from(frame).expect("just made");
            read_now += began.elapsed();
            assert_eq!(message, Message::Commits(parcels.clone()), "what arrives is what was sent");
        }
        if round < 2 {
            (made, read) = (made_now, read_now);
        }
        (made, read) = (made.min(made_now), read.min(read_now));
    }
    let each = |took: Duration| Duration::from_nanos(u64::try_from(took.as_nanos()).expect("short") / edits as u64);
    println!("{name:>20} {bytes:>10} {:>12.1} {:>12.0?} {:>12.0?}", bytes as f64 / edits as f64, each(made), each(read));
}

fn edits(requests: &[RequestBody]) -> usize {
    let of = |request: &RequestBody| match request {
        RequestBody::Present(bytes) => Request::from_bytes(bytes).expect("just encoded").len(),
        RequestBody::Absent { .. } => 0,
    };
    requests.iter().map(of).sum()
}
