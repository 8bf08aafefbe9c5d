//! A peer that floods with everything it may say, reads nothing, and whose commits a slow disk never finishes: what is held for it stays
//! within its bound.

use std::time::Duration;

use herdbook_model::{
    authority::sign,
    id::{ChainId, CommitId},
    vector::{Range, VersionVector},
};
use herdbook_sync::{
    exchange::{Ending, Exchange, Input, MAX_HELD, Now, Output, Settings, Side, possession},
    message::{Announced, Compare, Hello, MAX_CHAINS, MAX_LIST, Message, Purpose, Refusal, Summary, VERSION, Wanted},
};

use crate::{
    conversations::members,
    fixtures::{key, large, request},
    network::Network,
    node::Node,
    rng::Rng,
};

/// Bob's end of a conversation with alice, who is hostile.
pub(crate) struct Bob {
    pub(crate) exchange: Exchange,
    said: usize,
    most: usize,
    ending: Option<Ending>,
}

fn now(node: &Node) -> Now {
    Now { elapsed: Duration::from_millis(node.now), wall: node.wall() }
}

impl Bob {
    /// Lets alice in: the last that she reads is bob's hello.
    pub(crate) fn greet(network: &Network) -> Self {
        let (alice, bob) = (&network.nodes[0], &network.nodes[1]);
        let mut exchange = Exchange::open(Settings::default(), Side::Listener, bob.key.clone(), [2; 32], now(bob), bob);
        let Ok(Some(Message::Hello(his))) = exchange.poll_message(bob) else { panic!("bob says hello first") };
        let hers = Hello {
            version: VERSION,
            repository: his.repository,
            replica: alice.replica,
            nonce: [1; 32],
            purpose: Purpose::Converge,
            enrolment: None,
            summary: Summary { newest: None, digest: [9; 32] },
            commits: 0,
        };
        let proof = possession(his.repository, Side::Caller, Purpose::Converge, (alice.replica, [1; 32]), (bob.replica, [2; 32]));
        let mut bobs = Self { exchange, said: 0, most: 0, ending: None };
        bobs.hears(Message::Hello(hers), bob);
        bobs.hears(Message::Proof { signature: sign(&key(0), &proof) }, bob);
        assert!(bobs.exchange.is_open());
        bobs
    }

    pub(crate) fn hears(&mut self, message: Message, node: &Node) {
        self.said += usize::try_from(crate::costs::measure(&message).1).expect("a message is short");
        self.takes(Input::Received(message), node);
    }

    /// Gives an input; what is to be done is taken by a driver whose disk never answers, what is to be said by nobody.
    fn takes(&mut self, input: Input, node: &Node) {
        let Ok(()) = self.exchange.handle(input, now(node), node);
        while let Some(output) = self.exchange.poll_output() {
            if let Output::Closed(ending) = output {
                self.ending = Some(ending);
            }
        }
        self.most = self.most.max(self.exchange.held());
    }
}

fn chain(rng: &mut Rng) -> ChainId {
    ChainId(rng.bytes())
}

/// Bob with a history of 400 commits, and alice with as many of her own.
pub(crate) fn scene() -> (Network, Rng) {
    let (mut network, _) = members(2);
    let mut rng = Rng::new(77);
    for at in 0..400 {
        for node in 0..2 {
            network.nodes[node].commit(vec![request(&mut rng, 10)]);
            if at % 20 == 0 {
                network.nodes[node].restart(&mut rng);
            }
        }
    }
    network.nodes[1].offer();
    (network, rng)
}

#[test]
fn who_reads_nothing_and_says_everything_is_held_within_the_bound() {
    let (mut network, mut rng) = scene();
    let mut bob = Bob::greet(&network);
    let known: Vec<ChainId> = network.nodes[1].frontier.vector().iter().map(|(chain, _)| *chain).collect();
    let vector: VersionVector = (0..MAX_CHAINS - 40_000).map(|_| (chain(&mut rng), 1)).collect();
    let tree = network.nodes[1].offers[0].trees[0].documents;
    bob.hears(Message::WantStates, &network.nodes[1]);
    for round in 0..120_u64 {
        network.nodes[1].now += 40;
        let node = &network.nodes[1];
        let mut flood = vec![
            Message::Summary(Summary { newest: node.log.newest(), digest: rng.bytes() }),
            Message::WantEntries { first: 0 },
            Message::Entries(node.entries.clone()),
            Message::Want(
                (0..MAX_LIST as u64)
                    .map(|at| Range { chain: known[at as usize % known.len()], first: 300 - round, last: u64::MAX })
                    .collect(),
            ),
            Message::Roots(Vec::new()),
            Message::WantStates,
            Message::Credit { bytes: u64::MAX },
        ];
        if round % 50 == 0 {
            flood.push(Message::Vector(vector.clone()));
        }
        if round % 12 == 0 {
            // New chains each time; 40,000 fit beside the vector.
            let announced = (0..1500).map(|_| Announced { id: CommitId(rng.bytes()), chain: chain(&mut rng), counter: u64::MAX });
            flood.push(Message::Announce(announced.collect()));
        }
        if round % 12 == 0 {
            flood.push(Message::Compare(Compare::Which { symbols: (0..100_000).collect() }));
            flood.push(Message::Compare(Compare::Lacks((0..50_000).map(|_| (chain(&mut rng), 1)).collect())));
            flood.push(Message::Compare(Compare::Those(vector.clone())));
        }
        for message in flood {
            bob.hears(message, node);
        }
        for _ in 0..20 {
            bob.takes(Input::Tick, node);
        }
        assert_eq!(bob.ending, None, "round {round}: all of this is allowed");
        assert!(bob.most <= MAX_HELD, "round {round}: {} bytes", bob.most);
    }
    for _ in 0..16 {
        bob.hears(Message::WantChunks(Wanted { tree, path: Vec::new(), names: Vec::new() }), &network.nodes[1]);
    }
    println!("said {} bytes, held at most {}", bob.said, bob.most);
    assert!(bob.said > 3 * bob.most, "{} of {} bytes are held", bob.most, bob.said);
}

/// Lets alice say orphans that fill the quarantine, and their ancestors, which let them go to a disk that never answers; and again.
fn orphans(rounds: usize, reads: bool) -> Bob {
    let (mut network, mut rng) = scene();
    let mut bob = Bob::greet(&network);
    for _ in 0..rounds {
        network.nodes[0].restart(&mut rng);
        let first = network.nodes[0].commit(vec![request(&mut rng, 10)]);
        let (commit, requests) = network.nodes[0].commit_of(&first.id).clone();
        let ancestor = network.nodes[0].loose_parcel(&commit, &requests);
        let (commit, requests) = network.nodes[0].signed(vec![large(&mut rng, 200_000)], 2);
        let orphan = network.nodes[0].loose_parcel(&commit, &requests);
        for parcel in [orphan, ancestor] {
            bob.hears(Message::Commits(vec![parcel]), &network.nodes[1]);
            while reads && let Ok(Some(_)) = bob.exchange.poll_message(&network.nodes[1]) {}
        }
    }
    println!("{} bytes said, {} held at most", bob.said, bob.most);
    bob
}

#[test]
fn commits_that_are_stored_slowly_are_held_within_the_bound() {
    let bob = orphans(400, true);
    assert_eq!(bob.ending, None);
    assert!(bob.exchange.tally().turned_away > 0, "what is beyond comes again with the next vector");
    assert!(bob.most < 12 << 20 && bob.said > 6 * bob.most, "{} bytes said, {} held", bob.said, bob.most);
}

#[test]
fn who_does_not_read_its_credit_cannot_send_on() {
    let bob = orphans(20, false);
    assert_eq!(bob.ending, Some(Ending::Refused(Refusal::Broken)));
}

#[test]
fn questions_beyond_those_that_may_wait_are_refused() {
    let (network, _) = scene();
    let node = &network.nodes[1];
    let broken = Some(Ending::Refused(Refusal::Broken));
    let tree = node.offers[0].trees[0].documents;
    let mut bob = Bob::greet(&network);
    bob.hears(Message::WantStates, node);
    let Ok(_) = std::iter::from_fn(|| bob.exchange.poll_message(node).transpose()).collect::<Result<Vec<_>, _>>();
    for _ in 0..17 {
        assert_eq!(bob.ending, None);
        bob.hears(Message::WantChunks(Wanted { tree, path: Vec::new(), names: Vec::new() }), node);
    }
    assert_eq!(bob.ending, broken, "questions for chunks");
}

#[test]
fn names_beyond_what_may_be_awaited_are_forgotten() {
    let (network, mut rng) = scene();
    let mut bob = Bob::greet(&network);
    bob.hears(Message::Vector(VersionVector::default()), &network.nodes[1]);
    for _ in 0..64 {
        let announced = (0..MAX_LIST).map(|_| Announced { id: CommitId(rng.bytes()), chain: chain(&mut rng), counter: 1 });
        bob.hears(Message::Announce(announced.collect()), &network.nodes[1]);
    }
    assert_eq!(bob.ending, None);
    assert!(bob.said > 4 * bob.most, "{} of {} bytes are held", bob.most, bob.said);
}
