//! A presented enrolment, checked from the root key alone: for nodes whose log is behind, or lost.

use herdbook_model::{
    authority::{Kind, Log, Role},
    id::{ReplicaId, RepositoryId},
};

use crate::message::Enrolment;

/// Why a presented enrolment proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One of the two entries belongs to another repository.
    #[error("the enrolment is of repository {found:?}, not {expected:?}")]
    OtherRepository {
        /// The repository asked about.
        expected: RepositoryId,
        /// The one it is of.
        found: RepositoryId,
    },
    /// The first entry does not open an epoch with a key that the root certified for it.
    #[error("the root did not certify the authority of epoch {epoch}")]
    NotCertified {
        /// The epoch.
        epoch: u64,
    },
    /// An entry is not signed by the authority of its epoch.
    #[error("entry {seq} is not signed by the authority of epoch {epoch}")]
    BadSignature {
        /// The entry's place.
        seq: u64,
        /// The epoch.
        epoch: u64,
    },
    /// The second entry does not enrol who presents it.
    #[error("entry {seq} does not enrol {replica:?}")]
    OtherReplica {
        /// The entry's place.
        seq: u64,
        /// Who presents it.
        replica: ReplicaId,
    },
}

/// Checks that `enrolment` enrols `replica` in `repository`, and returns what the member may do.
///
/// Whether it was revoked since is not in it: only the log tells.
///
/// # Errors
/// The first link of the chain root → authority → enrolment that does not hold.
pub fn verify(enrolment: &Enrolment, replica: ReplicaId, repository: RepositoryId, root: &[u8; 32]) -> Result<Role, Error> {
    let Enrolment { epoch: opening, entry } = enrolment;
    for found in [opening.repository, entry.repository] {
        if found != repository {
            return Err(Error::OtherRepository { expected: repository, found });
        }
    }
    let epoch = opening.epoch;
    let Kind::Epoch { certificate } = &opening.kind else { return Err(Error::NotCertified { epoch }) };
    let covers = (certificate.first_epoch..=certificate.last_epoch).contains(&epoch);
    if !covers || certificate.repository != repository || certificate.verify(root).is_err() {
        return Err(Error::NotCertified { epoch });
    }
    for signed in [opening, entry] {
        if signed.epoch != epoch || !signed.is_signed_by(&certificate.key) {
            return Err(Error::BadSignature { seq: signed.seq, epoch: signed.epoch });
        }
    }
    match &entry.kind {
        Kind::Enrol { replica: enrolled, role, .. } if *enrolled == replica && entry.seq > opening.seq => Ok(*role),
        _ => Err(Error::OtherReplica { seq: entry.seq, replica }),
    }
}

/// Returns what `replica` may do according to `log`, or, where the log does not reach that far, to the enrolment it presents.
pub fn role(log: &Log, replica: ReplicaId, presented: Option<&Enrolment>) -> Option<Role> {
    if let Some(member) = log.members().get(&replica) {
        return member.revoked.is_none().then_some(member.role);
    }
    let enrolment = presented?;
    // What the log covers and does not know as a member was never enrolled on this log.
    if log.entry_at(enrolment.entry.seq).is_some() {
        return None;
    }
    verify(enrolment, replica, log.repository(), &log.root()).ok()
}
