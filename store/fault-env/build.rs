//! Builds the shim against the headers of the very RocksDB that `librocksdb-sys` has built.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=src/shim.cc");
    let root = env::var_os("DEP_ROCKSDB_CARGO_MANIFEST_DIR").expect("librocksdb-sys is a direct dependency and says where it lies");
    let rocksdb = PathBuf::from(root).join("rocksdb");
    // The same switches as RocksDB's own build: they decide the layout of its classes.
    cc::Build::new()
        .cpp(true)
        .file("src/shim.cc")
        .include(rocksdb.join("include"))
        .include(&rocksdb)
        .define("NDEBUG", "1")
        .define("OS_LINUX", None)
        .define("ROCKSDB_PLATFORM_POSIX", None)
        .define("ROCKSDB_LIB_IO_POSIX", None)
        .flag("-std=c++20")
        .flag("-include")
        .flag("cstdint")
        .warnings(false)
        .compile("herdbook_fault_env");
}
