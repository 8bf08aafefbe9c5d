//! Connections as they come in: counted, and closed if the other side opens one and says nothing, or when the server ends for good.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
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
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, address: SocketAddr, mut cut: watch::Receiver<bool>, permit: OwnedSemaphorePermit) -> Self {
        // Small answers must not wait for more to come; what cannot be set is no reason to refuse.
        let _ = stream.set_nodelay(true);
        // A sender that is gone cuts nothing.
        let cut = async move { cut.wait_for(|cut| *cut).await.is_ok() };
        Self { stream, address, handshake: Some(Box::pin(sleep(HANDSHAKE))), cut: Some(Box::pin(cut)), _permit: permit }
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
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
