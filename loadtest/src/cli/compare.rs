//! `loadtest compare`: two reports, or Herdbook beside what users would pick instead, which a second binary does.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Verdict;
use crate::{
    Error, cluster,
    compare::{Change, compare},
    report::change_table,
};

/// The environment variable that names the second binary.
const PEERS: &str = "HERDBOOK_PEERS";

#[derive(Debug, Clone, Args)]
pub(super) struct CompareArgs {
    /// Two reports of `run`, each a file or several with commas between; or names of rows
    #[arg(value_name = "REPORT|ROW", required_unless_present_any = ["all", "list"])]
    names: Vec<String>,
    /// All rows
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// List the rows, and do nothing
    #[arg(long, conflicts_with_all = ["names", "all"])]
    list: bool,
    /// Rounds; each system has its turn in each
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Minutes for all rows together; what was not begun by then is left out, and says so. Left out: 90
    #[arg(long, value_name = "N")]
    minutes: Option<u64>,
    /// Seconds in which a server is measured. Left out: 5
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Program that a cluster is started from; left out: HERDBOOK_BIN, or this one
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Folder in which data folders are made
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Also write BENCHMARKS.md's table of goals into this file, between its marks
    #[arg(long, value_name = "FILE")]
    benchmarks: Option<PathBuf>,
}

pub(super) async fn run(args: CompareArgs, as_json: bool) -> Result<Verdict, Error> {
    match &args.names[..] {
        [before, after] if [before, after].iter().all(|name| name.ends_with(".json")) => {
            let changes = compare(&paths(before), &paths(after))?;
            let verdict = Verdict::of(!changes.iter().any(Change::is_worse));
            if as_json {
                println!("{}", serde_json::json!({ "changes": changes }));
            } else {
                print!("{} {}", verdict.word(), change_table(&changes));
            }
            Ok(verdict)
        }
        _ => peers(args, as_json).await,
    }
}

fn paths(names: &str) -> Vec<PathBuf> {
    names.split(',').map(PathBuf::from).collect()
}

/// Lets the second binary do it, with what it prints and how it ends.
async fn peers(args: CompareArgs, as_json: bool) -> Result<Verdict, Error> {
    let CompareArgs { names, all, list, rounds, minutes, seconds, binary, folder, benchmarks } = args;
    let named = std::env::var_os(PEERS).filter(|path| !path.is_empty()).map(PathBuf::from);
    let beside = || std::env::current_exe().ok().map(|path| path.with_file_name("herdbook-peers"));
    let program = named.or_else(beside).filter(|path| path.is_file()).ok_or(Error::NoPeers)?;
    let mut command = tokio::process::Command::new(&program);
    command.args(names);
    let flags = [("--all", all), ("--list", list), ("--json", as_json)];
    command.args(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag));
    let numbers = [("--rounds", rounds.map(u64::from)), ("--minutes", minutes), ("--seconds", seconds)];
    for (flag, number) in numbers.into_iter().filter_map(|(flag, number)| Some((flag, number?))) {
        command.arg(flag).arg(number.to_string());
    }
    let path = |command: &mut tokio::process::Command, flag: &str, path: Option<&Path>| {
        if let Some(path) = path {
            command.arg(flag).arg(path);
        }
    };
    if !list {
        path(&mut command, "--binary", Some(&cluster::binary(binary)?));
    }
    path(&mut command, "--folder", folder.as_deref());
    path(&mut command, "--benchmarks", benchmarks.as_deref());
    let start = |source| Error::Start { name: "herdbook-peers".to_owned(), binary: program.clone(), source };
    let status = command.kill_on_drop(true).status().await.map_err(start)?;
    Ok(Verdict::of(status.success()))
}
