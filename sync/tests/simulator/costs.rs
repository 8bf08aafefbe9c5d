//! What a conversation costs, in bytes of canonical content, as PROTOCOL.md states it.

use herdbook_model::codec::Encode as _;
use herdbook_sync::message::{Message, RequestBody};

/// Returns a message's name and the bytes of its content.
pub(crate) fn measure(message: &Message) -> (&'static str, u64) {
    let (name, bytes) = match message {
        Message::Hello(hello) => {
            let enrolment = hello.enrolment.as_ref().map_or(0, |of| of.epoch.to_bytes().len() + of.entry.to_bytes().len());
            ("Hello", 4 + 32 + 32 + 32 + 1 + enrolment + 80)
        }
        Message::Proof { .. } => ("Proof", 64),
        Message::Summary(summary) => ("Summary", 32 + summary.newest.map_or(0, |_| 48)),
        Message::Vector(vector) => ("Vector", vector.to_bytes().len()),
        Message::WantEntries { .. } => ("WantEntries", 8),
        Message::Entries(entries) => ("Entries", entries.iter().map(|entry| entry.to_bytes().len()).sum()),
        Message::Announce(announced) => ("Announce", announced.len() * 56),
        Message::Want(ranges) => ("Want", ranges.len() * 32),
        Message::Commits(parcels) => {
            let body = |body: &RequestBody| match body {
                RequestBody::Present(bytes) => bytes.len(),
                RequestBody::Absent { documents, .. } => 32 + documents.iter().map(String::len).sum::<usize>(),
            };
            let parcel = |parcel: &herdbook_sync::message::Parcel| {
                let certificate = parcel.certificate.as_ref().map_or(0, |certificate| certificate.to_bytes().len());
                parcel.commit.to_bytes().len() + certificate + parcel.requests.iter().map(body).sum::<usize>()
            };
            ("Commits", parcels.iter().map(parcel).sum())
        }
        Message::Roots(roots) => ("Roots", roots.iter().map(|root| root.branch.as_str().len() + 96).sum()),
        Message::WantStates => ("WantStates", 0),
        Message::Offers(offers) => ("Offers", offers.iter().map(|offer| offer.vector.to_bytes().len() + offer.trees.len() * 128).sum()),
        Message::WantChunks { wanted, have } => ("WantChunks", (wanted.len() + have.len()) * 40),
        Message::Chunks { chunks, .. } => ("Chunks", chunks.iter().map(|(_, bytes)| 32 + bytes.len()).sum()),
        Message::Credit { .. } => ("Credit", 8),
        Message::Refuse(_) => ("Refuse", 1),
    };
    (name, bytes as u64)
}
