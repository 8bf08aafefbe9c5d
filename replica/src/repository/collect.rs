//! Garbage collection: what no state needs any more leaves the store, while writing and reading go on.
//!
//! Marked is what the store names (the materialised state of each branch, what was last offered to newcomers, bases that wait) and what
//! anybody holds ([`pins`](super::pins)). Laws:
//!
//! - what is made while a collection goes on stands on what is marked, or is marked as it is stored. So nobody waits for a collection.
//! - no collection goes on while states are fetched: what a fetch stored hangs on nothing yet. One that begins meanwhile ends the collection.
//! - where chunks were removed, one that is there says nothing about those below it: [`Repository::lacking`] looks.
//! - a damaged tree ends a collection before anything is removed.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use herdbook_model::{
    chunk::Verified,
    codec::{Reader, Writer as Encoder},
    id::ChunkId,
    schema::CollectionId,
    state::Trees,
    tree::{self, Node, Nodes, Tree, added_chunks, named, reachable},
};
use herdbook_store::{Batch, Durability, Error as StoreError, Marks, Reclaim, Room, Store, Swept, Table};
use parking_lot::{Mutex, MutexGuard};

use super::{Base, Pruned, Repository, Shared, View, layout, materialise, pins::Held};
use crate::error::Error;

/// Chunks looked at in one step of a sweep: a write of that many removals takes some milliseconds at most, and commits wait for no more.
const STEP: usize = 1024;

/// How long a fold that stores is waited for before it is looked again.
const STILL: Duration = Duration::from_millis(1);

/// Chunks that are marked between two looks at whether to go on.
const LOOK: u64 = 4096;

/// Bytes a chunk has on average, for a guess where none were counted yet.
const CHUNK_BYTES: u64 = 3 << 10;

/// Removed share below which room is not given back at once: the engine does so by and by.
const WORTH: u64 = 20;

/// How far a collection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Edits of so many commits before the horizon went.
    Pruning(u64),
    /// So many chunks are marked.
    Marking(u64),
    /// So many chunks were looked at, of about that many.
    Sweeping(u64, u64),
    /// So many parts of the files were written anew.
    Reclaiming(u32),
}

/// How a collection is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collecting {
    /// Whether what is garbage is only counted.
    pub dry_run: bool,
    /// Memory for marks, in bytes: with 12 bits a chunk hardly any garbage is kept by mistake, with fewer some is.
    pub mark_bytes: usize,
}

impl Default for Collecting {
    fn default() -> Self {
        Self { dry_run: false, mark_bytes: 64 << 20 }
    }
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Chunks looked at.
    pub chunks: u64,
    /// Those that were removed.
    pub removed: u64,
    /// Their bytes, before compression.
    pub bytes: u64,
    /// What was removed before horizons, beside chunks.
    pub pruned: Pruned,
    /// Sets of trees that somebody held.
    pub pinned: usize,
    /// Bytes of the store's files before.
    pub disk_before: u64,
    /// Bytes of the store's files after.
    pub disk_after: u64,
    /// How long it took.
    pub took: Duration,
}

impl From<Collected> for herdbook_proto::cluster::Collected {
    fn from(Collected { chunks, removed, bytes, pruned, pinned, disk_before, disk_after, took }: Collected) -> Self {
        let Pruned { commits, requests: _, bytes: edit_bytes } = pruned;
        Self { chunks, removed, bytes, commits, edit_bytes, pinned: pinned as u64, disk_before, disk_after, took }
    }
}

/// What collections of a repository share.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// One at a time.
    running: Mutex<()>,
    /// Held in each step of a sweep.
    step: Mutex<()>,
    /// Fetches under way.
    fetches: AtomicUsize,
    /// Fetches ever begun, and how many of them before the collection: one may end between two looks.
    all_fetches: AtomicUsize,
    earlier_fetches: AtomicUsize,
    /// Trees that somebody held when something was erased last.
    before_erasure: Mutex<Vec<Weak<BTreeMap<CollectionId, Trees>>>>,
    stops: AtomicBool,
    /// Whether anything was ever removed.
    has_removed: AtomicBool,
}

/// States are being fetched: nothing is collected while this is held.
pub(crate) struct Fetching(Arc<Shared>);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.collector.fetches.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Collector {
    pub(crate) fn of(store: &dyn Store) -> Result<Self, Error> {
        let has_removed = AtomicBool::new(store.refs().get(layout::COLLECTED)?.is_some());
        Ok(Self { has_removed, ..Self::default() })
    }

    /// Notes that something is erased now, while `held` is held: it may have that.
    pub(super) fn erased(&self, held: &[Held]) {
        let mut before = self.before_erasure.lock();
        before.retain(|trees| trees.strong_count() > 0);
        before.extend(held.iter().map(Arc::downgrade));
    }

    /// Whether a collection must end.
    fn must_end(&self) -> bool {
        let has_fetched = self.all_fetches.load(Ordering::Acquire) != self.earlier_fetches.load(Ordering::Acquire);
        self.stops.load(Ordering::Acquire) || has_fetched || self.fetches.load(Ordering::Acquire) > 0
    }
}

/// What the last collection kept, from which garbage is guessed later.
struct Kept {
    chunks: u64,
    /// Keys and values of all states then.
    bytes: u64,
}

/// Ends the store's collection, however the work ends.
struct Begun<'a>(&'a dyn Store);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.collect().end();
    }
}

impl Repository {
    /// Removes chunks that nothing needs, and gives their room back. Writing and reading go on. `progress` is told how far it is.
    ///
    /// Cost: reads every chunk twice at most; memory for the marks and a node a level.
    ///
    /// # Errors
    /// [`Error::Collecting`] while another goes on; [`Error::Interrupted`] if states are fetched or the node stops: what was removed by then
    /// is gone, the rest is left; those of reading, before anything was removed.
    pub fn collect(&self, how: Collecting, mut progress: impl FnMut(Stage)) -> Result<Collected, Error> {
        let shared = &*self.0;
        let _running = shared.collector.running.try_lock().ok_or(Error::Collecting)?;
        let began = Instant::now();
        shared.collector.earlier_fetches.store(shared.collector.all_fetches.load(Ordering::Acquire), Ordering::Release);
        if shared.collector.must_end() || awaits_state(&self.view()) {
            return Err(Error::Interrupted);
        }
        if !how.dry_run {
            self.reach_horizons()?;
        }
        let pruned = self.prune(how.dry_run, |commits| progress(Stage::Pruning(commits)))?;
        let store = shared.store.as_ref();
        let erased = if how.dry_run { None } else { store.refs().get(layout::ERASED)? };
        if erased.is_some() {
            // The states that the store names may be from before.
            self.materialise()?;
        }
        if !how.dry_run && (pruned.commits > 0 || erased.is_some()) {
            // States before the horizon that were read lately are gone for everybody.
            shared.past.lock().clear();
        }
        let Room { chunks, bytes: disk_before } = store.collect().room()?;
        let marks = Arc::new(Marks::new(chunks + chunks / 4 + 4096, how.mark_bytes, self.now().raw()));
        let (begun, roots) = shared.begin(&marks)?;
        let marked = shared.mark(&roots, &marks, &mut progress)?;
        let pinned = roots.held.len();
        // Who reads an older state may hold what was erased, and so may a base that waits: that goes with a later collection.
        let may_unmark = !shared.is_held_from_before(&roots) && self.view().ahead.is_empty();
        drop(roots);
        if !how.dry_run {
            // Before anything goes: who finds this looks below what is there.
            let mut record = Encoder::default();
            record.uint(marked);
            record.uint(tree_bytes(&self.view()));
            let mut batch = Batch::new();
            batch.put(Table::Refs, layout::COLLECTED, record.into_bytes());
            store.records().write(batch, Durability::Durable)?;
            shared.collector.has_removed.store(true, Ordering::Release);
        }
        let swept = shared.sweep(chunks, !how.dry_run, &mut progress)?;
        drop(begun);
        let is_worth = swept.unmarked * WORTH >= swept.seen.max(1) || pruned.commits > 0 || erased.is_some();
        if !how.dry_run && is_worth {
            let mut files = Reclaim::new(pruned.commits > 0 || erased.is_some(), erased.is_some());
            let mut parts = 0;
            while !shared.collector.stops.load(Ordering::Acquire) && store.collect().reclaim(&mut files)? {
                parts += 1;
                progress(Stage::Reclaiming(parts));
            }
            if erased.is_some() && may_unmark && !shared.collector.stops.load(Ordering::Acquire) {
                match store.refs().compare_and_set(layout::ERASED, erased.as_deref(), None) {
                    // Something was erased meanwhile: it goes with the next.
                    Ok(()) | Err(StoreError::Conflict { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        let disk_after = store.collect().room()?.bytes;
        let Swept { seen, unmarked, bytes, last: _ } = swept;
        let took = began.elapsed();
        Ok(Collected { chunks: seen, removed: unmarked, bytes, pruned, pinned, disk_before, disk_after, took })
    }

    /// Whether something was erased that may still lie in the engine's files: a collection writes them anew.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn has_erased(&self) -> Result<bool, Error> {
        Ok(self.0.store.refs().get(layout::ERASED)?.is_some())
    }

    /// Whether somebody holds a state from before the last erasure: a reader of an older one, an exchange that offered it.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub(crate) fn is_read_behind(&self) -> Result<bool, Error> {
        let shared = &self.0;
        let writer = shared.writer.lock();
        Ok(shared.is_held_from_before(&shared.roots(&writer.view)?))
    }

    /// Returns about which share of the chunks is garbage, from 0 to 1. Cost: some look-ups.
    ///
    /// # Errors
    /// [`Error::Store`], [`Error::Record`].
    pub fn garbage(&self) -> Result<f64, Error> {
        let store = &self.0.store;
        let chunks = store.collect().room()?.chunks;
        let bytes = tree_bytes(&self.view());
        let kept = match store.refs().get(layout::COLLECTED)? {
            Some(record) => {
                let Kept { chunks, bytes: then } =
                    Kept::from_bytes(&record).map_err(|source| Error::Record { what: "collection", source })?;
                chunks as f64 * (bytes as f64 / then.max(1) as f64)
            }
            None => (bytes / CHUNK_BYTES) as f64,
        };
        Ok((1.0 - kept / chunks.max(1) as f64).clamp(0.0, 1.0))
    }

    /// Ends the collection under way, if any, and lets no more begin.
    pub(crate) fn stop_collecting(&self) {
        self.0.collector.stops.store(true, Ordering::Release);
    }

    /// Says that states are being fetched until what is returned is dropped. What is in the store by then stays.
    pub(crate) fn fetching(&self) -> Fetching {
        let collector = &self.0.collector;
        collector.fetches.fetch_add(1, Ordering::AcqRel);
        collector.all_fetches.fetch_add(1, Ordering::AcqRel);
        // A step that did not see this is over then.
        drop::<MutexGuard<'_, ()>>(collector.step.lock());
        Fetching(self.0.clone())
    }

    /// Returns the ids in `ids` that are not here with all they name, in the order given.
    ///
    /// Cost: a look-up each; where chunks were removed once, a walk below each that is there and is no root of a state here.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub(crate) fn lacking(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>, Error> {
        let shared = &self.0;
        let chunks = shared.store.chunks();
        if !shared.collector.has_removed.load(Ordering::Acquire) {
            return Ok(chunks.absent(ids)?);
        }
        let view = self.view();
        let whole: HashSet<ChunkId> =
            view.branches.values().flat_map(|state| state.trees().values()).flat_map(super::base::each).map(|tree| tree.root()).collect();
        let mut lacking = Vec::new();
        for id in ids {
            let mut below = vec![*id];
            while let Some(next) = below.pop() {
                if whole.contains(&next) {
                    continue;
                }
                let Some(names) = chunks.get(next)?.and_then(|chunk| named(&chunk).ok()) else {
                    lacking.push(*id);
                    break;
                };
                below.extend(names);
            }
        }
        Ok(lacking)
    }
}

/// What must stay.
struct Roots {
    /// By those who hold it.
    held: Vec<Held>,
    /// By what the store says.
    named: Vec<Held>,
}

fn each_root(held: &Held) -> impl Iterator<Item = ChunkId> {
    held.values().flat_map(|trees| super::base::each(trees).map(|tree| tree.root()))
}

impl Shared {
    /// Whether anybody holds trees from before the last erasure that the store does not name. What it names was made after, but for the states at
    /// horizons, which keep what they have until they are set anew.
    fn is_held_from_before(&self, roots: &Roots) -> bool {
        let named: HashSet<ChunkId> = roots.named.iter().flat_map(each_root).collect();
        let before: Vec<Held> = self.collector.before_erasure.lock().iter().filter_map(Weak::upgrade).collect();
        before.iter().flat_map(each_root).any(|root| !named.contains(&root))
    }

    /// Begins to mark what is stored, and returns what must stay of what there is now.
    fn begin(&self, marks: &Arc<Marks>) -> Result<(Begun<'_>, Roots), Error> {
        // Nobody folds in the foreground or takes in states now, and nobody reads a record of one that is not noted yet. A fold beside is waited for
        // while it stores: of a tree that is noted, what comes before the marks must be here, and the rest must come after. The writer is not
        // held up by that.
        let (writer, _still) = loop {
            let writer = self.writer.lock();
            match self.nodes.try_still() {
                Some(still) => break (writer, still),
                None => drop(writer),
            }
            if self.collector.must_end() {
                return Err(Error::Interrupted);
            }
            std::thread::sleep(STILL);
        };
        self.store.collect().begin(marks.clone())?;
        let begun = Begun(self.store.as_ref());
        let roots = self.roots(&writer.view)?;
        Ok((begun, roots))
    }

    /// Returns what is held and named now. The writer is held by the caller.
    fn roots(&self, view: &View) -> Result<Roots, Error> {
        // What is held comes first: a state goes from its holder to the record, which is written before he lets go.
        let notes = self.nodes.pins().notes();
        let held = notes.held();
        let mut named = Vec::new();
        for branch in view.log.branches().keys() {
            let get = |name: String| self.store.refs().get(&name);
            if let Some(bytes) = get(layout::materialised(branch))? {
                let record = materialise::decode(&bytes).map_err(|source| Error::Record { what: "materialised state", source })?;
                named.push(Arc::new(record.trees));
            }
            for bytes in [get(layout::base(branch))?, get(layout::checkpoint(branch))?, get(layout::horizon(branch))?].into_iter().flatten()
            {
                named.push(Base::from_bytes(&bytes).map_err(|source| Error::Record { what: "base", source })?.trees);
            }
        }
        Ok(Roots { held, named })
    }

    /// Marks all that lies below the roots. Returns how many chunks that are.
    fn mark(&self, roots: &Roots, marks: &Marks, progress: &mut impl FnMut(Stage)) -> Result<u64, Error> {
        let mut marking = Marking { nodes: &Uncached(self.store.as_ref()), marks, done: 0, collector: &self.collector, progress };
        let all = |held: &[Held]| -> BTreeSet<(u16, usize, ChunkId)> {
            let trees = held.iter().flat_map(|trees| trees.iter());
            trees
                .flat_map(|(id, trees)| super::base::each(trees).into_iter().enumerate().map(|(at, tree)| (id.0, at, tree.root())))
                .collect()
        };
        let tree_of = |held: &[Held], name: &(u16, usize, ChunkId)| {
            let trees = held.iter().flat_map(|trees| trees.iter()).filter(|(id, _)| id.0 == name.0);
            trees.map(|(_, trees)| super::base::each(trees)[name.1]).find(|tree| tree.root() == name.2)
        };
        // Trees of one kind one after another, so that of each only what the one before has not is walked.
        let mut before = None;
        for name in all(&roots.named) {
            let Some(tree) = tree_of(&roots.named, &name) else { continue };
            marking.tree(before.filter(|(of, _)| *of == (name.0, name.1)).map(|(_, tree)| tree), &tree)?;
            before = Some(((name.0, name.1), tree));
        }
        for name in all(&roots.held) {
            let Some(tree) = tree_of(&roots.held, &name) else { continue };
            let like = before.filter(|(of, _)| *of == (name.0, name.1)).map(|(_, tree)| tree);
            marking.tree(like, &tree)?;
            before = Some(((name.0, name.1), tree));
        }
        Ok(marking.done)
    }

    /// Looks at all chunks, and with `removes` removes those without a mark.
    fn sweep(&self, chunks: u64, removes: bool, progress: &mut impl FnMut(Stage)) -> Result<Swept, Error> {
        let mut all = Swept::default();
        loop {
            let step = self.collector.step.lock();
            if self.collector.must_end() {
                return Err(Error::Interrupted);
            }
            let Swept { last, seen, unmarked, bytes } = self.store.collect().sweep(all.last, STEP, removes)?;
            drop(step);
            all = Swept { last: last.or(all.last), seen: all.seen + seen, unmarked: all.unmarked + unmarked, bytes: all.bytes + bytes };
            progress(Stage::Sweeping(all.seen, chunks.max(all.seen)));
            if last.is_none() {
                return Ok(all);
            }
        }
    }
}

/// Marking under way.
struct Marking<'a, P> {
    nodes: &'a Uncached<'a>,
    marks: &'a Marks,
    done: u64,
    collector: &'a Collector,
    progress: &'a mut P,
}

impl<P: FnMut(Stage)> Marking<'_, P> {
    /// Marks the chunks of `tree`; where those of `before` are marked, only what it has not.
    fn tree(&mut self, before: Option<Tree>, tree: &Tree) -> Result<(), Error> {
        match before {
            Some(before) if before == *tree => Ok(()),
            Some(before) => self.all(added_chunks(self.nodes, &before, self.nodes, tree).map_err(Error::Tree)?),
            None => self.all(reachable(self.nodes, tree)),
        }
    }

    fn all(&mut self, chunks: impl Iterator<Item = Result<ChunkId, tree::Error>>) -> Result<(), Error> {
        for id in chunks {
            self.marks.insert(&id.map_err(Error::Tree)?);
            self.done += 1;
            if self.done.is_multiple_of(LOOK) {
                (self.progress)(Stage::Marking(self.done));
                if self.collector.must_end() {
                    return Err(Error::Interrupted);
                }
            }
        }
        Ok(())
    }
}

/// Nodes past the cache, which a walk over everything would empty.
struct Uncached<'a>(&'a dyn Store);

impl Nodes for Uncached<'_> {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, tree::Error> {
        Node::decode(self.value(id)?).map(Arc::new)
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, tree::Error> {
        match self.0.chunks().get(*id) {
            Ok(Some(chunk)) => Ok(chunk),
            Ok(None) => Err(tree::Error::Missing { id: *id }),
            Err(error) => Err(tree::Error::Unavailable { source: Box::new(error) }),
        }
    }
}

/// Whether a branch is known to have commits of which none are here and no state either: its first copy is on the way, or will be again.
fn awaits_state(view: &View) -> bool {
    view.log.branches().iter().any(|(name, said)| {
        let is_empty = view.branches.get(name).is_none_or(|state| state.frontier().is_empty());
        !said.heads.is_empty() && is_empty && view.ahead(name).is_none()
    }) || view.ahead.values().any(|ahead| ahead.base.heads.is_empty())
}

/// Returns the bytes of keys and values of all states, shared ones once.
fn tree_bytes(view: &View) -> u64 {
    let trees: HashSet<Tree> = view.branches.values().flat_map(|state| state.trees().values()).flat_map(super::base::each).collect();
    trees.iter().map(Tree::bytes).sum()
}

impl Kept {
    fn from_bytes(bytes: &[u8]) -> Result<Self, herdbook_model::codec::Error> {
        let mut input = Reader::new(bytes);
        let kept = Self { chunks: input.uint()?, bytes: input.uint()? };
        input.end()?;
        Ok(kept)
    }
}
