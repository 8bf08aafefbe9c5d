//! A pipeline: streams of writes and of reads that are kept open and shared by all who work over a connection, each waiting for its own answer.
//!
//! A call of HTTP/2 costs headers both ways, a stream of its own and a task; for a document of a hundred bytes that is more than all the rest.
//! In a pipeline a write or read is one message there and one back, and those under way at the same time travel together.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::{
    ack::Ack,
    client::{Answers, Client, DOCUMENT_NOT_FOUND},
    document::Document,
    edit::{Outcome, Write},
    read::{Found, Get, Got},
    status::{Failed, Kind},
    v1,
};

/// Questions that may wait to be sent; who comes then waits for room.
const QUEUE: usize = 256;

type Result<T> = std::result::Result<T, Failed>;

/// Streams of writes and reads. Clones share them; each is opened by the first who needs it, and anew by the next one after it broke.
///
/// Writes are applied in the order in which [`commit`](Self::commit) was first polled, and answered in that order: one that waits for
/// acceptance or copies keeps back the answers of those behind it, though not what they do. Give such writes a pipeline of their own. Reads wait
/// for no writes.
#[derive(Debug, Clone)]
pub struct Pipeline {
    client: Client,
    writes: Lane<Write>,
    reads: Lane<Get>,
}

impl Pipeline {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, writes: Lane::default(), reads: Lane::default() }
    }

    /// Writes. A future that is dropped does not take its write back.
    ///
    /// # Errors
    /// As [`Client::commit`]; [`Kind::Unknown`] also if the stream broke before the answer came.
    pub async fn commit(&self, mut write: Write) -> Result<Ack> {
        let deadline = self.client.until(write.wait.timeout);
        // No deadline travels with a message of a stream: the server is told in the write how long it is waited for.
        write.wait.timeout.get_or_insert(deadline);
        self.writes.ask(&self.client, write, deadline).await
    }

    /// Reads one document; `None` if there is none.
    ///
    /// # Errors
    /// As [`Client::get`]; [`Kind::Unavailable`] also if the stream broke before the answer came.
    pub async fn get(&self, get: Get) -> Result<Option<Document>> {
        match self.reads.ask(&self.client, get, self.client.until(None)).await {
            Ok(Got { document, state: _ }) => Ok(Some(document)),
            Err(failed) if failed.reason == DOCUMENT_NOT_FOUND => Ok(None),
            Err(failed) => Err(failed),
        }
    }
}

/// What can be asked in a stream.
trait Question: std::fmt::Debug + Send + Sized + 'static {
    /// What the server answers.
    type Answer: std::fmt::Debug + Send + 'static;
    /// An answer as it travels.
    type Wire: Send + 'static;
    /// It with its number.
    type Numbered: Send + 'static;
    /// What is to be thought of a question whose stream broke: what the transport says of its end is not said of each question.
    const BROKEN: Kind;

    fn open(
        client: &Client,
        questions: impl tokio_stream::Stream<Item = Self> + Send + 'static,
    ) -> impl Future<Output = Result<Answers<Self::Wire, Self::Numbered>>> + Send;

    fn parts(numbered: Self::Numbered) -> (u64, Result<Self::Answer>);
}

impl Question for Write {
    type Answer = Ack;
    type Wire = v1::CommitStreamResponse;
    type Numbered = Outcome;
    // It may have been done.
    const BROKEN: Kind = Kind::Unknown;

    async fn open(
        client: &Client,
        questions: impl tokio_stream::Stream<Item = Self> + Send + 'static,
    ) -> Result<Answers<Self::Wire, Outcome>> {
        client.commit_stream(questions).await
    }

    fn parts(Outcome { index, result }: Outcome) -> (u64, Result<Ack>) {
        (index, result)
    }
}

impl Question for Get {
    type Answer = Got;
    type Wire = v1::GetStreamResponse;
    type Numbered = Found;
    const BROKEN: Kind = Kind::Unavailable;

    async fn open(
        client: &Client,
        questions: impl tokio_stream::Stream<Item = Self> + Send + 'static,
    ) -> Result<Answers<Self::Wire, Found>> {
        client.get_stream(questions).await
    }

    fn parts(Found { index, result }: Found) -> (u64, Result<Got>) {
        (index, result)
    }
}

/// A stream of questions of one kind.
#[derive(Debug)]
struct Lane<Q: Question> {
    /// Leads to the stream; `None` until it is opened.
    open: Arc<AsyncMutex<Option<mpsc::Sender<Pending<Q>>>>>,
}

/// A question that waits to be sent.
#[derive(Debug)]
struct Pending<Q: Question> {
    question: Q,
    answer: Reply<Q>,
}

type Reply<Q> = oneshot::Sender<Result<<Q as Question>::Answer>>;

/// Who waits for an answer, in the order of the questions sent; `None` once the stream is over.
type Waiting<Q> = Arc<Mutex<Option<VecDeque<Reply<Q>>>>>;

impl<Q: Question> Clone for Lane<Q> {
    fn clone(&self) -> Self {
        Self { open: self.open.clone() }
    }
}

impl<Q: Question> Default for Lane<Q> {
    fn default() -> Self {
        Self { open: Arc::default() }
    }
}

impl<Q: Question> Lane<Q> {
    async fn ask(&self, client: &Client, question: Q, deadline: Duration) -> Result<Q::Answer> {
        let (answer, answered) = oneshot::channel();
        let sent = async {
            let room = self.room(client).await?;
            room.send(Pending { question, answer });
            answered.await.unwrap_or_else(|_| Err(lost(Q::BROKEN)))
        };
        timeout(deadline, sent).await.unwrap_or_else(|_| Err(Failed::no_answer()))
    }

    /// Returns room for a question in the stream, which is opened if none is.
    async fn room(&self, client: &Client) -> Result<mpsc::OwnedPermit<Pending<Q>>> {
        let mut open = self.open.lock().await;
        if let Some(questions) = open.as_ref()
            && let Ok(room) = questions.clone().reserve_owned().await
        {
            return Ok(room);
        }
        let (questions, queue) = mpsc::channel(QUEUE);
        let waiting = Waiting::<Q>::new(Mutex::new(Some(VecDeque::new())));
        let sent = waiting.clone();
        // Who is sent first waits first: both happen here. After the end nobody is taken in, and the answer that is dropped says so.
        let sends = ReceiverStream::new(queue).map_while(move |Pending { question, answer }| {
            let mut waiting = sent.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.as_mut()?.push_back(answer);
            Some(question)
        });
        let answers = Q::open(client, sends).await?;
        tokio::spawn(hand_out::<Q>(answers, waiting));
        let room = questions.clone().reserve_owned().await.map_err(|_| lost(Q::BROKEN))?;
        *open = Some(questions);
        Ok(room)
    }
}

/// Gives each its answer until the stream ends, then tells those who are left.
async fn hand_out<Q: Question>(mut answers: Answers<Q::Wire, Q::Numbered>, waiting: Waiting<Q>) {
    let mut expected = 0;
    let end = loop {
        match answers.next().await {
            Ok(Some(numbered)) => {
                let (index, result) = Q::parts(numbered);
                let first = waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(VecDeque::pop_front);
                let Some(answer) = first.filter(|_| index == expected) else { break lost(Q::BROKEN) };
                expected += 1;
                // Who gave up waiting does not want to know.
                let _ = answer.send(result);
            }
            Ok(None) => break lost(Q::BROKEN),
            Err(failed) => break Failed { kind: Q::BROKEN, ..failed },
        }
    };
    let left = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    for answer in left.into_iter().flatten() {
        let _ = answer.send(Err(end.clone()));
    }
}

/// Returns that a stream ended before the answer came.
fn lost(kind: Kind) -> Failed {
    let message = "the server ended the stream before it answered".to_owned();
    Failed::here(kind, "NO_ANSWER", message, "a read can be repeated, a write with the same idempotency key")
}
