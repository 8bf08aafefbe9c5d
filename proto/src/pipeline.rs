//! A pipeline: one stream of writes that is kept open and shared by all who write over a connection, each waiting for its own answer.
//!
//! A call of HTTP/2 costs headers both ways, a stream of its own and a task; for a write of a hundred bytes that is more than all the rest.
//! In a pipeline a write is one message there and one back, and those under way at the same time travel together.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use crate::{
    ack::Ack,
    client::{Answers, Client},
    edit::{Outcome, Write},
    status::{Failed, Kind},
    v1::CommitStreamResponse,
};

/// Writes that may wait to be sent; who comes then waits for room.
const QUEUE: usize = 256;

type Result<T> = std::result::Result<T, Failed>;

/// A stream of writes. Clones share it; it is opened by the first write, and anew by the next one after it broke.
///
/// Writes are applied in the order in which [`commit`](Self::commit) was first polled, and answered in that order: one that waits for
/// acceptance or copies keeps back the answers of those behind it, though not what they do. Give such writes a pipeline of their own.
#[derive(Debug, Clone)]
pub struct Pipeline {
    client: Client,
    /// Leads to the stream; `None` until it is opened.
    open: Arc<AsyncMutex<Option<mpsc::Sender<Pending>>>>,
}

/// A write that waits to be sent.
#[derive(Debug)]
struct Pending {
    write: Write,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Ack>>;

/// Who waits for an answer, in the order of the writes sent; `None` once the stream is over.
type Waiting = Arc<Mutex<Option<VecDeque<Answer>>>>;

impl Pipeline {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, open: Arc::default() }
    }

    /// Writes. A future that is dropped does not take its write back.
    ///
    /// # Errors
    /// As [`Client::commit`]; [`Kind::Unknown`] also if the stream broke before the answer came.
    pub async fn commit(&self, mut write: Write) -> Result<Ack> {
        let deadline = self.client.until(write.wait.timeout);
        // No deadline travels with a message of a stream: the server is told in the write how long it is waited for.
        write.wait.timeout.get_or_insert(deadline);
        let (answer, answered) = oneshot::channel();
        let sent = async {
            let room = self.room().await?;
            room.send(Pending { write, answer });
            answered.await.unwrap_or_else(|_| Err(lost()))
        };
        timeout(deadline, sent).await.unwrap_or_else(|_| Err(Failed::no_answer()))
    }

    /// Returns room for a write in the stream, which is opened if none is.
    async fn room(&self) -> Result<mpsc::OwnedPermit<Pending>> {
        let mut open = self.open.lock().await;
        if let Some(writes) = open.as_ref()
            && let Ok(room) = writes.clone().reserve_owned().await
        {
            return Ok(room);
        }
        let (writes, queue) = mpsc::channel(QUEUE);
        let waiting = Waiting::new(Mutex::new(Some(VecDeque::new())));
        let sent = waiting.clone();
        // Who is sent first waits first: both happen here. After the end nobody is taken in, and the answer that is dropped says so.
        let sends = ReceiverStream::new(queue).map_while(move |Pending { write, answer }| {
            let mut waiting = sent.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.as_mut()?.push_back(answer);
            Some(write)
        });
        let answers = self.client.commit_stream(sends).await?;
        tokio::spawn(hand_out(answers, waiting));
        let room = writes.clone().reserve_owned().await.map_err(|_| lost())?;
        *open = Some(writes);
        Ok(room)
    }
}

/// Gives each its answer until the stream ends, then tells those who are left.
async fn hand_out(mut answers: Answers<CommitStreamResponse, Outcome>, waiting: Waiting) {
    let mut expected = 0;
    let end = loop {
        match answers.next().await {
            Ok(Some(Outcome { index, result })) => {
                let first = waiting.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(VecDeque::pop_front);
                let Some(answer) = first.filter(|_| index == expected) else { break lost() };
                expected += 1;
                // Who gave up waiting does not want to know.
                let _ = answer.send(result);
            }
            Ok(None) => break lost(),
            // What the transport says of its end need not be true of a write: that one may have been done.
            Err(failed) => break Failed { kind: Kind::Unknown, ..failed },
        }
    };
    let left = waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
    for answer in left.into_iter().flatten() {
        let _ = answer.send(Err(end.clone()));
    }
}

/// Returns that a stream ended before the answer came.
fn lost() -> Failed {
    let message = "the server ended the stream of writes before it answered: nobody knows how it ended".to_owned();
    Failed::here(Kind::Unknown, "NO_ANSWER", message, "repeat the write with the same idempotency key")
}
