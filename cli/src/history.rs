//! How a state came to be: `log`, `show`, `diff`, and `revert`, which takes something back.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use herdbook_model::{
    id::{ReplicaId, SessionId},
    json::value_to_json,
};
use herdbook_proto::{
    document::Document,
    history::{Diff, Difference, Fate, Log, ShownRequest, Sides, Summary},
    limits,
};
use serde_json::{Value as Json, json};

use crate::{
    connection::{Connection, Global, Reading, millis},
    errors::Error,
    forms,
    moment::{Moment, readable},
    names::Scope,
    output::{Output, Style, counted, short},
    patch,
};

/// Lists commits, newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook log                        the newest commits of the promoted branch
  herdbook log cities/2950159         those that touched one document
  herdbook log --session 3f9c… --all  those of one session
  herdbook log --author alice --since 10m            what alice wrote in the last ten minutes
  herdbook log --json                 a commit a line: {\"commit\", \"parents\", \"time\", \"message\", \"replica\", \"requests\", …}")]
pub(crate) struct LogArgs {
    /// Only commits that touched this collection, or this document as COLLECTION/KEY
    #[arg(value_name = "WHAT")]
    scope: Option<Scope>,
    /// Only commits of this session (64 hex digits)
    #[arg(long, value_name = "SESSION", value_parser = |text: &str| SessionId::from_hex(text).ok_or("a session has 64 hex digits"))]
    session: Option<SessionId>,
    /// Only commits of this member: its name, or its key's first 6 hex digits or more
    #[arg(long, value_name = "MEMBER")]
    author: Option<String>,
    /// Only commits of this time or later: a time, or 10m for ten minutes ago
    #[arg(long, value_name = "TIME")]
    since: Option<Moment>,
    /// Only commits up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// Most commits to list
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20, conflicts_with = "all")]
    limit: u64,
    /// List all
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    reading: Reading,
}

/// Lists commits.
pub(crate) async fn log(global: &Global, args: LogArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let place = connection.place(&args.reading).await?;
    let (collection, key) = match args.scope {
        None => (None, None),
        Some(Scope { collection, prefix }) if prefix.is_empty() => (Some(collection), None),
        Some(Scope { collection, prefix }) => {
            let key = herdbook_model::value::Key::new(prefix).map_err(|error| Error::argument("WHAT", error))?;
            (Some(collection), Some(key))
        }
    };
    let limit = if args.all { u64::MAX } else { args.limit };
    let page_size = u32::try_from(limit).unwrap_or(u32::MAX).clamp(1, limits::PAGE);
    let replica = match &args.author {
        Some(member) => Some(connection.member(member).await?),
        None => None,
    };
    let mut log = Log {
        collection,
        key,
        session: args.session,
        replica,
        since_millis: args.since.as_ref().map_or(Ok(0), |since| millis("--since", since))?,
        until_millis: args.until.as_ref().map(|until| millis("--until", until)).transpose()?,
        page_size,
        ..Log::of(place)
    };
    let names = if out.is_json() { BTreeMap::new() } else { member_names(&connection).await };
    let mut listed = 0;
    loop {
        let page = connection.client.log(log.clone()).await?;
        for commit in page.commits.iter().take(usize::try_from(limit - listed).unwrap_or(usize::MAX)) {
            out.either(|| forms::summary(commit), || line(&out, commit, &names))?;
            listed += 1;
        }
        if page.next.is_empty() {
            return Ok(());
        }
        if listed >= limit {
            out.note("there are more; --all lists them");
            return Ok(());
        }
        log.page_token = page.next;
    }
}

/// Returns what people call each member; nothing where the server does not say.
pub(crate) async fn member_names(connection: &Connection) -> BTreeMap<ReplicaId, String> {
    let peers = connection.client.peers().await.unwrap_or_default();
    let mut names: BTreeMap<_, _> = peers.into_iter().map(|peer| (peer.replica, peer.name)).collect();
    if let Ok(status) = connection.client.status().await {
        names.insert(status.replica, status.name);
    }
    names
}

pub(crate) fn author(commit: &Summary, names: &BTreeMap<ReplicaId, String>) -> String {
    match &commit.replica {
        Some(replica) => names.get(replica).filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| short(replica)),
        None => short(&commit.session),
    }
}

pub(crate) fn line(out: &Output, commit: &Summary, names: &BTreeMap<ReplicaId, String>) -> String {
    let accepted = if commit.accepted.is_some() { ' ' } else { '*' };
    let voided = match commit.voided.len() {
        0 => String::new(),
        count => out.paint(Style::Alarm, format!("  ({count} voided)")),
    };
    format!(
        "{}{accepted} {}  {:<14} {}  {}{voided}",
        out.paint(Style::Name, short(&commit.id)),
        readable(commit.time),
        author(commit, names),
        if commit.message.is_empty() { "(no message)" } else { &commit.message },
        out.paint(Style::Quiet, counted(commit.requests.into(), "request")),
    )
}

/// Shows a commit: what was asked for, by whom, and what became of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook show 3f9c12ab44d0
  herdbook show 3f9c12ab44d0 --json | jq '.requests[].edits'

With --json: {\"commit\": {…}, \"requests\": [{\"request\", \"fate\", \"edits\": [{\"document\", \"operation\", \"fields\"}], …}], \"left_out\"}")]
pub(crate) struct ShowArgs {
    /// The commit: 64 hex digits, or the first 6 or more
    #[arg(value_name = "COMMIT")]
    commit: Moment,
}

/// Shows a commit.
pub(crate) async fn show(global: &Global, args: ShowArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let id = connection.commit(&args.commit).await?;
    let shown = connection.client.show(id).await?;
    if out.is_json() {
        let requests: Vec<_> = shown.requests.iter().map(forms::request).collect();
        return out.json(&json!({ "commit": forms::summary(&shown.commit), "requests": requests, "left_out": shown.left_out }));
    }
    let names = member_names(&connection).await;
    let commit = &shown.commit;
    out.line(format!("commit   {}", out.paint(Style::Name, commit.id)))?;
    for parent in &commit.parents {
        out.line(format!("parent   {parent}"))?;
    }
    out.line(format!("branch   {}", commit.branch))?;
    out.line(format!("author   {}, session {}, its commit number {}", author(commit, &names), short(&commit.session), commit.counter))?;
    out.line(format!("time     {} UTC", readable(commit.time)))?;
    let accepted = commit.accepted.as_ref().map_or_else(|| "not yet".to_owned(), |at| format!("in epoch {}, entry {}", at.epoch, at.seq));
    out.line(format!("accepted {accepted}"))?;
    if !commit.message.is_empty() {
        out.line(format!("\n    {}", commit.message))?;
    }
    for request in &shown.requests {
        out.line("")?;
        show_request(&out, request)?;
    }
    if shown.left_out > 0 {
        out.note(format!("{} more did not fit in the answer", counted(shown.left_out.into(), "request")));
    }
    Ok(())
}

fn show_request(out: &Output, request: &ShownRequest) -> Result<(), Error> {
    let fate = match &request.fate {
        Fate::Stands => String::new(),
        Fate::Voided { reason } => out.paint(Style::Alarm, format!("  voided: {reason}")),
        Fate::Lost => out.paint(Style::Alarm, "  lost: nobody had it when the coordinator was restored"),
        Fate::Absent => out.paint(Style::Alarm, "  its edits are not here"),
    };
    let by =
        request.body.as_ref().filter(|body| !body.principal.is_empty()).map_or_else(String::new, |body| format!(" by {}", body.principal));
    out.line(format!("request {}{by}{fate}", request.place))?;
    for edit in request.body.iter().flat_map(|body| &body.edits) {
        let form = forms::edit(edit);
        let operation = form["operation"].as_str().unwrap_or_default();
        out.line(format!("  {operation:<7}{}", out.paint(Style::Name, &edit.name)))?;
        for (field, value) in form["fields"].as_object().into_iter().flatten() {
            out.line(format!("         {field}: {value}"))?;
        }
    }
    for document in &request.documents {
        out.line(format!("  touched {document}"))?;
    }
    Ok(())
}

/// Compares two states, document by document.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook diff 10m                            what changed in the last ten minutes
  herdbook diff 3f9c12ab44d0 main@1 --stat     from a commit to the newest state of a branch
  herdbook diff 2026-05-01 --only cities/29
  herdbook diff 3f9c12ab44d0 --patch > mine.patch
  herdbook diff 3f9c12ab44d0 --json            {\"document\", \"kind\": \"added\" | \"removed\" | \"changed\", \"before\", \"after\"} a line")]
pub(crate) struct DiffArgs {
    /// The earlier state: a commit, a time, a branch, or state:NAME
    #[arg(value_name = "FROM")]
    from: Moment,
    /// The later state; the newest if left out
    #[arg(value_name = "TO")]
    to: Option<Moment>,
    /// Only this collection, or keys that begin alike: COLLECTION/PREFIX
    #[arg(long, value_name = "COLLECTION")]
    only: Option<Scope>,
    /// Only count what differs
    #[arg(long, conflicts_with = "patch")]
    stat: bool,
    /// Write it as a patch: fields before and after, a document a line, for `herdbook apply`
    #[arg(long)]
    patch: bool,
    /// Exit with 1 if anything differs
    #[arg(long)]
    exit_code: bool,
}

/// Compares two states.
pub(crate) async fn diff(global: &Global, args: DiffArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let (from, to) = (connection.at(Some(&args.from)).await?, connection.at(args.to.as_ref()).await?);
    let (collection, prefix) = args.only.map_or_else(|| (None, String::new()), |Scope { collection, prefix }| (Some(collection), prefix));
    let mut answers = connection.client.diff(Diff { repository: None, from, to, collection, prefix }).await?;
    let (mut added, mut removed, mut changed) = (0_u64, 0_u64, 0_u64);
    while let Some(differences) = answers.next().await? {
        for difference in &differences {
            *match difference.sides {
                Sides::Added(_) => &mut added,
                Sides::Removed(_) => &mut removed,
                Sides::Changed { .. } => &mut changed,
            } += 1;
            if args.patch {
                patch::of(difference).map_or(Ok(()), |patch| out.json(&patch::to_json(&patch)))?;
            } else if !args.stat {
                out.either(|| forms::difference(difference), || difference_text(&out, difference))?;
            }
        }
    }
    if args.stat {
        let form = || json!({ "added": added, "removed": removed, "changed": changed });
        out.either(form, || format!("{added} added, {removed} removed, {changed} changed"))?;
    }
    if args.exit_code && added + removed + changed > 0 { Err(Error::Differs) } else { Ok(()) }
}

pub(crate) fn difference_text(out: &Output, difference: &Difference) -> String {
    let name = &difference.name;
    match &difference.sides {
        Sides::Added(after) => out.paint(Style::Added, format!("+ {name}  {}", Json::Object(forms::fields(after)))),
        Sides::Removed(before) => out.paint(Style::Removed, format!("- {name}  {}", Json::Object(forms::fields(before)))),
        Sides::Changed { before, after } => format!("~ {}{}", out.paint(Style::Name, name), changed_fields(out, before, after)),
    }
}

fn changed_fields(out: &Output, before: &Document, after: &Document) -> String {
    let names: BTreeSet<_> = before.fields.keys().chain(after.fields.keys()).collect();
    let mut text = String::new();
    for name in names {
        let (old, new) = (before.fields.get(name), after.fields.get(name));
        if old != new {
            let shown = |value: Option<&herdbook_model::value::Value>| {
                value.map_or_else(|| "absent".to_owned(), |value| value_to_json(value).to_string())
            };
            let (old, new) = (out.paint(Style::Removed, shown(old)), out.paint(Style::Added, shown(new)));
            text.push_str(&format!("\n    {name}: {old} → {new}"));
        }
    }
    if before.conflicts != after.conflicts {
        let (old, new) = (before.conflicts.len() as u64, after.conflicts.len() as u64);
        text.push_str(&format!("\n    {} → {}", counted(old, "conflict"), counted(new, "conflict")));
    }
    if text.is_empty() { "\n    the same values, written anew".to_owned() } else { text }
}
