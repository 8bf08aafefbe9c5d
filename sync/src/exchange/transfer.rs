//! Commits as they go out: in causal order, one message at a time, as long as the peer gave credit.

use herdbook_model::{codec::Encode as _, vector::Range};

use super::{Exchange, Plant, outgoing::Place};
use crate::{
    local::Local,
    message::{MAX_LIST, MAX_PAYLOAD, Message, Parcel, Refusal, RequestBody},
};

/// Bytes that a certificate takes.
const CERTIFICATE: usize = 168;

/// Returns what `parcel` counts for in messages and credit, in bytes; both sides count alike.
pub(super) fn parcel_len(parcel: &Parcel) -> usize {
    let requests = parcel.requests.iter().map(|request| match request {
        RequestBody::Present(bytes) => bytes.len() + 4,
        RequestBody::Absent { documents, .. } => 40 + documents.iter().map(|document| document.len() + 4).sum::<usize>(),
    });
    let certificate = if parcel.certificate.is_some() { CERTIFICATE } else { 0 };
    parcel.commit.to_bytes().len() + certificate + requests.sum::<usize>()
}

impl Exchange {
    pub(super) fn wanted<L: Local>(&mut self, ranges: &[Range], local: &L) -> Result<(), L::Error> {
        if ranges.len() > MAX_LIST {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        let served = if self.settings.has(Plant::FirstRangeOnly) { 1 } else { MAX_LIST };
        let held = local.vector();
        ranges.iter().take(served).try_for_each(|range| self.outgoing.add(*range, &held, local))
    }

    /// Returns the next message of commits, if there are any to send and credit to send them.
    pub(super) fn next_commits<L: Local>(&mut self, local: &L) -> Result<Option<Message>, L::Error> {
        if self.outgoing.is_empty() || self.outgoing.credit <= 0 {
            return Ok(None);
        }
        let (mut parcels, mut bytes) = (Vec::new(), 0);
        while let Some((place, parcel, len)) = self.next_parcel(local)? {
            if bytes > 0 && bytes + len > MAX_PAYLOAD {
                self.outgoing.held = Some((place, parcel, len));
                break;
            }
            bytes += len;
            self.vectors.raise(place.chain, place.counter);
            parcels.push(parcel);
        }
        if parcels.is_empty() {
            return Ok(None);
        }
        self.outgoing.credit -= i64::try_from(bytes).unwrap_or(i64::MAX);
        self.tally.sent += parcels.len() as u64;
        self.tally.payload += bytes as u64;
        if self.settings.has(Plant::DropLast) {
            parcels.pop();
        }
        Ok(Some(Message::Commits(parcels)))
    }

    fn next_parcel<L: Local>(&mut self, local: &L) -> Result<Option<(Place, Parcel, usize)>, L::Error> {
        if let Some(held) = self.outgoing.held.take() {
            return Ok(Some(held));
        }
        while let Some(place) = self.outgoing.next(local)? {
            let Some(mut parcel) = local.parcel(&place.id)? else { continue };
            let session = parcel.commit.header().session;
            if self.outgoing.certify(session) {
                parcel.certificate = local.certificate(&session)?;
            }
            let len = parcel_len(&parcel);
            return Ok(Some((place, parcel, len)));
        }
        Ok(None)
    }
}
