//! From an ask to a request of a commit: checked against the schema and the state with all requests before it, sealed, and not too large.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use herdbook_model::{
    SigningKey,
    blob::{self, Blob},
    codec::{self, Encode as _},
    commit::MAX_MESSAGE,
    document::{self, Context, Document, Dot, Stamp},
    edit::Edit,
    graph::Meta,
    id::{ChainId, Domain, Leaf, PartId},
    request::{self, Group, MAX_EDITS, Precondition, Principal, Proof, Request},
    schema::{BLOBS, Collection, CollectionId},
    state::State,
};

use super::{Draft, Work, Writer};
use crate::{
    error::Error,
    repository::{Ask, ask::DocumentEdit, blobs, plan},
};

/// A request that can be done.
pub(super) struct Planned {
    pub(super) request: Request,
    /// Its canonical bytes.
    pub(super) bytes: Vec<u8>,
    /// Its leaf.
    pub(super) leaf: Leaf,
    /// The document of each edit before the request; `None` where edits of the request follow each other on one document.
    pub(super) before: Option<Vec<Option<Arc<Document>>>>,
}

impl Work<'_> {
    /// Turns an ask into a request, checked against the schema and the state with all requests before it.
    /// `names`: parts that are written right after it.
    pub(super) fn plan(
        &self,
        writer: &mut Writer,
        state: &State,
        draft: &Draft,
        ask: &Ask,
        names: &HashSet<PartId>,
    ) -> Result<Planned, Error> {
        let schema = state.schema();
        if ask.edits.is_empty() && !writer.takes_in {
            return Err(Error::Empty);
        }
        limit("the message", ask.message.len(), MAX_MESSAGE)?;
        limit("the principal's name", ask.principal.len(), request::MAX_PRINCIPAL)?;
        let mut preconditions = Vec::with_capacity(ask.wanted.len());
        for wanted in &ask.wanted {
            let collection = schema.collection(&wanted.collection)?;
            let now = state.get(&self.shared.nodes, collection.id, &wanted.key)?;
            plan::check(collection, &wanted.key, &wanted.must, now.as_deref())?;
            if !wanted.only_here {
                preconditions.push(Precondition { collection: collection.id, key: wanted.key.clone(), must: wanted.must });
            }
        }
        limit("the request's number of edits", ask.edits.len(), MAX_EDITS)?;
        let mut groups = BTreeMap::<CollectionId, Group>::new();
        let mut before = Vec::with_capacity(ask.edits.len());
        // Only an ask with several edits of one document needs to see its own earlier ones.
        let mut scratch: Option<State> = None;
        let several = ask.edits.len() > 1 && repeats_a_document(&ask.edits);
        for edit in &ask.edits {
            let collection = schema.collection(&edit.collection)?;
            let document = scratch.as_ref().unwrap_or(state).document(&self.shared.nodes, collection.id, &edit.key)?;
            let now = document.as_deref().filter(|document| document.exists());
            let planned = plan::edit(collection, &edit.key, &edit.change, now)?;
            if schema.blobs().is_some() {
                let now = scratch.as_ref().unwrap_or(state);
                self.check_blobs(now, collection.id, (&planned, &ask.principal), names)?;
            }
            if several {
                let place = u32::try_from(draft.requests.len()).unwrap_or(u32::MAX);
                let group = Group { collection: collection.id, salt: [0; 16], edits: vec![planned.clone()] };
                let alone = Request { key: ask.key, principal: principal(ask), preconditions: Vec::new(), groups: vec![group] };
                scratch.get_or_insert_with(|| state.clone()).apply_request(&self.shared.nodes, &draft.meta, place, &alone)?;
            }
            let next = groups.len();
            let group = groups.entry(collection.id).or_insert_with(|| Group {
                collection: collection.id,
                salt: salt(&writer.key, &draft.meta, draft.requests.len(), next),
                // Nearly always the request has one group.
                edits: Vec::with_capacity(if next == 0 { ask.edits.len() } else { 0 }),
            });
            group.edits.push(planned);
            before.push((collection.id, document));
        }
        // Edits go by collection, in a collection by order: so do the documents.
        before.sort_by_key(|(collection, _)| *collection);
        let before: Vec<_> = before.into_iter().map(|(_, document)| document).collect();
        let groups = groups.into_values().collect();
        let request = Request { key: ask.key, principal: principal(ask), preconditions, groups };
        let mut lens = Vec::with_capacity(before.len());
        let (bytes, leaf) = request.seal(|len| lens.push(len));
        limit("the request", bytes.len(), request::MAX_LEN)?;
        for (((id, edit), now), len) in request.edits().zip(&before).zip(lens) {
            check_size(schema.by_id(id)?, (edit, len), now.as_deref(), &draft.meta, &mut writer.scratch)?;
        }
        Ok(Planned { request, bytes, leaf, before: (!several).then_some(before) })
    }

    /// Checks that what is written as a part of a blob is one, and that blobs which a document is to refer to are there, or are among `names`.
    fn check_blobs(
        &self,
        state: &State,
        collection: CollectionId,
        (edit, principal): (&Edit, &str),
        names: &HashSet<PartId>,
    ) -> Result<(), Error> {
        if collection == BLOBS {
            return blobs::check(edit, principal);
        }
        let mut referred = Vec::new();
        blob::written(&edit.operation, &mut |blob: &Blob| referred.push(*blob));
        referred.retain(|blob| !names.contains(&blob.root));
        referred.iter().try_for_each(|blob| self.shared.check_reference(state, blob))
    }
}

fn principal(ask: &Ask) -> Principal {
    Principal { name: ask.principal.clone(), proof: Proof::Session }
}

fn repeats_a_document(edits: &[DocumentEdit]) -> bool {
    let mut seen = std::collections::HashSet::with_capacity(edits.len());
    edits.iter().any(|edit| !seen.insert((edit.collection.as_str(), &edit.key)))
}

fn limit(what: &'static str, actual: usize, limit: usize) -> Result<(), Error> {
    if actual <= limit { Ok(()) } else { Err(Error::TooLarge { what, actual, limit }) }
}

/// Refuses an edit, of so many bytes, that would make its document longer than a document may be. One that merges made too long may shrink.
fn check_size(
    collection: &Collection,
    (edit, edit_len): (&Edit, usize),
    now: Option<&Document>,
    meta: &Meta,
    scratch: &mut codec::Writer,
) -> Result<(), Error> {
    /// Stamps make the parts of a document longer than those of an edit, by less than this factor.
    const STAMPED: usize = 8;
    let now = now.filter(|document| document.exists());
    scratch.clear();
    now.into_iter().for_each(|document| document.encode(scratch));
    let now_len = scratch.as_bytes().len();
    if now_len + STAMPED * edit_len <= document::MAX_LEN {
        return Ok(());
    }
    let mut next = now.cloned().unwrap_or_default();
    let stamp = Stamp { time: meta.time, dot: Dot { chain: meta.chain, counter: meta.counter, index: 0 } };
    next.apply(edit, &Context { vector: &meta.vector, stamp }, collection);
    let next_len = next.to_bytes().len();
    if next_len <= now_len { Ok(()) } else { limit("the document", next_len, document::MAX_LEN) }
}

/// Unpredictable to who has no session key, and needs no randomness.
fn salt(key: &SigningKey, meta: &Meta, request: usize, group: usize) -> [u8; 16] {
    let place = [meta.counter, request as u64, group as u64].map(u64::to_be_bytes).concat();
    let chain: ChainId = meta.chain;
    let hash = Domain::Salt.hash(&[&key.to_bytes(), chain.as_bytes(), &place]);
    let mut salt = [0; 16];
    salt.copy_from_slice(&hash[..16]);
    salt
}
