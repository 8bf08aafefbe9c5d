//! Members, their status, and what the authority is asked to decide.

use std::time::Duration;

use herdbook_model::{
    authority::{Lost, RequestRef, Role, Status as BranchStatus},
    codec::Encode as _,
    id::StateRoot,
};

use super::{
    Result, all, array, branch, canonical, choice, document::repository, each, id, ids, inner, limited, optional, optional_branch,
    optional_id, raw, raw_or_empty, required, text_or_empty,
};
use crate::{
    Malformed,
    cluster::{
        Branch, BranchSchema, BranchStarted, CreateToken, Definition, Head, Join, Joined, OnBranch, Peer, Phase, Recovery, Reopened,
        StartBranch, StartSchema, Started, Status, Token,
    },
    v1,
};

/// Longest name of a member, in bytes.
const NAME: usize = 128;

/// Longest address of a member, and longest token, in bytes.
const ADDRESS: usize = 1024;

fn role(field: &str, value: i32) -> Result<Role> {
    Ok(match choice(field, value)? {
        v1::Role::Unspecified => return Err(Malformed::missing(field)),
        v1::Role::Replica => Role::Replica,
        v1::Role::Coordinator => Role::Coordinator,
    })
}

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Replica => Self::Replica,
            Role::Coordinator => Self::Coordinator,
        }
    }
}

fn phase(field: &str, value: i32) -> Result<Phase> {
    Ok(match choice(field, value)? {
        v1::Phase::Unspecified => return Err(Malformed::missing(field)),
        v1::Phase::Starting => Phase::Starting,
        v1::Phase::Serving => Phase::Serving,
        v1::Phase::Recovering => Phase::Recovering,
        v1::Phase::Frozen => Phase::Frozen,
    })
}

impl From<Phase> for v1::Phase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Starting => Self::Starting,
            Phase::Serving => Self::Serving,
            Phase::Recovering => Self::Recovering,
            Phase::Frozen => Self::Frozen,
        }
    }
}

fn branch_status(field: &str, value: i32) -> Result<BranchStatus> {
    Ok(match choice(field, value)? {
        v1::BranchStatus::Unspecified => return Err(Malformed::missing(field)),
        v1::BranchStatus::Open => BranchStatus::Open,
        v1::BranchStatus::Abandoned => BranchStatus::Abandoned,
    })
}

impl From<BranchStatus> for v1::BranchStatus {
    fn from(status: BranchStatus) -> Self {
        match status {
            BranchStatus::Open => Self::Open,
            BranchStatus::Abandoned => Self::Abandoned,
        }
    }
}

impl TryFrom<v1::JoinRequest> for Join {
    type Error = Malformed;

    fn try_from(message: v1::JoinRequest) -> Result<Self> {
        let v1::JoinRequest { token, replica, name, address, signature } = message;
        if token.is_empty() {
            return Err(Malformed::missing("token"));
        }
        limited("token", token.len(), ADDRESS)?;
        limited("name", name.len(), NAME)?;
        limited("address", address.len(), ADDRESS)?;
        Ok(Self { token, replica: id("replica", &replica)?, name, address, signature: array("signature", &signature)? })
    }
}

impl From<Join> for v1::JoinRequest {
    fn from(Join { token, replica, name, address, signature }: Join) -> Self {
        Self { token, replica: raw(replica.as_bytes()), name, address, signature: raw(&signature) }
    }
}

impl TryFrom<v1::JoinResponse> for Joined {
    type Error = Malformed;

    fn try_from(message: v1::JoinResponse) -> Result<Self> {
        let v1::JoinResponse { genesis, epoch, enrolment, entries, peers } = message;
        let entries = entries.iter().enumerate().map(|(at, entry)| canonical(&format!("entries[{at}]"), entry)).collect::<Result<_>>()?;
        Ok(Self {
            genesis: canonical("genesis", &genesis)?,
            epoch: canonical("epoch", &epoch)?,
            enrolment: canonical("enrolment", &enrolment)?,
            entries,
            peers: each("peers", peers)?,
        })
    }
}

impl From<Joined> for v1::JoinResponse {
    fn from(Joined { genesis, epoch, enrolment, entries, peers }: Joined) -> Self {
        Self {
            genesis: genesis.to_bytes().into(),
            epoch: epoch.to_bytes().into(),
            enrolment: enrolment.to_bytes().into(),
            entries: entries.iter().map(|entry| entry.to_bytes().into()).collect(),
            peers: all(peers),
        }
    }
}

impl TryFrom<v1::BranchHead> for Head {
    type Error = Malformed;

    fn try_from(message: v1::BranchHead) -> Result<Self> {
        let v1::BranchHead {
            branch: name,
            heads,
            frontier,
            judgement,
            state,
            root,
            accepted_heads,
            accepted,
            commits,
            documents,
            conflicts,
        } = message;
        Ok(Self {
            branch: branch("branch", name)?,
            heads: ids("heads", &heads)?,
            frontier: id("frontier", &frontier)?,
            judgement: id("judgement", &judgement)?,
            state: id("state", &state)?,
            root: optional_id("root", &root)?,
            accepted_heads: ids("accepted_heads", &accepted_heads)?,
            accepted: optional("accepted", accepted)?,
            commits,
            documents,
            conflicts,
        })
    }
}

impl From<Head> for v1::BranchHead {
    fn from(head: Head) -> Self {
        let Head { branch, heads, frontier, judgement, state, root, accepted_heads, accepted, commits, documents, conflicts } = head;
        Self {
            branch: branch.to_string(),
            heads: heads.iter().map(|head| raw(head.as_bytes())).collect(),
            frontier: raw(frontier.as_bytes()),
            judgement: raw(judgement.as_bytes()),
            state: raw(state.as_bytes()),
            root: raw_or_empty(root.as_ref().map(StateRoot::as_bytes)),
            accepted_heads: accepted_heads.iter().map(|head| raw(head.as_bytes())).collect(),
            accepted: accepted.map(Into::into),
            commits,
            documents,
            conflicts,
        }
    }
}

impl TryFrom<v1::Peer> for Peer {
    type Error = Malformed;

    fn try_from(message: v1::Peer) -> Result<Self> {
        let v1::Peer { replica, name, role: may, address, connected, revoked, silent_millis, level } = message;
        Ok(Self {
            replica: id("replica", &replica)?,
            name,
            role: role("role", may)?,
            address,
            connected,
            revoked,
            silent: silent_millis.map(Duration::from_millis),
            level,
        })
    }
}

impl From<Peer> for v1::Peer {
    fn from(Peer { replica, name, role, address, connected, revoked, silent, level }: Peer) -> Self {
        Self {
            replica: raw(replica.as_bytes()),
            name,
            role: v1::Role::from(role).into(),
            address,
            connected,
            revoked,
            silent_millis: silent.map(millis),
            level,
        }
    }
}

/// Returns whole milliseconds, the most that the wire carries where there are more.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl TryFrom<v1::StatusResponse> for Status {
    type Error = Malformed;

    fn try_from(message: v1::StatusResponse) -> Result<Self> {
        let v1::StatusResponse {
            version,
            repository,
            repository_name,
            replica,
            name,
            role: may,
            session,
            phase: doing,
            online,
            log,
            promoted,
            branches,
            outbox,
            quarantine,
            lost,
            recovery,
            store_bytes,
        } = message;
        Ok(Self {
            version,
            repository: id("repository", &repository)?,
            repository_name,
            replica: id("replica", &replica)?,
            name,
            role: role("role", may)?,
            session: id("session", &session)?,
            phase: phase("phase", doing)?,
            online,
            log: optional("log", log)?,
            promoted: optional_branch("promoted", promoted)?,
            branches: each("branches", branches)?,
            outbox,
            quarantine,
            lost: each("lost", lost)?,
            recovery: optional("recovery", recovery)?,
            store_bytes,
        })
    }
}

impl From<Status> for v1::StatusResponse {
    fn from(status: Status) -> Self {
        let Status {
            version,
            repository,
            repository_name,
            replica,
            name,
            role,
            session,
            phase,
            online,
            log,
            promoted,
            branches,
            outbox,
            quarantine,
            lost,
            recovery,
            store_bytes,
        } = status;
        Self {
            version,
            repository: raw(repository.as_bytes()),
            repository_name,
            replica: raw(replica.as_bytes()),
            name,
            role: v1::Role::from(role).into(),
            session: raw(session.as_bytes()),
            phase: v1::Phase::from(phase).into(),
            online,
            log: log.map(Into::into),
            promoted: text_or_empty(promoted.as_ref()),
            branches: all(branches),
            outbox,
            quarantine,
            lost: all(lost),
            recovery: recovery.map(Into::into),
            store_bytes,
        }
    }
}

impl TryFrom<v1::LostRequest> for Lost {
    type Error = Malformed;

    fn try_from(message: v1::LostRequest) -> Result<Self> {
        let v1::LostRequest { commit, request, documents } = message;
        Ok(Self { request: RequestRef { commit: id("commit", &commit)?, request }, documents })
    }
}

impl From<Lost> for v1::LostRequest {
    fn from(Lost { request: RequestRef { commit, request }, documents }: Lost) -> Self {
        Self { commit: raw(commit.as_bytes()), request, documents }
    }
}

impl TryFrom<v1::Recovery> for Recovery {
    type Error = Malformed;

    fn try_from(message: v1::Recovery) -> Result<Self> {
        let v1::Recovery { reporters, needed, members, missing_commits } = message;
        Ok(Self { reporters: ids("reporters", &reporters)?, needed, members, missing_commits })
    }
}

impl From<Recovery> for v1::Recovery {
    fn from(Recovery { reporters, needed, members, missing_commits }: Recovery) -> Self {
        Self { reporters: reporters.iter().map(|reporter| raw(reporter.as_bytes())).collect(), needed, members, missing_commits }
    }
}

impl TryFrom<v1::CreateTokenRequest> for CreateToken {
    type Error = Malformed;

    fn try_from(message: v1::CreateTokenRequest) -> Result<Self> {
        let v1::CreateTokenRequest { role: may, lifetime_millis } = message;
        let lifetime = if lifetime_millis == 0 { Self::LIFETIME } else { Duration::from_millis(lifetime_millis) };
        Ok(Self { role: role("role", may)?, lifetime })
    }
}

impl From<CreateToken> for v1::CreateTokenRequest {
    fn from(CreateToken { role, lifetime }: CreateToken) -> Self {
        Self { role: v1::Role::from(role).into(), lifetime_millis: millis(lifetime) }
    }
}

impl TryFrom<v1::CreateTokenResponse> for Token {
    type Error = Malformed;

    fn try_from(message: v1::CreateTokenResponse) -> Result<Self> {
        let v1::CreateTokenResponse { token, expires_unix_millis } = message;
        if token.is_empty() {
            return Err(Malformed::missing("token"));
        }
        Ok(Self { token, expires_millis: expires_unix_millis })
    }
}

impl From<Token> for v1::CreateTokenResponse {
    fn from(Token { token, expires_millis }: Token) -> Self {
        Self { token, expires_unix_millis: expires_millis }
    }
}

impl TryFrom<v1::StartSchemaRequest> for StartSchema {
    type Error = Malformed;

    fn try_from(message: v1::StartSchemaRequest) -> Result<Self> {
        use v1::start_schema_request::Definition as Choice;
        let v1::StartSchemaRequest { repository, branch, from, definition, dry_run } = message;
        let definition = match required("definition", definition)? {
            Choice::StepsJson(json) => Definition::Steps(json),
            Choice::SchemaJson(json) => Definition::Schema(json),
        };
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            branch: optional_branch("branch", branch)?,
            from: optional_branch("from", from)?,
            definition,
            dry_run,
        })
    }
}

impl From<StartSchema> for v1::StartSchemaRequest {
    fn from(StartSchema { repository: id, branch, from, definition, dry_run }: StartSchema) -> Self {
        use v1::start_schema_request::Definition as Choice;
        let definition = match definition {
            Definition::Steps(json) => Choice::StepsJson(json),
            Definition::Schema(json) => Choice::SchemaJson(json),
        };
        Self {
            repository: repository(id),
            branch: text_or_empty(branch.as_ref()),
            from: text_or_empty(from.as_ref()),
            definition: Some(definition),
            dry_run,
        }
    }
}

impl TryFrom<v1::StartSchemaResponse> for Started {
    type Error = Malformed;

    fn try_from(message: v1::StartSchemaResponse) -> Result<Self> {
        let v1::StartSchemaResponse { branch, schema_json, position } = message;
        Ok(Self { branch: inner("branch", branch)?, schema_json, position: optional("position", position)? })
    }
}

impl From<Started> for v1::StartSchemaResponse {
    fn from(Started { branch, schema_json, position }: Started) -> Self {
        Self { branch: Some(branch.into()), schema_json, position: position.map(Into::into) }
    }
}

impl TryFrom<v1::StartBranchRequest> for StartBranch {
    type Error = Malformed;

    fn try_from(message: v1::StartBranchRequest) -> Result<Self> {
        let v1::StartBranchRequest { repository, branch: name, from, commit } = message;
        Ok(Self {
            repository: optional_id("repository", &repository)?,
            branch: branch("branch", name)?,
            from: optional_branch("from", from)?,
            commit: optional_id("commit", &commit)?,
        })
    }
}

impl From<StartBranch> for v1::StartBranchRequest {
    fn from(StartBranch { repository: id, branch, from, commit }: StartBranch) -> Self {
        Self {
            repository: repository(id),
            branch: branch.to_string(),
            from: text_or_empty(from.as_ref()),
            commit: raw_or_empty(commit.as_ref().map(herdbook_model::id::CommitId::as_bytes)),
        }
    }
}

impl TryFrom<v1::StartBranchResponse> for BranchStarted {
    type Error = Malformed;

    fn try_from(message: v1::StartBranchResponse) -> Result<Self> {
        let v1::StartBranchResponse { branch, position } = message;
        Ok(Self { branch: inner("branch", branch)?, position: inner("position", position)? })
    }
}

impl From<BranchStarted> for v1::StartBranchResponse {
    fn from(BranchStarted { branch, position }: BranchStarted) -> Self {
        Self { branch: Some(branch.into()), position: Some(position.into()) }
    }
}

impl TryFrom<v1::PromoteSchemaRequest> for OnBranch {
    type Error = Malformed;

    fn try_from(message: v1::PromoteSchemaRequest) -> Result<Self> {
        let v1::PromoteSchemaRequest { repository, branch: name } = message;
        Ok(Self { repository: optional_id("repository", &repository)?, branch: branch("branch", name)? })
    }
}

impl From<OnBranch> for v1::PromoteSchemaRequest {
    fn from(OnBranch { repository: id, branch }: OnBranch) -> Self {
        Self { repository: repository(id), branch: branch.to_string() }
    }
}

impl TryFrom<v1::AbandonSchemaRequest> for OnBranch {
    type Error = Malformed;

    fn try_from(message: v1::AbandonSchemaRequest) -> Result<Self> {
        let v1::AbandonSchemaRequest { repository, branch: name } = message;
        Ok(Self { repository: optional_id("repository", &repository)?, branch: branch("branch", name)? })
    }
}

impl From<OnBranch> for v1::AbandonSchemaRequest {
    fn from(OnBranch { repository: id, branch }: OnBranch) -> Self {
        Self { repository: repository(id), branch: branch.to_string() }
    }
}

impl TryFrom<v1::Branch> for Branch {
    type Error = Malformed;

    fn try_from(message: v1::Branch) -> Result<Self> {
        let v1::Branch { name, schema, version, from, status, promoted, apart } = message;
        Ok(Self {
            name: branch("name", name)?,
            schema: id("schema", &schema)?,
            version,
            from: optional_branch("from", from)?,
            status: branch_status("status", status)?,
            promoted,
            apart,
        })
    }
}

impl From<Branch> for v1::Branch {
    fn from(Branch { name, schema, version, from, status, promoted, apart }: Branch) -> Self {
        Self {
            name: name.to_string(),
            schema: raw(schema.as_bytes()),
            version,
            from: text_or_empty(from.as_ref()),
            status: v1::BranchStatus::from(status).into(),
            promoted,
            apart,
        }
    }
}

impl TryFrom<v1::GetSchemaResponse> for BranchSchema {
    type Error = Malformed;

    fn try_from(message: v1::GetSchemaResponse) -> Result<Self> {
        let v1::GetSchemaResponse { branch, schema_json } = message;
        Ok(Self { branch: inner("branch", branch)?, json: schema_json })
    }
}

impl From<BranchSchema> for v1::GetSchemaResponse {
    fn from(BranchSchema { branch, json }: BranchSchema) -> Self {
        Self { branch: Some(branch.into()), schema_json: json }
    }
}

impl TryFrom<v1::ReopenAfterRestoreResponse> for Reopened {
    type Error = Malformed;

    fn try_from(message: v1::ReopenAfterRestoreResponse) -> Result<Self> {
        let v1::ReopenAfterRestoreResponse { position, reporters, lost } = message;
        Ok(Self { position: inner("position", position)?, reporters: ids("reporters", &reporters)?, lost: each("lost", lost)? })
    }
}

impl From<Reopened> for v1::ReopenAfterRestoreResponse {
    fn from(Reopened { position, reporters, lost }: Reopened) -> Self {
        Self {
            position: Some(position.into()),
            reporters: reporters.iter().map(|reporter| raw(reporter.as_bytes())).collect(),
            lost: all(lost),
        }
    }
}
