//! `merge`: taking one branch into another.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use herdbook_model::{merge::Side, schema::is_name};
use herdbook_proto::merge::{Merge, Rule};
use serde_json::json;

use crate::{
    connection::{Connection, Global, Writing},
    document::acknowledged,
    errors::Error,
    forms,
    moment::Moment,
    names::Scope,
    output::counted,
};

/// Who decides where both branches wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decider {
    /// The branch that takes in.
    Ours,
    /// The branch that is taken in.
    Theirs,
    /// Nobody: policies alone, and what they keep apart stays a conflict.
    Conflict,
}

impl Decider {
    const fn side(self) -> Option<Side> {
        match self {
            Self::Ours => Some(Side::Ours),
            Self::Theirs => Some(Side::Theirs),
            Self::Conflict => None,
        }
    }
}

/// An exception, as on the command line: `COLLECTION[/PREFIX][:FIELD]=SIDE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exception(Rule);

impl FromStr for Exception {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, side) = text.rsplit_once('=').ok_or("write COLLECTION[/PREFIX][:FIELD]=SIDE, as in cities:population=theirs")?;
        let side = Decider::from_str(side, true).map_err(|_| format!("`{side}` is none of ours, theirs, conflict"))?.side();
        let (place, field) = match place.rsplit_once(':') {
            Some((place, field)) if is_name(field) => (place, Some(field.into())),
            _ => (place, None),
        };
        let (collection, prefix) = if place.is_empty() {
            (None, String::new())
        } else {
            let Scope { collection, prefix } = place.parse()?;
            (Some(collection), prefix)
        };
        Ok(Self(Rule { collection, prefix, field, side }))
    }
}

/// Takes the commits of one branch into another of the same schema.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook merge trial                          into the promoted branch
  herdbook merge trial --branch main@1 --dry-run
  herdbook merge trial --side theirs --rule cities:population=ours --rule notes=conflict
  herdbook merge 3f9c12ab44d0                   a branch up to one of its commits

What both branches wrote merges by the policies of the fields; a side decides only where both wrote the same place. What nobody decides and
policies keep apart is a stored conflict: see `herdbook conflicts`. The branch that is taken in stays as it is.
With --json: {\"ack\": {…} or null, \"commits\", \"decided\", \"conflicts\", \"conflicted\": [{…}]}")]
pub(crate) struct MergeArgs {
    /// What is taken in: a branch, or one of its commits
    #[arg(value_name = "FROM")]
    from: Moment,
    /// Who decides where both wrote
    #[arg(long, value_name = "SIDE", default_value = "conflict")]
    side: Decider,
    /// Who decides at some places instead; the first that fits counts
    #[arg(long, value_name = "COLLECTION[/PREFIX][:FIELD]=SIDE")]
    rule: Vec<Exception>,
    /// Only tell what would happen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    writing: Writing,
}

/// Takes the commits of one branch into another.
pub(crate) async fn merge(global: &Global, args: MergeArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let merge = Merge {
        repository: None,
        branch: connection.branch.clone(),
        from: connection.at(Some(&args.from)).await?,
        side: args.side.side(),
        rules: args.rule.into_iter().map(|Exception(rule)| rule).collect(),
        dry_run: args.dry_run,
        request: Some(args.writing.key()?),
        message: args.writing.message.clone(),
        wait: connection.wait(&args.writing.awaiting),
    };
    let merged = connection.client.merge(merge).await?;
    if out.is_json() {
        return out.json(&json!({
            "ack": merged.ack.as_ref().map(forms::ack),
            "commits": merged.commits,
            "decided": merged.decided,
            "conflicts": merged.conflicts,
            "conflicted": merged.conflicted.iter().map(forms::document).collect::<Vec<_>>(),
        }));
    }
    let commits = counted(merged.commits, "commit");
    match &merged.ack {
        Some(ack) if ack.repeated => out.line(acknowledged(&out, ack))?,
        Some(ack) => out.line(format!("took in {commits}; {}", acknowledged(&out, ack)))?,
        None if merged.commits > 0 => out.line(format!("would take in {commits}"))?,
        None => out.line("there is nothing to take in; nothing was written")?,
    }
    if merged.decided > 0 {
        out.note(format!("{} decided by a side", counted(merged.decided, "document")));
    }
    for document in &merged.conflicted {
        let fields: Vec<_> = document.conflicts.iter().map(|conflict| format!("`{}`", conflict.field)).collect();
        out.note(format!("conflict: {} in {}; `herdbook conflicts show {}`", document.name, fields.join(", "), document.name));
    }
    if merged.conflicts > merged.conflicted.len() as u64 {
        out.note(format!("and {} more in conflict", merged.conflicts - merged.conflicted.len() as u64));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_names_a_place_and_a_side() {
        let rule = |text: &str| text.parse::<Exception>().map(|Exception(rule)| (rule.collection, rule.prefix, rule.field, rule.side));
        assert_eq!(
            rule("cities:population=theirs"),
            Ok((Some("cities".into()), String::new(), Some("population".into()), Some(Side::Theirs)))
        );
        assert_eq!(rule("files/a:b/c=ours"), Ok((Some("files".into()), "a:b/c".to_owned(), None, Some(Side::Ours))));
        assert_eq!(rule(":name=conflict"), Ok((None, String::new(), Some("name".into()), None)));
        for bad in ["cities", "cities=mine", "1st=ours"] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}
