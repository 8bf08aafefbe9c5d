//! What the authority decides, one thing after another: who joins, which commits are accepted, which schema branches there are.
//!
//! Synchronous; the actor in `actor` is its only caller. The rules themselves are in `herdbook_sync::acceptance` and
//! `herdbook_model::authority`; here they meet the repository and the key.

use std::collections::BTreeMap;

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Entry, Kind, Lost, Position, Role, SchemaAction, Status},
    codec::Decode as _,
    graph::Frontier,
    id::{BranchName, CommitId, ReplicaId, StateName},
    json,
    request::Request,
    schema::Schema,
    state,
    time::Time,
};
use herdbook_proto::cluster::{Join, Joined, Token};
use herdbook_replica::{Error as RepositoryError, Repository, repository::Forked};
use herdbook_store::{Batch, Durability};
use herdbook_sync::acceptance::{self, Before, Candidate, Requests};

use crate::{
    conditions::Conditions,
    keys, recovery,
    signed::Signed,
    token::{self, Refused},
};

mod branches;
mod upkeep;

/// Why the authority does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A token that is not taken.
    #[error(transparent)]
    Token(#[from] Refused),
    /// A schema or its steps do not fit.
    #[error(transparent)]
    Json(#[from] json::Error),
    /// A schema that cannot follow.
    #[error(transparent)]
    Schema(#[from] herdbook_model::schema::Error),
    /// A migration without a branch to come from.
    #[error("steps need a branch to come from: give `from`, or a whole schema for a first branch")]
    NoSource,
    /// A branch that is to begin at what is not accepted.
    #[error("branch `{branch}` has not accepted commit {commit}: another branch can only begin at what is accepted")]
    NotAccepted {
        /// The commit.
        commit: CommitId,
        /// The branch.
        branch: BranchName,
    },
    /// A horizon beside several branches.
    #[error(
        "a horizon and more than one branch do not go together yet: a branch may need edits of another that are gone before its horizon"
    )]
    HorizonAndBranches,
    /// A horizon over what is lost here.
    #[error("edits are lost on this coordinator, and members may have them: a horizon would make that final; `herdbook status` lists them")]
    HorizonOverLosses,
    /// A malformed name.
    #[error(transparent)]
    Name(#[from] herdbook_model::id::BadName),
    /// Acceptance cannot go on.
    #[error(transparent)]
    Acceptance(#[from] acceptance::Error),
    /// The log is empty or its epoch is not known.
    #[error("the head log has no epoch yet")]
    NoEpoch,
    /// A token for what no member can be.
    #[error("a coordinator cannot join another: there are no standby coordinators yet")]
    NoStandby,
    /// The note of what is signed cannot be kept.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// Somebody else signed on top of the log: the data or the keys are an old copy, or another coordinator has them.
    #[error(
        "the head log goes on beyond what this coordinator signed: its data or keys are an old copy, or another coordinator runs with them; \
         the next start asks the members"
    )]
    Overtaken,
}

/// What the log of a data folder is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Empty,
    /// It holds all that was ever signed.
    Whole,
    /// It may lack what was signed: nothing beside the keys vouches for it.
    Doubtful,
    /// It lacks what was signed, or commits that were accepted.
    Older,
}

/// The holder of authority.
pub struct Authority {
    repository: Repository,
    key: SigningKey,
    certificate: AuthorityCertificate,
    /// A token that may be used again and again.
    shared_token: Option<String>,
    /// States whose roots are in the log.
    rooted: BTreeMap<BranchName, StateName>,
    /// What was signed last, as the key folder has it.
    signed: Signed,
    /// The newest entry of the log that this authority stands on.
    newest: Option<Position>,
    conditions: Conditions,
    /// Whether a branch takes in commits of another that is to judge them first.
    takes_in: bool,
}

impl Authority {
    /// Returns the authority over `repository`; it signs nothing before [`Authority::standing`] or a restore let it.
    pub fn new(
        repository: Repository,
        key: SigningKey,
        certificate: AuthorityCertificate,
        shared_token: Option<String>,
        signed: Signed,
    ) -> Self {
        repository.note_conditional();
        let conditions = Conditions::default();
        Self { repository, key, certificate, shared_token, rooted: BTreeMap::new(), signed, newest: None, conditions, takes_in: false }
    }

    /// Compares the log with what was signed last, and takes in what was signed and not stored any more. Whoever stands on a whole log signs
    /// on; whoever does not would sign a second entry of a place that members hold.
    ///
    /// # Errors
    /// [`Error::Repository`].
    pub fn standing(&mut self) -> Result<Standing, Error> {
        self.finish_signing()?;
        let (held, signed) = (self.repository.view().log.newest(), self.signed.newest());
        self.newest = held;
        Ok(match (held, signed) {
            (None, None) => Standing::Empty,
            (Some(held), Some(signed)) if held == signed || self.follow(held) => {
                // What is signed is durable before: a repair left the log without it, or took in an entry that it had lost.
                if self.holds_accepted()? { Standing::Whole } else { Standing::Older }
            }
            (held, Some(signed)) if held.is_none_or(|held| (held.epoch, held.seq) < (signed.epoch, signed.seq)) => Standing::Older,
            _ => Standing::Doubtful,
        })
    }

    /// Whether the entries signed last were signed upon `newest`. Where they are not in the log all the same, it refused them.
    fn follow(&self, newest: Position) -> bool {
        self.signed.entries().first().is_some_and(|first| first.previous == Some(newest.id))
    }

    /// Takes in the entries that were signed last, if they follow the log. Nobody else has any others there.
    fn finish_signing(&self) -> Result<(), Error> {
        let newest = self.repository.view().log.newest();
        let is_next = match newest {
            Some(newest) => self.follow(newest),
            None => self.signed.entries().first().is_some_and(|first| first.seq == 0),
        };
        if !is_next {
            return Ok(());
        }
        match self.repository.extend(self.signed.entries()) {
            // What the log refuses it refused then, too: it was never part of it.
            Ok(()) | Err(RepositoryError::Log(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Signs entries of `epoch` on top of the log and stores them: all or none.
    fn append_all(&mut self, epoch: u64, kinds: impl IntoIterator<Item = Kind>) -> Result<Position, Error> {
        let newest = self.repository.view().log.newest();
        if newest != self.newest {
            return Err(Error::Overtaken);
        }
        let (mut seq, mut previous) = (newest.map_or(0, |newest| newest.seq + 1), newest.map(|newest| newest.id));
        let mut entries = Vec::new();
        for kind in kinds {
            let entry = Entry::sign(self.repository.id(), (epoch, seq, previous), self.repository.now(), kind, &self.key);
            (seq, previous) = (seq + 1, Some(entry.id()));
            entries.push(entry);
        }
        // What is signed outlives a power cut from here on, and so must the commits that it names, and the entries before it, which the files
        // beside the keys then have no more.
        self.repository.store().records().write(Batch::new(), Durability::Durable).map_err(RepositoryError::from)?;
        self.signed.keep(&entries)?;
        let taken = if self.signed.is_kept() { self.repository.hear(&entries) } else { self.repository.extend(&entries) };
        taken?;
        let last = entries.last().ok_or(Error::NoEpoch)?;
        let position = Position { epoch, seq: last.seq, id: last.id() };
        self.newest = Some(position);
        Ok(position)
    }

    /// Signs and stores one entry on top of the log, in its epoch.
    fn append(&mut self, kind: Kind) -> Result<Position, Error> {
        let epoch = self.repository.view().log.newest().ok_or(Error::NoEpoch)?.epoch;
        self.append_all(epoch, [kind])
    }

    /// Opens the first epoch of a new repository: the coordinator's replica joins, and the first branch starts if there is a schema.
    ///
    /// # Errors
    /// [`Error`].
    pub fn found(&mut self, name: &str, schema: Option<Schema>) -> Result<(), Error> {
        let mut kinds = vec![
            Kind::Epoch { certificate: self.certificate.clone() },
            Kind::Enrol { replica: self.repository.replica(), name: name.to_owned(), role: Role::Coordinator },
        ];
        if let Some(schema) = schema {
            let branch = BranchName::new(format!("main@{}", schema.version))?;
            kinds.push(Kind::Schema { branch, action: SchemaAction::Start { from: None, schema } });
        }
        self.append_all(1, kinds).map(drop)
    }

    /// Opens a new epoch on `log`, or on the log at hand where that is none: after a restore, or where nothing vouches for the data and
    /// there is nobody to ask.
    ///
    /// # Errors
    /// [`Error`].
    pub fn reopen(&mut self, log: &[Entry], reporters: Vec<ReplicaId>, lost: Vec<Lost>) -> Result<Position, Error> {
        self.repository.adopt(log)?;
        self.finish_signing()?;
        self.newest = self.repository.view().log.newest();
        let epoch = self.next_epoch(&reporters);
        // All or none: an epoch whose losses are not listed would stand on commits that cannot be replayed.
        let mut kinds = vec![Kind::Epoch { certificate: self.certificate.clone() }, Kind::Restore { reporters, lost }];
        kinds.extend(self.left_heads()?);
        let position = self.append_all(epoch, kinds)?;
        recovery::end(self.repository.store().as_ref())?;
        Ok(position)
    }

    /// Returns, for each open branch with an accepted head that nobody has any more, the entry that takes it back to what is left of its
    /// accepted commits. Without it nothing could be accepted there again, since what stands above such a head cannot be told.
    fn left_heads(&self) -> Result<Vec<Kind>, Error> {
        let view = self.repository.view();
        let mut kinds = Vec::new();
        for (name, said) in view.log.branches().iter().filter(|(_, branch)| branch.status == Status::Open) {
            let mut left = self.held(&said.heads)?;
            if left.len() == said.heads.len() {
                continue;
            }
            // Frontiers only rise: the newest that is here whole covers all earlier ones.
            for entry in self.repository.entries(0, usize::MAX)?.iter().rev() {
                if let Kind::Head { branch, heads, .. } | Kind::Migration { branch, heads, .. } = &entry.kind
                    && branch == name
                    && self.held(heads)?.len() == heads.len()
                {
                    left.extend_from_slice(heads);
                    break;
                }
            }
            if let Ok(frontier) = Frontier::of(&self.repository, &left)? {
                tracing::error!(branch = %name, left = frontier.heads().len(), "accepted commits are with nobody: the branch goes on without them");
                kinds.push(Kind::Head { branch: name.clone(), heads: frontier.ids(), root: None, voids: Vec::new() });
            }
        }
        Ok(kinds)
    }

    /// Whether the accepted heads of all open branches are here.
    fn holds_accepted(&self) -> Result<bool, Error> {
        for branch in self.repository.view().log.branches().values().filter(|branch| branch.status == Status::Open) {
            if self.held(&branch.heads)?.len() < branch.heads.len() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns those of `heads` that are here.
    fn held(&self, heads: &[CommitId]) -> Result<Vec<CommitId>, Error> {
        let mut held = Vec::with_capacity(heads.len());
        for head in heads {
            if self.repository.meta(head)?.is_some() {
                held.push(*head);
            }
        }
        Ok(held)
    }

    /// Returns the number of the epoch to open: one that no member can know. Where every member told its log it is the next; where one did
    /// not, that one may hold an epoch opened by this authority in a life it forgot, so the clock gives a number above all of those.
    fn next_epoch(&self, reporters: &[ReplicaId]) -> u64 {
        let log = &self.repository.view().log;
        let own = self.repository.replica();
        let mut others = log.members().keys().filter(|member| **member != own && log.is_member(member)).peekable();
        let all_told = others.peek().is_some() && others.all(|member| reporters.contains(member));
        let held = [log.newest(), self.signed.newest()].into_iter().flatten().map(|position| position.epoch).max();
        let next = held.unwrap_or(0) + 1;
        if all_told { next } else { next.max(self.repository.now().millis()) }
    }

    /// Takes a replica in for a token. One that is a member already is told its enrolment again, as often as it asks, and uses no token up.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn join(&mut self, join: &Join) -> Result<Joined, Error> {
        let store = self.repository.store().clone();
        let token = match &self.shared_token {
            Some(shared) if *shared == join.token => None,
            _ => Some(token::look_up(store.as_ref(), &join.token, self.repository.now())??),
        };
        let view = self.repository.view();
        match token {
            Some(token::Token::Taken(replica)) if replica != join.replica => return Err(Refused::Unknown.into()),
            // It was a member by this token and is none any more: a token is no way back.
            Some(token::Token::Taken(_)) if view.log.members().get(&join.replica).is_some_and(|member| member.revoked.is_some()) => {
                return Err(Refused::Unknown.into());
            }
            _ => {}
        }
        if !view.log.is_member(&join.replica) {
            if token == Some(token::Token::Unused) {
                // First: a token that let two in would be worse than one that is tied to a replica whose join fails, which can try again.
                token::take(store.as_ref(), &join.token, &join.replica)?;
            }
            self.append(Kind::Enrol { replica: join.replica, name: join.name.clone(), role: Role::Replica })?;
        }
        let entries = self.repository.entries(0, usize::MAX)?;
        let mut epoch = None;
        let mut found = None;
        for entry in &entries {
            match &entry.kind {
                Kind::Epoch { .. } => epoch = Some(entry.clone()),
                Kind::Enrol { replica, .. } if *replica == join.replica => found = epoch.clone().map(|epoch| (epoch, entry.clone())),
                _ => {}
            }
        }
        let (epoch, enrolment) = found.ok_or(Error::NoEpoch)?;
        let fitting = self.repository.entries(0, ENTRIES)?;
        Ok(Joined { genesis: self.repository.genesis().clone(), epoch, enrolment, entries: fitting, peers: Vec::new() })
    }

    /// Makes a token to join with.
    ///
    /// # Errors
    /// [`Error::NoStandby`], [`Error::Repository`].
    pub fn create_token(&self, role: Role, lifetime: std::time::Duration) -> Result<Token, Error> {
        if role != Role::Replica {
            return Err(Error::NoStandby);
        }
        let millis = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let expires = Time::from_millis(self.repository.now().millis().saturating_add(millis));
        let token = token::create(self.repository.store().as_ref(), &self.certificate.key, expires)?;
        Ok(Token { token, expires_millis: expires.millis() })
    }

    /// Judges what is new on every open branch and accepts it, one entry a branch; then migrates what was accepted to the branches that
    /// come from it. Returns how many entries it made.
    ///
    /// # Errors
    /// [`Error`].
    pub fn accept(&mut self) -> Result<usize, Error> {
        self.judge_forks()?;
        let view = self.repository.view();
        let branches: Vec<_> =
            view.log.branches().iter().filter(|(_, branch)| branch.status == Status::Open).map(|(name, _)| name.clone()).collect();
        let mut entries = 0;
        // What a branch takes in of another is judged there, where it was made: that comes first.
        for takes_in in [false, true] {
            for name in &branches {
                // One branch that cannot go on stops no other.
                match self.accept_branch(name, takes_in) {
                    Ok(made) => entries += usize::from(made),
                    Err(error @ Error::Repository(RepositoryError::Store(_))) => return Err(error),
                    Err(error) => tracing::error!(branch = %name, %error, "a branch cannot be accepted"),
                }
            }
            if !std::mem::take(&mut self.takes_in) {
                break;
            }
        }
        Ok(entries)
    }

    /// Says which commit stands where a session signed two: the one held here. What the log accepted is held here, so it is never refused.
    fn judge_forks(&mut self) -> Result<(), Error> {
        for Forked { chain, counter, held } in self.repository.forks()? {
            self.append(Kind::Fork { chain, counter, stands: held })?;
        }
        Ok(())
    }

    /// Judges what is new on a branch; without `takes_in`, only what was made there.
    fn accept_branch(&mut self, name: &BranchName, takes_in: bool) -> Result<bool, Error> {
        let view = self.repository.view();
        let (Some(state), Some(said)) = (view.branches.get(name), view.log.branch(name)) else { return Ok(false) };
        let accepted = match Frontier::of(&self.repository, &said.heads)? {
            Ok(frontier) => frontier,
            Err(head) => return Err(acceptance::Error::NoHead { branch: name.clone(), head }.into()),
        };
        let lacking = state::lacking(&self.repository, accepted.vector(), state.frontier().vector()).map_err(RepositoryError::from)?;
        let mut candidates = Vec::with_capacity(lacking.len());
        for (id, meta) in lacking.into_iter().take(acceptance::MAX_COMMITS) {
            let Some(commit) = self.repository.header(&id)? else { continue };
            let of = &commit.header().branch;
            if !takes_in && of != name && view.log.branch(of).is_some_and(|of| of.status == Status::Open) {
                self.takes_in = true;
                continue;
            }
            let session = commit.header().session;
            let certificate = self.repository.certificate(&session)?;
            let is_plain = session == self.repository.session() && !self.repository.is_conditional(&id);
            let requests = if is_plain { Requests::Made } else { self.requests(&id)? };
            candidates.push(Candidate { commit, meta, certificate, requests });
        }
        let mut judging = self.conditions.judging(&self.repository, &view, name, &accepted);
        let judge = |before: Before<'_>, candidate: &Candidate, at, request: &_| judging.refuses(before, candidate, at, request);
        let step = acceptance::step(&view.log, &self.repository, name, &candidates, judge)??;
        let judged = judging.end()?;
        let folded = state.root().filter(|_| state.frontier().vector() == accepted.vector());
        if step.is_empty() {
            self.conditions.keep(name, judged);
            // Nothing new, but the state was folded meanwhile: its root goes on record once.
            let Some(root) = folded.filter(|_| self.rooted.get(name) != Some(&state.name()) && !accepted.is_empty()) else {
                return Ok(false);
            };
            self.rooted.insert(name.clone(), state.name());
            self.append(Kind::Head { branch: name.clone(), heads: accepted.ids(), root: Some(root), voids: Vec::new() })?;
            return Ok(true);
        }
        let done = step.judged.clone();
        let position = self.append(step.into_kind(name.clone(), None))?;
        self.repository.forget_conditional(&done);
        self.conditions.keep(name, judged);
        self.migrate_from(name, position.id)?;
        Ok(true)
    }

    fn requests(&self, id: &CommitId) -> Result<Requests, Error> {
        let stored = self.repository.stored(id)?.map(|stored| stored.requests).unwrap_or_default();
        let decoded = |bytes: Result<Vec<u8>, Vec<String>>| bytes.ok().and_then(|bytes| Request::from_bytes(&bytes).ok());
        Ok(Requests::Read(stored.into_iter().map(decoded).collect()))
    }

    /// Returns the repository.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }
}

/// Most bytes of entries in the answer to a join; the exchange brings the rest.
const ENTRIES: usize = 1 << 20;

#[cfg(test)]
mod tests;
