//! ClusterService: who is here, what each holds, and what the authority is asked to decide.

use std::sync::Arc;

use herdbook_model::{
    authority::{Lost, RequestRef},
    id::{BranchName, RepositoryId},
    json,
};
use herdbook_proto::{
    cluster::{self, Branch, BranchSchema, CreateToken, Head, Join, OnBranch, Peer, StartBranch, StartSchema, Status as NodeStatus},
    status::Failure as _,
    v1,
};
use tonic::{Request, Response, Status};

use super::{Inner, refusal::Refusal};
use crate::{error::Error, peers::Peers, repository::Collecting};

/// Answers for the node, and asks the authority where there is one.
pub(super) struct ClusterService {
    pub(super) node: Arc<Inner>,
}

fn refuse(error: &Error) -> Status {
    error.to_status()
}

impl ClusterService {
    fn check(&self, repository: &[u8]) -> Result<(), Status> {
        let own = self.node.here.repository.id();
        if repository.is_empty() || RepositoryId::try_from(repository) == Ok(own) {
            return Ok(());
        }
        Err(Refusal::OtherRepository { held: own }.to_status())
    }

    fn authority(&self) -> Result<&dyn super::Authority, Status> {
        self.node.authority.as_deref().ok_or_else(|| {
            let whom = self.node.settings.coordinator.as_deref().unwrap_or("the coordinator");
            Refusal::NoAuthority { whom: whom.to_owned() }.to_status()
        })
    }

    fn branch(&self, name: &BranchName) -> Result<Branch, Status> {
        let view = self.node.here.repository.view();
        let Some(branch) = view.log.branch(name) else {
            return Err(refuse(&Error::UnknownBranch { name: name.to_string(), known: "see `herdbook branch list`".to_owned() }));
        };
        Ok(Branch {
            name: name.clone(),
            schema: branch.schema.id(),
            version: branch.schema.version,
            from: branch.from.clone(),
            apart: branch.apart,
            status: branch.status,
            promoted: view.log.promoted() == Some(name),
        })
    }
}

/// Returns the newest state of each branch as this node knows it, with roots, or with those alone that are at hand.
fn heads(node: &Inner, only_known_roots: bool) -> Result<Vec<Head>, Error> {
    let repository = &node.here.repository;
    let view = repository.view();
    let mut heads = Vec::with_capacity(view.branches.len());
    for (name, state) in &view.branches {
        let said = view.log.branch(name);
        let (mut documents, mut conflicts) = (0, 0u64);
        for collection in &state.schema().collections {
            documents += state.count(collection.id);
            conflicts = state.count_conflicts(collection.id).saturating_add(conflicts);
        }
        heads.push(Head {
            branch: name.clone(),
            heads: state.frontier().ids(),
            frontier: state.frontier().name(name),
            judgement: state.judgement(),
            state: state.name(),
            root: if only_known_roots { state.root() } else { Some(repository.root(state)?) },
            accepted_heads: said.map(|said| said.heads.clone()).unwrap_or_default(),
            accepted: said.map(|said| said.accepted),
            commits: state.frontier().vector().commits(),
            documents,
            conflicts,
        });
    }
    Ok(heads)
}

fn peers(node: &Inner) -> Vec<Peer> {
    let view = node.here.repository.view();
    let known = node.peers.all();
    let own = node.here.repository.replica();
    let peer = |(replica, member): (&_, &herdbook_model::authority::Member)| {
        let known = known.get(replica).cloned().unwrap_or_default();
        let address = if *replica == own { node.advertised() } else { known.address.clone().unwrap_or_default() };
        Peer {
            replica: *replica,
            name: member.name.clone(),
            role: member.role,
            address,
            connected: known.connections > 0,
            revoked: member.revoked.is_some(),
            silent: Peers::silence(&known),
            level: known.level,
        }
    };
    view.log.members().iter().map(peer).collect()
}

fn lost(node: &Inner) -> Vec<Lost> {
    let view = node.here.repository.view();
    let own = view.lost.iter().map(|(request, documents): (&RequestRef, _)| Lost { request: *request, documents: documents.clone() });
    view.log.lost().values().cloned().chain(own).collect()
}

fn status(node: &Inner) -> Result<NodeStatus, Error> {
    let repository = &node.here.repository;
    let view = repository.view();
    let member = view.log.members().get(&repository.replica());
    Ok(NodeStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        repository: repository.id(),
        repository_name: repository.genesis().name.clone(),
        replica: repository.replica(),
        name: node.settings.name.clone(),
        role: member.map_or(node.role, |member| member.role),
        session: repository.session(),
        phase: node.phase(),
        online: node.peers.is_online(),
        log: view.log.newest(),
        promoted: view.log.promoted().cloned(),
        branches: heads(node, false)?,
        outbox: unaccepted(node),
        quarantine: 0,
        lost: lost(node),
        recovery: node.authority.as_ref().and_then(|authority| authority.recovery()),
        store_bytes: node.store_bytes(),
    })
}

/// Commits here that the authority has not accepted.
fn unaccepted(node: &Inner) -> u64 {
    let view = node.here.repository.view();
    let mut count = 0;
    for (name, state) in &view.branches {
        let mut accepted = herdbook_model::vector::VersionVector::default();
        for head in view.log.branch(name).map(|said| said.heads.clone()).unwrap_or_default() {
            if let Ok(Some(meta)) = node.here.repository.meta(&head) {
                accepted.merge(&meta.vector);
            }
        }
        count += accepted.missing_from(state.frontier().vector()).iter().map(herdbook_model::vector::Range::len).sum::<u64>();
    }
    count
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::BrokenOff.to_status())?;
    done.map_err(|error| refuse(&error))
}

#[tonic::async_trait]
impl v1::cluster_service_server::ClusterService for ClusterService {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let join = Join::try_from(request.into_inner())?;
        if !join.is_signed() {
            return Err(Refusal::Unsigned.to_status());
        }
        let (replica, address) = (join.replica, join.address.clone());
        let mut joined = self.authority()?.join(join).await?;
        self.node.note_address(replica, &address);
        joined.peers = peers(&self.node);
        Ok(Response::new(joined.into()))
    }

    async fn heads(&self, request: Request<v1::HeadsRequest>) -> Result<Response<v1::HeadsResponse>, Status> {
        let v1::HeadsRequest { repository, only_known_roots } = request.into_inner();
        self.check(&repository)?;
        let node = self.node.clone();
        let heads = blocking(move || heads(&node, only_known_roots)).await?;
        Ok(Response::new(v1::HeadsResponse { heads: heads.into_iter().map(Into::into).collect() }))
    }

    async fn peers(&self, request: Request<v1::PeersRequest>) -> Result<Response<v1::PeersResponse>, Status> {
        self.check(&request.into_inner().repository)?;
        Ok(Response::new(v1::PeersResponse { peers: peers(&self.node).into_iter().map(Into::into).collect() }))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        self.check(&request.into_inner().repository)?;
        let node = self.node.clone();
        Ok(Response::new(blocking(move || status(&node)).await?.into()))
    }

    async fn create_token(&self, request: Request<v1::CreateTokenRequest>) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let create = CreateToken::try_from(request.into_inner())?;
        Ok(Response::new(self.authority()?.create_token(create).await?.into()))
    }

    async fn set_online(&self, request: Request<v1::SetOnlineRequest>) -> Result<Response<v1::SetOnlineResponse>, Status> {
        let was_online = self.node.peers.set_online(request.into_inner().online);
        Ok(Response::new(v1::SetOnlineResponse { was_online }))
    }

    async fn collect_garbage(&self, request: Request<v1::CollectGarbageRequest>) -> Result<Response<v1::CollectGarbageResponse>, Status> {
        let v1::CollectGarbageRequest { repository, dry_run } = request.into_inner();
        self.check(&repository)?;
        let node = self.node.clone();
        let collected = blocking(move || node.collect_now(Collecting { dry_run, ..Collecting::default() })).await?;
        Ok(Response::new(cluster::Collected::from(collected).into()))
    }

    async fn set_horizon(&self, request: Request<v1::SetHorizonRequest>) -> Result<Response<v1::SetHorizonResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.repository)?;
        let horizons = self.authority()?.set_horizon(request.try_into()?).await?;
        Ok(Response::new(v1::SetHorizonResponse { horizons: horizons.into_iter().map(Into::into).collect() }))
    }

    async fn erase(&self, request: Request<v1::EraseRequest>) -> Result<Response<v1::EraseResponse>, Status> {
        let request = request.into_inner();
        self.check(&request.repository)?;
        Ok(Response::new(self.authority()?.erase(request.try_into()?).await?.into()))
    }

    async fn start_schema(&self, request: Request<v1::StartSchemaRequest>) -> Result<Response<v1::StartSchemaResponse>, Status> {
        let start = StartSchema::try_from(request.into_inner())?;
        Ok(Response::new(self.authority()?.start_schema(start).await?.into()))
    }

    async fn start_branch(&self, request: Request<v1::StartBranchRequest>) -> Result<Response<v1::StartBranchResponse>, Status> {
        let start = StartBranch::try_from(request.into_inner())?;
        Ok(Response::new(self.authority()?.start_branch(start).await?.into()))
    }

    async fn promote_schema(&self, request: Request<v1::PromoteSchemaRequest>) -> Result<Response<v1::PromoteSchemaResponse>, Status> {
        let on = OnBranch::try_from(request.into_inner())?;
        let position = self.authority()?.promote_schema(on).await?;
        Ok(Response::new(v1::PromoteSchemaResponse { position: Some(position.into()) }))
    }

    async fn abandon_schema(&self, request: Request<v1::AbandonSchemaRequest>) -> Result<Response<v1::AbandonSchemaResponse>, Status> {
        let on = OnBranch::try_from(request.into_inner())?;
        let position = self.authority()?.abandon_schema(on).await?;
        Ok(Response::new(v1::AbandonSchemaResponse { position: Some(position.into()) }))
    }

    async fn list_branches(&self, request: Request<v1::ListBranchesRequest>) -> Result<Response<v1::ListBranchesResponse>, Status> {
        self.check(&request.into_inner().repository)?;
        let names: Vec<_> = self.node.here.repository.view().log.branches().keys().cloned().collect();
        let branches = names.iter().map(|name| self.branch(name).map(Into::into)).collect::<Result<_, _>>()?;
        Ok(Response::new(v1::ListBranchesResponse { branches }))
    }

    async fn get_schema(&self, request: Request<v1::GetSchemaRequest>) -> Result<Response<v1::GetSchemaResponse>, Status> {
        let v1::GetSchemaRequest { repository, branch } = request.into_inner();
        self.check(&repository)?;
        let view = self.node.here.repository.view();
        let state = view.state_named(&branch).map_err(|error| refuse(&error))?;
        let json = json::schema_to_json(state.schema()).to_string();
        Ok(Response::new(BranchSchema { branch: self.branch(state.branch())?, json }.into()))
    }

    async fn reopen_after_restore(
        &self,
        request: Request<v1::ReopenAfterRestoreRequest>,
    ) -> Result<Response<v1::ReopenAfterRestoreResponse>, Status> {
        let v1::ReopenAfterRestoreRequest { repository, reason } = request.into_inner();
        self.check(&repository)?;
        let reopened: cluster::Reopened = self.authority()?.reopen(reason).await?;
        Ok(Response::new(reopened.into()))
    }
}
