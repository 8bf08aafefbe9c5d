//! BlobService: bytes beside documents, up and down.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use futures::{
    Stream, StreamExt as _,
    stream::{self, FuturesOrdered},
};
use herdbook_proto::{
    ack::{Ack, Level, Wait},
    blob::{Download, Piece, Sweep, Swept, Upload, Uploaded},
    v1::{self, blob_service_server::BlobService},
};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{
    document::{Answers, patience, until_the_end},
    failure::Error,
    host::{Host, blocking},
};
use crate::{metrics::Method, repository};

/// Requests of one upload that wait for the store at once.
const WRITES: usize = 4;

/// Answers for the blobs of one repository.
pub(super) struct Blobs {
    pub(super) host: Arc<Host>,
}

/// Commits that are made one after another, of which only the last one is waited for as the caller asks: it stands above all others.
struct Commits {
    host: Arc<Host>,
    wait: Wait,
    until: Option<Instant>,
    /// What was not handed over yet; one is kept back, to be the last.
    asks: VecDeque<repository::Ask>,
}

impl Commits {
    const fn new(host: Arc<Host>, wait: Wait, until: Option<Instant>) -> Self {
        Self { host, wait, until, asks: VecDeque::new() }
    }

    /// Commits all asks but the last.
    async fn go_on(&mut self, asks: Vec<repository::Ask>) -> Result<(), Error> {
        self.asks.extend(asks);
        let early = Wait { local: Level::Memory, accepted: false, copies: 0, timeout: None };
        let mut under_way = FuturesOrdered::new();
        while self.asks.len() > 1 {
            if under_way.len() == WRITES {
                let done: Option<Result<Ack, Error>> = under_way.next().await;
                done.transpose()?;
            }
            let ask = self.asks.pop_front().expect("there are several");
            under_way.push_back(self.host.write(ask, early, self.until));
        }
        while let Some(ack) = under_way.next().await {
            let _: Ack = ack?;
        }
        Ok(())
    }

    /// Commits the last one, and waits for what the caller asked; `None` if there was nothing to commit.
    async fn end(mut self) -> Result<Option<Ack>, Error> {
        match self.asks.pop_front() {
            Some(last) => self.host.write(last, self.wait, self.until).await.map(Some),
            None => Ok(None),
        }
    }
}

impl Host {
    async fn upload(
        self: &Arc<Self>,
        mut pieces: impl Stream<Item = Result<v1::UploadRequest, Status>> + Send + Unpin,
        until: Option<Instant>,
    ) -> Result<Uploaded, Error> {
        let first = pieces.next().await.ok_or_else(|| herdbook_proto::Malformed::missing("content"))?;
        let Piece { upload: Upload { repository, branch, wait }, mut content } = Piece::try_from(first.map_err(Error::Sender)?)?;
        self.check(repository)?;
        self.check_writable()?;
        let mut upload = repository::Upload::begin(self.repository(), branch)?;
        let mut commits = Commits::new(self.clone(), wait, until);
        loop {
            // Cutting, hashing, and looking whether parts are there.
            let (back, asks) = blocking(move || {
                let asks = upload.push(&content)?;
                Ok((upload, asks))
            })
            .await?;
            upload = back;
            commits.go_on(asks).await?;
            let Some(next) = pieces.next().await else {
                // A stream that the end of this replica cut is not whole.
                if *self.ended().borrow() {
                    return Err(Error::Stopping);
                }
                break;
            };
            content = next.map_err(Error::Sender)?.content;
        }
        let (asks, made) = blocking(move || Ok(upload.finish()?)).await?;
        commits.go_on(asks).await?;
        let repository::Uploaded { blob, parts, added, added_bytes } = made;
        let ack = commits.end().await?.ok_or(Error::Broken)?;
        Ok(Uploaded { blob, ack, parts, added, added_bytes })
    }

    async fn download(&self, download: Download) -> Result<Answers<v1::DownloadResponse>, Error> {
        let Download { place, blob, offset, len } = download;
        let state = self.state(place).await?;
        let mut reader = self.repository().blob(&state, blob);
        reader.range(offset, len.unwrap_or(u64::MAX));
        // The first piece tells whether there is such a blob, before the answer begins.
        let (first, reader) = blocking(move || {
            let first = reader.next_slice()?;
            Ok((first, reader))
        })
        .await?;
        // A piece is read when the caller has taken the one before, so whoever reads no more holds no thread.
        let pieces = stream::unfold(Some((first, reader)), |ahead| async {
            let (slice, mut reader) = ahead?;
            let piece = v1::DownloadResponse { content: Bytes::from_owner(slice?) };
            let next = blocking(move || {
                let next = reader.next_slice()?;
                Ok((next, reader))
            });
            match next.await {
                Ok(next) => Some((vec![Ok(piece)], Some(next))),
                Err(error) => Some((vec![Ok(piece), Err(Status::from(error))], None)),
            }
        });
        Ok(Box::pin(pieces.flat_map(stream::iter)))
    }

    async fn sweep(self: &Arc<Self>, sweep: Sweep, until: Option<Instant>) -> Result<Swept, Error> {
        let Sweep { repository, branch, unused_millis, dry_run, wait } = sweep;
        self.check(repository)?;
        if !dry_run {
            self.check_writable()?;
        }
        let here = self.repository().clone();
        let mut sweep = blocking(move || Ok(here.sweep(&here.view(), branch.as_ref(), unused_millis)?)).await?;
        let swept = sweep.swept;
        let (mut ack, mut is_over) = (None, dry_run);
        while !is_over {
            let here = self.repository().clone();
            let (rest, ask) = blocking(move || {
                let ask = here.sweep_on(&mut sweep)?;
                Ok((sweep, ask))
            })
            .await?;
            sweep = rest;
            match ask {
                Some(ask) => ack = Some(self.write(ask, wait, until).await?),
                None => is_over = true,
            }
        }
        let repository::Swept { used, used_bytes, hidden, hidden_bytes, revived, removed, removed_bytes } = swept;
        Ok(Swept { used, used_bytes, hidden, hidden_bytes, revived, removed, removed_bytes, ack })
    }
}

#[tonic::async_trait]
impl BlobService for Blobs {
    type DownloadStream = Answers<v1::DownloadResponse>;

    async fn upload(&self, request: Request<Streaming<v1::UploadRequest>>) -> Result<Response<v1::UploadResponse>, Status> {
        let call = self.host.metrics.begin(Method::Upload);
        let until = patience(&request, Wait::DURABLE);
        let pieces = Box::pin(until_the_end(&self.host, request));
        call.end(self.host.upload(pieces, until).await).map(|uploaded| Response::new(uploaded.into()))
    }

    async fn download(&self, request: Request<v1::DownloadRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let call = self.host.metrics.begin(Method::Download);
        let answer = async { self.host.download(Download::try_from(request.into_inner())?).await };
        call.end(answer.await).map(Response::new)
    }

    async fn sweep(&self, request: Request<v1::SweepRequest>) -> Result<Response<v1::SweepResponse>, Status> {
        let call = self.host.metrics.begin(Method::Sweep);
        let sweep = Sweep::try_from(request.get_ref().clone());
        let until = patience(&request, sweep.as_ref().map_or(Wait::DURABLE, |sweep| sweep.wait));
        let answer = async { self.host.sweep(sweep?, until).await };
        call.end(answer.await).map(|swept| Response::new(swept.into()))
    }
}
