//! Page and resume tokens: a state that any replica can find again, and a place in it. Opaque to callers.
//!
//! A state name alone could be found only by who still remembers it; a token carries what the name is made of. The last four bytes
//! are a checksum, so that a token that was cut or mistyped is refused instead of read as another.

use bytes::Bytes;
use herdbook_model::{
    codec::{Decode as _, Encode as _, Error as Codec, Reader, Writer},
    commit::MAX_PARENTS,
    graph,
    id::{BranchName, CommitId, Domain, Judgement, StateName},
};

use crate::{Fault, Malformed, limits};

/// Format of tokens: the first byte of each.
const FORMAT: u8 = 1;

/// Bytes of the checksum.
const CHECK: usize = 4;

/// What a state name is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The branch.
    pub branch: BranchName,
    /// Heads of the frontier, sorted.
    pub heads: Vec<CommitId>,
    /// What replay skips.
    pub judgement: Judgement,
}

impl Anchor {
    /// Returns the name of the state.
    pub fn state(&self) -> StateName {
        graph::state_name(graph::name(&self.branch, &self.heads), self.judgement)
    }

    fn encode(&self, out: &mut Writer) {
        self.branch.encode(out);
        out.list(self.heads.iter());
        self.judgement.encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Codec> {
        let (branch, heads) = (BranchName::decode(input)?, input.list::<CommitId>(CommitId::LEN)?);
        if !heads.is_sorted_by(|a, b| a < b) {
            return Err(Codec::Order { what: "heads" });
        }
        Ok(Self { branch, heads, judgement: Judgement::decode(input)? })
    }
}

/// A place in a state, or the state as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The state.
    pub anchor: Anchor,
    /// After what to go on, in the form of whoever makes and reads the token, at most 2 KiB; empty: the state as a whole.
    pub after: Vec<u8>,
}

impl Token {
    /// Returns the token as it travels. `None` if the frontier has more heads than a token can carry: then the caller must fold them or do
    /// without.
    pub fn to_wire(&self) -> Option<Bytes> {
        let mut out = Writer::default();
        out.byte(FORMAT);
        self.anchor.encode(&mut out);
        out.bytes(&self.after);
        let check = checksum(out.as_bytes());
        out.raw(&check);
        (out.len() <= limits::TOKEN).then(|| out.into_bytes().into())
    }

    /// Reads a token that came back in `field`.
    ///
    /// # Errors
    /// [`Fault::BadToken`] if it is not one that [`Token::to_wire`] made.
    pub fn from_wire(field: &'static str, bytes: &[u8]) -> Result<Self, Malformed> {
        let bad = || Malformed::new(field, Fault::BadToken);
        let (content, check) = bytes.split_last_chunk::<CHECK>().ok_or_else(bad)?;
        if bytes.len() > limits::TOKEN || checksum(content) != *check {
            return Err(bad());
        }
        Self::decode(content).map_err(|_| bad())
    }

    fn decode(content: &[u8]) -> Result<Self, Codec> {
        let mut input = Reader::new(content);
        match input.byte()? {
            FORMAT => {}
            tag => return Err(Codec::Unknown { what: "token format", tag: tag.into() }),
        }
        let (anchor, after) = (Anchor::decode(&mut input)?, input.bytes()?.to_vec());
        input.end()?;
        Ok(Self { anchor, after })
    }
}

fn checksum(content: &[u8]) -> [u8; CHECK] {
    let hash = Domain::Digest.hash(&[content]);
    [hash[0], hash[1], hash[2], hash[3]]
}

const _: () = assert!(
    1 + 2 + BranchName::MAX + 2 + MAX_PARENTS * CommitId::LEN + Judgement::LEN + 2 + (2 << 10) + CHECK <= limits::TOKEN,
    "a state that a commit could follow fits in a token"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        let anchor = Anchor {
            branch: BranchName::new("main@1").expect("well formed"),
            heads: vec![CommitId([1; 32]), CommitId([2; 32])],
            judgement: Judgement::NONE,
        };
        Token { anchor, after: b"berlin".to_vec() }
    }

    #[test]
    fn a_token_comes_back_as_it_was() {
        let wire = token().to_wire().expect("two heads fit");
        assert_eq!(Token::from_wire("page_token", &wire), Ok(token()));
    }

    #[test]
    fn a_token_with_one_bit_changed_or_one_byte_cut_is_refused() {
        let wire = token().to_wire().expect("two heads fit").to_vec();
        for at in 0..wire.len() {
            let mut changed = wire.clone();
            changed[at] ^= 1;
            assert!(Token::from_wire("page_token", &changed).is_err(), "bit changed at {at}");
            assert!(Token::from_wire("page_token", &wire[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_frontier_of_too_many_heads_gets_no_token() {
        let mut token = token();
        token.anchor.heads = (0..=255).map(|at| CommitId([at; 32])).collect();
        assert_eq!(token.to_wire(), None);
    }
}
