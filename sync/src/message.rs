//! What two peers say to each other in an exchange. PROTOCOL.md says when.
//!
//! Everything that is signed travels as its canonical bytes inside these types; `proto` carries them as protobuf.

use herdbook_model::{
    authority::{Entry, Position, SessionCertificate},
    commit::{Commit, Unverified},
    id::{BranchName, ChainId, ChunkId, CommitId, FrontierName, Judgement, Leaf, ReplicaId, RepositoryId, StateRoot},
    schema::CollectionId,
    tree::Tree,
    vector::{Range, VersionVector},
};

/// Version of this protocol.
pub const VERSION: u32 = 3;

/// Bytes of payload after which a message is full; one parcel or chunk that is larger travels alone. The transport allows 4 MiB.
pub const MAX_PAYLOAD: usize = 256 << 10;

/// Most bytes of one parcel, so that it fits the transport's 4 MiB with room to spare.
pub const MAX_PARCEL: usize = 7 << 19;

/// Most chains a version vector may name.
pub const MAX_CHAINS: usize = 1 << 17;

/// Most commits in one announcement, most ranges in one request for commits.
pub const MAX_LIST: usize = 4096;

/// Most branches whose roots or states are told in one message.
pub const MAX_BRANCHES: usize = 1024;

/// Most questions for chunks that wait for their answers.
pub const MAX_ASKS: usize = 16;

/// Most chunks that one question names.
pub const MAX_NAMED: usize = 512;

/// Most steps of a path to a chunk: levels of a tree, a leaf, a list of parts.
pub const MAX_PATH: usize = 20;

/// What a peer is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// An ordinary exchange.
    Converge,
    /// The authority lost its data and asks its members for everything.
    Recover,
}

/// First message of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Protocol version.
    pub version: u32,
    /// Which repository.
    pub repository: RepositoryId,
    /// Who speaks.
    pub replica: ReplicaId,
    /// Fresh and unpredictable; the other side signs it.
    pub nonce: [u8; 32],
    /// What for.
    pub purpose: Purpose,
    /// The speaker's own enrolment entry with the epoch entry that certifies its signer, so that one who lost the log can check it.
    pub enrolment: Option<Enrolment>,
    /// What the speaker holds.
    pub summary: Summary,
    /// How many commits that are.
    pub commits: u64,
}

/// Proof of membership that stands on its own: checked from the root key alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// The entry that opened the epoch in which the replica was enrolled; carries the authority certificate.
    pub epoch: Entry,
    /// The entry that enrolled it.
    pub entry: Entry,
}

/// What one side holds, short enough for an idle link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// The newest head-log entry.
    pub newest: Option<Position>,
    /// Hash over all frontiers it knows, all branches. Equal digests and newest entries: nothing more is said.
    pub digest: [u8; 32],
}

/// Frontier and root of one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootOf {
    /// The branch.
    pub branch: BranchName,
    /// Its frontier.
    pub frontier: FrontierName,
    /// What replay skipped.
    pub judgement: Judgement,
    /// The root of that state.
    pub root: StateRoot,
}

/// A commit as it travels: what can be derived is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The signed header.
    pub commit: Commit<Unverified>,
    /// Certificate of its session, sent with the first commit of a session in an exchange.
    pub certificate: Option<SessionCertificate>,
    /// Its requests in order: bytes, or the leaf of one the sender does not have.
    pub requests: Vec<RequestBody>,
}

/// A request of a commit, or what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// Canonical bytes.
    Present(Vec<u8>),
    /// The sender lacks the edits or found them damaged.
    Absent {
        /// The request's leaf.
        leaf: Leaf,
        /// The documents it touched (`collection/key`), if the sender's index remembers.
        documents: Vec<String>,
    },
}

/// A commit that is announced before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Its name.
    pub id: CommitId,
    /// Its chain.
    pub chain: ChainId,
    /// Its place on it.
    pub counter: u64,
}

/// Trees of one collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreesOf {
    /// The collection.
    pub collection: CollectionId,
    /// Living documents.
    pub documents: Tree,
    /// Deleted documents with what is kept of them.
    pub deleted: Tree,
    /// Keys of documents in conflict.
    pub conflicts: Tree,
}

/// A state that can be fetched as it lies, without replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The branch.
    pub branch: BranchName,
    /// Heads of its frontier.
    pub heads: Vec<CommitId>,
    /// The commits it stands on.
    pub vector: VersionVector,
    /// What replay skipped.
    pub judgement: Judgement,
    /// Its trees.
    pub trees: Vec<TreesOf>,
}

/// Chunks of a tree on offer that are asked for: its root, or some of those that one chunk below it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The tree.
    pub tree: Tree,
    /// The way from the root to the chunk whose names are meant: which of its names to follow at each step.
    pub path: Vec<u32>,
    /// Which of the names of that chunk are asked for; none: the root itself.
    pub names: Vec<u32>,
}

/// What is said to compare what both sides have without telling all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// Cells of the speaker's vector: see [`crate::sketch`].
    Cells {
        /// Which is the first of these.
        first: u32,
        /// They follow one another in the order in which cells are told.
        cells: Vec<u64>,
        /// The hash of the vector, for whoever made it out to be sure.
        vector: [u8; 32],
    },
    /// Asks for so many more cells; 0: for the vector, since too much differs.
    Want {
        /// How many.
        count: u32,
    },
    /// Asks what these symbols are of.
    Which {
        /// Those that the speaker does not know.
        symbols: Vec<u64>,
    },
    /// The entries of the speaker's vector that were asked for.
    Those(VersionVector),
    /// The speaker now knows all that the other side has. Of these chains it lacks what comes after that counter, and of no others anything.
    Lacks(Vec<(ChainId, u64)>),
}

/// One message of an exchange.
#[expect(clippy::large_enum_variant, reason = "the large one is a hello, said once")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Who speaks and what it holds.
    Hello(Hello),
    /// Signature over both nonces, both replicas, the repository and the direction: the speaker holds its key.
    Proof {
        /// Ed25519 signature.
        signature: [u8; 64],
    },
    /// What the speaker holds now; answered only by what the other side lacks.
    Summary(Summary),
    /// Everything the speaker has, by chain.
    Vector(VersionVector),
    /// The same in less, or about it.
    Compare(Compare),
    /// Asks for head-log entries from `first` on.
    WantEntries {
        /// First place wanted.
        first: u64,
    },
    /// Head-log entries in order.
    Entries(Vec<Entry>),
    /// Commits the speaker has, and by that all before them on their chains. The other side asks for those it lacks; for commits it
    /// sent, this is the receipt: they survive a crash of the speaker.
    Announce(Vec<Announced>),
    /// Asks for commits.
    Want(Vec<Range>),
    /// Commits in causal order.
    Commits(Vec<Parcel>),
    /// Roots of branches, to be compared where frontiers are equal.
    Roots(Vec<RootOf>),
    /// Asks for states as they lie: for the first copy, or when far behind.
    WantStates,
    /// States on offer.
    Offers(Vec<Offer>),
    /// Asks for chunks of a tree on offer.
    WantChunks(Wanted),
    /// Chunks that were asked for, in the order of the questions, each with its bytes as stored plain.
    Chunks {
        /// Name and bytes.
        chunks: Vec<(ChunkId, Vec<u8>)>,
        /// Whether these end the answer to the oldest question; what it lacks then is not here.
        last: bool,
    },
    /// So many more bytes may be sent.
    Credit {
        /// Bytes.
        bytes: u64,
    },
    /// The speaker ends the exchange, and why.
    Refuse(Refusal),
}

/// Why an exchange ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another protocol version.
    #[error("the peer speaks another protocol version")]
    Version,
    /// Another repository.
    #[error("the peer holds another repository")]
    Repository,
    /// No enrolment, a revoked one, or no proof of the key.
    #[error("the peer is not a member of this repository")]
    NotAMember,
    /// A message that breaks the protocol or does not decode.
    #[error("the peer broke the protocol")]
    Broken,
    /// The authority signed two entries of one place, or a session two commits.
    #[error("a fork was found; proof is kept")]
    Fork,
    /// Too busy now.
    #[error("the peer is busy; try again later")]
    Busy,
    /// Roots differ at equal states: an alarm.
    #[error("roots differ at equal states")]
    Diverged,
}
