//! Entries of the head log: what the authority decided, signed, each naming the one before.

use ed25519_dalek::SigningKey;

use super::{AuthorityCertificate, is_signed, sign};
use crate::{
    codec::{Decode, Encode, Error as Codec, Reader, Writer},
    id::{BranchName, ChainId, CommitId, Domain, EntryId, ReplicaId, RepositoryId, StateRoot},
    schema::{Schema, limited, number},
    time::Time,
};

/// One request of one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestRef {
    /// The commit.
    pub commit: CommitId,
    /// Its place in the commit, from 0.
    pub request: u32,
}

/// Reason of a void that erases: members take the request's edits out of their stores and take them from nobody.
pub const REASON_ERASED: &str = "erased";

/// A request that was refused: history keeps it, replay skips it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Void {
    /// Which request.
    pub request: RequestRef,
    /// Why, for its author.
    pub reason: String,
}

/// A request whose edits nobody had when the authority was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Which request.
    pub request: RequestRef,
    /// The documents it touched, `collection/key`, as the index of a replica that once had it remembers them.
    pub documents: Vec<String>,
}

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Reads and writes, and helps restore.
    Replica = 1,
    /// The authority's own replica.
    Coordinator = 2,
}

/// What happens to a schema branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaAction {
    /// A branch begins, from the accepted frontier of another or from nothing.
    Start {
        /// The branch it is migrated from.
        from: Option<BranchName>,
        /// Its schema.
        schema: Schema,
    },
    /// A branch of the schema of another begins at what that has, and goes its own way until a commit merges.
    Branch {
        /// The branch it begins from.
        from: BranchName,
        /// Accepted commits of that branch with which it begins, sorted: a frontier.
        heads: Vec<CommitId>,
    },
    /// Clients that name no version get this branch from here on; older ones stay open.
    Promote,
    /// The branch is closed; nothing of it ever reached its source.
    Abandon,
}

/// What an entry decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An epoch begins: the first entry of a log, and the first of each new holder of authority.
    Epoch {
        /// The key that signs this epoch, certified by the root.
        certificate: AuthorityCertificate,
    },
    /// The accepted frontier of a branch.
    Head {
        /// The branch.
        branch: BranchName,
        /// Its heads, sorted.
        heads: Vec<CommitId>,
        /// Root of the state they name, if it was computed.
        root: Option<StateRoot>,
        /// Requests refused on the way.
        voids: Vec<Void>,
    },
    /// A replica becomes a member.
    Enrol {
        /// Its key.
        replica: ReplicaId,
        /// What people call it.
        name: String,
        /// What it may do.
        role: Role,
    },
    /// A replica is no member from here on.
    Revoke {
        /// Its key.
        replica: ReplicaId,
    },
    /// Something happens to a schema branch.
    Schema {
        /// The branch.
        branch: BranchName,
        /// What.
        action: SchemaAction,
    },
    /// A one-way migration step: accepted commits of the source enter the target.
    Migration {
        /// The branch that receives.
        branch: BranchName,
        /// Heads of the target after it, sorted.
        heads: Vec<CommitId>,
        /// Entry that accepted the source's frontier.
        source: EntryId,
    },
    /// The authority lost its data and was restored from its members.
    Restore {
        /// Members that reported, sorted.
        reporters: Vec<ReplicaId>,
        /// Requests nobody has, sorted.
        lost: Vec<Lost>,
    },
    /// A session signed two commits of one place: this one stands, any other and all that stands on it is refused.
    Fork {
        /// The chain.
        chain: ChainId,
        /// The place on it.
        counter: u64,
        /// The commit that stands.
        stands: CommitId,
    },
    /// What led to a state of a branch need not be kept any more: the state stands for it.
    Horizon {
        /// The branch.
        branch: BranchName,
        /// Heads of the state's frontier, accepted commits, sorted.
        heads: Vec<CommitId>,
        /// The state's root.
        root: StateRoot,
    },
}

/// A signed entry of the head log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The repository.
    pub repository: RepositoryId,
    /// The epoch.
    pub epoch: u64,
    /// Its place in the log, from 0, rising by one through all epochs.
    pub seq: u64,
    /// The entry before it; none for the first.
    pub previous: Option<EntryId>,
    /// When it was signed, by the authority's clock.
    pub time: Time,
    /// What it decides.
    pub kind: Kind,
    signature: [u8; 64],
}

impl Entry {
    /// Signs an entry with the authority's key.
    pub fn sign(
        repository: RepositoryId,
        (epoch, seq, previous): (u64, u64, Option<EntryId>),
        time: Time,
        kind: Kind,
        authority: &SigningKey,
    ) -> Self {
        let mut entry = Self { repository, epoch, seq, previous, time, kind, signature: [0; 64] };
        entry.signature = sign(authority, &entry.id().0);
        entry
    }

    /// Returns its name: the hash of everything but the signature.
    pub fn id(&self) -> EntryId {
        let mut out = Writer::default();
        self.encode_body(&mut out);
        EntryId(Domain::Entry.hash(&[out.as_bytes()]))
    }

    /// Whether `key` signed it.
    pub fn is_signed_by(&self, key: &[u8; 32]) -> bool {
        is_signed(key, &self.id().0, &self.signature)
    }

    fn encode_body(&self, out: &mut Writer) {
        out.byte(1);
        self.repository.encode(out);
        out.uint(self.epoch);
        out.uint(self.seq);
        if let Some(previous) = &self.previous {
            previous.encode(out);
        }
        self.time.encode(out);
        self.kind.encode(out);
    }
}

impl Encode for Entry {
    fn encode(&self, out: &mut Writer) {
        self.encode_body(out);
        out.raw(&self.signature);
    }
}

impl Decode for Entry {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        match input.byte()? {
            1 => {}
            tag => return Err(Codec::Unknown { what: "entry format", tag: tag.into() }),
        }
        let (repository, epoch, seq) = (RepositoryId::decode(input)?, input.uint()?, input.uint()?);
        let previous = if seq == 0 { None } else { Some(EntryId::decode(input)?) };
        let (time, kind, signature) = (Time::decode(input)?, Kind::decode(input)?, input.array()?);
        Ok(Self { repository, epoch, seq, previous, time, kind, signature })
    }
}

impl Encode for RequestRef {
    fn encode(&self, out: &mut Writer) {
        self.commit.encode(out);
        out.uint(self.request.into());
    }
}

impl Decode for RequestRef {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        Ok(Self { commit: CommitId::decode(input)?, request: number(input, "request")? })
    }
}

impl Encode for Lost {
    fn encode(&self, out: &mut Writer) {
        self.request.encode(out);
        out.count(self.documents.len());
        self.documents.iter().for_each(|document| out.text(document));
    }
}

impl Decode for Lost {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let request = RequestRef::decode(input)?;
        let count = input.count(1)?;
        let documents = (0..count).map(|_| Ok(input.text()?.to_owned())).collect::<Result<_, Codec>>()?;
        Ok(Self { request, documents })
    }
}

impl Encode for Void {
    fn encode(&self, out: &mut Writer) {
        self.request.encode(out);
        out.text(&self.reason);
    }
}

impl Decode for Void {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        Ok(Self { request: RequestRef::decode(input)?, reason: input.text()?.to_owned() })
    }
}

impl Encode for Kind {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Epoch { certificate } => {
                out.byte(1);
                certificate.encode(out);
            }
            Self::Head { branch, heads, root, voids } => {
                out.byte(2);
                branch.encode(out);
                out.list(heads.iter());
                out.byte(u8::from(root.is_some()));
                if let Some(root) = root {
                    root.encode(out);
                }
                out.list(voids.iter());
            }
            Self::Enrol { replica, name, role } => {
                out.byte(3);
                replica.encode(out);
                out.text(name);
                out.byte(*role as u8);
            }
            Self::Revoke { replica } => {
                out.byte(4);
                replica.encode(out);
            }
            Self::Schema { branch, action } => {
                out.byte(5);
                branch.encode(out);
                match action {
                    SchemaAction::Start { from, schema } => {
                        out.byte(if from.is_some() { 2 } else { 1 });
                        if let Some(from) = from {
                            from.encode(out);
                        }
                        schema.encode(out);
                    }
                    SchemaAction::Promote => out.byte(3),
                    SchemaAction::Abandon => out.byte(4),
                    SchemaAction::Branch { from, heads } => {
                        out.byte(5);
                        from.encode(out);
                        out.list(heads.iter());
                    }
                }
            }
            Self::Migration { branch, heads, source } => {
                out.byte(6);
                branch.encode(out);
                out.list(heads.iter());
                source.encode(out);
            }
            Self::Restore { reporters, lost } => {
                out.byte(7);
                out.list(reporters.iter());
                out.list(lost.iter());
            }
            Self::Fork { chain, counter, stands } => {
                out.byte(8);
                chain.encode(out);
                out.uint(*counter);
                stands.encode(out);
            }
            Self::Horizon { branch, heads, root } => {
                out.byte(9);
                branch.encode(out);
                out.list(heads.iter());
                root.encode(out);
            }
        }
    }
}

impl Decode for Kind {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        Ok(match input.byte()? {
            1 => Self::Epoch { certificate: AuthorityCertificate::decode(input)? },
            2 => {
                let (branch, heads) = (BranchName::decode(input)?, sorted(input, CommitId::LEN, "heads")?);
                let root = match input.byte()? {
                    0 => None,
                    1 => Some(StateRoot::decode(input)?),
                    tag => return Err(Codec::Unknown { what: "root", tag: tag.into() }),
                };
                Self::Head { branch, heads, root, voids: input.list(34)? }
            }
            3 => {
                let (replica, name) = (ReplicaId::decode(input)?, input.text()?.to_owned());
                limited(name.len(), "replica's name", 128)?;
                let role = match input.byte()? {
                    1 => Role::Replica,
                    2 => Role::Coordinator,
                    tag => return Err(Codec::Unknown { what: "role", tag: tag.into() }),
                };
                Self::Enrol { replica, name, role }
            }
            4 => Self::Revoke { replica: ReplicaId::decode(input)? },
            5 => {
                let branch = BranchName::decode(input)?;
                let action = match input.byte()? {
                    1 => SchemaAction::Start { from: None, schema: Schema::decode(input)? },
                    2 => SchemaAction::Start { from: Some(BranchName::decode(input)?), schema: Schema::decode(input)? },
                    3 => SchemaAction::Promote,
                    4 => SchemaAction::Abandon,
                    5 => {
                        let from = BranchName::decode(input)?;
                        SchemaAction::Branch { from, heads: sorted(input, CommitId::LEN, "heads")? }
                    }
                    tag => return Err(Codec::Unknown { what: "schema action", tag: tag.into() }),
                };
                Self::Schema { branch, action }
            }
            6 => Self::Migration {
                branch: BranchName::decode(input)?,
                heads: sorted(input, CommitId::LEN, "heads")?,
                source: EntryId::decode(input)?,
            },
            7 => {
                let reporters = sorted(input, ReplicaId::LEN, "reporters")?;
                let lost: Vec<Lost> = input.list(34)?;
                if !lost.is_sorted_by(|a, b| a.request < b.request) {
                    return Err(Codec::Order { what: "lost requests" });
                }
                Self::Restore { reporters, lost }
            }
            8 => Self::Fork { chain: ChainId::decode(input)?, counter: input.uint()?, stands: CommitId::decode(input)? },
            9 => Self::Horizon {
                branch: BranchName::decode(input)?,
                heads: sorted(input, CommitId::LEN, "heads")?,
                root: StateRoot::decode(input)?,
            },
            tag => return Err(Codec::Unknown { what: "entry kind", tag: tag.into() }),
        })
    }
}

fn sorted<T: Decode + Ord>(input: &mut Reader<'_>, least: usize, what: &'static str) -> Result<Vec<T>, Codec> {
    let list: Vec<T> = input.list(least)?;
    if list.is_sorted_by(|a, b| a < b) { Ok(list) } else { Err(Codec::Order { what }) }
}
