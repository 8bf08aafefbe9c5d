//! A parcel looked at alone: its certificate, signature, leaves and requests.

use herdbook_model::{
    authority::{RequestRef, SessionCertificate},
    commit::{Commit, Unverified},
    graph::Graph as _,
    id::{CommitId, Leaf, SessionId},
    request::Sealed,
};

use super::{Exchange, Plant, Received, ingest::MAX_NAMES, staged::Overlay, transfer::parcel_len};
use crate::{
    evidence::Fault,
    local::Local,
    message::{Parcel, Purpose, RequestBody},
};

/// A commit that is sound in itself.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) commit: Commit,
    pub(super) certificate: Option<SessionCertificate>,
    pub(super) requests: Vec<Received>,
    /// What it counts for, in bytes.
    pub(super) len: usize,
    /// What it counts for in the quarantine that it was released from; 0 if it did not wait.
    pub(super) waited: usize,
}

/// What became of a parcel that was looked at alone.
pub(super) enum Verdict {
    Known,
    Withheld(CommitId),
    Sound(Box<Checked>),
    Wrong(Fault),
}

impl Exchange {
    /// Looks at a parcel alone. What is known already is not verified again: its name is the hash of its header.
    pub(super) fn check<L: Local>(&mut self, parcel: Parcel, local: &L) -> Result<Verdict, L::Error> {
        let len = parcel_len(&parcel);
        let Parcel { commit, certificate, requests } = parcel;
        let (id, session) = (commit.id(), commit.header().session);
        let overlay = Overlay { local, staged: &self.incoming.staged };
        let is_known = overlay.at(&commit.chain(), commit.header().counter)? == Some(id);
        if is_known && !local.lacks_requests(&id)? || self.incoming.quarantine.contains(&id) {
            return Ok(Verdict::Known);
        }
        if commit.header().repository != self.repository {
            return Ok(Verdict::Wrong(Fault::OtherRepository));
        }
        let place = (commit.chain(), commit.header().counter);
        let may_lack = self.settings.purpose == Purpose::Recover || local.may_lack(&commit.header().branch, &place.0, place.1)?;
        let log = local.log();
        for (request, body) in (0..).zip(&requests) {
            let is_absent = matches!(body, RequestBody::Absent { .. });
            if is_absent && !may_lack && !log.skips(&RequestRef { commit: id, request }) {
                return Ok(if is_known { Verdict::Known } else { Verdict::Withheld(id) });
            }
        }
        let certificate = match self.certify(session, certificate, local)? {
            Ok(certificate) => certificate,
            Err(fault) => return Ok(Verdict::Wrong(fault)),
        };
        Ok(match verify(commit, requests, self.settings.has(Plant::AnyLeaf)) {
            Ok((commit, requests)) => Verdict::Sound(Box::new(Checked { commit, certificate, requests, len, waited: 0 })),
            Err(fault) => Verdict::Wrong(fault),
        })
    }

    /// Makes sure that the certificate of `session` is known and holds; returns it if it came just now or is not stored yet.
    fn certify<L: Local>(
        &mut self,
        session: SessionId,
        came: Option<SessionCertificate>,
        local: &L,
    ) -> Result<Result<Option<SessionCertificate>, Fault>, L::Error> {
        if let Some(certificate) = came.filter(|came| self.incoming.certificates.get(&session) != Some(came)) {
            if certificate.session != session || certificate.repository != self.repository {
                return Ok(Err(Fault::NoCertificate { session }));
            }
            if let Err(bad) = certificate.verify() {
                return Ok(Err(bad.into()));
            }
            if self.incoming.certificates.len() >= MAX_NAMES {
                self.incoming.certificates.clear();
            }
            self.incoming.certificates.insert(session, certificate);
        }
        if let Some(certificate) = self.incoming.certificates.get(&session) {
            return Ok(Ok(Some(certificate.clone())));
        }
        Ok(if local.certificate(&session)?.is_some() { Ok(None) } else { Err(Fault::NoCertificate { session }) })
    }
}

/// Checks signature, leaves and requests.
fn verify(commit: Commit<Unverified>, bodies: Vec<RequestBody>, any_leaf: bool) -> Result<(Commit, Vec<Received>), Fault> {
    let commit = commit.verify()?;
    let mut leaves: Vec<Leaf> = Vec::with_capacity(bodies.len());
    let mut requests = Vec::with_capacity(bodies.len());
    for (at, body) in bodies.into_iter().enumerate() {
        match body {
            RequestBody::Present(bytes) => {
                let sealed = Sealed::read(bytes).map_err(|source| Fault::Request { request: at, source })?;
                leaves.push(sealed.leaf());
                requests.push(Received::Present(sealed));
            }
            RequestBody::Absent { leaf, documents } => {
                leaves.push(leaf);
                requests.push(Received::Absent { leaf, documents });
            }
        }
    }
    if !any_leaf {
        commit.check_leaves(&leaves)?;
    }
    Ok((commit, requests))
}
