//! Every store runs the one suite.

use herdbook_store::{MemoryStore, RocksStore, Settings, fault::Faulty};

fn rocks() -> (RocksStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("temporary folder");
    (RocksStore::open(folder.path(), &Settings::default()).expect("new store"), folder)
}

mod memory {
    herdbook_store::conformance!(|| (super::MemoryStore::new(), ()));
}

mod on_disk {
    herdbook_store::conformance!(super::rocks);
}

mod faulty_without_orders {
    herdbook_store::conformance!(|| (super::Faulty::new(super::MemoryStore::new()), ()));
}
