//! The state of a frontier: trees as last materialised, and above them an overlay of what was replayed since.
//!
//! Law: a state is a pure function of its name. Advancing it by commits in any causal order, folding the overlay sooner or later, or
//! building it from nothing gives the same documents and, folded, the same root, byte for byte.

mod advance;
mod ahead;
mod compare;
mod scan;

use std::{collections::BTreeMap, sync::Arc};

use imbl::OrdMap;

pub use advance::{AdvanceError, Applied, History, advance, lacking};
pub use compare::{Change, compare};
pub use scan::Scan;

use crate::{
    blob,
    chunk::Verified,
    codec::{self, Decode as _, Encode as _, Writer},
    commit::MAX_REQUESTS,
    document::{Context, Document, Dot, Stamp},
    edit::Edit,
    graph::{self, Frontier, Meta},
    id::{BranchName, CommitId, Domain, Judgement, StateName, StateRoot},
    request::{MAX_EDITS, Request},
    schema::{BLOBS, CollectionId, Schema},
    tree::{self, Fresh, Nodes, Tree},
    value::Key,
};

/// What can go wrong with a state.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tree could not be read or changed.
    #[error("a tree of collection {} cannot be read", collection.0)]
    Tree {
        /// Which collection.
        collection: CollectionId,
        /// The tree's word.
        #[source]
        source: tree::Error,
    },
    /// A chunk that a fold made is not of a tree.
    #[error("what was folded cannot be read back")]
    Folded {
        /// The tree's word.
        #[source]
        source: tree::Error,
    },
    /// A document's bytes are not a document.
    #[error("document `{key}` of collection {} does not decode", collection.0)]
    Document {
        /// Which collection.
        collection: CollectionId,
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: codec::Error,
    },
}

/// The trees of one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trees {
    /// Living documents.
    pub documents: Tree,
    /// Deleted documents with what is kept of them until the horizon, apart so that neither counts nor scans meet them.
    pub deleted: Tree,
    /// Keys of documents in conflict, with empty values. Derived from `documents`, so no part of the root.
    pub conflicts: Tree,
}

impl Trees {
    /// Returns the trees of a collection without documents.
    pub fn empty() -> Self {
        Self { documents: Tree::empty(), deleted: Tree::empty(), conflicts: Tree::empty() }
    }

    fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.deleted.is_empty()
    }
}

/// How many documents there are of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    living: u64,
    /// Of these.
    in_conflict: u64,
}

fn counts_of(trees: &BTreeMap<CollectionId, Trees>) -> BTreeMap<CollectionId, Counts> {
    let count = |trees: &Trees| Counts { living: trees.documents.count(), in_conflict: trees.conflicts.count() };
    trees.iter().map(|(id, trees)| (*id, count(trees))).collect()
}

/// The state of a branch at a frontier, under a judgement. Cheap to clone: a clone is a snapshot.
#[derive(Debug, Clone)]
pub struct State {
    branch: BranchName,
    schema: Arc<Schema>,
    frontier: Arc<Frontier>,
    judgement: Judgement,
    trees: Arc<BTreeMap<CollectionId, Trees>>,
    /// Documents changed since the trees were made; an empty document is one that is gone without trace.
    overlay: OrdMap<(CollectionId, Key), Arc<Document>>,
    counts: Arc<BTreeMap<CollectionId, Counts>>,
    /// Edits replayed into the overlay since the last fold.
    pending: u64,
    /// Bytes of texts and bytes that those wrote, about.
    weight: u64,
}

impl State {
    /// Returns the state of a branch without commits.
    pub fn empty(branch: BranchName, schema: Arc<Schema>) -> Self {
        Self::materialised(branch, schema, Frontier::default(), Judgement::NONE, BTreeMap::new())
    }

    /// Returns the state whose trees are at hand.
    pub fn materialised(
        branch: BranchName,
        schema: Arc<Schema>,
        frontier: Frontier,
        judgement: Judgement,
        trees: BTreeMap<CollectionId, Trees>,
    ) -> Self {
        let counts = Arc::new(counts_of(&trees));
        let (frontier, trees) = (Arc::new(frontier), Arc::new(trees));
        Self { branch, schema, frontier, judgement, trees, overlay: OrdMap::new(), counts, pending: 0, weight: 0 }
    }

    /// Returns its branch.
    pub const fn branch(&self) -> &BranchName {
        &self.branch
    }

    /// Returns the schema it is replayed under.
    pub const fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Returns its frontier.
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// Returns its judgement.
    pub const fn judgement(&self) -> Judgement {
        self.judgement
    }

    /// Takes the state as one under `judgement`: right only where no commit in it is judged otherwise there.
    pub const fn set_judgement(&mut self, judgement: Judgement) {
        self.judgement = judgement;
    }

    /// Returns its name.
    pub fn name(&self) -> StateName {
        graph::state_name(self.frontier.name(&self.branch), self.judgement)
    }

    /// Returns the trees below the overlay.
    pub fn trees(&self) -> &BTreeMap<CollectionId, Trees> {
        &self.trees
    }

    /// Returns the trees below the overlay as all clones of this state share them: who holds them can read them.
    pub const fn shared_trees(&self) -> &Arc<BTreeMap<CollectionId, Trees>> {
        &self.trees
    }

    /// Returns how many documents live in `collection`.
    pub fn count(&self, collection: CollectionId) -> u64 {
        self.counts.get(&collection).map_or(0, |counts| counts.living)
    }

    /// Returns how many documents of `collection` are in conflict.
    pub fn count_conflicts(&self, collection: CollectionId) -> u64 {
        self.counts.get(&collection).map_or(0, |counts| counts.in_conflict)
    }

    /// Returns how many edits were replayed since the last fold.
    pub const fn pending(&self) -> u64 {
        self.pending
    }

    /// Returns about how many bytes of texts and bytes those edits wrote, which are in memory until a fold.
    pub const fn weight(&self) -> u64 {
        self.weight
    }

    /// Whether nothing lies above the trees.
    pub fn is_folded(&self) -> bool {
        self.overlay.is_empty()
    }

    /// Returns the document under `key`, deleted ones too.
    ///
    /// # Errors
    /// [`Error`] if its bytes cannot be read.
    pub fn document<N: Nodes + ?Sized>(&self, nodes: &N, collection: CollectionId, key: &Key) -> Result<Option<Arc<Document>>, Error> {
        // A key is cheap to clone; the map is asked by the pair it is ordered by.
        if let Some(document) = self.overlay.get(&(collection, key.clone())) {
            return Ok((!document.is_empty()).then(|| document.clone()));
        }
        let Some(trees) = self.trees.get(&collection) else { return Ok(None) };
        let tree_error = |source| Error::Tree { collection, source };
        let mut bytes = trees.documents.get(nodes, key.as_bytes()).map_err(tree_error)?;
        if bytes.is_none() && !trees.deleted.is_empty() {
            bytes = trees.deleted.get(nodes, key.as_bytes()).map_err(tree_error)?;
        }
        bytes.map(|bytes| decode(collection, key.as_str(), &bytes)).transpose()
    }

    /// Returns the living document under `key`.
    ///
    /// # Errors
    /// As [`State::document`].
    pub fn get<N: Nodes + ?Sized>(&self, nodes: &N, collection: CollectionId, key: &Key) -> Result<Option<Arc<Document>>, Error> {
        Ok(self.document(nodes, collection, key)?.filter(|document| document.exists()))
    }

    /// Replays one commit whose parents are in the state. Requests for which `skips` answers true are passed over; absent ones (`None`)
    /// must be among those.
    ///
    /// Replaying a commit that is in the state already changes nothing.
    ///
    /// # Errors
    /// [`Error`] if a document cannot be read; the state is then half-way and must be thrown away.
    pub fn apply<N: Nodes + ?Sized>(
        &mut self,
        nodes: &N,
        id: CommitId,
        meta: &Meta,
        requests: &[Option<Arc<Request>>],
        skips: impl Fn(u32) -> bool,
    ) -> Result<(), Error> {
        let mut ahead = self.read_ahead(nodes, advance::edits_of(requests));
        self.apply_ahead(nodes, id, meta, requests, &mut ahead, skips)
    }

    /// As [`apply`](Self::apply), with what was read ahead of all its edits.
    fn apply_ahead<N: Nodes + ?Sized>(
        &mut self,
        nodes: &N,
        id: CommitId,
        meta: &Meta,
        requests: &[Option<Arc<Request>>],
        mut ahead: &mut [Option<Option<Arc<Document>>>],
        skips: impl Fn(u32) -> bool,
    ) -> Result<(), Error> {
        if !Arc::make_mut(&mut self.frontier).advance(id, meta) {
            return Ok(());
        }
        for (at, request) in (0..MAX_REQUESTS).zip(requests) {
            let Some(request) = request else { continue };
            let own = ahead.split_off_mut(..request.len().min(ahead.len())).unwrap_or_default();
            if !skips(at) {
                self.apply_request_ahead(nodes, meta, at, request, own)?;
            }
        }
        Ok(())
    }

    /// Replays one request at its place in a commit, without advancing the frontier.
    ///
    /// # Errors
    /// As [`State::apply`].
    pub fn apply_request<N: Nodes + ?Sized>(&mut self, nodes: &N, meta: &Meta, at: u32, request: &Request) -> Result<(), Error> {
        self.apply_request_ahead(nodes, meta, at, request, &mut [])
    }

    fn apply_request_ahead<N: Nodes + ?Sized>(
        &mut self,
        nodes: &N,
        meta: &Meta,
        at: u32,
        request: &Request,
        ahead: &mut [Option<Option<Arc<Document>>>],
    ) -> Result<(), Error> {
        let mut ahead = ahead.iter_mut();
        for (dot, collection, edit) in dotted(meta, at, request) {
            let read = ahead.next().and_then(Option::take);
            // A collection that this schema lacks was dropped by a migration.
            if self.schema.by_id(collection).is_ok() {
                let before = if let Some(before) = read { before } else { self.document(nodes, collection, &edit.key)? };
                self.apply_edit(meta, dot, collection, edit, before);
            }
        }
        Ok(())
    }

    /// As [`apply_request`](Self::apply_request), for a request no two edits of which are of one document: `before` has what
    /// [`document`](Self::document) returns for each edit, in order.
    pub fn apply_planned(&mut self, meta: &Meta, at: u32, request: &Request, before: impl IntoIterator<Item = Option<Arc<Document>>>) {
        for ((dot, collection, edit), before) in dotted(meta, at, request).zip(before) {
            self.apply_edit(meta, dot, collection, edit, before);
        }
    }

    fn apply_edit(&mut self, meta: &Meta, dot: Dot, id: CollectionId, edit: &Edit, before: Option<Arc<Document>>) {
        let schema = self.schema.clone();
        let Ok(collection) = schema.by_id(id) else { return };
        let context = Context { vector: &meta.vector, stamp: Stamp { time: meta.time, dot } };
        let count =
            |document: &Document| Counts { living: document.exists().into(), in_conflict: document.has_conflict(collection).into() };
        let counted = before.as_deref().map(count).unwrap_or_default();
        let mut document = before.map_or_else(Document::default, Arc::unwrap_or_clone);
        document.apply(edit, &context, collection);
        let counts = count(&document);
        if counts != counted {
            let all = Arc::make_mut(&mut self.counts).entry(id).or_default();
            // What trees from elsewhere say of their conflicts is no part of a root, so it may be any number.
            all.living = all.living.saturating_add(counts.living).saturating_sub(counted.living);
            all.in_conflict = all.in_conflict.saturating_add(counts.in_conflict).saturating_sub(counted.in_conflict);
        }
        let written = edit.operation.weight();
        // A part lies whole in memory, however little of it is written.
        self.weight += if id == BLOBS && written == 0 { blob::len_of(&document) } else { written };
        self.overlay.insert((id, edit.key.clone()), Arc::new(document));
        self.pending += 1;
    }

    /// Folds the overlay into the trees and returns the new chunks. Cost follows the overlay.
    ///
    /// # Errors
    /// [`Error::Tree`]; the state is then as before.
    pub fn fold<N: Nodes + ?Sized>(&mut self, nodes: &N) -> Result<Vec<Verified>, Error> {
        let mut added = Vec::new();
        let mut trees = (*self.trees).clone();
        for collection in &self.schema.collections {
            let id = collection.id;
            let changed: Vec<_> = self.overlay.range((id, first_key())..).take_while(|((of, _), _)| *of == id).collect();
            if changed.is_empty() {
                continue;
            }
            let before = trees.get(&id).copied().unwrap_or_else(Trees::empty);
            let mut place = |tree: Tree, goes_there: &dyn Fn(&Document) -> bool, bytes: &dyn Fn(&Document) -> Vec<u8>| {
                let edits = changed.iter().map(|((_, key), document)| (key.as_bytes(), goes_there(document).then(|| bytes(document))));
                let edits: Vec<_> = if tree.is_empty() { edits.filter(|(_, value)| value.is_some()).collect() } else { edits.collect() };
                let applied = tree.apply(nodes, edits).map_err(|source| Error::Tree { collection: id, source })?;
                added.extend(applied.added);
                Ok::<_, Error>(applied.tree)
            };
            let documents = place(before.documents, &Document::exists, &Document::to_bytes)?;
            let deleted = place(before.deleted, &|document| !document.exists() && !document.is_empty(), &Document::to_bytes)?;
            let conflicts = place(before.conflicts, &|document| document.has_conflict(collection), &|_| Vec::new())?;
            trees.insert(id, Trees { documents, deleted, conflicts });
        }
        self.counts = Arc::new(counts_of(&trees));
        self.trees = Arc::new(trees);
        self.overlay = OrdMap::new();
        (self.pending, self.weight) = (0, 0);
        Ok(added)
    }

    /// Takes over the trees of `folded`, which is `before` folded; `before` is an earlier moment of this state. Where it is not, or this state does not
    /// stand on the trees on which `before` stood, nothing happens. Whoever calls vouches that this state has the very commits of `before`.
    ///
    /// Cost: a pass over what lies above the trees.
    pub fn adopt(&mut self, before: &Self, folded: &Self) -> bool {
        let is_later = Arc::ptr_eq(&self.trees, &before.trees)
            && (&self.branch, self.schema.id(), self.judgement) == (&before.branch, before.schema.id(), before.judgement)
            && self.frontier.vector().covers(before.frontier.vector());
        if !is_later {
            return false;
        }
        // Not by the map's own `diff`: in the versions of `imbl` up to 7.0.1 it passes over entries behind a shared leaf (jneem/imbl#160).
        let (mut overlay, mut folded_in) = (OrdMap::new(), before.overlay.iter().peekable());
        for (name, document) in &self.overlay {
            match folded_in.peek() {
                Some((folded, _)) if *folded < name => return false,
                Some((folded, old)) if *folded == name => {
                    let is_changed = !Arc::ptr_eq(old, document);
                    folded_in.next();
                    if !is_changed {
                        continue;
                    }
                }
                _ => {}
            }
            overlay.insert(name.clone(), document.clone());
        }
        if folded_in.next().is_some() {
            return false;
        }
        (self.trees, self.overlay) = (folded.trees.clone(), overlay);
        self.pending -= before.pending.min(self.pending);
        self.weight -= before.weight.min(self.weight);
        true
    }

    /// Returns the root, or `None` while an overlay lies above the trees: fold first.
    pub fn root(&self) -> Option<StateRoot> {
        self.is_folded().then(|| root_of(self.trees.iter().map(|(id, trees)| (*id, trees))))
    }

    /// Returns the state as a newer schema sees it: fields and collections that it lacks are dropped.
    ///
    /// Equal to a replay under that schema, since fields do not depend on each other. Cost: a pass over the collections that lose a field.
    /// Returns it folded, with its new chunks.
    ///
    /// # Errors
    /// [`Error`].
    pub fn migrated<N: Nodes + ?Sized>(&self, nodes: &N, branch: BranchName, schema: Arc<Schema>) -> Result<(Self, Vec<Verified>), Error> {
        let mut next = self.clone();
        let mut added = next.fold(nodes)?;
        let (trees, more) = next.restricted(&made_above(nodes, &added)?, &schema)?;
        added.extend(more);
        Ok((Self::materialised(branch, schema, (*next.frontier).clone(), next.judgement, trees), added))
    }

    fn restricted<N: Nodes + ?Sized>(&self, nodes: &N, schema: &Schema) -> Result<(BTreeMap<CollectionId, Trees>, Vec<Verified>), Error> {
        let (mut kept, mut added) = (BTreeMap::new(), Vec::new());
        for (id, trees) in self.trees.iter() {
            let Ok(after) = schema.by_id(*id) else { continue };
            let loses = self.schema.by_id(*id).is_ok_and(|before| before.fields.iter().any(|field| after.get(field.id).is_none()));
            if !loses {
                kept.insert(*id, *trees);
                continue;
            }
            let tree_error = |source| Error::Tree { collection: *id, source };
            let mut conflicts = Vec::new();
            let mut rewrite = |tree: &Tree, conflicts: &mut Vec<Vec<u8>>| {
                let mut entries = Vec::new();
                for entry in tree.range(nodes, &tree::Keys::all()).map_err(tree_error)? {
                    let (key, bytes) = entry.map_err(tree_error)?;
                    let mut document = Arc::unwrap_or_clone(decode(*id, &String::from_utf8_lossy(&key), &bytes)?);
                    document.restrict(after);
                    if document.has_conflict(after) {
                        conflicts.push(key.clone());
                    }
                    if !document.is_empty() {
                        entries.push((key, document.to_bytes()));
                    }
                }
                let applied = Tree::build(entries).map_err(tree_error)?;
                added.extend(applied.added);
                Ok::<_, Error>(applied.tree)
            };
            let documents = rewrite(&trees.documents, &mut conflicts)?;
            let deleted = rewrite(&trees.deleted, &mut Vec::new())?;
            let conflicts = Tree::build(conflicts.into_iter().map(|key| (key, []))).map_err(tree_error)?;
            added.extend(conflicts.added);
            kept.insert(*id, Trees { documents, deleted, conflicts: conflicts.tree });
        }
        Ok((kept, added))
    }
}

/// Returns the root over the trees of collections, in order of their numbers.
pub fn root_of<'a>(trees: impl Iterator<Item = (CollectionId, &'a Trees)>) -> StateRoot {
    let mut out = Writer::default();
    for (id, trees) in trees.filter(|(_, trees)| !trees.is_empty()) {
        out.uint(id.0.into());
        trees.documents.encode(&mut out);
        trees.deleted.encode(&mut out);
    }
    StateRoot(Domain::Root.hash(&[out.as_bytes()]))
}

/// Returns the chunks that a fold made in front of the nodes it was made on.
fn made_above<'n, N: Nodes + ?Sized>(nodes: &'n N, made: &[Verified]) -> Result<Fresh<'n, N>, Error> {
    Fresh::new(nodes, made).map_err(|source| Error::Folded { source })
}

/// Returns the edits of the request at place `at` of a commit, with their dots and collections.
pub fn dotted<'r>(meta: &Meta, at: u32, request: &'r Request) -> impl Iterator<Item = (Dot, CollectionId, &'r Edit)> + use<'r> {
    let (chain, counter) = (meta.chain, meta.counter);
    let places = 0..u32::try_from(MAX_EDITS).unwrap_or(u32::MAX);
    places
        .zip(request.edits())
        .map(move |(edit_at, (collection, edit))| (Dot { chain, counter, index: Dot::index(at, edit_at) }, collection, edit))
}

fn first_key() -> Key {
    Key::new("\0").expect("one byte is a key")
}

pub(crate) fn decode(collection: CollectionId, key: &str, bytes: &[u8]) -> Result<Arc<Document>, Error> {
    Document::from_bytes(bytes).map(Arc::new).map_err(|source| Error::Document { collection, key: key.to_owned(), source })
}
