//! Sweeps: hiding parts that nobody refers to, and taking away those hidden for long.

use std::collections::HashSet;

use herdbook_model::{
    blob::{self, Blob, Held},
    document::Document,
    id::{BranchName, PartId},
    schema::{BLOBS, BLOBS_NAME, DATA, USED},
    value::{Key, Scalar, Value},
};

use super::{REQUEST, UPKEEP, ask, micros, write};
use crate::{
    error::Error,
    repository::{Ask, DocumentChange, DocumentEdit, FieldChange, Repository, View},
};

/// Most parts that one request hides or takes away.
const PARTS: usize = 1000;

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

/// A sweep that was worked out: what is to be done to which parts. It is done piece by piece, each held against what is there by then.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// What it does, where nobody comes between.
    pub swept: Swept,
    branch: BranchName,
    /// The last time of use at which a part counts as long unused, in microseconds since 1970.
    before: i64,
    acts: Vec<(Key, Act)>,
}

/// What is done to a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Hide,
    Revive,
    Remove,
}

impl Repository {
    /// Works out how parts of `branch` to which no document of any branch refers, and which were not uploaded for `unused_millis`, are hidden, and how
    /// those that have been hidden on every branch for as long go for good.
    ///
    /// Cost: a pass over all documents of collections with blobs, and over all parts.
    ///
    /// # Errors
    /// [`Error::NoBlobs`]; [`Error::Blob`] if a list of parts is damaged: then nothing may be taken away; those of reading.
    pub fn sweep(&self, view: &View, branch: Option<&BranchName>, unused_millis: u64) -> Result<Sweep, Error> {
        let target = view.state(branch)?;
        if target.schema().blobs().is_none() {
            return Err(Error::NoBlobs { branch: target.branch().clone() });
        }
        let used = self.used_parts(view)?;
        let is_used = |key: &Key| PartId::from_hex(key.as_str()).is_some_and(|id| used.contains(&id));
        let now = micros(self.now());
        let before = now.saturating_sub(i64::try_from(unused_millis.saturating_mul(1000)).unwrap_or(i64::MAX));
        let (mut swept, mut acts) = (Swept::default(), Vec::new());
        for entry in self.scan(target, BLOBS, "", None)? {
            let (key, document) = entry?;
            let len = blob::len_of(&document);
            if is_used(&key) {
                (swept.used, swept.used_bytes) = (swept.used + 1, swept.used_bytes + len);
            } else if is_old(&document, before) {
                (swept.hidden, swept.hidden_bytes) = (swept.hidden + 1, swept.hidden_bytes + len);
                acts.push((is_list(&document), key, Act::Hide));
            }
        }
        for entry in target.scan_deleted(&self.0.nodes, BLOBS)? {
            let (key, document) = entry?;
            let len = blob::len_of(&document);
            if is_used(&key) {
                swept.revived += u64::from(len > 0);
                acts.push((is_list(&document), key, Act::Revive));
            } else if is_old(&document, before) && self.is_hidden(view, &key, before)? {
                (swept.removed, swept.removed_bytes) = (swept.removed + 1, swept.removed_bytes + len);
                acts.push((is_list(&document), key, Act::Remove));
            }
        }
        // From the end on, so lists go first: a sweep that is cut off leaves no list whose parts are gone.
        acts.sort_by_key(|(is_list, ..)| *is_list);
        let acts = acts.into_iter().map(|(_, key, act)| (key, act)).collect();
        Ok(Sweep { swept, branch: target.branch().clone(), before, acts })
    }

    /// Returns what the next piece of a sweep asks for, `None` if that was all. What changed since it was worked out is passed over.
    ///
    /// # Errors
    /// Those of reading.
    pub fn sweep_on(&self, sweep: &mut Sweep) -> Result<Option<Ask>, Error> {
        let view = self.view();
        let state = view.state(Some(&sweep.branch))?;
        let now = micros(self.now());
        let (mut edits, mut parts, mut bytes) = (Vec::new(), 0, 0);
        while parts < PARTS
            && bytes < REQUEST
            && let Some((key, act)) = sweep.acts.pop()
        {
            let Some(document) = state.document(&self.0.nodes, BLOBS, &key)? else { continue };
            let edit = |change| DocumentEdit { collection: BLOBS_NAME.to_owned(), key: key.clone(), change };
            match act {
                Act::Hide if document.exists() && is_old(&document, sweep.before) => {
                    // Since when it is hidden.
                    let hidden = vec![("used".into(), FieldChange::Set(Value::Scalar(Scalar::Timestamp(now))))];
                    edits.extend([edit(DocumentChange::Update(hidden)), edit(DocumentChange::Delete)]);
                }
                Act::Revive if !document.exists() => {
                    let id = PartId::from_hex(key.as_str());
                    let Some(data) = id.and_then(|id| blob::bytes_of(&document, &id)) else { continue };
                    // A value that can be erased has a request of its own, here as where it was first written.
                    if matches!(blob::read(&data), Ok(Held::Value { .. })) {
                        if edits.is_empty() {
                            edits.push(write(key, data, now));
                        } else {
                            sweep.acts.push((key, act));
                        }
                        break;
                    }
                    bytes += data.len();
                    edits.push(write(key, data, now));
                }
                // A create takes away all that was seen of an earlier document, so a delete after it leaves nothing.
                Act::Remove if is_old(&document, sweep.before) && self.is_hidden(&view, &key, sweep.before)? => {
                    edits.extend([edit(DocumentChange::Create(Vec::new())), edit(DocumentChange::Delete)]);
                }
                _ => continue,
            }
            parts += 1;
        }
        if edits.is_empty() {
            return Ok(None);
        }
        let ask = ask(Some(sweep.branch.clone()), edits)?;
        Ok(Some(Ask { principal: UPKEEP.to_owned(), ..ask }))
    }

    /// Whether a part is hidden, and for long, on every branch that has it: where it lives, an upload says only that it is used, and what one
    /// branch took away would be missing where both meet.
    fn is_hidden(&self, view: &View, key: &Key, before: i64) -> Result<bool, Error> {
        for state in view.branches.values() {
            if let Some(document) = state.document(&self.0.nodes, BLOBS, key)?
                && (document.exists() || !is_old(&document, before))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns every part that documents of any branch refer to.
    fn used_parts(&self, view: &View) -> Result<HashSet<PartId>, Error> {
        let mut used = HashSet::new();
        for state in view.branches.values() {
            for collection in &state.schema().collections {
                let fields: Vec<_> = collection.fields.iter().filter(|field| field.ty.has_blobs()).map(|field| field.id).collect();
                if fields.is_empty() {
                    continue;
                }
                for entry in self.scan(state, collection.id, "", None)? {
                    let (_, document) = entry?;
                    for field in fields.iter().filter_map(|field| document.field(*field)) {
                        field.blobs(&mut |blob: &Blob| _ = used.insert(blob.root));
                    }
                }
            }
        }
        // Each is read, whatever level a list claims for it: what it says of itself counts.
        let mut ahead: Vec<PartId> = used.iter().copied().collect();
        while let Some(id) = ahead.pop() {
            // Parts that are nowhere here, since branches are behind, are nobody's to take away.
            let Some(bytes) = self.part_anywhere(view, &id)? else { continue };
            match blob::read(&bytes) {
                Ok(Held::Content(_) | Held::Value { .. }) => {}
                Ok(Held::List { children, .. }) => ahead.extend(children.iter().map(|child| child.id).filter(|child| used.insert(*child))),
                Err(_) => return Err(blob::Error::Damaged { id }.into()),
            }
        }
        Ok(used)
    }

    /// Returns the bytes that a part's name stands for, from whatever branch has them.
    fn part_anywhere(&self, view: &View, id: &PartId) -> Result<Option<std::sync::Arc<[u8]>>, Error> {
        let mut is_damaged = false;
        for state in view.branches.values() {
            if let Some(bytes) = self.0.part(state, id)? {
                if blob::id_of(&bytes) == *id {
                    return Ok(Some(bytes));
                }
                is_damaged = true;
            }
        }
        if is_damaged { Err(blob::Error::Damaged { id: *id }.into()) } else { Ok(None) }
    }
}

fn is_list(document: &Document) -> bool {
    let data = document.field(DATA).and_then(|field| field.shown_scalar());
    matches!(data, Some(Scalar::Bytes(bytes)) if matches!(blob::read(bytes), Ok(Held::List { .. })))
}

fn is_old(document: &Document, before: i64) -> bool {
    let used = document.field(USED).and_then(|field| field.shown_scalar());
    !matches!(used, Some(Scalar::Timestamp(time)) if *time > before)
}
