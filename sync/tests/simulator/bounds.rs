//! What a peer may not do, however much it wants to: memory and links are bounded by the machine, not by good will.

use herdbook_model::{
    id::{ChainId, CommitId},
    vector::{Range, VersionVector},
};
use herdbook_sync::{
    exchange::{Ending, Input, Received},
    message::{Announced, Compare, MAX_CHAINS, MAX_LIST, Message, Parcel, Refusal},
    sketch::FIRST,
};

use crate::{
    conversations::{connect, endings, members},
    fixtures::{large, request},
    network::Network,
    rng::Rng,
};

fn opened() -> (Network, usize) {
    let (mut network, _) = members(2);
    let link = connect(&mut network, 0, 1);
    network.run(1_000);
    (network, link)
}

fn chain(number: usize) -> ChainId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    ChainId(id)
}

/// Says `message` to bob and returns how he took it.
fn say(message: Message) -> Vec<Ending> {
    let (mut network, link) = opened();
    network.transmit(link, 0, message);
    network.run(200);
    endings(&network, 1)
}

#[test]
fn lists_beyond_their_limits_end_the_exchange() {
    let broken = [Ending::Refused(Refusal::Broken)];
    let announced = Announced { id: CommitId([1; 32]), chain: chain(1), counter: 1 };
    let range = Range { chain: chain(1), first: 1, last: u64::MAX };
    let vector: VersionVector = (0..=MAX_CHAINS).map(|number| (chain(number), 1)).collect();
    assert_eq!(say(Message::Announce(vec![announced; MAX_LIST + 1])), broken);
    assert_eq!(say(Message::Want(vec![range; MAX_LIST + 1])), broken);
    assert_eq!(say(Message::Vector(vector)), broken);
    assert_eq!(say(Message::Compare(Compare::Lacks(vec![(chain(1), 1); MAX_CHAINS + 1]))), broken);
    let cells = |first, count| Message::Compare(Compare::Cells { first, cells: vec![7; count], vector: [7; 32] });
    for unasked in [cells(0, FIRST + 1), cells(0, 0), cells(1, FIRST)] {
        assert_eq!(say(unasked), broken);
    }
    assert_eq!(say(cells(0, FIRST)), [], "what nobody can make out is asked for as it is");
    assert_eq!(say(Message::Entries(Vec::new())), broken);
    assert_eq!(say(Message::Proof { signature: [0; 64] }), broken);
    assert_eq!(say(Message::Want(vec![range; MAX_LIST])), [], "as many as allowed, of a chain nobody has");
}

/// A parcel of a commit that stands on one nobody has.
fn orphan(network: &mut Network, rng: &mut Rng, size: usize) -> Parcel {
    network.nodes[0].restart(rng);
    network.nodes[0].commit(vec![request(rng, 10)]);
    let (commit, requests) = network.nodes[0].signed(vec![large(rng, size)], 2);
    network.nodes[0].loose_parcel(&commit, &requests)
}

#[test]
fn orphans_beyond_the_quarantine_are_turned_away() {
    let (mut network, link) = opened();
    let mut rng = Rng::new(3);
    network.nodes[0].offers.clear();
    for _ in 0..60 {
        let parcel = orphan(&mut network, &mut rng, 200_000);
        network.transmit(link, 0, Message::Commits(vec![parcel]));
        network.run(1);
    }
    network.run(200);
    let tally = network.links[link].machines[1].tally();
    assert!(tally.waited > 0 && tally.turned_away > 0, "{tally:?}");
    assert!(network.links[link].is_up);
}

#[test]
fn who_sends_beyond_its_credit_is_refused() {
    let (mut network, link) = opened();
    let mut rng = Rng::new(4);
    // More than a window before bob's disk is done with any of it.
    for _ in 0..9 {
        network.nodes[0].commit(vec![large(&mut rng, 200_000)]);
        let newest = network.nodes[0].frontier.ids()[0];
        let (commit, requests) = network.nodes[0].commit_of(&newest).clone();
        let parcel = network.nodes[0].loose_parcel(&commit, &requests);
        network.transmit(link, 0, Message::Commits(vec![parcel]));
    }
    network.run(200);
    assert_eq!(endings(&network, 1), [Ending::Refused(Refusal::Broken)]);
}

#[test]
fn a_request_that_was_withheld_is_not_stored() {
    let (mut network, link) = opened();
    let mut rng = Rng::new(6);
    let commit = network.nodes[0].commit(vec![request(&mut rng, 10), request(&mut rng, 10)]);
    network.nodes[0].damage(&commit.id, 1);
    network.changed(0, &[commit], true, None);
    network.run(500);
    assert!(matches!(network.nodes[0].commit_of(&commit.id).1[1], Received::Absent { .. }));
    assert!(!network.nodes[1].content().contains_key(&commit.id));
    assert!(network.links[link].is_up, "a damaged disk is no crime");
}

#[test]
fn old_messages_said_again_in_any_order_break_nothing() {
    let (mut network, _) = members(2);
    network.recorded = Some(Vec::new());
    network.nodes[1].forget_entries(3);
    for node in [0, 1, 0, 1] {
        network.commit(node, 10);
        network.nodes[node].restart(&mut network.rng);
        network.nodes[node].offer();
        let link = connect(&mut network, 0, 1);
        network.run(3_000);
        network.give(link, 1 - node, Input::FetchStates);
        network.run(3_000);
        network.cut_all();
    }
    let recorded = network.recorded.take().expect("set above");
    let (content, mut opened) = (network.nodes[1].content().len(), 0);
    for _ in 0..100 {
        let link = connect(&mut network, 0, 1);
        network.run(100);
        for _ in 0..6 {
            let message = recorded[network.rng.index(recorded.len())].clone();
            network.transmit(link, 0, message);
        }
        network.run(100);
        opened += usize::from(network.links[link].is_up);
        network.cut_all();
    }
    network.nodes[1].audit().expect("nothing broken was stored");
    assert_eq!(network.nodes[1].content().len(), content);
    assert!((1..100).contains(&opened), "some messages end an exchange, most do not: {opened}");
}
