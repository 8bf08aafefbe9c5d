//! One server and its clients in virtual time: requests share the cores, the writer folds what waits into one commit, and the disk syncs all
//! commits that wait at once. No clock is read and nothing is drawn by chance, so that one forecast is the same each time.

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

/// What happens at a moment of virtual time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A core is done with a request of a client.
    Requested(usize),
    /// A core is done with a commit.
    Committed,
    /// The disk has synced what was given to it.
    Synced,
}

/// Work for a core, with its nanoseconds.
type Job = (u64, Event);

#[derive(Default)]
struct Server {
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// Tells events of one moment apart.
    count: u64,
    jobs: VecDeque<Job>,
    free: usize,
    busy: u64,
    /// Clients whose requests wait for the writer; those of the commit it makes; those of commits that wait for the disk; those under way to it.
    waiting: Vec<usize>,
    writing: Option<Vec<usize>>,
    made: Vec<usize>,
    syncing: Option<Vec<usize>>,
}

impl Server {
    fn schedule(&mut self, after: u64, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + after, self.count, event)));
    }

    fn work(&mut self, job: Job) {
        self.jobs.push_back(job);
        self.occupy();
    }

    fn occupy(&mut self) {
        while self.free > 0 {
            let Some((nanos, event)) = self.jobs.pop_front() else { return };
            self.free -= 1;
            self.busy += nanos;
            self.schedule(nanos, event);
        }
    }

    fn write(&mut self, costs: &Costs) {
        if self.writing.is_none() && !self.waiting.is_empty() {
            self.writing = Some(std::mem::take(&mut self.waiting));
            self.work((nanos(costs.commit), Event::Committed));
        }
    }

    fn sync(&mut self, costs: &Costs) {
        if self.syncing.is_none() && !self.made.is_empty() {
            self.syncing = Some(std::mem::take(&mut self.made));
            self.schedule(nanos(costs.sync), Event::Synced);
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
        server.work((nanos(costs.request), Event::Requested(client)));
    }
    while took.len() < wanted {
        let Some(Reverse((at, _, event))) = server.events.pop() else { break };
        server.now = at;
        match event {
            Event::Requested(client) => {
                server.free += 1;
                server.waiting.push(client);
                server.write(costs);
            }
            Event::Committed => {
                server.free += 1;
                commits += 1;
                let written = server.writing.take().unwrap_or_default();
                server.made.extend(written);
                server.sync(costs);
                server.write(costs);
            }
            Event::Synced => {
                for client in server.syncing.take().unwrap_or_default() {
                    took.push((at - begun[client]) as f64 / 1000.0);
                    begun[client] = at;
                    server.work((nanos(costs.request), Event::Requested(client)));
                }
                server.sync(costs);
            }
        }
        server.occupy();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(request: f64, commit: f64, sync: f64) -> Costs {
        Costs { sign: 0.0, verify: 0.0, take: 0.0, encode: 0.0, decode: 0.0, parcel_bytes: 0.0, sync, request, commit }
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
    fn on_a_slow_disk_a_client_waits_for_the_sync_under_way_and_for_its_own() {
        let forecast = forecast(&costs(10.0, 10.0, 10_000.0), 2, 10);
        // Ten clients, twice ten milliseconds each.
        assert!((490.0..=510.0).contains(&forecast.per_second), "{forecast:?}");
    }
}
