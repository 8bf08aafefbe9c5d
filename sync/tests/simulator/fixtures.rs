//! A repository with an authority and members, and requests to fill it with.

use herdbook_model::{
    SigningKey,
    authority::{AuthorityCertificate, Entry, Genesis, Kind, Log, Role, SchemaAction},
    edit::{Change, Edit, FieldEdit, Operation},
    id::{BranchName, EntryId, ReplicaId, RepositoryId, RequestKey},
    request::{Group, Principal, Proof, Request},
    schema::{Collection, CollectionId, Deletes, Field, FieldId, FieldType, MERGE_RULES, Policy, ScalarType, Schema},
    time::Time,
    value::{Key, Scalar, Value},
};
use herdbook_sync::message::Enrolment;

use crate::rng::Rng;

/// When every simulation begins, by the wall clock.
pub(crate) const BEGIN: u64 = 1_700_000_000_000;

pub(crate) fn main() -> BranchName {
    BranchName::new("main@1").expect("well formed")
}

pub(crate) fn key(seed: u64) -> SigningKey {
    SigningKey::from_bytes(&Rng::new(seed ^ 0x5eed).bytes())
}

pub(crate) fn replica(key: &SigningKey) -> ReplicaId {
    ReplicaId(key.verifying_key().to_bytes())
}

pub(crate) fn schema() -> Schema {
    let field = |id, name: &str, ty, policy| Field::new(FieldId(id), name, ty, policy);
    let fields = vec![
        field(1, "title", FieldType::Scalar(ScalarType::String), Policy::LastWriter),
        field(2, "tags", FieldType::set(ScalarType::Int), Policy::AddWins),
        field(3, "owner", FieldType::Scalar(ScalarType::Int), Policy::Strict),
    ];
    let notes = Collection { id: CollectionId(1), name: "notes".into(), fields, next_field: 4, deletes: Deletes::EditWins };
    Schema { version: 1, merge_rules: MERGE_RULES, collections: vec![notes] }
}

/// The authority's keys and the log it has signed.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    pub(crate) root: SigningKey,
    pub(crate) signer: SigningKey,
    pub(crate) repository: RepositoryId,
    pub(crate) log: Log,
    pub(crate) entries: Vec<Entry>,
}

impl Authority {
    /// Opens a repository and its first epoch, starts the main branch and enrols `members`, the first as coordinator if `coordinated`.
    pub(crate) fn open(members: &[SigningKey], coordinated: bool) -> Self {
        let (root, signer) = (key(1_000_001), key(1_000_002));
        let genesis = Genesis { name: "herd".into(), root: root.verifying_key().to_bytes(), created: Time::ZERO, nonce: [7; 16] };
        let repository = genesis.id();
        let log = Log::new(repository, genesis.root);
        let mut authority = Self { root, signer, repository, log, entries: Vec::new() };
        authority.open_epoch(1);
        authority.sign(Kind::Schema { branch: main(), action: SchemaAction::Start { from: None, schema: schema() } });
        for (at, member) in members.iter().enumerate() {
            let role = if at == 0 && coordinated { Role::Coordinator } else { Role::Replica };
            authority.sign(Kind::Enrol { replica: replica(member), name: format!("replica {at}"), role });
        }
        authority
    }

    pub(crate) fn open_epoch(&mut self, epoch: u64) {
        let key = self.signer.verifying_key().to_bytes();
        let certificate = AuthorityCertificate::sign(self.repository, key, (1, 9), &self.root);
        let entry = self.entry(epoch, Kind::Epoch { certificate });
        self.append(entry);
    }

    pub(crate) fn sign(&mut self, kind: Kind) -> Entry {
        let entry = self.entry(self.log.newest().map_or(1, |newest| newest.epoch), kind);
        self.append(entry.clone());
        entry
    }

    /// Signs an entry on top of the log without taking it.
    pub(crate) fn entry(&self, epoch: u64, kind: Kind) -> Entry {
        let (seq, previous) = self.log.newest().map_or((0, None), |newest| (newest.seq + 1, Some(newest.id)));
        self.entry_at((epoch, seq, previous), kind)
    }

    pub(crate) fn entry_at(&self, place: (u64, u64, Option<EntryId>), kind: Kind) -> Entry {
        Entry::sign(self.repository, place, Time::from_millis(BEGIN + place.1), kind, &self.signer)
    }

    fn append(&mut self, entry: Entry) {
        self.log.extend(&entry).expect("the authority extends its own log");
        self.entries.push(entry);
    }

    pub(crate) fn enrolment(&self, of: &ReplicaId) -> Option<Enrolment> {
        let entry = self.entries.iter().find(|entry| matches!(&entry.kind, Kind::Enrol { replica, .. } if replica == of))?;
        Some(Enrolment { epoch: self.entries[0].clone(), entry: entry.clone() })
    }
}

/// Returns a request with a few edits of few documents, so that many are concurrent.
pub(crate) fn request(rng: &mut Rng, size: usize) -> Request {
    let mut edits = Vec::new();
    for _ in 0..=rng.below(2) {
        let key = Key::new(format!("note-{}", rng.below(6))).expect("short");
        let number = i64::try_from(rng.below(5)).expect("small");
        let title = format!("{}{}", rng.below(1000), "x".repeat(size));
        let change = match rng.below(5) {
            0 => Change::Elements { add: vec![Value::from(number)], remove: vec![Value::from(number + 5)] },
            1 => Change::Elements { add: vec![], remove: vec![Value::from(number)] },
            2 => Change::Set(Value::from(number)),
            _ => Change::Set(Value::from(title.as_str())),
        };
        let field = match &change {
            Change::Set(Value::Scalar(Scalar::String(_))) => FieldId(1),
            Change::Set(_) => FieldId(3),
            _ => FieldId(2),
        };
        let fields = vec![FieldEdit { field, change }];
        let operation = match rng.below(8) {
            0 => Operation::Delete,
            1 | 2 => Operation::Create(fields),
            _ => Operation::Update(fields),
        };
        edits.push(Edit { key, operation });
    }
    Request {
        key: RequestKey(rng.bytes()),
        principal: Principal { name: String::new(), proof: Proof::Session },
        preconditions: Vec::new(),
        groups: vec![Group { collection: CollectionId(1), salt: rng.bytes(), edits }],
    }
}

/// Returns a request of at least `bytes` bytes.
pub(crate) fn large(rng: &mut Rng, bytes: usize) -> Request {
    let mut request = request(rng, 10);
    let title = FieldEdit { field: FieldId(1), change: Change::Set(Value::from("x".repeat(bytes).as_str())) };
    let key = Key::new("large").expect("short");
    request.groups[0].edits = vec![Edit { key, operation: Operation::Create(vec![title]) }];
    request
}
