//! `gc`: removes what no state of a member needs any more, in a running member or in the data folder of one that does not run.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use herdbook_proto::cluster::Collected;
use herdbook_replica::{
    Repository,
    clock::SystemClock,
    keys,
    repository::{Collecting, Identity, Settings as RepositorySettings, Stage},
};
use herdbook_store::{RocksStore, Settings};
use serde_json::json;

use crate::{
    backup::STORE,
    connection::{Connection, Global},
    errors::Error,
    moment,
    output::{Output, bytes, counted},
    progress::{Progress, Unit},
};

/// Removes chunks that no state needs any more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook gc                                  asks the member at --endpoint; it goes on serving
  herdbook gc --dry-run --data r1              counts what would go, in the folder of a member that does not run
  herdbook gc --json | jq .bytes

Old nodes of trees are garbage, and edits before a horizon (`herdbook horizon set`); other history stays whole, since it is edits. A running member collects by itself, see `herdbook replica --help`.
With --json: {\"chunks\", \"removed\", \"bytes\", \"commits\", \"edit_bytes\", \"pinned\", \"disk_before\", \"disk_after\", \"seconds\"}")]
pub(crate) struct GcArgs {
    /// The data folder of a member that does not run
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Count what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Collects garbage.
pub(crate) async fn gc(global: &Global, args: GcArgs) -> Result<(), Error> {
    let out = global.output();
    let collected = match &args.data {
        Some(folder) => here(&out, folder, args.dry_run)?,
        None => Connection::open(global).await?.client.collect_garbage(args.dry_run).await?,
    };
    let Collected { chunks, removed, bytes: removed_bytes, commits, edit_bytes, pinned, disk_before, disk_after, took } = collected;
    let form = || {
        json!({
            "chunks": chunks,
            "removed": removed,
            "bytes": removed_bytes,
            "commits": commits,
            "edit_bytes": edit_bytes,
            "pinned": pinned,
            "disk_before": disk_before,
            "disk_after": disk_after,
            "seconds": took.as_secs_f64(),
        })
    };
    let text = || {
        let (went, of) = (if args.dry_run { "would go" } else { "went" }, counted(chunks, "chunk"));
        let mut removed = format!("{} of {of} {went}, {} before compression", counted(removed, "chunk"), bytes(removed_bytes));
        if commits > 0 {
            removed = format!("{removed}; the edits of {} before the horizon {went}, {}", counted(commits, "commit"), bytes(edit_bytes));
        }
        if args.dry_run {
            return format!("{removed}; counted in {}", moment::span(took));
        }
        format!("{removed}; on disk {} became {} in {}", bytes(disk_before), bytes(disk_after), moment::span(took))
    };
    out.either(form, text)
}

fn here(out: &Output, folder: &std::path::Path, dry_run: bool) -> Result<Collected, Error> {
    let store = RocksStore::open(folder.join(STORE), &Settings { create: false, ..Settings::default() })?;
    // Nothing is signed here: any key will do.
    let identity = Identity { replica: keys::generate().map_err(herdbook_replica::Error::from)?, genesis: None };
    let repository = Repository::open(Arc::new(store), identity, Arc::new(SystemClock), RepositorySettings::default())?;
    let mut progress = Progress::begin(out, "gc", Unit::Things("chunks"), None);
    let collected = repository.collect(Collecting { dry_run, ..Collecting::default() }, |stage| match stage {
        Stage::Pruning(done) | Stage::Marking(done) | Stage::Sweeping(done, _) => progress.at(done, done),
        Stage::Reclaiming(part) => progress.at(u64::from(part), u64::from(part)),
    })?;
    progress.end();
    Ok(collected.into())
}
