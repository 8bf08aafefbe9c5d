//! What one thing costs, measured here and now: the constants of the forecast.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    time::{Duration, Instant},
};

use herdbook_model::{
    SigningKey,
    authority::{is_signed, sign},
    codec::{Decode as _, Encode as _},
    commit::{Commit, Unverified},
    testutil::{self, update, workload},
    time::Time,
};
use herdbook_proto::v1;
use herdbook_sync::message::{Message, Parcel, RequestBody};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    workload::{Record, key},
};

/// How long each is measured.
const TIMED: Duration = Duration::from_millis(300);

/// Commits of the messages that are measured, and documents that they are on.
const COMMITS: u64 = 200;

/// Costs, in microseconds of one core unless their name says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Signing.
    pub sign: f64,
    /// Checking a signature.
    pub verify: f64,
    /// Taking a commit of one edit into graph and state.
    pub take: f64,
    /// Making a frame of commits, for each commit in it.
    pub encode: f64,
    /// Reading it.
    pub decode: f64,
    /// Bytes of a commit in a frame of two hundred.
    pub parcel_bytes: f64,
    /// Microseconds until a kilobyte is on the disk.
    pub sync: f64,
    /// What threads do that share their work: clients, and the server's network.
    pub network: Share,
    /// What the thread does that makes commits.
    pub maker: Share,
    /// What the thread does that writes them.
    pub writer: Share,
    /// Microseconds for which a request waits for neither a core nor its sync: until threads are awake and have their turn, and for the syncs of others.
    pub wait: f64,
}

/// A cost that has two parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Of each request of one edit, whatever commit it goes into.
    pub request: f64,
    /// Of each commit, whatever requests it holds.
    pub commit: f64,
}

impl Share {
    /// Returns the parts of what a request costs where so many share a commit, seen at two such numbers: `(cost, requests of a commit)`.
    pub fn of((alone, few): (f64, f64), (shared, many): (f64, f64)) -> Self {
        // request + commit / requests = cost, twice.
        let parts = 1.0 / few - 1.0 / many;
        let commit = if parts > 0.05 { ((alone - shared) / parts).clamp(0.0, alone.max(0.0)) } else { 0.0 };
        Self { request: (shared - commit / many).max(0.0), commit }
    }

    /// Returns what so many requests in one commit cost.
    pub fn times(self, requests: usize) -> f64 {
        self.request.mul_add(requests as f64, self.commit)
    }
}

impl Costs {
    /// Returns what a request of one edit costs, client and server together, whatever commit it goes into.
    pub fn request(&self) -> f64 {
        self.network.request + self.maker.request + self.writer.request
    }

    /// Returns what a commit costs, whatever requests it holds.
    pub fn commit(&self) -> f64 {
        self.network.commit + self.maker.commit + self.writer.commit
    }
}

/// Measures all but shares and waiting, which take a server: those are 0.
///
/// # Errors
/// [`Error::File`] if nothing can be written in `folder`.
pub(super) fn measure(folder: &Path) -> Result<Costs, Error> {
    let signer = SigningKey::from_bytes(&[7; 32]);
    let (hash, public) = ([9; 32], signer.verifying_key().to_bytes());
    let signature = sign(&signer, &hash);
    let deliveries = deliveries();
    let message = message(&deliveries);
    let frame = v1::Frame::try_from(message.clone()).ok();
    let each = |micros: f64| micros / COMMITS as f64;
    Ok(Costs {
        sign: micros(|| sign(&signer, &hash)),
        verify: micros(|| is_signed(&public, &hash, &signature)),
        take: each(take(&deliveries)),
        encode: each(micros(|| v1::Frame::try_from(message.clone()).map(|frame| frame.encode_to_vec()))),
        decode: each(micros(|| frame.clone().map(Message::try_from))),
        parcel_bytes: frame.as_ref().map_or(0.0, |frame| frame.encoded_len() as f64 / COMMITS as f64),
        sync: sync(folder)?,
        network: Share::default(),
        maker: Share::default(),
        writer: Share::default(),
        wait: 0.0,
    })
}

/// Returns the microseconds that something takes.
fn micros<T>(mut act: impl FnMut() -> T) -> f64 {
    let (begun, mut count) = (Instant::now(), 0u32);
    while begun.elapsed() < TIMED {
        std::hint::black_box(act());
        count += 1;
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

/// Returns a commit that writes documents, and [`COMMITS`] that change one each.
fn deliveries() -> Vec<testutil::Delivery> {
    let mut alice = testutil::Replica::new("alice", std::sync::Arc::new(workload::schema()));
    alice.commit(Time::from_millis(1), (0..COMMITS).map(|i| workload::creation(i, 0)));
    for i in 0..COMMITS {
        alice.commit(Time::from_millis(2 + i), std::iter::once((workload::DOCUMENTS, update(&key(i), Record::of(i, 1).fields()))));
    }
    alice.deliveries().cloned().collect()
}

fn message(deliveries: &[testutil::Delivery]) -> Message {
    let parcel = |delivery: &testutil::Delivery| {
        let bodies = delivery.requests.iter().flatten().map(|request| RequestBody::Present(request.to_bytes()));
        Parcel {
            commit: Commit::<Unverified>::from_bytes(&delivery.commit.to_bytes()).expect("it was just made"),
            certificate: None,
            requests: bodies.collect(),
        }
    };
    Message::Commits(deliveries.iter().skip(1).map(parcel).collect())
}

/// Returns the microseconds that another takes for all of them.
fn take(deliveries: &[testutil::Delivery]) -> f64 {
    let (begun, mut spent, mut rounds) = (Instant::now(), Duration::ZERO, 0u32);
    while begun.elapsed() < TIMED {
        let mut bob = testutil::Replica::new("bob", std::sync::Arc::new(workload::schema()));
        let (first, others) = deliveries.split_first().expect("there is one");
        bob.receive(first).expect("it is sound");
        let started = Instant::now();
        for delivery in others {
            bob.receive(delivery).expect("it is sound");
        }
        spent += started.elapsed();
        rounds += 1;
    }
    spent.as_secs_f64() * 1e6 / f64::from(rounds)
}

/// As a log does it: into a file whose room is there already, one kilobyte after another.
fn sync(folder: &Path) -> Result<f64, Error> {
    const ROOM: u64 = 4 << 20;
    const LEN: u64 = 1024;
    let path = folder.join("synced");
    let failed = |source| Error::File { what: "write", path: path.clone(), source };
    let file = File::create(&path).map_err(failed)?;
    for at in (0..ROOM).step_by(1 << 20) {
        file.write_all_at(&vec![0; 1 << 20], at).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    let (begun, mut count) = (Instant::now(), 0u32);
    while begun.elapsed() < TIMED {
        let at = u64::from(count) * LEN % ROOM;
        file.write_all_at(&[1; 1024], at).and_then(|()| file.sync_data()).map_err(failed)?;
        count += 1;
    }
    let micros = begun.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    fs::remove_file(&path).map_err(failed)?;
    Ok(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cost_is_measured() {
        let folder = crate::cluster::temporary_folder(None).expect("made");
        let Costs { sign, verify, take, encode, decode, parcel_bytes, sync, .. } = measure(folder.path()).expect("it can be written");
        assert!([sign, verify, take, encode, decode, sync].iter().all(|cost| *cost > 0.0));
        // A signature alone has 64 bytes, and nothing of it compresses.
        assert!((64.0..2000.0).contains(&parcel_bytes), "{parcel_bytes}");
    }

    #[test]
    fn a_cost_is_taken_apart_by_what_it_is_at_two_sizes_of_commits() {
        let share = Share::of((130.0, 1.0), (40.0, 10.0));
        assert!((share.request - 30.0).abs() < 1e-9 && (share.commit - 100.0).abs() < 1e-9, "{share:?}");
        assert!((share.times(10) - 400.0).abs() < 1e-9);
        // Nothing is below nothing, and what does not differ tells of no commits.
        assert_eq!(Share::of((10.0, 1.0), (40.0, 10.0)), Share { request: 40.0, commit: 0.0 });
        assert_eq!(Share::of((40.0, 10.0), (30.0, 10.0)), Share { request: 30.0, commit: 0.0 });
    }
}
