//! Tokens to join with: one-time, expiring, and carrying the authority's fingerprint so that who joins knows whom.
//!
//! The store holds only the hash of a token, and which replica it let in. Law: a token lets in one replica; for that one it stays good, so
//! that who lost the answer can ask again. A release-wide token from a file may be used by many; it is the operator's to rotate.

use herdbook_model::{
    id::{Domain, ReplicaId},
    time::Time,
};
use herdbook_replica::{keys, node::authority_fingerprint as fingerprint};
use herdbook_store::{Batch, Durability, Store, Table};

/// What every token begins with.
const PREFIX: &str = "hb1";

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was never made here, or another replica joined with it.
    #[error("the token is not known here, or was used already: make another with `herdbook token create`")]
    Unknown,
    /// It expired.
    #[error("the token expired: make another with `herdbook token create`")]
    Expired,
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// Nobody joined with it yet.
    Unused,
    /// This replica joined with it, or began to.
    Taken(ReplicaId),
}

/// Makes a token that lets one replica in until `expires`, and notes its hash.
///
/// # Errors
/// Those of the store and of the system's random bytes.
pub fn create(store: &dyn Store, authority: &[u8; 32], expires: Time) -> Result<String, herdbook_replica::Error> {
    let secret: [u8; 24] = keys::random()?;
    let secret: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let token = format!("{PREFIX}-{}-{secret}", fingerprint(authority));
    let mut batch = Batch::new();
    batch.put(Table::Peers, key(&token), expires.raw().to_be_bytes().to_vec());
    store.records().write(batch, Durability::Durable)?;
    Ok(token)
}

/// Returns what a token is good for now.
///
/// # Errors
/// The outer error is the store's; the inner says why the token is not taken.
pub fn look_up(store: &dyn Store, token: &str, now: Time) -> Result<Result<Token, Refused>, herdbook_replica::Error> {
    let Some(record) = store.records().get(Table::Peers, &key(token))? else { return Ok(Err(Refused::Unknown)) };
    let Some((expires, taken)) = record.split_first_chunk::<8>() else { return Ok(Err(Refused::Unknown)) };
    if let Ok(replica) = ReplicaId::try_from(taken) {
        return Ok(Ok(Token::Taken(replica)));
    }
    Ok(if now.raw() > u64::from_be_bytes(*expires) { Err(Refused::Expired) } else { Ok(Token::Unused) })
}

/// Notes that `replica` joins with an unused token: no other can from here on.
///
/// # Errors
/// Those of the store.
pub fn take(store: &dyn Store, token: &str, replica: &ReplicaId) -> Result<(), herdbook_replica::Error> {
    let Some(record) = store.records().get(Table::Peers, &key(token))? else { return Ok(()) };
    let mut batch = Batch::new();
    batch.put(Table::Peers, key(token), [record.as_slice(), replica.as_bytes()].concat());
    store.records().write(batch, Durability::Durable)?;
    Ok(())
}

fn key(token: &str) -> Vec<u8> {
    [b"token/".as_slice(), &Domain::Digest.hash(&[b"token", token.as_bytes()])].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lets_one_replica_in_and_only_in_time() {
        let store = herdbook_store::MemoryStore::default();
        let (now, later) = (Time::from_millis(1_000), Time::from_millis(3_000));
        let token = create(&store, &[7; 32], Time::from_millis(2_000)).expect("store in memory");
        assert!(token.contains(&fingerprint(&[7; 32])));
        assert_eq!(look_up(&store, &token, now).expect("store"), Ok(Token::Unused));
        assert_eq!(look_up(&store, &token, later).expect("store"), Err(Refused::Expired));
        let alice = ReplicaId([1; 32]);
        take(&store, &token, &alice).expect("store");
        for time in [now, later] {
            assert_eq!(look_up(&store, &token, time).expect("store"), Ok(Token::Taken(alice)), "who lost the answer asks again");
        }
        assert_eq!(look_up(&store, "hb1-another", now).expect("store"), Err(Refused::Unknown));
    }
}
