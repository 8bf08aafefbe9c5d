//! What the system says of this process and its files.

use std::path::Path;

/// Megabytes that the system says of this process under `what`.
pub(crate) fn resident(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with(what)).expect("Linux tells of memory");
    line.split_whitespace().nth(1).and_then(|kilobytes| kilobytes.parse::<u64>().ok()).expect("a number") >> 10
}

/// Bytes of the files below `folder`.
#[allow(dead_code, reason = "not every benchmark looks at files")]
pub(crate) fn bytes_in(folder: &Path) -> u64 {
    std::fs::read_dir(folder).expect("it is there").flatten().fold(0, |sum, entry| {
        let meta = entry.metadata().expect("it is there");
        sum + if meta.is_dir() { bytes_in(&entry.path()) } else { meta.len() }
    })
}
