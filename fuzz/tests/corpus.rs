//! The kept corpus, without libFuzzer: every input of every target, and small changes of each.

use std::{
    fs,
    path::{Path, PathBuf},
};

use herdbook_fuzz::{Target, allocation, targets};

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let Ok(files) = fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(&path).expect("readable"))).collect()
}

#[test]
fn every_target_takes_something_of_its_corpus() {
    let takes = |target: &&Target| corpus(target).iter().any(|(_, bytes)| target.run(bytes));
    let none: Vec<_> = targets().filter(|target| !takes(target)).map(|target| target.name).collect();
    assert!(none.is_empty(), "nothing is taken of the corpus of {none:?}");
}

#[test]
fn names_are_those_of_the_folders() {
    let mut names: Vec<_> = targets().map(|target| target.name.to_owned()).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "two targets have one name");
    let folders = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).expect("there");
    let mut folders: Vec<_> = folders.map(|folder| folder.expect("readable").file_name().into_string().expect("ASCII")).collect();
    folders.sort();
    assert_eq!(folders, names);
}

#[test]
fn cut_and_changed_inputs_are_answered() {
    /// Changes of one input.
    const CHANGES: usize = 400;
    for target in targets() {
        for (path, bytes) in corpus(target) {
            let step = (bytes.len() / CHANGES).max(1);
            let answered = std::panic::catch_unwind(|| {
                for at in (0..bytes.len()).step_by(step) {
                    let mut changed = bytes.clone();
                    target.run(&changed[..at]);
                    for byte in [0, 1, 0x7f, 0x80, 0xff, !bytes[at], bytes[at].wrapping_add(1)] {
                        changed[at] = byte;
                        target.run(&changed);
                    }
                }
            });
            assert!(answered.is_ok(), "{}: a change of {} breaks a law", target.name, path.display());
        }
    }
}

#[test]
fn what_a_call_takes_is_counted() {
    let (kept, most) = allocation::most_of(|| {
        drop(vec![0u8; 300_000]);
        vec![0u8; 1_000]
    });
    assert_eq!(kept.len(), 1_000);
    assert!((300_000..310_000).contains(&most), "{most}");
}

#[test]
#[should_panic(expected = "300000 are allowed")]
fn a_decoder_that_takes_more_than_its_input_allows_breaks_a_law() {
    let decode = |bytes: &[u8]| {
        let room = vec![0u8; 300_001 + bytes.len()];
        std::hint::black_box(room).len() > bytes.len()
    };
    Target { name: "greedy", decode, room: 300_000 }.run(&[]);
}
