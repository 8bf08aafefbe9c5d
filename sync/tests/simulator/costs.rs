//! What a conversation costs, in bytes of canonical content, as PROTOCOL.md states it.

use std::collections::BTreeMap;

use herdbook_model::codec::Encode as _;
use herdbook_sync::message::{Compare, Message, Parcel, RequestBody};

use crate::{
    conversations::{connect, members},
    network::Network,
};

/// Returns a message's name and the bytes of its content.
pub(crate) fn measure(message: &Message) -> (&'static str, u64) {
    let (name, bytes) = match message {
        Message::Hello(hello) => {
            let enrolment = hello.enrolment.as_ref().map_or(0, |of| of.epoch.to_bytes().len() + of.entry.to_bytes().len());
            ("Hello", 4 + 32 + 32 + 32 + 1 + enrolment + 80 + 8)
        }
        Message::Proof { .. } => ("Proof", 64),
        Message::Summary(summary) => ("Summary", 32 + summary.newest.map_or(0, |_| 48)),
        Message::Vector(vector) => ("Vector", vector.to_bytes().len()),
        Message::Compare(Compare::Cells { cells, .. }) => ("Cells", 4 + cells.len() * 8 + 32),
        Message::Compare(Compare::Want { .. }) => ("WantCells", 4),
        Message::Compare(Compare::Which { symbols }) => ("Which", symbols.len() * 8),
        Message::Compare(Compare::Those(vector)) => ("Those", vector.to_bytes().len()),
        Message::Compare(Compare::Lacks(chains)) => ("Lacks", 1 + chains.len() * 18),
        Message::WantEntries { .. } => ("WantEntries", 8),
        Message::Entries(entries) => ("Entries", entries.iter().map(|entry| entry.to_bytes().len()).sum()),
        Message::Announce(announced) => ("Announce", announced.len() * 56),
        Message::Want(ranges) => ("Want", ranges.len() * 32),
        Message::Commits(parcels) => {
            let body = |body: &RequestBody| match body {
                RequestBody::Present(bytes) => bytes.len(),
                RequestBody::Absent { documents, .. } => 32 + documents.iter().map(String::len).sum::<usize>(),
            };
            let parcel = |parcel: &Parcel| {
                let certificate = parcel.certificate.as_ref().map_or(0, |certificate| certificate.to_bytes().len());
                parcel.commit.to_bytes().len() + certificate + parcel.requests.iter().map(body).sum::<usize>()
            };
            ("Commits", parcels.iter().map(parcel).sum())
        }
        Message::Roots(roots) => ("Roots", roots.iter().map(|root| root.branch.as_str().len() + 96).sum()),
        Message::WantStates => ("WantStates", 0),
        Message::Offers(offers) => ("Offers", offers.iter().map(|offer| offer.vector.to_bytes().len() + offer.trees.len() * 128).sum()),
        Message::WantChunks(wanted) => ("WantChunks", 40 + (wanted.path.len() + wanted.names.len()) * 2),
        Message::Chunks { chunks, .. } => ("Chunks", chunks.iter().map(|(_, bytes)| 32 + bytes.len()).sum()),
        Message::Credit { .. } => ("Credit", 8),
        Message::Refuse(_) => ("Refuse", 1),
    };
    (name, bytes as u64)
}

type Measured = BTreeMap<&'static str, (u64, u64)>;

/// Measures what goes over all links while `scene` plays, and prints it.
fn played(name: &str, network: &mut Network, scene: impl FnOnce(&mut Network)) -> Measured {
    network.measured = Some(Measured::new());
    scene(network);
    let measured = network.measured.take().expect("set above");
    println!("{name}");
    for (message, (count, bytes)) in &measured {
        println!("  {message:<12} {count:>5} messages {bytes:>8} bytes");
    }
    measured
}

#[test]
fn conversations_cost_what_the_protocol_says() {
    let (mut network, _) = members(2);
    let opening = played("two equal nodes meet", &mut network, |network| {
        connect(network, 0, 1);
        network.run(1_000);
    });
    assert_eq!(opening.keys().copied().collect::<Vec<_>>(), ["Hello", "Proof"]);
    let idle = played("a minute of silence", &mut network, |network| network.run(60_000));
    assert!(idle.iter().all(|(name, (count, bytes))| *name == "Summary" && bytes / count <= 100), "{idle:?}");
    assert!(idle["Summary"].0 <= 12, "each side once in ten seconds");
    let live = played("one commit is made and stored", &mut network, |network| {
        network.commit(0, 10);
        network.run(3_000);
    });
    assert_eq!((live["Commits"].0, live["Announce"]), (1, (1, 56)), "one body, one receipt");
    network.cut_all();
    for _ in 0..1_000 {
        network.nodes[0].commit(vec![crate::fixtures::request(&mut network.rng, 10)]);
    }
    let behind = played("one side is 1,000 commits of one session behind", &mut network, |network| {
        connect(network, 0, 1);
        network.run(5_000);
    });
    assert!(network.is_converged());
    assert!(behind["Vector"].0 == 2 && behind["Commits"].0 <= 3, "one round trip, full messages: {behind:?}");
}

/// Returns the bytes of all messages that tell what is held, when two nodes that share `sessions` sessions meet after each wrote `apart` more.
fn compared(sessions: u64, apart: [u64; 2]) -> u64 {
    let (mut network, _) = members(2);
    let write = |network: &mut Network, node: usize, sessions: u64| {
        for _ in 0..sessions {
            network.nodes[node].restart(&mut network.rng);
            network.commit(node, 10);
        }
    };
    write(&mut network, 0, sessions);
    let first = played("a new node fetches many sessions", &mut network, |network| {
        connect(network, 0, 1);
        network.run(10_000);
    });
    assert!(network.is_converged());
    assert_eq!((first["Vector"].0, first["Lacks"]), (1, (1, 1)), "who has nothing is told no vector");
    network.cut_all();
    for node in [0, 1] {
        write(&mut network, node, apart[node]);
    }
    let again = played("they meet again", &mut network, |network| {
        connect(network, 0, 1);
        network.run(10_000);
    });
    assert!(network.is_converged());
    let told = ["Vector", "Cells", "WantCells", "Which", "Those", "Lacks"].map(|name| again.get(name).map_or(0, |(_, bytes)| *bytes));
    assert_eq!(told[0], 0, "no vector is told: {again:?}");
    told.into_iter().sum()
}

#[test]
fn what_it_takes_to_compare_follows_what_differs() {
    for apart in [[0, 10], [10, 0], [6, 7], [60, 80]] {
        let [few, many] = [400, 1_600].map(|sessions| compared(sessions, apart));
        println!("{apart:?} sessions apart: {few} bytes of 400 sessions, {many} of 1,600");
        let cells = 1_636 + 8 * 2 * (apart[0] + apart[1]) + 18 * 2 * (apart[0] + apart[1]) + 1_200;
        assert!(few.max(many) <= cells, "{apart:?}: {few} and {many} bytes, at most {cells} expected");
    }
}
