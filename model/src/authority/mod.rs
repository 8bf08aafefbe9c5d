//! The pure rules of authority: who may sign what, and the head log in which the authority orders it.
//!
//! Keys form a chain: root (in the genesis record) → authority key for a range of epochs → enrolment of a replica in the head log →
//! session certificate by the replica itself. Everything is checked here and nothing is signed here but by whoever holds the key.

mod certificate;
mod entry;
mod genesis;
mod log;

pub use certificate::{AuthorityCertificate, BadCertificate, SessionCertificate};
pub use entry::{Entry, Kind, Lost, REASON_ERASED, RequestRef, Role, SchemaAction, Void};
pub use genesis::Genesis;
pub use log::{Branch, BranchRule, Error, Horizon, Log, Member, Position, Status};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// Signs `message` with `key` (Ed25519, RFC 8032).
pub fn sign(key: &SigningKey, message: &[u8]) -> [u8; 64] {
    key.sign(message).to_bytes()
}

/// Whether `signature` is `key`'s over `message`, strictly: no small-order key, no second form.
pub fn is_signed(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}
