//! The genesis record: its hash is the repository's name, so the root key is part of the name.

use crate::{
    codec::{Decode, Encode, Error, Reader, Writer},
    id::{Domain, RepositoryId},
    schema::limited,
    time::Time,
};

/// Where a repository begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// What people call the repository. At most 128 bytes.
    pub name: String,
    /// The root key (Ed25519): certifies authority keys, and nothing else.
    pub root: [u8; 32],
    /// When it was made.
    pub created: Time,
    /// Makes two repositories of one name and key differ.
    pub nonce: [u8; 16],
}

impl Genesis {
    /// Returns the repository's name.
    pub fn id(&self) -> RepositoryId {
        RepositoryId(Domain::Genesis.hash(&[&self.to_bytes()]))
    }
}

impl Encode for Genesis {
    fn encode(&self, out: &mut Writer) {
        out.byte(1);
        out.text(&self.name);
        out.raw(&self.root);
        self.created.encode(out);
        out.raw(&self.nonce);
    }
}

impl Decode for Genesis {
    fn decode(input: &mut Reader<'_>) -> Result<Self, Error> {
        match input.byte()? {
            1 => {}
            tag => return Err(Error::Unknown { what: "genesis format", tag: tag.into() }),
        }
        let name = input.text()?.to_owned();
        limited(name.len(), "repository's name", 128)?;
        Ok(Self { name, root: input.array()?, created: Time::decode(input)?, nonce: input.array()? })
    }
}
