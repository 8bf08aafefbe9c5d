//! The single writer of a repository: folds the requests that wait into one commit and answers each when the store has it.

use std::{collections::VecDeque, time::Duration};

use actix::{Actor, ActorContext as _, Addr, Arbiter, AsyncContext as _, Context, Handler, Message, SpawnHandle};
use herdbook_store::Durability;
use tokio::sync::{oneshot, watch};

use crate::{
    error::Error,
    repository::{Ask, Committed, Repository},
};

/// Requests that may wait in the mailbox.
const MAILBOX: usize = 8192;

/// Requests folded into one call at most.
const FOLD: usize = 1024;

/// Commits handed to the store and not answered yet, at most. While that many are under way requests wait, and the next commit takes
/// them all: with one the disk would idle while a commit is signed, with many each commit would hold one request.
const UNDER_WAY: usize = 2;

/// How long nothing must be written before the overlay is folded into the trees.
const IDLE: Duration = Duration::from_secs(2);

/// An answer to one request.
pub type Answer = Result<Acknowledged, Error>;

/// A request that is committed, and what its acknowledgement survives.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// What was committed.
    pub committed: Committed,
    /// How durable it is here.
    pub durability: Durability,
}

/// Asks for a commit.
#[derive(Message)]
#[rtype(result = "()")]
struct Submit {
    ask: Ask,
    durability: Durability,
    answer: oneshot::Sender<Answer>,
}

/// The store answered a call.
#[derive(Message)]
#[rtype(result = "()")]
struct Written;

/// Ends the actor after what waits is done.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

/// A handle to the writer of a repository. Cheap to clone. The writer and what follows it hold the repository until they are told to
/// [`stop`](Self::stop): dropping handles ends nothing.
#[derive(Clone)]
pub struct RepositoryHandle {
    repository: Repository,
    writer: Addr<RepositoryActor>,
    ended: watch::Sender<bool>,
}

impl RepositoryHandle {
    /// Starts the writer of `repository` on a thread of its own. Needs a running actor system.
    pub fn start(repository: Repository) -> Self {
        let for_actor = repository.clone();
        let arbiter = Arbiter::new();
        let writer = RepositoryActor::start_in_arbiter(&arbiter.handle(), move |context| {
            context.set_mailbox_capacity(MAILBOX);
            RepositoryActor { repository: for_actor, waiting: VecDeque::new(), under_way: 0, idle: None }
        });
        Self { repository, writer, ended: watch::channel(false).0 }
    }

    /// Returns the repository, for reading.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Commits a request together with those that wait beside it, and answers when it is as durable as asked.
    ///
    /// # Errors
    /// [`Error::Busy`] if the mailbox is full; otherwise why the request could not be done, and then nothing of it was.
    pub async fn commit(&self, ask: Ask, durability: Durability) -> Answer {
        let (answer, outcome) = oneshot::channel();
        match self.writer.try_send(Submit { ask, durability, answer }) {
            Ok(()) => outcome.await.unwrap_or(Err(Error::Stopped)),
            Err(actix::prelude::SendError::Full(_)) => Err(Error::Busy),
            Err(actix::prelude::SendError::Closed(_)) => Err(Error::Stopped),
        }
    }

    /// Returns a cell that becomes true when the writer is told to end: what goes on for ever ends then.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Ends the writer after what waits is done.
    pub fn stop(&self) {
        self.ended.send_replace(true);
        self.writer.do_send(Stop);
    }
}

struct RepositoryActor {
    repository: Repository,
    waiting: VecDeque<Submit>,
    under_way: usize,
    idle: Option<SpawnHandle>,
}

impl Actor for RepositoryActor {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Context<Self>) {
        Arbiter::current().stop();
    }
}

impl Handler<Submit> for RepositoryActor {
    type Result = ();

    fn handle(&mut self, submit: Submit, context: &mut Context<Self>) {
        self.waiting.push_back(submit);
        // Requests that are in the mailbox already are taken first: the commit is made when the actor has read them.
        if self.waiting.len() == 1 {
            context.notify(Flush);
        }
        if let Some(idle) = self.idle.take() {
            context.cancel_future(idle);
        }
    }
}

/// Commits what waits.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl Handler<Flush> for RepositoryActor {
    type Result = ();

    fn handle(&mut self, _: Flush, context: &mut Context<Self>) {
        self.flush(context);
    }
}

impl Handler<Written> for RepositoryActor {
    type Result = ();

    fn handle(&mut self, _: Written, context: &mut Context<Self>) {
        self.under_way -= 1;
        self.flush(context);
        if self.under_way == 0 && self.idle.is_none() {
            self.idle = Some(context.run_later(IDLE, |actor, _| {
                actor.idle = None;
                if let Err(error) = actor.repository.materialise() {
                    tracing::error!(%error, "the state could not be folded");
                }
            }));
        }
    }
}

impl Handler<Stop> for RepositoryActor {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Context<Self>) {
        self.under_way = 0;
        self.flush(context);
        context.stop();
    }
}

impl RepositoryActor {
    fn flush(&mut self, context: &Context<Self>) {
        while self.under_way < UNDER_WAY && !self.waiting.is_empty() {
            let taken: Vec<_> = self.waiting.drain(..self.waiting.len().min(FOLD)).collect();
            // One commit is written once: the highest durability asked for is everybody's.
            let durability = taken.iter().map(|submit| submit.durability).max().unwrap_or(Durability::Process);
            let (asks, answers): (Vec<_>, Vec<_>) = taken.into_iter().map(|submit| (submit.ask, submit.answer)).unzip();
            self.under_way += 1;
            let own = context.address();
            self.repository.commit(asks, durability, move |receipt, outcomes| {
                match receipt {
                    Ok(receipt) => {
                        for (answer, outcome) in answers.into_iter().zip(outcomes) {
                            let durability = receipt.durability;
                            let _ = answer.send(outcome.map(|committed| Acknowledged { committed, durability }));
                        }
                    }
                    Err(error) => answer_all(answers, outcomes, error),
                }
                own.do_send(Written);
            });
        }
    }
}

/// The store did not take a call: who would have been committed learns why, who was refused before learns that.
fn answer_all(answers: Vec<oneshot::Sender<Answer>>, outcomes: Vec<Result<Committed, Error>>, error: Error) {
    let text = error.to_string();
    let busy = matches!(error, Error::Store(herdbook_store::Error::Busy));
    let mut first = Some(error);
    for (answer, outcome) in answers.into_iter().zip(outcomes) {
        let why = match outcome {
            Err(error) => error,
            Ok(_) if busy => Error::Busy,
            Ok(_) => first.take().unwrap_or_else(|| Error::NotStored { why: text.clone() }),
        };
        let _ = answer.send(Err(why));
    }
}
