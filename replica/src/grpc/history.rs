//! HistoryService: how a state came to be, and taking back what should not have been.

use std::sync::Arc;

use herdbook_model::{
    id::{CommitId, RequestKey, SessionId},
    value::Key,
};
use herdbook_proto::{
    ack::{Ack, Wait},
    document::{At, Name, Place},
    history::{Conflicts, Diff, Inspect, Log, Resolve, Revert, Reverted, Show, Skipped},
    limits,
    merge::Merge,
    past::{Blame, Playback},
    v1::{self, history_service_server::HistoryService},
};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{
    diff,
    document::{Answers, patience},
    failure::Error,
    host::{Host, blocking},
    names, past,
};
use crate::{
    keys,
    metrics::Method,
    repository::{self, Selection},
};

/// Answers for the history of one repository.
pub(super) struct Histories {
    pub(super) host: Arc<Host>,
}

#[tonic::async_trait]
impl HistoryService for Histories {
    type DiffStream = Answers<v1::DiffResponse>;
    type PlaybackStream = Answers<v1::PlaybackResponse>;

    async fn log(&self, request: Request<v1::LogRequest>) -> Result<Response<v1::LogResponse>, Status> {
        let call = self.host.metrics.begin(Method::Log);
        let answer = async { self.host.log(Log::try_from(request.into_inner())?).await };
        call.end(answer.await).map(Response::new)
    }

    async fn show(&self, request: Request<v1::ShowRequest>) -> Result<Response<v1::ShowResponse>, Status> {
        let call = self.host.metrics.begin(Method::Show);
        let answer = async { self.host.show(Show::try_from(request.into_inner())?).await };
        call.end(answer.await).map(Response::new)
    }

    async fn diff(&self, request: Request<v1::DiffRequest>) -> Result<Response<Self::DiffStream>, Status> {
        let call = self.host.metrics.begin(Method::Diff);
        let answer = async { diff::open(self.host.clone(), Diff::try_from(request.into_inner())?).await };
        call.end(answer.await).map(Response::new)
    }

    async fn revert(&self, request: Request<v1::RevertRequest>) -> Result<Response<v1::RevertResponse>, Status> {
        let call = self.host.metrics.begin(Method::Revert);
        let answer = async {
            let until = timeout(&request, request.get_ref().wait.as_ref());
            self.host.revert(Revert::try_from(request.into_inner())?, until).await
        };
        call.end(answer.await).map(|reverted| Response::new(reverted.into()))
    }

    async fn blame(&self, request: Request<v1::BlameRequest>) -> Result<Response<v1::BlameResponse>, Status> {
        let call = self.host.metrics.begin(Method::Blame);
        let answer = async { self.host.blame(Blame::try_from(request.into_inner())?).await };
        call.end(answer.await).map(|blamed| Response::new(blamed.into()))
    }

    async fn playback(&self, request: Request<v1::PlaybackRequest>) -> Result<Response<Self::PlaybackStream>, Status> {
        let call = self.host.metrics.begin(Method::Playback);
        let answer = async { past::open(self.host.clone(), Playback::try_from(request.into_inner())?).await };
        call.end(answer.await).map(Response::new)
    }

    async fn merge(&self, request: Request<v1::MergeRequest>) -> Result<Response<v1::MergeResponse>, Status> {
        let call = self.host.metrics.begin(Method::Merge);
        let answer = async {
            let until = timeout(&request, request.get_ref().wait.as_ref());
            self.host.merge(Merge::try_from(request.into_inner())?, until).await
        };
        call.end(answer.await).map(|merged| Response::new(merged.into()))
    }

    async fn list_conflicts(&self, request: Request<v1::ListConflictsRequest>) -> Result<Response<v1::ListConflictsResponse>, Status> {
        let call = self.host.metrics.begin(Method::ListConflicts);
        let answer = async { self.host.conflicts(Conflicts::try_from(request.into_inner())?).await };
        call.end(answer.await).map(Response::new)
    }

    async fn get_conflict(&self, request: Request<v1::GetConflictRequest>) -> Result<Response<v1::GetConflictResponse>, Status> {
        let call = self.host.metrics.begin(Method::GetConflict);
        let answer = async { self.host.inspect(Inspect::try_from(request.into_inner())?).await };
        call.end(answer.await).map(|inspected| Response::new(inspected.into()))
    }

    async fn resolve(&self, request: Request<v1::ResolveRequest>) -> Result<Response<v1::ResolveResponse>, Status> {
        let call = self.host.metrics.begin(Method::Resolve);
        let answer = async {
            let until = timeout(&request, request.get_ref().wait.as_ref());
            self.host.resolve(Resolve::try_from(request.into_inner())?, until).await
        };
        call.end(answer.await).map(|ack| Response::new(v1::ResolveResponse { ack: Some(ack.into()) }))
    }
}

/// Returns when the caller of a write gives up.
fn timeout<M>(request: &Request<M>, wait: Option<&v1::Wait>) -> Option<Instant> {
    let timeout = wait.and_then(|wait| wait.timeout_millis).map(std::time::Duration::from_millis);
    patience(request, Wait { timeout, ..Wait::DURABLE })
}

impl Host {
    async fn revert(&self, revert: Revert, until: Option<Instant>) -> Result<Reverted, Error> {
        let Revert { repository, branch, commits, session, since, until: up_to, collection, key, dry_run, request, message, wait } = revert;
        self.check(repository)?;
        let request_key = request.map_or_else(|| keys::random().map(RequestKey), Ok)?;
        if !dry_run {
            self.check_writable()?;
            if let Some(ack) = self.repeated(request_key, wait, until).await? {
                let commits = vec![ack.commit];
                return Ok(Reverted { ack: Some(ack), edits: 0, skipped: Vec::new(), commits, documents: Vec::new(), left: 0 });
            }
        }
        let message = if message.is_empty() { revert_message(&commits, session, collection.as_deref(), key.as_ref()) } else { message };
        let state = async |at: Option<At>| match at {
            Some(at) => self.state(Place { repository, at }).await.map(Some),
            None => Ok(None),
        };
        let selection = Selection { commits, session, since: state(since).await?, until: state(up_to).await?, collection, key };
        let revert = repository::Revert { branch, selection, key: request_key, message, dry_run };
        let (here, durability) = (self.repository().clone(), names::durability(wait.local));
        let reverted = blocking(move || Ok(here.revert(&revert, durability)?)).await?;
        let repository::Reverted { committed, commits, documents, untouched } = reverted;
        let edits = documents.len() as u64;
        let ack = match committed {
            Some(committed) => {
                self.metrics.committed(documents.len());
                Some(self.acknowledge(committed, durability, wait, until).await.map_err(|error| error.under(request_key))?)
            }
            None => None,
        };
        let listed = |names: Vec<(Arc<str>, Key)>| names.into_iter().take(limits::LISTED).map(|(collection, key)| Name { collection, key });
        let (left, skipped) = (untouched.len() as u64, listed(untouched).map(skipped).collect());
        Ok(Reverted { ack, edits, skipped, commits, documents: listed(documents).collect(), left })
    }

    /// Returns the acknowledgement of a request that was committed before under this key.
    pub(super) async fn repeated(&self, key: RequestKey, wait: Wait, until: Option<Instant>) -> Result<Option<Ack>, Error> {
        let Some(committed) = self.repository().answered(&key)? else { return Ok(None) };
        let durability = names::durability(wait.local);
        let repository = self.repository().clone();
        let receipt = blocking(move || {
            let written = repository.store().records().write(herdbook_store::Batch::new(), durability);
            Ok(written.map_err(crate::Error::from)?)
        });
        let durability = receipt.await?.durability;
        self.acknowledge(committed, durability, wait, until).await.map(Some).map_err(|error| error.under(key))
    }

    /// Returns the newest state of a branch.
    pub(super) async fn newest(
        &self,
        repository: Option<herdbook_model::id::RepositoryId>,
        branch: Option<herdbook_model::id::BranchName>,
    ) -> Result<herdbook_model::state::State, Error> {
        self.state(Place { repository, at: At::Branch(branch) }).await
    }
}

fn skipped(name: Name) -> Skipped {
    Skipped { name, field: None, reason: "nothing of the edit is visible any more: it was changed since, or is lost here".to_owned() }
}

/// Returns the message of a revert that got none.
fn revert_message(commits: &[CommitId], session: Option<SessionId>, collection: Option<&str>, key: Option<&Key>) -> String {
    let mut message = "revert".to_owned();
    if !commits.is_empty() {
        let names: Vec<_> = commits.iter().take(8).map(|commit| format!("{commit:?}")).collect();
        message += &format!(" {}{}", names.join(", "), if commits.len() > names.len() { ", …" } else { "" });
    }
    if let Some(session) = session {
        message += &format!(" session {session:?}");
    }
    match (collection, key) {
        (Some(collection), Some(key)) => message += &format!(" {collection}/{key}"),
        (Some(collection), None) => message += &format!(" {collection}"),
        (None, _) => {}
    }
    // Keys may be longer than a message.
    let end = (0..=message.len().min(limits::COMMIT_MESSAGE)).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    message.truncate(end);
    message
}
