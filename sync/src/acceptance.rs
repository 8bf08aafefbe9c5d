//! One step of the authority: from the accepted frontier and the commits that are stored and not yet judged to the next head entry.
//!
//! Laws: a commit is judged after all its ancestors; a request is judged once; what is refused is voided by request, never the commit,
//! so descendants that honest people built on it stay valid. Pure: who signs and stores the entry is the coordinator.

use herdbook_model::{
    authority::{Branch, Kind, Log, RequestRef, SessionCertificate, Status, Void},
    commit::Commit,
    graph::{Frontier, Graph, Meta},
    id::{BranchName, CommitId, ReplicaId, SchemaId, StateRoot},
    request::Request,
    schema,
    vector::VersionVector,
};

/// Most voids of one entry, beyond those of the first commit; keeps the entry within a message.
pub const MAX_VOIDS: usize = 1 << 13;

/// Most commits judged in one step.
pub const MAX_COMMITS: usize = 1 << 14;

/// Longest reason, in bytes.
const MAX_REASON: usize = 120;

/// A commit that is stored and not yet accepted.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The commit.
    pub commit: Commit,
    /// What the graph keeps of it.
    pub meta: Meta,
    /// Certificate of its session, whose signature was checked; `None` if it is not here.
    pub certificate: Option<SessionCertificate>,
    /// Its requests.
    pub requests: Requests,
}

/// What there is to judge of a commit.
#[derive(Debug, Clone)]
pub enum Requests {
    /// Nothing: who accepts made the commit itself in this session, checked each request then by the branch's schema, and none has preconditions.
    Made,
    /// The requests in order; `None` for one that is absent.
    Read(Vec<Option<Request>>),
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Nobody vouches for the session.
    #[error("its session has no certificate")]
    NoCertificate,
    /// The replica that vouches for the session was never enrolled.
    #[error("replica {replica:?} is not enrolled")]
    NotEnrolled {
        /// The replica.
        replica: ReplicaId,
    },
    /// The replica that vouches for the session was revoked.
    #[error("replica {replica:?} was revoked by entry {seq}")]
    Revoked {
        /// The replica.
        replica: ReplicaId,
        /// The entry's place.
        seq: u64,
    },
    /// The commit was written under another schema than its branch has.
    #[error("schema {found:?} is not the branch's, {expected:?}")]
    WrongSchema {
        /// The branch's.
        expected: SchemaId,
        /// The commit's.
        found: SchemaId,
    },
    /// An edit does not fit the schema.
    #[error("edit of `{key}`: {source}")]
    Unfit {
        /// Key of the document.
        key: String,
        /// What does not fit.
        source: schema::Error,
    },
    /// Something that depends on the state: a precondition, a constraint.
    #[error("{0}")]
    State(String),
}

/// Why no step can be taken on a branch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The log knows no such branch.
    #[error("there is no branch `{branch}`")]
    NoBranch {
        /// Its name.
        branch: BranchName,
    },
    /// The branch was abandoned: its commits are kept and never accepted.
    #[error("branch `{branch}` was abandoned")]
    Abandoned {
        /// Its name.
        branch: BranchName,
    },
    /// A head that was accepted is not in the graph.
    #[error("accepted head {head:?} of branch `{branch}` is not here")]
    NoHead {
        /// The branch.
        branch: BranchName,
        /// The head.
        head: CommitId,
    },
}

/// What stands before a request in the order of acceptance.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// The commits: those accepted earlier and those judged in this step.
    pub vector: &'a VersionVector,
    /// The requests that this step refused so far, in the order in which they were judged.
    pub voids: &'a [Void],
}

/// What a step decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// Heads of the accepted frontier after it, sorted.
    pub heads: Vec<CommitId>,
    /// Requests refused on the way, in the order in which they were judged.
    pub voids: Vec<Void>,
    /// Commits it judged.
    pub judged: Vec<CommitId>,
    /// Commits left for a later step: an ancestor or a request is not here, or this one is full.
    pub later: Vec<CommitId>,
}

impl Step {
    /// Whether it judged nothing, so that there is nothing to sign.
    pub const fn is_empty(&self) -> bool {
        self.judged.is_empty()
    }

    /// Returns the entry's kind. `root` is that of the state the new heads name, if it was computed.
    pub fn into_kind(self, branch: BranchName, root: Option<StateRoot>) -> Kind {
        Kind::Head { branch, heads: self.heads, root, voids: self.voids }
    }
}

/// Judges `candidates`, commits of `branch` in causal order, and returns the next accepted frontier. Commits of other branches of the same schema
/// may be among them: a merge takes them in.
///
/// `judge` is asked about each request that passed all else, in order, and answers with the reason to refuse it: it knows the state.
///
/// Cost: follows the candidates and their requests; one vector a commit.
///
/// # Errors
/// The outer error is the graph's; the inner one tells why no step can be taken on this branch at all.
pub fn step<G: Graph>(
    log: &Log,
    graph: &G,
    branch: &BranchName,
    candidates: &[Candidate],
    mut judge: impl FnMut(Before<'_>, &Candidate, RequestRef, &Request) -> Option<String>,
) -> Result<Result<Step, Error>, G::Error> {
    let known = match log.branch(branch) {
        None => return Ok(Err(Error::NoBranch { branch: branch.clone() })),
        Some(known) if known.status == Status::Abandoned => return Ok(Err(Error::Abandoned { branch: branch.clone() })),
        Some(known) => known,
    };
    let mut frontier = match Frontier::of(graph, &known.heads)? {
        Ok(frontier) => frontier,
        Err(head) => return Ok(Err(Error::NoHead { branch: branch.clone(), head })),
    };
    let mut step = Step::default();
    let mut elsewhere = Vec::new();
    for (_, other) in log.branches().iter().filter(|(name, other)| *name != branch && other.schema == known.schema) {
        // One whose heads are not all here has accepted nothing that could be known.
        elsewhere.extend(Frontier::of(graph, &other.heads)?.ok());
    }
    for candidate in candidates {
        let id = candidate.commit.id();
        if frontier.vector().contains(&candidate.meta.chain, candidate.meta.counter) {
            continue;
        }
        let is_full = step.voids.len() >= MAX_VOIDS || step.judged.len() >= MAX_COMMITS;
        let of = &candidate.commit.header().branch;
        let is_same = of == branch || log.branch(of).is_some_and(|of| of.schema == known.schema);
        if is_full || !is_same || !is_ripe(candidate, frontier.vector(), log) {
            step.later.push(id);
            continue;
        }
        // What stands on two branches by a merge is judged on the first that accepts it.
        let is_judged = elsewhere.iter().any(|accepted| accepted.vector().contains(&candidate.meta.chain, candidate.meta.counter));
        if !is_judged {
            void(log, known, candidate, &mut step.voids, |voids, at, request| {
                judge(Before { vector: frontier.vector(), voids }, candidate, at, request)
            });
        }
        step.judged.push(id);
        frontier.advance(id, &candidate.meta);
    }
    step.heads = frontier.ids();
    Ok(Ok(step))
}

/// Whether all ancestors of a commit were judged and all its requests are here, or never will be.
fn is_ripe(candidate: &Candidate, judged: &VersionVector, log: &Log) -> bool {
    let Candidate { commit, meta, requests, .. } = candidate;
    let ancestors = judged.covers_below(&meta.vector, &meta.chain, meta.counter);
    let whole = match requests {
        Requests::Made => true,
        Requests::Read(requests) => {
            let is_told =
                |(request, body): (u32, &Option<Request>)| body.is_some() || log.skips(&RequestRef { commit: commit.id(), request });
            requests.len() as u64 == u64::from(commit.header().request_count) && (0..).zip(requests).all(is_told)
        }
    };
    ancestors && whole
}

/// Adds the requests of a candidate that are refused to `voids`.
fn void(
    log: &Log,
    branch: &Branch,
    candidate: &Candidate,
    voids: &mut Vec<Void>,
    mut judge: impl FnMut(&[Void], RequestRef, &Request) -> Option<String>,
) {
    let of_all = of_commit(log, branch, candidate);
    let named = |request| RequestRef { commit: candidate.commit.id(), request };
    let requests = match &candidate.requests {
        Requests::Read(requests) => requests,
        Requests::Made => {
            if let Some(reason) = of_all {
                let open = (0..candidate.commit.header().request_count).map(named).filter(|at| !log.skips(at));
                voids.extend(open.map(|request| Void { request, reason: shortened(reason.to_string()) }));
            }
            return;
        }
    };
    for (at, request) in (0..).zip(requests) {
        let at = named(at);
        let Some(request) = request.as_ref().filter(|_| !log.skips(&at)) else { continue };
        let reason = of_all.clone().or_else(|| of_request(branch, request)).or_else(|| judge(voids, at, request).map(Reason::State));
        voids.extend(reason.map(|reason| Void { request: at, reason: shortened(reason.to_string()) }));
    }
}

/// Returns the reason to refuse a commit whole.
fn of_commit(log: &Log, branch: &Branch, candidate: &Candidate) -> Option<Reason> {
    let header = candidate.commit.header();
    let Some(certificate) = candidate.certificate.as_ref().filter(|certificate| certificate.session == header.session) else {
        return Some(Reason::NoCertificate);
    };
    let replica = certificate.replica;
    match log.members().get(&replica) {
        None => return Some(Reason::NotEnrolled { replica }),
        Some(member) => {
            if let Some(seq) = member.revoked {
                return Some(Reason::Revoked { replica, seq });
            }
        }
    }
    let expected = branch.schema.id();
    (header.schema != expected).then_some(Reason::WrongSchema { expected, found: header.schema })
}

/// Returns the first edit of a request that does not fit the schema.
fn of_request(branch: &Branch, request: &Request) -> Option<Reason> {
    request.edits().find_map(|(collection, edit)| {
        let fits = branch.schema.by_id(collection).and_then(|collection| edit.check(collection));
        fits.err().map(|source| Reason::Unfit { key: edit.key.as_str().to_owned(), source })
    })
}

fn shortened(mut reason: String) -> String {
    if reason.len() > MAX_REASON {
        let end = (0..=MAX_REASON).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
        reason.truncate(end);
    }
    reason
}
