//! The typed client: the calls of all services with the types of this crate, on one connection.
//!
//! A client is cheap to clone; clones share the connection, which comes back by itself after the server was away. Each call but a stream
//! has a deadline. A call is never repeated here: who gave an idempotency key may do so.

use std::time::Duration;

use bytes::Bytes;
use herdbook_model::id::{BranchName, CommitId, RepositoryId};
use herdbook_sync::message::Message;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Streaming, transport::Channel};

use crate::{
    Malformed,
    ack::Ack,
    blob::{Download, Piece, Sweep, Swept, Upload, Uploaded},
    cluster::{
        Branch, BranchSchema, BranchStarted, Collected, CreateToken, Erase, Erased, Head, Horizon, Join, Joined, OnBranch, Peer, Reopened,
        SetHorizon, StartBranch, StartSchema, Started, Status, Token,
    },
    document::Document,
    edit::{Outcome, Write},
    history::{Commits, Conflicted, Conflicts, Diff, Difference, Inspect, Inspected, Log, Resolve, Revert, Reverted, Show, Shown},
    limits,
    merge::{Merge, Merged},
    past::{Blame, Blamed, Playback, Played},
    pipeline::Pipeline,
    read::{Batch, BatchGet, Count, Counted, Get, Got, List, Page, Step, Watch},
    status::{Failed, fits},
    transport,
    v1::{
        self, blob_service_client::BlobServiceClient, cluster_service_client::ClusterServiceClient,
        document_service_client::DocumentServiceClient, history_service_client::HistoryServiceClient,
        sync_service_client::SyncServiceClient,
    },
};

/// Deadline of a call that is told none: far above what an answer takes, far below a person's patience.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What a call gets on top of the wait that a write asks for, so that the server's own word comes first.
const GRACE: Duration = Duration::from_secs(5);

type Result<T> = std::result::Result<T, Failed>;

/// A connection to a server and the calls one can make.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    deadline: Duration,
    repository: Option<RepositoryId>,
}

impl Client {
    /// Returns a client of the first of `addresses` that answers, tried in order. An address is `host:port` or a URI.
    ///
    /// # Errors
    /// As [`transport::connect`].
    pub async fn connect<A: AsRef<str>>(addresses: &[A]) -> Result<Self> {
        Ok(Self::new(transport::connect(addresses).await?))
    }

    /// As [`connect`](Self::connect), by one member to another: a connection over which nothing gets through ends sooner.
    ///
    /// # Errors
    /// As [`transport::connect`].
    pub async fn connect_member<A: AsRef<str>>(addresses: &[A]) -> Result<Self> {
        Ok(Self::new(transport::connect_within(addresses, transport::UNCONFIRMED_BY_MEMBER).await?))
    }

    /// Returns a client on a connection.
    pub const fn new(channel: Channel) -> Self {
        Self { channel, deadline: DEADLINE, repository: None }
    }

    /// Sets the deadline of calls.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the repository of calls that name none by themselves, as [`Client::status`]; left open, it is the one the server holds.
    #[must_use]
    pub const fn with_repository(mut self, repository: RepositoryId) -> Self {
        self.repository = Some(repository);
        self
    }

    /// Writes.
    ///
    /// # Errors
    /// [`Kind::Unknown`](crate::status::Kind::Unknown) if it was not confirmed in time: repeat it with the same idempotency key.
    pub async fn commit(&self, write: Write) -> Result<Ack> {
        let deadline = self.until(write.wait.timeout);
        let request = v1::CommitRequest::from(write);
        fits(&request)?;
        let request = within(deadline, request);
        let v1::CommitResponse { ack } = self.documents().commit(request).await?.into_inner();
        present("ack", ack)
    }

    /// Writes many requests, each on its own. Outcomes come in the order of the writes.
    ///
    /// # Errors
    /// If the stream cannot be opened; failures of single writes are outcomes.
    pub async fn commit_stream(
        &self,
        writes: impl Stream<Item = Write> + Send + 'static,
    ) -> Result<Answers<v1::CommitStreamResponse, Outcome>> {
        let writes = writes.map(|write| v1::CommitStreamRequest { commit: Some(write.into()) });
        let answers = self.documents().commit_stream(writes).await?.into_inner();
        Ok(Answers::new(answers, Outcome::try_from))
    }

    /// Returns a pipeline for writes and reads: many that are under way at the same time cost a fraction of as many calls. Nothing is sent yet.
    pub fn pipeline(&self) -> Pipeline {
        Pipeline::new(self.clone())
    }

    /// Reads one document; `None` if there is none.
    ///
    /// # Errors
    /// Any [`Failed`]. That the collection, branch or state does not exist is one.
    pub async fn get(&self, get: Get) -> Result<Option<Document>> {
        match self.get_with_state(get).await {
            Ok(Got { document, state: _ }) => Ok(Some(document)),
            Err(failed) if failed.reason == DOCUMENT_NOT_FOUND => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Reads one document and the name of the state it was read from.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::status::Kind::NotFound) with the reason [`DOCUMENT_NOT_FOUND`] if there is none.
    pub async fn get_with_state(&self, get: Get) -> Result<Got> {
        let request = self.timed(v1::GetRequest::from(get));
        read(self.documents().get(request).await?.into_inner())
    }

    /// Reads documents of one state.
    ///
    /// # Errors
    /// Any [`Failed`]; never for a missing document.
    pub async fn batch_get(&self, batch: BatchGet) -> Result<Batch> {
        let request = self.timed(v1::BatchGetRequest::from(batch));
        read(self.documents().batch_get(request).await?.into_inner())
    }

    /// Reads a page of a collection.
    ///
    /// # Errors
    /// [`Kind::OutOfRange`](crate::status::Kind::OutOfRange) if the token's state is not there any more.
    pub async fn list(&self, list: List) -> Result<Page> {
        let request = self.timed(v1::ListRequest::from(list));
        read(self.documents().list(request).await?.into_inner())
    }

    /// Counts documents.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn count(&self, count: Count) -> Result<Counted> {
        let request = self.timed(v1::CountRequest::from(count));
        read(self.documents().count(request).await?.into_inner())
    }

    /// Tells what changes, until the answer is dropped.
    ///
    /// # Errors
    /// [`Kind::OutOfRange`](crate::status::Kind::OutOfRange) if the server can no longer tell what changed since the start.
    pub async fn watch(&self, watch: Watch) -> Result<Answers<v1::WatchResponse, Step>> {
        let answers = self.documents().watch(v1::WatchRequest::from(watch)).await?.into_inner();
        Ok(Answers::new(answers, Step::try_from))
    }

    /// Lists commits, newest first.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn log(&self, log: Log) -> Result<Commits> {
        let request = self.timed(v1::LogRequest::from(log));
        read(self.history().log(request).await?.into_inner())
    }

    /// Shows a commit.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::status::Kind::NotFound) if it is not there.
    pub async fn show(&self, commit: CommitId) -> Result<Shown> {
        let request = self.timed(v1::ShowRequest::from(Show { repository: self.repository, commit }));
        read(self.history().show(request).await?.into_inner())
    }

    /// Compares two states.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn diff(&self, diff: Diff) -> Result<Answers<v1::DiffResponse, Vec<Difference>>> {
        let answers = self.history().diff(v1::DiffRequest::from(diff)).await?.into_inner();
        Ok(Answers::new(answers, |v1::DiffResponse { differences }| list("differences", differences)))
    }

    /// Takes back what commits did.
    ///
    /// # Errors
    /// As [`Client::commit`].
    pub async fn revert(&self, revert: Revert) -> Result<Reverted> {
        let deadline = self.until(revert.wait.timeout);
        read(self.history().revert(within(deadline, v1::RevertRequest::from(revert))).await?.into_inner())
    }

    /// Tells which commits a document is owed to.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::status::Kind::NotFound) if it does not exist.
    pub async fn blame(&self, blame: Blame) -> Result<Blamed> {
        let request = self.timed(v1::BlameRequest::from(blame));
        read(self.history().blame(request).await?.into_inner())
    }

    /// Plays back the commits between two states.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn playback(&self, playback: Playback) -> Result<Answers<v1::PlaybackResponse, Played>> {
        let answers = self.history().playback(v1::PlaybackRequest::from(playback)).await?.into_inner();
        Ok(Answers::new(answers, Played::try_from))
    }

    /// Takes the commits of one branch into another.
    ///
    /// # Errors
    /// As [`Client::commit`].
    pub async fn merge(&self, merge: Merge) -> Result<Merged> {
        let deadline = self.until(merge.wait.timeout);
        read(self.history().merge(within(deadline, v1::MergeRequest::from(merge))).await?.into_inner())
    }

    /// Lists documents in conflict.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn conflicts(&self, conflicts: Conflicts) -> Result<Conflicted> {
        let request = self.timed(v1::ListConflictsRequest::from(conflicts));
        read(self.history().list_conflicts(request).await?.into_inner())
    }

    /// Shows which concurrent edits a document holds.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::status::Kind::NotFound) if there never was one.
    pub async fn inspect(&self, inspect: Inspect) -> Result<Inspected> {
        let request = self.timed(v1::GetConflictRequest::from(inspect));
        read(self.history().get_conflict(request).await?.into_inner())
    }

    /// Resolves the conflict of a field.
    ///
    /// # Errors
    /// [`Kind::Precondition`](crate::status::Kind::Precondition) if the document has changed; otherwise as [`Client::commit`].
    pub async fn resolve(&self, resolve: Resolve) -> Result<Ack> {
        let request = within(self.until(resolve.wait.timeout), v1::ResolveRequest::from(resolve));
        let v1::ResolveResponse { ack } = self.history().resolve(request).await?.into_inner();
        present("ack", ack)
    }

    /// Uploads bytes, in pieces of whatever length, for a field of a document to refer to. Waits as long as that takes.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::status::Kind::Invalid) if no field of the branch's schema holds blobs; as [`Client::commit`].
    pub async fn upload(&self, upload: Upload, pieces: impl Stream<Item = Bytes> + Send + 'static) -> Result<Uploaded> {
        let first = v1::UploadRequest::from(Piece { upload, content: Bytes::new() });
        let rest = pieces.map(|content| v1::UploadRequest { content, ..v1::UploadRequest::default() });
        read(self.blobs().upload(tokio_stream::once(first).chain(rest)).await?.into_inner())
    }

    /// Downloads a blob or a stretch of it, piece by piece.
    ///
    /// # Errors
    /// Any [`Failed`]; [`Kind::NotFound`](crate::status::Kind::NotFound) where a part of it is not there, maybe after pieces that are.
    pub async fn download(&self, download: Download) -> Result<Answers<v1::DownloadResponse, Bytes>> {
        let answers = self.blobs().download(v1::DownloadRequest::from(download)).await?.into_inner();
        Ok(Answers::new(answers, |v1::DownloadResponse { content }| Ok(content)))
    }

    /// Hides parts of blobs to which nobody refers, and takes away what was hidden long enough. Waits as long as that takes.
    ///
    /// # Errors
    /// As [`Client::commit`].
    pub async fn sweep(&self, sweep: Sweep) -> Result<Swept> {
        read(self.blobs().sweep(v1::SweepRequest::from(sweep)).await?.into_inner())
    }

    /// Asks to become a member.
    ///
    /// # Errors
    /// [`Kind::Denied`](crate::status::Kind::Denied) if the token is wrong, used or over.
    pub async fn join(&self, join: Join) -> Result<Joined> {
        let request = self.timed(v1::JoinRequest::from(join));
        read(self.cluster().join(request).await?.into_inner())
    }

    /// Tells the newest state of each branch, with its root.
    ///
    /// Cost at the server: a pass over what was written since trees were made last; see [`heads_at_hand`](Self::heads_at_hand).
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn heads(&self) -> Result<Vec<Head>> {
        self.heads_with(false).await
    }

    /// As [`heads`](Self::heads), without the roots that are not at hand: for who asks often.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn heads_at_hand(&self) -> Result<Vec<Head>> {
        self.heads_with(true).await
    }

    async fn heads_with(&self, only_known_roots: bool) -> Result<Vec<Head>> {
        let request = self.timed(v1::HeadsRequest { repository: self.here(), only_known_roots });
        let v1::HeadsResponse { heads } = self.cluster().heads(request).await?.into_inner();
        list("heads", heads).map_err(|error| Failed::answer(&error))
    }

    /// Lists the members.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn peers(&self) -> Result<Vec<Peer>> {
        let request = self.timed(v1::PeersRequest { repository: self.here() });
        let v1::PeersResponse { peers } = self.cluster().peers(request).await?.into_inner();
        list("peers", peers).map_err(|error| Failed::answer(&error))
    }

    /// Tells all about the answering member.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn status(&self) -> Result<Status> {
        let request = self.timed(v1::StatusRequest { repository: self.here() });
        read(self.cluster().status(request).await?.into_inner())
    }

    /// Makes a one-time token for a new member.
    ///
    /// # Errors
    /// [`Kind::Precondition`](crate::status::Kind::Precondition) if the server holds no authority.
    pub async fn create_token(&self, create: CreateToken) -> Result<Token> {
        let request = self.timed(v1::CreateTokenRequest::from(create));
        read(self.cluster().create_token(request).await?.into_inner())
    }

    /// Takes the answering member off the network, or puts it back. Returns whether it took part before.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn set_online(&self, online: bool) -> Result<bool> {
        let request = self.timed(v1::SetOnlineRequest { online });
        let v1::SetOnlineResponse { was_online } = self.cluster().set_online(request).await?.into_inner();
        Ok(was_online)
    }

    /// Removes chunks of the answering member that no state needs any more, or with `dry_run` counts them. Waits as long as that takes.
    ///
    /// # Errors
    /// [`Kind::Unavailable`](crate::status::Kind::Unavailable) while another collection goes on, or states are fetched.
    pub async fn collect_garbage(&self, dry_run: bool) -> Result<Collected> {
        let request = v1::CollectGarbageRequest { repository: self.here(), dry_run };
        Ok(self.cluster().collect_garbage(request).await?.into_inner().into())
    }

    /// Sets horizons, or tells what they would cover.
    ///
    /// # Errors
    /// [`Kind::Precondition`](crate::status::Kind::Precondition) if the server holds no authority.
    pub async fn set_horizon(&self, set: SetHorizon) -> Result<Vec<Horizon>> {
        let request = v1::SetHorizonRequest { repository: self.here(), ..set.into() };
        let v1::SetHorizonResponse { horizons } = self.cluster().set_horizon(request).await?.into_inner();
        horizons.into_iter().map(read).collect()
    }

    /// Erases values of a document's erasable fields, or tells what would go. Waits as long as that takes.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::status::Kind::Invalid) if nothing there can be erased; [`Kind::Precondition`](crate::status::Kind::Precondition) if the
    /// server holds no authority.
    pub async fn erase(&self, erase: Erase) -> Result<Erased> {
        let request = v1::EraseRequest { repository: self.here(), ..erase.into() };
        read(self.cluster().erase(request).await?.into_inner())
    }

    /// Begins a schema branch.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::status::Kind::Invalid) with the step that cannot be taken; [`Kind::Precondition`](crate::status::Kind::Precondition) if the server holds no authority.
    pub async fn start_schema(&self, start: StartSchema) -> Result<Started> {
        let request = self.timed(v1::StartSchemaRequest::from(start));
        read(self.cluster().start_schema(request).await?.into_inner())
    }

    /// Begins a branch of the same schema that goes its own way.
    ///
    /// # Errors
    /// [`Kind::Precondition`](crate::status::Kind::Precondition) if the server holds no authority.
    pub async fn start_branch(&self, start: StartBranch) -> Result<BranchStarted> {
        let request = self.timed(v1::StartBranchRequest::from(start));
        read(self.cluster().start_branch(request).await?.into_inner())
    }

    /// Makes a branch the one that callers get who name none. Returns once the head log says so.
    ///
    /// # Errors
    /// [`Kind::Precondition`](crate::status::Kind::Precondition) if the server holds no authority.
    pub async fn promote_schema(&self, branch: BranchName) -> Result<()> {
        let request = self.timed(OnBranch { repository: self.repository, branch }.into());
        self.cluster().promote_schema(request).await?;
        Ok(())
    }

    /// Closes a branch. Returns once the head log says so.
    ///
    /// # Errors
    /// [`Kind::Precondition`](crate::status::Kind::Precondition) if the server holds no authority.
    pub async fn abandon_schema(&self, branch: BranchName) -> Result<()> {
        let request = self.timed(OnBranch { repository: self.repository, branch }.into());
        self.cluster().abandon_schema(request).await?;
        Ok(())
    }

    /// Lists branches by name.
    ///
    /// # Errors
    /// Any [`Failed`].
    pub async fn branches(&self) -> Result<Vec<Branch>> {
        let request = self.timed(v1::ListBranchesRequest { repository: self.here() });
        let v1::ListBranchesResponse { branches } = self.cluster().list_branches(request).await?.into_inner();
        list("branches", branches).map_err(|error| Failed::answer(&error))
    }

    /// Returns the schema of a branch; `None`: of the promoted one.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::status::Kind::NotFound) if there is no such branch.
    pub async fn schema(&self, branch: Option<&BranchName>) -> Result<BranchSchema> {
        let branch = branch.map_or_else(String::new, ToString::to_string);
        let request = self.timed(v1::GetSchemaRequest { repository: self.here(), branch });
        read(self.cluster().get_schema(request).await?.into_inner())
    }

    /// Opens a coordinator that is restoring itself although reports are missing.
    ///
    /// # Errors
    /// [`Kind::Precondition`](crate::status::Kind::Precondition) if it is not restoring itself.
    pub async fn reopen_after_restore(&self, reason: String) -> Result<Reopened> {
        let request = self.timed(v1::ReopenAfterRestoreRequest { repository: self.here(), reason });
        read(self.cluster().reopen_after_restore(request).await?.into_inner())
    }

    /// Opens an exchange. Frames are made of messages by `v1::Frame::try_from`.
    ///
    /// # Errors
    /// If the stream cannot be opened.
    pub async fn exchange(&self, frames: impl Stream<Item = v1::Frame> + Send + 'static) -> Result<Answers<v1::ExchangeResponse, Message>> {
        let frames = frames.map(|frame| v1::ExchangeRequest { frame: Some(frame) });
        let client = SyncServiceClient::new(self.channel.clone());
        let mut client = client.max_decoding_message_size(limits::MESSAGE).max_encoding_message_size(limits::MESSAGE);
        Ok(Answers::new(client.exchange(frames).await?.into_inner(), Message::try_from))
    }

    pub(crate) fn documents(&self) -> DocumentServiceClient<Channel> {
        let client = DocumentServiceClient::new(self.channel.clone());
        client.max_decoding_message_size(limits::MESSAGE).max_encoding_message_size(limits::MESSAGE)
    }

    fn history(&self) -> HistoryServiceClient<Channel> {
        let client = HistoryServiceClient::new(self.channel.clone());
        client.max_decoding_message_size(limits::MESSAGE).max_encoding_message_size(limits::MESSAGE)
    }

    fn blobs(&self) -> BlobServiceClient<Channel> {
        let client = BlobServiceClient::new(self.channel.clone());
        client.max_decoding_message_size(limits::MESSAGE).max_encoding_message_size(limits::MESSAGE)
    }

    fn cluster(&self) -> ClusterServiceClient<Channel> {
        let client = ClusterServiceClient::new(self.channel.clone());
        client.max_decoding_message_size(limits::MESSAGE).max_encoding_message_size(limits::MESSAGE)
    }

    fn here(&self) -> Bytes {
        self.repository.map_or_else(Bytes::new, |repository| Bytes::copy_from_slice(repository.as_bytes()))
    }

    fn timed<M>(&self, message: M) -> Request<M> {
        within(self.deadline, message)
    }

    pub(crate) fn until(&self, wait: Option<Duration>) -> Duration {
        wait.map_or(self.deadline, |wait| wait.saturating_add(GRACE).max(self.deadline))
    }
}

/// Reason of the failure that a document does not exist.
pub const DOCUMENT_NOT_FOUND: &str = "DOCUMENT_NOT_FOUND";

/// What a call streams.
#[derive(Debug)]
pub struct Answers<W, T> {
    stream: Streaming<W>,
    convert: fn(W) -> std::result::Result<T, Malformed>,
}

impl<W, T> Answers<W, T> {
    const fn new(stream: Streaming<W>, convert: fn(W) -> std::result::Result<T, Malformed>) -> Self {
        Self { stream, convert }
    }

    /// Returns the next answer; `None` once the server has ended the stream.
    ///
    /// # Errors
    /// How the stream broke. Nothing follows it.
    pub async fn next(&mut self) -> Result<Option<T>> {
        match self.stream.message().await? {
            Some(message) => (self.convert)(message).map(Some).map_err(|error| Failed::answer(&error)),
            None => Ok(None),
        }
    }
}

fn within<M>(deadline: Duration, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

fn read<W, T: TryFrom<W, Error = Malformed>>(message: W) -> Result<T> {
    T::try_from(message).map_err(|error| Failed::answer(&error))
}

fn present<W, T: TryFrom<W, Error = Malformed>>(field: &str, message: Option<W>) -> Result<T> {
    let message = message.ok_or_else(|| Failed::answer(&Malformed::missing(field)))?;
    T::try_from(message).map_err(|error| Failed::answer(&error.within(field)))
}

fn list<W, T: TryFrom<W, Error = Malformed>>(field: &str, messages: Vec<W>) -> std::result::Result<Vec<T>, Malformed> {
    let element = |(at, message)| T::try_from(message).map_err(|error| error.within(format_args!("{field}[{at}]")));
    messages.into_iter().enumerate().map(element).collect()
}
