//! Wires between members: each lives in a network namespace of its own, on a bridge in one more namespace, where the switch's links end and
//! nftables drops what passes a severed member. Nothing of it is in the namespace that the harness runs in.
//!
//! Law: of a severed member's packets, and of those to it over its links to other members, none arrives; clients still reach it. All
//! namespaces go with the processes in them. It takes root, `ip`, `nft`, `unshare` and `nsenter`; where they are not to be had,
//! [`Wires::create`] says why.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::tools::{output, run};

/// The name of the bridge, and of the table of rules.
const NAME: &str = "herdbook";

/// The set of addresses that packets are dropped of.
const SEVERED: &str = "severed";

/// Most members: each has an octet of addresses.
const MOST: usize = 200;

/// A network namespace, held by a process that does nothing. Dropped, it goes as soon as no other process is in it.
#[derive(Debug)]
struct Namespace {
    holder: Child,
    /// Its own name for it.
    file: File,
}

impl Namespace {
    fn create() -> io::Result<Self> {
        // It ends when its input does: with this process, however that ends.
        let script = "ip link set lo up && echo ready && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|error| told("unshare", &error))?;
        let mut line = String::new();
        let read = holder.stdout.as_mut().map(|out| BufReader::new(out).read_line(&mut line));
        if line != "ready\n" {
            let _ = holder.kill();
            let said = holder.wait_with_output()?.stderr;
            read.transpose()?;
            return Err(io::Error::other(format!("no network namespace: {}", String::from_utf8_lossy(&said).trim())));
        }
        let file = File::open(path(holder.id()))?;
        Ok(Self { holder, file })
    }

    /// Returns the beginning of a command that runs in it.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", path(self.holder.id()))).arg("--").arg(program);
        command
    }

    /// Does something in it; sockets stay in the namespace where they were made.
    fn within<T: Send>(&self, what: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let there = || {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
            what()
        };
        // A thread of its own, so that no other work finds itself there.
        thread::scope(|scope| scope.spawn(there).join()).unwrap_or_else(|_| Err(io::Error::other("it panicked")))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A place on the bridge where connections begin and end.
#[derive(Debug, Clone)]
pub struct Plug {
    bridge: Arc<Namespace>,
    address: Ipv4Addr,
}

impl Plug {
    /// Listens there.
    pub(super) fn listen(&self) -> io::Result<TcpListener> {
        let listener = self.bridge.within(|| std::net::TcpListener::bind((self.address, 0)))?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    /// Connects from there.
    pub(super) async fn connect(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.bridge.within(TcpSocket::new_v4)?;
        socket.bind(SocketAddrV4::new(self.address, 0).into())?;
        socket.connect(target).await
    }
}

/// The namespaces of a cluster.
#[derive(Debug)]
pub(super) struct Wires {
    bridge: Arc<Namespace>,
    members: Vec<Namespace>,
}

impl Wires {
    /// Makes a bridge with as many members on it.
    ///
    /// # Errors
    /// What the system or its tools say.
    pub(super) fn create(members: usize) -> io::Result<Self> {
        if members > MOST {
            return Err(io::Error::other(format!("more than {MOST} members")));
        }
        let bridge = Namespace::create()?;
        let members = (0..members).map(|_| Namespace::create()).collect::<io::Result<Vec<_>>>()?;
        let mut batch = vec![format!("link add {NAME} type bridge"), format!("link set {NAME} up")];
        for from in 0..members.len() {
            let plugs = (0..=from).map(|to| plug(from, to));
            batch.extend(plugs.map(|address| format!("address add {address}/16 dev {NAME}")));
        }
        for (member, namespace) in members.iter().enumerate() {
            batch.push(format!("link add m{member} type veth peer name eth0 netns {}", namespace.holder.id()));
            batch.push(format!("link set m{member} master {NAME} up"));
        }
        for line in batch {
            run(bridge.command("ip").args(line.split(' ')))?;
        }
        for (member, namespace) in members.iter().enumerate() {
            run(namespace.command("ip").args(["address", "add", &format!("{}/16", home(member)), "dev", "eth0"]))?;
            run(namespace.command("ip").args(["link", "set", "eth0", "up"]))?;
        }
        let rules = format!(
            "table inet {NAME} {{
                set {SEVERED} {{ type ipv4_addr; }}
                chain input {{ type filter hook input priority 0; ip daddr @{SEVERED} counter drop; }}
                chain output {{ type filter hook output priority 0; ip saddr @{SEVERED} counter drop; }}
            }}"
        );
        run(bridge.command("nft").arg(rules))?;
        Ok(Self { bridge: Arc::new(bridge), members })
    }

    /// Returns the beginning of a command that runs where `member` lives; the process keeps the number that the command has.
    pub(super) fn command(&self, member: usize, program: &str) -> Command {
        self.members[member].command(program)
    }

    /// Returns the address that `member` listens at.
    pub(super) const fn home(member: usize) -> Ipv4Addr {
        home(member)
    }

    /// Returns where the link between two members is; between a member and itself: where its clients come from.
    pub(super) fn plug(&self, from: usize, to: usize) -> Plug {
        Plug { bridge: Arc::clone(&self.bridge), address: plug(from, to) }
    }

    /// Drops all packets between a member and the others.
    ///
    /// # Errors
    /// What `nft` says.
    pub(super) fn sever(&self, member: usize) -> io::Result<()> {
        let others = (0..self.members.len()).filter(|other| *other != member);
        let plugs: Vec<_> = others.map(|other| plug(member, other).to_string()).collect();
        let change = format!("add element inet {NAME} {SEVERED} {{ {} }}", plugs.join(", "));
        run(self.bridge.command("nft").arg(change))
    }

    /// Lets all packets pass again.
    ///
    /// # Errors
    /// What `nft` says.
    pub(super) fn mend(&self) -> io::Result<()> {
        run(self.bridge.command("nft").arg(format!("flush set inet {NAME} {SEVERED}")))
    }

    /// Returns how many packets were dropped so far.
    ///
    /// # Errors
    /// What `nft` says.
    pub(super) fn dropped(&self) -> io::Result<u64> {
        let rules = output(self.bridge.command("nft").arg(format!("list table inet {NAME}")))?;
        let mut words = rules.split_whitespace();
        let mut sum = 0;
        while words.any(|word| word == "packets") {
            sum += words.next().and_then(|count| count.parse::<u64>().ok()).ok_or(io::ErrorKind::InvalidData)?;
        }
        Ok(sum)
    }
}

/// Where a member listens.
const fn home(member: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, octet(member))
}

/// Where the link between two members is, whoever is named first.
const fn plug(one: usize, other: usize) -> Ipv4Addr {
    let (from, to) = if one < other { (other, one) } else { (one, other) };
    Ipv4Addr::new(10, 77, octet(from), octet(to))
}

#[expect(clippy::cast_possible_truncation, reason = "members are at most `MOST`")]
const fn octet(member: usize) -> u8 {
    member as u8 + 1
}

fn path(process: u32) -> String {
    format!("/proc/{process}/ns/net")
}

fn told(program: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{program}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{io::AsyncReadExt as _, time::timeout};

    use super::*;
    use crate::chaos::switch::tests::{say, send_back};

    /// None where namespaces are not to be had, which the test then says.
    fn wires(members: usize) -> Option<Wires> {
        Wires::create(members).inspect_err(|error| eprintln!("nothing to test: {error}")).ok()
    }

    async fn echo(wires: &Wires, member: usize) -> SocketAddr {
        let listener = wires.members[member].within(|| std::net::TcpListener::bind((home(member), 0))).expect("its own address");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(send_back(TcpListener::from_std(listener).expect("a socket")));
        address
    }

    #[tokio::test]
    async fn packets_of_a_severed_member_vanish_on_its_links_alone_and_come_again_when_it_is_mended() {
        let Some(wires) = wires(3) else { return };
        let address = echo(&wires, 1).await;
        let mut link = wires.plug(2, 1).connect(address).await.expect("a way");
        let mut clients = wires.plug(1, 1).connect(address).await.expect("a way");
        let mut elsewhere = wires.plug(0, 2).connect(echo(&wires, 2).await).await.expect("a way");
        assert_eq!((say(&mut link, b"before").await, wires.dropped().expect("counted")), (b"before".to_vec(), 0));
        wires.sever(1).expect("a rule");
        assert_eq!(say(&mut clients, b"clients reach it").await, b"clients reach it");
        assert_eq!(say(&mut elsewhere, b"so do others others").await, b"so do others others");
        assert!(timeout(Duration::from_millis(300), say(&mut link, b"lost")).await.is_err(), "nothing passes");
        assert!(timeout(Duration::from_millis(300), wires.plug(1, 0).connect(address)).await.is_err(), "nobody answers");
        assert!(wires.dropped().expect("counted") > 0);
        wires.mend().expect("a rule");
        let mut back = [0; 4];
        timeout(Duration::from_secs(10), link.read_exact(&mut back)).await.expect("it is sent again").expect("open");
        assert_eq!(&back, b"lost");
    }

    #[tokio::test]
    async fn a_member_runs_where_it_lives_and_nothing_of_it_is_seen_here() {
        let Some(wires) = wires(1) else { return };
        let there = output(wires.command(0, "ip").args(["-brief", "address"])).expect("it runs");
        assert!(there.contains("10.77.0.1/16"), "{there}");
        let here = output(Command::new("ip").args(["-brief", "address"])).expect("it runs");
        assert!(!here.contains("10.77."), "{here}");
        let holder = wires.bridge.holder.id();
        drop(wires);
        assert!(!std::path::Path::new(&path(holder)).exists());
    }
}
