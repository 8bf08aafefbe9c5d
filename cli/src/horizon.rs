//! `horizon set`: from when on history is kept.

use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use herdbook_model::time::Time;
use herdbook_proto::cluster::{Horizon, SetHorizon};
use herdbook_replica::clock::{Clock as _, SystemClock};
use serde_json::{Value as Json, json};

use crate::{
    connection::{Connection, Global},
    errors::Error,
    moment::{duration, parse_time, rfc3339},
    output::{counted, short},
};

/// From when on history is kept.
#[derive(Debug, Subcommand)]
pub(crate) enum HorizonCommand {
    /// Let a state of each branch stand for the edits that led to it
    #[command(after_help = "\
Examples:
  herdbook horizon set --keep 90d --dry-run -e http://127.0.0.1:7700     what it would cover
  herdbook horizon set --keep 90d --yes -e http://127.0.0.1:7700
  herdbook horizon set --before 2026-01-01 --branch main@1 -e http://127.0.0.1:7700

Only the coordinator answers this, and only where there is one branch: another would need edits that are gone. Members drop the edits when they next collect garbage, by themselves or by `herdbook gc`, and nothing brings
them back: commits before it keep their names, authors and times, but what they changed is no longer told, and no state before it.
With --json: {\"branch\", \"commits\", \"documents\", \"time\", \"heads\", \"root\", \"entry\"} a line")]
    Set(SetArgs),
}

/// Up to when.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("until").required(true).args(["before", "keep"])))]
pub(crate) struct SetArgs {
    /// Cover accepted commits up to this time
    #[arg(long, value_name = "TIME", value_parser = |text: &str| parse_time(text).ok_or("give a time: 2026-05-01 or 2026-05-01T10:30:00Z"))]
    before: Option<u64>,
    /// Keep the edits of this long
    #[arg(long, value_name = "TIME", value_parser = duration)]
    keep: Option<Duration>,
    /// Only tell what would be covered
    #[arg(long)]
    dry_run: bool,
}

/// Does what `command` says.
pub(crate) async fn horizon(global: &Global, HorizonCommand::Set(args): HorizonCommand) -> Result<(), Error> {
    let kept = args.keep.map(|keep| u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
    let before = kept.map_or(args.before, |keep| Some(SystemClock.now().millis().saturating_sub(keep)));
    let set = SetHorizon { branch: global.branch.clone(), before: Time::from_millis(before.unwrap_or(0)), dry_run: args.dry_run };
    let connection = Connection::open(global).await?;
    let out = connection.out;
    if !args.dry_run {
        out.confirm(&format!("Let the edits of accepted commits up to {} go, on every member?", rfc3339(set.before)), global.yes)?;
    }
    let horizons = connection.client.set_horizon(set).await?;
    if horizons.is_empty() && !out.is_json() {
        return out.line("nothing more to cover: no branch has accepted commits up to then beyond its horizon");
    }
    for horizon in &horizons {
        out.either(|| form(horizon), || line(horizon, args.dry_run))?;
    }
    Ok(())
}

fn form(horizon: &Horizon) -> Json {
    let Horizon { branch, heads, root, commits, time, documents, position } = horizon;
    json!({
        "branch": branch.as_str(),
        "commits": commits,
        "documents": documents,
        "time": rfc3339(*time),
        "heads": heads.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "root": root.to_string(),
        "entry": position.map(|position| position.seq),
    })
}

fn line(horizon: &Horizon, dry_run: bool) -> String {
    let Horizon { branch, heads: _, root, commits, time, documents, position: _ } = horizon;
    let would = if dry_run { "would stand" } else { "stands" };
    let (commits, documents) = (counted(*commits, "commit"), counted(*documents, "document"));
    format!("{branch}: the state of {} ({documents}, root {}) {would} for the edits of {commits}", rfc3339(*time), short(root))
}
