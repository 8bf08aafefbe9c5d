//! `coordinator`: runs the node that holds authority.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use herdbook_coordinator::Settings;
use herdbook_model::{json::schema_from_json, schema::Schema};
use herdbook_replica::node;

use super::{Logging, Signals, name_of, read_token, ready, serve};
use crate::{connection::Global, errors::Error};

/// Runs the coordinator: the authority over members, branch heads and schemas.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook coordinator --data c --keys keys --schema cities.json
  herdbook coordinator --data /data --keys /keys --listen 0.0.0.0:7700 --http 0.0.0.0:7780 \\
      --join-token-file /token/token --join-token-reusable

With empty --keys it founds a repository; keep a copy of that folder. With keys and no data, or data older than what its keys signed, it
restores itself from its members. It prints
`ready grpc=ADDRESS http=ADDRESS` once it serves, and ends on SIGTERM.")]
pub(crate) struct CoordinatorArgs {
    /// Folder of its data
    #[arg(long, value_name = "DIR", env = "HERDBOOK_DATA")]
    data: PathBuf,
    /// Folder of the authority's keys, which outlives the data
    #[arg(long, value_name = "DIR", env = "HERDBOOK_KEYS")]
    keys: PathBuf,
    /// Where it takes gRPC; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// Where it tells of its health and metrics; nowhere if left out
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
    /// What people call it; as its data folder if left out
    #[arg(long)]
    name: Option<String>,
    /// Where others reach it; where it listens if left out
    #[arg(long, value_name = "URL")]
    advertise: Option<String>,
    /// File with the schema of the first branch, for a new repository
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// What people call the repository, for a new one
    #[arg(long, value_name = "NAME", default_value = "herdbook")]
    repository_name: String,
    /// File with a token that replicas may join with
    #[arg(long, value_name = "FILE", requires = "join_token_reusable")]
    join_token_file: Option<PathBuf>,
    /// The token of that file may be used again and again
    #[arg(long, requires = "join_token_file")]
    join_token_reusable: bool,
    /// How many members must report before a restore goes on by itself; 0 for all
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    restore_quorum: usize,
    /// Memory for the nodes of trees, in MiB
    #[arg(long, value_name = "MIB")]
    cache: Option<usize>,
    /// Share of the store from which on garbage is collected, in percent; 0: only by `herdbook gc`
    #[arg(long, value_name = "PERCENT", env = "HERDBOOK_COLLECT_AT", default_value_t = node::COLLECT_AT, value_parser = clap::value_parser!(u8).range(0..=99))]
    collect_at: u8,
    /// Most edits that are kept in memory above the trees until they are written into them; in large trees it is done sooner. Fewer: more is
    /// written; more: a start after a crash takes longer
    #[arg(long, value_name = "COUNT", env = "HERDBOOK_FOLD_EDITS", default_value_t = herdbook_replica::repository::FOLD_EDITS, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    fold_edits: u64,
    #[command(flatten)]
    logging: Logging,
}

/// Runs the coordinator.
pub(crate) async fn run(global: &Global, args: CoordinatorArgs) -> Result<(), Error> {
    args.logging.begin("info");
    let schema = args.schema.as_deref().map(read_schema).transpose()?;
    let settings = Settings {
        node: node::Settings {
            name: args.name.unwrap_or_else(|| name_of(&args.data)),
            data: args.data,
            listen: args.listen,
            http: args.http,
            advertise: args.advertise,
            coordinator: None,
            token: None,
            peers: Vec::new(),
            cache_bytes: args.cache.map(|mib| mib << 20),
            collect_at: Some(args.collect_at),
            fold_edits: Some(args.fold_edits),
        },
        keys: args.keys,
        schema,
        repository_name: args.repository_name,
        join_token: args.join_token_file.as_deref().map(read_token).transpose()?,
        restore_quorum: args.restore_quorum,
    };
    let node = herdbook_coordinator::start(settings).await?;
    let signals = Signals::take()?;
    global.output().line(ready(&node))?;
    serve(vec![node], signals).await
}

/// Reads a schema.
pub(super) fn read_schema(path: &std::path::Path) -> Result<Schema, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::file("read", path, error))?;
    parse_schema(&path.display().to_string(), &text)
}

/// Reads a schema that comes from `what`.
pub(super) fn parse_schema(what: &str, text: &str) -> Result<Schema, Error> {
    use std::error::Error as _;
    schema_from_json(text).map_err(|error| {
        let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
        Error::Json { what: what.to_owned(), why: format!("{error}{cause}") }
    })
}
