//! The authority's actor: one thing after another, on a thread of its own.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext as _, Addr, Arbiter, AsyncContext as _, Context, Handler, MailboxError, Message};
use herdbook_model::{
    authority::{Entry, Position, SchemaAction},
    id::{BranchName, ReplicaId},
    vector::VersionVector,
};
use herdbook_proto::{
    cluster::{
        BranchStarted, CreateToken, Erase, Erased, Horizon, Join, Joined, OnBranch, Phase, Recovery, Reopened, SetHorizon, StartBranch,
        StartSchema, Started, Token,
    },
    status::{Failure, Kind, status},
};
use herdbook_replica::{
    node::Phases,
    peers::{Observer, Peers},
    repository::Change,
};
use herdbook_sync::{
    exchange::Accepted,
    restore::{Decision, Input, Output, Restore},
};
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tonic::Status;

use crate::authority::{Authority, Error};

/// How long commits gather before they are judged together.
const GATHER: Duration = Duration::from_millis(20);

/// How often it is looked for states that were folded since, so that their roots go on record.
const LOOK: Duration = Duration::from_secs(1);

/// What the actor and those who ask it share.
pub(crate) struct AuthorityActor {
    authority: Authority,
    phase: Arc<Phases>,
    peers: Arc<Peers>,
    recovery: Arc<Mutex<Option<Recovery>>>,
    restore: Option<Restore>,
    scheduled: bool,
    decided: Option<Reopened>,
}

/// A handle to the authority. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AuthorityHandle {
    actor: Addr<AuthorityActor>,
    recovery: Arc<Mutex<Option<Recovery>>>,
}

/// New commits wait to be judged.
#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

/// Judges.
#[derive(Message)]
#[rtype(result = "()")]
struct Judge;

/// Ends the actor and its thread.
#[derive(Message)]
#[rtype(result = "()")]
struct Halt;

impl Handler<Halt> for AuthorityActor {
    type Result = ();

    fn handle(&mut self, _: Halt, context: &mut Context<Self>) {
        context.stop();
    }
}

/// Runs something on the authority and answers.
struct Do<T: Send + 'static>(Deed<T>);

/// What is to be run on the authority.
type Deed<T> = Box<dyn FnOnce(&mut AuthorityActor) -> Result<T, Error> + Send>;

impl<T: Send + 'static> Message for Do<T> {
    type Result = Result<T, Error>;
}

/// What exchanges tell during a restore.
#[derive(Message)]
#[rtype(result = "()")]
enum Told {
    Entries(ReplicaId, Vec<Entry>),
    Holds(ReplicaId, VersionVector),
    Stored(ReplicaId, Vec<Accepted>),
    Covered(ReplicaId),
    Gone(ReplicaId),
}

impl AuthorityHandle {
    pub(crate) fn start(authority: Authority, phase: Arc<Phases>, peers: Arc<Peers>, restore: Option<Restore>) -> Self {
        let recovery = Arc::new(Mutex::new(restore.as_ref().map(|_| nothing_reported())));
        let shared = recovery.clone();
        let actor = AuthorityActor::start_in_arbiter(&Arbiter::new().handle(), move |context| {
            context.set_mailbox_capacity(4096);
            AuthorityActor { authority, phase, peers, recovery: shared, restore, scheduled: false, decided: None }
        });
        Self { actor, recovery }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut AuthorityActor) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        match self.actor.send(Do(Box::new(work))).await {
            Ok(done) => done.map_err(|error| status(&error)),
            Err(MailboxError::Closed) => Err(status(&NoAnswer::Stopping)),
            Err(MailboxError::Timeout) => Err(status(&NoAnswer::Late)),
        }
    }
}

const fn nothing_reported() -> Recovery {
    Recovery { reporters: Vec::new(), needed: 0, members: 0, missing_commits: 0 }
}

impl Actor for AuthorityActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        let mut changes = self.authority.repository().changes();
        let own = context.address().downgrade();
        actix_rt::spawn(async move {
            loop {
                match changes.recv().await {
                    Ok(Change::Commits { .. } | Change::Forked) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Ok(_) => continue,
                    Err(broadcast::error::RecvError::Closed) => break,
                }
                let Some(actor) = own.upgrade() else { break };
                actor.do_send(Wake);
            }
        });
        context.run_interval(LOOK, |_, context| context.notify(Judge));
        context.notify(Judge);
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        Arbiter::current().stop();
    }
}

impl Handler<Wake> for AuthorityActor {
    type Result = ();

    fn handle(&mut self, _: Wake, context: &mut Context<Self>) {
        if !self.scheduled {
            self.scheduled = true;
            context.notify_later(Judge, GATHER);
        }
    }
}

impl Handler<Judge> for AuthorityActor {
    type Result = ();

    fn handle(&mut self, _: Judge, _: &mut Context<Self>) {
        self.scheduled = false;
        if self.phase.get() != Phase::Serving {
            return;
        }
        if let Err(error) = self.authority.accept() {
            tracing::error!(%error, "the authority could not accept what is new");
            self.fail_if_over(&error);
        }
    }
}

impl<T: Send + 'static> Handler<Do<T>> for AuthorityActor {
    type Result = Result<T, Error>;

    fn handle(&mut self, Do(work): Do<T>, _: &mut Context<Self>) -> Result<T, Error> {
        work(self).inspect_err(|error| self.fail_if_over(error))
    }
}

impl Handler<Told> for AuthorityActor {
    type Result = ();

    fn handle(&mut self, told: Told, _: &mut Context<Self>) {
        let given = match &told {
            Told::Entries(from, entries) => self.give(Input::Entries { from: *from, entries }),
            Told::Holds(from, vector) => self.give(Input::Holds { from: *from, vector }),
            Told::Stored(from, commits) => commits.iter().try_for_each(|commit| self.give(Input::Stored { from: *from, commit })),
            Told::Covered(from) => self.give(Input::Covered { from: *from }),
            Told::Gone(from) => self.give(Input::Gone { from: *from }),
        };
        if let Err(error) = given {
            tracing::error!(%error, "the restore cannot go on");
        }
    }
}

impl AuthorityActor {
    /// Gives one input to the restore and does what it wants.
    fn give(&mut self, input: Input<'_>) -> Result<(), Error> {
        let Some(restore) = &mut self.restore else { return Ok(()) };
        restore.handle(input, self.authority.repository())?;
        let (reporters, needed) = restore.progress();
        let members = restore.log().map_or(0, |log| log.members().len());
        *self.recovery.lock() = Some(Recovery {
            reporters,
            needed: u32::try_from(needed).unwrap_or(0),
            members: u32::try_from(members).unwrap_or(u32::MAX),
            missing_commits: 0,
        });
        while let Some(output) = self.restore.as_mut().and_then(Restore::poll_output) {
            match output {
                Output::Ask { member, ranges } => self.peers.ask(&member, &ranges),
                Output::Evidence(evidence) => {
                    tracing::error!(?evidence, "the restore is frozen: the authority signed twice");
                    self.phase.set(Phase::Frozen);
                }
                Output::Decided(decision) => self.reopen(decision).inspect_err(|_| {
                    // It was not carried out: the next report or word of the operator decides anew.
                    self.restore.as_mut().map(Restore::retract);
                })?,
            }
        }
        Ok(())
    }

    fn reopen(&mut self, decision: Decision) -> Result<(), Error> {
        let Decision { log, reporters, lost, missing } = decision;
        for head in &missing {
            tracing::error!(%head, "an accepted head is with nobody");
        }
        let position = self.authority.reopen(&log, reporters.clone(), lost.clone())?;
        tracing::info!(reporters = reporters.len(), lost = lost.len(), epoch = position.epoch, "restored");
        self.decided = Some(Reopened { position, reporters, lost });
        self.restore = None;
        *self.recovery.lock() = None;
        self.phase.set(Phase::Serving);
        // Exchanges were opened to recover; they begin again as ordinary ones.
        self.peers.close_all();
        Ok(())
    }
}

#[tonic::async_trait]
impl herdbook_replica::node::Authority for AuthorityHandle {
    async fn join(&self, join: Join) -> Result<Joined, Status> {
        self.run(move |actor| actor.serving()?.join(&join)).await
    }

    async fn create_token(&self, create: CreateToken) -> Result<Token, Status> {
        self.run(move |actor| actor.serving()?.create_token(create.role, create.lifetime)).await
    }

    async fn start_schema(&self, start: StartSchema) -> Result<Started, Status> {
        self.run(move |actor| actor.serving()?.start_schema(&start)).await
    }

    async fn start_branch(&self, start: StartBranch) -> Result<BranchStarted, Status> {
        self.run(move |actor| actor.serving()?.start_branch(&start)).await
    }

    async fn set_horizon(&self, set: SetHorizon) -> Result<Vec<Horizon>, Status> {
        self.run(move |actor| actor.serving()?.set_horizon(&set)).await
    }

    async fn erase(&self, erase: Erase) -> Result<Erased, Status> {
        self.run(move |actor| actor.serving()?.erase(&erase)).await
    }

    async fn promote_schema(&self, on: OnBranch) -> Result<Position, Status> {
        self.change(on.branch, SchemaAction::Promote).await
    }

    async fn abandon_schema(&self, on: OnBranch) -> Result<Position, Status> {
        self.change(on.branch, SchemaAction::Abandon).await
    }

    async fn reopen(&self, reason: String) -> Result<Reopened, Status> {
        tracing::warn!(%reason, "the operator ends the restore");
        let reopened = self.run(|actor| {
            actor.give(Input::Override)?;
            Ok(actor.decided.clone())
        });
        reopened.await?.ok_or_else(|| status(&NoAnswer::NothingToReopen))
    }

    fn recovery(&self) -> Option<Recovery> {
        self.recovery.lock().clone()
    }

    fn stop(&self) {
        self.actor.do_send(Halt);
    }
}

impl AuthorityHandle {
    async fn change(&self, branch: BranchName, action: SchemaAction) -> Result<Position, Status> {
        self.run(move |actor| actor.serving()?.change_schema(branch, action)).await
    }
}

impl AuthorityActor {
    /// Fails the node after what only a new start can mend. A store that failed is noticed by the node itself.
    fn fail_if_over(&self, error: &Error) {
        if matches!(error, Error::Overtaken) {
            self.phase.fail(error.to_string());
        }
    }

    fn serving(&mut self) -> Result<&mut Authority, Error> {
        if self.phase.get() == Phase::Serving { Ok(&mut self.authority) } else { Err(herdbook_replica::Error::Recovering.into()) }
    }
}

impl Observer for AuthorityHandle {
    fn entries(&self, from: ReplicaId, entries: &[Entry]) {
        self.actor.do_send(Told::Entries(from, entries.to_vec()));
    }

    fn holds(&self, from: ReplicaId, vector: &VersionVector) {
        self.actor.do_send(Told::Holds(from, vector.clone()));
    }

    fn stored(&self, from: ReplicaId, commits: &[Accepted]) {
        self.actor.do_send(Told::Stored(from, commits.to_vec()));
    }

    fn covered(&self, from: ReplicaId) {
        self.actor.do_send(Told::Covered(from));
    }

    fn gone(&self, from: ReplicaId) {
        self.actor.do_send(Told::Gone(from));
    }
}

/// Why the authority's actor has no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the authority is shutting down")]
    Stopping,
    #[error("the authority did not answer in time")]
    Late,
    #[error("no restore is going on, or no member has told all it holds yet")]
    NothingToReopen,
}

impl Failure for NoAnswer {
    fn kind(&self) -> Kind {
        match self {
            Self::Stopping => Kind::Unavailable,
            Self::Late => Kind::Unknown,
            Self::NothingToReopen => Kind::Precondition,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Stopping => "STOPPING",
            Self::Late => "NO_ANSWER",
            Self::NothingToReopen => "NOTHING_TO_REOPEN",
        }
    }
}

impl Failure for Error {
    fn kind(&self) -> Kind {
        match self {
            Self::Repository(error) => Failure::kind(error),
            Self::Token(_) => Kind::Denied,
            Self::Json(_) | Self::Schema(_) | Self::NoSource | Self::Name(_) | Self::NoStandby => Kind::Invalid,
            Self::NotAccepted { .. } | Self::HorizonAndBranches | Self::HorizonOverLosses => Kind::Precondition,
            Self::Acceptance(_) | Self::NoEpoch | Self::Keys(_) | Self::Overtaken => Kind::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Repository(error) => Failure::reason(error),
            Self::Token(_) => "TOKEN_REFUSED",
            Self::Json(_) | Self::Schema(_) => "BAD_SCHEMA",
            Self::NoSource => "NO_SOURCE",
            Self::NotAccepted { .. } => "NOT_ACCEPTED",
            Self::HorizonAndBranches => "HORIZON_AND_BRANCHES",
            Self::HorizonOverLosses => "HORIZON_OVER_LOSSES",
            Self::Name(_) => "BAD_NAME",
            Self::Acceptance(_) => "ACCEPTANCE",
            Self::NoEpoch => "NO_EPOCH",
            Self::NoStandby => "NO_STANDBY",
            Self::Keys(_) => "KEYS",
            Self::Overtaken => "OVERTAKEN",
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        if let Self::Repository(error) = self { Failure::metadata(error) } else { Vec::new() }
    }

    fn field(&self) -> Option<String> {
        if let Self::Repository(error) = self { Failure::field(error) } else { None }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Repository(error) => return Failure::hint(error),
            Self::Token(_) => "make a new one (`herdbook token create`): each is good once, for a while, and for one replica",
            Self::NotAccepted { .. } => "wait until the branch has accepted it, or begin at one that it has",
            Self::NoEpoch | Self::Overtaken => "try again in a moment",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
