//! Conversations between alice, bob and a few others, phase by phase.

use std::collections::BTreeMap;

use herdbook_model::{
    authority::{Kind, Role, sign},
    graph::admit,
    id::{BranchName, RepositoryId},
};
use herdbook_sync::{
    evidence::Evidence,
    exchange::{Accepted, Ending, Exchange, Input, Now, Output, Settings, Side, possession},
    message::{Hello, Message, Purpose, Refusal, Summary, VERSION},
};

use crate::{
    fixtures::{Authority, key, replica, request},
    network::Network,
    node::Node,
    rng::Rng,
};

/// Returns `count` nodes that are members, in a network of 10 ms, and their authority.
pub(crate) fn members(count: u64) -> (Network, Authority) {
    let keys: Vec<_> = (0..count).map(key).collect();
    let authority = Authority::open(&keys, true);
    let mut rng = Rng::new(1);
    let nodes = keys.into_iter().map(|key| Node::new(key, &authority, &mut rng)).collect();
    let mut network = Network::new(nodes, 2);
    network.latency = 10;
    (network, authority)
}

pub(crate) fn connect(network: &mut Network, a: usize, b: usize) -> usize {
    network.connect([a, b], [Settings::default(); 2])
}

pub(crate) fn endings(network: &Network, node: usize) -> Vec<Ending> {
    let ending = |(at, output): &(usize, Output)| match output {
        Output::Closed(ending) if *at == node => Some(*ending),
        _ => None,
    };
    network.seen.iter().filter_map(ending).collect()
}

fn evidence(network: &Network) -> Vec<&Evidence> {
    let mut found = Vec::new();
    for (_, output) in &network.seen {
        if let Output::Evidence(evidence) = output {
            found.push(evidence);
        }
    }
    found
}

#[test]
fn equal_nodes_say_hello_and_nothing_more_than_keepalives() {
    let (mut network, _) = members(2);
    connect(&mut network, 0, 1);
    network.run(9_000);
    assert_eq!(network.coverage.messages, 4, "hello and proof of each");
    network.run(50_000);
    assert_eq!(network.coverage.messages, 4 + 10, "one keepalive of each in ten seconds");
    assert!(network.links[0].machines.iter().all(Exchange::is_settled));
}

#[test]
fn a_silent_peer_is_left() {
    let (mut network, _) = members(2);
    let link = connect(&mut network, 0, 1);
    network.run(1_000);
    let alice = &network.nodes[0];
    let mut exchange = Exchange::open(Settings::default(), Side::Caller, alice.key.clone(), [1; 32], at(0, alice), alice);
    let Ok(()) = exchange.handle(Input::Tick, at(31_000, alice), alice);
    assert!(exchange.is_closed());
    assert!(network.links[link].is_up, "those who talk stay");
}

fn at(millis: u64, node: &Node) -> Now {
    Now { elapsed: std::time::Duration::from_millis(millis), wall: node.wall() }
}

/// Lets bob hear `hello`, and `proof` if he answers with his own; returns how it ended.
fn greet(hello: impl FnOnce(&mut Hello), proof: impl FnOnce(&Hello, &Hello) -> [u8; 64]) -> Option<Ending> {
    let (network, authority) = members(2);
    let bob = &network.nodes[1];
    let mut exchange = Exchange::open(Settings::default(), Side::Listener, bob.key.clone(), [2; 32], at(0, bob), bob);
    let Ok(Some(Message::Hello(his))) = exchange.poll_message(bob) else { panic!("bob says hello first") };
    let mut hers = Hello {
        version: VERSION,
        repository: authority.repository,
        replica: network.nodes[0].replica,
        nonce: [1; 32],
        purpose: Purpose::Converge,
        enrolment: None,
        summary: Summary::default(),
        commits: 0,
    };
    hello(&mut hers);
    let signature = proof(&hers, &his);
    for message in [Message::Hello(hers), Message::Proof { signature }] {
        let Ok(()) = exchange.handle(Input::Received(message), at(0, bob), bob);
    }
    while let Some(output) = exchange.poll_output() {
        if let Output::Closed(ending) = output {
            return Some(ending);
        }
    }
    None
}

fn honest_proof(hers: &Hello, his: &Hello) -> [u8; 64] {
    proof_of(hers, his, Side::Caller, hers.nonce)
}

fn proof_of(hers: &Hello, his: &Hello, side: Side, nonce: [u8; 32]) -> [u8; 64] {
    let message = possession(hers.repository, side, hers.purpose, (hers.replica, nonce), (his.replica, his.nonce));
    sign(&key(0), &message)
}

#[test]
fn a_member_with_its_key_is_let_in() {
    assert_eq!(greet(|_| {}, honest_proof), None);
}

#[test]
fn hello_of_another_version_repository_or_stranger_is_refused() {
    let refused = |refusal| Some(Ending::Refused(refusal));
    assert_eq!(greet(|hello| hello.version = VERSION + 1, honest_proof), refused(Refusal::Version));
    assert_eq!(greet(|hello| hello.repository = RepositoryId([9; 32]), honest_proof), refused(Refusal::Repository));
    assert_eq!(greet(|hello| hello.replica = replica(&key(77)), honest_proof), refused(Refusal::NotAMember));
}

#[test]
fn a_proof_that_is_forged_reflected_or_replayed_is_refused() {
    let refused = Some(Ending::Refused(Refusal::NotAMember));
    assert_eq!(greet(|_| {}, |_, _| [3; 64]), refused, "forged");
    assert_eq!(greet(|_| {}, |hers, his| proof_of(hers, his, Side::Listener, hers.nonce)), refused, "reflected");
    assert_eq!(greet(|_| {}, |hers, his| proof_of(hers, his, Side::Caller, [8; 32])), refused, "replayed");
}

#[test]
fn only_a_coordinator_may_come_to_recover() {
    let recover = |hello: &mut Hello| hello.purpose = Purpose::Recover;
    assert_eq!(greet(recover, honest_proof), None, "alice is the coordinator");
    let (mut network, _) = members(3);
    let settings = Settings { purpose: Purpose::Recover, ..Settings::default() };
    network.connect([1, 2], [settings, Settings::default()]);
    network.run(500);
    assert_eq!(endings(&network, 2), [Ending::Refused(Refusal::NotAMember)]);
}

#[test]
fn an_enrolment_newer_than_the_log_is_believed_and_a_revoked_one_is_not() {
    let (mut network, mut authority) = members(2);
    network.nodes[1].forget_entries(2);
    connect(&mut network, 0, 1);
    network.run(1_000);
    assert_eq!(network.nodes[1].entries, network.nodes[0].entries, "bob knew no member and caught up");

    let revoke = authority.sign(Kind::Revoke { replica: network.nodes[0].replica });
    network.cut_all();
    network.nodes[1].extend_log(&[revoke]).expect("next in the log");
    connect(&mut network, 0, 1);
    network.run(1_000);
    assert_eq!(endings(&network, 1), [Ending::Refused(Refusal::NotAMember)]);
}

#[test]
fn a_commit_crosses_a_hub_in_two_hops() {
    let (mut network, _) = members(3);
    network.hub = Some(0);
    connect(&mut network, 1, 0);
    connect(&mut network, 2, 0);
    network.run(3_000);
    network.measured = Some(BTreeMap::new());
    let commit = network.commit(1, 10);
    network.run(200);
    assert!(network.nodes[2].content().contains_key(&commit.id));
    let measured = network.measured.expect("set above");
    let count = |name| measured.get(name).map_or(0, |(count, _)| *count);
    assert_eq!((count("Commits"), count("Announce"), count("Want")), (2, 2, 0), "two bodies, and two receipts back");
}

#[test]
fn a_mesh_carries_each_body_once_to_each_node() {
    let (mut network, _) = members(4);
    for (a, b) in [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)] {
        connect(&mut network, a, b);
    }
    network.run(3_000);
    network.commit(0, 10);
    assert!(network.run_until(500, Network::is_converged).is_some());
    network.run(5_000);
    let duplicates: u64 = network.links.iter().flat_map(|link| &link.machines).map(|machine| machine.tally().duplicates).sum();
    let sent: u64 = network.links.iter().flat_map(|link| &link.machines).map(|machine| machine.tally().sent).sum();
    assert_eq!((sent, duplicates), (3, 0), "one body for each node but the author");
}

#[test]
fn what_does_not_come_over_one_link_is_asked_of_another() {
    let (mut network, _) = members(4);
    for (a, b) in [(0, 1), (0, 2), (1, 3), (2, 3)] {
        connect(&mut network, a, b);
    }
    network.run(3_000);
    network.commit(0, 10);
    // The peer that was asked first goes away before it answers.
    let asked = network.run_until(100, |network| !network.nodes[3].coming.is_empty());
    assert!(asked.is_some(), "both announced");
    let asked = network.links.iter().position(|link| link.ends[1] == 3 && link.machines[0].tally().sent == 0);
    network.cut(asked.expect("neither has answered"));
    assert!(network.run_until(6_000, Network::is_converged).is_some());
}

#[test]
fn two_entries_of_one_place_are_proof_against_the_authority() {
    let (mut network, authority) = members(2);
    let place = authority.log.newest().map(|newest| (newest.epoch, newest.seq + 1, Some(newest.id))).expect("not empty");
    for (node, name) in [(0, "one"), (1, "other")] {
        let kind = Kind::Enrol { replica: replica(&key(50)), name: name.into(), role: Role::Replica };
        let entry = authority.entry_at(place, kind);
        network.nodes[node].extend_log(&[entry]).expect("next in the log");
    }
    connect(&mut network, 0, 1);
    network.run(1_000);
    assert!(evidence(&network).iter().any(|evidence| matches!(evidence, Evidence::LogFork { .. })));
    assert!(network.nodes.iter().enumerate().all(|(at, _)| !endings(&network, at).is_empty()));
}

#[test]
fn a_forged_entry_is_no_proof() {
    let (mut network, mut authority) = members(2);
    let place =
        authority.log.newest().map(|newest| (newest.epoch, newest.seq, authority.entries.iter().rev().nth(1).map(|entry| entry.id())));
    authority.signer = key(666);
    let forged = authority.entry_at(place.expect("not empty"), Kind::Revoke { replica: replica(&key(0)) });
    let link = connect(&mut network, 0, 1);
    network.run(1_000);
    network.transmit(link, 0, Message::Entries(vec![forged]));
    network.run(1_000);
    assert_eq!(evidence(&network), Vec::<&Evidence>::new());
    assert_eq!(endings(&network, 1), [Ending::Refused(Refusal::Broken)]);
}

#[test]
fn a_fork_that_honest_nodes_hold_is_found_and_what_does_not_stand_on_it_passes() {
    let (mut network, _) = members(4);
    let mut rng = Rng::new(5);
    let carols = network.commit(3, 10);
    // Eve, node 2, tells alice one thing and bob another; both write on top of what they were told.
    let first = network.nodes[2].commit(vec![request(&mut rng, 10)]);
    let first = network.nodes[2].commit_of(&first.id).clone();
    for node in [0, 1] {
        let second = network.nodes[2].signed(vec![request(&mut rng, 10)], 2);
        for (commit, requests) in [first.clone(), second] {
            let certificate = Some(network.nodes[2].session().0);
            let Ok(Ok(meta)) = admit(&network.nodes[node], &commit) else { panic!("in order") };
            network.nodes[node].store(vec![Accepted { commit, meta, certificate, requests }]);
        }
        network.commit(node, 10);
    }
    let link = connect(&mut network, 0, 1);
    network.run(5_000);
    let forks = evidence(&network).into_iter().filter(|evidence| matches!(evidence, Evidence::SessionFork { .. }));
    assert_eq!(forks.count(), 2, "alice and bob each hold the proof");
    connect(&mut network, 3, 0);
    network.run(5_000);
    assert!(network.links[link].is_up, "neither alice nor bob signed the fork");
    assert!(network.nodes[1].content().contains_key(&carols.id));
}

#[test]
fn who_sends_its_own_fork_is_refused() {
    let (mut network, _) = members(2);
    let link = connect(&mut network, 0, 1);
    network.commit(0, 10);
    network.run(1_000);
    let (commit, requests) = network.nodes[0].signed(vec![request(&mut Rng::new(5), 10)], 1);
    let parcel = network.nodes[0].loose_parcel(&commit, &requests);
    network.transmit(link, 0, Message::Commits(vec![parcel]));
    network.run(1_000);
    assert_eq!(endings(&network, 1), [Ending::Refused(Refusal::Fork)]);
}

#[test]
fn a_root_that_differs_is_an_alarm() {
    let (mut network, _) = members(2);
    let link = connect(&mut network, 0, 1);
    network.commit(0, 10);
    network.run(3_000);
    let Ok(mut roots) = herdbook_sync::local::Local::roots(&network.nodes[0]);
    roots[0].root.0[0] ^= 1;
    network.transmit(link, 0, Message::Roots(roots.clone()));
    network.run(100);
    assert!(network.seen.iter().any(|(node, output)| *node == 1 && matches!(output, Output::Alarm(_))));
    roots[0].branch = BranchName::new("main@2").expect("well formed");
    assert_eq!(endings(&network, 0), [Ending::RefusedByPeer(Refusal::Diverged)]);
}

#[test]
fn a_commit_ahead_of_the_clock_waits_until_the_clock_gets_there() {
    let (mut network, _) = members(2);
    connect(&mut network, 0, 1);
    network.run(1_000);
    network.nodes[0].skew = 70_000;
    let commit = network.commit(0, 10);
    network.nodes[0].skew = 0;
    network.run(5_000);
    assert!(!network.nodes[1].content().contains_key(&commit.id));
    network.run(8_000);
    assert!(network.nodes[1].content().contains_key(&commit.id));
}

#[test]
fn receipts_tell_the_author_who_holds_its_commits() {
    let (mut network, _) = members(2);
    connect(&mut network, 0, 1);
    network.run(1_000);
    let commit = network.commit(0, 10);
    network.run(200);
    let holds = |(node, output): &(usize, Output)| {
        *node == 0 && matches!(output, Output::Holds(vector) if vector.contains(&commit.chain, commit.counter))
    };
    assert!(network.seen.iter().any(holds));
}

#[test]
fn a_commit_that_comes_while_digests_are_compared_does_not_count_as_held_by_the_peer() {
    let (network, _) = members(2);
    let [alice, bob] = [0, 1].map(|at| &network.nodes[at]);
    // Whenever it comes.
    for looks in 0..8 {
        alice.looks.set(Some(looks));
        let mut exchange = Exchange::open(Settings::default(), Side::Caller, alice.key.clone(), [1; 32], at(0, alice), alice);
        let Ok(Some(Message::Hello(hers))) = exchange.poll_message(alice) else { panic!("alice says hello first") };
        let summary = Summary { digest: herdbook_sync::summary::digest([]), ..hers.summary.clone() };
        let his = Hello { replica: bob.replica, nonce: [2; 32], enrolment: None, summary: summary.clone(), ..hers.clone() };
        let proof = possession(hers.repository, Side::Listener, Purpose::Converge, (bob.replica, [2; 32]), (alice.replica, [1; 32]));
        for message in [Message::Hello(his), Message::Proof { signature: sign(&key(1), &proof) }, Message::Summary(summary)] {
            let Ok(()) = exchange.handle(Input::Received(message), at(0, alice), alice);
            while let Some(output) = exchange.poll_output() {
                if let Output::Holds(held) = &output {
                    assert!(held.is_empty(), "{looks}: bob has nothing, and says so");
                }
                if let Output::Settled(held) = &output {
                    assert!(held.is_empty(), "{looks}: bob has nothing, and says so");
                }
            }
        }
        assert!(exchange.is_open());
    }
}
