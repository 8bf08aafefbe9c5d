//! A value that was read: a view into its leaf, or a chunk of its own. Nothing is copied.

use std::{fmt, ops::Deref, sync::Arc};

use super::{Error, Fault, Node, Nodes, Slot};
use crate::{
    chunk::{self, Kind, Verified},
    id::ChunkId,
};

/// The bytes of a value. Cheap to clone; keeps the node or chunk in which it lies.
#[derive(Clone)]
pub struct Value(Place);

#[derive(Clone)]
enum Place {
    Leaf { node: Arc<Node>, index: usize },
    Chunk(Verified),
}

impl Value {
    /// Returns the value of entry `index` of a leaf.
    pub(super) fn load<N: Nodes + ?Sized>(nodes: &N, leaf: &Arc<Node>, index: usize) -> Result<Self, Error> {
        match leaf.slot(index) {
            Slot::Near(_) => Ok(Self(Place::Leaf { node: leaf.clone(), index })),
            Slot::Far { id, len } => Ok(Self(Place::Chunk(far(nodes, id, len)?))),
        }
    }
}

/// Returns the chunk of a far value, checked against its entry.
pub(super) fn far<N: Nodes + ?Sized>(nodes: &N, id: ChunkId, len: u64) -> Result<Verified, Error> {
    let chunk = nodes.value(&id)?;
    if chunk.kind() != Kind::Value {
        let source = chunk::Error::WrongKind { expected: Kind::Value, found: chunk.kind() };
        return Err(Error::Corrupt { id, source: source.into() });
    }
    let actual = chunk.payload().len() as u64;
    if actual != len {
        return Err(Error::Corrupt { id, source: Fault::ValueLength { expected: len, actual } });
    }
    Ok(chunk)
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Chunk(chunk) => chunk.payload(),
            Place::Leaf { node, index } => match node.slot(*index) {
                Slot::Near(bytes) => bytes,
                Slot::Far { .. } => unreachable!("a far value is loaded as a chunk"),
            },
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.len())
    }
}
