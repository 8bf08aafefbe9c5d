//! A value that was read: a view into its leaf, or a chunk of its own; nothing is copied. One in parts is put together once.

use std::{fmt, ops::Deref, sync::Arc};

use super::{Error, Node, Nodes, Slot, VALUE_MAX, parts::Part};
use crate::chunk::Verified;

/// The bytes of a value. Cheap to clone; keeps the node or chunk in which it lies, or the bytes that its parts make.
#[derive(Clone)]
pub struct Value(Place);

#[derive(Clone)]
enum Place {
    Leaf { node: Arc<Node>, index: usize },
    Chunk(Verified),
    Parts(Arc<Vec<u8>>),
}

impl Value {
    /// Returns the value of entry `index` of a leaf.
    pub(super) fn load<N: Nodes + ?Sized>(nodes: &N, leaf: &Arc<Node>, index: usize) -> Result<Self, Error> {
        match leaf.slot(index) {
            Slot::Near(_) => Ok(Self(Place::Leaf { node: leaf.clone(), index })),
            Slot::Far { id, len } if len <= VALUE_MAX as u64 => Ok(Self(Place::Chunk(Part { id, len }.open(nodes)?))),
            Slot::Far { id, len } => Ok(Self(Place::Parts(Arc::new(Part { id, len }.join(nodes)?)))),
        }
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Chunk(chunk) => chunk.payload(),
            Place::Parts(bytes) => bytes,
            Place::Leaf { node, index } => match node.slot(*index) {
                Slot::Near(bytes) => bytes,
                Slot::Far { .. } => unreachable!("a far value is loaded from its chunks"),
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
