//! Durable single commits over gRPC, closed loop: how many a second, and how long each waits.
//!
//! `cargo bench -p herdbook-replica --bench grpc -- [clients] [seconds]`; 64 clients and 10 seconds if not told. Each client has a connection
//! of its own, as clients of a service have.

mod support;

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use herdbook_model::{
    id::RequestKey,
    value::{Key, Scalar, Value},
};
use herdbook_proto::{
    client::Client,
    cluster::Phase,
    document::Name,
    edit::{Edit, Operation, Write},
};
use herdbook_replica::{actor::RepositoryHandle, grpc, node::Phases, peers::Peers};
use herdbook_store::RocksStore;

/// As the shipped binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SCHEMA: &str = r#"{"version": 1, "collections": {"items": {"fields": [{"name": "text", "type": "string"}]}}}"#;

/// Bytes of a document's one field.
const PAYLOAD: usize = 256;

/// Documents that are written again and again.
const DOCUMENTS: u64 = 100_000;

fn main() {
    // Cargo passes `--bench`; what is no number is not for us.
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (clients, seconds) = (numbers.next().unwrap_or(64), numbers.next().unwrap_or(10));
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    actix_rt::System::with_tokio_rt(runtime).block_on(measure(clients, Duration::from_secs(seconds)));
}

async fn measure(clients: u64, length: Duration) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = RocksStore::open(folder.path().join("store"), &herdbook_store::Settings::default()).expect("a fresh store opens");
    let handle = RepositoryHandle::start(support::repository(store, SCHEMA));
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.set_nonblocking(true).expect("a listener can be told");
    let address = listener.local_addr().expect("it is bound").to_string();
    let router = grpc::router(&handle, Arc::new(Peers::default()), Phases::new(Phase::Serving)).await;
    tokio::spawn(router.serve_with_incoming(grpc::incoming(listener).expect("it listens")));

    let began = Instant::now();
    let mut tasks = Vec::new();
    for number in 0..clients {
        let client = Client::connect(&[&address]).await.expect("the server answers");
        tasks.push(tokio::spawn(closed_loop(client, number, began + length)));
    }
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("a client ends"));
    }
    let took = began.elapsed();
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!(
        "{} durable commits of one edit from {clients} clients in {took:.1?}: {:.0}/s; p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        waits.len(),
        waits.len() as f64 / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

/// Commits one after another until `end`; returns how long each took.
async fn closed_loop(client: Client, number: u64, end: Instant) -> Vec<Duration> {
    let mut waits = Vec::new();
    let (mut random, text) = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, "x".repeat(PAYLOAD));
    while Instant::now() < end {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut key = [0; 16];
        key[..8].copy_from_slice(&number.to_le_bytes());
        key[8..].copy_from_slice(&(waits.len() as u64).to_le_bytes());
        let name = Name { collection: "items".into(), key: Key::new(format!("item-{:06}", random % DOCUMENTS)).expect("short") };
        let operation = Operation::Put(vec![("text".into(), Value::Scalar(Scalar::from(text.as_str())))]);
        let began = Instant::now();
        client.commit(Write::new(RequestKey(key), vec![Edit { name, operation }])).await.expect("it commits");
        waits.push(began.elapsed());
    }
    waits
}
