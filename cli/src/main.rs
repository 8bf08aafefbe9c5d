//! The herdbook command: servers, and everything one does with their data.
//!
//! Each command stands in the file of its group; this one reads the command line, runs it, and turns what went wrong into an exit code.

mod audit;
mod backup;
mod blob;
mod branch;
mod cluster;
mod conflicts;
mod connection;
mod demo;
mod document;
mod erase;
mod errors;
mod export;
mod forms;
mod fsck;
mod gc;
mod history;
mod horizon;
mod import;
mod loadtest;
mod merge;
mod moment;
mod names;
mod output;
mod past;
mod patch;
mod progress;
mod revert;
mod server;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::{connection::Global, errors::Error};

/// Requests allocate many small things on many threads; the system's allocator took a seventh of a loaded server's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Herdbook: a version-controlled, replicated document database.
#[derive(Debug, Parser)]
#[command(name = "herdbook", version, propagate_version = true, max_term_width = 120, after_help = FIRST_STEPS, after_long_help = more())]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const FIRST_STEPS: &str = "\
First steps:
  herdbook dev                                                      a cluster in this terminal; in another:
  herdbook import data/cities15000.jsonl.gz -c cities -k geonameid
  herdbook get cities/2950159
  herdbook status

`herdbook help COMMAND` shows examples; `herdbook --help` also the exit codes.";

fn more() -> String {
    format!("{FIRST_STEPS}\n\n{}", errors::EXIT_CODES)
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Ask(Ask),
    /// Run a whole cluster in this process
    Dev(server::dev::DevArgs),
    /// Show a cluster that merges, loses its server, and gets it back
    Demo(demo::DemoArgs),
    /// Hold acknowledgements against a restored store
    #[command(hide = true)]
    DemoVerify(demo::VerifyArgs),
    /// Run a coordinator
    Coordinator(server::coordinator::CoordinatorArgs),
    /// Run a replica
    Replica(server::replica::ReplicaArgs),
    /// Copy a data folder into a backup
    Backup(backup::BackupArgs),
    /// Make a data folder from a backup
    Restore(backup::RestoreArgs),
    /// Remove what no state needs any more
    Gc(gc::GcArgs),
    /// Check a data folder
    Fsck(fsck::FsckArgs),
    /// Check what the authority signed
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print a script that completes this command in a shell
    #[command(after_help = "Examples:\n  source <(herdbook completions bash)\n  herdbook completions zsh > ~/.zfunc/_herdbook")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Make faults on purpose
    #[command(subcommand, hide = true)]
    Drill(fsck::DrillCommand),
}

/// Commands that ask a server.
#[derive(Debug, Subcommand)]
enum Ask {
    /// Show a document
    Get(document::GetArgs),
    /// Write a document as a whole
    Put(document::PutArgs),
    /// Change fields of a document
    Patch(document::PatchArgs),
    /// Delete documents
    Rm(document::RmArgs),
    /// List documents by key
    Ls(document::LsArgs),
    /// Count documents
    Count(document::CountArgs),
    /// Upload and download bytes of any length
    #[command(subcommand)]
    Blob(blob::BlobCommand),
    /// Write documents from JSON lines
    Import(import::ImportArgs),
    /// Write documents to JSON lines
    Export(export::ExportArgs),
    /// Tell what changes, as it changes
    Watch(watch::WatchArgs),
    /// List commits
    Log(history::LogArgs),
    /// Show a commit
    Show(history::ShowArgs),
    /// Compare two states
    Diff(history::DiffArgs),
    /// Do what a patch of `diff --patch` says
    Apply(patch::ApplyArgs),
    /// Tell who wrote each part of a document
    Blame(past::BlameArgs),
    /// Play back what happened between two states
    Playback(past::PlaybackArgs),
    /// Take back what commits did
    Revert(revert::RevertArgs),
    /// Take one branch into another
    Merge(merge::MergeArgs),
    /// List, show and resolve stored conflicts
    #[command(subcommand)]
    Conflicts(conflicts::ConflictsCommand),
    /// List, begin, promote and abandon branches
    #[command(subcommand)]
    Branch(branch::BranchCommand),
    /// Say from when on history is kept
    #[command(subcommand)]
    Horizon(horizon::HorizonCommand),
    /// Take values of erasable fields away for good
    Erase(erase::EraseArgs),
    /// Show a schema
    #[command(subcommand)]
    Schema(branch::SchemaCommand),
    /// Show all about a member
    Status(cluster::StatusArgs),
    /// List the members
    #[command(
        after_help = "Examples:\n  herdbook peers\n  herdbook peers --json      {\"replica\", \"name\", \"role\", \"address\", \"connected\", \"revoked\", \"silent_millis\", \"level\", \"self\"} a line"
    )]
    Peers,
    /// Make tokens for new members
    #[command(subcommand)]
    Token(cluster::TokenCommand),
    /// Take a member off the network
    #[command(
        after_help = "Example:\n  herdbook offline -e http://127.0.0.1:7711      it goes on serving, and exchanges nothing until `online`"
    )]
    Offline,
    /// Put a member back on the network
    #[command(after_help = "Example:\n  herdbook online -e http://127.0.0.1:7711")]
    Online,
    /// Open a coordinator that waits for members to restore itself from
    Reopen(cluster::ReopenArgs),
    /// Put load on a cluster and check that it keeps its word
    Loadtest(herdbook_loadtest::cli::Args),
}

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    match run(&global, command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.tell(global.json, &global.endpoint);
            error.exit_code()
        }
    }
}

fn run(global: &Global, command: Command) -> Result<(), Error> {
    match command {
        Command::Dev(args) => server::run(|| server::dev::run(global, args)),
        Command::Demo(args) => runtime()?.block_on(demo::demo(args)),
        Command::DemoVerify(args) => runtime()?.block_on(demo::verify(global, args)),
        Command::Coordinator(args) => server::run(|| server::coordinator::run(global, args)),
        Command::Replica(args) => server::run(|| server::replica::run(global, args)),
        Command::Backup(args) => backup::backup(global, &args),
        Command::Restore(args) => backup::restore(global, &args),
        Command::Gc(args) => runtime()?.block_on(gc::gc(global, args)),
        Command::Fsck(args) => fsck::fsck(global, &args),
        Command::Audit(command) => audit::verify(global, &command),
        Command::Drill(command) => fsck::drill(global, &command),
        Command::Completions { shell } => completions(global, shell),
        Command::Ask(command) => runtime()?.block_on(ask(global, command)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)
}

/// Runs a command that asks a server.
async fn ask(global: &Global, command: Ask) -> Result<(), Error> {
    match command {
        Ask::Get(args) => document::get(global, args).await,
        Ask::Put(args) => document::put(global, args).await,
        Ask::Patch(args) => document::patch(global, args).await,
        Ask::Rm(args) => document::rm(global, args).await,
        Ask::Ls(args) => document::ls(global, args).await,
        Ask::Count(args) => document::count(global, args).await,
        Ask::Blob(command) => blob::blob(global, command).await,
        Ask::Import(args) => import::import(global, args).await,
        Ask::Export(args) => export::export(global, args).await,
        Ask::Watch(args) => watch::watch(global, args).await,
        Ask::Log(args) => history::log(global, args).await,
        Ask::Show(args) => history::show(global, args).await,
        Ask::Diff(args) => history::diff(global, args).await,
        Ask::Apply(args) => patch::apply(global, args).await,
        Ask::Blame(args) => past::blame(global, args).await,
        Ask::Playback(args) => past::playback(global, args).await,
        Ask::Revert(args) => revert::revert(global, args).await,
        Ask::Merge(args) => merge::merge(global, args).await,
        Ask::Conflicts(command) => conflicts::conflicts(global, command).await,
        Ask::Branch(command) => branch::branch(global, command).await,
        Ask::Horizon(command) => horizon::horizon(global, command).await,
        Ask::Erase(args) => erase::erase(global, args).await,
        Ask::Schema(command) => branch::schema(global, command).await,
        Ask::Status(args) => cluster::status(global, args).await,
        Ask::Peers => cluster::peers(global).await,
        Ask::Token(command) => cluster::token(global, command).await,
        Ask::Offline => cluster::set_online(global, false).await,
        Ask::Online => cluster::set_online(global, true).await,
        Ask::Reopen(args) => cluster::reopen(global, args).await,
        Ask::Loadtest(args) => loadtest::run(global, args).await,
    }
}

fn completions(global: &Global, shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "herdbook", &mut script);
    global.output().line(String::from_utf8_lossy(&script).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_has_an_argument_of_the_name_of_a_global_one() {
        let cli = Cli::command();
        let globals: Vec<_> = cli.get_arguments().map(|argument| argument.get_id().clone()).collect();
        assert!(globals.iter().any(|id| id == "json"));
        for (words, command) in leaves(&cli, &[]) {
            let double = command.get_arguments().find(|argument| globals.contains(argument.get_id()));
            assert!(double.is_none(), "{words}: {double:?}");
        }
    }

    /// Returns every command that is shown and has no commands of its own, with the words that lead to it.
    fn leaves(command: &clap::Command, words: &[String]) -> Vec<(String, clap::Command)> {
        let words = [words, &[command.get_name().to_owned()]].concat();
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help" && !below.is_hide_set()).collect();
        if below.is_empty() {
            return vec![(words.join(" "), command.clone())];
        }
        below.into_iter().flat_map(|below| leaves(below, &words)).collect()
    }

    #[test]
    fn every_help_teaches_with_an_example() {
        for (words, mut command) in leaves(&Cli::command(), &[]).into_iter().filter(|(words, _)| !words.contains("loadtest")) {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example") && help.contains(&format!("  {words}")), "{words}:\n{help}");
        }
    }
}
