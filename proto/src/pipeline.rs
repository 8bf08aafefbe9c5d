//! A pipeline: streams of writes and of reads that are kept open and shared by all who work over a connection, each waiting for its own answer.
//!
//! A call of HTTP/2 costs headers both ways, a stream of its own and a task; for a document of a hundred bytes that is more than all the rest.
//! In a pipeline a write or read is one message there and one back, and those under way at the same time travel together.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prost::Message;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::Streaming;

use crate::{
    Malformed,
    ack::Ack,
    client::{Client, DOCUMENT_NOT_FOUND},
    document::Document,
    edit::{Outcome, Write},
    read::{Found, Get, Got},
    status::{Failed, Kind, fits},
    v1,
};

/// Questions that may wait to be sent; who comes then waits for room.
const QUEUE: usize = 256;

type Result<T> = std::result::Result<T, Failed>;

/// Streams of writes and reads. Clones share them; each is opened by the first who needs it, and anew by the next one after it broke.
///
/// Writes are applied, and answered, in the order in which they were sent: one that waits for acceptance or copies keeps back the answers of those
/// behind it, and what is more than some hundred behind it is not done before. Reads wait for no writes, but one of an old state, which may wait for
/// the disk, keeps back those behind it. Give what takes long a pipeline of its own.
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
    /// As [`Client::commit`]; [`Kind::Unknown`] also if the stream broke before the answer came; [`Kind::Invalid`] if the write is longer than a
    /// message may be, and then it was not sent.
    pub async fn commit(&self, mut write: Write) -> Result<Ack> {
        let deadline = self.client.until(write.wait.timeout);
        // No deadline travels with a message of a stream: the server is told in the write. An eighth less, so that its own word comes first.
        write.wait.timeout.get_or_insert(deadline - deadline / 8);
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
trait Question: 'static {
    /// It as it travels.
    type Sent: Message + 'static;
    /// An answer as it travels.
    type Wire: Send + 'static;
    /// What the answer means.
    type Answer: std::fmt::Debug + Send + 'static;
    /// What is to be thought of a question whose stream broke: what the transport says of its end is not said of each question.
    const BROKEN: Kind;

    fn message(self) -> Self::Sent;

    fn open(
        client: &Client,
        messages: impl Stream<Item = Self::Sent> + Send + 'static,
    ) -> impl Future<Output = Result<Streaming<Self::Wire>>> + Send;

    /// Returns the number of an answer and what it means. One that means nothing is the asker's alone.
    fn answer(wire: Self::Wire) -> (u64, Result<Self::Answer>);
}

impl Question for Write {
    type Sent = v1::CommitStreamRequest;
    type Wire = v1::CommitStreamResponse;
    type Answer = Ack;
    // It may have been done.
    const BROKEN: Kind = Kind::Unknown;

    fn message(self) -> Self::Sent {
        v1::CommitStreamRequest { commit: Some(self.into()) }
    }

    async fn open(client: &Client, messages: impl Stream<Item = Self::Sent> + Send + 'static) -> Result<Streaming<Self::Wire>> {
        Ok(client.documents().commit_stream(messages).await?.into_inner())
    }

    fn answer(wire: Self::Wire) -> (u64, Result<Ack>) {
        (wire.index, Outcome::try_from(wire).map_or_else(meaningless, |outcome| outcome.result))
    }
}

impl Question for Get {
    type Sent = v1::GetStreamRequest;
    type Wire = v1::GetStreamResponse;
    type Answer = Got;
    const BROKEN: Kind = Kind::Unavailable;

    fn message(self) -> Self::Sent {
        v1::GetStreamRequest { get: Some(self.into()) }
    }

    async fn open(client: &Client, messages: impl Stream<Item = Self::Sent> + Send + 'static) -> Result<Streaming<Self::Wire>> {
        Ok(client.documents().get_stream(messages).await?.into_inner())
    }

    fn answer(wire: Self::Wire) -> (u64, Result<Got>) {
        (wire.index, Found::try_from(wire).map_or_else(meaningless, |found| found.result))
    }
}

fn meaningless<T>(error: Malformed) -> Result<T> {
    Err(Failed::answer(&error))
}

/// A stream of questions of one kind.
#[derive(Debug)]
struct Lane<Q: Question> {
    /// Leads to the stream; `None` until it is opened. Nobody else holds what leads there, so that with it goes what nobody will send.
    open: Arc<AsyncMutex<Option<mpsc::Sender<Pending<Q>>>>>,
}

/// A question that waits to be sent.
#[derive(Debug)]
struct Pending<Q: Question> {
    message: Q::Sent,
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
        let message = question.message();
        // The transport would break the stream of all others.
        fits(&message)?;
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.send(client, Pending { message, answer }).await?;
            answered.await.unwrap_or_else(|_| Err(lost(Q::BROKEN)))
        };
        timeout(deadline, asked).await.unwrap_or_else(|_| Err(Failed::no_answer()))
    }

    /// Sends a question in its turn, in the stream that is open or in one that is opened.
    async fn send(&self, client: &Client, pending: Pending<Q>) -> Result<()> {
        let mut open = self.open.lock().await;
        if let Some(questions) = open.as_ref()
            && let Ok(room) = questions.reserve().await
        {
            room.send(pending);
        } else {
            let questions = Self::open(client).await?;
            let room = questions.reserve().await.map_err(|_| lost(Q::BROKEN))?;
            room.send(pending);
            *open = Some(questions);
        }
        // Who was to send it may have gone between: then it lies there, and its asker learns that with what leads there.
        if open.as_ref().is_some_and(mpsc::Sender::is_closed) {
            *open = None;
        }
        Ok(())
    }

    async fn open(client: &Client) -> Result<mpsc::Sender<Pending<Q>>> {
        let (questions, queue) = mpsc::channel::<Pending<Q>>(QUEUE);
        let waiting = Waiting::<Q>::new(Mutex::new(Some(VecDeque::new())));
        let sent = waiting.clone();
        // Who is sent first waits first: both happen here. Nothing is sent that nobody waits for, nor after the end.
        let messages = ReceiverStream::new(queue).filter_map(move |Pending { message, answer }| {
            let mut waiting = sent.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = waiting.as_mut().filter(|_| !answer.is_closed())?;
            waiting.push_back(answer);
            Some(message)
        });
        tokio::spawn(hand_out::<Q>(Q::open(client, messages).await?, waiting));
        Ok(questions)
    }
}

/// Gives each its answer until the stream ends, then tells those who are left.
async fn hand_out<Q: Question>(mut answers: Streaming<Q::Wire>, waiting: Waiting<Q>) {
    let mut expected = 0;
    let end = loop {
        match answers.message().await {
            Ok(Some(wire)) => {
                let (index, answer) = Q::answer(wire);
                let first = waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(VecDeque::pop_front);
                let Some(asker) = first.filter(|_| index == expected) else { break lost(Q::BROKEN) };
                expected += 1;
                // Who gave up waiting does not want to know.
                let _ = asker.send(answer);
            }
            Ok(None) => break lost(Q::BROKEN),
            Err(status) => break Failed { kind: Q::BROKEN, ..status.into() },
        }
    };
    let left = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    for asker in left.into_iter().flatten() {
        let _ = asker.send(Err(end.clone()));
    }
}

/// Returns that a stream ended before the answer came.
fn lost(kind: Kind) -> Failed {
    let message = "the server ended the stream before it answered".to_owned();
    Failed::here(kind, "NO_ANSWER", message, "a read can be repeated, a write with the same idempotency key")
}
