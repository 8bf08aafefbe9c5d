//! Connections as they come in: counted, and closed if the other side opens one and says nothing, or when the server ends for good.
//!
//! What is to be sent is kept back until the answers that are ready at the same time stand beside it: requests that were committed
//! together are answered together, and a system call a connection instead of one an answer is what the network costs.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Sleep, sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Connections at once; more wait in the system's queue.
const CONNECTIONS: usize = 4096;

/// Longest wait for the first byte of a connection.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Bytes that are kept back at most; longer pieces go out as they come.
const KEPT_BACK: usize = 64 << 10;

/// Pause after the system refused to give a connection, as when no file descriptor is left.
const REFUSED: Duration = Duration::from_millis(100);

/// Connections to a port.
pub struct Incoming {
    accepted: Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>,
}

impl Incoming {
    /// Takes connections from a listener that does not block.
    ///
    /// # Errors
    /// The system's word.
    pub fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        Self::until(listener, &watch::channel(false).0)
    }

    /// As [`new`](Self::new); when `cut` says so, connections break off. Without that, calls whose answers nobody reads go on, and hold
    /// what they answer from.
    ///
    /// # Errors
    /// The system's word.
    pub fn until(listener: std::net::TcpListener, cut: &watch::Sender<bool>) -> io::Result<Self> {
        let (listener, free) = (TcpListener::from_std(listener)?, Arc::new(Semaphore::new(CONNECTIONS)));
        let accepted = futures::stream::unfold((listener, free, cut.subscribe()), |(listener, free, cut)| async {
            let permit = free.clone().acquire_owned().await.ok()?;
            loop {
                match listener.accept().await {
                    Ok((stream, address)) => {
                        let connection = Connection::new(stream, address, cut.clone(), permit);
                        return Some((Ok(connection), (listener, free, cut)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be taken");
                        sleep(REFUSED).await;
                    }
                }
            }
        });
        Ok(Self { accepted: Box::pin(accepted) })
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.accepted.as_mut().poll_next(context)
    }
}

/// One connection.
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    /// Until the first byte came.
    handshake: Option<Pin<Box<Sleep>>>,
    /// Ends when the connection is to break off; `None` when it did, or never will.
    cut: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    /// What was written and not sent.
    kept: Vec<u8>,
    /// How much of it was sent.
    sent: usize,
    /// Whether tasks that were ready had their turn since the first of it was written.
    gave_way: bool,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, address: SocketAddr, mut cut: watch::Receiver<bool>, permit: OwnedSemaphorePermit) -> Self {
        // Small answers must not wait for more to come; what cannot be set is no reason to refuse.
        let _ = stream.set_nodelay(true);
        #[cfg(target_os = "linux")]
        let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(herdbook_proto::transport::UNCONFIRMED));
        // A sender that is gone cuts nothing.
        let cut = async move { cut.wait_for(|cut| *cut).await.is_ok() };
        Self {
            stream,
            address,
            handshake: Some(Box::pin(sleep(HANDSHAKE))),
            cut: Some(Box::pin(cut)),
            kept: Vec::new(),
            sent: 0,
            gave_way: false,
            _permit: permit,
        }
    }

    /// Keeps `pieces` back if they fit.
    fn keep(&mut self, pieces: &[io::IoSlice<'_>]) -> Option<usize> {
        let len = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if self.kept.len() + len > KEPT_BACK {
            return None;
        }
        pieces.iter().for_each(|piece| self.kept.extend_from_slice(piece));
        Some(len)
    }

    /// Sends what is kept back.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.kept.len() {
            match Pin::new(&mut self.stream).poll_write(context, &self.kept[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => self.sent += sent,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.kept.clear();
        (self.sent, self.gave_way) = (0, false);
        Poll::Ready(Ok(()))
    }

    /// Whether the connection is to break off; if not, the task is woken when it is.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> bool {
        match self.cut.as_mut().map(|cut| cut.as_mut().poll(context)) {
            Some(Poll::Ready(is_cut)) => {
                self.cut = None;
                is_cut
            }
            Some(Poll::Pending) | None => false,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: self.stream.local_addr().ok(), remote_addr: Some(self.address) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                self.handshake = None;
                Poll::Ready(read)
            }
            // Reading is always tried, also while a write waits.
            Poll::Pending if self.poll_cut(context) => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Poll::Pending => match &mut self.handshake {
                Some(deadline) => deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into())),
                None => Poll::Pending,
            },
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let Some(len) = self.keep(pieces) {
            return Poll::Ready(Ok(len));
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.kept.is_empty() && !self.gave_way {
            // A task that wakes itself goes behind those that are ready: they add their answers first.
            self.gave_way = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use futures::{future::poll_fn, task::noop_waker_ref};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let other = TcpStream::connect(listener.local_addr().expect("it is bound")).await.expect("it listens");
        let (stream, address) = listener.accept().await.expect("somebody came");
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("one is free");
        (Connection::new(stream, address, watch::channel(false).1, permit), other)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_has_a_limit_to_what_is_not_confirmed() {
        let (connection, _other) = pair().await;
        let set = socket2::SockRef::from(&connection.stream).tcp_user_timeout().expect("a TCP socket");
        assert_eq!(set, Some(herdbook_proto::transport::UNCONFIRMED));
    }

    #[tokio::test]
    async fn answers_that_are_ready_together_go_out_together() {
        let (mut connection, mut other) = pair().await;
        let mut context = Context::from_waker(noop_waker_ref());
        connection.write_all(b"one ").await.expect("it is kept back");
        assert!(Pin::new(&mut connection).poll_flush(&mut context).is_pending(), "others have their turn first");
        connection.write_all(b"two").await.expect("it is kept back");
        let mut heard = [0; 16];
        assert_eq!(other.try_read(&mut heard).expect_err("nothing was sent").kind(), io::ErrorKind::WouldBlock);
        connection.flush().await.expect("it is sent");
        assert_eq!(other.read(&mut heard).await.expect("it came"), 7);
        assert_eq!(&heard[..7], b"one two");
    }

    #[tokio::test]
    async fn what_is_long_goes_out_in_its_place_and_the_end_leaves_nothing_behind() {
        let (mut connection, mut other) = pair().await;
        let long = vec![b'x'; 4 * KEPT_BACK];
        let all = [b"before", long.as_slice(), b"after"].concat();
        let reads = tokio::spawn(async move {
            let mut heard = Vec::new();
            other.read_to_end(&mut heard).await.map(|_| heard)
        });
        for piece in [b"before".as_slice(), &long, b"after"] {
            connection.write_all(piece).await.expect("it is taken");
        }
        poll_fn(|context| Pin::new(&mut connection).poll_shutdown(context)).await.expect("it ends");
        assert!(reads.await.expect("it ran").expect("it came") == all, "all of it, in order");
    }
}
