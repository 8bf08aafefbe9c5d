//! Connections between members: taking exchanges, and keeping one open to each peer whose address is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use herdbook_model::id::ReplicaId;
use herdbook_proto::{client::Client, status::Failure as _, v1};
use herdbook_sync::{
    exchange::{Settings as ExchangeSettings, Side},
    message::{Message, Purpose},
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Inner,
    asking::{Asking, Unaddressed},
    refusal::Refusal,
};
use crate::actor::peer::{Conversation, FRAMES, PeerActor};

/// Shortest and longest pause before a peer is called again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How often it is looked for members that no exchange is open with.
const LOOK: Duration = Duration::from_millis(1000);

/// How many looks a member waits to be called before it calls itself.
const PATIENCE: u32 = 2;

/// Takes exchanges.
pub(super) struct SyncService {
    pub(super) node: Arc<Inner>,
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<v1::ExchangeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl v1::sync_service_server::SyncService for SyncService {
    type ExchangeStream = Answers;

    async fn exchange(&self, request: Request<Streaming<v1::ExchangeRequest>>) -> Result<Response<Answers>, Status> {
        if !self.node.peers.is_online() {
            return Err(Refusal::Offline.to_status());
        }
        let mut frames = request.into_inner();
        let (incoming, take) = mpsc::channel(FRAMES);
        let (outgoing, give) = mpsc::channel::<Message>(FRAMES);
        tokio::spawn(async move {
            while let Ok(Some(frame)) = frames.message().await {
                match Message::try_from(frame) {
                    Ok(message) => {
                        if incoming.send(message).await.is_err() {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a frame cannot be read");
                        break;
                    }
                }
            }
        });
        self.node.converse(Side::Listener, outgoing, take).map_err(|error| Refusal::NoExchange(error).to_status())?;
        let answers = ReceiverStream::new(give).map(|message| {
            let frame = v1::Frame::try_from(message).map_err(|error| Refusal::Unsayable(error).to_status())?;
            Ok(v1::ExchangeResponse { frame: Some(frame) })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Inner {
    /// Starts the actor of one exchange on the peers' thread.
    fn converse(&self, side: Side, outgoing: mpsc::Sender<Message>, frames: mpsc::Receiver<Message>) -> Result<(), crate::keys::Error> {
        let purpose = if self.is_recovering() { Purpose::Recover } else { Purpose::Converge };
        // A replica that has nothing yet takes a state as it lies before the history of it.
        let view = self.here.repository.view();
        let is_empty = view.branches.iter().all(|(branch, state)| state.frontier().is_empty() && view.ahead(branch).is_none());
        let states_first = is_empty && purpose == Purpose::Converge;
        let conversation = Conversation {
            here: self.here.for_exchange(),
            side,
            settings: ExchangeSettings::new(purpose, states_first),
            is_hub: self.role == herdbook_model::authority::Role::Coordinator,
            key: self.key.clone(),
            nonce: crate::keys::random()?,
            peers: self.peers.clone(),
            observer: self.observer.clone(),
            outgoing,
        };
        self.arbiter.spawn_fn(move || {
            PeerActor::open(conversation, frames);
        });
        Ok(())
    }

    /// Calls a peer and carries one exchange with it until it ends.
    async fn call(&self, address: &str) -> Result<(), String> {
        let client = Client::connect_member(&[address]).await.map_err(|error| error.to_string())?;
        let (incoming, take) = mpsc::channel(FRAMES);
        let (outgoing, give) = mpsc::channel::<Message>(FRAMES);
        let frames = ReceiverStream::new(give).filter_map(|message| async {
            v1::Frame::try_from(message).inspect_err(|error| tracing::error!(%error, "a message does not fit the wire")).ok()
        });
        self.converse(Side::Caller, outgoing, take).map_err(|error| error.to_string())?;
        let mut answers = client.exchange(frames).await.map_err(|error| error.to_string())?;
        while let Some(message) = answers.next().await.map_err(|error| error.to_string())? {
            if incoming.send(message).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Keeps an exchange open to `address` until the node stops; while `replica`, if it is known who listens there, is connected anyway,
    /// it is not called.
    async fn keep(self: Arc<Self>, address: String, replica: Option<ReplicaId>) {
        let mut stopping = self.stopping();
        let mut pause = PAUSE.0;
        while !*stopping.borrow() {
            let connected = replica.is_some_and(|replica| self.peers.is_connected(&replica));
            if self.peers.is_online() && !connected {
                let began = Instant::now();
                tokio::select! {
                    outcome = self.call(&address) => {
                        if let Err(error) = outcome {
                            tracing::debug!(%address, %error, "no exchange");
                        }
                    }
                    _ = stopping.changed() => break,
                }
                // A conversation that went on for a while earns a quick return.
                pause = if began.elapsed() > PAUSE.1 { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
            } else {
                pause = PAUSE.0;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopping.changed() => break,
            }
        }
    }

    /// Calls those it was told of, and members that others told of. Of two members the one with the lower key calls at once; the other
    /// does so when nobody called for a while, since its address may be known to it alone.
    pub(super) async fn dial(self: Arc<Self>) {
        let mut called = BTreeSet::new();
        let mut alone = BTreeMap::new();
        let mut stopping = self.stopping();
        let (mut asking, mut was_away) = (Asking::default(), false);
        for address in self.settings.coordinator.iter().chain(&self.settings.peers) {
            if called.insert(address.clone()) {
                tokio::spawn(self.clone().keep(address.clone(), None));
            }
        }
        while !*stopping.borrow() {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = stopping.changed() => break,
            }
            if !self.peers.is_online() {
                // Much may have changed by then.
                (asking, was_away) = (Asking::default(), true);
                continue;
            }
            if std::mem::take(&mut was_away) {
                // Those it was told of are being called again just now: by the next look it talks to them.
                continue;
            }
            let unaddressed = self.unaddressed();
            if asking.is_due(&unaddressed, Instant::now()) {
                let answered = tokio::select! {
                    answered = self.learn_addresses() => answered,
                    _ = stopping.changed() => break,
                };
                asking.note(unaddressed, answered, Instant::now());
            }
            let own = self.here.repository.replica();
            for (replica, known) in self.peers.all() {
                let Some(address) = known.address.filter(|_| replica != own) else { continue };
                let looks = alone.entry(replica).or_insert(0u32);
                *looks = if known.connections > 0 { 0 } else { *looks + 1 };
                if (own < replica || *looks > PATIENCE) && called.insert(address.clone()) {
                    tokio::spawn(self.clone().keep(address, Some(replica)));
                }
            }
        }
    }

    fn unaddressed(&self) -> Unaddressed {
        let (peers, own, view) = (self.peers.all(), self.here.repository.replica(), self.here.repository.view());
        let mut unaddressed = Unaddressed::default();
        for (replica, member) in view.log.members() {
            let known = peers.get(replica);
            if *replica == own || member.revoked.is_some() || known.is_some_and(|known| known.address.is_some()) {
                continue;
            }
            let is_connected = known.is_some_and(|known| known.connections > 0);
            let them = if is_connected { &mut unaddressed.connected } else { &mut unaddressed.strangers };
            them.insert(*replica);
        }
        unaddressed
    }

    /// Asks the coordinator, and members whose address is known, where the others listen; the first that answers is enough. Returns whether one
    /// did.
    async fn learn_addresses(&self) -> bool {
        let known: Vec<_> = self.peers.all().into_values().filter_map(|known| known.address).collect();
        for address in self.settings.coordinator.iter().chain(&self.settings.peers).chain(&known) {
            let Ok(client) = Client::connect(&[address]).await else { continue };
            let Ok(peers) = client.peers().await else { continue };
            for peer in peers {
                if peer.replica != self.here.repository.replica() {
                    self.note_address(peer.replica, &peer.address);
                }
            }
            return true;
        }
        false
    }
}
