//! Drives one exchange with one peer: carries frames, changes, receipts and ticks to the machine, and its outputs to the world.
//!
//! No rule of the protocol is here; see `herdbook_sync::exchange`.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext as _, ActorFutureExt as _, Addr, AsyncContext as _, Context, Handler, Message, StreamHandler, WrapFuture as _,
};
use herdbook_model::{
    SigningKey,
    authority::Entry,
    id::{CommitId, ReplicaId},
    vector::VersionVector,
};
use herdbook_sync::{
    evidence::Evidence,
    exchange::{Accepted, Ending, Exchange, Input, Now, Output, SILENCE, Settings, Side, TICK},
    message::{self, Announced, Purpose},
};
use tokio::sync::{broadcast, mpsc};

use crate::{
    error::Error,
    local::{Here, as_base},
    peers::{Observer, Peers},
    repository::{Change, Outcome, Received},
};

/// Frames that wait between the transport and the machine, at most, each way. A message of the machine is made when there is room for it;
/// what the peer says is always taken.
pub(crate) const FRAMES: usize = 4;

/// How long after a peer was asked for states it is asked again, if it had none.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// What an exchange needs.
pub(crate) struct Conversation {
    pub(crate) here: Here,
    pub(crate) side: Side,
    pub(crate) settings: Settings,
    /// Whether others meet here, so that what comes in goes out at once and not only its name.
    pub(crate) is_hub: bool,
    pub(crate) key: SigningKey,
    pub(crate) nonce: [u8; 32],
    pub(crate) peers: Arc<Peers>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) outgoing: mpsc::Sender<message::Message>,
}

/// One exchange.
pub(crate) struct PeerActor {
    conversation: Conversation,
    exchange: Exchange,
    began: Instant,
    peer: Option<ReplicaId>,
    /// Commits that wait for the store: as many as the peer had credit for.
    stores: VecDeque<(u64, Vec<Accepted>)>,
    storing: bool,
    ended: Option<Ending>,
    /// Whether the transport is waited for.
    is_full: bool,
    /// When the peer was last asked for states that are waited for.
    asked: Option<Instant>,
    /// Carries what becomes visible here into the mailbox.
    follower: Option<tokio::task::JoinHandle<()>>,
}

/// Something became visible here.
#[derive(Message)]
#[rtype(result = "()")]
struct Changed(Change);

/// Asks for commits of which requests are absent.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Ask(pub(crate) Vec<herdbook_model::vector::Range>);

/// Ends the exchange.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close;

impl PeerActor {
    /// Starts an exchange on the current actor system; it ends with the stream of frames.
    pub(crate) fn open(conversation: Conversation, frames: mpsc::Receiver<message::Message>) -> Addr<Self> {
        Self::create(|context| {
            context.set_mailbox_capacity(1024);
            context.add_stream(tokio_stream::wrappers::ReceiverStream::new(frames));
            let began = Instant::now();
            let now = Now { elapsed: Duration::ZERO, wall: conversation.here.repository.now() };
            let Conversation { side, settings, key, nonce, here, .. } = &conversation;
            let exchange = Exchange::open(*settings, *side, key.clone(), *nonce, now, here);
            Self {
                conversation,
                exchange,
                began,
                peer: None,
                stores: VecDeque::new(),
                storing: false,
                ended: None,
                is_full: false,
                asked: None,
                follower: None,
            }
        })
    }

    fn now(&self) -> Now {
        Now { elapsed: self.began.elapsed(), wall: self.conversation.here.repository.now() }
    }

    fn give(&mut self, input: Input, context: &mut Context<Self>) {
        let now = self.now();
        let handled = self.exchange.handle(input, now, &self.conversation.here);
        if let Err(error) = handled {
            return self.fail(&error, context);
        }
        self.pump(context);
    }

    /// Does what is to be done, and says what is to be said while there is room for it.
    fn pump(&mut self, context: &mut Context<Self>) {
        loop {
            while let Some(output) = self.exchange.poll_output() {
                // What the actor waits for must be done before the next output: waits run last first.
                let waits = matches!(output, Output::Entries(_) | Output::StoreChunks { .. } | Output::States(_));
                self.carry(output, context);
                if waits {
                    return;
                }
            }
            self.conversation.here.let_go(self.exchange.is_fetching());
            // Nobody else sends on this channel: what has room now has room still.
            if self.conversation.outgoing.is_closed() {
                return context.stop();
            }
            if self.conversation.outgoing.capacity() == 0 {
                self.wait_for_room(context);
                break;
            }
            match self.exchange.poll_message(&self.conversation.here) {
                Ok(Some(message)) => drop(self.conversation.outgoing.try_send(message)),
                Ok(None) => break,
                Err(error) => return self.fail(&error, context),
            }
        }
        if self.ended.is_some() {
            context.stop();
        }
    }

    /// Goes on when the transport took a message. A peer that takes none for as long as it would have to hear one is gone.
    fn wait_for_room(&mut self, context: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_full, true) {
            return;
        }
        let outgoing = self.conversation.outgoing.clone();
        let room = async move { tokio::time::timeout(SILENCE, outgoing.reserve()).await.is_ok() };
        context.spawn(room.into_actor(self).map(|has_room, actor, context| {
            actor.is_full = false;
            if has_room {
                actor.pump(context);
            } else {
                tracing::info!(peer = ?actor.peer.map(|peer| short(&peer)), "the peer reads nothing");
                context.stop();
            }
        }));
    }

    fn carry(&mut self, output: Output, context: &mut Context<Self>) {
        let peer = self.peer;
        match output {
            Output::Opened { peer, .. } => {
                tracing::info!(peer = %short(&peer), "exchange opened");
                self.peer = Some(peer);
                self.conversation.peers.opened(peer, context.address());
            }
            Output::Store { batch, commits } => {
                self.stores.push_back((batch, commits));
                self.store_next(context);
            }
            Output::StoreChunks { batch, chunks } => {
                let repository = self.conversation.here.repository.clone();
                let store = async move { tokio::task::spawn_blocking(move || repository.store().chunks().put_many(&chunks)).await };
                context.wait(store.into_actor(self).map(move |stored, actor, context| match stored {
                    Ok(Ok(())) => actor.give(Input::Stored { batch }, context),
                    Ok(Err(error)) => actor.fail(&error.into(), context),
                    Err(_) => context.stop(),
                }));
            }
            Output::Entries(entries) => self.take_entries(entries, context),
            Output::Asking(ranges) => self.conversation.here.coming.ask(&ranges),
            Output::Holds(vector) => self.holds(&vector),
            Output::Withheld(commit) => tracing::warn!(?commit, "the peer lacks edits of a commit"),
            Output::Covered => self.observe(|observer, peer| observer.covered(peer)),
            Output::Settled(held) => {
                if let Some(peer) = peer {
                    self.conversation.peers.settled(peer, &held);
                }
            }
            Output::States(offers) => {
                let repository = self.conversation.here.repository.clone();
                let bases = offers.into_iter().map(as_base).collect();
                let adopt = async move { tokio::task::spawn_blocking(move || repository.take_bases(bases)).await };
                context.wait(adopt.into_actor(self).map(|adopted, actor, context| match adopted {
                    Ok(Ok(taken)) => {
                        tracing::info!(taken, "states were fetched");
                        actor.pump(context);
                    }
                    Ok(Err(error)) => actor.fail(&error, context),
                    Err(_) => context.stop(),
                }));
            }
            Output::Evidence(evidence) => {
                tracing::error!(?evidence, "evidence of misbehaviour");
                self.conversation.peers.alarm(format!("{evidence:?}"));
                if let Evidence::SessionFork { other, .. } = evidence {
                    let repository = self.conversation.here.repository.clone();
                    let keep = async move { tokio::task::spawn_blocking(move || repository.keep_fork(&other)).await };
                    context.spawn(keep.into_actor(self).map(|kept, actor, context| {
                        if let Ok(Err(error)) = kept {
                            actor.fail(&error, context);
                        }
                    }));
                }
            }
            Output::Alarm(diverged) => {
                tracing::error!(?diverged, "one state has two roots");
                self.conversation
                    .peers
                    .alarm(format!("roots differ on branch {}: {:?} and {:?}", diverged.branch, diverged.ours, diverged.theirs));
            }
            Output::Closed(ending) => {
                tracing::info!(peer = ?peer.map(|peer| short(&peer)), %ending, "exchange closed");
                self.ended = Some(ending);
            }
        }
    }

    fn changed(&mut self, commits: &[CommitId], eager: bool, context: &mut Context<Self>) {
        let here = &self.conversation.here;
        let announced = commits.iter().filter_map(|id| {
            let meta = here.repository.meta(id).ok().flatten()?;
            Some(Announced { id: *id, chain: meta.chain, counter: meta.counter })
        });
        let commits = announced.collect();
        self.give(Input::Changed { commits, eager }, context);
    }

    fn holds(&self, vector: &VersionVector) {
        let Some(peer) = self.peer else { return };
        self.conversation.peers.holds(peer, vector);
        self.observe(|observer, peer| observer.holds(peer, vector));
    }

    fn observe(&self, tell: impl FnOnce(&dyn Observer, ReplicaId)) {
        if let (Some(observer), Some(peer)) = (&self.conversation.observer, self.peer) {
            tell(observer.as_ref(), peer);
        }
    }

    fn take_entries(&mut self, entries: Vec<Entry>, context: &mut Context<Self>) {
        self.observe(|observer, peer| observer.entries(peer, &entries));
        let repository = self.conversation.here.repository.clone();
        let extend = async move { tokio::task::spawn_blocking(move || repository.hear(&entries)).await };
        context.wait(extend.into_actor(self).map(|extended, actor, context| match extended {
            Ok(Ok(())) => actor.give(Input::LogChanged, context),
            // The restore compares what members tell; a log that contradicts another's is no reason not to hear the rest.
            Ok(Err(Error::Log(_))) if actor.conversation.settings.purpose == Purpose::Recover => actor.give(Input::LogChanged, context),
            Ok(Err(Error::Log(error))) => actor.give(Input::LogRefused(error), context),
            Ok(Err(error)) => actor.fail(&error, context),
            Err(_) => context.stop(),
        }));
    }

    /// Stores one batch at a time, in order, beside the conversation.
    fn store_next(&mut self, context: &mut Context<Self>) {
        if self.storing {
            return;
        }
        let Some((batch, accepted)) = self.stores.pop_front() else { return };
        self.storing = true;
        let repository = self.conversation.here.repository.clone();
        let observed = self.conversation.observer.is_some().then(|| accepted.clone());
        let received = accepted.into_iter().map(as_received).collect();
        let store = async move { tokio::task::spawn_blocking(move || repository.receive(received)).await };
        context.spawn(store.into_actor(self).map(move |stored, actor, context| {
            actor.storing = false;
            match stored {
                Ok(Ok(outcomes)) => {
                    for (commit, outcome) in &outcomes {
                        match outcome {
                            Outcome::Waits(why) => tracing::debug!(?commit, %why, "a commit waits"),
                            Outcome::Refused(why) => tracing::warn!(?commit, %why, "a commit was refused"),
                            Outcome::Stored | Outcome::Known => {}
                        }
                    }
                    if let (Some(peer), Some(accepted), Some(observer)) = (actor.peer, observed, &actor.conversation.observer) {
                        observer.stored(peer, &accepted);
                    }
                    actor.give(Input::Stored { batch }, context);
                    actor.store_next(context);
                }
                Ok(Err(error)) => actor.fail(&error, context),
                Err(_) => context.stop(),
            }
        }));
    }

    /// Asks the peer for states where a branch waits for one, now and then.
    fn fetch_what_is_awaited(&mut self, context: &mut Context<Self>) {
        let is_due = self.asked.is_none_or(|asked| asked.elapsed() >= ASK_AGAIN);
        let is_normal = self.peer.is_some() && self.conversation.settings.purpose == Purpose::Converge;
        if is_due && is_normal && !self.exchange.is_fetching() && self.conversation.here.repository.awaits_base() {
            self.asked = Some(Instant::now());
            self.give(Input::FetchStates, context);
        }
    }

    fn fail(&mut self, error: &Error, context: &mut Context<Self>) {
        tracing::error!(%error, peer = ?self.peer.map(|peer| short(&peer)), "exchange failed here");
        context.stop();
    }
}

impl Actor for PeerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.run_interval(TICK, |actor, context| {
            actor.give(Input::Tick, context);
            actor.fetch_what_is_awaited(context);
        });
        let mut changes = self.conversation.here.repository.changes();
        let own = context.address().downgrade();
        self.follower = Some(actix_rt::spawn(async move {
            loop {
                let change = match changes.recv().await {
                    Ok(change) => change,
                    // What was missed is found by the next summary.
                    Err(broadcast::error::RecvError::Lagged(_)) => Change::Entries,
                    Err(broadcast::error::RecvError::Closed) => break,
                };
                let Some(actor) = own.upgrade() else { break };
                if actor.send(Changed(change)).await.is_err() {
                    break;
                }
            }
        }));
        self.pump(context);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        // In a quiet repository it would wait for ever.
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
        if let Some(peer) = self.peer {
            self.conversation.peers.closed(peer);
            self.observe(|observer, peer| observer.gone(peer));
        }
    }
}

impl StreamHandler<message::Message> for PeerActor {
    fn handle(&mut self, message: message::Message, context: &mut Context<Self>) {
        if let Some(peer) = self.peer {
            self.conversation.peers.heard(peer);
        }
        self.give(Input::Received(message), context);
    }

    fn finished(&mut self, context: &mut Context<Self>) {
        context.stop();
    }
}

impl Handler<Changed> for PeerActor {
    type Result = ();

    fn handle(&mut self, Changed(change): Changed, context: &mut Context<Self>) {
        match change {
            // A name says that the commit is held here, so it waits for the disk; the commit itself says nothing of that.
            Change::Commits { commits, own, .. } if own || self.conversation.is_hub => self.changed(&commits, true, context),
            // At a hub for a peer that came when they could be seen and were not held yet, and so was told neither.
            Change::Durable { commits } => self.changed(&commits, self.conversation.is_hub, context),
            Change::Commits { .. } => {}
            Change::Entries => self.give(Input::LogChanged, context),
            Change::Rebuilt { .. } | Change::Forked => {}
            // What the peer was told is held here is not any more: both begin anew.
            Change::Dropped { .. } => {
                self.give(Input::Close, context);
                context.stop();
            }
        }
    }
}

impl Handler<Ask> for PeerActor {
    type Result = ();

    fn handle(&mut self, Ask(ranges): Ask, context: &mut Context<Self>) {
        self.give(Input::Ask { ranges }, context);
    }
}

impl Handler<Close> for PeerActor {
    type Result = ();

    fn handle(&mut self, _: Close, context: &mut Context<Self>) {
        self.give(Input::Close, context);
        context.stop();
    }
}

fn as_received(accepted: Accepted) -> Received {
    use herdbook_sync::exchange::Received as Body;
    let Accepted { commit, certificate, requests, .. } = accepted;
    let (mut leaves, mut present) = (Vec::with_capacity(requests.len()), Vec::with_capacity(requests.len()));
    let mut remembered = std::collections::BTreeMap::new();
    for (at, body) in (0u32..).zip(requests) {
        match body {
            Body::Present(sealed) => {
                leaves.push(sealed.leaf());
                present.push(Some(sealed));
            }
            Body::Absent { leaf, documents } => {
                leaves.push(leaf);
                present.push(None);
                remembered.insert(at, documents);
            }
        }
    }
    Received { commit, certificate, leaves, requests: present, documents: remembered }
}

/// Eight digits are enough for people.
pub(crate) fn short(replica: &ReplicaId) -> String {
    format!("{replica:?}")
}
