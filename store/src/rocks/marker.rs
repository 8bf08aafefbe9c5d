//! The marker: how far acknowledgements of durable writes went.
//!
//! The engine's log ends where its last readable record ends, so damage near its end looks like a write that a power cut tore:
//! the engine opens with less and says nothing. The marker is the second witness. It is written after the log was synced
//! and before the write is acknowledged, so always: acknowledged ≤ marker ≤ synced log. The write of it reaches the disk at most
//! [`LAG`] later, by a sync that writes share and none waits for: what is acknowledged is safe by the log alone, and only damage to
//! the end of the log that a power cut within that time came with would still look torn.
//!
//! A file of two slots, 4 KiB apart; the other is taken after each sync, so a torn write leaves one. A slot: magic (8 bytes), generation
//! (8, little endian), sequence (8), the first 16 bytes of the BLAKE3 hash of those. The readable slot of the highest generation counts.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use herdbook_model::plant::Plant;

use crate::{Error, Sequence};

const MAGIC: &[u8; 8] = b"hbmark01";
const SLOT_LEN: usize = 40;

/// Distance of the slots in bytes: no sector, and no page of the system's cache, holds both.
const STRIDE: u64 = 4096;

/// How long what the marker says may be in the system's memory alone.
pub(crate) const LAG: Duration = Duration::from_millis(10);

/// The marker of an open store.
#[derive(Debug)]
pub(crate) struct Marker {
    file: File,
    path: PathBuf,
    generation: u64,
    /// Where the next write goes: the other slot is on the disk, so that a torn write leaves it.
    slot: u64,
    /// When the first write was made that is not synced.
    behind_since: Option<Instant>,
}

/// What a marker file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// There is no such file.
    Absent,
    /// No slot is readable.
    Unreadable,
    /// Writes up to here were acknowledged, or may have been.
    At(Sequence),
}

impl Marker {
    /// Reads the marker at `path`.
    pub(crate) fn read(path: &Path) -> Result<Reading, Error> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(2 * STRIDE).read_to_end(&mut bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Reading::Absent),
            Err(error) => return Err(Error::io("read", path, error)),
            Ok(_) => {}
        }
        let newest = bytes.chunks(STRIDE as usize).filter_map(decode).max();
        Ok(newest.map_or(Reading::Unreadable, |(_, sequence)| Reading::At(sequence)))
    }

    /// Opens the marker at `path`, which was just read, where it stands.
    pub(crate) fn resume(path: &Path) -> Result<Self, Error> {
        Self::open(path).map_err(|error| Error::io("open", path, error))
    }

    /// Makes a marker at `path` that stands at `sequence` in both slots, and puts it on the disk. Its folder is not synced.
    pub(crate) fn create(path: &Path, sequence: Sequence) -> Result<Self, Error> {
        let mut marker = Self::open(path).map_err(|error| Error::io("make", path, error))?;
        marker.say(sequence)?;
        marker.slot ^= 1;
        marker.say(sequence)?;
        marker.slot ^= 1;
        marker.file.sync_all().map_err(|error| Error::io("sync", path, error))?;
        Ok(marker)
    }

    /// Opens the file, at its full length, and goes on after its newest generation: in a marker that is made anew, the old slots
    /// stay until the new ones are written.
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
        if file.metadata()?.len() < 2 * STRIDE {
            file.write_all_at(&[0; 2 * STRIDE as usize], 0)?;
        }
        let mut bytes = Vec::new();
        (&file).take(2 * STRIDE).read_to_end(&mut bytes)?;
        let slots = bytes.chunks(STRIDE as usize).zip(0..);
        let newest = slots.filter_map(|(bytes, slot)| decode(bytes).map(|(generation, _)| (generation, slot))).max();
        let (generation, slot) = newest.map_or((0, 0), |(generation, slot)| (generation, slot ^ 1));
        Ok(Self { file, path: path.to_owned(), generation, slot, behind_since: None })
    }

    /// Says that everything up to `sequence` is acknowledged. On return whoever reads the file sees it; on the disk it is [`LAG`] later at
    /// most, if [`Marker::sync`] is called at the latest when no write follows within that time.
    ///
    /// Cost: one write of 40 bytes, and once in that time a sync of a file that does not grow.
    pub(crate) fn advance(&mut self, sequence: Sequence) -> Result<(), Error> {
        self.say(sequence)?;
        self.behind_since.get_or_insert_with(Instant::now);
        self.sync_if_due()
    }

    /// Puts what was said last on the disk if it waits for that since [`LAG`] or longer.
    pub(crate) fn sync_if_due(&mut self) -> Result<(), Error> {
        if self.behind_since.is_some_and(|since| since.elapsed() >= LAG) { self.sync() } else { Ok(()) }
    }

    /// Puts what was said last on the disk, if it is not there yet.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        if self.behind_since.is_some() && !cfg!(feature = "plant-skip-fsync") && !Plant::SkipFsync.is_here() {
            self.file.sync_data().map_err(|error| Error::io("sync", &self.path, error))?;
        }
        if self.behind_since.take().is_some() {
            self.slot ^= 1;
        }
        Ok(())
    }

    /// Whether what was said last may be in the system's memory alone.
    pub(crate) const fn is_behind(&self) -> bool {
        self.behind_since.is_some()
    }

    fn say(&mut self, sequence: Sequence) -> Result<(), Error> {
        self.generation += 1;
        let offset = self.slot * STRIDE;
        let slot = encode(self.generation, sequence);
        self.file.write_all_at(&slot, offset).map_err(|error| Error::io("write", &self.path, error))
    }
}

fn encode(generation: u64, sequence: Sequence) -> [u8; SLOT_LEN] {
    let mut slot = [0; SLOT_LEN];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..16].copy_from_slice(&generation.to_le_bytes());
    slot[16..24].copy_from_slice(&sequence.0.to_le_bytes());
    let hash = blake3::hash(&slot[..24]);
    slot[24..].copy_from_slice(&hash.as_bytes()[..16]);
    slot
}

/// Returns generation and sequence of a slot that is whole.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, Sequence)> {
    let slot = bytes.first_chunk::<SLOT_LEN>()?;
    let generation = u64::from_le_bytes(*slot[8..].first_chunk()?);
    let sequence = Sequence(u64::from_le_bytes(*slot[16..].first_chunk()?));
    (*slot == encode(generation, sequence)).then_some((generation, sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(steps: u64) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("MARKER");
        let mut marker = Marker::create(&path, Sequence(0)).expect("new marker");
        for step in 1..=steps {
            marker.advance(Sequence(step * 10)).expect("advance");
            marker.sync().expect("sync");
        }
        (folder, path)
    }

    #[test]
    fn reads_what_was_last_said() {
        for steps in 0..5 {
            let (_folder, path) = marker(steps);
            assert_eq!(Marker::read(&path).expect("readable"), Reading::At(Sequence(steps * 10)));
        }
    }

    #[test]
    fn what_is_said_is_behind_until_it_is_synced() {
        let (_folder, path) = marker(0);
        let mut marker = Marker::resume(&path).expect("it is there");
        assert!(!marker.is_behind());
        marker.advance(Sequence(7)).expect("advance");
        assert_eq!((marker.is_behind(), Marker::read(&path).expect("readable")), (true, Reading::At(Sequence(7))));
        marker.sync().expect("sync");
        assert!(!marker.is_behind());
    }

    /// The fault: while writes that need no sync went on, none came for what was said before.
    #[test]
    fn what_waits_for_long_is_synced_by_who_comes_next() {
        let (_folder, path) = marker(0);
        let mut marker = Marker::resume(&path).expect("it is there");
        marker.advance(Sequence(7)).expect("advance");
        std::thread::sleep(LAG);
        marker.sync_if_due().expect("sync");
        assert!(!marker.is_behind());
    }

    /// The fault: two writes between syncs went to both slots, so that a power cut could tear both.
    #[test]
    fn what_is_on_the_disk_is_not_written_over_before_what_replaces_it_is() {
        let (_folder, path) = marker(3);
        let mut marker = Marker::resume(&path).expect("it is there");
        let synced = std::fs::read(&path).expect("readable");
        (4..9).for_each(|step| marker.say(Sequence(step * 10)).expect("write"));
        let now = std::fs::read(&path).expect("readable");
        let changed: Vec<_> =
            (0..2).filter(|slot| now[slot * STRIDE as usize..][..SLOT_LEN] != synced[slot * STRIDE as usize..][..SLOT_LEN]).collect();
        let left = 1 - changed[0];
        assert_eq!((changed.len(), decode(&now[left * STRIDE as usize..])), (1, Some((5, Sequence(30)))));
    }

    #[test]
    fn a_flipped_bit_falls_back_to_the_slot_before_and_never_forward() {
        let (_folder, path) = marker(4);
        let whole = std::fs::read(&path).expect("readable");
        for slot in [0, STRIDE as usize] {
            for bit in 0..SLOT_LEN * 8 {
                let mut bytes = whole.clone();
                bytes[slot + bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, &bytes).expect("writable");
                let Reading::At(sequence) = Marker::read(&path).expect("readable") else { panic!("one slot is whole") };
                assert!([30, 40].contains(&sequence.0), "{sequence}");
            }
        }
    }

    #[test]
    fn an_empty_or_zeroed_file_is_unreadable_not_zero() {
        let (_folder, path) = marker(1);
        for bytes in [vec![], vec![0; 8192]] {
            std::fs::write(&path, bytes).expect("writable");
            assert_eq!(Marker::read(&path).expect("readable"), Reading::Unreadable);
        }
        std::fs::remove_file(&path).expect("there");
        assert_eq!(Marker::read(&path).expect("readable"), Reading::Absent);
    }

    #[test]
    fn a_marker_made_anew_goes_back_in_both_slots() {
        let (_folder, path) = marker(7);
        Marker::create(&path, Sequence(5)).expect("made anew");
        assert_eq!(Marker::read(&path).expect("readable"), Reading::At(Sequence(5)));
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes[..SLOT_LEN].fill(0);
        std::fs::write(&path, bytes).expect("writable");
        assert_eq!(Marker::read(&path).expect("readable"), Reading::At(Sequence(5)));
    }
}
