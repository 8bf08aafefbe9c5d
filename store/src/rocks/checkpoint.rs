//! A checkpoint: a second store folder with what this one holds now, for backup.

use std::{fs, io, path::Path};

use rocksdb::checkpoint::Checkpoint;

use super::{
    RocksStore,
    folder::{sync_folder, write_format},
    marker::Marker,
};
use crate::Error;

impl RocksStore {
    /// Makes `target`, a folder that does not exist yet, a store with what this one holds now; on return it is on the disk.
    ///
    /// Within one file system the data files are shared by hard links (some milliseconds, no room); else they are copied. Writes go
    /// on meanwhile. `FORMAT` comes last, so a checkpoint that was cut short is not taken for a store.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoParent`], [`Error::Full`], engine errors. What was made until then is left in `target`.
    pub fn checkpoint(&self, target: &Path) -> Result<(), Error> {
        fs::create_dir(target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists { folder: target.to_owned() },
            io::ErrorKind::NotFound => Error::NoParent { folder: target.to_owned() },
            _ => Error::io("make", target, error),
        })?;
        // What comes after this may be in the checkpoint too, but need not.
        let sequence = self.engine.latest();
        let failed = |error| self.engine.engine_error("make a checkpoint of", error);
        Checkpoint::new(&self.engine.db).map_err(failed)?.create_checkpoint(target.join("db")).map_err(failed)?;
        Marker::create(&target.join("MARKER"), sequence)?;
        write_format(target)?;
        sync_folder(target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}
