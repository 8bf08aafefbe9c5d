//! Laws of values in parts: by lengths around those of chunks, and by lists that lie.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::btree_map, option, prelude::*, sample::select};

use super::*;
use crate::tree::{Applied, Keys, MemoryNodes, Slot, Tree, added_chunks, audit, diff, named, reachable};

const ONE: usize = VALUE_MAX;

/// Values near, in one chunk, and in two to four parts; of one byte or rising, so that some parts are equal and some are not.
fn values() -> impl Strategy<Value = Vec<u8>> {
    let lens = select(vec![0, 2048, 2049, ONE - 1, ONE, ONE + 1, ONE + 2049, 2 * ONE, 2 * ONE + 1, 3 * ONE - 7]);
    (lens, any::<bool>()).prop_map(|(len, rises)| (0..len).map(|at| if rises { (at / 7).to_le_bytes()[0] } else { 7 }).collect())
}

fn all(nodes: &MemoryNodes, tree: &Tree) -> BTreeSet<ChunkId> {
    reachable(nodes, tree).collect::<Result<_, _>>().expect("whole")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn prop_a_tree_of_long_values_keeps_every_law_of_trees(
        content in btree_map(0u8..8, values(), 0..5),
        edits in btree_map(0u8..8, option::of(values()), 0..5),
    ) {
        let mut nodes = MemoryNodes::default();
        let Applied { tree: old, added } = Tree::build(content.iter().map(|(key, value)| ([*key], value))).expect("content");
        let made = added.iter().map(Verified::id).collect();
        nodes.extend(added).expect("of a tree");
        prop_assert_eq!(all(&nodes, &old), made);

        let Applied { tree: new, added } = old.apply(&nodes, edits.iter().map(|(key, value)| ([*key], value.as_ref()))).expect("edits");
        nodes.extend(added).expect("of a tree");
        let mut after = content;
        for (key, value) in edits {
            match value {
                Some(value) => after.insert(key, value),
                None => after.remove(&key),
            };
        }
        prop_assert_eq!(Tree::build(after.iter().map(|(key, value)| ([*key], value))).expect("content").tree, new);
        audit(&nodes, &new).expect("canonical");
        let read: BTreeMap<u8, Vec<u8>> =
            new.range(&nodes, &Keys::all()).expect("root").map(|entry| entry.map(|(key, value)| (key[0], value.to_vec()))).collect::<Result<_, _>>().expect("whole");
        prop_assert!(read == after, "what is read is not what was written");

        let changes: Vec<_> = diff(&nodes, &old, &nodes, &new, &Keys::all()).expect("roots").collect::<Result<_, _>>().expect("whole");
        prop_assert_eq!(old.apply(&nodes, changes.iter().map(|change| (&change.key, change.new.as_ref()))).expect("sorted").tree, new);

        // Whoever has the old tree and takes what is listed, has the new one; each chunk is named by the root or by one before it.
        let listed: Vec<_> = added_chunks(&nodes, &old, &nodes, &new).expect("roots").collect::<Result<_, _>>().expect("whole");
        let mut known = BTreeSet::from([new.root()]);
        for id in &listed {
            prop_assert!(known.contains(id));
            let chunk = nodes.node(id).map(|node| node.chunk().clone()).or_else(|_| nodes.value(id)).expect("whole");
            known.extend(named(&chunk).expect("of a tree"));
        }
        let have: BTreeSet<_> = all(&nodes, &old).into_iter().chain(listed).collect();
        prop_assert!(all(&nodes, &new).is_subset(&have));
    }

    #[test]
    fn prop_parts_of_any_length_are_full_but_the_last_and_fit_a_list(len in any::<u64>(), bits in 0u32..43) {
        let len = (len >> bits).max(ONE as u64 + 1);
        let (count, span) = (len.div_ceil(span(len)), span(len));
        prop_assert!((2..=LIST_MAX as u64).contains(&count));
        prop_assert!(span < len && span % ONE as u64 == 0);
    }
}

/// Puts a chunk in and names it.
fn put(nodes: &mut MemoryNodes, kind: Kind, payload: &[u8]) -> ChunkId {
    let chunk = Verified::new(kind, payload).expect("it fits a chunk");
    nodes.insert(chunk.clone()).expect("of a tree");
    chunk.id()
}

#[test]
fn a_value_of_two_parts_is_a_list_of_both() {
    let value: Vec<u8> = (0..ONE + 3).map(|at| at.to_le_bytes()[0]).collect();
    let mut added = Vec::new();
    let Part { id, len } = Part::split(&value, &mut added);
    let [first, second, list] = &added[..] else { panic!("{} chunks", added.len()) };
    assert_eq!((first.payload(), second.payload()), (&value[..ONE], &value[ONE..]));
    assert_eq!((list.kind(), list.id(), len), (Kind::Parts, id, value.len() as u64));
    assert_eq!(list.payload(), [first.id().0, second.id().0].concat());
}

#[test]
fn a_value_of_more_parts_than_a_list_holds_is_a_list_of_lists() {
    let mut nodes = MemoryNodes::default();
    let full = put(&mut nodes, Kind::Value, &vec![7; ONE]);
    let rest = put(&mut nodes, Kind::Value, b"rest!");
    let list = put(&mut nodes, Kind::Parts, &full.0.repeat(LIST_MAX));
    let id = put(&mut nodes, Kind::Parts, &[list.0, rest.0].concat());
    let value = Part { id, len: (ONE * LIST_MAX) as u64 + 5 };
    value.audit(&nodes).expect("whole");
    let (mut walk, mut ids) = (Walk::over(value), Vec::new());
    while let Some(part) = walk.next(&nodes).expect("whole") {
        ids.push(part.id);
    }
    assert_eq!((ids.len(), &ids[..3], ids.last()), (LIST_MAX + 3, &[id, list, full][..], Some(&rest)));
    // One list holds exactly so much, and no list of one list is made for it.
    Part { id: list, len: (ONE * LIST_MAX) as u64 }.audit(&nodes).expect("whole");
}

#[test]
fn lists_that_lie_are_corrupt() {
    let mut nodes = MemoryNodes::default();
    let [full, rest] = [put(&mut nodes, Kind::Value, &vec![7; ONE]), put(&mut nodes, Kind::Value, &[7; 10])];
    let list = put(&mut nodes, Kind::Parts, &[full.0, rest.0].concat());
    let len = ONE as u64 + 10;
    Part { id: list, len }.join(&nodes).expect("the truth");
    let lists = [
        ("too short a part", put(&mut nodes, Kind::Parts, &[rest.0, full.0].concat()), len),
        ("one part too many", put(&mut nodes, Kind::Parts, &[full.0, rest.0, rest.0].concat()), len),
        ("one part too few", put(&mut nodes, Kind::Parts, &full.0), len),
        ("half a name", put(&mut nodes, Kind::Parts, &[&full.0[..], &rest.0[..16]].concat()), len),
        ("a list where a part belongs", put(&mut nodes, Kind::Parts, &[full.0, list.0].concat()), len),
        ("a value where a list belongs", put(&mut nodes, Kind::Value, &[full.0, rest.0].concat()), len),
        ("a list where a value belongs", list, 64),
        ("another length", list, len + 1),
        ("a length that calls for another list", list, 2 * ONE as u64 + 10),
        ("no list", put(&mut nodes, Kind::Parts, b""), len),
    ];
    for (what, id, len) in lists {
        let part = Part { id, len };
        assert!(matches!(part.join(&nodes), Err(Error::Corrupt { .. })), "{what}");
        assert!(matches!(part.audit(&nodes), Err(Error::Corrupt { .. })), "{what}");
    }
    let gone = ChunkId([9; 32]);
    let id = put(&mut nodes, Kind::Parts, &[full.0, gone.0].concat());
    assert!(matches!(Part { id, len }.audit(&nodes), Err(Error::Missing { id }) if id == gone));
    for payload in [&[0; 0][..], &[0; 32], &[0; 65]] {
        let list = Verified::new(Kind::Parts, payload).expect("short");
        assert!(matches!(named(&list), Err(Error::Corrupt { .. })), "{} bytes", payload.len());
    }
}

#[test]
fn a_value_longer_than_memory_is_refused_before_it_is_read() {
    let part = Part { id: ChunkId([9; 32]), len: u64::MAX };
    assert!(matches!(part.join(&MemoryNodes::default()), Err(Error::ValueTooLong { actual: u64::MAX })));
}

#[test]
fn the_tag_of_a_slot_follows_from_the_length() {
    let slot = |tag: u8, len: u64| {
        let mut out = codec::Writer::default();
        out.byte(tag);
        out.raw(&[9; 32]);
        out.uint(len);
        out.into_bytes()
    };
    let most = ONE as u64;
    for (tag, len) in [(1, 2049), (1, most), (2, most + 1), (2, u64::MAX)] {
        let bytes = slot(tag, len);
        assert_eq!(Slot::parse(&bytes), Ok(Slot::Far { id: ChunkId([9; 32]), len }));
        assert_eq!(codec::Encode::to_bytes(&Slot::Far { id: ChunkId([9; 32]), len }), bytes);
        assert_eq!(Slot::len_for(usize::try_from(len).expect("64 bits")), bytes.len());
    }
    for (tag, len) in [(1, 2048), (1, most + 1), (2, most), (2, 2048), (2, 0), (3, most + 1)] {
        assert!(Slot::parse(&slot(tag, len)).is_err(), "tag {tag}, {len} bytes");
    }
}
