//! Random histories of three to five nodes under faults: when the faults are over, all hold the same, byte for byte.

use herdbook_model::{
    authority::{Kind, RequestRef},
    graph::Graph as _,
    id::CommitId,
    request::Request,
    vector::VersionVector,
};
use herdbook_sync::{
    acceptance::{self, Candidate, Requests},
    exchange::{Input, Output, Plant, Received, Settings},
    message::Message,
};

use crate::{
    fixtures::{self, Authority, main},
    network::{Coverage, Network},
    node::Node,
    rng::Rng,
};

/// Most milliseconds from the end of all faults to convergence.
const CONVERGE: u64 = 8_000;

/// Most milliseconds until a commit of calm times is everywhere: less than any repair takes.
const LIVE: u64 = 1_200;

/// How nodes are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Each with each.
    Mesh,
    /// All with the first, which passes on at once; it is the authority.
    Star,
    /// Each with the next; announcements travel along.
    Line,
}

/// A history: what its seed decides.
#[derive(Debug)]
struct History {
    shape: Shape,
    network: Network,
    authority: Authority,
    pairs: Vec<[usize; 2]>,
    settings: Settings,
    is_calm: bool,
    has_early: bool,
    accepted: VersionVector,
    /// Most milliseconds until what was said is everywhere, after faults and in calm times.
    limits: (u64, u64),
}

impl History {
    fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut rng = Rng::new(seed);
        let shape = [Shape::Mesh, Shape::Star, Shape::Line][rng.index(3)];
        let count = 3 + rng.index(3);
        let keys: Vec<_> = (0..count as u64).map(|node| fixtures::key(seed * 100 + node)).collect();
        let authority = Authority::open(&keys, shape == Shape::Star);
        let mut nodes: Vec<_> = keys.into_iter().map(|key| Node::new(key, &authority, &mut rng)).collect();
        let (is_calm, has_early) = (rng.once_in(3), rng.once_in(10));
        if rng.once_in(2) {
            // Some know the log only up to their own enrolment.
            for (at, node) in nodes.iter_mut().enumerate().skip(1) {
                node.forget_entries(3 + at);
            }
        }
        let pairs = match shape {
            Shape::Mesh => (0..count).flat_map(|a| (a + 1..count).map(move |b| [a, b])).collect(),
            Shape::Star => (1..count).map(|leaf| [leaf, 0]).collect(),
            Shape::Line => (1..count).map(|node| [node - 1, node]).collect(),
        };
        let mut network = Network::new(nodes, rng.next());
        network.hub = (shape == Shape::Star).then_some(0);
        network.tampering = if is_calm || rng.once_in(2) { 0 } else { 12 };
        // Small vectors, too, are told by cells in half of the worlds.
        let cells_from = if rng.once_in(2) { 0 } else { Settings::default().cells_from };
        let settings = Settings { plant, cells_from, ..Settings::default() };
        let (has_early, accepted, limits) = (has_early && !is_calm, VersionVector::default(), (CONVERGE, LIVE));
        Self { shape, network, authority, pairs, settings, is_calm, has_early, accepted, limits }
    }

    /// Lets every connection take one message at a time in each direction.
    fn narrow(mut self) -> Self {
        self.network.pipe = 1;
        self.limits = (60_000, 10_000);
        self
    }

    fn run(mut self) -> Result<Coverage, String> {
        self.offline();
        self.connect();
        if self.is_calm {
            self.live();
        } else {
            self.faults();
        }
        self.heal();
        let patience = if self.has_early { 60_000 } else { self.limits.0 };
        let took = self.run_until_converged(patience);
        took.ok_or_else(|| format!("{:?}: not converged {patience} ms after all faults", self.shape))?;
        self.calm_commits()?;
        self.network.run(3_000);
        self.judge()
    }

    /// Every node writes alone, over several sessions.
    fn offline(&mut self) {
        for node in 0..self.network.nodes.len() {
            for _ in 0..self.network.rng.below(4) {
                let size = if self.network.rng.once_in(12) { 200_000 } else { 10 };
                for _ in 0..self.network.rng.below(4) {
                    self.network.commit(node, size);
                    self.network.now += 1;
                }
                self.network.nodes[node].restart(&mut self.network.rng);
            }
        }
    }

    fn connect(&mut self) {
        for pair in self.pairs.clone() {
            if !self.network.is_connected(pair[0], pair[1]) {
                self.network.connect(pair, [self.settings; 2]);
                if !self.is_calm && self.network.rng.once_in(6) {
                    // Two connections at once: what one delivers comes late on the other.
                    self.network.connect(pair, [self.settings; 2]);
                }
            }
        }
    }

    fn live(&mut self) {
        for _ in 0..40 {
            let pause = self.network.rng.below(200);
            self.network.run(pause);
            let node = self.network.rng.index(self.network.nodes.len());
            if self.network.rng.once_in(8) {
                self.announce_two(node);
            } else {
                self.network.commit(node, 10);
            }
            if self.network.rng.once_in(3) {
                self.accept();
            }
        }
        self.network.run(1_000);
    }

    /// A node writes in two sessions and announces both at once.
    fn announce_two(&mut self, node: usize) {
        let commits = [0; 2].map(|_| {
            self.network.nodes[node].restart(&mut self.network.rng);
            let requests = vec![fixtures::request(&mut self.network.rng, 10)];
            self.network.nodes[node].now = self.network.now;
            self.network.nodes[node].commit(requests)
        });
        self.network.changed(node, &commits, false, None);
    }

    fn faults(&mut self) {
        for _ in 0..80 {
            let pause = self.network.rng.below(250);
            self.network.run(pause);
            let node = self.network.rng.index(self.network.nodes.len());
            match self.network.rng.below(12) {
                0 => self.cut_one(),
                1 => {
                    // A partition, as seen from one node.
                    for link in 0..self.network.links.len() {
                        if self.network.links[link].ends.contains(&node) {
                            self.network.cut(link);
                        }
                    }
                }
                2 | 3 => self.connect(),
                4 => {
                    self.network.nodes[node].restart(&mut self.network.rng);
                    self.network.coverage.restarts += 1;
                    for link in 0..self.network.links.len() {
                        if self.network.links[link].ends.contains(&node) {
                            self.network.cut(link);
                        }
                    }
                }
                5 => self.fork(),
                6 if self.has_early => {
                    self.network.nodes[node].skew = 75_000;
                    self.network.commit(node, 10);
                    self.network.nodes[node].skew = 0;
                }
                7 => self.accept(),
                8 => self.overtake(),
                _ => {
                    let size = if self.network.rng.once_in(12) { 100_000 } else { 10 };
                    self.network.commit(node, size);
                }
            }
        }
    }

    fn cut_one(&mut self) {
        let up: Vec<_> = (0..self.network.links.len()).filter(|link| self.network.links[*link].is_up).collect();
        if !up.is_empty() {
            let link = up[self.network.rng.index(up.len())];
            self.network.cut(link);
        }
    }

    /// A node signs a second commit for a place of its chain that its peer knows, and sends it.
    fn fork(&mut self) {
        let open = |link: &crate::network::Link| link.is_up && link.machines.iter().all(|machine| machine.is_open());
        let links: Vec<_> = (0..self.network.links.len()).filter(|link| open(&self.network.links[*link])).collect();
        if links.is_empty() {
            return;
        }
        let link = links[self.network.rng.index(links.len())];
        let [author, peer] = self.network.links[link].ends;
        let (certificate, counter) = self.network.nodes[author].session();
        let chain = herdbook_model::commit::chain(&certificate.session, &main());
        let Ok(known) = self.network.nodes[peer].at(&chain, counter.max(1));
        if counter == 0 || known.is_none() {
            return;
        }
        let requests = vec![fixtures::request(&mut self.network.rng, 10)];
        let (commit, requests) = self.network.nodes[author].signed(requests, counter);
        let parcel = self.network.nodes[author].loose_parcel(&commit, &requests);
        self.network.transmit(link, 0, Message::Commits(vec![parcel]));
    }

    /// A commit arrives before the one it stands on, as over two connections.
    fn overtake(&mut self) {
        use herdbook_sync::local::Local as _;
        let open = |link: &crate::network::Link| link.is_up && link.machines.iter().all(|machine| machine.is_open());
        let Some(link) = (0..self.network.links.len()).find(|link| open(&self.network.links[*link])) else { return };
        let author = self.network.links[link].ends[0];
        let requests = [0; 2].map(|_| vec![fixtures::request(&mut self.network.rng, 10)]);
        let commits = requests.map(|requests| self.network.nodes[author].commit(requests));
        let Ok(parcel) = self.network.nodes[author].parcel(&commits[1].id);
        let mut parcel = parcel.expect("just made");
        parcel.certificate = Some(self.network.nodes[author].session().0);
        self.network.transmit(link, 0, Message::Commits(vec![parcel]));
        self.network.changed(author, &commits, true, None);
    }

    /// The authority judges what it has and extends the log; now and then it refuses a request.
    fn accept(&mut self) {
        if self.shape != Shape::Star {
            return;
        }
        let node = &self.network.nodes[0];
        let mut candidates = Vec::new();
        for id in node.content().into_keys() {
            let Ok(meta) = node.meta(&id);
            let meta = meta.expect("stored");
            if !self.accepted.contains(&meta.chain, meta.counter) {
                candidates.push(candidate(node, id, meta));
            }
        }
        candidates.sort_by_key(|candidate| (candidate.meta.time, candidate.commit.id()));
        let judge =
            |_: acceptance::Before<'_>, _: &Candidate, at: RequestRef, _: &_| (at.commit.0[0] < 20).then(|| "refused by lot".to_owned());
        let Ok(step) = acceptance::step(&self.authority.log, node, &main(), &candidates, judge);
        let step = step.expect("the branch is open");
        assert!(step.later.is_empty(), "all ancestors are here");
        if step.is_empty() {
            return;
        }
        self.network.coverage.voids += step.voids.len() as u64;
        for candidate in &candidates {
            self.accepted.raise(candidate.meta.chain, candidate.meta.counter);
        }
        let entry = self.authority.sign(step.into_kind(main(), None));
        self.network.nodes[0].extend_log(&[entry]).expect("the authority extends its log");
        self.network.log_changed(0);
    }

    fn heal(&mut self) {
        self.network.tampering = 0;
        self.network.run(300);
        if !self.is_calm {
            self.network.cut_all();
        }
        self.connect();
        self.accept();
    }

    /// Lets time go by; connections that end by what was still on its way are made again.
    fn run_until_converged(&mut self, millis: u64) -> Option<u64> {
        let begin = self.network.now;
        while self.network.now - begin < millis {
            if self.network.run_until(500, Network::is_converged).is_some() {
                return Some(self.network.now - begin);
            }
            self.connect();
        }
        None
    }

    fn calm_commits(&mut self) -> Result<(), String> {
        for _ in 0..3 {
            let node = self.network.rng.index(self.network.nodes.len());
            self.network.commit(node, 10);
            let hops = if self.shape == Shape::Line { self.network.nodes.len() as u64 } else { 2 };
            if self.run_until_converged(self.limits.1 + 400 * hops).is_none() {
                return Err(format!("{:?}: a commit of calm times is not everywhere in time", self.shape));
            }
        }
        Ok(())
    }

    fn judge(&self) -> Result<Coverage, String> {
        for (node, output) in &self.network.seen {
            if let Output::Alarm(diverged) = output {
                return Err(format!("node {node}: {diverged}"));
            }
        }
        for node in &self.network.nodes {
            node.audit()?;
        }
        let first = &self.network.nodes[0];
        let (root, content) = (first.root(), first.content());
        for (at, node) in self.network.nodes.iter().enumerate().skip(1) {
            if node.content() != content {
                return Err(format!("node {at} holds other bytes than node 0"));
            }
            if node.entries != first.entries {
                return Err(format!("node {at} has another log than node 0"));
            }
            if node.root() != root {
                return Err(format!("node {at} has another root than node 0"));
            }
        }
        let coverage = self.network.total();
        if self.is_calm && self.network.pipe > 1 && coverage.asked_again > 0 {
            return Err(format!("{} ranges were asked for twice though nothing was cut", coverage.asked_again));
        }
        let is_settled = |link: &crate::network::Link| !link.is_up || link.machines.iter().all(|machine| machine.is_settled());
        if !self.network.links.iter().all(is_settled) {
            return Err("a link does not know that both sides hold the same".to_owned());
        }
        Ok(coverage)
    }
}

fn candidate(node: &Node, id: CommitId, meta: herdbook_model::graph::Meta) -> Candidate {
    use herdbook_sync::local::Local as _;
    let (commit, requests) = node.commit_of(&id);
    let Ok(certificate) = node.certificate(&commit.header().session);
    let requests = requests.iter().map(|request| match request {
        Received::Present(sealed) => Some(Request::clone(sealed.request())),
        Received::Absent { .. } => None,
    });
    Candidate { commit: commit.clone(), meta, certificate, requests: Requests::Read(requests.collect()) }
}

fn seeds() -> u64 {
    std::env::var("HERDBOOK_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(300)
}

#[test]
fn all_nodes_converge_byte_for_byte_over_many_histories() {
    let mut coverage = Coverage::default();
    for seed in 0..seeds() {
        match History::new(seed, None).run() {
            Ok(covered) => coverage.add(&covered),
            Err(failure) => panic!("seed {seed}: {failure}"),
        }
    }
    println!("{coverage:?}");
    for (what, count) in [
        ("cut transfers", coverage.cut_transfers),
        ("tampered messages", coverage.tampered),
        ("faults found", coverage.faults),
        ("forks refused", coverage.forks),
        ("waits in quarantine", coverage.waited),
        ("commits ahead of the clock", coverage.early),
        ("late deliveries", coverage.late),
        ("settled links", coverage.settled),
        ("restarts", coverage.restarts),
        ("voided requests", coverage.voids),
    ] {
        assert!(count > 0, "no history had {what}");
    }
}

#[test]
fn all_nodes_converge_over_connections_that_take_one_message_at_a_time() {
    for seed in 0..seeds() / 3 {
        if let Err(failure) = History::new(seed, None).narrow().run() {
            panic!("seed {seed}: {failure}");
        }
    }
}

#[test]
fn two_that_send_all_they_have_over_narrow_connections_never_wait_for_each_other() {
    let (mut network, _) = crate::conversations::members(2);
    network.pipe = 1;
    let mut rng = Rng::new(12);
    for node in 0..2 {
        for _ in 0..1_500 {
            network.nodes[node].commit(vec![fixtures::request(&mut rng, 2_000)]);
        }
        network.nodes[node].offer();
    }
    let first = Settings { states_first: true, ..Settings::default() };
    network.connect([0, 1], [first; 2]);
    let took = network.run_until(120_000, Network::is_converged);
    assert!(took.is_some(), "12 MB, a message of 256 KiB each way in 20 ms");
    assert_eq!(network.nodes[0].root(), network.nodes[1].root());
    let told = network.seen.iter().filter(|(_, output)| matches!(output, Output::States(_))).count();
    assert_eq!(told, 2, "each has the other's states, too");
}

/// Runs histories until one fails; returns what failed.
pub(crate) fn first_failure(plant: Plant, histories: u64) -> Option<String> {
    (0..histories).find_map(|seed| History::new(seed, Some(plant)).run().err())
}

#[test]
fn entries_of_a_star_name_heads_that_every_node_holds() {
    let star = (0..).map(|seed| History::new(seed, None)).find(|history| history.shape == Shape::Star && history.is_calm);
    let mut history = star.expect("one seed in nine");
    history.offline();
    history.connect();
    history.live();
    history.accept();
    history.run_until_converged(CONVERGE).expect("nothing is cut");
    let newest = history.network.nodes[1].entries.iter().rev().find_map(|entry| match &entry.kind {
        Kind::Head { heads, .. } => Some(heads.clone()),
        _ => None,
    });
    assert_eq!(newest, Some(history.network.nodes[1].frontier.ids()));
    history.network.give(0, 0, Input::Close);
    assert!(history.network.links[0].machines[0].is_closed());
}
