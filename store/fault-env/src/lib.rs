//! A file system for RocksDB whose power a test can cut: what was written but not synced is gone afterwards.
//!
//! It is RocksDB's own `FaultInjectionTestEnv`, which notes for each file how far it was synced and for each folder which
//! names were. Killing a process proves nothing about power cuts, since the system's cache outlives it; this does.

#![expect(unsafe_code, reason = "calls a C++ class that has no safe interface; each block says why it is sound")]

use rocksdb::Env;

/// Opaque: an `Env*` and who owns it.
type RawEnv = librocksdb_sys::rocksdb_env_t;

unsafe extern "C" {
    fn herdbook_fault_env_new() -> *mut RawEnv;
    fn herdbook_fault_env_stop(env: *mut RawEnv, full: bool);
    fn herdbook_fault_env_restart(env: *mut RawEnv, seed: u32) -> bool;
    fn herdbook_fault_env_resume(env: *mut RawEnv);
}

/// A file system that passes everything on to the real one until its power is cut.
pub struct FaultEnv {
    raw: *mut RawEnv,
    /// Owns what `raw` points to.
    env: Env,
}

// SAFETY: the class behind the pointer takes its own lock in every method called here, and lives as long as `env`.
unsafe impl Send for FaultEnv {}
// SAFETY: as above.
unsafe impl Sync for FaultEnv {}

impl Default for FaultEnv {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultEnv {
    /// Returns one with the power on.
    pub fn new() -> Self {
        // SAFETY: takes nothing and returns a fresh environment, which `Env` then owns and frees as RocksDB's C interface does.
        let (raw, env) = unsafe {
            let raw = herdbook_fault_env_new();
            (raw, Env::from_raw(raw))
        };
        Self { raw, env }
    }

    /// Returns the environment to open a database in.
    pub fn env(&self) -> Env {
        self.env.clone()
    }

    /// Cuts the power: from now on every write and sync fails and nothing changes on the disk. Close the database, then
    /// [`restart`](Self::restart).
    pub fn cut_power(&self) {
        // SAFETY: `raw` lives as long as `env`; the call takes the environment's lock.
        unsafe { herdbook_fault_env_stop(self.raw, false) }
    }

    /// Fills the disk: from now on every write and sync fails for want of room, until [`make_room`](Self::make_room).
    pub fn fill(&self) {
        // SAFETY: as in `cut_power`.
        unsafe { herdbook_fault_env_stop(self.raw, true) }
    }

    /// Makes room on a full disk.
    pub fn make_room(&self) {
        // SAFETY: as in `cut_power`.
        unsafe { herdbook_fault_env_resume(self.raw) }
    }

    /// Drops what was not synced and switches the power on again: all of it with seed 0, else a part, chosen by `seed`, at the end
    /// of each file. Files whose names were not synced are gone. The database must be closed.
    ///
    /// # Panics
    /// If the real file system refuses; the test means nothing then.
    pub fn restart(&self, seed: u32) {
        // SAFETY: as in `cut_power`; nobody has files open, as demanded.
        assert!(unsafe { herdbook_fault_env_restart(self.raw, seed) }, "the real file system refused");
    }
}
