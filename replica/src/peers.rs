//! The peers of a node: who is connected, what each holds durably, what was seen wrong.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use actix::Addr;
use herdbook_model::{
    authority::Entry,
    id::{ChainId, ReplicaId},
    vector::{Range, VersionVector},
};
use herdbook_sync::exchange::Accepted;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::actor::peer::{Ask, Close, PeerActor};

/// Most exchanges with one peer: each side may call, and one that is gone may not be known to be. Beyond it the oldest ends.
const EXCHANGES: usize = 4;

/// Is told what exchanges bring: the authority's restore listens.
pub trait Observer: Send + Sync {
    /// A peer told entries of its head log.
    fn entries(&self, from: ReplicaId, entries: &[Entry]);
    /// A peer says what it holds.
    fn holds(&self, from: ReplicaId, vector: &VersionVector);
    /// Commits from a peer were stored.
    fn stored(&self, from: ReplicaId, commits: &[Accepted]);
    /// Everything a peer told of is stored.
    fn covered(&self, from: ReplicaId);
    /// A peer's exchange ended.
    fn gone(&self, from: ReplicaId);
}

/// What is known of one peer.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Exchanges open with it.
    pub connections: u32,
    /// What it said it holds durably.
    pub holds: VersionVector,
    /// When it was last heard.
    pub heard: Option<Instant>,
    /// Whether the last summaries were equal.
    pub level: bool,
    /// Where it listens, if known.
    pub address: Option<String>,
}

/// What is known of a peer, and the exchanges open with it.
type Tracked = (Known, Vec<Addr<PeerActor>>);

/// All peers of a node.
pub struct Peers {
    known: Mutex<BTreeMap<ReplicaId, Tracked>>,
    online: AtomicBool,
    changed: watch::Sender<u64>,
    alarms: Mutex<Vec<String>>,
}

impl Default for Peers {
    fn default() -> Self {
        Self { known: Mutex::default(), online: AtomicBool::new(true), changed: watch::channel(0).0, alarms: Mutex::default() }
    }
}

impl Peers {
    /// Returns what is known of each peer.
    pub fn all(&self) -> BTreeMap<ReplicaId, Known> {
        self.known.lock().iter().map(|(id, (known, _))| (*id, known.clone())).collect()
    }

    /// Whether an exchange with `replica` is open.
    pub fn is_connected(&self, replica: &ReplicaId) -> bool {
        self.known.lock().get(replica).is_some_and(|(known, _)| known.connections > 0)
    }

    /// Returns the peers that said they hold commit `counter` of `chain` durably.
    pub fn holders(&self, chain: &ChainId, counter: u64) -> Vec<ReplicaId> {
        self.known.lock().iter().filter(|(_, (known, _))| known.holds.contains(chain, counter)).map(|(id, _)| *id).collect()
    }

    /// Returns a counter that rises whenever what is known changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether this node talks to others; an operator can take it off the network.
    pub fn is_online(&self) -> bool {
        self.online.load(Ordering::Relaxed)
    }

    /// Takes the node off the network or back. Off: exchanges end and none is begun or taken. Returns how it was.
    pub fn set_online(&self, online: bool) -> bool {
        let was = self.online.swap(online, Ordering::Relaxed);
        if !online {
            self.close_all();
        }
        self.touch();
        was
    }

    /// Ends every exchange.
    pub fn close_all(&self) {
        for (_, addresses) in self.known.lock().values() {
            for address in addresses {
                address.do_send(Close);
            }
        }
    }

    /// Asks a peer for commits of which requests are absent here.
    pub fn ask(&self, replica: &ReplicaId, ranges: &[Range]) {
        if let Some((_, addresses)) = self.known.lock().get(replica)
            && let Some(address) = addresses.last()
        {
            address.do_send(Ask(ranges.to_vec()));
        }
    }

    /// Returns what was seen wrong, oldest first.
    pub fn alarms(&self) -> Vec<String> {
        self.alarms.lock().clone()
    }

    pub(crate) fn alarm(&self, what: String) {
        const MOST: usize = 256;
        let mut alarms = self.alarms.lock();
        if alarms.len() < MOST && alarms.last() != Some(&what) {
            alarms.push(what);
        }
    }

    pub(crate) fn opened(&self, replica: ReplicaId, actor: Addr<PeerActor>) {
        let mut known = self.known.lock();
        let (entry, actors) = known.entry(replica).or_default();
        entry.connections += 1;
        entry.heard = Some(Instant::now());
        actors.retain(Addr::connected);
        if actors.len() >= EXCHANGES {
            actors.remove(0).do_send(Close);
        }
        // It was begun before this node went off the network, and was not among those that were closed then.
        if !self.is_online() {
            actor.do_send(Close);
        }
        actors.push(actor);
        drop(known);
        self.touch();
    }

    pub(crate) fn closed(&self, replica: ReplicaId) {
        if let Some((known, actors)) = self.known.lock().get_mut(&replica) {
            known.connections = known.connections.saturating_sub(1);
            known.level = false;
            actors.retain(actix::Addr::connected);
        }
        self.touch();
    }

    pub(crate) fn heard(&self, replica: ReplicaId) {
        if let Some((known, _)) = self.known.lock().get_mut(&replica) {
            known.heard = Some(Instant::now());
        }
    }

    /// Notes that both sides hold the same: `vector`, which was held here when the summary that agrees was made.
    pub(crate) fn settled(&self, replica: ReplicaId, vector: &VersionVector) {
        if let Some((known, _)) = self.known.lock().get_mut(&replica) {
            known.level = true;
            known.holds.merge(vector);
        }
        self.touch();
    }

    pub(crate) fn holds(&self, replica: ReplicaId, vector: &VersionVector) {
        self.known.lock().entry(replica).or_default().0.holds.merge(vector);
        self.touch();
    }

    /// Notes where a peer listens. Returns whether that is news.
    pub fn note_address(&self, replica: ReplicaId, address: &str) -> bool {
        if address.is_empty() {
            return false;
        }
        let mut known = self.known.lock();
        let noted = &mut known.entry(replica).or_default().0.address;
        noted.replace(address.to_owned()).as_deref() != Some(address)
    }

    /// Returns how long a peer has been silent.
    pub fn silence(known: &Known) -> Option<Duration> {
        known.heard.map(|heard| heard.elapsed())
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}
