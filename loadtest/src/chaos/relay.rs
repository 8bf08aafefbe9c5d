//! A liar in the middle: takes the exchanges that one member opens with another, and says on something else than it was told.
//!
//! Law: whatever it makes of edits, commits, their order and the head log, a member that checks what it is told takes nothing wrong from it.
//! It reads and writes what members say as they do themselves, so that nothing but the lie can be at fault.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use herdbook_model::{
    SigningKey,
    authority::{Entry, Kind, SessionCertificate},
    codec::Decode as _,
    id::{ReplicaId, SessionId},
    request::Request,
};
use herdbook_proto::{
    client::Client,
    limits, transport,
    v1::{self, sync_service_server as wire},
};
use herdbook_sync::message::{MAX_PAYLOAD, Message, Parcel, RequestBody};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tonic::{Response, Status, Streaming};

use crate::Error;

/// Frames that wait on the way, each way.
const FRAMES: usize = 16;

/// How long commits are kept back so that there is something to reorder.
const KEPT: Duration = Duration::from_millis(100);

/// Most commits that are kept back.
const MOST: usize = 64;

/// What it makes of what it is told.
#[derive(Debug, Clone)]
pub(super) enum Lie {
    /// A letter of an edit becomes another.
    Alter,
    /// Every second commit is left out.
    Omit,
    /// Of commits that come close together the last is told first.
    Reorder,
    /// Behind the entries of the head log stands one more, signed by the authority itself, of an epoch that is not open.
    Backdate(Arc<SigningKey>),
}

/// The liar. Dropped, it and its exchanges end.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    told: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Listens for exchanges that are meant for `target`.
    ///
    /// # Errors
    /// [`Error::Switch`] if no port of 127.0.0.1 is free.
    pub(super) async fn start(target: SocketAddr, lie: Lie) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Error::Switch)?;
        let address = listener.local_addr().map_err(Error::Switch)?;
        let told = Arc::<AtomicU64>::default();
        let service = wire::SyncServiceServer::new(Service { target, lie, told: Arc::clone(&told) });
        let service = service.max_decoding_message_size(limits::MESSAGE).max_encoding_message_size(limits::MESSAGE);
        let connections = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let task = tokio::spawn(async move {
            // Members that find nobody call again.
            let _ = transport::server().add_service(service).serve_with_incoming(connections).await;
        });
        Ok(Self { address, told, task })
    }

    /// Returns where it listens.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many lies it told so far.
    pub(super) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Service {
    target: SocketAddr,
    lie: Lie,
    told: Arc<AtomicU64>,
}

type Messages = Pin<Box<dyn Stream<Item = Message> + Send>>;

#[tonic::async_trait]
impl wire::SyncService for Service {
    type ExchangeStream = Pin<Box<dyn Stream<Item = Result<v1::ExchangeResponse, Status>> + Send>>;

    async fn exchange(&self, request: tonic::Request<Streaming<v1::ExchangeRequest>>) -> Result<Response<Self::ExchangeStream>, Status> {
        let gone = |failed: herdbook_proto::status::Failed| Status::unavailable(failed.to_string());
        let client = Client::connect(&[self.target.to_string()]).await.map_err(gone)?;
        let asked = futures::stream::unfold(request.into_inner(), |mut frames| async {
            let message = Message::try_from(frames.message().await.ok()??).ok()?;
            Some((message, frames))
        });
        let asked = self.told_on(Box::pin(asked)).filter_map(|message| std::future::ready(v1::Frame::try_from(message).ok()));
        let answers = client.exchange(asked).await.map_err(gone)?;
        let answers = futures::stream::unfold(answers, |mut answers| async {
            let message = answers.next().await.ok()??;
            Some((message, answers))
        });
        let answers = self.told_on(Box::pin(answers)).map(|message| {
            let frame = v1::Frame::try_from(message).map_err(|error| Status::internal(error.to_string()))?;
            Ok(v1::ExchangeResponse { frame: Some(frame) })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Service {
    /// Returns what is said on of `messages`.
    fn told_on(&self, mut messages: Messages) -> impl Stream<Item = Message> + Send + use<> {
        let (say, said) = mpsc::channel(FRAMES);
        let (mut mouth, told) = (Mouth::new(self.lie.clone()), Arc::clone(&self.told));
        tokio::spawn(async move {
            loop {
                let wait = if mouth.keeps() { KEPT } else { Duration::MAX };
                let out = match timeout(wait, messages.next()).await {
                    Ok(Some(message)) => mouth.hear(message),
                    Ok(None) => return,
                    Err(_) => mouth.let_go(),
                };
                told.fetch_add(std::mem::take(&mut mouth.lies), Ordering::Relaxed);
                for message in out {
                    if say.send(message).await.is_err() {
                        return;
                    }
                }
            }
        });
        futures::stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) })
    }
}

/// One direction of an exchange.
struct Mouth {
    lie: Lie,
    /// Commits that were heard and not said on.
    kept: Vec<Parcel>,
    certificates: HashMap<SessionId, SessionCertificate>,
    commits: u64,
    lies: u64,
}

impl Mouth {
    fn new(lie: Lie) -> Self {
        Self { lie, kept: Vec::new(), certificates: HashMap::new(), commits: 0, lies: 0 }
    }

    const fn keeps(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Returns what is said on now that `message` was heard.
    fn hear(&mut self, message: Message) -> Vec<Message> {
        match (self.lie.clone(), message) {
            (Lie::Alter, Message::Commits(parcels)) => {
                let parcels = parcels.into_iter().map(|parcel| self.altered(parcel)).collect();
                vec![Message::Commits(parcels)]
            }
            (Lie::Omit, Message::Commits(parcels)) => {
                let mut parcels = self.certified(parcels);
                parcels.retain(|_| {
                    self.commits += 1;
                    let is_left_out = self.commits.is_multiple_of(2);
                    self.lies += u64::from(is_left_out);
                    !is_left_out
                });
                if parcels.is_empty() { Vec::new() } else { vec![Message::Commits(parcels)] }
            }
            (Lie::Reorder, Message::Commits(parcels)) => {
                let parcels = self.certified(parcels);
                self.kept.extend(parcels);
                if self.kept.len() >= MOST { self.let_go() } else { Vec::new() }
            }
            (Lie::Backdate(authority), Message::Entries(mut entries)) => {
                if let Some(late) = entries.last().and_then(|last| backdated(last, &authority)) {
                    entries.push(late);
                    self.lies += 1;
                }
                vec![Message::Entries(entries)]
            }
            (_, message) => vec![message],
        }
    }

    /// Says on what was kept, the last first.
    fn let_go(&mut self) -> Vec<Message> {
        let (mut messages, mut parcels, mut bytes) = (Vec::new(), Vec::new(), 0);
        self.lies += u64::from(self.kept.len() > 1);
        for parcel in self.kept.drain(..).rev() {
            let len = len(&parcel);
            if bytes + len > MAX_PAYLOAD && !parcels.is_empty() {
                messages.push(Message::Commits(std::mem::take(&mut parcels)));
                bytes = 0;
            }
            bytes += len;
            parcels.push(parcel);
        }
        if !parcels.is_empty() {
            messages.push(Message::Commits(parcels));
        }
        messages
    }

    /// Gives each commit the certificate of its session, which came with the first one only.
    fn certified(&mut self, mut parcels: Vec<Parcel>) -> Vec<Parcel> {
        for parcel in &mut parcels {
            let session = parcel.commit.header().session;
            match &parcel.certificate {
                Some(certificate) => {
                    self.certificates.insert(session, certificate.clone());
                }
                None => parcel.certificate = self.certificates.get(&session).cloned(),
            }
        }
        parcels
    }

    fn altered(&mut self, mut parcel: Parcel) -> Parcel {
        for body in &mut parcel.requests {
            if let RequestBody::Present(bytes) = body
                && let Some(others) = with_other_letter(bytes)
            {
                *bytes = others;
                self.lies += 1;
            }
        }
        parcel
    }
}

/// Returns the bytes of a request that says something else: one letter of one of its texts differs. None if it has none.
fn with_other_letter(bytes: &[u8]) -> Option<Vec<u8>> {
    const WORD: usize = 4;
    let is_word = |at: &usize| bytes.get(*at..*at + WORD).is_some_and(|word| word.iter().all(u8::is_ascii_lowercase));
    let candidates = (0..bytes.len()).rev().filter(is_word);
    let altered = candidates.map(|at| {
        let mut altered = bytes.to_vec();
        altered[at] = if altered[at] == b'x' { b'y' } else { b'x' };
        altered
    });
    // What looks like a word may be something else, and its change no request any more.
    altered.into_iter().find(|altered| Request::from_bytes(altered).is_ok())
}

/// Returns an entry that could follow `last`, but for its epoch. It decides nothing: it revokes somebody whom nobody knows.
fn backdated(last: &Entry, authority: &SigningKey) -> Option<Entry> {
    let epoch = last.epoch.checked_sub(1)?;
    let kind = Kind::Revoke { replica: ReplicaId([0x5a; 32]) };
    Some(Entry::sign(last.repository, (epoch, last.seq + 1, Some(last.id())), last.time, kind, authority))
}

/// Returns about how many bytes a commit takes on the way.
fn len(parcel: &Parcel) -> usize {
    const HEAD: usize = 1024;
    let bodies = parcel.requests.iter().map(|body| match body {
        RequestBody::Present(bytes) => bytes.len(),
        RequestBody::Absent { documents, .. } => documents.iter().map(String::len).sum::<usize>() + 64,
    });
    HEAD + bodies.sum::<usize>()
}
