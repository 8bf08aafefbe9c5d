//! Tokens to join with: one-time, expiring, and carrying the authority's fingerprint so that who joins knows whom.
//!
//! The store holds only the hash of a token. A release-wide token from a file may be used again and again; it is the operator's to rotate.

use herdbook_model::{id::Domain, time::Time};
use herdbook_replica::{keys, node::authority_fingerprint as fingerprint};
use herdbook_store::{Batch, Durability, Store, Table};

/// What every token begins with.
const PREFIX: &str = "hb1";

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It was never made here, or was used.
    #[error("the token is not known here, or was used already: make another with `herdbook token create`")]
    Unknown,
    /// It expired.
    #[error("the token expired: make another with `herdbook token create`")]
    Expired,
}

/// Makes a token that may be used once until `expires`, and notes its hash.
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

/// Takes a token out of use if it may be used now.
///
/// # Errors
/// The outer error is the store's; the inner says why the token is not taken.
pub fn redeem(store: &dyn Store, token: &str, now: Time) -> Result<Result<(), Refused>, herdbook_replica::Error> {
    let Some(expires) = store.records().get(Table::Peers, &key(token))? else { return Ok(Err(Refused::Unknown)) };
    let mut batch = Batch::new();
    batch.delete(Table::Peers, key(token));
    store.records().write(batch, Durability::Durable)?;
    let expires = expires.try_into().map(u64::from_be_bytes).unwrap_or(0);
    Ok(if now.raw() > expires { Err(Refused::Expired) } else { Ok(()) })
}

fn key(token: &str) -> Vec<u8> {
    [b"token/".as_slice(), &Domain::Digest.hash(&[b"token", token.as_bytes()])].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_once_and_only_in_time() {
        let store = herdbook_store::MemoryStore::default();
        let now = Time::from_millis(1_000);
        let token = create(&store, &[7; 32], Time::from_millis(2_000)).expect("store in memory");
        assert!(token.contains(&fingerprint(&[7; 32])));
        assert_eq!(redeem(&store, &token, now).expect("store"), Ok(()));
        assert_eq!(redeem(&store, &token, now).expect("store"), Err(Refused::Unknown));
        let late = create(&store, &[7; 32], now).expect("store");
        assert_eq!(redeem(&store, &late, Time::from_millis(3_000)).expect("store"), Err(Refused::Expired));
    }
}
