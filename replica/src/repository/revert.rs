//! Reverting: new commits that take back what is still visible of others.
//!
//! What is taken back is a selection of edits: of single commits, of a stretch of history, of a session, of a document or collection, or all of
//! these at once. Law: what comes back is what the branch would show had none of the selected edits been made; where others wrote since, theirs
//! stays.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use herdbook_model::{
    authority::RequestRef,
    codec::Encode as _,
    commit,
    document::{Context, Document, Dot, Stamp},
    edit::{self, Change, Edit, Operation},
    graph::Meta,
    id::{BranchName, ChainId, CommitId, RequestKey, SessionId},
    request::{Must, Request},
    revert,
    schema::{BLOBS, Collection, CollectionId, FieldId},
    state::{self, State, advance, lacking},
    value::Key,
    vector::VersionVector,
};
use herdbook_store::{Direction, Durability, KeyRange, Table};

use super::{Ask, Committed, DocumentChange, DocumentEdit, Moment, Repository, View, Wanted, layout, version};
use crate::{error::Error, keys};

/// Bytes of edits at which a revert goes on in another commit: far below what a request may have.
const PART_BYTES: usize = 1 << 20;

/// Edits at which a revert goes on in another commit.
const PART_EDITS: usize = 1 << 13;

/// As many where values that can be erased may have to be written again, each by a request of its own.
const APART_EDITS: usize = 1 << 6;

/// How often a revert is worked out anew because a document changed meanwhile.
const ATTEMPTS: usize = 8;

/// Which edits of a branch are meant. Each part narrows them down.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Those of these commits; empty: of all commits that the rest leaves.
    pub commits: Vec<CommitId>,
    /// Only those of this session.
    pub session: Option<SessionId>,
    /// Only those of commits that this state lacks.
    pub since: Option<State>,
    /// Only those of commits that this state has.
    pub until: Option<State>,
    /// Only those of documents of this collection.
    pub collection: Option<Arc<str>>,
    /// Only those of the document of this key in the collection.
    pub key: Option<Key>,
}

impl Selection {
    /// Returns the edits of these commits.
    pub fn of(commits: &[CommitId]) -> Self {
        Self { commits: commits.to_vec(), ..Self::default() }
    }

    /// Whether it means everything that ever happened: then it was hardly meant.
    pub const fn is_everything(&self) -> bool {
        self.commits.is_empty() && self.session.is_none() && self.since.is_none() && self.until.is_none() && self.collection.is_none()
    }

    fn has(&self, chain: &ChainId, counter: u64) -> bool {
        let holds = |state: &State| state.frontier().vector().contains(chain, counter);
        !self.since.as_ref().is_some_and(holds) && self.until.as_ref().is_none_or(holds)
    }
}

/// What is to be reverted, and how.
#[derive(Debug, Clone)]
pub struct Revert {
    /// The branch; the promoted one if none.
    pub branch: Option<BranchName>,
    /// Which edits are taken back.
    pub selection: Selection,
    /// Idempotency key.
    pub key: RequestKey,
    /// What its author says about it.
    pub message: String,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
}

/// What a revert did.
#[derive(Debug, Clone)]
pub struct Reverted {
    /// The last commit that takes back; `None` if nothing was left to take back, or nothing was to be written.
    pub committed: Option<Committed>,
    /// All commits that take back, in order: several where much was taken back.
    pub commits: Vec<CommitId>,
    /// Documents of which edits were taken back, by collection and key.
    pub documents: Vec<(Arc<str>, Key)>,
    /// Documents of which nothing was left to take back: changed since by others, or lost here.
    pub untouched: Vec<(Arc<str>, Key)>,
}

/// Edits of a commit that are to be taken back.
struct Member {
    id: CommitId,
    meta: Meta,
    requests: Vec<Request>,
}

/// What a revert comes to.
#[derive(Default)]
struct Plan {
    edits: Vec<(DocumentEdit, Wanted)>,
    documents: Vec<(Arc<str>, Key)>,
    untouched: Vec<(Arc<str>, Key)>,
}

impl Repository {
    /// Takes back what is still visible of selected edits, in new commits. Later edits of others stay; a revert can be reverted.
    ///
    /// Several commits are taken back as one: what comes back is what the branch would show had none of them been made. Where a document changes
    /// meanwhile, it is looked at again.
    ///
    /// Cost: the selected commits, and the replay of the branch without them; for one document its own history alone.
    ///
    /// # Errors
    /// [`Error::UnknownCommit`] if the branch does not have one of the commits, [`Error::Empty`] for a selection that names nothing, and those
    /// of a commit.
    pub fn revert(&self, revert: &Revert, durability: Durability) -> Result<Reverted, Error> {
        if revert.selection.is_everything() {
            return Err(Error::Empty);
        }
        let mut made = Vec::new();
        let mut documents = BTreeSet::new();
        for attempt in 1.. {
            let view = self.view();
            let now = view.state(revert.branch.as_ref())?;
            let plan = self.plan_revert(&view, now, &revert.selection)?;
            documents.extend(plan.documents);
            let reverted = |made: &[Committed], documents: BTreeSet<(Arc<str>, Key)>| Reverted {
                committed: made.last().cloned(),
                commits: made.iter().map(|committed| committed.commit).collect(),
                documents: documents.into_iter().collect(),
                untouched: plan.untouched,
            };
            if plan.edits.is_empty() || revert.dry_run {
                return Ok(reverted(&made, documents));
            }
            let may_set_apart = now.schema().collections.iter().any(|collection| collection.erasable().next().is_some());
            let asks = asks(now.branch(), plan.edits, revert, if may_set_apart { APART_EDITS } else { PART_EDITS })?;
            match self.commit_all(asks, durability, &mut made) {
                Ok(()) => return Ok(reverted(&made, documents)),
                Err(Error::Precondition { .. }) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
        unreachable!("the attempts are numbered without end")
    }

    /// Makes commits of asks, and adds to `made` those that could be made.
    fn commit_all(&self, asks: Vec<Ask>, durability: Durability, made: &mut Vec<Committed>) -> Result<(), Error> {
        let (tell, told) = crossbeam::channel::bounded(1);
        self.commit(asks, durability, move |receipt, answers| {
            let _ = tell.send(receipt.map(|_| answers));
        });
        let answers = told.recv().map_err(|_| Error::Stopped)??;
        let mut refused = None;
        for answer in answers {
            match answer {
                Ok(committed) => made.push(committed),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    fn plan_revert(&self, view: &View, now: &State, selection: &Selection) -> Result<Plan, Error> {
        let scope = selection.collection.as_deref().map(|name| now.schema().collection(name)).transpose()?;
        let members = self.members(view, now, selection, scope)?;
        let own: HashSet<_> = members.iter().map(|member| (member.meta.chain, member.meta.counter)).collect();
        let is_own = |dot: &Dot| own.contains(&(dot.chain, dot.counter));
        let mut plan = Plan::default();
        let Some(first) = members.first() else { return Ok(plan) };
        let without = if selection.key.is_some() { None } else { Some(self.state_without(view, now, selection, first, &members)?) };
        for ((collection_id, key), folded) in folded(members.iter().flat_map(|member| &member.requests)) {
            let Ok(collection) = now.schema().by_id(collection_id) else { continue };
            let current = now.document(self.nodes(), collection.id, &key)?;
            let then = match &without {
                Some(state) => state.document(self.nodes(), collection.id, &key)?,
                None => self.document_without(view, now, collection, &key, &own)?.map(Arc::new),
            };
            let lives = |document: Option<&Document>| document.is_some_and(Document::exists);
            let Some(operation) = folded.operation(lives(then.as_deref()), lives(current.as_deref())) else { continue };
            let (name, edit) = ((collection.name.clone(), key.clone()), Edit { key, operation });
            match revert::revert_all(&edit, &folded.cleared, then.as_deref(), current.as_deref(), collection, is_own) {
                Some(back) => {
                    let must = match current.as_deref().filter(|document| document.exists()) {
                        Some(document) => Must::BeAt(version(document)),
                        None => Must::BeAbsent,
                    };
                    let wanted = Wanted { collection: collection.name.to_string(), key: edit.key, must, only_here: true };
                    plan.edits.push((as_ask(collection, &back), wanted));
                    plan.documents.push(name);
                }
                None => plan.untouched.push(name),
            }
        }
        Ok(plan)
    }

    /// Reads the edits that are to be taken back, commits in a causal order, each once.
    fn members(&self, view: &View, now: &State, selection: &Selection, scope: Option<&Collection>) -> Result<Vec<Member>, Error> {
        let mut members = Vec::new();
        for (id, meta) in self.selected(view, now, selection, scope)? {
            if !selection.has(&meta.chain, meta.counter) {
                continue;
            }
            let stored = self.stored(&id)?.ok_or_else(|| Error::UnknownCommit { id: id.to_string() })?;
            if selection.session.is_some_and(|session| session != stored.commit.header().session) {
                continue;
            }
            let mut requests = stored.decode()?;
            requests.retain(|(at, _)| !view.skips(&RequestRef { commit: id, request: *at }));
            for (_, request) in &mut requests {
                // What is left over of blobs is a sweep's to take away: others may have come to use it.
                request.groups.retain(|group| scope.map_or(group.collection != BLOBS, |scope| scope.id == group.collection));
                if let Some(key) = &selection.key {
                    request.groups.iter_mut().for_each(|group| group.edits.retain(|edit| edit.key == *key));
                }
            }
            requests.retain(|(_, request)| !request.is_empty());
            if requests.is_empty() {
                continue;
            }
            members.push(Member { id, meta, requests: requests.into_iter().map(|(_, request)| request).collect() });
        }
        members.sort_by_key(|member| (member.meta.time, member.id));
        members.dedup_by_key(|member| member.id);
        Ok(members)
    }

    /// Returns the commits that a selection may mean, by the shortest way to them.
    fn selected(
        &self,
        view: &View,
        now: &State,
        selection: &Selection,
        scope: Option<&Collection>,
    ) -> Result<Vec<(CommitId, Meta)>, Error> {
        let vector = now.frontier().vector();
        if !selection.commits.is_empty() {
            let find = |id: &CommitId| {
                let meta = self.meta(id)?.filter(|meta| vector.contains(&meta.chain, meta.counter));
                Ok((*id, meta.ok_or_else(|| Error::UnknownCommit { id: id.to_string() })?))
            };
            return selection.commits.iter().map(find).collect();
        }
        if let (Some(scope), Some(key)) = (scope, &selection.key) {
            let mut found = Vec::new();
            self.edits_of(scope.id, key, Direction::Forward, |commit, meta, _| {
                if vector.contains(&meta.chain, meta.counter) {
                    found.push((commit, meta.clone()));
                }
                Ok(true)
            })?;
            found.dedup_by_key(|(id, _)| *id);
            return Ok(found);
        }
        let since = selection.since.as_ref().map(|state| state.frontier().vector().clone()).unwrap_or_default();
        let mut wanted = VersionVector::default();
        match selection.session {
            Some(session) => {
                for branch in view.log.branches().keys() {
                    let chain = commit::chain(&session, branch);
                    wanted.raise(chain, vector.get(&chain));
                }
            }
            None => wanted = vector.clone(),
        }
        let until = selection.until.as_ref().map(|state| state.frontier().vector());
        if let Some(until) = until {
            let mut both = VersionVector::default();
            wanted.iter().for_each(|(chain, counter)| both.raise(*chain, (*counter).min(until.get(chain))));
            wanted = both;
        }
        Ok(lacking(&self.0.commits, &since, &wanted)?)
    }

    /// Returns what stood there without the commits: for one, the state of its parents; where everything since a state is taken back, that state;
    /// else the branch replayed without them, since the parents of a later one show what an earlier one did.
    fn state_without(&self, view: &View, now: &State, selection: &Selection, first: &Member, members: &[Member]) -> Result<State, Error> {
        if let Selection { commits, session: None, since: Some(since), until: None, .. } = selection
            && commits.is_empty()
            && (since.branch(), since.judgement()) == (now.branch(), now.judgement())
            && now.frontier().vector().covers(since.frontier().vector())
        {
            return Ok(since.clone());
        }
        let mut state = self.state_at(view, Some(now.branch()), &Moment::Before(first.id))?;
        if members.len() > 1 {
            let ids: HashSet<_> = members.iter().map(|member| member.id).collect();
            let skips = |request: &RequestRef| view.skips(request) || ids.contains(&request.commit);
            advance(&mut state, &self.0.commits, &self.0.nodes, now.frontier().vector(), skips)?;
        }
        Ok(state)
    }

    /// Returns a document as `now` would have it without the edits of some commits. Cost: its own history.
    fn document_without(
        &self,
        view: &View,
        now: &State,
        collection: &Collection,
        key: &Key,
        without: &HashSet<(ChainId, u64)>,
    ) -> Result<Option<Document>, Error> {
        // What went before the horizon stands in the state there, and cannot be left out any more.
        let floor = self.0.floor(now.branch(), now.schema())?;
        let past = floor.as_ref().map(|floor| floor.frontier().vector().clone()).unwrap_or_default();
        if let Some(floor) = floor.as_ref().filter(|_| without.iter().any(|(chain, counter)| past.contains(chain, *counter))) {
            return Err(Error::BeforeHorizon { branch: now.branch().clone(), time: floor.frontier().newest() });
        }
        let kept = floor.map(|floor| floor.document(&self.0.nodes, collection.id, key)).transpose()?.flatten();
        let mut document = kept.map_or_else(Document::default, Arc::unwrap_or_clone);
        self.edits_of(collection.id, key, Direction::Forward, |commit, meta, at| {
            let place = (meta.chain, meta.counter);
            if past.contains(&meta.chain, meta.counter) {
                return Ok(true);
            }
            let counts = now.frontier().vector().contains(&meta.chain, meta.counter) && !without.contains(&place);
            if !counts || view.skips(&RequestRef { commit, request: at }) {
                return Ok(true);
            }
            let Some(request) = self.0.commits.request(&commit, at)? else {
                self.fails_past(&commit)?;
                return Ok(true);
            };
            for (dot, of, edit) in state::dotted(meta, at, &request) {
                if of == collection.id && edit.key == *key {
                    document.apply(edit, &Context { vector: &meta.vector, stamp: Stamp { time: meta.time, dot } }, collection);
                }
            }
            Ok(true)
        })?;
        Ok((!document.is_empty()).then_some(document))
    }

    /// Tells `visit` of each request of any branch that edits a document, by time, until it answers false. Cost: the document's history.
    pub(super) fn edits_of(
        &self,
        collection: CollectionId,
        key: &Key,
        direction: Direction,
        mut visit: impl FnMut(CommitId, &Meta, u32) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let range = KeyRange::prefix(&layout::by_document(collection, key));
        for record in self.0.store.records().scan(Table::Index, range, direction) {
            let Some(edit) = layout::parse_by_edit(&record?.key) else { continue };
            // A key that holds a zero byte may share the prefix.
            if edit.key != key.as_str() {
                continue;
            }
            let Some(meta) = self.meta(&edit.commit)? else { continue };
            if !visit(edit.commit, &meta, edit.request)? {
                break;
            }
        }
        Ok(())
    }
}

/// Makes asks of edits, each small enough for one commit. The caller's idempotency key goes to the last: once that is stored, all are.
fn asks(branch: &BranchName, edits: Vec<(DocumentEdit, Wanted)>, revert: &Revert, most: usize) -> Result<Vec<Ask>, Error> {
    let mut asks: Vec<Ask> = Vec::new();
    let mut bytes = 0;
    for (edit, wanted) in edits {
        let len = if let DocumentChange::Exact(operation) = &edit.change {
            Edit { key: edit.key.clone(), operation: operation.clone() }.to_bytes().len()
        } else {
            0
        };
        bytes += len;
        match asks.last_mut().filter(|ask| ask.edits.len() < most && bytes < PART_BYTES) {
            Some(ask) => {
                ask.edits.push(edit);
                ask.wanted.push(wanted);
            }
            None => {
                bytes = len;
                let (branch, key, message) = (Some(branch.clone()), RequestKey(keys::random()?), revert.message.clone());
                asks.push(Ask { branch, key, principal: String::new(), wanted: vec![wanted], edits: vec![edit], message });
            }
        }
    }
    if let Some(last) = asks.last_mut() {
        last.key = revert.key;
    }
    Ok(asks)
}

/// Edits of one document, told as one.
#[derive(Default)]
struct Folded {
    /// A create or update that names every field they touched; `None` if they only deleted.
    edited: Option<Operation>,
    /// Fields that one of them cleared.
    cleared: BTreeSet<FieldId>,
    /// Whether one of them deleted the document. A concurrent one may have kept it all the same.
    deletes: bool,
}

/// Tells the edits of each document as one.
fn folded<'r>(requests: impl Iterator<Item = &'r Request>) -> BTreeMap<(CollectionId, Key), Folded> {
    let mut folded = BTreeMap::<_, Folded>::new();
    for request in requests {
        for (collection, edit) in request.edits() {
            folded.entry((collection, edit.key.clone())).or_default().add(edit.operation.clone());
        }
    }
    folded
}

impl Folded {
    /// Returns the operation that is to be taken back of a document that lives without them or not, and now or not. `None` if they made it and
    /// deleted it again.
    fn operation(&self, lived: bool, lives: bool) -> Option<Operation> {
        match &self.edited {
            Some(operation) if lives || !self.deletes => Some(operation.clone()),
            Some(Operation::Create(_)) if !lived => None,
            _ => Some(Operation::Delete),
        }
    }

    fn add(&mut self, operation: Operation) {
        let (creates, more) = match operation {
            Operation::Delete => {
                self.deletes = true;
                return;
            }
            Operation::Create(fields) => (true, fields),
            Operation::Update(fields) => (false, fields),
        };
        let (created, mut fields) = match self.edited.take() {
            Some(Operation::Create(fields)) => (true, fields),
            Some(Operation::Update(fields)) => (false, fields),
            Some(Operation::Delete) | None => (false, Vec::new()),
        };
        if creates {
            // It took away what it does not write itself. Counters kept counting.
            let is_gone = |known: &&mut edit::FieldEdit| {
                !matches!(known.change, Change::Count { .. }) && more.iter().all(|edit| edit.field != known.field)
            };
            fields.iter_mut().filter(is_gone).for_each(|known| join(&mut known.change, Change::Clear));
        }
        // What was deleted first and then made anew had something before.
        let creates = created || creates;
        for edit in more {
            match fields.iter_mut().find(|known| known.field == edit.field) {
                Some(known) => {
                    if matches!(known.change, Change::Clear) || matches!(edit.change, Change::Clear) {
                        self.cleared.insert(edit.field);
                    }
                    join(&mut known.change, edit.change);
                }
                None => fields.push(edit),
            }
        }
        self.edited = Some(if creates { Operation::Create(fields) } else { Operation::Update(fields) });
    }
}

/// Makes of two changes of a field one that names all they touched.
fn join(known: &mut Change, more: Change) {
    match (known, more) {
        (Change::Elements { add, remove }, Change::Elements { add: more_add, remove: more_remove }) => {
            add.extend(more_add);
            remove.extend(more_remove);
            for elements in [add, remove] {
                elements.sort_unstable();
                elements.dedup();
            }
        }
        (known @ (Change::Entries { .. } | Change::Within(_)), more @ (Change::Entries { .. } | Change::Within(_))) => {
            let mut entries = entries_of(std::mem::replace(known, Change::Clear));
            for (key, change) in entries_of(more) {
                match entries.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, known)) => join(known, change),
                    None => entries.push((key, change)),
                }
            }
            *known = Change::Within(entries);
        }
        (Change::Count { add, .. }, Change::Count { reset: false, add: more }) => *add = add.wrapping_add(more),
        (known @ Change::Count { .. }, Change::Clear) => *known = Change::Count { reset: true, add: 0 },
        (known @ Change::Clear, Change::Count { add, .. }) => *known = Change::Count { reset: true, add },
        (Change::Text(known), Change::Text(more)) => {
            known.inserts.extend(more.inserts);
            known.deletes.extend(more.deletes);
        }
        (Change::List(known), Change::List(more)) => {
            known.inserts.extend(more.inserts);
            known.moves.extend(more.moves);
            known.sets.extend(more.sets);
            known.deletes.extend(more.deletes);
        }
        // What was added or put is gone with the clear, or stands beside it if the clear did not see it: either way it is to be looked at.
        (Change::Elements { add, remove }, Change::Clear) => {
            remove.extend_from_slice(add);
            remove.sort_unstable();
            remove.dedup();
        }
        (known @ (Change::Entries { .. } | Change::Within(_)), Change::Clear) => {
            let gone = |change| if matches!(change, Change::Set(_) | Change::Replace(_)) { Change::Clear } else { change };
            let entries = entries_of(std::mem::replace(known, Change::Clear));
            *known = Change::Within(entries.into_iter().map(|(key, change)| (key, gone(change))).collect());
        }
        (Change::Text(_) | Change::List(_), Change::Clear) => {}
        (known, change) => *known = change,
    }
}

/// Returns the changes of a map, entry by entry.
fn entries_of(change: Change) -> Vec<(Arc<str>, Change)> {
    match change {
        Change::Entries { put, remove } => {
            let removed = remove.into_iter().map(|key| (key, Change::Clear));
            removed.chain(put.into_iter().map(|(key, value)| (key, Change::Set(value)))).collect()
        }
        Change::Within(entries) => entries,
        _ => Vec::new(),
    }
}

/// Says an edit as it is: what it takes back is named by ids.
fn as_ask(collection: &Collection, edit: &Edit) -> DocumentEdit {
    let change = DocumentChange::Exact(edit.operation.clone());
    DocumentEdit { collection: collection.name.to_string(), key: edit.key.clone(), change }
}
