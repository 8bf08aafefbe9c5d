//! A disk of its own for a member: a file system in a file, mounted through the loop device. So its power can fail and it can be full, for
//! that member alone.
//!
//! Law: at a power cut exactly that is left which the file system had handed to the disk; what was only in the system's memory is gone. It
//! takes root; where that is not to be had, [`Disk::create`] says why.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use super::tools::{output, run};

/// Size of the file system; the file is sparse.
const SIZE: u64 = 4 << 30;

/// Bytes that an allocation leaves over, to be filled by writing.
const REST: u64 = 4 << 20;

/// A mounted file system. Dropped, it is unmounted.
#[derive(Debug)]
pub(super) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes one and mounts it at `mount`.
    ///
    /// # Errors
    /// What the system says, where there are no loop devices, no `mkfs.ext4`, or no root.
    pub(super) fn create(image: PathBuf, mount: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&mount)?;
        File::create(&image)?.set_len(SIZE)?;
        // Nothing is kept for root, which the members run as here: full means full.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"]).arg(&image))?;
        let disk = Self { image, mount };
        disk.mount()?;
        Ok(disk)
    }

    /// Returns where it is mounted.
    pub(super) fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts its power and brings it back. Nobody may have a file of it open. Returns whether anything was lost.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn cut_power(&self) -> io::Result<bool> {
        let after = self.image.with_extension("after");
        // What the file holds now is what the disk was given; unmounting would hand it the rest.
        run(Command::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(&self.image).arg(&after))?;
        self.unmount()?;
        let is_same = Command::new("cmp").arg("-s").arg(&self.image).arg(&after).status()?.success();
        fs::rename(&after, &self.image)?;
        self.mount()?;
        Ok(!is_same)
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// What the system says; never that it is full.
    pub(super) fn fill(&self) -> io::Result<()> {
        let free = output(Command::new("df").args(["--output=avail", "-B1"]).arg(&self.mount))?;
        let free: u64 = free.lines().nth(1).and_then(|line| line.trim().parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let ballast = self.ballast();
        let most = free.saturating_sub(REST).max(1).to_string();
        // A little less may be had than is told, for the file's own description.
        let _ = run(Command::new("fallocate").arg("-l").arg(most).arg(&ballast));
        let mut file = File::options().create(true).append(true).open(&ballast)?;
        for size in [1 << 20, 1 << 12, 1] {
            loop {
                match file.write_all(&vec![0; size]).and_then(|()| file.sync_data()) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Lets it take nothing for a while: whoever writes or syncs waits.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn stall(&self, lasts: Duration) -> io::Result<()> {
        run(Command::new("fsfreeze").arg("--freeze").arg(&self.mount))?;
        thread::sleep(lasts);
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.mount))
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn empty(&self) -> io::Result<()> {
        fs::remove_file(self.ballast())
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }

    fn mount(&self) -> io::Result<()> {
        // The file system must not write by itself what nobody synced: not before minutes have passed.
        run(Command::new("mount").args(["-o", "loop,commit=300"]).arg(&self.image).arg(&self.mount))
    }

    fn unmount(&self) -> io::Result<()> {
        run(Command::new("umount").arg(&self.mount))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // At the end of a run: a process that was just killed may hold it a moment longer.
        let _ = self.unmount().or_else(|_| run(Command::new("umount").arg("-l").arg(&self.mount)));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cluster::temporary_folder;

    #[test]
    fn a_power_cut_takes_what_was_not_synced_and_leaves_what_was() {
        let folder = temporary_folder(None).expect("made");
        let Ok(disk) = Disk::create(folder.path().join("disk"), folder.path().join("mount")) else {
            eprintln!("no root or no loop devices: nothing to test");
            return;
        };
        let at = |name: &str| disk.path().join(name);
        let mut synced = File::create(at("synced")).expect("made");
        synced.write_all(b"kept").and_then(|()| synced.sync_all()).expect("written");
        File::open(disk.path()).and_then(|folder| folder.sync_all()).expect("synced");
        fs::write(at("unsynced"), b"gone").expect("written");
        drop(synced);
        assert!(disk.cut_power().expect("it can be done"));
        assert_eq!(fs::read(at("synced")).expect("there"), b"kept");
        assert!(fs::read(at("unsynced")).map_or(true, |bytes| bytes.is_empty()));
    }

    #[test]
    fn who_syncs_on_a_disk_that_stalls_waits_until_it_goes_on() {
        let folder = temporary_folder(None).expect("made");
        let Ok(disk) = Disk::create(folder.path().join("disk"), folder.path().join("mount")) else {
            eprintln!("no root or no loop devices: nothing to test");
            return;
        };
        let path = disk.path().join("file");
        let write = || File::create(&path).and_then(|mut file| file.write_all(b"late").and_then(|()| file.sync_all()));
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                write()
            });
            disk.stall(Duration::from_millis(300)).expect("it can be done");
            writer.join().expect("no panic").expect("written");
        });
        assert_eq!(fs::read(&path).expect("there"), b"late");
    }

    #[test]
    fn a_full_disk_takes_nothing_more_until_it_is_emptied() {
        let folder = temporary_folder(None).expect("made");
        let Ok(disk) = Disk::create(folder.path().join("disk"), folder.path().join("mount")) else {
            eprintln!("no root or no loop devices: nothing to test");
            return;
        };
        disk.fill().expect("it can be done");
        let write = || fs::write(disk.path().join("more"), vec![1; 8192]);
        assert_eq!(write().expect_err("full").kind(), io::ErrorKind::StorageFull);
        disk.empty().expect("it can be done");
        write().expect("there is room");
    }
}
