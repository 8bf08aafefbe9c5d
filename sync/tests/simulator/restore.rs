//! An authority that lost everything but its keys, and gets it back from its members.

use herdbook_model::authority::{Entry, Kind, RequestRef};
use herdbook_sync::{
    evidence::Evidence,
    exchange::{Output, Settings},
    message::Purpose,
    restore::{Input, Quorum, Restore},
};

use crate::{
    conversations::{connect, members},
    fixtures::{Authority, key, main, replica, request},
    network::Network,
    node::Node,
    rng::Rng,
};

/// Three members hold the same history and log; then the first, the coordinator, loses all it has.
fn lost() -> (Network, Authority) {
    let (mut network, mut authority) = members(4);
    network.hub = Some(0);
    for member in 1..4 {
        connect(&mut network, member, 0);
    }
    network.run(1_000);
    for node in [1, 2, 3, 1, 2, 3] {
        network.commit(node, 10);
        network.run(100);
    }
    let heads = network.nodes[0].frontier.ids();
    let entry = authority.sign(Kind::Head { branch: main(), heads, root: None, voids: Vec::new() });
    network.nodes[0].extend_log(&[entry]).expect("next in the log");
    network.log_changed(0);
    network.run(1_000);
    assert!(network.is_converged());
    network.cut_all();
    let mut rng = Rng::new(8);
    let mut coordinator = Node::new(key(0), &authority, &mut rng);
    coordinator.forget_entries(0);
    coordinator.enrolment = None;
    coordinator.now = network.now;
    network.nodes[0] = coordinator;
    (network, authority)
}

fn begin(network: &mut Network, quorum: Quorum) {
    let log = network.nodes[0].log.clone();
    network.restore = Some((0, Restore::new(log.repository(), log.root(), replica(&key(0)), quorum)));
}

fn report(network: &mut Network, member: usize) {
    let recover = Settings { purpose: Purpose::Recover, ..Settings::default() };
    network.connect([0, member], [recover, Settings::default()]);
    network.run(3_000);
}

#[test]
fn all_that_members_hold_comes_back() {
    let (mut network, authority) = lost();
    begin(&mut network, Quorum::All);
    report(&mut network, 1);
    report(&mut network, 2);
    assert!(network.decided.is_none(), "one member has not reported");
    report(&mut network, 3);
    let decision = network.decided.clone().expect("all reported");
    let mut reporters: Vec<_> = network.nodes[1..].iter().map(|node| node.replica).collect();
    reporters.sort_unstable();
    assert_eq!(decision.log, authority.entries);
    assert_eq!(decision.reporters, reporters);
    assert_eq!((decision.lost, decision.missing), (vec![], vec![]));
    assert_eq!(network.nodes[0].content(), network.nodes[1].content());
}

/// A report is what a member held when it was asked: were it all that it ever wrote meanwhile, writers faster than the network would keep the
/// authority away for as long as they write.
#[test]
fn members_that_go_on_writing_do_not_put_off_the_end() {
    let (mut network, authority) = lost();
    network.latency = 200;
    let before: Vec<_> = network.nodes[1].content().into_keys().collect();
    begin(&mut network, Quorum::All);
    let recover = Settings { purpose: Purpose::Recover, ..Settings::default() };
    for member in 1..4 {
        network.connect([0, member], [recover, Settings::default()]);
    }
    for turn in 0..1_000 {
        network.commit(1 + turn % 3, 10);
        network.run(5);
        if network.decided.is_some() {
            break;
        }
    }
    let decision = network.decided.clone().expect("all reported while they wrote");
    assert_eq!((decision.log, decision.reporters.len()), (authority.entries, 3));
    assert_eq!((decision.lost, decision.missing), (vec![], vec![]));
    let held = network.nodes[0].content();
    assert!(before.iter().all(|commit| held.contains_key(commit)), "all that there was at the beginning is back");
}

#[test]
fn exactly_what_nobody_has_is_listed_as_lost() {
    let (mut network, _) = lost();
    let commits: Vec<_> = network.nodes[1].content().into_keys().collect();
    // One request is damaged everywhere, one at a single member.
    for member in 1..4 {
        network.nodes[member].damage(&commits[0], 0);
    }
    network.nodes[1].damage(&commits[1], 0);
    begin(&mut network, Quorum::All);
    for member in 1..4 {
        report(&mut network, member);
    }
    let decision = network.decided.clone().expect("all reported");
    let lost: Vec<_> = decision.lost.iter().map(|lost| lost.request).collect();
    assert_eq!(lost, [RequestRef { commit: commits[0], request: 0 }]);
    assert!(decision.lost[0].documents.iter().all(|document| document.starts_with("notes/note-")));
    assert!(!decision.lost[0].documents.is_empty());
    let Ok(lacks) = herdbook_sync::local::Local::lacks_requests(&network.nodes[0], &commits[1]);
    assert!(!lacks, "another member had it");
}

#[test]
fn a_member_that_withholds_entries_changes_nothing_once_an_honest_one_reports() {
    let (mut network, authority) = lost();
    network.nodes[1].forget_entries(4);
    begin(&mut network, Quorum::AtLeast(2));
    report(&mut network, 1);
    report(&mut network, 2);
    assert_eq!(network.decided.clone().expect("two reported").log, authority.entries);
}

#[test]
fn who_is_not_enrolled_in_the_log_decided_on_does_not_count() {
    let (mut network, mut authority) = lost();
    let revoke = authority.sign(Kind::Revoke { replica: network.nodes[1].replica });
    network.nodes[2].extend_log(&[revoke]).expect("next in the log");
    begin(&mut network, Quorum::AtLeast(2));
    report(&mut network, 1);
    report(&mut network, 2);
    assert!(network.decided.is_none(), "the first was revoked, as the longer log says");
    report(&mut network, 3);
    assert!(network.decided.is_some());
}

#[test]
fn accepted_heads_that_nobody_has_are_named() {
    let (mut network, mut authority) = lost();
    let (commit, _) = network.nodes[1].signed(vec![request(&mut Rng::new(1), 10)], network.nodes[1].session().1 + 1);
    let head = authority.sign(Kind::Head { branch: main(), heads: vec![commit.id()], root: None, voids: Vec::new() });
    for member in 1..4 {
        network.nodes[member].extend_log(std::slice::from_ref(&head)).expect("next in the log");
    }
    begin(&mut network, Quorum::All);
    for member in 1..4 {
        report(&mut network, member);
    }
    assert_eq!(network.decided.clone().expect("all reported").missing, [commit.id()]);
}

#[test]
fn the_operators_word_before_anybody_told_anything_means_nothing_later() {
    let (mut network, _) = lost();
    begin(&mut network, Quorum::AtLeast(2));
    let graph = herdbook_model::graph::MemoryGraph::default();
    let (_, restore) = network.restore.as_mut().expect("begun");
    let Ok(()) = restore.handle(Input::Override, &graph);
    report(&mut network, 1);
    assert!(network.decided.is_none(), "one member told, two must");
    let (_, restore) = network.restore.as_mut().expect("begun");
    let Ok(()) = restore.handle(Input::Override, &graph);
    assert!(matches!(restore.poll_output(), Some(herdbook_sync::restore::Output::Decided(_))), "now there is something to open on");
}

#[test]
fn a_log_of_its_own_is_a_source_and_no_report() {
    let (one, _, authority) = two_logs();
    let graph = herdbook_model::graph::MemoryGraph::default();
    let own = replica(&key(0));
    let mut restore = Restore::new(authority.repository, authority.log.root(), own, Quorum::AtLeast(1));
    let Ok(()) = restore.handle(Input::Entries { from: own, entries: &one }, &graph);
    assert_eq!((restore.poll_output(), restore.progress().0.len()), (None, 0));
    // The member that reports was revoked in that log: only the other one counts.
    for (member, counts) in [(1, 0), (2, 1)] {
        let Ok(()) = restore.handle(Input::Entries { from: replica(&key(member)), entries: &authority.entries }, &graph);
        let Ok(()) = restore.handle(Input::Covered { from: replica(&key(member)) }, &graph);
        assert_eq!(restore.progress().0.len(), counts);
    }
    let Some(herdbook_sync::restore::Output::Decided(decision)) = restore.poll_output() else { panic!("one reported") };
    assert_eq!(decision.log, one, "the longer log was its own");
}

fn two_logs() -> (Vec<Entry>, Vec<Entry>, Authority) {
    let authority = Authority::open(&[key(0), key(1), key(2)], true);
    let mut other = authority.clone();
    let mut one = authority.clone();
    one.sign(Kind::Revoke { replica: replica(&key(1)) });
    other.sign(Kind::Revoke { replica: replica(&key(2)) });
    (one.entries, other.entries, authority)
}

#[test]
fn two_logs_of_one_epoch_freeze_the_restore_until_the_operator_decides() {
    let (one, other, authority) = two_logs();
    let graph = herdbook_model::graph::MemoryGraph::default();
    let mut restore = Restore::new(authority.repository, authority.log.root(), replica(&key(0)), Quorum::AtLeast(1));
    for (member, entries) in [(1, &one), (2, &other)] {
        let Ok(()) = restore.handle(Input::Entries { from: replica(&key(member)), entries }, &graph);
    }
    let Some(herdbook_sync::restore::Output::Evidence(Evidence::LogFork { .. })) = restore.poll_output() else { panic!("a fork") };
    for member in [1, 2] {
        let Ok(()) = restore.handle(Input::Covered { from: replica(&key(member)) }, &graph);
    }
    assert_eq!(restore.poll_output(), None);
    let Ok(()) = restore.handle(Input::Override, &graph);
    assert!(matches!(restore.poll_output(), Some(herdbook_sync::restore::Output::Decided(_))));
}

#[test]
fn the_higher_epoch_wins_over_the_longer_old_log() {
    let (long, _, mut authority) = two_logs();
    authority.open_epoch(2);
    let graph = herdbook_model::graph::MemoryGraph::default();
    let mut restore = Restore::new(authority.repository, authority.log.root(), replica(&key(0)), Quorum::All);
    for (member, entries) in [(1, &long), (2, &authority.entries)] {
        let Ok(()) = restore.handle(Input::Entries { from: replica(&key(member)), entries }, &graph);
    }
    assert_eq!(restore.log().and_then(|log| log.newest()), authority.log.newest());
    assert_eq!(restore.poll_output(), None, "different epochs at one place are no fork");
}

#[test]
fn an_entry_that_does_not_hold_ends_a_report_and_no_more() {
    let (_, _, authority) = two_logs();
    let mut liar = authority.clone();
    liar.signer = key(99);
    liar.log = authority.log.clone();
    let forged = liar.entry(1, Kind::Revoke { replica: replica(&key(2)) });
    let graph = herdbook_model::graph::MemoryGraph::default();
    let mut restore = Restore::new(authority.repository, authority.log.root(), replica(&key(0)), Quorum::All);
    let told: Vec<_> = authority.entries.iter().cloned().chain([forged]).collect();
    let Ok(()) = restore.handle(Input::Entries { from: replica(&key(1)), entries: &told }, &graph);
    assert_eq!(restore.log().and_then(|log| log.newest()), authority.log.newest());
}

#[test]
fn a_restored_authority_goes_on_and_its_members_follow() {
    let (mut network, mut authority) = lost();
    begin(&mut network, Quorum::All);
    for member in 1..4 {
        report(&mut network, member);
    }
    let decision = network.decided.clone().expect("all reported");
    network.cut_all();
    network.restore = None;
    network.nodes[0].extend_log(&decision.log).expect("a valid log");
    authority.open_epoch(2);
    let restore = authority.sign(Kind::Restore { reporters: decision.reporters, lost: decision.lost });
    let opening = authority.entries[authority.entries.len() - 2].clone();
    network.nodes[0].extend_log(&[opening, restore]).expect("next in the log");
    for member in 1..4 {
        connect(&mut network, member, 0);
    }
    assert!(network.run_until(5_000, Network::is_converged).is_some());
    assert!(!network.seen.iter().any(|(_, output)| matches!(output, Output::Alarm(_) | Output::Evidence(_))));
}
