//! Commits as they travel in a block: what follows from the commit before in the block, or from the requests, is left out. Of a commit of one small
//! edit that saves some seventy bytes that nothing compresses, the names of what is before it and of what is in it. Where there is enough of it,
//! requests lie apart by field, in columns.
//!
//! Law: what is read is what was written, to the last bit of what is signed. Who changes a request on the way changes the commit's name, so the
//! signature no longer holds.

use herdbook_model::{
    authority::SessionCertificate,
    codec::{Decode as _, Encode as _, Error as Codec, Reader, Writer},
    columns::{Column, Join, MAX_COLUMNS, Split, straighten},
    commit::{Commit, Header, Unverified},
    id::{BranchName, CommitId, Leaf, RepositoryId, SchemaId, SessionId},
    request::{leaf_of, root},
    time::Time,
};
use herdbook_sync::message::{Parcel, RequestBody};

type Result<T> = std::result::Result<T, Codec>;

/// Repository, branch, schema and session are those of the commit before in the block.
const SAME: u8 = 1;

/// It is the next on its chain after that one; its time is told as what was added.
const NEXT: u8 = 1 << 1;

/// Its only parent is the one before it on its chain.
const ALONE: u8 = 1 << 2;

/// All its requests are there, and what the header says of them follows from them.
const DERIVED: u8 = 1 << 3;

/// The certificate of its session follows.
const CERTIFIED: u8 = 1 << 4;

/// Fewest bytes of a parcel: mark, signature, time, message, count of requests.
const LEAST: usize = 1 + SIGNATURE + 1 + 1 + 1;

/// Bytes of a signature.
const SIGNATURE: usize = 64;

/// Bytes of a parent.
const PARENT: usize = CommitId::LEN;

/// Fewest bytes of requests that are worth columns: each says its length.
const WORTH: usize = 1024;

/// How a request lies in a block.
mod request_mark {
    /// It is not here: its leaf and the documents it touched.
    pub(super) const ABSENT: u8 = 0;
    /// Length and canonical bytes.
    pub(super) const WHOLE: u8 = 1;
    /// In the columns.
    pub(super) const APART: u8 = 2;
}

/// Returns the parts of a block, which lie in it one after another: the table of columns with the commits, and each column.
pub(super) fn encode(parcels: &[Parcel]) -> Vec<Vec<u8>> {
    let present = |request: &RequestBody| match request {
        RequestBody::Present(bytes) => bytes.len(),
        RequestBody::Absent { .. } => 0,
    };
    let bytes: usize = parcels.iter().flat_map(|parcel| &parcel.requests).map(present).sum();
    // What cannot be taken apart, because it is no request or has too many fields, travels whole.
    let apart = if bytes < WORTH { None } else { encode_with(parcels, Some(Split::default())).ok() };
    apart.unwrap_or_else(|| encode_with(parcels, None).expect("nothing is taken apart"))
}

fn encode_with(parcels: &[Parcel], split: Option<Split>) -> Result<Vec<Vec<u8>>> {
    let mut rows = Rows { out: Writer::default(), split };
    rows.out.count(parcels.len());
    let mut before = None;
    for parcel in parcels {
        rows.parcel(parcel, before)?;
        before = Some(&parcel.commit);
    }
    let columns = rows.split.map(Split::finish).unwrap_or_default();
    let mut table = Writer::with_capacity(rows.out.len() + 4 * columns.len());
    table.count(columns.len());
    for Column { bytes, width } in &columns {
        table.count(bytes.len() * 2 + usize::from(*width > 0));
        if *width > 0 {
            table.count(*width);
        }
    }
    table.raw(rows.out.as_bytes());
    Ok([table.into_bytes()].into_iter().chain(columns.into_iter().map(|column| column.bytes)).collect())
}

pub(super) fn decode(input: &mut Reader<'_>) -> Result<Vec<Parcel>> {
    let count = input.count(1)?;
    if count > MAX_COLUMNS {
        return Err(Codec::Limit { what: "columns", actual: count as u64, limit: MAX_COLUMNS as u64 });
    }
    let mut widths = Vec::with_capacity(count);
    for _ in 0..count {
        let told = input.uint()?;
        let width = if told % 2 == 1 { input.uint()? } else { 0 };
        let [len, width] = [told / 2, width].map(|told| usize::try_from(told).map_err(|_| Codec::Malformed { what: "length of a column" }));
        widths.push((len?, width?));
    }
    let apart = widths.iter().try_fold(0usize, |sum, (len, _)| sum.checked_add(*len)).filter(|apart| *apart <= input.left());
    let apart = apart.ok_or(Codec::Malformed { what: "length of a column" })?;
    let mut rows = Reader::new(input.raw(input.left() - apart)?);
    let mut columns = Vec::with_capacity(count);
    for (len, width) in widths {
        columns.push(Column { bytes: input.raw(len)?.to_vec(), width });
    }
    let columns = straighten(columns)?;
    let mut join = (count > 0).then(|| Join::new(&columns));
    let count = rows.count(LEAST - if join.is_some() { SIGNATURE } else { 0 })?;
    // What is reserved for them is bounded by their signatures, wherever these lie.
    let signed = if join.is_some() { apart / SIGNATURE } else { count };
    if count > signed {
        return Err(Codec::Truncated { missing: (count - signed) * SIGNATURE });
    }
    let mut parcels: Vec<Parcel> = Vec::with_capacity(count);
    for _ in 0..count {
        let parcel = decode_parcel(&mut rows, join.as_mut(), parcels.last().map(|parcel| &parcel.commit))?;
        parcels.push(parcel);
    }
    rows.end()?;
    join.map_or(Ok(()), |join| join.end())?;
    Ok(parcels)
}

/// Commits as they are written: one after another, and what lies apart.
struct Rows {
    out: Writer,
    split: Option<Split>,
}

impl Rows {
    fn parcel(&mut self, Parcel { commit, certificate, requests }: &Parcel, before: Option<&Commit<Unverified>>) -> Result<()> {
        let Self { out, split } = self;
        let header = commit.header();
        let origin = |header: &Header| (header.repository, header.branch.clone(), header.schema, header.session);
        let same = before.filter(|before| origin(before.header()) == origin(header));
        let next = same.filter(|before| follows(header, before));
        let is_alone = header.previous.is_some_and(|previous| header.parents == [previous]);
        let is_derived = derived(requests).is_ok_and(|derived| derived == Some((header.requests, header.request_count)));
        let marks =
            [(same.is_some(), SAME), (next.is_some(), NEXT), (is_alone, ALONE), (is_derived, DERIVED), (certificate.is_some(), CERTIFIED)];
        out.byte(marks.iter().filter(|(is_set, _)| *is_set).map(|(_, mark)| mark).sum());
        match split {
            Some(split) => split.noise(commit.signature())?,
            None => out.raw(commit.signature()),
        }
        if same.is_none() {
            header.repository.encode(out);
            header.branch.encode(out);
            header.schema.encode(out);
            header.session.encode(out);
        }
        if let Some(before) = next {
            out.uint(header.time.raw() - before.header().time.raw());
        } else {
            out.uint(header.counter);
            if let Some(previous) = &header.previous {
                previous.encode(out);
            }
            header.time.encode(out);
        }
        if !is_alone {
            out.list(header.parents.iter());
        }
        if !is_derived {
            header.requests.encode(out);
            out.uint(header.request_count.into());
        }
        out.text(&header.message);
        if let Some(certificate) = certificate {
            certificate.encode(out);
        }
        out.count(requests.len());
        requests.iter().try_for_each(|request| self.request(request))
    }

    fn request(&mut self, request: &RequestBody) -> Result<()> {
        let Self { out, split } = self;
        match (request, split) {
            (RequestBody::Present(bytes), Some(split)) => {
                out.byte(request_mark::APART);
                split.push(bytes)?;
            }
            (RequestBody::Present(bytes), None) => {
                out.byte(request_mark::WHOLE);
                out.bytes(bytes);
            }
            (RequestBody::Absent { leaf, documents }, _) => {
                out.byte(request_mark::ABSENT);
                leaf.encode(out);
                out.count(documents.len());
                documents.iter().for_each(|document| out.text(document));
            }
        }
        Ok(())
    }
}

/// Whether a commit is the next on the chain of the one before in the block, of the same origin.
fn follows(header: &Header, before: &Commit<Unverified>) -> bool {
    let Header { counter, time, .. } = before.header();
    header.previous == Some(before.id()) && Some(header.counter) == counter.checked_add(1) && header.time > *time
}

/// Returns what a header says of these requests, if all are there.
fn derived(requests: &[RequestBody]) -> Result<Option<(Leaf, u32)>> {
    let mut leaves = Vec::with_capacity(requests.len());
    for request in requests {
        let RequestBody::Present(bytes) = request else { return Ok(None) };
        leaves.push(leaf_of(bytes)?);
    }
    Ok(u32::try_from(leaves.len()).ok().map(|count| (root(&leaves), count)))
}

fn decode_parcel(input: &mut Reader<'_>, mut join: Option<&mut Join<'_>>, before: Option<&Commit<Unverified>>) -> Result<Parcel> {
    let marks = input.byte()?;
    if marks >= CERTIFIED << 1 {
        return Err(Codec::Unknown { what: "marks of a commit", tag: marks.into() });
    }
    let has = |mark| marks & mark != 0;
    let signature: [u8; SIGNATURE] = match &mut join {
        Some(join) => join.noise()?,
        None => input.array()?,
    };
    let before = before.filter(|_| has(SAME));
    let (repository, branch, schema, session) = match before {
        Some(before) => {
            let Header { repository, branch, schema, session, .. } = before.header();
            (*repository, branch.clone(), *schema, *session)
        }
        None if has(SAME) => return Err(NOTHING_BEFORE),
        None => (RepositoryId::decode(input)?, BranchName::decode(input)?, SchemaId::decode(input)?, SessionId::decode(input)?),
    };
    let (counter, previous, time) = if has(NEXT) {
        let before = before.ok_or(NOTHING_BEFORE)?;
        let Header { counter, time, .. } = before.header();
        let (counter, time) = (counter.checked_add(1), time.raw().checked_add(input.uint()?));
        let (Some(counter), Some(time)) = (counter, time) else { return Err(Codec::Malformed { what: "place of a commit" }) };
        (counter, Some(before.id()), Time::from_raw(time))
    } else {
        let counter = input.uint()?;
        let previous = if counter > 1 { Some(CommitId::decode(input)?) } else { None };
        (counter, previous, Time::decode(input)?)
    };
    let parents = match previous {
        Some(previous) if has(ALONE) => vec![previous],
        None if has(ALONE) => return Err(NOTHING_BEFORE),
        _ => input.list(PARENT)?,
    };
    let told = if has(DERIVED) { None } else { Some((Leaf::decode(input)?, input.uint()?)) };
    let message = input.text()?.to_owned();
    let certificate = if has(CERTIFIED) { Some(SessionCertificate::decode(input)?) } else { None };
    let count = input.count(1)?;
    let requests = (0..count).map(|_| decode_request(input, join.as_deref_mut())).collect::<Result<Vec<_>>>()?;
    let (leaf, request_count) = match told {
        Some((leaf, count)) => (leaf, u32::try_from(count).map_err(|_| Codec::Malformed { what: "request count" })?),
        None => derived(&requests)?.ok_or(Codec::Malformed { what: "requests" })?,
    };
    let header = Header { repository, branch, schema, parents, session, counter, previous, time, requests: leaf, request_count, message };
    // Read as anybody reads it, so that nothing comes in that no canonical bytes say.
    let mut canonical = Writer::default();
    canonical.raw(&signature);
    header.encode(&mut canonical);
    Ok(Parcel { commit: Commit::from_bytes(canonical.as_bytes())?, certificate, requests })
}

const NOTHING_BEFORE: Codec = Codec::Malformed { what: "commit that stands on none before it" };

fn decode_request(input: &mut Reader<'_>, join: Option<&mut Join<'_>>) -> Result<RequestBody> {
    match (input.byte()?, join) {
        (request_mark::APART, Some(join)) => Ok(RequestBody::Present(join.next_request()?)),
        (request_mark::WHOLE, _) => Ok(RequestBody::Present(input.bytes()?.to_vec())),
        (request_mark::ABSENT, _) => {
            let leaf = Leaf::decode(input)?;
            let count = input.count(1)?;
            let documents = (0..count).map(|_| Ok(input.text()?.to_owned())).collect::<Result<_>>()?;
            Ok(RequestBody::Absent { leaf, documents })
        }
        (tag, _) => Err(Codec::Unknown { what: "request mark", tag: tag.into() }),
    }
}
