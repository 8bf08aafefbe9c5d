//! `replica`: runs a node that reads, writes and exchanges.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use herdbook_replica::node::{self, Settings};

use super::{Logging, Signals, name_of, read_token, ready, serve};
use crate::{connection::Global, errors::Error};

/// Runs a replica: reads, writes, and goes on alone when it must.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook replica --data r1 --coordinator http://127.0.0.1:7700 --token-file token
  herdbook replica --data r2 --coordinator http://127.0.0.1:7700 --listen 127.0.0.1:7711 --peer http://127.0.0.1:7710

A token is needed once, to join; `herdbook token create` makes one. It prints `ready grpc=ADDRESS http=ADDRESS` once it serves, and ends on
SIGTERM.")]
pub(crate) struct ReplicaArgs {
    /// Folder of its data and its key
    #[arg(long, value_name = "DIR", env = "HERDBOOK_DATA")]
    data: PathBuf,
    /// Where the coordinator is reached
    #[arg(long, value_name = "URL", env = "HERDBOOK_COORDINATOR")]
    coordinator: Option<String>,
    /// Token to join with
    #[arg(long, value_name = "TOKEN", env = "HERDBOOK_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File with the token to join with
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// Where it takes gRPC; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7710")]
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
    /// Another member to call; may be repeated
    #[arg(long = "peer", value_name = "URL")]
    peers: Vec<String>,
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

/// Runs a replica.
pub(crate) async fn run(global: &Global, args: ReplicaArgs) -> Result<(), Error> {
    args.logging.begin("info");
    let token = match &args.token_file {
        Some(path) => Some(read_token(path)?),
        None => args.token,
    };
    let settings = Settings {
        name: args.name.unwrap_or_else(|| name_of(&args.data)),
        data: args.data,
        listen: args.listen,
        http: args.http,
        advertise: args.advertise,
        coordinator: args.coordinator,
        token,
        peers: args.peers,
        cache_bytes: args.cache.map(|mib| mib << 20),
        collect_at: Some(args.collect_at),
        fold_edits: Some(args.fold_edits),
    };
    let node = node::start(settings).await?;
    let signals = Signals::take()?;
    global.output().line(ready(&node))?;
    serve(vec![node], signals).await
}
