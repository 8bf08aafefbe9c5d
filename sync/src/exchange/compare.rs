//! Comparing what both sides hold by what differs: one side tells cells of its vector, the other finds out from them what that is.
//!
//! Law: whoever hears cells ends with the vector that was told, by its hash, or asks for it. Vectors are told by cells only at the beginning of
//! an exchange; afterwards they are told [whole](super::vector).

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use herdbook_model::{
    codec::Encode as _,
    id::{ChainId, Domain},
    vector::VersionVector,
};

use super::{Exchange, Now, Output, Side};
use crate::{
    local::Local,
    message::{Compare, MAX_CHAINS, Message, Purpose, Refusal},
    sketch::{FIRST, MAX_CELLS, Sketcher, estimate},
};

/// Most questions that one side answers in an exchange, each of which takes a look at every entry.
const QUESTIONS: u32 = 16;

/// How far behind on a chain a side may be so that it is found without asking.
const BEHIND: u64 = 1024;

/// Most counters that are tried to find that, all chains together.
const TRIES: u64 = 1 << 21;

/// Fewest cells that are worth a message.
const GRAIN: usize = 64;

/// About how many bytes an entry of a vector takes.
const ENTRY: usize = 18;

/// What is told, asked and heard of cells.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// The vector that this side told, whole or by cells.
    told: Option<Arc<VersionVector>>,
    /// How many of its cells were told, and how many are to be.
    said: usize,
    due: usize,
    /// How many questions the peer had.
    questions: u32,
    hearing: Option<Hearing>,
    /// Whether anything was heard: nobody begins twice.
    has_heard: bool,
    /// The answer that is to be told.
    owed: Option<Compare>,
}

/// What was heard of the peer's cells.
#[derive(Debug)]
struct Hearing {
    /// What this side held when it heard the first.
    mine: Arc<VersionVector>,
    /// Cells of the difference.
    cells: Vec<u64>,
    /// Entries of `mine` that the peer does not have, by chain, each with the counter it has instead, as far as that is known.
    instead: BTreeMap<ChainId, u64>,
    /// The hash of what the peer tells.
    told: [u8; 32],
    /// How many cells come next.
    wanted: usize,
}

impl Comparison {
    /// Returns the bytes held.
    pub(super) fn held(&self) -> usize {
        let owed = match &self.owed {
            Some(Compare::Which { symbols }) => symbols.len() * size_of::<u64>(),
            Some(Compare::Those(vector)) => vector.len() * size_of::<(ChainId, u64)>(),
            Some(Compare::Lacks(chains)) => chains.len() * size_of::<(ChainId, u64)>(),
            _ => 0,
        };
        let hearing = self.hearing.as_ref();
        owed + hearing.map_or(0, |heard| heard.cells.len() * size_of::<u64>() + heard.instead.len() * size_of::<(ChainId, u64)>())
    }

    /// Notes that the peer told its vector whole: what was heard of it before counts no more.
    pub(super) fn heard_whole(&mut self) {
        self.hearing = None;
        self.has_heard = true;
    }

    /// Notes that this side tells its vector. What it told before counts: of that the peer surely knows.
    pub(super) fn tells(&mut self, vector: Arc<VersionVector>) {
        self.told.get_or_insert(vector);
    }
}

/// Returns `vector` with other counters for some chains; 0: without the chain.
fn with(vector: &VersionVector, instead: &BTreeMap<ChainId, u64>) -> VersionVector {
    let kept = vector.iter().copied().filter(|(chain, _)| !instead.contains_key(chain));
    kept.chain(instead.iter().map(|(chain, counter)| (*chain, *counter))).collect()
}

/// Returns the hash of a vector.
fn hash(vector: &VersionVector) -> [u8; 32] {
    Domain::Vector.hash(&[&vector.to_bytes()])
}

impl Exchange {
    /// Begins to tell the peer what is here, once it proved who it is: in the shortest way that both can follow.
    pub(super) fn begin_comparing<L: Local>(&mut self, now: Now, local: &L) {
        let chains = local.vector().len();
        let (mine, theirs) = (self.settling.told_held().commits(), self.peer.commits);
        // Who has less tells, and hears in a few words what the other lacks of it: mostly nothing.
        let is_teller = (mine, self.side == Side::Listener) < (theirs, self.side == Side::Caller);
        match () {
            () if chains < self.settings.cells_from || !self.is_brief() => self.tell_vector(now),
            () if is_teller => {
                self.comparison.due = FIRST;
                self.vectors.note_told(now);
            }
            () => {}
        }
    }

    /// Whether both sides only converge. Who restores itself hears all.
    pub(super) fn is_brief(&self) -> bool {
        self.settings.purpose == Purpose::Converge && self.peer.purpose == Purpose::Converge
    }

    fn sketcher(&self) -> Sketcher {
        match self.side {
            Side::Caller => Sketcher::new(&self.nonce, self.peer.nonce()),
            Side::Listener => Sketcher::new(self.peer.nonce(), &self.nonce),
        }
    }

    /// Returns the next cells, question or answer.
    pub(super) fn next_of_comparison<L: Local>(&mut self, local: &L) -> Option<Message> {
        if let Some(owed) = self.comparison.owed.take() {
            return Some(Message::Compare(owed));
        }
        let Comparison { told, said, due, .. } = &self.comparison;
        let (first, count) = (*said, due.checked_sub(*said).filter(|count| *count > 0)?);
        let vector = told.clone().unwrap_or_else(|| local.vector());
        let mut cells = vec![0; count];
        self.sketcher().add(vector.iter(), first, &mut cells);
        let hash = hash(&vector);
        (self.comparison.told, self.comparison.said) = (Some(vector), first + count);
        self.tally.cells += count as u64;
        Some(Message::Compare(Compare::Cells { first: u32::try_from(first).ok()?, cells, vector: hash }))
    }

    pub(super) fn compare<L: Local>(&mut self, said: Compare, now: Now, local: &L) -> Result<(), L::Error> {
        let is_question = matches!(said, Compare::Want { .. } | Compare::Which { .. } | Compare::Cells { .. });
        self.comparison.questions += u32::from(is_question);
        if !self.is_brief() || self.comparison.questions > QUESTIONS {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        // What comes when nothing of it is under way any more, since a vector was told meanwhile, says nothing.
        match said {
            Compare::Cells { first, cells, vector } => return self.cells_came(first, &cells, vector, now, local),
            Compare::Want { count: 0 } if self.comparison.told.is_some() => self.tell_vector(now),
            Compare::Want { count } if self.comparison.told.is_some() => self.cells_wanted(count),
            Compare::Which { symbols } => self.entries_asked_for(&symbols),
            Compare::Those(entries) => {
                let Some(mut hearing) = self.comparison.hearing.take() else { return Ok(()) };
                hearing.instead.extend(entries.iter().copied());
                return self.made_out(&hearing, now, local);
            }
            Compare::Lacks(chains) if chains.len() > MAX_CHAINS => self.refuse(Refusal::Broken),
            Compare::Lacks(chains) => {
                let Some(told) = self.comparison.told.take() else { return Ok(()) };
                self.comparison.due = self.comparison.said;
                return self.holds_but(&told, chains, local);
            }
            Compare::Want { .. } => {}
        }
        Ok(())
    }

    fn cells_wanted(&mut self, count: u32) {
        let due = usize::try_from(count).ok().and_then(|count| self.comparison.said.checked_add(count));
        match due.filter(|due| *due <= MAX_CELLS) {
            Some(due) => self.comparison.due = due,
            None => self.refuse(Refusal::Broken),
        }
    }

    fn entries_asked_for(&mut self, symbols: &[u64]) {
        let Some(told) = &self.comparison.told else { return };
        let (asked, sketcher) = (symbols.iter().copied().collect::<HashSet<_>>(), self.sketcher());
        let known = told.iter().filter(|(chain, counter)| asked.contains(&sketcher.symbol(chain, *counter)));
        self.comparison.owed = Some(Compare::Those(known.copied().collect()));
    }

    fn cells_came<L: Local>(&mut self, first: u32, cells: &[u64], told: [u8; 32], now: Now, local: &L) -> Result<(), L::Error> {
        let begin = || Hearing { mine: local.vector(), cells: Vec::new(), instead: BTreeMap::new(), told, wanted: FIRST };
        let mut hearing = match self.comparison.hearing.take() {
            Some(hearing) => hearing,
            None if std::mem::replace(&mut self.comparison.has_heard, true) => return Ok(()),
            None => begin(),
        };
        let count = hearing.cells.len();
        // They come as they were asked for: each time they cost a look at every entry.
        if usize::try_from(first).ok() != Some(count) || cells.len() != hearing.wanted || told != hearing.told {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        hearing.cells.extend_from_slice(cells);
        let sketcher = self.sketcher();
        sketcher.add(hearing.mine.iter(), count, &mut hearing.cells[count..]);
        let Some(symbols) = sketcher.peel(&hearing.cells) else {
            self.want_cells(hearing);
            return Ok(());
        };
        let mut symbols: HashSet<_> = symbols.into_iter().collect();
        let only_mine: Vec<_> = hearing.mine.iter().filter(|(chain, counter)| symbols.remove(&sketcher.symbol(chain, *counter))).collect();
        let mut tries = 0;
        for (chain, counter) in only_mine {
            // Mostly the peer is some commits behind.
            let below = (1..*counter).rev().take(if tries < TRIES { BEHIND as usize } else { 0 });
            let known = below.inspect(|_| tries += 1).find(|below| symbols.remove(&sketcher.symbol(chain, *below)));
            hearing.instead.insert(*chain, known.unwrap_or(0));
        }
        if symbols.is_empty() {
            return self.made_out(&hearing, now, local);
        }
        let mut symbols: Vec<_> = symbols.into_iter().collect();
        symbols.sort_unstable();
        self.comparison.owed = Some(Compare::Which { symbols });
        self.comparison.hearing = Some(hearing);
        Ok(())
    }

    /// Takes the vector that was made out, if it is the one that was told; asks for that otherwise.
    fn made_out<L: Local>(&mut self, hearing: &Hearing, now: Now, local: &L) -> Result<(), L::Error> {
        let theirs = with(&hearing.mine, &hearing.instead);
        if hash(&theirs) != hearing.told {
            self.comparison.owed = Some(Compare::Want { count: 0 });
            return Ok(());
        }
        self.compared(theirs, now, local)
    }

    /// Asks for as many cells as it probably takes, or for the vector if that is shorter.
    fn want_cells(&mut self, mut hearing: Hearing) {
        let have = hearing.cells.len();
        let is_long = have * size_of::<u64>() > hearing.mine.len() * ENTRY;
        let differ = if is_long { MAX_CELLS } else { estimate(&hearing.cells) };
        let needed = differ + differ / 2 + differ.isqrt();
        let count = needed.saturating_sub(have).max(have / 8).max(GRAIN);
        let is_shorter = (have + count) * size_of::<u64>() > hearing.mine.len() * ENTRY;
        let is_too_much = is_shorter || have + count > MAX_CELLS || self.comparison.questions > QUESTIONS / 2;
        let count = if is_too_much { 0 } else { u32::try_from(count).unwrap_or(0) };
        self.comparison.owed = Some(Compare::Want { count });
        hearing.wanted = count as usize;
        self.comparison.hearing = Some(hearing).filter(|_| !is_too_much);
    }

    /// Says what is lacking here of what the peer told, which it told in full.
    pub(super) fn tell_lacks(&mut self, theirs: &VersionVector, mine: &VersionVector, now: Now) {
        let lacks = mine.missing_from(theirs).into_iter().map(|range| (range.chain, range.first - 1));
        self.comparison.owed = Some(Compare::Lacks(lacks.collect()));
        self.vectors.note_told(now);
    }

    /// Takes that the peer holds what was told to it, but for the end of some chains. It may hold more, which it sends.
    fn holds_but<L: Local>(&mut self, told: &VersionVector, lacks: Vec<(ChainId, u64)>, local: &L) -> Result<(), L::Error> {
        let lacks: BTreeMap<_, _> = lacks.into_iter().map(|(chain, counter)| (chain, counter.min(told.get(&chain)))).collect();
        let theirs = if lacks.is_empty() { told.clone() } else { with(told, &lacks) };
        let mine = local.vector();
        for range in theirs.missing_from(&mine) {
            self.outgoing.add(range, &mine, local)?;
        }
        self.outputs.push_back(Output::Holds(theirs.clone()));
        self.vectors.believe(theirs);
        Ok(())
    }
}
