//! A document that concurrent edits make longer than a chunk: two of 600 KiB, each admitted, once ended every fold of every replica.
//! Whatever replay admits, a state folds, and other documents do not notice.

use std::sync::Arc;

use herdbook_model::{
    codec::Encode as _,
    document::MAX_LEN,
    migration::{Step, migrate},
    state::{State, compare},
    testutil::{ANIMALS, Herd, Replica, animal, branch, clear, create, delete, entries, key, schema, set, update, workload::Rng},
    time::Time,
    tree::{MemoryNodes, VALUE_MAX, audit},
    value::{Scalar, Value},
};

const KIB: usize = 1 << 10;

/// A text of `kib` KiB, another one for each `who`, without a short period.
fn text(kib: usize, who: u64) -> String {
    let mut rng = Rng::new(who);
    (0..kib * KIB / 8).map(|_| format!("{:08x}", rng.below(1 << 32))).collect()
}

/// Checks that `replica` folds to what a replay from nothing gives, that its trees are whole, and that bella is as she was.
fn folds(replica: &mut Replica) {
    replica.fold();
    for trees in replica.state().trees().values() {
        for tree in [trees.documents, trees.deleted, trees.conflicts] {
            audit(replica.nodes(), &tree).expect("whole and canonical");
        }
    }
    let (replayed, _) = replica.replayed(Arc::new(schema()));
    assert_eq!((replica.state().root(), replica.state().trees()), (replayed.root(), replayed.trees()));
    let bella = replica.view(ANIMALS, "bella").expect("alive");
    assert_eq!(bella.fields["name"], Value::Scalar(Scalar::from("Bella")));
}

/// A herd whose first member has brought bella, whom all know.
fn herd(count: usize) -> Herd {
    let mut herd = Herd::new(count);
    herd.commit(0, [(ANIMALS, create("bella", [set(animal::NAME, "Bella")]))]);
    herd.converge();
    herd
}

fn document_len(replica: &Replica, document: &str) -> usize {
    replica.document(ANIMALS, document).expect("kept").to_bytes().len()
}

#[test]
fn two_concurrent_edits_of_600_kib_each_fold_in_either_order() {
    let mut herd = herd(2);
    for who in 0..2 {
        let edit = update("alma", [set(animal::OWNER, text(600, who).as_str())]);
        assert!(edit.to_bytes().len() < MAX_LEN, "an edit that any writer would let pass");
        herd.commit(usize::try_from(who).expect("small"), [(ANIMALS, edit)]);
    }
    herd.converge();
    for replica in &mut herd.replicas {
        assert!(document_len(replica, "alma") > VALUE_MAX);
        folds(replica);
        let conflicts = replica.view(ANIMALS, "alma").expect("alive").conflicts;
        let owners: Vec<_> = conflicts[0].siblings.iter().map(|sibling| sibling.value.clone()).collect();
        assert_eq!(owners, [0, 1].map(|who| Some(Value::from(text(600, who).as_str()))));
        let in_conflict = replica.state().conflicts(replica.nodes(), ANIMALS).expect("nodes in memory are whole");
        assert_eq!(in_conflict, [key("alma")]);
    }
    assert_eq!(herd.replicas[0].state().root(), herd.replicas[1].state().root());

    herd.commit(0, [(ANIMALS, update("alma", [set(animal::OWNER, "ada")]))]);
    herd.commit(1, [(ANIMALS, delete("alma"))]);
    herd.converge();
    herd.replicas.iter_mut().for_each(folds);
    assert_eq!(herd.replicas[0].state().root(), herd.replicas[1].state().root());
    assert!(document_len(&herd.replicas[0], "alma") < KIB, "whoever saw both took both away");
}

#[test]
fn a_long_document_that_is_deleted_folds_among_the_deleted() {
    let mut herd = herd(2);
    for who in 0..2 {
        herd.commit(who, [(ANIMALS, update("alma", [set(animal::NAME, text(600, who as u64).as_str())]))]);
    }
    herd.converge();
    herd.replicas.iter_mut().for_each(folds);
    herd.commit(0, [(ANIMALS, delete("alma"))]);
    herd.converge();
    for replica in &mut herd.replicas {
        folds(replica);
        assert!(replica.view(ANIMALS, "alma").is_none());
        assert!(document_len(replica, "alma") > VALUE_MAX, "a concurrent edit could bring it back whole");
    }
}

#[test]
fn a_string_of_two_mib_folds_and_is_read_back() {
    let mut herd = herd(2);
    let long = text(2 * KIB, 1);
    herd.commit(1, [(ANIMALS, update("alma", [set(animal::NAME, long.as_str())]))]);
    herd.converge();
    for replica in &mut herd.replicas {
        folds(replica);
        assert_eq!(replica.view(ANIMALS, "alma").expect("alive").fields["name"], Value::Scalar(Scalar::from(long.as_str())));
        let scan = replica.state().scan(replica.nodes(), ANIMALS, "", None).expect("nodes in memory are whole");
        let keys: Vec<_> = scan.map(|entry| entry.expect("nodes in memory are whole").0).collect();
        assert_eq!(keys, [key("alma"), key("bella")]);
    }
}

#[test]
fn many_siblings_fold_in_any_order_sooner_or_later() {
    const COUNT: usize = 30;
    let mut herd = herd(COUNT);
    for who in 0..COUNT {
        let (owner, note) = (text(100, who as u64), text(1, who as u64));
        let fields = [set(animal::OWNER, owner.as_str()), entries(animal::YIELDS, [(note.as_str(), 7)], [])];
        herd.commit(who, [(ANIMALS, update("alma", fields))]);
    }
    let deliveries: Vec<_> = herd.replicas.iter().map(|replica| replica.deliveries().last().expect("there").clone()).collect();
    let first = herd.replicas[0].deliveries().next().expect("bella's").clone();
    let mut roots = Vec::new();
    for seed in 0..4 {
        let (mut rng, mut left) = (Rng::new(seed), deliveries.clone());
        let mut observer = Replica::new("observer", Arc::new(schema()));
        observer.receive(&first).expect("fits");
        while !left.is_empty() {
            observer.receive(&left.swap_remove(rng.index(left.len()))).expect("fits");
            if rng.below(1 + seed) > 0 {
                observer.fold();
            }
        }
        assert!(document_len(&observer, "alma") > 2 * VALUE_MAX);
        folds(&mut observer);
        assert_eq!(observer.view(ANIMALS, "alma").expect("alive").conflicts[0].siblings.len(), COUNT);
        roots.push(observer.state().root());
    }
    assert!(roots.iter().all(|root| root.is_some() && *root == roots[0]), "{roots:?}");
}

#[test]
fn a_long_document_is_compared_and_migrated() {
    let mut alice = Replica::new("alice", Arc::new(schema()));
    let edit = |name: &str| (ANIMALS, update("alma", [set(animal::NAME, name), set(animal::OWNER, "ada")]));
    alice.commit(Time::from_millis(1), [edit(&text(2 * KIB, 1))]);
    let old = alice.state().clone();
    alice.fold();
    alice.commit(Time::from_millis(2), [(ANIMALS, update("alma", [clear(animal::EARMARK)]))]);
    let changes = compare(alice.nodes(), &old, alice.state(), ANIMALS, "", 9).expect("nodes in memory are whole");
    assert_eq!(changes.iter().map(|change| change.key.clone()).collect::<Vec<_>>(), [key("alma")]);

    let step = Step::Drop { collection: "animals".to_owned(), field: "owner".to_owned() };
    let next = Arc::new(migrate(&schema(), &[step]).expect("a field of the schema"));
    let (migrated, _) = alice.state().migrated(alice.nodes(), branch(), next.clone()).expect("nodes in memory are whole");
    let (replayed, _): (State, MemoryNodes) = alice.replayed(next);
    assert_eq!((migrated.root(), migrated.trees()), (replayed.root(), replayed.trees()));
}
