//! Messages of an exchange. What is signed travels as canonical bytes; lists of entries, commits and chunks as one block.

use herdbook_model::{
    authority::Entry,
    codec::{Decode as _, Encode as _, Error as Codec, Reader, Writer},
    id::{ChainId, ChunkId},
    schema::CollectionId,
    vector::Range,
};
use herdbook_sync::message::{
    Announced, Compare, Enrolment, Hello, MAX_PARCEL, Message, Offer, Purpose, Refusal, RootOf, Summary, TreesOf, Wanted,
};

use super::{Result, all, array, branch, canonical, choice, each, id, ids, inner, optional, parcels, raw, required};
use crate::{
    Fault, Malformed,
    block::{pack, unpack},
    limits, v1,
};

const _: () = assert!(MAX_PARCEL + (64 << 10) <= limits::BLOCK, "the longest parcel must fit in a block");

impl TryFrom<v1::Frame> for Message {
    type Error = Malformed;

    fn try_from(frame: v1::Frame) -> Result<Self> {
        use v1::frame::Message as Choice;
        let v1::Frame { message } = frame;
        Ok(match required("message", message)? {
            Choice::Hello(hello) => Self::Hello(hello.try_into().map_err(within("hello"))?),
            Choice::Proof(v1::Proof { signature }) => Self::Proof { signature: array("proof.signature", &signature)? },
            Choice::Summary(summary) => Self::Summary(summary.try_into().map_err(within("summary"))?),
            Choice::Vector(v1::Vector { vector }) => Self::Vector(canonical("vector.vector", &vector)?),
            Choice::Compare(said) => Self::Compare(said.try_into().map_err(within("compare"))?),
            Choice::WantEntries(v1::WantEntries { first }) => Self::WantEntries { first },
            Choice::Entries(v1::Entries { block }) => {
                Self::Entries(from_block("entries", block, |input| input.list::<Entry>(LEAST_ENTRY))?)
            }
            Choice::Announce(v1::Announce { commits }) => Self::Announce(each("announce.commits", commits)?),
            Choice::Want(v1::Want { ranges }) => Self::Want(each("want.ranges", ranges)?),
            Choice::Commits(v1::Commits { block }) => Self::Commits(from_block("commits", block, parcels::decode)?),
            Choice::Roots(v1::Roots { roots }) => Self::Roots(each("roots.roots", roots)?),
            Choice::WantStates(v1::WantStates {}) => Self::WantStates,
            Choice::Offers(v1::Offers { offers }) => Self::Offers(each("offers.offers", offers)?),
            Choice::WantChunks(v1::WantChunks { tree, path, names }) => {
                Self::WantChunks(Wanted { tree: canonical("want_chunks.tree", &tree)?, path, names })
            }
            Choice::Chunks(v1::Chunks { block, last }) => Self::Chunks { chunks: from_block("chunks", block, decode_chunks)?, last },
            Choice::Credit(v1::Credit { bytes }) => Self::Credit { bytes },
            Choice::Refuse(v1::Refuse { reason }) => Self::Refuse(refusal("refuse.reason", reason)?),
        })
    }
}

/// Fails only if a list of entries, commits or chunks is longer than a block: the machine cuts its lists far below that.
impl TryFrom<Message> for v1::Frame {
    type Error = Malformed;

    fn try_from(message: Message) -> Result<Self> {
        use v1::frame::Message as Choice;
        let message = match message {
            Message::Hello(hello) => Choice::Hello(hello.into()),
            Message::Proof { signature } => Choice::Proof(v1::Proof { signature: raw(&signature) }),
            Message::Summary(summary) => Choice::Summary(summary.into()),
            Message::Vector(vector) => Choice::Vector(v1::Vector { vector: vector.to_bytes().into() }),
            Message::Compare(said) => Choice::Compare(said.into()),
            Message::WantEntries { first } => Choice::WantEntries(v1::WantEntries { first }),
            Message::Entries(entries) => Choice::Entries(v1::Entries { block: to_block(|out| out.list(entries.iter()))? }),
            Message::Announce(commits) => Choice::Announce(v1::Announce { commits: all(commits) }),
            Message::Want(ranges) => Choice::Want(v1::Want { ranges: all(ranges) }),
            Message::Commits(parcels) => Choice::Commits(v1::Commits { block: pack(&parcels::encode(&parcels)).map(Some)? }),
            Message::Roots(roots) => Choice::Roots(v1::Roots { roots: all(roots) }),
            Message::WantStates => Choice::WantStates(v1::WantStates {}),
            Message::Offers(offers) => Choice::Offers(v1::Offers { offers: all(offers) }),
            Message::WantChunks(Wanted { tree, path, names }) => {
                Choice::WantChunks(v1::WantChunks { tree: tree.to_bytes().into(), path, names })
            }
            Message::Chunks { chunks, last } => Choice::Chunks(v1::Chunks { block: to_block(|out| encode_chunks(&chunks, out))?, last }),
            Message::Credit { bytes } => Choice::Credit(v1::Credit { bytes }),
            Message::Refuse(reason) => Choice::Refuse(v1::Refuse { reason: v1::Refusal::from(reason).into() }),
        };
        Ok(Self { message: Some(message) })
    }
}

impl TryFrom<v1::ExchangeRequest> for Message {
    type Error = Malformed;

    fn try_from(message: v1::ExchangeRequest) -> Result<Self> {
        let v1::ExchangeRequest { frame } = message;
        inner("frame", frame)
    }
}

impl TryFrom<v1::ExchangeResponse> for Message {
    type Error = Malformed;

    fn try_from(message: v1::ExchangeResponse) -> Result<Self> {
        let v1::ExchangeResponse { frame } = message;
        inner("frame", frame)
    }
}

fn within(field: &'static str) -> impl Fn(Malformed) -> Malformed {
    move |error| error.within(field)
}

fn to_block(write: impl FnOnce(&mut Writer)) -> Result<Option<v1::Block>> {
    let mut out = Writer::default();
    write(&mut out);
    pack(&[out.into_bytes()]).map(Some)
}

fn from_block<T>(
    field: &'static str,
    block: Option<v1::Block>,
    read: impl FnOnce(&mut Reader<'_>) -> std::result::Result<T, Codec>,
) -> Result<T> {
    let plain = required("block", block).and_then(|block| unpack(block).map_err(within("block"))).map_err(within(field))?;
    let mut input = Reader::new(&plain);
    let value = read(&mut input).and_then(|value| input.end().map(|()| value));
    value.map_err(|error| Malformed::new(format!("{field}.block"), error.into()))
}

/// Fewest bytes of an entry: format, repository, two numbers, time, kind, signature.
const LEAST_ENTRY: usize = 1 + 32 + 2 + 8 + 1 + 64;

/// Highest counter that may be asked for, so that lengths of ranges cannot overflow.
const LAST_COUNTER: u64 = u64::MAX >> 1;

fn encode_chunks(chunks: &[(ChunkId, Vec<u8>)], out: &mut Writer) {
    out.count(chunks.len());
    for (id, bytes) in chunks {
        id.encode(out);
        out.bytes(bytes);
    }
}

fn decode_chunks(input: &mut Reader<'_>) -> std::result::Result<Vec<(ChunkId, Vec<u8>)>, Codec> {
    let count = input.count(ChunkId::LEN + 1)?;
    (0..count).map(|_| Ok((ChunkId::decode(input)?, input.bytes()?.to_vec()))).collect()
}

impl TryFrom<v1::Hello> for Hello {
    type Error = Malformed;

    fn try_from(message: v1::Hello) -> Result<Self> {
        let v1::Hello { version, repository, replica, nonce, purpose, enrolment, summary, commits } = message;
        let purpose = match choice("purpose", purpose)? {
            v1::Purpose::Unspecified => return Err(Malformed::missing("purpose")),
            v1::Purpose::Converge => Purpose::Converge,
            v1::Purpose::Recover => Purpose::Recover,
        };
        Ok(Self {
            version,
            repository: id("repository", &repository)?,
            replica: id("replica", &replica)?,
            nonce: array("nonce", &nonce)?,
            purpose,
            enrolment: optional("enrolment", enrolment)?,
            summary: inner("summary", summary)?,
            commits,
        })
    }
}

impl From<Hello> for v1::Hello {
    fn from(Hello { version, repository, replica, nonce, purpose, enrolment, summary, commits }: Hello) -> Self {
        let purpose = match purpose {
            Purpose::Converge => v1::Purpose::Converge,
            Purpose::Recover => v1::Purpose::Recover,
        };
        Self {
            version,
            repository: raw(repository.as_bytes()),
            replica: raw(replica.as_bytes()),
            nonce: raw(&nonce),
            purpose: purpose.into(),
            enrolment: enrolment.map(Into::into),
            summary: Some(summary.into()),
            commits,
        }
    }
}

impl TryFrom<v1::Compare> for Compare {
    type Error = Malformed;

    fn try_from(message: v1::Compare) -> Result<Self> {
        use v1::compare::Part;
        Ok(match required("part", message.part)? {
            Part::Cells(v1::Cells { first, cells, vector }) => Self::Cells { first, cells, vector: array("cells.vector", &vector)? },
            Part::Want(v1::WantCells { count }) => Self::Want { count },
            Part::Which(v1::Which { symbols }) => Self::Which { symbols },
            Part::Those(v1::Vector { vector }) => Self::Those(canonical("those.vector", &vector)?),
            Part::Lacks(v1::Lacks { chains }) => {
                let mut input = Reader::new(&chains);
                let chains = decode_chains(&mut input).and_then(|chains| input.end().map(|()| chains));
                Self::Lacks(chains.map_err(|error| Malformed::new("lacks.chains", error.into()))?)
            }
        })
    }
}

impl From<Compare> for v1::Compare {
    fn from(said: Compare) -> Self {
        use v1::compare::Part;
        let part = match said {
            Compare::Cells { first, cells, vector } => Part::Cells(v1::Cells { first, cells, vector: raw(&vector) }),
            Compare::Want { count } => Part::Want(v1::WantCells { count }),
            Compare::Which { symbols } => Part::Which(v1::Which { symbols }),
            Compare::Those(vector) => Part::Those(v1::Vector { vector: vector.to_bytes().into() }),
            Compare::Lacks(chains) => {
                let mut out = Writer::default();
                out.count(chains.len());
                for (chain, counter) in &chains {
                    chain.encode(&mut out);
                    out.uint(*counter);
                }
                Part::Lacks(v1::Lacks { chains: out.into_bytes().into() })
            }
        };
        Self { part: Some(part) }
    }
}

fn decode_chains(input: &mut Reader<'_>) -> std::result::Result<Vec<(ChainId, u64)>, Codec> {
    let count = input.count(ChainId::LEN + 1)?;
    (0..count).map(|_| Ok((ChainId::decode(input)?, input.uint()?))).collect()
}

impl TryFrom<v1::Enrolment> for Enrolment {
    type Error = Malformed;

    fn try_from(message: v1::Enrolment) -> Result<Self> {
        let v1::Enrolment { epoch, entry } = message;
        Ok(Self { epoch: canonical("epoch", &epoch)?, entry: canonical("entry", &entry)? })
    }
}

impl From<Enrolment> for v1::Enrolment {
    fn from(Enrolment { epoch, entry }: Enrolment) -> Self {
        Self { epoch: epoch.to_bytes().into(), entry: entry.to_bytes().into() }
    }
}

impl TryFrom<v1::Summary> for Summary {
    type Error = Malformed;

    fn try_from(message: v1::Summary) -> Result<Self> {
        let v1::Summary { newest, digest } = message;
        Ok(Self { newest: optional("newest", newest)?, digest: array("digest", &digest)? })
    }
}

impl From<Summary> for v1::Summary {
    fn from(Summary { newest, digest }: Summary) -> Self {
        Self { newest: newest.map(Into::into), digest: raw(&digest) }
    }
}

impl TryFrom<v1::Announced> for Announced {
    type Error = Malformed;

    fn try_from(message: v1::Announced) -> Result<Self> {
        let v1::Announced { id: commit, chain, counter } = message;
        if counter == 0 {
            return Err(Malformed::missing("counter"));
        }
        Ok(Self { id: id("id", &commit)?, chain: id("chain", &chain)?, counter })
    }
}

impl From<Announced> for v1::Announced {
    fn from(Announced { id, chain, counter }: Announced) -> Self {
        Self { id: raw(id.as_bytes()), chain: raw(chain.as_bytes()), counter }
    }
}

impl TryFrom<v1::Range> for Range {
    type Error = Malformed;

    fn try_from(message: v1::Range) -> Result<Self> {
        let v1::Range { chain, first, last } = message;
        if first == 0 {
            return Err(Malformed::missing("first"));
        }
        if first > last {
            return Err(Malformed::new("first", Fault::AboveLimit { actual: first, limit: last }));
        }
        if last > LAST_COUNTER {
            return Err(Malformed::new("last", Fault::AboveLimit { actual: last, limit: LAST_COUNTER }));
        }
        Ok(Self { chain: id("chain", &chain)?, first, last })
    }
}

impl From<Range> for v1::Range {
    fn from(Range { chain, first, last }: Range) -> Self {
        Self { chain: raw(chain.as_bytes()), first, last }
    }
}

impl TryFrom<v1::BranchRoot> for RootOf {
    type Error = Malformed;

    fn try_from(message: v1::BranchRoot) -> Result<Self> {
        let v1::BranchRoot { branch: name, frontier, judgement, root } = message;
        Ok(Self {
            branch: branch("branch", name)?,
            frontier: id("frontier", &frontier)?,
            judgement: id("judgement", &judgement)?,
            root: id("root", &root)?,
        })
    }
}

impl From<RootOf> for v1::BranchRoot {
    fn from(RootOf { branch, frontier, judgement, root }: RootOf) -> Self {
        Self {
            branch: branch.to_string(),
            frontier: raw(frontier.as_bytes()),
            judgement: raw(judgement.as_bytes()),
            root: raw(root.as_bytes()),
        }
    }
}

impl TryFrom<v1::Offer> for Offer {
    type Error = Malformed;

    fn try_from(message: v1::Offer) -> Result<Self> {
        let v1::Offer { branch: name, heads, vector, judgement, trees } = message;
        Ok(Self {
            branch: branch("branch", name)?,
            heads: ids("heads", &heads)?,
            vector: canonical("vector", &vector)?,
            judgement: id("judgement", &judgement)?,
            trees: each("trees", trees)?,
        })
    }
}

impl From<Offer> for v1::Offer {
    fn from(Offer { branch, heads, vector, judgement, trees }: Offer) -> Self {
        Self {
            branch: branch.to_string(),
            heads: heads.iter().map(|head| raw(head.as_bytes())).collect(),
            vector: vector.to_bytes().into(),
            judgement: raw(judgement.as_bytes()),
            trees: all(trees),
        }
    }
}

impl TryFrom<v1::CollectionTrees> for TreesOf {
    type Error = Malformed;

    fn try_from(message: v1::CollectionTrees) -> Result<Self> {
        let v1::CollectionTrees { collection, documents, deleted, conflicts } = message;
        let Ok(collection) = u16::try_from(collection).map(CollectionId) else {
            return Err(Malformed::new("collection", Fault::AboveLimit { actual: collection.into(), limit: u16::MAX.into() }));
        };
        Ok(Self {
            collection,
            documents: canonical("documents", &documents)?,
            deleted: canonical("deleted", &deleted)?,
            conflicts: canonical("conflicts", &conflicts)?,
        })
    }
}

impl From<TreesOf> for v1::CollectionTrees {
    fn from(TreesOf { collection, documents, deleted, conflicts }: TreesOf) -> Self {
        Self {
            collection: collection.0.into(),
            documents: documents.to_bytes().into(),
            deleted: deleted.to_bytes().into(),
            conflicts: conflicts.to_bytes().into(),
        }
    }
}

fn refusal(field: &str, value: i32) -> Result<Refusal> {
    Ok(match choice(field, value)? {
        v1::Refusal::Unspecified => return Err(Malformed::missing(field)),
        v1::Refusal::Version => Refusal::Version,
        v1::Refusal::Repository => Refusal::Repository,
        v1::Refusal::NotAMember => Refusal::NotAMember,
        v1::Refusal::Broken => Refusal::Broken,
        v1::Refusal::Fork => Refusal::Fork,
        v1::Refusal::Busy => Refusal::Busy,
        v1::Refusal::Diverged => Refusal::Diverged,
    })
}

impl From<Refusal> for v1::Refusal {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Version => Self::Version,
            Refusal::Repository => Self::Repository,
            Refusal::NotAMember => Self::NotAMember,
            Refusal::Broken => Self::Broken,
            Refusal::Fork => Self::Fork,
            Refusal::Busy => Self::Busy,
            Refusal::Diverged => Self::Diverged,
        }
    }
}
