//! One server and its clients in virtual time, thread by thread: those of clients and network share the cores; one thread makes commits, each of
//! all requests that wait; one writes them, all that wait at once, and waits for the disk. No clock is read and nothing is drawn by chance, so
//! that one forecast is the same each time.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use serde::{Deserialize, Serialize};

use super::Costs;
use crate::percentiles::median;

/// Requests that are simulated for each client, and at least altogether.
const REQUESTS: (usize, usize) = (20, 20_000);

/// What a closed loop of clients is forecast to get.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Clients, each of which waits for its answer.
    pub clients: usize,
    /// Requests a second.
    pub per_second: f64,
    /// Microseconds that half of them take at most.
    pub p50_micros: f64,
    /// Requests of a commit, on average.
    pub batch: f64,
    /// Part of the time that all cores are busy.
    pub busy: f64,
}

/// Commits that may be made and not yet synced: as in the server, which leaves requests waiting to share the next one.
const UNDER_WAY: usize = 2;

/// What happens at a moment of virtual time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client that has its answer, and is awake, goes on.
    Awake(usize),
    /// A core is done with a request of a client.
    Requested(usize),
    /// A core is done with making a commit.
    Made,
    /// A core is done with writing commits.
    Written,
    /// The disk has synced them.
    Synced,
    /// A core is done with what a commit's answers cost together.
    Answered(Vec<usize>),
}

/// Work that waits for a core.
#[derive(Debug)]
enum Job {
    /// So many microseconds, and what is done then.
    Network(f64, Event),
    /// To make a commit of these requests.
    Make(Commit),
    /// To write these commits.
    Write(Vec<Commit>),
}

/// The clients whose requests are in a commit.
type Commit = Vec<usize>;

#[derive(Default)]
struct Server {
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// Tells events of one moment apart.
    count: u64,
    jobs: VecDeque<Job>,
    free: usize,
    busy: u64,
    /// Requests that wait for the maker; commits that wait for the writer.
    waiting: Commit,
    made: Vec<Commit>,
    /// Commits that are made and not synced.
    under_way: usize,
    maker: Thread<Commit>,
    writer: Thread<Vec<Commit>>,
}

/// What a thread that does one thing at a time is doing.
#[derive(Debug, Default)]
enum Thread<T> {
    #[default]
    Idle,
    /// It waits for a core.
    Ready,
    Busy(T),
}

impl<T> Thread<T> {
    const fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// Ends what it did.
    fn end(&mut self) -> Option<T> {
        match std::mem::take(self) {
            Self::Busy(done) => Some(done),
            Self::Idle | Self::Ready => None,
        }
    }
}

impl Server {
    fn schedule(&mut self, after: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + after, self.count, event)));
    }

    /// Gives cores that are free what waits for them.
    fn occupy(&mut self, costs: &Costs) {
        while self.free > 0 {
            let Some(job) = self.jobs.pop_front() else { return };
            let (micros, event) = match job {
                Job::Network(micros, event) => (micros, event),
                Job::Make(commit) => {
                    let micros = costs.maker.times(commit.len());
                    self.maker = Thread::Busy(commit);
                    (micros, Event::Made)
                }
                Job::Write(commits) => {
                    let micros = commits.iter().map(|commit| costs.writer.times(commit.len())).sum();
                    self.writer = Thread::Busy(commits);
                    (micros, Event::Written)
                }
            };
            self.free -= 1;
            self.busy += nanos(micros);
            self.schedule(nanos(micros), event);
        }
    }

    fn make(&mut self) {
        if self.maker.is_idle() && self.under_way < UNDER_WAY && !self.waiting.is_empty() {
            self.maker = Thread::Ready;
            self.jobs.push_back(Job::Make(std::mem::take(&mut self.waiting)));
        }
    }

    fn write(&mut self) {
        if self.writer.is_idle() && !self.made.is_empty() {
            self.writer = Thread::Ready;
            self.jobs.push_back(Job::Write(std::mem::take(&mut self.made)));
        }
    }
}

fn nanos(micros: f64) -> u64 {
    // Not negative; a cost of ten minutes would be none.
    (micros.max(0.0) * 1000.0) as u64
}

/// Returns what `clients` get of a server with so many cores, which they share with it.
pub fn forecast(costs: &Costs, cores: usize, clients: usize) -> Forecast {
    let mut server = Server { free: cores.max(1), ..Server::default() };
    let wanted = (clients * REQUESTS.0).max(REQUESTS.1);
    let (mut begun, mut took, mut commits) = (vec![0; clients], Vec::with_capacity(wanted), 0u64);
    for client in 0..clients {
        server.schedule(0, Event::Awake(client));
    }
    while took.len() < wanted {
        let Some(Reverse((at, _, event))) = server.events.pop() else { break };
        server.now = at;
        server.free += usize::from(matches!(event, Event::Requested(_) | Event::Made | Event::Written | Event::Answered(_)));
        match event {
            Event::Awake(client) => server.jobs.push_back(Job::Network(costs.network.request, Event::Requested(client))),
            Event::Requested(client) => server.waiting.push(client),
            Event::Made => {
                commits += 1;
                server.under_way += 1;
                let made = server.maker.end();
                server.made.extend(made);
            }
            Event::Written => server.schedule(nanos(costs.sync), Event::Synced),
            Event::Synced => {
                for commit in server.writer.end().into_iter().flatten() {
                    server.under_way -= 1;
                    server.jobs.push_back(Job::Network(costs.network.commit, Event::Answered(commit)));
                }
            }
            Event::Answered(commit) => {
                for client in commit {
                    // Its next request begins where this one ends; that it is awake only later is part of it.
                    took.push((at - begun[client]) as f64 / 1000.0);
                    begun[client] = at;
                    server.schedule(nanos(costs.wait), Event::Awake(client));
                }
            }
        }
        server.write();
        server.make();
        server.occupy(costs);
    }
    let seconds = server.now.max(1) as f64 / 1e9;
    Forecast {
        clients,
        per_second: took.len() as f64 / seconds,
        batch: took.len() as f64 / commits.max(1) as f64,
        busy: server.busy as f64 / 1e9 / seconds / cores.max(1) as f64,
        p50_micros: median(took).unwrap_or(0.0),
    }
}

/// Returns the microseconds that a request must wait for the forecast of so many clients to be what they got; 0 if they got more than forecast.
pub fn wait(costs: &Costs, cores: usize, clients: usize, per_second: f64) -> f64 {
    // Longer than a request can take that many of them get.
    let (mut low, mut high) = (0.0, 1e6 * clients as f64 / per_second.max(1.0));
    // To a thousandth of that.
    for _ in 0..10 {
        let wait = f64::midpoint(low, high);
        if forecast(&Costs { wait, ..*costs }, cores, clients).per_second > per_second { low = wait } else { high = wait }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Share;

    fn costs(request: f64, commit: f64, sync: f64) -> Costs {
        let none = Costs {
            sign: 0.0,
            verify: 0.0,
            take: 0.0,
            encode: 0.0,
            decode: 0.0,
            parcel_bytes: 0.0,
            sync,
            network: Share::default(),
            maker: Share::default(),
            writer: Share::default(),
            wait: 0.0,
        };
        Costs { network: Share { request, commit: 0.0 }, maker: Share { request: 0.0, commit }, ..none }
    }

    #[test]
    fn one_client_waits_for_each_step_in_turn() {
        let forecast = forecast(&costs(50.0, 30.0, 120.0), 2, 1);
        assert!((forecast.p50_micros - 200.0).abs() < 1.0 && (forecast.per_second - 5000.0).abs() < 50.0, "{forecast:?}");
        assert!((forecast.batch - 1.0).abs() < 1e-9);
    }

    #[test]
    fn many_clients_share_syncs_and_are_bound_by_the_cores() {
        let forecast = forecast(&costs(50.0, 30.0, 1000.0), 2, 500);
        // Two cores at 50 µs a request: 40,000 a second and no more.
        assert!((33_000.0..=40_000.0).contains(&forecast.per_second), "{forecast:?}");
        assert!(forecast.batch > 5.0 && forecast.busy > 0.85);
    }

    #[test]
    fn a_thread_that_all_wait_for_leaves_cores_idle() {
        let slow = Costs { maker: Share { request: 50.0, commit: 0.0 }, ..costs(10.0, 0.0, 0.0) };
        let forecast = forecast(&slow, 8, 100);
        assert!((19_000.0..=20_000.0).contains(&forecast.per_second) && forecast.busy < 0.2, "{forecast:?}");
    }

    #[test]
    fn who_is_awake_late_asks_late() {
        let late = Costs { wait: 100.0, ..costs(50.0, 30.0, 120.0) };
        let forecast = forecast(&late, 2, 1);
        assert!((forecast.p50_micros - 300.0).abs() < 1.0 && (forecast.per_second - 3333.0).abs() < 50.0, "{forecast:?}");
    }

    #[test]
    fn waiting_is_found_from_what_clients_got() {
        let costs = costs(20.0, 30.0, 120.0);
        let got = forecast(&Costs { wait: 800.0, ..costs }, 2, 32).per_second;
        let found = wait(&costs, 2, 32, got);
        assert!((700.0..=900.0).contains(&found), "{found}");
        assert!(wait(&costs, 2, 32, 1e6) < 1.0, "who gets more than forecast waits for nothing");
    }

    #[test]
    fn on_a_slow_disk_a_request_waits_for_the_syncs_of_both_commits_under_way_and_for_its_own() {
        let forecast = forecast(&costs(10.0, 10.0, 10_000.0), 2, 30);
        // Three groups take turns: thirty clients, thrice ten milliseconds each.
        assert!((980.0..=1020.0).contains(&forecast.per_second), "{forecast:?}");
    }
}
