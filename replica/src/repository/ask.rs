//! What a caller asks of a repository, by names and values as the caller knows them.

use std::sync::Arc;

use herdbook_model::{
    document::{Dot, ListSplice, TextSplice},
    edit,
    id::{BranchName, ChainId, CommitId, Leaf, RequestKey, StateName},
    time::Time,
    value::{Key, Value},
};

/// Edits that are made together or not at all.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The branch; the promoted one if none.
    pub branch: Option<BranchName>,
    /// Idempotency key: the same key again gives the same answer and no second commit.
    pub key: RequestKey,
    /// Who asks: a user's or service's name; empty for the replica itself.
    pub principal: String,
    /// What must hold before.
    pub wanted: Vec<Wanted>,
    /// What to do, in order; a later edit sees the earlier ones.
    pub edits: Vec<DocumentEdit>,
    /// What its author says about it.
    pub message: String,
}

/// What must hold of a document before a request.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its collection.
    pub collection: String,
    /// Its key.
    pub key: Key,
    /// What must hold.
    pub must: herdbook_model::request::Must,
    /// Whether it must hold only where the request is made, so that it was worked out on what is there: then it is no part of the request, and a
    /// concurrent edit elsewhere merges with it.
    pub only_here: bool,
}

/// What is to happen to one document.
#[derive(Debug, Clone)]
pub struct DocumentEdit {
    /// Its collection.
    pub collection: String,
    /// Its key.
    pub key: Key,
    /// What happens.
    pub change: DocumentChange,
}

/// What happens to a document.
#[derive(Debug, Clone)]
pub enum DocumentChange {
    /// It holds exactly these fields afterwards, whether it existed or not.
    Put(Vec<(Arc<str>, Value)>),
    /// It comes into being with these fields; it must not exist.
    Create(Vec<(Arc<str>, Value)>),
    /// These fields change; it must exist.
    Update(Vec<(Arc<str>, FieldChange)>),
    /// It goes; it must exist.
    Delete,
    /// Exactly this happens, numbers and ids as the model has them. It must exist, or not exist for a create.
    Exact(edit::Operation),
}

/// What happens to a field.
#[derive(Debug, Clone)]
pub enum FieldChange {
    /// It holds exactly this afterwards. What merges by its parts changes by what differs, so that concurrent edits of other parts stay.
    Set(Value),
    /// It becomes absent.
    Clear,
    /// Elements are added to and removed from its set.
    Elements {
        /// What is added.
        add: Vec<Value>,
        /// What is removed.
        remove: Vec<Value>,
    },
    /// Entries are put into and removed from its map.
    Entries {
        /// What is put.
        put: Vec<(Arc<str>, Value)>,
        /// What is removed.
        remove: Vec<Arc<str>>,
    },
    /// Its counter counts on.
    Count {
        /// Whether it begins anew before that.
        reset: bool,
        /// What is added.
        add: i64,
    },
    /// Parts of its text are replaced, by positions in the text as it is.
    Text(Vec<TextSplice>),
    /// Parts of its list change, by positions in the list as it is.
    List(Vec<ListSplice>),
    /// Entries of its map change inside.
    Within(Vec<(Arc<str>, Self)>),
}

/// A request that is part of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The commit.
    pub commit: CommitId,
    /// Its place in the commit.
    pub request: u32,
    /// The branch.
    pub branch: BranchName,
    /// The commit's chain.
    pub chain: ChainId,
    /// The commit's place on it.
    pub counter: u64,
    /// The commit's time.
    pub time: Time,
    /// The state of the branch right after the commit, as this replica knew it.
    pub state: StateName,
    /// Whether it was made earlier, under the same idempotency key.
    pub repeated: bool,
}

impl Committed {
    /// Whether `dot` is one of the request's edits.
    pub fn is_own(&self, dot: &Dot) -> bool {
        dot.chain == self.chain && dot.counter == self.counter && dot.request() == self.request
    }
}

/// Returns the version of a document: the hash of its bytes, as preconditions name it.
pub fn version(document: &herdbook_model::document::Document) -> Leaf {
    use herdbook_model::codec::Encode as _;
    Leaf(herdbook_model::id::Domain::Digest.hash(&[&document.to_bytes()]))
}
