//! `watch`: what changes, as it changes.

use std::time::{Duration, Instant};

use clap::Args;
use data_encoding::BASE64URL_NOPAD;
use herdbook_proto::{
    read::{Event, EventChange, Start, Watch},
    status::Kind,
};
use serde_json::{Value as Json, json};

use crate::{
    connection::{Connection, Global},
    errors::{Error, is_broken_off},
    forms,
    moment::Moment,
    names::Scope,
    output::{Output, Style, short},
};

/// Pause before the connection is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Tells what changes until it is ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook watch                                 everything, from now on
  herdbook watch cities/29 --json                keys that begin with 29
  herdbook watch --resume AQZtYWluQDE…           go on where an earlier watch was left

With --json: {\"event\": \"put\" | \"delete\", \"document\", \"now\", \"commits\", \"voided\"} a line, and after each step
{\"event\": \"step\", \"state\", \"resume\"}, whose `resume` goes on from there, at any member. A server that goes away is asked again.")]
pub(crate) struct WatchArgs {
    /// Only this collection, or COLLECTION/PREFIX
    #[arg(value_name = "COLLECTION")]
    scope: Option<Scope>,
    /// Go on where an earlier watch was left
    #[arg(long, value_name = "TOKEN", conflicts_with = "since", value_parser = token)]
    resume: Option<bytes::Bytes>,
    /// Begin after this state, as state:NAME
    #[arg(long, value_name = "STATE")]
    since: Option<Moment>,
    /// End after so many changes
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<u64>,
}

fn token(text: &str) -> Result<bytes::Bytes, String> {
    BASE64URL_NOPAD.decode(text.as_bytes()).map(Into::into).map_err(|_| "give a `resume` that an earlier watch printed".to_owned())
}

/// Tells what changes.
pub(crate) async fn watch(global: &Global, args: WatchArgs) -> Result<(), Error> {
    let mut connection = Connection::open(global).await?;
    let out = connection.out;
    let start = match (args.resume, args.since) {
        (Some(token), _) => Start::Token(token),
        (None, Some(Moment::State(name))) => Start::State(name),
        (None, Some(_)) => return Err(Error::argument("--since", "give state:NAME, as `herdbook count --json` shows it")),
        (None, None) => Start::Now,
    };
    let (collection, prefix) = args.scope.map_or_else(|| (None, String::new()), |Scope { collection, prefix }| (Some(collection), prefix));
    let mut watch = Watch { repository: None, branch: connection.branch.clone(), collection, prefix, start };
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut away: Option<Instant> = None;
    loop {
        match follow(&connection, &mut watch, &mut left, &mut away).await {
            Ok(()) => return Ok(()),
            Err(error) if is_passing(&error) => {
                let since = *away.get_or_insert_with(Instant::now);
                if since.elapsed() > global.timeout {
                    return Err(error);
                }
                out.note(format!("{error}; trying again"));
                tokio::time::sleep(PAUSE).await;
                if let Ok(again) = Connection::open(global).await {
                    connection = again;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether another try may succeed where this one failed.
fn is_passing(error: &Error) -> bool {
    match error {
        Error::Server(failed) => is_broken_off(failed) || matches!(failed.kind, Kind::Unavailable | Kind::Exhausted),
        Error::Ended => true,
        _ => false,
    }
}

/// Follows one stream until `left` is used up; `watch` always starts where the output ends.
async fn follow(connection: &Connection, watch: &mut Watch, left: &mut u64, away: &mut Option<Instant>) -> Result<(), Error> {
    let out = connection.out;
    let mut steps = connection.client.watch(watch.clone()).await?;
    while *left > 0 {
        let Some(step) = steps.next().await? else { return Err(Error::Ended) };
        *away = None;
        for event in step.events.iter().take(usize::try_from(*left).unwrap_or(usize::MAX)) {
            out.either(|| forms::event(event), || line(&out, event))?;
        }
        *left = left.saturating_sub(step.events.len() as u64);
        if step.resume_token.is_empty() {
            continue;
        }
        if out.is_json() {
            let resume = BASE64URL_NOPAD.encode(&step.resume_token);
            out.json(&json!({ "event": "step", "state": step.state.to_string(), "resume": resume }))?;
        }
        watch.start = Start::Token(step.resume_token);
    }
    Ok(())
}

fn line(out: &Output, event: &Event) -> String {
    let by: Vec<_> = event.commits.iter().map(short).collect();
    let by = if by.is_empty() { String::new() } else { out.paint(Style::Quiet, format!("  by {}", by.join(", "))) };
    let voided = match event.voided.len() {
        0 => String::new(),
        count => out.paint(Style::Alarm, format!("  ({count} voided)")),
    };
    match &event.change {
        EventChange::Put(now) => {
            let alarm = if now.conflicts.is_empty() { String::new() } else { out.paint(Style::Alarm, "  (in conflict)") };
            format!("{} {}  {}{alarm}{voided}{by}", out.paint(Style::Added, "put   "), now.name, Json::Object(forms::fields(now)))
        }
        EventChange::Delete(name) => format!("{} {name}{voided}{by}", out.paint(Style::Removed, "delete")),
    }
}
