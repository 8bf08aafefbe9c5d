//! `dev`: a whole cluster in one process, for development and tests.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::Args;
use herdbook_model::schema::Schema;
use herdbook_replica::{
    keys,
    node::{self, Node},
};

use super::{
    Logging, Signals,
    coordinator::{parse_schema, read_schema},
    ready, serve,
};
use crate::{connection::Global, errors::Error, output::Output};

/// Schema of the first branch where none is given: the sample cities, and notes to play with.
const SCHEMA: &str = include_str!("dev.json");

/// How far the HTTP ports lie above the gRPC ports.
const HTTP_ABOVE: u16 = 80;

/// How far the replicas' ports lie above the coordinator's.
const REPLICAS_ABOVE: u16 = 10;

/// Runs a coordinator and replicas in this process.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook dev                                  a cluster that leaves nothing behind
  herdbook dev --data cluster --replicas 3      one that is there again next time
  herdbook dev --schema mine.json --port 0      on free ports

The coordinator listens on --port (HTTP: 80 above), the replicas on the ports from 10 above it on, so that every other command finds the first
one without being told. Each node is told in a line `NAME grpc=ADDRESS http=ADDRESS`; then `ready grpc=ADDRESS http=ADDRESS` names the first
replica. Without --schema there are the collections `cities` and `notes`:

  herdbook import data/cities15000.jsonl.gz --collection cities --key geonameid
  herdbook patch cities/2950159 --set population=3700000
  herdbook log cities/2950159")]
pub(crate) struct DevArgs {
    /// Replicas beside the coordinator
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=16))]
    replicas: u16,
    /// Folder of all data; a temporary one, removed at the end, if left out
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// File with the schema of the first branch, for a new cluster
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Port of the coordinator; 0 gives every node a free one
    #[arg(long, value_name = "PORT", default_value_t = 7700, value_parser = clap::value_parser!(u16).range(0..=65_000))]
    port: u16,
    #[command(flatten)]
    logging: Logging,
}

/// Runs the cluster.
pub(crate) async fn run(global: &Global, args: DevArgs) -> Result<(), Error> {
    args.logging.begin("warn");
    let out = global.output();
    let schema = match &args.schema {
        Some(path) => read_schema(path)?,
        None => parse_schema("the built-in schema", SCHEMA)?,
    };
    let temporary = match args.data {
        Some(_) => None,
        None => Some(tempfile::tempdir().map_err(|error| Error::file("make a folder in", std::env::temp_dir(), error))?),
    };
    let data = match (&args.data, &temporary) {
        (Some(data), _) => data.clone(),
        (None, Some(temporary)) => temporary.path().to_owned(),
        (None, None) => return Err(Error::argument("--data", "there is no folder to use")),
    };
    let nodes = start(&out, &data, &args, schema).await?;
    let signals = Signals::take()?;
    let first = nodes.get(1).or(nodes.first());
    if let Some(first) = first {
        out.line(ready(first))?;
    }
    serve(nodes, signals).await
}

async fn start(out: &Output, data: &Path, args: &DevArgs, schema: Schema) -> Result<Vec<Node>, Error> {
    // Nobody but this process needs to join, so nobody needs to know the token.
    let secret: [u8; 24] = keys::random().map_err(herdbook_replica::Error::from)?;
    let token: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let authority = herdbook_coordinator::Settings {
        node: settings(data, "coordinator", args.port),
        keys: data.join("keys"),
        schema: Some(schema),
        repository_name: "dev".to_owned(),
        join_token: Some(token.clone()),
        restore_quorum: 0,
    };
    let coordinator = herdbook_coordinator::start(authority).await?;
    let address = format!("http://{}", coordinator.listen());
    let mut nodes = Vec::with_capacity(1 + usize::from(args.replicas));
    tell(out, "coordinator", &coordinator)?;
    nodes.push(coordinator);
    for number in 1..=args.replicas {
        let name = format!("replica-{number}");
        let port = if args.port == 0 { 0 } else { args.port + REPLICAS_ABOVE + number - 1 };
        let joining = node::Settings { coordinator: Some(address.clone()), token: Some(token.clone()), ..settings(data, &name, port) };
        let node = node::start(joining).await?;
        tell(out, &name, &node)?;
        nodes.push(node);
    }
    Ok(nodes)
}

fn settings(data: &Path, name: &str, port: u16) -> node::Settings {
    let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    node::Settings {
        data: data.join(name),
        listen: at(port),
        http: Some(at(if port == 0 { 0 } else { port + HTTP_ABOVE })),
        name: name.to_owned(),
        advertise: None,
        coordinator: None,
        token: None,
        peers: Vec::new(),
        cache_bytes: None,
        collect_at: None,
        fold_edits: None,
    }
}

fn tell(out: &Output, name: &str, node: &Node) -> Result<(), Error> {
    let line = ready(node);
    out.line(format!("{name}{}", line.strip_prefix("ready").unwrap_or(&line)))
}
