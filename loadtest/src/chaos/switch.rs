//! A switch between processes: TCP links that hold back, delay or lose what passes, as told. What runs behind it needs no privilege and knows
//! nothing of it.
//!
//! Law: bytes of a connection keep their order and none is invented; a cut link loses nothing, it keeps all until it is mended or the
//! connection ends. A lost chunk comes late, by a retransmission: that is how loss looks above TCP.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::wires::Plug;
use crate::{Error, workload::Rng};

/// Bytes that are taken at once.
const CHUNK: usize = 16 << 10;

/// Chunks of one direction that are under way; beyond them the sender waits, as for a full socket.
const UNDER_WAY: usize = 256;

/// How late a lost chunk comes: the shortest retransmission time of Linux.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Condition {
    /// Nothing passes.
    pub is_cut: bool,
    /// How long each chunk is under way.
    pub delay: Duration,
    /// How many chunks of a hundred are lost once.
    pub loss_percent: u8,
}

/// What a link did to what passed it, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Chunks and connections that were held back by a cut.
    pub held: u64,
    /// Chunks that were delayed.
    pub delayed: u64,
    /// Chunks that were lost, and came again.
    pub lost: u64,
    /// Bytes that passed, both ways.
    pub bytes: u64,
}

/// Where a link leads.
#[derive(Debug, Clone)]
pub struct Target {
    /// Who listens.
    pub address: SocketAddr,
    /// From where it is reached; `None`: from here.
    pub plug: Option<Plug>,
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { address, plug: None }
    }
}

/// A way from one process to another. Dropped, it ends with all its connections.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// Where it leads; nowhere while the process is down.
    target: Mutex<Option<Target>>,
    condition: watch::Sender<Condition>,
    /// Connections end when it says so.
    broken: watch::Sender<()>,
    held: AtomicU64,
    delayed: AtomicU64,
    lost: AtomicU64,
    bytes: AtomicU64,
    rng: Mutex<Rng>,
}

impl Link {
    /// Makes a link that leads nowhere yet.
    ///
    /// # Errors
    /// [`Error::Switch`] if no port of 127.0.0.1 is free.
    pub async fn new(seed: u64) -> Result<Self, Error> {
        Self::entered_at(TcpListener::bind("127.0.0.1:0").await.map_err(Error::Switch)?, seed)
    }

    /// Makes a link that is entered at `plug`, and leads nowhere yet.
    ///
    /// # Errors
    /// [`Error::Switch`].
    pub(super) fn wired(seed: u64, plug: &Plug) -> Result<Self, Error> {
        Self::entered_at(plug.listen().map_err(Error::Switch)?, seed)
    }

    fn entered_at(listener: TcpListener, seed: u64) -> Result<Self, Error> {
        let address = listener.local_addr().map_err(Error::Switch)?;
        let shared = Arc::new(Shared {
            target: Mutex::new(None),
            condition: watch::channel(Condition::default()).0,
            broken: watch::channel(()).0,
            held: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            rng: Mutex::new(Rng::new(seed)),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, task })
    }

    /// Returns where it is entered.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads it elsewhere; connections that are open stay as they are.
    pub fn lead(&self, target: Option<Target>) {
        *self.shared.target.lock().expect("nobody panics with it") = target;
    }

    /// Ends all its connections; who wants another one goes where it leads now.
    pub fn break_off(&self) {
        self.shared.broken.send_replace(());
    }

    /// Puts it into a condition, for all its connections.
    pub fn set(&self, condition: Condition) {
        self.shared.condition.send_replace(condition);
    }

    /// Returns what it did so far.
    pub fn count(&self) -> Count {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Count {
            held: load(&self.shared.held),
            delayed: load(&self.shared.delayed),
            lost: load(&self.shared.lost),
            bytes: load(&self.shared.bytes),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connect(stream, Arc::clone(&shared)));
                }
                // Too many open files, say: what is open may end meanwhile.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(near: TcpStream, shared: Arc<Shared>) {
    let mut broken = shared.broken.subscribe();
    shared.mended(&mut shared.condition.subscribe()).await;
    let target = shared.target.lock().expect("nobody panics with it").clone();
    let Some(Target { address, plug }) = target else { return };
    let far = match plug {
        Some(plug) => plug.connect(address).await,
        None => TcpStream::connect(address).await,
    };
    let Ok(far) = far else { return };
    // Small messages must not wait for more of them.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = carry(near_in, far_out, &shared) => {}
        () = carry(far_in, near_out, &shared) => {}
        _ = broken.changed() => {}
    }
}

/// Carries what comes in to the other end, until either ends.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let (send, mut take) = mpsc::channel::<(Instant, Bytes)>(UNDER_WAY);
    let read = async move {
        let mut condition = shared.condition.subscribe();
        loop {
            let mut chunk = BytesMut::with_capacity(CHUNK);
            match from.read_buf(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            shared.mended(&mut condition).await;
            if send.send((Instant::now() + shared.late(), chunk.freeze())).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        let mut condition = shared.condition.subscribe();
        while let Some((due, chunk)) = take.recv().await {
            sleep_until(due).await;
            shared.mended(&mut condition).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
            shared.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
    };
    // What was read before the near end closed is still written: the reader drops its end of the queue.
    tokio::join!(read, write);
}

impl Shared {
    /// Waits while the link is cut.
    async fn mended(&self, condition: &mut watch::Receiver<Condition>) {
        if condition.borrow().is_cut {
            self.held.fetch_add(1, Ordering::Relaxed);
            // The sender lives as long as this.
            let _ = condition.wait_for(|condition| !condition.is_cut).await;
        }
    }

    /// Returns how late the next chunk is to be.
    fn late(&self) -> Duration {
        let Condition { delay, loss_percent, .. } = *self.condition.borrow();
        let is_lost = loss_percent > 0 && self.rng.lock().expect("nobody panics with it").below(100) < u64::from(loss_percent);
        self.delayed.fetch_add(u64::from(!delay.is_zero()), Ordering::Relaxed);
        self.lost.fetch_add(u64::from(is_lost), Ordering::Relaxed);
        if is_lost { delay + RETRANSMISSION } else { delay }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A server that sends back what it gets, and a link to it.
    async fn echo() -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let link = Link::new(1).await.expect("a free port");
        link.lead(Some(listener.local_addr().expect("bound").into()));
        tokio::spawn(send_back(listener));
        link
    }

    /// Sends back what comes over each connection.
    pub(in super::super) async fn send_back(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    }

    /// Says something and hears as much.
    pub(in super::super) async fn say(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
        stream.write_all(text).await.expect("open");
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await.expect("it comes back");
        back
    }

    #[tokio::test]
    async fn a_sound_link_passes_everything_in_order() {
        let link = echo().await;
        let mut stream = TcpStream::connect(link.address()).await.expect("open");
        let text: Vec<u8> = (0..100_000u32).map(|at| at.to_le_bytes()[0]).collect();
        assert_eq!(say(&mut stream, &text).await, text);
        assert_eq!(link.count(), Count { bytes: 200_000, ..Count::default() });
    }

    #[tokio::test]
    async fn a_cut_link_keeps_what_was_sent_until_it_is_mended() {
        let link = echo().await;
        let mut stream = TcpStream::connect(link.address()).await.expect("open");
        say(&mut stream, b"before").await;
        link.set(Condition { is_cut: true, ..Condition::default() });
        assert!(timeout(Duration::from_millis(200), say(&mut stream, b"held")).await.is_err(), "nothing passes");
        assert!(link.count().held > 0);
        link.set(Condition::default());
        let mut back = [0; 4];
        timeout(Duration::from_secs(5), stream.read_exact(&mut back)).await.expect("mended").expect("open");
        assert_eq!(&back, b"held");
    }

    #[tokio::test]
    async fn delay_and_loss_make_chunks_late_and_are_counted() {
        let link = echo().await;
        let mut stream = TcpStream::connect(link.address()).await.expect("open");
        link.set(Condition { is_cut: false, delay: Duration::from_millis(30), loss_percent: 100 });
        let begun = Instant::now();
        assert_eq!(say(&mut stream, b"late").await, b"late");
        assert!(begun.elapsed() >= 2 * (RETRANSMISSION + Duration::from_millis(30)), "there and back");
        let Count { delayed, lost, held, .. } = link.count();
        assert!(delayed >= 2 && lost >= 2 && held == 0);
    }

    #[tokio::test]
    async fn a_link_that_breaks_off_ends_its_connections_and_takes_others() {
        let link = echo().await;
        let mut stream = TcpStream::connect(link.address()).await.expect("open");
        say(&mut stream, b"before").await;
        link.break_off();
        let mut byte = [0];
        let read = timeout(Duration::from_secs(5), stream.read(&mut byte)).await.expect("it ends");
        assert!(matches!(read, Ok(0) | Err(_)));
        let mut stream = TcpStream::connect(link.address()).await.expect("open");
        assert_eq!(say(&mut stream, b"after").await, b"after");
    }

    #[tokio::test]
    async fn a_link_that_leads_nowhere_ends_the_connection() {
        let link = Link::new(1).await.expect("a free port");
        let mut stream = TcpStream::connect(link.address()).await.expect("it is there");
        let mut byte = [0];
        assert!(matches!(stream.read(&mut byte).await, Ok(0) | Err(_)));
    }
}
