//! `audit`: what the authority signed, checked by somebody who takes nobody's word for it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use herdbook_replica::repository::{Audit, Epoch, audit};
use herdbook_store::{RocksStore, Settings};
use serde_json::json;

use crate::{
    backup::STORE,
    connection::Global,
    errors::Error,
    output::{Style, counted, short},
};

/// Checks of the head log.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check the head log in the data folder of a member that does not run
    #[command(after_help = "\
Examples:
  herdbook audit verify --data /var/lib/herdbook/r1
  herdbook audit verify --data r1 --json | jq .epochs

From the genesis record on, each entry's signature, its place in the chain of hashes, and its epoch, whose key the root must have certified.
Commits and documents are checked by `herdbook fsck`. Exits with 8 if an entry is wrong.
With --json: {\"repository\", \"root\", \"entries\", \"epochs\": [{\"number\", \"first\", \"entries\", \"key\"}], \"voided\", \"absent_heads\",
\"fault\": {\"entry\", \"why\"} or null}")]
    Verify(VerifyArgs),
}

/// Which member.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The member's data folder
    #[arg(long, value_name = "DIR", env = "HERDBOOK_DATA")]
    data: PathBuf,
}

/// Checks the head log of a data folder.
pub(crate) fn verify(global: &Global, AuditCommand::Verify(args): &AuditCommand) -> Result<(), Error> {
    let out = global.output();
    let store = RocksStore::open(args.data.join(STORE), &Settings { create: false, ..Settings::default() })?;
    let Audit { repository, root, epochs, newest, voided, absent_heads, fault } = audit(&store)?;
    let entries = newest.map_or(0, |newest| newest.seq + 1);
    let form = || {
        let epoch = |Epoch { number, first, key, entries }: &Epoch| json!({ "number": number, "first": first, "entries": entries, "key": hex(key) });
        json!({
            "repository": repository.to_string(),
            "root": hex(&root),
            "entries": entries,
            "epochs": epochs.iter().map(epoch).collect::<Vec<_>>(),
            "voided": voided,
            "absent_heads": absent_heads,
            "fault": fault.as_ref().map(|(entry, why)| json!({ "entry": entry, "why": why })),
        })
    };
    let text = || {
        let mut text = format!("repository {}, root key {}\n", short(&repository), &hex(&root)[..8]);
        for Epoch { number, first, key, entries } in &epochs {
            text += &format!("epoch {number}: {entries} entries from place {first} on, signed with {}\n", &hex(key)[..8]);
        }
        if let Some((entry, why)) = &fault {
            text += &format!("{}  entry {entry}: {why}\n", out.paint(Style::Alarm, "bad entry"));
        }
        if absent_heads > 0 {
            text += &format!("{} not here yet\n", counted(absent_heads, "accepted head"));
        }
        text + &format!("{entries} entries of the head log checked, {} voided", counted(voided, "request"))
    };
    out.either(form, text)?;
    if fault.is_some() { Err(Error::Findings { count: 1, path: args.data.clone() }) } else { Ok(()) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
