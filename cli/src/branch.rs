//! Branches: `branch list|start|create|promote|abandon`, `schema show`.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use herdbook_model::{
    authority::Status,
    id::BranchName,
    json::{policy_name, scalar_to_json, schema_from_json},
};
use herdbook_proto::cluster::{Definition, StartBranch, StartSchema};
use serde_json::{Value as Json, json};

use crate::{
    connection::{Connection, Global},
    errors::Error,
    forms,
    moment::Moment,
    output::{Style, thousands},
};

/// Schema branches: each version of the schema has its own.
#[derive(Debug, Subcommand)]
pub(crate) enum BranchCommand {
    /// List branches
    #[command(after_help = "\
Examples:
  herdbook branch list
  herdbook branch list --json        {\"branch\", \"version\", \"from\", \"status\", \"promoted\", \"apart\", \"schema\"} a line")]
    List,
    /// Begin a branch: a new schema, or steps from another branch's
    #[command(after_help = "\
Examples:
  herdbook branch start main@1 --schema cities.json
  herdbook branch start main@2 --steps steps.json --from main@1
  herdbook branch start --steps steps.json --dry-run        only show the schema that would come of it

A schema: {\"version\": 1, \"collections\": {\"cities\": {\"fields\": [{\"name\": \"name\", \"type\": \"string\"},
  {\"name\": \"alternatenames\", \"type\": \"set<string>\"}, {\"name\": \"mayor\", \"type\": \"string\", \"policy\": \"strict\"}]}}}
Steps: [{\"add\": {\"collection\": \"cities\", \"field\": \"score\", \"type\": \"int\", \"default\": 0}},
  {\"rename\": {\"collection\": \"cities\", \"from\": \"name\", \"to\": \"title\"}}, {\"drop\": {\"collection\": \"cities\", \"field\": \"timezone\"}}]
Only the coordinator answers this. Clients of the older branch go on; what they write flows into the new one, never back.")]
    Start(StartArgs),
    /// Begin a branch of the same schema, which goes its own way until `herdbook merge`
    #[command(after_help = "\
Examples:
  herdbook branch create trial -e http://127.0.0.1:7700
  herdbook branch create trial --from main@1 --at 3f9c12ab44d0
  herdbook put cities/9 '{\"name\": \"Newtown\"}' --branch trial
  herdbook merge trial --branch main@1

It begins at what is accepted of the other branch. Only the coordinator answers this; writing and merging go on without it.")]
    Create {
        /// Its name
        #[arg(value_parser = |text: &str| BranchName::new(text))]
        name: BranchName,
        /// The branch it begins from; the promoted one if left out
        #[arg(long, value_name = "BRANCH", value_parser = |text: &str| BranchName::new(text))]
        from: Option<BranchName>,
        /// The accepted commit it begins at; all that is accepted if left out
        #[arg(long, value_name = "COMMIT")]
        at: Option<Moment>,
    },
    /// Make a branch the one that callers get who name none
    #[command(after_help = "Example:\n  herdbook branch promote main@2 -e http://127.0.0.1:7700")]
    Promote {
        /// The branch
        #[arg(value_parser = |text: &str| BranchName::new(text))]
        name: BranchName,
    },
    /// Close a branch; nothing of it ever reached the one it came from
    #[command(after_help = "Example:\n  herdbook branch abandon main@2 --yes -e http://127.0.0.1:7700")]
    Abandon {
        /// The branch
        #[arg(value_parser = |text: &str| BranchName::new(text))]
        name: BranchName,
    },
}

/// A new branch.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("definition").required(true).args(["steps", "schema"])))]
pub(crate) struct StartArgs {
    /// Its name; main@ and the version of its schema if left out
    #[arg(value_parser = |text: &str| BranchName::new(text))]
    name: Option<BranchName>,
    /// File with the steps from the other branch's schema
    #[arg(long, value_name = "FILE")]
    steps: Option<PathBuf>,
    /// File with a whole schema
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// The branch it is migrated from; for steps, the promoted one if left out
    #[arg(long, value_name = "BRANCH", value_parser = |text: &str| BranchName::new(text))]
    from: Option<BranchName>,
    /// Only tell what would happen
    #[arg(long)]
    dry_run: bool,
}

/// Does what `command` says.
pub(crate) async fn branch(global: &Global, command: BranchCommand) -> Result<(), Error> {
    match command {
        BranchCommand::List => list(global).await,
        BranchCommand::Start(args) => start(global, args).await,
        BranchCommand::Create { name, from, at } => {
            let connection = Connection::open(global).await?;
            let commit = match &at {
                Some(at) => Some(connection.commit(at).await?),
                None => None,
            };
            let started = connection.client.start_branch(StartBranch { repository: None, branch: name, from, commit }).await?;
            let (name, seq) = (started.branch.name.clone(), started.position.seq);
            let form = || json!({ "branch": forms::branch(&started.branch), "position": forms::position(&started.position) });
            connection.out.either(form, || format!("{name} has begun, at entry {seq}"))
        }
        BranchCommand::Promote { name } => {
            let connection = Connection::open(global).await?;
            connection.client.promote_schema(name.clone()).await?;
            connection.out.either(|| json!({ "promoted": name.as_str() }), || format!("{name} is what callers get who name no branch"))
        }
        BranchCommand::Abandon { name } => {
            let connection = Connection::open(global).await?;
            connection.out.confirm(&format!("Close branch {name} for good?"), global.yes)?;
            connection.client.abandon_schema(name.clone()).await?;
            connection.out.either(|| json!({ "abandoned": name.as_str() }), || format!("{name} is closed"))
        }
    }
}

async fn list(global: &Global) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let branches = connection.client.branches().await?;
    if out.is_json() {
        return branches.iter().try_for_each(|branch| out.json(&forms::branch(branch)));
    }
    let heads = connection.client.heads().await?;
    let rows = branches.iter().map(|branch| {
        let head = heads.iter().find(|head| head.branch == branch.name);
        let status = match branch.status {
            Status::Open if branch.promoted => out.paint(Style::Added, "promoted"),
            Status::Open => "open".to_owned(),
            Status::Abandoned => out.paint(Style::Quiet, "abandoned"),
        };
        [
            branch.name.to_string(),
            branch.version.to_string(),
            branch.from.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            status,
            head.map_or_else(|| "-".to_owned(), |head| thousands(head.documents)),
            head.map_or_else(|| "-".to_owned(), |head| thousands(head.commits)),
        ]
    });
    out.table(["BRANCH", "VERSION", "FROM", "STATUS", "DOCUMENTS", "COMMITS"], rows)
}

async fn start(global: &Global, args: StartArgs) -> Result<(), Error> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| Error::file("read", path, error));
    let definition = match (&args.steps, &args.schema) {
        (Some(path), _) => Definition::Steps(read(path)?),
        (None, Some(path)) => Definition::Schema(read(path)?),
        (None, None) => return Err(Error::argument("branch start", "give --steps FILE or --schema FILE")),
    };
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let asked = StartSchema { repository: None, branch: args.name, from: args.from, definition, dry_run: args.dry_run };
    let started = connection.client.start_schema(asked).await?;
    let schema: Json = serde_json::from_str(&started.schema_json).unwrap_or(Json::Null);
    if out.is_json() {
        let position = started.position.as_ref().map(forms::position);
        return out.json(&json!({ "branch": forms::branch(&started.branch), "schema": schema, "position": position }));
    }
    let (name, version) = (&started.branch.name, started.branch.version);
    match &started.position {
        Some(position) => out.line(format!("{name} has begun with version {version} of the schema, at entry {}", position.seq)),
        None => {
            out.note(format!("{name} would begin with version {version} of the schema:"));
            out.line(crate::document::pretty(&schema))
        }
    }
}

/// The schema of a branch.
#[derive(Debug, Subcommand)]
pub(crate) enum SchemaCommand {
    /// Show collections, fields, types and policies
    #[command(after_help = "\
Examples:
  herdbook schema show
  herdbook schema show --branch main@2 --json      the schema as `branch start --schema` reads it")]
    Show,
}

/// Shows the schema of a branch.
pub(crate) async fn schema(global: &Global, SchemaCommand::Show: SchemaCommand) -> Result<(), Error> {
    let connection = Connection::open(global).await?;
    let out = connection.out;
    let answer = connection.client.schema(connection.branch.as_ref()).await?;
    let unreadable = |why: String| Error::Json { what: "the server's schema".to_owned(), why };
    if out.is_json() {
        let json: Json = serde_json::from_str(&answer.json).map_err(|error| unreadable(error.to_string()))?;
        return out.json(&json);
    }
    let schema = schema_from_json(&answer.json).map_err(|error| unreadable(error.to_string()))?;
    out.note(format!("branch {}, version {}", answer.branch.name, schema.version));
    let rows = schema.collections.iter().flat_map(|collection| {
        collection.fields.iter().map(|field| {
            let default = field.default.as_ref().map_or_else(String::new, |default| scalar_to_json(default).to_string());
            [collection.name.to_string(), field.name.to_string(), field.ty.to_string(), policy_name(field.policy), default]
        })
    });
    out.table(["COLLECTION", "FIELD", "TYPE", "POLICY", "DEFAULT"], rows)
}
