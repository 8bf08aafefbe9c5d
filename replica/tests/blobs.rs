//! Blobs in a replica: what comes back, what is written, what is refused, what goes.

use std::{
    io::{Read as _, Seek as _, SeekFrom},
    time::Duration,
};

use herdbook_model::{
    blob::{self, Blob},
    codec::Writer,
    id::PartId,
    json,
    schema::{BLOBS_NAME, Schema},
    value::{Key, Scalar, Value},
};
use herdbook_replica::{
    Error, Replica,
    embedded::UploadError,
    repository::{Collecting, DocumentChange, DocumentEdit, Moment, Selection, Swept},
};
use serde_json::json;

fn schema() -> Schema {
    let text = r#"{"version": 1, "collections": {"films": {"fields": [
        {"name": "title", "type": "string"}, {"name": "video", "type": "blob"}, {"name": "stills", "type": "map<list<blob>>"}]},
        "people": {"fields": [{"name": "name", "type": "string"}]}}}"#;
    json::schema_from_json(text).expect("a schema")
}

fn open(folder: &tempfile::TempDir) -> Replica {
    Replica::builder(folder.path()).schema(schema()).capture(Duration::ZERO).open().expect("it opens")
}

/// Bytes that look random and are the same everywhere.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_derive_key("herdbook test").update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

fn whole(replica: &Replica, blob: Blob) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    replica.blob(blob).expect("a schema").read_to_end(&mut out)?;
    Ok(out)
}

#[test]
fn what_was_uploaded_is_read_back_whole_and_by_stretches_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let content = bytes(1, 5_000_000);
    let uploaded = replica.upload(&content[..]).expect("uploaded");
    assert_eq!((uploaded.blob.len, uploaded.parts), (5_000_000, uploaded.added));
    replica.put("films", "alma", &json!({"video": uploaded.blob.to_string()})).expect("put");
    replica.close().expect("close");

    let replica = open(&folder);
    let shown = replica.get("films", "alma").expect("read").expect("there");
    let Some(Value::Scalar(Scalar::Blob(blob))) = shown.fields.get("video").cloned() else { panic!("a blob") };
    assert_eq!(whole(&replica, blob).expect("read"), content);
    let mut reader = replica.blob(blob).expect("a schema");
    for (from, len) in [(0, 10), (4_999_990, 100), (1_234_567, 300_000), (5_000_000, 1)] {
        reader.seek(SeekFrom::Start(from)).expect("seek");
        let mut out = Vec::new();
        reader.by_ref().take(len).read_to_end(&mut out).expect("read");
        let (start, end) = (usize::try_from(from).expect("short"), usize::try_from(from + len).expect("short").min(content.len()));
        assert_eq!(out, &content[start..end]);
        assert_eq!(reader.stream_position().expect("a place"), end as u64);
    }
    assert!(reader.seek(SeekFrom::Current(-6_000_000)).is_err());
}

#[test]
fn parts_that_are_there_are_not_written_again() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let content = bytes(2, 4_000_000);
    let first = replica.upload(&content[..]).expect("uploaded");
    let again = replica.upload(&content[..]).expect("uploaded");
    assert_eq!((again.blob, again.added, again.added_bytes), (first.blob, 0, 0));
    let longer = [&content[..2_000_000], b"a scene more", &content[2_000_000..]].concat();
    let other = replica.upload(&longer[..]).expect("uploaded");
    assert!(other.added <= 6 && other.parts >= 40, "{other:?}");
    assert_eq!(whole(&replica, other.blob).expect("read"), longer);
    // Much of the same, within one request.
    let zeros = replica.upload(&vec![0; 3_000_000][..]).expect("uploaded");
    assert!(zeros.added <= 4, "{zeros:?}");
    assert_eq!(whole(&replica, zeros.blob).expect("read"), vec![0; 3_000_000]);
    let empty = replica.upload(&[][..]).expect("uploaded");
    assert_eq!((empty.blob.len, whole(&replica, empty.blob).expect("read").len()), (0, 0));
}

#[test]
fn what_is_not_there_or_is_no_part_is_refused_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let before = replica.state().expect("state");
    let absent = Blob { root: PartId([7; 32]), len: 5 };
    for fields in [json!({"video": absent.to_string()}), json!({"stills": {"first": [absent.to_string()]}})] {
        assert!(matches!(replica.put("films", "alma", &fields), Err(Error::UnknownBlob { blob }) if blob == absent), "{fields}");
    }
    assert!(matches!(replica.put("films", "alma", &json!({"video": "cat.mov"})), Err(Error::Json(_) | Error::Schema(_))));
    let part = |key: &str, data: &[u8]| {
        let fields = vec![("data".into(), Value::Scalar(Scalar::Bytes(data.into())))];
        let edit =
            DocumentEdit { collection: BLOBS_NAME.to_owned(), key: Key::new(key).expect("short"), change: DocumentChange::Put(fields) };
        replica.commit(vec![edit], "")
    };
    assert!(matches!(part("cat", b"\0meow"), Err(Error::NotAPart(_))));
    assert!(matches!(part(&"07".repeat(32), b"\0meow"), Err(Error::NotAPart(_))));
    assert_eq!(replica.state().expect("state"), before);

    let error = whole(&replica, absent).expect_err("it is not there");
    assert!(error.to_string().contains("0707070707"), "{error}");
    let broken = replica.upload(bytes(3, 2_000_000).as_slice().chain(Failing)).expect_err("the bytes end in an error");
    assert!(matches!(broken, UploadError::Read(_)));
    // Of a repository without blobs.
    let folder = tempfile::tempdir().expect("folder");
    let plain = json::schema_from_json(r#"{"version": 1, "collections": {"people": {"fields": [{"name": "name", "type": "string"}]}}}"#);
    let replica = Replica::builder(folder.path()).schema(plain.expect("a schema")).open().expect("it opens");
    assert!(matches!(replica.upload(&[1][..]), Err(UploadError::Repository(Error::NoBlobs { .. }))));
}

struct Failing;

impl std::io::Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the cable was pulled"))
    }
}

#[test]
fn a_part_cannot_be_emptied_or_changed_by_hand() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let blob = replica.upload(&bytes(4, 100)[..]).expect("uploaded").blob;
    let key = blob.root.to_string();
    assert!(matches!(replica.update(BLOBS_NAME, &key, &json!({"data": null})), Err(Error::NotAPart(_))));
    assert!(matches!(replica.update(BLOBS_NAME, &key, &json!({"data": "00ff"})), Err(Error::NotAPart(_))));
    assert_eq!(whole(&replica, blob).expect("read"), bytes(4, 100));
}

#[test]
fn a_sweep_hides_first_and_removes_later_and_spares_what_any_document_holds() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let kept = [bytes(5, 1_000_000), bytes(6, 300_000), bytes(7, 10)];
    let blobs: Vec<_> = kept.iter().map(|content| replica.upload(&content[..]).expect("uploaded").blob.to_string()).collect();
    replica.put("films", "alma", &json!({"video": blobs[0], "stills": {"a": [blobs[1], blobs[2]]}})).expect("put");
    let useless = bytes(8, 2_000_000);
    let uploaded = replica.upload(&useless[..]).expect("uploaded");
    let before = replica.state().expect("state");

    let held = replica.sweep(3_600_000).expect("swept");
    assert_eq!((held.hidden, held.removed), (0, 0), "what was just uploaded is not yet of no use");
    let hidden = replica.sweep(0).expect("swept");
    assert_eq!((hidden.hidden, hidden.hidden_bytes > 2_000_000, hidden.removed), (uploaded.parts, true, 0));
    assert_eq!(whole(&replica, uploaded.blob).expect("hidden, not gone"), useless);

    // What is hidden may go at any moment: whoever wants it uploads it again, which shows it again and writes nothing else.
    let refused = replica.put("films", "bella", &json!({"video": uploaded.blob.to_string()}));
    assert!(matches!(refused, Err(Error::UnknownBlob { .. })), "{refused:?}");
    assert_eq!(replica.upload(&useless[..]).expect("uploaded").blob, uploaded.blob);
    replica.put("films", "bella", &json!({"video": uploaded.blob.to_string()})).expect("it is there again");
    assert_eq!(replica.sweep(0).expect("swept").hidden, 0);
    replica.delete("films", "bella").expect("delete");

    assert_eq!(replica.sweep(0).expect("swept").hidden, uploaded.parts);
    let removed = replica.sweep(0).expect("swept");
    assert_eq!((removed.hidden, removed.removed), (0, uploaded.parts));
    assert!(whole(&replica, uploaded.blob).is_err());
    assert_eq!(replica.sweep(0).expect("swept"), Swept { used: held.used, used_bytes: removed.used_bytes, ..Swept::default() });
    for (blob, content) in blobs.iter().zip(&kept) {
        assert_eq!(&whole(&replica, blob.parse().expect("a blob")).expect("read"), content);
    }

    // An old state has it still; so has whoever uploads it again.
    let log = replica.log(100).expect("log");
    let mut states = log.iter().filter_map(|entry| replica.state_at(&Moment::Commit(entry.commit.id())).ok());
    let state = states.find(|state| state.name() == before).expect("the state before the sweeps");
    let mut old = Vec::new();
    replica.repository().blob(&state, uploaded.blob).read_to_end(&mut old).expect("read");
    assert_eq!(old, useless);
    drop(state);
    assert_eq!(replica.upload(&useless[..]).expect("uploaded").added, uploaded.parts);
    assert_eq!(whole(&replica, uploaded.blob).expect("read"), useless);
}

/// Writes a part as a member may that lies: nothing was checked.
fn forge(replica: &Replica, bytes: &[u8], key: &str) {
    let fields = vec![("data".into(), Value::Scalar(Scalar::Bytes(bytes.into())))];
    let edit = DocumentEdit { collection: BLOBS_NAME.to_owned(), key: Key::new(key).expect("short"), change: DocumentChange::Put(fields) };
    replica.commit(vec![edit], "").expect("a list by its own hash");
}

/// The fault: a list that claims another level for its children made a sweep pass over theirs, and take them away.
#[test]
fn a_sweep_believes_no_list_about_what_lies_below() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let content = bytes(20, 3_000_000);
    let honest = replica.upload(&content[..]).expect("uploaded");
    // Many, so that one of them is looked at before the honest root is.
    let mut lies = Vec::new();
    for number in 0..40u64 {
        let mut list = vec![1];
        list.extend_from_slice(&honest.blob.root.0);
        let mut len = Writer::default();
        len.uint(number);
        list.extend_from_slice(len.as_bytes());
        let id = blob::id_of(&list);
        forge(&replica, &list, &id.to_string());
        lies.push(Blob { root: id, len: number }.to_string());
    }
    replica.put("films", "honest", &json!({"video": honest.blob.to_string()})).expect("put");
    replica.put("films", "liar", &json!({"stills": {"all": lies}})).expect("put");
    for _ in 0..3 {
        replica.sweep(0).expect("swept");
    }
    assert_eq!(whole(&replica, honest.blob).expect("read"), content);
}

/// The fault: a download of nothing of a blob that is none looked whole.
#[test]
fn a_length_that_lies_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let uploaded = replica.upload(&bytes(21, 1_000_000)[..]).expect("uploaded").blob;
    for len in [0, 1, uploaded.len + 1] {
        let blob = Blob { len, ..uploaded };
        let refused = replica.put("films", "alma", &json!({"video": blob.to_string()}));
        assert!(matches!(refused, Err(Error::UnknownBlob { .. })), "{len}: {refused:?}");
        assert!(whole(&replica, blob).is_err(), "{len}");
    }
}

/// The fault: a revert took away parts that others had come to use, or failed as a whole since they had.
#[test]
fn a_revert_leaves_parts_to_the_sweep() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let content = bytes(22, 500_000);
    let start = replica.state_at(&Moment::Commit(first_commit(&replica))).expect("a state");
    let blob = replica.upload(&content[..]).expect("uploaded").blob;
    replica.put("films", "alma", &json!({"title": "Alma", "video": blob.to_string()})).expect("put");
    replica.revert(Selection { since: Some(start), ..Selection::default() }, "back").expect("reverted");
    assert!(replica.get("films", "alma").expect("read").is_none());
    assert_eq!(whole(&replica, blob).expect("its parts are there"), content);
    assert!(matches!(replica.delete(BLOBS_NAME, &blob.root.to_string()), Err(Error::PartsAreSwept)));
}

fn first_commit(replica: &Replica) -> herdbook_model::id::CommitId {
    replica.put("people", "ada", &json!({"name": "Ada"})).expect("put");
    replica.log(1).expect("log")[0].commit.id()
}

#[test]
fn collected_garbage_is_none_of_a_blob_in_use() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let content = bytes(9, 3_000_000);
    let blob = replica.upload(&content[..]).expect("uploaded").blob;
    replica.put("films", "alma", &json!({"video": blob.to_string()})).expect("put");
    let gone = replica.upload(&bytes(10, 3_000_000)[..]).expect("uploaded").blob;
    replica.root().expect("folded");
    replica.repository().materialise().expect("written");
    replica.sweep(0).expect("swept");
    replica.sweep(0).expect("swept");
    replica.repository().materialise().expect("written");
    let collected = replica.repository().collect(Collecting::default(), |_| ()).expect("collected");
    assert!(collected.bytes > 2_500_000, "{collected:?}");
    assert_eq!(whole(&replica, blob).expect("read"), content);
    assert!(whole(&replica, gone).is_err());
}

#[test]
fn memory_above_the_trees_is_bounded_by_bytes() {
    let folder = tempfile::tempdir().expect("folder");
    let replica = open(&folder);
    let mut highest = 0;
    for seed in 0..20 {
        replica.upload(&bytes(100 + seed, 16 << 20)[..]).expect("uploaded");
        highest = highest.max(replica.repository().view().state(None).expect("a state").weight());
    }
    assert!(highest <= 3 * (64 << 20), "{highest} bytes above the trees");
    // What is there already is in memory as well when it is touched.
    let (mut touched, mut edits) = (0, 0);
    for seed in 0..12 {
        replica.upload(&bytes(100 + seed, 16 << 20)[..]).expect("uploaded");
        let view = replica.repository().view();
        let state = view.state(None).expect("a state");
        (touched, edits) = (touched.max(state.weight()), edits.max(state.pending()));
    }
    assert!(touched > 16 << 20 && touched <= 3 * (64 << 20), "{touched} bytes above the trees");
    assert!(edits < 192 * 32, "{edits}");
}
