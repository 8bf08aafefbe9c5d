//! The descriptors that reflection serves: complete, and of the definitions this crate was generated from.

use herdbook_proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::FileDescriptorSet;

#[test]
fn descriptors_name_the_services() {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
    let mut services: Vec<String> =
        set.file.iter().flat_map(|file| file.service.iter().map(|service| format!("{}.{}", file.package(), service.name()))).collect();
    services.sort();
    let expected =
        ["BlobService", "ClusterService", "DocumentService", "HistoryService", "SyncService"].map(|name| format!("herdbook.v1.{name}"));
    assert_eq!(services, expected);
}

#[test]
fn descriptors_are_closed_under_imports() {
    let set = FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
    let names: Vec<&str> = set.file.iter().map(prost_types::FileDescriptorProto::name).collect();
    for import in set.file.iter().flat_map(|file| &file.dependency) {
        assert!(names.contains(&import.as_str()), "{import} is missing");
    }
}
