//! What one can do with a cluster that stays up.

use std::{ffi::OsStr, path::Path};

use super::cluster::{Cluster, REPLICAS};

/// Leaves the nodes running, and says what to try and how to end them.
pub(super) fn keep(cluster: &mut Cluster, folder: &Path) {
    let herdbook = command(cluster.binary(), &std::env::var_os("PATH").unwrap_or_default());
    let pids: Vec<_> = cluster.let_go().iter().map(ToString::to_string).collect();
    println!("\nThe cluster is still up, with its folders in {}. Try:", folder.display());
    for node in 0..=REPLICAS {
        println!("  {herdbook} status -e {}      ({})", cluster.address(node), cluster.name(node));
    }
    println!("  {herdbook} get cities/2950159 -e {}", cluster.address(1));
    println!("  {herdbook} log cities/2950159 -e {}", cluster.address(2));
    println!("  {herdbook} watch cities -e {}      and in another terminal:", cluster.address(3));
    println!("  {herdbook} patch cities/2950159 --set population=3800000 -e {}", cluster.address(1));
    println!("End it with: kill {} && rm -r {}", pids.join(" "), folder.display());
}

/// Returns how a shell with this search path calls the command: by its name, or where that is not found, by the path of `binary`.
fn command(binary: &Path, search: &OsStr) -> String {
    let is_found = std::env::split_paths(search).any(|folder| folder.join("herdbook").is_file());
    if is_found { "herdbook".to_owned() } else { binary.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_on_the_path_is_called_by_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let search = std::env::join_paths([Path::new("/nowhere"), folder.path()]).unwrap();
        let binary = Path::new("/target/debug/herdbook");
        assert_eq!(command(binary, &search), "/target/debug/herdbook");
        std::fs::write(folder.path().join("herdbook"), "").unwrap();
        assert_eq!(command(binary, &search), "herdbook");
    }
}
