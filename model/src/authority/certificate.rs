//! Certificates outside the head log: the root's for an authority key, a replica's for a session key.

use ed25519_dalek::SigningKey;

use super::{is_signed, sign};
use crate::{
    codec::{Decode, Encode, Error as Codec, Reader, Writer},
    id::{Domain, ReplicaId, RepositoryId, SessionId},
    time::Time,
};

/// A certificate whose signature does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the {what} is not signed by the key it names")]
pub struct BadCertificate {
    /// Which certificate.
    pub what: &'static str,
}

/// The root says: this key signs the head log in these epochs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityCertificate {
    /// The repository.
    pub repository: RepositoryId,
    /// The authority's public key (Ed25519).
    pub key: [u8; 32],
    /// First epoch it may sign.
    pub first_epoch: u64,
    /// Last epoch it may sign.
    pub last_epoch: u64,
    signature: [u8; 64],
}

impl AuthorityCertificate {
    /// Signs a certificate with the root key.
    pub fn sign(repository: RepositoryId, key: [u8; 32], epochs: (u64, u64), root: &SigningKey) -> Self {
        let mut certificate = Self { repository, key, first_epoch: epochs.0, last_epoch: epochs.1, signature: [0; 64] };
        certificate.signature = sign(root, &certificate.digest());
        certificate
    }

    /// Checks the root's signature.
    ///
    /// # Errors
    /// [`BadCertificate`].
    pub fn verify(&self, root: &[u8; 32]) -> Result<(), BadCertificate> {
        if is_signed(root, &self.digest(), &self.signature) { Ok(()) } else { Err(BadCertificate { what: "authority certificate" }) }
    }

    fn digest(&self) -> [u8; 32] {
        let mut out = Writer::default();
        out.text("authority");
        self.encode_body(&mut out);
        Domain::Certificate.hash(&[out.as_bytes()])
    }

    fn encode_body(&self, out: &mut Writer) {
        self.repository.encode(out);
        out.raw(&self.key);
        out.uint(self.first_epoch);
        out.uint(self.last_epoch);
    }
}

impl Encode for AuthorityCertificate {
    fn encode(&self, out: &mut Writer) {
        self.encode_body(out);
        out.raw(&self.signature);
    }
}

impl Decode for AuthorityCertificate {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        Ok(Self {
            repository: RepositoryId::decode(input)?,
            key: input.array()?,
            first_epoch: input.uint()?,
            last_epoch: input.uint()?,
            signature: input.array()?,
        })
    }
}

/// A replica says: this key signs commits in a session of mine. Made by the replica itself, offline too. The session's key signs as well, so
/// that nobody can claim another's session, and its commits, for a replica of his own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCertificate {
    /// The repository.
    pub repository: RepositoryId,
    /// The session's public key.
    pub session: SessionId,
    /// Whose session it is.
    pub replica: ReplicaId,
    /// When it began.
    pub began: Time,
    signature: [u8; 64],
    possession: [u8; 64],
}

impl SessionCertificate {
    /// Signs a certificate with the replica's key and the session's.
    pub fn sign(repository: RepositoryId, session: &SigningKey, began: Time, replica: &SigningKey) -> Self {
        let [session_id, replica_id] = [session, replica].map(|key| key.verifying_key().to_bytes());
        let (session_id, replica_id) = (SessionId(session_id), ReplicaId(replica_id));
        let empty = [0; 64];
        let mut certificate = Self { repository, session: session_id, replica: replica_id, began, signature: empty, possession: empty };
        certificate.signature = sign(replica, &certificate.digest("session"));
        certificate.possession = sign(session, &certificate.digest("possession"));
        certificate
    }

    /// Checks both signatures. Whether the replica is enrolled is the head log's to say.
    ///
    /// # Errors
    /// [`BadCertificate`].
    pub fn verify(&self) -> Result<(), BadCertificate> {
        if !is_signed(self.replica.as_bytes(), &self.digest("session"), &self.signature) {
            return Err(BadCertificate { what: "session certificate" });
        }
        if !is_signed(self.session.as_bytes(), &self.digest("possession"), &self.possession) {
            return Err(BadCertificate { what: "session certificate's proof of possession" });
        }
        Ok(())
    }

    fn digest(&self, signs: &str) -> [u8; 32] {
        let mut out = Writer::default();
        out.text(signs);
        self.encode_body(&mut out);
        Domain::Certificate.hash(&[out.as_bytes()])
    }

    fn encode_body(&self, out: &mut Writer) {
        self.repository.encode(out);
        self.session.encode(out);
        self.replica.encode(out);
        self.began.encode(out);
    }
}

impl Encode for SessionCertificate {
    fn encode(&self, out: &mut Writer) {
        self.encode_body(out);
        out.raw(&self.signature);
        out.raw(&self.possession);
    }
}

impl Decode for SessionCertificate {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        Ok(Self {
            repository: RepositoryId::decode(input)?,
            session: SessionId::decode(input)?,
            replica: ReplicaId::decode(input)?,
            began: Time::decode(input)?,
            signature: input.array()?,
            possession: input.array()?,
        })
    }
}
