//! A crowd: many sessions that write at once, each on what it heard of the others a while ago, so that nearly every commit has many parents.

use std::collections::VecDeque;

use ed25519_dalek::SigningKey;

use super::{build::branch, herd::repository, workload::Rng};
use crate::{
    commit::{Commit, Header, chain},
    graph::{Frontier, Graph as _, MemoryGraph, Meta, admit},
    id::{BranchName, CommitId, Domain, Leaf, RepositoryId, SchemaId, SessionId},
    request::Request,
    time::Time,
};

/// Sessions that write in random order.
#[derive(Debug, Clone)]
pub struct Crowd {
    repository: RepositoryId,
    branch: BranchName,
    schema: SchemaId,
    sessions: Vec<Session>,
    graph: MemoryGraph,
    /// What everybody has heard of.
    heard: Frontier,
    /// What only its author has heard of, the oldest first.
    under_way: VecDeque<CommitId>,
    lag: usize,
    random: Rng,
}

#[derive(Debug, Clone)]
struct Session {
    key: SigningKey,
    newest: Option<(u64, CommitId)>,
}

impl Crowd {
    /// Returns `sessions` sessions that hear of each other's commits `lag` commits later. With a large lag commits have as many parents.
    pub fn new(sessions: usize, lag: usize, seed: u64) -> Self {
        let key = |number: usize| SigningKey::from_bytes(&Domain::Salt.hash(&[&seed.to_be_bytes(), &number.to_be_bytes()]));
        Self {
            repository: repository(),
            branch: branch(),
            schema: SchemaId([0; 32]),
            sessions: (0..sessions).map(|number| Session { key: key(number), newest: None }).collect(),
            graph: MemoryGraph::default(),
            heard: Frontier::default(),
            under_way: VecDeque::new(),
            lag,
            random: Rng::new(seed),
        }
    }

    /// Returns the crowd where its commits are of this repository, branch and schema.
    #[must_use]
    pub fn at(self, repository: RepositoryId, branch: BranchName, schema: SchemaId) -> Self {
        Self { repository, branch, schema, ..self }
    }

    /// Returns the keys of its sessions.
    pub fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        self.sessions.iter().map(|session| &session.key)
    }

    /// Returns all that was committed.
    pub const fn graph(&self) -> &MemoryGraph {
        &self.graph
    }

    /// Commits `requests` in one of the sessions.
    pub fn commit(&mut self, requests: &[Request]) -> (Commit, Vec<Leaf>) {
        let at = self.random.index(self.sessions.len());
        let session = &self.sessions[at];
        let id = SessionId(session.key.verifying_key().to_bytes());
        let chain = chain(&id, &self.branch);
        let mut known = self.heard.clone();
        if let Some((_, newest)) = session.newest {
            known.advance(newest, &self.meta(&newest));
        }
        let Ok(parents) = known.parents_on(&self.graph, &chain);
        let header = Header {
            repository: self.repository,
            branch: self.branch.clone(),
            schema: self.schema,
            parents,
            session: id,
            counter: session.newest.map_or(1, |(counter, _)| counter + 1),
            previous: session.newest.map(|(_, id)| id),
            time: Time::after(known.newest(), Time::from_millis(1)).expect("a test ends before the year 6429"),
            requests: Leaf([0; 32]),
            request_count: 0,
            message: String::new(),
        };
        let counter = header.counter;
        let (commit, leaves) = Commit::sign(header, requests, &session.key);
        let Ok(meta) = admit(&self.graph, &commit);
        self.graph.insert(commit.id(), meta.expect("it stands on what its session knows"));
        self.sessions[at].newest = Some((counter, commit.id()));
        self.under_way.push_back(commit.id());
        if self.under_way.len() > self.lag
            && let Some(heard) = self.under_way.pop_front()
        {
            let meta = self.meta(&heard);
            self.heard.advance(heard, &meta);
        }
        (commit, leaves)
    }

    fn meta(&self, id: &CommitId) -> Meta {
        let Ok(meta) = self.graph.meta(id);
        meta.expect("it was committed here")
    }
}
