//! The cluster: `status`, `peers`, `token create`, `offline`, `online`, `reopen`.

use std::time::Duration;

use clap::{Args, Subcommand};
use herdbook_model::authority::{Lost, Role};
use herdbook_proto::cluster::{CreateToken, Phase, Status};
use serde_json::json;

use crate::{
    connection::{Connection, Global},
    errors::Error,
    forms,
    moment::{self, rfc3339_millis, span},
    output::{Output, Style, bytes, counted, short, thousands},
};

/// Most lost requests that `status` shows one by one.
const SHOWN: usize = 20;

/// Shows all about the answering member.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook status
  herdbook status --check -e http://replica-2:7710     exits with 1 unless it serves, is online and lost nothing
  herdbook status --json | jq '.branches[] | {branch, root}'

With --json: {\"name\", \"role\", \"phase\", \"online\", \"log\": {\"epoch\", \"seq\", \"entry\"}, \"branches\": [{\"branch\", \"heads\", \"state\", \"root\",
\"documents\", \"commits\", \"conflicts\", \"accepted\", …}], \"outbox\", \"quarantine\", \"lost\", \"recovery\", \"store_bytes\", …}")]
pub(crate) struct StatusArgs {
    /// Exit with 1 unless the member serves, is online and lost nothing
    #[arg(long)]
    check: bool,
}

/// Shows all about the answering member.
pub(crate) async fn status(global: &Global, args: StatusArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let status = connection.client.status().await?;
    if out.is_json() {
        out.json(&forms::status(&status))?;
    } else {
        show(&out, &status)?;
    }
    if args.check { check(&status) } else { Ok(()) }
}

fn check(status: &Status) -> Result<(), Error> {
    let why = match status {
        Status { phase: Phase::Starting, .. } => "it is starting".to_owned(),
        Status { phase: Phase::Recovering, .. } => "it is restoring itself".to_owned(),
        Status { phase: Phase::Frozen, .. } => "it is frozen after a fork".to_owned(),
        Status { online: false, .. } => "it was taken off the network".to_owned(),
        Status { lost, .. } if !lost.is_empty() => format!("{} lost", counted(lost.len() as u64, "request")),
        _ => return Ok(()),
    };
    Err(Error::Unwell { why: format!("{} is not well: {why}", status.name) })
}

fn show(out: &Output, status: &Status) -> Result<(), Error> {
    let phase = match status.phase {
        Phase::Serving => out.paint(Style::Added, "serving"),
        phase => out.paint(Style::Alarm, forms::phase(phase)),
    };
    let network = if status.online { "online".to_owned() } else { out.paint(Style::Alarm, "offline") };
    out.line(format!(
        "{} ({}), {phase}, {network}, version {}",
        out.paint(Style::Name, &status.name),
        forms::role(status.role),
        status.version
    ))?;
    out.line(format!("repository  {} {}", status.repository_name, short(&status.repository)))?;
    out.line(format!("replica     {}, session {}", short(&status.replica), short(&status.session)))?;
    if let Some(log) = &status.log {
        out.line(format!("head log    epoch {}, entry {}", log.epoch, log.seq))?;
    }
    out.line(format!("store       {}", bytes(status.store_bytes)))?;
    out.line(format!("waiting     {} in the outbox, {} in quarantine", thousands(status.outbox), thousands(status.quarantine)))?;
    if let Some(recovery) = &status.recovery {
        let reported = format!("{} of {} members reported, {} needed", recovery.reporters.len(), recovery.members, recovery.needed);
        let missing = counted(recovery.missing_commits, "commit");
        out.line(format!("restore     {}", out.paint(Style::Alarm, format!("{reported}, {missing} to come"))))?;
    }
    show_lost(out, &status.lost)?;
    if status.branches.is_empty() {
        return out.line("\nno branch yet: `herdbook branch start --schema FILE` begins one");
    }
    out.line("")?;
    let rows = status.branches.iter().map(|head| {
        let promoted = if Some(&head.branch) == status.promoted.as_ref() { "*" } else { "" };
        let accepted = match &head.accepted {
            Some(position) if head.accepted_heads == head.heads => format!("all, at {}", position.seq),
            Some(position) => format!("up to {}", position.seq),
            None => "-".to_owned(),
        };
        let conflicts = match head.conflicts {
            0 => "0".to_owned(),
            count => out.paint(Style::Alarm, thousands(count)),
        };
        [
            format!("{}{promoted}", head.branch),
            thousands(head.documents),
            thousands(head.commits),
            conflicts,
            accepted,
            short(&head.state),
            head.root.as_ref().map_or_else(|| "-".to_owned(), short),
        ]
    });
    out.table(["BRANCH", "DOCUMENTS", "COMMITS", "CONFLICTS", "ACCEPTED", "STATE", "ROOT"], rows)
}

fn show_lost(out: &Output, lost: &[Lost]) -> Result<(), Error> {
    if lost.is_empty() {
        return Ok(());
    }
    out.line(out.paint(Style::Alarm, format!("lost        {}", counted(lost.len() as u64, "request"))))?;
    for lost in lost.iter().take(SHOWN) {
        out.line(format!("  {} request {}: {}", short(&lost.request.commit), lost.request.request, lost.documents.join(", ")))?;
    }
    if lost.len() > SHOWN {
        out.line(format!("  and {} more; --json lists all", thousands((lost.len() - SHOWN) as u64)))?;
    }
    Ok(())
}

/// Lists the members, as the answering one knows them.
pub(crate) async fn peers(global: &Global) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let peers = connection.client.peers().await?;
    let own = connection.client.status().await?.replica;
    if out.is_json() {
        return peers.iter().try_for_each(|peer| out.json(&forms::peer(peer, peer.replica == own)));
    }
    let rows = peers.iter().map(|peer| {
        let is_own = peer.replica == own;
        let link = match (peer.revoked, peer.connected) {
            (true, _) => out.paint(Style::Removed, "revoked"),
            (false, _) if is_own => "itself".to_owned(),
            (false, true) => out.paint(Style::Added, "connected"),
            (false, false) => out.paint(Style::Alarm, "away"),
        };
        let heard = peer.silent.map_or_else(|| "never".to_owned(), |silent| format!("{} ago", span(silent)));
        let level = if peer.level { "yes" } else { "no" };
        [
            peer.name.clone(),
            forms::role(peer.role).to_owned(),
            link,
            if is_own { "-" } else { level }.to_owned(),
            if is_own { "-".to_owned() } else { heard },
            if peer.address.is_empty() { "-".to_owned() } else { peer.address.clone() },
            short(&peer.replica),
        ]
    });
    out.table(["NAME", "ROLE", "LINK", "LEVEL", "HEARD", "ADDRESS", "REPLICA"], rows)
}

/// One-time tokens for new members.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token with which one replica may join
    #[command(after_help = "\
Examples:
  herdbook token create -e http://127.0.0.1:7700 > token
  herdbook replica --data r1 --coordinator http://127.0.0.1:7700 --token-file token

Only the coordinator answers this. With --json: {\"token\", \"expires\"}")]
    Create(TokenArgs),
}

/// A new token.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// How long the token is valid
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = moment::duration)]
    lifetime: Duration,
}

/// Makes a token.
pub(crate) async fn token(global: &Global, TokenCommand::Create(args): TokenCommand) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let token = connection.client.create_token(CreateToken { role: Role::Replica, lifetime: args.lifetime }).await?;
    let expires = rfc3339_millis(token.expires_millis);
    connection.out.either(|| json!({ "token": token.token, "expires": expires }), || token.token.clone())?;
    if !connection.out.is_json() {
        connection.out.note(format!("lets one replica in, until {expires}"));
    }
    Ok(())
}

/// Takes the answering member off the network, or puts it back.
pub(crate) async fn set_online(global: &Global, online: bool) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let was_online = connection.client.set_online(online).await?;
    let text = match (online, was_online) {
        (true, true) => "it was online already",
        (true, false) => "online: it exchanges with its peers again",
        (false, true) => "offline: it serves and keeps what it gets, and exchanges nothing",
        (false, false) => "it was offline already",
    };
    connection.out.either(|| json!({ "online": online, "was_online": was_online }), || text.to_owned())
}

/// Opens a coordinator that is restoring itself although reports are missing.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  herdbook reopen --reason 'replica 3 burned down' -e http://127.0.0.1:7700

It risks what only members that have not reported hold. Edits that nobody who reported has count as lost for good, also if a missing member
has them: history keeps their commits, reading skips them. Decisions that only a missing member's log tells of (members that joined, schema
branches, what was accepted) do not count any more: who joined so must join again. Commits that only a missing member has are not lost: they
enter when it comes back. Waiting is better: `herdbook status` shows who reported. Refused while nobody has told anything and there is no data
to open on. With --json: {\"position\", \"reporters\", \"lost\": [{\"commit\", \"request\", \"documents\"}]}")]
pub(crate) struct ReopenArgs {
    /// Why; goes to the coordinator's log
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Opens a coordinator that is restoring itself.
pub(crate) async fn reopen(global: &Global, args: ReopenArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    out.confirm("Reopen without the members that have not reported? What only they hold counts as lost.", global.yes)?;
    let reopened = connection.client.reopen_after_restore(args.reason).await?;
    if out.is_json() {
        let lost: Vec<_> = reopened.lost.iter().map(forms::lost).collect();
        let reporters = forms::texts(&reopened.reporters);
        return out.json(&json!({ "position": forms::position(&reopened.position), "reporters": reporters, "lost": lost }));
    }
    let reporters = counted(reopened.reporters.len() as u64, "member");
    out.line(format!("open at epoch {}, entry {}, with what {reporters} had", reopened.position.epoch, reopened.position.seq))?;
    show_lost(&out, &reopened.lost)
}
