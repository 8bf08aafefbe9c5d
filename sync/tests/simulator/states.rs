//! States as they lie: a first copy, a difference, and what is not served.

use herdbook_model::tree::Tree;
use herdbook_sync::{
    exchange::{Ending, Input, Output, Settings},
    message::{Message, Offer, Refusal},
};

use crate::{
    conversations::{endings, members},
    fixtures::request,
    network::Network,
    rng::Rng,
};

/// Returns alice with `commits` commits and her state on offer, and bob with nothing.
fn filled(commits: usize) -> (Network, Offer) {
    let (mut network, _) = members(2);
    let mut rng = Rng::new(9);
    for _ in 0..commits {
        network.nodes[0].commit((0..8).map(|_| request(&mut rng, 3_000)).collect());
    }
    let offer = network.nodes[0].offer();
    (network, offer)
}

fn states(network: &Network) -> Vec<&Vec<Offer>> {
    let mut found = Vec::new();
    for (_, output) in &network.seen {
        if let Output::States(offers) = output {
            found.push(offers);
        }
    }
    found
}

#[test]
fn a_first_copy_gets_states_before_history_and_all_of_both() {
    let (mut network, offer) = filled(300);
    let first = Settings { states_first: true, ..Settings::default() };
    network.connect([1, 0], [first, Settings::default()]);
    let came = network.run_until(5_000, |network| !states(network).is_empty());
    assert!(came.is_some());
    assert_eq!(states(&network), [&vec![offer.clone()]]);
    assert!(network.nodes[1].content().is_empty(), "no history yet");
    for tree in offer.trees.iter().flat_map(|of| [of.documents, of.deleted, of.conflicts]) {
        herdbook_model::tree::audit(&network.nodes[1], &tree).expect("whole and well formed");
    }
    assert!(network.run_until(5_000, Network::is_converged).is_some(), "history follows");
    assert_eq!(network.nodes[1].root(), network.nodes[0].root());
}

#[test]
fn only_the_difference_travels_to_who_holds_an_older_state() {
    let (mut network, old) = filled(100);
    let first = Settings { states_first: true, ..Settings::default() };
    let link = network.connect([1, 0], [first, Settings::default()]);
    network.run(5_000);
    let whole = network.links[link].machines[1].tally().payload;
    let mut rng = Rng::new(10);
    network.cut_all();
    network.nodes[0].commit(vec![request(&mut rng, 10)]);
    let new = network.nodes[0].offer();
    let link = network.connect([1, 0], [Settings::default(); 2]);
    network.run(1_000);
    network.give(link, 0, Input::FetchStates { have: vec![old] });
    network.run(2_000);
    assert_eq!(states(&network).last(), Some(&&vec![new.clone()]));
    let difference = network.links[link].machines[1].tally().payload;
    assert!(difference * 2 < whole, "{difference} of {whole} bytes");
    for tree in new.trees.iter().flat_map(|of| [of.documents, of.deleted, of.conflicts]) {
        herdbook_model::tree::audit(&network.nodes[1], &tree).expect("whole and well formed");
    }
}

#[test]
fn a_tree_that_was_not_offered_is_not_served() {
    let (mut network, offer) = filled(10);
    network.nodes[0].offers.clear();
    let link = network.connect([1, 0], [Settings::default(); 2]);
    network.run(1_000);
    let wanted = vec![offer.trees[0].documents];
    network.transmit(link, 0, Message::WantStates);
    network.transmit(link, 0, Message::WantChunks { have: vec![Tree::empty()], wanted });
    network.run(500);
    assert_eq!(endings(&network, 0), [Ending::Refused(Refusal::Broken)]);
}

#[test]
fn a_state_whose_chunk_is_gone_is_not_reported() {
    let (mut network, offer) = filled(100);
    network.nodes[0].drop_chunk(&offer.trees[0].documents.root());
    let first = Settings { states_first: true, ..Settings::default() };
    network.connect([1, 0], [first, Settings::default()]);
    network.run(2_000);
    assert!(states(&network).is_empty());
    assert_eq!(endings(&network, 1), [Ending::RefusedByPeer(Refusal::Busy)]);
}

#[test]
fn chunks_nobody_asked_for_end_the_exchange() {
    let (mut network, _) = filled(1);
    let link = network.connect([1, 0], [Settings::default(); 2]);
    network.run(1_000);
    let chunk = Tree::empty_chunk();
    network.transmit(link, 1, Message::Chunks { chunks: vec![(chunk.id(), chunk.bytes().to_vec())], last: true });
    network.run(500);
    assert_eq!(endings(&network, 1), [Ending::Refused(Refusal::Broken)]);
    assert_eq!(network.nodes[1].chunk_count(), 0);
}
