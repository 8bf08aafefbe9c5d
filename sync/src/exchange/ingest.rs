//! Commits as they come in: each alone (see `check`), then against the graph. What is sound leaves as one batch, what is early or
//! an orphan waits.
//!
//! Law: nothing leaves as [`Output::Store`] whose signature, certificate, leaves, requests and links were not checked.

use std::collections::{HashMap, HashSet, VecDeque};

use herdbook_model::{
    authority::SessionCertificate,
    commit::Commit,
    graph::{self, Graph as _, Meta, Refusal as Link},
    id::{ChainId, CommitId, ReplicaId, SessionId},
    vector::VersionVector,
};

use super::{
    Accepted, Exchange, Now, Output, Plant,
    check::{Checked, Verdict},
    outgoing::WINDOW,
    quarantine::Quarantine,
    staged::{Overlay, Staged},
    transfer::parcel_len,
};
use crate::{
    evidence::Evidence,
    local::Local,
    message::{Announced, MAX_PARCEL, MAX_PAYLOAD, Message, Parcel, Refusal},
};

/// Bytes that are collected before credit is given back for them.
const OWED: u64 = 64 << 10;

/// Most names kept of what was refused and of sessions not yet in the store.
pub(super) const MAX_NAMES: usize = 1 << 14;

/// Commits that were handed out together.
#[derive(Debug)]
struct Batch {
    ids: Vec<CommitId>,
    tips: Vec<Announced>,
    bytes: u64,
    /// Bytes that count in the quarantine until this is stored.
    waited: usize,
}

/// What came in and is not yet in the store.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) staged: Staged,
    pub(super) quarantine: Quarantine,
    batches: HashMap<u64, Batch>,
    pub(super) certificates: HashMap<SessionId, SessionCertificate>,
    refused: HashSet<CommitId>,
    /// Chains of which the peer was asked for the commits from the first on, to find where they fork.
    contested: HashSet<ChainId>,
    window: i64,
    /// Credit that is to be given back.
    owed: u64,
    /// Bytes released from the quarantine that go into the next batch.
    carried: usize,
}

impl Default for Incoming {
    fn default() -> Self {
        Self {
            staged: Staged::default(),
            quarantine: Quarantine::default(),
            batches: HashMap::new(),
            certificates: HashMap::new(),
            refused: HashSet::new(),
            contested: HashSet::new(),
            window: WINDOW,
            owed: 0,
            carried: 0,
        }
    }
}

impl Incoming {
    pub(super) fn is_storing(&self) -> bool {
        !self.batches.is_empty()
    }

    /// Notes that a fork is looked for in `chain`; returns whether that is new.
    pub(super) fn contest(&mut self, chain: ChainId) -> bool {
        self.contested.len() < MAX_NAMES && self.contested.insert(chain)
    }

    /// Takes `bytes` of payload out of the window; returns whether they were within it. One message may take it below zero.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let was_open = self.window > 0;
        self.window -= i64::try_from(bytes).unwrap_or(i64::MAX);
        was_open
    }

    /// Returns the bytes held.
    pub(super) fn held(&self) -> usize {
        let names = (self.refused.len() + self.contested.len()) * size_of::<CommitId>();
        let certificates = self.certificates.len() * size_of::<(SessionId, SessionCertificate)>();
        let window = usize::try_from(WINDOW - self.window).unwrap_or(0);
        window + self.quarantine.held() + names + certificates
    }

    /// Refuses what waits for `ancestor`, which was refused, and what waits for that.
    fn refuse_waiting(&mut self, ancestor: CommitId) {
        let mut ancestors = vec![ancestor];
        while let Some(ancestor) = ancestors.pop() {
            for waiting in self.quarantine.release(&ancestor) {
                self.quarantine.left(waiting.waited);
                self.refuse(waiting.commit.id());
                ancestors.push(waiting.commit.id());
            }
        }
    }

    fn refuse(&mut self, id: CommitId) {
        if self.refused.len() < MAX_NAMES {
            self.refused.insert(id);
        }
    }
}

impl Exchange {
    pub(super) fn commits_came<L: Local>(&mut self, parcels: Vec<Parcel>, now: Now, local: &L) -> Result<(), L::Error> {
        let bytes: usize = parcels.iter().map(parcel_len).sum();
        let is_whole = bytes <= MAX_PAYLOAD || parcels.len() == 1 && bytes <= MAX_PARCEL;
        if !is_whole || !self.incoming.take(bytes) {
            self.refuse(Refusal::Broken);
            return Ok(());
        }
        self.tally.received += parcels.len() as u64;
        let (mut accepted, mut wrong) = (Vec::new(), None);
        for parcel in parcels {
            let (id, chain, counter) = (parcel.commit.id(), parcel.commit.chain(), parcel.commit.header().counter);
            match self.check(parcel, local)? {
                Verdict::Known => self.tally.duplicates += 1,
                Verdict::Withheld(id) => {
                    self.push.give_up(&chain);
                    self.outputs.push_back(Output::Withheld(id));
                }
                Verdict::Sound(checked) => wrong = self.admit(*checked, now, local, &mut accepted)?,
                Verdict::Wrong(fault) => wrong = Some(Evidence::Commit { commit: id, fault }),
            }
            if wrong.is_some() {
                break;
            }
            self.vectors.raise(chain, counter);
        }
        self.store(accepted, bytes as u64);
        if let Some(evidence) = wrong {
            self.convict(evidence);
        }
        Ok(())
    }

    /// Keeps evidence against the peer and ends the exchange.
    fn convict(&mut self, evidence: Evidence) {
        let refusal = match evidence {
            Evidence::SessionFork { .. } | Evidence::LogFork { .. } => Refusal::Fork,
            Evidence::Commit { .. } | Evidence::Chunk { .. } => {
                self.tally.faults += 1;
                Refusal::Broken
            }
        };
        self.outputs.push_back(Output::Evidence(evidence));
        self.refuse(refusal);
    }

    /// Holds a sound commit, and those that waited for it, against the graph. Returns evidence if it ends the exchange.
    pub(super) fn admit<L: Local>(
        &mut self,
        checked: Checked,
        now: Now,
        local: &L,
        accepted: &mut Vec<Accepted>,
    ) -> Result<Option<Evidence>, L::Error> {
        let mut queue = VecDeque::from([checked]);
        while let Some(checked) = queue.pop_front() {
            let id = checked.commit.id();
            // Unless it is taken, it leaves memory, or enters the quarantine again.
            self.incoming.quarantine.left(checked.waited);
            if checked.commit.header().time.is_ahead(now.wall) {
                self.tally.early += 1;
                self.wait(checked, None);
                continue;
            }
            if local.log().refuses(&id, &checked.commit.chain(), checked.commit.header().counter) {
                // The authority judged the fork: the peer will hear of it, and whoever signed this is convicted already.
                self.tally.forks += 1;
                self.incoming.refuse(id);
                self.incoming.refuse_waiting(id);
                continue;
            }
            let overlay = Overlay { local, staged: &self.incoming.staged };
            let meta = match graph::admit(&overlay, &checked.commit)? {
                Ok(meta) => meta,
                Err(Link::Incomplete { missing, .. }) if !self.settings.has(Plant::SkipParents) => {
                    self.orphaned(checked, missing, local)?;
                    continue;
                }
                Err(Link::Incomplete { .. }) => rootless(&checked.commit, &overlay)?,
                Err(Link::Fork { known, .. }) => {
                    self.tally.forks += 1;
                    self.incoming.refuse(id);
                    self.incoming.refuse_waiting(id);
                    let evidence = Evidence::SessionFork { known, other: Box::new(checked.commit.clone()) };
                    if self.author(&checked, local)? == Some(self.peer.replica) {
                        return Ok(Some(evidence));
                    }
                    // The peer only passed it on: the rest of what it says is as good as before.
                    self.outputs.push_back(Output::Evidence(evidence));
                    continue;
                }
                Err(link @ Link::BadLink { .. }) => return Ok(Some(Evidence::Commit { commit: id, fault: link.into() })),
            };
            self.incoming.staged.insert(id, meta.clone());
            queue.extend(self.incoming.quarantine.release(&id));
            let Checked { commit, certificate, requests, waited, .. } = checked;
            self.incoming.quarantine.keep(waited);
            self.incoming.carried += waited;
            accepted.push(Accepted { commit, meta, certificate, requests });
        }
        Ok(None)
    }

    fn author<L: Local>(&self, checked: &Checked, local: &L) -> Result<Option<ReplicaId>, L::Error> {
        let certificate = match &checked.certificate {
            Some(certificate) => Some(certificate.clone()),
            None => local.certificate(&checked.commit.header().session)?,
        };
        Ok(certificate.map(|certificate| certificate.replica))
    }

    fn orphaned<L: Local>(&mut self, checked: Checked, missing: CommitId, local: &L) -> Result<(), L::Error> {
        let header = checked.commit.header();
        if self.incoming.refused.contains(&missing) {
            self.incoming.refuse(checked.commit.id());
            return Ok(());
        }
        if header.previous == Some(missing) {
            let overlay = Overlay { local, staged: &self.incoming.staged };
            if overlay.at(&checked.commit.chain(), header.counter - 1)?.is_some() {
                // Another commit stands where the one before it should: the peer has a forked chain.
                self.contest(checked.commit.chain(), header.counter - 1);
                return Ok(());
            }
        }
        self.tally.waited += 1;
        self.wait(checked, Some(missing));
        Ok(())
    }

    fn wait(&mut self, checked: Checked, ancestor: Option<CommitId>) {
        if self.incoming.quarantine.is_full(checked.len) || self.settings.has(Plant::NoQuarantine) {
            self.tally.turned_away += 1;
        } else if let Some(ancestor) = ancestor {
            self.incoming.quarantine.wait(ancestor, checked);
        } else {
            self.incoming.quarantine.wait_for_clock(checked);
        }
    }

    /// Takes commits that waited through the graph again.
    pub(super) fn readmit<L: Local>(&mut self, released: Vec<Checked>, now: Now, local: &L) -> Result<(), L::Error> {
        let (mut accepted, mut wrong) = (Vec::new(), None);
        for checked in released {
            wrong = self.admit(checked, now, local, &mut accepted)?;
            if wrong.is_some() {
                break;
            }
        }
        self.store(accepted, 0);
        if let Some(evidence) = wrong {
            self.convict(evidence);
        }
        Ok(())
    }

    pub(super) fn release_ripe<L: Local>(&mut self, now: Now, local: &L) -> Result<(), L::Error> {
        let ripe = self.incoming.quarantine.release_ripe(now.wall);
        self.readmit(ripe, now, local)
    }

    fn store(&mut self, commits: Vec<Accepted>, bytes: u64) {
        if commits.is_empty() {
            return self.give_back(bytes);
        }
        self.tally.stored += commits.len() as u64;
        let mut tips: HashMap<ChainId, Announced> = HashMap::new();
        for Accepted { commit, meta, .. } in &commits {
            let tip = Announced { id: commit.id(), chain: meta.chain, counter: meta.counter };
            let known = tips.entry(meta.chain).or_insert(tip);
            if known.counter < tip.counter {
                *known = tip;
            }
        }
        let mut tips: Vec<_> = tips.into_values().collect();
        tips.sort_unstable_by_key(|tip| tip.chain);
        let (batch, waited) = (self.take_batch(), std::mem::take(&mut self.incoming.carried));
        let ids = commits.iter().map(|accepted| accepted.commit.id()).collect();
        self.incoming.batches.insert(batch, Batch { ids, tips, bytes, waited });
        self.outputs.push_back(Output::Store { batch, commits });
    }

    /// Takes the receipt of a batch: the peer learns that it is durable here, and gets its credit back.
    pub(super) fn stored<L: Local>(&mut self, batch: u64, now: Now, local: &L) -> Result<(), L::Error> {
        let Some(Batch { ids, tips, bytes, waited }) = self.incoming.batches.remove(&batch) else {
            self.chunks_stored(batch, now);
            return Ok(());
        };
        ids.iter().for_each(|id| self.incoming.staged.remove(id));
        self.incoming.quarantine.left(waited);
        if !self.is_open() {
            return Ok(());
        }
        for tip in tips {
            // The store may have refused it: another exchange may have come first with a fork.
            if local.at(&tip.chain, tip.counter)? == Some(tip.id) {
                self.push.acknowledge(tip);
            }
        }
        self.give_back(bytes);
        self.check_covered(local);
        self.settle(now, local);
        Ok(())
    }

    /// Notes that payload is out of memory.
    pub(super) const fn give_back(&mut self, bytes: u64) {
        self.incoming.owed += bytes;
    }

    /// Returns credit for the peer. The window opens only as this is said: who does not listen cannot speak on.
    pub(super) fn next_credit(&mut self) -> Option<Message> {
        let bytes = self.incoming.owed;
        (bytes >= OWED).then(|| {
            self.incoming.owed = 0;
            self.incoming.window = self.incoming.window.saturating_add_unsigned(bytes);
            Message::Credit { bytes }
        })
    }
}

/// Returns the meta of a commit as if its missing ancestors did not matter.
fn rootless<L: Local>(commit: &Commit, graph: &Overlay<'_, L>) -> Result<Meta, L::Error> {
    let header = commit.header();
    let mut vector = VersionVector::default();
    for parent in &header.parents {
        if let Some(meta) = graph.meta(parent)? {
            vector.merge(&meta.vector);
        }
    }
    vector.raise(commit.chain(), header.counter);
    Ok(Meta { chain: commit.chain(), counter: header.counter, time: header.time, vector })
}
