//! Libraries of replicated data types: automerge, loro, yrs. All in memory and unsigned; bytes are what one hands to the other.

use std::path::Path;

use automerge::{AutoCommit, ROOT, ReadDoc as _, sync::SyncDoc as _, transaction::Transactable as _};
use herdbook_loadtest::workload::{N, key, perm};
use loro::{ExportMode, LoroDoc};
use yrs::{Doc, Map as _, ReadTxn as _, Transact as _, Update, updates::decoder::Decode as _};

use crate::{
    error::Error,
    library::{Library, SINGLES, SYNCED, Task, all, millis, permuted, rate, side, text},
};

/// Messages after which two documents that still do not agree never will.
const MESSAGES: usize = 100;

/// automerge.
#[derive(Debug)]
pub(crate) struct Automerge;

/// loro.
#[derive(Debug)]
pub(crate) struct Loro;

/// yrs.
#[derive(Debug)]
pub(crate) struct Yrs;

fn failed(name: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Error {
    move |error| Error::Library { name, why: error.to_string() }
}

impl Automerge {
    fn base() -> Result<AutoCommit, Error> {
        let mut doc = AutoCommit::new();
        Self::put(&mut doc, all())?;
        Ok(doc)
    }

    /// Puts all in one commit.
    fn put(doc: &mut AutoCommit, documents: impl Iterator<Item = (String, String)>) -> Result<(), Error> {
        for (key, text) in documents {
            doc.put(ROOT, key, text).map_err(|error| failed("automerge")(&error))?;
        }
        doc.commit();
        Ok(())
    }

    /// Returns a base whose history is a thousand commits: one of a single commit is sent whole by its protocol.
    fn grown() -> Result<AutoCommit, Error> {
        let mut doc = AutoCommit::new();
        let documents: Vec<_> = all().collect();
        for part in documents.chunks(documents.len() / 1000) {
            Self::put(&mut doc, part.iter().cloned())?;
        }
        Ok(doc)
    }

    fn sync(alice: &mut AutoCommit, bob: &mut AutoCommit) -> Result<f64, Error> {
        let error = |error| failed("automerge")(&error);
        let (mut of_alice, mut of_bob) = (automerge::sync::State::new(), automerge::sync::State::new());
        let mut bytes = 0;
        for _ in 0..MESSAGES {
            let from_alice = alice.sync().generate_sync_message(&mut of_alice);
            let is_over = from_alice.is_none();
            if let Some(message) = from_alice {
                bytes += message.clone().encode().len();
                bob.sync().receive_sync_message(&mut of_bob, message).map_err(error)?;
            }
            match bob.sync().generate_sync_message(&mut of_bob) {
                Some(message) => {
                    bytes += message.clone().encode().len();
                    alice.sync().receive_sync_message(&mut of_alice, message).map_err(error)?;
                }
                None if is_over => break,
                None => {}
            }
        }
        if alice.get_heads() == bob.get_heads() { Ok(bytes as f64) } else { Err(failed("automerge")(&"the two do not agree")) }
    }
}

impl Library for Automerge {
    fn version(&self) -> String {
        "automerge 0.12".to_owned()
    }

    fn sample(&self, task: Task, _: &Path) -> Result<Option<f64>, Error> {
        match task {
            Task::Build => millis(Self::base),
            Task::Commit => {
                let mut doc = Self::base()?;
                rate(|j| Self::put(&mut doc, permuted(j % N..j % N + 1, 3 + j / N)))
            }
            Task::Read => {
                let doc = Self::base()?;
                rate(|j| match doc.get(ROOT, key(perm(j % N))) {
                    Ok(Some(_)) => Ok(()),
                    _ => Err(failed("automerge")(&"a document is not there")),
                })
            }
            Task::Merge => {
                let (mut alice, mut bob) = (Self::base()?, AutoCommit::new());
                bob.merge(&mut alice).map_err(|error| failed("automerge")(&error))?;
                Self::put(&mut alice, side(false))?;
                Self::put(&mut bob, side(true))?;
                millis(|| alice.merge(&mut bob).map_err(|error| failed("automerge")(&error)))
            }
            Task::Sync => {
                let mut alice = Self::grown()?;
                let mut bob = alice.fork();
                Self::put(&mut alice, permuted(0..SYNCED, 1))?;
                Self::put(&mut bob, permuted(SYNCED..2 * SYNCED, 1))?;
                Self::sync(&mut alice, &mut bob).map(Some)
            }
            Task::Clone => Ok(Some(Self::base()?.save().len() as f64)),
            Task::CloneTime => {
                let mut doc = Self::base()?;
                millis(|| AutoCommit::load(&doc.save()).map_err(|error| failed("automerge")(&error)))
            }
            Task::Disk => {
                let mut doc = Self::base()?;
                for j in 0..SINGLES {
                    Self::put(&mut doc, permuted(j..j + 1, 3))?;
                }
                Ok(Some(doc.save().len() as f64))
            }
            Task::BuildDurable | Task::Diff | Task::Fetch => Ok(None),
        }
    }
}

impl Loro {
    fn put(doc: &LoroDoc, documents: impl Iterator<Item = (String, String)>) -> Result<(), Error> {
        let map = doc.get_map("documents");
        for (key, text) in documents {
            map.insert(&key, text).map_err(|error| failed("loro")(&error))?;
        }
        doc.commit();
        Ok(())
    }

    fn base() -> Result<LoroDoc, Error> {
        let doc = LoroDoc::new();
        Self::put(&doc, all())?;
        Ok(doc)
    }

    fn export(doc: &LoroDoc, mode: ExportMode<'_>) -> Result<Vec<u8>, Error> {
        doc.export(mode).map_err(|error| failed("loro")(&error))
    }

    fn import(doc: &LoroDoc, bytes: &[u8]) -> Result<(), Error> {
        doc.import(bytes).map(drop).map_err(|error| failed("loro")(&error))
    }

    fn copy(doc: &LoroDoc) -> Result<LoroDoc, Error> {
        let copy = LoroDoc::new();
        Self::import(&copy, &Self::export(doc, ExportMode::Snapshot)?)?;
        Ok(copy)
    }
}

impl Library for Loro {
    fn version(&self) -> String {
        "loro 1".to_owned()
    }

    fn sample(&self, task: Task, _: &Path) -> Result<Option<f64>, Error> {
        match task {
            Task::Build => millis(Self::base),
            Task::Commit => {
                let doc = Self::base()?;
                rate(|j| Self::put(&doc, permuted(j % N..j % N + 1, 3 + j / N)))
            }
            Task::Read => {
                let doc = Self::base()?;
                let map = doc.get_map("documents");
                rate(|j| match map.get(&key(perm(j % N))) {
                    Some(_) => Ok(()),
                    None => Err(failed("loro")(&"a document is not there")),
                })
            }
            Task::Merge => {
                let alice = Self::base()?;
                let bob = Self::copy(&alice)?;
                let known = alice.oplog_vv();
                Self::put(&alice, side(false))?;
                Self::put(&bob, side(true))?;
                let update = Self::export(&bob, ExportMode::updates(&known))?;
                millis(|| Self::import(&alice, &update))
            }
            Task::Sync => {
                let alice = Self::base()?;
                let bob = Self::copy(&alice)?;
                Self::put(&alice, permuted(0..SYNCED, 1))?;
                Self::put(&bob, permuted(SYNCED..2 * SYNCED, 1))?;
                let vectors = [alice.oplog_vv(), bob.oplog_vv()];
                let to_bob = Self::export(&alice, ExportMode::updates(&vectors[1]))?;
                let to_alice = Self::export(&bob, ExportMode::updates(&vectors[0]))?;
                Self::import(&alice, &to_alice)?;
                Self::import(&bob, &to_bob)?;
                let vectors: usize = vectors.iter().map(|vector| vector.encode().len()).sum();
                Ok(Some((to_bob.len() + to_alice.len() + vectors) as f64))
            }
            Task::Clone => Ok(Some(Self::export(&Self::base()?, ExportMode::Snapshot)?.len() as f64)),
            Task::CloneTime => {
                let doc = Self::base()?;
                millis(|| {
                    let copy = Self::copy(&doc)?;
                    // It reads what it imported only when asked.
                    copy.get_map("documents").get(&key(0)).map(drop).ok_or_else(|| failed("loro")(&"a document is not there"))?;
                    Ok(copy)
                })
            }
            Task::Disk => {
                let doc = Self::base()?;
                for j in 0..SINGLES {
                    Self::put(&doc, permuted(j..j + 1, 3))?;
                }
                Ok(Some(Self::export(&doc, ExportMode::Snapshot)?.len() as f64))
            }
            Task::BuildDurable | Task::Diff | Task::Fetch => Ok(None),
        }
    }
}

impl Yrs {
    fn put(doc: &Doc, documents: impl Iterator<Item = (String, String)>) {
        let map = doc.get_or_insert_map("documents");
        let mut transaction = doc.transact_mut();
        for (key, text) in documents {
            map.insert(&mut transaction, key, text);
        }
    }

    fn base() -> Doc {
        let doc = Doc::new();
        Self::put(&doc, all());
        doc
    }

    fn update(doc: &Doc, known: &yrs::StateVector) -> Vec<u8> {
        doc.transact().encode_state_as_update_v1(known)
    }

    fn apply(doc: &Doc, bytes: &[u8]) -> Result<(), Error> {
        let update = Update::decode_v1(bytes).map_err(|error| failed("yrs")(&error))?;
        doc.transact_mut().apply_update(update).map_err(|error| failed("yrs")(&error))
    }

    fn copy(doc: &Doc) -> Result<Doc, Error> {
        let copy = Doc::new();
        copy.get_or_insert_map("documents");
        Self::apply(&copy, &Self::update(doc, &yrs::StateVector::default()))?;
        Ok(copy)
    }
}

impl Library for Yrs {
    fn version(&self) -> String {
        "yrs 0.28".to_owned()
    }

    fn sample(&self, task: Task, _: &Path) -> Result<Option<f64>, Error> {
        match task {
            Task::Build => millis(|| Ok(Self::base())),
            Task::Commit => {
                let doc = Self::base();
                let map = doc.get_or_insert_map("documents");
                rate(|j| {
                    let i = perm(j % N);
                    map.insert(&mut doc.transact_mut(), key(i), text(i, 3 + j / N));
                    Ok(())
                })
            }
            Task::Read => {
                let doc = Self::base();
                let map = doc.get_or_insert_map("documents");
                let transaction = doc.transact();
                rate(|j| match map.get(&transaction, &key(perm(j % N))) {
                    Some(_) => Ok(()),
                    None => Err(failed("yrs")(&"a document is not there")),
                })
            }
            Task::Merge => {
                let alice = Self::base();
                let bob = Self::copy(&alice)?;
                let known = alice.transact().state_vector();
                Self::put(&alice, side(false));
                Self::put(&bob, side(true));
                let update = Self::update(&bob, &known);
                millis(|| Self::apply(&alice, &update))
            }
            Task::Sync => {
                let alice = Self::base();
                let bob = Self::copy(&alice)?;
                Self::put(&alice, permuted(0..SYNCED, 1));
                Self::put(&bob, permuted(SYNCED..2 * SYNCED, 1));
                let vectors = [alice.transact().state_vector(), bob.transact().state_vector()];
                let (to_bob, to_alice) = (Self::update(&alice, &vectors[1]), Self::update(&bob, &vectors[0]));
                Self::apply(&alice, &to_alice)?;
                Self::apply(&bob, &to_bob)?;
                let vectors: usize = vectors.iter().map(|vector| yrs::updates::encoder::Encode::encode_v1(vector).len()).sum();
                Ok(Some((to_bob.len() + to_alice.len() + vectors) as f64))
            }
            Task::Clone => Ok(Some(Self::update(&Self::base(), &yrs::StateVector::default()).len() as f64)),
            Task::CloneTime => {
                let doc = Self::base();
                millis(|| Self::copy(&doc))
            }
            Task::Disk => {
                let doc = Self::base();
                for j in 0..SINGLES {
                    Self::put(&doc, permuted(j..j + 1, 3));
                }
                Ok(Some(Self::update(&doc, &yrs::StateVector::default()).len() as f64))
            }
            Task::BuildDurable | Task::Diff | Task::Fetch => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each has to be right before it may be quick: both sides hold both sides' edits afterwards.
    #[test]
    fn two_documents_that_met_hold_the_edits_of_both() {
        let (mut alice, mut bob) = (AutoCommit::new(), AutoCommit::new());
        Automerge::put(&mut alice, permuted(0..10, 1)).expect("put");
        Automerge::put(&mut bob, permuted(10..20, 1)).expect("put");
        assert!(Automerge::sync(&mut alice, &mut bob).expect("they agree") > 0.0);
        assert_eq!((alice.length(ROOT), bob.length(ROOT)), (20, 20));

        let (alice, bob) = (LoroDoc::new(), LoroDoc::new());
        Loro::put(&alice, permuted(0..10, 1)).expect("put");
        Loro::put(&bob, permuted(10..20, 1)).expect("put");
        let update = Loro::export(&bob, ExportMode::updates(&alice.oplog_vv())).expect("exported");
        Loro::import(&alice, &update).expect("imported");
        assert_eq!(Loro::copy(&alice).expect("copied").get_map("documents").len(), 20);

        let (alice, bob) = (Doc::new(), Doc::new());
        Yrs::put(&alice, permuted(0..10, 1));
        Yrs::put(&bob, permuted(10..20, 1));
        // In a statement of its own: a transaction that is open where the update is applied would wait for itself.
        let known = alice.transact().state_vector();
        Yrs::apply(&alice, &Yrs::update(&bob, &known)).expect("applied");
        let copy = Yrs::copy(&alice).expect("copied");
        assert_eq!(copy.get_or_insert_map("documents").len(&copy.transact()), 20);
    }
}
