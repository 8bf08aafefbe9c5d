//! The head log as one node has verified it: what the authority decided so far.
//!
//! Law: an entry is taken only if it extends the newest one by hash, sequence number and epoch, signed by the key of its epoch, which the
//! root certified. Two different entries of one place in one epoch are proof of a fork.

use std::{collections::BTreeMap, sync::Arc};

use super::{Entry, Kind, Lost, REASON_ERASED, RequestRef, Role, SchemaAction};
use crate::{
    id::{BranchName, ChainId, CommitId, EntryId, Judgement, ReplicaId, RepositoryId, StateRoot},
    plant::Plant,
    schema::Schema,
};

/// Where in the log an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Its epoch.
    pub epoch: u64,
    /// Its place.
    pub seq: u64,
    /// Its name.
    pub id: EntryId,
}

/// Why an entry is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It belongs to another repository.
    #[error("the entry is of repository {found:?}, not {expected:?}")]
    OtherRepository {
        /// This log's.
        expected: RepositoryId,
        /// The entry's.
        found: RepositoryId,
    },
    /// It does not follow the newest entry.
    #[error("entry {seq} does not extend the log, whose newest is {newest:?}")]
    DoesNotExtend {
        /// Its place.
        seq: u64,
        /// The newest place, if any.
        newest: Option<u64>,
    },
    /// It contradicts an entry of the same place and epoch: the authority signed twice.
    #[error("the authority signed two entries {seq} in epoch {epoch}: {known:?} and {found:?}")]
    Fork {
        /// The epoch.
        epoch: u64,
        /// The place.
        seq: u64,
        /// The entry known here.
        known: EntryId,
        /// The other one.
        found: EntryId,
    },
    /// Its epoch is not the current one, or does not rise.
    #[error("entry {seq} is of epoch {found}, the log is in epoch {current}")]
    WrongEpoch {
        /// Its place.
        seq: u64,
        /// The log's epoch.
        current: u64,
        /// The entry's.
        found: u64,
    },
    /// It is not signed by the key of its epoch, or the root did not certify that key for it.
    #[error("entry {seq} is not signed by the authority of epoch {epoch}")]
    BadSignature {
        /// Its place.
        seq: u64,
        /// Its epoch.
        epoch: u64,
    },
    /// It decides something about a branch that is not there, or is there already.
    #[error("entry {seq}: branch `{branch}` {rule}")]
    BadBranch {
        /// Its place.
        seq: u64,
        /// The branch.
        branch: BranchName,
        /// What is wrong with it.
        rule: BranchRule,
    },
}

/// Why nothing can be decided about a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BranchRule {
    /// There is none of that name.
    #[error("does not exist")]
    Absent,
    /// There is one of that name.
    #[error("exists already")]
    Exists,
    /// It takes nothing any more.
    #[error("was abandoned")]
    Abandoned,
    /// It is where clients write that name no branch.
    #[error("is the promoted branch and cannot be abandoned")]
    Promoted,
    /// Nothing was committed on it.
    #[error("cannot have a horizon before its first commit")]
    Empty,
}

/// Whether a branch takes commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It does.
    Open,
    /// It was abandoned.
    Abandoned,
}

/// What the log says of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Its schema.
    pub schema: Arc<Schema>,
    /// The branch it is migrated from, or began at.
    pub from: Option<BranchName>,
    /// Whether it began at `from` and goes its own way, instead of being migrated from there on and on.
    pub apart: bool,
    /// Whether it takes commits.
    pub status: Status,
    /// Heads of the accepted frontier.
    pub heads: Vec<CommitId>,
    /// The entry that accepted them.
    pub accepted: Position,
}

/// A state of a branch that stands for all that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    /// Heads of its frontier.
    pub heads: Vec<CommitId>,
    /// Its root.
    pub root: StateRoot,
    /// The entry that set it.
    pub set: Position,
}

/// A replica enrolled by the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The entry that enrolled it.
    pub entry: EntryId,
    /// The place of the entry that revoked it, if one did.
    pub revoked: Option<u64>,
}

/// The verified head log, folded into what it decides.
#[derive(Debug, Clone)]
pub struct Log {
    repository: RepositoryId,
    root: [u8; 32],
    authority: [u8; 32],
    newest: Option<Position>,
    /// Epoch and id of each entry, by place. Shared between clones: a log is cloned for each entry that extends it.
    ids: imbl::Vector<(u64, EntryId)>,
    branches: BTreeMap<BranchName, Branch>,
    promoted: Option<BranchName>,
    members: BTreeMap<ReplicaId, Member>,
    voided: imbl::OrdSet<RequestRef>,
    erased: imbl::OrdSet<RequestRef>,
    lost: BTreeMap<RequestRef, Lost>,
    /// What replay skips, with the place of the entry that said so, in the order of entries.
    skipped: imbl::Vector<(u64, RequestRef)>,
    forks: BTreeMap<(ChainId, u64), CommitId>,
    horizons: BTreeMap<BranchName, Horizon>,
    judgement: Judgement,
}

impl Log {
    /// Returns the empty log of a repository whose root key is `root`.
    pub fn new(repository: RepositoryId, root: [u8; 32]) -> Self {
        Self {
            repository,
            root,
            authority: [0; 32],
            newest: None,
            ids: imbl::Vector::new(),
            branches: BTreeMap::new(),
            promoted: None,
            members: BTreeMap::new(),
            voided: imbl::OrdSet::new(),
            erased: imbl::OrdSet::new(),
            lost: BTreeMap::new(),
            skipped: imbl::Vector::new(),
            forks: BTreeMap::new(),
            horizons: BTreeMap::new(),
            judgement: Judgement::NONE,
        }
    }

    /// Takes one entry, or refuses it and stays as it was.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn extend(&mut self, entry: &Entry) -> Result<Position, Error> {
        let position = self.check(entry)?;
        self.decide(entry, position)?;
        self.newest = Some(position);
        self.ids.push_back((position.epoch, position.id));
        Ok(position)
    }

    fn check(&self, entry: &Entry) -> Result<Position, Error> {
        let (epoch, seq, id) = (entry.epoch, entry.seq, entry.id());
        if entry.repository != self.repository {
            return Err(Error::OtherRepository { expected: self.repository, found: entry.repository });
        }
        let key = match &entry.kind {
            Kind::Epoch { certificate } => {
                let covers = (certificate.first_epoch..=certificate.last_epoch).contains(&epoch);
                if !covers || certificate.repository != self.repository || certificate.verify(&self.root).is_err() {
                    return Err(Error::BadSignature { seq, epoch });
                }
                certificate.key
            }
            _ => self.authority,
        };
        if !entry.is_signed_by(&key) {
            return Err(Error::BadSignature { seq, epoch });
        }
        if let Some((known_epoch, known)) = usize::try_from(seq).ok().and_then(|seq| self.ids.get(seq)).copied() {
            return Err(if known_epoch == epoch && known != id {
                Error::Fork { epoch, seq, known, found: id }
            } else {
                Error::DoesNotExtend { seq, newest: self.newest.map(|newest| newest.seq) }
            });
        }
        let next = self.ids.len() as u64;
        if seq != next || entry.previous != self.newest.map(|newest| newest.id) {
            return Err(Error::DoesNotExtend { seq, newest: self.newest.map(|newest| newest.seq) });
        }
        let current = self.newest.map_or(0, |newest| newest.epoch);
        let epoch_fits = if matches!(entry.kind, Kind::Epoch { .. }) { epoch > current } else { epoch == current && seq > 0 };
        if epoch_fits || Plant::SkipEpoch.is_here() {
            Ok(Position { epoch, seq, id })
        } else {
            Err(Error::WrongEpoch { seq, current, found: epoch })
        }
    }

    fn decide(&mut self, entry: &Entry, position: Position) -> Result<(), Error> {
        let seq = entry.seq;
        match &entry.kind {
            Kind::Epoch { certificate } => self.authority = certificate.key,
            Kind::Head { branch, heads, voids, .. } => {
                self.open_branch(branch, seq)?.accept(heads, position);
                if !voids.is_empty() {
                    self.voided.extend(voids.iter().map(|void| void.request));
                    self.erased.extend(voids.iter().filter(|void| void.reason == REASON_ERASED).map(|void| void.request));
                    self.skipped.extend(voids.iter().map(|void| (seq, void.request)));
                    self.judgement = Judgement(position.id.0);
                }
            }
            Kind::Enrol { replica, name, role } => {
                let member = Member { name: name.clone(), role: *role, entry: position.id, revoked: None };
                self.members.insert(*replica, member);
            }
            Kind::Revoke { replica } => {
                if let Some(member) = self.members.get_mut(replica) {
                    member.revoked = Some(seq);
                }
            }
            Kind::Schema { branch, action } => self.schema(branch, action, position)?,
            Kind::Migration { branch, heads, .. } => self.open_branch(branch, seq)?.accept(heads, position),
            Kind::Restore { lost, .. } => {
                if !lost.is_empty() {
                    self.lost.extend(lost.iter().map(|lost| (lost.request, lost.clone())));
                    self.skipped.extend(lost.iter().map(|lost| (seq, lost.request)));
                    self.judgement = Judgement(position.id.0);
                }
            }
            // The first word about a place is the last.
            Kind::Fork { chain, counter, stands } => {
                self.forks.entry((*chain, *counter)).or_insert(*stands);
            }
            // Whether it lies beyond the one before is the graph's to say. Abandoned branches have horizons as well: they can be read.
            Kind::Horizon { branch, heads, root } => {
                let bad = |rule| Error::BadBranch { seq, branch: branch.clone(), rule };
                if !self.branches.contains_key(branch) {
                    return Err(bad(BranchRule::Absent));
                }
                if heads.is_empty() {
                    return Err(bad(BranchRule::Empty));
                }
                self.horizons.insert(branch.clone(), Horizon { heads: heads.clone(), root: *root, set: position });
            }
        }
        Ok(())
    }

    fn open_branch(&mut self, name: &BranchName, seq: u64) -> Result<&mut Branch, Error> {
        match self.branches.get_mut(name) {
            Some(branch) if branch.status == Status::Open => Ok(branch),
            Some(_) => Err(Error::BadBranch { seq, branch: name.clone(), rule: BranchRule::Abandoned }),
            None => Err(Error::BadBranch { seq, branch: name.clone(), rule: BranchRule::Absent }),
        }
    }

    fn schema(&mut self, name: &BranchName, action: &SchemaAction, position: Position) -> Result<(), Error> {
        let bad = |rule| Error::BadBranch { seq: position.seq, branch: name.clone(), rule };
        match action {
            SchemaAction::Start { from, schema } => {
                if self.branches.contains_key(name) {
                    return Err(bad(BranchRule::Exists));
                }
                let heads = match from {
                    Some(from) => self.open_branch(from, position.seq)?.heads.clone(),
                    None => Vec::new(),
                };
                let schema = Arc::new(schema.clone());
                let branch = Branch { schema, from: from.clone(), apart: false, status: Status::Open, heads, accepted: position };
                self.branches.insert(name.clone(), branch);
                self.promoted.get_or_insert_with(|| name.clone());
            }
            SchemaAction::Branch { from, heads } => {
                if self.branches.contains_key(name) {
                    return Err(bad(BranchRule::Exists));
                }
                let schema = self.open_branch(from, position.seq)?.schema.clone();
                let (from, heads) = (Some(from.clone()), heads.clone());
                let branch = Branch { schema, from, apart: true, status: Status::Open, heads, accepted: position };
                self.branches.insert(name.clone(), branch);
            }
            SchemaAction::Promote => {
                self.open_branch(name, position.seq)?;
                self.promoted = Some(name.clone());
            }
            SchemaAction::Abandon => {
                if self.promoted.as_ref() == Some(name) {
                    return Err(bad(BranchRule::Promoted));
                }
                self.open_branch(name, position.seq)?.status = Status::Abandoned;
            }
        }
        Ok(())
    }

    /// Returns the newest entry's place; `None` if the log is empty.
    pub const fn newest(&self) -> Option<Position> {
        self.newest
    }

    /// Returns the name and epoch of the entry at `seq`.
    pub fn entry_at(&self, seq: u64) -> Option<Position> {
        let (epoch, id) = *self.ids.get(usize::try_from(seq).ok()?)?;
        Some(Position { epoch, seq, id })
    }

    /// Whether an entry of that name is in the log. Cost: the log.
    pub fn knows(&self, id: &EntryId) -> bool {
        self.ids.iter().any(|(_, known)| known == id)
    }

    /// Returns what the log says of `branch`.
    pub fn branch(&self, branch: &BranchName) -> Option<&Branch> {
        self.branches.get(branch)
    }

    /// Whether commits of `source` may be ancestors of commits of `target`: it has the same schema, or `target` comes from such a one. Nothing of a
    /// newer schema is to be reachable from an older branch.
    pub fn may_enter(&self, source: &BranchName, target: &BranchName) -> bool {
        let schema = |name: &BranchName| self.branches.get(name).map(|branch| branch.schema.id());
        let wanted = schema(source);
        let mut next = Some(target);
        while let Some(name) = next {
            if name == source || (wanted.is_some() && schema(name) == wanted) {
                return true;
            }
            next = self.branches.get(name).and_then(|branch| branch.from.as_ref());
        }
        false
    }

    /// Returns all branches, abandoned ones included, by name.
    pub const fn branches(&self) -> &BTreeMap<BranchName, Branch> {
        &self.branches
    }

    /// Returns the branch of clients that name no version.
    pub const fn promoted(&self) -> Option<&BranchName> {
        self.promoted.as_ref()
    }

    /// Returns all members ever, revoked ones included.
    pub const fn members(&self) -> &BTreeMap<ReplicaId, Member> {
        &self.members
    }

    /// Whether `replica` is a member now.
    pub fn is_member(&self, replica: &ReplicaId) -> bool {
        self.members.get(replica).is_some_and(|member| member.revoked.is_none())
    }

    /// Returns the key that signs the current epoch.
    pub const fn authority(&self) -> [u8; 32] {
        self.authority
    }

    /// Returns the repository.
    pub const fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Returns the root key.
    pub const fn root(&self) -> [u8; 32] {
        self.root
    }

    /// Whether replay skips `request`: it was voided or is lost.
    pub fn skips(&self, request: &RequestRef) -> bool {
        self.voided.contains(request) || self.lost.contains_key(request)
    }

    /// Returns the requests that nobody had when the authority was restored.
    pub const fn lost(&self) -> &BTreeMap<RequestRef, Lost> {
        &self.lost
    }

    /// Returns the refused requests.
    pub const fn voided(&self) -> &imbl::OrdSet<RequestRef> {
        &self.voided
    }

    /// Returns the requests whose edits nobody keeps.
    pub const fn erased(&self) -> &imbl::OrdSet<RequestRef> {
        &self.erased
    }

    /// Returns the requests that replay skips under the newest judgement and not under `judgement`; all of them where the log has no such
    /// judgement. Cost: the entries since, and what they skip.
    pub fn skipped_since(&self, judgement: Judgement) -> impl Iterator<Item = &RequestRef> {
        let place = if judgement == Judgement::NONE { None } else { self.ids.iter().rposition(|(_, id)| id.0 == judgement.0) };
        let first = place.map_or(0, |place| place as u64 + 1);
        self.skipped.iter().rev().take_while(move |(seq, _)| *seq >= first).map(|(_, request)| request)
    }

    /// Returns the forked places of chains that were judged, with the commit that stands there.
    pub const fn forks(&self) -> &BTreeMap<(ChainId, u64), CommitId> {
        &self.forks
    }

    /// Returns the horizon of each branch that has one.
    pub const fn horizons(&self) -> &BTreeMap<BranchName, Horizon> {
        &self.horizons
    }

    /// Whether another commit was judged to stand at this one's place.
    pub fn refuses(&self, commit: &CommitId, chain: &ChainId, counter: u64) -> bool {
        self.forks.get(&(*chain, counter)).is_some_and(|stands| stands != commit)
    }

    /// Returns the name of the newest entry that changed what replay skips.
    pub const fn judgement(&self) -> Judgement {
        self.judgement
    }
}

impl Branch {
    fn accept(&mut self, heads: &[CommitId], position: Position) {
        self.heads = heads.to_vec();
        self.accepted = position;
    }
}
