//! The world around nodes: connections that deliver in order until they are cut, clocks, disks that take their time, and faults.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use herdbook_model::{chunk::Verified, id::ReplicaId, vector::Range};
use herdbook_sync::{
    exchange::{Accepted, Ending, Exchange, Input, Now, Output, Settings, Side, TICK, Tally},
    message::{Announced, Message, RequestBody},
    restore::{self, Decision, Restore},
};

use crate::{node::Node, rng::Rng};

/// How long a replica believes that a commit is coming over another exchange, in milliseconds.
const COMING: u64 = 2_000;

/// A connection and the two machines at its ends.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ends: [usize; 2],
    pub(crate) machines: [Exchange; 2],
    latency: u64,
    arrival: [u64; 2],
    /// Messages with commits that are on their way.
    in_flight: u64,
    /// Messages on their way to either end.
    on_wire: [u64; 2],
    pub(crate) is_up: bool,
}

#[expect(clippy::large_enum_variant, reason = "the large one is a hello, said once")]
#[derive(Debug)]
enum Event {
    Deliver { link: usize, side: usize, message: Message },
    Store { link: usize, side: usize, batch: u64, commits: Vec<Accepted> },
    StoreChunks { link: usize, side: usize, batch: u64, chunks: Vec<Verified> },
    Down { link: usize },
    Tick,
}

/// What happened over a history, to be sure that it did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Coverage {
    pub(crate) cut_transfers: u64,
    pub(crate) tampered: u64,
    pub(crate) forks: u64,
    pub(crate) faults: u64,
    pub(crate) waited: u64,
    pub(crate) early: u64,
    pub(crate) late: u64,
    pub(crate) asked_again: u64,
    pub(crate) settled: u64,
    pub(crate) messages: u64,
    pub(crate) restarts: u64,
    pub(crate) voids: u64,
}

impl Coverage {
    pub(crate) fn add(&mut self, other: &Self) {
        self.cut_transfers += other.cut_transfers;
        self.tampered += other.tampered;
        self.forks += other.forks;
        self.faults += other.faults;
        self.waited += other.waited;
        self.early += other.early;
        self.late += other.late;
        self.asked_again += other.asked_again;
        self.settled += other.settled;
        self.messages += other.messages;
        self.restarts += other.restarts;
        self.voids += other.voids;
    }

    fn count(&mut self, tally: &Tally) {
        self.forks += tally.forks;
        self.faults += tally.faults;
        self.waited += tally.waited;
        self.early += tally.early;
        self.late += tally.duplicates;
        self.asked_again += tally.asked_again;
    }
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<Link>,
    pub(crate) rng: Rng,
    pub(crate) now: u64,
    pub(crate) coverage: Coverage,
    /// Outputs that tests look at: all but messages and what is stored. By node.
    pub(crate) seen: Vec<(usize, Output)>,
    /// The node through which all others talk, if there is one: what it passes on goes out at once.
    pub(crate) hub: Option<usize>,
    /// One in so many messages of commits is changed on the way; 0 for none.
    pub(crate) tampering: u64,
    /// Longest latency, in milliseconds.
    pub(crate) latency: u64,
    /// Messages that a connection takes in one direction before the first is delivered.
    pub(crate) pipe: u64,
    /// The node whose authority comes back, with the machine that brings it.
    pub(crate) restore: Option<(usize, Restore)>,
    pub(crate) decided: Option<Decision>,
    /// Every message that went over a link, if a test says them again.
    pub(crate) recorded: Option<Vec<Message>>,
    /// Bytes that went over all links, by kind of message, if a test measures them.
    pub(crate) measured: Option<BTreeMap<&'static str, (u64, u64)>>,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
}

impl Network {
    pub(crate) fn new(nodes: Vec<Node>, seed: u64) -> Self {
        let mut network = Self {
            nodes,
            links: Vec::new(),
            rng: Rng::new(seed),
            now: 0,
            coverage: Coverage::default(),
            seen: Vec::new(),
            hub: None,
            tampering: 0,
            latency: 100,
            pipe: u64::MAX,
            measured: None,
            recorded: None,
            restore: None,
            decided: None,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next: 0,
        };
        network.schedule(TICK.as_millis() as u64, Event::Tick);
        network
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.queue.push(Reverse((at, self.next)));
        self.events.insert((at, self.next), event);
    }

    fn now_of(&self, node: usize) -> Now {
        Now { elapsed: Duration::from_millis(self.now), wall: self.nodes[node].wall() }
    }

    /// Connects two nodes; the first calls.
    pub(crate) fn connect(&mut self, ends: [usize; 2], settings: [Settings; 2]) -> usize {
        let latency = 1 + self.rng.below(self.latency);
        let machines = [0, 1].map(|side| {
            let role = [Side::Caller, Side::Listener][side];
            let node = &self.nodes[ends[side]];
            Exchange::open(settings[side], role, node.key.clone(), self.rng.bytes(), self.now_of(ends[side]), node)
        });
        let link = self.links.len();
        self.links.push(Link { ends, machines, latency, arrival: [self.now; 2], in_flight: 0, on_wire: [0; 2], is_up: true });
        self.drain(link, 0);
        self.drain(link, 1);
        link
    }

    /// Cuts a connection: what is on its way is lost.
    pub(crate) fn cut(&mut self, link: usize) {
        let Link { is_up, in_flight, machines, .. } = &mut self.links[link];
        if !std::mem::take(is_up) {
            return;
        }
        self.coverage.cut_transfers += u64::from(*in_flight > 0);
        for machine in machines {
            self.coverage.count(machine.tally());
        }
    }

    pub(crate) fn cut_all(&mut self) {
        (0..self.links.len()).for_each(|link| self.cut(link));
    }

    pub(crate) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.links.iter().any(|link| link.is_up && (link.ends == [a, b] || link.ends == [b, a]))
    }

    /// Tells the exchanges of a node, but for one, that commits are in its store.
    pub(crate) fn changed(&mut self, node: usize, commits: &[Announced], eager: bool, but: Option<usize>) {
        for link in 0..self.links.len() {
            for side in 0..2 {
                if self.links[link].is_up && self.links[link].ends[side] == node && but != Some(link) {
                    self.give(link, side, Input::Changed { commits: commits.to_vec(), eager });
                }
            }
        }
    }

    pub(crate) fn log_changed(&mut self, node: usize) {
        for link in 0..self.links.len() {
            for side in 0..2 {
                if self.links[link].is_up && self.links[link].ends[side] == node {
                    self.give(link, side, Input::LogChanged);
                }
            }
        }
    }

    /// Gives one input to a machine and carries its outputs.
    pub(crate) fn give(&mut self, link: usize, side: usize, input: Input) {
        if !self.links[link].is_up {
            return;
        }
        let node = self.links[link].ends[side];
        let now = self.now_of(node);
        self.nodes[node].now = self.now;
        let Ok(()) = self.links[link].machines[side].handle(input, now, &self.nodes[node]);
        self.drain(link, side);
    }

    /// Does what a machine wants done and, while the connection has room, sends what it has to say.
    fn drain(&mut self, link: usize, side: usize) {
        let node = self.links[link].ends[side];
        while self.links[link].is_up {
            if let Some(output) = self.links[link].machines[side].poll_output() {
                self.carry(link, side, output);
                continue;
            }
            let has_room = self.links[link].on_wire[1 - side] < self.pipe;
            if !has_room || !self.say_next(link, side, node) {
                break;
            }
        }
    }

    fn say_next(&mut self, link: usize, side: usize, node: usize) -> bool {
        let Ok(message) = self.links[link].machines[side].poll_message(&self.nodes[node]);
        message.map(|message| self.transmit(link, side, message)).is_some()
    }

    fn carry(&mut self, link: usize, side: usize, output: Output) {
        let node = self.links[link].ends[side];
        match output {
            Output::Store { batch, commits } => self.write(node, Event::Store { link, side, batch, commits }),
            Output::StoreChunks { batch, chunks } => self.write(node, Event::StoreChunks { link, side, batch, chunks }),
            Output::Asking(ranges) => self.expect(node, &ranges),
            Output::Entries(entries) if self.is_restoring(node) => {
                self.restored(restore::Input::Entries { from: self.peer(link, side), entries: &entries });
            }
            Output::Entries(entries) if self.links[link].machines[side].is_open() => {
                self.seen.push((node, Output::Entries(entries.clone())));
                match self.nodes[node].extend_log(&entries) {
                    Ok(()) => self.log_changed(node),
                    Err(error) => self.give(link, side, Input::LogRefused(error)),
                }
            }
            Output::Settled(_) => {
                self.coverage.settled += 1;
                self.seen.push((node, output));
            }
            Output::Holds(vector) if self.is_restoring(node) => {
                self.restored(restore::Input::Holds { from: self.peer(link, side), vector: &vector });
            }
            Output::Covered if self.is_restoring(node) => {
                self.restored(restore::Input::Covered { from: self.peer(link, side) });
            }
            Output::Closed(ending) => {
                if self.is_restoring(node) {
                    self.restored(restore::Input::Gone { from: self.peer(link, side) });
                }
                if ending != Ending::Local {
                    self.seen.push((node, output));
                }
                while self.say_next(link, side, node) {}
                let after = self.links[link].arrival.iter().max().copied().unwrap_or(self.now);
                self.schedule(after + 1, Event::Down { link });
            }
            _ => self.seen.push((node, output)),
        }
    }

    fn is_restoring(&self, node: usize) -> bool {
        self.restore.as_ref().is_some_and(|(restoring, _)| *restoring == node)
    }

    fn peer(&self, link: usize, side: usize) -> ReplicaId {
        self.nodes[self.links[link].ends[1 - side]].replica
    }

    /// Gives one input to the machine that brings the authority back, and carries what it asks.
    pub(crate) fn restored(&mut self, input: restore::Input<'_>) {
        let Some((node, mut restore)) = self.restore.take() else { return };
        let Ok(()) = restore.handle(input, &self.nodes[node]);
        let outputs: Vec<_> = std::iter::from_fn(|| restore.poll_output()).collect();
        self.restore = Some((node, restore));
        for output in outputs {
            match output {
                restore::Output::Ask { member, ranges } => {
                    let to = |link: &Link| link.is_up && link.ends[0] == node && self.nodes[link.ends[1]].replica == member;
                    let link = self.links.iter().position(to).expect("only members that are here are asked");
                    self.give(link, 0, Input::Ask { ranges });
                }
                restore::Output::Evidence(evidence) => self.seen.push((node, Output::Evidence(evidence))),
                restore::Output::Decided(decision) => self.decided = Some(decision),
            }
        }
    }

    /// Gives something to a node's disk, which takes its time and does one thing after another.
    fn write(&mut self, node: usize, event: Event) {
        let done = self.now.max(self.nodes[node].disk) + 1 + self.rng.below(15);
        self.nodes[node].disk = done;
        self.schedule(done, event);
    }

    fn expect(&mut self, node: usize, ranges: &[Range]) {
        let until = self.now + COMING;
        for range in ranges {
            for counter in range.first..=range.last {
                self.nodes[node].coming.insert((range.chain, counter), until);
            }
        }
    }

    /// Puts a message on the wire: in order, each after its latency.
    pub(crate) fn transmit(&mut self, link: usize, side: usize, mut message: Message) {
        self.coverage.messages += 1;
        if let Some(measured) = &mut self.measured {
            let (name, bytes) = crate::costs::measure(&message);
            let sum = measured.entry(name).or_default();
            *sum = (sum.0 + 1, sum.1 + bytes);
        }
        if let Some(recorded) = &mut self.recorded {
            recorded.push(message.clone());
        }
        if let Message::Commits(parcels) = &mut message {
            self.links[link].in_flight += 1;
            if self.tampering > 0 && self.rng.once_in(self.tampering) {
                self.coverage.tampered += u64::from(tamper(parcels));
            }
        }
        let jitter = self.rng.below(5);
        let link_state = &mut self.links[link];
        let at = (self.now + link_state.latency + jitter).max(link_state.arrival[1 - side]);
        link_state.arrival[1 - side] = at;
        link_state.on_wire[1 - side] += 1;
        self.schedule(at, Event::Deliver { link, side: 1 - side, message });
    }

    /// Lets `millis` go by.
    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(Reverse(key)) = self.queue.peek().copied().filter(|key| key.0.0 <= end) {
            self.queue.pop();
            let event = self.events.remove(&key).expect("queued with its event");
            self.now = key.0;
            self.happen(event);
        }
        self.now = end;
        self.nodes.iter_mut().for_each(|node| node.now = end);
    }

    /// Lets time go by until `done`, at most `millis`; returns how long it took.
    pub(crate) fn run_until(&mut self, millis: u64, mut done: impl FnMut(&Self) -> bool) -> Option<u64> {
        let begin = self.now;
        while self.now - begin < millis {
            if done(self) {
                return Some(self.now - begin);
            }
            self.run(10);
        }
        done(self).then(|| self.now - begin)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => {
                for link in 0..self.links.len() {
                    self.give(link, 0, Input::Tick);
                    self.give(link, 1, Input::Tick);
                }
                self.schedule(self.now + TICK.as_millis() as u64, Event::Tick);
            }
            Event::Down { link } => self.cut(link),
            Event::Deliver { link, side, message } => {
                if matches!(message, Message::Commits(_)) {
                    self.links[link].in_flight -= 1;
                }
                self.links[link].on_wire[side] -= 1;
                self.give(link, side, Input::Received(message));
                self.drain(link, 1 - side);
            }
            Event::Store { link, side, batch, commits } => {
                // The disk finishes what it began, even if the connection is gone.
                let node = self.links[link].ends[side];
                for commit in &commits {
                    self.seen.push((node, Output::Store { batch, commits: vec![commit.clone()] }));
                }
                let news = self.nodes[node].store(commits.clone());
                if self.is_restoring(node) {
                    let from = self.peer(link, side);
                    commits.iter().for_each(|commit| self.restored(restore::Input::Stored { from, commit }));
                }
                self.give(link, side, Input::Stored { batch });
                if !news.is_empty() {
                    self.changed(node, &news, self.hub == Some(node), Some(link));
                }
            }
            Event::StoreChunks { link, side, batch, chunks } => {
                let node = self.links[link].ends[side];
                self.nodes[node].put_chunks(chunks);
                self.give(link, side, Input::Stored { batch });
            }
        }
    }

    /// Commits at a node and tells its exchanges, which send at once.
    pub(crate) fn commit(&mut self, node: usize, size: usize) -> Announced {
        self.nodes[node].now = self.now;
        let requests = (0..=self.rng.below(2)).map(|_| crate::fixtures::request(&mut self.rng, size)).collect();
        let announced = self.nodes[node].commit(requests);
        self.changed(node, &[announced], true, None);
        announced
    }

    /// Whether all nodes hold the same commits and the same log.
    pub(crate) fn is_converged(&self) -> bool {
        let first = &self.nodes[0];
        self.nodes.iter().all(|node| node.frontier == first.frontier && node.log.newest() == first.log.newest())
    }

    /// Adds what the machines of the links that are still up counted.
    pub(crate) fn total(&self) -> Coverage {
        let mut coverage = self.coverage;
        for link in self.links.iter().filter(|link| link.is_up) {
            link.machines.iter().for_each(|machine| coverage.count(machine.tally()));
        }
        coverage
    }
}

/// Exchanges the requests of one parcel for others that decode as well; returns whether there was one to exchange.
fn tamper(parcels: &mut [herdbook_sync::message::Parcel]) -> bool {
    use herdbook_model::{
        codec::{Decode as _, Encode as _},
        request::Request,
    };
    let Some(parcel) = parcels.last_mut() else { return false };
    let Some(RequestBody::Present(bytes)) = parcel.requests.first_mut() else { return false };
    let mut request = Request::from_bytes(bytes).expect("what a node sends decodes");
    request.key.0[0] ^= 1;
    *bytes = request.to_bytes();
    true
}
