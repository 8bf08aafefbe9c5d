//! States as they lie: for a first copy. The asker walks the trees on offer from their roots down and asks, many places at once, for what it
//! lacks of the names in each node.
//!
//! Laws: a chunk leaves to be stored only after all it names, so what is in the store is mostly whole below, and what is so is neither asked for
//! again after an interruption nor walked here (a collection of garbage may leave holes: that is for [`Local::absent`] to know); a chunk is taken only if it was asked for by that name; only what lies in trees that were offered in this
//! exchange is served, so that knowing a hash opens nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use herdbook_model::{
    chunk::{Kind, Verified},
    id::ChunkId,
    tree::{Tree, named},
};

use super::{Exchange, Now, Output};
use crate::{
    evidence::Evidence,
    local::Local,
    message::{MAX_ASKS, MAX_BRANCHES, MAX_NAMED, MAX_PATH, MAX_PAYLOAD, Message, Offer, Refusal, Wanted},
};

/// How many inner nodes are asked for at once: each is held until all below it is stored.
const SPREAD: usize = 8;

/// Bytes of held nodes from which on one place is asked for at a time, the deepest.
const NARROW: usize = 2 << 20;

/// Most bytes of held nodes. Honest trees stay far below: 12 KiB a node, 8 places a level at once.
const MAX_OPEN: usize = 8 << 20;

/// Where the fetching of states is.
#[derive(Debug)]
pub(super) enum Fetch {
    Idle,
    /// Is to ask, or asked, what states there are.
    Asking {
        is_said: bool,
        first: bool,
    },
    /// Takes chunks.
    Receiving(Box<Receiving>),
}

/// Chunks on their way.
#[derive(Debug)]
pub(super) struct Receiving {
    offers: Vec<Offer>,
    /// Trees not begun.
    trees: Vec<Tree>,
    /// Nodes below which something is missing, in the order in which they came: the last is the deepest.
    open: BTreeMap<u64, Open>,
    next: u64,
    asked: VecDeque<Asked>,
    /// Chunks handed out to be stored, by batch: the nodes that wait for each, and the bytes of payload to give credit for.
    storing: HashMap<u64, (Vec<u64>, u64)>,
    bytes: usize,
    first: bool,
    /// Whether the peer has not all it offered: nothing more is asked for, and history is what is left.
    lacking: bool,
}

/// A node below which something is missing.
#[derive(Debug)]
struct Open {
    chunk: Verified,
    /// The node that names it; `None` for a root.
    above: Option<u64>,
    tree: Tree,
    path: Vec<u32>,
    /// Places and names to be asked for.
    todo: Vec<(u32, ChunkId)>,
    /// How many of the chunks it names are not stored.
    missing: usize,
}

/// A question that was asked: chunks that come next, in this order.
#[derive(Debug)]
struct Asked {
    above: Option<u64>,
    tree: Tree,
    path: Vec<u32>,
    names: VecDeque<(u32, ChunkId)>,
}

/// A chunk that came and lacks nothing.
struct Whole {
    chunk: Verified,
    above: Option<u64>,
}

impl Fetch {
    /// Whether history waits until states are here.
    pub(super) const fn is_first(&self) -> bool {
        match self {
            Self::Idle => false,
            Self::Asking { first, .. } => *first,
            Self::Receiving(receiving) => receiving.first,
        }
    }

    /// Returns the bytes held.
    pub(super) fn held(&self) -> usize {
        let Self::Receiving(receiving) = self else { return 0 };
        let names = receiving.open.values().map(|open| open.todo.len()).sum::<usize>()
            + receiving.asked.iter().map(|asked| asked.names.len()).sum::<usize>();
        receiving.bytes + names * size_of::<(u32, ChunkId)>()
    }
}

/// What the peer may fetch, and what of it is still to be sent.
#[derive(Debug, Default)]
pub(super) struct Serving {
    offered: HashSet<Tree>,
    owes_offers: bool,
    asks: VecDeque<Wanted>,
    /// What is to be sent of the first ask.
    names: Option<VecDeque<ChunkId>>,
    held: Option<Verified>,
}

impl Serving {
    /// Returns the bytes held.
    pub(super) fn held(&self) -> usize {
        let asks = self.asks.iter().map(|ask| (ask.path.len() + ask.names.len()) * size_of::<u32>()).sum::<usize>();
        let names = self.names.as_ref().map_or(0, |names| names.len() * size_of::<ChunkId>());
        asks + names + self.held.as_ref().map_or(0, |chunk| chunk.bytes().len()) + self.offered.len() * size_of::<Tree>()
    }
}

fn trees(offer: &Offer) -> impl Iterator<Item = Tree> + '_ {
    offer.trees.iter().flat_map(|of| [of.documents, of.deleted, of.conflicts]).filter(|tree| !tree.is_empty())
}

// What is served.
impl Exchange {
    pub(super) fn states_wanted(&mut self) {
        self.serving.get_or_insert_default().owes_offers = true;
    }

    pub(super) fn chunks_wanted(&mut self, wanted: Wanted) {
        let is_short = wanted.path.len() <= MAX_PATH && wanted.names.len() <= MAX_NAMED;
        let serving = self.serving.as_mut().filter(|serving| serving.asks.len() < MAX_ASKS && serving.offered.contains(&wanted.tree));
        match serving {
            Some(serving) if is_short => serving.asks.push_back(wanted),
            _ => self.refuse(Refusal::Broken),
        }
    }

    /// Returns the next message of chunks, if some are wanted and there is credit to send them. An answer that ends before all that was
    /// asked for says that the rest is not here.
    pub(super) fn next_chunks<L: Local>(&mut self, local: &L) -> Result<Option<Message>, L::Error> {
        let Some(serving) = self.serving.as_mut().filter(|_| self.outgoing.credit > 0) else { return Ok(None) };
        let mut names = match (serving.names.take(), serving.asks.front()) {
            (Some(names), _) => names,
            (None, Some(wanted)) => names_of(wanted, local)?,
            (None, None) => return Ok(None),
        };
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        while let Some(id) = names.front() {
            let chunk = match serving.held.take() {
                Some(chunk) => Some(chunk),
                None => local.chunk(id)?,
            };
            let Some(chunk) = chunk else {
                names.clear();
                break;
            };
            if bytes > 0 && bytes + chunk.bytes().len() > MAX_PAYLOAD {
                serving.held = Some(chunk);
                break;
            }
            names.pop_front();
            bytes += chunk.bytes().len();
            chunks.push((chunk.id(), chunk.bytes().to_vec()));
        }
        let last = names.is_empty();
        if last {
            serving.asks.pop_front();
        } else {
            serving.names = Some(names);
        }
        self.outgoing.credit -= i64::try_from(bytes).unwrap_or(i64::MAX);
        self.tally.payload += bytes as u64;
        Ok(Some(Message::Chunks { chunks, last }))
    }
}

/// Returns the chunks that are wanted; none if the place does not exist. Cost: one read for each step of the path.
fn names_of<L: Local>(wanted: &Wanted, local: &L) -> Result<VecDeque<ChunkId>, L::Error> {
    let root = wanted.tree.root();
    if wanted.names.is_empty() {
        return Ok(VecDeque::from([root]));
    }
    let mut names = names_in(root, local)?;
    for step in &wanted.path {
        let Some(next) = names.get(*step as usize) else { return Ok(VecDeque::new()) };
        names = names_in(*next, local)?;
    }
    Ok(wanted.names.iter().map_while(|place| names.get(*place as usize).copied()).collect())
}

fn names_in<L: Local>(id: ChunkId, local: &L) -> Result<Vec<ChunkId>, L::Error> {
    Ok(local.chunk(&id)?.and_then(|chunk| named(&chunk).ok()).unwrap_or_default())
}

// What is fetched.
impl Exchange {
    pub(super) fn fetch_states(&mut self, first: bool) {
        if matches!(self.fetch, Fetch::Idle) {
            self.fetch = Fetch::Asking { is_said: false, first };
        }
    }

    /// Whether states are being fetched, or were and have not been handed on.
    pub const fn is_fetching(&self) -> bool {
        !matches!(self.fetch, Fetch::Idle)
    }

    /// Returns the next offer, or question for states or chunks.
    pub(super) fn next_of_states<L: Local>(&mut self, local: &L) -> Result<Option<Message>, L::Error> {
        if let Some(serving) = self.serving.as_mut().filter(|serving| serving.owes_offers) {
            let mut offers = local.offers()?;
            offers.truncate(MAX_BRANCHES);
            serving.owes_offers = false;
            serving.offered = offers.iter().flat_map(trees).collect();
            return Ok(Some(Message::Offers(offers)));
        }
        match &mut self.fetch {
            Fetch::Asking { is_said: is_said @ false, .. } => {
                *is_said = true;
                Ok(Some(Message::WantStates))
            }
            Fetch::Receiving(receiving) => Ok(receiving.next_ask().map(Message::WantChunks)),
            Fetch::Idle | Fetch::Asking { .. } => Ok(None),
        }
    }

    pub(super) fn offers_came<L: Local>(&mut self, offers: Vec<Offer>, now: Now, local: &L) -> Result<(), L::Error> {
        let Fetch::Asking { is_said: true, first } = self.fetch else {
            self.refuse(Refusal::Broken);
            return Ok(());
        };
        if offers.len() > MAX_BRANCHES {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        let mut wanted: Vec<Tree> = offers.iter().flat_map(trees).collect::<HashSet<_>>().into_iter().collect();
        let absent: HashSet<ChunkId> = local.absent(&wanted.iter().map(Tree::root).collect::<Vec<_>>())?.into_iter().collect();
        wanted.retain(|tree| absent.contains(&tree.root()));
        wanted.sort_unstable_by_key(Tree::root);
        self.fetch = Fetch::Receiving(Box::new(Receiving {
            offers,
            trees: wanted,
            open: BTreeMap::new(),
            next: 0,
            asked: VecDeque::new(),
            storing: HashMap::new(),
            bytes: 0,
            first,
            lacking: false,
        }));
        self.finish_fetch(now);
        Ok(())
    }

    pub(super) fn chunks_came<L: Local>(
        &mut self,
        chunks: Vec<(ChunkId, Vec<u8>)>,
        last: bool,
        now: Now,
        local: &L,
    ) -> Result<(), L::Error> {
        let bytes: usize = chunks.iter().map(|(_, bytes)| bytes.len()).sum();
        let is_whole = bytes <= MAX_PAYLOAD || chunks.len() == 1;
        if !is_whole || !self.incoming.take(bytes) {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        let Fetch::Receiving(receiving) = &mut self.fetch else {
            self.refuse(Refusal::Broken);
            return Ok(());
        };
        let whole = match receiving.take(chunks, local)? {
            Ok(whole) => whole,
            Err(evidence) => {
                self.tally.faults += 1;
                self.outputs.push_back(Output::Evidence(evidence));
                self.refuse(Refusal::Broken);
                return Ok(());
            }
        };
        let is_held = receiving.bytes <= MAX_OPEN;
        let is_answer = receiving.end_ask(last);
        self.store_chunks(whole, bytes as u64);
        if is_answer && is_held {
            self.finish_fetch(now);
        } else {
            self.refuse(Refusal::Broken);
        }
        Ok(())
    }

    fn store_chunks(&mut self, whole: Vec<Whole>, bytes: u64) {
        if whole.is_empty() {
            return self.give_back(bytes);
        }
        let batch = self.take_batch();
        let (above, chunks): (Vec<_>, Vec<_>) = whole.into_iter().map(|Whole { chunk, above }| (above, chunk)).unzip();
        if let Fetch::Receiving(receiving) = &mut self.fetch {
            receiving.storing.insert(batch, (above.into_iter().flatten().collect(), bytes));
        }
        self.outputs.push_back(Output::StoreChunks { batch, chunks });
    }

    pub(super) fn chunks_stored(&mut self, batch: u64, now: Now) {
        let Fetch::Receiving(receiving) = &mut self.fetch else { return };
        let Some((above, bytes)) = receiving.storing.remove(&batch) else { return };
        let whole = above.into_iter().filter_map(|node| receiving.close(node)).collect();
        self.give_back(bytes);
        self.store_chunks(whole, 0);
        self.finish_fetch(now);
    }

    /// Reports the states when everything came and is stored; then history may follow.
    fn finish_fetch(&mut self, now: Now) {
        let Fetch::Receiving(receiving) = &self.fetch else { return };
        if !receiving.is_done() {
            return;
        }
        let Fetch::Receiving(receiving) = std::mem::replace(&mut self.fetch, Fetch::Idle) else { return };
        if !receiving.lacking {
            self.outputs.push_back(Output::States(receiving.offers));
        }
        if receiving.first {
            self.tell_vector(now);
        }
    }
}

impl Receiving {
    fn is_done(&self) -> bool {
        self.trees.is_empty() && self.open.is_empty() && self.asked.is_empty() && self.storing.is_empty()
    }

    /// Returns what to ask for next: below the deepest node that has something to ask for, else the next root.
    fn next_ask(&mut self) -> Option<Wanted> {
        let most = if self.bytes > NARROW { 1 } else { MAX_ASKS };
        if self.asked.len() >= most {
            return None;
        }
        let (above, tree, path, names) = match self.open.iter_mut().rev().find(|(_, open)| !open.todo.is_empty()) {
            Some((number, open)) => {
                // Below an inner node of the lowest level, a leaf or a list of parts lie leaves and values, which are not held.
                let holds = open.chunk.kind() == Kind::Inner && usize::from(open.tree.level()) > open.path.len() + 1;
                let count = open.todo.len().min(if holds { SPREAD } else { MAX_NAMED });
                (Some(*number), open.tree, open.path.clone(), open.todo.drain(..count).collect::<VecDeque<_>>())
            }
            None => {
                let tree = self.trees.pop()?;
                (None, tree, Vec::new(), VecDeque::from([(0, tree.root())]))
            }
        };
        let wanted = if above.is_some() { names.iter().map(|(place, _)| *place).collect() } else { Vec::new() };
        self.asked.push_back(Asked { above, tree, path: path.clone(), names });
        Some(Wanted { tree, path, names: wanted })
    }

    /// Takes chunks that answer the first question; returns those that lack nothing.
    fn take<L: Local>(&mut self, chunks: Vec<(ChunkId, Vec<u8>)>, local: &L) -> Result<Result<Vec<Whole>, Evidence>, L::Error> {
        let mut whole = Vec::with_capacity(chunks.len());
        for (id, bytes) in chunks {
            let wrong = |fault| Evidence::Chunk { id, fault };
            let Some(asked) = self.asked.front_mut() else { return Ok(Err(wrong(None))) };
            let Some((place, _)) = asked.names.pop_front().filter(|(_, name)| *name == id) else { return Ok(Err(wrong(None))) };
            let chunk = match Verified::verify(id, bytes) {
                Ok(chunk) => chunk,
                Err(fault) => return Ok(Err(wrong(Some(fault)))),
            };
            let Ok(names) = named(&chunk) else { return Ok(Err(wrong(None))) };
            let absent: HashSet<ChunkId> = local.absent(&names)?.into_iter().collect();
            let todo: Vec<_> = (0u32..).zip(names).filter(|(_, name)| absent.contains(name)).collect();
            if todo.is_empty() {
                whole.push(Whole { chunk, above: asked.above });
                continue;
            }
            if self.lacking {
                continue;
            }
            let mut path = asked.path.clone();
            path.extend(asked.above.is_some().then_some(place));
            if path.len() > MAX_PATH {
                return Ok(Err(wrong(None)));
            }
            self.bytes += chunk.bytes().len();
            let open = Open { chunk, above: asked.above, tree: asked.tree, path, missing: todo.len(), todo };
            self.next += 1;
            self.open.insert(self.next, open);
        }
        Ok(Ok(whole))
    }

    /// Ends the first question if its answer ended. Returns whether this can be its answer: one goes on only while something is to come.
    fn end_ask(&mut self, last: bool) -> bool {
        let Some(is_answered) = self.asked.front().map(|asked| asked.names.is_empty()) else { return false };
        if !last {
            return !is_answered;
        }
        self.asked.pop_front();
        if !is_answered {
            self.lacking = true;
            self.trees.clear();
            self.open.clear();
            self.bytes = 0;
        }
        true
    }

    /// Notes that one more chunk below `node` is stored; returns it if it was the last.
    fn close(&mut self, node: u64) -> Option<Whole> {
        let open = self.open.get_mut(&node)?;
        open.missing -= 1;
        if open.missing > 0 {
            return None;
        }
        let Open { chunk, above, .. } = self.open.remove(&node)?;
        self.bytes -= chunk.bytes().len();
        Some(Whole { chunk, above })
    }
}
