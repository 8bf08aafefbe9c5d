//! The connection of a data command: who is asked, about which branch, and how long the answer may take.

use std::time::Duration;

use clap::{Args, ValueEnum, builder::BoolishValueParser};
use herdbook_model::{
    id::{BranchName, CommitId, ReplicaId, RequestKey},
    json::schema_from_json,
    schema::Schema,
};
use herdbook_proto::{
    ack::{Level, Wait},
    client::Client,
    document::{At, Place},
    history::Log,
    limits,
};
use herdbook_replica::{
    clock::{Clock as _, SystemClock},
    keys,
};

use crate::{
    errors::Error,
    moment::{self, FEWEST_DIGITS, Moment},
    output::{ColorChoice, Output, short},
};

/// Most commits that are looked through for one whose name begins with given digits.
const SEARCHED: usize = 100_000;

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Server to ask; repeat it to name others in case it does not answer
    #[arg(
        short,
        long,
        global = true,
        env = "HERDBOOK_ENDPOINT",
        value_delimiter = ',',
        value_name = "URL",
        default_value = "http://127.0.0.1:7710"
    )]
    pub(crate) endpoint: Vec<String>,
    /// Branch to read or write; the promoted one if left out
    #[arg(short, long, global = true, env = "HERDBOOK_BRANCH", value_parser = |text: &str| BranchName::new(text))]
    pub(crate) branch: Option<BranchName>,
    /// Answer with JSON: one object, or one a line where there are many
    #[arg(long, global = true, env = "HERDBOOK_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,
    /// When to use colours
    #[arg(long, global = true, env = "HERDBOOK_COLOR", value_name = "WHEN", default_value = "auto")]
    pub(crate) color: ColorChoice,
    /// Longest wait for an answer
    #[arg(long, global = true, env = "HERDBOOK_TIMEOUT", value_name = "TIME", default_value = "30s", value_parser = moment::duration)]
    pub(crate) timeout: Duration,
    /// No remarks and no progress, only answers and errors
    #[arg(short, long, global = true, env = "HERDBOOK_QUIET", value_parser = BoolishValueParser::new())]
    pub(crate) quiet: bool,
    /// Go ahead without asking
    #[arg(short, long, global = true, env = "HERDBOOK_YES", value_parser = BoolishValueParser::new())]
    pub(crate) yes: bool,
}

impl Global {
    /// Returns the output that these flags ask for.
    pub(crate) fn output(&self) -> Output {
        Output::new(self.json, self.color, self.quiet)
    }
}

/// Which state to read.
#[derive(Debug, Clone, Args)]
pub(crate) struct Reading {
    /// State to read: a commit, a time, a branch, or state:NAME; the newest if left out
    #[arg(long, env = "HERDBOOK_AT", value_name = "MOMENT")]
    pub(crate) at: Option<Moment>,
}

/// How safe a write must be before it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Safety {
    /// In memory: lost if the process ends.
    Memory,
    /// Given to the operating system: survives the end of the process.
    Process,
    /// On the disk: survives a power cut.
    Durable,
}

/// How a write is made.
#[derive(Debug, Clone, Args)]
pub(crate) struct Writing {
    /// What to say about it in the log
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub(crate) message: String,
    #[command(flatten)]
    pub(crate) awaiting: Awaiting,
    /// Idempotency key: a repeated command with the same key writes nothing twice
    #[arg(long, value_name = "32 HEX DIGITS", value_parser = |text: &str| RequestKey::from_hex(text).ok_or("a key has 32 hex digits"))]
    pub(crate) request_id: Option<RequestKey>,
}

/// What to wait for before a write counts as done.
#[derive(Debug, Clone, Args)]
pub(crate) struct Awaiting {
    /// How safely the server must hold it
    #[arg(long, value_name = "LEVEL", default_value = "durable")]
    pub(crate) local: Safety,
    /// Wait until the coordinator has accepted it
    #[arg(long)]
    pub(crate) accepted: bool,
    /// Wait until so many members hold it durably
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) copies: u32,
}

impl Writing {
    /// Returns the idempotency key: the one given, or a fresh one.
    ///
    /// # Errors
    /// If the system gives no random bytes.
    pub(crate) fn key(&self) -> Result<RequestKey, Error> {
        self.request_id.map_or_else(fresh_key, Ok)
    }
}

/// Returns a time in milliseconds since 1970.
///
/// # Errors
/// [`Error::Argument`] if `moment` is none.
pub(crate) fn millis(argument: &str, moment: &Moment) -> Result<u64, Error> {
    match moment {
        Moment::Millis(millis) => Ok(*millis),
        Moment::Ago(ago) => {
            let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            Ok(SystemClock.now().millis().saturating_sub(ago))
        }
        _ => Err(Error::argument(argument, "give a time: 2026-05-01, 2026-05-01T10:30:00Z, or 10m for ten minutes ago")),
    }
}

/// Returns an idempotency key that nobody used before.
pub(crate) fn fresh_key() -> Result<RequestKey, Error> {
    keys::random().map(RequestKey).map_err(|error| herdbook_replica::Error::from(error).into())
}

/// A client with the flags of the command line.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// The client.
    pub(crate) client: Client,
    /// The branch, if one is named.
    pub(crate) branch: Option<BranchName>,
    /// Where answers go.
    pub(crate) out: Output,
    timeout: Duration,
}

impl Connection {
    /// Connects to the first server that answers.
    ///
    /// # Errors
    /// [`Error::Server`] if none does.
    pub(crate) async fn open(global: &Global) -> Result<Self, Error> {
        let client = Client::connect(&global.endpoint).await?.with_deadline(global.timeout);
        Ok(Self { client, branch: global.branch.clone(), out: global.output(), timeout: global.timeout })
    }

    /// Returns the schema of the branch.
    ///
    /// # Errors
    /// [`Error::Server`].
    pub(crate) async fn schema(&self) -> Result<Schema, Error> {
        let answer = self.client.schema(self.branch.as_ref()).await?;
        schema_from_json(&answer.json).map_err(|error| Error::Json { what: "the server's schema".to_owned(), why: error.to_string() })
    }

    /// Returns what a write waits for.
    pub(crate) const fn wait(&self, awaiting: &Awaiting) -> Wait {
        let local = match awaiting.local {
            Safety::Memory => Level::Memory,
            Safety::Process => Level::Process,
            Safety::Durable => Level::Durable,
        };
        Wait { local, accepted: awaiting.accepted, copies: awaiting.copies, timeout: Some(self.timeout) }
    }

    /// Returns the place that `reading` names.
    ///
    /// # Errors
    /// As [`Connection::at`].
    pub(crate) async fn place(&self, reading: &Reading) -> Result<Place, Error> {
        Ok(Place { repository: None, at: self.at(reading.at.as_ref()).await? })
    }

    /// Returns the state that `moment` names; the newest of the branch without one.
    ///
    /// # Errors
    /// [`Error::NoSuchCommit`], [`Error::ManySuchCommits`].
    pub(crate) async fn at(&self, moment: Option<&Moment>) -> Result<At, Error> {
        Ok(match moment {
            None => At::Branch(self.branch.clone()),
            Some(Moment::Commit(id)) => At::Commit(*id),
            Some(Moment::Prefix(prefix)) => At::Commit(self.find(prefix).await?),
            Some(time @ (Moment::Millis(_) | Moment::Ago(_))) => At::Time { branch: self.branch.clone(), millis: millis("MOMENT", time)? },
            Some(Moment::State(name)) => At::State(*name),
            Some(Moment::Branch(name)) => At::Branch(Some(name.clone())),
        })
    }

    /// Returns the member of that name, or whose key begins with those digits.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is none, or more than one.
    pub(crate) async fn member(&self, text: &str) -> Result<ReplicaId, Error> {
        let mut members: Vec<_> = self.client.peers().await?.into_iter().map(|peer| (peer.name, peer.replica)).collect();
        let status = self.client.status().await?;
        members.push((status.name, status.replica));
        let digits = text.to_ascii_lowercase();
        let mut found: Vec<_> = members.iter().filter(|(name, _)| name == text).map(|(_, replica)| *replica).collect();
        if found.is_empty() && digits.len() >= FEWEST_DIGITS {
            found.extend(members.iter().map(|(_, replica)| *replica).filter(|replica| replica.to_string().starts_with(&digits)));
        }
        found.sort_unstable();
        found.dedup();
        match found[..] {
            [replica] => Ok(replica),
            [] => Err(Error::argument("MEMBER", format!("there is no member `{text}`; `herdbook peers` lists them"))),
            _ => Err(Error::argument("MEMBER", format!("{} members are called `{text}`: give its key", found.len()))),
        }
    }

    /// Returns the commit that `moment` names.
    ///
    /// # Errors
    /// [`Error::Argument`] if it names none.
    pub(crate) async fn commit(&self, moment: &Moment) -> Result<CommitId, Error> {
        match moment {
            Moment::Commit(id) => Ok(*id),
            Moment::Prefix(prefix) => self.find(prefix).await,
            _ => Err(Error::argument("COMMIT", "give a commit: its 64 hex digits, or the first 6 or more")),
        }
    }

    /// Returns the commit of the branch whose name begins with `prefix`.
    async fn find(&self, prefix: &str) -> Result<CommitId, Error> {
        let place = Place { repository: None, at: At::Branch(self.branch.clone()) };
        let mut log = Log { page_size: limits::PAGE, ..Log::of(place) };
        let (mut found, mut searched) = (Vec::new(), 0);
        loop {
            let page = self.client.log(log.clone()).await?;
            searched += page.commits.len();
            found.extend(page.commits.iter().map(|commit| commit.id).filter(|id| id.to_string().starts_with(prefix)));
            if page.next.is_empty() || searched >= SEARCHED {
                break;
            }
            log.page_token = page.next;
        }
        match found[..] {
            [id] => Ok(id),
            [] => Err(Error::NoSuchCommit { prefix: prefix.to_owned() }),
            _ => {
                let names: Vec<_> = found.iter().take(4).map(short).collect();
                Err(Error::ManySuchCommits { prefix: prefix.to_owned(), names: names.join(", ") })
            }
        }
    }
}
