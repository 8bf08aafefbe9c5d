//! How the engine is set up: bounded memory, values of chunks apart from their keys, and a log that is never cut in silence.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, Env, LogLevel, Options, WriteBufferManager,
};

use super::{Settings, collect::USUAL_PART};
use crate::{Place, Table};

/// Chunks of at least this many bytes lie in blob files, away from their keys, so that compaction does not copy them.
const MIN_BLOB: u64 = 1 << 10;

/// Requests of at least this many bytes do so too: mostly they hold parts of blobs, which do not shrink.
const LONG_EDIT: u64 = 16 << 10;

/// How the engine reads its log on opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// Damage before the end of the log refuses; a torn end is accepted.
    Strict,
    /// What follows the first damage is cut off.
    Prefix,
    /// As `Prefix`, for opening without writing. The manifest's word on the logs stays in force: to forget it the engine writes, and
    /// one that may not ends the process instead.
    Look,
}

/// Options of one opening, with what they share.
pub(super) struct Setup {
    settings: Settings,
    pub(super) cache: Cache,
    pub(super) buffers: WriteBufferManager,
    env: Option<Env>,
}

impl Setup {
    /// Returns the options for `settings`; files go through `env` if one is given.
    pub(super) fn new(settings: &Settings, env: Option<Env>) -> Self {
        let cache = Cache::new_lru_cache(settings.cache_bytes);
        let buffers = WriteBufferManager::new_write_buffer_manager_with_cache(settings.write_buffer_bytes, false, cache.clone());
        Self { settings: settings.clone(), cache, buffers, env }
    }

    /// Returns the bytes of one table that are in memory until they go to the disk; as many more may come meanwhile.
    pub(super) const fn write_buffer(&self) -> u64 {
        self.settings.write_buffer_bytes as u64 / 2
    }

    /// Returns the options of the whole database.
    ///
    /// `has_log` says whether the folder has a log file: the engine's check of the log's continuity takes a database
    /// without one for damaged, but after a power cut between the removal of a log that is no longer needed and the first sync of
    /// the next one there is none, and nothing is missing.
    pub(super) fn database(&self, recovery: Recovery, create: bool, has_log: bool) -> Options {
        let mut options = without_setters(recovery == Recovery::Strict && has_log);
        options.create_if_missing(create);
        options.create_missing_column_families(true);
        options.set_paranoid_checks(true);
        // The engine's default, point-in-time, takes any damage for the end of the log and drops what follows in silence.
        options.set_wal_recovery_mode(match recovery {
            Recovery::Strict => DBRecoveryMode::TolerateCorruptedTailRecords,
            Recovery::Prefix | Recovery::Look => DBRecoveryMode::PointInTime,
        });
        options.set_track_and_verify_wals_in_manifest(recovery != Recovery::Prefix);
        // All tables are flushed together, so a log is needed by all or by none: opening replays little, and after a cut
        // no table is ahead of another.
        options.set_atomic_flush(true);
        options.set_write_buffer_manager(&self.buffers);
        options.set_max_total_wal_size(2 * self.settings.write_buffer_bytes as u64);
        options.set_max_open_files(i32::try_from(self.settings.max_open_files).unwrap_or(i32::MAX));
        options.set_max_background_jobs(i32::try_from(self.settings.background_jobs).unwrap_or(i32::MAX));
        options.set_skip_stats_update_on_db_open(true);
        options.set_max_manifest_file_size(16 << 20);
        options.set_bytes_per_sync(1 << 20);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(2);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        if let Some(env) = &self.env {
            options.set_env(env);
        }
        options
    }

    /// Returns every column family with its options.
    pub(super) fn families(&self) -> impl Iterator<Item = ColumnFamilyDescriptor> + '_ {
        let tables = Table::ALL.map(|table| ColumnFamilyDescriptor::new(table.name(), self.table(table)));
        std::iter::once(ColumnFamilyDescriptor::new(family(Place::Chunks), self.chunks())).chain(tables)
    }

    /// Returns the options of a table: ordered scans and point look-ups of small records.
    fn table(&self, table: Table) -> Options {
        let mut options = self.family();
        let mut blocks = self.blocks();
        blocks.set_block_size(8 << 10);
        options.set_block_based_table_factory(&blocks);
        if table == Table::Edits {
            Self::apart(&mut options, LONG_EDIT);
        }
        if table == Table::Index {
            // Each commit asks whether its requests were seen before, and mostly they were not.
            options.set_memtable_prefix_bloom_ratio(0.05);
            options.set_memtable_whole_key_filtering(true);
        }
        options
    }

    /// Returns the options of chunks: point look-ups by a random key, values apart.
    pub(super) fn chunks(&self) -> Options {
        let mut options = self.family();
        let mut blocks = self.blocks();
        blocks.set_block_size(4 << 10);
        blocks.set_data_block_index_type(rocksdb::DataBlockIndexType::BinaryAndHash);
        options.set_block_based_table_factory(&blocks);
        Self::apart(&mut options, MIN_BLOB);
        options.set_blob_cache(&self.cache);
        options
    }

    /// Lets values of at least `least` bytes lie in files of their own.
    fn apart(options: &mut Options, least: u64) {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(least);
        // Whole files come back when they hold nothing any more: small ones sooner, and with less of them twice.
        options.set_blob_file_size(16 << 20);
        options.set_blob_compression_type(DBCompressionType::Zstd);
        options.set_enable_blob_gc(true);
        options.set_blob_gc_age_cutoff(USUAL_PART);
    }

    fn family(&self) -> Options {
        let mut options = Options::default();
        options.set_write_buffer_size(self.settings.write_buffer_bytes / 2);
        // Small tables would else take a whole MiB for their first record.
        options.set_arena_block_size(128 << 10);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        options.set_level_compaction_dynamic_level_bytes(true);
        // Most keys begin with a hash, so each merge rewrites what lies below: half as many, each of twice as many files.
        options.set_level_zero_file_num_compaction_trigger(8);
        options.set_target_file_size_base(16 << 20);
        options
    }

    fn blocks(&self) -> BlockBasedOptions {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        // The newest files are asked most and live shortest: their filters are the faster and larger ones.
        blocks.set_hybrid_ribbon_filter(10.0, 1);
        blocks.set_optimize_filters_for_memory(true);
        // Filters and indexes count as cache, or memory would grow with the data.
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks
    }
}

/// Returns options for what has no setter of its own: whether the engine checks that each log goes on where the one before ended,
/// and that after a failed write or sync it does not try again behind our back. Room in files is not reserved ahead: that waits for the
/// file system's journal, by tenths of a second where much is written, and with it every commit.
fn without_setters(check_continuity: bool) -> Options {
    let text = format!("track_and_verify_wals={check_continuity};max_bgerror_resume_count=0;allow_fallocate=false");
    Options::default().get_options_from_string(text).expect("options that the bundled engine knows")
}

/// Returns the name of the column family of `place`.
pub(super) const fn family(place: Place) -> &'static str {
    match place {
        Place::Chunks => "chunks",
        Place::Table(table) => table.name(),
    }
}
