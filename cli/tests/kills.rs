//! Members of a cluster are killed (SIGKILL) at random instants while clients write: what was acknowledged as durable is there afterwards,
//! once, on every member.
//!
//! A coordinator and two replicas run as processes of their own. Clients repeat a request under its idempotency key until it is acknowledged,
//! so that in the end every request was. SIGKILL takes the process and leaves the operating system: that a power cut loses nothing either is
//! the store's own test.
//!
//! Two hundred kills by default. A longer run:
//!
//! ```sh
//! HERDBOOK_TEST_KILLS=1000 cargo nextest run -p herdbook --test kills --no-capture
//! ```
//!
//! `HERDBOOK_TEST_SEED` chooses other instants and victims.

mod support;

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use herdbook_loadtest::{
    node::{RequestKeys, name},
    workload::{Rng, client_rng},
};
use herdbook_model::{
    authority::Position,
    id::{CommitId, RequestKey},
    value::{Scalar, Value},
};
use herdbook_proto::{
    ack::Level,
    client::Client,
    cluster::Phase,
    document::{Name, Place},
    edit::{Edit, Operation, Write},
    history::{Fate, Log},
    limits,
    read::BatchGet,
    status::{Failed, Kind},
};
use parking_lot::Mutex;
use support::{command, file, herdbook};
use tempfile::TempDir;

/// The coordinator is member 0, the replicas follow.
const MEMBERS: usize = 3;

/// Clients that write to one member.
const WRITERS: usize = 3;

/// Documents that a client writes one at a time, and pairs that it writes together.
const SINGLES: u64 = 4;
const PAIRS: u64 = 2;

/// Longest time from one kill to the next, in milliseconds.
const PAUSE_MILLIS: u64 = 300;

/// Fewest acknowledgements for each kill: with fewer, members were not killed under load.
const LEAST: usize = 20;

/// Longest wait for a member to serve, for a client to be answered, and for all members to be level: far above what it takes.
const PATIENCE: Duration = Duration::from_secs(120);

const COLLECTION: &str = "ledger";

const SCHEMA: &str = r#"{"version": 1, "collections": {"ledger": {"fields": [{"name": "number", "type": "int"}]}}}"#;

/// The processes, each with a folder of its own. Dropped, they are killed.
struct Herd {
    folder: TempDir,
    ports: Vec<u16>,
    processes: Vec<Option<Child>>,
}

impl Herd {
    /// Starts all members and waits until they serve.
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        file(folder.path(), "schema.json", SCHEMA);
        file(folder.path(), "token", "a-token-of-the-test\n");
        let mut herd = Self { folder, ports: free_ports(), processes: (0..MEMBERS).map(|_| None).collect() };
        for member in 0..MEMBERS {
            herd.launch(member);
            herd.serving(member).await;
        }
        herd
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn address(&self, member: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[member])
    }

    /// Starts a member on its folder. Does not wait: it may be killed before it serves.
    fn launch(&mut self, member: usize) {
        let mut command = command(&[if member == 0 { "coordinator" } else { "replica" }]);
        command.arg("--data").arg(self.path(&title(member))).args(["--listen", &format!("127.0.0.1:{}", self.ports[member])]);
        if member == 0 {
            command.arg("--keys").arg(self.path("keys")).arg("--schema").arg(self.path("schema.json"));
            command.arg("--join-token-file").arg(self.path("token")).arg("--join-token-reusable");
        } else {
            command.args(["--coordinator", &self.address(0), "--peer", &self.address(MEMBERS - member)]);
            command.arg("--token-file").arg(self.path("token"));
        }
        let log = File::options().append(true).create(true).open(self.log(member)).expect("the folder is writable");
        let process = command.stdout(Stdio::null()).stderr(log).spawn().expect("the binary starts");
        self.processes[member] = Some(process);
    }

    fn log(&self, member: usize) -> PathBuf {
        self.path(&format!("{}.log", title(member)))
    }

    /// Kills a member without a word and waits until it is gone.
    fn kill(&mut self, member: usize) {
        self.still_run();
        let mut process = self.processes[member].take().expect("it runs");
        process.kill().expect("it is ours");
        process.wait().expect("it is ours");
    }

    /// Fails if a member ended by itself.
    fn still_run(&mut self) {
        for member in 0..MEMBERS {
            let ended = self.processes[member].as_mut().and_then(|process| process.try_wait().expect("it is ours"));
            assert_eq!(ended, None, "{} ended by itself: {}", title(member), self.tell(member));
        }
    }

    /// Returns the last lines of a member's log.
    fn tell(&self, member: usize) -> String {
        let text = std::fs::read_to_string(self.log(member)).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Returns a client of a member once it serves.
    async fn serving(&self, member: usize) -> Client {
        let begun = Instant::now();
        loop {
            let found = match Client::connect(&[self.address(member)]).await {
                Ok(client) => client.status().await.map(|status| (client, status.phase)),
                Err(failed) => Err(failed),
            };
            match found {
                Ok((client, Phase::Serving)) => return client,
                other if begun.elapsed() > PATIENCE => panic!("{} does not serve: {other:?}\n{}", title(member), self.tell(member)),
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until all members are at one state with one root.
    async fn level(&self, clients: &[Client]) {
        let begun = Instant::now();
        loop {
            let mut heads = Vec::new();
            for client in clients {
                let found = client.heads().await.expect("it answers");
                let one = found.iter().map(|head| (head.branch.clone(), head.state, head.root)).collect::<Vec<_>>();
                heads.push(one);
            }
            let is_known = heads[0].iter().all(|(_, _, root)| root.is_some()) && !heads[0].is_empty();
            if is_known && heads.iter().all(|of_one| *of_one == heads[0]) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "the members do not agree: {heads:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Herd {
    fn drop(&mut self) {
        for process in self.processes.iter_mut().flatten() {
            // One that has ended needs no killing.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn title(member: usize) -> String {
    if member == 0 { "coordinator".to_owned() } else { format!("replica-{member}") }
}

/// Returns free ports below those that the system gives to outgoing connections: one of these could take a port while its member is down.
fn free_ports() -> Vec<u16> {
    let start = 20_000 + u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    (start..32_000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(MEMBERS).collect()
}

/// A request and where its acknowledgement says it is.
struct Acknowledged {
    key: RequestKey,
    commit: CommitId,
    place: u32,
    names: Vec<Name>,
    number: i64,
}

/// What all clients count together.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicU64,
    /// Calls that a kill cut off, or that found nobody.
    broken: AtomicU64,
    /// Requests that had been written although their first call was cut off.
    repeated: AtomicU64,
}

/// A client that writes documents of its own to one member.
struct Writer {
    client: Client,
    title: String,
    rng: Rng,
    keys: Arc<RequestKeys>,
    tally: Arc<Tally>,
}

impl Writer {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Vec<Acknowledged> {
        let mut acknowledged = Vec::new();
        for number in 1.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            acknowledged.push(self.write(number).await);
        }
        acknowledged
    }

    /// Writes one request, again and again until it is acknowledged.
    async fn write(&mut self, number: i64) -> Acknowledged {
        let names = match self.rng.below(SINGLES + PAIRS) {
            single if single < SINGLES => vec![name(COLLECTION, &format!("{}/{single}", self.title))],
            pair => ["left", "right"].map(|side| name(COLLECTION, &format!("{}/{pair}/{side}", self.title))).to_vec(),
        };
        let operation = Operation::Put(vec![("number".into(), Value::Scalar(Scalar::Int(number)))]);
        let edits = names.iter().map(|name| Edit { name: name.clone(), operation: operation.clone() }).collect();
        let write = Write::new(self.keys.draw(), edits);
        let key = write.request.expect("it has one");
        let begun = Instant::now();
        loop {
            match self.client.commit(write.clone()).await {
                Ok(ack) => {
                    assert_eq!(ack.local, Level::Durable, "what was asked for");
                    self.tally.acknowledged.fetch_add(1, Ordering::Relaxed);
                    self.tally.repeated.fetch_add(u64::from(ack.repeated), Ordering::Relaxed);
                    return Acknowledged { key, commit: ack.commit, place: ack.request, names, number };
                }
                Err(failed) => {
                    assert!(is_passing(&failed), "{} gets {failed:?}", self.title);
                    assert!(begun.elapsed() < PATIENCE, "{} gets no answer: {failed:?}", self.title);
                    self.tally.broken.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }
}

/// Whether a failure says that the member is away or busy; without a reason it is the transport's.
fn is_passing(failed: &Failed) -> bool {
    failed.reason.is_empty() || matches!(failed.kind, Kind::Unavailable | Kind::Unknown | Kind::Exhausted)
}

/// Asks a member for its place in the head log until told to stop. Law: (epoch, seq) never falls, whatever is killed, and two members never
/// tell different entries for one seq of an epoch.
async fn watch(address: String, stop: Arc<AtomicBool>, told: Arc<Mutex<BTreeMap<(u64, u64), Position>>>) -> usize {
    let (mut last, mut asked) = (None, 0);
    while !stop.load(Ordering::Relaxed) {
        let status = match Client::connect(&[&address]).await {
            Ok(client) => client.with_deadline(Duration::from_secs(5)).status().await.ok(),
            Err(_) => None,
        };
        if let Some(at) = status.and_then(|status| status.log) {
            asked += 1;
            let place = (at.epoch, at.seq);
            assert!(last.is_none_or(|last| last <= place), "{address} was at {last:?} and fell back to {place:?}");
            assert_eq!(told.lock().entry(place).or_insert(at).id, at.id, "{address} has another entry at {place:?}");
            last = Some(place);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    asked
}

/// Where each request is: key → commit and place, every time it occurs.
async fn requests_of(client: &Client) -> HashMap<RequestKey, Vec<(CommitId, u32)>> {
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    let mut log = Log { page_size: limits::PAGE, ..Log::of(Place::NEWEST) };
    loop {
        let page = client.log(log.clone()).await.expect("it answers");
        for commit in page.commits {
            let shown = client.show(commit.id).await.expect("it is in the log");
            assert_eq!(shown.left_out, 0, "commits of the test are short");
            for request in shown.requests {
                assert_eq!(request.fate, Fate::Stands, "{:?}", commit.id);
                let body = request.body.expect("it stands");
                found.entry(body.key).or_default().push((commit.id, request.place));
            }
        }
        if page.next.is_empty() {
            return found;
        }
        log.page_token = page.next;
    }
}

/// Returns the number that each of `names` holds.
async fn numbers_of(client: &Client, names: &[Name]) -> BTreeMap<Name, i64> {
    let mut numbers = BTreeMap::new();
    for some in names.chunks(50) {
        let batch = client.batch_get(BatchGet { place: Place::NEWEST, names: some.to_vec() }).await.expect("it answers");
        assert!(batch.left_out.is_empty(), "documents of the test are short");
        for document in batch.documents {
            let number = match document.fields.get("number") {
                Some(Value::Scalar(Scalar::Int(number))) => *number,
                other => panic!("{} holds {other:?}", document.name),
            };
            numbers.insert(document.name, number);
        }
    }
    numbers
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_acknowledged_survives_kills_of_any_member() {
    let (kills, seed) = (setting("HERDBOOK_TEST_KILLS", 200), setting("HERDBOOK_TEST_SEED", 1));
    let mut herd = Herd::start().await;
    let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let (keys, tally) = (Arc::new(RequestKeys::new().expect("random")), Arc::new(Tally::default()));
    let (mut writers, mut watches) = (Vec::new(), Vec::new());
    for member in 0..MEMBERS {
        watches.push(tokio::spawn(watch(herd.address(member), Arc::clone(&stop), Arc::clone(&told))));
        for number in 0..WRITERS {
            let client = herd.serving(member).await.with_deadline(Duration::from_secs(10));
            let rng = client_rng((member * WRITERS + number) as u64, seed);
            let title = format!("{}/{number}", title(member));
            let writer = Writer { client, title, rng, keys: Arc::clone(&keys), tally: Arc::clone(&tally) };
            writers.push(tokio::spawn(writer.run(Arc::clone(&stop))));
        }
    }

    let mut rng = Rng::new(seed);
    let (mut killed, begun) = ([0; MEMBERS], Instant::now());
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(rng.below(PAUSE_MILLIS))).await;
        let member = rng.index(MEMBERS);
        herd.kill(member);
        herd.launch(member);
        killed[member] += 1;
    }
    let under_load = begun.elapsed();

    stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("a client gets what it was promised"));
    }
    let mut asked = 0;
    for watch in watches {
        asked += watch.await.expect("no head falls back");
    }
    herd.still_run();
    let mut clients = Vec::new();
    for member in 0..MEMBERS {
        clients.push(herd.serving(member).await);
    }
    let begun = Instant::now();
    herd.level(&clients).await;
    let [count, broken, repeated] = [&tally.acknowledged, &tally.broken, &tally.repeated].map(|count| count.load(Ordering::Relaxed));
    println!(
        "seed {seed}: {kills} kills {killed:?} in {:.1} s, {count} requests acknowledged, {broken} calls cut off or unanswered, {repeated} \
         acknowledged on repetition, {asked} places in the head log seen, level after {:.1} s",
        under_load.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );

    let mut last = BTreeMap::new();
    for request in &acknowledged {
        for name in &request.names {
            last.entry(name.clone()).and_modify(|last: &mut i64| *last = request.number.max(*last)).or_insert(request.number);
        }
    }
    let names: Vec<_> = last.keys().cloned().collect();
    for (member, client) in clients.iter().enumerate() {
        let found = requests_of(client).await;
        for Acknowledged { key, commit, place, names, number } in &acknowledged {
            let occurs = found.get(key).map_or(&[][..], Vec::as_slice);
            assert_eq!(occurs, [(*commit, *place)], "{}: request {number} on {names:?}", title(member));
        }
        // Every client went on until its request was acknowledged, so nothing else and nothing later can be there.
        assert_eq!(found.len(), acknowledged.len(), "{} has requests that nobody made", title(member));
        assert_eq!(numbers_of(client, &names).await, last, "{}", title(member));
    }

    drop(clients);
    for member in 0..MEMBERS {
        herd.kill(member);
        let data = herd.path(&title(member));
        println!("{}: {}", title(member), herdbook(&["fsck", "--data", data.to_str().expect("UTF-8")]).done().trim_end());
    }
    assert!(broken > 0, "no kill met a call: nothing was shown");
    assert!(acknowledged.len() >= LEAST * usize::try_from(kills).expect("few"), "{count} acknowledgements are too few for {kills} kills");
}
