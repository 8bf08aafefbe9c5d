//! States as they lie: for a first copy, or when the history between is long. The asker names trees it holds, and only the difference
//! travels: nodes before what they name, so leaves and their documents come in key order.
//!
//! Laws: a chunk is taken only if a tree wanted or a chunk taken before names it; a state is reported only when none is missing; only
//! trees that were offered in this exchange are served, so that knowing a hash opens nothing.

use std::collections::{HashMap, HashSet, VecDeque};

use herdbook_model::{
    chunk::Verified,
    id::{BranchName, ChunkId},
    schema::CollectionId,
    tree::{Tree, added_chunks, named},
};

use super::{Exchange, Now, Output};
use crate::{
    evidence::Evidence,
    local::Local,
    message::{MAX_BRANCHES, MAX_PAYLOAD, Message, Offer, Refusal},
};

/// Most chunks that are known by name and did not come yet.
const MAX_EXPECTED: usize = 1 << 20;

/// Most trees one may ask for at once.
const MAX_TREES: usize = 1 << 14;

/// Most chunks of a difference that are listed; a larger one is sent as a whole tree.
const MAX_LISTED: usize = 1 << 20;

/// Where the fetching of states is.
#[derive(Debug)]
pub(super) enum Fetch {
    Idle,
    /// Asked what states there are.
    Asked {
        have: Vec<Offer>,
        first: bool,
    },
    /// Takes chunks.
    Receiving(Box<Receiving>),
}

/// Chunks on their way.
#[derive(Debug)]
pub(super) struct Receiving {
    offers: Vec<Offer>,
    wanted: Vec<(Tree, Tree)>,
    /// Named and not come yet; a chunk that two others name comes twice.
    expected: HashMap<ChunkId, u32>,
    storing: HashMap<u64, (HashSet<ChunkId>, u64)>,
    is_last: bool,
    first: bool,
}

impl Fetch {
    /// Whether history waits until states are here.
    pub(super) const fn is_first(&self) -> bool {
        match self {
            Self::Idle => false,
            Self::Asked { first, .. } => *first,
            Self::Receiving(receiving) => receiving.first,
        }
    }
}

/// What the peer may fetch, and what of it is still to be sent.
#[derive(Debug)]
pub(super) struct Serving {
    offered: HashSet<Tree>,
    todo: VecDeque<ChunkId>,
    /// Whether what a chunk names is sent after it; otherwise `todo` lists everything.
    deep: bool,
    held: Option<Verified>,
    is_active: bool,
}

fn trees(offer: &Offer) -> impl Iterator<Item = ((CollectionId, u8), Tree)> + '_ {
    offer.trees.iter().flat_map(|of| {
        let each = [of.documents, of.deleted, of.conflicts];
        (0..).zip(each).map(|(place, tree)| ((of.collection, place), tree))
    })
}

impl Exchange {
    pub(super) fn fetch_states(&mut self, have: Vec<Offer>) {
        if matches!(self.fetch, Fetch::Idle) {
            self.fetch = Fetch::Asked { first: self.settings.states_first && have.is_empty(), have };
            self.send(Message::WantStates);
        }
    }

    pub(super) fn states_wanted<L: Local>(&mut self, local: &L) -> Result<(), L::Error> {
        let mut offers = local.offers()?;
        offers.truncate(MAX_BRANCHES);
        let offered = offers.iter().flat_map(trees).map(|(_, tree)| tree).collect();
        self.serving = Some(Serving { offered, todo: VecDeque::new(), deep: true, held: None, is_active: false });
        self.send(Message::Offers(offers));
        Ok(())
    }

    pub(super) fn offers_came<L: Local>(&mut self, offers: Vec<Offer>, now: Now, local: &L) -> Result<(), L::Error> {
        let Fetch::Asked { have, first } = std::mem::replace(&mut self.fetch, Fetch::Idle) else {
            self.refuse(Refusal::Broken);
            return Ok(());
        };
        let held: HashMap<(BranchName, (CollectionId, u8)), Tree> =
            have.iter().flat_map(|offer| trees(offer).map(|(place, tree)| ((offer.branch.clone(), place), tree))).collect();
        let mut seen = HashSet::new();
        let mut wanted = Vec::new();
        for offer in &offers {
            for (place, tree) in trees(offer).filter(|(_, tree)| !tree.is_empty()) {
                let old = held.get(&(offer.branch.clone(), place)).copied().unwrap_or_else(Tree::empty);
                if old != tree && seen.insert(tree) {
                    wanted.push((tree, old));
                }
            }
        }
        if offers.len() > MAX_BRANCHES || wanted.len() > MAX_TREES {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        let is_last = wanted.is_empty();
        if !is_last {
            let (wanted, have) = wanted.iter().copied().unzip();
            self.send(Message::WantChunks { wanted, have });
        }
        let mut expected = HashMap::new();
        wanted.iter().for_each(|(tree, _)| *expected.entry(tree.root()).or_insert(0) += 1);
        let receiving = Receiving { offers, wanted, expected, storing: HashMap::new(), is_last, first };
        self.fetch = Fetch::Receiving(Box::new(receiving));
        self.finish_fetch(now, local)
    }

    pub(super) fn chunks_wanted<L: Local>(&mut self, wanted: &[Tree], have: &[Tree], local: &L) -> Result<(), L::Error> {
        let is_offered = |serving: &Serving| !serving.is_active && wanted.iter().all(|tree| serving.offered.contains(tree));
        if wanted.len() > MAX_TREES || wanted.len() != have.len() || !self.serving.as_ref().is_some_and(is_offered) {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        let pairs = || wanted.iter().zip(have);
        let listed = if have.iter().all(Tree::is_empty) { None } else { difference(pairs(), local) };
        if let Some(serving) = &mut self.serving {
            serving.is_active = true;
            serving.deep = listed.is_none();
            serving.todo = listed.unwrap_or_else(|| wanted.iter().map(Tree::root).collect());
        }
        Ok(())
    }

    /// Returns the next message of chunks, if some are wanted and there is credit to send them.
    pub(super) fn next_chunks<L: Local>(&mut self, local: &L) -> Result<Option<Message>, L::Error> {
        let Some(serving) = self.serving.as_mut().filter(|serving| serving.is_active) else { return Ok(None) };
        if self.outgoing.credit <= 0 {
            return Ok(None);
        }
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        let last = loop {
            let chunk = match serving.held.take() {
                Some(chunk) => chunk,
                None => match serving.todo.pop_front() {
                    None => break true,
                    Some(id) => match local.chunk(&id)? {
                        Some(chunk) => chunk,
                        None => {
                            self.refuse(Refusal::Busy);
                            return Ok(None);
                        }
                    },
                },
            };
            if bytes > 0 && bytes + chunk.bytes().len() > MAX_PAYLOAD {
                serving.held = Some(chunk);
                break false;
            }
            bytes += chunk.bytes().len();
            if serving.deep {
                named(&chunk).unwrap_or_default().into_iter().rev().for_each(|id| serving.todo.push_front(id));
            }
            chunks.push((chunk.id(), chunk.bytes().to_vec()));
        };
        serving.is_active = !last;
        self.outgoing.credit -= i64::try_from(bytes).unwrap_or(i64::MAX);
        self.tally.payload += bytes as u64;
        Ok(Some(Message::Chunks { chunks, last }))
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
        let batch = self.take_batch();
        if !is_whole || !self.incoming.take(bytes) {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        let Fetch::Receiving(receiving) = &mut self.fetch else {
            self.refuse(Refusal::Broken);
            return Ok(());
        };
        match receiving.take(chunks) {
            Ok(taken) => {
                receiving.is_last = last;
                let ids = taken.iter().map(Verified::id).collect();
                receiving.storing.insert(batch, (ids, bytes as u64));
                self.outputs.push_back(Output::StoreChunks { batch, chunks: taken });
                self.finish_fetch(now, local)
            }
            Err(evidence) => {
                self.tally.faults += 1;
                self.outputs.push_back(Output::Evidence(evidence));
                self.refuse(Refusal::Broken);
                Ok(())
            }
        }
    }

    pub(super) fn chunks_stored<L: Local>(&mut self, batch: u64, now: Now, local: &L) -> Result<(), L::Error> {
        let Fetch::Receiving(receiving) = &mut self.fetch else { return Ok(()) };
        let Some((_, bytes)) = receiving.storing.remove(&batch) else { return Ok(()) };
        self.give_back(bytes);
        self.finish_fetch(now, local)
    }

    /// Reports the states when everything came and is stored; then history may follow.
    fn finish_fetch<L: Local>(&mut self, now: Now, local: &L) -> Result<(), L::Error> {
        let Fetch::Receiving(receiving) = &self.fetch else { return Ok(()) };
        if !receiving.is_last || !receiving.storing.is_empty() {
            return Ok(());
        }
        // With nothing to build on, every chunk that is named came. Otherwise what did not come must be in the trees held.
        let is_whole = receiving.expected.is_empty() || {
            let pairs = receiving.wanted.iter().map(|(new, old)| (new, old));
            let listed = difference(pairs, local).map(|listed| listed.iter().map(|id| local.chunk(id)).collect::<Result<Vec<_>, _>>());
            listed.transpose()?.is_some_and(|chunks| chunks.iter().all(Option::is_some))
        };
        if !is_whole {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        let Fetch::Receiving(receiving) = std::mem::replace(&mut self.fetch, Fetch::Idle) else { return Ok(()) };
        self.outputs.push_back(Output::States(receiving.offers));
        if receiving.first {
            self.tell_vector(now, local);
        }
        Ok(())
    }
}

impl Receiving {
    fn take(&mut self, chunks: Vec<(ChunkId, Vec<u8>)>) -> Result<Vec<Verified>, Evidence> {
        let mut taken = Vec::with_capacity(chunks.len());
        for (id, bytes) in chunks {
            match self.expected.get_mut(&id) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) => drop(self.expected.remove(&id)),
                None => return Err(Evidence::Chunk { id, fault: None }),
            }
            let chunk = Verified::verify(id, bytes).map_err(|fault| Evidence::Chunk { id, fault: Some(fault) })?;
            for id in named(&chunk).map_err(|_| Evidence::Chunk { id, fault: None })? {
                *self.expected.entry(id).or_insert(0) += 1;
            }
            if self.expected.len() > MAX_EXPECTED {
                return Err(Evidence::Chunk { id, fault: None });
            }
            taken.push(chunk);
        }
        Ok(taken)
    }
}

/// Lists the chunks of the new trees that their old ones lack; `None` if a tree is not here whole, or the list would be too long.
fn difference<'a, L: Local>(pairs: impl Iterator<Item = (&'a Tree, &'a Tree)>, local: &L) -> Option<VecDeque<ChunkId>> {
    let mut listed = VecDeque::new();
    for (new, old) in pairs {
        for id in added_chunks(local, old, local, new).ok()? {
            listed.push_back(id.ok()?);
            if listed.len() > MAX_LISTED {
                return None;
            }
        }
    }
    Some(listed)
}
