use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Bytes that look random and are the same everywhere.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_derive_key("herdbook test").update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

type Parts = BTreeMap<PartId, Arc<[u8]>>;

fn build<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Blob, Parts) {
    let (mut builder, mut made) = (Builder::default(), Vec::new());
    for piece in pieces {
        builder.push(piece, &mut made).expect("short");
    }
    let blob = builder.finish(&mut made);
    let mut parts = Parts::new();
    for part in made {
        if let Held::List { children, .. } = read(&part.bytes).expect("a part") {
            assert!(children.iter().all(|child| parts.contains_key(&child.id)), "a list comes after its parts");
        }
        assert_eq!(part.id, id_of(&part.bytes));
        parts.insert(part.id, part.bytes);
    }
    (blob, parts)
}

fn stretch(parts: &Parts, blob: &Blob, offset: u64, len: u64) -> Result<Vec<u8>, Error> {
    let (mut walk, mut out) = (Walk::new(blob, offset, len), Vec::new());
    while let Some(id) = walk.wanted() {
        if let Some(slice) = walk.take(parts.get(&id).cloned())? {
            out.extend_from_slice(slice.as_bytes());
        }
    }
    Ok(out)
}

#[test]
fn equal_bytes_are_one_blob_in_whatever_pieces_they_come() {
    let content = bytes(1, 3_000_001);
    let (blob, parts) = build([&content[..]]);
    assert_eq!(blob.len, 3_000_001);
    for piece in [1000, 65_536, 300_000, 1_000_000] {
        assert_eq!(build(content.chunks(piece)), (blob, parts.clone()), "pieces of {piece}");
    }
    assert_eq!(stretch(&parts, &blob, 0, u64::MAX).expect("whole"), content);
}

#[test]
fn short_ones_are_one_part_and_the_empty_one_too() {
    for len in [0, 1, MIN_PART - 1] {
        let content = bytes(2, len);
        let (blob, parts) = build([&content[..]]);
        assert_eq!((parts.len(), blob.len), (1, len as u64));
        assert_eq!(stretch(&parts, &blob, 0, u64::MAX).expect("whole"), content);
    }
}

#[test]
fn an_insertion_changes_the_parts_around_it() {
    let content = bytes(3, 20 << 20);
    let (_, before) = build([&content[..]]);
    let (blob, after) = build([&content[..7_000_000], b"a word", &content[7_000_000..]]);
    let new = after.keys().filter(|id| !before.contains_key(*id)).count();
    assert!(before.len() > 200, "{} parts", before.len());
    // Some parts with content and the lists above them.
    assert!(new <= 8, "{new} of {} parts are new", after.len());
    assert_eq!(stretch(&after, &blob, 7_000_000, 6).expect("whole"), b"a word");
}

#[test]
fn a_range_reads_the_parts_it_lies_in_and_the_lists_above() {
    let content = bytes(4, 40 << 20);
    let (blob, parts) = build([&content[..]]);
    let (mut walk, mut read) = (Walk::new(&blob, 30_000_000, 10), 0);
    while let Some(id) = walk.wanted() {
        walk.take(parts.get(&id).cloned()).expect("whole");
        read += 1;
    }
    assert!(parts.len() > 400 && read <= 5, "{read} of {}", parts.len());
}

#[test]
fn what_is_missing_or_not_what_it_should_be_is_told() {
    let content = bytes(5, 1 << 20);
    let (blob, parts) = build([&content[..]]);
    let root = parts[&blob.root].clone();
    let Held::List { level: 1, children } = read(&root).expect("a part") else { panic!("a list") };
    let victim = children[2].id;

    let mut missing = parts.clone();
    missing.remove(&victim);
    assert_eq!(stretch(&missing, &blob, 0, u64::MAX), Err(Error::Missing { id: victim }));
    assert!(stretch(&missing, &blob, 0, children[0].len).is_ok(), "what is there can be read");

    let mut other = parts.clone();
    other.insert(victim, parts[&children[3].id].clone());
    assert_eq!(stretch(&other, &blob, 0, u64::MAX), Err(Error::Damaged { id: victim }));

    for len in [0, 1, blob.len - 1, blob.len + 1] {
        assert!(matches!(stretch(&parts, &Blob { len, ..blob }, 0, u64::MAX), Err(Error::Malformed { .. })), "{len}");
    }
    // Who asks again is told again, and not that this was the end.
    let mut walk = Walk::new(&Blob { len: 0, ..blob }, 0, 0);
    for _ in 0..2 {
        let wanted = walk.wanted().expect("its root");
        assert!(matches!(walk.take(parts.get(&wanted).cloned()), Err(Error::Malformed { .. })));
    }
    assert!(matches!(stretch(&Parts::new(), &Blob { len: 0, ..blob }, 0, u64::MAX), Err(Error::Missing { .. })), "no bytes are no proof");
    // Lists that are right by their own hash and wrong by what they name.
    let list = |level: u8, children: &[Child]| {
        let mut out = Writer::default();
        out.byte(level);
        children.iter().for_each(|child| {
            child.id.encode(&mut out);
            out.uint(child.len);
        });
        Part::new(out.into_bytes())
    };
    for (bad, len) in
        [(list(2, &children), blob.len), (list(1, &[Child { len: u64::MAX, ..children[0] }, children[1]]), 1), (list(1, &[]), 0)]
    {
        let mut parts = parts.clone();
        parts.insert(bad.id, bad.bytes);
        let blob = Blob { root: bad.id, len: len.max(1) };
        assert!(matches!(stretch(&parts, &blob, 0, u64::MAX), Err(Error::Malformed { .. })));
    }
}

#[test]
fn a_value_is_told_by_its_part_alone_and_is_no_blob() {
    let value = Scalar::from("0170 1234567");
    let owner = Owner { collection: CollectionId(3), key: Key::new("ada").expect("short"), field: FieldId(300) };
    let [one, other] = [[1; 16], [2; 16]].map(|salt| Part::of_value(&salt, &owner, &value));
    assert_ne!(one.id, other.id, "equal values have other names");
    assert_eq!(read(&one.bytes), Ok(Held::Value { owner, value }));
    assert!(read(&[&one.bytes[..], &[0]].concat()).is_err());
    let parts = Parts::from([(one.id, one.bytes)]);
    let content = Blob { len: 1, ..name_of_value(one.id) };
    assert!(matches!(stretch(&parts, &content, 0, 1), Err(Error::Malformed { .. })));
}

#[test]
fn blobs_have_one_text() {
    let blob = Blob { root: PartId([7; 32]), len: 12 };
    assert_eq!(blob.to_string().parse(), Ok(blob));
    let root = "07".repeat(32);
    for bad in ["", ":", &root, &format!("{root}:"), &format!("{root}:+1"), &format!("{root}:{}", MAX_LEN + 1), &format!("{root}0:1")] {
        assert_eq!(bad.parse::<Blob>(), Err(BadBlob), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn prop_a_stretch_is_that_of_the_content(seed in any::<u64>(), len in 0usize..900_000, from in 0u64..1_000_000, count in 0u64..1_000_000) {
        let content = bytes(seed, len);
        let (blob, parts) = build([&content[..]]);
        let start = usize::try_from(from).expect("short").min(len);
        let end = usize::try_from(from + count).expect("short").min(len);
        prop_assert_eq!(stretch(&parts, &blob, from, count), Ok(content[start..end].to_vec()));
    }

    #[test]
    fn prop_bytes_that_are_no_part_are_refused_and_those_that_are_one_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        match read(&bytes) {
            Ok(Held::Content(content)) => prop_assert_eq!(content, &bytes[1..]),
            Ok(Held::Value { owner, value }) => {
                prop_assert_eq!(Part::of_value(bytes[1..17].try_into().expect("16"), &owner, &value).bytes.to_vec(), bytes);
            }
            Ok(Held::List { level, children }) => prop_assert!(level > 0 && !children.is_empty()),
            Err(_) => {}
        }
    }
}
