//! One conversation between two peers, as a state machine: [`Exchange::handle`] takes what happened, [`Exchange::poll_output`] yields
//! what is to be done here, [`Exchange::poll_message`] what is to be said to the peer.
//!
//! Laws: an idle link costs a keepalive; what is received is verified before it leaves as [`Output::Store`]; commits leave in causal
//! order, ancestors first. Memory is bounded whatever the peer does, and no two machines wait for each other: every input is taken at
//! once, whether or not the transport has room, since nothing that is to be said is queued. It is noted as a fact ("owes the summary",
//! "wants these ranges"), and the message is made of that when there is room to send it. PROTOCOL.md tells the conversation message by
//! message.
//!
//! One file a phase: `hello` opens, `log` carries the head log, `vector` tells each side what the other lacks, `transfer` sends commits,
//! `check` and `ingest` take them, `push` announces new ones, `settle` finds that nothing is left, `state` carries states as they lie.

mod check;
mod compare;
mod hello;
mod ingest;
mod input;
mod log;
mod outgoing;
mod push;
mod quarantine;
mod settle;
mod staged;
mod state;
mod tally;
mod transfer;
mod vector;

use std::{collections::VecDeque, time::Duration};

use herdbook_model::{
    SigningKey,
    id::{ReplicaId, RepositoryId},
    plant::Plant as Process,
    time::Time,
};

pub use self::{
    hello::possession,
    input::{Ending, Input, Output},
    staged::{Accepted, Received},
    tally::Tally,
};
use crate::{
    local::Local,
    message::{Message, Purpose, Refusal},
};

/// How often the driver gives [`Input::Tick`].
pub const TICK: Duration = Duration::from_millis(250);

/// Longest silence of a speaker: then it says its summary again.
pub const KEEPALIVE: Duration = Duration::from_secs(10);

/// Longest silence of a peer: three keepalives. Then the exchange ends.
pub const SILENCE: Duration = Duration::from_secs(30);

/// How long something asked for may take before it is asked for again.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Least time between two summaries of a node that changes.
pub const QUIET: Duration = Duration::from_millis(500);

/// Most bytes that are held for one peer, whatever it does: 8 MiB of commits in quarantine and as much on its way out of it, a window and a
/// message of payload in, a message out, and vectors of [`crate::message::MAX_CHAINS`] chains.
pub const MAX_HELD: usize = 48 << 20;

/// Who opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This node did.
    Caller = 1,
    /// The peer did.
    Listener = 2,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Listener,
            Self::Listener => Self::Caller,
        }
    }
}

/// What [`Settings::cells_from`] is where nobody says otherwise: from here on cells for a small difference take less than the vector.
const CELLS_FROM: usize = 128;

/// What an exchange is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Ordinary, or the return of an authority that lost its data.
    pub purpose: Purpose,
    /// Whether to fetch states as they lie before any history: for a first copy.
    pub states_first: bool,
    /// Fewest chains whose vector is told by cells of what differs; fewer are told as they are.
    pub cells_from: usize,
    /// A bug to have, so that a test can tell that it would be found.
    #[cfg(feature = "plant")]
    pub plant: Option<Plant>,
}

impl Settings {
    /// Returns settings for an exchange of that purpose.
    pub const fn new(purpose: Purpose, states_first: bool) -> Self {
        Self {
            purpose,
            states_first,
            cells_from: CELLS_FROM,
            #[cfg(feature = "plant")]
            plant: None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(Purpose::Converge, false)
    }
}

/// Bugs that the simulator must find. Only a build with the feature `plant` can be given one; some a process can have in real nodes, too,
/// see [`plant`](herdbook_model::plant).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A commit enters though ancestors are missing.
    SkipParents,
    /// The last parcel of each message is forgotten.
    DropLast,
    /// Of several ranges asked for only the first is sent.
    FirstRangeOnly,
    /// Once both sides hold something, digests count as equal.
    DigestsEqual,
    /// Requests are not held against their leaves.
    AnyLeaf,
    /// What would have to wait for an ancestor or for the clock is thrown away.
    NoQuarantine,
}

impl Plant {
    /// Whether this process has it in every exchange.
    fn is_here(self) -> bool {
        match self {
            Self::AnyLeaf => Process::SkipHash.is_here(),
            Self::NoQuarantine => Process::SkipQuarantine.is_here(),
            Self::SkipParents | Self::DropLast | Self::FirstRangeOnly | Self::DigestsEqual => false,
        }
    }
}

impl Settings {
    #[cfg(feature = "plant")]
    fn has(&self, plant: Plant) -> bool {
        plant.is_here() || self.plant == Some(plant)
    }

    #[cfg(not(feature = "plant"))]
    fn has(&self, plant: Plant) -> bool {
        plant.is_here()
    }
}

/// What time it is, from both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since some moment in the past; never goes back. Timers run on it.
    pub elapsed: Duration,
    /// The wall clock; may jump. Commits are held against it.
    pub wall: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for the peer's hello.
    Greeting,
    /// Waits for the peer's proof.
    Proving,
    /// Both are members and hold their keys.
    Open,
    /// Nothing is said any more.
    Closed,
}

/// One conversation with one peer.
///
/// The driver gives each message, change, receipt and tick to [`handle`](Self::handle), then takes outputs until there are none, and
/// messages until there are none or the transport is full; each of both may lead to more of the other. It never waits for room to send
/// before it gives the next input.
#[derive(Debug)]
pub struct Exchange {
    settings: Settings,
    side: Side,
    repository: RepositoryId,
    replica: ReplicaId,
    key: SigningKey,
    nonce: [u8; 32],
    phase: Phase,
    peer: hello::Peer,
    /// At most hello, proof and refusal: what is said whatever the phase.
    opening: VecDeque<Message>,
    outputs: VecDeque<Output>,
    log: log::Reading,
    vectors: vector::Vectors,
    comparison: compare::Comparison,
    outgoing: outgoing::Outgoing,
    incoming: ingest::Incoming,
    push: push::Push,
    settling: settle::Settling,
    fetch: state::Fetch,
    serving: Option<state::Serving>,
    next_batch: u64,
    heard: Duration,
    tally: Tally,
}

impl Exchange {
    /// Opens an exchange on a fresh connection. `nonce` must be unpredictable and used once; `key` is the replica's.
    pub fn open<L: Local>(settings: Settings, side: Side, key: SigningKey, nonce: [u8; 32], now: Now, local: &L) -> Self {
        let mut exchange = Self {
            settings,
            side,
            repository: local.log().repository(),
            replica: ReplicaId(key.verifying_key().to_bytes()),
            key,
            nonce,
            phase: Phase::Greeting,
            peer: hello::Peer::default(),
            opening: VecDeque::new(),
            outputs: VecDeque::new(),
            log: log::Reading::default(),
            vectors: vector::Vectors::default(),
            comparison: compare::Comparison::default(),
            outgoing: outgoing::Outgoing::default(),
            incoming: ingest::Incoming::default(),
            push: push::Push::default(),
            settling: settle::Settling::default(),
            fetch: state::Fetch::Idle,
            serving: None,
            next_batch: 0,
            heard: now.elapsed,
            tally: Tally::default(),
        };
        exchange.greet(now, local);
        exchange
    }

    /// Takes one input. After an error of the node's own store the exchange is to be dropped.
    ///
    /// Cost: follows the input; a vector costs one look-up for each chain in which the sides differ.
    ///
    /// # Errors
    /// Those of `local`.
    pub fn handle<L: Local>(&mut self, input: Input, now: Now, local: &L) -> Result<(), L::Error> {
        if self.phase == Phase::Closed {
            return Ok(());
        }
        match input {
            Input::Received(message) => {
                self.heard = now.elapsed;
                return self.receive(message, now, local);
            }
            Input::Tick => return self.tick(now, local),
            Input::Stored { batch } => return self.stored(batch, now, local),
            Input::Close => self.close(Ending::Local),
            _ if self.phase != Phase::Open => {}
            Input::Changed { commits, eager } => {
                self.settling.moved = now.elapsed;
                return self.changed(&commits, eager, now, local);
            }
            Input::LogChanged => return self.log_changed(now, local),
            Input::LogRefused(error) => self.log_refused(&error),
            Input::FetchStates => self.fetch_states(false),
            Input::Ask { ranges } => self.ask(&ranges),
        }
        Ok(())
    }

    /// Yields the next thing to be done here, `None` when there is nothing until the next input or message.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Yields the next message to the peer, `None` when there is nothing to say until the next input. To be called only when the transport
    /// has room for one: what is yielded counts as said.
    ///
    /// Commits, chunks and entries are read from `local` only here, one message at a time.
    ///
    /// # Errors
    /// Those of `local`; then the exchange is to be dropped.
    pub fn poll_message<L: Local>(&mut self, local: &L) -> Result<Option<Message>, L::Error> {
        if let Some(message) = self.opening.pop_front() {
            return Ok(Some(message));
        }
        if self.phase != Phase::Open {
            return Ok(None);
        }
        // Short ones first, and of those what the peer waits for. Nothing that a peer can ask for again and again stands before what bounds
        // its asking: an entry read, a summary and so on are owed once, however often they were asked for.
        if let Some(message) = self.next_of_log(local)? {
            return Ok(Some(message));
        }
        if let Some(message) = self.next_of_states(local)? {
            return Ok(Some(message));
        }
        if let Some(message) = self.next_of_push(local)? {
            return Ok(Some(message));
        }
        if let Some(message) = self.next_credit() {
            return Ok(Some(message));
        }
        if let Some(message) = self.next_of_comparison(local) {
            return Ok(Some(message));
        }
        if let Some(message) = self.next_vector(local) {
            return Ok(Some(message));
        }
        if let Some(message) = self.next_of_settling(local)? {
            return Ok(Some(message));
        }
        match self.next_commits(local)? {
            Some(commits) => Ok(Some(commits)),
            None => self.next_chunks(local),
        }
    }

    /// Returns what was counted so far.
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Returns about how many bytes are held for this peer: what waits to be sent, to be stored, for ancestors, and what is known of it.
    ///
    /// Law: at most [`MAX_HELD`], whatever the peer says and however little it listens.
    pub fn held(&self) -> usize {
        let outputs = self.outputs.len() * size_of::<Output>();
        let said = self.vectors.held() + self.comparison.held() + self.push.held() + self.outgoing.held() + self.settling.held();
        outputs + said + self.incoming.held() + self.fetch.held() + self.serving.as_ref().map_or(0, state::Serving::held)
    }

    /// Whether it ended.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Whether both sides proved who they are and talk.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether the last summaries were equal: both hold the same.
    pub const fn is_settled(&self) -> bool {
        self.settling.is_settled()
    }

    fn receive<L: Local>(&mut self, message: Message, now: Now, local: &L) -> Result<(), L::Error> {
        match (self.phase, message) {
            (_, Message::Refuse(refusal)) => self.close(Ending::RefusedByPeer(refusal)),
            (Phase::Greeting, Message::Hello(hello)) => self.greeted(hello, local),
            (Phase::Proving, Message::Proof { signature }) => return self.proved(&signature, now, local),
            (Phase::Open, message) => return self.converse(message, now, local),
            _ => self.refuse(Refusal::Broken),
        }
        Ok(())
    }

    fn converse<L: Local>(&mut self, message: Message, now: Now, local: &L) -> Result<(), L::Error> {
        if matches!(message, Message::Vector(_) | Message::Compare(_) | Message::Announce(_) | Message::Want(_) | Message::Commits(_)) {
            self.settling.moved = now.elapsed;
        }
        match message {
            Message::Summary(summary) => self.summarised(summary, now, local),
            Message::Vector(vector) => {
                self.comparison.heard_whole();
                return self.compared(vector, now, local);
            }
            Message::Compare(said) => return self.compare(said, now, local),
            Message::WantEntries { first } => self.entries_wanted(first),
            Message::Entries(entries) => return self.entries_came(entries, now, local),
            Message::Announce(announced) => return self.announced(&announced, now, local),
            Message::Want(ranges) => return self.wanted(&ranges, local),
            Message::Commits(parcels) => return self.commits_came(parcels, now, local),
            Message::Roots(roots) => return self.roots_came(&roots, local),
            Message::WantStates => self.states_wanted(),
            Message::Offers(offers) => return self.offers_came(offers, now, local),
            Message::WantChunks(wanted) => self.chunks_wanted(wanted),
            Message::Chunks { chunks, last } => return self.chunks_came(chunks, last, now, local),
            Message::Credit { bytes } => self.outgoing.credit = self.outgoing.credit.saturating_add_unsigned(bytes),
            Message::Hello(_) | Message::Proof { .. } | Message::Refuse(_) => self.refuse(Refusal::Broken),
        }
        Ok(())
    }

    fn tick<L: Local>(&mut self, now: Now, local: &L) -> Result<(), L::Error> {
        if now.elapsed.saturating_sub(self.heard) > SILENCE {
            self.close(Ending::Silent);
        }
        if self.phase != Phase::Open {
            return Ok(());
        }
        self.ask_again(now, local)?;
        self.release_ripe(now, local)?;
        self.ask_for_orphans(now);
        self.settle(now, local);
        Ok(())
    }

    /// Ends the exchange and tells the peer why.
    fn refuse(&mut self, refusal: Refusal) {
        if self.phase != Phase::Closed {
            self.opening.push_back(Message::Refuse(refusal));
            self.close(Ending::Refused(refusal));
        }
    }

    fn close(&mut self, ending: Ending) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closed;
            self.outputs.push_back(Output::Closed(ending));
        }
    }

    const fn take_batch(&mut self) -> u64 {
        self.next_batch += 1;
        self.next_batch
    }
}
