//! Blobs: uploading their parts as documents, reading them back, and taking away those of no use.
//!
//! Law: whatever a document of any branch refers to can be read. An upload touches every part, so that it outlives a concurrent delete; what is
//! swept is deleted first, which hides it and takes nothing from who reads; only what nobody refers to after it was hidden for long goes for
//! good.

use std::{
    collections::HashSet,
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

use herdbook_model::{
    blob::{self, Blob, Builder, Held, Part, Slice, Walk},
    document::Document,
    id::{BranchName, PartId, RequestKey},
    schema::{BLOBS, BLOBS_NAME, USED},
    state::State,
    time::Time,
    value::{Key, Scalar, Value},
};

use super::{Ask, DocumentChange, DocumentEdit, FieldChange, Repository, Shared, View};
use crate::{error::Error, keys};

/// Bytes of parts that go into one request.
const REQUEST: usize = 1 << 20;

/// Most parts that one request hides or takes away.
const SWEPT: usize = 1000;

/// An upload under way: bytes come in, asks that write parts go out. Memory: some parts.
pub struct Upload {
    repository: Repository,
    branch: Option<BranchName>,
    builder: Builder,
    made: Vec<Part>,
    parts: u64,
    added: u64,
    added_bytes: u64,
}

/// What an upload made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uploaded {
    /// The blob, for a field to hold.
    pub blob: Blob,
    /// Parts it has.
    pub parts: u64,
    /// Parts that were not there before.
    pub added: u64,
    /// Bytes of those.
    pub added_bytes: u64,
}

/// Bytes of a blob, read from one state, which it holds fast. A read names no byte twice and no part that it does not need.
pub struct BlobReader {
    repository: Repository,
    state: State,
    blob: Blob,
    place: u64,
    walk: Walk,
    slice: Option<(Slice, usize)>,
}

/// What a sweep does, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Parts that documents refer to.
    pub used: u64,
    /// Bytes of those.
    pub used_bytes: u64,
    /// Parts that are hidden now: nobody refers to them.
    pub hidden: u64,
    /// Bytes of those.
    pub hidden_bytes: u64,
    /// Hidden parts that are shown again, since somebody refers to them.
    pub revived: u64,
    /// Parts that were hidden long enough and went for good.
    pub removed: u64,
    /// Bytes of those.
    pub removed_bytes: u64,
}

impl Upload {
    /// Begins one, into `branch`; into the promoted one if none is named.
    ///
    /// # Errors
    /// [`Error::NoBlobs`] if no field of the branch's schema holds blobs; those of [`View::state`].
    pub fn begin(repository: &Repository, branch: Option<BranchName>) -> Result<Self, Error> {
        let view = repository.view();
        let state = view.state(branch.as_ref())?;
        if state.schema().blobs().is_none() {
            return Err(Error::NoBlobs { branch: state.branch().clone() });
        }
        let (repository, builder) = (repository.clone(), Builder::default());
        Ok(Self { repository, branch, builder, made: Vec::new(), parts: 0, added: 0, added_bytes: 0 })
    }

    /// Takes the next bytes; returns what is to be committed, in order.
    ///
    /// # Errors
    /// [`Error::BlobTooLong`], and those of reading.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Ask>, Error> {
        self.builder.push(bytes, &mut self.made)?;
        self.asks(false)
    }

    /// Returns what is left to be committed, and the blob, which can be referred to after that. There is one ask at least.
    ///
    /// # Errors
    /// Those of reading.
    pub fn finish(mut self) -> Result<(Vec<Ask>, Uploaded), Error> {
        let blob = std::mem::take(&mut self.builder).finish(&mut self.made);
        let asks = self.asks(true)?;
        Ok((asks, Uploaded { blob, parts: self.parts, added: self.added, added_bytes: self.added_bytes }))
    }

    fn asks(&mut self, all: bool) -> Result<Vec<Ask>, Error> {
        let waiting: usize = self.made.iter().map(|part| part.bytes.len()).sum();
        if self.made.is_empty() || !all && waiting < REQUEST {
            return Ok(Vec::new());
        }
        let view = self.repository.view();
        let state = view.state(self.branch.as_ref())?;
        let now = micros(self.repository.now());
        let (mut asks, mut edits, mut bytes) = (Vec::new(), Vec::new(), 0);
        // The same part comes more than once where content repeats itself.
        let mut seen = HashSet::new();
        for part in self.made.drain(..) {
            self.parts += 1;
            if !seen.insert(part.id) {
                continue;
            }
            let key = blob::key_of(&part.id);
            if self.repository.get(state, BLOBS, &key)?.is_none() {
                self.added += 1;
                self.added_bytes += part.bytes.len() as u64;
            }
            if bytes + part.bytes.len() > REQUEST && !edits.is_empty() {
                asks.push(ask(self.branch.clone(), std::mem::take(&mut edits))?);
                bytes = 0;
            }
            bytes += part.bytes.len();
            edits.push(write(key, part.bytes, now));
        }
        asks.push(ask(self.branch.clone(), edits)?);
        Ok(asks)
    }
}

/// Writes a part: whole where it is not there, else only that it is used.
pub(super) fn write(key: Key, bytes: Arc<[u8]>, now: i64) -> DocumentEdit {
    let fields = vec![("data".into(), Value::Scalar(Scalar::Bytes(bytes))), ("used".into(), Value::Scalar(Scalar::Timestamp(now)))];
    DocumentEdit { collection: BLOBS_NAME.to_owned(), key, change: DocumentChange::Put(fields) }
}

pub(super) fn ask(branch: Option<BranchName>, edits: Vec<DocumentEdit>) -> Result<Ask, Error> {
    let key = RequestKey(keys::random()?);
    Ok(Ask { branch, key, principal: String::new(), wanted: Vec::new(), edits, message: String::new() })
}

pub(super) fn micros(time: Time) -> i64 {
    i64::try_from(time.millis().saturating_mul(1000)).unwrap_or(i64::MAX)
}

impl Repository {
    /// Returns a reader of a blob as it is in `state`, from its first byte on. That all of it is there is told while it is read.
    pub fn blob(&self, state: &State, blob: Blob) -> BlobReader {
        let walk = Walk::whole(&blob);
        BlobReader { repository: self.clone(), state: state.clone(), blob, place: 0, walk, slice: None }
    }

    /// Returns what is to be committed on `branch` so that parts to which no document of any branch refers, and which were not uploaded for
    /// `unused_millis`, are hidden, and those that have been hidden for as long go for good. With what it will have done.
    ///
    /// Cost: a pass over all documents of collections with blobs, and over all parts' keys and sizes.
    ///
    /// # Errors
    /// [`Error::NoBlobs`]; [`Error::Blob`] if a list of parts is damaged: then nothing may be taken away; those of reading.
    pub fn sweep(&self, view: &View, branch: Option<&BranchName>, unused_millis: u64) -> Result<(Vec<Ask>, Swept), Error> {
        let target = view.state(branch)?;
        if target.schema().blobs().is_none() {
            return Err(Error::NoBlobs { branch: target.branch().clone() });
        }
        let mut used = HashSet::new();
        for state in view.branches.values() {
            self.note_used(state, &mut used)?;
        }
        let now = micros(self.now());
        let before = now.saturating_sub(i64::try_from(unused_millis.saturating_mul(1000)).unwrap_or(i64::MAX));
        let is_old = |document: &Document| last_used(document).is_none_or(|used| used <= before);
        let (mut swept, mut edits) = (Swept::default(), Vec::new());
        for entry in self.scan(target, BLOBS, "", None)? {
            let (key, document) = entry?;
            let len = len_of(&document);
            if PartId::from_hex(key.as_str()).is_some_and(|id| used.contains(&id)) {
                (swept.used, swept.used_bytes) = (swept.used + 1, swept.used_bytes + len);
            } else if is_old(&document) {
                (swept.hidden, swept.hidden_bytes) = (swept.hidden + 1, swept.hidden_bytes + len);
                let hidden = vec![("used".into(), FieldChange::Set(Value::Scalar(Scalar::Timestamp(now))))];
                edits.push(vec![(key.clone(), DocumentChange::Update(hidden)), (key, DocumentChange::Delete)]);
            }
        }
        for entry in target.scan_deleted(&self.0.nodes, BLOBS)? {
            let (key, document) = entry?;
            let len = len_of(&document);
            let bytes = blob::bytes_of(&document);
            match bytes {
                Some(bytes) if PartId::from_hex(key.as_str()).is_some_and(|id| used.contains(&id)) => {
                    swept.revived += 1;
                    let DocumentEdit { key, change, .. } = write(key, bytes, now);
                    edits.push(vec![(key, change)]);
                }
                _ if is_old(&document) => {
                    (swept.removed, swept.removed_bytes) = (swept.removed + 1, swept.removed_bytes + len);
                    // A create takes away all that was seen of an earlier document, so a delete after it leaves nothing.
                    edits.push(vec![(key.clone(), DocumentChange::Create(Vec::new())), (key, DocumentChange::Delete)]);
                }
                _ => {}
            }
        }
        let (mut asks, mut waiting, mut parts, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
        for of_one in edits {
            let collection = || BLOBS_NAME.to_owned();
            parts += 1;
            bytes +=
                of_one.iter().map(|(_, change)| if matches!(change, DocumentChange::Put(_)) { blob::MAX_PART } else { 0 }).sum::<usize>();
            waiting.extend(of_one.into_iter().map(|(key, change)| DocumentEdit { collection: collection(), key, change }));
            if parts == SWEPT || bytes >= REQUEST {
                asks.push(ask(branch.cloned(), std::mem::take(&mut waiting))?);
                (parts, bytes) = (0, 0);
            }
        }
        if !waiting.is_empty() {
            asks.push(ask(branch.cloned(), waiting)?);
        }
        Ok((asks, swept))
    }

    /// Adds every part that documents of `state` refer to.
    fn note_used(&self, state: &State, used: &mut HashSet<PartId>) -> Result<(), Error> {
        let mut roots = HashSet::new();
        for collection in &state.schema().collections {
            let fields: Vec<_> = collection.fields.iter().filter(|field| field.ty.has_blobs()).map(|field| field.id).collect();
            if fields.is_empty() {
                continue;
            }
            for entry in self.scan(state, collection.id, "", None)? {
                let (_, document) = entry?;
                for field in fields.iter().filter_map(|field| document.field(*field)) {
                    field.blobs(&mut |blob: &Blob| _ = roots.insert(blob.root));
                }
            }
        }
        let mut ahead: Vec<(PartId, Option<u8>)> = roots.into_iter().map(|root| (root, None)).collect();
        while let Some((id, level)) = ahead.pop() {
            // What holds content names nothing; what was walked before, neither.
            if !used.insert(id) || level == Some(0) {
                continue;
            }
            // Parts that are not here, since the branch is behind, are nobody's to take away.
            let Some(bytes) = self.0.part(state, &id)? else { continue };
            match blob::read(&bytes) {
                Ok(Held::Content(_) | Held::Value(_)) => {}
                Ok(Held::List { level, children }) => ahead.extend(children.iter().map(|child| (child.id, Some(level - 1)))),
                Err(_) => return Err(blob::Error::Damaged { id }.into()),
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Returns the bytes of a part, hidden ones too, `None` if they are not in `state`.
    pub(super) fn part(&self, state: &State, id: &PartId) -> Result<Option<Arc<[u8]>>, Error> {
        let document = state.document(&self.nodes, BLOBS, &blob::key_of(id))?;
        Ok(document.as_deref().and_then(blob::bytes_of))
    }

    /// Whether the root of a blob lies in `state`, hidden or not.
    pub(super) fn has_blob(&self, state: &State, blob: &Blob) -> Result<bool, Error> {
        Ok(self.part(state, &blob.root)?.is_some())
    }
}

fn len_of(document: &Document) -> u64 {
    blob::bytes_of(document).map_or(0, |bytes| bytes.len() as u64)
}

fn last_used(document: &Document) -> Option<i64> {
    match document.field(USED)?.shown_scalar()? {
        Scalar::Timestamp(time) => Some(*time),
        _ => None,
    }
}

impl BlobReader {
    /// Returns its length in bytes.
    pub const fn len(&self) -> u64 {
        self.blob.len
    }

    /// Whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.blob.len == 0
    }

    /// Begins anew at byte `offset`, to end after `len` bytes or at the blob's end.
    pub fn range(&mut self, offset: u64, len: u64) {
        (self.place, self.walk, self.slice) = (offset, Walk::new(&self.blob, offset, len), None);
    }

    /// Returns the next stretch, at most a part long; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Blob`] if a part is missing or damaged, and those of reading.
    pub fn next_slice(&mut self) -> Result<Option<Slice>, Error> {
        while let Some(id) = self.walk.wanted() {
            let bytes = self.repository.0.part(&self.state, &id)?;
            if let Some(slice) = self.walk.take(bytes)? {
                self.place += slice.as_bytes().len() as u64;
                return Ok(Some(slice));
            }
        }
        Ok(None)
    }
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((slice, taken)) = &mut self.slice {
                let left = &slice.as_bytes()[*taken..];
                let count = left.len().min(out.len());
                out[..count].copy_from_slice(&left[..count]);
                *taken += count;
                if count > 0 || out.is_empty() {
                    return Ok(count);
                }
            }
            self.slice = self.next_slice().map_err(io::Error::other)?.map(|slice| (slice, 0));
            if self.slice.is_none() {
                return Ok(0);
            }
        }
    }
}

impl Seek for BlobReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let read = self.slice.as_ref().map_or(0, |(slice, taken)| (slice.as_bytes().len() - taken) as u64);
        let place = match to {
            SeekFrom::Start(place) => Some(place),
            SeekFrom::End(from) => self.blob.len.checked_add_signed(from),
            SeekFrom::Current(from) => (self.place - read).checked_add_signed(from),
        };
        let place = place.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a place before the first byte"))?;
        self.range(place, self.blob.len.saturating_sub(place));
        Ok(place)
    }
}
