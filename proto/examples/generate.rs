//! Writes the Rust code of `herdbook/v1/*.proto` and the descriptors for reflection to `src/generated/`, without protoc.
//!
//! `cargo run -p herdbook-proto --example generate` writes; with `-- --check` it only tells whether what is there is up to date.
//! Cargo builds the library first: where a changed definition keeps it from compiling, run the last built binary in this folder,
//! `CARGO_MANIFEST_DIR=. …/debug/examples/generate`, and then mend the conversions.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use prost::Message as _;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let check = match env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => return Err(format!("unknown argument `{other}`; known is --check").into()),
    };
    // Asked for at run time: a cached binary may serve another checkout than the one it was built in.
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set; run it through cargo")?);
    let target = root.join("src/generated");
    let fresh = generate(&root)?;
    if check {
        return compare(&fresh, &target);
    }
    fs::create_dir_all(&target)?;
    for name in files(&target)?.into_keys().filter(|name| !fresh.contains_key(name)) {
        fs::remove_file(target.join(name))?;
    }
    for (name, bytes) in &fresh {
        fs::write(target.join(name), bytes)?;
    }
    Ok(())
}

/// Returns what should lie in the folder: name → bytes.
fn generate(root: &Path) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut sources: Vec<PathBuf> =
        fs::read_dir(root.join("herdbook/v1"))?.map(|entry| Ok(entry?.path())).collect::<Result<_, std::io::Error>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    sources.sort();
    let mut descriptors = protox::compile(&sources, [root])?;

    let scratch = env::temp_dir().join(format!("herdbook-generate-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let generated = tonic_prost_build::configure()
        .out_dir(&scratch)
        .bytes(".")
        .btree_map(".")
        .build_transport(true)
        .compile_fds(descriptors.clone())
        .map_err(Failure::from)
        .and_then(|()| files(&scratch));
    fs::remove_dir_all(&scratch)?;
    let mut generated = generated?;

    // Reflection needs names and types; comments would double its bytes.
    for file in &mut descriptors.file {
        file.source_code_info = None;
    }
    generated.insert("descriptors.bin".to_owned(), descriptors.encode_to_vec());
    Ok(generated)
}

fn files(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(files)
}

fn compare(fresh: &BTreeMap<String, Vec<u8>>, target: &Path) -> Result<(), Failure> {
    let found = files(target).unwrap_or_default();
    let names = fresh.keys().chain(found.keys().filter(|name| !fresh.contains_key(*name)));
    let stale: Vec<&str> = names.filter(|name| fresh.get(*name) != found.get(*name)).map(String::as_str).collect();
    if stale.is_empty() {
        return Ok(());
    }
    let remedy = "run `cargo run -p herdbook-proto --example generate` and commit what it writes";
    Err(format!("not up to date in proto/src/generated: {}; {remedy}", stale.join(", ")).into())
}
