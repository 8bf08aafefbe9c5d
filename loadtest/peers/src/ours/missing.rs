//! What it takes to find missing commits: two exchanges of real machines over the wire's own encoding, between nodes that hold a million commits
//! each, as numbers alone, and never met. Nothing is sent of the commits themselves.

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Entry, Genesis, Kind, Log, Role, SessionCertificate},
    chunk::Verified,
    graph::{Graph, Meta},
    id::{ChainId, ChunkId, CommitId, ReplicaId, SessionId},
    time::Time,
    tree::{self, Node, Nodes},
    vector::VersionVector,
};
use herdbook_proto::v1;
use herdbook_sync::{
    exchange::{Exchange, Input, Now, Output, Settings, Side},
    local::{Held, Local},
    message::{Enrolment, Message, Offer, Parcel, RootOf},
};
use prost::Message as _;

use super::failed;
use crate::error::Error;

/// Commits of a session.
const SESSION: u64 = 10;

/// Bytes that the transport puts before a message: a frame's head of HTTP/2 and the length of a message of gRPC.
const HEADS: usize = 9 + 5;

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Bytes both ways, hello and proof left out.
    pub(crate) bytes: f64,
    /// Messages after which the answer to the last question had come, there and back.
    pub(crate) turns: f64,
    /// Milliseconds of both sides.
    pub(crate) millis: f64,
}

/// A node that knows what it holds and has none of it.
struct Paper {
    log: Arc<Log>,
    held: Held,
}

impl Graph for Paper {
    type Error = Infallible;

    fn meta(&self, _: &CommitId) -> Result<Option<Meta>, Infallible> {
        Ok(None)
    }

    fn at(&self, _: &ChainId, _: u64) -> Result<Option<CommitId>, Infallible> {
        Ok(None)
    }
}

impl Nodes for Paper {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, tree::Error> {
        Err(tree::Error::Missing { id: *id })
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, tree::Error> {
        Err(tree::Error::Missing { id: *id })
    }
}

impl Local for Paper {
    fn log(&self) -> Arc<Log> {
        self.log.clone()
    }

    fn entries(&self, _: u64, _: usize) -> Result<Vec<Entry>, Infallible> {
        Ok(Vec::new())
    }

    fn enrolment(&self) -> Option<Enrolment> {
        None
    }

    fn held(&self) -> Held {
        self.held.clone()
    }

    fn parcel(&self, _: &CommitId) -> Result<Option<Parcel>, Infallible> {
        Ok(None)
    }

    fn certificate(&self, _: &SessionId) -> Result<Option<SessionCertificate>, Infallible> {
        Ok(None)
    }

    fn lacks_requests(&self, _: &CommitId) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn is_coming(&self, _: &ChainId, _: u64) -> bool {
        false
    }

    fn roots(&self) -> Result<Vec<RootOf>, Infallible> {
        Ok(Vec::new())
    }

    fn offers(&self) -> Result<Vec<Offer>, Infallible> {
        Ok(Vec::new())
    }

    fn chunk(&self, _: &ChunkId) -> Result<Option<Verified>, Infallible> {
        Ok(None)
    }

    fn absent(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Infallible> {
        Ok(ids.to_vec())
    }
}

/// Returns the log of a repository with two members.
fn log(members: &[SigningKey; 2]) -> Result<Log, Error> {
    let [root, authority] = [11, 12].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let genesis = Genesis { name: "bench".to_owned(), root: root.verifying_key().to_bytes(), created: Time::ZERO, nonce: [0; 16] };
    let mut log = Log::new(genesis.id(), genesis.root);
    let epoch = Kind::Epoch { certificate: AuthorityCertificate::sign(genesis.id(), authority.verifying_key().to_bytes(), (1, 1), &root) };
    let enrol = |member: &SigningKey| Kind::Enrol {
        replica: ReplicaId(member.verifying_key().to_bytes()),
        name: "bench".to_owned(),
        role: Role::Replica,
    };
    for kind in [epoch, enrol(&members[0]), enrol(&members[1])] {
        let place = log.newest().map_or((1, 0, None), |newest| (1, newest.seq + 1, Some(newest.id)));
        let entry = Entry::sign(genesis.id(), place, Time::from_millis(1), kind, &authority);
        log.extend(&entry).map_err(|error| failed(error.to_string()))?;
    }
    Ok(log)
}

/// Lets a node that lacks the newest commit of `missing` sessions, among `commits` commits, meet one that has all.
///
/// # Errors
/// If they do not find exactly that.
pub(crate) fn missing(missing: u64, commits: u64) -> Result<Found, Error> {
    let sessions = commits / SESSION;
    // As names of chains are: without order, and each as likely as the other.
    let chain = |session: u64| {
        let name = herdbook_model::id::Domain::Chain.hash(&[b"bench", &session.to_le_bytes()]);
        ChainId(std::array::from_fn(|at| name[at]))
    };
    let apart = sessions / missing;
    let lacking = |session: u64| u64::from(session.is_multiple_of(apart) && session / apart < missing);
    let all: VersionVector = (0..sessions).map(|session| (chain(session), SESSION)).collect();
    let part: VersionVector = (0..sessions).map(|session| (chain(session), SESSION - lacking(session))).collect();
    let members = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let log = Arc::new(log(&members)?);
    let paper = |vector: VersionVector, digest| Paper { log: log.clone(), held: Held { digest: [digest; 32], vector: Arc::new(vector) } };
    let nodes = [paper(part.clone(), 1), paper(all.clone(), 2)];
    let now = Now { elapsed: Duration::ZERO, wall: Time::from_millis(1_000) };
    let mut machines: Vec<_> = [Side::Caller, Side::Listener]
        .into_iter()
        .enumerate()
        .map(|(at, side)| Exchange::open(Settings::default(), side, members[at].clone(), [20 + at as u8; 32], now, &nodes[at]))
        .collect();
    let (mut bytes, mut turns, begun, mut last) = (0, 0, Instant::now(), None);
    let mut held = [None, None];
    loop {
        let mut is_idle = true;
        for at in [0, 1] {
            while let Some(message) = machines[at].poll_message(&nodes[at]).unwrap_or_else(|never| match never {}) {
                is_idle = false;
                if !matches!(message, Message::Hello(_) | Message::Proof { .. }) {
                    turns += u64::from(last.replace(at) != Some(at));
                    let frame = v1::Frame::try_from(message.clone()).map_err(|error| failed(error.to_string()))?;
                    bytes += frame.encoded_len() + HEADS;
                }
                machines[1 - at].handle(Input::Received(message), now, &nodes[1 - at]).unwrap_or_else(|never| match never {});
            }
            while let Some(output) = machines[at].poll_output() {
                match output {
                    Output::Holds(vector) => held[at] = Some(vector),
                    Output::Closed(ending) => return Err(failed(ending.to_string())),
                    _ => {}
                }
            }
        }
        if is_idle {
            break;
        }
    }
    let millis = begun.elapsed().as_secs_f64() * 1000.0;
    let found = held[1].take().map_or(0, |theirs| theirs.missing_from(&all).iter().map(herdbook_model::vector::Range::len).sum::<u64>());
    if found != missing || held[0].take().is_none_or(|theirs| !theirs.covers(&part)) {
        return Err(failed(format!("{found} of {missing} missing commits were found")));
    }
    Ok(Found { bytes: bytes as f64, turns: turns as f64, millis })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_found_in_bytes_that_follow_it_alone() {
        let [few, many] = [10_000, 100_000].map(|commits| missing(10, commits).expect("it is found").bytes);
        assert!((few - many).abs() < 200.0 && many < 2_000.0, "{few} and {many} bytes");
        assert!(missing(100, 100_000).expect("it is found").bytes < 9_000.0);
    }
}
