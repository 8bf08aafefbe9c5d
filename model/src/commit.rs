//! Commits: a signed header over requests. Trust is in the type: only a `Commit<Verified>` can enter a graph.
//!
//! Laws: the commits of one session on one branch form a chain, counters from 1, each naming the one before. The id is the hash of the
//! header; the signature is over the id, so it commits to every byte but itself, and two signatures of one header name one commit.

use std::{marker::PhantomData, sync::Arc};

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::{
    codec::{Decode, Encode, Error as Codec, Reader, Writer},
    id::{BranchName, ChainId, CommitId, Domain, Leaf, RepositoryId, SchemaId, SessionId},
    request::{self, Request},
    schema::{limited, number},
    time::Time,
};

/// Most parents of a commit. A replica with more heads folds them first.
pub const MAX_PARENTS: usize = 64;

/// Most requests of a commit.
pub const MAX_REQUESTS: u32 = 1 << 14;

/// Longest message, in bytes.
pub const MAX_MESSAGE: usize = 4096;

/// What a commit's signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its repository.
    pub repository: RepositoryId,
    /// Its branch.
    pub branch: BranchName,
    /// The schema of its branch.
    pub schema: SchemaId,
    /// Heads that its author saw, sorted, none an ancestor of another.
    pub parents: Vec<CommitId>,
    /// Who signs.
    pub session: SessionId,
    /// Its place on its chain, from 1.
    pub counter: u64,
    /// The commit before it on its chain; none for the first.
    pub previous: Option<CommitId>,
    /// Above the time of every parent and of `previous`.
    pub time: Time,
    /// Hash over the leaves of its requests.
    pub requests: Leaf,
    /// How many requests it has.
    pub request_count: u32,
    /// What its author says about it.
    pub message: String,
}

impl Header {
    /// Returns the commit's name.
    pub fn id(&self) -> CommitId {
        CommitId(Domain::Commit.hash(&[&self.to_bytes()]))
    }

    /// Returns the chain it stands on.
    pub fn chain(&self) -> ChainId {
        chain(&self.session, &self.branch)
    }
}

/// Returns the name of the chain of `session` on `branch`: 16 bytes of the hash of both.
pub fn chain(session: &SessionId, branch: &BranchName) -> ChainId {
    let hash = Domain::Chain.hash(&[session.as_bytes(), branch.as_str().as_bytes()]);
    let mut id = [0; ChainId::LEN];
    id.copy_from_slice(&hash[..ChainId::LEN]);
    ChainId(id)
}

/// The signature was not checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unverified;

/// The signature matches the header and the session's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified;

/// A signed header. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit<T = Verified> {
    id: CommitId,
    chain: ChainId,
    header: Arc<Header>,
    signature: [u8; 64],
    trust: PhantomData<T>,
}

/// What can be wrong with a commit on its own; links to others are checked by `graph`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The signature does not match the header under the session's key.
    #[error("commit {id:?}: its signature does not match session {session:?}")]
    BadSignature {
        /// The commit.
        id: CommitId,
        /// Who is said to have signed.
        session: SessionId,
    },
    /// A request's bytes do not hash to its leaf.
    #[error("commit {id:?}: request {request} does not match its leaf")]
    WrongRequest {
        /// The commit.
        id: CommitId,
        /// Which request.
        request: u32,
    },
    /// The leaves do not hash to what the header says, or are of another number.
    #[error("commit {id:?}: its {leaves} leaves do not match the header")]
    WrongLeaves {
        /// The commit.
        id: CommitId,
        /// How many leaves came.
        leaves: usize,
    },
}

impl<T> Commit<T> {
    /// Returns its name.
    pub const fn id(&self) -> CommitId {
        self.id
    }

    /// Returns its chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Returns what is signed.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns the signature over the id.
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Checks that `leaves` are those the header names.
    ///
    /// # Errors
    /// [`Error::WrongLeaves`].
    pub fn check_leaves(&self, leaves: &[Leaf]) -> Result<(), Error> {
        let matches = leaves.len() as u64 == u64::from(self.header.request_count) && request::root(leaves) == self.header.requests;
        if matches { Ok(()) } else { Err(Error::WrongLeaves { id: self.id, leaves: leaves.len() }) }
    }
}

impl Commit<Verified> {
    /// Signs a commit of `requests`. `header.requests`, `header.request_count` and `header.session` are set from the arguments.
    /// Returns it with the leaves of its requests.
    pub fn sign(header: Header, requests: &[Request], key: &SigningKey) -> (Self, Vec<Leaf>) {
        let leaves: Vec<Leaf> = requests.iter().map(Request::leaf).collect();
        (Self::sign_leaves(header, &leaves, key), leaves)
    }

    /// As [`sign`](Self::sign), for requests whose leaves are known.
    pub fn sign_leaves(mut header: Header, leaves: &[Leaf], key: &SigningKey) -> Self {
        header.requests = request::root(leaves);
        header.request_count = u32::try_from(leaves.len()).expect("a commit's requests are bounded by MAX_REQUESTS");
        header.session = SessionId(key.verifying_key().to_bytes());
        let id = header.id();
        let signature = key.sign(&id.0).to_bytes();
        Self { id, chain: header.chain(), header: Arc::new(header), signature, trust: PhantomData }
    }

    /// Takes a commit as verified without checking. Only for what this node verified before it stored it.
    pub fn trusted(commit: Commit<Unverified>) -> Self {
        let Commit { id, chain, header, signature, trust: PhantomData } = commit;
        Self { id, chain, header, signature, trust: PhantomData }
    }
}

impl Commit<Unverified> {
    /// Checks the signature (RFC 8032, strict: no small-order keys, no second form of a signature).
    ///
    /// # Errors
    /// [`Error::BadSignature`].
    pub fn verify(self) -> Result<Commit<Verified>, Error> {
        let bad = Error::BadSignature { id: self.id, session: self.header.session };
        let Ok(key) = VerifyingKey::from_bytes(self.header.session.as_bytes()) else { return Err(bad) };
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature);
        match key.verify_strict(&self.id.0, &signature) {
            Ok(()) => Ok(Commit::trusted(self)),
            Err(_) => Err(bad),
        }
    }
}

impl Encode for Header {
    fn encode(&self, out: &mut Writer) {
        out.byte(1);
        self.repository.encode(out);
        self.branch.encode(out);
        self.schema.encode(out);
        out.list(self.parents.iter());
        self.session.encode(out);
        out.uint(self.counter);
        if let Some(previous) = &self.previous {
            previous.encode(out);
        }
        self.time.encode(out);
        self.requests.encode(out);
        out.uint(self.request_count.into());
        out.text(&self.message);
    }
}

impl Decode for Header {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        match input.byte()? {
            1 => {}
            tag => return Err(Codec::Unknown { what: "commit format", tag: tag.into() }),
        }
        let repository = RepositoryId::decode(input)?;
        let (branch, schema) = (BranchName::decode(input)?, SchemaId::decode(input)?);
        let parents: Vec<CommitId> = input.list(CommitId::LEN)?;
        limited(parents.len(), "commit's parents", MAX_PARENTS)?;
        if !parents.is_sorted_by(|a, b| a < b) {
            return Err(Codec::Order { what: "parents" });
        }
        let session = SessionId::decode(input)?;
        let counter = input.uint()?;
        let previous = match counter {
            0 => return Err(Codec::Malformed { what: "counter" }),
            1 => None,
            _ => Some(CommitId::decode(input)?),
        };
        let (time, requests) = (Time::decode(input)?, Leaf::decode(input)?);
        let request_count: u32 = number(input, "request count")?;
        limited(request_count as usize, "commit's requests", MAX_REQUESTS as usize)?;
        let message = input.text()?.to_owned();
        limited(message.len(), "commit's message", MAX_MESSAGE)?;
        Ok(Self { repository, branch, schema, parents, session, counter, previous, time, requests, request_count, message })
    }
}

impl<T> Encode for Commit<T> {
    fn encode(&self, out: &mut Writer) {
        out.raw(&self.signature);
        self.header.encode(out);
    }
}

impl Decode for Commit<Unverified> {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let signature = input.array()?;
        let header = Header::decode(input)?;
        Ok(Self { id: header.id(), chain: header.chain(), header: Arc::new(header), signature, trust: PhantomData })
    }
}
