//! States as they lie: a first copy, a difference, and what is not served.

use herdbook_model::{chunk::Kind, tree::Tree, value::Key};
use herdbook_sync::{
    exchange::{Ending, Input, Output, Settings},
    message::{Message, Offer, Refusal, Wanted},
};

use crate::{
    conversations::{endings, members},
    fixtures::{large, request},
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

/// Returns alice with `count` documents of 3,000 bytes, and bob with nothing.
fn documents(count: usize) -> Network {
    let (mut network, _) = members(2);
    let mut rng = Rng::new(9);
    for at in 0..count {
        let mut request = large(&mut rng, 3_000);
        request.groups[0].edits[0].key = Key::new(format!("note-{at}")).expect("short");
        network.nodes[0].commit(vec![request]);
    }
    network.nodes[0].offer();
    network
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
    let (mut network, _) = filled(100);
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
    network.give(link, 0, Input::FetchStates);
    network.run(2_000);
    assert_eq!(states(&network).last(), Some(&&vec![new.clone()]));
    let difference = network.links[link].machines[1].tally().payload;
    assert!(difference * 2 < whole, "{difference} of {whole} bytes");
    for tree in new.trees.iter().flat_map(|of| [of.documents, of.deleted, of.conflicts]) {
        herdbook_model::tree::audit(&network.nodes[1], &tree).expect("whole and well formed");
    }
}

#[test]
fn a_document_beyond_a_chunk_travels_in_parts() {
    let (mut network, _) = members(6);
    let mut rng = Rng::new(11);
    // Concurrent values of one field are all kept until somebody saw them: together they are longer than a chunk may be.
    for node in 0..5 {
        network.nodes[node].commit(vec![large(&mut rng, 400_000)]);
    }
    for node in 1..5 {
        network.connect([node, 0], [Settings::default(); 2]);
    }
    network.run(5_000);
    network.cut_all();
    let offer = network.nodes[0].offer();
    assert!(network.nodes[0].has_chunk_of(Kind::Parts), "the document is longer than a chunk");
    let first = Settings { states_first: true, ..Settings::default() };
    network.connect([5, 0], [first, Settings::default()]);
    assert!(network.run_until(10_000, |network| !states(network).is_empty()).is_some());
    for tree in offer.trees.iter().flat_map(|of| [of.documents, of.deleted, of.conflicts]) {
        herdbook_model::tree::audit(&network.nodes[5], &tree).expect("whole and well formed");
    }
    let has_history = |network: &Network| network.nodes[5].frontier == network.nodes[0].frontier;
    assert!(network.run_until(10_000, has_history).is_some());
}

#[test]
fn an_interrupted_copy_goes_on_where_it_was_and_a_moved_state_costs_its_difference() {
    let first = Settings { states_first: true, ..Settings::default() };
    let mut network = documents(1500);
    let link = network.connect([1, 0], [first, Settings::default()]);
    network.run_until(5_000, |network| !states(network).is_empty()).expect("they come");
    let whole = network.links[link].machines[1].tally().payload;
    let mut network = documents(1500);
    let mut sent = 0;
    for cuts in 1.. {
        let link = network.connect([1, 0], [first, Settings::default()]);
        let held = network.nodes[1].chunk_count();
        let came = network.run_until(5_000, |network| !states(network).is_empty() || network.nodes[1].chunk_count() > held + 100);
        assert!(came.is_some(), "after {cuts} cuts");
        sent += network.links[link].machines[1].tally().payload;
        network.cut_all();
        network.run(100);
        if !states(&network).is_empty() {
            assert!(cuts > 2, "it was interrupted");
            break;
        }
        // The state moves on meanwhile.
        let mut rng = Rng::new(cuts);
        network.nodes[0].commit(vec![request(&mut rng, 10)]);
        network.nodes[0].offer();
    }
    println!("{sent} bytes with interruptions, {whole} without");
    assert!(sent < whole + whole / 2);
}

#[test]
fn a_tree_that_was_not_offered_is_not_served() {
    let (mut network, offer) = filled(10);
    network.nodes[0].offers.clear();
    let link = network.connect([1, 0], [Settings::default(); 2]);
    network.run(1_000);
    let wanted = Wanted { tree: offer.trees[0].documents, path: Vec::new(), names: Vec::new() };
    network.transmit(link, 0, Message::WantStates);
    network.transmit(link, 0, Message::WantChunks(wanted));
    network.run(500);
    assert_eq!(endings(&network, 0), [Ending::Refused(Refusal::Broken)]);
}

#[test]
fn a_state_whose_chunk_is_gone_is_not_reported_and_history_comes_all_the_same() {
    let (mut network, offer) = filled(100);
    network.nodes[0].drop_chunk(&offer.trees[0].documents.root());
    let first = Settings { states_first: true, ..Settings::default() };
    network.connect([1, 0], [first, Settings::default()]);
    assert!(network.run_until(5_000, Network::is_converged).is_some());
    assert!(states(&network).is_empty());
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
