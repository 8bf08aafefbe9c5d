//! The return of an authority that lost its data, as a state machine: from what members tell to what it asks them, and to the decision.
//!
//! Laws: the log decided on is the longest valid one that was told, by (epoch, place), so a liar can only withhold; a request is lost
//! only if every member that reported and holds its commit was asked for it; two entries of one place and epoch freeze the restore.

mod told;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use herdbook_model::{
    authority::{Entry, Log, Lost, RequestRef, Role},
    graph::Graph,
    id::{ChainId, CommitId, ReplicaId, RepositoryId},
    vector::{Range, VersionVector},
};

use self::told::Logs;
use crate::{
    evidence::Evidence,
    exchange::{Accepted, Received},
};

/// Most documents that are named for one lost request.
const MAX_DOCUMENTS: usize = 1 << 10;

/// How many members must have told everything before the authority goes on by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// All that the log decided on has enrolled and not revoked.
    All,
    /// At least so many of them.
    AtLeast(usize),
}

/// Something a member told, or the operator.
pub enum Input<'a> {
    /// Entries of a member's head log, in order from the first on; or of the log that the authority itself still has, which counts as a
    /// source and not as a report.
    Entries {
        /// The member, or the authority's own replica.
        from: ReplicaId,
        /// The entries.
        entries: &'a [Entry],
    },
    /// What a member holds.
    Holds {
        /// The member.
        from: ReplicaId,
        /// Its vector.
        vector: &'a VersionVector,
    },
    /// A member sent a commit, and it is stored.
    Stored {
        /// The member.
        from: ReplicaId,
        /// The commit.
        commit: &'a Accepted,
    },
    /// A member's log, and all it held when it was first asked, is stored. What it wrote meanwhile comes as it comes.
    Covered {
        /// The member.
        from: ReplicaId,
    },
    /// A member's exchange ended.
    Gone {
        /// The member.
        from: ReplicaId,
    },
    /// The operator decides to go on with what there is, fork or not. Where there is nothing yet, neither a report nor a log of one's own,
    /// it changes nothing: it is no word about what may come later.
    Override,
}

impl fmt::Debug for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries { from, entries } => write!(f, "Entries({from:?}, {})", entries.len()),
            Self::Holds { from, vector } => write!(f, "Holds({from:?}, {} chains)", vector.len()),
            Self::Stored { from, commit } => write!(f, "Stored({from:?}, {:?})", commit.commit.id()),
            Self::Covered { from } => write!(f, "Covered({from:?})"),
            Self::Gone { from } => write!(f, "Gone({from:?})"),
            Self::Override => f.write_str("Override"),
        }
    }
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Ask a member for commits, since requests of them are absent: [`crate::exchange::Input::Ask`].
    Ask {
        /// The member.
        member: ReplicaId,
        /// Which commits.
        ranges: Vec<Range>,
    },
    /// Keep this; the restore is frozen until the operator decides.
    Evidence(Evidence),
    /// Open a new epoch on this.
    Decided(Decision),
}

/// What the restore came to. The coordinator signs an epoch entry and a restore entry on top of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The longest valid log.
    pub log: Vec<Entry>,
    /// Members that told everything, of those the log counts, sorted.
    pub reporters: Vec<ReplicaId>,
    /// Requests nobody has, sorted.
    pub lost: Vec<Lost>,
    /// Accepted heads nobody has: the branches they are on cannot go on from there without the operator.
    pub missing: Vec<CommitId>,
}

/// A request whose edits are not here yet.
#[derive(Debug)]
struct Hole {
    chain: ChainId,
    counter: u64,
    documents: BTreeSet<String>,
    asked: BTreeSet<ReplicaId>,
}

/// What one member told.
#[derive(Debug, Default)]
struct Report {
    vector: VersionVector,
    is_covered: bool,
    is_here: bool,
    /// Commits it was asked for and has not answered.
    pending: BTreeSet<(ChainId, u64)>,
}

/// An authority on its way back.
#[derive(Debug)]
pub struct Restore {
    own: ReplicaId,
    quorum: Quorum,
    logs: Logs,
    reports: BTreeMap<ReplicaId, Report>,
    holes: BTreeMap<RequestRef, Hole>,
    /// Whether the authority still has a log of its own.
    has_log: bool,
    is_frozen: bool,
    is_decided: bool,
    outputs: VecDeque<Output>,
}

impl Restore {
    /// Begins a restore of `repository`, whose root key is `root`, by the coordinator whose replica is `own`.
    pub const fn new(repository: RepositoryId, root: [u8; 32], own: ReplicaId, quorum: Quorum) -> Self {
        Self {
            own,
            quorum,
            logs: Logs::new(repository, root),
            reports: BTreeMap::new(),
            holes: BTreeMap::new(),
            has_log: false,
            is_frozen: false,
            is_decided: false,
            outputs: VecDeque::new(),
        }
    }

    /// Takes one input. `graph` is what was pulled so far.
    ///
    /// # Errors
    /// Those of `graph`.
    pub fn handle<G: Graph>(&mut self, input: Input<'_>, graph: &G) -> Result<(), G::Error> {
        if self.is_decided {
            return Ok(());
        }
        let mut is_overridden = false;
        match input {
            Input::Entries { from, entries } => {
                if from == self.own {
                    self.has_log |= !entries.is_empty();
                } else {
                    self.report(from);
                }
                if let Some(evidence) = self.logs.tell(from, entries) {
                    self.is_frozen = true;
                    self.outputs.push_back(Output::Evidence(evidence));
                }
            }
            Input::Holds { from, vector } => self.report(from).vector.merge(vector),
            Input::Stored { from, commit } => self.stored(from, commit),
            Input::Covered { from } => self.report(from).is_covered = true,
            Input::Gone { from } => {
                if let Some(report) = self.reports.get_mut(&from) {
                    report.is_here = false;
                    report.pending.clear();
                }
            }
            Input::Override => is_overridden = self.has_log || !self.progress().0.is_empty(),
        }
        self.ask();
        self.decide(is_overridden, graph)
    }

    /// Takes the decision back, since it could not be carried out: the next input decides anew.
    pub const fn retract(&mut self) {
        self.is_decided = false;
    }

    /// Yields the next output, `None` when there is nothing to do until the next input.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns the longest valid log told so far, folded; `None` before the first entry.
    pub fn log(&self) -> Option<&Log> {
        self.logs.best().map(|(log, _)| log)
    }

    /// Returns the members that told everything and count, sorted, and how many must for the restore to go on by itself.
    pub fn progress(&self) -> (Vec<ReplicaId>, usize) {
        let Some(log) = self.log() else { return (Vec::new(), usize::MAX) };
        let is_counted = |replica: &ReplicaId| *replica != self.own && log.is_member(replica);
        let reporters = self.reports.iter().filter(|(replica, report)| report.is_covered && is_counted(replica));
        let needed = match self.quorum {
            Quorum::AtLeast(count) => count,
            Quorum::All => {
                let members = log.members().iter().filter(|(replica, member)| is_counted(replica) && member.role == Role::Replica);
                members.count()
            }
        };
        (reporters.map(|(replica, _)| *replica).collect(), needed)
    }

    fn report(&mut self, from: ReplicaId) -> &mut Report {
        let report = self.reports.entry(from).or_default();
        report.is_here = true;
        report
    }

    fn stored(&mut self, from: ReplicaId, accepted: &Accepted) {
        let (id, chain, counter) = (accepted.commit.id(), accepted.meta.chain, accepted.meta.counter);
        let report = self.report(from);
        report.pending.remove(&(chain, counter));
        report.vector.raise(chain, counter);
        for (request, body) in (0..).zip(&accepted.requests) {
            let at = RequestRef { commit: id, request };
            match body {
                Received::Present(_) => drop(self.holes.remove(&at)),
                Received::Absent { documents, .. } => {
                    let hole = Hole { chain, counter, documents: BTreeSet::new(), asked: BTreeSet::new() };
                    let hole = self.holes.entry(at).or_insert(hole);
                    hole.asked.insert(from);
                    let room = MAX_DOCUMENTS.saturating_sub(hole.documents.len());
                    hole.documents.extend(documents.iter().take(room).cloned());
                }
            }
        }
    }

    /// Asks members that hold a commit for the requests of it that are absent.
    fn ask(&mut self) {
        for (member, report) in self.reports.iter_mut().filter(|(_, report)| report.is_here && report.is_covered) {
            let mut wanted = BTreeSet::new();
            for hole in self.holes.values_mut() {
                if report.vector.contains(&hole.chain, hole.counter) && hole.asked.insert(*member) {
                    wanted.insert((hole.chain, hole.counter));
                }
            }
            if !wanted.is_empty() {
                let ranges = wanted.iter().map(|&(chain, counter)| Range { chain, first: counter, last: counter }).collect();
                self.outputs.push_back(Output::Ask { member: *member, ranges });
                report.pending.extend(wanted);
            }
        }
    }

    fn decide<G: Graph>(&mut self, is_overridden: bool, graph: &G) -> Result<(), G::Error> {
        let (reporters, needed) = self.progress();
        let is_answered = self.reports.values().all(|report| report.pending.is_empty());
        let by_policy = !self.is_frozen && needed > 0 && reporters.len() >= needed && is_answered;
        let Some((log, entries)) = self.logs.best().filter(|_| by_policy || is_overridden) else { return Ok(()) };
        let mut missing = BTreeSet::new();
        for head in log.branches().values().flat_map(|branch| &branch.heads) {
            if graph.meta(head)?.is_none() {
                missing.insert(*head);
            }
        }
        // What a horizon covers is gone everywhere on purpose: a state stands for it.
        let mut past = VersionVector::default();
        for head in log.horizons().values().flat_map(|horizon| &horizon.heads) {
            if let Some(meta) = graph.meta(head)? {
                past.merge(&meta.vector);
            }
        }
        let is_lost = |request: &RequestRef, hole: &Hole| !log.skips(request) && !past.contains(&hole.chain, hole.counter);
        let lost = self.holes.iter().filter(|(request, hole)| is_lost(request, hole));
        let lost = lost.map(|(request, hole)| Lost { request: *request, documents: hole.documents.iter().cloned().collect() });
        let decision = Decision { log: entries.to_vec(), reporters, lost: lost.collect(), missing: missing.into_iter().collect() };
        self.is_decided = true;
        self.outputs.push_back(Output::Decided(decision));
        Ok(())
    }
}
