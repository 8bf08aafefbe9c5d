//! Which faults can be made here: some take root, loop devices, namespaces or a library.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{disk::Disk, fault::Kind, wires::Wires};
use crate::{Error, cluster::temporary_folder};

/// Where Debian and others put the library that tells processes another time.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// What can be done here.
#[derive(Debug, Clone, Default)]
pub struct Means {
    /// Kinds of fault that can be made.
    pub kinds: Vec<Kind>,
    /// What cannot, and why.
    pub absent: Vec<String>,
    has_disks: bool,
    has_wires: bool,
    faketime: Option<PathBuf>,
}

impl Means {
    /// Finds out what can be done here, making folders in `within`.
    ///
    /// # Errors
    /// [`Error::File`] if no folder can be made.
    pub fn here(within: Option<&Path>) -> Result<Self, Error> {
        let folder = temporary_folder(within)?;
        let mut means = Self { kinds: Kind::ALL.into(), ..Self::default() };
        match Disk::create(folder.path().join("disk.img"), folder.path().join("disk")) {
            Ok(disk) => {
                means.has_disks = true;
                if let Err(error) = disk.stall(Duration::from_millis(1)) {
                    means.drop(&[Kind::Slow], &format!("no disk can be stalled: {error}"));
                }
            }
            Err(error) => means.drop(&[Kind::Power, Kind::Full, Kind::Slow], &format!("no disk can be made: {error}")),
        }
        means.faketime = FAKETIME.iter().map(PathBuf::from).find(|path| path.is_file());
        if means.faketime.is_none() {
            means.drop(&[Kind::Clock], "there is no libfaketime");
        }
        match Wires::create(1) {
            Ok(_) => means.has_wires = true,
            Err(error) => means.drop(&[Kind::Sever], &format!("no network namespace can be wired: {error}")),
        }
        Ok(means)
    }

    /// Leaves out all kinds but some.
    pub fn only(&mut self, kinds: &[Kind]) {
        self.kinds.retain(|kind| kinds.contains(kind));
    }

    /// Returns the library that tells processes another time, if there is one.
    pub(super) fn faketime(&self) -> Option<&Path> {
        self.faketime.as_deref()
    }

    /// Whether members can have disks of their own.
    pub const fn has_disks(&self) -> bool {
        self.has_disks
    }

    /// Whether members can have networks of their own.
    pub const fn has_wires(&self) -> bool {
        self.has_wires
    }

    fn drop(&mut self, kinds: &[Kind], why: &str) {
        self.kinds.retain(|kind| !kinds.contains(kind));
        self.absent.extend(kinds.iter().map(|kind| format!("{}: {why}", kind.name())));
    }
}
