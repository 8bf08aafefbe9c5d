//! `erase`: takes values of erasable fields away for good, from states and from history.

use clap::Args;
use herdbook_proto::cluster::{Erase, Erased};
use serde_json::json;

use crate::{
    connection::{Connection, Global},
    errors::Error,
    names::DocumentName,
    output::counted,
};

/// Erases values.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  herdbook erase people/7 --dry-run -e http://127.0.0.1:7700
  herdbook erase people/7 --field phone --yes -e http://127.0.0.1:7700

Only the coordinator answers this. A schema gives a field a type like `erasable<string>`; documents and commits then hold a name, and the value
lies apart. All values that the document ever had there go: from the newest states at once, from each member's commits when it hears of it, and
from its disk with its next collection of garbage. Signatures, roots and everything else stay. Members that are offline, backups, and readers
who wrote a value down keep it. Where there is a horizon, set it anew after this (`herdbook horizon set --keep 0s`): values from before it lie in
the state there.
With --json: {\"values\", \"requests\", \"past\", \"entry\"}")]
pub(crate) struct EraseArgs {
    /// The document, as COLLECTION/KEY
    #[arg(value_name = "DOCUMENT")]
    document: DocumentName,
    /// Only this field
    #[arg(long, value_name = "FIELD")]
    field: Option<String>,
    /// Tell what would go, and erase nothing
    #[arg(long)]
    dry_run: bool,
}

/// Erases values.
pub(crate) async fn erase(global: &Global, args: EraseArgs) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let (out, name) = (connection.out, args.document.0);
    if !args.dry_run {
        let what = args.field.as_ref().map_or_else(|| "all erasable fields".to_owned(), |field| format!("field `{field}`"));
        out.confirm(&format!("Erase what `{name}` ever had in {what}, for good, on every member?"), global.yes)?;
    }
    let field = args.field.map(Into::into);
    let erased = connection.client.erase(Erase { branch: global.branch.clone(), name: name.clone(), field, dry_run: args.dry_run }).await?;
    let Erased { values, requests, past, position } = erased;
    let form = || json!({ "values": values, "requests": requests, "past": past, "entry": position.map(|position| position.seq) });
    let text = || {
        if values == 0 {
            return format!("`{name}` has nothing that could be erased");
        }
        let would = if args.dry_run { "would go" } else { "went" };
        format!("{} of `{name}` {would}, and the edits of {}", counted(values, "value"), counted(requests, "request"))
    };
    out.either(form, text)?;
    if past > 0 {
        let lie = if past == 1 { "lies" } else { "lie" };
        out.note(format!("{past} of them {lie} in the state at a horizon as well, until `herdbook horizon set` moves that on"));
    }
    Ok(())
}
