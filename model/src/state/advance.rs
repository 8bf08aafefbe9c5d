//! Replay: bringing a state to a frontier by the commits it lacks, in causal order.
//!
//! No merge base and no recursion: the commits between two version vectors are ranges of chains, and sorting them by time is a causal
//! order. Cost: linear in what is lacking, whatever the graph looks like.

use std::sync::Arc;

use super::{Error, State};
use crate::{
    authority::RequestRef,
    codec::{Encode as _, Writer},
    edit::Edit,
    graph::{Graph, Meta},
    id::CommitId,
    request::Request,
    schema::CollectionId,
    tree::Nodes,
    vector::VersionVector,
};

/// Edits whose documents are read together, about.
const TOGETHER: usize = 4096;

/// Bytes of requests that are held for that, about; one commit at least.
const TOGETHER_BYTES: usize = 8 << 20;

/// A graph whose commits can be read.
pub trait History: Graph {
    /// Returns the requests of `commit` in order; `None` for one whose edits are not here or damaged.
    ///
    /// # Errors
    /// If the history cannot be read.
    fn requests(&self, commit: &CommitId) -> Result<Vec<Option<Arc<Request>>>, Self::Error>;
}

/// Why a state could not be brought to a frontier. The state is then half-way and must be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum AdvanceError<E> {
    /// The history cannot be read.
    #[error("history cannot be read")]
    History(#[source] E),
    /// A document cannot be read.
    #[error(transparent)]
    State(#[from] Error),
    /// A commit that the frontier stands on is not here.
    #[error("a commit of the frontier is not here: number {counter} of chain {chain:?}")]
    NoCommit {
        /// Its chain.
        chain: crate::id::ChainId,
        /// Its place.
        counter: u64,
    },
    /// The edits of a request are not here and nothing says to skip it.
    #[error("the edits of request {} of commit {:?} are not here", request.request, request.commit)]
    NoRequest {
        /// Which request.
        request: RequestRef,
    },
}

/// What an advance did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// How many commits were replayed.
    pub commits: u64,
}

/// Returns the commits that `want` has and `have` lacks, in a causal order: by time, then by chain and place.
///
/// # Errors
/// [`AdvanceError::NoCommit`] if one of them is not in the graph; the graph's own errors.
pub fn lacking<G: Graph>(graph: &G, have: &VersionVector, want: &VersionVector) -> Result<Vec<(CommitId, Meta)>, AdvanceError<G::Error>> {
    let mut commits = Vec::new();
    for range in have.missing_from(want) {
        for counter in range.first..=range.last {
            let absent = || AdvanceError::NoCommit { chain: range.chain, counter };
            let id = graph.at(&range.chain, counter).map_err(AdvanceError::History)?.ok_or_else(absent)?;
            let meta = graph.meta(&id).map_err(AdvanceError::History)?.ok_or_else(absent)?;
            commits.push((id, meta));
        }
    }
    commits.sort_unstable_by_key(|(id, meta)| (meta.time, meta.chain, meta.counter, *id));
    Ok(commits)
}

/// Brings `state` to at least the commits of `target` by replaying those it lacks; requests for which `skips` answers true are passed over.
///
/// # Errors
/// [`AdvanceError`].
pub fn advance<H: History, N: Nodes + ?Sized>(
    state: &mut State,
    history: &H,
    nodes: &N,
    target: &VersionVector,
    skips: impl Fn(&RequestRef) -> bool,
) -> Result<Applied, AdvanceError<H::Error>> {
    let lacking = lacking(history, state.frontier().vector(), target)?;
    let applied = Applied { commits: lacking.len() as u64 };
    let (mut lacking, mut scratch) = (lacking.into_iter(), Writer::default());
    loop {
        let (mut window, mut edits, mut bytes) = (Vec::new(), 0, 0);
        while edits < TOGETHER
            && bytes < TOGETHER_BYTES
            && let Some((id, meta)) = lacking.next()
        {
            let requests = history.requests(&id).map_err(AdvanceError::History)?;
            for (at, request) in (0u32..).zip(&requests) {
                let request_ref = RequestRef { commit: id, request: at };
                if request.is_none() && !skips(&request_ref) {
                    return Err(AdvanceError::NoRequest { request: request_ref });
                }
            }
            edits += edits_of(&requests).count();
            requests.iter().flatten().for_each(|request| request.encode(&mut scratch));
            bytes += scratch.len();
            scratch.clear();
            window.push((id, meta, requests));
        }
        if window.is_empty() {
            return Ok(applied);
        }
        let mut ahead = state.read_ahead(nodes, window.iter().flat_map(|(.., requests)| edits_of(requests)));
        let mut rest = &mut ahead[..];
        for (id, meta, requests) in &window {
            let own = rest.split_off_mut(..edits_of(requests).count().min(rest.len())).unwrap_or_default();
            state.apply_ahead(nodes, *id, meta, requests, own, |request| skips(&RequestRef { commit: *id, request }))?;
        }
    }
}

pub(super) fn edits_of(requests: &[Option<Arc<Request>>]) -> impl Iterator<Item = (CollectionId, &Edit)> {
    requests.iter().flatten().flat_map(|request| request.edits())
}
