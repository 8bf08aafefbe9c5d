//! Laws of the tree, against `BTreeMap` as the model.

use std::{cell::Cell, collections::BTreeMap, ops::Bound, sync::Arc};

use proptest::{collection::vec, prelude::*, sample::select};

use super::{
    Applied, Change, Cursor, Error, Fault, Keys, MemoryNodes, Node, Nodes, Tree, audit, builder::Builder, diff, reach::added_chunks,
    reachable, slot::Totals, splitter,
};
use crate::{
    chunk::{Kind, Verified},
    codec::{Decode as _, Encode as _},
    id::ChunkId,
};

type Content = BTreeMap<Vec<u8>, Vec<u8>>;
type Edits = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

const GOLD: u64 = 0x9e37_79b9_7f4a_7c15;

struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLD);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> usize {
        usize::try_from(self.next() % n).expect("small")
    }
}

/// Which keys and values a content has: short keys make wide trees, long ones tall trees.
#[derive(Debug, Clone, Copy)]
enum Shape {
    Documents,
    LongKeys,
    LargeValues,
}

impl Shape {
    fn key(self, draws: &mut Draws, space: u64) -> Vec<u8> {
        let number = draws.below(space);
        match self {
            Self::Documents => format!("doc/{number:08}").into_bytes(),
            Self::LongKeys => {
                let mut key = format!("{number:06}").into_bytes();
                key.resize(6 + 200 + number * 7919 % 800, b'k');
                key
            }
            Self::LargeValues => format!("{number:x}").into_bytes(),
        }
    }

    fn value(self, draws: &mut Draws) -> Vec<u8> {
        let len = match self {
            Self::Documents => 100 + draws.below(40),
            Self::LongKeys => draws.below(10),
            Self::LargeValues => [0, 1, 500, 2047, 2048, 2049, 5000, 20_000][draws.below(8)],
        };
        let byte = draws.next().to_le_bytes()[0];
        vec![byte; len]
    }

    fn content(self, draws: &mut Draws, len: usize) -> Content {
        (0..len).map(|_| (self.key(draws, 4 * len as u64), self.value(draws))).collect()
    }

    /// Changes, inserts, deletes, deletes of what is not there, now and then of a whole run.
    fn edits(self, draws: &mut Draws, content: &Content, len: usize) -> Edits {
        let mut edits = Edits::new();
        let keys: Vec<_> = content.keys().cloned().collect();
        for _ in 0..len {
            match draws.below(10) {
                0..4 if !keys.is_empty() => {
                    let key = keys[draws.below(keys.len() as u64)].clone();
                    let value = if draws.below(2) == 0 { vec![7; content[&key].len()] } else { self.value(draws) };
                    edits.insert(key, Some(value));
                }
                4..6 if !keys.is_empty() => {
                    edits.insert(keys[draws.below(keys.len() as u64)].clone(), None);
                }
                6 => {
                    edits.insert(self.key(draws, 4 * content.len() as u64 + 10), None);
                }
                7 if !keys.is_empty() && draws.below(10) == 0 => {
                    let start = draws.below(keys.len() as u64);
                    edits.extend(keys[start..].iter().take(draws.below(300)).map(|key| (key.clone(), None)));
                }
                _ => {
                    edits.insert(self.key(draws, 4 * content.len() as u64 + 10), Some(self.value(draws)));
                }
            }
        }
        edits
    }
}

fn overlay(content: &mut Content, edits: &Edits) {
    for (key, value) in edits {
        match value {
            Some(value) => content.insert(key.clone(), value.clone()),
            None => content.remove(key),
        };
    }
}

fn build(nodes: &mut MemoryNodes, content: &Content) -> Tree {
    let Applied { tree, added } = Tree::build(content).expect("well-formed content");
    nodes.extend(added).expect("well-formed nodes");
    tree
}

fn apply(nodes: &mut MemoryNodes, tree: &Tree, edits: &Edits) -> Tree {
    let Applied { tree, added } = tree.apply(nodes, edits.iter().map(|(k, v)| (k, v.as_ref()))).expect("well-formed edits");
    nodes.extend(added).expect("well-formed nodes");
    tree
}

fn entries(nodes: &MemoryNodes, tree: &Tree, keys: &Keys) -> Content {
    tree.range(nodes, keys)
        .expect("root")
        .map(|entry| entry.map(|(key, value)| (key, value.to_vec())))
        .collect::<Result<_, _>>()
        .expect("entries")
}

fn changes(nodes: &MemoryNodes, old: &Tree, new: &Tree, keys: &Keys) -> Vec<Change> {
    diff(nodes, old, nodes, new, keys).expect("roots").collect::<Result<_, _>>().expect("changes")
}

fn documents(len: u32) -> Content {
    (0..len)
        .map(|i| (format!("doc/{i:08x}").into_bytes(), format!("{{\"id\":{i},\"name\":\"document {}\"}}", i * 31).into_bytes()))
        .collect()
}

fn shapes() -> impl Strategy<Value = Shape> {
    select(vec![Shape::Documents, Shape::LongKeys, Shape::LargeValues])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn prop_same_content_same_tree_however_it_was_reached(seed: u64, shape in shapes(), len in 0usize..1500, batches in vec(1usize..200, 0..6)) {
        let mut draws = Draws(seed);
        let mut nodes = MemoryNodes::default();
        let mut content = shape.content(&mut draws, len);
        let mut tree = build(&mut nodes, &content);
        for batch in batches {
            let edits = shape.edits(&mut draws, &content, batch);
            overlay(&mut content, &edits);
            tree = apply(&mut nodes, &tree, &edits);
            prop_assert_eq!(tree, Tree::build(&content).expect("content").tree);
        }
        prop_assert_eq!(tree.count(), content.len() as u64);
        prop_assert_eq!(tree.bytes(), content.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>());
        prop_assert_eq!(&entries(&nodes, &tree, &Keys::all()), &content);
        audit(&nodes, &tree).expect("canonical");
    }

    #[test]
    fn prop_order_of_inserts_and_detours_do_not_matter(seed: u64, shape in shapes(), len in 1usize..300) {
        let mut draws = Draws(seed);
        let content = shape.content(&mut draws, len);
        let detour = shape.content(&mut draws, len / 3);
        let mut steps: Vec<_> = content.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        for i in (1..steps.len()).rev() {
            steps.swap(i, draws.below(i as u64 + 1));
        }
        let mut nodes = MemoryNodes::default();
        let mut tree = build(&mut nodes, &detour);
        for (key, value) in steps {
            tree = apply(&mut nodes, &tree, &Edits::from([(key, value)]));
        }
        let back = detour.into_keys().filter(|key| !content.contains_key(key)).map(|key| (key, None)).collect();
        tree = apply(&mut nodes, &tree, &back);
        prop_assert_eq!(tree, Tree::build(&content).expect("content").tree);
        let nothing = content.into_keys().map(|key| (key, None)).collect();
        prop_assert_eq!(apply(&mut nodes, &tree, &nothing), Tree::empty());
    }

    #[test]
    fn prop_diff_is_the_difference_and_leads_to_the_other_side(seed: u64, shape in shapes(), len in 0usize..1500, batch in 0usize..300) {
        let mut draws = Draws(seed);
        let mut nodes = MemoryNodes::default();
        let before = shape.content(&mut draws, len);
        let mut after = before.clone();
        overlay(&mut after, &shape.edits(&mut draws, &before, batch));
        let (old, new) = (build(&mut nodes, &before), build(&mut nodes, &after));
        let bounds = (shape.key(&mut draws, 4 * len as u64 + 1), shape.key(&mut draws, 4 * len as u64 + 1));
        let part = Keys::between(Bound::Excluded(&bounds.0), Bound::Included(&bounds.1));
        let mut bounds = [&before, &after].map(|content| content.keys().nth(draws.below(content.len() as u64 + 1)).cloned().unwrap_or_default());
        bounds.sort();
        let between_keys = Keys::between(Bound::Included(&bounds[0]), Bound::Excluded(&bounds[1]));
        for keys in [Keys::all(), part, between_keys] {
            let within = |key: &&Vec<u8>| key.as_slice() >= keys.from() && keys.to().is_none_or(|to| key.as_slice() < to);
            let mut expected: Vec<_> = before.keys().chain(after.keys()).filter(within).filter(|key| before.get(*key) != after.get(*key)).cloned().collect();
            expected.sort();
            expected.dedup();
            let found = changes(&nodes, &old, &new, &keys);
            prop_assert_eq!(found.iter().map(|change| change.key.clone()).collect::<Vec<_>>(), expected);
            for change in &found {
                prop_assert_eq!(change.old.as_deref(), before.get(&change.key).map(Vec::as_slice));
                prop_assert_eq!(change.new.as_deref(), after.get(&change.key).map(Vec::as_slice));
            }
        }
        let found = changes(&nodes, &old, &new, &Keys::all());
        let there = found.iter().map(|change| (&change.key, change.new.as_ref()));
        prop_assert_eq!(old.apply(&nodes, there).expect("sorted").tree, new);
        let back = found.iter().map(|change| (&change.key, change.old.as_ref()));
        prop_assert_eq!(new.apply(&nodes, back).expect("sorted").tree, old);
    }

    #[test]
    fn prop_added_chunks_are_exactly_the_nodes_that_the_old_tree_lacks(seed: u64, shape in shapes(), len in 0usize..1500, batch in 0usize..300) {
        let mut draws = Draws(seed);
        let mut nodes = MemoryNodes::default();
        let before = shape.content(&mut draws, len);
        let edits = shape.edits(&mut draws, &before, batch);
        let old = build(&mut nodes, &before);
        let new = apply(&mut nodes, &old, &edits);
        let ids = |tree: &Tree| reachable(&nodes, tree).collect::<Result<std::collections::BTreeSet<_>, _>>().expect("chunks");
        let is_node = |id: &ChunkId| nodes.node(id).is_ok();
        let (have, want) = (ids(&old), ids(&new));
        let added: Vec<_> = added_chunks(&nodes, &old, &nodes, &new).expect("roots").collect::<Result<_, _>>().expect("chunks");
        let lacking: Vec<_> = want.difference(&have).copied().collect();
        prop_assert!(lacking.iter().all(|id| added.contains(id)));
        prop_assert!(added.iter().all(|id| want.contains(id)));
        prop_assert!(added.iter().filter(|id| is_node(id)).all(|id| !have.contains(id)));
    }

    #[test]
    fn prop_apply_returns_exactly_the_nodes_that_were_lacking(seed: u64, shape in shapes(), len in 0usize..1000, batch in 0usize..200) {
        let mut draws = Draws(seed);
        let mut nodes = MemoryNodes::default();
        let before = shape.content(&mut draws, len);
        let edits = shape.edits(&mut draws, &before, batch);
        let old = build(&mut nodes, &before);
        let Applied { tree: new, added } = old.apply(&nodes, edits).expect("sorted");
        let mut returned: Vec<_> = added.iter().filter(|chunk| chunk.kind() != Kind::Value).map(Verified::id).collect();
        nodes.extend(added).expect("nodes");
        let lacking = added_chunks(&nodes, &old, &nodes, &new).expect("roots").collect::<Result<Vec<_>, _>>().expect("chunks");
        let mut lacking: Vec<_> = lacking.into_iter().filter(|id| nodes.node(id).is_ok()).collect();
        returned.sort();
        lacking.sort();
        prop_assert_eq!(returned, lacking);
    }

    #[test]
    fn prop_reads_agree_with_a_map(seed: u64, shape in shapes(), len in 0usize..1500) {
        let mut draws = Draws(seed);
        let mut nodes = MemoryNodes::default();
        let content = shape.content(&mut draws, len);
        let tree = build(&mut nodes, &content);
        for _ in 0..30 {
            let (low, high) = (shape.key(&mut draws, 4 * len as u64 + 1), shape.key(&mut draws, 4 * len as u64 + 1));
            let value = tree.get(&nodes, &low).expect("nodes");
            prop_assert_eq!(value.as_deref(), content.get(&low).map(Vec::as_slice));
            prop_assert_eq!(tree.rank(&nodes, &low).expect("nodes"), content.range(..low.clone()).count() as u64);
            let keys = Keys::between(Bound::Included(&low), Bound::Excluded(&high));
            let expected: Content = content.iter().filter(|(key, _)| **key >= low && **key < high).map(|(k, v)| (k.clone(), v.clone())).collect();
            prop_assert_eq!(tree.count_in(&nodes, &keys).expect("nodes"), expected.len() as u64);
            prop_assert_eq!(entries(&nodes, &tree, &keys), expected);
            let prefix = &low[..low.len().min(6)];
            let under = Keys::prefix(prefix);
            prop_assert_eq!(tree.count_in(&nodes, &under).expect("nodes"), content.keys().filter(|key| key.starts_with(prefix)).count() as u64);
            let offset = draws.below(len as u64 + 2);
            let nth = tree.nth(&nodes, offset as u64).expect("nodes").map(|(key, value)| (key, value.to_vec()));
            prop_assert_eq!(nth, content.iter().nth(offset).map(|(k, v)| (k.clone(), v.clone())));
            let mut cursor = Cursor::seek(&nodes, &tree, &low).expect("nodes");
            cursor.advance_to(&high).expect("nodes");
            prop_assert_eq!(cursor.key(), content.range(low.clone().max(high.clone())..).next().map(|(key, _)| key.clone()));
        }
    }

    #[test]
    fn prop_random_bytes_never_panic_and_a_node_has_one_form(level in 0u8..3, mut bytes in vec(any::<u8>(), 0..80)) {
        if let Some(first) = bytes.first_mut() {
            *first = level;
        }
        check_one_form(if level == 0 { Kind::Leaf } else { Kind::Inner }, &bytes)?;
    }

    #[test]
    fn prop_a_changed_byte_never_panics_and_a_node_has_one_form(seed: u64, shape in shapes(), flips in 1usize..4) {
        let mut draws = Draws(seed);
        let content = shape.content(&mut draws, 120);
        for chunk in Tree::build(&content).expect("content").added.into_iter().filter(|chunk| chunk.kind() != Kind::Value) {
            let mut bytes = chunk.payload().to_vec();
            for _ in 0..flips {
                // Half of the changes hit the header and the offsets, where they hurt most.
                let reach = if draws.below(2) == 0 { bytes.len().min(40) } else { bytes.len() };
                let at = draws.below(reach as u64);
                bytes[at] = draws.next().to_le_bytes()[0];
            }
            check_one_form(chunk.kind(), &bytes)?;
            bytes.truncate(draws.below(bytes.len() as u64 + 1));
            check_one_form(chunk.kind(), &bytes)?;
        }
    }

    #[test]
    fn prop_a_lying_child_is_corrupt_and_never_panics(seed: u64, shape in shapes(), victim: usize) {
        let mut draws = Draws(seed);
        let content = shape.content(&mut draws, 400);
        let Applied { tree, added } = Tree::build(&content).expect("content");
        let mut ids: Vec<_> = added.iter().filter(|chunk| chunk.kind() != Kind::Value).map(Verified::id).collect();
        let mut nodes = MemoryNodes::default();
        nodes.extend(added).expect("nodes");
        // Another node of the same tree stands in the place of one.
        ids.sort();
        let (victim, double) = (ids[victim % ids.len()], ids[draws.below(ids.len() as u64)]);
        let lying = Swapped { nodes: &nodes, victim, double };
        let read: Result<Vec<_>, _> = tree.range(&lying, &Keys::all()).and_then(Iterator::collect);
        prop_assert_eq!(read.is_err(), victim != double);
        prop_assert_eq!(audit(&lying, &tree).is_err(), victim != double);
        let edits = shape.edits(&mut draws, &content, 50);
        let _ = tree.apply(&lying, edits);
        let _ = diff(&lying, &tree, &nodes, &Tree::empty(), &Keys::all()).map(Iterator::count);
    }
}

/// A source of nodes that gives one in place of another.
struct Swapped<'n> {
    nodes: &'n MemoryNodes,
    victim: ChunkId,
    double: ChunkId,
}

impl Nodes for Swapped<'_> {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, Error> {
        self.nodes.node(if *id == self.victim { &self.double } else { id })
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, Error> {
        self.nodes.value(id)
    }
}

/// A source of nodes that counts what is read.
struct Counted<'n> {
    nodes: &'n MemoryNodes,
    reads: Cell<usize>,
}

impl Nodes for Counted<'_> {
    fn node(&self, id: &ChunkId) -> Result<Arc<Node>, Error> {
        self.reads.set(self.reads.get() + 1);
        self.nodes.node(id)
    }

    fn value(&self, id: &ChunkId) -> Result<Verified, Error> {
        self.nodes.value(id)
    }
}

/// What decodes is what the builder makes of its entries.
fn check_one_form(kind: Kind, payload: &[u8]) -> Result<(), TestCaseError> {
    let Ok(node) = Node::decode(Verified::new(kind, payload).expect("short")) else {
        return Ok(());
    };
    if node.is_empty() {
        prop_assert_eq!(node.id(), Tree::empty().root());
        return Ok(());
    }
    let mut builder = Builder::new(node.level());
    for index in 0..node.len() {
        builder.keep_untested(&node, index);
        prop_assert_eq!(node.search(&node.key(index)), Ok(index));
    }
    let made = builder.finish();
    prop_assert_eq!(made.chunk.payload(), payload);
    prop_assert_eq!(Totals { count: made.child.count, bytes: made.child.bytes }, node.totals());
    Ok(())
}

#[test]
fn golden_roots() {
    let small = Tree::build([("a", "1"), ("ab", ""), ("b", "three")]).expect("content");
    assert_eq!(hex(small.added[0].payload()), "00 0300 0000 010003000400 0200030009 00 61 6162 62 00 31 00 00 7468726565".replace(' ', ""));
    assert_eq!(small.tree.root().to_string(), "84861cb6982c7a2d74a6848e48c50a5e0157a14871f2a15956f341a56c2c5c40");
    let large = Tree::build(&documents(5000)).expect("content").tree;
    assert_eq!(large.root().to_string(), "d3293e9bb66b91c066b1c7423f3f25ad82ba7f3dcf4f1b47012468a36c633ebe");
    assert_eq!((large.level(), large.count(), large.bytes()), (2, 5000, 235_303));
    assert_eq!(Tree::empty().root().to_string(), "1ff5c564ec620b85830a6df5cbf97f84977cd63c3af578ed16679cfa2185525c");
}

#[test]
fn a_tree_round_trips_and_two_forms_of_the_empty_tree_are_refused() {
    for tree in [Tree::empty(), Tree::build(&documents(1)).expect("content").tree, Tree::build(&documents(5000)).expect("content").tree] {
        assert_eq!(Tree::from_bytes(&tree.to_bytes()).expect("tree"), tree);
    }
    let mut forged = Tree::empty().to_bytes();
    forged[32] = 1;
    assert!(Tree::from_bytes(&forged).is_err());
    let mut forged = Tree::build(&documents(1)).expect("content").tree.to_bytes();
    forged[33] = 0;
    assert!(Tree::from_bytes(&forged).is_err());
}

#[test]
fn a_change_rewrites_a_path_and_nothing_else() {
    let mut nodes = MemoryNodes::default();
    let content = documents(10_000);
    let tree = build(&mut nodes, &content);
    let counted = Counted { nodes: &nodes, reads: Cell::new(0) };
    let (mut added, mut most) = (0, 0);
    for i in 0..1000 {
        let key = format!("doc/{:08x}", i * 7 % 10_000);
        let edit = [(key.as_bytes(), (i % 3 > 0).then(|| vec![b'x'; 20 + i % 40]))];
        let chunks = tree.apply(&counted, edit).expect("edit").added.len();
        added += chunks;
        most = most.max(chunks);
    }
    let path = usize::from(tree.level()) + 1;
    assert!(added <= 1000 * (path + 1), "{added} chunks for 1,000 edits");
    assert!(most <= 16, "{most} chunks for one edit");
    assert!(counted.reads.get() <= 1000 * 4 * path, "{} nodes read", counted.reads.get());
}

#[test]
fn a_diff_reads_what_differs_and_nothing_else() {
    let mut nodes = MemoryNodes::default();
    let tree = build(&mut nodes, &documents(20_000));
    let edits = Edits::from([(b"doc/00000100".to_vec(), Some(vec![1])), (b"doc/00001000x".to_vec(), Some(vec![2; 400]))]);
    let other = apply(&mut nodes, &tree, &edits);
    let counted = Counted { nodes: &nodes, reads: Cell::new(0) };
    let found = diff(&counted, &tree, &counted, &other, &Keys::all()).expect("roots").count();
    assert_eq!(found, 2);
    assert!(counted.reads.get() < 40, "{} nodes read", counted.reads.get());
}

#[test]
fn a_diff_skips_what_was_only_shifted() {
    let mut nodes = MemoryNodes::default();
    let small = documents(20_000);
    let mut large = small.clone();
    // So much before the old first key that the tree grows and all positions move.
    large.extend((0..20_000).map(|i| (format!("a/{i:08x}").into_bytes(), vec![b'v'; 100])));
    let (small, large) = (build(&mut nodes, &small), build(&mut nodes, &large));
    let counted = Counted { nodes: &nodes, reads: Cell::new(0) };
    assert_eq!(diff(&counted, &small, &counted, &large, &Keys::prefix(b"doc/")).expect("roots").count(), 0);
    assert!(counted.reads.get() < 60, "{} nodes read", counted.reads.get());
}

#[test]
fn nodes_are_about_the_target_and_never_above_the_maximum() {
    let leaves: Vec<_> =
        Tree::build(&documents(20_000)).expect("content").added.into_iter().filter(|chunk| chunk.kind() == Kind::Leaf).collect();
    let weights: Vec<u64> = leaves
        .into_iter()
        .map(|chunk| Node::decode(chunk).expect("node"))
        .map(|node| (0..node.len()).map(|i| node.weight(i)).sum())
        .collect();
    let mean = weights.iter().sum::<u64>() / weights.len() as u64;
    assert!((3800..4400).contains(&mean), "{mean}");
    assert!(weights.iter().all(|weight| *weight <= splitter::MAX));
}

#[test]
fn chosen_keys_make_neither_huge_nodes_nor_chains() {
    // Eve keeps only keys whose entry never ends a leaf, and only keys that always do.
    let never: Content = (0..60_000u32)
        .map(|i| i.to_be_bytes().to_vec())
        .filter(|key| !splitter::is_boundary(0, key, 3800, 3900))
        .map(|key| (key, vec![0; 90]))
        .collect();
    let always: Content = (0..60_000u32)
        .map(|i| [&[b'k'; 1000][..], &i.to_be_bytes()].concat())
        .filter(|key| splitter::is_boundary(0, key, 0, 3000) && (1..3).all(|level| splitter::is_boundary(level, key, 1052, 2104)))
        .map(|key| (key, vec![0; 1991]))
        .collect();
    assert!(always.len() > 8, "{}", always.len());
    for content in [never, always] {
        let mut nodes = MemoryNodes::default();
        let tree = build(&mut nodes, &content);
        audit(&nodes, &tree).expect("canonical");
        assert!(u32::from(tree.level()) <= content.len().ilog2() + 1, "level {} for {} keys", tree.level(), content.len());
    }
}

#[test]
fn a_child_with_the_right_sums_and_another_last_key_is_corrupt() {
    let Applied { tree, added } = Tree::build((0..5000).map(|i| (format!("{i:08}"), [b'v'; 50]))).expect("content");
    let mut nodes = MemoryNodes::default();
    nodes.extend(added.clone()).expect("nodes");
    let leaves: Vec<_> =
        added.into_iter().filter(|chunk| chunk.kind() == Kind::Leaf).map(|chunk| Node::decode(chunk).expect("node")).collect();
    let twins =
        leaves.iter().enumerate().find_map(|(i, one)| Some((one, leaves[i + 1..].iter().find(|other| other.totals() == one.totals())?)));
    let (one, other) = twins.expect("two of a hundred leaves have equal sums");
    let lying = Swapped { nodes: &nodes, victim: one.id(), double: other.id() };
    let read = tree.get(&lying, &one.key(0));
    assert!(matches!(read, Err(Error::Corrupt { id, source: Fault::LastKey }) if id == one.id()), "{read:?}");
}

#[test]
fn a_node_in_another_form_is_refused() {
    // Level, n, p, prefix, ends of suffixes, ends of slots, suffixes, slots.
    let decode = |payload: &[u8]| Node::decode(Verified::new(Kind::Leaf, payload).expect("short"));
    assert!(decode(b"\0\x02\0\x01\0k\x01\0\x02\0\x01\0\x02\0ab\0\0").is_ok());
    for (what, payload) in [
        ("prefix too short", &b"\0\x02\0\0\0\x02\0\x04\0\x01\0\x02\0kakb\0\0"[..]),
        ("prefix of one key too short", b"\0\x01\0\x01\0k\x01\0\x01\0a\0"),
        ("equal keys", b"\0\x02\0\x01\0k\0\0\0\0\x01\0\x02\0\0\0"),
        ("falling keys", b"\0\x02\0\x01\0k\x01\0\x02\0\x01\0\x02\0ba\0\0"),
        ("falling ends", b"\0\x02\0\x01\0k\x02\0\x01\0\x01\0\x02\0a\0\0"),
        ("empty slot", b"\0\x02\0\x01\0k\x01\0\x02\0\0\0\x01\0ab\0"),
        ("empty key", b"\0\x01\0\0\0\0\0\x01\0\0"),
        ("unknown slot", b"\0\x02\0\x01\0k\x01\0\x02\0\x01\0\x02\0ab\0\x02"),
        ("bytes left over", b"\0\x02\0\x01\0k\x01\0\x02\0\x01\0\x02\0ab\0\0\0"),
        ("a leaf on level 1", b"\x01\x02\0\x01\0k\x01\0\x02\0\x01\0\x02\0ab\0\0"),
    ] {
        assert!(matches!(decode(payload), Err(Error::Corrupt { source: Fault::Node(_), .. })), "{what}");
    }
}

#[test]
fn bad_edits_are_refused() {
    let twice = Tree::build([("a", ""), ("a", "")]);
    assert!(matches!(twice, Err(Error::Unsorted { key }) if key == b"a"));
    assert!(matches!(Tree::build([("b", ""), ("a", "")]), Err(Error::Unsorted { .. })));
    assert!(matches!(Tree::build([("", "")]), Err(Error::KeyLength { actual: 0 })));
    assert!(matches!(Tree::build([(vec![0; 1025], "")]), Err(Error::KeyLength { actual: 1025 })));
    assert!(Tree::build([(vec![0; 1024], "")]).is_ok());
}

#[test]
fn a_missing_node_is_named() {
    let tree = Tree::build(&documents(5000)).expect("content").tree;
    let nodes = MemoryNodes::default();
    assert!(matches!(tree.get(&nodes, b"doc/00000001"), Err(Error::Missing { id }) if id == tree.root()));
    assert_eq!(Tree::empty().get(&nodes, b"x").expect("the empty tree is known to everyone"), None);
}

#[test]
fn a_tree_split_elsewhere_is_found_by_an_audit() {
    let mut nodes = MemoryNodes::default();
    let mut builder = Builder::new(0);
    for i in 0..200u32 {
        builder
            .push(&i.to_be_bytes(), 0, |slots| {
                slots.raw(&[0; 21]);
                Ok(Totals { count: 1, bytes: 24 })
            })
            .expect("entry");
    }
    let made = builder.finish();
    nodes.insert(made.chunk).expect("well-formed in itself");
    let result = audit(&nodes, &Tree::of(made.child, 0));
    assert!(matches!(result, Err(Error::Corrupt { source: Fault::Boundary { .. }, .. })), "{result:?}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
