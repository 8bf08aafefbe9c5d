//! What a document or a stretch of history went through: `blame`, `playback`.

use std::time::Duration;

use clap::Args;
use herdbook_model::{id::SessionId, json::value_to_json};
use herdbook_proto::{
    history::Summary,
    past::{Blame, Part, Playback},
};
use serde_json::{Value as Json, json};

use crate::{
    connection::{Connection, Global, Reading},
    errors::Error,
    forms,
    history::{author, difference_text, line, member_names},
    moment::{Moment, readable},
    names::{DocumentName, Scope},
    output::{Style, short},
};

/// Longest value that a table shows whole.
const WIDTH: usize = 48;

/// Longest pause between two commits of a playback.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Tells who wrote each part of a document.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook blame cities/2950159
  herdbook blame cities/2950159 --field population
  herdbook blame cities/2950159 --at 2026-05-01
  herdbook blame cities/2950159 --json      {\"field\", \"path\", \"value\", \"shown\", \"request\", \"commit\": {…} or null} a line

Sets are told by element, maps by entry, lists by item, texts by stretch. Of a counter the newest edit that counted is told. What
nobody wrote, as defaults, is left out.")]
pub(crate) struct BlameArgs {
    /// The document, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT")]
    document: DocumentName,
    /// Only this field
    #[arg(long, value_name = "FIELD")]
    field: Option<String>,
    #[command(flatten)]
    reading: Reading,
}

/// Tells who wrote each part of a document.
pub(crate) async fn blame(global: &Global, args: BlameArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let place = connection.place(&args.reading).await?;
    let blame = Blame { place, name: args.document.0, field: args.field.as_deref().map(Into::into) };
    let blamed = connection.client.blame(blame).await?;
    let commit = |part: &Part| blamed.commits.iter().find(|commit| Some(commit.id) == part.commit);
    if out.is_json() {
        return blamed.parts.iter().try_for_each(|part| out.json(&part_form(part, commit(part))));
    }
    let names = member_names(&connection).await;
    let rows = blamed.parts.iter().map(|part| {
        let place = part.path.iter().fold(part.field.to_string(), |place, step| format!("{place}/{step}"));
        let mut value = part.value.as_ref().map_or_else(|| "absent".to_owned(), |value| value_to_json(value).to_string());
        if let Some((cut, _)) = value.char_indices().nth(WIDTH) {
            value.truncate(cut);
            value.push('…');
        }
        let mark = if part.shown { "" } else { " (in conflict)" };
        let unknown = || "?".to_owned();
        [
            place,
            format!("{value}{mark}"),
            commit(part).map_or_else(unknown, |commit| out.paint(Style::Name, short(&commit.id))),
            commit(part).map_or_else(unknown, |commit| readable(commit.time)),
            commit(part).map_or_else(unknown, |commit| author(commit, &names)),
            commit(part).map_or_else(String::new, |commit| commit.message.clone()),
        ]
    });
    out.table(["FIELD", "VALUE", "COMMIT", "TIME", "AUTHOR", "MESSAGE"], rows)
}

fn part_form(part: &Part, commit: Option<&Summary>) -> Json {
    json!({
        "field": &*part.field,
        "path": part.path.iter().map(|step| &**step).collect::<Vec<_>>(),
        "value": part.value.as_ref().map(value_to_json),
        "shown": part.shown,
        "request": part.request,
        "commit": commit.map(forms::summary),
    })
}

/// Plays back what happened between two states, commit by commit.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook playback 10m                              what happened in the last ten minutes
  herdbook playback 3f9c12ab44d0 81d0c2aa91b3 --speed 60        an hour in a minute
  herdbook playback 2026-05-01 --session 4be0… --only cities
  herdbook playback 10m --json          {\"commit\": {…}, \"differences\": [{…}], \"left_out\", \"played\"} a line")]
pub(crate) struct PlaybackArgs {
    /// The earlier state: a commit, a time, a branch, or state:NAME
    #[arg(value_name = "FROM")]
    from: Moment,
    /// The later state; the newest if left out
    #[arg(value_name = "TO")]
    to: Option<Moment>,
    /// Only this collection, or keys that begin alike: COLLECTION/PREFIX
    #[arg(long, value_name = "COLLECTION")]
    only: Option<Scope>,
    /// Only commits of this session (64 hex digits)
    #[arg(long, value_name = "SESSION", value_parser = |text: &str| SessionId::from_hex(text).ok_or("a session has 64 hex digits"))]
    session: Option<SessionId>,
    /// How many times faster than it happened; at once if left out
    #[arg(long, value_name = "FACTOR", value_parser = |text: &str| factor(text))]
    speed: Option<f64>,
}

fn factor(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|factor: &f64| factor.is_finite() && *factor > 0.0).ok_or_else(|| "give a number above 0".to_owned())
}

/// Plays back what happened between two states.
pub(crate) async fn playback(global: &Global, args: PlaybackArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let (from, to) = (connection.at(Some(&args.from)).await?, connection.at(args.to.as_ref()).await?);
    let (collection, prefix) = args.only.map_or_else(|| (None, String::new()), |Scope { collection, prefix }| (Some(collection), prefix));
    let playback = Playback { repository: None, from, to, collection, prefix, session: args.session };
    let names = if out.is_json() { Default::default() } else { member_names(&connection).await };
    let mut steps = connection.client.playback(playback).await?;
    let mut last = None;
    while let Some(step) = steps.next().await? {
        let now = step.commit.time.millis();
        if let (Some(last), Some(speed)) = (last.replace(now), args.speed) {
            let pause = Duration::from_millis(now.saturating_sub(last)).div_f64(speed);
            tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
        }
        if out.is_json() {
            let differences: Vec<_> = step.differences.iter().map(forms::difference).collect();
            let form = json!({
                "commit": forms::summary(&step.commit), "differences": differences, "left_out": step.left_out, "played": step.played,
            });
            out.json(&form)?;
            continue;
        }
        out.line(line(&out, &step.commit, &names))?;
        step.differences.iter().try_for_each(|difference| out.line(difference_text(&out, difference)))?;
        if step.left_out > 0 {
            out.note(format!("{} more documents did not fit", step.left_out));
        }
    }
    Ok(())
}
